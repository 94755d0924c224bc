#include "src/mmu/guest_entry.h"

#include <span>

#include "src/mmu/guest_format.h"

namespace shadowmmu {

std::optional<uint64_t> ReadGuestEntry(Vm& vm, SpteRef ref) {
  const ShadowPage& page = vm.arena.Page(ref.table());
  const Memslot* slot =
      vm.slot_cache.Find(vm.slot_table(), page.role.space(), page.gfn);
  if (slot == nullptr) return std::nullopt;
  const GuestMemory::Section section(vm.memory);
  uint64_t gpte = 0;
  const TouchResult read = vm.memory.Read(
      section,
      slot->ToHva(page.gfn) + OffsetOfGuestEntry(page.role, ref.index()),
      std::as_writable_bytes(std::span<uint64_t, 1>(&gpte, 1))
          .first(EntryBytesOf(page.role.rules().layout())));
  if (read != TouchResult::kDone) return std::nullopt;
  return gpte;
}

}  // namespace shadowmmu
