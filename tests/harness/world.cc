#include "tests/harness/world.h"

#include <vector>

#include "src/base/check.h"
#include "tests/harness/backend.h"
#include "tests/harness/op_values.h"

namespace shadowmmu::testing {

World::World(const VmShape& vm)
    : vm_(vm), host_(vm.frames), oracle_(&memory_, vm.bits) {
  for (uint32_t id = 0; id < vm.vcpus; ++id) vcpus_[id].exists = true;
}

std::optional<World::Page> World::PageAt(AddressSpace space, Gfn gfn) const {
  const std::optional<SlotSpec> slot = memory_.SlotAt(space, gfn);
  if (!slot.has_value()) return std::nullopt;
  Page page{.slot = *slot,
            .hva = slot->hva + ((gfn - slot->base) << kPageShift)};
  page.backing = host_.At(page.hva);
  page.in_progress = host_.InProgress(page.hva);
  return page;
}

OracleResult World::Translate(const VcpuModel& vcpu, Gva gva,
                              const Access& access) const {
  return oracle_.Translate(vcpu.registers, vcpu.space, gva, access);
}

bool World::Tainted(const VcpuModel& vcpu, Gva gva,
                    const OracleResult& truth) const {
  std::vector<WalkedEntry> walked;
  Level level = Level::k512G;
  for (const Gfn table : truth.tables) {
    walked.push_back({table, IndexAt(gva, level)});
    if (level != Level::k4K) level = Below(level);
  }
  return taint_.Covers(vcpu.space, walked, vcpu.entered);
}

bool World::IsIn(AddressSpace space, Gfn gfn, uint32_t frame) const {
  const std::optional<Page> page = PageAt(space, gfn);
  return page.has_value() && page->backing.has_value() &&
         page->backing->frame == frame;
}

void World::NoteSlot(const Op& op) {
  ++layout_;
  ++tables_;
  const AddressSpace space = SlotSpaceOf(op);
  if (op.kind() == OpKind::kSlotCreate) {
    memory_.AddSlot(SlotOf(op));
    return;
  }
  if (op.kind() == OpKind::kSlotDelete) {
    SMMU_CHECK(memory_.RemoveSlot(space, SlotIdOf(op)));
    return;
  }
  SlotSpec* const slot = memory_.MutableSlot(space, SlotIdOf(op));
  SMMU_CHECK(slot != nullptr);
  if (op.kind() == OpKind::kSlotMove) {
    slot->base = Gfn(op.Get(Field::kGfn));
    return;
  }
  // A and D are not set in tables of a read-only slot. When it becomes writable
  // what was cached without them stays.
  if (Has(slot->flags, SlotFlags::kReadOnly)) TaintSlot(*slot);
  slot->flags = FlagsOf(op);
}

void World::TaintSlot(const SlotSpec& slot) {
  taint_.NoteUntrapped({}, [&](AddressSpace space, Gfn gfn) {
    return space == slot.space && slot.gfns().Contains(gfn);
  });
}

void World::NoteChange(const Op& op) {
  ++layout_;
  ++tables_;
  const FrameRange frames = FramesOf(op, host_.frames());
  const HvaRange hvas{HvaOfFrame(frames.first),
                      uint64_t{frames.count} << kPageShift};
  host_.Change(op);
  // Read-only memory holds what it held.
  if (op.kind() == OpKind::kHostReadonly) return;
  taint_.NoteUntrapped({}, [&](AddressSpace space, Gfn gfn) {
    const std::optional<Page> page = PageAt(space, gfn);
    return page.has_value() && hvas.Contains(page->hva);
  });
}

void World::NoteBegin(HvaRange hvas) {
  ++layout_;
  host_.Begin(hvas);
}

bool World::NoteEnd(HvaRange hvas) {
  ++layout_;
  return host_.End(hvas);
}

void World::NoteStoreTo(uint32_t frame, uint64_t offset, size_t bytes,
                        std::optional<Gfn> seen_through) {
  const bool table = taint_.AnyTable(
      [&](AddressSpace space, Gfn gfn) { return IsIn(space, gfn, frame); });
  if (!table || bytes == 0) return;
  ++tables_;
  const EntryRange entries{static_cast<unsigned>(offset / 8),
                           static_cast<unsigned>((offset + bytes - 1) / 8)};
  taint_.NoteUntrapped(entries, [&](AddressSpace space, Gfn gfn) {
    return gfn != seen_through && IsIn(space, gfn, frame);
  });
}

void World::NoteHostStore(uint32_t frame, uint64_t offset,
                          std::span<const std::byte> bytes) {
  host_.Write(frame, offset, bytes);
  NoteStoreTo(frame, offset, bytes.size(), std::nullopt);
}

void World::NoteGuestStore(AddressSpace space, Gpa gpa,
                           std::span<const std::byte> bytes) {
  const std::optional<Page> page = PageAt(space, ToGfn(gpa));
  SMMU_CHECK(page.has_value() && page->backing.has_value());
  host_.Write(page->backing->frame, PageOffset(gpa), bytes);
  NoteStoreTo(page->backing->frame, PageOffset(gpa), bytes.size(), ToGfn(gpa));
}

void World::NoteEntryBits(AddressSpace space, Gpa entry, uint64_t bits) {
  const std::optional<Page> page = PageAt(space, ToGfn(entry));
  SMMU_CHECK(page.has_value() && page->backing.has_value());
  const uint32_t frame = page->backing->frame;
  const uint64_t offset = PageOffset(entry);
  host_.Write(frame, offset, ToBytes(host_.Read64(frame, offset) | bits));
}

void World::NoteInvalidation() { taint_.NoteInvalidation(); }

}  // namespace shadowmmu::testing
