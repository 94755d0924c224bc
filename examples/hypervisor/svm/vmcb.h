// Vmcb: the virtual machine control block, as the CPU lays it out (APM vol. 2,
// appendix B). One page; its address is what VMRUN takes.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_SVM_VMCB_H_
#define HYPERVISOR_SVM_VMCB_H_

#include <cstddef>
#include <cstdint>

namespace hypervisor {

// Bits of Vmcb::intercepts_1 and intercepts_2 (table B-1).
namespace intercept_1 {
inline constexpr uint32_t kIntr = 1u << 0;
inline constexpr uint32_t kNmi = 1u << 1;
inline constexpr uint32_t kInit = 1u << 3;
inline constexpr uint32_t kVintr = 1u << 4;
inline constexpr uint32_t kWriteTr = 1u << 13;
inline constexpr uint32_t kRdpmc = 1u << 15;
inline constexpr uint32_t kCpuid = 1u << 18;
inline constexpr uint32_t kRsm = 1u << 19;
inline constexpr uint32_t kIret = 1u << 20;
inline constexpr uint32_t kInvd = 1u << 22;
inline constexpr uint32_t kHlt = 1u << 24;
inline constexpr uint32_t kInvlpg = 1u << 25;
inline constexpr uint32_t kInvlpga = 1u << 26;
inline constexpr uint32_t kIoio = 1u << 27;
inline constexpr uint32_t kMsr = 1u << 28;
inline constexpr uint32_t kTaskSwitch = 1u << 29;
inline constexpr uint32_t kShutdown = 1u << 31;
}  // namespace intercept_1
namespace intercept_2 {
inline constexpr uint32_t kVmrun = 1u << 0;  // VMRUN refuses without it
inline constexpr uint32_t kVmmcall = 1u << 1;
inline constexpr uint32_t kVmload = 1u << 2;
inline constexpr uint32_t kVmsave = 1u << 3;
inline constexpr uint32_t kStgi = 1u << 4;
inline constexpr uint32_t kClgi = 1u << 5;
inline constexpr uint32_t kSkinit = 1u << 6;
inline constexpr uint32_t kWbinvd = 1u << 9;
inline constexpr uint32_t kMonitor = 1u << 10;
inline constexpr uint32_t kMwait = 1u << 11;
inline constexpr uint32_t kXsetbv = 1u << 13;
}  // namespace intercept_2
namespace intercept_3 {
inline constexpr uint32_t kInvpcid = 1u << 2;
}  // namespace intercept_3

// Why the guest stopped (appendix C).
enum class ExitCode : uint64_t {
  kReadCr0 = 0x000,
  kReadCr15 = 0x00f,
  kWriteCr0 = 0x010,
  kWriteCr15 = 0x01f,
  kException0 = 0x040,
  kDebug = 0x041,
  kPageFault = 0x04e,
  kException31 = 0x05f,
  kIntr = 0x060,
  kNmi = 0x061,
  kInit = 0x063,
  kVintr = 0x064,
  kWriteTr = 0x06d,
  kRdpmc = 0x06f,
  kCpuid = 0x072,
  kRsm = 0x073,
  kIret = 0x074,
  kInvd = 0x076,
  kHlt = 0x078,
  kInvlpg = 0x079,
  kInvlpga = 0x07a,
  kIoio = 0x07b,
  kMsr = 0x07c,
  kTaskSwitch = 0x07d,
  kShutdown = 0x07f,
  kVmrun = 0x080,
  kVmmcall = 0x081,
  kSkinit = 0x086,
  kWbinvd = 0x089,
  kMonitor = 0x08a,
  kMwait = 0x08b,
  kXsetbv = 0x08d,
  kInvpcid = 0x0a2,
  kInvalid = ~uint64_t{0},
};

// Vmcb::event_injection and exit_int_info (15.20, 15.7.2).
namespace event {
inline constexpr uint64_t kVector = 0xff;
inline constexpr unsigned kTypeShift = 8;
inline constexpr uint64_t kTypeMask = 7;
inline constexpr uint64_t kErrorCodeValid = 1u << 11;
inline constexpr uint64_t kValid = 1u << 31;
inline constexpr unsigned kErrorCodeShift = 32;
enum Type : uint64_t {
  kInterrupt = 0,
  kNmi = 2,
  kException = 3,
  kSoftware = 4
};
}  // namespace event

// Vmcb::virtual_interrupt (15.21).
namespace virtual_interrupt {
inline constexpr uint64_t kIrq = 1u << 8;
inline constexpr uint64_t kIgnoreTpr = 1u << 20;
inline constexpr uint64_t kMasking = 1u << 24;
}  // namespace virtual_interrupt

// A segment register (15.5.1): bits 47:40 and 55:52 of its descriptor are the
// attributes, packed into 12 bits; the limit is in bytes.
struct VmcbSegment {
  uint16_t selector;
  uint16_t attributes;
  uint32_t limit;
  uint64_t base;
};
static_assert(sizeof(VmcbSegment) == 16);

struct alignas(4096) Vmcb {
  // ---- The control area (table B-1) ----
  uint32_t intercept_cr;  // reads: bit n; writes: bit 16 + n
  uint32_t intercept_dr;
  uint32_t intercept_exceptions;
  uint32_t intercepts_1;
  uint32_t intercepts_2;
  uint32_t intercepts_3;
  uint8_t reserved_018[0x040 - 0x018];
  uint64_t io_permissions;   // physical address, 12 KiB
  uint64_t msr_permissions;  // physical address, 8 KiB
  uint64_t tsc_offset;
  uint32_t asid;
  uint32_t tlb_control;
  uint64_t virtual_interrupt;
  uint64_t interrupt_shadow;
  uint64_t exit_code;
  uint64_t exit_info_1;
  uint64_t exit_info_2;
  uint64_t exit_int_info;
  uint64_t nested_paging;
  uint8_t reserved_098[0x0a8 - 0x098];
  uint64_t event_injection;
  uint64_t nested_cr3;
  uint8_t reserved_0b8[0x0c0 - 0x0b8];
  uint64_t clean_bits;
  uint64_t next_rip;
  uint8_t reserved_0d0[0x400 - 0x0d0];

  // ---- The state save area (table B-2) ----
  VmcbSegment es;
  VmcbSegment cs;
  VmcbSegment ss;
  VmcbSegment ds;
  VmcbSegment fs;
  VmcbSegment gs;
  VmcbSegment gdtr;
  VmcbSegment ldtr;
  VmcbSegment idtr;
  VmcbSegment tr;
  uint8_t reserved_4a0[0x4cb - 0x4a0];
  uint8_t cpl;
  uint8_t reserved_4cc[0x4d0 - 0x4cc];
  uint64_t efer;
  uint8_t reserved_4d8[0x548 - 0x4d8];
  uint64_t cr4;
  uint64_t cr3;
  uint64_t cr0;
  uint64_t dr7;
  uint64_t dr6;
  uint64_t rflags;
  uint64_t rip;
  uint8_t reserved_580[0x5d8 - 0x580];
  uint64_t rsp;
  uint8_t reserved_5e0[0x5f8 - 0x5e0];
  uint64_t rax;
  uint64_t star;
  uint64_t lstar;
  uint64_t cstar;
  uint64_t sfmask;
  uint64_t kernel_gs_base;
  uint64_t sysenter_cs;
  uint64_t sysenter_esp;
  uint64_t sysenter_eip;
  uint64_t cr2;
  uint8_t reserved_648[0x668 - 0x648];
  uint64_t pat;
  uint8_t reserved_670[0x1000 - 0x670];
};
static_assert(offsetof(Vmcb, io_permissions) == 0x040);
static_assert(offsetof(Vmcb, asid) == 0x058);
static_assert(offsetof(Vmcb, interrupt_shadow) == 0x068);
static_assert(offsetof(Vmcb, exit_int_info) == 0x088);
static_assert(offsetof(Vmcb, event_injection) == 0x0a8);
static_assert(offsetof(Vmcb, next_rip) == 0x0c8);
static_assert(offsetof(Vmcb, es) == 0x400);
static_assert(offsetof(Vmcb, tr) == 0x490);
static_assert(offsetof(Vmcb, cpl) == 0x4cb);
static_assert(offsetof(Vmcb, efer) == 0x4d0);
static_assert(offsetof(Vmcb, cr4) == 0x548);
static_assert(offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, rsp) == 0x5d8);
static_assert(offsetof(Vmcb, rax) == 0x5f8);
static_assert(offsetof(Vmcb, kernel_gs_base) == 0x620);
static_assert(offsetof(Vmcb, cr2) == 0x640);
static_assert(offsetof(Vmcb, pat) == 0x668);
static_assert(sizeof(Vmcb) == 4096);

}  // namespace hypervisor

#endif  // HYPERVISOR_SVM_VMCB_H_
