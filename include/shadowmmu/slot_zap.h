// What takes away all that was made from a slot that is deleted or moved, and
// why (docs/design.md, "Which way a slot goes").

#ifndef SHADOWMMU_SLOT_ZAP_H_
#define SHADOWMMU_SLOT_ZAP_H_

#include <cstdint>
#include <iosfwd>

namespace shadowmmu {

enum class SlotZapPolicy : uint8_t {
  // The cheapest of the others, by an estimate from counts that are kept
  // anyway.
  kAuto,
  // Only what belongs to the slot: its sptes, the shadow pages whose guest
  // tables lie in it, and direct pages that mapped nothing else. All else stays
  // mapped. For small slots in busy VMs.
  kTargeted,
  // Everything: Strategy::kObsoleteWalk.
  kWalk,
  // Everything: Strategy::kRelease, with what that asks of the caller and of
  // Host::Kick.
  kRelease,
};
std::ostream& operator<<(std::ostream& os, SlotZapPolicy policy);

// What each way would cost, as estimated, in nanoseconds of a CPU of our
// measurements: the way itself, and the faults that map again what it took from
// other slots. Of another CPU the proportions count.
struct SlotZapCosts {
  uint64_t targeted_ns = 0;
  uint64_t walk_ns = 0;
  uint64_t release_ns = 0;
};

// What was done for one slot.
struct SlotZapChoice {
  SlotZapPolicy asked = SlotZapPolicy::kAuto;
  SlotZapPolicy way = SlotZapPolicy::kAuto;  // never kAuto, once one was done
  SlotZapCosts estimate;                     // also where the way was forced
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_SLOT_ZAP_H_
