#include "src/mmu/audit_tracking.h"

#include "src/mmu/audit_lists.h"

namespace shadowmmu {

void AuditTracking::Check() {
  vm_.lock.AssertHeld();
  for (uint32_t i = 1; i < vm_.arena.end(); ++i) {
    CountPage(static_cast<TableIndex>(i));
  }
  vm_.slot_table().ForEach([&](const Memslot& slot) {
    vm_.lock.AssertHeld();
    CheckSlot(slot);
  });
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    if (pages_shadowing_[space] != vm_.shadowed_tables[space]) {
      Violation(report_, 11, "as ", space, " has ", pages_shadowing_[space],
                " shadowed guest tables, ", vm_.shadowed_tables[space],
                " counted");
    }
    for (const auto& [gfn, counts] : tables_[space]) {
      if (counts.tracking != 0) CheckNotWritable(Gfn(gfn));
    }
  }
}

void AuditTracking::CountPage(TableIndex table) {
  const ShadowPage& page = vm_.arena.Page(table);
  if (page.state != PageState::kActive || page.role.direct()) return;
  const AddressSpace space = page.role.space();
  TableCounts& counts = tables_[ToInt(space)][page.gfn.value()];
  ++counts.shadowing;
  if (!page.unsync) ++counts.tracking;
  ++pages_shadowing_[ToInt(space)];
  if (vm_.slot_table().Find(space, page.gfn) == nullptr) {
    Violation(report_, 9, "table ", ToInt(table), " shadows the table in ",
              page.gfn, " of ", space, ", which has no slot");
  }
}

// The counts of one slot against the pages that were seen.
void AuditTracking::CheckSlot(const Memslot& slot) {
  SlotRmaps& rmaps = *slot.rmaps;
  const auto& expected = tables_[ToInt(slot.spec.space)];
  absl::flat_hash_map<uint64_t, uint64_t> by_gigabyte;
  uint64_t total = 0;
  const uint64_t epoch = vm_.generations.arena_epoch;
  rmaps.ForEachChunk(epoch, [&](RmapChunk& chunk) {
    const std::atomic<uint32_t>* counts =
        chunk.write_track.load(std::memory_order_acquire);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < chunk.gfns; ++i) {
      const Gfn gfn = chunk.first_gfn + i;
      const auto found = expected.find(gfn.value());
      const TableCounts there =
          found == expected.end() ? TableCounts() : found->second;
      const uint32_t counted = counts == nullptr ? 0 : counts[i].load();
      if (there.tracking != counted) {
        Violation(report_, 11, gfn, " of ", slot.spec.space, " is tracked by ",
                  there.tracking, " pages, ", counted, " counted");
      }
      sum += there.shadowing;
    }
    if (sum != chunk.shadowed_tables) {
      Violation(report_, 11, "the chunk of ", chunk.first_gfn, " holds ", sum,
                " shadowed tables, ", chunk.shadowed_tables, " counted");
    }
    by_gigabyte[AlignDown(chunk.first_gfn, Level::k1G).value()] += sum;
    total += sum;
  });
  rmaps.ForEachGigabyte(epoch, [&](Gfn gfn, GigabyteRecord& record) {
    if (by_gigabyte[gfn.value()] != record.shadowed_tables) {
      Violation(report_, 11, "the GiB of ", gfn, " holds ",
                by_gigabyte[gfn.value()], " shadowed tables, ",
                record.shadowed_tables, " counted");
    }
  });
  if (total != rmaps.shadowed_tables(epoch)) {
    Violation(report_, 11, slot.spec, " holds ", total, " shadowed tables, ",
              rmaps.shadowed_tables(epoch), " counted");
  }
}

// Invariant 7.
void AuditTracking::CheckNotWritable(Gfn gfn) {
  const uint64_t epoch = vm_.generations.arena_epoch;
  for (unsigned space = 0; space < kAddressSpaces; ++space) {
    const Memslot* slot =
        vm_.slot_table().Find(static_cast<AddressSpace>(space), gfn);
    if (slot == nullptr) continue;
    slot->rmaps->ForEachHead(
        {gfn, 1}, epoch, [&](RmapHead& head, Gfn, Level level) {
          vm_.lock.AssertHeld();
          vm_.lists.ForEach(head, [&](SpteRef ref) {
            vm_.lock.AssertHeld();
            const Spte spte = vm_.arena.Load(ref);
            if (!spte.may_write()) return;
            Violation(report_, 7, ref,
                      spte.writable() ? " can" : " may be made to",
                      " write the shadowed guest table in ", gfn, " (",
                      slot->spec.space, ", at ", level, ")");
          });
        });
  }
}

}  // namespace shadowmmu
