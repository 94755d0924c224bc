#include "emulate/xmm_form.h"

#include "emulate/prefix_scan.h"

namespace hypervisor {
namespace {

using Direction = XmmForm::Direction;

enum class Mandatory : uint8_t { kNone, k66, kF3, kF2 };

struct Row {
  uint32_t opcode = 0;  // without its 0F
  Mandatory prefix = Mandatory::kNone;
  Operation operation = Operation::kMovXmm;
  Direction direction = Direction::kLoad;
  uint8_t bytes = 16;  // kByRexW: 8 with REX.W, else 4
};
constexpr uint8_t kByRexW = 0;

constexpr Row kRows[] = {
    // MOVUPS, MOVUPD, MOVSS, MOVSD
    {0x10, Mandatory::kNone, Operation::kMovXmm, Direction::kLoad, 16},
    {0x11, Mandatory::kNone, Operation::kMovXmm, Direction::kStore, 16},
    {0x10, Mandatory::k66, Operation::kMovXmm, Direction::kLoad, 16},
    {0x11, Mandatory::k66, Operation::kMovXmm, Direction::kStore, 16},
    {0x10, Mandatory::kF3, Operation::kMovXmm, Direction::kLoad, 4},
    {0x11, Mandatory::kF3, Operation::kMovXmm, Direction::kStore, 4},
    {0x10, Mandatory::kF2, Operation::kMovXmm, Direction::kLoad, 8},
    {0x11, Mandatory::kF2, Operation::kMovXmm, Direction::kStore, 8},
    // MOVLPS, MOVLPD, MOVHPS, MOVHPD
    {0x12, Mandatory::kNone, Operation::kMovXmmLow, Direction::kLoad, 8},
    {0x13, Mandatory::kNone, Operation::kMovXmmLow, Direction::kStore, 8},
    {0x12, Mandatory::k66, Operation::kMovXmmLow, Direction::kLoad, 8},
    {0x13, Mandatory::k66, Operation::kMovXmmLow, Direction::kStore, 8},
    {0x16, Mandatory::kNone, Operation::kMovXmmHigh, Direction::kLoad, 8},
    {0x17, Mandatory::kNone, Operation::kMovXmmHigh, Direction::kStore, 8},
    {0x16, Mandatory::k66, Operation::kMovXmmHigh, Direction::kLoad, 8},
    {0x17, Mandatory::k66, Operation::kMovXmmHigh, Direction::kStore, 8},
    // MOVAPS, MOVAPD, MOVNTPS, MOVNTPD
    {0x28, Mandatory::kNone, Operation::kMovXmmAligned, Direction::kLoad, 16},
    {0x29, Mandatory::kNone, Operation::kMovXmmAligned, Direction::kStore, 16},
    {0x28, Mandatory::k66, Operation::kMovXmmAligned, Direction::kLoad, 16},
    {0x29, Mandatory::k66, Operation::kMovXmmAligned, Direction::kStore, 16},
    {0x2b, Mandatory::kNone, Operation::kMovXmmAligned, Direction::kStore, 16},
    {0x2b, Mandatory::k66, Operation::kMovXmmAligned, Direction::kStore, 16},
    // MOVD, MOVQ
    {0x6e, Mandatory::k66, Operation::kMovXmm, Direction::kLoad, kByRexW},
    {0x7e, Mandatory::k66, Operation::kMovXmm, Direction::kStore, kByRexW},
    {0x7e, Mandatory::kF3, Operation::kMovXmm, Direction::kLoad, 8},
    {0xd6, Mandatory::k66, Operation::kMovXmm, Direction::kStore, 8},
    // MOVDQA, MOVDQU, MOVNTDQ, LDDQU, MOVNTDQA
    {0x6f, Mandatory::k66, Operation::kMovXmmAligned, Direction::kLoad, 16},
    {0x7f, Mandatory::k66, Operation::kMovXmmAligned, Direction::kStore, 16},
    {0x6f, Mandatory::kF3, Operation::kMovXmm, Direction::kLoad, 16},
    {0x7f, Mandatory::kF3, Operation::kMovXmm, Direction::kStore, 16},
    {0xe7, Mandatory::k66, Operation::kMovXmmAligned, Direction::kStore, 16},
    {0xf0, Mandatory::kF2, Operation::kMovXmm, Direction::kLoad, 16},
    {0x382a, Mandatory::k66, Operation::kMovXmmAligned, Direction::kLoad, 16},
};

Mandatory MandatoryOf(const Prefixes& prefixes) {
  if (prefixes.repeat == Repeat::kWhileEqual) return Mandatory::kF3;
  if (prefixes.repeat == Repeat::kWhileNotEqual) return Mandatory::kF2;
  return prefixes.operand_size ? Mandatory::k66 : Mandatory::kNone;
}

}  // namespace

std::optional<XmmForm> XmmFormOf(const Prefixes& prefixes,
                                 std::span<const uint8_t> opcode) {
  if (opcode.size() < 3 || opcode[0] != 0x0f) return std::nullopt;
  uint32_t number = opcode[1];
  size_t modrm_at = 2;
  if (number == 0x38) {
    number = number << 8 | opcode[2];
    modrm_at = 3;
  }
  if (opcode.size() <= modrm_at) return std::nullopt;
  const uint8_t modrm = opcode[modrm_at];
  if (modrm >= 0xc0) return std::nullopt;  // a register
  const Mandatory prefix = MandatoryOf(prefixes);
  for (const Row& row : kRows) {
    if (row.opcode != number || row.prefix != prefix) continue;
    XmmForm form = {row.operation, row.direction, row.bytes};
    if (row.bytes == kByRexW) {
      form.bytes = (prefixes.rex & kRexW) != 0 ? 8 : 4;
    }
    form.reg = (modrm >> 3) & 7;
    if ((prefixes.rex & kRexR) != 0) form.reg |= 8;
    return form;
  }
  return std::nullopt;
}

}  // namespace hypervisor
