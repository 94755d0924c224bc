// Faults that share the MMU lock, and run short of what they take from the
// pools: of each kind in turn, and after each page that they make. Then they
// make room alone; and where the Host has no memory either they end as
// kNoMemory, with nothing half linked, and nothing gone that was reserved.

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <tuple>

#include "src/mmu/make_room.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"
#include "tests/no_memory/short_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

// A chunk for the page; a chunk and counts for each table; and a block for each
// of three pools.
constexpr uint64_t kAllocations = 1 + 2 * kMade + 3;

// ---- Each allocation of the Host fails ----

enum class Memory : uint8_t { kComesBack, kIsGone };

class SharedFaultMemory : public ::testing::TestWithParam<Memory> {
 protected:
  // From the n-th allocation on there is no memory, or that one fails alone.
  static void Fail(TestHost& host, uint64_t n) {
    if (GetParam() == Memory::kComesBack) {
      host.FailAllocation(n);
      return;
    }
    host.SetAllocateHook([&host, n, seen = uint64_t{0}]() mutable {
      if (++seen == n) host.FailAllAllocations();
    });
  }
  static void Allow(TestHost& host) {
    host.SetAllocateHook(nullptr);
    host.AllowAllocations();
    host.FailAllocation(0);
  }
};

TEST_P(SharedFaultMemory, EachAllocationInTurnFails) {
  uint64_t failing = 1;
  for (bool failed = true; failed; ++failing) {
    ShortVm vm;
    vm.Drain({});
    const ShortVm::InUse before = vm.Used();
    const uint64_t made = vm.PagesMade();
    Fail(vm.host(), failing);
    const FaultOutcome outcome = vm.Fault();
    Allow(vm.host());
    failed = vm.host().failed_allocations() != 0;
    EXPECT_EQ(outcome.kind, failed ? Kind::kNoMemory : Kind::kResume)
        << "allocation " << failing;
    if (failed) {
      EXPECT_EQ(vm.Used(), before) << "allocation " << failing;
      EXPECT_EQ(vm.PagesMade(), made);
      EXPECT_EQ(vm.vm().RmapLength(kData), 0u);
    }
    vm.PutBack();
    ASSERT_EQ(vm.vm().Violations(), "") << "allocation " << failing;
    EXPECT_TRUE(vm.Fault().resume());
    vm.ExpectMapped();
    ASSERT_EQ(vm.vm().Violations(), "") << "allocation " << failing;
    EXPECT_EQ(vm.vm().mmu().GetStats().fault_retries, 0u);
    vm.vm().DropVcpus();
    EXPECT_EQ(vm.Used().reserved, 0u);
    ASSERT_EQ(vm.vm().Violations(), "");
  }
  EXPECT_GE(failing, kAllocations + 2) << "that is less than a fault needs";
}

INSTANTIATE_TEST_SUITE_P(Memory, SharedFaultMemory,
                         ::testing::Values(Memory::kComesBack, Memory::kIsGone),
                         [](const auto& memory) {
                           return memory.param == Memory::kComesBack
                                      ? "ComesBack"
                                      : "IsGone";
                         });

// ---- Each pool falls short ----

// What the pools have when the fault comes, and how many pages it makes before
// it finds that there is too little.
struct Shortage {
  const char* name;
  ShortVm::Left left;
  uint32_t made;
};
std::ostream& operator<<(std::ostream& os, const Shortage& shortage) {
  return os << shortage.name;
}

class SharedFaultShort : public ::testing::TestWithParam<Shortage> {
 protected:
  SharedFaultShort() {
    vm_.MakeChunks();
    vm_.Drain(GetParam().left);
  }
  ~SharedFaultShort() override {
    vm_.PutBack();
    EXPECT_EQ(vm_.vm().Violations(), "");
    vm_.ExpectAllLinked();
  }

  ShortVm vm_;
};

// With memory for a fault that is alone the guest does not notice.
TEST_P(SharedFaultShort, RoomIsMadeAlone) {
  const uint64_t made = vm_.PagesMade();
  const uint64_t holds = vm_.Holds();
  EXPECT_TRUE(vm_.Fault().resume());
  EXPECT_GT(vm_.Holds() - holds, 1u);
  EXPECT_EQ(vm_.PagesMade() - made, kMade);
  vm_.PutBack();
  vm_.ExpectMapped();
  EXPECT_EQ(vm_.vm().mmu().GetStats().fault_retries, 0u);
}

// Without, what the fault had made before stays, linked; and nothing is mapped.
TEST_P(SharedFaultShort, WithoutMemoryNothingIsHalfLinked) {
  const uint64_t made = vm_.PagesMade();
  const ShortVm::InUse before = vm_.Used();
  vm_.host().FailAllAllocations();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(vm_.Fault().kind, Kind::kNoMemory);
    EXPECT_EQ(vm_.PagesMade() - made, GetParam().made);
    EXPECT_EQ(vm_.vm().RmapLength(kData), 0u);
  }
  const ShortVm::InUse after = vm_.Used();
  EXPECT_EQ(after.tables, before.tables + GetParam().made);
  EXPECT_EQ(after.translations, before.translations + GetParam().made);
  // What was reserved for the fault is the vCPU's, for the next one.
  EXPECT_EQ((after.descriptors + after.place_arrays) -
                (before.descriptors + before.place_arrays),
            after.reserved);
  vm_.host().AllowAllocations();
  vm_.PutBack();
  ASSERT_EQ(vm_.vm().Violations(), "");
  vm_.ExpectAllLinked();

  EXPECT_TRUE(vm_.Fault().resume());
  EXPECT_EQ(vm_.PagesMade() - made, kMade);
  vm_.ExpectMapped();
}

constexpr uint32_t kMany = 48;
const Shortage kShortages[] = {
    {"AllOfAll", {}, 0},
    {"Descriptors", {kMany, 0, kMany}, 0},
    {"ADescriptor",
     {kMany, NeedsOfFault(kMaxLevels - 1).lists.descriptors - 1, kMany},
     0},
    {"PlaceArrays", {kMany, kMany, 0}, 0},
    {"APlaceArray",
     {kMany, kMany, NeedsOfFault(kMaxLevels - 1).lists.place_arrays - 1},
     0},
    {"Translations", {0, kMany, kMany}, 0},
    {"TranslationsAfterOnePage", {1, kMany, kMany}, 1},
    {"TranslationsAfterTwoPages", {2, kMany, kMany}, 2},
};
INSTANTIATE_TEST_SUITE_P(Pools, SharedFaultShort,
                         ::testing::ValuesIn(kShortages),
                         [](const auto& shortage) {
                           return std::string(shortage.param.name);
                         });

TEST(SharedFaultEnough, IsMadeBesideOthers) {
  ShortVm vm;
  vm.MakeChunks();
  vm.Drain({kMany, kMany, kMany});
  const uint64_t holds = vm.Holds();
  vm.host().FailAllAllocations();
  EXPECT_TRUE(vm.Fault().resume());
  vm.host().AllowAllocations();
  EXPECT_EQ(vm.Holds() - holds, 1u);
  vm.PutBack();
  vm.ExpectAllLinked();
  EXPECT_EQ(vm.vm().Violations(), "");
}

// ---- Tables fall short: old ones go, whatever the Host has ----

class SharedFaultTables
    : public ::testing::TestWithParam<std::tuple<uint32_t, Memory>> {};

TEST_P(SharedFaultTables, OldPagesGo) {
  const uint32_t free = std::get<uint32_t>(GetParam());
  ShortVm vm;
  vm.MakeChunks();
  vm.Drain(
      {.translations = kMany, .descriptors = kMany, .place_arrays = kMany});
  {
    Vm& inside = vm.inside();
    const VmLock held(inside);
    inside.arena.SetLimitForTesting(inside.arena.tables_in_use() + free);
  }
  if (std::get<Memory>(GetParam()) == Memory::kIsGone) {
    vm.host().FailAllAllocations();
  }
  const uint64_t holds = vm.Holds();
  EXPECT_TRUE(vm.Fault().resume());
  EXPECT_GT(vm.Holds() - holds, 1u) << "evicted beside others";
  const Stats stats = vm.vm().mmu().GetStats();
  EXPECT_GE(stats.pages_evicted, kMaxLevels - 1 - free);
  EXPECT_EQ(stats.fault_retries, 0u);
  vm.host().AllowAllocations();
  vm.PutBack();
  EXPECT_EQ(vm.vm().Violations(), "");
  vm.ExpectMapped();
}

INSTANTIATE_TEST_SUITE_P(
    Free, SharedFaultTables,
    ::testing::Combine(::testing::Range(0u, kMade),
                       ::testing::Values(Memory::kComesBack, Memory::kIsGone)),
    [](const auto& pair) {
      return std::to_string(std::get<uint32_t>(pair.param)) +
             (std::get<Memory>(pair.param) == Memory::kIsGone ? "AndNoMemory"
                                                              : "AndMemory");
    });

// ---- Others take what a pool has grown by ----

// While a fault has let go of the lock to grow one pool, others empty another:
// it begins again, and is through when they leave something.
TEST(SharedFaultGrowth, WhatOthersTakeMeanwhileIsGrownAgain) {
  ShortVm vm;
  vm.MakeChunks();
  vm.Drain({});
  int grown = 0;
  vm.host().SetAllocateHook([&] {
    if (++grown <= 6) vm.TakeAll();
  });
  EXPECT_TRUE(vm.Fault().resume());
  vm.host().SetAllocateHook(nullptr);
  EXPECT_GT(grown, 6) << "a pool that others emptied was not grown again";
  vm.PutBack();
  vm.ExpectMapped();
  EXPECT_EQ(vm.vm().Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
