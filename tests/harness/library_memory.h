// LibraryMemory: the memory that the library has from a simulated host: its own
// structures, tables, and pages below 4 GiB.
//
// Rules:
//  1. Table memory lies in 2 MiB blocks whose physical order is not their
//     virtual order; pages of AllocateLowPage lie below 4 GiB. Both, and
//     nothing else, can be reached by physical address.
//  2. Every allocation is counted, and may be made to fail. What is freed must
//     be what was allocated, by address and size (a CHECK).
//  3. The destructor CHECKs that everything came back.
//
// Thread safety: every member but the destructor may be called by any thread.
// mutex_ is a leaf.

#ifndef SHADOWMMU_TESTS_HARNESS_LIBRARY_MEMORY_H_
#define SHADOWMMU_TESTS_HARNESS_LIBRARY_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "tests/harness/physical_memory.h"

namespace shadowmmu::testing {

// Tables lie from 16 GiB on, low pages from 256 MiB on.
inline constexpr Hpa kFirstTableHpa{0x4'0000'0000};
inline constexpr Hpa kFirstLowPageHpa{0x1000'0000};

class LibraryMemory : public PhysicalMemory {
 public:
  LibraryMemory() = default;
  ~LibraryMemory() override;
  LibraryMemory(const LibraryMemory&) = delete;
  LibraryMemory& operator=(const LibraryMemory&) = delete;

  // ---- As Host ----
  void* AllocateZeroed(size_t bytes);
  void Free(void* memory, size_t bytes);
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables);
  void FreeTables(const TableMemory& memory);
  absl::StatusOr<LowPage> AllocateLowPage();
  void FreeLowPage(const LowPage& page);

  // ---- As PhysicalMemory ----
  void* PointerToTable(Hpa hpa) const override;

  // ---- Failing, and counting ----

  // The n-th allocation from now (1: the next one) fails, then all succeed
  // again. AllocateZeroed, AllocateTables and AllocateLowPage count as one
  // each. 0 takes the order back.
  void FailAllocation(uint64_t n);
  // Every allocation fails from now on, or succeeds again.
  void FailAllAllocations();
  void AllowAllocations();
  // Allocations that were asked for, those that failed included.
  uint64_t allocations() const;
  uint64_t failed_allocations() const;
  // Bytes that the library holds now, of all kinds.
  uint64_t bytes_outstanding() const;

 private:
  struct TableBlock {
    std::byte* base = nullptr;
    uint64_t bytes = 0;  // less than 2 MiB in the last one of its tables
  };

  bool TakeAllocation(uint64_t bytes);  // with mutex_ held

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  absl::flat_hash_map<void*, size_t> blocks_;  // of AllocateZeroed: its bytes
  // By their number from kFirstTableHpa on.
  absl::flat_hash_map<uint64_t, TableBlock> table_blocks_;
  uint64_t next_table_block_ = 0;
  absl::flat_hash_map<Pfn, std::byte*> low_pages_;
  uint64_t next_low_page_ = 0;
  uint64_t allocations_ = 0;
  uint64_t failed_allocations_ = 0;
  uint64_t fail_at_ = 0;  // the number of the allocation that fails; 0: none
  bool fail_all_ = false;
  uint64_t bytes_outstanding_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_LIBRARY_MEMORY_H_
