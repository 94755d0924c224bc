// Slots are made, moved, changed and deleted by several threads at once, while
// vCPUs use them: each thread with a slot of its own, and then all with the
// same one, where of several that want what only one can have exactly one gets
// it, and the others the status that says so.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Code = absl::StatusCode;

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr unsigned kThreads = 4;
constexpr uint64_t kPages = 32;
constexpr int kRounds = 30;
constexpr Hva kHva{0x5000'0000};
// The places of one thread's slot.
constexpr Gfn PlaceOf(uint64_t thread, uint64_t place) {
  return Gfn(0x1000 * (thread + 1) + place * 0x100);
}
constexpr SlotSpec SlotOf(unsigned thread) {
  return {.id = SlotId{thread + 1},
          .base = PlaceOf(thread, 0),
          .pages = kPages,
          .hva = kHva + thread * kPages * kPageSize};
}

// Two vCPUs with paging off touch all places, as long as the test lasts.
class SlotChanges : public ::testing::Test {
 protected:
  SlotChanges() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 64});
    vm_.host().MapRange(kHva, kThreads * kPages, Frame{4096});
    for (unsigned v = 0; v < 2; ++v) vm_.AddVcpu();
    for (unsigned v = 0; v < 2; ++v) {
      users_.emplace_back([this, v] { Use(v); });
    }
    Await([this] { return touches_ > 10; });
  }
  ~SlotChanges() override {
    stop_ = true;
    for (std::thread& user : users_) user.join();
    EXPECT_EQ(vm_.Violations(), "");
    for (const SlotSpec& slot : vm_.mmu().Slots()) {
      EXPECT_TRUE(vm_.mmu().DeleteSlot(slot.space, slot.id).ok()) << slot;
    }
    EXPECT_EQ(vm_.mmu().GetStats().leaf_sptes, 0u);
    EXPECT_EQ(vm_.Violations(), "");
  }

  void Use(unsigned v) {
    for (uint64_t i = v; !stop_; ++i) {
      const Gfn gfn = PlaceOf(i % kThreads, i / kThreads % 3) + i % kPages;
      const TouchResult touched =
          vm_.vcpu(v).Touch(Gva(ToGpa(gfn).value()), Write());
      // It is there, it is not there, it is read-only, or it is about to go.
      EXPECT_TRUE(touched.hit() ||
                  touched.EndedAs(FaultOutcome::Kind::kEmulate) ||
                  touched.kind == TouchResult::Kind::kDidNotConverge)
          << touched;
      if (touched.hit()) ++hits_;
      ++touches_;
    }
  }
  // Until a vCPU has reached one of the slots.
  void AwaitUse() {
    const uint64_t hits = hits_;
    Await([&] { return hits_ != hits; });
  }
  // The codes of what all threads were told, in a round of `call`.
  template <typename Call>
  std::vector<Code> CodesOf(Call call) {
    std::vector<Code> codes(kThreads);
    Together(kThreads,
             [&](unsigned thread) { codes[thread] = call(thread).code(); });
    return codes;
  }
  // One was told OK, and all others `loser`.
  static void ExpectOneWins(const std::vector<Code>& codes, Code loser) {
    unsigned won = 0;
    for (const Code code : codes) {
      if (code == Code::kOk) {
        ++won;
      } else {
        EXPECT_EQ(code, loser);
      }
    }
    EXPECT_EQ(won, 1u);
  }
  static void ExpectAllWin(const std::vector<Code>& codes) {
    for (const Code code : codes) EXPECT_EQ(code, Code::kOk);
  }

  SmallVm vm_;

 private:
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> touches_{0};
  std::atomic<uint64_t> hits_{0};
  std::vector<std::thread> users_;
};

TEST_F(SlotChanges, OfSlotsOfTheirOwnDoNotDisturbEachOther) {
  Mmu& mmu = vm_.mmu();
  Together(kThreads, [&](unsigned thread) {
    SlotSpec slot = SlotOf(thread);
    const auto expect_there = [&] {
      EXPECT_EQ(mmu.FindSlot(kNormal, slot.id), slot);
      EXPECT_EQ(mmu.FindSlot(kNormal, slot.base + kPages - 1), slot);
    };
    for (int round = 0; round < kRounds; ++round) {
      slot = SlotOf(thread);
      ASSERT_TRUE(mmu.CreateSlot(slot).ok());
      expect_there();
      AwaitUse();
      slot.flags = SlotFlags::kLogDirty;
      ASSERT_TRUE(mmu.SetSlotFlags(kNormal, slot.id, slot.flags).ok());
      expect_there();
      slot.base = PlaceOf(thread, round % 2 == 0 ? 1 : 2);
      ASSERT_TRUE(mmu.MoveSlot(kNormal, slot.id, slot.base).ok());
      expect_there();
      EXPECT_EQ(mmu.FindSlot(kNormal, PlaceOf(thread, 0)), std::nullopt);
      slot.flags = SlotFlags::kReadOnly;
      ASSERT_TRUE(mmu.SetSlotFlags(kNormal, slot.id, slot.flags).ok());
      expect_there();
      ASSERT_TRUE(mmu.DeleteSlot(kNormal, slot.id).ok());
      EXPECT_EQ(mmu.FindSlot(kNormal, slot.id), std::nullopt);
      EXPECT_EQ(mmu.FindSlot(kNormal, slot.base), std::nullopt);
    }
  });
}

TEST_F(SlotChanges, OfOneSlotAreWonByOne) {
  Mmu& mmu = vm_.mmu();
  const SlotSpec slot = SlotOf(0);
  for (int round = 0; round < kRounds; ++round) {
    ExpectOneWins(CodesOf([&](unsigned) { return mmu.CreateSlot(slot); }),
                  Code::kAlreadyExists);
    // Nothing but the last of them is seen afterwards.
    ExpectAllWin(CodesOf([&](unsigned thread) {
      return mmu.MoveSlot(kNormal, slot.id, PlaceOf(thread, 1));
    }));
    ExpectAllWin(CodesOf([&](unsigned thread) {
      return mmu.SetSlotFlags(
          kNormal, slot.id,
          thread % 2 == 0 ? SlotFlags::kNone : SlotFlags::kLogDirty);
    }));
    const std::optional<SlotSpec> found = mmu.FindSlot(kNormal, slot.id);
    ASSERT_TRUE(found.has_value());
    AwaitUse();
    EXPECT_EQ(found->hva, slot.hva);
    EXPECT_EQ(mmu.FindSlot(kNormal, found->base), found);
    EXPECT_EQ(mmu.Slots().size(), 2u);
    ExpectOneWins(
        CodesOf([&](unsigned) { return mmu.DeleteSlot(kNormal, slot.id); }),
        Code::kNotFound);
    EXPECT_EQ(mmu.Slots().size(), 1u);
  }
}

// Of different ids, at one place.
TEST_F(SlotChanges, OfOnePlaceAreWonByOne) {
  Mmu& mmu = vm_.mmu();
  const Gfn place = PlaceOf(0, 2);
  for (int round = 0; round < kRounds; ++round) {
    // Each reaches into the range of the others.
    ExpectOneWins(CodesOf([&](unsigned thread) {
                    SlotSpec slot = SlotOf(thread);
                    slot.base = place + thread;
                    return mmu.CreateSlot(slot);
                  }),
                  Code::kAlreadyExists);
    const std::vector<SlotSpec> slots = mmu.Slots();
    ASSERT_EQ(slots.size(), 2u);
    AwaitUse();
    ASSERT_TRUE(mmu.DeleteSlot(kNormal, slots[1].id).ok());

    ExpectAllWin(CodesOf(
        [&](unsigned thread) { return mmu.CreateSlot(SlotOf(thread)); }));
    ExpectOneWins(CodesOf([&](unsigned thread) {
                    return mmu.MoveSlot(kNormal, SlotOf(thread).id,
                                        place + thread);
                  }),
                  Code::kAlreadyExists);
    ExpectAllWin(CodesOf([&](unsigned thread) {
      return mmu.DeleteSlot(kNormal, SlotOf(thread).id);
    }));
  }
}

// Everything at once with one id: who is told OK has had its change, so that
// the slot is there if it was made once more than it was deleted.
TEST_F(SlotChanges, OfEveryKindAddUp) {
  Mmu& mmu = vm_.mmu();
  const SlotSpec slot = SlotOf(0);
  std::atomic<int> there{0};
  Together(kThreads, [&](unsigned thread) {
    for (int i = 0; i < kRounds * 4; ++i) {
      const auto told = [&](const absl::Status& status, Code other) {
        EXPECT_TRUE(status.ok() || status.code() == other) << status;
        return status.ok() ? 1 : 0;
      };
      switch ((i + thread) % 4) {
        case 0:
          there += told(mmu.CreateSlot(slot), Code::kAlreadyExists);
          break;
        case 1:
          told(mmu.MoveSlot(kNormal, slot.id, PlaceOf(0, i % 2 == 0 ? 1 : 2)),
               Code::kNotFound);
          break;
        case 2:
          told(mmu.SetSlotFlags(kNormal, slot.id, SlotFlags::kLogDirty),
               Code::kNotFound);
          break;
        case 3:
          there -= told(mmu.DeleteSlot(kNormal, slot.id), Code::kNotFound);
          break;
      }
    }
  });
  EXPECT_EQ(mmu.FindSlot(kNormal, slot.id).has_value(), there == 1);
  EXPECT_TRUE(there == 0 || there == 1) << there;
}

}  // namespace
}  // namespace shadowmmu::testing
