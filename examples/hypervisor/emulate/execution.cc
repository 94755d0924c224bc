#include "emulate/execution.h"

#include "emulate/alu.h"
#include "emulate/bit_scan.h"
#include "emulate/exchange.h"
#include "emulate/linear.h"
#include "emulate/mmx_move.h"
#include "emulate/multiply.h"
#include "emulate/segment_load.h"
#include "emulate/stack_frame.h"
#include "emulate/system_load.h"
#include "emulate/xmm_move.h"

namespace hypervisor {
namespace {

using File = RegisterOperand::File;

}  // namespace

Execution::Execution(CpuState& cpu, FxsaveImage& fx, GuestBus& bus,
                     const Instruction& instruction)
    : cpu_(cpu),
      fx_(fx),
      bus_(bus),
      instruction_(instruction),
      operands_(cpu, bus, instruction),
      stack_(cpu, operands_),
      bytes_(instruction.operand_bytes) {}

bool Execution::Knows(Operation operation) {
  return (operation > Operation::kUnknown && operation < Operation::kMovs) ||
         (operation > Operation::kOuts && operation < Operation::kMovControl) ||
         operation == Operation::kSmsw;
}

BusResult Execution::Run() {
  switch (instruction_.operation) {
    case Operation::kMov:
      return Move();
    case Operation::kMovZeroExtend:
    case Operation::kMovSignExtend:
      return Extend();
    case Operation::kCmov:
      return MoveIf();
    case Operation::kSet:
      return SetIf();
    case Operation::kCmp:
    case Operation::kTest:
      return Compare();
    case Operation::kShl:
    case Operation::kShr:
    case Operation::kSar:
    case Operation::kRol:
    case Operation::kRor:
    case Operation::kRcl:
    case Operation::kRcr:
      return ShiftOperand();
    case Operation::kBt:
    case Operation::kBts:
    case Operation::kBtr:
    case Operation::kBtc:
      return TestBit();
    case Operation::kInc:
    case Operation::kDec:
    case Operation::kNeg:
    case Operation::kNot:
      return ChangeOne();
    case Operation::kXchg:
      return ExchangeWithRegister(cpu_, operands_, instruction_);
    case Operation::kXadd:
      return ExchangeAndAdd(cpu_, operands_, instruction_);
    case Operation::kCmpxchg:
      return CompareAndExchange(cpu_, operands_, instruction_);
    case Operation::kCmpxchgPair:
      return CompareAndExchangePair(cpu_, operands_, instruction_);
    case Operation::kPush:
      return Push();
    case Operation::kPushFlags:
      return PushFlags();
    case Operation::kPushAll:
      return PushAll();
    case Operation::kPop:
      return Pop();
    case Operation::kCall:
      return Call();
    case Operation::kJmp:
      return Jump();
    case Operation::kRet:
      return Return();
    case Operation::kIn:
      return Input();
    case Operation::kOut:
      return Output();
    case Operation::kMul:
    case Operation::kImul:
      return Multiply(cpu_, operands_, instruction_);
    case Operation::kDiv:
    case Operation::kIdiv:
      return Divide(cpu_, operands_, instruction_);
    case Operation::kBitScanForward:
    case Operation::kBitScanReverse:
      return ScanBits(cpu_, operands_, instruction_);
    case Operation::kShiftLeftDouble:
    case Operation::kShiftRightDouble:
      return ShiftDouble(cpu_, operands_, instruction_);
    case Operation::kEnter:
      return EnterFrame(cpu_, operands_, stack_, instruction_);
    case Operation::kLeave:
      return LeaveFrame(cpu_, stack_, instruction_);
    case Operation::kTranslate:
      return Translate();
    case Operation::kLoadGdt:
    case Operation::kLoadIdt:
      return LoadTable(cpu_, operands_, instruction_);
    case Operation::kLoadLdt:
      return LoadLdtRegister(cpu_, bus_, operands_, instruction_);
    case Operation::kLoadTask:
      return LoadTaskRegister(cpu_, bus_, operands_, instruction_);
    case Operation::kStoreGdt:
    case Operation::kStoreIdt:
      return StoreTable(cpu_, operands_, instruction_);
    case Operation::kStoreLdt:
    case Operation::kStoreTask:
      return StoreSelector(cpu_, operands_, instruction_);
    case Operation::kJmpFar:
      return JumpFar(cpu_, bus_, operands_, instruction_);
    case Operation::kSmsw:
      return StoreMachineStatus();
    case Operation::kMovMmx:
      return MoveMmx(cpu_, fx_, operands_, instruction_);
    case Operation::kMovXmm:
    case Operation::kMovXmmAligned:
    case Operation::kMovXmmLow:
    case Operation::kMovXmmHigh:
      return MoveXmm(cpu_, fx_, operands_, instruction_);
    default:
      return Calculate();
  }
}

Atomicity Execution::atomicity() const {
  return instruction_.prefixes.lock ? Atomicity::kLocked : Atomicity::kPlain;
}

BusResult Execution::StoreSegment(const Operand& operand, uint64_t selector) {
  const SegmentName name = SegmentName{operand.reg.number};
  if (name == SegmentName::kCs) {
    return BusResult::Inject(Exception::InvalidOpcode());
  }
  if (name == SegmentName::kSs) shadow_ = InterruptShadow::kBegins;
  return LoadSegment(cpu_, bus_, name, static_cast<uint16_t>(selector));
}

BusResult Execution::Move() {
  uint64_t value = 0;
  BusResult loaded = operands_.Load(second(), bytes_, value);
  if (!loaded.ok()) return loaded;
  if (first().Is(File::kSegment)) return StoreSegment(first(), value);
  return operands_.Store(first(), bytes_, value);
}

BusResult Execution::Extend() {
  const unsigned from = second().bytes;
  uint64_t value = 0;
  BusResult loaded = operands_.Load(second(), from, value);
  if (!loaded.ok()) return loaded;
  if (instruction_.operation == Operation::kMovSignExtend) {
    value = SignExtend(value, from);
  }
  return operands_.Store(first(), bytes_, value);
}

// The source is read whatever the condition says, and a destination of 4 bytes
// clears the upper half even if it stays.
BusResult Execution::MoveIf() {
  uint64_t value = 0;
  BusResult loaded = operands_.Load(second(), bytes_, value);
  if (!loaded.ok()) return loaded;
  if (!Holds(instruction_.condition, cpu_.rflags)) {
    value = ReadRegister(cpu_, first().reg, bytes_);
  }
  return operands_.Store(first(), bytes_, value);
}

BusResult Execution::SetIf() {
  const bool holds = Holds(instruction_.condition, cpu_.rflags);
  return operands_.Store(first(), bytes_, holds ? 1 : 0);
}

BusResult Execution::Calculate() {
  uint64_t value = 0;
  BusResult loaded = operands_.Load(second(), bytes_, value);
  if (!loaded.ok()) return loaded;
  const uint64_t flags = cpu_.rflags;
  return operands_.Modify(first(), bytes_, atomicity(), [&](uint64_t old) {
    return Arithmetic(instruction_.operation, old, value, bytes_, flags);
  });
}

BusResult Execution::Compare() {
  uint64_t a = 0;
  uint64_t b = 0;
  if (BusResult loaded = operands_.Load(first(), bytes_, a); !loaded.ok()) {
    return loaded;
  }
  if (BusResult loaded = operands_.Load(second(), bytes_, b); !loaded.ok()) {
    return loaded;
  }
  cpu_.rflags =
      Arithmetic(instruction_.operation, a, b, bytes_, cpu_.rflags).flags;
  return BusResult::Ok();
}

BusResult Execution::ShiftOperand() {
  uint64_t count = 0;
  if (BusResult loaded = operands_.Load(second(), 1, count); !loaded.ok()) {
    return loaded;
  }
  const uint64_t flags = cpu_.rflags;
  return operands_.Modify(first(), bytes_, atomicity(), [&](uint64_t old) {
    return Shift(instruction_.operation, old, count, bytes_, flags);
  });
}

// A bit offset in a register is signed, and counts from the operand's first bit
// on: the word that it falls into is the one accessed.
BusResult Execution::TestBit() {
  uint64_t offset = 0;
  if (BusResult loaded = operands_.Load(second(), bytes_, offset);
      !loaded.ok()) {
    return loaded;
  }
  Operand target = first();
  if (target.is_memory() && !second().is_immediate()) {
    const int64_t bits = static_cast<int64_t>(SignExtend(offset, bytes_));
    const unsigned word = 8 * bytes_;
    const int64_t words = (bits - static_cast<int64_t>(offset % word)) / word;
    target.memory.displacement += static_cast<uint64_t>(words) * bytes_;
  }
  const uint64_t flags = cpu_.rflags;
  if (instruction_.operation == Operation::kBt) {
    uint64_t value = 0;
    BusResult loaded = operands_.Load(target, bytes_, value);
    if (!loaded.ok()) return loaded;
    cpu_.rflags = BitTest(Operation::kBt, value, offset, bytes_, flags).flags;
    return loaded;
  }
  return operands_.Modify(target, bytes_, atomicity(), [&](uint64_t old) {
    return BitTest(instruction_.operation, old, offset, bytes_, flags);
  });
}

BusResult Execution::ChangeOne() {
  const uint64_t flags = cpu_.rflags;
  return operands_.Modify(first(), bytes_, atomicity(), [&](uint64_t old) {
    return Unary(instruction_.operation, old, bytes_, flags);
  });
}

BusResult Execution::Push() {
  uint64_t value = 0;
  BusResult loaded = operands_.Load(first(), bytes_, value);
  if (!loaded.ok()) return loaded;
  return stack_.Push(bytes_, value);
}

BusResult Execution::PushFlags() {
  const bool needs_iopl =
      cpu_.virtual_8086() && (cpu_.rflags & rflags::kIopl) != rflags::kIopl;
  if (needs_iopl) return BusResult::Inject(Exception::GeneralProtection());
  return stack_.Push(bytes_, cpu_.rflags & ~(rflags::kVm | rflags::kRf));
}

BusResult Execution::PushAll() {
  const CpuState before = cpu_;
  for (unsigned reg = kRax; reg <= kRdi; ++reg) {
    BusResult pushed = stack_.Push(bytes_, before.gpr[reg]);
    if (!pushed.ok()) return pushed;
  }
  return BusResult::Ok();
}

// A memory operand's address uses rSP as it is after the pop.
BusResult Execution::Pop() {
  uint64_t value = 0;
  BusResult popped = stack_.Pop(bytes_, value);
  if (!popped.ok()) return popped;
  if (first().Is(File::kSegment)) return StoreSegment(first(), value);
  return operands_.Store(first(), bytes_, value);
}

BusResult Execution::LoadTarget(uint64_t& rip) {
  BusResult loaded = operands_.Load(first(), bytes_, rip);
  return loaded.ok() ? CheckBranchTarget(cpu_, rip) : loaded;
}

BusResult Execution::Call() {
  uint64_t target = 0;
  if (BusResult loaded = LoadTarget(target); !loaded.ok()) return loaded;
  BusResult pushed = stack_.Push(bytes_, cpu_.rip);
  if (pushed.ok()) cpu_.rip = target;
  return pushed;
}

BusResult Execution::Jump() {
  uint64_t target = 0;
  BusResult loaded = LoadTarget(target);
  if (loaded.ok()) cpu_.rip = target;
  return loaded;
}

BusResult Execution::Return() {
  uint64_t target = 0;
  BusResult popped = stack_.Pop(bytes_, target);
  if (!popped.ok()) return popped;
  if (BusResult checked = CheckBranchTarget(cpu_, target); !checked.ok()) {
    return checked;
  }
  if (first().is_immediate()) stack_.Release(first().immediate & 0xffff);
  cpu_.rip = target;
  return BusResult::Ok();
}

BusResult Execution::Input() {
  uint64_t port = 0;
  BusResult loaded = operands_.Load(second(), 2, port);
  if (!loaded.ok()) return loaded;
  return operands_.Store(first(), bytes_,
                         bus_.In(static_cast<uint16_t>(port), bytes_));
}

BusResult Execution::Output() {
  uint64_t port = 0;
  uint64_t value = 0;
  if (BusResult loaded = operands_.Load(first(), 2, port); !loaded.ok()) {
    return loaded;
  }
  if (BusResult loaded = operands_.Load(second(), bytes_, value);
      !loaded.ok()) {
    return loaded;
  }
  bus_.Out(static_cast<uint16_t>(port), bytes_, static_cast<uint32_t>(value));
  return BusResult::Ok();
}

// SMSW: 16 bits of CR0 into memory, as many as the register has into one.
BusResult Execution::StoreMachineStatus() {
  if (cpu_.cpl != 0 && (cpu_.cr4 & cr4::kUmip) != 0) {
    return BusResult::Inject(Exception::GeneralProtection());
  }
  return operands_.Store(first(), bytes_, cpu_.cr0);
}

// AL = the byte at rBX + AL.
BusResult Execution::Translate() {
  MemoryOperand memory;
  memory.base = kRbx;
  memory.displacement = ReadGpr(cpu_, kRax, 1);
  memory.segment = SegmentOverride(instruction_).value_or(SegmentName::kDs);
  uint64_t value = 0;
  BusResult loaded = operands_.ReadAt(
      memory.segment, EffectiveAddress(cpu_, instruction_, memory), 1, value);
  if (loaded.ok()) WriteGpr(cpu_, kRax, 1, value);
  return loaded;
}

}  // namespace hypervisor
