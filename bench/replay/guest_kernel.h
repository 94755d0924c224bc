// GuestKernel: the operating system of the replay's guest: processes, demand
// paging and copy on write. What processes ask it for is in process_calls.h.
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
//     CPU (kernel_memory.h). Only the first tables are there at boot, as a
//     loader would leave them.
//  4. Before it gives an entry that was present another frame, it clears it and
//     executes INVLPG, as Linux does. One that was not present needs none (SDM
//     vol. 3, 4.10.4.3), nor does one that lets the process write the frame
//     that it had: at worst the process faults once more (4.10.4.3 again).
//  5. Entries that it makes for pages have A set, and D if a write asked for
//     them, as Linux does; those for tables have A clear, and the walk must
//     set it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_
#define SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_

#include <cstdint>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/direct_map.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/frame_allocator.h"
#include "bench/replay/frame_users.h"
#include "bench/replay/guest_process.h"
#include "bench/replay/kernel_memory.h"
#include "bench/replay/machine.h"
#include "bench/replay/page_tables.h"
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
    uint64_t private_pages = 0;  // frames given to one process each
    uint64_t copies = 0;         // of these, copied from a shared one
    uint64_t reuses = 0;         // copies that nobody else needed any more
    uint64_t execute_grants = 0;
  };

  // Pages of a file that one fault maps, at most: those that are in memory
  // already, around the one that is asked for. A power of two, within a table.
  enum class FaultAround : uint32_t { kOne = 1, kLinux = 16 };

  // None is owned.
  GuestKernel(Machine* machine, VirtualCpu* cpu, FaultLog* log,
              FaultAround fault_around = FaultAround::kOne);

  // Makes the kernel's tables and the processes 0 to `processes` - 1; the first
  // runs. ResourceExhausted: too little guest memory; Internal: as
  // VirtualCpu::Touch.
  absl::Status Boot(uint32_t processes);
  // `process` runs from now on.
  absl::Status SwitchTo(ProcessId process);
  // A page fault of the process that runs. ResourceExhausted; Internal: also a
  // fault that its tables do not explain.
  absl::Status HandlePageFault(const GuestFault& fault);

  const Counts& counts() const { return counts_; }
  const FrameAllocator& frames() const { return frames_; }
  const KernelMemory& memory() const { return memory_; }
  const PageTables& tables() const { return tables_; }
  // Frames that hold tables.
  uint64_t table_frames() const {
    return first_tables_ + tables_.counts().made - tables_.counts().freed;
  }
  ProcessId running() const { return running_; }
  const GuestProcess& process(ProcessId id) const { return processes_.at(id); }

  // ---- For process_calls.h ----

  // Stays where it is until it is removed.
  absl::StatusOr<GuestProcess*> NewProcess();
  // One that has nothing left but its root, which is not loaded.
  void Remove(ProcessId id);
  GuestProcess* mutable_process(ProcessId id) { return &processes_.at(id); }
  // A page that the process has not, written for the first time.
  absl::Status MapPrivate(GuestProcess* process, Gva gva);
  VirtualCpu& cpu() { return *cpu_; }
  KernelMemory& mutable_memory() { return memory_; }
  PageTables& mutable_tables() { return tables_; }
  FrameUsers& users() { return users_; }

 private:
  using Page = GuestProcess::Page;
  // What the page cache has of a file.
  struct CachedPage {
    Gfn frame;
    bool executable = false;
  };

  absl::StatusOr<CachedPage*> Cached(Gva gva);
  absl::StatusOr<Gfn> CopyOf(Gfn source);
  absl::Status MapShared(GuestProcess* process, Gva gva, AccessType type);
  absl::Status MapCached(GuestProcess* process, Gva gva,
                         const CachedPage& cached);
  absl::Status MapAround(GuestProcess* process, Gva gva);
  absl::Status CopyOnWrite(GuestProcess* process, Gva gva, Page* page);
  absl::Status AllowExecute(GuestProcess* process, Gva gva, Page* page);

  Machine* const machine_;
  VirtualCpu* const cpu_;
  FaultLog* const log_;
  const uint64_t fault_around_;  // pages
  FrameAllocator frames_;
  KernelMemory memory_;
  PageTables tables_;
  FrameUsers users_;
  Counts counts_;

  uint64_t first_tables_ = 0;  // those of the boot
  DirectMap direct_map_;
  std::map<ProcessId, GuestProcess> processes_;  // they stay where they are
  uint32_t next_process_ = 0;
  ProcessId running_{};
  absl::flat_hash_map<uint64_t, CachedPage> cache_;  // by page number
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_GUEST_KERNEL_H_
