// RefillBook: which translations a guest had, and had to be given once more
// though nothing about them had changed.
//
// A *refill* is a fault that ends with the page mapped, while in the same
// process the same page has let an access through that needed no less, and the
// guest has not changed its entry since.
//
// Rules:
//  1. What a page has let through is noted where the CPU lets it through, not
//     where a fault was resolved: translations that were filled beforehand
//     count, too. A fetch or a write that went through is a read as well.
//  2. A refill that comes after a load of CR3 since the page last let something
//     through is what the load has cost. Any other was taken while the process
//     ran.
//  3. A write of the kernel that the tables forbid, though the page had let
//     writes through, is no refill but the price of a guest table that is
//     write-protected (kernel_memory.h counts those): the translation is there.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_REFILL_BOOK_H_
#define SHADOWMMU_BENCH_REPLAY_REFILL_BOOK_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

// A process of the guest, from 0: one address space. Exec gives a process a new
// one; numbers are not used again.
enum class ProcessId : uint32_t {};
constexpr uint32_t ToInt(ProcessId id) { return static_cast<uint32_t>(id); }

class RefillBook {
 public:
  struct Counts {
    uint64_t after_switch = 0;
    uint64_t other = 0;
  };

  // CR3 was loaded, and `process` runs.
  void NoteLoad(ProcessId process) {
    process_ = process;
    ++stay_;
  }
  // The process that runs accessed a page, and it went through.
  void NoteThrough(Gva gva, AccessType type);
  // A fault of it ended with the page mapped. `access` has the error code.
  void NoteFill(Gva gva, const Access& access);
  // The guest changed the entry of the page.
  void NoteChange(ProcessId process, Gva gva);
  // The address space is gone.
  void Forget(ProcessId process) { spaces_.erase(process); }
  // Something else than the guest took translations: none is missed.
  void ForgetAll() { spaces_.clear(); }

  const Counts& counts() const { return counts_; }

 private:
  struct Record {
    uint64_t stay = 0;   // in which it last let something through
    uint32_t types = 0;  // a bit for each type that it let through
  };
  using Space = absl::flat_hash_map<uint64_t, Record>;  // by page number

  ProcessId process_{};
  uint64_t stay_ = 0;  // loads of CR3 so far
  absl::flat_hash_map<ProcessId, Space> spaces_;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_REFILL_BOOK_H_
