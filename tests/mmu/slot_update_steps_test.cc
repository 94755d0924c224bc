// What others see while a slot goes: the host between the steps, vCPUs that are
// in the guest, notifiers; and slots in numbers.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "shadowmmu/audit.h"
#include "shadowmmu/mmu.h"
#include "src/mmu/vm.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kGoing{1};
constexpr SlotId kStaying{2};
constexpr Hva kHva{0x5000'0000};
constexpr uint64_t kPages = 16;
constexpr unsigned kVcpus = 4;
// With paging off a gva is a gpa.
constexpr Gva kGvaGoing{0};
constexpr Gva kGvaStaying{kPages * kPageSize};
constexpr Gfn kElsewhere{0x8'0000};

// Calls a hook at each kick and each flush: the moments between the steps of an
// update when the library holds the MMU lock and the world is as it says.
class LookingHost : public TestHost {
 public:
  using TestHost::TestHost;
  void Kick(const VcpuSet& set) override {
    if (on_kick) on_kick(set);
    TestHost::Kick(set);
  }
  void FlushTlb(const VcpuSet& set, FlushRange range) override {
    if (on_flush) on_flush(set);
    TestHost::FlushTlb(set, range);
  }
  std::function<void(const VcpuSet&)> on_kick;
  std::function<void(const VcpuSet&)> on_flush;
};

// vCPUs with paging off that have mapped a page of each of two slots. They run
// where they are: nothing here leaves the guest by itself.
class SlotSteps : public ::testing::Test {
 protected:
  SlotSteps() {
    host_.MapRange(kHva, 2 * kPages, Frame{0});
    mmu_ = *Mmu::Create({.host = &host_});
    EXPECT_TRUE(mmu_->CreateSlot(Slot(kGoing, Gfn(0), kHva)).ok());
    EXPECT_TRUE(
        mmu_->CreateSlot(Slot(kStaying, Gfn(kPages), kHva + kPages * kPageSize))
            .ok());
    for (unsigned i = 0; i < kVcpus; ++i) {
      vcpus_[i] = *mmu_->CreateVcpu(VcpuId{i});
      cpus_[i].emplace(&host_, host_.Format());
      host_.Attach(VcpuId{i}, &*cpus_[i]);
    }
  }
  ~SlotSteps() override {
    host_.on_kick = nullptr;
    host_.on_flush = nullptr;
    EXPECT_TRUE(Audit(*mmu_).ok()) << Audit(*mmu_);
    for (unsigned i = 0; i < kVcpus; ++i) {
      vcpus_[i].reset();
      host_.Detach(VcpuId{i});
    }
  }

  static SlotSpec Slot(SlotId id, Gfn base, Hva hva) {
    return {.id = id, .base = base, .pages = kPages, .hva = hva};
  }
  void Enter(unsigned i) {
    ASSERT_TRUE(vcpus_[i]->EnterGuest().resume());
    ASSERT_EQ(cpus_[i]->Enter(vcpus_[i]->HardwareState()), "");
  }
  // Every vCPU maps both pages, and is in the guest in the end.
  void EnterAll() {
    for (unsigned i = 0; i < kVcpus; ++i) {
      for (const Gva gva : {kGvaGoing, kGvaStaying}) {
        ASSERT_TRUE(vcpus_[i]->HandleFault(gva, Write()).resume());
      }
      ASSERT_NO_FATAL_FAILURE(Enter(i));
      for (const Gva gva : {kGvaGoing, kGvaStaying}) {
        ASSERT_TRUE(cpus_[i]->Access(gva, Write()).hit());
      }
    }
  }
  void LeaveAll() {
    for (const auto& vcpu : vcpus_) vcpu->ExitGuest();
  }

  struct Look {
    bool found = false;    // by Mmu::FindSlot
    bool invalid = false;  // it is there, and INVALID
    bool dying = false;    // its rmaps are remove-only
    uint64_t sptes = 0;    // on its rmaps
    friend bool operator==(const Look&, const Look&) = default;
  };
  // Under the MMU lock, in the middle of an update.
  Look LookAt(SlotId id) {
    const SlotReader reader(mmu_->internals().slots);
    const auto slot = reader.table().FindById(kNormal, id);
    // Nothing here releases.
    constexpr uint64_t kEpoch = Generations().arena_epoch;
    return {.found = mmu_->FindSlot(kNormal, id).has_value(),
            .invalid = slot != nullptr && !slot->live(),
            .dying = slot != nullptr && slot->rmaps->remove_only(),
            .sptes = slot == nullptr ? 0 : slot->rmaps->leaf_sptes(kEpoch)};
  }
  // What is seen of the slot at the kick for its invalidation, at the flush,
  // and what of the slot that stays, while `update` runs.
  struct Looks {
    std::vector<Look> kick;
    std::vector<Look> flush;
    std::vector<Look> staying;
  };
  Looks LookDuring(const std::function<absl::Status()>& update) {
    Looks looks;
    host_.on_kick = [&](const VcpuSet& set) {
      EXPECT_EQ(set.size(), kVcpus) << "somebody in the guest is not kicked";
      looks.kick.push_back(LookAt(kGoing));
      looks.staying.push_back(LookAt(kStaying));
    };
    host_.on_flush = [&](const VcpuSet& set) {
      EXPECT_EQ(set.size(), kVcpus) << "somebody in the guest is not flushed";
      looks.flush.push_back(LookAt(kGoing));
    };
    const absl::Status updated = update();
    EXPECT_TRUE(updated.ok()) << updated;
    host_.on_kick = nullptr;
    host_.on_flush = nullptr;
    return looks;
  }

  LookingHost host_{TestHost::Options{.frames = 2 * kPages}};
  std::unique_ptr<Mmu> mmu_;
  std::array<std::unique_ptr<VcpuMmu>, kVcpus> vcpus_;
  std::array<std::optional<CpuModel>, kVcpus> cpus_;
};

TEST_F(SlotSteps, ASlotThatIsDeletedIsInvalidWhileItsSptesAreOnItsRmaps) {
  EnterAll();
  const Looks looks = LookDuring([this] {
    return mmu_->DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk);
  });
  ASSERT_FALSE(looks.kick.empty());
  EXPECT_EQ(looks.kick.front(),
            (Look{.found = false, .invalid = true, .dying = true, .sptes = 1}))
      << "the first step is the publication as INVALID";
  ASSERT_FALSE(looks.flush.empty());
  EXPECT_EQ(looks.flush.back(),
            (Look{.found = false, .invalid = true, .dying = true, .sptes = 0}))
      << "it is there, for notifiers to find, until all is flushed";
  EXPECT_TRUE(looks.staying.front().found);
  EXPECT_FALSE(mmu_->FindSlot(kNormal, kGoing).has_value());
  LeaveAll();
}

TEST_F(SlotSteps, ASlotThatMovesIsInvalidInBetween) {
  EnterAll();
  const Looks looks = LookDuring([this] {
    return mmu_->MoveSlot(kNormal, kGoing, kElsewhere, SlotZapPolicy::kWalk);
  });
  ASSERT_FALSE(looks.kick.empty());
  EXPECT_EQ(looks.kick.front(),
            (Look{.found = false, .invalid = true, .dying = true, .sptes = 1}));
  EXPECT_EQ(looks.flush.back().sptes, 0u);
  EXPECT_EQ(mmu_->FindSlot(kNormal, kGoing)->base, kElsewhere);
  LeaveAll();
}

TEST_F(SlotSteps, AFlagNeedsNoInvalidStep) {
  EnterAll();
  const Looks looks = LookDuring([this] {
    return mmu_->SetSlotFlags(kNormal, kGoing, SlotFlags::kReadOnly);
  });
  EXPECT_TRUE(looks.kick.empty());
  ASSERT_EQ(looks.flush.size(), 1u);
  EXPECT_EQ(looks.flush.front(),
            (Look{.found = true, .invalid = false, .sptes = 1}));
  LeaveAll();
}

// Bug 29: a CPU that is in the guest all the while must not reach the slot any
// more when the call returns.
TEST_F(SlotSteps, NoCpuInTheGuestReachesASlotThatIsGone) {
  EnterAll();
  ASSERT_TRUE(mmu_->DeleteSlot(kNormal, kGoing, SlotZapPolicy::kWalk).ok());
  for (unsigned i = 0; i < kVcpus; ++i) {
    EXPECT_FALSE(cpus_[i]->Access(kGvaGoing, Read()).hit()) << "vCPU " << i;
    EXPECT_TRUE(cpus_[i]->exit_requested()) << "vCPU " << i;
  }
  LeaveAll();
  for (unsigned i = 0; i < kVcpus; ++i) {
    EXPECT_EQ(vcpus_[i]->HandleFault(kGvaGoing, Read()).kind,
              FaultOutcome::Kind::kEmulate);
    EXPECT_TRUE(vcpus_[i]->HandleFault(kGvaStaying, Write()).resume());
  }
}

TEST_F(SlotSteps, NoCpuInTheGuestReachesASlotThatHasMoved) {
  EnterAll();
  ASSERT_TRUE(
      mmu_->MoveSlot(kNormal, kGoing, kElsewhere, SlotZapPolicy::kWalk).ok());
  for (auto& cpu : cpus_) EXPECT_FALSE(cpu->Access(kGvaGoing, Read()).hit());
  LeaveAll();
  EXPECT_TRUE(
      vcpus_[0]->HandleFault(Gva(ToGpa(kElsewhere).value()), Write()).resume());
}

TEST_F(SlotSteps, NoCpuInTheGuestWritesASlotThatBecameReadOnly) {
  EnterAll();
  ASSERT_TRUE(mmu_->SetSlotFlags(kNormal, kGoing, SlotFlags::kReadOnly).ok());
  for (auto& cpu : cpus_) {
    EXPECT_TRUE(cpu->Access(kGvaGoing, Read()).hit());
    EXPECT_FALSE(cpu->Access(kGvaGoing, Write()).hit());
    EXPECT_TRUE(cpu->Access(kGvaStaying, Write()).hit());
  }
  LeaveAll();
}

TEST_F(SlotSteps, WhileASlotIsInvalidFaultsAndStoresAreToldToComeBack) {
  EnterAll();
  LeaveAll();
  Vm& vm = mmu_->internals();
  // As DeleteSlot's first step leaves it.
  const auto publish = [&](SlotState state) {
    MutexLock update(&vm.slots.update_lock());
    const SlotTable& table = vm.slots.Current();
    const auto slot = table.FindById(kNormal, kGoing);
    vm.slots.Publish(table.Replacing(std::make_shared<const Memslot>(
        Memslot{slot->spec, state, slot->rmaps})));
  };
  publish(SlotState::kInvalid);
  using Kind = FaultOutcome::Kind;
  const Gpa gpa(8);
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(vcpus_[0]->HandleFault(kGvaGoing + 5 * kPageSize, Read()).kind,
            Kind::kRetry);
  EXPECT_EQ(mmu_->GuestWrite(kNormal, gpa, bytes).kind, Kind::kRetry);
  EXPECT_EQ(mmu_->GuestRead(kNormal, gpa, bytes).kind, Kind::kRetry);
  EXPECT_EQ(mmu_->GuestCompareExchange(kNormal, gpa, 8, 0, 1)->outcome.kind,
            Kind::kRetry);
  EXPECT_EQ(mmu_->Slots().size(), 1u);
  EXPECT_FALSE(mmu_->FindSlot(kNormal, Gfn(0)).has_value());

  // A notifier must still find its sptes.
  EXPECT_TRUE(mmu_->TestAge({kHva, kPageSize}));
  ASSERT_TRUE(mmu_->InvalidateBegin({kHva, kPageSize}).ok());
  EXPECT_EQ(LookAt(kGoing), (Look{.invalid = true, .sptes = 0}));
  ASSERT_TRUE(mmu_->InvalidateEnd({kHva, kPageSize}).ok());
  publish(SlotState::kLive);
  EXPECT_TRUE(vcpus_[0]->HandleFault(kGvaGoing, Read()).resume());
}

// As many as a hypervisor may make in one address space.
TEST(SlotUpdateMany, ThirtyTwoThousandSlotsAreMadeFoundAndDeleted) {
  constexpr uint32_t kSlots = 32'764;
  constexpr uint64_t kStride = 600;  // gfns: a 2 MiB chunk has one or two
  TestHost host(TestHost::Options{.frames = 1});
  auto mmu = *Mmu::Create({.host = &host});
  const uint64_t empty = host.bytes_outstanding();
  const auto spec_of = [](uint32_t i) {
    return SlotSpec{.id = SlotId{i},
                    .base = Gfn(i * kStride),
                    .pages = 1,
                    .hva = kHva + i * kPageSize};
  };
  for (uint32_t i = 0; i < kSlots; ++i) {
    ASSERT_TRUE(mmu->CreateSlot(spec_of(i)).ok()) << i;
  }
  EXPECT_EQ(mmu->Slots().size(), kSlots);
  EXPECT_EQ(mmu->GetStats().slots, kSlots);
  EXPECT_LT((host.bytes_outstanding() - empty) / kSlots, 100u)
      << "an unused slot of one page is not cheap";
  for (uint32_t i = 0; i < kSlots; ++i) {
    const SlotSpec spec = spec_of(i);
    ASSERT_EQ(mmu->FindSlot(kNormal, SlotId{i}), spec);
    ASSERT_EQ(mmu->FindSlot(kNormal, spec.base), spec);
    ASSERT_EQ(mmu->FindSlot(kNormal, spec.base + 1), std::nullopt);
  }
  ASSERT_TRUE(mmu->MoveSlot(kNormal, SlotId{17}, Gfn(kSlots * kStride)).ok());
  ASSERT_TRUE(
      mmu->SetSlotFlags(kNormal, SlotId{18}, SlotFlags::kReadOnly).ok());
  EXPECT_TRUE(Audit(*mmu).ok());
  for (uint32_t i = 0; i < kSlots; i += 64) {
    ASSERT_TRUE(mmu->DeleteSlot(kNormal, SlotId{i}).ok()) << i;
  }
  EXPECT_EQ(mmu->Slots().size(), kSlots - kSlots / 64 - 1);
}

}  // namespace
}  // namespace shadowmmu::testing
