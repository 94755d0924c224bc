// PagingMode: how a guest's CPU translates, worked out from its registers and
// features; and what the CPU that walks the shadow tables must hold meanwhile.
//
// Thread safety: values and pure functions.

#ifndef SHADOWMMU_MMU_PAGING_MODE_H_
#define SHADOWMMU_MMU_PAGING_MODE_H_

#include "absl/status/status.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/registers.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/page_role.h"
#include "src/mmu/permission.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

// A process-context identifier (SDM vol. 3, 4.10.1): 12 bits; 0 with CR4.PCIDE
// clear.
enum class Pcid : uint16_t {};

struct PagingMode {
  GuestFormat format;
  GuestRules rules{EntryLayout::kPae, 0};
  PermissionRules permissions;
  bool long_mode = false;      // EFER.LMA
  bool reports_fetch = false;  // page faults tell fetches (I/D)
  // The guest table that CR3 names. With PAE paging CR3 names the PDPTEs, which
  // were loaded, and these the tables.
  Gfn root = Gfn();
  Pdptes pdptes = {};
  Pcid pcid = {};

  bool UsesPdptes() const {
    return !format.off() && rules.layout() == EntryLayout::kPae;
  }
  uint64_t PdpteOf(Gva gva) const { return pdptes[gva.value() >> 30 & 3]; }
  // Bits above the linear address must copy its highest one (SDM vol. 1,
  // 3.3.7.1). Outside long mode there are none: Linear() first.
  bool Canonical(Gva gva) const;
  // Outside long mode linear addresses have 32 bits.
  Gva Linear(Gva gva) const {
    return long_mode ? gva : Gva(gva.value() & 0xffff'ffff);
  }
};

// Whether a CPU of these features takes these registers, PDPTEs apart.
// InvalidArgument: it raises #GP.
absl::Status CheckRegisters(const PagingRegisters& registers,
                            const CpuFeatures& features,
                            unsigned guest_physical_bits);

// The part of it that a new value of CR3 asks for.
absl::Status CheckCr3(const PagingRegisters& registers,
                      unsigned guest_physical_bits);

bool PaePaging(const PagingRegisters& registers);
inline bool PcidsEnabled(const PagingRegisters& registers) {
  return (registers.cr4 & cr4::kPcide) != 0;
}
// Whether a CPU loads the PDPTEs anew in the course of such a change (SDM vol.
// 3, 4.4.1).
bool LoadsPdptes(const PagingRegisters& from, const PagingRegisters& to);
// Where they lie.
constexpr Gpa AddressOfPdptes(uint64_t cr3) { return Gpa(cr3 & 0xffff'ffe0); }
// InvalidArgument: it raises #GP, because one that is present has reserved
// bits.
absl::Status CheckPdptes(const Pdptes& pdptes, unsigned guest_physical_bits);

// Precondition: the checks have passed; `pdptes` are zero but with PAE paging.
PagingMode PagingModeOf(const PagingRegisters& registers, const Pdptes& pdptes,
                        const CpuFeatures& features,
                        unsigned guest_physical_bits);

// What another CR3, or other PDPTEs, change of `mode`, which is that of the
// `registers` otherwise.
void PointToTables(const PagingRegisters& registers, const Pdptes& pdptes,
                   PagingMode& mode);

// What the walking CPU must hold for `mode`; the root is filled in by the
// caller.
HardwareState HardwareStateFor(const PagingMode& mode,
                               const EntryFormat& format);

// Outside long mode the CPU walks PAE tables; inside, four or five levels.
inline bool UsesPaeRoot(const PagingMode& mode) { return !mode.long_mode; }

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGING_MODE_H_
