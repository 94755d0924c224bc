// The VM's face: takes a call to the room that does it.

#include "shadowmmu/mmu.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/base/check.h"
#include "src/base/no_memory.h"
#include "src/mmu/aging.h"
#include "src/mmu/dirty_log.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/make_room.h"
#include "src/mmu/notifier.h"
#include "src/mmu/slot_update.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "src/mmu/write_track.h"

namespace shadowmmu {
namespace {

// While a table of slots is built: nothing was published yet.
constexpr absl::string_view kNoSlotMemory = "slots: no memory for a new table";

// Each vCPU may hold four tables as its root, which nothing can evict; beside
// them a fault, or a root that is being loaded, must find room.
constexpr uint32_t kTablesPerRoot = 4;
constexpr uint32_t kTablesToSpare = 12;
constexpr unsigned kMinPhysicalBits = 36;
constexpr unsigned kMaxPhysicalBits = 52;

absl::Status OutOfRange(absl::string_view field, uint64_t value, uint64_t low,
                        uint64_t high) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": ", value, " is not within ", low, " to ", high));
}

absl::Status CheckFormat(const EntryFormat& format) {
  const unsigned bits = format.physical_bits;
  if (bits < kMinPhysicalBits || bits > kMaxPhysicalBits) {
    return OutOfRange("Host::Format().physical_bits", bits, kMinPhysicalBits,
                      kMaxPhysicalBits);
  }
  if (!format.has_accessed_dirty) {
    return absl::UnimplementedError(
        "Host::Format().has_accessed_dirty: a CPU that does not set accessed "
        "and dirty bits is not supported");
  }
  if ((format.not_present_value & pte::kPresent) != 0) {
    return absl::InvalidArgumentError(
        "Host::Format().not_present_value: bit 0 must be clear");
  }
  if ((format.encryption_bit & (format.encryption_bit - 1)) != 0 ||
      (format.encryption_bit & ~pte::kAddress) != 0) {
    return absl::InvalidArgumentError(
        "Host::Format().encryption_bit: not one address bit");
  }
  return absl::OkStatus();
}

uint32_t LeastTables(const MmuConfig& config) {
  return kTablesPerRoot * config.max_vcpus + kTablesToSpare;
}

absl::Status CheckPageLimit(const MmuConfig& config, uint32_t limit) {
  const uint32_t least = LeastTables(config);
  if (limit >= least && limit <= config.table_capacity) {
    return absl::OkStatus();
  }
  return OutOfRange("page_limit", limit, least, config.table_capacity);
}

absl::Status CheckConfig(const MmuConfig& config) {
  if (config.host == nullptr) {
    return absl::InvalidArgumentError("host: null");
  }
  if (config.max_vcpus < 1 || config.max_vcpus > kMaxVcpus) {
    return OutOfRange("max_vcpus", config.max_vcpus, 1, kMaxVcpus);
  }
  const uint32_t least = LeastTables(config);
  if (config.table_capacity < least || config.table_capacity >= kMaxTables) {
    return OutOfRange("table_capacity", config.table_capacity, least,
                      kMaxTables - 1);
  }
  if (config.page_limit != 0) {
    absl::Status good = CheckPageLimit(config, config.page_limit);
    if (!good.ok()) return good;
  }
  const unsigned bits = config.guest_physical_bits;
  if (bits < kMinPhysicalBits || bits > kMaxPhysicalBits) {
    return OutOfRange("guest_physical_bits", bits, kMinPhysicalBits,
                      kMaxPhysicalBits);
  }
  if (config.previous_roots > kMaxPreviousRoots) {
    return OutOfRange("previous_roots", config.previous_roots, 0,
                      kMaxPreviousRoots);
  }
  if (config.write_flooding > kMaxWriteFlooding) {
    return OutOfRange("write_flooding", config.write_flooding, 0,
                      kMaxWriteFlooding);
  }
  const uint32_t window = config.prefetch;
  if (window == 1 || window > kMaxPrefetch || (window & (window - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefetch: ", window,
                     " is not 0, or a power of two from 2 to ", kMaxPrefetch));
  }
  if (config.largest_page < Level::k4K || config.largest_page > Level::k1G) {
    return absl::InvalidArgumentError("largest_page: not 4K, 2M or 1G");
  }
  return absl::OkStatus();
}

}  // namespace

Mmu::Mmu(std::unique_ptr<Vm> vm) : vm_(std::move(vm)) {}

absl::StatusOr<std::unique_ptr<Mmu>> Mmu::Create(const MmuConfig& config) {
  using Result = absl::StatusOr<std::unique_ptr<Mmu>>;
  return CatchNoMemory("no memory for the Mmu", [&]() -> Result {
    if (absl::Status good = CheckConfig(config); !good.ok()) return good;
    const EntryFormat format = config.host->Format();
    if (absl::Status good = CheckFormat(format); !good.ok()) return good;
    auto vm = std::make_unique<Vm>(config, format);
    if (absl::Status made = vm->Init(); !made.ok()) return made;
    return std::unique_ptr<Mmu>(new Mmu(std::move(vm)));
  });
}

Mmu::~Mmu() {
  {
    WriterMutexLock held(&vm_->lock);
    for (const VcpuState* vcpu : vm_->vcpus) {
      SMMU_CHECK(vcpu == nullptr) << "an Mmu dies before its vCPUs";
    }
  }
  // Slots check that nothing maps them any more when they die.
  ZapAll(*vm_);
  const VmLock held(*vm_);
  vm_->slot_table().ForEach([&](const Memslot& slot) {
    vm_->lock.AssertHeld();
    slot.rmaps->MakeFresh(vm_->generations.arena_epoch);
  });
}

absl::Status Mmu::CreateSlot(const SlotSpec& spec) {
  return CatchNoMemory(kNoSlotMemory,
                       [&] { return shadowmmu::CreateSlot(*vm_, spec); });
}
absl::Status Mmu::DeleteSlot(AddressSpace space, SlotId id,
                             SlotZapPolicy policy) {
  return CatchNoMemory(kNoSlotMemory, [&] {
    return shadowmmu::DeleteSlot(*vm_, space, id, policy);
  });
}
absl::Status Mmu::MoveSlot(AddressSpace space, SlotId id, Gfn new_base,
                           SlotZapPolicy policy) {
  return CatchNoMemory(kNoSlotMemory, [&] {
    return shadowmmu::MoveSlot(*vm_, space, id, new_base, policy);
  });
}
absl::Status Mmu::SetSlotFlags(AddressSpace space, SlotId id, SlotFlags flags) {
  return CatchNoMemory(kNoSlotMemory, [&] {
    return shadowmmu::SetSlotFlags(*vm_, space, id, flags);
  });
}

absl::Status Mmu::GetAndClearDirty(AddressSpace space, SlotId id,
                                   std::span<uint64_t> bitmap) {
  return CatchNoMemory(kNoTextMemory, [&] {
    return shadowmmu::GetAndClearDirty(*vm_, space, id, bitmap);
  });
}

std::optional<SlotSpec> Mmu::FindSlot(AddressSpace space, SlotId id) const {
  const SlotReader reader(vm_->slots);
  const auto slot = reader.table().FindById(space, id);
  if (slot == nullptr || !slot->live()) return std::nullopt;
  return slot->spec;
}

std::optional<SlotSpec> Mmu::FindSlot(AddressSpace space, Gfn gfn) const {
  const SlotReader reader(vm_->slots);
  const Memslot* slot = reader.table().Find(space, gfn);
  if (slot == nullptr || !slot->live()) return std::nullopt;
  return slot->spec;
}

std::vector<SlotSpec> Mmu::Slots() const {
  const SlotReader reader(vm_->slots);
  std::vector<SlotSpec> slots;
  reader.table().ForEach([&](const Memslot& slot) {
    if (slot.live()) slots.push_back(slot.spec);
  });
  return slots;
}

uint64_t Mmu::memslot_generation() const {
  return SlotReader(vm_->slots).table().generation();
}

void Mmu::BumpGeneration() { Bump(*vm_); }

ReclaimResult Mmu::ReclaimObsolete(uint64_t budget) {
  return Reclaim(*vm_, budget);
}

void Mmu::InvalidateAll(Strategy strategy) { Invalidate(*vm_, strategy); }

uint64_t Mmu::generation() const {
  WriterMutexLock held(&vm_->lock);
  return vm_->generations.mmu_valid_gen;
}

absl::Status Mmu::SetPageLimit(uint32_t pages) {
  return CatchNoMemory(kNoTextMemory, [&] {
    absl::Status good = CheckPageLimit(vm_->config, pages);
    if (good.ok()) shadowmmu::SetPageLimit(*vm_, pages);
    return good;
  });
}

absl::Status Mmu::InvalidateBegin(HvaRange hvas) {
  return CatchNoMemory(kNoTextMemory,
                       [&] { return BeginInvalidation(*vm_, hvas); });
}
absl::Status Mmu::InvalidateEnd(HvaRange hvas) {
  return CatchNoMemory(kNoTextMemory,
                       [&] { return EndInvalidation(*vm_, hvas); });
}
bool Mmu::Age(HvaRange hvas) { return AgeRange(*vm_, hvas, Aging::kClear); }
bool Mmu::TestAge(HvaRange hvas) {
  return AgeRange(*vm_, hvas, Aging::kTestOnly);
}

FaultOutcome Mmu::GuestWrite(AddressSpace space, Gpa gpa,
                             std::span<const std::byte> bytes) {
  return WriteGuest(*vm_, space, gpa, bytes);
}

bool Mmu::StopShadowing(Gfn gfn) { return shadowmmu::StopShadowing(*vm_, gfn); }
absl::StatusOr<GuestExchange> Mmu::GuestCompareExchange(AddressSpace space,
                                                        Gpa gpa, unsigned size,
                                                        uint64_t expected,
                                                        uint64_t desired) {
  return CatchNoMemory(kNoTextMemory, [&] {
    return CompareExchangeGuest(*vm_, space, gpa, size, expected, desired);
  });
}
FaultOutcome Mmu::GuestRead(AddressSpace space, Gpa gpa,
                            std::span<std::byte> out) {
  return ReadGuest(*vm_, space, gpa, out);
}

Stats Mmu::GetStats() const {
  const VmLock held(*vm_);
  Stats stats = vm_->counters;
  stats.lock_holds = vm_->lock_times.holds();
  stats.longest_lock_hold_ns = vm_->lock_times.longest_ns();
  stats.shadow_pages = vm_->pages.active() + vm_->pinned_pages;
  stats.page_limit = vm_->arena.limit();
  for (TableIndex table = vm_->pages.oldest();
       table != TableIndex::kNil &&
       vm_->arena.Page(table).mmu_valid_gen != vm_->generations.mmu_valid_gen;
       table = vm_->pages.Next(table)) {
    ++stats.obsolete_pages;
  }
  stats.obsolete_pages += vm_->pinned_pages;
  stats.unsync_pages = vm_->unsync_pages;
  stats.pte_list_descs =
      vm_->lists.descriptors().in_use() - InReserves(*vm_).descriptors;
  stats.tlb_flushes = vm_->tlb_flushes.load(std::memory_order_relaxed);
  stats.flushes_spared = vm_->flushes_spared.load(std::memory_order_relaxed);
  stats.table_bytes = vm_->arena.tables_in_use() * kPageSize;
  stats.metadata_bytes =
      vm_->arena.bytes() + vm_->lists.bytes() + vm_->pages.bytes();
  const uint64_t epoch = vm_->generations.arena_epoch;
  vm_->slot_table().ForEach([&](const Memslot& slot) {
    ++stats.slots;
    stats.leaf_sptes += slot.rmaps->leaf_sptes(epoch);
    stats.rmap_chunks += slot.rmaps->chunks_made();
    stats.metadata_bytes += slot.rmaps->bytes();
    if (slot.logs_dirty()) stats.metadata_bytes += slot.dirty->bytes();
  });
  for (const VcpuState* vcpu : vm_->vcpus) {
    if (vcpu == nullptr) continue;
    ++stats.vcpus;
    AddOwnCounters(*vcpu, stats);
  }
  return stats;
}

}  // namespace shadowmmu
