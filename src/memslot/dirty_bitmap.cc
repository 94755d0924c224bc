#include "src/memslot/dirty_bitmap.h"

#include <new>

#include "src/base/no_memory.h"

namespace shadowmmu {

// It comes as zeroed memory from the Host.
static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t));

absl::StatusOr<std::shared_ptr<DirtyBitmap>> DirtyBitmap::Create(
    Host& host, uint64_t pages) {
  SMMU_CHECK_GT(pages, 0u);
  auto* raw = new (std::nothrow) DirtyBitmap(host, pages);
  if (raw == nullptr) return NoMemory("flags: no memory");
  std::shared_ptr<DirtyBitmap> bitmap(raw);
  bitmap->words_ =
      static_cast<std::atomic<uint64_t>*>(host.AllocateZeroed(bitmap->bytes()));
  if (bitmap->words_ == nullptr) {
    return NoMemory("flags: no memory for the slot's dirty bitmap");
  }
  return bitmap;
}

DirtyBitmap::~DirtyBitmap() {
  if (words_ != nullptr) host_.Free(words_, bytes());
}

}  // namespace shadowmmu
