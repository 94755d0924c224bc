// Vm: everything that one VM's MMU has, as the rooms of src/mmu share it. The
// public face over it is Mmu (mmu.cc).
//
// Locking, in the order in which locks are taken:
//   1. slots.update_lock()  slot updates, one at a time; held over waits
//   2. slots.srcu()         a section: the slot table stays. Not a lock, and
//                           entered before `lock`, because an updater waits for
//                           sections without holding it
//   3. lock                 the MMU lock: tables, rmaps, lists, generations.
//                           Exclusively, one needs no more. Shared, things are
//                           only added, under
//   4. structure_lock       which pages there are; links; unsync marks;
//   tracking
//   5. ShadowPage::lock     the entries of one page
//   6. the lock of a list   one rmap, the entries on it (LockedList)
//   7. leaf locks           pools_lock; a vCPU's roots; GuestMemory's list of
//                           blocked ranges
//
// VmLock takes 2 and 3 together: whoever touches rmaps needs both.

#ifndef SHADOWMMU_MMU_VM_H_
#define SHADOWMMU_MMU_VM_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/mmu.h"
#include "src/base/mutex.h"
#include "src/memslot/slot_registry.h"
#include "src/mmu/generation.h"
#include "src/mmu/guest_memory.h"
#include "src/mmu/shadow_page_table.h"
#include "src/mmu/spte.h"
#include "src/mmu/table_arena.h"
#include "src/rmap/pte_lists.h"

namespace shadowmmu {

struct VcpuState;

// A PAE root: four entries of 8 bytes, aligned to their size.
inline constexpr uint32_t kPaeRootBytes = 32;
inline constexpr uint32_t kPaeRootsPerPage = kPageSize / kPaeRootBytes;

struct Vm {
  Vm(const MmuConfig& config, const EntryFormat& entry_format);
  ~Vm();
  // Gets all memory that has a fixed size. Once, before any other thread has
  // the Vm.
  absl::Status Init() ABSL_NO_THREAD_SAFETY_ANALYSIS;

  // ---- Fixed for the VM's life ----
  const MmuConfig config;
  Host& host;
  const EntryFormat entry_format;
  const SpteFormat format;

  // ---- Their own locking ----
  SlotRegistry slots;
  GuestMemory memory;

  // ---- Under the MMU lock ----
  mutable SharedMutex lock;
  // Held by who makes, links, tracks or unsyncs, and pays the flush for it,
  // with the MMU lock in either way.
  mutable Mutex structure_lock{LockRank::kStructure};
  // Of the descriptors and arrays in `lists`, with the MMU lock shared.
  SpinLock pools_lock{LockRank::kLeaf};
  HoldTimes lock_times ABSL_GUARDED_BY(lock);
  Generations generations ABSL_GUARDED_BY(lock);
  TableArena arena ABSL_GUARDED_BY(lock);
  PteLists lists ABSL_GUARDED_BY(lock);
  ShadowPageTable pages ABSL_GUARDED_BY(lock);
  std::vector<VcpuState*> vcpus ABSL_GUARDED_BY(lock);  // by id; null: none
  // Zapped pages that are still some vCPU's root.
  uint64_t pinned_pages ABSL_GUARDED_BY(lock) = 0;
  // Unsync pages, obsolete ones included.
  std::atomic<uint64_t> unsync_pages{0};
  // Shadowed guest tables, by address space: where there are none, whether a
  // gfn holds one needs no look.
  std::atomic<uint64_t> shadowed_tables[kAddressSpaces] = {};
  // The last slot that sptes were taken off.
  SlotCache slot_cache ABSL_GUARDED_BY(lock);
  // Counts of what happened; the fields that count what is there stay 0, and
  // what vCPUs count for themselves is of those that are gone.
  Stats counters ABSL_GUARDED_BY(lock);
  // A slot has logged: from then on leaves may be log-protected.
  std::atomic<bool> has_logged{false};
  std::atomic<uint64_t> tlb_flushes{0};
  std::atomic<uint64_t> flushes_spared{0};

  // Pages of PAE roots, 128 to a page. Fixed after Init.
  std::vector<LowPage> pae_pages;

  // The slots as they are now. Under the lock a newer table than any that a
  // fault used before it got the lock, so every spte's slot is in it.
  const SlotTable& slot_table() const ABSL_SHARED_LOCKS_REQUIRED(lock) {
    return slots.Current();
  }
};

// What vCPUs have taken from the pools ahead: in use, and on no list.
ListNeeds InReserves(const Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock);

// How the MMU lock is held, for those who do more when they are alone.
enum class VmHold : uint8_t { kShared, kExclusive };

// Holds the MMU lock shared. The caller is in a slot reader's section.
class ABSL_SCOPED_LOCKABLE SharedVmLock {
 public:
  // Threads of different `stripe` do not slow each other down.
  SharedVmLock(Vm& vm, unsigned stripe) ABSL_SHARED_LOCK_FUNCTION(vm.lock)
      : vm_(vm), stripe_(stripe) {
    vm_.lock.ReaderLock(stripe_);
  }
  ~SharedVmLock() ABSL_UNLOCK_FUNCTION() { vm_.lock.ReaderUnlock(stripe_); }
  SharedVmLock(const SharedVmLock&) = delete;
  SharedVmLock& operator=(const SharedVmLock&) = delete;

 private:
  Vm& vm_;
  const unsigned stripe_;
};

// Holds the MMU lock, inside a slot reader's section.
class ABSL_SCOPED_LOCKABLE VmLock {
 public:
  explicit VmLock(Vm& vm) ABSL_EXCLUSIVE_LOCK_FUNCTION(vm.lock)
      : vm_(vm), ticket_(vm.slots.srcu().Enter(kName)) {
    vm_.lock.Lock();
  }
  ~VmLock() ABSL_UNLOCK_FUNCTION() {
    vm_.lock.Unlock();
    vm_.slots.srcu().Leave(ticket_);
  }
  VmLock(const VmLock&) = delete;
  VmLock& operator=(const VmLock&) = delete;

  // Lets go of both, calls `between`, and takes both again. Nothing half-done
  // may be visible; everything read before is stale after.
  template <typename Between>
  void Break(Between between) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    vm_.lock.Unlock();
    vm_.slots.srcu().Leave(ticket_);
    between();
    ticket_ = vm_.slots.srcu().Enter(kName);
    vm_.lock.Lock();
  }

 private:
  static constexpr SrcuReaderName kName = {.what = "the MMU lock"};

  Vm& vm_;
  int ticket_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_VM_H_
