#include "bench/replay/machine.h"

#include <utility>

namespace shadowmmu::replay {
namespace {

constexpr uint64_t kLargePage = PagesPerEntry(Level::k2M);

Gfn BaseOf(uint32_t slot, uint64_t pages) {
  const uint64_t rounded = (pages + kLargePage - 1) / kLargePage * kLargePage;
  return Gfn(slot * (rounded + kLargePage));
}

}  // namespace

Machine::Machine(SlotZapPolicy slot_zap)
    : slot_zap_(slot_zap), cpu_(&host_, host_.Format()) {
  host_.SetCpu(&cpu_);
}

Machine::~Machine() = default;

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(
    const Options& options) {
  std::unique_ptr<Machine> machine(new Machine(options.slot_zap));
  if (absl::Status made = machine->Init(options); !made.ok()) return made;
  return machine;
}

absl::Status Machine::Init(const Options& options) {
  MmuConfig config;
  config.host = &host_;
  config.table_capacity = options.table_capacity;
  config.max_vcpus = 1;
  config.previous_roots = options.previous_roots;
  config.unsync = options.unsync;
  config.write_flooding = options.write_flooding;
  config.guest_physical_bits = kGuestPhysicalBits;
  config.prefetch = 0;  // what is counted is each page's own fault
  absl::StatusOr<std::unique_ptr<Mmu>> mmu = Mmu::Create(config);
  if (!mmu.ok()) return mmu.status();
  mmu_ = *std::move(mmu);
  for (uint32_t i = 0; i < options.slots; ++i) {
    absl::StatusOr<HostRegion> region = HostRegion::Map(options.pages_per_slot);
    if (!region.ok()) return region.status();
    regions_.push_back(*std::move(region));
    SlotSpec slot;
    slot.id = SlotId{i};
    slot.base = BaseOf(i, options.pages_per_slot);
    slot.pages = options.pages_per_slot;
    slot.hva = regions_.back().hva();
    if (absl::Status made = mmu_->CreateSlot(slot); !made.ok()) return made;
    memory_.AddSlot(slot);
  }
  absl::StatusOr<std::unique_ptr<VcpuMmu>> vcpu = mmu_->CreateVcpu(VcpuId{0});
  if (!vcpu.ok()) return vcpu.status();
  vcpu_ = *std::move(vcpu);
  return absl::OkStatus();
}

absl::StatusOr<Machine::SlotTimes> Machine::ReplaceSlot(SlotId id) {
  SlotTimes times;
  SlotSpec* const slot = memory_.MutableSlot(AddressSpace::kNormal, id);
  const StopWatch remove;
  absl::Status done = mmu_->DeleteSlot(AddressSpace::kNormal, id, slot_zap_);
  times.remove = remove.elapsed();
  if (!done.ok()) return done;
  HostRegion& region = regions_[ToInt(id)];
  done = region.MoveElsewhere();
  if (!done.ok()) return done;
  slot->hva = region.hva();
  const StopWatch add;
  done = mmu_->CreateSlot(*slot);
  times.add = add.elapsed();
  if (!done.ok()) return done;
  return times;
}

}  // namespace shadowmmu::replay
