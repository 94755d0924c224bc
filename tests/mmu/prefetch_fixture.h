// A VM that prefetches, whose guest has mapped a row of pages and used them:
// for prefetch_test.cc and prefetch_rights_test.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_PREFETCH_FIXTURE_H_
#define SHADOWMMU_TESTS_MMU_PREFETCH_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

// A row of pages: page i at kGva + i pages, mapped to gfn kData + i.
class Prefetch : public ::testing::Test {
 protected:
  // Of an entry that has been used for writing.
  static constexpr uint64_t kUsed =
      gpte::kWritable | gpte::kUser | gpte::kAccessed | gpte::kDirty;
  // Entry 0 of a page table, in every mode.
  static constexpr Gva kGva{0x4000'0000};
  static constexpr Gfn kData{1024};
  static constexpr GfnRange kTables{Gfn(16), 64};
  static constexpr uint64_t kWindow = 8;

  explicit Prefetch(uint32_t window = kWindow)
      : vm_(SmallVm::Options{.prefetch = window}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 4096});
    cpu_ = &vm_.AddVcpu();
    Use(GuestMode::kFourLevel);
  }
  ~Prefetch() override { EXPECT_EQ(vm_.Violations(), ""); }

  void Use(GuestMode mode) { tables_ = &vm_.UseTables(*cpu_, kTables, mode); }
  static Gva At(uint64_t page) { return kGva + page * kPageSize; }
  void Map(uint64_t page, Gfn gfn, uint64_t bits = kUsed) {
    ASSERT_TRUE(tables_->Map(At(page), ToGpa(gfn), Level::k4K, bits).ok());
  }
  void MapRow(uint64_t pages, uint64_t bits = kUsed) {
    for (uint64_t i = 0; i < pages; ++i) Map(i, kData + i, bits);
  }
  HvaRange HvasOf(Gfn gfn) {
    return {*vm_.memory().HvaOf(AddressSpace::kNormal, ToGpa(gfn)), kPageSize};
  }
  uint64_t Prefetched() { return vm_.mmu().GetStats().sptes_prefetched; }
  // The one leaf that maps `gfn`; nullopt: none.
  std::optional<LeafRecord> Leaf(Gfn gfn) {
    std::optional<LeafRecord> found;
    for (const LeafRecord& leaf : Dump(vm_.mmu()).leaves) {
      if (leaf.gfn != gfn) continue;
      EXPECT_FALSE(found.has_value()) << gfn << " is mapped twice";
      found = leaf;
    }
    return found;
  }
  bool Mapped(uint64_t page) { return Leaf(kData + page).has_value(); }
  bool Writable(Gfn gfn) {
    const std::optional<LeafRecord> leaf = Leaf(gfn);
    EXPECT_TRUE(leaf.has_value()) << gfn << " is not mapped";
    return leaf.has_value() && leaf->writable;
  }
  void Touch(uint64_t page, const Access& access = Read()) {
    ASSERT_TRUE(cpu_->Touch(At(page), access).hit()) << page;
  }
  // The access goes through, in so many faults, at the frame of `gfn`.
  void ExpectHit(Gva gva, const Access& access, Gfn gfn, uint32_t faults) {
    const TouchResult touched = cpu_->Touch(gva, access);
    ASSERT_TRUE(touched.hit()) << gva << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(gfn))) << gva;
    EXPECT_EQ(touched.faults, faults) << gva;
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_PREFETCH_FIXTURE_H_
