#include "src/mmu/sync.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "src/base/check.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/table_tracking.h"
#include "src/mmu/unsync_marks.h"

namespace shadowmmu {
namespace {

// Pages that are synced under one flush.
constexpr size_t kBatch = 16;

struct Batch {
  std::array<TableIndex, kBatch> page;
  size_t count = 0;

  bool full() const { return count == page.size(); }
  // One that is linked twice is met twice.
  void Add(TableIndex table) {
    const auto end = page.begin() + count;
    if (std::find(page.begin(), end, table) == end) page[count++] = table;
  }
  std::span<const TableIndex> pages() const { return {page.data(), count}; }
};

// A guest page table as it is now.
class TableImage {
 public:
  // False: the host does not let it be read.
  bool Read(Vm& vm, const ShadowPage& page)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
    const Memslot* slot = vm.slot_table().Find(page.role.space(), page.gfn);
    SMMU_CHECK(slot != nullptr) << "an unsync page of no slot";
    role_ = page.role;
    const GuestMemory::Section section(vm.memory);
    return vm.memory.Read(section, slot->ToHva(page.gfn), bytes_) ==
           TouchResult::kDone;
  }
  // What entry `index` of the shadow page is made from.
  uint64_t Entry(unsigned index) const {
    uint64_t gpte = 0;
    std::memcpy(&gpte, &bytes_[OffsetOfGuestEntry(role_, index)],
                EntryBytesOf(role_.rules().layout()));
    return gpte;
  }

 private:
  alignas(8) std::array<std::byte, kPageSize> bytes_;
  PageRole role_;
};

// Would a walk that came to `gpte` in a page table of `role` still justify
// `spte`, which maps `gfn`? Fewer rights are fine, but for U: a supervisor page
// is not less than a user page to CR4.SMEP and SMAP. (A fix-up never is.)
bool Justifies(uint64_t gpte, uint64_t reserved, PageRole role, Spte spte,
               Gfn gfn) {
  if (!GuestFormat::UsableAsItIs(gpte, reserved)) return false;
  if (GuestFormat::GfnOf(gpte) != gfn) return false;
  if (GuestFormat::KeyOf(gpte) != spte.key()) return false;
  const Rights rights = GuestFormat::RightsAsItIs(role, gpte);
  return rights.Includes(spte.rights_at_most()) &&
         rights.user() == spte.rights().user();
}

// The second half of rule 2.
void DropUnjustified(Vm& vm, TableIndex table, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const ShadowPage& page = vm.arena.Page(table);
  TableImage guest;
  if (!guest.Read(vm, page)) {
    DropEntries(vm, table, Clearing::kExchange, flush);
    return;
  }
  const uint64_t reserved = GuestFormat::ReservedInPageTable(
      page.role.rules(), vm.config.guest_physical_bits);
  unsigned left = page.entries;
  for (unsigned i = 0; left != 0; ++i) {
    const SpteRef ref(table, i);
    const Spte spte = vm.arena.Load(ref);
    if (!spte.present()) continue;
    --left;
    if (!Justifies(guest.Entry(i), reserved, page.role, spte,
                   vm.arena.GfnOf(ref))) {
      DropEntry(vm, ref, flush);
    }
  }
}

void SyncPages(Vm& vm, std::span<const TableIndex> pages,
               FlushObligation& flush) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  for (const TableIndex table : pages) TightenTable(vm, table, flush);
  flush.Pay(vm);
  for (const TableIndex table : pages) {
    DropUnjustified(vm, table, flush);
    ClearUnsync(vm, table);
  }
  vm.counters.syncs += pages.size();
}

// Unsync pages below `table`, until the batch is full. Recursion: at most once
// a level.
void Collect(Vm& vm, TableIndex table, Batch& batch)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  for (unsigned i = NextMark(vm, table, 0);
       i != kEntriesPerTable && !batch.full(); i = NextMark(vm, table, i + 1)) {
    const Spte link = vm.arena.Load(SpteRef(table, i));
    const TableIndex child = vm.arena.TableAt(vm.format.TableOf(link));
    if (vm.arena.Page(child).unsync) {
      batch.Add(child);
    } else {
      Collect(vm, child, batch);
    }
  }
}

}  // namespace

bool TryUnsync(Vm& vm, Writer& writer, Gfn gfn) {
  if (!vm.config.unsync) return false;
  bool last_level = true;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
    vm.lock.AssertReaderHeld();
    if (vm.arena.Page(table).role.level() != Level::k4K) last_level = false;
  });
  if (!last_level) return false;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
    vm.lock.AssertReaderHeld();
    vm.structure_lock.AssertHeld();
    if (vm.arena.Page(table).unsync) return;
    // In this order: who finds the count lowered maps the table writable beside
    // us, and its guest's next flush must find the marks.
    SetUnsync(vm, table);
    LoosenTable(vm, table);
    writer.unsyncs.Increment();
  });
  return true;
}

bool AnyUnsync(Vm& vm, Gfn gfn) {
  if (vm.unsync_pages.load(std::memory_order_relaxed) == 0) return false;
  bool any = false;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
    vm.lock.AssertReaderHeld();
    any = any || vm.arena.Page(table).unsync;
  });
  return any;
}

void SyncPage(Vm& vm, TableIndex table, FlushObligation& flush) {
  if (vm.arena.Page(table).unsync) SyncPages(vm, {&table, 1}, flush);
}

void SyncGfn(Vm& vm, Gfn gfn, FlushObligation& flush) {
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
    vm.lock.AssertHeld();
    SyncPage(vm, table, flush);
  });
}

bool SyncSomeBelow(Vm& vm, TableIndex table, FlushObligation& flush) {
  Batch batch;
  Collect(vm, table, batch);
  if (batch.count == 0) return false;
  SyncPages(vm, batch.pages(), flush);
  return true;
}

void SyncBelow(Vm& vm, TableIndex table, FlushObligation& flush) {
  while (SyncSomeBelow(vm, table, flush)) {
  }
}

}  // namespace shadowmmu
