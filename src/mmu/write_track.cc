#include "src/mmu/write_track.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "src/mmu/flush.h"
#include "src/mmu/guest_format.h"
#include "src/mmu/orphans.h"
#include "src/mmu/roots.h"
#include "src/mmu/spte_sweep.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

FaultOutcome OutcomeOf(TouchResult result, Gpa gpa) {
  switch (result) {
    case TouchResult::kDone:
      return FaultOutcome::Resume();
    case TouchResult::kBlocked:
      return FaultOutcome::Retry();
    case TouchResult::kUnavailable:
      break;
  }
  return FaultOutcome::MemoryFault(gpa, MemoryFaultReason::kHostRefused);
}

enum class Purpose : uint8_t { kRead, kWrite };

// Where the bytes at `gpa` are.
struct GuestPlace {
  const Memslot* slot = nullptr;
  Hva hva;
};

// Finds them, or says why they cannot be used.
std::optional<FaultOutcome> FindPlace(Vm& vm, AddressSpace space, Gpa gpa,
                                      Purpose purpose, GuestPlace* place)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = vm.slot_table().Find(space, ToGfn(gpa));
  if (slot == nullptr) {
    return FaultOutcome::Emulate(gpa, EmulateReason::kNoSlot);
  }
  if (!slot->live()) return FaultOutcome::Retry();
  if (purpose == Purpose::kWrite && slot->read_only()) {
    return FaultOutcome::Emulate(gpa, EmulateReason::kReadOnlySlot);
  }
  *place = {slot, slot->ToHva(ToGfn(gpa)) + PageOffset(gpa)};
  return std::nullopt;
}

bool IsShadowed(Vm& vm, Gfn gfn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  bool shadowed = false;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex) { shadowed = true; });
  return shadowed;
}

// The guest's bytes at `gpa` changed: drops every spte made from the entries
// that they touch, in the pages for whose role `changed` holds; calls drop(ref)
// before.
template <typename Changed, typename Drop>
void DropStaleIn(Vm& vm, Gpa gpa, size_t bytes, Changed changed, Drop drop)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  FlushObligation flush;
  vm.pages.ForEachShadowing(ToGfn(gpa), [&](TableIndex table) {
    vm.lock.AssertHeld();
    const PageRole role = vm.arena.Page(table).role;
    if (!changed(role)) return;
    const EntryRange made = EntriesMadeFrom(role, PageOffset(gpa), bytes);
    if (made.first == made.end) return;
    std::array<SpteRef, kEntriesPerTable> refs;
    for (unsigned i = made.first; i < made.end; ++i) {
      refs[i] = SpteRef(table, i);
      drop(refs[i]);
    }
    DropRefs(vm, std::span(refs).subspan(made.first, made.end - made.first),
             flush);
  });
  flush.Pay(vm);
}

void DropStale(Vm& vm, Gpa gpa, size_t bytes)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  Orphans orphans;
  DropStaleIn(
      vm, gpa, bytes, [](PageRole) { return true; },
      [&](SpteRef ref) {
        vm.lock.AssertHeld();
        if (vm.config.write_flooding != 0) orphans.Note(vm, ref);
      });
  orphans.Zap(vm);
}

// Rule 5: does this store say that the guest table behind the page is one no
// longer?
bool WrittenAsData(Vm& vm, TableIndex table, size_t offset, size_t bytes)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ShadowPage& page = vm.arena.Page(table);
  if (page.unsync) return false;
  const bool edit = MayEditEntry(page.role.rules().layout(), offset, bytes);
  if (edit && ++page.write_flooding_count < vm.config.write_flooding) {
    return false;
  }
  page.write_flooding_count = 0;
  if (IsCurrentRoot(vm, table)) return false;
  return !edit || !ClearAccessedEntries(vm, table);
}

void ZapIfWrittenAsData(Vm& vm, Gpa gpa, size_t bytes)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  if (vm.config.write_flooding == 0) return;
  ZapBatch batch;
  vm.pages.ForEachShadowing(ToGfn(gpa), [&](TableIndex table) {
    vm.lock.AssertHeld();
    if (WrittenAsData(vm, table, PageOffset(gpa), bytes)) batch.Zap(vm, table);
  });
  vm.counters.pages_flooded += batch.zapped();
  batch.Commit(vm);
}

enum class Contents : uint8_t { kSame, kChanged };

// After a store of a guest into a table that is shadowed.
void NoteTableStore(Vm& vm, Gpa gpa, size_t bytes, Contents contents)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ++vm.counters.guest_table_writes;
  // In this order: that an entry was used which is no more does not count.
  if (contents == Contents::kChanged) DropStale(vm, gpa, bytes);
  ZapIfWrittenAsData(vm, gpa, bytes);
}

// A store within one page.
FaultOutcome WritePart(Vm& vm, AddressSpace space, Gpa gpa,
                       std::span<const std::byte> bytes)
    ABSL_LOCKS_EXCLUDED(vm.lock) {
  VmLock held(vm);
  GuestPlace place;
  if (auto bad = FindPlace(vm, space, gpa, Purpose::kWrite, &place)) {
    return *bad;
  }
  const GuestMemory::Section section(vm.memory);
  const bool shadowed = IsShadowed(vm, ToGfn(gpa));
  Contents contents = Contents::kSame;
  if (shadowed) {
    std::array<std::byte, kPageSize> before;
    const std::span<std::byte> old(before.data(), bytes.size());
    const TouchResult read = vm.memory.Read(section, place.hva, old);
    if (read != TouchResult::kDone) return OutcomeOf(read, gpa);
    if (!std::equal(old.begin(), old.end(), bytes.begin())) {
      contents = Contents::kChanged;
    }
  }
  const TouchResult written = vm.memory.Write(section, place.hva, bytes);
  if (written != TouchResult::kDone) return OutcomeOf(written, gpa);
  place.slot->MarkDirty(ToGfn(gpa));
  ++vm.counters.guest_writes;
  if (shadowed) NoteTableStore(vm, gpa, bytes.size(), contents);
  return FaultOutcome::Resume();
}

FaultOutcome ReadPart(Vm& vm, AddressSpace space, Gpa gpa,
                      std::span<std::byte> out) ABSL_LOCKS_EXCLUDED(vm.lock) {
  VmLock held(vm);
  GuestPlace place;
  if (auto bad = FindPlace(vm, space, gpa, Purpose::kRead, &place)) return *bad;
  const GuestMemory::Section section(vm.memory);
  return OutcomeOf(vm.memory.Read(section, place.hva, out), gpa);
}

// Calls part(gpa, offset, size) for each page of the range, until one does not
// resume.
template <typename Part>
FaultOutcome ForEachPart(Gpa gpa, size_t size, Part part) {
  for (size_t done = 0; done < size;) {
    const Gpa at = gpa + done;
    const size_t bytes =
        std::min<size_t>(size - done, kPageSize - PageOffset(at));
    const FaultOutcome outcome = part(at, done, bytes);
    if (!outcome.resume()) return outcome;
    done += bytes;
  }
  return FaultOutcome::Resume();
}

}  // namespace

FaultOutcome WriteGuest(Vm& vm, AddressSpace space, Gpa gpa,
                        std::span<const std::byte> bytes) {
  return ForEachPart(gpa, bytes.size(), [&](Gpa at, size_t offset, size_t n) {
    return WritePart(vm, space, at, bytes.subspan(offset, n));
  });
}

FaultOutcome ReadGuest(Vm& vm, AddressSpace space, Gpa gpa,
                       std::span<std::byte> out) {
  return ForEachPart(gpa, out.size(), [&](Gpa at, size_t offset, size_t n) {
    return ReadPart(vm, space, at, out.subspan(offset, n));
  });
}

absl::StatusOr<GuestExchange> CompareExchangeGuest(Vm& vm, AddressSpace space,
                                                   Gpa gpa, unsigned size,
                                                   uint64_t expected,
                                                   uint64_t desired) {
  if (size != 1 && size != 2 && size != 4 && size != 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("size: ", size, " is not 1, 2, 4 or 8"));
  }
  if (gpa.value() % size != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gpa: 0x", absl::Hex(gpa.value()), " is not a multiple of ", size));
  }
  VmLock held(vm);
  GuestPlace place;
  if (auto bad = FindPlace(vm, space, gpa, Purpose::kWrite, &place)) {
    return GuestExchange{.outcome = *bad};
  }
  const GuestMemory::Section section(vm.memory);
  GuestExchange result{.previous = expected};
  const TouchResult touched = vm.memory.CompareExchange(
      section, place.hva, size, &result.previous, desired, &result.exchanged);
  result.outcome = OutcomeOf(touched, gpa);
  if (!result.exchanged) return result;
  place.slot->MarkDirty(ToGfn(gpa));
  ++vm.counters.guest_writes;
  if (IsShadowed(vm, ToGfn(gpa))) {
    NoteTableStore(vm, gpa, size,
                   expected == desired ? Contents::kSame : Contents::kChanged);
  }
  return result;
}

bool StopShadowing(Vm& vm, Gfn gfn) {
  const VmLock held(vm);
  bool all = true;
  ZapBatch batch;
  vm.pages.ForEachShadowing(gfn, [&](TableIndex table) {
    vm.lock.AssertHeld();
    if (IsCurrentRoot(vm, table)) {
      all = false;
    } else {
      batch.Zap(vm, table);
    }
  });
  batch.Commit(vm);
  return all;
}

void NoteWalkerStores(Vm& vm, const GuestFormat& format, const GuestWalk& walk,
                      Gva gva) {
  const VmLock held(vm);
  for (Level level = format.root_level();; level = Below(level)) {
    const Gpa entry =
        ToGpa(walk.At(level).table) + format.OffsetOfEntry(gva, level);
    if (entry.value() % sizeof(uint64_t) != 0) {
      DropStaleIn(
          vm, entry, format.entry_bytes(),
          [](PageRole role) {
            return role.rules().layout() != EntryLayout::k32Bit;
          },
          [](SpteRef) {});
    }
    if (level == walk.leaf) break;
  }
}

}  // namespace shadowmmu
