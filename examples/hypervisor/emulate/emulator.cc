#include "emulate/emulator.h"

#include "emulate/execution.h"
#include "emulate/linear.h"
#include "emulate/string_operation.h"

namespace hypervisor {
namespace {

// LOCK is #UD but with these, and their destination in memory (APM vol. 3,
// 1.2.5).
bool MayLock(const Instruction& instruction) {
  if (!instruction.operands[0].is_memory() &&
      !(instruction.operation == Operation::kXchg &&
        instruction.operands[1].is_memory())) {
    return false;
  }
  switch (instruction.operation) {
    case Operation::kAdd:
    case Operation::kOr:
    case Operation::kAdc:
    case Operation::kSbb:
    case Operation::kAnd:
    case Operation::kSub:
    case Operation::kXor:
    case Operation::kBts:
    case Operation::kBtr:
    case Operation::kBtc:
    case Operation::kInc:
    case Operation::kDec:
    case Operation::kNeg:
    case Operation::kNot:
    case Operation::kXchg:
    case Operation::kXadd:
    case Operation::kCmpxchg:
    case Operation::kCmpxchgPair:
      return true;
    default:
      return false;
  }
}

void SetResult(const BusResult& result, EmulateOutcome& outcome) {
  switch (result.kind) {
    case BusResult::Kind::kOk:
      outcome.kind = EmulateOutcome::Kind::kDone;
      return;
    case BusResult::Kind::kException:
      outcome.kind = EmulateOutcome::Kind::kException;
      outcome.exception = result.exception;
      return;
    case BusResult::Kind::kRetry:
      outcome.kind = EmulateOutcome::Kind::kRetry;
      return;
  }
}

// What holds of every instruction that is done, or of an element of one.
void Finish(const CpuState& before, CpuState& cpu, EmulateOutcome& outcome) {
  cpu.rflags &= ~rflags::kRf;
  if ((before.rflags & rflags::kTf) != 0) {
    outcome.single_step = SingleStep::kDue;
  }
}

void ExecuteString(CpuState& cpu, GuestBus& bus, EmulateOutcome& outcome) {
  const CpuState before = cpu;
  StringOperation operation(cpu, bus, outcome.instruction);
  const StringOperation::Outcome done = operation.Run();
  SetResult(done.result, outcome);
  if (!done.result.ok()) return;
  if (done.progress == StringOperation::Progress::kMore) {
    outcome.kind = EmulateOutcome::Kind::kMore;
  } else {
    AdvanceRip(cpu, outcome.instruction.length);
  }
  Finish(before, cpu, outcome);
}

void ExecuteWhole(CpuState& cpu, FxsaveImage& fx, GuestBus& bus,
                  EmulateOutcome& outcome) {
  CpuState after = cpu;
  AdvanceRip(after, outcome.instruction.length);
  Execution execution(after, fx, bus, outcome.instruction);
  const BusResult result = execution.Run();
  SetResult(result, outcome);
  if (!result.ok()) return;
  outcome.shadow = execution.shadow();
  Finish(cpu, after, outcome);
  cpu = after;
}

}  // namespace

EmulateOutcome Emulator::Execute(CpuState& cpu, FxsaveImage& fx,
                                 GuestBus& bus) {
  EmulateOutcome outcome;
  Fetched fetched = decoder_.Fetch(cpu, bus);
  outcome.instruction = fetched.instruction;
  const Instruction& instruction = outcome.instruction;
  if (!fetched.result.ok()) {
    SetResult(fetched.result, outcome);
  } else if (!Execution::Knows(instruction.operation) &&
             !IsString(instruction.operation)) {
    outcome.kind = EmulateOutcome::Kind::kUnknown;
  } else if (instruction.prefixes.lock && !MayLock(instruction)) {
    SetResult(BusResult::Inject(Exception::InvalidOpcode()), outcome);
  } else if (IsString(instruction.operation)) {
    ExecuteString(cpu, bus, outcome);
  } else {
    ExecuteWhole(cpu, fx, bus, outcome);
  }
  return outcome;
}

}  // namespace hypervisor
