#include "src/mmu/map.h"

#include <algorithm>
#include <optional>

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/page_life.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/sync.h"
#include "src/mmu/table_tracking.h"

namespace shadowmmu {
namespace {

class Mapper {
 public:
  Mapper(Vm& vm, VcpuState& vcpu, VmHold hold, const MapTarget& target)
      : vm_(vm),
        vcpu_(vcpu),
        hold_(hold),
        target_(target),
        walk_(target.walk) {}

  // The caller holds the MMU lock.
  MapResult Run(SpteRef* leaf, FlushObligation& flush);

 private:
  bool StillThere(const GuestMemory::Section& section, Level level)
      ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  std::optional<MapResult> TrySetLarge(SpteRef ref, Level level,
                                       FlushObligation& flush)
      ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  TableIndex Descend(SpteRef ref, FlushObligation& flush)
      ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  MapResult SetTarget(SpteRef ref, Level level, FlushObligation& flush)
      ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  bool MakeUnsync(Gfn gfn) ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  Rights GuestRights() const;

  Vm& vm_;
  VcpuState& vcpu_;
  const VmHold hold_;
  const MapTarget& target_;
  const GuestWalk& walk_;
};

// What the guest's walk allows an spte: no writing before D is set, so that the
// first write faults, and sets it.
Rights Mapper::GuestRights() const {
  return walk_.dirty == Dirty::kYes ? walk_.rights
                                    : walk_.rights.WithoutWrite();
}

MapResult Mapper::Run(SpteRef* leaf, FlushObligation& flush) {
  vm_.lock.AssertReaderHeld();
  std::optional<GuestMemory::Section> section;
  if (walk_.levels != 0) section.emplace(vm_.memory);
  TableIndex table = vcpu_.root.For(target_.gva);
  for (Level level = vm_.arena.Page(table).role.level();;
       level = Below(level)) {
    vm_.arena.Page(table).NoteUse();
    const bool indirect = walk_.levels != 0 && level >= walk_.leaf;
    if (indirect && !StillThere(*section, level)) return MapResult::kStale;
    const SpteRef ref(table, IndexAt(target_.gva, level));
    *leaf = ref;
    if (level == Level::k4K) return SetTarget(ref, level, flush);
    if (auto done = TrySetLarge(ref, level, flush)) return *done;
    table = Descend(ref, flush);
    if (table == TableIndex::kNil) return MapResult::kNeedsExclusive;
  }
}

// Rule 1, for a level that the guest's own tables have. Accessed and dirty bits
// that were set meanwhile do not matter; ones that were cleared do.
bool Mapper::StillThere(const GuestMemory::Section& section, Level level) {
  const WalkStep& step = walk_.At(level);
  uint64_t gpte = 0;
  const TouchResult read =
      ReadGpte(vm_.memory, section, vcpu_.paging.format, step.hva, &gpte);
  return read == TouchResult::kDone &&
         (gpte & ~(pte::kAccessed | pte::kDirty)) ==
             (step.gpte & ~(pte::kAccessed | pte::kDirty)) &&
         (step.gpte & ~gpte) == 0;
}

// Maps the target by one large entry if it may be; nullopt if not. Asked at
// each level anew: a table that was shadowed on the way down may lie inside the
// page.
std::optional<MapResult> Mapper::TrySetLarge(SpteRef ref, Level level,
                                             FlushObligation& flush) {
  if (level > target_.largest) return std::nullopt;
  // No table is shadowed from the look until the page is mapped.
  MutexLock structure(&vm_.structure_lock);
  if (AnyTableShadowedIn(vm_, AlignDown(walk_.gfn, level), level)) {
    return std::nullopt;
  }
  return SetTarget(ref, level, flush);
}

// The child under `ref` that this walk needs, linked; kNil: rule 5.
TableIndex Mapper::Descend(SpteRef ref, FlushObligation& flush) {
  const PageRole parent = vm_.arena.Page(ref.table()).role;
  const Level level = parent.level();
  const bool indirect = walk_.levels != 0 && level > walk_.leaf;
  const Gfn gfn =
      indirect ? walk_.At(Below(level)).table : AlignDown(walk_.gfn, level);
  const bool clean =
      walk_.dirty == Dirty::kNo && !vcpu_.paging.permissions.write_protect;
  const PageRole role =
      indirect ? parent.IndirectChild(
                     walk_.At(level).through,
                     QuadrantOf(parent.rules(), target_.gva, Below(level)))
               : parent.DirectChild(GuestRights(), walk_.key, clean);
  return EnsureChild(vm_, vcpu_.writer, hold_, ref, gfn, role, flush);
}

MapResult Mapper::SetTarget(SpteRef ref, Level level, FlushObligation& flush) {
  const Gfn gfn = AlignDown(walk_.gfn, level);
  const bool write = target_.access.type == AccessType::kWrite;
  Rights rights = GuestRights();
  if (walk_.fix_up) rights = FixUp(rights, vcpu_.paging.permissions);
  if (!target_.host.writable || target_.slot.read_only()) {
    rights = rights.WithoutWrite();
  }
  // Where stores are recorded, only one at hand makes an spte writable; what is
  // writable already stays so.
  const bool for_log =
      rights.write() && !write && !target_.slot.MayBeWritable(walk_.gfn);
  if (for_log) rights = rights.WithoutWrite();
  // No table lies below a large page. SetLeaf has the last word: this look is
  // for a table to be made unsync, and for a log not to be told too much.
  const bool matters = write || target_.slot.logs_dirty();
  const bool tracked = rights.write() && level == Level::k4K && matters &&
                       IsTracked(vm_, vcpu_.writer.slot_cache, gfn) &&
                       !(write && MakeUnsync(gfn));
  const Rights if_tracked = GuestRights().WithoutWrite();
  if (tracked) rights = if_tracked;
  if (rights.write()) target_.slot.MarkDirty(walk_.gfn);
  const auto leaf = [&](Rights as) {
    return vm_.format.Leaf(AlignDown(target_.host.pfn, level), level, as,
                           walk_.key, target_.host.memory_type,
                           write && as.write() ? Dirty::kYes : Dirty::kNo);
  };
  const Spte spte = leaf(rights);
  const SetResult set = SetLeaf(vm_, vcpu_.writer, hold_, ref,
                                {.gfn = gfn,
                                 .spte = for_log ? spte.LogProtected() : spte,
                                 .if_tracked = leaf(if_tracked)},
                                flush);
  if (set == SetResult::kNeedsExclusive) return MapResult::kNeedsExclusive;
  const bool written = tracked || set == SetResult::kSetTracked;
  return written && write ? MapResult::kWriteTracked : MapResult::kMapped;
}

bool Mapper::MakeUnsync(Gfn gfn) {
  MutexLock structure(&vm_.structure_lock);
  return TryUnsync(vm_, vcpu_.writer, gfn);
}

}  // namespace

Level MaxMapLevel(const Vm& vm, const GuestWalk& walk, const Memslot& slot,
                  const HostPage& host) {
  // One bit of the log is one page.
  if (slot.logs_dirty()) return Level::k4K;
  Level level =
      std::min({walk.leaf, host.largest, vm.config.largest_page,
                vm.entry_format.has_1g_pages ? Level::k1G : Level::k2M});
  for (; level > Level::k4K; level = Below(level)) {
    const uint64_t mask = PagesPerEntry(level) - 1;
    const Gfn begin = AlignDown(walk.gfn, level);
    const uint64_t hva_page = slot.ToHva(walk.gfn).value() >> kPageShift;
    const bool inside = begin >= slot.spec.base &&
                        begin + PagesPerEntry(level) <= slot.spec.gfns().end();
    if (inside && ((walk.gfn.value() ^ hva_page) & mask) == 0 &&
        ((walk.gfn.value() ^ host.pfn.value()) & mask) == 0) {
      break;
    }
  }
  return level;
}

MapResult Map(Vm& vm, VcpuState& vcpu, VmHold hold, const MapTarget& target,
              SpteRef* leaf) {
  FlushObligation flush;
  const MapResult result = Mapper(vm, vcpu, hold, target).Run(leaf, flush);
  flush.Pay(vm);
  return result;
}

}  // namespace shadowmmu
