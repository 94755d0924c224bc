#include "tests/harness/simulator.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/repairs.h"
#include "tests/harness/scene.h"
#include "tests/harness/shapes.h"

namespace shadowmmu::testing {
namespace {

// How often each kind comes, among all. A kind that is not here never does.
struct Weight {
  OpKind kind;
  uint32_t weight;
};
constexpr Weight kWeights[] = {
    {OpKind::kTouch, 320},       {OpKind::kStore, 90},
    {OpKind::kTranslate, 20},    {OpKind::kInvlpg, 25},
    {OpKind::kEvict, 10},        {OpKind::kPte, 110},
    {OpKind::kWrite, 35},        {OpKind::kCmpxchg, 25},
    {OpKind::kVcpuWrite, 15},    {OpKind::kVcpuCmpxchg, 10},
    {OpKind::kRead, 5},          {OpKind::kHostPte, 30},
    {OpKind::kHostWrite, 8},     {OpKind::kNotifyBegin, 14},
    {OpKind::kNotifyEnd, 3},     {OpKind::kHostUnmap, 8},
    {OpKind::kHostMap, 8},       {OpKind::kHostRetarget, 20},
    {OpKind::kHostReadonly, 8},  {OpKind::kAge, 12},
    {OpKind::kTestAge, 4},       {OpKind::kBump, 14},
    {OpKind::kReclaim, 24},      {OpKind::kInvalidate, 8},
    {OpKind::kSlotCreate, 18},   {OpKind::kSlotDelete, 12},
    {OpKind::kSlotMove, 6},      {OpKind::kSlotFlags, 8},
    {OpKind::kVcpuCreate, 12},   {OpKind::kVcpuDestroy, 3},
    {OpKind::kRegs, 16},         {OpKind::kRegsRaw, 4},
    {OpKind::kSpace, 8},         {OpKind::kEnter, 40},
    {OpKind::kExit, 12},         {OpKind::kAllocFail, 4},
    {OpKind::kMeanwhile, 16},    {OpKind::kRepeat, 6},
    {OpKind::kNotifySequence, 2}};

// Slots beyond this many pages take memory in proportion (host.h).
constexpr uint64_t kMostPages = uint64_t{1} << 20;
constexpr uint64_t kMostRepeats = 40;

constexpr uint64_t ToInt(OpKind kind) { return static_cast<uint64_t>(kind); }

class Maker {
 public:
  Maker(Choices choices, const SimulatorOptions& options)
      : choices_(choices), options_(options), scene_(&choices_) {
    ChooseWeights();
  }

  OpStream Make() {
    stream_.vm = scene_.vm();
    SetScene();
    for (size_t i = 0; i < options_.ops && !choices_.exhausted(); ++i) {
      if (!Repair() && !Shape()) Add(MakeOp(ChooseKind()));
      TouchAfterInvlpg();
      if (stream_.ops.back().kind() == OpKind::kMeanwhile) AddMeanwhile();
    }
    return std::move(stream_);
  }

 private:
  void ChooseWeights();
  OpKind ChooseKind();
  void SetScene();
  // The access that an INVLPG is for.
  void TouchAfterInvlpg();
  // What happens meanwhile, and an access for it to happen in.
  void AddMeanwhile();
  // False: there was nothing to put back, or not now.
  bool Repair();
  // Several ops that belong together. False: not now.
  bool Shape();
  void Add(Op op);
  Op MakeOp(OpKind kind);
  // Each makes a family of ops.
  Op MakeSlotOp(OpKind kind);
  Op MakeVcpuOp(Op op);
  Op MakeStore(Op op);
  Op MakeHostOp(Op op);
  Op MakeRegsRaw(Op op);
  // An entry or several, or a part of one, for a table of `level`.
  std::vector<uint8_t> SomeBytes(unsigned level);
  unsigned AnyLevel() { return static_cast<unsigned>(1 + choices_.Below(4)); }
  // Sets what every op has that has it.
  void SetCommon(Op& op);

  Choices choices_;
  const SimulatorOptions options_;
  Scene scene_;
  Repairs repairs_{&scene_, &choices_};
  Shapes shapes_{&scene_, &choices_};
  OpStream stream_;
  std::vector<Weight> weights_;
  uint64_t weight_ = 0;  // of all
};

void Maker::ChooseWeights() {
  for (Weight weight : kWeights) {
    const bool essential = weight.kind == OpKind::kTouch;
    if (!essential) {
      weight.weight *= static_cast<uint32_t>(choices_.Of({0, 1, 1, 1, 2, 4}));
    }
    weight_ += weight.weight;
    weights_.push_back(weight);
  }
}

OpKind Maker::ChooseKind() {
  uint64_t at = choices_.Below(weight_);
  for (const Weight& weight : weights_) {
    if (at < weight.weight) return weight.kind;
    at -= weight.weight;
  }
  return OpKind::kTouch;
}

void Maker::Add(Op op) {
  // Now and then one number is wild.
  if (choices_.Percent(1)) {
    const OpShape& shape = ShapeOf(op.kind());
    if (shape.field_count() != 0) {
      const Field field =
          shape
              .fields[static_cast<size_t>(choices_.Below(shape.field_count()))];
      uint64_t value = scene_.Wild();
      if (field == Field::kPages) value = std::min(value, kMostPages);
      if (op.kind() == OpKind::kRepeat) value = std::min(value, kMostRepeats);
      op.Set(field, value);
    }
  }
  repairs_.Note(op);
  stream_.ops.push_back(std::move(op));
}

void Maker::TouchAfterInvlpg() {
  const Op& last = stream_.ops.back();
  if (last.kind() != OpKind::kInvlpg || choices_.Percent(40)) return;
  Op touch = MakeOp(OpKind::kTouch);
  touch.Set(Field::kVcpu, last.Get(Field::kVcpu));
  stream_.ops.push_back(touch.Set(Field::kGva, last.Get(Field::kGva)));
}

void Maker::AddMeanwhile() {
  Add(MakeOp(static_cast<OpKind>(choices_.Of(
      {ToInt(OpKind::kBump), ToInt(OpKind::kBump), ToInt(OpKind::kInvalidate),
       ToInt(OpKind::kReclaim), ToInt(OpKind::kNotifyBegin),
       ToInt(OpKind::kHostUnmap), ToInt(OpKind::kHostRetarget),
       ToInt(OpKind::kHostReadonly), ToInt(OpKind::kAge)}))));
  if (choices_.Percent(70)) Add(MakeOp(OpKind::kTouch));
}

bool Maker::Shape() {
  if (!choices_.Percent(1)) return false;
  for (Op& op : shapes_.DirectChild()) Add(std::move(op));
  return true;
}

bool Maker::Repair() {
  std::optional<Op> op = repairs_.Take();
  if (!op) return false;
  stream_.ops.push_back(*std::move(op));
  return true;
}

// Slots, tables that lead somewhere, and vCPUs that use them.
void Maker::SetScene() {
  const bool trapped = choices_.Percent(50);
  for (size_t i = 0; i < scene_.slots().size(); ++i) {
    if (i == 0 || choices_.Percent(60)) {
      stream_.ops.push_back(scene_.slots()[i]);
    }
  }
  const Op& first = scene_.slots().front();
  for (unsigned level = 1; level <= 4; ++level) {
    for (const uint64_t table : scene_.tables(level)) {
      for (const uint64_t index : scene_.indices()) {
        const uint64_t entry = choices_.Percent(90) ? scene_.GoodEntry(level)
                                                    : scene_.AnyEntry(level);
        Op op(trapped ? OpKind::kPte : OpKind::kHostPte);
        if (trapped) {
          op.Set(Field::kTable, table);
        } else {
          op.Set(Field::kHost,
                 table - first.Get(Field::kGfn) + first.Get(Field::kHost));
        }
        stream_.ops.push_back(
            op.Set(Field::kIndex, index).Set(Field::kValue, entry));
      }
    }
  }
  for (uint64_t vcpu = 0; vcpu < scene_.vm().vcpus; ++vcpu) {
    stream_.ops.push_back(scene_.AnyRegs(vcpu));
  }
}

void Maker::SetCommon(Op& op) {
  if (op.Has(Field::kVcpu)) {
    op.Set(Field::kVcpu,
           choices_.Below(std::max<uint64_t>(scene_.vm().vcpus, 1)));
  }
  if (op.Has(Field::kGva)) op.Set(Field::kGva, scene_.AnyGva());
  if (op.Has(Field::kType)) {
    op.Set(Field::kType, choices_.Of({0, 0, 0, 1, 1, 1, 2}));
  }
  if (op.Has(Field::kPrivilege)) op.Set(Field::kPrivilege, choices_.Below(2));
  if (op.Has(Field::kSpace) && choices_.Percent(15)) op.Set(Field::kSpace, 1);
  if (op.Has(Field::kHost)) op.Set(Field::kHost, scene_.AnyHost());
  if (op.Has(Field::kPages)) {
    op.Set(Field::kPages, choices_.Of({1, 1, 1, 2, 8, 64}));
  }
}

Op Maker::MakeOp(OpKind kind) {
  Op op(kind);
  SetCommon(op);
  switch (kind) {
    case OpKind::kSlotCreate:
    case OpKind::kSlotDelete:
    case OpKind::kSlotMove:
    case OpKind::kSlotFlags:
      return MakeSlotOp(kind);
    case OpKind::kPte:
    case OpKind::kWrite:
    case OpKind::kCmpxchg:
    case OpKind::kVcpuWrite:
    case OpKind::kVcpuCmpxchg:
    case OpKind::kRead:
      return MakeStore(std::move(op));
    case OpKind::kReclaim:
      return op.Set(Field::kBudget, choices_.Of({1, 1, 2, 4, 100}));
    case OpKind::kInvalidate:
      return op.Set(Field::kStrategy, choices_.Below(2));
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

Op Maker::MakeSlotOp(OpKind kind) {
  const Op& slot = choices_.Of(scene_.slots());
  if (kind == OpKind::kSlotCreate) return slot;
  // The slot that holds the tables goes less often than the others.
  const Op& other = choices_.Percent(50) ? choices_.Of(scene_.slots()) : slot;
  Op op(kind);
  op.Set(Field::kId, other.Get(Field::kId));
  op.Set(Field::kSpace, other.Get(Field::kSpace));
  if (kind == OpKind::kSlotMove) {
    op.Set(Field::kGfn,
           choices_.Percent(50) ? slot.Get(Field::kGfn) : scene_.AnyGfn());
  }
  if (kind == OpKind::kSlotFlags) {
    op.Set(Field::kFlags, choices_.Of({0, 0, 0, 1, 2, 3}));
  }
  return op;
}

Op Maker::MakeRegsRaw(Op op) {
  // Legal registers, with some bits turned round.
  constexpr uint64_t kCr4Bits[] = {4, 5, 7, 12, 17, 20, 21, 22, 24};
  const auto turn = [&](Field field, uint64_t bit) {
    if (!choices_.Percent(30)) return;
    op.Set(field, op.Get(field) ^ uint64_t{1} << bit);
  };
  op.Set(Field::kCr0, 0x8001'0001);
  op.Set(Field::kCr3, choices_.Of(scene_.tables(4)) << kPageShift);
  op.Set(Field::kCr4, 0x20);
  op.Set(Field::kEfer, 0xd00);
  for (const uint64_t bit : {0, 16, 31}) turn(Field::kCr0, bit);
  for (const uint64_t bit : {8, 10, 11}) turn(Field::kEfer, bit);
  turn(Field::kCr4, kCr4Bits[choices_.Below(std::size(kCr4Bits))]);
  turn(Field::kCr3, 3);
  return op;
}

Op Maker::MakeVcpuOp(Op op) {
  switch (op.kind()) {
    case OpKind::kRegs:
      return scene_.AnyRegs(op.Get(Field::kVcpu));
    case OpKind::kRegsRaw:
      return MakeRegsRaw(std::move(op));
    case OpKind::kVcpuCreate:
      return op.Set(Field::kVcpu, choices_.Below(kStreamMaxVcpus));
    case OpKind::kSpace:
      return op.Set(Field::kSpace, choices_.Below(2));
    case OpKind::kStore:
      // Mostly an entry of a table, as a guest edits its tables.
      return op.Set(Field::kValue, choices_.Percent(95)
                                       ? scene_.AnyEntry(AnyLevel())
                                       : choices_.Next());
    default:
      return op;
  }
}

std::vector<uint8_t> Maker::SomeBytes(unsigned level) {
  std::vector<uint8_t> bytes(
      static_cast<size_t>(choices_.Of({0, 1, 2, 4, 8, 8, 8, 8, 16, 24})));
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t entry = scene_.AnyEntry(level);
    for (size_t k = i; k < std::min(i + 8, bytes.size()); ++k) {
      bytes[k] = static_cast<uint8_t>(entry >> (8 * (k - i)));
    }
  }
  return bytes;
}

Op Maker::MakeStore(Op op) {
  const Scene::Place table = scene_.AnyTable();
  const uint64_t index = scene_.AnyIndex();
  if (op.kind() == OpKind::kPte) {
    return op.Set(Field::kTable, table.gfn)
        .Set(Field::kIndex, index)
        .Set(Field::kValue, scene_.AnyEntry(table.level));
  }
  const uint64_t frame = choices_.Percent(60) ? table.gfn : scene_.AnyGfn();
  uint64_t gpa = (frame << kPageShift) + index * 8;
  if (op.Has(Field::kSize)) {
    op.Set(Field::kSize, choices_.Of({8, 8, 8, 4, 2, 1}));
    if (choices_.Percent(10)) gpa += choices_.Below(16);
    if (op.Has(Field::kOld)) {
      op.Set(Field::kOld,
             choices_.Percent(70) ? 0 : scene_.GoodEntry(table.level));
      op.Set(Field::kNew, scene_.AnyEntry(table.level));
    }
  } else {
    // Parts of entries, several of them, and across pages.
    if (choices_.Percent(10)) gpa += choices_.Below(8);
    if (choices_.Percent(8)) gpa = (frame << kPageShift) + 0xff8;
    op.SetBytes(SomeBytes(table.level));
  }
  return op.Set(Field::kGpa, gpa);
}

Op Maker::MakeHostOp(Op op) {
  switch (op.kind()) {
    case OpKind::kHostMap:
      return op.Set(Field::kPages, choices_.Of({1, 8, 64, 1024}));
    case OpKind::kHostRetarget:
      return op.Set(Field::kTo, scene_.AnyHost());
    case OpKind::kHostPte:
      return op.Set(Field::kIndex, scene_.AnyIndex())
          .Set(Field::kValue, choices_.Percent(80)
                                  ? scene_.GoodEntry(AnyLevel())
                                  : scene_.AnyEntry(AnyLevel()));
    case OpKind::kHostWrite:
      op.Set(Field::kOffset, scene_.AnyIndex() * 8);
      if (choices_.Percent(10)) {
        op.Set(Field::kOffset, op.Get(Field::kOffset) + choices_.Below(8));
      }
      return op.SetBytes(SomeBytes(1));
    default:
      return op;
  }
}

}  // namespace

OpStream GenerateStream(uint64_t seed, const SimulatorOptions& options) {
  return Maker(Choices(seed), options).Make();
}

OpStream GenerateStream(std::span<const uint8_t> bytes,
                        const SimulatorOptions& options) {
  return Maker(Choices(bytes), options).Make();
}

}  // namespace shadowmmu::testing
