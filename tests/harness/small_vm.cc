#include "tests/harness/small_vm.h"

#include <sstream>
#include <utility>

#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// Slots without an hva of their own get one from here on, a GiB apart, so that
// every alignment of gfn and hva can be had.
constexpr Hva kFirstHva{0x7000'0000'0000};

}  // namespace

PagingRegisters RegistersFor(GuestMode mode, Gpa root) {
  PagingRegisters registers;
  registers.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
  registers.cr3 = root.value();
  if (mode == GuestMode::kTwoLevel) {
    registers.cr4 = cr4::kPse;
    return registers;
  }
  registers.cr4 = cr4::kPae;
  registers.efer = efer::kNxe;
  if (mode == GuestMode::kPae) return registers;
  registers.efer |= efer::kLme | efer::kLma;
  if (mode == GuestMode::kFiveLevel) registers.cr4 |= cr4::kLa57;
  return registers;
}

SmallVm::SmallVm(Options options)
    : host_(TestHost::Options{.frames = options.frames}),
      memory_(&host_),
      untracked_(&memory_) {
  host_.SetLargestPage(options.largest);
  auto mmu = Mmu::Create({.host = &host_,
                          .table_capacity = options.table_capacity,
                          .page_limit = options.page_limit,
                          .max_vcpus = options.max_vcpus,
                          .previous_roots = options.previous_roots,
                          .unsync = options.unsync,
                          .write_flooding = options.write_flooding,
                          .prefetch = options.prefetch,
                          .absent_tables = options.absent_tables,
                          .time_lock_holds = options.time_lock_holds});
  SMMU_CHECK(mmu.ok()) << mmu.status().ToString();
  mmu_ = *std::move(mmu);
  tracked_ = std::make_unique<TrackedStore>(mmu_.get());
}

SmallVm::~SmallVm() { DropVcpus(); }

SlotSpec SmallVm::AddSlot(SlotSpec spec) {
  if (spec.hva == Hva()) {
    // Host pages as aligned as guest pages are, so that they can be large.
    const auto offset = static_cast<uint32_t>(spec.base.value() % 512);
    const uint32_t aligned = (next_frame_ + 511) / 512 * 512;
    const uint32_t frame = spec.pages >= 512 ? aligned + offset : next_frame_;
    SMMU_CHECK_LE(frame + spec.pages, host_.frames()) << "too few frames";
    spec.hva = kFirstHva + (uint64_t{memory_.slots().size()} << 36) +
               (spec.base.value() << kPageShift);
    host_.MapRange(spec.hva, spec.pages, Frame{frame});
    next_frame_ = frame + static_cast<uint32_t>(spec.pages);
  }
  const absl::Status made = mmu_->CreateSlot(spec);
  SMMU_CHECK(made.ok()) << made.ToString();
  memory_.AddSlot(spec);
  return spec;
}

void SmallVm::DeleteSlot(AddressSpace space, SlotId id, SlotZapPolicy policy) {
  const absl::Status gone = mmu_->DeleteSlot(space, id, policy);
  SMMU_CHECK(gone.ok()) << gone.ToString();
  SMMU_CHECK(memory_.RemoveSlot(space, id));
}

GuestVcpu& SmallVm::AddVcpu() {
  const auto id = static_cast<VcpuId>(vcpus_.size());
  auto mmu = mmu_->CreateVcpu(id);
  SMMU_CHECK(mmu.ok()) << mmu.status().ToString();
  auto vcpu = std::make_unique<Vcpu>();
  vcpu->mmu = *std::move(mmu);
  vcpu->cpu = std::make_unique<CpuModel>(&host_, host_.Format());
  vcpu->guest = std::make_unique<GuestVcpu>(vcpu->mmu.get(), vcpu->cpu.get());
  host_.Attach(id, vcpu->cpu.get());
  vcpus_.push_back(std::move(vcpu));
  return *vcpus_.back()->guest;
}

void SmallVm::DropVcpus() {
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    vcpus_[i]->mmu.reset();
    host_.Detach(static_cast<VcpuId>(i));
  }
  vcpus_.clear();
}

GuestTableBuilder& SmallVm::UseTables(GuestVcpu& vcpu, GfnRange tables,
                                      GuestMode mode) {
  builders_.push_back(std::make_unique<GuestTableBuilder>(
      &memory_, &untracked_, tables, vcpu.mmu().address_space(), mode));
  const absl::Status set =
      vcpu.mmu().SetRegisters(RegistersFor(mode, builders_.back()->root()));
  SMMU_CHECK(set.ok()) << set.ToString();
  return *builders_.back();
}

Pfn SmallVm::PfnOf(Gfn gfn, AddressSpace space) const {
  const auto hva = memory_.HvaOf(space, ToGpa(gfn));
  SMMU_CHECK(hva.has_value()) << "no slot at " << gfn;
  const auto frame = host_.FrameAt(*hva);
  SMMU_CHECK(frame.has_value()) << "nothing behind " << *hva;
  return ToPfn(*frame);
}

size_t SmallVm::RmapLength(Gfn gfn, AddressSpace space) const {
  return DumpRmap(*mmu_, space, gfn).size();
}

std::string SmallVm::Violations(uint64_t sptes) const {
  const AuditReport report = Audit(*mmu_);
  std::ostringstream text;
  if (!report.ok()) text << report;
  if (report.sptes < sptes) {
    text << "the audit saw " << report.sptes << " sptes, not " << sptes;
  }
  return text.str();
}

}  // namespace shadowmmu::testing
