#include "src/memslot/slot_registry.h"

#include <utility>

namespace shadowmmu {

SlotRegistry::SlotRegistry() : current_(new SlotTable) {}

SlotRegistry::~SlotRegistry() { delete current_.load(); }

void SlotRegistry::Publish(std::unique_ptr<const SlotTable> next) {
  const std::unique_ptr<const SlotTable> old(
      current_.exchange(next.release(), std::memory_order_seq_cst));
  srcu_.Synchronize();
}

}  // namespace shadowmmu
