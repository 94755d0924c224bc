// FaultLog: what the library made of every fault, how long it took, and which
// faults were only there because something had been invalidated.
//
// A *fill* is a fault that ended with the page mapped. Each page of each
// process, and each page of the kernel's direct map, is filled
//
//   for the first time      the guest had never used it before;
//   again (a refault)       it was filled before the last invalidation, but not
//                           since: this is what the invalidation costs the
//                           guest later;
//   repeatedly              it was filled since: the guest needs more rights
//                           than it had asked for, its kernel changed the entry
//                           (copy on write), or the page was evicted.
//
// A *window* is the time from one invalidation (of whatever kind) to the next.
//
// What the guest's own switches of CR3 cost is in the RefillBook.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_FAULT_LOG_H_
#define SHADOWMMU_BENCH_REPLAY_FAULT_LOG_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "bench/replay/refill_book.h"
#include "bench/replay/samples.h"
#include "bench/replay/stop_watch.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"

namespace shadowmmu::replay {

class FaultLog {
 public:
  struct Tally {
    uint64_t count = 0;
    Nanoseconds time{};

    void Add(Nanoseconds one) {
      ++count;
      time += one;
    }
  };
  struct Totals {
    Tally all;          // HandleFault calls
    Tally first_fills;  // of these: fills, as above
    Tally refaults;
    Tally repeats;
    Tally guest_faults;  // of these: given to the guest's kernel
    Tally emulations;    // of these: stores into shadowed guest tables
    uint64_t fills() const {
      return first_fills.count + refaults.count + repeats.count;
    }
  };
  struct Window {
    uint64_t begin = 0;  // in accesses that were executed
    uint64_t end = 0;
    Tally refaults;
  };

  // Whose user pages are filled from now on.
  void SetProcess(ProcessId process) { process_ = process; }
  // CR3 was loaded.
  void NoteLoad() { refills_.NoteLoad(process_); }
  // An access within a page went through.
  void NoteThrough(Gva gva, const Access& access) {
    refills_.NoteThrough(gva, access.type);
  }
  // The guest's kernel changed the entry of a user page.
  void NoteChange(ProcessId process, Gva gva) {
    refills_.NoteChange(process, gva);
  }
  // The process is gone.
  void Forget(ProcessId process) {
    refills_.Forget(process);
    filled_.erase(ToInt(process));
  }
  // One call of HandleFault. `access` has the error code that the CPU reported.
  void Note(Gva gva, const Access& access, const FaultOutcome& outcome,
            Nanoseconds time);

  // Something was invalidated: a new window begins at `now`. Its number.
  size_t OpenWindow(uint64_t now);
  // The last window ends.
  void CloseWindow(uint64_t now);
  // By number. The first begins with the run.
  const Window& window(size_t number) const { return windows_[number]; }

  const Totals& totals() const { return totals_; }
  const RefillBook& refills() const { return refills_; }
  // Nanoseconds of each refault.
  const Samples& refault_times() const { return refault_times_; }

 private:
  // The kernel's pages count once, whichever process runs.
  static constexpr uint32_t kKernel = ~uint32_t{0};

  void NoteFill(uint32_t owner, Gva gva, Nanoseconds time);

  ProcessId process_{};
  Totals totals_;
  Samples refault_times_;
  std::vector<Window> windows_ = {Window{}};
  // The window that each page was last filled in, by owner and page number.
  absl::flat_hash_map<uint32_t, absl::flat_hash_map<uint64_t, uint32_t>>
      filled_;
  RefillBook refills_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_FAULT_LOG_H_
