// SlotRegistry: the current SlotTable, and its change under readers.
//
//  1. Readers never wait: they are inside an SRCU section while they use a
//     table, or a slot that it gave them.
//  2. A change publishes a whole new table, waits until no reader can have the
//     old one, and frees it.
//  3. A change that cannot be built (no memory) publishes nothing.
//
// Locking: changes are serialised by update_lock(), which the caller holds over
// all the steps of an update (publish INVALID, invalidate, publish without).
// Publish waits for readers: never from inside a section, or under the MMU
// lock, which readers take.

#ifndef SHADOWMMU_MEMSLOT_SLOT_REGISTRY_H_
#define SHADOWMMU_MEMSLOT_SLOT_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/host.h"
#include "src/base/mutex.h"
#include "src/base/srcu.h"
#include "src/memslot/slot_table.h"

namespace shadowmmu {

class SlotRegistry {
 public:
  // `host` is told of readers that do not end; it outlives this.
  explicit SlotRegistry(Host* host);
  ~SlotRegistry();
  SlotRegistry(const SlotRegistry&) = delete;
  SlotRegistry& operator=(const SlotRegistry&) = delete;

  // The current table. Only inside a section of srcu(), or under
  // update_lock(); good until that ends.
  const SlotTable& Current() const {
    return *current_.load(std::memory_order_seq_cst);
  }
  Srcu& srcu() const { return srcu_; }

  Mutex& update_lock() const ABSL_LOCK_RETURNED(update_lock_) {
    return update_lock_;
  }
  // Publishes `next`, and returns when no reader is left that began before.
  void Publish(std::unique_ptr<const SlotTable> next)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(update_lock_);

  // A number that no slot of this VM had before.
  uint64_t NextSerial() ABSL_EXCLUSIVE_LOCKS_REQUIRED(update_lock_) {
    return ++serial_;
  }

 private:
  Host& host_;
  mutable Srcu srcu_;
  mutable Mutex update_lock_{LockRank::kSlotsUpdate};
  std::atomic<const SlotTable*> current_;
  uint64_t serial_ ABSL_GUARDED_BY(update_lock_) = 0;
};

// A section in which the current table, and its slots, stay.
class SlotReader {
 public:
  explicit SlotReader(const SlotRegistry& registry, SrcuReaderName name = {})
      : reader_(&registry.srcu(), name), table_(registry.Current()) {}
  const SlotTable& table() const { return table_; }

 private:
  SrcuReader reader_;
  const SlotTable& table_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_SLOT_REGISTRY_H_
