#include "bench/micro/guest_tables.h"

#include <sys/mman.h>

#include "src/base/check.h"
#include "src/mmu/spte.h"

namespace shadowmmu::bench {

GuestTables::GuestTables(const Layout& layout)
    : layout_(layout), slot_(layout.slots()[1]) {
  void* const memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SMMU_CHECK(memory != MAP_FAILED) << "no memory for the guest's tables";
  entries_ = static_cast<uint64_t*>(memory);
  for (const Layout::Entry& entry : layout.entries()) Build(entry);
}

GuestTables::~GuestTables() { munmap(entries_, bytes()); }

SlotSpec GuestTables::slot() const {
  return {.id = SlotId{1},
          .base = slot_.begin,
          .pages = slot_.pages,
          .hva = Hva(reinterpret_cast<uintptr_t>(entries_))};
}

PagingRegisters GuestTables::registers() const {
  return {.cr0 = cr0::kPe | cr0::kWp | cr0::kPg,
          .cr3 = ToGpa(layout_.TableGfn(0, kRootLevel)).value(),
          .cr4 = cr4::kPae,
          .efer = efer::kLme | efer::kLma | efer::kNxe};
}

void GuestTables::Build(const Layout::Entry& entry) {
  constexpr uint64_t kBits = pte::kPresent | pte::kWritable | pte::kUser |
                             pte::kAccessed | pte::kDirty;
  Gfn target(entry.gfn);
  for (Level level = Level::k4K; level <= kRootLevel; level = Above(level)) {
    const Gfn table = layout_.TableGfn(entry.page, level);
    entries_[(table - slot_.begin) * kEntriesPerTable +
             IndexAt(entry.gva(), level)] = ToGpa(target).value() | kBits;
    target = table;
  }
}

}  // namespace shadowmmu::bench
