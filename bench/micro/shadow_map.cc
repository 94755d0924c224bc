#include "bench/micro/shadow_map.h"

#include "src/base/check.h"
#include "src/mmu/guest_walk.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/make_room.h"
#include "src/mmu/page_life.h"
#include "src/mmu/spte_write.h"

namespace shadowmmu::bench {

ShadowMap::ShadowMap(const Layout* layout, BenchVm* vm)
    : layout_(*layout), bench_(*vm), vm_(vm->vm()) {
  for (Level level = Level::k4K; level <= kRootLevel; level = Above(level)) {
    role_[ToInt(level)] =
        PageRole(level, AddressSpace::kNormal, layout_.kind(), Rights::All(),
                 GuestRules(EntryLayout::kLong,
                            GuestRules::kNoExecute | GuestRules::kLargePages));
  }
}

void ShadowMap::Populate(Meter* meter) {
  VmLock held(vm_);
  MakeRoot(held);
  if (meter != nullptr) meter->Start();
  if (layout_.kind() == PageKind::kDirect) {
    AddAll<PageKind::kDirect>(held);
  } else {
    AddAll<PageKind::kIndirect>(held);
  }
  if (meter != nullptr) meter->Stop();
  // What is left of it counts as in use.
  vm_.lists.EmptyReserve(writer_.reserve);
}

void ShadowMap::Populate() { Populate(nullptr); }

// As a vCPU's root is made (roots.cc); no vCPU holds this one.
void ShadowMap::MakeRoot(VmLock& held) {
  SMMU_CHECK(MakeRoom(vm_, held, writer_.reserve, NeedsOfFault(1)));
  const Gfn gfn = layout_.TableGfn(0, kRootLevel);
  if (layout_.kind() == PageKind::kIndirect) {
    const Memslot* slot = vm_.slot_table().Find(AddressSpace::kNormal, gfn);
    SMMU_CHECK(slot->rmaps->EnsureWriteTrack(gfn));
  }
  FlushObligation flush;
  MutexLock structure(&vm_.structure_lock);
  root_ = FindOrMakePage(vm_, writer_, VmHold::kExclusive, gfn,
                         role_[ToInt(kRootLevel)], flush);
  flush.Pay(vm_);
}

template <PageKind kind>
void ShadowMap::AddAll(VmLock& held) {
  const SlotTable& slots = vm_.slot_table();
  SlotCache cache;
  for (const Layout::Entry& entry : layout_.entries()) {
    MakeChunks<kind>(slots, cache, entry);
    SMMU_CHECK(
        MakeRoom(vm_, held, writer_.reserve, NeedsOfFault(kMaxLevels - 1)));
    Add<kind>(entry);
  }
}

// What a fault does before it takes the lock (fault.cc, MakeChunks).
template <PageKind kind>
void ShadowMap::MakeChunks(const SlotTable& slots, SlotCache& cache,
                           const Layout::Entry& entry) const {
  constexpr AddressSpace kSpace = AddressSpace::kNormal;
  const Gfn gfn(entry.gfn);
  SMMU_CHECK(cache.Find(slots, kSpace, gfn)->rmaps->EnsureChunk(gfn));
  if (kind == PageKind::kDirect) return;
  for (Level level = Below(kRootLevel); level >= Level::k4K;
       level = Below(level)) {
    const Gfn table = layout_.TableGfnOf<kind>(entry.page, level);
    SMMU_CHECK(
        cache.Find(slots, kSpace, table)->rmaps->EnsureWriteTrack(table));
  }
}

// What a fault does under the lock, but for reading the guest's entries again
// (map.cc, Mapper::Run).
template <PageKind kind>
void ShadowMap::Add(const Layout::Entry& entry) {
  FlushObligation flush;
  TableIndex table = Child<kind, Level::k1G>(root_, entry, flush);
  table = Child<kind, Level::k2M>(table, entry, flush);
  table = Child<kind, Level::k4K>(table, entry, flush);
  const Spte spte =
      vm_.format.Leaf(kFirstPfn + entry.gfn, Level::k4K, Rights::All(),
                      /*key=*/0, MemoryType::kWriteBack, Dirty::kYes);
  SetLeaf(vm_, writer_, VmHold::kExclusive,
          SpteRef(table, IndexAt(entry.gva(), Level::k4K)),
          {.gfn = Gfn(entry.gfn), .spte = spte, .if_tracked = spte}, flush);
  flush.Pay(vm_);
}

// The table of `level` on the way to a page, under its parent.
template <PageKind kind, Level level>
TableIndex ShadowMap::Child(TableIndex parent, const Layout::Entry& entry,
                            FlushObligation& flush) {
  const SpteRef ref(parent, IndexAt(entry.gva(), Above(level)));
  return EnsureChild(vm_, writer_, VmHold::kExclusive, ref,
                     layout_.TableGfnOf<kind>(entry.page, level),
                     role_[ToInt(level)], flush);
}

std::vector<SpteRef> ShadowMap::Refs() {
  const VmLock held(vm_);
  std::vector<SpteRef> refs;
  refs.reserve(layout_.sptes());
  const uint64_t generation = vm_.generations.mmu_valid_gen;
  Gfn last(~uint64_t{0});
  TableIndex table = TableIndex::kNil;
  for (const Layout::Entry& entry : layout_.entries()) {
    const Gfn gfn = layout_.TableGfn(entry.page, Level::k4K);
    if (gfn != last) {
      table = vm_.pages.Find(gfn, role_[ToInt(Level::k4K)], generation);
      SMMU_CHECK(table != TableIndex::kNil) << "no shadow page of " << gfn;
    }
    last = gfn;
    refs.emplace_back(table, IndexAt(entry.gva(), Level::k4K));
  }
  return refs;
}

uint64_t ShadowMap::CountWith(uint64_t bits) {
  uint64_t count = 0;
  const std::vector<SpteRef> refs = Refs();
  const VmLock held(vm_);
  for (const SpteRef ref : refs) {
    if ((vm_.arena.Load(ref).bits() & bits) != 0) ++count;
  }
  return count;
}

void ShadowMap::Clear() { ZapAll(vm_); }

}  // namespace shadowmmu::bench
