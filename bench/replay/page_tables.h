// PageTables: the guest kernel's work on the four-level tree of a process:
// makes tables, stores entries, takes tables out that nothing uses any more.
//
// Rules:
//  1. All stores are the kernel's own (kernel_memory.h), but those for the
//  first
//     root at boot.
//  2. An entry for a table has A clear, and the walk must set it.
//  3. A table that is taken out has been unlinked, no more: its frame is the
//     caller's to free, after a flush.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_PAGE_TABLES_H_
#define SHADOWMMU_BENCH_REPLAY_PAGE_TABLES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/guest_process.h"
#include "bench/replay/kernel_memory.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

// The entry at `index` of a table.
constexpr Gpa EntryIn(Gfn table, unsigned index) {
  return ToGpa(table) + index * sizeof(uint64_t);
}

class PageTables {
 public:
  struct Counts {
    uint64_t made = 0;
    uint64_t freed = 0;
  };

  // None is owned.
  PageTables(KernelMemory* memory, FaultLog* log)
      : memory_(memory), log_(log) {}

  // A root that has nothing but the kernel half.
  absl::StatusOr<Gfn> NewRoot(uint64_t direct_map_entry);

  // The entry of `gva` in its page table, as it is in memory; the table is
  // there.
  absl::StatusOr<uint64_t> Entry(const GuestProcess& process, Gva gva);
  // Stores it; makes the tables.
  absl::Status SetEntry(GuestProcess* process, Gva gva, uint64_t entry);

  // Unlinks the tables below the root that lie, in part or whole, in the
  // addresses from `first` to `last`, and lead to no page of the process's
  // book; appends their frames to `frames`.
  absl::Status TakeUnused(GuestProcess* process, Gva first, Gva last,
                          std::vector<Gfn>* frames);
  // The root is gone, too.
  void NoteRootFreed() { ++counts_.freed; }

  const Counts& counts() const { return counts_; }

 private:
  absl::StatusOr<Gfn> TableOf(GuestProcess* process, Gva gva, Level level);

  KernelMemory* const memory_;
  FaultLog* const log_;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_PAGE_TABLES_H_
