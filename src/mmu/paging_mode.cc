#include "src/mmu/paging_mode.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace shadowmmu {
namespace {

struct NamedBit {
  uint64_t bit;
  const char* name;
};

// CR4 bits that change what four-level paging means, and are not here yet.
constexpr NamedBit kLaterCr4[] = {
    {cr4::kFiveLevels, "CR4.LA57"},
    {cr4::kProcessContextIds, "CR4.PCIDE"},
    {cr4::kSupervisorNoExecute, "CR4.SMEP"},
    {cr4::kSupervisorNoAccess, "CR4.SMAP"},
    {cr4::kProtectionKeys, "CR4.PKE"},
    {cr4::kSupervisorProtectionKeys, "CR4.PKS"},
};

absl::Status Refused(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("#GP: ", what));
}

// The combinations that every CPU refuses (SDM vol. 3, 4.1.1 and 2.5; APM
// vol. 2, 14.6).
absl::Status CheckLegal(const PagingRegisters& registers,
                        unsigned guest_physical_bits,
                        const EntryFormat& format) {
  const bool paging = (registers.cr0 & cr0::kPaging) != 0;
  const bool lme = (registers.efer & efer::kLongModeEnable) != 0;
  const bool lma = (registers.efer & efer::kLongModeActive) != 0;
  const bool pae = (registers.cr4 & cr4::kPhysicalAddressExtension) != 0;
  if (paging && (registers.cr0 & cr0::kProtection) == 0) {
    return Refused("CR0.PG without CR0.PE");
  }
  if (lma != (lme && paging)) {
    return Refused("EFER.LMA is not what EFER.LME and CR0.PG make it");
  }
  if (lma && !pae) return Refused("CR4.PAE clear in long mode");
  if ((registers.cr4 & cr4::kProcessContextIds) != 0 && !lma) {
    return Refused("CR4.PCIDE outside long mode");
  }
  if ((registers.efer & efer::kNoExecuteEnable) != 0 &&
      !format.has_no_execute) {
    return Refused("EFER.NXE on a CPU without NX");
  }
  if (lma && registers.cr3 >> guest_physical_bits != 0) {
    return Refused(
        absl::StrCat("CR3 bits at or above MAXPHYADDR, ", guest_physical_bits));
  }
  return absl::OkStatus();
}

}  // namespace

bool PagingMode::Canonical(Gva gva) const {
  if (off()) return true;
  const unsigned shift = 64 - linear_bits();
  const auto value = static_cast<int64_t>(gva.value() << shift);
  return static_cast<uint64_t>(value >> shift) == gva.value();
}

absl::StatusOr<PagingMode> PagingModeFor(const PagingRegisters& registers,
                                         unsigned guest_physical_bits,
                                         const EntryFormat& format) {
  if (absl::Status legal = CheckLegal(registers, guest_physical_bits, format);
      !legal.ok()) {
    return legal;
  }
  if ((registers.cr0 & cr0::kPaging) == 0) return PagingMode();
  if ((registers.efer & efer::kLongModeActive) == 0) {
    return absl::UnimplementedError(
        "EFER.LMA: 32-bit and PAE paging are not implemented yet");
  }
  if ((registers.cr0 & cr0::kWriteProtect) == 0) {
    return absl::UnimplementedError(
        "CR0.WP: paging with WP clear is not implemented yet");
  }
  for (const NamedBit& later : kLaterCr4) {
    if ((registers.cr4 & later.bit) != 0) {
      return absl::UnimplementedError(
          absl::StrCat(later.name, ": not implemented yet"));
    }
  }
  PagingMode mode;
  mode.levels = 4;
  mode.no_execute = (registers.efer & efer::kNoExecuteEnable) != 0
                        ? NoExecute::kEnabled
                        : NoExecute::kDisabled;
  mode.root = Gfn((registers.cr3 & pte::kAddress) >> kPageShift);
  return mode;
}

HardwareState HardwareStateFor(const PagingMode& mode,
                               const EntryFormat& format) {
  HardwareState state;
  state.cr0 = cr0::kProtection | cr0::kPaging | cr0::kWriteProtect;
  state.cr4 = cr4::kPhysicalAddressExtension;
  state.efer = format.has_no_execute ? efer::kNoExecuteEnable : 0;
  if (!UsesPaeRoot(mode)) {
    state.efer |= efer::kLongModeEnable | efer::kLongModeActive;
  }
  return state;
}

}  // namespace shadowmmu
