// Releases beside vCPUs: who is in the guest, or looks at its root with no
// lock, is waited for; and whoever faults meanwhile finds its way.

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "src/mmu/vm.h"
#include "tests/concurrent/beside.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kPages = 64;
constexpr int kRounds = 3'000;

class ReleasesBeside : public ::testing::Test {
 protected:
  ReleasesBeside() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = kPages});
    vm_.AddVcpu();
    vm_.AddVcpu();
  }
  ~ReleasesBeside() override { EXPECT_EQ(vm_.Violations(), ""); }

  static Gva At(uint64_t page) { return Gva(page % kPages * kPageSize); }
  void Release() { vm_.mmu().InvalidateAll(Strategy::kRelease); }
  void Touch(unsigned vcpu, uint64_t page) {
    const TouchResult touched = vm_.vcpu(vcpu).Touch(At(page), Write());
    ASSERT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(Gfn(page % kPages)));
  }

  SmallVm vm_;
};

// It has been kicked, and is slow.
TEST_F(ReleasesBeside, WaitForAVcpuThatIsInTheGuest) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> in_guest{false};
    std::atomic<bool> kicked{false};
    std::atomic<bool> left{false};
    vm_.host().SetKickHook([&](const VcpuSet&) { kicked = true; });
    Beside guest([&] {
      ASSERT_TRUE(vm_.vcpu(0).mmu().EnterGuest().resume());
      in_guest = true;
      Await([&] { return kicked.load(); });
      for (int i = 0; i < 100; ++i) std::this_thread::yield();
      left = true;
      vm_.vcpu(0).mmu().ExitGuest();
    });
    Await([&] { return in_guest.load(); });
    Release();
    EXPECT_TRUE(left);
    guest.Join();
    vm_.host().SetKickHook(nullptr);
  }
}

// Until it leaves, the Host is told whom the release waits for, and it is
// kicked again.
TEST_F(ReleasesBeside, NameAVcpuThatDoesNotLeave) {
  std::promise<Stall> told;
  std::atomic<int> kicks{0};
  std::atomic<bool> in_guest{false};
  std::atomic<bool> kicked_again{false};
  // More than once, where this machine is slow.
  std::atomic<bool> is_told{false};
  vm_.host().SetStallHook([&](const Stall& stall) {
    if (!is_told.exchange(true)) told.set_value(stall);
  });
  vm_.host().SetKickHook([&](const VcpuSet& set) {
    EXPECT_TRUE(set.Contains(VcpuId{1}));
    EXPECT_EQ(set.size(), 1u);
    if (++kicks >= 2) kicked_again = true;
  });
  Beside guest([&] {
    ASSERT_TRUE(vm_.vcpu(1).mmu().EnterGuest().resume());
    in_guest = true;
    Await([&] { return kicked_again.load(); });
    vm_.vcpu(1).mmu().ExitGuest();
  });
  Await([&] { return in_guest.load(); });
  Release();
  guest.Join();
  const Stall stall = told.get_future().get();
  EXPECT_STREQ(stall.waiting, "a release");
  EXPECT_EQ(stall.vcpu, VcpuId{1});
  EXPECT_GE(stall.milliseconds, 1000u);
  vm_.host().SetKickHook(nullptr);
  vm_.host().SetStallHook(nullptr);
}

TEST_F(ReleasesBeside, LetFaultsStartOver) {
  std::atomic<bool> done{false};
  std::atomic<uint64_t> touches{0};
  std::atomic<uint64_t> releases{0};
  Beside host([&] {
    while (!done) {
      // One for each touch: more of them might not let it come to its end.
      const uint64_t before = touches;
      Release();
      ++releases;
      Await([&] { return done || touches > before; });
    }
  });
  for (uint64_t i = 0; i < kRounds || releases < 100; ++i) {
    Touch(0, i * 7);
    ++touches;
  }
  done = true;
  host.Join();
}

// A guest that flushes looks at the header of its root with no lock; a release
// gives the page to another vCPU, whose fault writes the header.
TEST_F(ReleasesBeside, WaitForALookAtARootWithNoLock) {
  std::atomic<bool> done{false};
  std::atomic<uint64_t> flushes{0};
  std::atomic<int> releases{0};
  Beside host([&] {
    for (uint64_t i = 0; !done; ++i) {
      const uint64_t before = flushes;
      Release();
      Touch(1, i);
      ++releases;
      Await([&] { return done || flushes > before; });
    }
  });
  VcpuMmu& mmu = vm_.vcpu(0).mmu();
  for (uint64_t i = 0; i < kRounds || releases < 300; ++i) {
    // With paging off, too, a write of CR3 flushes.
    ASSERT_TRUE(mmu.WriteCr3(mmu.registers().cr3).ok());
    if (i % 8 == 0) Touch(0, i);
    ++flushes;
  }
  done = true;
  host.Join();
}

// A slot that goes by release, while another vCPU faults in one that stays.
TEST_F(ReleasesBeside, TakeASlotAlong) {
  const SlotSpec extra =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(1024), .pages = 16});
  std::atomic<bool> done{false};
  Beside guest([&] {
    for (uint64_t i = 0; !done; ++i) Touch(0, i);
  });
  for (int round = 0; round < 300; ++round) {
    const TouchResult there =
        vm_.vcpu(1).Touch(Gva(ToGpa(extra.base).value()), Write());
    EXPECT_TRUE(there.hit()) << there;
    ASSERT_TRUE(
        vm_.mmu().DeleteSlot(kNormal, extra.id, SlotZapPolicy::kRelease).ok());
    EXPECT_TRUE(vm_.vcpu(1)
                    .Touch(Gva(ToGpa(extra.base).value()), Write())
                    .EndedAs(FaultOutcome::Kind::kEmulate));
    ASSERT_TRUE(vm_.mmu().CreateSlot(extra).ok());
  }
  done = true;
  guest.Join();
}

// The same by the targeted way: it lets others in between two chunks.
TEST_F(ReleasesBeside, OrATargetedZapDoes) {
  const SlotSpec extra =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(1024), .pages = 4096});
  std::atomic<bool> done{false};
  Beside guest([&] {
    for (uint64_t i = 0; !done; ++i) {
      Touch(0, i);
      // Alone with the lock, now and then: somebody waits for it.
      if (i % 4 == 0) vm_.mmu().BumpGeneration();
    }
  });
  while (vm_.mmu().GetStats().lock_breaks == 0) {
    for (uint64_t i = 0; i < extra.pages; i += 256) {
      const TouchResult there =
          vm_.vcpu(1).Touch(Gva(ToGpa(extra.base + i).value()), Write());
      EXPECT_TRUE(there.hit()) << there;
    }
    ASSERT_TRUE(
        vm_.mmu().DeleteSlot(kNormal, extra.id, SlotZapPolicy::kTargeted).ok());
    ASSERT_TRUE(vm_.mmu().CreateSlot(extra).ok());
  }
  done = true;
  guest.Join();
}

// Who gets the lock in between finds no CPU that has cached what is on no rmap
// any more.
TEST_F(ReleasesBeside, WhatATargetedZapTookIsFlushedWhenItLetsOthersIn) {
  const SlotSpec extra =
      vm_.AddSlot({.id = SlotId{1}, .base = Gfn(1024), .pages = 4096});
  const auto at = [&](uint64_t page) {
    return Gva(ToGpa(extra.base + page).value());
  };
  constexpr uint64_t kStride = 512;
  GuestVcpu& guest = vm_.vcpu(0);
  Vm& vm = vm_.mmu().internals();
  std::atomic<bool> done{false};
  // Never still: somebody always waits for the lock.
  Beside look([&] {
    while (!done) {
      const VmLock held(vm);
      for (const TlbEntry& entry : guest.cpu().TlbEntries()) {
        const Gfn gfn = ToGfn(Gpa(entry.gva.value()));
        const Memslot* slot = vm.slot_table().Find(kNormal, gfn);
        ASSERT_NE(slot, nullptr);
        EXPECT_FALSE(
            slot->rmaps->Head(gfn, Level::k4K, vm.generations.arena_epoch)
                ->empty())
            << gfn;
      }
    }
  });
  while (vm_.mmu().GetStats().lock_breaks == 0) {
    for (uint64_t i = 0; i < extra.pages; i += kStride) {
      ASSERT_TRUE(guest.Touch(at(i), Write()).hit());
    }
    ASSERT_TRUE(guest.mmu().EnterGuest().resume());
    for (uint64_t i = 0; i < extra.pages; i += kStride) {
      EXPECT_TRUE(guest.cpu().Access(at(i), Write()).hit());
    }
    ASSERT_TRUE(
        vm_.mmu().DeleteSlot(kNormal, extra.id, SlotZapPolicy::kTargeted).ok());
    guest.mmu().ExitGuest();
    ASSERT_TRUE(vm_.mmu().CreateSlot(extra).ok());
  }
  done = true;
  look.Join();
}

}  // namespace
}  // namespace shadowmmu::testing
