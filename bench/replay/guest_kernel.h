// GuestKernel: the operating system of the replay's guest: P processes, forked
// from one, with demand paging and copy on write.
//
//   user half     one four-level tree a process, filled by page faults
//   kernel half   one direct map of all guest memory (direct_map.h), which all
//                 processes share, as Linux has it
//
// Rules:
//  1. A page that is read or fetched first is shared: one frame, read-only, in
//     every process that asks for it. The first write of a process gives it a
//     frame of its own.
//  2. A page may be executed once it has been fetched from, not before.
//  3. The kernel runs in the guest: it clears and copies pages, and stores into
//     page tables, by supervisor accesses through its direct map, on the same
//     CPU. Where a table is shadowed the store traps, and the hypervisor
//     emulates it (Mmu::GuestWrite); where it is not yet, the store goes
//     through unseen. Which of the two is for the library to say, as it is with
//     a real guest. Only the first tables are there at boot, as a loader would
//     leave them.
//  4. After it has changed an entry that was present it executes INVLPG; one
//     that was not present needs none (SDM vol. 3, 4.10.4.3).
//  5. Entries that it makes for pages have A set, and D if a write asked for
//     them, as Linux does; those for tables have A clear, and the walk must
//     set it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_
#define SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/direct_map.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/frame_allocator.h"
#include "bench/replay/guest_process.h"
#include "bench/replay/machine.h"
#include "bench/replay/virtual_cpu.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"

namespace shadowmmu::replay {

class GuestKernel {
 public:
  struct Counts {
    uint64_t page_faults = 0;
    uint64_t shared_pages = 0;  // frames that processes share
    uint64_t shared_mappings = 0;
    uint64_t private_pages = 0;  // frames of one process each
    uint64_t copies = 0;         // of these, copied from a shared one
    uint64_t execute_grants = 0;
    uint64_t tables = 0;           // frames that hold tables
    uint64_t direct_stores = 0;    // of entries: went through
    uint64_t emulated_stores = 0;  // of entries: trapped
  };

  // None is owned.
  GuestKernel(Machine* machine, VirtualCpu* cpu, FaultLog* log);

  // Makes the kernel's tables and the processes. ResourceExhausted: too little
  // guest memory; Internal: as VirtualCpu::Touch.
  absl::Status Boot(uint32_t processes);
  // `process` runs from now on.
  absl::Status SwitchTo(ProcessId process);
  // A page fault of the process that runs. ResourceExhausted; Internal: also a
  // fault that its tables do not explain.
  absl::Status HandlePageFault(const GuestFault& fault);

  const Counts& counts() const { return counts_; }
  const FrameAllocator& frames() const { return frames_; }
  const GuestProcess& process(ProcessId id) const {
    return processes_[ToInt(id)];
  }

 private:
  using Page = GuestProcess::Page;

  absl::Status MakeProcess();
  absl::StatusOr<Gfn> SharedFrame(uint64_t page);
  absl::StatusOr<Gfn> PrivateFrame(uint64_t page);
  absl::Status MapShared(GuestProcess* process, Gva gva, AccessType type);
  absl::Status MapPrivate(GuestProcess* process, Gva gva);
  absl::Status CopyOnWrite(GuestProcess* process, Gva gva, Page* page);
  absl::Status AllowExecute(GuestProcess* process, Gva gva, Page* page);

  // Writes the entry of `gva` in its page table; makes the tables.
  absl::Status SetEntry(GuestProcess* process, Gva gva, uint64_t entry);
  absl::StatusOr<Gfn> TableOf(GuestProcess* process, Gva gva, Level level);

  absl::StatusOr<Gfn> NewClearedFrame();
  // Supervisor accesses through the direct map.
  absl::Status TouchDirect(Gfn frame, AccessType type);
  absl::Status StoreDirect(Gpa gpa, uint64_t value);

  Machine* const machine_;
  VirtualCpu* const cpu_;
  FaultLog* const log_;
  FrameAllocator frames_;
  Counts counts_;

  DirectMap direct_map_;
  std::vector<GuestProcess> processes_;
  ProcessId running_{};
  absl::flat_hash_map<uint64_t, Gfn> shared_;  // by page number
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_
