#include "bench/exhaustive/world.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "src/base/check.h"
#include "tests/harness/guest_store.h"

namespace shadowmmu::exhaustive {
namespace {

using testing::GuestMemory;
using testing::GuestTableBuilder;
using testing::OracleResult;
namespace gpte = testing::gpte;

// Guest memory, from gpa 0 on: the tables, the small page, and two large ones
// of up to 4 MiB.
constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kMemory = 16 * kMib;
constexpr GfnRange kTables{Gfn(1), 16};
constexpr Gpa kSmallPage{0x45'000};
constexpr Gpa kLargePage{4 * kMib};    // on host pages of 4 KiB
constexpr Gpa kLargePage2M{8 * kMib};  // on host pages of 2 MiB

// MAXPHYADDR of the guest; the bit is reserved in entries of 8 bytes.
constexpr unsigned kPhysicalBits = 40;
constexpr uint64_t kReservedAddressBit = uint64_t{1} << kPhysicalBits;
constexpr uint64_t kReservedIn2M = uint64_t{1} << 13;
constexpr uint64_t kReservedIn4M = uint64_t{1} << 21;

constexpr uint32_t kTableCapacity = 512;

Gva AddressIn(GuestMode mode) {
  switch (mode) {
    case GuestMode::kTwoLevel:
      return Gva(0x9a6b'c5d8);
    case GuestMode::kPae:
      return Gva(0x5a6b'c5d8);
    case GuestMode::kFourLevel:
      return Gva(0xffff'a345'5a6b'c5d8);
    case GuestMode::kFiveLevel:
      break;
  }
  return Gva(0x0056'a345'5a6b'c5d8);
}

// The bits of an entry, but for its address.
uint64_t FlagsOf(EntryBits bits, uint64_t reserved) {
  const struct {
    EntryBits bit;
    uint64_t value;
  } flags[] = {{bit::kPresent, gpte::kPresent},
               {bit::kWritable, gpte::kWritable},
               {bit::kUser, gpte::kUser},
               {bit::kAccessed, gpte::kAccessed},
               {bit::kDirty, gpte::kDirty},
               {bit::kNoExecute, gpte::kNoExecute},
               {bit::kPageSize, gpte::kPageSize},
               {bit::kReserved, reserved},
               {bit::kKey, uint64_t{kOtherKey} << 59}};
  uint64_t value = 0;
  for (const auto& flag : flags) {
    if ((bits & flag.bit) != 0) value |= flag.value;
  }
  return value;
}

void* PointerTo(uint64_t address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses are this process's.
  return reinterpret_cast<void*>(address);
}

}  // namespace

// ---- The host ----

class World::TheHost : public DefaultHost, public testing::PhysicalMemory {
 public:
  TheHost() {
    memory_ = AllocateZeroed(kMemory);
    SMMU_CHECK(memory_ != nullptr) << "no memory";
  }
  ~TheHost() override { Free(memory_, kMemory); }

  void Attach(testing::CpuModel* cpu) { cpu_ = cpu; }
  Hva base() const { return Hva(reinterpret_cast<uintptr_t>(memory_)); }

  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override {
    auto memory = DefaultHost::AllocateTables(tables);
    if (memory.ok()) {
      tables_ = reinterpret_cast<uintptr_t>(memory->base);
      table_bytes_ = memory->tables * kPageSize;
    }
    return memory;
  }
  absl::StatusOr<LowPage> AllocateLowPage() override {
    auto page = DefaultHost::AllocateLowPage();
    if (page.ok()) low_ = page->hpa.value();
    return page;
  }
  absl::StatusOr<HostPage> Resolve(Hva hva, AccessType type) override {
    auto page = DefaultHost::Resolve(hva, type);
    const uint64_t offset = hva - base();
    if (page.ok() && offset >= kLargePage2M.value()) {
      page->largest = Level::k2M;
    }
    return page;
  }
  void FlushTlb(const VcpuSet&, FlushRange range) override {
    if (cpu_ != nullptr) cpu_->Flush(range);
  }

  void* PointerToTable(Hpa hpa) const override {
    const uint64_t at = hpa.value();
    if (at - tables_ < table_bytes_ || at - low_ < kPageSize) {
      return PointerTo(at);
    }
    return nullptr;
  }

 private:
  void* memory_ = nullptr;
  uintptr_t tables_ = 0;
  uint64_t table_bytes_ = 0;
  uint64_t low_ = 0;
  testing::CpuModel* cpu_ = nullptr;
};

// What the oracle reads guest memory through.
class World::OracleView : public DefaultHost {
 public:
  OracleView(Hva pde, Hva pte) : pde_(pde), pte_(pte) {}

  std::optional<EntryValues> shown;
  EntryValues flipped;

  bool TryRead(Hva hva, std::span<std::byte> out) override {
    if (hva == pde_)
      return Show(hva, shown ? &shown->pde : nullptr, flipped.pde, out);
    if (hva == pte_)
      return Show(hva, shown ? &shown->pte : nullptr, flipped.pte, out);
    return DefaultHost::TryRead(hva, out);
  }

 private:
  bool Show(Hva hva, const uint64_t* shown_value, uint64_t flip,
            std::span<std::byte> out) {
    uint64_t value = 0;
    const auto bytes = std::as_writable_bytes(std::span(&value, 1));
    if (shown_value != nullptr) {
      value = *shown_value;
    } else if (!DefaultHost::TryRead(hva, bytes.first(out.size()))) {
      return false;
    }
    if ((value & gpte::kPresent) != 0) value ^= flip;
    std::memcpy(out.data(), &value, out.size());
    return true;
  }

  const Hva pde_;
  const Hva pte_;
};

// ---- The VM ----

World::World(GuestMode mode)
    : mode_(mode),
      gva_(AddressIn(mode)),
      entry_bytes_(mode == GuestMode::kTwoLevel ? 4 : 8),
      host_(std::make_unique<TheHost>()),
      memory_(std::make_unique<GuestMemory>(host_.get())) {
  const SlotSpec slot{.id = SlotId{0},
                      .base = Gfn(0),
                      .pages = kMemory >> kPageShift,
                      .hva = host_->base()};
  memory_->AddSlot(slot);
  MakeTables();

  view_ = std::make_unique<OracleView>(HvaOf(pde_), HvaOf(pte_));
  seen_ = std::make_unique<GuestMemory>(view_.get());
  seen_->AddSlot(slot);
  oracle_ = std::make_unique<testing::Oracle>(seen_.get(), kPhysicalBits);

  auto library = Mmu::Create({.host = host_.get(),
                              .table_capacity = kTableCapacity,
                              .max_vcpus = 1,
                              .guest_physical_bits = kPhysicalBits});
  SMMU_CHECK(library.ok()) << library.status().ToString();
  library_ = *std::move(library);
  const absl::Status made = library_->CreateSlot(slot);
  SMMU_CHECK(made.ok()) << made.ToString();
  auto vcpu = library_->CreateVcpu(VcpuId{0});
  SMMU_CHECK(vcpu.ok()) << vcpu.status().ToString();
  vcpu_ = *std::move(vcpu);
  cpu_ = std::make_unique<testing::CpuModel>(host_.get(), host_->Format());
  host_->Attach(cpu_.get());
  guest_ = std::make_unique<testing::GuestVcpu>(vcpu_.get(), cpu_.get());
}

World::~World() {
  vcpu_.reset();
  library_.reset();
}

void World::MakeTables() {
  testing::UntrackedStore store(memory_.get());
  GuestTableBuilder builder(memory_.get(), &store, kTables,
                            AddressSpace::kNormal, mode_);
  const absl::Status mapped = builder.Map(gva_, kSmallPage, Level::k4K, 0);
  SMMU_CHECK(mapped.ok()) << mapped.ToString();
  root_ = builder.root();
  pde_ = *builder.EntryAddress(gva_, Level::k2M);
  pte_ = *builder.EntryAddress(gva_, Level::k4K);
  table_ = Gpa(pte_.value() & ~kPageOffsetMask);
  // Only the last two entries are of interest.
  for (Level level = Level::k256T; level > Level::k2M; level = Below(level)) {
    const bool has = level == Level::k256T ? mode_ == GuestMode::kFiveLevel
                                           : IsLongMode(mode_);
    if (!has) continue;
    const absl::Status set = builder.SetBits(
        gva_, level,
        gpte::kPresent | gpte::kWritable | gpte::kUser | gpte::kAccessed);
    SMMU_CHECK(set.ok()) << set.ToString();
  }
}

// ---- Registers ----

PagingRegisters World::RegistersFor(const RegisterSet& registers) const {
  PagingRegisters r{.cr0 = cr0::kPe | cr0::kPg, .cr3 = root_.value()};
  if (registers.write_protect) r.cr0 |= cr0::kWp;
  if (registers.no_execute) r.efer |= efer::kNxe;
  if (registers.smep) r.cr4 |= cr4::kSmep;
  if (registers.smap) r.cr4 |= cr4::kSmap;
  if (registers.keys) r.cr4 |= cr4::kPke;
  if (registers.pse) r.cr4 |= cr4::kPse;
  if (mode_ != GuestMode::kTwoLevel) r.cr4 |= cr4::kPae;
  if (IsLongMode(mode_)) {
    r.efer |= efer::kLme | efer::kLma;
  }
  if (mode_ == GuestMode::kFiveLevel) r.cr4 |= cr4::kLa57;
  return r;
}

void World::SetRegisters(const PagingRegisters& registers) {
  const absl::Status set = vcpu_->SetRegisters(registers);
  SMMU_CHECK(set.ok()) << set.ToString();
}

void World::InvalidateAll() { library_->InvalidateAll(Strategy::kZapAll); }

testing::OracleCpu World::OracleCpu() const {
  return {.registers = vcpu_->registers(),
          .pdptes = vcpu_->pdptes(),
          .features = vcpu_->features()};
}

// ---- Entries ----

// What counts for nothing is set (rule 5 of cases.h).
EntryValues World::ValuesOf(const EntryPair& entries,
                            const RegisterSet& registers) const {
  const bool short_entries = mode_ == GuestMode::kTwoLevel;
  const uint64_t absent =
      (short_entries ? uint64_t{0xffff'ffff} : ~uint64_t{0}) & ~gpte::kPresent;
  const uint64_t ignored_key =
      IsLongMode(mode_) ? uint64_t{kOtherKey} << 59 : 0;

  EntryValues values{.pde = absent, .pte = absent};
  if ((entries.pte & bit::kPresent) != 0) {
    values.pte = kSmallPage.value() | FlagsOf(entries.pte, kReservedAddressBit);
    if (!registers.keys) values.pte |= ignored_key;
  }
  if ((entries.pde & bit::kPresent) == 0) return values;
  if (entries.large()) {
    const Gpa page =
        (entries.pde & bit::kHost2M) != 0 ? kLargePage2M : kLargePage;
    values.pde =
        page.value() |
        FlagsOf(entries.pde, short_entries ? kReservedIn4M : kReservedIn2M);
    if (!registers.keys) values.pde |= ignored_key;
    return values;
  }
  values.pde = table_.value() | FlagsOf(entries.pde, kReservedAddressBit) |
               gpte::kDirty | ignored_key;
  if (short_entries && !registers.pse) values.pde |= gpte::kPageSize;
  return values;
}

Hva World::HvaOf(Gpa gpa) const { return host_->base() + gpa.value(); }
Hpa World::HpaOf(Gpa gpa) const { return Hpa(HvaOf(gpa).value()); }

EntryValues World::Values() const {
  EntryValues values;
  std::memcpy(&values.pde, PointerTo(HvaOf(pde_).value()), entry_bytes_);
  std::memcpy(&values.pte, PointerTo(HvaOf(pte_).value()), entry_bytes_);
  return values;
}

void World::Write(Gpa gpa, uint64_t value) {
  const FaultOutcome written = vcpu_->GuestWrite(
      gpa, std::as_bytes(std::span(&value, 1)).first(entry_bytes_));
  SMMU_CHECK(written.resume()) << written;
}

void World::SetEntries(const EntryValues& values) {
  const EntryValues before = Values();
  if (before.pde != values.pde) Write(pde_, values.pde);
  if (before.pte != values.pte) Write(pte_, values.pte);
}

void World::PutBack(const EntryValues& values) {
  std::memcpy(PointerTo(HvaOf(pde_).value()), &values.pde, entry_bytes_);
  std::memcpy(PointerTo(HvaOf(pte_).value()), &values.pte, entry_bytes_);
}

void World::DropAll(bool direct) {
  vcpu_->Invlpg(gva_);
  if (!direct) return;
  // INVLPG leaves a direct page as it is, and only takes the way to it.
  const bool has_halves = mode_ == GuestMode::kTwoLevel;
  const uint64_t bytes = (has_halves ? 4 : 2) * kMib;
  const auto unmap = [&](Gva gva) {
    const uint64_t offset = gva.value() % bytes & ~kPageOffsetMask;
    const HvaRange page{HvaOf(kLargePage) + offset, kPageSize};
    absl::Status told = library_->InvalidateBegin(page);
    if (told.ok()) told = library_->InvalidateEnd(page);
    SMMU_CHECK(told.ok()) << told.ToString();
  };
  unmap(gva_);
  unmap(beside());
  if (has_halves) unmap(other_half());
}

// ---- The oracle ----

void World::ShowOracle(const std::optional<EntryValues>& values) {
  view_->shown = values;
}
void World::LieToOracle(const EntryValues& flipped) {
  view_->flipped = flipped;
}

OracleResult World::Ask(const testing::OracleCpu& cpu,
                        const Access& access) const {
  return oracle_->Translate(cpu, AddressSpace::kNormal, gva_, access);
}

EntryValues World::UpdatesIn(const OracleResult& result) const {
  EntryValues updates;
  for (const testing::EntryUpdate& update : result.updates) {
    SMMU_CHECK(update.entry == pde_ || update.entry == pte_);
    (update.entry == pde_ ? updates.pde : updates.pte) |= update.bits;
  }
  return updates;
}

}  // namespace shadowmmu::exhaustive
