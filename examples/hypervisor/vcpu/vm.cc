#include "vcpu/vm.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "boot/console.h"
#include "loaders/guest_memory.h"
#include "shadowmmu/audit.h"

namespace hypervisor {
namespace {

using shadowmmu::AddressSpace;
using shadowmmu::Gfn;
using shadowmmu::Hva;
using shadowmmu::SlotId;
using shadowmmu::SlotSpec;

constexpr AddressSpace kSpace = AddressSpace::kNormal;
constexpr SlotId kLowRam{0};
constexpr SlotId kRom{1};
constexpr SlotId kHighRam{2};

// Shadow pages: what the guest's tables would need if they mapped all of its
// memory by small pages four times over, and some for its processes.
constexpr uint32_t kTablesAtLeast = 4096;
constexpr uint64_t kBytesPerTable = uint64_t{512} << 10;

// Shadow pages that are reclaimed between two turns of the guest.
constexpr uint64_t kReclaimAtOnce = 16;

// What a serial port receives at 115200 baud: a FIFO of 16 bytes every 1.4 ms.
constexpr uint64_t kInputPeriod = 1'400'000;
constexpr int kInputAtOnce = 16;

SlotSpec Slot(SlotId id, GpaRange range, std::span<std::byte> memory) {
  SlotSpec slot;
  slot.id = id;
  slot.base = Gfn(range.begin.value() >> shadowmmu::kPageShift);
  slot.pages = range.bytes >> shadowmmu::kPageShift;
  slot.hva =
      Hva(reinterpret_cast<uint64_t>(memory.data()) + range.begin.value());
  return slot;
}

void WriteSerial(char byte) { ConsoleWrite(std::string_view(&byte, 1)); }

}  // namespace

absl::StatusOr<std::unique_ptr<Vm>> Vm::Create(std::span<std::byte> memory,
                                               Clock& clock,
                                               const GuestOptions& options,
                                               unsigned guest_physical_bits) {
  std::unique_ptr<Vm> vm(new Vm(memory, clock, options));
  if (absl::Status made = vm->Init(guest_physical_bits); !made.ok()) {
    return made;
  }
  return vm;
}

Vm::Vm(std::span<std::byte> memory, Clock& clock, const GuestOptions& options)
    : memory_(memory),
      clock_(clock),
      options_(options),
      host_(memory, shadowmmu::Level::k1G) {}

absl::Status Vm::Init(unsigned guest_physical_bits) {
  const absl::StatusOr<GuestMemoryView> view = GuestMemoryView::Make(memory_);
  if (!view.ok()) return view.status();
  shadowmmu::MmuConfig config;
  config.host = &host_;
  config.table_capacity = std::max(
      kTablesAtLeast, static_cast<uint32_t>(memory_.size() / kBytesPerTable));
  config.max_vcpus = options_.vcpus;
  config.guest_physical_bits = guest_physical_bits;
  config.unsync = options_.unsync != 0;
  config.previous_roots = options_.previous_roots;
  config.prefetch = options_.prefetch;
  config.absent_tables = shadowmmu::AbsentTables::kReadAsOnes;
  config.largest_page =
      options_.large_pages != 0 ? shadowmmu::Level::k1G : shadowmmu::Level::k4K;
  absl::StatusOr<std::unique_ptr<shadowmmu::Mmu>> mmu =
      shadowmmu::Mmu::Create(config);
  if (!mmu.ok()) return mmu.status();
  mmu_ = *std::move(mmu);

  SlotSpec rom = Slot(kRom, GuestMemoryView::kRom, memory_);
  rom.flags = shadowmmu::SlotFlags::kReadOnly;
  for (const SlotSpec& slot :
       {Slot(kLowRam, GuestMemoryView::kLowRam, memory_), rom,
        Slot(kHighRam, view->high_ram(), memory_)}) {
    if (absl::Status made = mmu_->CreateSlot(slot); !made.ok()) return made;
  }

  Machine::Config board;
  board.memory_bytes = memory_.size();
  board.cpus = options_.vcpus;
  board.serial = WriteSerial;
  board.exit = [this](uint32_t code) { End(GuestExitStatus(code)); };
  board.reset = [this] { End(ExitStatus::kReset); };
  board_ = std::make_unique<Board>(clock_, std::move(board), states());
  return absl::OkStatus();
}

void Vm::End(ExitStatus status) {
  uint32_t expected = kRuns;
  ended_.compare_exchange_strong(expected, static_cast<uint32_t>(status));
  states().NotifyAll();
}

void Vm::AddStatistics(const ExitStatistics& of_vcpu) {
  const absl::MutexLock lock(&tick_lock_);
  statistics_.Add(of_vcpu);
}

ExitStatistics Vm::statistics() {
  const absl::MutexLock lock(&tick_lock_);
  return statistics_;
}

absl::Status Vm::Tick(unsigned vcpu) {
  if (!tick_lock_.TryLock()) return absl::OkStatus();
  absl::Status done = DoWhatIsDue(vcpu);
  tick_lock_.Unlock();
  return done;
}

// A period begins when what was done is over: however long it takes, on a busy
// machine, the guest runs in between.
absl::Status Vm::DoWhatIsDue(unsigned vcpu) {
  const uint64_t now = clock_.Nanoseconds();
  constexpr uint64_t kMillisecond = 1'000'000;
  if (options_.timeout_s != 0 &&
      now >= options_.timeout_s * kNanosecondsPerSecond) {
    End(ExitStatus::kTimeout);
  }
  if (options_.serial_input != 0 && now >= next_input_) {
    next_input_ = now + kInputPeriod;
    ReceiveInput(vcpu);
  }
  if (options_.bump_every_ms != 0 && now >= next_bump_) {
    Invalidate();
    next_bump_ = clock_.Nanoseconds() + options_.bump_every_ms * kMillisecond;
  } else if (obsolete_left_) {
    obsolete_left_ = mmu_->ReclaimObsolete(kReclaimAtOnce).more;
    statistics_.CountReclaim(clock_.Nanoseconds() - now);
  }
  if (options_.unplug_every_ms != 0 && now >= next_replug_) {
    if (absl::Status done = ReplugMemory(); !done.ok()) return done;
    next_replug_ =
        clock_.Nanoseconds() + options_.unplug_every_ms * kMillisecond;
    ++statistics_.unplugs;
  }
  const uint64_t exits = exits_.load(std::memory_order_relaxed);
  if (options_.audit_every != 0 && exits >= next_audit_) {
    next_audit_ = exits + options_.audit_every;
    if (absl::Status good = Audit(); !good.ok()) return good;
    ++statistics_.audits;
  }
  return absl::OkStatus();
}

void Vm::Invalidate() {
  const uint64_t began = clock_.Nanoseconds();
  if (options_.strategy == shadowmmu::Strategy::kObsoleteWalk) {
    mmu_->BumpGeneration();
    obsolete_left_ = true;
  } else {
    mmu_->InvalidateAll(options_.strategy);
  }
  statistics_.CountBump(clock_.Nanoseconds() - began);
}

void Vm::ReceiveInput(unsigned vcpu) {
  for (int i = 0; i < kInputAtOnce; ++i) {
    const std::optional<char> byte = ConsoleRead();
    if (!byte) return;
    board_->ReceiveSerial(vcpu, *byte);
  }
}

absl::Status Vm::Audit() {
  const shadowmmu::AuditReport report = shadowmmu::Audit(*mmu_);
  if (report.ok()) return absl::OkStatus();
  std::ostringstream text;
  text << report;
  return absl::InternalError(text.str());
}

absl::Status Vm::ReplugMemory() {
  const absl::WriterMutexLock lock(&memory_lock_);
  const std::optional<SlotSpec> slot = mmu_->FindSlot(kSpace, kHighRam);
  if (!slot) return absl::InternalError("the guest's RAM has no slot");
  replugs_.fetch_add(1);
  if (absl::Status gone = mmu_->DeleteSlot(kSpace, kHighRam, options_.slot_zap);
      !gone.ok()) {
    return gone;
  }
  absl::Status back = mmu_->CreateSlot(*slot);
  replugs_.fetch_add(1);
  return back;
}

}  // namespace hypervisor
