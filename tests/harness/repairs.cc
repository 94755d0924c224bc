#include "tests/harness/repairs.h"

#include <cstddef>
#include <utility>

#include "tests/harness/op_values.h"

namespace shadowmmu::testing {

void Repairs::Note(const Op& op) {
  switch (op.kind()) {
    case OpKind::kNotifyBegin:
      return NoteRange(op, OpKind::kNotifyEnd);
    case OpKind::kHostUnmap:
    case OpKind::kHostRetarget:
    case OpKind::kHostReadonly:
      return NoteRange(op, OpKind::kHostMap);
    case OpKind::kSlotDelete:
    case OpKind::kSlotMove:
      return NoteSlot(op);
    case OpKind::kSlotFlags:
      due_.push_back(op);
      due_.back().Set(Field::kFlags, 0);
      return;
    case OpKind::kVcpuDestroy:
      due_.push_back(
          Op(OpKind::kVcpuCreate).Set(Field::kVcpu, op.Get(Field::kVcpu)));
      return;
    case OpKind::kVcpuCreate:
    case OpKind::kRegsRaw:
      due_.push_back(scene_->AnyRegs(op.Get(Field::kVcpu)));
      return;
    case OpKind::kFeatures:
      due_.push_back(op);
      due_.back().Set(Field::kHas, kAllFeatures);
      return;
    case OpKind::kSpace:
      due_.push_back(op);
      due_.back().Set(Field::kSpace, 0);
      return;
    default:
      return;
  }
}

void Repairs::NoteRange(const Op& op, OpKind repair) {
  due_.push_back(Op(repair)
                     .Set(Field::kHost, op.Get(Field::kHost))
                     .Set(Field::kPages, op.Get(Field::kPages)));
}

void Repairs::NoteSlot(const Op& op) {
  for (const Op& slot : scene_->slots()) {
    if (slot.Get(Field::kId) != op.Get(Field::kId) ||
        slot.Get(Field::kSpace) != op.Get(Field::kSpace)) {
      continue;
    }
    due_.push_back(slot);
    if (op.kind() == OpKind::kSlotDelete) return;
    due_.back() = Op(OpKind::kSlotMove)
                      .Set(Field::kId, slot.Get(Field::kId))
                      .Set(Field::kGfn, slot.Get(Field::kGfn))
                      .Set(Field::kSpace, slot.Get(Field::kSpace));
    return;
  }
}

std::optional<Op> Repairs::Take() {
  if (due_.empty() || !choices_->Percent(35)) return std::nullopt;
  const size_t which = static_cast<size_t>(choices_->Below(due_.size()));
  Op op = std::move(due_[which]);
  due_.erase(due_.begin() + static_cast<std::ptrdiff_t>(which));
  // A new vCPU needs registers; nothing else that a repair does is damage.
  if (op.kind() == OpKind::kVcpuCreate) Note(op);
  return op;
}

}  // namespace shadowmmu::testing
