#include "tests/harness/shadowmmu_backend.h"

#include <algorithm>
#include <span>
#include <utility>

#include "shadowmmu/audit.h"
#include "shadowmmu/dump.h"
#include "src/base/check.h"
#include "src/mmu/vm.h"
#include "tests/harness/op_values.h"

namespace shadowmmu::testing {
namespace {

OpResult NotExecuted() {
  OpResult result;
  result.executed = false;
  return result;
}

OpResult WithStatus(absl::Status status) {
  OpResult result;
  result.status = std::move(status);
  return result;
}

OpResult WithOutcome(const FaultOutcome& outcome) {
  OpResult result;
  result.outcome = outcome;
  return result;
}

void PutExchange(absl::StatusOr<GuestExchange> exchange, OpResult* result) {
  result->status = exchange.status();
  if (!exchange.ok()) return;
  result->outcome = exchange->outcome;
  result->exchanged = exchange->exchanged;
  result->previous = exchange->previous;
}

}  // namespace

ShadowmmuBackend::ShadowmmuBackend(const VmShape& vm)
    : host_(TestHost::Options{.frames = vm.frames}) {
  SMMU_CHECK(ClampVm(vm) == vm);
  host_.MapRange(kStreamHva, vm.frames, Frame{0});
  host_.SetLargestPage(LevelFromInt(vm.largest));
  host_.SetResolveHook(
      [this](Hva, AccessType) { OnHostCall(HostCall::kResolve); });
  host_.SetAllocateHook([this] { OnHostCall(HostCall::kAllocation); });
  MmuConfig config;
  config.host = &host_;
  config.table_capacity = vm.tables;
  config.max_vcpus = kStreamMaxVcpus;
  config.guest_physical_bits = vm.bits;
  config.previous_roots = vm.roots;
  config.unsync = vm.unsync != 0;
  config.write_flooding = vm.flood;
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

OpResult ShadowmmuBackend::ApplySlot(const Op& op) {
  const AddressSpace space = SlotSpaceOf(op);
  const SlotId id = SlotIdOf(op);
  switch (op.kind()) {
    case OpKind::kSlotCreate:
      return WithStatus(mmu_->CreateSlot(SlotOf(op)));
    case OpKind::kSlotDelete:
      return WithStatus(mmu_->DeleteSlot(space, id));
    case OpKind::kSlotMove:
      return WithStatus(mmu_->MoveSlot(space, id, Gfn(op.Get(Field::kGfn))));
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

OpResult ShadowmmuBackend::ApplyVcpu(const Op& op) {
  const std::optional<uint32_t> id = VcpuOf(op);
  if (op.kind() == OpKind::kVcpuCreate) {
    auto made = mmu_->CreateVcpu(static_cast<VcpuId>(
        std::min<uint64_t>(op.Get(Field::kVcpu), UINT32_MAX)));
    if (made.ok()) {
      vcpus_[*id] = std::make_unique<StreamVcpu>(&host_, *std::move(made));
    }
    return WithStatus(made.status());
  }
  if (!id || vcpus_[*id] == nullptr) return NotExecuted();
  if (op.kind() == OpKind::kVcpuDestroy) {
    vcpus_[*id] = nullptr;
    return {};
  }
  StreamVcpu& vcpu = *vcpus_[*id];
  const bool accesses = op.kind() == OpKind::kTouch ||
                        op.kind() == OpKind::kStore ||
                        op.kind() == OpKind::kTranslate;
  if (accesses) accessing_ = &vcpu;
  OpResult result = ApplyGuest(op, vcpu);
  accessing_ = nullptr;
  return result;
}

void ShadowmmuBackend::Interrupt(HostCall call, uint64_t n,
                                 std::function<void()> body) {
  interruption_ = {call, std::max<uint64_t>(n, 1), std::move(body)};
}

void ShadowmmuBackend::OnHostCall(HostCall call) {
  if (accessing_ == nullptr || accessing_->returning() || !interruption_.body ||
      call != interruption_.call || --interruption_.left != 0) {
    return;
  }
  // Once only, whatever it sets off.
  const std::function<void()> body = std::move(interruption_.body);
  interruption_ = {};
  body();
}

OpResult ShadowmmuBackend::ApplyGuest(const Op& op, StreamVcpu& vcpu) {
  using Call = absl::FunctionRef<void(VcpuMmu&, OpResult&)>;
  const auto outside = [&](Call call) { return vcpu.Outside(call); };
  switch (op.kind()) {
    case OpKind::kRegs:
    case OpKind::kRegsRaw:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        result.status = mmu.SetRegisters(RegistersOf(op));
      });
    case OpKind::kCr3:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        result.status = mmu.WriteCr3(op.Get(Field::kCr3));
      });
    case OpKind::kFeatures:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        result.status = mmu.SetFeatures(FeaturesOf(op));
      });
    case OpKind::kSpace:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        result.status = mmu.SetAddressSpace(SpaceOf(op));
      });
    case OpKind::kEnter:
      return vcpu.Enter();
    case OpKind::kExit:
      vcpu.Leave();
      return {};
    case OpKind::kTouch:
      return vcpu.Touch(GvaOf(op, vcpu.registers()), AccessOf(op),
                        [](Hpa /*hpa*/) {});
    case OpKind::kStore:
      return StoreThrough(vcpu, GvaOf(op, vcpu.registers()), AccessOf(op),
                          BytesOf(op));
    case OpKind::kTranslate:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        const Translation translation =
            mmu.Translate(GvaOf(op, mmu.registers()), AccessOf(op));
        result.outcome = translation.outcome;
        result.gpa = translation.gpa;
      });
    case OpKind::kInvlpg:
      return outside([&](VcpuMmu& mmu, OpResult& /*result*/) {
        mmu.Invlpg(GvaOf(op, mmu.registers()));
      });
    case OpKind::kInvpcid:
      return outside([&](VcpuMmu& mmu, OpResult& result) {
        result.status = mmu.Invpcid(InvpcidTypeOf(op), DescriptorOf(op));
      });
    case OpKind::kEvict:
      vcpu.cpu().EvictAll();
      return {};
    default:
      return ApplyVcpuStore(op, vcpu);
  }
}

OpResult ShadowmmuBackend::StoreThrough(StreamVcpu& vcpu, Gva gva,
                                        const Access& access,
                                        std::span<const std::byte> bytes) {
  OpResult result = vcpu.Touch(gva, access, [&](Hpa hpa) {
    SMMU_CHECK(host_.WritePhysical(hpa, bytes));
  });
  const bool tracked =
      result.outcome->kind == FaultOutcome::Kind::kEmulate &&
      result.outcome->emulate_reason == EmulateReason::kWriteTracked;
  if (!tracked || !result.broken.empty()) return result;
  const Gpa gpa = result.outcome->gpa;
  const OpResult stored = vcpu.Outside([&](VcpuMmu& mmu, OpResult& emulated) {
    emulated.outcome = mmu.GuestWrite(gpa, bytes);
  });
  result.stored = stored.outcome;
  // Outside, what the store has to flush waits for the next entry.
  result.entered = vcpu.in_guest();
  if (result.broken.empty()) result.broken = stored.broken;
  return result;
}

OpResult ShadowmmuBackend::ApplyVcpuStore(const Op& op, StreamVcpu& vcpu) {
  return vcpu.Outside([&](VcpuMmu& mmu, OpResult& result) {
    if (op.kind() == OpKind::kVcpuWrite) {
      result.outcome = mmu.GuestWrite(GpaOf(op), BytesOf(op));
      return;
    }
    PutExchange(mmu.GuestCompareExchange(GpaOf(op), SizeOf(op),
                                         OperandOf(op, Field::kOld),
                                         OperandOf(op, Field::kNew)),
                &result);
  });
}

OpResult ShadowmmuBackend::ApplyStore(const Op& op) {
  const AddressSpace space = SpaceOf(op);
  if (op.kind() == OpKind::kCmpxchg) {
    OpResult result;
    PutExchange(mmu_->GuestCompareExchange(space, GpaOf(op), SizeOf(op),
                                           OperandOf(op, Field::kOld),
                                           OperandOf(op, Field::kNew)),
                &result);
    return result;
  }
  if (op.kind() != OpKind::kRead) {
    return WithOutcome(mmu_->GuestWrite(space, GpaOf(op), BytesOf(op)));
  }
  std::vector<std::byte> data(SizeOf(op));
  OpResult result = WithOutcome(mmu_->GuestRead(space, GpaOf(op), data));
  result.data = std::move(data);
  return result;
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
  if (op.kind() == OpKind::kInvalidate) mmu_->InvalidateAll(StrategyOf(op));
  if (op.kind() == OpKind::kReclaim) {
    result.reclaim = mmu_->ReclaimObsolete(op.Get(Field::kBudget));
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
    MutexLock held(&vm.lock);
    vm.generations.mmu_valid_gen += times - 1;
  }
  mmu_->BumpGeneration();
}

}  // namespace shadowmmu::testing
