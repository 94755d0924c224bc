#include "bench/replay/host_region.h"

#include <sys/mman.h>

#include "absl/strings/str_cat.h"

namespace shadowmmu::replay {
namespace {

absl::Status NoMemory(size_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the host has no ", bytes >> 20, " MiB of address space"));
}

}  // namespace

absl::StatusOr<HostRegion> HostRegion::Map(uint64_t pages) {
  const size_t bytes = pages << kPageShift;
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return NoMemory(bytes);
  return HostRegion(base, bytes);
}

HostRegion::~HostRegion() {
  if (base_ != nullptr) munmap(base_, bytes_);
}

absl::Status HostRegion::MoveElsewhere() {
  void* const target = mmap(nullptr, bytes_, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (target == MAP_FAILED) return NoMemory(bytes_);
  void* const moved =
      mremap(base_, bytes_, bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  if (moved == MAP_FAILED) {
    munmap(target, bytes_);
    return NoMemory(bytes_);
  }
  base_ = moved;
  return absl::OkStatus();
}

}  // namespace shadowmmu::replay
