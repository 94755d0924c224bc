// Faults that go stale each time between what they found out and the mapping:
// nothing is mapped by what is no longer so, and the fault ends as kRetry after
// a fixed number of attempts, each of which shares the MMU lock.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <tuple>

#include "tests/mmu/fault_retries_fixture.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

// ---- Every attempt goes stale ----

enum class Change : uint8_t {
  kBump,
  kZapAll,
  kNotifier,
  kNotifierElsewhere,
  kEntryByTheHost,
  kEntryByTheGuest,
};
enum class Stop : uint8_t { kResolve, kMarkYoung };

class StaleEachTime
    : public FaultRetries,
      public ::testing::WithParamInterface<std::tuple<Change, Stop>> {
 protected:
  // What others do while the fault is stopped, differently each time.
  void Disturb() {
    ++stops_;
    HvaRange page = DataPage();
    switch (std::get<Change>(GetParam())) {
      case Change::kBump:
        vm_.mmu().BumpGeneration();
        return;
      case Change::kZapAll:
        vm_.mmu().InvalidateAll(Strategy::kZapAll);
        return;
      case Change::kNotifierElsewhere:
        page.begin += 77 * kPageSize;
        [[fallthrough]];
      case Change::kNotifier:
        ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
        ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());
        return;
      case Change::kEntryByTheGuest:
        tables_->SetStore(&vm_.tracked());
        [[fallthrough]];
      case Change::kEntryByTheHost:
        Map(kGva, kData + stops_ % 2);
        return;
    }
  }
  void StopFaults() {
    if (std::get<Stop>(GetParam()) == Stop::kResolve) {
      vm_.host().SetResolveHook([this](Hva, AccessType) { Disturb(); });
    } else {
      vm_.host().SetYoungHook([this](Hva) { Disturb(); });
    }
  }
  void LetFaultsGo() {
    vm_.host().SetResolveHook(nullptr);
    vm_.host().SetYoungHook(nullptr);
  }

  uint64_t stops_ = 0;
};

TEST_P(StaleEachTime, AFaultEndsAsRetryAfterSoManyAttempts) {
  const Stats before = vm_.mmu().GetStats();
  StopFaults();
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  LetFaultsGo();
  EXPECT_EQ(stops_, kAttempts);
  const Stats after = vm_.mmu().GetStats();
  EXPECT_EQ(after.fault_retries - before.fault_retries, kAttempts);
  EXPECT_EQ(after.faults - before.faults, 1u);
  EXPECT_EQ(after.sptes_set, before.sptes_set) << "mapped what was stale";
  EXPECT_EQ(vm_.Violations(), "");
  for (uint64_t i = 0; i < 2; ++i) {
    EXPECT_EQ(vm_.RmapLength(kData + i), 0u);
  }

  // Left alone it maps what is there; where its root has gone meanwhile, at the
  // second attempt.
  EXPECT_TRUE(Fault().resume());
  EXPECT_LE(Retries() - after.fault_retries, 1u);
  ExpectMappedOnce(kData);
  EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit());
}

// A guest is told to come back, and comes back: nothing of what it needs to get
// on is lost in between.
TEST_P(StaleEachTime, AFaultThatLosesTwiceGetsThroughTheThirdTime) {
  StopFaults();
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  LetFaultsGo();
  EXPECT_GE(stops_, 2 * kAttempts);
  const TouchResult touched = cpu_->Touch(kGva, Write());
  ASSERT_TRUE(touched.hit()) << touched;
  EXPECT_LE(touched.faults, 1u);
  EXPECT_EQ(vm_.mmu().GetStats().unsync_pages, 0u);
}

std::string NameOf(const std::tuple<Change, Stop>& pair) {
  std::string name;
  switch (std::get<Change>(pair)) {
    case Change::kBump:
      name = "Bump";
      break;
    case Change::kZapAll:
      name = "ZapAll";
      break;
    case Change::kNotifier:
      name = "Notifier";
      break;
    case Change::kNotifierElsewhere:
      name = "NotifierElsewhere";
      break;
    case Change::kEntryByTheHost:
      name = "EntryByTheHost";
      break;
    case Change::kEntryByTheGuest:
      name = "EntryByTheGuest";
      break;
  }
  return name +
         (std::get<Stop>(pair) == Stop::kResolve ? "InResolve" : "InMarkYoung");
}
INSTANTIATE_TEST_SUITE_P(
    Changes, StaleEachTime,
    ::testing::Combine(::testing::Values(Change::kBump, Change::kZapAll,
                                         Change::kNotifier,
                                         Change::kNotifierElsewhere,
                                         Change::kEntryByTheHost,
                                         Change::kEntryByTheGuest),
                       ::testing::Values(Stop::kResolve, Stop::kMarkYoung)),
    [](const auto& pair) { return NameOf(pair.param); });

// An attempt that shares the lock finds out by itself that it is stale, and the
// next one that its root is good: the lock is taken exclusively by the
// notifiers alone, and to tell how often it was.
TEST_F(FaultRetries, AStaleAttemptIsNotMadeAgainAlone) {
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(DataPage()).ok());
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(DataPage()).ok());
  });
  const uint64_t before = Holds();
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  EXPECT_EQ(Holds() - before, kAttempts + 1);
}

TEST_F(FaultRetries, AnEntryThatWasChangedIsNotReadAgainAlone) {
  uint64_t stops = 0;
  vm_.host().SetResolveHook(
      [&](Hva, AccessType) { Map(kGva, kData + ++stops % 2); });
  const uint64_t before = Holds();
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  EXPECT_EQ(Holds() - before, 1u);
  EXPECT_EQ(stops, kAttempts);
}

// A table that the host keeps taking away is asked for once, and then it is the
// guest's turn.
TEST_F(FaultRetries, ATableThatGoesAgainAndAgainIsAskedForOnce) {
  const Gpa entry = *tables_->EntryAddress(kGva, Level::k4K);
  const Hva table = slot_.hva + (entry.value() & ~kPageOffsetMask);
  const Frame frame = *vm_.host().FrameAt(table);
  vm_.host().Unmap(table);
  int asked = 0;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    ++asked;
    ASSERT_TRUE(vm_.mmu().InvalidateBegin({table, kPageSize}).ok());
    ASSERT_TRUE(vm_.mmu().InvalidateEnd({table, kPageSize}).ok());
  });
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  EXPECT_EQ(asked, 1);
  vm_.host().SetResolveHook(nullptr);
  vm_.host().Map(table, frame);
  EXPECT_TRUE(Fault().resume());
}

}  // namespace
}  // namespace shadowmmu::testing
