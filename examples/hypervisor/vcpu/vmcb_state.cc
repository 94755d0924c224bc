#include "vcpu/vmcb_state.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hypervisor {
namespace {

// MSRs that the guest reads and writes with no exit: VMLOAD and VMSAVE carry
// them, or the VMCB does.
constexpr uint32_t kPassedThrough[] = {
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc0000081,  // STAR
    0xc0000082,  // LSTAR
    0xc0000083,  // CSTAR
    0xc0000084,  // SFMASK
    0xc0000100,  // FS base
    0xc0000101,  // GS base
    0xc0000102,  // kernel GS base
};

// Where the two bits of an MSR begin (15.11).
size_t BitOf(uint32_t msr) {
  constexpr uint32_t kExtended = 0xc0000000;
  constexpr size_t kExtendedAt = 0x800 * 8;
  return msr < kExtended ? size_t{msr} * 2
                         : kExtendedAt + size_t{msr - kExtended} * 2;
}

uint64_t AddressOf(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

Segment From(const VmcbSegment& segment) {
  return {.selector = segment.selector,
          .attributes = segment.attributes,
          .limit = segment.limit,
          .base = segment.base};
}

VmcbSegment To(const Segment& segment) {
  return {.selector = segment.selector,
          .attributes = segment.attributes,
          .limit = segment.limit,
          .base = segment.base};
}

}  // namespace

void SetPermissions(PermissionMaps& maps) {
  std::memset(maps.io, 0xff, sizeof(maps.io));
  std::memset(maps.msr, 0xff, sizeof(maps.msr));
  for (const uint32_t msr : kPassedThrough) {
    const size_t bit = BitOf(msr);
    maps.msr[bit / 8] &= static_cast<std::byte>(~(3u << bit % 8));
  }
}

void InitVmcb(Vmcb& vmcb, const PermissionMaps& maps) {
  std::memset(&vmcb, 0, sizeof(vmcb));
  // CR0, CR3, CR4 and CR8, read and written.
  vmcb.intercept_cr = 0x0119'0119;
  constexpr unsigned kPageFault = 14;
  vmcb.intercept_exceptions = 1u << kPageFault;
  vmcb.intercepts_1 =
      intercept_1::kIntr | intercept_1::kNmi | intercept_1::kInit |
      intercept_1::kRdpmc | intercept_1::kCpuid | intercept_1::kRsm |
      intercept_1::kInvd | intercept_1::kHlt | intercept_1::kInvlpg |
      intercept_1::kInvlpga | intercept_1::kIoio | intercept_1::kMsr |
      intercept_1::kTaskSwitch | intercept_1::kShutdown;
  vmcb.intercepts_2 =
      intercept_2::kVmrun | intercept_2::kVmmcall | intercept_2::kVmload |
      intercept_2::kVmsave | intercept_2::kStgi | intercept_2::kClgi |
      intercept_2::kSkinit | intercept_2::kWbinvd | intercept_2::kMonitor |
      intercept_2::kMwait | intercept_2::kXsetbv;
  vmcb.intercepts_3 = intercept_3::kInvpcid;
  vmcb.io_permissions = AddressOf(maps.io);
  vmcb.msr_permissions = AddressOf(maps.msr);
  vmcb.asid = 1;
  constexpr uint32_t kFlushAll = 1;  // 15.16.1
  vmcb.tlb_control = kFlushAll;
  vmcb.virtual_interrupt = virtual_interrupt::kMasking;
  constexpr uint64_t kPatAtReset = 0x0007'0406'0007'0406;
  vmcb.pat = kPatAtReset;
}

CpuState StateOf(const Vmcb& vmcb, const SvmRegisters& registers) {
  CpuState state;
  std::copy(std::begin(registers.gpr), std::end(registers.gpr),
            state.gpr.begin());
  state.gpr[kRax] = vmcb.rax;
  state.gpr[kRsp] = vmcb.rsp;
  state.rip = vmcb.rip;
  state.rflags = vmcb.rflags;
  state.cr2 = vmcb.cr2;
  state.dr6 = vmcb.dr6;
  state.dr7 = vmcb.dr7;
  state.es = From(vmcb.es);
  state.cs = From(vmcb.cs);
  state.ss = From(vmcb.ss);
  state.ds = From(vmcb.ds);
  state.fs = From(vmcb.fs);
  state.gs = From(vmcb.gs);
  state.gdtr = From(vmcb.gdtr);
  state.ldtr = From(vmcb.ldtr);
  state.idtr = From(vmcb.idtr);
  state.tr = From(vmcb.tr);
  state.cpl = vmcb.cpl;
  return state;
}

void SetState(const CpuState& state, Vmcb& vmcb, SvmRegisters& registers) {
  std::copy(state.gpr.begin(), state.gpr.end(), std::begin(registers.gpr));
  vmcb.rax = state.gpr[kRax];
  vmcb.rsp = state.gpr[kRsp];
  vmcb.rip = state.rip;
  vmcb.rflags = state.rflags;
  vmcb.cr2 = state.cr2;
  vmcb.dr6 = state.dr6;
  vmcb.dr7 = state.dr7;
  vmcb.es = To(state.es);
  vmcb.cs = To(state.cs);
  vmcb.ss = To(state.ss);
  vmcb.ds = To(state.ds);
  vmcb.fs = To(state.fs);
  vmcb.gs = To(state.gs);
  vmcb.gdtr = To(state.gdtr);
  vmcb.ldtr = To(state.ldtr);
  vmcb.idtr = To(state.idtr);
  vmcb.tr = To(state.tr);
  vmcb.cpl = state.cpl;
}

}  // namespace hypervisor
