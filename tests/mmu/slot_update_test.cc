// Making, deleting and moving slots, and changing their flags, in a VM that is
// in use.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;
using ::testing::HasSubstr;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr AddressSpace kSmm = AddressSpace::kSmm;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr SlotId kMain{0};
constexpr SlotId kExtra{1};
constexpr GfnRange kExtraGfns{Gfn(8192), 64};
// Elsewhere, where no slot is.
constexpr Gfn kElsewhere{0x10'0000};
constexpr Gva kGva{0x40'0000'0000};

class SlotUpdate : public ::testing::Test {
 protected:
  SlotUpdate() {
    main_ = vm_.AddSlot({.id = kMain, .base = Gfn(0), .pages = 4096});
    extra_ = vm_.AddSlot(
        {.id = kExtra, .base = kExtraGfns.begin, .pages = kExtraGfns.pages});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, {Gfn(16), 64});
    // Pages 0 to 7 of main memory, 8 to 15 of the extra slot.
    for (uint64_t i = 0; i < 16; ++i) {
      const Gfn gfn = i < 8 ? Gfn(1024 + i) : kExtraGfns.begin + (i - 8);
      EXPECT_TRUE(tables_->Map(At(i), ToGpa(gfn), Level::k4K, kAll).ok());
    }
  }
  ~SlotUpdate() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  void TouchAll() {
    for (uint64_t i = 0; i < 16; ++i) {
      ASSERT_TRUE(cpu_->Touch(At(i), Write()).hit()) << i;
    }
  }
  // All that a change of the slots could change.
  std::string State() {
    std::ostringstream text;
    text << Dump(vm_.mmu()) << "memslot generation "
         << vm_.mmu().memslot_generation() << ", "
         << vm_.host().bytes_outstanding() << " bytes\n";
    for (const SlotSpec& slot : vm_.mmu().Slots()) {
      for (uint64_t i = 0; i < slot.pages; ++i) {
        const auto rmap = DumpRmap(vm_.mmu(), slot.space, slot.base + i);
        if (!rmap.empty()) {
          text << slot.base + i << ": " << rmap.size() << " sptes\n";
        }
      }
    }
    return text.str();
  }
  // `update` fails like that, and nothing is different from before.
  template <typename Update>
  void ExpectRefused(absl::StatusCode code, const std::string& words,
                     Update update) {
    const std::string before = State();
    const absl::Status status = update(vm_.mmu());
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    EXPECT_EQ(State(), before) << status;
    EXPECT_EQ(vm_.Violations(), "");
  }

  SmallVm vm_;
  SlotSpec main_;
  SlotSpec extra_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

TEST_F(SlotUpdate, EveryChangeRaisesTheMemslotGeneration) {
  uint64_t last = vm_.mmu().memslot_generation();
  const auto rose = [&] {
    const uint64_t now = vm_.mmu().memslot_generation();
    return now > std::exchange(last, now);
  };
  SlotSpec spec = extra_;
  spec.id = SlotId{9};
  spec.base = kElsewhere;
  ASSERT_TRUE(vm_.mmu().CreateSlot(spec).ok());
  EXPECT_TRUE(rose());
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, spec.id, kElsewhere + 99).ok());
  EXPECT_TRUE(rose());
  ASSERT_TRUE(
      vm_.mmu().SetSlotFlags(kNormal, spec.id, SlotFlags::kLogDirty).ok());
  EXPECT_TRUE(rose());
  ASSERT_TRUE(vm_.mmu().DeleteSlot(kNormal, spec.id).ok());
  EXPECT_TRUE(rose());
  EXPECT_FALSE(rose()) << "looking changes nothing";
}

TEST_F(SlotUpdate, ACreationThatIsRefusedLeavesEverythingAsItWas) {
  TouchAll();
  const auto refused = [&](absl::StatusCode code, const std::string& words,
                           void (*change)(SlotSpec&)) {
    SlotSpec spec = extra_;
    spec.id = SlotId{9};
    spec.base = kElsewhere;
    change(spec);
    ExpectRefused(code, words, [&](Mmu& mmu) { return mmu.CreateSlot(spec); });
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto exists = absl::StatusCode::kAlreadyExists;
  refused(invalid, "pages: ", [](SlotSpec& s) { s.pages = 0; });
  refused(invalid, "hva: ", [](SlotSpec& s) { s.hva += 8; });
  refused(invalid,
          "hva, pages: ", [](SlotSpec& s) { s.hva = Hva(~kPageOffsetMask); });
  refused(invalid, "base, pages: ", [](SlotSpec& s) {
    s.base = Gfn((uint64_t{1} << 36) - 63);
  });
  refused(invalid, "id: ", [](SlotSpec& s) { s.id = SlotId{kMaxSlotId}; });
  refused(invalid, "space: ", [](SlotSpec& s) { s.space = AddressSpace{2}; });
  refused(invalid, "flags: ", [](SlotSpec& s) {
    s.flags = static_cast<SlotFlags>(0x80);
  });
  refused(exists, "id: ", [](SlotSpec& s) { s.id = kMain; });
  refused(exists, "overlaps", [](SlotSpec& s) { s.base = Gfn(4095); });
  refused(exists, "overlaps",
          [](SlotSpec& s) { s.base = kExtraGfns.begin - 63; });
}

TEST_F(SlotUpdate, ADeletionThatIsRefusedLeavesEverythingAsItWas) {
  TouchAll();
  ExpectRefused(absl::StatusCode::kNotFound, "id: as 0 has no slot 9",
                [](Mmu& m) { return m.DeleteSlot(kNormal, SlotId{9}); });
  ExpectRefused(absl::StatusCode::kNotFound, "id: as 1 has no slot 0",
                [](Mmu& m) { return m.DeleteSlot(kSmm, kMain); });
  ExpectRefused(absl::StatusCode::kInvalidArgument, "space: ", [](Mmu& m) {
    return m.DeleteSlot(AddressSpace{2}, kMain);
  });
}

TEST_F(SlotUpdate, AMoveThatIsRefusedLeavesEverythingAsItWas) {
  TouchAll();
  const auto move_to = [](Gfn base) {
    return [base](Mmu& m) { return m.MoveSlot(kNormal, kExtra, base); };
  };
  ExpectRefused(absl::StatusCode::kAlreadyExists, "overlaps",
                move_to(Gfn(4095)));
  ExpectRefused(absl::StatusCode::kInvalidArgument,
                "base, pages: ", move_to(Gfn((uint64_t{1} << 36) - 63)));
  ExpectRefused(absl::StatusCode::kInvalidArgument,
                "base, pages: ", move_to(Gfn(~uint64_t{0})));
  ExpectRefused(absl::StatusCode::kNotFound, "as 0 has no slot 9", [](Mmu& m) {
    return m.MoveSlot(kNormal, SlotId{9}, kElsewhere);
  });
  ExpectRefused(absl::StatusCode::kInvalidArgument, "space: ", [](Mmu& m) {
    return m.MoveSlot(AddressSpace{7}, kMain, kElsewhere);
  });
}

TEST_F(SlotUpdate, FlagsThatAreRefusedLeaveEverythingAsItWas) {
  TouchAll();
  ExpectRefused(absl::StatusCode::kInvalidArgument, "flags: unknown bits 0x4",
                [](Mmu& m) {
                  return m.SetSlotFlags(
                      kNormal, kExtra,
                      SlotFlags::kReadOnly | static_cast<SlotFlags>(4));
                });
  ExpectRefused(absl::StatusCode::kNotFound, "as 1 has no slot 1", [](Mmu& m) {
    return m.SetSlotFlags(kSmm, kExtra, SlotFlags::kNone);
  });
  ExpectRefused(absl::StatusCode::kInvalidArgument, "space: ", [](Mmu& m) {
    return m.SetSlotFlags(AddressSpace{2}, kExtra, SlotFlags::kNone);
  });
}

TEST_F(SlotUpdate, WithoutMemoryForTheNewRmapsNothingChanges) {
  TouchAll();
  const auto exhausted = absl::StatusCode::kResourceExhausted;
  for (const uint64_t n : {1, 2}) {
    ExpectRefused(exhausted, "no memory for the slot's directory",
                  [&](Mmu& mmu) {
                    vm_.host().FailAllocation(n);
                    SlotSpec spec = extra_;
                    spec.id = SlotId{9};
                    spec.base = kElsewhere;
                    return mmu.CreateSlot(spec);
                  });
    ExpectRefused(exhausted, "no memory for the slot's directory",
                  [&](Mmu& mmu) {
                    vm_.host().FailAllocation(n);
                    return mmu.MoveSlot(kNormal, kExtra, kElsewhere);
                  });
  }
  TouchAll();
}

TEST_F(SlotUpdate, ASlotIsFoundByIdAndByEachOfItsFrames) {
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtra), extra_);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtraGfns.begin), extra_);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtraGfns.end() - 1), extra_);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtraGfns.end()), std::nullopt);
  EXPECT_EQ(vm_.mmu().FindSlot(kSmm, kExtra), std::nullopt);
  EXPECT_EQ(vm_.mmu().FindSlot(AddressSpace{2}, kExtra), std::nullopt);
  EXPECT_EQ(vm_.mmu().FindSlot(AddressSpace{2}, Gfn(0)), std::nullopt);
  EXPECT_EQ(vm_.mmu().Slots(), (std::vector{main_, extra_}));
}

TEST_F(SlotUpdate, ASlotThatBecomesReadOnlyIsWriteProtectedAtOnce) {
  TouchAll();
  ASSERT_TRUE(
      vm_.mmu().SetSlotFlags(kNormal, kExtra, SlotFlags::kReadOnly).ok());
  for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
    EXPECT_EQ(leaf.writable, !kExtraGfns.Contains(leaf.gfn)) << leaf;
  }
  const TouchResult touched = cpu_->Touch(At(8), Write());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kReadOnlySlot);
  EXPECT_EQ(touched.outcome.gpa, ToGpa(kExtraGfns.begin));
  EXPECT_EQ(cpu_->Touch(At(8), Read()).faults, 0u) << "reading goes on";
  EXPECT_EQ(cpu_->Touch(At(0), Write()).faults, 0u) << "another slot's page";

  ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, kExtra, SlotFlags::kNone).ok());
  EXPECT_TRUE(cpu_->Touch(At(8), Write()).hit());
}

// Bug 22: flags change under what is in use, and nothing of it is freed.
TEST_F(SlotUpdate, EveryChangeOfFlagsKeepsWhatIsMapped) {
  const std::vector<SlotFlags> all = {
      SlotFlags::kNone, SlotFlags::kReadOnly, SlotFlags::kLogDirty,
      SlotFlags::kReadOnly | SlotFlags::kLogDirty};
  TouchAll();
  const uint64_t leaves = vm_.mmu().GetStats().leaf_sptes;
  for (const SlotFlags from : all) {
    for (const SlotFlags to : all) {
      ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, kExtra, from).ok());
      EXPECT_TRUE(cpu_->Touch(At(9), Read()).hit());
      ASSERT_TRUE(vm_.mmu().SetSlotFlags(kNormal, kExtra, to).ok());
      EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtra)->flags, to);
      EXPECT_EQ(cpu_->Touch(At(9), Write()).hit(),
                !Has(to, SlotFlags::kReadOnly));
      EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, leaves);
      ASSERT_EQ(vm_.Violations(leaves), "");
    }
  }
}

TEST_F(SlotUpdate, ASlotThatMovesTakesItsMemoryAlong) {
  TouchAll();
  const Pfn pfn = vm_.PfnOf(kExtraGfns.begin + 3);
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, kExtra, kElsewhere).ok());
  vm_.memory().MutableSlot(kNormal, kExtra)->base = kElsewhere;
  EXPECT_EQ(vm_.PfnOf(kElsewhere + 3), pfn);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtra)->base, kElsewhere);
  EXPECT_EQ(vm_.mmu().FindSlot(kNormal, kExtraGfns.begin), std::nullopt);

  const TouchResult touched = cpu_->Touch(At(11), Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kEmulate)) << touched;
  EXPECT_EQ(touched.outcome.emulate_reason, EmulateReason::kNoSlot);
  ASSERT_TRUE(
      tables_->Map(At(20), ToGpa(kElsewhere + 3), Level::k4K, kAll).ok());
  EXPECT_EQ(cpu_->Touch(At(20), Write()).hpa, ToHpa(pfn));
}

TEST_F(SlotUpdate, ASlotMayMoveOntoPartOfItself) {
  TouchAll();
  const Pfn pfn = vm_.PfnOf(kExtraGfns.begin);
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, kExtra, kExtraGfns.begin + 1).ok());
  EXPECT_TRUE(cpu_->Touch(At(8), Read()).EndedAs(Kind::kEmulate));
  EXPECT_EQ(cpu_->Touch(At(9), Read()).hpa, ToHpa(pfn));
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, kExtra, kExtraGfns.begin).ok());
  EXPECT_EQ(cpu_->Touch(At(8), Read()).hpa, ToHpa(pfn));
  ASSERT_TRUE(vm_.mmu().MoveSlot(kNormal, kExtra, kExtraGfns.begin).ok())
      << "where it is already";
  TouchAll();
}

TEST_F(SlotUpdate, BothSpacesHaveSlotsOfTheSameIdAndGfns) {
  const SlotSpec smm =
      vm_.AddSlot({.id = kMain, .space = kSmm, .base = Gfn(1024), .pages = 16});
  EXPECT_EQ(vm_.mmu().FindSlot(kSmm, kMain), smm);
  GuestVcpu& other = vm_.AddVcpu();  // paging off: a gva is a gpa
  ASSERT_TRUE(other.mmu().SetAddressSpace(kSmm).ok());
  const Gva gva(ToGpa(Gfn(1024)).value());
  EXPECT_EQ(other.Touch(gva, Write()).hpa, ToHpa(vm_.PfnOf(Gfn(1024), kSmm)));
  EXPECT_EQ(cpu_->Touch(At(0), Write()).hpa, ToHpa(vm_.PfnOf(Gfn(1024))));

  vm_.DeleteSlot(kSmm, kMain);
  EXPECT_TRUE(other.Touch(gva, Read()).EndedAs(Kind::kEmulate));
  EXPECT_EQ(cpu_->Touch(At(0), Write()).hpa, ToHpa(vm_.PfnOf(Gfn(1024))));
}

// Bug 10: no shadow page outlives the slot that its guest table lies in.
TEST_F(SlotUpdate, DeletingTheSlotOfTheGuestsTablesLeavesNoneShadowed) {
  vm_.AddSlot({.id = SlotId{5}, .base = kElsewhere, .pages = 64});
  GuestVcpu& other = vm_.AddVcpu();
  GuestTableBuilder& tables = vm_.UseTables(other, {kElsewhere, 32});
  ASSERT_TRUE(tables.Map(kGva, Gpa(0x40'0000), Level::k4K, kAll).ok());
  ASSERT_TRUE(other.Touch(kGva, Write()).hit());
  ASSERT_EQ(vm_.RmapLength(Gfn(0x400)), 1u);

  vm_.DeleteSlot(kNormal, SlotId{5});
  EXPECT_EQ(vm_.Violations(), "");
  EXPECT_EQ(vm_.RmapLength(Gfn(0x400)), 0u) << "through tables that are gone";
  const TouchResult touched = other.Touch(kGva, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kMemoryFault)) << touched;
  EXPECT_EQ(touched.outcome.memory_fault_reason,
            MemoryFaultReason::kTableOutsideSlots);
  EXPECT_TRUE(cpu_->Touch(At(0), Write()).hit()) << "the others go on";
}

TEST_F(SlotUpdate, DeletingEverySlotLeavesAnEmptyVm) {
  TouchAll();
  vm_.DeleteSlot(kNormal, kMain);
  vm_.DeleteSlot(kNormal, kExtra);
  EXPECT_TRUE(vm_.mmu().Slots().empty());
  EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
  EXPECT_TRUE(cpu_->Touch(At(0), Read()).EndedAs(Kind::kMemoryFault));
}

TEST_F(SlotUpdate, SlotsMayHaveTheSameMemory) {
  SlotSpec alias = extra_;
  alias.id = SlotId{6};
  alias.base = kElsewhere;
  ASSERT_TRUE(vm_.mmu().CreateSlot(alias).ok());
  vm_.memory().AddSlot(alias);
  ASSERT_TRUE(tables_->Map(At(20), ToGpa(kElsewhere), Level::k4K, kAll).ok());
  const Hpa hpa = cpu_->Touch(At(8), Write()).hpa;
  EXPECT_EQ(cpu_->Touch(At(20), Write()).hpa, hpa);

  // A notifier finds both.
  const HvaRange page{extra_.hva, kPageSize};
  ASSERT_TRUE(vm_.mmu().InvalidateBegin(page).ok());
  EXPECT_EQ(vm_.RmapLength(kExtraGfns.begin), 0u);
  EXPECT_EQ(vm_.RmapLength(kElsewhere), 0u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(page).ok());

  // One of them goes, the other does not.
  ASSERT_TRUE(cpu_->Touch(At(8), Write()).hit());
  vm_.DeleteSlot(kNormal, kExtra);
  EXPECT_TRUE(cpu_->Touch(At(8), Read()).EndedAs(Kind::kEmulate));
  EXPECT_EQ(cpu_->Touch(At(20), Write()).hpa, hpa);
}

}  // namespace
}  // namespace shadowmmu::testing
