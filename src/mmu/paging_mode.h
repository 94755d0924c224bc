// PagingMode: how a guest's CPU translates, worked out from its registers; and
// what the CPU that walks the shadow tables must hold meanwhile.
//
// Supported now: paging off, and four levels with CR0.WP set. The walker takes
// the mode as data, so that further modes add values here, not walkers.
//
// Thread safety: values and pure functions.

#ifndef SHADOWMMU_MMU_PAGING_MODE_H_
#define SHADOWMMU_MMU_PAGING_MODE_H_

#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/mmu/page_role.h"
#include "src/mmu/spte.h"

namespace shadowmmu {

struct PagingMode {
  // The level of the guest's root table, and how many there are; 0: paging is
  // off, and gpa = gva, of 32 bits.
  unsigned levels = 0;
  NoExecute no_execute = NoExecute::kDisabled;
  // The guest table that CR3 names.
  Gfn root = Gfn();

  bool off() const { return levels == 0; }
  Level root_level() const { return LevelFromInt(levels); }
  // Linear address bits that the mode translates.
  unsigned linear_bits() const {
    return off() ? 32 : kPageShift + levels * kIndexBits;
  }
  // Bits above must copy the highest translated one (SDM vol. 1, 3.3.7.1).
  bool Canonical(Gva gva) const;
  friend bool operator==(const PagingMode&, const PagingMode&) = default;
};

// InvalidArgument: a CPU raises #GP. Unimplemented: a mode that comes later.
absl::StatusOr<PagingMode> PagingModeFor(const PagingRegisters& registers,
                                         unsigned guest_physical_bits,
                                         const EntryFormat& format);

// What the walking CPU must hold for `mode`; the root is filled in by the
// caller.
HardwareState HardwareStateFor(const PagingMode& mode,
                               const EntryFormat& format);

// Outside long mode the CPU walks PAE tables; inside, four or five levels.
inline bool UsesPaeRoot(const PagingMode& mode) { return mode.off(); }

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_PAGING_MODE_H_
