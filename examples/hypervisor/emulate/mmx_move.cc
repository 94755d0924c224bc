#include "emulate/mmx_move.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "emulate/word_bytes.h"

namespace hypervisor {
namespace {

// Of the FXSAVE image.
constexpr size_t kStatusHigh = 3;  // the upper byte of FSW
constexpr size_t kTags = 4;
constexpr size_t kRegisters = 32;
constexpr size_t kRegisterBytes = 16;
constexpr unsigned kMmxBytes = 8;

// Of SSE or MMX: the same two bits of CR0 (APM vol. 2, 11.3.1).
BusResult CheckMmx(const CpuState& cpu) {
  if ((cpu.cr0 & cr0::kEm) != 0) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  if ((cpu.cr0 & cr0::kTs) != 0) {
    return BusResult::Inject(Exception::DeviceNotAvailable());
  }
  return BusResult::Ok();
}

// Every MMX instruction makes all x87 registers valid, and TOP zero.
void EnterMmxState(FxsaveImage& fx) {
  fx.bytes[kStatusHigh] &= ~std::byte{0x38};
  fx.bytes[kTags] = std::byte{0xff};
}

}  // namespace

BusResult MoveMmx(const CpuState& cpu, FxsaveImage& fx, Operands& operands,
                  const Instruction& instruction) {
  if (BusResult on = CheckMmx(cpu); !on.ok()) return on;
  const bool load = instruction.operands[0].Is(RegisterOperand::File::kMmx);
  const Operand& mmx = instruction.operands[load ? 0 : 1];
  const Operand& other = instruction.operands[load ? 1 : 0];
  // MOVQ between two registers touches no memory, and is not for us.
  if (other.Is(RegisterOperand::File::kMmx)) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  const std::span<std::byte> held = std::span(fx.bytes).subspan(
      kRegisters + kRegisterBytes * mmx.reg.number, kRegisterBytes);
  const unsigned bytes = std::min<unsigned>(other.bytes, kMmxBytes);
  if (!load) {
    BusResult stored =
        operands.Store(other, bytes, FromBytes(held.first(kMmxBytes)));
    if (stored.ok()) EnterMmxState(fx);
    return stored;
  }
  uint64_t value = 0;
  BusResult loaded = operands.Load(other, bytes, value);
  if (!loaded.ok()) return loaded;
  EnterMmxState(fx);
  const WordBytes word = ToBytes(value);
  std::copy(word.begin(), word.end(), held.begin());
  // Exponent and sign of what is no number.
  held[kMmxBytes] = held[kMmxBytes + 1] = std::byte{0xff};
  return loaded;
}

}  // namespace hypervisor
