// The part of the interpreter that knows what each family of ops must come to.

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "tests/harness/interpreter.h"
#include "tests/harness/op_values.h"
#include "tests/harness/oracle_registers.h"
#include "tests/harness/say.h"
#include "tests/harness/slot_rules.h"

namespace shadowmmu::testing {
namespace {

// Does the range end where it begins, or come round?
bool Wraps(HvaRange hvas) {
  return hvas.begin.value() + hvas.bytes < hvas.begin.value();
}

}  // namespace

// `refusals` are the codes that are right; none means that it must succeed.
std::string Interpreter::CheckStatus(
    const std::vector<absl::StatusCode>& refusals,
    const absl::Status& status) const {
  if (status.ok()) {
    return refusals.empty() ? "" : "succeeded; it had to be refused";
  }
  if (absl::IsResourceExhausted(status) &&
      allocations_ == Allocations::kSomeFailed) {
    return "";
  }
  const bool right = std::find(refusals.begin(), refusals.end(),
                               status.code()) != refusals.end();
  return right ? "" : "was refused: " + status.ToString();
}

std::string Interpreter::CheckSlotOp(const Op& op, const OpResult& result) {
  std::string wrong = CheckStatus(
      SlotRefusals(op, world_.memory(), world_.vm().bits), result.status);
  if (wrong.empty() && result.status.ok()) world_.NoteSlot(op);
  return wrong;
}

// Every page with a store that must be reported is; nothing beyond the slot is;
// and what was reported is cleared.
std::string Interpreter::CheckDirtyGet(const Op& op, const OpResult& result) {
  const std::string wrong = CheckStatus(
      SlotRefusals(op, world_.memory(), world_.vm().bits), result.status);
  if (!wrong.empty() || !result.status.ok()) return wrong;
  const AddressSpace space = SlotSpaceOf(op);
  const SlotId id = SlotIdOf(op);
  for (const uint64_t page : world_.TakeDirty(space, id)) {
    if ((result.dirty[page / 64] >> page % 64 & 1) == 0) {
      return Say("does not report page ", page, ", which was written");
    }
  }
  const uint64_t pages = world_.memory().FindSlot(space, id)->pages;
  if (pages % 64 != 0 && result.dirty.back() >> pages % 64 != 0) {
    return Say("reports a page beyond the ", pages, " that there are");
  }
  const OpResult again = backend_->Apply(op);
  if (again.dirty != std::vector<uint64_t>(result.dirty.size())) {
    return "left a page marked";
  }
  last_dirty_ = 0;
  for (const uint64_t word : result.dirty) last_dirty_ += std::popcount(word);
  return "";
}

// ---- vCPUs ----

std::string Interpreter::CheckVcpuOp(const Op& op, const Before& before,
                                     const OpResult& result) {
  if (op.kind() == OpKind::kVcpuCreate) return CheckVcpuCreate(op, result);
  VcpuModel* const vcpu = VcpuModelOf(op);
  const bool exists = vcpu != nullptr && vcpu->exists;
  if (result.executed != exists) return "ran on a vCPU that does not exist";
  if (!exists) return "";
  switch (op.kind()) {
    case OpKind::kVcpuDestroy:
      *vcpu = VcpuModel{};
      return "";
    case OpKind::kRegs:
    case OpKind::kRegsRaw:
    case OpKind::kCr3:
      return CheckRegisters(op, result);
    case OpKind::kFeatures:
      return CheckFeatures(op, result);
    case OpKind::kSpace:
      if (vcpu->space != SpaceOf(op)) NoteFlushedAll(*vcpu);
      vcpu->space = SpaceOf(op);
      return "";
    case OpKind::kEnter:
      return before.in_guest
                 ? ""
                 : access_check_.CheckEnter(*VcpuOf(op), result, allocations_);
    case OpKind::kTouch:
      return CheckTouch(before, result);
    case OpKind::kStore:
      return CheckStore(op, before, result);
    case OpKind::kTranslate:
      return access_check_.CheckTranslate(*before.access, result, allocations_);
    case OpKind::kVcpuWrite:
    case OpKind::kVcpuCmpxchg:
      return CheckEmulated(op, vcpu->space, result);
    case OpKind::kInvlpg:
      return CheckPageFlushed(op);
    case OpKind::kInvpcid:
      return CheckInvpcid(op, result);
    default:
      return "";
  }
}

// What is cached of the op's address is gone, under the vCPU's current tables.
std::string Interpreter::CheckPageFlushed(const Op& op) {
  VcpuModel& vcpu = *VcpuModelOf(op);
  const Gva gva = GvaOf(op, vcpu.registers);
  access_check_.NoteInvlpg(*VcpuOf(op), gva);
  vcpu.flushes.NotePage(PcidOf(vcpu.registers), gva, world_.taint().now());
  NoteRoot(vcpu);
  if (!backend_->InGuest(*VcpuOf(op))) return "";
  for (const TlbEntry& entry : backend_->Tlb(*VcpuOf(op))) {
    if (gva - entry.gva < BytesPerEntry(entry.level)) {
      return Say("left ", entry, " cached");
    }
  }
  return "";
}

void Interpreter::NoteFlushedAll(VcpuModel& vcpu) {
  vcpu.flushes.NoteAll(world_.taint().now());
}

void Interpreter::NoteInvpcid(VcpuModel& vcpu, InvpcidType type,
                              const InvpcidDescriptor& descriptor) {
  const Taint::Time now = world_.taint().now();
  switch (type) {
    case InvpcidType::kAddress:
      vcpu.flushes.NotePage(descriptor.pcid, descriptor.gva, now);
      break;
    case InvpcidType::kContext:
      vcpu.flushes.NotePcid(descriptor.pcid, now);
      break;
    case InvpcidType::kAllWithGlobal:
    case InvpcidType::kAll:
      NoteFlushedAll(vcpu);
      break;
  }
}

// Of another PCID nothing need be flushed: it is in no CPU's TLB, since a CPU
// that walks shadow tables has no PCIDs.
std::string Interpreter::CheckInvpcid(const Op& op, const OpResult& result) {
  VcpuModel& vcpu = *VcpuModelOf(op);
  const InvpcidDescriptor descriptor = DescriptorOf(op);
  std::vector<absl::StatusCode> refusals;
  switch (InvpcidEnds(vcpu.registers, vcpu.features,
                      op.Get(Field::kInvpcidType), descriptor)) {
    case InvpcidEnd::kDone:
      break;
    case InvpcidEnd::kUndefinedOpcode:
      refusals.push_back(absl::StatusCode::kFailedPrecondition);
      break;
    case InvpcidEnd::kProtection:
      refusals.push_back(absl::StatusCode::kInvalidArgument);
      break;
  }
  std::string wrong = CheckStatus(refusals, result.status);
  if (!wrong.empty() || !result.status.ok()) return wrong;
  const InvpcidType type = InvpcidTypeOf(op);
  NoteInvpcid(vcpu, type, descriptor);
  const bool one =
      type == InvpcidType::kAddress || type == InvpcidType::kContext;
  if (one && descriptor.pcid != PcidOf(vcpu.registers)) return "";
  return type == InvpcidType::kAddress ? CheckPageFlushed(op)
                                       : CheckFlushed(op);
}

std::string Interpreter::CheckVcpuCreate(const Op& op, const OpResult& result) {
  VcpuModel* const vcpu = VcpuModelOf(op);
  std::vector<absl::StatusCode> refusals;
  if (vcpu == nullptr) refusals = {absl::StatusCode::kInvalidArgument};
  if (vcpu != nullptr && vcpu->exists) {
    refusals = {absl::StatusCode::kAlreadyExists};
  }
  std::string wrong = CheckStatus(refusals, result.status);
  if (!wrong.empty() || !result.status.ok()) return wrong;
  vcpu->exists = true;
  NoteFlushedAll(*vcpu);
  return "";
}

std::string Interpreter::CheckRegisters(const Op& op, const OpResult& result) {
  VcpuModel& vcpu = *VcpuModelOf(op);
  PagingRegisters registers = vcpu.registers;
  if (op.kind() == OpKind::kCr3) {
    registers.cr3 = Cr3After(registers, op.Get(Field::kCr3));
  } else {
    registers = RegistersOf(op);
  }
  if (!CpuAccepts(registers, vcpu.features, world_.vm().bits)) {
    return CheckStatus({absl::StatusCode::kInvalidArgument}, result.status);
  }
  const bool load =
      op.kind() == OpKind::kCr3 || ReloadsPdptes(vcpu.registers, registers);
  const absl::StatusOr<Pdptes> pdptes = world_.PdptesFor(vcpu, registers, load);
  std::vector<absl::StatusCode> refusals;
  if (!pdptes.ok()) refusals.push_back(pdptes.status().code());
  std::string wrong = CheckStatus(refusals, result.status);
  if (!wrong.empty() || !result.status.ok()) return wrong;
  const bool flushes = op.kind() != OpKind::kCr3 ||
                       Cr3WriteFlushes(vcpu.registers, op.Get(Field::kCr3));
  vcpu.registers = registers;
  vcpu.pdptes = *pdptes;
  if (!flushes) return "";
  if (op.kind() == OpKind::kCr3) {
    vcpu.flushes.NotePcid(PcidOf(registers), world_.taint().now());
  } else {
    NoteFlushedAll(vcpu);
  }
  return CheckFlushed(op);
}

std::string Interpreter::CheckFeatures(const Op& op, const OpResult& result) {
  VcpuModel& vcpu = *VcpuModelOf(op);
  const CpuFeatures features = FeaturesOf(op);
  std::vector<absl::StatusCode> refusals;
  if (!CpuAccepts(vcpu.registers, features, world_.vm().bits)) {
    refusals.push_back(absl::StatusCode::kInvalidArgument);
  }
  std::string wrong = CheckStatus(refusals, result.status);
  if (!wrong.empty() || !result.status.ok()) return wrong;
  vcpu.features = features;
  NoteFlushedAll(vcpu);
  return CheckFlushed(op);
}

// Of a vCPU that is in the guest again after what drops its whole TLB.
std::string Interpreter::CheckFlushed(const Op& op) const {
  const uint32_t vcpu = *VcpuOf(op);
  return backend_->InGuest(vcpu) && !backend_->Tlb(vcpu).empty()
             ? "left translations cached"
             : "";
}

// ---- Stores ----

// An access for writing that went through is a store, whatever it stored.
std::string Interpreter::CheckTouch(const Before& before,
                                    const OpResult& result) {
  const AccessCheck::Case& c = *before.access;
  const std::string wrong = access_check_.CheckTouch(c, result, allocations_);
  if (wrong.empty() && c.write() && result.hpa &&
      access_check_.MustAgree(c, result)) {
    world_.NoteDirty(c.space, ToGfn(*c.truth.page));
  }
  return wrong;
}

std::string Interpreter::CheckStore(const Op& op, const Before& before,
                                    const OpResult& result) {
  const AccessCheck::Case& c = *before.access;
  std::string wrong = CheckTouch(before, result);
  if (!wrong.empty()) return wrong;
  const std::vector<std::byte> bytes = BytesOf(op);
  if (result.stored) {
    wrong = store_check_.CheckWrite(c.space, result.outcome->gpa, bytes,
                                    *result.stored);
    frames_ = store_check_.frames();
    return wrong;
  }
  if (!result.hpa) return "";
  if (access_check_.MustAgree(c, result)) {
    world_.NoteGuestStore(c.space, *c.truth.page, bytes, World::By::kCpu);
    return "";
  }
  const uint64_t frame = ToPfn(*result.hpa) - PfnOfFrame(0);
  if (frame >= world_.vm().frames) return "stored outside the host's frames";
  world_.NoteHostStore(static_cast<uint32_t>(frame),
                       result.hpa->value() & kPageOffsetMask, bytes);
  frames_ = {static_cast<uint32_t>(frame)};
  return "";
}

std::string Interpreter::CheckEmulated(const Op& op, AddressSpace space,
                                       const OpResult& result) {
  std::string wrong;
  switch (op.kind()) {
    case OpKind::kRead:
      wrong = store_check_.CheckRead(space, GpaOf(op), result);
      break;
    case OpKind::kCmpxchg:
    case OpKind::kVcpuCmpxchg:
      wrong = store_check_.CheckExchange(space, GpaOf(op), SizeOf(op),
                                         OperandOf(op, Field::kOld),
                                         OperandOf(op, Field::kNew), result);
      break;
    default:
      wrong = store_check_.CheckWrite(space, GpaOf(op), BytesOf(op),
                                      *result.outcome);
      break;
  }
  frames_ = store_check_.frames();
  return wrong;
}

// ---- Notifiers and invalidation ----

std::string Interpreter::CheckNotifier(const Op& op, const OpResult& result) {
  const HvaRange hvas = HvasOf(op);
  if (op.kind() == OpKind::kNotifyEnd) {
    return CheckStatus(world_.NoteEnd(hvas)
                           ? std::vector<absl::StatusCode>{}
                           : std::vector{absl::StatusCode::kInvalidArgument},
                       result.status);
  }
  std::vector<absl::StatusCode> refusals;
  if (hvas.bytes == 0 || Wraps(hvas)) {
    refusals = {absl::StatusCode::kInvalidArgument};
  }
  std::string wrong = CheckStatus(refusals, result.status);
  if (wrong.empty() && result.status.ok()) world_.NoteBegin(hvas);
  return wrong;
}

std::string Interpreter::CheckAge(const Op& op, const Before& before,
                                  const OpResult& result) {
  const HvaRange hvas = HvasOf(op);
  if (hvas.bytes == 0 || Wraps(hvas)) return "";
  bool must = false;
  bool may = false;
  for (const LeafRecord& leaf : before.picture.leaves) {
    for (uint64_t i = 0; i < PagesPerEntry(leaf.level) && leaf.accessed; ++i) {
      const auto page = world_.PageAt(leaf.space, leaf.gfn + i);
      if (!page || !hvas.Contains(page->hva)) continue;
      may = true;
      must = must || !leaf.obsolete;
      break;
    }
  }
  if (result.young ? !may : must) {
    return result.young ? "says young, and no spte has its A bit set"
                        : "says old, and a spte has its A bit set";
  }
  if (op.kind() == OpKind::kTestAge) return "";
  const OpResult again =
      backend_->Apply(Op(OpKind::kTestAge)
                          .Set(Field::kHost, op.Get(Field::kHost))
                          .Set(Field::kPages, op.Get(Field::kPages)));
  return again.young ? "left an A bit set" : "";
}

std::string Interpreter::CheckLimit(const Op& op, const OpResult& result) {
  const uint64_t limit = op.Get(Field::kPages);
  std::vector<absl::StatusCode> refusals;
  if (limit < kStreamMinTables || limit > world_.vm().tables) {
    refusals = {absl::StatusCode::kInvalidArgument};
  }
  std::string wrong = CheckStatus(refusals, result.status);
  if (!wrong.empty()) return wrong;
  if (result.status.ok()) page_limit_ = limit;
  const uint64_t now = backend_->GetStats().page_limit;
  return now == page_limit_ ? "" : Say("the limit is ", now);
}

std::string Interpreter::CheckUnshadow(const Op& op, const OpResult& result) {
  const Gfn gfn(op.Get(Field::kGfn));
  const std::vector<Gfn> shadowed = backend_->Look().shadowed;
  const bool left = std::binary_search(shadowed.begin(), shadowed.end(), gfn);
  if (result.unshadowed) return left ? "it is shadowed still" : "";
  return world_.IsRootTable(gfn) ? "" : "says that a root stays; it is none";
}

std::string Interpreter::CheckInvalidation(const Op& op, const Before& before,
                                           const OpResult& result) {
  if (op.kind() == OpKind::kBump) {
    return backend_->generation() == before.generation + TimesOf(op)
               ? ""
               : "did not raise the generation so often";
  }
  const Picture now = backend_->Look();
  if (op.kind() == OpKind::kInvalidate) {
    world_.NoteInvalidation();
    if (!now.leaves.empty()) return Say("left [", now.leaves.front(), "]");
    return now.pages == now.roots ? ""
                                  : Say("left ", now.pages, " shadow pages, ",
                                        now.roots, " of them roots");
  }
  if (result.reclaim.pages > op.Get(Field::kBudget)) {
    return Say("zapped ", result.reclaim.pages, " pages");
  }
  return result.reclaim.more || now.obsolete == 0
             ? ""
             : Say("says that nothing is left, and left ", now.obsolete,
                   " obsolete pages");
}

}  // namespace shadowmmu::testing
