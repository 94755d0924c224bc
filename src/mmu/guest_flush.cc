#include "src/mmu/guest_flush.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "src/mmu/flush.h"
#include "src/mmu/previous_roots.h"
#include "src/mmu/roots.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu {
namespace {

// How often a root is asked for, while notifiers keep being in the way.
constexpr int kMaxLoads = 64;

// Drops the entries that hold the translation of `gva` at the guest's own page
// size, under `root`: a leaf, or the link to the direct page that splits a
// large guest page.
void DropGuestPage(Vm& vm, const RootHandle& root, Gva gva,
                   FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  TableIndex table = root.For(gva);
  while (table != TableIndex::kNil) {
    const PageRole role = vm.arena.Page(table).role;
    const SpteRef ref(table, IndexAt(gva, role.level()));
    const auto maps_page = [&](SpteRef at) {
      vm.lock.AssertHeld();
      const Spte spte = vm.arena.Load(at);
      if (!spte.present()) return false;
      if (spte.leaf(role.level())) return true;
      const TableIndex child = vm.arena.TableAt(vm.format.TableOf(spte));
      return !role.direct() && vm.arena.Page(child).role.direct();
    };
    const Spte spte = vm.arena.Load(ref);
    if (role.level() == Level::k2M && !role.direct() &&
        role.rules().layout() == EntryLayout::k32Bit) {
      // A page of 4 MiB has two entries.
      const SpteRef twin(table, ref.index() ^ 1);
      if (maps_page(twin)) DropEntry(vm, twin, flush);
    }
    if (!spte.present()) return;
    if (maps_page(ref)) return DropEntry(vm, ref, flush);
    table = vm.arena.TableAt(vm.format.TableOf(spte));
  }
}

// Without a current root there is no way to the pages that the next one may
// find again. If none can be had, there is nothing to enter the guest with
// either.
void TryToLoadRoot(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock) {
  for (int i = 0; i < kMaxLoads; ++i) {
    const std::optional<FaultOutcome> bad = LoadRoot(vm, vcpu);
    if (!bad || bad->kind != FaultOutcome::Kind::kRetry) return;
  }
}

// Under the roots in reach of `pcid`, nullopt: of any.
void DropUnderRoots(Vm& vm, VcpuState& vcpu, Gva gva, std::optional<Pcid> pcid)
    ABSL_LOCKS_EXCLUDED(vm.lock) {
  if (!pcid || *pcid == vcpu.root_key.pcid) {
    vcpu.requests.fetch_or(request::kFlushTlb, std::memory_order_seq_cst);
    TryToLoadRoot(vm, vcpu);
  }
  VmLock held(vm);
  FlushObligation flush;
  ForEachRootInReach(vm, vcpu, pcid, [&](const RootHandle& root) {
    vm.lock.AssertHeld();
    DropGuestPage(vm, root, gva, flush);
  });
  flush.Pay(vm);
}

// SDM vol. 2, INVPCID.
absl::Status CheckInvpcid(const VcpuState& vcpu, InvpcidType type,
                          const InvpcidDescriptor& descriptor) {
  if (!vcpu.features.invpcid) {
    return absl::FailedPreconditionError("#UD: the vCPU has no INVPCID");
  }
  if (type > InvpcidType::kAll) {
    return absl::InvalidArgumentError(absl::StrCat(
        "#GP: type: ", static_cast<uint64_t>(type), " is not 0 to 3"));
  }
  if ((descriptor.pcid & ~cr3::kPcid) != 0) {
    return absl::InvalidArgumentError(
        "#GP: descriptor.pcid: reserved bits, 63 to 12, are set");
  }
  const bool names_pcid =
      type == InvpcidType::kAddress || type == InvpcidType::kContext;
  if (names_pcid && descriptor.pcid != 0 && !PcidsEnabled(vcpu.registers)) {
    return absl::InvalidArgumentError(
        "#GP: descriptor.pcid: not 0 with CR4.PCIDE clear");
  }
  if (type == InvpcidType::kAddress &&
      !vcpu.paging.Canonical(vcpu.paging.Linear(descriptor.gva))) {
    return absl::InvalidArgumentError("#GP: descriptor.gva: not canonical");
  }
  return absl::OkStatus();
}

}  // namespace

// Global translations are those of every PCID.
void Invlpg(Vm& vm, VcpuState& vcpu, Gva gva) {
  gva = vcpu.paging.Linear(gva);
  if (!vcpu.paging.Canonical(gva)) return;
  DropUnderRoots(vm, vcpu, gva, std::nullopt);
}

absl::Status Invpcid(Vm& vm, VcpuState& vcpu, InvpcidType type,
                     const InvpcidDescriptor& descriptor) {
  absl::Status good = CheckInvpcid(vcpu, type, descriptor);
  if (!good.ok()) return good;
  const auto pcid = static_cast<Pcid>(descriptor.pcid);
  switch (type) {
    case InvpcidType::kAddress:
      DropUnderRoots(vm, vcpu, vcpu.paging.Linear(descriptor.gva), pcid);
      break;
    case InvpcidType::kContext:
      NoteFlushed(vm, vcpu, pcid);
      break;
    case InvpcidType::kAllWithGlobal:
    case InvpcidType::kAll:
      NoteAllFlushed(vm, vcpu);
      break;
  }
  return absl::OkStatus();
}

}  // namespace shadowmmu
