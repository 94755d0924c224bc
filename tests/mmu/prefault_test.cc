// Prefault: a range is mapped at once, as if each of its pages were accessed;
// and nothing else is.

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;

class Prefaulted : public ::testing::Test {
 protected:
  static constexpr Gva kGva{0x40'0000'0000};
  static constexpr Gfn kData{1024};

  explicit Prefaulted(SmallVm::Options options = {}) : vm_(options) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
  }
  ~Prefaulted() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  Stats Now() { return vm_.mmu().GetStats(); }
  // A guest with four levels whose `pages` pages from kGva on are kData and on.
  void UseTables(uint64_t pages, uint64_t bits = kAll) {
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64});
    for (uint64_t i = 0; i < pages; ++i) Map(i, bits);
  }
  void Map(uint64_t page, uint64_t bits = kAll) {
    ASSERT_TRUE(
        tables_->Map(At(page), ToGpa(kData + page), Level::k4K, bits).ok());
  }
  PrefaultResult Prefault(Gva gva, uint64_t pages,
                          const Access& access = Read()) {
    const PrefaultResult result = cpu_->mmu().Prefault(gva, pages, access);
    EXPECT_EQ(vm_.Violations(), "");
    return result;
  }
  void Expect(const PrefaultResult& result, uint64_t mapped, uint64_t skipped) {
    EXPECT_EQ(result.mapped, mapped);
    EXPECT_EQ(result.skipped, skipped);
    EXPECT_TRUE(result.outcome.resume()) << result.outcome;
  }
  // The guest accesses these pages, with no fault.
  void ExpectNoFaults(Gva gva, uint64_t pages, const Access& access) {
    const uint64_t faults = cpu_->counts().faults;
    for (uint64_t i = 0; i < pages; ++i) {
      EXPECT_TRUE(cpu_->Touch(gva + i * kPageSize, access).hit()) << i;
    }
    EXPECT_EQ(cpu_->counts().faults, faults);
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

TEST_F(Prefaulted, WithPagingOffARangeIsThereAtOnceAndWritable) {
  cpu_ = &vm_.AddVcpu();
  Expect(Prefault(Gva(100 * kPageSize), 1000), 1000, 0);
  const Stats stats = Now();
  EXPECT_EQ(stats.faults, 0u) << "none of the guest's";
  EXPECT_LE(stats.leaf_sptes, 1000u + 2 * 63) << "windows are aligned";
  EXPECT_GT(stats.sptes_prefetched, 900u);
  ExpectNoFaults(Gva(100 * kPageSize), 1000, Write());
}

TEST_F(Prefaulted, WithTablesWhatTheGuestHasUsedIsThereAtOnce) {
  UseTables(700, kAll | gpte::kAccessed | gpte::kDirty);
  Expect(Prefault(kGva, 700), 700, 0);
  EXPECT_GT(Now().sptes_prefetched, 600u);
  ExpectNoFaults(kGva, 700, Write());
}

TEST_F(Prefaulted, WhatTheGuestHasNotUsedIsMappedAsAReadWould) {
  UseTables(100);
  Expect(Prefault(kGva, 100), 100, 0);
  EXPECT_EQ(Now().sptes_prefetched, 0u) << "a window sets no A";
  for (const uint64_t page : {0u, 50u, 99u}) {
    const uint64_t entry = tables_->Entry(At(page), Level::k4K).value();
    EXPECT_NE(entry & gpte::kAccessed, 0u) << page;
    EXPECT_EQ(entry & gpte::kDirty, 0u) << page;
  }
  ExpectNoFaults(kGva, 100, Read());
}

TEST_F(Prefaulted, ForWritesEachPageIsWritableAndDirty) {
  UseTables(100, kAll | gpte::kAccessed);
  Expect(Prefault(kGva, 100, Write()), 100, 0);
  EXPECT_NE(tables_->Entry(At(70), Level::k4K).value() & gpte::kDirty, 0u);
  ExpectNoFaults(kGva, 100, Write());
}

TEST_F(Prefaulted, HolesAreLeftOut) {
  UseTables(0);
  for (uint64_t i = 0; i < 100; ++i) {
    if (i % 10 != 3) Map(i, kAll | gpte::kAccessed);
  }
  const uint64_t faults = Now().guest_faults;
  Expect(Prefault(kGva, 100), 90, 10);
  EXPECT_EQ(Now().guest_faults, faults) << "no fault of the guest's";
  Expect(Prefault(kGva, 100), 90, 10);
  Expect(Prefault(Gva(0x7f00'0000'0000), 20), 0, 20);
}

TEST_F(Prefaulted, SoIsWhatNoSlotHoldsAndWhatTheHostRefuses) {
  cpu_ = &vm_.AddVcpu();
  const Hva hva = vm_.memory().slots()[0].hva;
  vm_.host().Unmap(hva + 4090 * kPageSize);
  Expect(Prefault(Gva(4080 * kPageSize), 32), 15, 17);
}

TEST_F(Prefaulted, WhatIsReadOnlyIsMappedForReadsAlone) {
  vm_.AddSlot({.id = SlotId{1},
               .base = Gfn(8192),
               .pages = 64,
               .flags = SlotFlags::kReadOnly});
  cpu_ = &vm_.AddVcpu();
  Expect(Prefault(Gva(8192 * kPageSize), 64, Write()), 0, 64);
  Expect(Prefault(Gva(8192 * kPageSize), 64, Read()), 64, 0);
  Expect(Prefault(Gva(8192 * kPageSize), 64, Write()), 0, 64);
}

TEST_F(Prefaulted, AShadowedTableIsNotMappedWritable) {
  UseTables(8, kAll | gpte::kAccessed | gpte::kDirty);
  ASSERT_TRUE(cpu_->Touch(kGva, Read()).hit());
  const Gpa entry = tables_->EntryAddress(kGva, Level::k4K).value();
  GuestVcpu& off = vm_.AddVcpu();
  const uint64_t first = ToGfn(entry).value() & ~uint64_t{63};
  const PrefaultResult result =
      off.mmu().Prefault(Gva(first * kPageSize), 64, Read());
  EXPECT_EQ(result.mapped, 64u);
  EXPECT_EQ(vm_.Violations(64), "");
}

TEST_F(Prefaulted, WhatLogsIsNotReportedForReads) {
  cpu_ = &vm_.AddVcpu();
  ASSERT_TRUE(
      vm_.mmu().SetSlotFlags(kNormal, SlotId{0}, SlotFlags::kLogDirty).ok());
  Expect(Prefault(Gva(0), 512, Read()), 512, 0);
  std::vector<uint64_t> dirty(DirtyBitmapWords(4096));
  ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, SlotId{0}, dirty).ok());
  for (const uint64_t word : dirty) EXPECT_EQ(word, 0u);
  Expect(Prefault(Gva(0), 70, Write()), 70, 0);
  ASSERT_TRUE(vm_.mmu().GetAndClearDirty(kNormal, SlotId{0}, dirty).ok());
  EXPECT_EQ(dirty[0], ~uint64_t{0});
  EXPECT_EQ(dirty[1], 0x3fu) << "windows make nothing writable here";
}

TEST_F(Prefaulted, AfterAReleaseTheGuestIsWarmAgain) {
  UseTables(600, kAll | gpte::kAccessed | gpte::kDirty);
  for (uint64_t i = 0; i < 600; ++i) {
    ASSERT_TRUE(cpu_->Touch(At(i), Write()).hit());
  }
  vm_.mmu().InvalidateAll(Strategy::kRelease);
  Expect(Prefault(kGva, 600), 600, 0);
  ExpectNoFaults(kGva, 600, Write());
}

TEST_F(Prefaulted, NothingIsNothing) {
  cpu_ = &vm_.AddVcpu();
  Expect(Prefault(kGva, 0), 0, 0);
  EXPECT_EQ(Now().shadow_pages, 0u);
}

TEST_F(Prefaulted, AcrossTheEndOfTheAddressesPagesAreLeftOut) {
  UseTables(0);
  const PrefaultResult result = Prefault(Gva(~uint64_t{0} << 13), 4);
  EXPECT_EQ(result.mapped, 0u);
  EXPECT_EQ(result.skipped, 4u);
}

// A guest page of 2 MiB in small ones of the host: the neighbours in its direct
// page have the rights that the guest gives, and no more.
TEST_F(Prefaulted, OfALargeGuestPageTheRightsAreTheGuests) {
  UseTables(0);
  constexpr Gfn kLarge{1024};
  ASSERT_TRUE(tables_->Map(kGva, ToGpa(kLarge), Level::k2M, gpte::kUser).ok());
  Expect(Prefault(kGva, 512), 512, 0);
  EXPECT_GT(Now().sptes_prefetched, 400u);
  ExpectNoFaults(kGva, 512, Read());
  for (const uint64_t page : {1u, 300u, 511u}) {
    EXPECT_TRUE(cpu_->Touch(At(page), Write(Privilege::kUser))
                    .EndedAs(FaultOutcome::Kind::kGuestFault))
        << page;
  }
}

// What is mapped lets some accesses through, and not others.
TEST_F(Prefaulted, WhatIsMappedForOthersCountsOnlyForThem) {
  UseTables(0);
  for (uint64_t i = 0; i < 32; ++i) {
    Map(i, i % 2 == 0 ? kAll : kAll | gpte::kNoExecute);
    Map(32 + i, gpte::kWritable);  // no user page
  }
  Expect(Prefault(kGva, 64, Read()), 64, 0);
  Expect(Prefault(kGva, 32, Fetch()), 16, 16);
  Expect(Prefault(kGva, 64, Read(Privilege::kUser)), 32, 32);
  Expect(Prefault(kGva, 64, Read()), 64, 0);
}

class PrefaultedLarge : public Prefaulted {
 protected:
  PrefaultedLarge() : Prefaulted({.largest = Level::k2M}) {}
};

TEST_F(PrefaultedLarge, OneEntryIsEnough) {
  cpu_ = &vm_.AddVcpu();
  Expect(Prefault(Gva(700 * kPageSize), 1000), 1000, 0);
  EXPECT_EQ(Now().leaf_sptes, 3u);
  ExpectNoFaults(Gva(700 * kPageSize), 1000, Write());
}

class PrefaultedShort : public Prefaulted {
 protected:
  PrefaultedShort() : Prefaulted({.table_capacity = 16, .max_vcpus = 1}) {}
};

TEST_F(PrefaultedShort, NothingInUseGoesForIt) {
  UseTables(0);
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(tables_
                    ->Map(kGva + (i << 21), ToGpa(kData + i), Level::k4K,
                          kAll | gpte::kAccessed)
                    .ok());
  }
  uint64_t mapped = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    const PrefaultResult result = Prefault(kGva + (i << 21), 1);
    mapped += result.mapped;
    if (result.outcome.resume()) continue;
    EXPECT_EQ(result.outcome.kind, FaultOutcome::Kind::kNoMemory);
    EXPECT_EQ(result.mapped, 0u);
    EXPECT_EQ(result.skipped, 0u);
  }
  EXPECT_GT(mapped, 5u);
  EXPECT_LT(mapped, 16u);
  EXPECT_EQ(Now().pages_evicted, 0u);
}

}  // namespace
}  // namespace shadowmmu::testing
