// KernelMemory: the guest's frames as its kernel uses them: it runs in the
// guest, and reaches them by supervisor accesses through its direct map.
//
// Rules:
//  1. Where a frame is a shadowed table a store traps, and the hypervisor
//     emulates it (Mmu::GuestWrite); or the library lets it through after a
//     fault, the table being unsync from then on; where it is not shadowed, or
//     unsync already, the store goes through unseen. Which of these is for the
//     library to say, as it is with a real guest.
//  2. What each store into a table cost is counted: an *exit* is a store that
//     was emulated, or a fault because the page was write-protected. (A fault
//     because the direct map was not there yet is neither: any memory has
//     those.)
//  3. A frame that is used again is cleared, or written over, word by word,
//  like
//     any other store: what the library still holds of it as a table shows. The
//     first word that goes through takes the rest of the page with it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_KERNEL_MEMORY_H_
#define SHADOWMMU_BENCH_REPLAY_KERNEL_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/frame_allocator.h"
#include "bench/replay/virtual_cpu.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

class KernelMemory {
 public:
  struct Counts {
    uint64_t direct_stores = 0;    // of entries: went through
    uint64_t emulated_stores = 0;  // of entries: trapped
    uint64_t write_faults =
        0;  // of entries: faults on the way to going through
    uint64_t frames_reused = 0;
    uint64_t reuse_exits = 0;  // of stores that clear such frames

    uint64_t entry_stores() const { return direct_stores + emulated_stores; }
    uint64_t write_exits() const { return emulated_stores + write_faults; }
  };

  // Not owned.
  KernelMemory(VirtualCpu* cpu, FrameAllocator* frames)
      : cpu_(cpu), frames_(frames) {}

  // A frame that is all zero. ResourceExhausted; Internal: as
  // VirtualCpu::Touch.
  absl::StatusOr<Gfn> NewFrame();
  // Flushes come first: nothing may lead there any more.
  void Free(Gfn frame) { frames_->Free(frame); }

  // Looks at a page, as one does who copies it.
  absl::Status Read(Gfn frame);
  // An entry of a table.
  absl::StatusOr<uint64_t> ReadEntry(Gpa gpa);
  absl::Status StoreEntry(Gpa gpa, uint64_t value);

  const Counts& counts() const { return counts_; }

 private:
  absl::Status Touch(Gpa gpa, AccessType type, testing::CpuModel::Body body);
  absl::Status Clear(Gfn frame);

  VirtualCpu* const cpu_;
  FrameAllocator* const frames_;
  Counts counts_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_KERNEL_MEMORY_H_
