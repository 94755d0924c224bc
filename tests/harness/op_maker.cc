#include "tests/harness/op_maker.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "tests/harness/op_values.h"

namespace shadowmmu::testing {

void OpMaker::Note(const Op& op) {
  const uint64_t vcpu = op.Get(Field::kVcpu);
  if (vcpu >= kStreamMaxVcpus) return;
  if (op.kind() == OpKind::kRegs) RegsOf(vcpu) = op;
  if (op.kind() == OpKind::kVcpuCreate) RegsOf(vcpu) = Op(OpKind::kRegs);
  if (op.kind() == OpKind::kCr3) {
    RegsOf(vcpu).Set(Field::kCr3, op.Get(Field::kCr3) & ~cr3::kNoFlush);
  }
}

void OpMaker::SetCommon(Op& op) {
  if (op.Has(Field::kVcpu)) {
    op.Set(Field::kVcpu,
           choices_.Below(std::max<uint64_t>(scene_.vm().vcpus, 1)));
  }
  if (op.Has(Field::kGva)) {
    op.Set(Field::kGva, scene_.AnyGva(ModeOf(op.Get(Field::kVcpu))));
  }
  if (op.Has(Field::kPrivilege)) SetAccess(op);
  if (op.Has(Field::kSpace) && choices_.Percent(15)) op.Set(Field::kSpace, 1);
  if (op.Has(Field::kHost)) op.Set(Field::kHost, scene_.AnyHost());
  if (op.Has(Field::kPages)) {
    op.Set(Field::kPages, choices_.Of({1, 1, 1, 2, 8, 64}));
  }
}

void OpMaker::SetAccess(Op& op) {
  if (op.Has(Field::kType)) {
    op.Set(Field::kType, choices_.Of({0, 0, 0, 1, 1, 1, 2}));
  }
  const uint64_t dice = choices_.Below(100);
  // No fetch is implicit.
  const bool fetch = op.Has(Field::kType) && op.Get(Field::kType) == 2;
  op.Set(Field::kPrivilege, dice < 45 ? 0 : dice < 90 || fetch ? 1 : 2);
  op.Set(Field::kAc, choices_.Percent(30) ? 1 : 0);
  op.Set(Field::kPkru, scene_.AnyPkru());
}

Op OpMaker::Make(OpKind kind) {
  Op op(kind);
  SetCommon(op);
  switch (kind) {
    case OpKind::kSlotCreate:
    case OpKind::kSlotDelete:
    case OpKind::kSlotMove:
    case OpKind::kSlotFlags:
    case OpKind::kDirtyGet:
      return MakeSlotOp(kind);
    case OpKind::kPte:
    case OpKind::kWrite:
    case OpKind::kCmpxchg:
    case OpKind::kVcpuWrite:
    case OpKind::kVcpuCmpxchg:
    case OpKind::kRead:
      return MakeStore(std::move(op));
    case OpKind::kUnshadow: {
      const bool table = choices_.Percent(80);
      return op.Set(Field::kGfn,
                    table ? scene_.AnyPlace().gfn : scene_.AnyGfn());
    }
    case OpKind::kReclaim:
      return op.Set(Field::kBudget, choices_.Of({1, 1, 2, 4, 100}));
    case OpKind::kInvalidate:
      return op.Set(Field::kStrategy, choices_.Below(3));
    case OpKind::kLimit: {
      const uint64_t tables = scene_.vm().tables;
      return op.Set(Field::kPages,
                    choices_.Of({kStreamMinTables, kStreamMinTables, tables,
                                 tables, (kStreamMinTables + tables) / 2,
                                 kStreamMinTables - 1, tables + 1}));
    }
    case OpKind::kAllocFail:
      return op.Set(Field::kN, choices_.Of({1, 1, 2, 3}));
    case OpKind::kBump:
      // Now and then as often as a narrow counter would need to come round.
      return op.Set(Field::kTimes, choices_.Of({1, 1, 1, 1, 1, 1, 1, 0x100,
                                                0x1'0000, 0x1'0000'0000}));
    case OpKind::kNotifySequence:
      return op.Set(Field::kValue, choices_.Of({0x7fff'ffff, 0xffff'ffff,
                                                0x7fff'ffff'ffff'ffff}));
    case OpKind::kMeanwhile:
      return op.Set(Field::kAt, choices_.Of({0, 0, 1}))
          .Set(Field::kN, choices_.Of({1, 1, 2, 3}));
    case OpKind::kRepeat:
      return op.Set(Field::kTimes, choices_.Of({2, 2, 3, 8, 30}))
          .Set(Field::kGva, choices_.Of({0, kPageSize, kPageSize << 9}))
          .Set(Field::kGpa, choices_.Of({0, 8, kPageSize}))
          .Set(Field::kIndex, choices_.Of({0, 1}))
          .Set(Field::kValue, choices_.Of({0, kPageSize, 8}))
          .Set(Field::kHost, choices_.Of({0, 1}));
    default:
      break;
  }
  return op.Has(Field::kVcpu) ? MakeVcpuOp(std::move(op))
                              : MakeHostOp(std::move(op));
}

Op OpMaker::MakeSlotOp(OpKind kind) {
  const Op& slot = choices_.Of(scene_.slots());
  if (kind == OpKind::kSlotCreate) return slot;
  // The slot that holds the tables goes less often than the others.
  const Op& other = choices_.Percent(50) ? choices_.Of(scene_.slots()) : slot;
  Op op(kind);
  op.Set(Field::kId, other.Get(Field::kId));
  op.Set(Field::kSpace, other.Get(Field::kSpace));
  if (op.Has(Field::kPolicy)) op.Set(Field::kPolicy, choices_.Below(4));
  if (kind == OpKind::kSlotMove) {
    op.Set(Field::kGfn,
           choices_.Percent(50) ? slot.Get(Field::kGfn) : scene_.AnyGfn());
  }
  if (kind == OpKind::kSlotFlags) {
    op.Set(Field::kFlags, choices_.Of({0, 0, 0, 1, 2, 2, 2, 3}));
  }
  return op;
}

Op OpMaker::MakeRegs(uint64_t vcpu) {
  return choices_.Percent(50)
             ? scene_.Turned(RegsOf(vcpu).Set(Field::kVcpu, vcpu))
             : scene_.AnyRegs(vcpu);
}

Op OpMaker::MakeRegsRaw(Op op) {
  // Legal registers, with some bits turned round.
  constexpr uint64_t kCr4Bits[] = {4, 5, 7, 12, 17, 20, 21, 22, 23, 24, 28};
  const auto turn = [&](Field field, uint64_t bit, uint64_t chance) {
    if (!choices_.Percent(chance)) return;
    op.Set(field, op.Get(field) ^ uint64_t{1} << bit);
  };
  const PagingRegisters registers =
      RegistersOf(scene_.AnyRegs(op.Get(Field::kVcpu)));
  op.Set(Field::kCr0, registers.cr0 | cr0::kPe);
  op.Set(Field::kCr3, registers.cr3);
  op.Set(Field::kCr4, registers.cr4);
  op.Set(Field::kEfer, registers.efer);
  for (const uint64_t bit : {0, 16, 30, 31}) turn(Field::kCr0, bit, 20);
  for (const uint64_t bit : {29, 32}) turn(Field::kCr0, bit, 5);
  for (const uint64_t bit : {8, 10, 11}) turn(Field::kEfer, bit, 15);
  turn(Field::kCr4, kCr4Bits[choices_.Below(std::size(kCr4Bits))], 50);
  turn(Field::kCr3, 3, 20);
  return op;
}

Op OpMaker::MakeCr3(Op op) {
  Op& regs = RegsOf(op.Get(Field::kVcpu));
  if (choices_.Percent(35)) {
    op.Set(Field::kCr3, regs.Get(Field::kCr3));
  } else {
    op.Set(Field::kCr3, scene_.AnyRoot(regs.Get(Field::kMode) % mode::kModes));
  }
  const bool pcids = regs.Get(Field::kPcide) % 2 != 0;
  if (pcids && choices_.Percent(80)) {
    op.Set(Field::kCr3, (op.Get(Field::kCr3) & ~cr3::kPcid) | scene_.AnyPcid());
  }
  if (choices_.Percent(pcids ? 60 : 2)) {
    op.Set(Field::kCr3, op.Get(Field::kCr3) | cr3::kNoFlush);
  }
  return op;
}

Op OpMaker::MakeInvpcid(Op op) {
  const Op& regs = RegsOf(op.Get(Field::kVcpu));
  const bool pcids = regs.Get(Field::kPcide) % 2 != 0;
  op.Set(Field::kInvpcidType, choices_.Of({0, 0, 0, 0, 1, 1, 2, 3}));
  if (choices_.Percent(2)) op.Set(Field::kInvpcidType, choices_.Of({4, 5}));
  if (choices_.Percent(pcids ? 95 : 5)) {
    op.Set(Field::kPcid, choices_.Percent(50)
                             ? regs.Get(Field::kCr3) & cr3::kPcid
                             : scene_.AnyPcid());
  }
  if (choices_.Percent(2)) {
    op.Set(Field::kPcid, op.Get(Field::kPcid) | choices_.Of({0x1000, 1 << 20}));
  }
  return op;
}

// Mostly an entry of a table, as a guest edits its tables.
Op OpMaker::MakeGuestStore(Op op) {
  const bool small = ModeOf(op.Get(Field::kVcpu)) == mode::k32Bit;
  if (choices_.Percent(small ? 70 : 12)) op.Set(Field::kSize, 4);
  if (choices_.Percent(5)) return op.Set(Field::kValue, choices_.Next());
  TableKind kind = scene_.AnyPlace().kind;
  if (IsSmall(kind) != small && choices_.Percent(80)) {
    const bool directory = choices_.Percent(30);
    kind = small ? TableKind::kPt32 : TableKind::kPt;
    if (directory) kind = small ? TableKind::kPd32 : TableKind::kPd;
  }
  const uint64_t entry = scene_.AnyEntry(kind);
  const uint64_t mask = op.Get(Field::kSize) == 4 ? 0xffff'ffff : ~uint64_t{0};
  return op.Set(Field::kValue, entry & mask);
}

Op OpMaker::MakeVcpuOp(Op op) {
  const uint64_t vcpu = op.Get(Field::kVcpu);
  switch (op.kind()) {
    case OpKind::kRegs:
      return MakeRegs(vcpu);
    case OpKind::kRegsRaw:
      return MakeRegsRaw(std::move(op));
    case OpKind::kCr3:
      return MakeCr3(std::move(op));
    case OpKind::kInvpcid:
      return MakeInvpcid(std::move(op));
    case OpKind::kFeatures:
      op.Set(Field::kHas, kAllFeatures);
      if (choices_.Percent(40)) {
        op.Set(Field::kHas,
               kAllFeatures ^ uint64_t{1} << choices_.Below(kFeatureBits));
      }
      return op;
    case OpKind::kVcpuCreate:
      return op.Set(Field::kVcpu, choices_.Below(kStreamMaxVcpus));
    case OpKind::kSpace:
      return op.Set(Field::kSpace, choices_.Below(2));
    case OpKind::kStore:
      return MakeGuestStore(std::move(op));
    case OpKind::kTranslate:
      return op.Set(Field::kWarm, choices_.Below(2));
    default:
      return op;
  }
}

std::vector<uint8_t> OpMaker::SomeBytes(TableKind kind) {
  std::vector<uint8_t> bytes(
      static_cast<size_t>(choices_.Of({0, 1, 2, 4, 8, 8, 8, 8, 16, 24})));
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t entry = scene_.AnyEntry(kind);
    for (size_t k = i; k < std::min(i + 8, bytes.size()); ++k) {
      bytes[k] = static_cast<uint8_t>(entry >> (8 * (k - i)));
    }
  }
  return bytes;
}

Op OpMaker::SetEntry(Op op, const Scene::Place& place) {
  op.Set(Field::kIndex, place.index);
  if (choices_.Percent(40)) {
    return op.Set(Field::kValue, scene_.GoodEntry(place.kind));
  }
  if (!IsSmall(place.kind) || choices_.Percent(30)) {
    return op.Set(Field::kValue, scene_.AnyEntry(place.kind));
  }
  op.Set(Field::kSize, 4);
  op.Set(Field::kIndex, place.index * 2 + choices_.Below(2));
  return op.Set(Field::kValue, scene_.AnySmallEntry(place.kind));
}

Op OpMaker::MakeStore(Op op) {
  const Scene::Place table = scene_.AnyPlace();
  if (op.kind() == OpKind::kPte) {
    op.Set(Field::kTable, table.gfn);
    return SetEntry(std::move(op), table);
  }
  const uint64_t frame = choices_.Percent(60) ? table.gfn : scene_.AnyGfn();
  uint64_t gpa = (frame << kPageShift) + table.index * 8;
  if (op.Has(Field::kSize)) {
    op.Set(Field::kSize, choices_.Of({8, 8, 8, 4, 4, 2, 1}));
    if (IsSmall(table.kind) && choices_.Percent(50)) gpa += 4;
    if (choices_.Percent(10)) gpa += choices_.Below(16);
    if (op.Has(Field::kOld)) {
      op.Set(Field::kOld,
             choices_.Percent(70) ? 0 : scene_.GoodEntry(table.kind));
      op.Set(Field::kNew, scene_.AnyEntry(table.kind));
    }
  } else {
    // Parts of entries, several of them, and across pages.
    if (choices_.Percent(10)) gpa += choices_.Below(8);
    if (choices_.Percent(8)) gpa = (frame << kPageShift) + 0xff8;
    op.SetBytes(SomeBytes(table.kind));
  }
  return op.Set(Field::kGpa, gpa);
}

Op OpMaker::MakeHostOp(Op op) {
  switch (op.kind()) {
    case OpKind::kHostMap:
      return op.Set(Field::kPages, choices_.Of({1, 8, 64, 1024}));
    case OpKind::kHostRetarget:
      return op.Set(Field::kTo, scene_.AnyHost());
    case OpKind::kHostPte: {
      const Scene::Place place = scene_.AnyPlace();
      if (choices_.Percent(75)) {
        op.Set(Field::kHost, scene_.HostOf(place.gfn));
      }
      return SetEntry(std::move(op), place);
    }
    case OpKind::kHostWrite:
      op.Set(Field::kOffset, scene_.AnyIndex() * 8);
      if (choices_.Percent(10)) {
        op.Set(Field::kOffset, op.Get(Field::kOffset) + choices_.Below(8));
      }
      return op.SetBytes(SomeBytes(TableKind::kPt));
    default:
      return op;
  }
}

}  // namespace shadowmmu::testing
