// The checks that a slot must pass before it is made or moved. Each failure
// names the field and says why.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_MEMSLOT_SLOT_CHECK_H_
#define SHADOWMMU_MEMSLOT_SLOT_CHECK_H_

#include "absl/status/status.h"
#include "shadowmmu/memslot.h"
#include "src/memslot/slot_table.h"

namespace shadowmmu {

// What is wrong with `spec` by itself, for a guest of `physical_bits`.
absl::Status CheckSlotSpec(const SlotSpec& spec, unsigned physical_bits);
absl::Status CheckSlotFlags(SlotFlags flags);
// What is wrong with it beside the slots of `table`; `except` is a slot that
// does not count, because `spec` takes its place.
absl::Status CheckSlotFits(const SlotSpec& spec, const SlotTable& table,
                           const SlotId* except);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_SLOT_CHECK_H_
