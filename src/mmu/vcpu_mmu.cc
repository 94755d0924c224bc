// One vCPU's face, and its coming and going.

#include "shadowmmu/vcpu_mmu.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/no_memory.h"
#include "src/mmu/fault.h"
#include "src/mmu/guest_flush.h"
#include "src/mmu/load_registers.h"
#include "src/mmu/prefault.h"
#include "src/mmu/previous_roots.h"
#include "src/mmu/roots.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "src/mmu/write_track.h"

namespace shadowmmu {
namespace {

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
    state->features = CpuFeatures::BackedBy(vm_->entry_format);
    state->hardware = HardwareStateFor(state->paging, vm_->entry_format);
    PlacePaeRoot(*vm_, *state);
    VcpuState* const raw = state.get();
    std::unique_ptr<VcpuMmu> vcpu(new VcpuMmu(*vm_, std::move(state)));
    {
      WriterMutexLock held(&vm_->lock);
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
  WriterMutexLock held(&vm_.lock);
  VcpuState*& registered = vm_.vcpus[ToInt(state_->id)];
  if (registered != state_.get()) return;  // never got its place
  ReleaseRoot(vm_, *state_);
  DropPreviousRoots(vm_, *state_);
  registered = nullptr;
  vm_.lists.EmptyReserve(state_->writer.reserve);
  AddOwnCounters(*state_, vm_.counters);
}

VcpuId VcpuMmu::id() const { return state_->id; }
const PagingRegisters& VcpuMmu::registers() const { return state_->registers; }
AddressSpace VcpuMmu::address_space() const { return state_->space; }

const Pdptes& VcpuMmu::pdptes() const { return state_->pdptes; }
const CpuFeatures& VcpuMmu::features() const { return state_->features; }

absl::Status VcpuMmu::SetRegisters(const PagingRegisters& registers) {
  CheckOutside(*state_, "SetRegisters");
  return CatchNoMemory(kNoTextMemory,
                       [&] { return LoadRegisters(vm_, *state_, registers); });
}

absl::Status VcpuMmu::SetRegisters(const PagingRegisters& registers,
                                   const Pdptes& pdptes) {
  CheckOutside(*state_, "SetRegisters");
  return CatchNoMemory(kNoTextMemory, [&] {
    return LoadRegisters(vm_, *state_, registers, pdptes);
  });
}

absl::Status VcpuMmu::WriteCr3(uint64_t cr3) {
  CheckOutside(*state_, "WriteCr3");
  return CatchNoMemory(kNoTextMemory,
                       [&] { return LoadCr3(vm_, *state_, cr3); });
}

absl::Status VcpuMmu::SetFeatures(const CpuFeatures& features) {
  CheckOutside(*state_, "SetFeatures");
  return CatchNoMemory(kNoTextMemory,
                       [&] { return LoadFeatures(vm_, *state_, features); });
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
  SwitchRoot(vm_, *state_, GuestFlush::kAll);
  return absl::OkStatus();
}

FaultOutcome VcpuMmu::EnterGuest() {
  VcpuState& vcpu = *state_;
  CheckOutside(vcpu, "EnterGuest");
  for (int i = 0; i < kMaxEntries; ++i) {
    uint32_t due = vcpu.requests.exchange(0, std::memory_order_seq_cst);
    // A new root asks for more; so does a sync.
    const auto take = [&](uint32_t requests) {
      due |= requests &
             vcpu.requests.fetch_and(~requests, std::memory_order_seq_cst);
    };
    if ((due & request::kReloadRoot) != 0 || vcpu.root.empty()) {
      if (auto bad = LoadRoot(vm_, vcpu)) {
        vcpu.requests.fetch_or(due | request::kReloadRoot,
                               std::memory_order_seq_cst);
        return *bad;
      }
      take(request::kFlushTlb | request::kSyncRoot);
    }
    if ((due & request::kSyncRoot) != 0) {
      SyncRoot(vm_, vcpu);
      take(request::kFlushTlb);
    }
    if ((due & request::kFlushTlb) != 0) {
      vm_.host.FlushTlb(VcpuSet::Of(vcpu.id), FlushRange::All());
    }
    vcpu.entered_generation.store(vcpu.root.mmu_valid_gen,
                                  std::memory_order_release);
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

PrefaultResult VcpuMmu::Prefault(Gva first, uint64_t pages,
                                 const Access& access) {
  CheckOutside(*state_, "Prefault");
  return shadowmmu::Prefault(vm_, *state_, first, pages, access);
}

Translation VcpuMmu::Translate(Gva gva, const Access& access) {
  return TranslateGva(vm_, *state_, gva, access);
}

void VcpuMmu::Invlpg(Gva gva) {
  CheckOutside(*state_, "Invlpg");
  shadowmmu::Invlpg(vm_, *state_, gva);
}

absl::Status VcpuMmu::Invpcid(InvpcidType type,
                              const InvpcidDescriptor& descriptor) {
  CheckOutside(*state_, "Invpcid");
  return CatchNoMemory(kNoTextMemory, [&] {
    return shadowmmu::Invpcid(vm_, *state_, type, descriptor);
  });
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
