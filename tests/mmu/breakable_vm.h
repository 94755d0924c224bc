// BreakableVm: a small, healthy VM that has a bit of everything (chains on
// rmaps and parent lists, large pages, both address spaces, tables in several
// slots), and the means to break one thing in it and put it back.
//
//   vm.ExpectReported(2, "does not end", [](Vm& vm) {
//     vm.lock.AssertHeld();
//     return Set(vm.lists.descriptors()[...].next, 7u);
//   });
//
// Damage is done under the MMU lock. What it returns undoes it, and is called
// under the lock again.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_BREAKABLE_VM_H_
#define SHADOWMMU_TESTS_MMU_BREAKABLE_VM_H_

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

using Undo = std::function<void()>;
using Damage = std::function<Undo(Vm&)>;

// Changes one word; the undo restores it.
template <typename T>
Undo Set(T& place, std::type_identity_t<T> value) {
  const T old = place;
  place = value;
  return [&place, old] { place = old; };
}
template <typename T>
Undo Set(std::atomic<T>& place, std::type_identity_t<T> value) {
  const T old = place.exchange(value);
  return [&place, old] { place.store(old); };
}
// All of these, undone in the opposite order.
Undo Both(Undo first, Undo second);

class BreakableVm {
 public:
  // ---- What the guest has ----
  // Slot 0 of the normal space, where most of it is; slot 0 of SMM has the same
  // gfns and other memory.
  static constexpr GfnRange kMain{Gfn(0), 2048};
  // Slot 1, with host memory that allows 2 MiB pages.
  static constexpr GfnRange kLarge{Gfn(4096), 1024};
  // Slot 2: its first page is a page table of the guest.
  static constexpr GfnRange kTableSlot{Gfn(8192), 16};
  // A page that is mapped 20 times: its rmap is a chain of two descriptors.
  static constexpr Gfn kAliased{1024};
  static constexpr unsigned kAliases = 20;
  // Mapped once, writable; and once, under a page directory entry that takes
  // the right to write away.
  static constexpr Gfn kSingle{1100};
  static constexpr Gva kSingleGva{0x40'0020'0000};
  static constexpr Gfn kReadOnly{1101};
  // Mapped by nobody, in a chunk that exists.
  static constexpr Gfn kUnmapped{1200};
  // The first guest table: the root of vCPU 0. A leaf maps it, read-only.
  static constexpr Gfn kRootTable{16};
  // A page table inside of kLarge, whose 2 MiB are mapped by one entry.
  static constexpr Gfn kTableInLarge{4096 + 7};

  BreakableVm();

  // The VM is healthy; after `damage` the audit reports a violation that begins
  // with the invariant's number and has `words` in it; after the undo it is
  // healthy again.
  void ExpectReported(int invariant, const std::string& words,
                      const Damage& damage);
  // The same where `damage` takes the locks it needs by itself.
  void ExpectReportedUnlocked(int invariant, const std::string& words,
                              const Damage& damage);

  SmallVm& small() { return vm_; }
  Vm& inside() { return vm_.mmu().internals(); }

 private:
  void MapEverything();
  void TouchEverything();
  void ExpectHealthy(const char* when);

  SmallVm vm_;
  GuestTableBuilder* tables_ = nullptr;        // of vCPU 0
  GuestTableBuilder* other_tables_ = nullptr;  // of vCPU 1
};

// ---- Finding things, under the MMU lock ----

// The slot of a gfn, which there is.
const Memslot& SlotOf(Vm& vm, Gfn gfn,
                      AddressSpace space = AddressSpace::kNormal)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
RmapHead& HeadOf(Vm& vm, Gfn gfn, Level level = Level::k4K,
                 AddressSpace space = AddressSpace::kNormal)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// The leaf that was put on that rmap last.
SpteRef LeafOf(Vm& vm, Gfn gfn, Level level = Level::k4K,
               AddressSpace space = AddressSpace::kNormal)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// The shadow page of the guest table in `gfn`, which there is.
TableIndex PageOf(Vm& vm, Gfn gfn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// Some entry that points to a table, and the table.
std::pair<SpteRef, TableIndex> AnyLink(Vm& vm)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);
// The youngest shadow page.
TableIndex YoungestPage(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// Replaces the bits of an entry, and nothing else.
Undo SetEntry(Vm& vm, SpteRef ref, uint64_t bits)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_BREAKABLE_VM_H_
