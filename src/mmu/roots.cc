#include "src/mmu/roots.h"

#include <array>

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/make_room.h"
#include "src/mmu/page_life.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// Makes sure that a guest table which the root names can be shadowed: it lies
// in a live slot, and there are counts for it.
std::optional<FaultOutcome> PrepareTable(const SlotTable& slots,
                                         AddressSpace space, Gfn gfn) {
  const Memslot* slot = slots.Find(space, gfn);
  if (slot == nullptr) {
    return FaultOutcome::MemoryFault(ToGpa(gfn),
                                     MemoryFaultReason::kTableOutsideSlots);
  }
  if (!slot->live()) return FaultOutcome::Retry();
  if (!slot->rmaps->EnsureWriteTrack(gfn)) return FaultOutcome::NoMemory();
  return std::nullopt;
}

// What a root is to be made of: a guest table or, with paging off, the first
// gfn, for each page; nullopt where there is none.
struct RootPlan {
  unsigned pages = 0;
  std::array<std::optional<Gfn>, RootHandle::kMaxPages> gfn = {};
};

// With PAE paging a table outside the slots matters to the accesses that need
// it, and to no other.
std::optional<FaultOutcome> PlanPdptes(const SlotTable& slots,
                                       const VcpuState& vcpu, RootPlan* plan) {
  const PagingMode& mode = vcpu.paging;
  for (unsigned i = 0; i < RootHandle::kMaxPages; ++i) {
    if ((mode.pdptes[i] & pte::kPresent) == 0) continue;
    const Gfn gfn = mode.format.TableOf(mode.pdptes[i]);
    const auto bad = PrepareTable(slots, vcpu.space, gfn);
    if (!bad) {
      plan->gfn[i] = gfn;
    } else if (bad->kind != FaultOutcome::Kind::kMemoryFault) {
      return bad;
    }
  }
  return std::nullopt;
}

std::optional<FaultOutcome> PlanRoot(const SlotTable& slots,
                                     const VcpuState& vcpu, RootPlan* plan) {
  const PagingMode& mode = vcpu.paging;
  plan->pages = UsesPaeRoot(mode) ? RootHandle::kMaxPages : 1;
  if (mode.UsesPdptes()) return PlanPdptes(slots, vcpu, plan);
  for (unsigned i = 0; i < plan->pages; ++i) {
    plan->gfn[i] =
        mode.format.off() ? Gfn(i * PagesPerEntry(Level::k1G)) : mode.root;
  }
  if (mode.format.off()) return std::nullopt;
  return PrepareTable(slots, vcpu.space, mode.root);
}

PageRole RoleOfRoot(const VcpuState& vcpu, unsigned i) {
  const PagingMode& mode = vcpu.paging;
  const bool off = mode.format.off();
  const unsigned quadrant = mode.rules.layout() == EntryLayout::k32Bit ? i : 0;
  return PageRole(off ? Level::k2M : mode.format.root_level(), vcpu.space,
                  off ? PageKind::kDirect : PageKind::kIndirect, Rights::All(),
                  mode.rules, quadrant);
}

// What stands in a PAE root for the page directory `table`, or for none.
Spte PaeRootEntry(Vm& vm, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  if (table == TableIndex::kNil) return Spte();
  const Spte entry = vm.format.PaeRoot(vm.arena.HpaOf(table));
  SMMU_CHECK_EQ(vm.format.ReservedBitsSetInRoot(entry), 0u);
  return entry;
}

void MakeRoot(Vm& vm, VcpuState& vcpu, const RootPlan& plan)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  RootHandle& root = vcpu.root;
  root.pages = plan.pages;
  root.epoch = vm.generations.arena_epoch;
  FlushObligation flush;
  for (unsigned i = 0; i < plan.pages; ++i) {
    if (!plan.gfn[i]) continue;
    const TableIndex table =
        FindOrMakePage(vm, *plan.gfn[i], RoleOfRoot(vcpu, i), flush);
    ++vm.arena.Page(table).root_count;
    root.page[i] = table;
  }
  if (UsesPaeRoot(vcpu.paging)) {
    for (unsigned i = 0; i < plan.pages; ++i) {
      vcpu.pae_entries[i].store(PaeRootEntry(vm, root.page[i]).bits(),
                                std::memory_order_release);
    }
    vcpu.hardware.root = vcpu.pae_root;
  } else {
    vcpu.hardware.root = vm.arena.HpaOf(root.page[0]);
  }
  vcpu.requests.fetch_or(request::kFlushTlb, std::memory_order_seq_cst);
  flush.Pay(vm);
}

}  // namespace

bool RootUsable(Vm& vm, const VcpuState& vcpu) {
  const RootHandle& root = vcpu.root;
  if (root.empty() || root.epoch != vm.generations.arena_epoch) return false;
  for (unsigned i = 0; i < root.pages; ++i) {
    if (root.page[i] == TableIndex::kNil) continue;
    const ShadowPage& page = vm.arena.Page(root.page[i]);
    if (page.state != PageState::kActive ||
        page.mmu_valid_gen != vm.generations.mmu_valid_gen) {
      return false;
    }
  }
  return true;
}

std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu) {
  {
    MutexLock held(&vm.lock);
    if (RootUsable(vm, vcpu)) return std::nullopt;
  }
  const SlotReader reader(vm.slots);
  RootPlan plan;
  if (auto bad = PlanRoot(reader.table(), vcpu, &plan)) return bad;
  VmLock held(vm);
  ReleaseRoot(vm, vcpu);
  if (!MakeRoom(vm, held, NeedsOfFault(plan.pages))) {
    return FaultOutcome::NoMemory();
  }
  MakeRoot(vm, vcpu, plan);
  return std::nullopt;
}

void ReleaseRoot(Vm& vm, VcpuState& vcpu) {
  vm.lock.AssertHeld();
  const bool current = vcpu.root.epoch == vm.generations.arena_epoch;
  for (unsigned i = 0; current && i < vcpu.root.pages; ++i) {
    const TableIndex table = vcpu.root.page[i];
    if (table == TableIndex::kNil) continue;
    ShadowPage& page = vm.arena.Page(table);
    SMMU_CHECK_GT(page.root_count, 0u);
    if (--page.root_count == 0 && page.state == PageState::kZapped) {
      FreeUnpinned(vm, table);
    }
  }
  vcpu.root = RootHandle();
}

}  // namespace shadowmmu
