// One vCPU's face, and its coming and going.

#include "shadowmmu/vcpu_mmu.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/no_memory.h"
#include "src/mmu/fault.h"
#include "src/mmu/flush.h"
#include "src/mmu/roots.h"
#include "src/mmu/spte_write.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "src/mmu/write_track.h"

namespace shadowmmu {
namespace {

constexpr uint32_t kPaeRootBytes = 32;
constexpr uint32_t kPaeRootsPerPage = kPageSize / kPaeRootBytes;
// How often an entry starts over because requests keep coming.
constexpr int kMaxEntries = 64;

void PlacePaeRoot(const Vm& vm, VcpuState& vcpu) {
  const uint32_t index = ToInt(vcpu.id);
  const LowPage& page = vm.pae_pages[index / kPaeRootsPerPage];
  const uint32_t offset = index % kPaeRootsPerPage * kPaeRootBytes;
  vcpu.pae_entries =
      reinterpret_cast<std::atomic<uint64_t>*>(page.base + offset);
  vcpu.pae_root = page.hpa + offset;
}

// The CPU must not be walking a root that may be let go of here.
void CheckOutside(const VcpuState& vcpu, const char* call) {
  SMMU_CHECK(vcpu.mode.load(std::memory_order_relaxed) == VcpuMode::kOutside)
      << call << " by a vCPU that is in the guest";
}

// The present entry that holds the translation of `gva` at the guest's own page
// size: a leaf, or the link to the direct page that splits a large guest page.
// nil if there is none.
SpteRef FindGuestPage(Vm& vm, const VcpuState& vcpu, Gva gva)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  TableIndex table =
      UsesPaeRoot(vcpu.paging)
          ? vcpu.root
                .page[IndexAt(gva, Level::k1G) & (RootHandle::kMaxPages - 1)]
          : vcpu.root.page[0];
  for (;;) {
    const Level level = vm.arena.Page(table).role.level();
    const SpteRef ref(table, IndexAt(gva, level));
    const Spte spte = vm.arena.Load(ref);
    if (!spte.present()) return SpteRef();
    if (spte.leaf(level)) return ref;
    const bool direct = vm.arena.Page(table).role.direct();
    table = vm.arena.TableAt(vm.format.TableOf(spte));
    if (!direct && vm.arena.Page(table).role.direct()) return ref;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<VcpuMmu>> Mmu::CreateVcpu(VcpuId id) {
  using Result = absl::StatusOr<std::unique_ptr<VcpuMmu>>;
  return CatchNoMemory("no memory for a vCPU", [&]() -> Result {
    if (ToInt(id) >= vm_->config.max_vcpus) {
      return absl::InvalidArgumentError(
          absl::StrCat("id: ", ToInt(id), " is not below max_vcpus, ",
                       vm_->config.max_vcpus));
    }
    auto state = std::make_unique<VcpuState>();
    state->id = id;
    PlacePaeRoot(*vm_, *state);
    VcpuState* const raw = state.get();
    std::unique_ptr<VcpuMmu> vcpu(new VcpuMmu(*vm_, std::move(state)));
    {
      MutexLock held(&vm_->lock);
      VcpuState*& place = vm_->vcpus[ToInt(id)];
      if (place == nullptr) {
        place = raw;
        return vcpu;
      }
    }
    return absl::AlreadyExistsError(
        absl::StrCat("id: there is a vCPU ", ToInt(id)));
  });
}

VcpuMmu::VcpuMmu(Vm& vm, std::unique_ptr<VcpuState> state)
    : vm_(vm), state_(std::move(state)) {}

VcpuMmu::~VcpuMmu() {
  CheckOutside(*state_, "~VcpuMmu");
  MutexLock held(&vm_.lock);
  VcpuState*& registered = vm_.vcpus[ToInt(state_->id)];
  if (registered != state_.get()) return;  // never got its place
  ReleaseRoot(vm_, *state_);
  registered = nullptr;
  vm_.counters.faults += state_->faults.value();
  vm_.counters.fault_retries += state_->fault_retries.value();
  vm_.counters.guest_faults += state_->guest_faults.value();
  vm_.counters.emulations += state_->emulations.value();
}

VcpuId VcpuMmu::id() const { return state_->id; }
const PagingRegisters& VcpuMmu::registers() const { return state_->registers; }
AddressSpace VcpuMmu::address_space() const { return state_->space; }

absl::Status VcpuMmu::SetRegisters(const PagingRegisters& registers) {
  CheckOutside(*state_, "SetRegisters");
  absl::StatusOr<PagingMode> mode = CatchNoMemory(kNoTextMemory, [&] {
    return PagingModeFor(registers, vm_.config.guest_physical_bits,
                         vm_.entry_format);
  });
  if (!mode.ok()) return mode.status();
  state_->registers = registers;
  state_->requests.fetch_or(request::kFlushTlb, std::memory_order_seq_cst);
  if (*mode == state_->paging) return absl::OkStatus();
  state_->paging = *mode;
  MutexLock held(&vm_.lock);
  ReleaseRoot(vm_, *state_);
  return absl::OkStatus();
}

absl::Status VcpuMmu::SetAddressSpace(AddressSpace space) {
  CheckOutside(*state_, "SetAddressSpace");
  if (ToInt(space) >= kAddressSpaces) {
    return CatchNoMemory(kNoTextMemory, [] {
      return absl::InvalidArgumentError(
          absl::StrCat("space: only 0 to ", kAddressSpaces - 1, " exist"));
    });
  }
  if (space == state_->space) return absl::OkStatus();
  state_->space = space;
  state_->requests.fetch_or(request::kFlushTlb, std::memory_order_seq_cst);
  MutexLock held(&vm_.lock);
  ReleaseRoot(vm_, *state_);
  return absl::OkStatus();
}

FaultOutcome VcpuMmu::EnterGuest() {
  VcpuState& vcpu = *state_;
  CheckOutside(vcpu, "EnterGuest");
  for (int i = 0; i < kMaxEntries; ++i) {
    const uint32_t due = vcpu.requests.exchange(0, std::memory_order_seq_cst);
    if ((due & request::kReloadRoot) != 0 || vcpu.root.empty()) {
      if (auto bad = LoadRoot(vm_, vcpu)) {
        vcpu.requests.fetch_or(due | request::kReloadRoot,
                               std::memory_order_seq_cst);
        return *bad;
      }
    }
    if ((due & request::kFlushTlb) != 0) {
      vm_.host.FlushTlb(VcpuSet::Of(vcpu.id), FlushRange::All());
    }
    vcpu.mode.store(VcpuMode::kInGuest, std::memory_order_seq_cst);
    if (vcpu.requests.load(std::memory_order_seq_cst) == 0) {
      return FaultOutcome::Resume();
    }
    vcpu.mode.store(VcpuMode::kOutside, std::memory_order_seq_cst);
  }
  return FaultOutcome::Retry();
}

void VcpuMmu::ExitGuest() {
  state_->mode.store(VcpuMode::kOutside, std::memory_order_seq_cst);
}

shadowmmu::HardwareState VcpuMmu::HardwareState() const {
  return state_->hardware;
}

FaultOutcome VcpuMmu::HandleFault(Gva gva, const Access& access) {
  CheckOutside(*state_, "HandleFault");
  return shadowmmu::HandleFault(vm_, *state_, gva, access);
}

Translation VcpuMmu::Translate(Gva gva, const Access& access) {
  return TranslateGva(vm_, *state_, gva, access);
}

void VcpuMmu::Invlpg(Gva gva) {
  CheckOutside(*state_, "Invlpg");
  state_->requests.fetch_or(request::kFlushTlb, std::memory_order_seq_cst);
  if (!state_->paging.Canonical(gva)) return;
  // Without a root there is no way to the pages that the next one may find
  // again. If none can be had, there is nothing to enter the guest with either.
  std::optional<FaultOutcome> bad;
  for (int i = 0; i < kMaxEntries; ++i) {
    bad = LoadRoot(vm_, *state_);
    if (!bad || bad->kind != FaultOutcome::Kind::kRetry) break;
  }
  if (bad) return;
  VmLock held(vm_);
  if (!RootUsable(vm_, *state_)) return;
  const SpteRef page = FindGuestPage(vm_, *state_, gva);
  if (page.nil()) return;
  FlushObligation flush;
  DropEntry(vm_, page, flush);
  flush.Pay(vm_);
}

FaultOutcome VcpuMmu::GuestWrite(Gpa gpa, std::span<const std::byte> bytes) {
  return WriteGuest(vm_, state_->space, gpa, bytes);
}

absl::StatusOr<GuestExchange> VcpuMmu::GuestCompareExchange(Gpa gpa,
                                                            unsigned size,
                                                            uint64_t expected,
                                                            uint64_t desired) {
  return CatchNoMemory(kNoTextMemory, [&] {
    return CompareExchangeGuest(vm_, state_->space, gpa, size, expected,
                                desired);
  });
}

}  // namespace shadowmmu
