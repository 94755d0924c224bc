// Guest tables that are written as data: which stores say so, and that what
// follows needs no exit.

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"
#include "tests/mmu/every_mode.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x5000};
// In the other half of what a table of 4-byte entries maps.
constexpr Gva kOtherHalf{0x20'5000};
constexpr Gpa kData{0x40'0000};
// A store that is no present entry.
constexpr uint64_t kText = 0x7478'6574'7478'6574;

// A vCPU that runs on tables, and one with paging off, through which the guest
// stores into them. Without unsync, so that page tables need exits, too.
class WriteFlooding : public ::testing::Test {
 protected:
  explicit WriteFlooding(SmallVm::Options options = {.unsync = false})
      : vm_(options) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    writer_ = &vm_.AddVcpu();
  }
  ~WriteFlooding() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) {
    mode_ = mode;
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64}, mode);
    Map(kGva);
    Map(kOtherHalf);
    Run(kGva);
    Run(kOtherHalf);
  }
  void Map(Gva gva) {
    ASSERT_TRUE(tables_->Map(gva, kData, Level::k4K, kAll).ok());
  }
  // The guest uses what is mapped; returns the faults that it took.
  uint32_t Run(Gva gva) {
    const TouchResult touched = cpu_->Touch(gva, Write());
    EXPECT_TRUE(touched.hit()) << touched;
    return touched.faults;
  }
  // Where the table of `level` is that maps kGva.
  Gpa Table(Level level) {
    return ToGpa(ToGfn(tables_->EntryAddress(kGva, level).value()));
  }
  unsigned entry_bytes() const { return mode_ == GuestMode::kTwoLevel ? 4 : 8; }

  // The guest's store of `bytes` bytes. Did it need an exit?
  bool Exits(Gpa gpa, uint64_t value, size_t bytes) {
    const AddressSpace space = writer_->mmu().address_space();
    const auto store = std::as_bytes(std::span(&value, 1)).first(bytes);
    const TouchResult touched = writer_->Touch(
        Gva(gpa.value()), Write(),
        [&](Hpa hpa) { EXPECT_TRUE(vm_.host().WritePhysical(hpa, store)); });
    if (touched.hit()) return false;
    EXPECT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
    EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kWriteTracked);
    EXPECT_TRUE(vm_.tracked().Write(space, gpa, store));
    EXPECT_EQ(vm_.Violations(), "");
    return true;
  }
  // Fills the page with text, entry by entry, but for those of the first
  // `spared` bytes; returns how many stores exited.
  unsigned Fill(Gpa table, uint64_t spared = 0) {
    unsigned exits = 0;
    for (uint64_t at = spared; at < kPageSize; at += entry_bytes()) {
      if (Exits(table + at, kText, entry_bytes())) ++exits;
    }
    return exits;
  }
  // Clears the entries of Table(k4K) that were used, as a kernel does that
  // gives a page table up; returns how many stores exited.
  unsigned Clear() {
    unsigned exits = 0;
    for (const Gva gva : {kGva, kOtherHalf}) {
      const Gpa entry = tables_->EntryAddress(gva, Level::k4K).value();
      if (ToGfn(entry) != ToGfn(Table(Level::k4K))) continue;
      if (Exits(entry, 0, entry_bytes())) ++exits;
    }
    return exits;
  }
  uint64_t Flooded() { return vm_.mmu().GetStats().pages_flooded; }
  bool Shadowed(Gpa table) {
    Vm& vm = vm_.mmu().internals();
    const VmLock held(vm);
    bool shadowed = false;
    vm.pages.ForEachShadowing(ToGfn(table),
                              [&](TableIndex) { shadowed = true; });
    return shadowed;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestVcpu* writer_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
  GuestMode mode_ = GuestMode::kFourLevel;
};

class WriteFloodingInEveryMode
    : public WriteFlooding,
      public ::testing::WithParamInterface<GuestMode> {
 protected:
  WriteFloodingInEveryMode() { Use(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Modes, WriteFloodingInEveryMode, kEveryMode,
                         NameOfMode);

TEST_P(WriteFloodingInEveryMode, AClearedPageTableExitsThreeTimesWhenReused) {
  const Gpa table = Table(Level::k4K);
  EXPECT_EQ(Clear() + Fill(table), 3u);
  // Of 4-byte entries it has two shadow pages.
  EXPECT_EQ(Flooded(), GetParam() == GuestMode::kTwoLevel ? 2u : 1u);
  EXPECT_FALSE(Shadowed(table));
  EXPECT_TRUE(cpu_->Touch(kGva, Read()).EndedAs(Kind::kGuestFault));
}

TEST_P(WriteFloodingInEveryMode, AnUnclearedPageTableExitsTwiceAsOften) {
  // What the CPU did with its entries before counts once as use.
  EXPECT_EQ(Fill(Table(Level::k4K), 0x800), 6u);
  EXPECT_FALSE(Shadowed(Table(Level::k4K)));
  EXPECT_GE(Run(kGva), 1u);
  EXPECT_TRUE(Shadowed(Table(Level::k4K))) << "it is a table again";
}

TEST_P(WriteFloodingInEveryMode, APageTableThatFaultsWalkThroughStays) {
  const Gpa table = Table(Level::k4K);
  for (uint64_t i = 0; i < 30; ++i) {
    ASSERT_TRUE(Exits(table + 0x300, kText + (i << 12), entry_bytes()));
    ASSERT_TRUE(Exits(table + 0x308, kText + (i << 12), entry_bytes()));
    for (const uint64_t half : {0x10'0000, 0x30'0000}) {
      const Gva gva(half + (i << kPageShift));
      Map(gva);
      EXPECT_EQ(Run(gva), 1u);
    }
  }
  EXPECT_EQ(Flooded(), 0u);
}

// As a kernel maps a page for a moment: when the entry is cleared, what it was
// used for does not show any more.
TEST_P(WriteFloodingInEveryMode, APageTableWhoseEntriesComeAndGoStays) {
  Clear();
  const uint64_t halves = GetParam() == GuestMode::kTwoLevel ? 2 : 1;
  for (uint64_t i = 0; i < 30; ++i) {
    for (uint64_t half = 0; half < halves; ++half) {
      const Gva gva = kGva + half * 0x20'0000;
      Map(gva);
      EXPECT_EQ(Run(gva), 1u);
    }
    for (uint64_t half = 0; half < halves; ++half) {
      const Gva gva = kGva + half * 0x20'0000;
      const Gpa entry = tables_->EntryAddress(gva, Level::k4K).value();
      EXPECT_TRUE(Exits(entry, 0, entry_bytes()));
    }
  }
  EXPECT_EQ(Flooded(), 0u);
}

TEST_P(WriteFloodingInEveryMode, APageTableThatTheCpuWalksStays) {
  const Gpa table = Table(Level::k4K);
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(Exits(table + 0x300, kText, entry_bytes()));
    for (const Gva gva : {kGva, kOtherHalf}) {
      cpu_->cpu().EvictAll();
      EXPECT_EQ(Run(gva), 0u);
    }
  }
  EXPECT_EQ(Flooded(), 0u);
}

TEST_P(WriteFloodingInEveryMode, ARootStaysWhileAVcpuRunsOnIt) {
  constexpr Level kRootLevels[] = {Level::k2M, Level::k2M, Level::k512G,
                                   Level::k256T};
  const Level level = kRootLevels[static_cast<size_t>(GetParam())];
  const Gpa root = Table(level);
  const PagingRegisters registers = cpu_->mmu().registers();
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(Exits(root + 0x800, kText, entry_bytes()));
    ASSERT_TRUE(Exits(root + 0x801, kText, 1)) << "no edit of an entry";
  }
  EXPECT_EQ(Flooded(), 0u);
  EXPECT_EQ(Run(kGva), 0u);

  // As a previous root it goes, and nobody runs on it when they come back.
  vm_.UseTables(*cpu_, {Gfn(128), 64}, GetParam());
  EXPECT_LE(Fill(root, 0xc00), 6u);
  EXPECT_FALSE(Shadowed(root));
  ASSERT_TRUE(cpu_->mmu().SetRegisters(registers).ok());
  EXPECT_GE(Run(kGva), 1u);
}

TEST_P(WriteFloodingInEveryMode, ATableInUseSurvivesEditsAndNoOtherStore) {
  struct Store {
    uint64_t offset;
    size_t bytes;
    bool edit;
  };
  const bool small = GetParam() == GuestMode::kTwoLevel;
  const std::vector<Store> stores = {
      {0x800, 8, !small}, {0x800, 4, true},  {0x804, 4, true},
      {0x804, 8, false},  {0x802, 4, false}, {0x800, 2, false},
      {0x800, 1, true},   {0x801, 1, false}, {0x804, 1, small},
      {0x800, 3, false},  {0xffe, 2, false}};
  const Gpa table = Table(Level::k4K);
  for (const Store& store : stores) {
    Run(kGva);
    Run(kOtherHalf);
    ASSERT_TRUE(Shadowed(table));
    ASSERT_TRUE(Exits(table + store.offset, kText, store.bytes));
    EXPECT_EQ(Shadowed(table), store.edit)
        << store.bytes << " bytes at " << store.offset;
    // Through a fault that walks there.
    vm_.mmu().InvalidateAll();
  }
}

TEST_P(WriteFloodingInEveryMode, StoresThroughTheOtherAddressSpaceCount) {
  SlotSpec smm = *vm_.mmu().FindSlot(AddressSpace::kNormal, SlotId{0});
  smm.space = AddressSpace::kSmm;
  vm_.AddSlot(smm);
  ASSERT_TRUE(writer_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  EXPECT_EQ(Clear() + Fill(Table(Level::k4K)), 3u);
  EXPECT_FALSE(Shadowed(Table(Level::k4K)));
}

// ---- What does not depend on the mode ----

TEST_F(WriteFlooding, AnUpperTableGoesToo) {
  Use(GuestMode::kFourLevel);
  const Gpa directory = Table(Level::k2M);
  EXPECT_EQ(Fill(directory, 0x800), 6u);
  EXPECT_FALSE(Shadowed(directory));
  EXPECT_TRUE(Shadowed(ToGpa(Gfn(16)))) << "and its parent stays";
  EXPECT_GE(Run(kGva), 1u);
}

TEST_F(WriteFlooding, AStoreAcrossPagesIsJudgedInEach) {
  Use(GuestMode::kFourLevel);
  const Gpa table = Table(Level::k4K);
  const std::vector<std::byte> bytes(12);
  // The upper half of an entry, and the first of the next page.
  ASSERT_TRUE(
      vm_.mmu()
          .GuestWrite(AddressSpace::kNormal, table + (kPageSize - 4), bytes)
          .resume());
  EXPECT_TRUE(Shadowed(table));
  ASSERT_TRUE(
      vm_.mmu()
          .GuestWrite(AddressSpace::kNormal, table + (kPageSize - 6), bytes)
          .resume());
  EXPECT_FALSE(Shadowed(table));
}

TEST_F(WriteFlooding, ExchangesCountIfTheyStore) {
  Use(GuestMode::kFourLevel);
  Clear();
  const Gpa table = Table(Level::k4K);
  const auto exchange = [&](uint64_t expected, unsigned size) {
    return vm_.mmu().GuestCompareExchange(AddressSpace::kNormal, table + 0x800,
                                          size, expected, 0);
  };
  for (int i = 0; i < 10; ++i) ASSERT_FALSE(exchange(1, 8)->exchanged);
  EXPECT_TRUE(Shadowed(table));
  ASSERT_TRUE(exchange(0, 8)->exchanged);
  EXPECT_TRUE(Shadowed(table));
  ASSERT_TRUE(exchange(0, 8)->exchanged);
  EXPECT_FALSE(Shadowed(table)) << "the third store into it";
  Map(kGva);
  Run(kGva);
  ASSERT_TRUE(exchange(0, 2)->exchanged);
  EXPECT_FALSE(Shadowed(table)) << "no edit of an entry";
}

TEST_F(WriteFlooding, TheShadowPageOfTheHalfThatIsUsedStays) {
  // As a table of 4-byte entries it has two shadow pages, and one is used.
  Use(GuestMode::kTwoLevel);
  const Gpa table = Table(Level::k4K);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(Exits(table + 0x300, kText, 4));
    cpu_->cpu().EvictAll();
    EXPECT_EQ(Run(kOtherHalf), 0u);
  }
  EXPECT_EQ(Flooded(), 1u);
  EXPECT_TRUE(Shadowed(table));
}

class WriteFloodingWithUnsync : public WriteFlooding {
 protected:
  WriteFloodingWithUnsync() : WriteFlooding(SmallVm::Options{}) {}
};

TEST_F(WriteFloodingWithUnsync, AnUpperTableGoesAndAnUnsyncPageTableStays) {
  Use(GuestMode::kFourLevel);
  const Gpa table = Table(Level::k4K);
  EXPECT_EQ(Fill(table, 0x800), 0u);
  const uint64_t text = kText;
  for (int i = 0; i < 10; ++i) {
    // A device's.
    ASSERT_TRUE(vm_.tracked().Write(
        AddressSpace::kNormal, table + 0x800,
        std::as_bytes(std::span(&text, 1)).first(i % 2 == 0 ? 8 : 3)));
  }
  EXPECT_EQ(Flooded(), 0u);
  EXPECT_TRUE(Shadowed(table));
  EXPECT_EQ(Fill(Table(Level::k2M), 0x800), 6u);
  EXPECT_EQ(Flooded(), 1u);
}

class NoWriteFlooding : public WriteFlooding {
 protected:
  NoWriteFlooding() : WriteFlooding({.unsync = false, .write_flooding = 0}) {}
};

TEST_F(NoWriteFlooding, EveryStoreExits) {
  Use(GuestMode::kFourLevel);
  const Gpa table = Table(Level::k4K);
  EXPECT_EQ(Fill(table), 512u);
  EXPECT_TRUE(Exits(table + 1, kText, 2));
  EXPECT_EQ(Flooded(), 0u);
}

class OneStoreFloods : public WriteFlooding {
 protected:
  OneStoreFloods() : WriteFlooding({.unsync = false, .write_flooding = 1}) {}
};

TEST_F(OneStoreFloods, TheFirstThatIsNotUseIsEnough) {
  Use(GuestMode::kFourLevel);
  EXPECT_EQ(Clear(), 1u);
  EXPECT_FALSE(Shadowed(Table(Level::k4K)));
}

TEST(WriteFloodingConfig, MoreStoresThanAreCountedAreRefused) {
  TestHost host(TestHost::Options{.frames = 1});
  const auto mmu = Mmu::Create({.host = &host, .write_flooding = 256});
  EXPECT_EQ(mmu.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(mmu.status().message(),
            "write_flooding: 256 is not within 0 to 255");
}

}  // namespace
}  // namespace shadowmmu::testing
