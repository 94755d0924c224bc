// Memslots for tests of the tables that hold them: no rmaps, only a spec.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_MEMSLOT_MAKE_SLOT_H_
#define SHADOWMMU_TESTS_MEMSLOT_MAKE_SLOT_H_

#include <cstdint>
#include <memory>

#include "src/memslot/memslot.h"

namespace shadowmmu::testing {

inline SlotSpec Spec(uint32_t id, uint64_t base, uint64_t pages, uint64_t hva,
                     AddressSpace space = AddressSpace::kNormal) {
  return {.id = SlotId{id},
          .space = space,
          .base = Gfn(base),
          .pages = pages,
          .hva = Hva(hva)};
}

inline std::shared_ptr<const Memslot> MakeSlot(
    const SlotSpec& spec, SlotState state = SlotState::kLive) {
  return std::make_shared<const Memslot>(
      Memslot{.spec = spec, .state = state, .rmaps = nullptr});
}

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MEMSLOT_MAKE_SLOT_H_
