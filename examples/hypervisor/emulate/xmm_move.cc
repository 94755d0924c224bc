#include "emulate/xmm_move.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "emulate/linear.h"

namespace hypervisor {
namespace {

constexpr unsigned kHalf = 8;

// SSE must be on (APM vol. 2, 11.3.1).
BusResult CheckSse(const CpuState& cpu) {
  if ((cpu.cr0 & cr0::kEm) != 0 || (cpu.cr4 & cr4::kOsfxsr) == 0) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  if ((cpu.cr0 & cr0::kTs) != 0) {
    return BusResult::Inject(Exception::DeviceNotAvailable());
  }
  return BusResult::Ok();
}

// Of the linear address.
BusResult CheckAlignment(const CpuState& cpu, const Operands& operands,
                         const Operand& memory) {
  const shadowmmu::Gva gva =
      UncheckedAddress(cpu, memory.memory.segment, operands.Offset(memory));
  return gva.value() % FxsaveImage::kXmmBytes == 0
             ? BusResult::Ok()
             : BusResult::Inject(Exception::GeneralProtection());
}

}  // namespace

BusResult MoveXmm(const CpuState& cpu, FxsaveImage& fx, Operands& operands,
                  const Instruction& instruction) {
  if (BusResult on = CheckSse(cpu); !on.ok()) return on;
  const bool store = instruction.operands[0].is_memory();
  const Operand& memory = instruction.operands[store ? 0 : 1];
  const Operand& reg = instruction.operands[store ? 1 : 0];
  const Operation operation = instruction.operation;
  if (operation == Operation::kMovXmmAligned) {
    BusResult aligned = CheckAlignment(cpu, operands, memory);
    if (!aligned.ok()) return aligned;
  }
  const std::span<std::byte> xmm = std::span(fx.bytes).subspan(
      FxsaveImage::kXmm + FxsaveImage::kXmmBytes * reg.reg.number,
      FxsaveImage::kXmmBytes);
  const unsigned first = operation == Operation::kMovXmmHigh ? kHalf : 0;
  const unsigned bytes = std::min<unsigned>(instruction.operand_bytes,
                                            FxsaveImage::kXmmBytes - first);
  if (store) return operands.WriteBytes(memory, xmm.subspan(first, bytes));

  std::array<std::byte, FxsaveImage::kXmmBytes> loaded = {};
  BusResult read = operands.ReadBytes(memory, std::span(loaded).first(bytes));
  if (!read.ok()) return read;
  const bool keeps_rest =
      operation == Operation::kMovXmmLow || operation == Operation::kMovXmmHigh;
  const unsigned changed = keeps_rest ? bytes : FxsaveImage::kXmmBytes;
  std::copy_n(loaded.begin(), changed, xmm.begin() + first);
  return BusResult::Ok();
}

}  // namespace hypervisor
