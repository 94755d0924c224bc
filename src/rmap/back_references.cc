#include "src/rmap/back_references.h"

#include "src/base/check.h"

namespace shadowmmu {

BackReferences::BackReferences(Host& host, uint32_t table_capacity,
                               unsigned block_shift)
    : host_(host),
      tables_(table_capacity + 1),
      pool_(host, table_capacity, block_shift) {}

BackReferences::~BackReferences() {
  if (array_of_ != nullptr) host_.Free(array_of_, directory_bytes());
}

bool BackReferences::Init() {
  array_of_ = static_cast<uint32_t*>(host_.AllocateZeroed(directory_bytes()));
  return array_of_ != nullptr && pool_.Init();
}

void BackReferences::Ensure(TableIndex table) {
  uint32_t& array = array_of_[ToInt(table)];
  if (array != 0) return;
  array = pool_.Take();
  // The pool's free list went through here; the others are nil or old places.
  pool_[array].place[0] = Place();
}

void BackReferences::Drop(TableIndex table) {
  uint32_t& array = array_of_[ToInt(table)];
  if (array == 0) return;
  pool_.Put(array);
  array = 0;
}

}  // namespace shadowmmu
