// The one order in which a thread may take the library's locks.
//
// Every lock has a rank. In debug builds each thread keeps a short list of the
// locks it holds, and a lock that would have to wait is first compared with it:
//
//  1. A thread waits only for a lock whose rank is greater than that of every
//     lock it holds: so it holds one of each rank at most.
//  2. No lock is taken twice by one thread, shared locks included.
//  3. A try-lock cannot wait, so only rule 2 holds for it; once taken, it
//     counts for rule 1 like any other.
//
// Breaking a rule fails a check that names both locks. Under NDEBUG all of this
// is empty and takes no memory.
//
// Locking: the list belongs to its thread; nothing here is shared.

#ifndef SHADOWMMU_BASE_LOCK_RANK_H_
#define SHADOWMMU_BASE_LOCK_RANK_H_

#include <cstdint>

namespace shadowmmu {

// In the order in which they are taken, outermost first.
enum class LockRank : std::uint8_t {
  // Serialises the editing of memslots. May be held for long, also while
  // waiting for readers.
  kSlotsUpdate = 1,
  // Serialises the waiting for readers in an Srcu. Below kVm, because readers
  // take the VM's lock: who waits for them must not hold it.
  kSrcu,
  // The VM's lock: shared for faults, exclusive for zaps.
  kVm,
  // Beside the VM's lock held shared: which shadow pages there are, and what
  // links and tracks them.
  kStructure,
  // One shadow page.
  kPage,
  // The per-gfn state of 2 MiB of one slot.
  kChunk,
  // Held for a few instructions; nothing is taken below one.
  kLeaf,
};

// "kVm" and the like; never null.
const char* LockRankName(LockRank rank);

// Whether a lock is held by one thread, or by any number of readers.
enum class LockMode : std::uint8_t { kShared, kExclusive };

// The part of a lock that knows its rank and reports to its thread's list.
#ifdef NDEBUG
class LockOrder {
 public:
  constexpr explicit LockOrder(LockRank /*rank*/) {}

  void WillWait() const {}
  void WillTry() const {}
  void Acquired(LockMode /*mode*/) const {}
  void Released() const {}
  void CheckHeld(LockMode /*at_least*/) const {}
};
#else
class LockOrder {
 public:
  constexpr explicit LockOrder(LockRank rank) : rank_(rank) {}
  LockOrder(const LockOrder&) = delete;
  LockOrder& operator=(const LockOrder&) = delete;

  // Before acquiring in a way that may wait: rules 1 and 2.
  void WillWait() const;
  // Before trying: rule 2.
  void WillTry() const;
  // After acquiring, in either way.
  void Acquired(LockMode mode) const;
  // Before releasing. Locks may be released in any order.
  void Released() const;
  // Fails unless this thread holds the lock; an exclusive holder may also read.
  void CheckHeld(LockMode at_least) const;

 private:
  const LockRank rank_;
};
#endif

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_LOCK_RANK_H_
