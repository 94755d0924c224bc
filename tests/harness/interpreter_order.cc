// The part of the interpreter that decides when an op is done, and how often:
// at once; in the middle of the next access (meanwhile); again and again
// (repeat).

#include "tests/harness/interpreter.h"
#include "tests/harness/op_values.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

// With more than 64 ranges at once the library blocks everything, which has
// tests of its own (GuestMemoryTest). A few are left for changes of the host's
// mappings, which begin a range of their own where none covers them.
constexpr size_t kMostRanges = 60;

bool IsExpect(OpKind kind) { return kind >= OpKind::kExpectOutcome; }

// What may happen while a fault waits for the host: nothing that waits for the
// fault in turn, as a change of the slots does, and nothing that makes what the
// fault has read of the guest's tables untrue, so that there is one right end.
bool MayHappenMeanwhile(OpKind kind) {
  switch (kind) {
    case OpKind::kBump:
    case OpKind::kReclaim:
    case OpKind::kInvalidate:
    case OpKind::kLimit:
    case OpKind::kUnshadow:
    case OpKind::kNotifyBegin:
    case OpKind::kNotifyEnd:
    case OpKind::kAge:
    case OpKind::kTestAge:
    case OpKind::kDirtyGet:
      return true;
    default:
      return IsHostChange(kind);
  }
}

}  // namespace

std::string Interpreter::Step(const Op& op) {
  if (op.kind() == OpKind::kMeanwhile || op.kind() == OpKind::kRepeat) {
    about_next_ = op;
    return "";
  }
  const std::optional<Op> about = about_next_;
  about_next_.reset();
  if (about && about->kind() == OpKind::kRepeat) return Repeat(*about, op);
  if (about && MayHappenMeanwhile(op.kind())) {
    Postpone(*about, op);
    return "";
  }
  return Once(op);
}

std::string Interpreter::Once(const Op& op) {
  if (IsExpect(op.kind())) return Expect(op);
  if (IsHostChange(op.kind())) return ChangeHost(op);
  if (op.kind() == OpKind::kNotifyBegin &&
      world_.host().ranges_in_progress() >= kMostRanges) {
    return "";
  }
  return Run(op);
}

std::string Interpreter::Repeat(const Op& repeat, const Op& op) {
  static constexpr Field kSteps[] = {Field::kGva, Field::kGpa, Field::kIndex,
                                     Field::kValue, Field::kHost};
  const uint64_t times = TimesOf(repeat);
  Op now = op;
  for (uint64_t i = 0; i < times; ++i) {
    look_ = i + 1 == times;
    const std::string wrong = Once(now);
    look_ = true;
    if (!wrong.empty()) return Say("time ", i + 1, " of ", times, ": ", wrong);
    for (const Field field : kSteps) {
      if (now.Has(field)) now.Set(field, now.Get(field) + repeat.Get(field));
    }
  }
  return "";
}

void Interpreter::Postpone(const Op& meanwhile, const Op& op) {
  backend_->Interrupt(static_cast<HostCall>(meanwhile.Get(Field::kAt) % 2),
                      meanwhile.Get(Field::kN),
                      [this, op] { wrong_meanwhile_ = RunMeanwhile(op); });
}

std::string Interpreter::RunMeanwhile(const Op& op) {
  interrupted_ = true;
  std::string wrong = access_check_.Pause(*under_way_);
  if (wrong.empty()) wrong = Once(op);
  if (wrong.empty()) access_check_.Resume(under_way_);
  return wrong.empty() ? "" : Say("meanwhile: ", wrong);
}

}  // namespace shadowmmu::testing
