#include "src/mmu/audit_roots.h"

#include <algorithm>
#include <vector>

#include "src/mmu/audit_lists.h"
#include "src/mmu/flush.h"

namespace shadowmmu {

void AuditRoots::Check() {
  vm_.lock.AssertHeld();
  for (const VcpuState* vcpu : vm_.vcpus) {
    if (vcpu == nullptr) continue;
    SpinLockHolder held(&vcpu->roots_lock);
    CountRoot(vcpu->root);
    for (const PreviousRoot& previous : vcpu->previous) {
      CountRoot(previous.root);
    }
    CheckKeys(*vcpu);
    CheckEntered(*vcpu);
    if (vcpu->root.epoch != vm_.generations.arena_epoch) continue;
    CheckHardwareRoot(*vcpu);
  }
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    const ShadowPage& page = vm_.arena.Page(static_cast<TableIndex>(i));
    const auto found = held_.find(i);
    const uint32_t expected = found == held_.end() ? 0 : found->second;
    const uint32_t counted =
        page.state == PageState::kFree ? 0 : page.root_count;
    if (counted != expected) {
      Violation(report_, 11, "table ", i, " is the root of ", expected,
                " vCPUs, ", counted, " counted");
    }
  }
}

// A switch must find the one root of its key.
void AuditRoots::CheckKeys(const VcpuState& vcpu) {
  std::vector<RootKey> keys;
  const auto check = [&](const RootKey& key, const RootHandle& root) {
    if (root.empty()) return;
    const bool again = std::find(keys.begin(), keys.end(), key) != keys.end();
    if (again || (key.pcid != Pcid() && !key.long_mode)) {
      Violation(report_, 4, "vCPU ", ToInt(vcpu.id),
                " keeps two roots of one key, or one that no CR3 can name");
    }
    keys.push_back(key);
  };
  check(vcpu.root_key, vcpu.root);
  for (const PreviousRoot& previous : vcpu.previous) {
    check(previous.key, previous.root);
  }
}

void AuditRoots::CountRoot(const RootHandle& root) {
  if (root.epoch > vm_.generations.arena_epoch) {
    Violation(report_, 12, "a root is of epoch ", root.epoch,
              ", which is yet to come");
  }
  if (root.epoch != vm_.generations.arena_epoch) return;
  root.ForEachPage([&](TableIndex table) {
    vm_.lock.AssertHeld();
    ++held_[ToInt(table)];
    const ShadowPage& page = vm_.arena.Page(table);
    if (page.mmu_valid_gen != root.mmu_valid_gen) {
      Violation(report_, 5, "a root of generation ", root.mmu_valid_gen,
                " has table ", ToInt(table), " of generation ",
                page.mmu_valid_gen);
    }
  });
}

// Who is in the guest on an obsolete root has been asked to load another. The
// requests are looked at first: who serves them is outside until it has a root.
void AuditRoots::CheckEntered(const VcpuState& vcpu) {
  const uint32_t requests = vcpu.requests.load();
  if (vcpu.mode.load() == VcpuMode::kInGuest &&
      vcpu.root.epoch != vm_.generations.arena_epoch &&
      (requests & request::kReloadRoot) == 0) {
    Violation(report_, 12, "vCPU ", ToInt(vcpu.id),
              " is in the guest on a root of epoch ", vcpu.root.epoch);
  }
  if (InGuestOnObsoleteRoot(vm_, vcpu) &&
      (requests & request::kReloadRoot) == 0) {
    Violation(report_, 5, "vCPU ", ToInt(vcpu.id),
              " is in the guest on an obsolete root, and is not asked to load "
              "another");
  }
}

// What the vCPU's CPU walks from is what its root handle says.
void AuditRoots::CheckHardwareRoot(const VcpuState& vcpu) {
  const RootHandle& root = vcpu.root;
  if (root.empty()) return;
  bool good = true;
  if (root.pages == 1) {
    good = vcpu.hardware.root == vm_.arena.HpaOf(root.page[0]);
  } else {
    good = vcpu.hardware.root == vcpu.pae_root;
    for (unsigned i = 0; i < root.pages; ++i) {
      // They have no A bit, and some emulated CPUs set one.
      const Spte entry = Spte(vcpu.pae_entries[i].load()).NotAccessed();
      const bool there = root.page[i] != TableIndex::kNil;
      const Spte wanted =
          there ? vm_.format.PaeRoot(vm_.arena.HpaOf(root.page[i])) : Spte();
      good = good && entry == wanted &&
             vm_.format.ReservedBitsSetInRoot(entry) == 0;
      if (there) CheckQuadrant(vcpu, i);
    }
  }
  if (!good) {
    Violation(report_, 4, "vCPU ", ToInt(vcpu.id),
              " walks from another root than it holds");
  }
}

// Page directory `i` of a PAE root maps the i-th GiB.
void AuditRoots::CheckQuadrant(const VcpuState& vcpu, unsigned i) {
  const ShadowPage& page = vm_.arena.Page(vcpu.root.page[i]);
  const bool parts = page.role.rules().layout() == EntryLayout::k32Bit;
  const bool wrong = page.role.direct()
                         ? page.gfn != Gfn(i * PagesPerEntry(Level::k1G))
                         : page.role.quadrant() != (parts ? i : 0);
  if (wrong || page.role.level() != Level::k2M || !page.role.pae()) {
    Violation(report_, 4, "vCPU ", ToInt(vcpu.id), " has for GiB ", i,
              " a page (", page.role, ") of ", page.gfn);
  }
}

}  // namespace shadowmmu
