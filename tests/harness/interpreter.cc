#include "tests/harness/interpreter.h"

#include <algorithm>
#include <span>
#include <utility>

#include "tests/harness/op_text.h"
#include "tests/harness/op_values.h"
#include "tests/harness/say.h"
#include "tests/harness/shadowmmu_backend.h"
#include "tests/harness/slot_rules.h"

namespace shadowmmu::testing {
namespace {

bool IsAccess(OpKind kind) {
  return kind == OpKind::kTouch || kind == OpKind::kStore ||
         kind == OpKind::kTranslate;
}

bool IsHostStore(OpKind kind) {
  return kind == OpKind::kHostPte || kind == OpKind::kHostWrite;
}

}  // namespace

Interpreter::Interpreter(const VmShape& vm, Backend* backend)
    : backend_(backend),
      world_(vm),
      access_check_(&world_, backend),
      page_limit_(vm.tables) {}

// ---- Running ----

// A host may change a mapping only while a notifier has it in progress.
std::string Interpreter::ChangeHost(const Op& op) {
  const FrameRange frames = FramesOf(op, world_.vm().frames);
  const HvaRange hvas{HvaOfFrame(frames.first),
                      uint64_t{frames.count} << kPageShift};
  if (world_.host().Cover(hvas)) return Run(op);
  const auto notifier = [&](OpKind kind) {
    return Op(kind)
        .Set(Field::kHost, frames.first)
        .Set(Field::kPages, frames.count);
  };
  std::string wrong = Run(notifier(OpKind::kNotifyBegin));
  // An allocation that failed in it: then nothing may change.
  if (!wrong.empty() || !last_status_.ok()) return wrong;
  wrong = Run(op);
  if (!wrong.empty()) return wrong;
  return Run(notifier(OpKind::kNotifyEnd));
}

std::string Interpreter::Run(const Op& op) {
  Before before = Look(op);
  if (under_way_ == nullptr) interrupted_ = false;
  if (before.access) under_way_ = &*before.access;
  const OpResult result = backend_->Apply(op);
  if (before.access) under_way_ = nullptr;
  allocations_ = backend_->failed_allocations() == before.failed_allocations
                     ? Allocations::kAllWell
                     : Allocations::kSomeFailed;
  access_check_.ForgetInvlpg();
  frames_.clear();
  if (!wrong_meanwhile_.empty()) return wrong_meanwhile_;
  if (!result.broken.empty()) return result.broken;
  if (backend_->generation() != before.generation) world_.NoteInvalidation();
  if (result.outcome) last_outcome_ = result.outcome;
  last_status_ = result.status;
  std::string wrong = CheckResult(op, before, result);
  if (!wrong.empty()) return wrong;
  NoteEntry(op, before, result);
  return CheckState(op, result);
}

Interpreter::Before Interpreter::Look(const Op& op) {
  Before before;
  before.failed_allocations = backend_->failed_allocations();
  before.generation = backend_->generation();
  if (op.kind() == OpKind::kAge || op.kind() == OpKind::kTestAge) {
    before.picture = backend_->Look();
  }
  const VcpuModel* const vcpu = VcpuModelOf(op);
  if (vcpu == nullptr || !vcpu->exists) return before;
  const uint32_t id = *VcpuOf(op);
  before.in_guest = backend_->InGuest(id);
  if (IsAccess(op.kind())) {
    before.access =
        access_check_.Begin(id, GvaOf(op, vcpu->registers), AccessOf(op));
  }
  return before;
}

VcpuModel* Interpreter::VcpuModelOf(const Op& op) {
  if (!op.Has(Field::kVcpu)) return nullptr;
  const std::optional<uint32_t> id = VcpuOf(op);
  return id ? &world_.vcpu(*id) : nullptr;
}

std::string Interpreter::CheckResult(const Op& op, const Before& before,
                                     const OpResult& result) {
  switch (op.kind()) {
    case OpKind::kSlotCreate:
    case OpKind::kSlotDelete:
    case OpKind::kSlotMove:
    case OpKind::kSlotFlags:
      return CheckSlotOp(op, result);
    case OpKind::kDirtyGet:
      return CheckDirtyGet(op, result);
    case OpKind::kPte:
    case OpKind::kWrite:
    case OpKind::kCmpxchg:
    case OpKind::kRead:
      return CheckEmulated(op, SpaceOf(op), result);
    case OpKind::kNotifyBegin:
    case OpKind::kNotifyEnd:
      return CheckNotifier(op, result);
    case OpKind::kAge:
    case OpKind::kTestAge:
      return CheckAge(op, before, result);
    case OpKind::kBump:
    case OpKind::kReclaim:
    case OpKind::kInvalidate:
      return CheckInvalidation(op, before, result);
    case OpKind::kLimit:
      return CheckLimit(op, result);
    case OpKind::kUnshadow:
      return CheckUnshadow(op, result);
    case OpKind::kAllocFail:
      return "";
    default:
      break;
  }
  if (op.Has(Field::kVcpu)) return CheckVcpuOp(op, before, result);
  if (IsHostChange(op.kind())) world_.NoteChange(op);
  if (IsHostStore(op.kind())) NoteHostStore(op);
  return "";
}

void Interpreter::NoteHostStore(const Op& op) {
  const uint64_t frame = op.Get(Field::kHost);
  if (frame >= world_.vm().frames) return;
  const uint64_t offset = OffsetOf(op);
  std::vector<std::byte> bytes = BytesOf(op);
  bytes.resize(std::min<uint64_t>(bytes.size(), kPageSize - offset));
  world_.NoteHostStore(static_cast<uint32_t>(frame), offset, bytes);
  frames_.push_back(static_cast<uint32_t>(frame));
}

// ---- The state after an op ----

void Interpreter::NoteEntry(const Op& op, const Before& before,
                            const OpResult& result) {
  VcpuModel* const vcpu = VcpuModelOf(op);
  if (vcpu == nullptr || !result.executed) return;
  if (before.access) {
    const std::vector<uint32_t> frames = access_check_.Frames(*before.access);
    frames_.insert(frames_.end(), frames.begin(), frames.end());
  }
  if (!Entered(op, result)) return;
  vcpu->entered = world_.taint().invalidated();
  NoteRoot(*vcpu);
}

// The vCPU has loaded its root: guest tables from now on.
void Interpreter::NoteRoot(const VcpuModel& vcpu) {
  world_.taint().NoteWalk(vcpu.space, world_.RootTables(vcpu));
}

std::string Interpreter::CheckState(const Op& op, const OpResult& result) {
  if (!look_) return "";
  const std::vector<std::string> violations = backend_->Audit();
  if (!violations.empty()) {
    return Say("the audit finds ", violations.size(),
               " wrong, first: ", violations.front());
  }
  const std::optional<Picture> picture = NewPicture();
  std::string wrong;
  if (picture && picture->pages > page_limit_) {
    return Say(picture->pages, " shadow pages, the limit is ", page_limit_);
  }
  if (picture) wrong = state_check_.CheckPicture(*picture);
  if (wrong.empty()) {
    wrong = CheckTlbs(op, result, picture ? &*picture : nullptr);
  }
  return wrong.empty() ? CheckFrames(frames_) : wrong;
}

// Has the op's vCPU entered the guest in its course, after all that could leave
// it something to flush?
bool Interpreter::Entered(const Op& op, const OpResult& result) const {
  if (!result.entered || !op.Has(Field::kVcpu)) return false;
  return !interrupted_ || result.hpa.has_value() ||
         backend_->InGuest(*VcpuOf(op));
}

// Of each CPU that is in the guest, or was when the op was done.
std::string Interpreter::CheckTlbs(const Op& op, const OpResult& result,
                                   const Picture* picture) {
  for (uint32_t id = 0; id < kStreamMaxVcpus; ++id) {
    if (!world_.vcpu(id).exists) continue;
    const bool entered = VcpuOf(op) == id && Entered(op, result);
    if (!entered && !backend_->InGuest(id)) continue;
    const std::vector<TlbEntry> entries = backend_->Tlb(id);
    std::string wrong = state_check_.CheckTlb(id, entries);
    if (wrong.empty() && picture != nullptr) {
      wrong = state_check_.CheckNoTableWritable(id, *picture, entries);
    }
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::optional<Picture> Interpreter::NewPicture() {
  const Stats stats = backend_->GetStats();
  std::vector<uint64_t> now = {
      stats.sptes_set,        stats.sptes_zapped, stats.leaf_sptes,
      stats.pages_created,    stats.pages_zapped, stats.shadow_pages,
      stats.generation_bumps, stats.unsyncs,      stats.syncs,
      world_.layout()};
  if (now == seen_) return std::nullopt;
  seen_ = std::move(now);
  return backend_->Look();
}

std::string Interpreter::CheckFrames(const std::vector<uint32_t>& frames) {
  for (const uint32_t frame : frames) {
    const std::byte* const memory = backend_->FrameMemory(frame);
    const std::optional<uint64_t> offset = world_.host().Differs(frame, memory);
    if (!offset) continue;
    const uint64_t word = *offset & ~uint64_t{7};
    uint64_t holds = 0;
    std::copy_n(memory + word, sizeof(holds),
                std::as_writable_bytes(std::span(&holds, 1)).begin());
    return Say("host frame ", frame, " holds 0x", std::hex, holds, " at 0x",
               word, "; it should be 0x", world_.host().Read64(frame, word));
  }
  return "";
}

std::string Interpreter::Finish() {
  std::vector<uint32_t> all(world_.vm().frames);
  for (uint32_t frame = 0; frame < all.size(); ++frame) all[frame] = frame;
  const std::string wrong = CheckFrames(all);
  return wrong.empty() ? "" : "at the end, " + wrong;
}

// ---- Streams ----

std::optional<StreamFailure> RunStream(const OpStream& stream,
                                       Backend& backend) {
  Interpreter interpreter(stream.vm, &backend);
  for (size_t i = 0; i < stream.ops.size(); ++i) {
    std::string wrong = interpreter.Step(stream.ops[i]);
    if (!wrong.empty()) return StreamFailure{i, std::move(wrong)};
  }
  std::string wrong = interpreter.Finish();
  if (wrong.empty()) return std::nullopt;
  return StreamFailure{stream.ops.size(), std::move(wrong)};
}

std::optional<StreamFailure> RunStream(const OpStream& stream) {
  ShadowmmuBackend backend(stream.vm);
  return RunStream(stream, backend);
}

std::string ReportOf(const OpStream& stream, const StreamFailure& failure) {
  OpStream so_far = stream;
  so_far.ops.resize(std::min(stream.ops.size(), failure.op + 1));
  const std::string op = failure.op < stream.ops.size()
                             ? PrintOp(stream.ops[failure.op])
                             : "the end of the stream";
  return Say("op ", failure.op, ": ", op, "\n  ", failure.what,
             "\n---- the stream so far ----\n", PrintStream(so_far));
}

}  // namespace shadowmmu::testing
