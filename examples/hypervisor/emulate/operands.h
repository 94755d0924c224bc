// Operands: where an instruction takes its values from and puts its results.
// Registers of every width, memory by segment and offset, immediates.
//
//  1. Memory is changed as the last step of an instruction, or not at all:
//     whoever stores after a load that may fault has asked for the right to
//     write when it loaded.
//  2. A register is changed only when nothing can fault any more, or in a copy
//     of the CPU that is dropped then.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_OPERANDS_H_
#define HYPERVISOR_EMULATE_OPERANDS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "emulate/alu.h"
#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "shadowmmu/access.h"

namespace hypervisor {

// A gpr of 1 to 8 bytes, or a high byte. A write of 4 bytes clears the upper
// half, one of fewer keeps the rest (APM vol. 1, 3.1.2).
uint64_t ReadRegister(const CpuState& cpu, RegisterOperand reg, unsigned bytes);
void WriteRegister(CpuState& cpu, RegisterOperand reg, unsigned bytes,
                   uint64_t value);
inline uint64_t ReadGpr(const CpuState& cpu, unsigned number, unsigned bytes) {
  return ReadRegister(cpu, {.number = static_cast<uint8_t>(number)}, bytes);
}
inline void WriteGpr(CpuState& cpu, unsigned number, unsigned bytes,
                     uint64_t value) {
  WriteRegister(cpu, {.number = static_cast<uint8_t>(number)}, bytes, value);
}

// Whether other CPUs may see a state in the middle of a read-modify-write.
enum class Atomicity : uint8_t { kPlain, kLocked };

class Operands {
 public:
  // Not owned; must outlive this.
  Operands(CpuState& cpu, GuestBus& bus, const Instruction& instruction)
      : cpu_(cpu), bus_(bus), instruction_(instruction) {}

  // Memory at an offset of a segment, little-endian in a word.
  BusResult ReadAt(SegmentName segment, uint64_t offset, unsigned bytes,
                   uint64_t& value);
  BusResult WriteAt(SegmentName segment, uint64_t offset, unsigned bytes,
                    uint64_t value);
  // The right to write there, and nothing else.
  BusResult ProbeWriteAt(SegmentName segment, uint64_t offset, unsigned bytes);

  // A memory operand of any size.
  BusResult ReadBytes(const Operand& operand, std::span<std::byte> out);
  BusResult WriteBytes(const Operand& operand, std::span<const std::byte> in);
  // Compares and exchanges a memory operand; `expected` is what it held.
  ExchangeResult CompareExchange(const Operand& operand,
                                 std::span<std::byte> expected,
                                 std::span<const std::byte> desired);

  // An operand of any kind as a word.
  BusResult Load(const Operand& operand, unsigned bytes, uint64_t& value);
  BusResult Store(const Operand& operand, unsigned bytes, uint64_t value);

  // A register or memory operand becomes modify(what it was).value, and RFLAGS
  // modify(...).flags, which may be called more than once.
  using Modification = absl::FunctionRef<AluResult(uint64_t old)>;
  BusResult Modify(const Operand& operand, unsigned bytes, Atomicity atomicity,
                   Modification modify);

  // Offset of a memory operand within its segment.
  uint64_t Offset(const Operand& operand) const;

 private:
  BusResult ModifyPlain(const Operand& operand, unsigned bytes,
                        Modification modify);
  BusResult ModifyLocked(const Operand& operand, unsigned bytes,
                         Modification modify);
  BusAccess AccessOf(shadowmmu::AccessType type) const;

  CpuState& cpu_;
  GuestBus& bus_;
  const Instruction& instruction_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_OPERANDS_H_
