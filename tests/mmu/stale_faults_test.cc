// Faults that go stale once: the root goes between its load and the mapping, or
// anything else while the fault has let go of the MMU lock to make room. The
// next attempt finds what is there now.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tests/mmu/fault_retries_fixture.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

// ---- The root goes between its load and the mapping ----

TEST_F(FaultRetries, ARootThatGoesObsoleteGetsNoEntries) {
  const Hpa root = Root(*cpu_);
  const uint64_t generation = vm_.mmu().generation();
  const uint64_t entries = EntriesOf(generation);
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (vm_.mmu().generation() == generation) vm_.mmu().BumpGeneration();
  });
  const uint64_t retries = Retries();
  EXPECT_TRUE(Fault().resume());
  EXPECT_EQ(Retries() - retries, 1u);
  EXPECT_EQ(EntriesOf(generation), entries);
  ExpectMappedOnce(kData);
  EXPECT_NE(Root(*cpu_), root);
}

// The root that goes is the one that the same fault has loaded.
TEST_F(FaultRetries, ARootThatIsObsoleteAtOnceIsLetGoOf) {
  GuestVcpu& fresh = vm_.AddVcpu();
  ASSERT_TRUE(fresh.mmu().SetRegisters(LongMode(tables_->root())).ok());
  const uint64_t generation = vm_.mmu().generation();
  const uint64_t entries = EntriesOf(generation);
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (vm_.mmu().generation() == generation) vm_.mmu().BumpGeneration();
  });
  EXPECT_TRUE(fresh.mmu().HandleFault(kGva, Write()).resume());
  EXPECT_EQ(EntriesOf(generation), entries);
  ExpectMappedOnce(kData);
  for (const PageRecord& page : Dump(vm_.mmu()).pages) {
    if (page.mmu_valid_gen != generation) continue;
    // That of the other vCPU, which sleeps.
    EXPECT_LE(page.roots, 1u) << "a root that nobody walks is held";
  }
}

// Others are ahead: what they have made since the bump is what is linked, and
// by the new root alone.
TEST_F(FaultRetries, ARootThatGoesObsoleteDoesNotLinkWhatOthersMadeSince) {
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(other.mmu().SetRegisters(LongMode(tables_->root())).ok());
  const uint64_t generation = vm_.mmu().generation();
  const uint64_t entries = EntriesOf(generation);
  bool stopped = false;
  vm_.host().SetResolveHook([&](Hva, AccessType) {
    if (std::exchange(stopped, true)) return;
    vm_.mmu().BumpGeneration();
    EXPECT_TRUE(other.Touch(kGva, Write()).hit());
  });
  EXPECT_TRUE(Fault().resume());
  EXPECT_EQ(EntriesOf(generation), entries);
  ExpectMappedOnce(kData);
  EXPECT_EQ(Root(*cpu_), Root(other));
}

// ---- Stale when there is room at last ----

// A fault that has to grow a pool lets go of the lock for that; what it knew
// before, it does not know after.
class StaleAfterRoom : public FaultRetries {
 protected:
  StaleAfterRoom() {
    // The chunk of the page is there; what grows is a pool.
    Map(kGva + kPageSize, kData + 1);
    EXPECT_TRUE(cpu_->Touch(kGva + kPageSize, Write()).hit());
    Vm& vm = inside();
    const VmLock held(vm);
    vm.lists.EmptyReserve(vm.vcpus[0]->writer.reserve);
    while (vm.lists.descriptors().available() != 0) {
      taken_.push_back(vm.lists.descriptors().Take());
    }
  }
  ~StaleAfterRoom() override {
    Vm& vm = inside();
    const VmLock held(vm);
    for (const uint32_t index : taken_) vm.lists.descriptors().Put(index);
  }

  // The fault gets through in so many attempts, though `change` comes while it
  // has let go of the lock.
  void ExpectLooksAgain(const std::function<void()>& change) {
    int grown = 0;
    vm_.host().SetAllocateHook([&] {
      if (grown++ == 0) change();
    });
    const uint64_t retries = Retries();
    EXPECT_TRUE(Fault().resume());
    vm_.host().SetAllocateHook(nullptr);
    EXPECT_GE(grown, 1) << "nothing had to grow";
    EXPECT_EQ(Retries() - retries, 1u);
    ExpectMappedOnce(kData);
  }

  std::vector<uint32_t> taken_;
};

TEST_F(StaleAfterRoom, ABumpIsNoticed) {
  const uint64_t generation = vm_.mmu().generation();
  const uint64_t entries = EntriesOf(generation);
  ExpectLooksAgain([&] { vm_.mmu().BumpGeneration(); });
  EXPECT_EQ(EntriesOf(generation), entries);
}

TEST_F(StaleAfterRoom, AZapIsNoticed) {
  ExpectLooksAgain([&] { vm_.mmu().InvalidateAll(Strategy::kZapAll); });
}

TEST_F(StaleAfterRoom, ANotifierIsNoticed) {
  ExpectLooksAgain([&] {
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(DataPage()).ok());
    vm_.host().Retarget(DataPage().begin, Frame{5000});
    ASSERT_TRUE(vm_.mmu().InvalidateEnd(DataPage()).ok());
  });
  EXPECT_EQ(vm_.PfnOf(kData), ToPfn(Frame{5000}));
}

TEST_F(StaleAfterRoom, ANotifierThatHasOnlyBegunIsNoticed) {
  bool begun = false;
  vm_.host().SetAllocateHook([&] {
    if (std::exchange(begun, true)) return;
    ASSERT_TRUE(vm_.mmu().InvalidateBegin(DataPage()).ok());
  });
  EXPECT_EQ(Fault().kind, Kind::kRetry);
  vm_.host().SetAllocateHook(nullptr);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  ASSERT_TRUE(vm_.mmu().InvalidateEnd(DataPage()).ok());
  EXPECT_TRUE(Fault().resume());
}

TEST_F(StaleAfterRoom, AnotherEntryIsNoticed) {
  bool changed = false;
  vm_.host().SetAllocateHook([&] {
    if (!std::exchange(changed, true)) Map(kGva, kData + 2);
  });
  EXPECT_TRUE(Fault().resume());
  vm_.host().SetAllocateHook(nullptr);
  EXPECT_EQ(vm_.RmapLength(kData), 0u);
  ExpectMappedOnce(kData + 2);
}

}  // namespace
}  // namespace shadowmmu::testing
