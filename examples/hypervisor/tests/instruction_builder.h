// InstructionBuilder: machine code of an instruction with random operands, and
// the registers that make its memory operand lie where a test wants it.
//
//  1. Every choice comes from the Random given: a seed is a test.
//  2. The memory operand's address is `target`, an offset in the arena of
//     NativeCpu, whatever registers, scale and displacement it is made of.

#ifndef HYPERVISOR_TESTS_INSTRUCTION_BUILDER_H_
#define HYPERVISOR_TESTS_INSTRUCTION_BUILDER_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "emulate/cpu_state.h"
#include "emulate/linear.h"
#include "tests/native_cpu.h"

namespace hypervisor {

// A generator that is the same everywhere (xorshift64*).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed | 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  uint64_t Below(uint64_t bound) { return (Next() >> 20) % bound; }
  bool OneIn(unsigned n) { return Below(n) == 0; }
  // Values at which flags change are likelier than they are.
  uint64_t Value() {
    constexpr uint64_t kEdges[] = {0,
                                   1,
                                   0x7f,
                                   0x80,
                                   0xff,
                                   0x7fff,
                                   0x8000,
                                   0xffff,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   ~uint64_t{0} >> 1,
                                   ~(~uint64_t{0} >> 1),
                                   ~uint64_t{0}};
    return OneIn(3) ? kEdges[Below(std::size(kEdges))] : Next();
  }

 private:
  uint64_t state_;
};

// Where an instruction's r/m operand is.
enum class RmKind : uint8_t { kMemory, kRegister };
// What stands in its reg field.
struct Encoding {
  std::vector<uint8_t> opcode;  // escape bytes included
  std::optional<uint8_t> mandatory_prefix = std::nullopt;
  int digit = -1;              // of the reg field; -1: a register
  unsigned operand_bytes = 4;  // by prefix or REX.W; 1: by the opcode
  unsigned immediate_bytes = 0;
  bool lock = false;
};

class InstructionBuilder {
 public:
  InstructionBuilder(CpuMode mode, Random& random, const NativeCpu& native)
      : mode_(mode), random_(random), native_(native) {}

  // The code of one instruction at the arena's beginning. Changes the registers
  // of `cpu` that its address is made of.
  std::vector<uint8_t> Build(const Encoding& encoding, RmKind kind,
                             uint64_t target, CpuState& cpu) {
    code_.clear();
    prefixes_.clear();
    rex_ = 0;
    const bool wide = mode_ == CpuMode::k64Bit;
    address_bytes_ = wide ? 8 : mode_ == CpuMode::k32Bit ? 4 : 2;
    if (encoding.lock) prefixes_.push_back(0xf0);
    if (encoding.mandatory_prefix) {
      prefixes_.push_back(*encoding.mandatory_prefix);
    }
    ChooseOperandSize(encoding.operand_bytes);
    if (kind == RmKind::kMemory) ChooseAddressSize();
    // All segments are the same here: these change nothing.
    constexpr uint8_t kSegments[] = {0x26, 0x36, 0x3e, 0x65};
    if (random_.OneIn(4)) prefixes_.push_back(kSegments[random_.Below(4)]);
    for (size_t i = prefixes_.size(); i > 1; --i) {
      std::swap(prefixes_[i - 1], prefixes_[random_.Below(i)]);
    }
    reg_ = encoding.digit >= 0
               ? static_cast<unsigned>(encoding.digit)
               : static_cast<unsigned>(random_.Below(wide ? 16 : 8));
    if (encoding.digit < 0 && reg_ >= 8) rex_ |= 0x44;
    if (wide && encoding.digit < 0 && random_.OneIn(4)) rex_ |= 0x40;
    rm_bytes_.clear();
    base_.reset();
    index_.reset();
    if (kind == RmKind::kRegister) {
      rm_ = static_cast<unsigned>(random_.Below(wide ? 16 : 8));
      if (rm_ >= 8) rex_ |= 0x41;
      rm_bytes_.push_back(ModRm(3, rm_));
    } else if (address_bytes_ == 2) {
      ChooseMemory16(target, cpu);
    } else {
      ChooseMemory(target, cpu,
                   encoding.opcode.size() + encoding.immediate_bytes);
    }
    code_ = prefixes_;
    if (rex_ != 0) code_.push_back(rex_);
    code_.insert(code_.end(), encoding.opcode.begin(), encoding.opcode.end());
    code_.insert(code_.end(), rm_bytes_.begin(), rm_bytes_.end());
    for (unsigned i = 0; i < encoding.immediate_bytes; ++i) {
      code_.push_back(static_cast<uint8_t>(random_.Value()));
    }
    return code_;
  }

  // Of the last one built: the reg field, and the registers of the address.
  unsigned reg() const { return reg_; }
  unsigned rm() const { return rm_; }
  bool AddressUses(unsigned gpr) const { return base_ == gpr || index_ == gpr; }
  bool has_rex() const { return rex_ != 0; }

 private:
  void ChooseOperandSize(unsigned bytes) {
    if (bytes == 8) rex_ |= 0x48;
    const bool is_16 = mode_ == CpuMode::k16Bit;
    if (bytes == (is_16 ? 4u : 2u)) prefixes_.push_back(0x66);
  }

  void ChooseAddressSize() {
    if (!random_.OneIn(6)) return;
    prefixes_.push_back(0x67);
    address_bytes_ = mode_ == CpuMode::k32Bit ? 2 : 4;
  }

  uint8_t ModRm(unsigned mod, unsigned rm) const {
    return static_cast<uint8_t>(mod << 6 | (reg_ & 7) << 3 | (rm & 7));
  }
  void Displacement(uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) {
      rm_bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    }
  }
  uint64_t RandomDisplacement(unsigned bytes) {
    if (bytes == 0) return 0;
    return SignExtend(random_.Next(), bytes);
  }
  // Garbage above the address's own bits must not matter.
  void SetAddressRegister(CpuState& cpu, unsigned gpr, uint64_t value) {
    const uint64_t garbage =
        mode_ == CpuMode::k64Bit ? random_.Next() : random_.Next() & 0xffffffff;
    const uint64_t mask = Truncate(~uint64_t{0}, address_bytes_);
    cpu.gpr[gpr] = (value & mask) | (garbage & ~mask);
  }

  void ChooseMemory16(uint64_t target, CpuState& cpu) {
    constexpr struct {
      unsigned base;
      std::optional<unsigned> index;
    } kForms[] = {{kRbx, kRsi},         {kRbx, kRdi},
                  {kRbp, kRsi},         {kRbp, kRdi},
                  {kRsi, std::nullopt}, {kRdi, std::nullopt},
                  {kRbp, std::nullopt}, {kRbx, std::nullopt}};
    rm_ = static_cast<unsigned>(random_.Below(8));
    const unsigned mod = static_cast<unsigned>(random_.Below(3));
    const uint64_t address = native_.AddressOf(mode_, target);
    rm_bytes_.push_back(ModRm(mod, rm_));
    if (mod == 0 && rm_ == 6) {
      Displacement(address, 2);
      return;
    }
    const uint64_t displacement = RandomDisplacement(mod);
    Displacement(displacement, mod);
    base_ = kForms[rm_].base;
    index_ = kForms[rm_].index;
    uint64_t rest = address - displacement;
    if (index_) {
      const uint64_t index = random_.Next() & 0xffff;
      SetAddressRegister(cpu, *index_, index);
      rest -= index;
    }
    SetAddressRegister(cpu, *base_, rest);
  }

  void ChooseMemory(uint64_t target, CpuState& cpu, size_t bytes_around) {
    const bool wide = mode_ == CpuMode::k64Bit;
    const uint64_t address = native_.AddressOf(mode_, target);
    if (random_.OneIn(8)) {
      ChooseDisplacementOnly(address, bytes_around);
      return;
    }
    const unsigned registers = wide ? 16 : 8;
    base_ = static_cast<unsigned>(random_.Below(registers));
    const unsigned mod = 1 + static_cast<unsigned>(random_.Below(2));
    const unsigned displacement_bytes = mod == 1 ? 1 : 4;
    const uint64_t displacement = RandomDisplacement(displacement_bytes);
    uint64_t rest = address - displacement;
    const bool sib = (*base_ & 7) == kRsp || random_.OneIn(2);
    if (*base_ >= 8) rex_ |= 0x41;
    rm_bytes_.push_back(ModRm(mod, sib ? 4 : *base_));
    if (sib) {
      const unsigned scale = static_cast<unsigned>(random_.Below(4));
      unsigned index = static_cast<unsigned>(random_.Below(registers));
      if (index == *base_) index = kRsp;  // none
      if (index >= 8) rex_ |= 0x42;
      rm_bytes_.push_back(
          static_cast<uint8_t>(scale << 6 | (index & 7) << 3 | (*base_ & 7)));
      if (index != kRsp) {
        index_ = index;
        SetAddressRegister(cpu, index, random_.Next());
        rest -= cpu.gpr[index] << scale;
      }
    }
    SetAddressRegister(cpu, *base_, rest);
    Displacement(displacement, displacement_bytes);
  }

  // An absolute address, or one relative to the next instruction.
  void ChooseDisplacementOnly(uint64_t address, size_t bytes_around) {
    if (mode_ != CpuMode::k64Bit) {
      rm_bytes_.push_back(ModRm(0, 5));
      Displacement(address, 4);
      return;
    }
    if (random_.OneIn(2)) {
      rm_bytes_.push_back(ModRm(0, 4));
      rm_bytes_.push_back(0x25);
      Displacement(address, 4);
      return;
    }
    const size_t length =
        prefixes_.size() + (rex_ != 0 ? 1 : 0) + bytes_around + 5;
    rm_bytes_.push_back(ModRm(0, 5));
    Displacement(address - (native_.base() + length), 4);
  }

  const CpuMode mode_;
  Random& random_;
  const NativeCpu& native_;
  unsigned address_bytes_ = 8;
  unsigned reg_ = 0;
  unsigned rm_ = 0;
  uint8_t rex_ = 0;
  std::optional<unsigned> base_;
  std::optional<unsigned> index_;
  std::vector<uint8_t> prefixes_;
  std::vector<uint8_t> rm_bytes_;
  std::vector<uint8_t> code_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_INSTRUCTION_BUILDER_H_
