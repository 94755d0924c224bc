#include "tests/harness/shadowmmu_backend.h"

#include <algorithm>
#include <utility>

#include "shadowmmu/audit.h"
#include "shadowmmu/dump.h"
#include "src/base/check.h"
#include "src/mmu/vm.h"
#include "tests/harness/op_values.h"

namespace shadowmmu::testing {

ShadowmmuBackend::ShadowmmuBackend(const VmShape& vm)
    : host_(TestHost::Options{.frames = vm.frames}) {
  SMMU_CHECK(ClampVm(vm) == vm);
  host_.MapRange(kStreamHva, vm.frames, Frame{0});
  host_.SetLargestPage(LevelFromInt(vm.largest));
  host_.SetResolveHook(
      [this](Hva, AccessType) { OnHostCall(HostCall::kResolve); });
  host_.SetAllocateHook([this] { OnHostCall(HostCall::kAllocation); });
  host_.SetKickHook([this](const VcpuSet& set) {
    if (!kicks_obeyed_) return;
    for (const auto& vcpu : vcpus_) {
      if (vcpu != nullptr && set.Contains(vcpu->id())) vcpu->LeaveForAWhile();
    }
  });
  MmuConfig config;
  config.host = &host_;
  config.table_capacity = vm.tables;
  config.max_vcpus = kStreamMaxVcpus;
  config.guest_physical_bits = vm.bits;
  config.previous_roots = vm.roots;
  config.unsync = vm.unsync != 0;
  config.write_flooding = vm.flood;
  if (vm.ones != 0) config.absent_tables = AbsentTables::kReadAsOnes;
  config.prefetch = vm.prefetch;
  config.largest_page = LevelFromInt(vm.largest);
  absl::StatusOr<std::unique_ptr<Mmu>> mmu = Mmu::Create(config);
  SMMU_CHECK(mmu.ok()) << mmu.status().ToString();
  mmu_ = *std::move(mmu);
  for (uint32_t id = 0; id < vm.vcpus; ++id) {
    const OpResult made = Apply(Op(OpKind::kVcpuCreate).Set(Field::kVcpu, id));
    SMMU_CHECK(made.status.ok()) << made.status.ToString();
  }
}

ShadowmmuBackend::~ShadowmmuBackend() = default;

std::vector<std::string> ShadowmmuBackend::Audit() {
  return shadowmmu::Audit(*mmu_).violations;
}

Picture ShadowmmuBackend::Look() {
  MmuDump dump = Dump(*mmu_);
  Picture picture;
  picture.slots = std::move(dump.slots);
  picture.leaves = std::move(dump.leaves);
  picture.pages = dump.pages.size();
  for (const PageRecord& page : dump.pages) {
    const bool obsolete = page.mmu_valid_gen != dump.generation;
    if (page.roots != 0) ++picture.roots;
    if (obsolete && page.roots == 0) ++picture.obsolete;
    const bool direct = page.role.find("direct") != std::string::npos;
    if (!obsolete && !direct && !page.unsync)
      picture.shadowed.push_back(page.gfn);
  }
  std::sort(picture.shadowed.begin(), picture.shadowed.end());
  return picture;
}

uint64_t ShadowmmuBackend::RmapLength(AddressSpace space, Gfn gfn,
                                      Level level) {
  return DumpRmap(*mmu_, space, gfn, level).size();
}

OpResult ShadowmmuBackend::NotExecuted() {
  OpResult result;
  result.executed = false;
  return result;
}

OpResult ShadowmmuBackend::WithStatus(absl::Status status) {
  OpResult result;
  result.status = std::move(status);
  return result;
}

OpResult ShadowmmuBackend::Apply(const Op& op) {
  switch (op.kind()) {
    case OpKind::kSlotCreate:
    case OpKind::kSlotDelete:
    case OpKind::kSlotMove:
    case OpKind::kSlotFlags:
    case OpKind::kDirtyGet:
      return ApplySlot(op);
    case OpKind::kVcpuCreate:
    case OpKind::kVcpuDestroy:
    case OpKind::kRegs:
    case OpKind::kRegsRaw:
    case OpKind::kCr3:
    case OpKind::kFeatures:
    case OpKind::kSpace:
    case OpKind::kEnter:
    case OpKind::kExit:
    case OpKind::kTouch:
    case OpKind::kStore:
    case OpKind::kTranslate:
    case OpKind::kInvlpg:
    case OpKind::kInvpcid:
    case OpKind::kEvict:
    case OpKind::kVcpuWrite:
    case OpKind::kVcpuCmpxchg:
      return ApplyVcpu(op);
    case OpKind::kPte:
    case OpKind::kWrite:
    case OpKind::kCmpxchg:
    case OpKind::kRead:
      return ApplyStore(op);
    case OpKind::kHostPte:
    case OpKind::kHostWrite:
    case OpKind::kHostUnmap:
    case OpKind::kHostMap:
    case OpKind::kHostRetarget:
    case OpKind::kHostReadonly:
    case OpKind::kAllocFail:
      return ApplyHost(op);
    case OpKind::kNotifyBegin:
    case OpKind::kNotifyEnd:
    case OpKind::kNotifySequence:
    case OpKind::kAge:
    case OpKind::kTestAge:
      return ApplyNotifier(op);
    case OpKind::kBump:
    case OpKind::kReclaim:
    case OpKind::kInvalidate:
    case OpKind::kLimit:
    case OpKind::kUnshadow:
      return ApplyInvalidate(op);
    case OpKind::kMeanwhile:
    case OpKind::kRepeat:
    case OpKind::kExpectOutcome:
    case OpKind::kExpectFault:
    case OpKind::kExpectStatus:
    case OpKind::kExpectRmap:
    case OpKind::kExpectLeaves:
    case OpKind::kExpectDirty:
    case OpKind::kExpectStat:
      break;
  }
  return NotExecuted();
}

OpResult ShadowmmuBackend::WithKicksObeyed(absl::FunctionRef<OpResult()> call) {
  kicks_obeyed_ = true;
  OpResult result = call();
  kicks_obeyed_ = false;
  for (const auto& vcpu : vcpus_) {
    if (vcpu != nullptr) vcpu->ComeBack();
  }
  return result;
}

OpResult ShadowmmuBackend::RetireSlot(const Op& op,
                                      absl::FunctionRef<OpResult()> call) {
  const SlotZapPolicy policy = PolicyOf(op);
  const bool may_release =
      policy == SlotZapPolicy::kAuto || policy == SlotZapPolicy::kRelease;
  return may_release ? WithKicksObeyed(call) : call();
}

OpResult ShadowmmuBackend::ApplySlot(const Op& op) {
  const AddressSpace space = SlotSpaceOf(op);
  const SlotId id = SlotIdOf(op);
  switch (op.kind()) {
    case OpKind::kSlotCreate:
      return WithStatus(mmu_->CreateSlot(SlotOf(op)));
    case OpKind::kSlotDelete:
      return RetireSlot(op, [&] {
        return WithStatus(mmu_->DeleteSlot(space, id, PolicyOf(op)));
      });
    case OpKind::kSlotMove:
      return RetireSlot(op, [&] {
        return WithStatus(
            mmu_->MoveSlot(space, id, Gfn(op.Get(Field::kGfn)), PolicyOf(op)));
      });
    case OpKind::kDirtyGet: {
      const std::optional<SlotSpec> slot = mmu_->FindSlot(space, id);
      std::vector<uint64_t> words(DirtyBitmapWords(slot ? slot->pages : 1));
      OpResult result = WithStatus(mmu_->GetAndClearDirty(space, id, words));
      result.dirty = std::move(words);
      return result;
    }
    default:
      return WithStatus(mmu_->SetSlotFlags(space, id, FlagsOf(op)));
  }
}

OpResult ShadowmmuBackend::ApplyHost(const Op& op) {
  if (op.kind() == OpKind::kAllocFail) {
    host_.FailAllocation(op.Get(Field::kN));
    return {};
  }
  if (op.kind() != OpKind::kHostPte && op.kind() != OpKind::kHostWrite) {
    ChangeMapping(op);
    return {};
  }
  const uint64_t frame = op.Get(Field::kHost);
  if (frame >= host_.frames()) return NotExecuted();
  const uint64_t offset = OffsetOf(op);
  std::vector<std::byte> bytes = BytesOf(op);
  bytes.resize(std::min<uint64_t>(bytes.size(), kPageSize - offset));
  std::byte* const memory =
      host_.PointerToFrame(PfnOfFrame(static_cast<uint32_t>(frame)));
  std::copy(bytes.begin(), bytes.end(), memory + offset);
  return {};
}

void ShadowmmuBackend::ChangeMapping(const Op& op) {
  const FrameRange frames = FramesOf(op, host_.frames());
  for (uint32_t i = 0; i < frames.count; ++i) {
    const uint32_t frame = frames.first + i;
    const Hva hva = HvaOfFrame(frame);
    const bool mapped = host_.FrameAt(hva).has_value();
    if (op.kind() == OpKind::kHostUnmap) {
      host_.Unmap(hva);
    } else if (op.kind() == OpKind::kHostMap) {
      host_.Map(hva, Frame{frame});
    } else if (op.kind() == OpKind::kHostReadonly) {
      if (mapped) host_.Protect(hva, Protection::kReadOnly);
    } else if (mapped && op.Get(Field::kTo) < host_.frames()) {
      host_.Retarget(hva, Frame{static_cast<uint32_t>(op.Get(Field::kTo))});
    }
  }
}

OpResult ShadowmmuBackend::ApplyNotifier(const Op& op) {
  const HvaRange hvas = HvasOf(op);
  OpResult result;
  switch (op.kind()) {
    case OpKind::kNotifyBegin:
      result.status = mmu_->InvalidateBegin(hvas);
      break;
    case OpKind::kNotifyEnd:
      result.status = mmu_->InvalidateEnd(hvas);
      break;
    case OpKind::kNotifySequence:
      mmu_->internals().memory.SetSequenceForTesting(op.Get(Field::kValue));
      break;
    case OpKind::kAge:
      result.young = mmu_->Age(hvas);
      break;
    default:
      result.young = mmu_->TestAge(hvas);
      break;
  }
  return result;
}

OpResult ShadowmmuBackend::ApplyInvalidate(const Op& op) {
  OpResult result;
  if (op.kind() == OpKind::kBump) Bump(TimesOf(op));
  if (op.kind() == OpKind::kInvalidate) {
    const auto invalidate = [&] {
      mmu_->InvalidateAll(StrategyOf(op));
      return OpResult();
    };
    return StrategyOf(op) == Strategy::kRelease ? WithKicksObeyed(invalidate)
                                                : invalidate();
  }
  if (op.kind() == OpKind::kReclaim) {
    result.reclaim = mmu_->ReclaimObsolete(op.Get(Field::kBudget));
  }
  if (op.kind() == OpKind::kUnshadow) {
    result.unshadowed = mmu_->StopShadowing(Gfn(op.Get(Field::kGfn)));
  }
  if (op.kind() == OpKind::kLimit) {
    result.status = mmu_->SetPageLimit(static_cast<uint32_t>(
        std::min<uint64_t>(op.Get(Field::kPages), UINT32_MAX)));
  }
  return result;
}

// All but the last by adding to the counter: nothing else of a bump would be
// left when the next one comes.
void ShadowmmuBackend::Bump(uint64_t times) {
  if (times == 0) return;
  Vm& vm = mmu_->internals();
  {
    WriterMutexLock held(&vm.lock);
    vm.generations.mmu_valid_gen += times - 1;
  }
  mmu_->BumpGeneration();
}

}  // namespace shadowmmu::testing
