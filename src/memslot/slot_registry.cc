#include "src/memslot/slot_registry.h"

#include <optional>
#include <utility>

namespace shadowmmu {

SlotRegistry::SlotRegistry(Host* host)
    : host_(*host), current_(new SlotTable) {}

SlotRegistry::~SlotRegistry() { delete current_.load(); }

void SlotRegistry::Publish(std::unique_ptr<const SlotTable> next) {
  const std::unique_ptr<const SlotTable> old(
      current_.exchange(next.release(), std::memory_order_seq_cst));
  srcu_.Synchronize([this](const SrcuStall& stall) {
    host_.NoteStall({.waiting = "a change of the slots",
                     .for_whom = stall.reader.what,
                     .vcpu = stall.reader.vcpu == SrcuReaderName::kNoVcpu
                                 ? std::nullopt
                                 : std::optional(VcpuId{stall.reader.vcpu}),
                     .milliseconds = stall.milliseconds});
  });
}

}  // namespace shadowmmu
