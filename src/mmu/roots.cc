#include "src/mmu/roots.h"

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/make_room.h"
#include "src/mmu/page_life.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// Makes sure that the guest's root table can be shadowed: it lies in a live
// slot, and there are counts for it.
std::optional<FaultOutcome> PrepareRootTable(const SlotTable& slots,
                                             const VcpuState& vcpu) {
  const Gfn gfn = vcpu.paging.root;
  const Memslot* slot = slots.Find(vcpu.space, gfn);
  if (slot == nullptr) {
    return FaultOutcome::MemoryFault(ToGpa(gfn),
                                     MemoryFaultReason::kTableOutsideSlots);
  }
  if (!slot->live()) return FaultOutcome::Retry();
  if (!slot->rmaps->EnsureWriteTrack(gfn)) return FaultOutcome::NoMemory();
  return std::nullopt;
}

void HoldRoot(Vm& vm, VcpuState& vcpu, TableIndex table)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ++vm.arena.Page(table).root_count;
  vcpu.root.page[vcpu.root.pages++] = table;
  vcpu.root.epoch = vm.generations.arena_epoch;
}

void MakeRoot(Vm& vm, VcpuState& vcpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const PagingMode& mode = vcpu.paging;
  vcpu.hardware = HardwareStateFor(mode, vm.entry_format);
  FlushObligation flush;
  if (!UsesPaeRoot(mode)) {
    const PageRole role(mode.root_level(), vcpu.space, PageKind::kIndirect,
                        Rights::All(), mode.no_execute);
    HoldRoot(vm, vcpu, FindOrMakePage(vm, mode.root, role, flush));
    vcpu.hardware.root = vm.arena.HpaOf(vcpu.root.page[0]);
  } else {
    const PageRole role(Level::k2M, vcpu.space, PageKind::kDirect,
                        Rights::All(), mode.no_execute);
    for (unsigned i = 0; i < RootHandle::kMaxPages; ++i) {
      const Gfn gfn(i * PagesPerEntry(Level::k1G));
      HoldRoot(vm, vcpu, FindOrMakePage(vm, gfn, role, flush));
      vcpu.pae_entries[i].store(
          vm.format.PaeRoot(vm.arena.HpaOf(vcpu.root.page[i])).bits(),
          std::memory_order_release);
    }
    vcpu.hardware.root = vcpu.pae_root;
  }
  flush.Pay(vm);
}

}  // namespace

bool RootUsable(Vm& vm, const VcpuState& vcpu) {
  const RootHandle& root = vcpu.root;
  if (root.empty() || root.epoch != vm.generations.arena_epoch) return false;
  for (unsigned i = 0; i < root.pages; ++i) {
    const ShadowPage& page = vm.arena.Page(root.page[i]);
    if (page.state != PageState::kActive ||
        page.mmu_valid_gen != vm.generations.mmu_valid_gen) {
      return false;
    }
  }
  return true;
}

std::optional<FaultOutcome> LoadRoot(Vm& vm, VcpuState& vcpu) {
  const SlotReader reader(vm.slots);
  if (!UsesPaeRoot(vcpu.paging)) {
    if (auto bad = PrepareRootTable(reader.table(), vcpu)) return bad;
  }
  VmLock held(vm);
  if (RootUsable(vm, vcpu)) return std::nullopt;
  ReleaseRoot(vm, vcpu);
  const uint32_t pages = UsesPaeRoot(vcpu.paging) ? RootHandle::kMaxPages : 1;
  if (!MakeRoom(vm, held, NeedsOfFault(pages))) return FaultOutcome::NoMemory();
  MakeRoot(vm, vcpu);
  return std::nullopt;
}

void ReleaseRoot(Vm& vm, VcpuState& vcpu) {
  vm.lock.AssertHeld();
  const bool current = vcpu.root.epoch == vm.generations.arena_epoch;
  for (unsigned i = 0; current && i < vcpu.root.pages; ++i) {
    const TableIndex table = vcpu.root.page[i];
    ShadowPage& page = vm.arena.Page(table);
    SMMU_CHECK_GT(page.root_count, 0u);
    if (--page.root_count == 0 && page.state == PageState::kZapped) {
      FreeUnpinned(vm, table);
    }
  }
  vcpu.root = RootHandle();
}

}  // namespace shadowmmu
