// Every invariant that the audit checks is broken on purpose, and seen: here
// what only guests outside long mode, with CR0.WP clear, or with protection
// keys have.

#include <gtest/gtest.h>

#include "src/mmu/vcpu_state.h"
#include "tests/mmu/breakable_vm.h"

namespace shadowmmu::testing {
namespace {

using B = BreakableVm;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gfn kShortData{1300};  // of the 32-bit guest
constexpr Gfn kFixedUp{1301};    // of the guest with WP clear
// In its large page of key 5, which is split: it holds guest tables.
constexpr Gfn kKeyed{400};

class AuditBreakModes : public ::testing::Test {
 protected:
  AuditBreakModes() {
    SmallVm& small = vm_.small();
    GuestVcpu& short_entries = small.AddVcpu();
    GuestTableBuilder& short_tables = small.UseTables(
        short_entries, GfnRange{Gfn(200), 16}, GuestMode::kTwoLevel);
    EXPECT_TRUE(
        short_tables.Map(Gva(0x20'5000), ToGpa(kShortData), Level::k4K, kAll)
            .ok());
    EXPECT_TRUE(short_entries.Touch(Gva(0x20'5000), Write()).hit());

    GuestVcpu& fix_ups = small.AddVcpu();
    GuestTableBuilder& tables =
        small.UseTables(fix_ups, GfnRange{Gfn(220), 16});
    EXPECT_TRUE(
        tables.Map(Gva(0x5000), ToGpa(kFixedUp), Level::k4K, gpte::kUser).ok());
    EXPECT_TRUE(
        tables.Map(Gva(0x80'0000), Gpa(0), Level::k2M, kAll | uint64_t{5} << 59)
            .ok());
    // The table's role is to lack the right, too.
    EXPECT_TRUE(
        tables.SetBits(Gva(0x5000), Level::k2M, gpte::kPresent | gpte::kUser)
            .ok());
    PagingRegisters registers = fix_ups.mmu().registers();
    registers.cr0 &= ~cr0::kWp;
    EXPECT_TRUE(fix_ups.mmu().SetRegisters(registers).ok());
    EXPECT_TRUE(fix_ups.Touch(Gva(0x5000), Write()).hit());
    EXPECT_TRUE(
        fix_ups.Touch(Gva(0x80'0000 + ToGpa(kKeyed).value()), Write()).hit());
  }

  // The leaf of `gfn` reads otherwise.
  void ExpectBitsReported(int invariant, const std::string& words, Gfn gfn,
                          uint64_t turned) {
    vm_.ExpectReported(invariant, words, [&](Vm& vm) {
      vm.lock.AssertHeld();
      const SpteRef leaf = LeafOf(vm, gfn);
      return SetEntry(vm, leaf, vm.arena.Load(leaf).bits() ^ turned);
    });
  }
  // The page that has the leaf of `gfn`, or one above it, has another role.
  template <typename Change>
  void ExpectRoleReported(const std::string& words, Gfn gfn, Change change) {
    vm_.ExpectReported(4, words, [&](Vm& vm) {
      vm.lock.AssertHeld();
      PageRole& role = vm.arena.Page(LeafOf(vm, gfn).table()).role;
      return Set(role, change(role));
    });
  }

  BreakableVm vm_;
};

TEST_F(AuditBreakModes, Invariant1BitsThatPaeReservesAreReported) {
  ExpectBitsReported(1, "has bits that the CPU reserves", kShortData,
                     1ull << 52);
  ExpectBitsReported(1, "has bits that the CPU reserves", kShortData,
                     1ull << 62);
}

TEST_F(AuditBreakModes, Invariant1AFixUpThatUserCodeCanUseIsReported) {
  ExpectBitsReported(1, "grants wux, its role -ux", kFixedUp, pte::kUser);
}

TEST_F(AuditBreakModes, Invariant1AFixUpWithWpSetIsReported) {
  // In the page table below the read-only directory entry, of a guest with WP.
  ExpectBitsReported(1, "grants w-x, its role -ux", B::kReadOnly,
                     pte::kUser | pte::kWritable);
}

TEST_F(AuditBreakModes, Invariant1AWritableEntryOfACleanPageIsReported) {
  vm_.ExpectReported(1, "its role -ux", [](Vm& vm) {
    vm.lock.AssertHeld();
    const SpteRef leaf = LeafOf(vm, kKeyed);
    PageRole& role = vm.arena.Page(leaf.table()).role;
    const PageRole parent(Level::k2M, role.space(), PageKind::kIndirect,
                          role.rights(), role.rules());
    Undo undo = Set(role, parent.DirectChild(role.rights().WithoutWrite(),
                                             role.key(), /*clean=*/true));
    return Both(std::move(undo),
                SetEntry(vm, leaf, vm.arena.Load(leaf).bits() & ~pte::kUser));
  });
}

TEST_F(AuditBreakModes, Invariant1AnotherKeyThanTheLargePagesIsReported) {
  ExpectBitsReported(1, "has protection key 4, its page 5", kKeyed,
                     uint64_t{1} << pte::kKeyShift);
}

TEST_F(AuditBreakModes, Invariant4ATableOfTheOtherHalfIsReported) {
  ExpectRoleReported("quadrant 0", kShortData, [](PageRole role) {
    return PageRole(role.level(), role.space(), role.kind(), role.rights(),
                    role.rules(), role.quadrant() ^ 1);
  });
}

TEST_F(AuditBreakModes, Invariant4AChildOfOtherRulesIsReported) {
  ExpectRoleReported("points to one (level ", kFixedUp, [](PageRole role) {
    return PageRole(
        role.level(), role.space(), role.kind(), role.rights(),
        GuestRules::FromBits(role.rules().bits() ^ GuestRules::kFixUpsSmep));
  });
}

TEST_F(AuditBreakModes, Invariant4ADirectoryOfAnotherQuarterIsReported) {
  vm_.ExpectReported(4, "has for GiB 1 a page", [](Vm& vm) {
    vm.lock.AssertHeld();
    VcpuState& vcpu = *vm.vcpus[3];
    PageRole& role = vm.arena.Page(vcpu.root.page[1]).role;
    return Set(role, PageRole(role.level(), role.space(), role.kind(),
                              role.rights(), role.rules(), 2));
  });
}

TEST_F(AuditBreakModes, Invariant5ARootOfAnotherGenerationIsReported) {
  vm_.ExpectReported(5, "a root of generation ", [](Vm& vm) {
    vm.lock.AssertHeld();
    uint64_t& generation = vm.vcpus[0]->root.mmu_valid_gen;
    return Set(generation, generation + 1);
  });
}

TEST_F(AuditBreakModes, Invariant5AVcpuThatRunsOnAnObsoleteRootIsReported) {
  ASSERT_TRUE(vm_.small().vcpu(0).mmu().EnterGuest().resume());
  vm_.ExpectReported(5, "vCPU 0 is in the guest on an obsolete root",
                     [](Vm& vm) {
                       vm.lock.AssertHeld();
                       return Set(vm.vcpus[0]->entered_generation, 0);
                     });
  vm_.small().vcpu(0).mmu().ExitGuest();
}

TEST_F(AuditBreakModes, Invariant12AVcpuThatRunsOnARootOfBeforeARelease) {
  ASSERT_TRUE(vm_.small().vcpu(0).mmu().EnterGuest().resume());
  vm_.ExpectReported(12, "vCPU 0 is in the guest on a root of epoch 0",
                     [](Vm& vm) {
                       vm.lock.AssertHeld();
                       return Set(vm.vcpus[0]->root.epoch, 0);
                     });
  vm_.small().vcpu(0).mmu().ExitGuest();
}

TEST_F(AuditBreakModes, Invariant12ARootOfAnEpochToComeIsReported) {
  vm_.ExpectReported(12, "a root is of epoch ", [](Vm& vm) {
    vm.lock.AssertHeld();
    uint64_t& epoch = vm.vcpus[0]->root.epoch;
    return Set(epoch, epoch + 1);
  });
}

TEST_F(AuditBreakModes, Invariant12AHashOfAnotherEpochIsReported) {
  vm_.ExpectReported(12, "the hash is of epoch ", [](Vm& vm) {
    vm.lock.AssertHeld();
    uint64_t& epoch = vm.generations.arena_epoch;
    return Set(epoch, epoch + 1);
  });
}

TEST_F(AuditBreakModes, Invariant4ARootEntryForATableThatIsNotHeldIsReported) {
  vm_.ExpectReported(4, "vCPU 3 walks from another root", [](Vm& vm) {
    vm.lock.AssertHeld();
    std::atomic<uint64_t>& place = vm.vcpus[3]->pae_entries[1];
    const uint64_t old = place.exchange(0);
    return Undo([&place, old] { place = old; });
  });
}

}  // namespace
}  // namespace shadowmmu::testing
