// A vCPU whose guest has tables of any paging mode, and what it may expect of
// an access: for paging_modes_test.cc and pae_paging_test.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_MMU_PAGING_MODES_FIXTURE_H_
#define SHADOWMMU_TESTS_MMU_PAGING_MODES_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <span>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
inline constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
inline constexpr Gpa kData{0x40'0000};  // aligned to 4 MiB
inline constexpr GfnRange kTables{Gfn(16), 64};
inline constexpr uint64_t kPagesOfSlot = 4096;

class PagingModes : public ::testing::Test {
 protected:
  explicit PagingModes(Level largest = Level::k4K)
      : vm_(SmallVm::Options{.largest = largest}) {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = kPagesOfSlot});
    cpu_ = &vm_.AddVcpu();
  }
  ~PagingModes() override { EXPECT_EQ(vm_.Violations(), ""); }

  // The vCPU gets tables of this mode.
  GuestTableBuilder& Use(GuestMode mode) {
    tables_ = &vm_.UseTables(*cpu_, kTables, mode);
    return *tables_;
  }
  void Map(Gva gva, Gpa gpa, uint64_t bits = kAll, Level level = Level::k4K) {
    ASSERT_TRUE(tables_->Map(gva, gpa, level, bits).ok());
  }
  void ExpectHit(Gva gva, const Access& access, Gpa gpa) {
    const TouchResult touched = cpu_->Touch(gva, access);
    ASSERT_TRUE(touched.hit()) << gva << ": " << touched;
    EXPECT_EQ(touched.hpa, ToHpa(vm_.PfnOf(ToGfn(gpa))) + PageOffset(gpa));
  }
  void ExpectFault(Gva gva, const Access& access, uint32_t code) {
    const TouchResult touched = cpu_->Touch(gva, access);
    ASSERT_TRUE(touched.EndedAs(FaultOutcome::Kind::kGuestFault))
        << gva << ": " << touched;
    EXPECT_EQ(touched.outcome.guest_fault.vector, GuestFault::Vector::kPage);
    EXPECT_EQ(touched.outcome.guest_fault.error_code, code) << gva;
  }
  // A guest's store that the hypervisor emulates.
  template <typename T>
  void Store(Gpa gpa, T value) {
    ASSERT_TRUE(
        vm_.tracked().Write(AddressSpace::kNormal, gpa,
                            std::as_bytes(std::span<const T, 1>(&value, 1))));
  }
  template <typename T>
  void HostStore(Gpa gpa, T value) {
    ASSERT_TRUE(
        vm_.untracked().Write(AddressSpace::kNormal, gpa,
                              std::as_bytes(std::span<const T, 1>(&value, 1))));
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_MMU_PAGING_MODES_FIXTURE_H_
