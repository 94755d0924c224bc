// A VM whose pools others have emptied, and whose vCPU is about to fault on a
// page that needs something of each: for shared_fault_test.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_NO_MEMORY_SHORT_VM_H_
#define SHADOWMMU_TESTS_NO_MEMORY_SHORT_VM_H_

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/mmu/make_room.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

inline constexpr Gva kGva{0x80'0000'0000};
inline constexpr Gfn kData{2560};
// The tables below the root that lead to kGva: each, and the page itself, in
// 2 MiB of its own.
inline constexpr std::array<Gfn, 3> kTables = {Gfn(1024), Gfn(1536), Gfn(2048)};
inline constexpr uint32_t kMade = kTables.size();
// The indices of a pool that others have.
template <typename T>
class Taken {
 public:
  // All that is available but `left`.
  void Take(BlockPool<T>& pool, uint32_t left = 0) {
    while (pool.available() > left) indices_.push_back(pool.Take());
  }
  void PutBack(BlockPool<T>& pool) {
    for (const uint32_t index : indices_) pool.Put(index);
    indices_.clear();
  }

 private:
  std::vector<uint32_t> indices_;
};

// A vCPU that has its root, and has faulted elsewhere; all pools but those that
// a test leaves something in are empty, and so is the vCPU's reserve.
class ShortVm {
 public:
  ShortVm()
      : vm_(SmallVm::Options{
            .table_capacity = 64, .max_vcpus = 2, .time_lock_holds = true}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    GuestTableBuilder& tables = vm_.UseTables(*cpu_, {Gfn(16), 16});
    constexpr std::array<Level, 3> kLevels = {Level::k512G, Level::k1G,
                                              Level::k2M};
    for (unsigned i = 0; i < kMade; ++i) {
      EXPECT_TRUE(tables.SetTable(kGva, kLevels[i], kTables[i]).ok());
    }
    EXPECT_TRUE(
        tables
            .Map(kGva, ToGpa(kData), Level::k4K, gpte::kWritable | gpte::kUser)
            .ok());
    // Pages that may be evicted: three for the first, two for each other.
    for (uint64_t i = 0; i < 4; ++i) {
      const Gva gva(i << 30);
      EXPECT_TRUE(tables
                      .Map(gva, ToGpa(Gfn(500 + i)), Level::k4K,
                           gpte::kWritable | gpte::kUser)
                      .ok());
      EXPECT_TRUE(cpu_->Touch(gva, Write()).hit());
    }
  }

  // Whoever faults first makes the chunks; so that it is not who is looked at.
  void MakeChunks() {
    Vm& vm = inside();
    const VmLock held(vm);
    const Memslot* slot = vm.slot_table().Find(AddressSpace::kNormal, Gfn(0));
    ASSERT_TRUE(slot->rmaps->EnsureChunk(kData));
    for (const Gfn table : kTables) {
      ASSERT_TRUE(slot->rmaps->EnsureWriteTrack(table));
    }
  }

  struct Left {
    uint32_t translations = 0;
    uint32_t descriptors = 0;
    uint32_t place_arrays = 0;
  };
  void Drain(const Left& left) {
    Vm& vm = inside();
    VmLock held(vm);
    ListReserve& reserve = vm.vcpus[0]->writer.reserve;
    EXPECT_TRUE(MakeRoom(vm, held, reserve,
                         {.translations = left.translations,
                          .lists = {.descriptors = left.descriptors,
                                    .place_arrays = left.place_arrays}}));
    vm.lists.EmptyReserve(reserve);
    TakeAllBut(vm, left);
  }
  void TakeAll() {
    Vm& vm = inside();
    const VmLock held(vm);
    TakeAllBut(vm, {});
  }
  void PutBack() {
    Vm& vm = inside();
    const VmLock held(vm);
    translations_.PutBack(vm.arena.translations());
    descriptors_.PutBack(vm.lists.descriptors());
    places_.PutBack(vm.lists.back_references().pool());
  }

  FaultOutcome Fault() { return cpu_->mmu().HandleFault(kGva, Write()); }
  // What is taken from the pools, in whatever use.
  struct InUse {
    uint32_t tables = 0;
    uint32_t translations = 0;
    uint32_t descriptors = 0;
    uint32_t place_arrays = 0;
    uint32_t reserved = 0;  // of the last two
    friend bool operator==(const InUse&, const InUse&) = default;
  };
  InUse Used() {
    Vm& vm = inside();
    const VmLock held(vm);
    const ListNeeds reserved = InReserves(vm);
    return {.tables = vm.arena.tables_in_use(),
            .translations = vm.arena.translations().in_use(),
            .descriptors = vm.lists.descriptors().in_use(),
            .place_arrays = vm.lists.back_references().pool().in_use(),
            .reserved = reserved.descriptors + reserved.place_arrays};
  }
  uint64_t Holds() {
    const Stats stats = vm_.mmu().GetStats();
    return std::accumulate(stats.lock_holds.begin(), stats.lock_holds.end(),
                           uint64_t{0});
  }
  uint64_t PagesMade() { return vm_.mmu().GetStats().pages_created; }
  // Each shadow page that is no root has a parent.
  void ExpectAllLinked() {
    for (const PageRecord& page : Dump(vm_.mmu()).pages) {
      EXPECT_TRUE(page.roots != 0 || page.parents != 0)
          << page << " was made, and leads from nowhere";
    }
  }
  void ExpectMapped() {
    const TouchResult touched = cpu_->Touch(kGva, Write());
    ASSERT_TRUE(touched.hit()) << touched;
    EXPECT_EQ(ToPfn(touched.hpa), vm_.PfnOf(kData));
    EXPECT_EQ(vm_.RmapLength(kData), 1u);
  }

  TestHost& host() { return vm_.host(); }
  SmallVm& vm() { return vm_; }
  Vm& inside() { return vm_.mmu().internals(); }

 private:
  void TakeAllBut(Vm& vm, const Left& left)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
    translations_.Take(vm.arena.translations(), left.translations);
    descriptors_.Take(vm.lists.descriptors(), left.descriptors);
    places_.Take(vm.lists.back_references().pool(), left.place_arrays);
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  Taken<TranslationArray> translations_;
  Taken<PteListDesc> descriptors_;
  Taken<PlaceArray> places_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_NO_MEMORY_SHORT_VM_H_
