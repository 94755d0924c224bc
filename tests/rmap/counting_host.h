// CountingHost: a Host for tests of the library's own structures: it counts
// what they allocate, fails on demand, and finds out who writes outside of what
// was given.
//
//  1. Before and behind every allocation lies a pattern, which is checked when
//     the allocation is freed (EXPECT), and by CheckBounds at any time. Large
//     allocations are not touched, so that they need not be resident; they end
//     where their last page does, or a little before.
//
// Thread safety: every member may be called by any thread.

#ifndef SHADOWMMU_TESTS_RMAP_COUNTING_HOST_H_
#define SHADOWMMU_TESTS_RMAP_COUNTING_HOST_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "shadowmmu/default_host.h"

namespace shadowmmu::testing {

class CountingHost : public DefaultHost {
 public:
  ~CountingHost() override { EXPECT_EQ(bytes(), 0u) << "a leak"; }

  // Bytes that are allocated now, and how many allocations there were.
  uint64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }
  uint64_t allocations() const {
    const std::lock_guard lock(mutex_);
    return allocations_;
  }
  // The n-th allocation from now on fails (1: the next one).
  void FailAllocation(uint64_t n) {
    const std::lock_guard lock(mutex_);
    fail_at_ = allocations_ + n;
  }
  void CheckBounds() const {
    const std::lock_guard lock(mutex_);
    for (const auto& [memory, size] : sizes_) Check(memory, size);
  }

  void* AllocateZeroed(size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (++allocations_ == fail_at_) return nullptr;
    bytes_ += bytes;
    std::byte* memory = nullptr;
    if (bytes >= kLarge) {
      memory = static_cast<std::byte*>(DefaultHost::AllocateZeroed(bytes));
    } else {
      const size_t total = (bytes + 2 * kZone + 63) / 64 * 64;
      memory = static_cast<std::byte*>(std::aligned_alloc(64, total)) + kZone;
      std::memset(memory - kZone, kPattern, total);
      std::memset(memory, 0, bytes);
    }
    sizes_.emplace(memory, bytes);
    return memory;
  }
  void Free(void* memory, size_t bytes) override {
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(static_cast<std::byte*>(memory));
    ASSERT_TRUE(found != sizes_.end()) << "freeing what was not allocated";
    EXPECT_EQ(found->second, bytes) << "freeing another size";
    Check(found->first, found->second);
    sizes_.erase(found);
    bytes_ -= bytes;
    if (bytes >= kLarge) {
      DefaultHost::Free(memory, bytes);
    } else {
      std::free(static_cast<std::byte*>(memory) - kZone);
    }
  }

 private:
  static constexpr size_t kLarge = size_t{1} << 20;
  static constexpr size_t kZone = 64;
  static constexpr unsigned char kPattern = 0xa5;

  static void Check(const std::byte* memory, size_t bytes) {
    if (bytes >= kLarge) return;
    for (size_t i = 0; i < kZone; ++i) {
      ASSERT_EQ(*(memory - 1 - i), std::byte{kPattern})
          << "written " << i + 1 << " bytes before " << bytes;
      ASSERT_EQ(*(memory + bytes + i), std::byte{kPattern})
          << "written " << i << " bytes behind " << bytes;
    }
  }

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::byte*, size_t> sizes_;
  uint64_t bytes_ = 0;
  uint64_t allocations_ = 0;
  uint64_t fail_at_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_RMAP_COUNTING_HOST_H_
