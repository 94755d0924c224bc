// One decoded instruction, in our own words: what the decoder makes of its
// bytes and the emulator executes.
//
//  1. `length` is 0 if the bytes are no instruction that the decoder knows;
//     `operation` is then kUnknown.
//  2. An immediate is extended to 64 bits as its instruction says, and counts
//     as far as the operand it meets is wide.
//  3. What is relative to rIP is made absolute: the target of a branch, and the
//     displacement of a memory operand.
//
// Thread safety: values.

#ifndef HYPERVISOR_EMULATE_INSTRUCTION_H_
#define HYPERVISOR_EMULATE_INSTRUCTION_H_

#include <array>
#include <cstdint>
#include <optional>

#include "emulate/cpu_state.h"
#include "emulate/operation.h"

namespace hypervisor {

inline constexpr unsigned kMaxInstructionBytes = 15;

// Segment registers in the order of their numbers in an instruction.
enum class SegmentName : uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };

struct RegisterOperand {
  enum class File : uint8_t {
    kGpr,
    kHighByte,  // AH, CH, DH, BH: byte 1 of gpr `number`
    kSegment,
    kControl,
    kDebug,
    kXmm,
    kMmx,
  };
  File file = File::kGpr;
  uint8_t number = 0;
};

struct MemoryOperand {
  SegmentName segment = SegmentName::kDs;
  std::optional<uint8_t> base = std::nullopt;   // a gpr's number
  std::optional<uint8_t> index = std::nullopt;  // a gpr's number
  uint8_t scale = 1;
  uint64_t displacement = 0;  // extended by its sign
};

struct Operand {
  enum class Kind : uint8_t { kNone, kRegister, kMemory, kImmediate };
  Kind kind = Kind::kNone;
  uint8_t bytes = 0;
  RegisterOperand reg = {};
  MemoryOperand memory = {};
  uint64_t immediate = 0;

  constexpr bool is_memory() const { return kind == Kind::kMemory; }
  constexpr bool is_immediate() const { return kind == Kind::kImmediate; }
  constexpr bool Is(RegisterOperand::File file) const {
    return kind == Kind::kRegister && reg.file == file;
  }
};

enum class Repeat : uint8_t { kNone, kWhileEqual, kWhileNotEqual };

struct Prefixes {
  bool lock = false;
  Repeat repeat = Repeat::kNone;  // F3: kWhileEqual, F2: kWhileNotEqual
  bool operand_size = false;
  bool address_size = false;
  std::optional<SegmentName> segment = std::nullopt;
  uint8_t rex = 0;
};

struct Instruction {
  CpuMode mode = CpuMode::k64Bit;
  Operation operation = Operation::kUnknown;
  uint8_t length = 0;
  uint8_t operand_bytes = 0;  // of the operation: 1, 2, 4, 8 or 16
  uint8_t address_bytes = 0;  // 2, 4 or 8
  uint8_t condition = 0;      // tttn of a conditional one (APM vol. 3, 1.8.6)
  Prefixes prefixes = {};
  std::array<Operand, 3> operands = {};
  std::array<uint8_t, kMaxInstructionBytes> bytes = {};
};

// The segment that a prefix names. In 64-bit mode only FS and GS can be named.
constexpr std::optional<SegmentName> SegmentOverride(
    const Instruction& instruction) {
  const std::optional<SegmentName> named = instruction.prefixes.segment;
  if (instruction.mode == CpuMode::k64Bit && named &&
      *named < SegmentName::kFs) {
    return std::nullopt;
  }
  return named;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_INSTRUCTION_H_
