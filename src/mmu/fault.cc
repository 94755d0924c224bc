#include "src/mmu/fault.h"

#include <optional>

#include "src/mmu/fast_fault.h"
#include "src/mmu/guest_walk.h"
#include "src/mmu/make_room.h"
#include "src/mmu/map.h"
#include "src/mmu/prefetch.h"
#include "src/mmu/roots.h"
#include "src/mmu/write_track.h"

namespace shadowmmu {
namespace {

// How often a fault starts over before it lets the guest try again.
constexpr int kMaxAttempts = 8;

// The guest walk. A table that the Host has not at hand (swapped out, say) is
// asked for, once, with no lock held.
std::optional<FaultOutcome> Walk(Vm& vm, VcpuState& vcpu,
                                 const SlotTable& slots, Gva gva,
                                 const Access& access, GuestWalk* walk) {
  const WalkContext context{.slots = slots,
                            .cache = vcpu.writer.slot_cache,
                            .memory = vm.memory,
                            .space = vcpu.space,
                            .mode = vcpu.paging,
                            .absent_tables = vm.config.absent_tables};
  const auto walk_once = [&] {
    std::optional<FaultOutcome> bad = WalkGuest(context, gva, access, walk);
    if (walk->upper_half_set) {
      NoteWalkerStores(vm, vcpu.paging.format, *walk, gva);
    }
    return bad;
  };
  const uint64_t sequence = vm.memory.sequence();
  std::optional<FaultOutcome> bad = walk_once();
  if (!bad || !walk->refused) return bad;
  const GuestWalk::Refusal refused = *walk->refused;
  if (vm.host.Resolve(refused.hva, refused.type).ok()) {
    bad = walk_once();
    if (!bad || !walk->refused) return bad;
  }
  // While the range is being changed, a refusal is not the last word.
  if (vm.memory.Blocks({refused.hva, sizeof(uint64_t)}) ||
      vm.memory.sequence() != sequence) {
    return FaultOutcome::Retry();
  }
  return bad;
}

// One attempt at a fault. An attempt that went stale has no outcome.
class Attempt {
 public:
  Attempt(Vm& vm, VcpuState& vcpu, Gva gva, const Access& access,
          const Surroundings& surroundings)
      : vm_(vm),
        vcpu_(vcpu),
        gva_(gva),
        access_(access),
        surroundings_(surroundings),
        reader_(vm.slots, {.what = "a fault", .vcpu = ToInt(vcpu.id)}),
        slots_(reader_.table()) {}

  std::optional<FaultOutcome> Run();

 private:
  std::optional<FaultOutcome> Resolve();
  void TellHost(Level largest) const;
  bool MakeChunks() const;
  std::optional<FaultOutcome> MapUnderLock(Level largest);
  std::optional<MapResult> MapBesideOthers(Level largest);
  std::optional<MapResult> MapAlone(Level largest);
  MapResult MapHeld(VmHold hold, Level largest, bool fill)
      ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  bool Stale() const ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);
  bool Blocked(Level level) const;
  bool write() const { return access_.type == AccessType::kWrite; }
  bool prefetches() const {
    if (surroundings_.window == 0) return false;
    return surroundings_.of_direct_pages ||
           (walk_.levels != 0 && walk_.leaf == Level::k4K);
  }
  void Fill(SpteRef leaf) ABSL_SHARED_LOCKS_REQUIRED(vm_.lock);

  Vm& vm_;
  VcpuState& vcpu_;
  const Gva gva_;
  const Access& access_;
  const Surroundings surroundings_;
  const SlotReader reader_;
  const SlotTable& slots_;
  GuestWalk walk_;
  const Memslot* slot_ = nullptr;
  uint64_t sequence_ = 0;
  HostPage host_;
};

std::optional<FaultOutcome> Attempt::Run() {
  if (auto bad = Walk(vm_, vcpu_, slots_, gva_, access_, &walk_)) return bad;
  const Gpa gpa = ToGpa(walk_.gfn) + PageOffset(gva_);
  slot_ = vcpu_.writer.slot_cache.Find(slots_, vcpu_.space, walk_.gfn);
  if (slot_ == nullptr) {
    return FaultOutcome::Emulate(gpa, EmulateReason::kNoSlot);
  }
  if (!slot_->live()) return FaultOutcome::Retry();
  if (write() && slot_->read_only()) {
    return FaultOutcome::Emulate(gpa, EmulateReason::kReadOnlySlot);
  }
  if (auto bad = Resolve()) return bad;
  if (!MakeChunks()) return FaultOutcome::NoMemory();
  const Level largest = MaxMapLevel(vm_, walk_, *slot_, host_);
  TellHost(largest);
  return MapUnderLock(largest);
}

// Asks the Host what is behind the page.
std::optional<FaultOutcome> Attempt::Resolve() {
  const Hva hva = slot_->ToHva(walk_.gfn);
  sequence_ = vm_.memory.sequence();
  if (vm_.memory.Blocks({hva, kPageSize})) return FaultOutcome::Retry();
  absl::StatusOr<HostPage> host = vm_.host.Resolve(hva, access_.type);
  const bool usable =
      host.ok() && (host->writable || !write()) &&
      host->pfn.value() >> (vm_.entry_format.physical_bits - kPageShift) == 0;
  if (!usable) {
    // While the range is being changed, "not there" is not the last word.
    if (vm_.memory.Blocks({hva, kPageSize}) ||
        vm_.memory.sequence() != sequence_) {
      return FaultOutcome::Retry();
    }
    return FaultOutcome::MemoryFault(ToGpa(walk_.gfn) + PageOffset(gva_),
                                     MemoryFaultReason::kHostRefused);
  }
  host_ = *host;
  return std::nullopt;
}

// Tells the Host what the guest may do soon, with all that one entry may map.
void Attempt::TellHost(Level largest) const {
  const Hva hva = slot_->ToHva(AlignDown(walk_.gfn, largest));
  const Pfn pfn = AlignDown(host_.pfn, largest);
  vm_.host.MarkYoung(hva, pfn, largest);
  const bool writable =
      (walk_.rights.write() && walk_.dirty == Dirty::kYes) || walk_.fix_up;
  if (host_.writable && writable && !slot_->read_only()) {
    vm_.host.MarkDirty(hva, pfn, largest);
  }
}

// Every chunk that the mapper may touch: the target's, and those of the guest
// tables below the root, which will be tracked.
bool Attempt::MakeChunks() const {
  if (!slot_->rmaps->EnsureChunk(walk_.gfn)) return false;
  for (unsigned i = walk_.levels; i-- > ToInt(walk_.leaf);) {
    const Gfn table = walk_.step[i].table;
    const Memslot* slot =
        vcpu_.writer.slot_cache.Find(slots_, vcpu_.space, table);
    if (!slot->rmaps->EnsureWriteTrack(table)) return false;
  }
  return true;
}

// Whether the host is changing any of what an entry of `level` would map.
bool Attempt::Blocked(Level level) const {
  return vm_.memory.Blocks(
      {slot_->ToHva(AlignDown(walk_.gfn, level)), BytesPerEntry(level)});
}

// The slots are still good: whoever takes one away first waits for this reader
// of them (slot_update.h). The sequence is read last: an end that comes between
// the look at the ranges and here has raised it.
bool Attempt::Stale() const {
  return !RootUsable(vm_, vcpu_.root) || Blocked(Level::k4K) ||
         vm_.memory.sequence() != sequence_;
}

// What a fault may need at most: a page for each level below the root. And to
// fill neighbours, the lack of which is no reason to fail.
constexpr Needs kLeastNeeds = NeedsOfFault(kTablesOfFault);
Needs NeedsWithNeighbours(const Surroundings& surroundings) {
  return NeedsOfFault(kTablesOfFault, surroundings.window - 1);
}

void Attempt::Fill(SpteRef leaf) {
  const PageRole role = vm_.arena.Page(leaf.table()).role;
  if (role.level() != Level::k4K) return;
  if (role.direct()) {
    FillDirectNeighbours(vm_, vcpu_.writer, leaf, surroundings_.window);
    return;
  }
  FillNeighbours(vm_, vcpu_.writer, vcpu_.paging.format, leaf,
                 walk_.At(Level::k4K).hva, surroundings_.window);
}

MapResult Attempt::MapHeld(VmHold hold, Level largest, bool fill) {
  while (largest > Level::k4K && Blocked(largest)) largest = Below(largest);
  if (Stale()) return MapResult::kStale;
  if (vcpu_.root.For(gva_) == TableIndex::kNil) {
    return MapResult::kNeedsExclusive;
  }
  const MapTarget target{.gva = gva_,
                         .access = access_,
                         .walk = walk_,
                         .slot = *slot_,
                         .host = host_,
                         .largest = largest};
  SpteRef leaf;
  const MapResult result = Map(vm_, vcpu_, hold, target, &leaf);
  const bool mapped =
      result == MapResult::kMapped || result == MapResult::kWriteTracked;
  if (fill && mapped) Fill(leaf);
  return result;
}

// nullopt: it is not enough to share the lock.
std::optional<MapResult> Attempt::MapBesideOthers(Level largest) {
  const SharedVmLock held(vm_, ToInt(vcpu_.id));
  const bool fill = prefetches();
  const Needs needs = fill ? NeedsWithNeighbours(surroundings_) : kLeastNeeds;
  if (!MakeRoomShared(vm_, vcpu_.writer.reserve, needs.lists)) {
    return std::nullopt;
  }
  const MapResult result = MapHeld(VmHold::kShared, largest, fill);
  if (result == MapResult::kNeedsExclusive) return std::nullopt;
  return result;
}

// nullopt: no memory.
std::optional<MapResult> Attempt::MapAlone(Level largest) {
  VmLock held(vm_);
  ListReserve& reserve = vcpu_.writer.reserve;
  const bool fill =
      prefetches() &&
      MakeRoom(vm_, held, reserve, NeedsWithNeighbours(surroundings_));
  if (!fill && !MakeRoom(vm_, held, reserve, kLeastNeeds)) return std::nullopt;
  const MapResult result = MapHeld(VmHold::kExclusive, largest, fill);
  if (result != MapResult::kNeedsExclusive) return result;
  // With PAE paging: a page directory that no slot covered when the root was
  // loaded. The next attempt loads a root that has it.
  ReleaseRoot(vm_, vcpu_);
  return MapResult::kStale;
}

std::optional<FaultOutcome> Attempt::MapUnderLock(Level largest) {
  std::optional<MapResult> result = MapBesideOthers(largest);
  if (!result) result = MapAlone(largest);
  if (!result) return FaultOutcome::NoMemory();
  switch (*result) {
    case MapResult::kMapped:
      return FaultOutcome::Resume();
    case MapResult::kWriteTracked:
      return FaultOutcome::Emulate(ToGpa(walk_.gfn) + PageOffset(gva_),
                                   EmulateReason::kWriteTracked);
    case MapResult::kStale:
    case MapResult::kNeedsExclusive:
      break;
  }
  return std::nullopt;
}

}  // namespace

FaultOutcome ResolveAccess(Vm& vm, VcpuState& vcpu, Gva gva,
                           const Access& access,
                           const Surroundings& surroundings) {
  if (MayBeFastFault(vm, access) && FastFault(vm, vcpu, gva)) {
    return FaultOutcome::Resume();
  }
  for (int i = 0; i < kMaxAttempts; ++i) {
    // Whether the root is still good shows under the lock, at the end of the
    // attempt; the next one loads a new one first.
    if (vcpu.root.empty() || i > 0) {
      if (auto bad = LoadRoot(vm, vcpu)) return *bad;
    }
    if (auto outcome = Attempt(vm, vcpu, gva, access, surroundings).Run()) {
      return *outcome;
    }
    vcpu.fault_retries.Increment();
  }
  return FaultOutcome::Retry();
}

FaultOutcome HandleFault(Vm& vm, VcpuState& vcpu, Gva gva,
                         const Access& access) {
  vcpu.faults.Increment();
  const FaultOutcome outcome =
      ResolveAccess(vm, vcpu, vcpu.paging.Linear(gva), access,
                    {.window = vm.config.prefetch});
  if (outcome.kind == FaultOutcome::Kind::kGuestFault) {
    vcpu.guest_faults.Increment();
  } else if (outcome.kind == FaultOutcome::Kind::kEmulate) {
    vcpu.emulations.Increment();
  }
  return outcome;
}

Translation TranslateGva(Vm& vm, VcpuState& vcpu, Gva gva,
                         const Access& access) {
  const SlotReader reader(vm.slots,
                          {.what = "a translation", .vcpu = ToInt(vcpu.id)});
  GuestWalk walk;
  const Gva linear = vcpu.paging.Linear(gva);
  if (auto bad = Walk(vm, vcpu, reader.table(), linear, access, &walk)) {
    return {.outcome = *bad};
  }
  return {.gpa = ToGpa(walk.gfn) + PageOffset(linear)};
}

}  // namespace shadowmmu
