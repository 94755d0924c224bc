// The registers of a guest's CPU, as an emulator, a task switch and a loader
// see them. The run loop copies them from the VMCB and back.
//
//  1. Segment attributes are in the VMCB's format (APM vol. 2, appendix B):
//     bits 7:0 are the descriptor's bits 47:40, bits 11:8 its bits 55:52.
//  2. A segment register is whole: `base`, `limit` (in bytes, scaled) and
//     `attributes` are what a load left there; in real mode `base` is
//     16 * selector.
//  3. Outside 64-bit mode rip and the upper halves of gpr are zero, and gpr 8
//     to 15 are kept and not used.
//
// Thread safety: values.

#ifndef HYPERVISOR_EMULATE_CPU_STATE_H_
#define HYPERVISOR_EMULATE_CPU_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "shadowmmu/registers.h"

namespace hypervisor {

// General registers in the order of their numbers in an instruction.
enum Gpr : unsigned { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi };

// Bits of RFLAGS (APM vol. 2, 3.1.6).
namespace rflags {
inline constexpr uint64_t kCf = 1u << 0;
inline constexpr uint64_t kFixed = 1u << 1;  // always one
inline constexpr uint64_t kPf = 1u << 2;
inline constexpr uint64_t kAf = 1u << 4;
inline constexpr uint64_t kZf = 1u << 6;
inline constexpr uint64_t kSf = 1u << 7;
inline constexpr uint64_t kTf = 1u << 8;
inline constexpr uint64_t kIf = 1u << 9;
inline constexpr uint64_t kDf = 1u << 10;
inline constexpr uint64_t kOf = 1u << 11;
inline constexpr uint64_t kIopl = 3u << 12;
inline constexpr uint64_t kNt = 1u << 14;
inline constexpr uint64_t kRf = 1u << 16;
inline constexpr uint64_t kVm = 1u << 17;
inline constexpr uint64_t kAc = 1u << 18;
inline constexpr uint64_t kVif = 1u << 19;
inline constexpr uint64_t kVip = 1u << 20;
inline constexpr uint64_t kId = 1u << 21;
// What an arithmetic instruction may change.
inline constexpr uint64_t kStatus = kCf | kPf | kAf | kZf | kSf | kOf;
}  // namespace rflags

// Bits of the control registers beside those that paging depends on
// (shadowmmu/registers.h).
namespace cr0 {
inline constexpr uint64_t kPe = shadowmmu::cr0::kPe;
inline constexpr uint64_t kMp = 1u << 1;
inline constexpr uint64_t kEm = 1u << 2;
inline constexpr uint64_t kTs = 1u << 3;
inline constexpr uint64_t kEt = 1u << 4;
inline constexpr uint64_t kNe = 1u << 5;
inline constexpr uint64_t kAm = 1u << 18;
inline constexpr uint64_t kPg = shadowmmu::cr0::kPg;
}  // namespace cr0
namespace cr4 {
inline constexpr uint64_t kOsfxsr = 1u << 9;
inline constexpr uint64_t kUmip = 1u << 11;
}  // namespace cr4

struct Segment {
  // Bits of `attributes`.
  static constexpr uint16_t kType = 0xf;
  static constexpr uint16_t kAccessed = 1u << 0;
  static constexpr uint16_t kWritable = 1u << 1;    // of data
  static constexpr uint16_t kReadable = 1u << 1;    // of code
  static constexpr uint16_t kExpandDown = 1u << 2;  // of data
  static constexpr uint16_t kConforming = 1u << 2;  // of code
  static constexpr uint16_t kCode = 1u << 3;
  static constexpr uint16_t kUserSegment = 1u << 4;  // S: code or data
  static constexpr uint16_t kDpl = 3u << 5;
  static constexpr uint16_t kPresent = 1u << 7;
  static constexpr uint16_t kAvailable = 1u << 8;
  static constexpr uint16_t kLong = 1u << 9;      // L, of code
  static constexpr uint16_t kDefault = 1u << 10;  // D/B
  static constexpr uint16_t kGranularity = 1u << 11;

  uint16_t selector = 0;
  uint16_t attributes = 0;
  uint32_t limit = 0;
  uint64_t base = 0;

  constexpr bool Has(uint16_t bits) const {
    return (attributes & bits) == bits;
  }
  constexpr unsigned dpl() const { return (attributes & kDpl) >> 5; }
  friend constexpr bool operator==(const Segment&, const Segment&) = default;
};

// What the CPU runs as: the default sizes of its instructions follow.
enum class CpuMode : uint8_t { k16Bit, k32Bit, k64Bit };

struct CpuState {
  std::array<uint64_t, 16> gpr = {};
  uint64_t rip = 0xfff0;
  uint64_t rflags = rflags::kFixed;
  uint64_t cr0 = cr0::kEt;
  uint64_t cr2 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  uint64_t dr6 = 0xffff0ff0;
  uint64_t dr7 = 0x400;
  Segment es;
  Segment cs;
  Segment ss;
  Segment ds;
  Segment fs;
  Segment gs;
  // Of gdtr and idtr only base and limit count.
  Segment gdtr;
  Segment ldtr;
  Segment idtr;
  Segment tr;
  uint8_t cpl = 0;

  constexpr bool long_mode() const {
    return (efer & shadowmmu::efer::kLma) != 0;
  }
  constexpr bool protected_mode() const { return (cr0 & cr0::kPe) != 0; }
  constexpr bool virtual_8086() const {
    return protected_mode() && (rflags & rflags::kVm) != 0;
  }
  constexpr CpuMode mode() const {
    if (long_mode() && cs.Has(Segment::kLong)) return CpuMode::k64Bit;
    return cs.Has(Segment::kDefault) ? CpuMode::k32Bit : CpuMode::k16Bit;
  }
  friend constexpr bool operator==(const CpuState&, const CpuState&) = default;
};

// What FXSAVE64 stores of the x87 and SSE registers (APM vol. 2, 11.4.4).
// MXCSR is at byte 24, XMM register i at byte 160 + 16 * i.
struct alignas(16) FxsaveImage {
  static constexpr size_t kXmm = 160;
  static constexpr size_t kXmmBytes = 16;
  std::array<std::byte, 512> bytes = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_CPU_STATE_H_
