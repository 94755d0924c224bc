#include "tests/harness/simulator.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/op_maker.h"
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
    {OpKind::kTouch, 320},      {OpKind::kStore, 90},
    {OpKind::kTranslate, 20},   {OpKind::kInvlpg, 25},
    {OpKind::kEvict, 10},       {OpKind::kPte, 110},
    {OpKind::kWrite, 35},       {OpKind::kCmpxchg, 25},
    {OpKind::kVcpuWrite, 15},   {OpKind::kVcpuCmpxchg, 10},
    {OpKind::kRead, 5},         {OpKind::kHostPte, 30},
    {OpKind::kHostWrite, 8},    {OpKind::kNotifyBegin, 14},
    {OpKind::kNotifyEnd, 3},    {OpKind::kHostUnmap, 8},
    {OpKind::kHostMap, 8},      {OpKind::kHostRetarget, 20},
    {OpKind::kHostReadonly, 8}, {OpKind::kAge, 12},
    {OpKind::kTestAge, 4},      {OpKind::kBump, 14},
    {OpKind::kReclaim, 24},     {OpKind::kInvalidate, 8},
    {OpKind::kSlotCreate, 18},  {OpKind::kSlotDelete, 12},
    {OpKind::kSlotMove, 6},     {OpKind::kSlotFlags, 12},
    {OpKind::kVcpuCreate, 12},  {OpKind::kVcpuDestroy, 3},
    {OpKind::kRegs, 36},        {OpKind::kRegsRaw, 4},
    {OpKind::kCr3, 10},         {OpKind::kFeatures, 3},
    {OpKind::kSpace, 8},        {OpKind::kEnter, 40},
    {OpKind::kExit, 12},        {OpKind::kAllocFail, 4},
    {OpKind::kMeanwhile, 16},   {OpKind::kRepeat, 6},
    {OpKind::kInvpcid, 10},     {OpKind::kLimit, 8},
    {OpKind::kDirtyGet, 12},    {OpKind::kNotifySequence, 2},
    {OpKind::kUnshadow, 6}};

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
      if (!Repair() && !Shape()) Add(maker_.Make(ChooseKind()));
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
  // Every op of the stream goes through here.
  void Append(Op op);

  Choices choices_;
  const SimulatorOptions options_;
  Scene scene_;
  Repairs repairs_{&scene_, &choices_};
  Shapes shapes_{&scene_, &choices_};
  OpMaker maker_{&scene_, &choices_};
  OpStream stream_;
  std::vector<Weight> weights_;
  uint64_t weight_ = 0;  // of all
};

void Maker::Append(Op op) {
  maker_.Note(op);
  stream_.ops.push_back(std::move(op));
}

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
  Append(std::move(op));
}

void Maker::TouchAfterInvlpg() {
  const Op& last = stream_.ops.back();
  if (last.kind() != OpKind::kInvlpg && last.kind() != OpKind::kInvpcid) return;
  if (choices_.Percent(40)) return;
  const uint64_t vcpu = last.Get(Field::kVcpu);
  const uint64_t gva = last.Get(Field::kGva);
  Op touch = maker_.Make(OpKind::kTouch);
  touch.Set(Field::kVcpu, vcpu);
  Append(touch.Set(Field::kGva, gva));
}

void Maker::AddMeanwhile() {
  Add(maker_.Make(static_cast<OpKind>(choices_.Of(
      {ToInt(OpKind::kBump), ToInt(OpKind::kBump), ToInt(OpKind::kInvalidate),
       ToInt(OpKind::kReclaim), ToInt(OpKind::kLimit), ToInt(OpKind::kUnshadow),
       ToInt(OpKind::kNotifyBegin), ToInt(OpKind::kHostUnmap),
       ToInt(OpKind::kHostRetarget), ToInt(OpKind::kHostReadonly),
       ToInt(OpKind::kAge), ToInt(OpKind::kDirtyGet)}))));
  if (choices_.Percent(70)) Add(maker_.Make(OpKind::kTouch));
}

bool Maker::Shape() {
  if (!choices_.Percent(2)) return false;
  for (Op& op : shapes_.Any()) Add(std::move(op));
  return true;
}

bool Maker::Repair() {
  std::optional<Op> op = repairs_.Take();
  if (!op) return false;
  Append(*std::move(op));
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
  for (const Scene::Place& place : scene_.Places()) {
    const uint64_t entry = choices_.Percent(93) ? scene_.GoodEntry(place.kind)
                                                : scene_.AnyEntry(place.kind);
    Op op(trapped ? OpKind::kPte : OpKind::kHostPte);
    if (trapped) {
      op.Set(Field::kTable, place.gfn);
    } else {
      op.Set(Field::kHost, scene_.HostOf(place.gfn));
    }
    Append(op.Set(Field::kIndex, place.index).Set(Field::kValue, entry));
  }
  for (uint64_t vcpu = 0; vcpu < scene_.vm().vcpus; ++vcpu) {
    Append(scene_.AnyRegs(vcpu));
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
