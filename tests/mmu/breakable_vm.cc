#include "tests/mmu/breakable_vm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kAliasesGva{0x40'0000'0000};
constexpr Gva kReadOnlyGva{0x40'0040'0000};
constexpr Gva kRootTableGva{0x40'0060'0000};
constexpr Gva kTableSlotGva{0x40'0080'0000};
constexpr Gva kTableInLargeGva{0x40'00a0'0000};
constexpr Gva kLargeGva{0x40'0100'0000};

void Check(const absl::Status& status) {
  SMMU_CHECK(status.ok()) << status.ToString();
}
void CheckHit(const TouchResult& touched) {
  SMMU_CHECK(touched.hit()) << touched;
}

}  // namespace

Undo Both(Undo first, Undo second) {
  return [first = std::move(first), second = std::move(second)] {
    second();
    first();
  };
}

BreakableVm::BreakableVm() : vm_(SmallVm::Options{.largest = Level::k2M}) {
  const auto add = [this](uint32_t id, GfnRange gfns, AddressSpace space) {
    vm_.AddSlot({.id = SlotId{id},
                 .space = space,
                 .base = gfns.begin,
                 .pages = gfns.pages});
  };
  add(0, kMain, AddressSpace::kNormal);
  add(1, kLarge, AddressSpace::kNormal);
  add(2, kTableSlot, AddressSpace::kNormal);
  add(0, kMain, AddressSpace::kSmm);
  for (int i = 0; i < 3; ++i) vm_.AddVcpu();
  tables_ = &vm_.UseTables(vm_.vcpu(0), {kRootTable, 64});
  other_tables_ = &vm_.UseTables(vm_.vcpu(1), {Gfn(100), 16});
  Check(vm_.vcpu(2).mmu().SetAddressSpace(AddressSpace::kSmm));
  MapEverything();
  TouchEverything();
}

void BreakableVm::MapEverything() {
  const auto map = [this](Gva gva, Gfn gfn, Level level = Level::k4K) {
    Check(tables_->Map(gva, ToGpa(gfn), level, kAll));
  };
  for (unsigned i = 0; i < kAliases; ++i) {
    map(kAliasesGva + i * kPageSize, kAliased);
  }
  map(kSingleGva, kSingle);
  map(kReadOnlyGva, kReadOnly);
  Check(
      tables_->SetBits(kReadOnlyGva, Level::k2M, gpte::kPresent | gpte::kUser));
  map(kRootTableGva, kRootTable);
  map(kLargeGva, kLarge.begin, Level::k2M);
  Check(tables_->SetTable(kTableSlotGva, Level::k2M, kTableSlot.begin));
  map(kTableSlotGva, kAliased);
  Check(tables_->SetTable(kTableInLargeGva, Level::k2M, kTableInLarge));
  map(kTableInLargeGva, kAliased);
  // vCPU 1 has a root of its own, and shares everything below.
  const Gfn shared = ToGfn(
      Gpa(tables_->Entry(kAliasesGva, Level::k512G).value() & gpte::kAddress));
  Check(other_tables_->SetTable(kAliasesGva, Level::k512G, shared));
}

void BreakableVm::TouchEverything() {
  GuestVcpu& vcpu = vm_.vcpu(0);
  for (unsigned i = 0; i < kAliases; ++i) {
    CheckHit(vcpu.Touch(kAliasesGva + i * kPageSize, Write()));
  }
  CheckHit(vcpu.Touch(kSingleGva, Write()));
  CheckHit(vcpu.Touch(kReadOnlyGva, Read()));
  CheckHit(vcpu.Touch(kRootTableGva, Read()));
  CheckHit(vcpu.Touch(kTableSlotGva, Write()));
  // The large page first: it stays, read-only, when a table is found in it.
  CheckHit(vcpu.Touch(kLargeGva, Write()));
  CheckHit(vcpu.Touch(kTableInLargeGva, Write()));
  CheckHit(vm_.vcpu(1).Touch(kAliasesGva, Write()));
  CheckHit(vm_.vcpu(2).Touch(Gva(ToGpa(kAliased).value()), Write()));
  CheckHit(vm_.vcpu(2).Touch(Gva(ToGpa(kRootTable).value()), Read()));
}

void BreakableVm::ExpectHealthy(const char* when) {
  EXPECT_EQ(vm_.Violations(kAliases + 6), "") << when;
}

void BreakableVm::ExpectReported(int invariant, const std::string& words,
                                 const Damage& damage) {
  Undo undo;
  ExpectReportedUnlocked(invariant, words, [&](Vm& vm) {
    {
      const VmLock held(vm);
      undo = damage(vm);
    }
    return [&vm, &undo] {
      const VmLock held(vm);
      undo();
    };
  });
}

void BreakableVm::ExpectReportedUnlocked(int invariant,
                                         const std::string& words,
                                         const Damage& damage) {
  ExpectHealthy("before the damage");
  const Undo undo = damage(inside());
  const AuditReport report = Audit(vm_.mmu());
  std::ostringstream prefix;
  prefix << "invariant " << invariant << ": ";
  EXPECT_TRUE(std::any_of(report.violations.begin(), report.violations.end(),
                          [&](const std::string& line) {
                            return line.find(prefix.str()) == 0 &&
                                   line.find(words) != std::string::npos;
                          }))
      << "no \"" << prefix.str() << "\" with \"" << words << "\" in\n"
      << report;
  undo();
  ExpectHealthy("after the repair");
}

const Memslot& SlotOf(Vm& vm, Gfn gfn, AddressSpace space) {
  const Memslot* const slot = vm.slot_table().Find(space, gfn);
  SMMU_CHECK(slot != nullptr) << gfn;
  return *slot;
}

RmapHead& HeadOf(Vm& vm, Gfn gfn, Level level, AddressSpace space) {
  RmapHead* const head =
      SlotOf(vm, gfn, space)
          .rmaps->Head(gfn, level, vm.generations.arena_epoch);
  SMMU_CHECK(head != nullptr) << gfn << " at " << level;
  return *head;
}

SpteRef LeafOf(Vm& vm, Gfn gfn, Level level, AddressSpace space) {
  const SpteRef ref = vm.lists.Newest(HeadOf(vm, gfn, level, space));
  SMMU_CHECK(!ref.nil()) << gfn << " at " << level;
  return ref;
}

TableIndex PageOf(Vm& vm, Gfn gfn) {
  TableIndex found = TableIndex::kNil;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) { found = table; });
  SMMU_CHECK(found != TableIndex::kNil) << gfn;
  return found;
}

std::pair<SpteRef, TableIndex> AnyLink(Vm& vm) {
  for (TableIndex table = vm.pages.oldest(); table != TableIndex::kNil;
       table = vm.pages.Next(table)) {
    const RmapHead parents = vm.arena.Page(table).parents;
    if (!parents.empty() && !parents.chain()) {
      return {parents.single(), table};
    }
  }
  SMMU_CHECK(false) << "no table has one parent";
  return {};
}

TableIndex YoungestPage(Vm& vm) {
  TableIndex table = vm.pages.oldest();
  while (vm.pages.Next(table) != TableIndex::kNil) table = vm.pages.Next(table);
  return table;
}

Undo SetEntry(Vm& vm, SpteRef ref, uint64_t bits) {
  std::atomic<uint64_t>& entry = vm.arena.Entry(ref);
  const uint64_t old = entry.exchange(bits);
  return [&entry, old] { entry = old; };
}

}  // namespace shadowmmu::testing
