#include "tests/harness/library_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// 2 MiB blocks of table memory: as many as 2^22 tables need. A multiplier that
// is odd makes the shuffle of a power of two injective.
constexpr uint64_t kTableBlocks = 8192;
constexpr uint64_t kBlockStride = 5741;
constexpr uint64_t kBlockBytes = BytesPerEntry(Level::k2M);
constexpr uint32_t kTablesPerBlock = kEntriesPerTable;
// From this size on memory comes from mmap, so that it is not resident early.
constexpr size_t kLargeBytes = size_t{1} << 20;

std::byte* MapAnonymous(size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SMMU_CHECK(memory != MAP_FAILED) << "mmap of " << bytes << " bytes";
  return static_cast<std::byte*>(memory);
}

// Zeroed, aligned to `alignment`.
std::byte* NewMemory(size_t bytes, size_t alignment) {
  if (bytes >= kLargeBytes) return MapAnonymous(bytes);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded);
  SMMU_CHECK(memory != nullptr);
  std::memset(memory, 0, rounded);
  return static_cast<std::byte*>(memory);
}

void DeleteMemory(void* memory, size_t bytes) {
  if (bytes >= kLargeBytes) {
    munmap(memory, bytes);
  } else {
    std::free(memory);
  }
}

}  // namespace

LibraryMemory::~LibraryMemory() {
  SMMU_CHECK_EQ(bytes_outstanding(), 0u) << "the library leaks";
}

void LibraryMemory::FailAllocation(uint64_t n) {
  const std::lock_guard lock(mutex_);
  fail_at_ = n == 0 ? 0 : allocations_ + n;
}

void LibraryMemory::FailAllAllocations() {
  const std::lock_guard lock(mutex_);
  fail_all_ = true;
}

void LibraryMemory::AllowAllocations() {
  const std::lock_guard lock(mutex_);
  fail_all_ = false;
  fail_at_ = 0;
}

// Counts one allocation; false if it is to fail.
bool LibraryMemory::TakeAllocation(uint64_t bytes) {
  ++allocations_;
  if (fail_all_ || allocations_ == fail_at_) {
    ++failed_allocations_;
    return false;
  }
  bytes_outstanding_ += bytes;
  return true;
}

void* LibraryMemory::AllocateZeroed(size_t bytes) {
  constexpr size_t kAlignment = 64;
  const std::lock_guard lock(mutex_);
  if (!TakeAllocation(bytes)) return nullptr;
  void* const memory = NewMemory(std::max<size_t>(bytes, 1), kAlignment);
  blocks_.emplace(memory, bytes);
  return memory;
}

void LibraryMemory::Free(void* memory, size_t bytes) {
  if (memory == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto it = blocks_.find(memory);
  SMMU_CHECK(it != blocks_.end()) << "freeing what was not allocated";
  SMMU_CHECK_EQ(it->second, bytes) << "freeing another size";
  blocks_.erase(it);
  bytes_outstanding_ -= bytes;
  DeleteMemory(memory, bytes);
}

absl::StatusOr<TableMemory> LibraryMemory::AllocateTables(uint32_t tables) {
  const uint64_t bytes = uint64_t{tables} * kPageSize;
  const uint64_t blocks =
      (uint64_t{tables} + kTablesPerBlock - 1) / kTablesPerBlock;
  const std::lock_guard lock(mutex_);
  if (tables == 0 || table_blocks_.size() + blocks > kTableBlocks ||
      !TakeAllocation(bytes)) {
    return absl::ResourceExhaustedError("no memory for tables");
  }
  TableMemory memory;
  memory.base = MapAnonymous(bytes);
  memory.tables = tables;
  for (uint64_t i = 0; i < blocks; ++i) {
    uint64_t number = 0;
    do {
      number = (next_table_block_++ * kBlockStride + 3) % kTableBlocks;
    } while (table_blocks_.contains(number));
    const uint64_t size = std::min(kBlockBytes, bytes - i * kBlockBytes);
    table_blocks_.emplace(number,
                          TableBlock{memory.base + i * kBlockBytes, size});
    memory.block_hpa.push_back(kFirstTableHpa + number * kBlockBytes);
  }
  return memory;
}

void LibraryMemory::FreeTables(const TableMemory& memory) {
  if (memory.base == nullptr) return;
  const uint64_t bytes = uint64_t{memory.tables} * kPageSize;
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < memory.block_hpa.size(); ++i) {
    const auto it = table_blocks_.find((memory.block_hpa[i] - kFirstTableHpa) /
                                       kBlockBytes);
    SMMU_CHECK(it != table_blocks_.end()) << "freeing foreign tables";
    SMMU_CHECK(it->second.base == memory.base + i * kBlockBytes);
    table_blocks_.erase(it);
  }
  bytes_outstanding_ -= bytes;
  munmap(memory.base, bytes);
}

absl::StatusOr<LowPage> LibraryMemory::AllocateLowPage() {
  const std::lock_guard lock(mutex_);
  if (!TakeAllocation(kPageSize)) {
    return absl::ResourceExhaustedError("no memory below 4 GiB");
  }
  const LowPage page{.base = NewMemory(kPageSize, kPageSize),
                     .hpa = kFirstLowPageHpa + next_low_page_++ * kPageSize};
  SMMU_CHECK_LT(page.hpa.value(), uint64_t{1} << 32);
  low_pages_.emplace(ToPfn(page.hpa), page.base);
  return page;
}

void LibraryMemory::FreeLowPage(const LowPage& page) {
  if (page.base == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto it = low_pages_.find(ToPfn(page.hpa));
  SMMU_CHECK(it != low_pages_.end()) << "freeing a foreign page";
  SMMU_CHECK(it->second == page.base);
  low_pages_.erase(it);
  bytes_outstanding_ -= kPageSize;
  DeleteMemory(page.base, kPageSize);
}

void* LibraryMemory::PointerToTable(Hpa hpa) const {
  const std::lock_guard lock(mutex_);
  const auto low = low_pages_.find(ToPfn(hpa));
  if (low != low_pages_.end()) {
    return low->second + (hpa.value() & kPageOffsetMask);
  }
  if (hpa < kFirstTableHpa) return nullptr;
  const uint64_t distance = hpa - kFirstTableHpa;
  const auto block = table_blocks_.find(distance / kBlockBytes);
  if (block == table_blocks_.end()) return nullptr;
  const uint64_t offset = distance % kBlockBytes;
  return offset < block->second.bytes ? block->second.base + offset : nullptr;
}

uint64_t LibraryMemory::allocations() const {
  const std::lock_guard lock(mutex_);
  return allocations_;
}

uint64_t LibraryMemory::failed_allocations() const {
  const std::lock_guard lock(mutex_);
  return failed_allocations_;
}

uint64_t LibraryMemory::bytes_outstanding() const {
  const std::lock_guard lock(mutex_);
  return bytes_outstanding_;
}

}  // namespace shadowmmu::testing
