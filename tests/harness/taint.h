// Taint: which entries of guest tables changed behind the library's back, so
// that what it caches of them may rightly differ from what they say now.
//
//  1. A table is a (address space, gfn) that some walk has read. A frame that
//     no walk has read cannot be cached, and is never tainted.
//  2. A change with no trap taints the words it touches: a host's store, or a
//     guest's store through another gfn that shares the memory. Another frame
//     behind a table taints it wholly.
//  3. A vCPU is free of all taints from before the last invalidation of
//     everything, once it has entered the guest after it.
//  4. A guest's own store into a table that the library let it write is another
//     kind of taint, of the word that it touches: it counts where the word is
//     the last entry of a walk, and ends as it would with a TLB (World::Tainted
//     knows when).
//
// A taint waives agreement with the oracle only. That no translation reaches
// memory which the host took away is never waived (state_check.h).
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_TAINT_H_
#define SHADOWMMU_TESTS_HARNESS_TAINT_H_

#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "absl/functional/function_ref.h"
#include "shadowmmu/address.h"

namespace shadowmmu::testing {

// Words of 8 bytes of one table, both inclusive: one entry each, or two of the
// 4 bytes that 32-bit paging has.
struct EntryRange {
  unsigned first = 0;
  unsigned last = kEntriesPerTable - 1;
};

// The word of an entry on a walk's way.
struct WalkedEntry {
  Gfn table;
  unsigned index = 0;
};

class Taint {
 public:
  // A moment in the stream.
  using Time = uint64_t;

  // A walk has read these tables, or may have.
  void NoteWalk(AddressSpace space, std::span<const Gfn> tables);
  // Taints `entries` of every table for which `changed` holds.
  void NoteUntrapped(EntryRange entries,
                     absl::FunctionRef<bool(AddressSpace, Gfn)> changed);
  // Rule 4: a guest's own store through `gfn`, whatever the address space.
  void NoteGuestStore(Gfn gfn, EntryRange entries);
  // Everything is invalid from now on.
  void NoteInvalidation() { invalidated_ = ++now_; }

  // Something that takes a moment of its own, and the latest moment.
  Time Tick() { return ++now_; }
  Time now() const { return now_; }
  // What a vCPU that enters the guest now has left behind.
  Time invalidated() const { return invalidated_; }
  // Is one of `entries` tainted for a vCPU that last entered at `entered`?
  bool Covers(AddressSpace space, std::span<const WalkedEntry> entries,
              Time entered) const;
  // When a guest last stored into the word by itself; 0: never.
  Time GuestStored(AddressSpace space, const WalkedEntry& entry) const;
  // Has a walk read a table for which `is` holds?
  bool AnyTable(absl::FunctionRef<bool(AddressSpace, Gfn)> is) const;

 private:
  using Table = std::pair<AddressSpace, Gfn>;
  // When each word was last tainted; never, if it is not there.
  using Entries = std::map<unsigned, Time>;

  std::map<Table, Entries> tables_;
  std::map<Table, Entries> stored_;
  Time now_ = 0;
  Time invalidated_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TAINT_H_
