// Dirty logging: every store is reported, by whomever it was made; and a page
// that was reported is write-protected again.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr SlotId kMain{0};
constexpr SlotId kData{1};
constexpr GfnRange kDataGfns{Gfn(0x1000), 320};
constexpr Gva kGva{0x40'0000'0000};

using Pages = std::vector<uint64_t>;

// Tables in one slot; another, whose pages the guest has from kGva on.
class DirtyLog : public ::testing::Test {
 protected:
  DirtyLog() {
    vm_.AddSlot({.id = kMain, .base = Gfn(0), .pages = 512});
    data_ = vm_.AddSlot(
        {.id = kData, .base = kDataGfns.begin, .pages = kDataGfns.pages});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64});
    for (uint64_t i = 0; i < kDataGfns.pages; ++i) {
      EXPECT_TRUE(tables_
                      ->Map(At(i), ToGpa(kDataGfns.begin + i), Level::k4K,
                            kAll | gpte::kDirty | gpte::kAccessed)
                      .ok());
    }
  }
  ~DirtyLog() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  void SetFlags(SlotFlags flags, SlotId id = kData) {
    ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, id, flags).ok());
  }
  void StartLogging(SlotId id = kData) { SetFlags(SlotFlags::kLogDirty, id); }
  void Store(uint64_t page, GuestVcpu* cpu = nullptr) {
    const TouchResult touched =
        (cpu == nullptr ? cpu_ : cpu)->Touch(At(page), Write());
    EXPECT_TRUE(touched.hit()) << touched;
  }
  // Faults that an access takes.
  uint32_t Faults(uint64_t page, const Access& access) {
    const TouchResult touched = cpu_->Touch(At(page), access);
    EXPECT_TRUE(touched.hit()) << touched;
    return touched.faults;
  }
  FaultOutcome Emulate(Gpa gpa, size_t bytes) {
    return vm_.mmu().GuestWrite(kNormal, gpa, std::vector<std::byte>(bytes));
  }
  Pages Get(SlotId id = kData, AddressSpace space = kNormal) {
    const uint64_t pages = vm_.mmu().FindSlot(space, id)->pages;
    std::vector<uint64_t> words(DirtyBitmapWords(pages), ~uint64_t{0});
    const absl::Status got = vm_.mmu().GetAndClearDirty(space, id, words);
    EXPECT_TRUE(got.ok()) << got;
    Pages set;
    for (uint64_t i = 0; i < words.size() * 64; ++i) {
      if ((words[i / 64] >> i % 64 & 1) != 0) set.push_back(i);
    }
    return set;
  }

  SmallVm vm_;
  SlotSpec data_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

// ---- Stores of the guest's CPUs ----

TEST_F(DirtyLog, AStoreIsReportedOnceAndNoOtherPageIs) {
  StartLogging();
  EXPECT_THAT(Get(), IsEmpty());
  Store(7);
  EXPECT_THAT(Get(), ElementsAre(7));
  EXPECT_THAT(Get(), IsEmpty());
}

TEST_F(DirtyLog, APageThatWasReportedIsReportedAgainAfterTheNextStore) {
  StartLogging();
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Faults(7, Write()), 1u) << "write-protected";
    EXPECT_EQ(Faults(7, Write()), 0u) << "marked already";
    EXPECT_THAT(Get(), ElementsAre(7)) << round;
  }
}

TEST_F(DirtyLog, WhatWasWritableBeforeLoggingBeganIsReported) {
  Store(7);
  StartLogging();
  EXPECT_THAT(Get(), IsEmpty());
  Store(7);
  EXPECT_THAT(Get(), ElementsAre(7));
}

TEST_F(DirtyLog, NoCpuInTheGuestStoresUnseenThroughWhatItHasCached) {
  Store(7);
  // It sits in the guest: the flush must reach it there.
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  StartLogging();
  EXPECT_FALSE(cpu_->cpu().Access(At(7), Write()).hit());
  cpu_->mmu().ExitGuest();
  Store(7);
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  EXPECT_TRUE(cpu_->cpu().Access(At(7), Write()).hit());
  const uint64_t flushes = vm_.host().flushes();
  EXPECT_THAT(Get(), ElementsAre(7));
  EXPECT_EQ(vm_.host().flushes(), flushes + 1);
  EXPECT_FALSE(cpu_->cpu().Access(At(7), Write()).hit());
  cpu_->mmu().ExitGuest();
}

TEST_F(DirtyLog, AGetThatFindsNothingFlushesNothing) {
  StartLogging();
  EXPECT_EQ(Faults(7, Read()), 1u);
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  const uint64_t flushes = vm_.host().flushes();
  EXPECT_THAT(Get(), IsEmpty());
  EXPECT_EQ(vm_.host().flushes(), flushes);
  cpu_->mmu().ExitGuest();
}

// The guest's D bit is set, so that without logging a read maps writable.
TEST_F(DirtyLog, AReadReportsNothingAndTheStoreAfterItDoes) {
  EXPECT_EQ(Faults(8, Read()), 1u);
  EXPECT_EQ(Faults(8, Write()), 0u);
  StartLogging();
  EXPECT_EQ(Faults(7, Read()), 1u);
  EXPECT_THAT(Get(), IsEmpty());
  EXPECT_EQ(Faults(7, Write()), 1u);
  EXPECT_THAT(Get(), ElementsAre(7));
}

TEST_F(DirtyLog, AReadTakesNoRightToWriteAway) {
  StartLogging();
  Store(7);
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetRegisters(cpu_->mmu().registers()).ok());
  // A fault for what is mapped, as a CPU takes whose TLB is behind.
  ASSERT_TRUE(other.mmu().HandleFault(At(7), Read()).resume());
  EXPECT_EQ(Faults(7, Write()), 0u);
  EXPECT_THAT(Get(), ElementsAre(7));
}

TEST_F(DirtyLog, EveryAliasOfAPageIsWriteProtected) {
  const Gva alias = kGva + (uint64_t{1} << 30);
  ASSERT_TRUE(
      tables_->Map(alias, ToGpa(kDataGfns.begin + 7), Level::k4K, kAll).ok());
  StartLogging();
  for (int round = 0; round < 2; ++round) {
    Store(7);
    EXPECT_TRUE(cpu_->Touch(alias, Write()).hit());
    EXPECT_THAT(Get(), ElementsAre(7));
    EXPECT_TRUE(cpu_->Touch(alias, Write()).hit());
    EXPECT_THAT(Get(), ElementsAre(7));
  }
}

// Across words, in runs of all lengths.
TEST_F(DirtyLog, AnyPatternOfPagesIsReportedAndProtected) {
  StartLogging();
  uint64_t state = 1;
  for (int round = 0; round < 6; ++round) {
    Pages stored;
    for (uint64_t i = 0; i < kDataGfns.pages; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const bool run = i / 40 % 2 == static_cast<uint64_t>(round % 2);
      if (!run && state >> 62 != 0) continue;
      EXPECT_EQ(Faults(i, Write()), 1u) << "round " << round << ", page " << i;
      stored.push_back(i);
    }
    EXPECT_EQ(Get(), stored) << round;
    EXPECT_EQ(vm_.Violations(stored.size()), "");
  }
}

// With CR0.WP clear the supervisor writes what the guest has read-only.
TEST_F(DirtyLog, AStoreThroughAFixUpIsReported) {
  ASSERT_TRUE(
      tables_->SetBits(At(7), Level::k4K, gpte::kPresent | gpte::kUser).ok());
  PagingRegisters registers = cpu_->mmu().registers();
  registers.cr0 &= ~cr0::kWp;
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  StartLogging();
  Store(7);
  EXPECT_THAT(Get(), ElementsAre(7));
  Store(7);
  EXPECT_THAT(Get(), ElementsAre(7));
}

// ---- Stores that are emulated ----

TEST_F(DirtyLog, AnEmulatedStoreIsReportedForEachPageThatItTouches) {
  StartLogging();
  const Gpa at = ToGpa(kDataGfns.begin + 63);
  ASSERT_TRUE(Emulate(at + 0xff0, 16).resume());
  EXPECT_THAT(Get(), ElementsAre(63));
  ASSERT_TRUE(Emulate(at + 0xff0, 17).resume());
  EXPECT_THAT(Get(), ElementsAre(63, 64));
}

TEST_F(DirtyLog, AnEmulatedStoreThatTheHostRefusesIsNotReported) {
  StartLogging();
  vm_.host().Protect(data_.hva + kPageSize, Protection::kReadOnly);
  EXPECT_FALSE(Emulate(ToGpa(kDataGfns.begin + 1), 8).resume());
  EXPECT_THAT(Get(), IsEmpty());
}

TEST_F(DirtyLog, ACompareExchangeIsReportedIfItExchanges) {
  StartLogging();
  const Gpa at = ToGpa(kDataGfns.begin + 9);
  const auto exchange = [&](uint64_t expected) {
    return vm_.mmu()
        .GuestCompareExchange(kNormal, at, 8, expected, 5)
        .value()
        .exchanged;
  };
  EXPECT_FALSE(exchange(1));
  EXPECT_THAT(Get(), IsEmpty());
  EXPECT_TRUE(exchange(0));
  EXPECT_THAT(Get(), ElementsAre(9));
}

// A read may then map the page writable: its store is reported already.
TEST_F(DirtyLog, AReadAfterAnEmulatedStoreMapsWritableUntilTheNextGet) {
  StartLogging();
  ASSERT_TRUE(Emulate(ToGpa(kDataGfns.begin + 9), 8).resume());
  EXPECT_EQ(Faults(9, Read()), 1u);
  EXPECT_EQ(Faults(9, Write()), 0u);
  EXPECT_THAT(Get(), ElementsAre(9));
  EXPECT_EQ(Faults(9, Write()), 1u);
  EXPECT_THAT(Get(), ElementsAre(9));
}

// ---- Bits that walks set ----

TEST_F(DirtyLog, ATableWhoseBitsAWalkSetsIsReported) {
  ASSERT_TRUE(tables_
                  ->Map(At(0), ToGpa(kDataGfns.begin), Level::k4K,
                        kAll | gpte::kAccessed)
                  .ok());
  Store(1);  // the tables above are accessed now
  StartLogging(kMain);
  EXPECT_EQ(Faults(0, Read()), 1u);
  EXPECT_THAT(Get(kMain), IsEmpty()) << "A is set";
  Store(0);
  const Gpa entry = tables_->EntryAddress(At(0), Level::k4K).value();
  EXPECT_THAT(Get(kMain), ElementsAre(ToGfn(entry).value())) << "D was set";
  Store(0);
  EXPECT_THAT(Get(kMain), IsEmpty());
}

TEST_F(DirtyLog, AGuestTableThatIsWrittenIsReportedAndStaysTracked) {
  Store(0);
  StartLogging(kMain);
  const Gpa entry = tables_->EntryAddress(At(0), Level::k4K).value();
  ASSERT_TRUE(Emulate(entry, 8).resume());
  EXPECT_THAT(Get(kMain), ElementsAre(ToGfn(entry).value()));
  EXPECT_TRUE(
      cpu_->Touch(At(0), Read()).EndedAs(FaultOutcome::Kind::kGuestFault));
}

// ---- Slots ----

TEST_F(DirtyLog, ASlotThatIsMadeWithTheFlagLogs) {
  SlotSpec spec = data_;
  spec.id = SlotId{5};
  spec.base = Gfn(0x4000);
  spec.flags = SlotFlags::kLogDirty;
  vm_.AddSlot(spec);
  EXPECT_THAT(Get(spec.id), IsEmpty());
  ASSERT_TRUE(tables_->Map(At(0), ToGpa(spec.base + 3), Level::k4K, kAll).ok());
  Store(0);
  EXPECT_THAT(Get(spec.id), ElementsAre(3));
}

TEST_F(DirtyLog, TheSameMemoryInAnotherSlotIsThatSlotsBusiness) {
  SlotSpec spec = data_;
  spec.space = AddressSpace::kSmm;
  vm_.AddSlot(spec);
  StartLogging();
  GuestVcpu& smm = vm_.AddVcpu();
  ASSERT_TRUE(smm.mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  const Gva gva(ToGpa(kDataGfns.begin + 7).value());
  EXPECT_TRUE(smm.Touch(gva, Write()).hit());
  EXPECT_THAT(Get(), IsEmpty());
  ASSERT_TRUE(vm_.mmu()
                  .SetSlotFlags(AddressSpace::kSmm, kData, SlotFlags::kLogDirty)
                  .ok());
  EXPECT_TRUE(smm.Touch(gva, Write()).hit());
  EXPECT_THAT(Get(kData, AddressSpace::kSmm), ElementsAre(7));
  EXPECT_THAT(Get(), IsEmpty());
}

TEST_F(DirtyLog, ASlotThatMovesTakesItsLogAlong) {
  StartLogging();
  Store(7);
  const Gfn elsewhere(0x4000);
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, kData, elsewhere).ok());
  vm_.memory().MutableSlot(kNormal, kData)->base = elsewhere;
  ASSERT_TRUE(tables_->Map(At(0), ToGpa(elsewhere + 8), Level::k4K, kAll).ok());
  Store(0);
  EXPECT_THAT(Get(), ElementsAre(7, 8));
}

TEST_F(DirtyLog, FlagsThatStillSayLogKeepTheLog) {
  StartLogging();
  Store(7);
  SetFlags(SlotFlags::kLogDirty | SlotFlags::kReadOnly);
  EXPECT_FALSE(cpu_->Touch(At(8), Write()).hit());
  SetFlags(SlotFlags::kLogDirty);
  Store(9);
  EXPECT_THAT(Get(), ElementsAre(7, 9));
}

TEST_F(DirtyLog, ALogThatEndsAndBeginsAgainIsEmpty) {
  const uint64_t before = vm_.host().bytes_outstanding();
  StartLogging();
  EXPECT_GT(vm_.host().bytes_outstanding(), before);
  Store(7);
  SetFlags(SlotFlags::kNone);
  Store(8);
  StartLogging();
  EXPECT_THAT(Get(), IsEmpty());
  Store(8);
  EXPECT_THAT(Get(), ElementsAre(8));
}

TEST_F(DirtyLog, AnEndGivesTheMemoryBackAndCostsNoMorePages) {
  Store(7);
  const Stats stats = vm_.mmu().GetStats();
  const uint64_t before = vm_.host().bytes_outstanding();
  StartLogging();
  EXPECT_EQ(vm_.mmu().GetStats().metadata_bytes,
            stats.metadata_bytes + DirtyBitmapWords(kDataGfns.pages) * 8);
  SetFlags(SlotFlags::kNone);
  EXPECT_EQ(vm_.host().bytes_outstanding(), before);
  EXPECT_EQ(vm_.mmu().GetStats().metadata_bytes, stats.metadata_bytes);
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, stats.leaf_sptes);
}

TEST_F(DirtyLog, WithoutMemoryForABitmapNothingChanges) {
  Store(7);
  vm_.host().FailAllocation(1);
  EXPECT_EQ(vm_.mmu().SetSlotFlags(kNormal, kData, SlotFlags::kLogDirty).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kData)->flags, SlotFlags::kNone);
  EXPECT_EQ(Faults(7, Write()), 0u);
}

// ---- A caller's mistakes ----

TEST_F(DirtyLog, AGetThatCannotBeSaysWhyAndTakesNothing) {
  std::vector<uint64_t> words(DirtyBitmapWords(kDataGfns.pages), 42);
  const auto get = [&](SlotId id, size_t count, AddressSpace space = kNormal) {
    return vm_.mmu().GetAndClearDirty(space, id, std::span(words).first(count));
  };
  const auto refused = [&](const absl::Status& got, absl::StatusCode code,
                           const std::string& text) {
    EXPECT_EQ(got.code(), code) << got;
    EXPECT_THAT(std::string(got.message()), HasSubstr(text));
    EXPECT_EQ(words.front(), 42u);
  };
  refused(get(kData, words.size()), absl::StatusCode::kFailedPrecondition,
          "id: slot 1 of as 0 does not log");
  StartLogging();
  Store(7);
  refused(get(SlotId{99}, words.size()), absl::StatusCode::kNotFound,
          "id: as 0 has no slot 99");
  refused(get(kData, words.size(), AddressSpace{2}),
          absl::StatusCode::kNotFound, "id: as 2 has no slot 1");
  refused(get(kData, words.size() - 1), absl::StatusCode::kInvalidArgument,
          "bitmap: 4 words, for 320 pages that take 5");
  EXPECT_THAT(Get(), ElementsAre(7)) << "it is still there";
}

TEST_F(DirtyLog, WordsBeyondTheSlotsAreLeftAlone) {
  StartLogging();
  std::vector<uint64_t> words(DirtyBitmapWords(kDataGfns.pages) + 1, 42);
  ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, kData, words).ok());
  EXPECT_EQ(words.front(), 0u);
  EXPECT_EQ(words.back(), 42u);
}

}  // namespace
}  // namespace shadowmmu::testing
