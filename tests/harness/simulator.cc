#include "tests/harness/simulator.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {
namespace {

// How often each kind comes, among all. A kind that is not here never does.
struct Weight {
  OpKind kind;
  uint32_t weight;
};
constexpr Weight kWeights[] = {
    {OpKind::kTouch, 320},      {OpKind::kStore, 90},
    {OpKind::kTranslate, 20},   {OpKind::kInvlpg, 25},
    {OpKind::kEvict, 10},       {OpKind::kPte, 110},
    {OpKind::kWrite, 35},       {OpKind::kCmpxchg, 25},
    {OpKind::kVcpuWrite, 15},   {OpKind::kVcpuCmpxchg, 10},
    {OpKind::kRead, 5},         {OpKind::kHostPte, 20},
    {OpKind::kHostWrite, 8},    {OpKind::kNotifyBegin, 14},
    {OpKind::kNotifyEnd, 24},   {OpKind::kHostUnmap, 8},
    {OpKind::kHostMap, 20},     {OpKind::kHostRetarget, 20},
    {OpKind::kHostReadonly, 8}, {OpKind::kAge, 12},
    {OpKind::kTestAge, 4},      {OpKind::kBump, 14},
    {OpKind::kReclaim, 24},     {OpKind::kInvalidate, 8},
    {OpKind::kSlotCreate, 30},  {OpKind::kSlotDelete, 12},
    {OpKind::kSlotMove, 6},     {OpKind::kSlotFlags, 8},
    {OpKind::kVcpuCreate, 12},  {OpKind::kVcpuDestroy, 3},
    {OpKind::kRegs, 16},        {OpKind::kRegsRaw, 4},
    {OpKind::kSpace, 8},        {OpKind::kEnter, 40},
    {OpKind::kExit, 12},        {OpKind::kAllocFail, 4}};

// Slots beyond this many pages take memory in proportion (host.h).
constexpr uint64_t kMostPages = uint64_t{1} << 20;

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
      Add(MakeOp(ChooseKind()));
    }
    return std::move(stream_);
  }

 private:
  void ChooseWeights();
  OpKind ChooseKind();
  void SetScene();
  void Add(Op op);
  Op MakeOp(OpKind kind);
  // Each makes a family of ops.
  Op MakeSlotOp(OpKind kind);
  Op MakeVcpuOp(Op op);
  Op MakeStore(Op op);
  Op MakeHostOp(Op op);
  Op MakeRegs(uint64_t vcpu);
  Op MakeRegsRaw(Op op);
  std::vector<uint8_t> SomeBytes();
  // Sets what every op has that has it.
  void SetCommon(Op& op);

  Choices choices_;
  const SimulatorOptions options_;
  Scene scene_;
  OpStream stream_;
  std::vector<Weight> weights_;
  uint64_t weight_ = 0;    // of all
  std::vector<Op> begun_;  // notify.begin with no end yet
};

void Maker::ChooseWeights() {
  for (Weight weight : kWeights) {
    const bool essential =
        weight.kind == OpKind::kTouch || weight.kind == OpKind::kNotifyEnd;
    if (!essential) weight.weight *= choices_.Of({0, 1, 1, 1, 2, 4});
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
      op.Set(field, value);
    }
  }
  if (op.kind() == OpKind::kNotifyBegin) begun_.push_back(op);
  stream_.ops.push_back(std::move(op));
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
    stream_.ops.push_back(MakeRegs(vcpu));
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

Op Maker::MakeRegs(uint64_t vcpu) {
  Op op(OpKind::kRegs);
  op.Set(Field::kVcpu, vcpu);
  op.Set(Field::kMode, choices_.Percent(88) ? mode::kLong : mode::kOff);
  const uint64_t root =
      choices_.Percent(92) ? choices_.Of(scene_.tables(4)) : scene_.AnyGfn();
  op.Set(Field::kCr3, root << 12);
  return op.Set(Field::kNxe, choices_.Percent(75) ? 1 : 0);
}

Op Maker::MakeRegsRaw(Op op) {
  // Legal registers, with some bits turned round.
  constexpr uint64_t kCr4Bits[] = {4, 5, 7, 12, 17, 20, 21, 22, 24};
  const auto some = [&](uint64_t bit) {
    return choices_.Percent(30) ? uint64_t{1} << bit : 0;
  };
  op.Set(Field::kCr0, 0x8001'0001 ^ some(0) ^ some(16) ^ some(31));
  op.Set(Field::kCr3, choices_.Of(scene_.tables(4)) << 12 | some(3));
  op.Set(Field::kCr4, 0x20 ^ some(kCr4Bits[choices_.Below(9)]));
  return op.Set(Field::kEfer, 0xd00 ^ some(8) ^ some(10) ^ some(11));
}

Op Maker::MakeVcpuOp(Op op) {
  switch (op.kind()) {
    case OpKind::kRegs:
      return MakeRegs(op.Get(Field::kVcpu));
    case OpKind::kRegsRaw:
      return MakeRegsRaw(std::move(op));
    case OpKind::kVcpuCreate:
      return op.Set(Field::kVcpu, choices_.Below(kStreamMaxVcpus));
    case OpKind::kSpace:
      return op.Set(Field::kSpace, choices_.Below(2));
    case OpKind::kStore: {
      // Mostly an entry of a table, as a guest edits its tables.
      const unsigned level = static_cast<unsigned>(1 + choices_.Below(4));
      return op.Set(Field::kValue, choices_.Percent(85) ? scene_.AnyEntry(level)
                                                        : choices_.Next());
    }
    default:
      return op;
  }
}

std::vector<uint8_t> Maker::SomeBytes() {
  std::vector<uint8_t> bytes(
      static_cast<size_t>(choices_.Of({0, 1, 2, 4, 8, 8, 16, 24})));
  const uint64_t entry = choices_.Percent(50) ? 0 : scene_.AnyEntry(1);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(entry >> (8 * (i % 8)));
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
  const uint64_t frame = choices_.Percent(75) ? table.gfn : scene_.AnyGfn();
  uint64_t gpa = (frame << kPageShift) + index * 8;
  if (op.Has(Field::kSize)) {
    op.Set(Field::kSize, choices_.Of({8, 8, 8, 4, 2, 1}));
    if (choices_.Percent(10)) gpa += choices_.Below(16);
    if (op.Has(Field::kOld)) {
      op.Set(Field::kOld, choices_.Percent(70) ? 0 : scene_.GoodEntry(1));
      op.Set(Field::kNew, scene_.AnyEntry(table.level));
    }
  } else {
    // Parts of entries, several of them, and across pages.
    if (choices_.Percent(30)) gpa += choices_.Below(8);
    if (choices_.Percent(8)) gpa = (frame << kPageShift) + 0xff8;
    op.SetBytes(SomeBytes());
  }
  return op.Set(Field::kGpa, gpa);
}

Op Maker::MakeHostOp(Op op) {
  switch (op.kind()) {
    case OpKind::kNotifyEnd: {
      if (begun_.empty() || choices_.Percent(5)) return op;
      const size_t which = static_cast<size_t>(choices_.Below(begun_.size()));
      op.Set(Field::kHost, begun_[which].Get(Field::kHost));
      op.Set(Field::kPages, begun_[which].Get(Field::kPages));
      begun_.erase(begun_.begin() + static_cast<std::ptrdiff_t>(which));
      return op;
    }
    case OpKind::kHostMap:
      return op.Set(Field::kPages, choices_.Of({1, 8, 64, 1024}));
    case OpKind::kHostRetarget:
      return op.Set(Field::kTo, scene_.AnyHost());
    case OpKind::kHostPte:
      return op.Set(Field::kIndex, scene_.AnyIndex())
          .Set(Field::kValue,
               scene_.AnyEntry(static_cast<unsigned>(1 + choices_.Below(4))));
    case OpKind::kHostWrite:
      op.Set(Field::kOffset, scene_.AnyIndex() * 8 + choices_.Below(8));
      return op.SetBytes(SomeBytes());
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
