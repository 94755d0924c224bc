#include "src/mmu/prefault.h"

#include <algorithm>

#include "src/mmu/fault.h"
#include "src/mmu/make_room.h"
#include "src/mmu/permission.h"
#include "src/mmu/roots.h"

namespace shadowmmu {
namespace {

// How often a page that a fault has mapped may be gone again.
constexpr int kMaxTries = 4;

// What the shadow tables have for a page, and for those that follow it.
struct Mapped {
  uint64_t pages = 0;  // from it on, that need no fault; 0: it does
  bool room = true;    // for another fault
};

// Whether the walking CPU, which has CR0.WP set always, lets `access` through.
// A leaf never has more rights than the way to it.
bool Allows(const VcpuState& vcpu, Spte leaf, const Access& access) {
  PermissionRules rules = vcpu.paging.permissions;
  rules.write_protect = true;
  return leaf.present() && RightsAllow(leaf.rights(), access, rules) &&
         !KeyDenies(leaf.rights(), leaf.key(), access, rules);
}

// The pages from entry `ref` of a page table on, at most `most`.
uint64_t CountInTable(Vm& vm, const VcpuState& vcpu, SpteRef ref, uint64_t most,
                      const Access& access)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const uint64_t end = std::min<uint64_t>(kEntriesPerTable - ref.index(), most);
  uint64_t pages = 0;
  while (pages < end &&
         Allows(vcpu,
                vm.arena.Load(SpteRef(
                    ref.table(), ref.index() + static_cast<unsigned>(pages))),
                access)) {
    ++pages;
  }
  return pages;
}

Mapped Look(Vm& vm, VcpuState& vcpu, Gva gva, uint64_t most,
            const Access& access) ABSL_LOCKS_EXCLUDED(vm.lock) {
  const SharedVmLock held(vm, ToInt(vcpu.id));
  Mapped mapped;
  {
    MutexLock structure(&vm.structure_lock);
    mapped.room = vm.arena.free_tables() >= kTablesOfFault;
  }
  if (!RootUsable(vm, vcpu.root)) return mapped;
  TableIndex table = vcpu.root.For(gva);
  while (table != TableIndex::kNil) {
    const Level level = vm.arena.Page(table).role.level();
    const SpteRef ref(table, IndexAt(gva, level));
    if (level == Level::k4K) {
      mapped.pages = CountInTable(vm, vcpu, ref, most, access);
      break;
    }
    const Spte spte = vm.arena.Load(ref);
    if (!spte.present()) break;
    if (spte.leaf(level)) {
      const uint64_t inside =
          (gva.value() >> kPageShift) & (PagesPerEntry(level) - 1);
      if (Allows(vcpu, spte, access)) {
        mapped.pages = std::min(PagesPerEntry(level) - inside, most);
      }
      break;
    }
    table = vm.arena.TableAt(vm.format.TableOf(spte));
  }
  return mapped;
}

}  // namespace

PrefaultResult Prefault(Vm& vm, VcpuState& vcpu, Gva first, uint64_t pages,
                        const Access& access) {
  PrefaultResult result;
  int tries = 0;
  while (result.mapped + result.skipped < pages) {
    const uint64_t done = result.mapped + result.skipped;
    const Gva gva = vcpu.paging.Linear(first + done * kPageSize);
    const Mapped mapped = Look(vm, vcpu, gva, pages - done, access);
    if (mapped.pages != 0) {
      result.mapped += mapped.pages;
      tries = 0;
      continue;
    }
    if (!mapped.room || tries == kMaxTries) {
      result.outcome =
          mapped.room ? FaultOutcome::Retry() : FaultOutcome::NoMemory();
      return result;
    }
    const FaultOutcome outcome =
        ResolveAccess(vm, vcpu, gva, access,
                      {.window = kMaxPrefetch, .of_direct_pages = true});
    switch (outcome.kind) {
      case FaultOutcome::Kind::kResume:
      case FaultOutcome::Kind::kRetry:
        ++tries;
        break;
      case FaultOutcome::Kind::kNoMemory:
        result.outcome = outcome;
        return result;
      default:
        ++result.skipped;
        tries = 0;
        break;
    }
  }
  return result;
}

}  // namespace shadowmmu
