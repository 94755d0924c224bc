// BackReferences under threads that give the same tables arrays of places at
// the same time: each table has one, and none is lost.

#include "src/rmap/back_references.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

constexpr uint32_t kTables = 4000;
constexpr uint32_t kThreads = 2;

// All threads are at the same table at once.
class Barrier {
 public:
  void Arrive(uint32_t round) {
    ++arrived_;
    for (int spins = 0; arrived_ < kThreads * (round + 1); ++spins) {
      if (spins > 1000) std::this_thread::yield();
    }
  }

 private:
  std::atomic<uint32_t> arrived_{0};
};

TEST(BackReferencesThreads, OfTwoThatGiveATableAnArrayTheFirstWins) {
  TestHost host(TestHost::Options{.frames = 1});
  BackReferences references(host, kTables, kTables + kThreads, 4);
  ASSERT_TRUE(references.Init());
  BlockPool<PlaceArray>& pool = references.pool();
  std::array<ListReserve, kThreads> reserve;
  const auto fill = [&] {
    for (ListReserve& one : reserve) {
      if (one.place_arrays.count() != 0) continue;
      if (pool.available() == 0) {
        ASSERT_EQ(pool.AddBlock(pool.AllocateBlock()), nullptr);
      }
      one.place_arrays.Push(pool.Take());
    }
  };
  Barrier filled, given;
  const auto run = [&](uint32_t thread) {
    for (uint32_t i = 0; i < kTables; ++i) {
      if (thread == 0) fill();
      filled.Arrive(i);
      references.Ensure(TableIndex{1 + i}, reserve[thread]);
      given.Arrive(i);
    }
  };
  std::thread other([&] { run(1); });
  run(0);
  other.join();

  uint32_t left = 0;
  for (const ListReserve& one : reserve) left += one.place_arrays.count();
  EXPECT_EQ(pool.in_use(), kTables + left);
  for (uint32_t i = 0; i < kTables; ++i) references.Drop(TableIndex{1 + i});
  EXPECT_EQ(pool.in_use(), left);
}

}  // namespace
}  // namespace shadowmmu::testing
