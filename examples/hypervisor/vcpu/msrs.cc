#include "vcpu/msrs.h"

#include "boot/cpu.h"

namespace hypervisor {
namespace {

// APM vol. 2, appendix A.
constexpr uint32_t kTsc = 0x10;
constexpr uint32_t kApicBase = 0x1b;
constexpr uint32_t kPatchLevel = 0x8b;
// Intel's, which images ask for without a look at who made the CPU.
constexpr uint32_t kMachineCheckCapability = 0x179;  // no banks
constexpr uint32_t kMachineCheckStatus = 0x17a;
constexpr uint32_t kMiscEnable = 0x1a0;
constexpr uint32_t kDebugControl = 0x1d9;
constexpr uint32_t kPat = 0x277;
// MTRRs, of which there are none but the default type (7.7.2, 7.7.5): Xen asks
// for these without asking CPUID.
constexpr uint32_t kMtrrCapabilities = 0xfe;
constexpr uint32_t kMtrrDefaultType = 0x2ff;
constexpr uint32_t kEfer = 0xc0000080;
// PerfEvtSel0 to 3 and PerfCtr0 to 3, which every AMD CPU has (13.2): nothing
// is ever counted.
constexpr uint32_t kFirstCounter = 0xc0010000;
constexpr uint32_t kLastCounter = 0xc0010007;
constexpr uint32_t kSystemConfiguration = 0xc0010010;
constexpr uint32_t kHardwareConfiguration = 0xc0010015;
constexpr uint32_t kNorthBridge = 0xc001001f;

bool IsCounter(uint32_t msr) {
  return msr >= kFirstCounter && msr <= kLastCounter;
}

// Memory types 2 and 3, and those above 7, are reserved.
bool IsPat(uint64_t value) {
  for (unsigned i = 0; i < 8; ++i) {
    const uint64_t type = value >> (8 * i) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

// A memory type, and the bits that turn fixed-range and all MTRRs on (7.7.2.2).
bool IsMtrrDefaultType(uint64_t value) {
  constexpr uint64_t kEnables = 0xc00;
  const uint64_t type = value & 0xff;
  return (value & ~(kEnables | 0xff)) == 0 && type <= 6 && type != 2 &&
         type != 3;
}

}  // namespace

std::optional<uint64_t> Msrs::Read(uint32_t msr) const {
  if (IsCounter(msr)) return 0;
  switch (msr) {
    case kTsc:
      return ReadTsc() + vmcb_.tsc_offset;
    case kApicBase:
      return apic_base_;
    case kPat:
      return pat_;
    case kMtrrCapabilities:
      return 0;
    case kMtrrDefaultType:
      return mtrr_default_type_;
    case kEfer:
      return paging_.efer();
    case kMiscEnable:
      return misc_enable_;
    case kMachineCheckCapability:
    case kMachineCheckStatus:
    case kPatchLevel:
    case kDebugControl:
    case kSystemConfiguration:
    case kHardwareConfiguration:
    case kNorthBridge:
      return 0;
    default:
      return std::nullopt;
  }
}

// No x2APIC. The page is where the guest wants it, below the end of physical
// addresses.
bool Msrs::WriteApicBase(uint64_t value) {
  const uint64_t page = value & ~uint64_t{0xfff};
  if ((value & 0xfff & ~(kApicEnabled | kBootstrapCpu)) != 0) return false;
  if (value >> physical_bits_ != 0) return false;
  apic_base_ = value;
  board_.SetLocalApic(vcpu_,
                      apic_enabled() ? LocalApic::GlobalEnable::kEnabled
                                     : LocalApic::GlobalEnable::kDisabled,
                      shadowmmu::Gpa(page));
  return true;
}

std::optional<Exception> Msrs::Write(uint32_t msr, uint64_t value) {
  if (IsCounter(msr)) return std::nullopt;
  switch (msr) {
    case kTsc:
      vmcb_.tsc_offset = value - ReadTsc();
      return std::nullopt;
    case kApicBase:
      if (!WriteApicBase(value)) break;
      return std::nullopt;
    case kPat:
      if (!IsPat(value)) break;
      pat_ = value;
      return std::nullopt;
    case kMtrrDefaultType:
      if (!IsMtrrDefaultType(value)) break;
      mtrr_default_type_ = value;
      return std::nullopt;
    case kEfer:
      return paging_.WriteEfer(value);
    case kMiscEnable:
      misc_enable_ = value;
      return std::nullopt;
    case kMachineCheckStatus:
    case kPatchLevel:
    case kDebugControl:
    case kSystemConfiguration:
    case kHardwareConfiguration:
    case kNorthBridge:
      return std::nullopt;
    default:
      break;
  }
  return Exception::GeneralProtection();
}

}  // namespace hypervisor
