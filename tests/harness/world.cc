#include "tests/harness/world.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "src/base/check.h"
#include "tests/harness/backend.h"
#include "tests/harness/op_values.h"
#include "tests/harness/oracle_registers.h"

namespace shadowmmu::testing {
namespace {

EntryRange WordsOf(uint64_t offset, size_t bytes) {
  return {static_cast<unsigned>(offset / 8),
          static_cast<unsigned>((offset + bytes - 1) / 8)};
}

// Levels of tables in memory.
size_t TableLevels(const VcpuModel& vcpu) {
  switch (PagingModeOf(vcpu.registers)) {
    case PagingMode::kOff:
      return 0;
    case PagingMode::k32Bit:
    case PagingMode::kPae:
      return 2;
    case PagingMode::kFourLevels:
      return 4;
    case PagingMode::kFiveLevels:
      return 5;
  }
  return 0;
}

}  // namespace

World::World(const VmShape& vm)
    : vm_(vm),
      host_(vm.frames),
      oracle_(&memory_, vm.bits,
              vm.ones != 0 ? AbsentTables::kReadAsOnes
                           : AbsentTables::kMemoryFault) {
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
  return oracle_.Translate(vcpu.cpu(), vcpu.space, gva, access);
}

bool World::Tainted(const VcpuModel& vcpu, const OracleResult& truth) const {
  std::vector<WalkedEntry> walked;
  for (const Gpa entry : truth.entries) {
    walked.push_back(
        {ToGfn(entry), static_cast<unsigned>(PageOffset(entry) / 8)});
  }
  return taint_.Covers(vcpu.space, walked, vcpu.entered);
}

bool World::MayBeStale(const VcpuModel& vcpu, Gva gva,
                       const OracleResult& truth) const {
  if (vm_.unsync == 0 || truth.entries.empty() ||
      truth.entries.size() != TableLevels(vcpu)) {
    return false;
  }
  const Gpa last = truth.entries.back();
  const Taint::Time stored = taint_.GuestStored(
      vcpu.space, {ToGfn(last), static_cast<unsigned>(PageOffset(last) / 8)});
  if (stored <= vcpu.flushes.Last(PcidOf(vcpu.registers), gva) ||
      stored <= vcpu.entered) {
    return false;
  }
  const unsigned bytes =
      PagingModeOf(vcpu.registers) == PagingMode::k32Bit ? 4 : 8;
  for (size_t i = 0; i + 1 < truth.entries.size(); ++i) {
    const Gpa entry = truth.entries[i];
    const std::optional<Page> table = PageAt(vcpu.space, ToGfn(entry));
    if (!table || !table->backing) return false;
    for (unsigned at = 0; at < bytes; at += 4) {
      const auto changed =
          changed_.find({table->backing->frame, (PageOffset(entry) + at) / 4});
      if (changed != changed_.end() && changed->second > stored) return false;
    }
  }
  return true;
}

std::vector<Gfn> World::RootTables(const VcpuModel& vcpu) const {
  constexpr uint64_t kFrame = 0x000f'ffff'ffff'f000;
  const uint64_t cr3 = vcpu.registers.cr3;
  std::vector<Gfn> tables;
  switch (PagingModeOf(vcpu.registers)) {
    case PagingMode::kOff:
      break;
    case PagingMode::k32Bit:
      tables.push_back(ToGfn(Gpa(cr3 & 0xffff'f000)));
      break;
    case PagingMode::kPae:
      for (const uint64_t pdpte : vcpu.pdptes) {
        if (pdpte % 2 != 0) tables.push_back(ToGfn(Gpa(pdpte & kFrame)));
      }
      break;
    case PagingMode::kFourLevels:
    case PagingMode::kFiveLevels:
      tables.push_back(ToGfn(Gpa(cr3 & kFrame)));
      break;
  }
  return tables;
}

bool World::IsRootTable(Gfn gfn) const {
  return std::any_of(vcpus_.begin(), vcpus_.end(), [&](const VcpuModel& vcpu) {
    const std::vector<Gfn> tables = RootTables(vcpu);
    return vcpu.exists &&
           std::find(tables.begin(), tables.end(), gfn) != tables.end();
  });
}

absl::StatusOr<Pdptes> World::PdptesFor(const VcpuModel& vcpu,
                                        const PagingRegisters& registers,
                                        bool load) const {
  if (!PaePaging(registers)) return Pdptes{};
  if (!load) return vcpu.pdptes;
  const Gpa at = PdptesAt(registers);
  const std::optional<Page> page = PageAt(vcpu.space, ToGfn(at));
  if (!page.has_value()) {
    return vm_.ones != 0 ? absl::InvalidArgumentError("PDPTEs of ones")
                         : absl::NotFoundError("CR3 outside the slots");
  }
  if (page->in_progress) return absl::UnavailableError("about to go");
  if (!page->backing) return absl::FailedPreconditionError("not there");
  Pdptes pdptes{};
  for (size_t i = 0; i < pdptes.size(); ++i) {
    pdptes[i] = host_.Read64(page->backing->frame, PageOffset(at) + 8 * i);
  }
  if (!PdptesAccepted(pdptes, vm_.bits)) {
    return absl::InvalidArgumentError("a reserved bit of a PDPTE");
  }
  return pdptes;
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
    dirty_.erase({space, SlotIdOf(op)});
    return;
  }
  SlotSpec* const slot = memory_.MutableSlot(space, SlotIdOf(op));
  SMMU_CHECK(slot != nullptr);
  if (op.kind() == OpKind::kSlotMove) {
    slot->base = Gfn(op.Get(Field::kGfn));
    return;
  }
  NoteFlags(slot, FlagsOf(op));
}

void World::NoteFlags(SlotSpec* slot, SlotFlags flags) {
  // A and D are not set in tables of a read-only slot. When it becomes writable
  // what was cached without them stays.
  if (Has(slot->flags, SlotFlags::kReadOnly)) TaintSlot(*slot);
  slot->flags = flags;
  if (!Has(flags, SlotFlags::kLogDirty)) dirty_.erase({slot->space, slot->id});
}

void World::NoteDirty(AddressSpace space, Gfn gfn) {
  const std::optional<SlotSpec> slot = memory_.SlotAt(space, gfn);
  if (!slot || !Has(slot->flags, SlotFlags::kLogDirty)) return;
  dirty_[{space, slot->id}].insert(gfn - slot->base);
}

std::set<uint64_t> World::TakeDirty(AddressSpace space, SlotId id) {
  return std::exchange(dirty_[{space, id}], {});
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

// Stores, and notes what changes.
void World::Write(uint32_t frame, uint64_t offset,
                  std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const uint64_t first = offset & ~uint64_t{3};
  const uint64_t end = (offset + bytes.size() + 3) & ~uint64_t{3};
  std::vector<std::byte> before(end - first);
  std::vector<std::byte> after(end - first);
  host_.Read(frame, first, before);
  host_.Write(frame, offset, bytes);
  host_.Read(frame, first, after);
  const Taint::Time now = taint_.Tick();
  for (uint64_t at = 0; at < before.size(); at += 4) {
    if (std::memcmp(&before[at], &after[at], 4) == 0) continue;
    changed_[{frame, (first + at) / 4}] = now;
  }
}

void World::NoteStoreTo(uint32_t frame, uint64_t offset, size_t bytes,
                        std::optional<Gfn> seen_through) {
  const bool table = taint_.AnyTable(
      [&](AddressSpace space, Gfn gfn) { return IsIn(space, gfn, frame); });
  if (!table || bytes == 0) return;
  ++tables_;
  taint_.NoteUntrapped(WordsOf(offset, bytes),
                       [&](AddressSpace space, Gfn gfn) {
                         return gfn != seen_through && IsIn(space, gfn, frame);
                       });
}

void World::NoteHostStore(uint32_t frame, uint64_t offset,
                          std::span<const std::byte> bytes) {
  Write(frame, offset, bytes);
  NoteStoreTo(frame, offset, bytes.size(), std::nullopt);
}

void World::NoteGuestStore(AddressSpace space, Gpa gpa,
                           std::span<const std::byte> bytes, By by) {
  const std::optional<Page> page = PageAt(space, ToGfn(gpa));
  SMMU_CHECK(page.has_value() && page->backing.has_value());
  Write(page->backing->frame, PageOffset(gpa), bytes);
  if (!bytes.empty()) NoteDirty(space, ToGfn(gpa));
  NoteStoreTo(page->backing->frame, PageOffset(gpa), bytes.size(), ToGfn(gpa));
  if (by == By::kCpu && !bytes.empty()) {
    taint_.NoteGuestStore(ToGfn(gpa), WordsOf(PageOffset(gpa), bytes.size()));
  }
}

void World::NoteEntryBits(AddressSpace space, Gpa entry, uint64_t bits) {
  const std::optional<Page> page = PageAt(space, ToGfn(entry));
  SMMU_CHECK(page.has_value() && page->backing.has_value());
  const uint32_t frame = page->backing->frame;
  // By words: an entry of 4 bytes may be the upper half of one.
  const uint64_t offset = PageOffset(entry) & ~uint64_t{7};
  bits <<= 8 * (PageOffset(entry) - offset);
  host_.Write(frame, offset, ToBytes(host_.Read64(frame, offset) | bits));
}

void World::NoteInvalidation() { taint_.NoteInvalidation(); }

}  // namespace shadowmmu::testing
