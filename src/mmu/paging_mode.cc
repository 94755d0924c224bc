#include "src/mmu/paging_mode.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace shadowmmu {
namespace {

bool Has(uint64_t value, uint64_t bit) { return (value & bit) != 0; }

absl::Status Refused(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("#GP: ", what));
}

// Bits that must be clear where the CPU has not the feature (SDM vol. 3, 2.5,
// 4.1.4).
absl::Status CheckFeatures(const PagingRegisters& registers,
                           const CpuFeatures& features) {
  const struct {
    uint64_t bit;
    bool there;
    const char* name;
  } bits[] = {
      {cr4::kPse, features.page_size_extensions, "CR4.PSE"},
      {cr4::kLa57, features.five_levels, "CR4.LA57"},
      {cr4::kPcide, features.pcid, "CR4.PCIDE"},
      {cr4::kSmep, features.smep, "CR4.SMEP"},
      {cr4::kSmap, features.smap, "CR4.SMAP"},
      {cr4::kPke, features.protection_keys, "CR4.PKE"},
      {cr4::kCet, false, "CR4.CET"},
      {cr4::kPks, false, "CR4.PKS"},
      {cr4::kLamSup, false, "CR4.LAM_SUP"},
  };
  for (const auto& bit : bits) {
    if (Has(registers.cr4, bit.bit) && !bit.there) {
      return Refused(absl::StrCat(bit.name, ": the vCPU has it not"));
    }
  }
  if (Has(registers.efer, efer::kNxe) && !features.no_execute) {
    return Refused("EFER.NXE: the vCPU has it not");
  }
  return absl::OkStatus();
}

}  // namespace

bool PagingMode::Canonical(Gva gva) const {
  if (!long_mode) return true;
  const unsigned shift = 64 - format.linear_bits();
  const auto value = static_cast<int64_t>(gva.value() << shift);
  return static_cast<uint64_t>(value >> shift) == gva.value();
}

// The combinations that every CPU refuses (SDM vol. 3, 2.5, 4.1.1; APM vol. 2,
// 3.1, 14.6), then those that its features forbid.
absl::Status CheckRegisters(const PagingRegisters& registers,
                            const CpuFeatures& features,
                            unsigned guest_physical_bits) {
  const bool paging = Has(registers.cr0, cr0::kPg);
  const bool lma = Has(registers.efer, efer::kLma);
  if (registers.cr0 >> 32 != 0) return Refused("CR0 bits 63 to 32 are set");
  if (paging && !Has(registers.cr0, cr0::kPe)) {
    return Refused("CR0.PG without CR0.PE");
  }
  if (Has(registers.cr0, cr0::kNw) && !Has(registers.cr0, cr0::kCd)) {
    return Refused("CR0.NW without CR0.CD");
  }
  if (lma != (Has(registers.efer, efer::kLme) && paging)) {
    return Refused("EFER.LMA is not what EFER.LME and CR0.PG make it");
  }
  if (lma && !Has(registers.cr4, cr4::kPae)) {
    return Refused("CR4.PAE clear in long mode");
  }
  if (!lma && Has(registers.cr4, cr4::kPcide)) {
    return Refused("CR4.PCIDE outside long mode");
  }
  absl::Status good = CheckCr3(registers, guest_physical_bits);
  return good.ok() ? CheckFeatures(registers, features) : good;
}

absl::Status CheckCr3(const PagingRegisters& registers,
                      unsigned guest_physical_bits) {
  if (Has(registers.efer, efer::kLma) &&
      registers.cr3 >> guest_physical_bits != 0) {
    return Refused(
        absl::StrCat("CR3 bits at or above MAXPHYADDR, ", guest_physical_bits));
  }
  return absl::OkStatus();
}

bool PaePaging(const PagingRegisters& registers) {
  return Has(registers.cr0, cr0::kPg) && Has(registers.cr4, cr4::kPae) &&
         !Has(registers.efer, efer::kLma);
}

bool LoadsPdptes(const PagingRegisters& from, const PagingRegisters& to) {
  constexpr uint64_t kCr0 = cr0::kCd | cr0::kNw | cr0::kPg;
  constexpr uint64_t kCr4 = cr4::kPse | cr4::kPae | cr4::kPge | cr4::kSmep;
  return PaePaging(to) &&
         (!PaePaging(from) || from.cr3 != to.cr3 ||
          Has(from.cr0 ^ to.cr0, kCr0) || Has(from.cr4 ^ to.cr4, kCr4));
}

absl::Status CheckPdptes(const Pdptes& pdptes, unsigned guest_physical_bits) {
  // Bits 2:1, 8:5, and from MAXPHYADDR on.
  const uint64_t reserved = 0x1e6 | ~uint64_t{0} << guest_physical_bits;
  for (size_t i = 0; i < pdptes.size(); ++i) {
    if (!Has(pdptes[i], pte::kPresent) || (pdptes[i] & reserved) == 0) continue;
    return Refused(absl::StrCat("PDPTE ", i, ", 0x", absl::Hex(pdptes[i]),
                                ", has reserved bits set"));
  }
  return absl::OkStatus();
}

PagingMode PagingModeOf(const PagingRegisters& registers, const Pdptes& pdptes,
                        const CpuFeatures& features,
                        unsigned guest_physical_bits) {
  PagingMode mode;
  if (!Has(registers.cr0, cr0::kPg)) return mode;
  const bool pae = Has(registers.cr4, cr4::kPae);
  const bool nxe = pae && Has(registers.efer, efer::kNxe);
  mode.long_mode = Has(registers.efer, efer::kLma);
  const EntryLayout layout = mode.long_mode ? EntryLayout::kLong
                             : pae          ? EntryLayout::kPae
                                            : EntryLayout::k32Bit;

  PermissionRules& permissions = mode.permissions;
  permissions.write_protect = Has(registers.cr0, cr0::kWp);
  permissions.smep = Has(registers.cr4, cr4::kSmep);
  permissions.smap = Has(registers.cr4, cr4::kSmap);
  permissions.protection_keys = mode.long_mode && Has(registers.cr4, cr4::kPke);
  mode.reports_fetch = nxe || permissions.smep;

  uint32_t flags = 0;
  if (nxe) flags |= GuestRules::kNoExecute;
  if (mode.long_mode && features.one_gib_pages) {
    flags |= GuestRules::kLargePages;
  }
  if (!pae && Has(registers.cr4, cr4::kPse)) {
    flags |= GuestRules::kLargePages;
    if (features.pse36) flags |= GuestRules::kPse36;
  }
  if (!permissions.write_protect) {
    flags |= GuestRules::kFixUps;
    if (permissions.smep) flags |= GuestRules::kFixUpsSmep;
    if (permissions.smap) flags |= GuestRules::kFixUpsSmap;
    if (permissions.protection_keys) flags |= GuestRules::kFixUpsKeys;
  }
  mode.rules = GuestRules(layout, flags);

  const unsigned levels = !mode.long_mode                  ? 2
                          : Has(registers.cr4, cr4::kLa57) ? 5
                                                           : 4;
  mode.format = GuestFormat(mode.rules, levels, guest_physical_bits);
  PointToTables(registers, pdptes, mode);
  return mode;
}

void PointToTables(const PagingRegisters& registers, const Pdptes& pdptes,
                   PagingMode& mode) {
  if (mode.format.off()) return;
  switch (mode.rules.layout()) {
    case EntryLayout::kLong:
      mode.root = Gfn((registers.cr3 & pte::kAddress) >> kPageShift);
      mode.pcid = PcidsEnabled(registers)
                      ? static_cast<Pcid>(registers.cr3 & cr3::kPcid)
                      : Pcid();
      break;
    case EntryLayout::kPae:
      mode.pdptes = pdptes;
      break;
    case EntryLayout::k32Bit:
      mode.root = Gfn((registers.cr3 & 0xffff'f000) >> kPageShift);
      break;
  }
}

HardwareState HardwareStateFor(const PagingMode& mode,
                               const EntryFormat& format) {
  HardwareState state;
  state.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
  state.cr4 = cr4::kPae;
  state.efer = format.has_no_execute ? efer::kNxe : 0;
  const PermissionRules& permissions = mode.permissions;
  if (permissions.smep) state.cr4 |= cr4::kSmep;
  if (permissions.smap) state.cr4 |= cr4::kSmap;
  if (permissions.protection_keys) state.cr4 |= cr4::kPke;
  if (mode.long_mode) {
    state.efer |= efer::kLme | efer::kLma;
    if (mode.format.levels() == 5) state.cr4 |= cr4::kLa57;
  }
  return state;
}

}  // namespace shadowmmu
