// HardwareWalk: one walk of the shadow tables, as an x86 CPU makes it
// (SDM vol. 3, 4.4.2, 4.5.4, 4.6 to 4.8; APM vol. 2, 5.2 to 5.7).
//
//   CR3 --> [PML5E] --> PML4E --> PDPTE --> PDE --> PTE --> page
//           LA57 only             |          '- PS: 2 MiB page
//                                 '- PS: 1 GiB page
//   outside long mode:  PDPTE register --> PDE --> PTE --> page
//
// Rules:
//  1. Present, then reserved bits, is checked at each entry where it is met;
//     rights are checked once, at the leaf, over all levels.
//  2. A is set in each entry as it is used, D in the leaf by a write that goes
//     through: by compare-exchange, and when the entry has changed meanwhile
//     the walk starts over. So a bit is never set in an entry that is gone.
//  3. An access that its rights forbid changes nothing in the leaf.
//  4. Entries are read once each, and what was read is what counts.
//
// Thread safety: a walk belongs to one thread; the tables may change under it.

#ifndef SHADOWMMU_TESTS_HARNESS_HARDWARE_WALK_H_
#define SHADOWMMU_TESTS_HARNESS_HARDWARE_WALK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/physical_memory.h"
#include "tests/harness/tlb.h"

namespace shadowmmu::testing {

// The bits of an entry that the hardware gives a meaning (SDM vol. 3, 4.5.4).
namespace hw_entry {
inline constexpr uint64_t kPresent = uint64_t{1} << 0;
inline constexpr uint64_t kWritable = uint64_t{1} << 1;
inline constexpr uint64_t kUser = uint64_t{1} << 2;
inline constexpr uint64_t kWriteThrough = uint64_t{1} << 3;
inline constexpr uint64_t kCacheDisable = uint64_t{1} << 4;
inline constexpr uint64_t kAccessed = uint64_t{1} << 5;
inline constexpr uint64_t kDirty = uint64_t{1} << 6;
inline constexpr uint64_t kPageSize = uint64_t{1} << 7;
inline constexpr unsigned kKeyShift = 59;  // protection key: bits 62:59
inline constexpr uint64_t kNoExecute = uint64_t{1} << 63;
}  // namespace hw_entry

// The four page-directory-pointer registers of PAE paging (SDM vol. 3, 4.4.1).
using PdpteRegisters = std::array<uint64_t, 4>;

// What governs a walk. Immutable while walks are made.
struct WalkContext {
  const PhysicalMemory* memory = nullptr;
  EntryFormat format;
  HardwareState state;
  PdpteRegisters pdptes{};  // outside long mode only

  bool long_mode() const { return (state.efer & efer::kLma) != 0; }
  bool no_execute() const { return (state.efer & efer::kNxe) != 0; }
  bool write_protect() const { return (state.cr0 & cr0::kWp) != 0; }
  bool HasCr4(uint64_t bit) const { return (state.cr4 & bit) != 0; }
};

// A page fault, with the error code that the hardware would push.
struct WalkFault {
  uint32_t error_code = 0;
};
// The tables lead where no tables are.
struct WalkBroken {
  std::string what;
};
// What a successful walk gives to the TLB.
struct WalkHit {
  TlbEntry translation;
  // The first `depth` of these are the entries above the leaf, downwards.
  std::array<StructureEntry, 4> structures{};
  size_t depth = 0;
};
using WalkResult = std::variant<WalkHit, WalkFault, WalkBroken>;

// Walks for `access` at `gva`, from `start` if there is one, else from the
// root.
WalkResult Walk(const WalkContext& context, Gva gva, const Access& access,
                const std::optional<StructureEntry>& start);

// What a walk from the root would find for `gva`, whatever the access; sets no
// A and no D bit. nullopt where every access ends in a page fault: an entry is
// not present, or has reserved bits set. Tables that are none are a CHECK.
std::optional<TlbEntry> PeekWalk(const WalkContext& context, Gva gva);

// Do `rights` let `access` through (SDM vol. 3, 4.6)?
bool HardwareAllows(const WalkContext& context, const Rights& rights,
                    const Access& access);

// The error code of a page fault that `access` causes, where `cause` is
// kPresent, kPresent | kReserved, kPresent | kProtectionKey, or 0 of pf_error
// (SDM vol. 3, 4.7).
uint32_t HardwareErrorCode(const WalkContext& context, const Access& access,
                           uint32_t cause);
// The same where the walk was completed and its `rights` deny the access.
uint32_t DeniedErrorCode(const WalkContext& context, const Rights& rights,
                         const Access& access);

// The reserved bits of an entry of `level` that reads `entry`, that are set in
// it (SDM vol. 3, 4.4.2, 4.5.4); 0 if it is well-formed.
uint64_t ReservedBitsSet(const WalkContext& context, Level level,
                         uint64_t entry);
// The same for a PDPTE of PAE paging (SDM vol. 3, 4.4.1).
uint64_t ReservedPdpteBitsSet(const EntryFormat& format, uint64_t pdpte);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_HARDWARE_WALK_H_
