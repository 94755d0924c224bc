// Writer: what a thread that adds sptes has to itself, so that those who hold
// the MMU lock shared meet on no cache line but those of what they change. Each
// vCPU has one.
//
// Locking: one thread; the counters are read by any. Who takes the reserve back
// holds the MMU lock exclusively, and the thread is not adding then.

#ifndef SHADOWMMU_MMU_WRITER_H_
#define SHADOWMMU_MMU_WRITER_H_

#include <atomic>
#include <cstdint>

#include "src/memslot/slot_table.h"
#include "src/rmap/list_reserve.h"

namespace shadowmmu {

// A counter that one thread writes and any reads.
class OwnCounter {
 public:
  void Increment() {
    value_.store(value_.load(std::memory_order_relaxed) + 1,
                 std::memory_order_relaxed);
  }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct alignas(64) Writer {
  SlotCache slot_cache;
  ListReserve reserve;

  // As in Stats.
  OwnCounter sptes_set;
  OwnCounter sptes_prefetched;
  OwnCounter pages_created;
  OwnCounter unsyncs;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_WRITER_H_
