// The small parts of the replay: samples, chains, the front TLB, the fault log,
// alarms, the progress bar.

#include <gtest/gtest.h>

#include <optional>

#include "bench/replay/alarm.h"
#include "bench/replay/chain_census.h"
#include "bench/replay/fault_log.h"
#include "bench/replay/front_tlb.h"
#include "bench/replay/progress.h"
#include "bench/replay/samples.h"

namespace shadowmmu::replay {
namespace {

constexpr Gva kGva{0x4a3'0000};

TEST(SamplesTest, OfNoSamplesNothingIsSaid) {
  const Samples samples;
  EXPECT_EQ(samples.min(), std::nullopt);
  EXPECT_EQ(samples.median(), std::nullopt);
  EXPECT_EQ(samples.max(), std::nullopt);
}

TEST(SamplesTest, TheMedianIsInTheMiddleWhateverTheOrder) {
  Samples samples;
  for (const uint64_t value : {9, 1, 5}) samples.Add(value);
  EXPECT_EQ(samples.median(), 5u);
  samples.Add(7);
  EXPECT_EQ(samples.median(), 6u);
  EXPECT_EQ(samples.min(), 1u);
  EXPECT_EQ(samples.max(), 9u);
  EXPECT_EQ(samples.sum(), 22u);
}

TEST(ChainCensusTest, LengthsFallIntoRangesThatDouble) {
  ChainCensus census;
  for (const uint64_t length : {0, 1, 1, 2, 3, 4, 5, 8, 9}) census.Add(length);
  EXPECT_EQ(census.frames(), 8u);
  EXPECT_EQ(census.sptes(), 33u);
  EXPECT_EQ(census.longest(), 9u);
  const std::vector<std::pair<std::string, uint64_t>> expected = {
      {"1", 2}, {"2", 1}, {"3-4", 2}, {"5-8", 2}, {"9-16", 1}};
  EXPECT_EQ(census.Histogram(), expected);
}

TEST(FrontTlbTest, AllowsOnlyWhatWasNoted) {
  FrontTlb tlb;
  EXPECT_FALSE(tlb.Allows(kGva, AccessType::kRead));
  tlb.Note(kGva, AccessType::kRead);
  EXPECT_TRUE(tlb.Allows(kGva + 0xfff, AccessType::kRead));
  EXPECT_FALSE(tlb.Allows(kGva, AccessType::kWrite));
  EXPECT_FALSE(tlb.Allows(kGva, AccessType::kFetch));
  EXPECT_FALSE(tlb.Allows(kGva + kPageSize, AccessType::kRead));
}

TEST(FrontTlbTest, PageZeroIsAPageLikeAnyOther) {
  FrontTlb tlb;
  EXPECT_FALSE(tlb.Allows(Gva(0), AccessType::kRead));
  tlb.Note(Gva(0), AccessType::kRead);
  EXPECT_TRUE(tlb.Allows(Gva(0), AccessType::kRead));
}

TEST(FrontTlbTest, RightsOfOnePageAreNotThoseOfAnotherInItsPlace) {
  FrontTlb tlb;
  tlb.Note(kGva, AccessType::kWrite);
  // Pages that share an entry with it are among these.
  for (uint64_t page = 1; page < 5000; ++page) {
    tlb.Note(kGva + page * kPageSize, AccessType::kRead);
    EXPECT_FALSE(tlb.Allows(kGva + page * kPageSize, AccessType::kWrite));
  }
  EXPECT_FALSE(tlb.Allows(kGva, AccessType::kWrite));
}

TEST(FrontTlbTest, AFlushDropsItsRange) {
  FrontTlb tlb;
  for (int page = 0; page < 4; ++page) {
    tlb.Note(kGva + page * kPageSize, AccessType::kRead);
  }
  tlb.Flush(FlushRange{.begin = kGva + kPageSize, .pages = 2});
  EXPECT_TRUE(tlb.Allows(kGva, AccessType::kRead));
  EXPECT_FALSE(tlb.Allows(kGva + kPageSize, AccessType::kRead));
  EXPECT_FALSE(tlb.Allows(kGva + 2 * kPageSize, AccessType::kRead));
  EXPECT_TRUE(tlb.Allows(kGva + 3 * kPageSize, AccessType::kRead));
  tlb.Flush(FlushRange::All());
  EXPECT_FALSE(tlb.Allows(kGva, AccessType::kRead));
}

class FaultLogTest : public ::testing::Test {
 protected:
  void Fill(uint32_t process, Gva gva, Privilege privilege = Privilege::kUser) {
    log_.SetProcess(ProcessId{process});
    log_.Note(gva, Read(privilege), FaultOutcome::Resume(), Nanoseconds(10));
  }
  FaultLog log_;
};

TEST_F(FaultLogTest, AFillIsARefaultOnlyOnceAfterAnInvalidation) {
  Fill(0, kGva);
  Fill(0, kGva);
  EXPECT_EQ(log_.totals().first_fills.count, 1u);
  EXPECT_EQ(log_.totals().repeats.count, 1u);
  const size_t window = log_.OpenWindow(100);
  Fill(0, kGva);
  Fill(0, kGva);
  Fill(0, kGva + kPageSize);
  log_.CloseWindow(150);
  EXPECT_EQ(log_.totals().refaults.count, 1u);
  EXPECT_EQ(log_.totals().repeats.count, 2u);
  EXPECT_EQ(log_.totals().first_fills.count, 2u);
  EXPECT_EQ(log_.window(window).refaults.count, 1u);
  EXPECT_EQ(log_.window(window).refaults.time, Nanoseconds(10));
  EXPECT_EQ(log_.window(window).begin, 100u);
  EXPECT_EQ(log_.window(window).end, 150u);
}

TEST_F(FaultLogTest, ProcessesHaveTheirOwnPagesAndShareTheKernels) {
  Fill(0, kGva);
  Fill(1, kGva);
  EXPECT_EQ(log_.totals().first_fills.count, 2u);
  Fill(0, kGva, Privilege::kSupervisor);
  Fill(1, kGva, Privilege::kSupervisor);
  EXPECT_EQ(log_.totals().first_fills.count, 3u);
  EXPECT_EQ(log_.totals().repeats.count, 1u);
}

TEST_F(FaultLogTest, OutcomesAreCountedApart) {
  log_.Note(kGva, Read(), FaultOutcome::Inject({}), Nanoseconds(1));
  log_.Note(kGva, Write(),
            FaultOutcome::Emulate(Gpa(0), EmulateReason::kWriteTracked),
            Nanoseconds(1));
  EXPECT_EQ(log_.totals().all.count, 2u);
  EXPECT_EQ(log_.totals().guest_faults.count, 1u);
  EXPECT_EQ(log_.totals().emulations.count, 1u);
  EXPECT_EQ(log_.totals().fills(), 0u);
}

TEST(AlarmTest, RingsAfterEveryNAndNeverIfTold) {
  Alarm alarm(10, 10);
  EXPECT_FALSE(alarm.Rings(9));
  EXPECT_TRUE(alarm.Rings(10));
  EXPECT_FALSE(alarm.Rings(10));
  EXPECT_EQ(alarm.next(), 20u);
  Alarm never(0, 0);
  EXPECT_FALSE(never.Rings(~uint64_t{0} - 1));
}

TEST(ProgressTest, ABarShowsWhatPartIsDone) {
  EXPECT_EQ(Progress::Line(0.25, 7'900'000),
            "[##########..............................] 25 %, "
            "7 million accesses");
  EXPECT_EQ(Progress::Line(1.5, 0).substr(0, 42),
            "[########################################]");
}

TEST(ProgressTest, WithoutAKnownLengthThereIsACountAlone) {
  EXPECT_EQ(Progress::Line(std::nullopt, 3'000'000), "3 million accesses");
}

}  // namespace
}  // namespace shadowmmu::replay
