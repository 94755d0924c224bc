// HostRegion: memory of this process that a slot lends to the guest.
//
// Pages are zero, and take no memory before they are touched.
//
// Thread safety: none.

#ifndef SHADOWMMU_BENCH_REPLAY_HOST_REGION_H_
#define SHADOWMMU_BENCH_REPLAY_HOST_REGION_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

class HostRegion {
 public:
  // ResourceExhausted.
  static absl::StatusOr<HostRegion> Map(uint64_t pages);
  ~HostRegion();
  HostRegion(HostRegion&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), bytes_(other.bytes_) {}
  HostRegion& operator=(HostRegion&&) = delete;

  Hva hva() const { return Hva(reinterpret_cast<uintptr_t>(base_)); }

  // Moves the memory, with all that is in it, to another address. Nothing is
  // left at the old one: who still uses it dies. ResourceExhausted: it is where
  // it was.
  absl::Status MoveElsewhere();

 private:
  HostRegion(void* base, size_t bytes) : base_(base), bytes_(bytes) {}

  void* base_;
  size_t bytes_;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_HOST_REGION_H_
