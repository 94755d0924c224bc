// ProcessCalls: what the processes of the guest ask its kernel for: fork, exec,
// munmap, exit.
//
// Rules:
//  1. Fork takes the write permission from every page of the parent that is its
//     own, entry by entry, and makes the child's tables beside that. Pages of
//     files are not copied: the child faults them in. Then the parent reloads
//     CR3.
//  2. Whoever takes pages or tables out clears entries first, then flushes, and
//     frees frames last (Linux's mmu_gather): nothing leads to a frame that is
//     used again. INVLPG for the pages of a range that has few, a load of CR3
//     where it has more, and nothing for a process that does not run.
//  3. A table that no page of its process needs any more is taken out, and its
//     frame is what the next table or page is made of.
//  4. mmap has no call here: it stores nothing. Pages come by faults.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_PROCESS_CALLS_H_
#define SHADOWMMU_BENCH_REPLAY_PROCESS_CALLS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/guest_kernel.h"
#include "bench/replay/guest_process.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

// Pages of a range that INVLPG is still used for (Linux's
// tlb_single_page_flush_ceiling).
inline constexpr uint64_t kMostInvlpgs = 33;

class ProcessCalls {
 public:
  struct Counts {
    uint64_t forks = 0;
    uint64_t execs = 0;
    uint64_t exits = 0;
    uint64_t unmaps = 0;
    uint64_t pages_protected = 0;  // by forks, in parents
    uint64_t pages_unmapped = 0;   // by all but forks
  };

  // Not owned.
  explicit ProcessCalls(GuestKernel* kernel) : kernel_(kernel) {}

  // Each is a call of the process that runs, and fails as
  // GuestKernel::HandlePageFault does.

  // The child; the parent runs on.
  absl::StatusOr<ProcessId> Fork();
  // The process begins anew, with `arguments` pages that end at `stack` written
  // for it; its new address space, which runs.
  absl::StatusOr<ProcessId> Exec(Gva stack, uint64_t arguments);
  absl::Status Unmap(Gva begin, uint64_t pages);
  // It ends, and `next` runs.
  absl::Status Exit(ProcessId next);

  const Counts& counts() const { return counts_; }

 private:
  // Which entries were cleared, and what is to be freed once that is flushed.
  struct Gathered {
    uint64_t first = ~uint64_t{0};  // page numbers
    uint64_t last = 0;
    std::vector<Gfn> frames;
  };

  absl::Status CopyPage(GuestProcess* parent, GuestProcess* child,
                        uint64_t number, GuestProcess::Page* page);
  absl::Status Gather(GuestProcess* process, uint64_t first, uint64_t last,
                      Gathered* gathered);
  absl::Status FlushAndFree(const GuestProcess& process,
                            const Gathered& gathered);
  absl::Status TearDown(GuestProcess* process);
  absl::Status ReloadCr3();
  GuestProcess* Running() {
    return kernel_->mutable_process(kernel_->running());
  }

  GuestKernel* const kernel_;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_PROCESS_CALLS_H_
