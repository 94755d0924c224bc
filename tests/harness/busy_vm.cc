#include "tests/harness/busy_vm.h"

#include <algorithm>
#include <sstream>

#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr GuestMode kModes[] = {GuestMode::kTwoLevel, GuestMode::kPae,
                                GuestMode::kFiveLevel, GuestMode::kFourLevel};
constexpr uint64_t kTablesPerVcpu = 110;
// Tables of each vCPU, from kTables on; all of them are mapped, at their own
// addresses, from kWindow on.
constexpr Gfn kTables{16};
constexpr Gva kWindow{0x4000'0000};
// Shared by all vCPUs; above their tables.
constexpr Gfn kData{2048};
constexpr uint64_t kDataPages = 16;
constexpr uint64_t kMainPages = 4096;
constexpr SlotSpec kExtra{.id = SlotId{7}, .base = Gfn(0x8000), .pages = 8};
constexpr Gfn kOtherBase{0x9000};
// Frames that data moves to.
constexpr uint64_t kFirstSpare = 6000;
constexpr uint64_t kSpares = 500;

template <typename T>
std::string Text(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

}  // namespace

BusyVm::BusyVm(Options options)
    : options_(options),
      vm_(SmallVm::Options{.table_capacity = options.table_capacity,
                           .prefetch = options.prefetch}) {
  SMMU_CHECK(options.vcpus >= 1 && options.vcpus <= 16);
  SMMU_CHECK_LE((kTables + options.vcpus * kTablesPerVcpu).value(),
                kData.value());
  main_ = vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = kMainPages});
  extra_ = vm_.AddSlot(kExtra);
  for (unsigned v = 0; v < options.vcpus; ++v) BuildTables(v);
}

// Every sixth page lies in the slot that comes and goes.
Gpa BusyVm::Target(uint64_t page) {
  return page % 6 == 5 ? ToGpa(kExtra.base + page % 8)
                       : ToGpa(kData + page % kDataPages);
}

uint64_t BusyVm::EntryFor(uint64_t page) {
  return Target(page).value() | gpte::kPresent | kAll;
}

std::span<const std::byte> BusyVm::BytesOf(unsigned v,
                                           const uint64_t& gpte) const {
  return std::as_bytes(std::span<const uint64_t, 1>(&gpte, 1))
      .first(modes_[v] == GuestMode::kTwoLevel ? 4 : 8);
}

void BusyVm::BuildTables(unsigned v) {
  modes_.push_back(options_.modes == Modes::kAlike
                       ? GuestMode::kFourLevel
                       : kModes[v % std::size(kModes)]);
  GuestTableBuilder& tables = vm_.UseTables(
      vm_.AddVcpu(), {kTables + v * kTablesPerVcpu, kTablesPerVcpu}, modes_[v]);
  const auto map = [&](Gva gva, Gpa gpa) {
    const absl::Status mapped = tables.Map(gva, gpa, Level::k4K, kAll);
    SMMU_CHECK(mapped.ok()) << mapped.ToString();
  };
  for (uint64_t i = 0; i < kPages; ++i) map(At(i), Target(i));
  for (uint64_t i = 0; i < options_.vcpus * kTablesPerVcpu; ++i) {
    const Gpa table = ToGpa(kTables + i);
    map(kWindow + table.value(), table);
  }
  tables.SetStore(&vm_.tracked());
  tables_.push_back(&tables);
  std::vector<uint64_t>& entries = entry_of_.emplace_back();
  for (uint64_t i = 0; i < kPages; ++i) {
    entries.push_back(tables.EntryAddress(At(i), Level::k4K)->value());
  }
}

void BusyVm::Fail(const std::string& why) {
  const std::lock_guard<std::mutex> held(wrong_lock_);
  if (wrong_.empty()) wrong_ = why;
}

std::string BusyVm::wrong() const {
  const std::lock_guard<std::mutex> held(wrong_lock_);
  return wrong_;
}

void BusyVm::Expect(const absl::Status& status,
                    std::initializer_list<absl::StatusCode> also) {
  if (status.ok() ||
      std::find(also.begin(), also.end(), status.code()) != also.end()) {
    return;
  }
  Fail(status.ToString());
}

// ---- The guest ----

void BusyVm::StepVcpu(unsigned v, Rng& rng) {
  const uint64_t page = rng.Below(kPages);
  switch (rng.Below(24)) {
    case 0:
    case 1:
    case 2:
      return EditTrapped(v, page, rng);
    case 3:
    case 4:
    case 5:
    case 6:
      return EditUntrapped(v, page, rng);
    case 7:
    case 8:
    case 9:
      return ChangeRegisters(v, rng);
    case 10:
      vm_.vcpu(v).mmu().Prefault(At(page), 1 + rng.Below(kPages - page),
                                 rng.Below(2) == 0 ? Read() : Write());
      return;
    default:
      return Touch(v, rng);
  }
}

void BusyVm::Touch(unsigned v, Rng& rng) {
  const TouchResult touched = vm_.vcpu(v).Touch(
      At(rng.Below(kPages)), rng.Below(2) == 0 ? Read() : Write());
  if (touched.kind == TouchResult::Kind::kBroken) Fail(Text(touched));
  if (touched.hit()) hits_.fetch_add(1, std::memory_order_relaxed);
}

// A page is remapped by a tracked store, as by an instruction that the
// hypervisor emulates.
void BusyVm::EditTrapped(unsigned v, uint64_t page, Rng& rng) {
  VcpuMmu& mmu = vm_.vcpu(v).mmu();
  const uint64_t gpte = EntryFor(rng.Below(kPages));
  mmu.GuestWrite(Gpa(entry_of_[v][page]), BytesOf(v, gpte));
  mmu.Invlpg(At(page));
}

// The guest edits its table by itself, and flushes as a kernel would, or later.
void BusyVm::EditUntrapped(unsigned v, uint64_t page, Rng& rng) {
  GuestVcpu& cpu = vm_.vcpu(v);
  const uint64_t gpte = EntryFor(rng.Below(kPages));
  const TouchResult stored = cpu.Touch(
      kWindow + entry_of_[v][page], Write(),
      [&](Hpa hpa) { vm_.host().WritePhysical(hpa, BytesOf(v, gpte)); });
  if (stored.kind == TouchResult::Kind::kBroken) Fail(Text(stored));
  switch (rng.Below(3)) {
    case 0:
      cpu.mmu().Invlpg(At(page));
      break;
    case 1:
      Expect(cpu.mmu().WriteCr3(cpu.mmu().registers().cr3),
             {absl::StatusCode::kUnavailable});
      break;
    default:
      break;
  }
}

void BusyVm::ChangeRegisters(unsigned v, Rng& rng) {
  VcpuMmu& mmu = vm_.vcpu(v).mmu();
  if (rng.Below(8) == 0) {
    PagingRegisters registers = mmu.registers();
    registers.cr0 ^= cr0::kWp;
    Expect(mmu.SetRegisters(registers), {absl::StatusCode::kUnavailable});
  }
  // Another process, where all vCPUs have the same mode.
  if (options_.modes == Modes::kAlike) {
    const Gpa root = tables_[rng.Below(options_.vcpus)]->root();
    Expect(mmu.WriteCr3(root.value()));
  }
}

// ---- Everybody else ----

void BusyVm::StepOther(Rng& rng) {
  switch (rng.Below(16)) {
    case 0:
    case 1:
    case 2:
      return UnmapData(rng);
    case 3:
      return UnmapTable(rng);
    case 4:
      if (rng.Below(16) == 0) UnmapMuch();
      return;
    case 5:
    case 6:
      vm_.mmu().Age(main_.hvas());
      return;
    case 7:
      vm_.mmu().TestAge(
          {main_.hva + rng.Below(kMainPages) * kPageSize, kPageSize});
      return;
    case 8:
    case 9:
      return ChangeSlots(rng);
    case 10:
      return LogDirty(rng);
    case 11:
    case 12:
    case 13:
      return Invalidate(rng);
    default:
      return Look(rng);
  }
}

void BusyVm::UnmapData(Rng& rng) {
  const uint64_t page = kData.value() + rng.Below(kDataPages);
  const HvaRange range{main_.hva + page * kPageSize, kPageSize};
  const std::lock_guard<std::mutex> held(retarget_lock_);
  Expect(vm_.mmu().InvalidateBegin(range));
  vm_.host().Retarget(
      range.begin,
      Frame{static_cast<uint32_t>(kFirstSpare + rng.Below(kSpares))});
  Expect(vm_.mmu().InvalidateEnd(range));
}

// A table stays, and cannot be read for a moment.
void BusyVm::UnmapTable(Rng& rng) {
  const uint64_t page =
      kTables.value() + rng.Below(options_.vcpus * kTablesPerVcpu);
  const HvaRange range{main_.hva + page * kPageSize, kPageSize};
  Expect(vm_.mmu().InvalidateBegin(range));
  Expect(vm_.mmu().InvalidateEnd(range));
}

void BusyVm::UnmapMuch() {
  Expect(vm_.mmu().InvalidateBegin(main_.hvas()));
  Expect(vm_.mmu().InvalidateEnd(main_.hvas()));
}

void BusyVm::ChangeSlots(Rng& rng) {
  constexpr absl::StatusCode kNotFound = absl::StatusCode::kNotFound;
  constexpr absl::StatusCode kExists = absl::StatusCode::kAlreadyExists;
  Mmu& mmu = vm_.mmu();
  const bool there = rng.Below(2) == 0;
  const auto policy = static_cast<SlotZapPolicy>(rng.Below(4));
  switch (rng.Below(4)) {
    case 0:
      return Expect(mmu.DeleteSlot(kNormal, extra_.id, policy), {kNotFound});
    case 1:
      return Expect(mmu.CreateSlot(extra_), {kExists});
    case 2:
      return Expect(mmu.MoveSlot(kNormal, extra_.id,
                                 there ? extra_.base : kOtherBase, policy),
                    {kNotFound});
    default:
      return Expect(
          mmu.SetSlotFlags(kNormal, extra_.id,
                           there ? SlotFlags::kReadOnly : SlotFlags::kNone),
          {kNotFound});
  }
}

void BusyVm::LogDirty(Rng& rng) {
  Mmu& mmu = vm_.mmu();
  switch (rng.Below(4)) {
    case 0:
      return Expect(mmu.SetSlotFlags(kNormal, main_.id, SlotFlags::kLogDirty));
    case 1:
      return Expect(mmu.SetSlotFlags(kNormal, main_.id, SlotFlags::kNone));
    default: {
      std::vector<uint64_t> words(DirtyBitmapWords(main_.pages));
      return Expect(mmu.GetAndClearDirty(kNormal, main_.id, words),
                    {absl::StatusCode::kFailedPrecondition});
    }
  }
}

void BusyVm::Invalidate(Rng& rng) {
  Mmu& mmu = vm_.mmu();
  switch (rng.Below(6)) {
    case 0:
      return mmu.BumpGeneration();
    case 1:
      mmu.ReclaimObsolete(1 + rng.Below(20));
      return;
    case 2:
      return mmu.InvalidateAll(Strategy::kZapAll);
    case 3: {  // from the least for 16 vCPUs to the capacity
      constexpr uint32_t kLeast = 76;
      return Expect(mmu.SetPageLimit(static_cast<uint32_t>(
          kLeast + rng.Below(options_.table_capacity - kLeast + 1))));
    }
    case 4:
      return mmu.InvalidateAll(Strategy::kRelease);
    default:
      return mmu.InvalidateAll(Strategy::kObsoleteWalk);
  }
}

void BusyVm::Look(Rng& rng) {
  switch (rng.Below(4)) {
    case 0: {
      const AuditReport report = Audit(vm_.mmu());
      if (!report.ok()) Fail(Text(report));
      return;
    }
    case 1:
      vm_.mmu().StopShadowing(kTables +
                              rng.Below(options_.vcpus * kTablesPerVcpu));
      return;
    case 2: {
      std::byte byte{};
      vm_.mmu().GuestRead(kNormal, Target(rng.Below(kPages)), {&byte, 1});
      return;
    }
    default:
      vm_.mmu().GetStats();
      return;
  }
}

}  // namespace shadowmmu::testing
