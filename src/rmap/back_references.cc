#include "src/rmap/back_references.h"

#include "src/base/check.h"

namespace shadowmmu {

BackReferences::BackReferences(Host& host, uint32_t table_capacity,
                               uint32_t most_arrays, unsigned block_shift)
    : host_(host),
      tables_(table_capacity + 1),
      pool_(host, most_arrays, block_shift) {}

BackReferences::~BackReferences() {
  if (array_of_ != nullptr) host_.Free(array_of_, directory_bytes());
}

bool BackReferences::Init() {
  array_of_ = static_cast<std::atomic<uint32_t>*>(
      host_.AllocateZeroed(directory_bytes()));
  return array_of_ != nullptr && pool_.Init();
}

void BackReferences::Give(TableIndex table, ListReserve& reserve) {
  const uint32_t array = reserve.place_arrays.Pop();
  // The pool's free list went through here; the others are nil or old places.
  pool_[array].place[0] = Place();
  uint32_t none = 0;
  if (!array_of_[ToInt(table)].compare_exchange_strong(
          none, array, std::memory_order_acq_rel)) {
    reserve.place_arrays.Push(array);  // another thread was first
  }
}

void BackReferences::Drop(TableIndex table) {
  const uint32_t array = ArrayOf(table);
  if (array == 0) return;
  pool_.Put(array);
  array_of_[ToInt(table)].store(0, std::memory_order_relaxed);
}

}  // namespace shadowmmu
