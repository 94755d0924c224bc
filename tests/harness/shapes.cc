#include "tests/harness/shapes.h"

#include <algorithm>

#include "tests/harness/guest_tables.h"

namespace shadowmmu::testing {
namespace {

// As a guest has them that has used them.
constexpr uint64_t kEntry = gpte::kPresent | gpte::kWritable | gpte::kUser |
                            gpte::kAccessed | gpte::kDirty;

Op Pte(uint64_t table, uint64_t index, uint64_t target) {
  return Op(OpKind::kPte)
      .Set(Field::kTable, table)
      .Set(Field::kIndex, index)
      .Set(Field::kValue, target << kPageShift | kEntry);
}

}  // namespace

Shapes::Way Shapes::MakeWay(std::vector<Op>* ops) {
  const uint64_t root = choices_.Of(scene_.tables(4));
  const uint64_t upper = choices_.Of(scene_.tables(3));
  Way way;
  way.vcpu = choices_.Below(std::max<uint64_t>(scene_.vm().vcpus, 1));
  way.directory = choices_.Of(scene_.tables(2));
  way.index = choices_.Of(scene_.indices());
  way.gva = way.index << 21;
  ops->push_back(Pte(root, 0, upper));
  ops->push_back(Pte(upper, 0, way.directory));
  // A second way there makes the direct page outlive a change of the first.
  if (choices_.Percent(30)) {
    ops->push_back(Pte(upper, 1, choices_.Of(scene_.tables(2))));
  }
  ops->push_back(Op(OpKind::kRegs)
                     .Set(Field::kVcpu, way.vcpu)
                     .Set(Field::kMode, mode::kLong)
                     .Set(Field::kCr3, root << kPageShift));
  return way;
}

Op Shapes::Rewrite(const Way& way, uint64_t entry) {
  const Op& slot = scene_.slots().front();
  if (choices_.Percent(20)) {
    return Op(OpKind::kPte)
        .Set(Field::kTable, way.directory)
        .Set(Field::kIndex, way.index)
        .Set(Field::kValue, entry);
  }
  return Op(OpKind::kHostPte)
      .Set(Field::kHost,
           way.directory - slot.Get(Field::kGfn) + slot.Get(Field::kHost))
      .Set(Field::kIndex, way.index)
      .Set(Field::kValue, entry);
}

Op Shapes::Touch(const Way& way, uint64_t page) {
  return Op(OpKind::kTouch)
      .Set(Field::kVcpu, way.vcpu)
      .Set(Field::kGva, way.gva | page << kPageShift)
      .Set(Field::kType, choices_.Below(2));
}

std::vector<Op> Shapes::DirectChild() {
  std::vector<Op> ops;
  const Scene::Twins twins = scene_.AnyTwins();
  const Way way = MakeWay(&ops);
  const uint64_t first = twins.first << kPageShift | kEntry | gpte::kPageSize;
  const uint64_t second = twins.second << kPageShift | kEntry | gpte::kPageSize;
  ops.push_back(Rewrite(way, first));
  ops.push_back(Op(OpKind::kInvlpg)
                    .Set(Field::kVcpu, way.vcpu)
                    .Set(Field::kGva, way.gva));
  ops.push_back(Touch(way, twins.offset));
  const uint64_t touches = 1 + choices_.Below(3);
  const uint64_t dice = choices_.Below(10);
  if (dice < 5) {
    ops.push_back(Rewrite(way, second));
  } else if (dice < 9) {
    // A table at the very gfn of the page.
    for (uint64_t i = 1; i <= touches; ++i) {
      ops.push_back(
          Pte(twins.first, (twins.offset ^ i) & 511, scene_.AnyGfn()));
    }
    ops.push_back(Rewrite(way, twins.first << kPageShift | kEntry));
  } else {
    ops.push_back(Rewrite(way, scene_.GoodEntry(2)));
  }
  for (uint64_t i = 1; i <= touches; ++i) {
    ops.push_back(Touch(way, (twins.offset ^ i) & 511));
  }
  if (choices_.Percent(60)) {
    const Op& slot = choices_.Percent(50) ? scene_.slots().back()
                                          : choices_.Of(scene_.slots());
    ops.push_back(Op(OpKind::kSlotDelete)
                      .Set(Field::kId, slot.Get(Field::kId))
                      .Set(Field::kSpace, slot.Get(Field::kSpace)));
  } else {
    ops.push_back(
        Op(OpKind::kHostUnmap)
            .Set(Field::kHost, scene_.slots().back().Get(Field::kHost))
            .Set(Field::kPages, 8));
  }
  return ops;
}

}  // namespace shadowmmu::testing
