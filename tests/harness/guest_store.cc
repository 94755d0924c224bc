#include "tests/harness/guest_store.h"

#include "shadowmmu/fault.h"

namespace shadowmmu::testing {

bool TrackedStore::Write(AddressSpace space, Gpa gpa,
                         std::span<const std::byte> bytes) {
  constexpr int kMaxTries = 64;
  for (int i = 0; i < kMaxTries; ++i) {
    const FaultOutcome outcome = mmu_->GuestWrite(space, gpa, bytes);
    if (outcome.kind != FaultOutcome::Kind::kRetry) return outcome.resume();
  }
  return false;
}

}  // namespace shadowmmu::testing
