#include "bench/replay/player.h"

#include <cstddef>

#include "absl/status/statusor.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {
namespace {

using testing::Say;

// Page faults of the guest that one access may need: one to map the page, one
// to copy it or to make it executable; and some more.
constexpr int kMaxGuestFaults = 8;

}  // namespace

absl::Status Player::Play(std::span<const TraceAccess> accesses) {
  if (absl::Status entered = cpu_->Enter(); !entered.ok()) return entered;
  for (const TraceAccess& access : accesses) {
    if (mode_ == Mode::kFast && access.in_one_page() &&
        cpu_->FrontAllows(access.begin, access.needs())) {
      continue;
    }
    if (absl::Status played = PlaySlowly(access); !played.ok()) return played;
  }
  counts_.accesses += accesses.size();
  return absl::OkStatus();
}

absl::Status Player::PlaySlowly(const TraceAccess& access) {
  const uint64_t last = access.last().value() >> kPageShift;
  Gva gva = access.begin;
  for (;;) {
    absl::Status touched = TouchPage(gva, access.needs());
    if (!touched.ok()) return touched;
    const uint64_t next = (gva.value() >> kPageShift) + 1;
    if (next > last) return absl::OkStatus();
    gva = Gva(next << kPageShift);
  }
}

absl::Status Player::TouchPage(Gva gva, AccessType type) {
  ++counts_.cpu_accesses;
  const Access access{.type = type, .privilege = Privilege::kUser};
  if (absl::Status entered = cpu_->Enter(); !entered.ok()) return entered;
  const bool allowed = cpu_->FrontAllows(gva, type);
  for (int faults = 0; faults <= kMaxGuestFaults; ++faults) {
    const absl::StatusOr<Touched> touched = cpu_->Touch(gva, access);
    if (!touched.ok()) return touched.status();
    if (allowed && !touched->from_tlb) {
      return absl::InternalError(Say(access, " at ", gva,
                                     ": the front TLB allows what the CPU's "
                                     "TLB does not"));
    }
    if (touched->outcome.resume()) return absl::OkStatus();
    if (touched->outcome.kind == FaultOutcome::Kind::kEmulate) {
      ++counts_.emulated;
      constexpr std::byte kData{0};
      return cpu_->Emulate(touched->outcome.gpa, std::span(&kData, 1));
    }
    absl::Status handled =
        kernel_->HandlePageFault(touched->outcome.guest_fault);
    if (!handled.ok()) return handled;
  }
  return absl::InternalError(
      Say(access, " at ", gva, " cannot be satisfied by the guest's kernel"));
}

}  // namespace shadowmmu::replay
