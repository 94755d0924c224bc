#include "bench/replay/direct_map.h"

#include <algorithm>

#include "tests/harness/guest_tables.h"

namespace shadowmmu::replay {
namespace {

namespace gpte = testing::gpte;

constexpr uint64_t kTableBits = gpte::kPresent | gpte::kWritable;
constexpr uint64_t kPageBits = gpte::kPresent | gpte::kWritable |
                               gpte::kAccessed | gpte::kDirty |
                               gpte::kPageSize | gpte::kNoExecute;

static_assert(IndexAt(kDirectMap, Level::k1G) == 0);
static_assert(IndexAt(kDirectMap, Level::k2M) == 0);

bool Store(testing::GuestMemory* memory, Gfn table, uint64_t index,
           uint64_t entry) {
  return memory->Write64(AddressSpace::kNormal,
                         ToGpa(table) + index * sizeof(entry), entry);
}

// A directory for up to a GiB from `begin` on.
bool FillDirectory(testing::GuestMemory* memory, Gfn directory, Gpa begin,
                   Gpa end) {
  for (uint64_t i = 0; i < kEntriesPerTable; ++i) {
    const Gpa page = begin + i * BytesPerEntry(Level::k2M);
    if (page >= end) return true;
    if (!Store(memory, directory, i, page.value() | kPageBits)) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<DirectMap> BuildDirectMap(testing::GuestMemory* memory,
                                         FrameAllocator* frames, Gpa end) {
  if (end.value() > kDirectMapBytes) {
    return absl::InvalidArgumentError(
        "the guest's direct map ends at 512 GiB: less --memory, fewer --slots");
  }
  const absl::StatusOr<FrameAllocator::Frame> pointers = frames->Allocate();
  if (!pointers.ok()) return pointers.status();
  DirectMap map{.root_entry = ToGpa(pointers->gfn).value() | kTableBits,
                .tables = 1};
  for (Gpa begin; begin < end; begin += BytesPerEntry(Level::k1G)) {
    const absl::StatusOr<FrameAllocator::Frame> directory = frames->Allocate();
    if (!directory.ok()) return directory.status();
    const uint64_t index = map.tables++ - 1;
    if (!Store(memory, pointers->gfn, index,
               ToGpa(directory->gfn).value() | kTableBits) ||
        !FillDirectory(memory, directory->gfn, begin, end)) {
      return absl::InternalError("the kernel's tables cannot be written");
    }
  }
  return map;
}

}  // namespace shadowmmu::replay
