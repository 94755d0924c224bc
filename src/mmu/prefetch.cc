#include "src/mmu/prefetch.h"

#include <optional>

#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/guest_walk.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/table_tracking.h"

namespace shadowmmu {
namespace {

// A page that may be mapped, with what the guest allows.
struct Neighbour {
  Gfn gfn;
  Rights rights;
  unsigned key;
  const Memslot& slot;
  HostPage host;

  Hva hva() const { return slot.ToHva(gfn); }
};

// The live slot of `gfn`, with a place for it on an rmap; nullptr: none.
const Memslot* SlotFor(Vm& vm, SlotCache& cache, AddressSpace space, Gfn gfn)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const Memslot* slot = cache.Find(vm.slot_table(), space, gfn);
  if (slot == nullptr || !slot->live()) return nullptr;
  return slot->rmaps->HasChunk(gfn) ? slot : nullptr;
}

// What backs the page at `hva` until the lock is let go: rule 5.
std::optional<HostPage> HostPageAt(Vm& vm, Hva hva)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  if (vm.memory.Blocks({hva, kPageSize})) return std::nullopt;
  const std::optional<HostPage> host = vm.host.TryResolve(hva);
  const unsigned pfn_bits = vm.entry_format.physical_bits - kPageShift;
  if (!host || host->pfn.value() >> pfn_bits != 0) return std::nullopt;
  return host;
}

// Rule 2. (Whether the gfn is tracked, SetLeaf has the last word: this look
// keeps the Host from being told of stores that cannot come.)
Rights RightsFor(Vm& vm, Writer& writer, const Neighbour& neighbour)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const Rights rights = neighbour.rights;
  const bool writable = rights.write() && neighbour.host.writable &&
                        !neighbour.slot.read_only() &&
                        !Has(neighbour.slot.spec.flags, SlotFlags::kLogDirty) &&
                        !IsTracked(vm, writer.slot_cache, neighbour.gfn);
  return writable ? rights : rights.WithoutWrite();
}

void Map(Vm& vm, Writer& writer, SpteRef ref, const Neighbour& neighbour)
    ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const HostPage& host = neighbour.host;
  const Rights rights = RightsFor(vm, writer, neighbour);
  vm.host.MarkYoung(neighbour.hva(), host.pfn, Level::k4K);
  if (rights.write()) {
    vm.host.MarkDirty(neighbour.hva(), host.pfn, Level::k4K);
  }
  const auto leaf = [&](Rights as) {
    return vm.format
        .Leaf(host.pfn, Level::k4K, as, neighbour.key, host.memory_type,
              Dirty::kNo)
        .NotAccessed();
  };
  FlushObligation nothing;  // rule 4
  const SetResult set = SetLeaf(vm, writer, VmHold::kShared, ref,
                                {.gfn = neighbour.gfn,
                                 .spte = leaf(rights),
                                 .if_tracked = leaf(rights.WithoutWrite())},
                                nothing);
  // Where somebody else was first, what is there stays.
  if (set != SetResult::kNeedsExclusive) writer.sptes_prefetched.Increment();
}

void TryFill(Vm& vm, Writer& writer, SpteRef ref, Gfn gfn, Rights rights,
             unsigned key) ABSL_SHARED_LOCKS_REQUIRED(vm.lock) {
  const AddressSpace space = vm.arena.Page(ref.table()).role.space();
  const Memslot* slot = SlotFor(vm, writer.slot_cache, space, gfn);
  if (slot == nullptr) return;
  const std::optional<HostPage> host = HostPageAt(vm, slot->ToHva(gfn));
  if (!host) return;
  Map(vm, writer, ref,
      {.gfn = gfn, .rights = rights, .key = key, .slot = *slot, .host = *host});
}

}  // namespace

void FillNeighbours(Vm& vm, Writer& writer, const GuestFormat& format,
                    SpteRef leaf, Hva gpte, unsigned window) {
  const unsigned first = leaf.index() & ~(window - 1);
  const uint64_t entry_bytes = format.entry_bytes();
  const PageRole role = vm.arena.Page(leaf.table()).role;
  const uint64_t reserved = GuestFormat::ReservedInPageTable(
      role.rules(), vm.config.guest_physical_bits);
  const Hva gptes = gpte - (leaf.index() - first) * entry_bytes;
  const GuestMemory::Section section(vm.memory);
  for (unsigned i = 0; i < window; ++i) {
    const SpteRef ref(leaf.table(), first + i);
    if (vm.arena.Load(ref).present()) continue;
    // Each by itself, because a guest may be writing an unsync table: an entry
    // is read in one piece.
    uint64_t entry = 0;
    const TouchResult read =
        ReadGpte(vm.memory, section, format, gptes + i * entry_bytes, &entry);
    if (read == TouchResult::kDone &&
        GuestFormat::UsableAsItIs(entry, reserved)) {
      TryFill(vm, writer, ref, GuestFormat::GfnOf(entry),
              GuestFormat::RightsAsItIs(role, entry),
              GuestFormat::KeyOf(entry));
    }
  }
}

void FillDirectNeighbours(Vm& vm, Writer& writer, SpteRef leaf,
                          unsigned window) {
  const PageRole role = vm.arena.Page(leaf.table()).role;
  const unsigned first = leaf.index() & ~(window - 1);
  for (unsigned i = 0; i < window; ++i) {
    const SpteRef ref(leaf.table(), first + i);
    if (vm.arena.Load(ref).present()) continue;
    TryFill(vm, writer, ref, vm.arena.GfnOf(ref), role.rights(), role.key());
  }
}

}  // namespace shadowmmu
