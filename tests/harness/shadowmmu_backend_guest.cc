// The part of the backend that does what guests do: vCPUs, their registers,
// accesses and flushes, and stores that are emulated.

#include <algorithm>
#include <span>
#include <utility>

#include "src/base/check.h"
#include "tests/harness/op_values.h"
#include "tests/harness/shadowmmu_backend.h"

namespace shadowmmu::testing {
namespace {

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
        const Gva gva = GvaOf(op, mmu.registers());
        // It may not be mapped; what is mapped is looked at after the op.
        if (op.Get(Field::kWarm) != 0) mmu.Prefault(gva, 1, AccessOf(op));
        const Translation translation = mmu.Translate(gva, AccessOf(op));
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

}  // namespace shadowmmu::testing
