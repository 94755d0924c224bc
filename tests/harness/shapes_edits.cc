// The shapes in which a guest changes an entry that it has used: one that leads
// to a page, to a table, or to a directory.

#include <algorithm>

#include "shadowmmu/registers.h"
#include "tests/harness/shapes.h"

namespace shadowmmu::testing {

// ---- An entry of a directory ----

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
  if (choices_.Percent(20)) {
    return Op(OpKind::kPte)
        .Set(Field::kTable, way.directory)
        .Set(Field::kIndex, way.index)
        .Set(Field::kValue, entry);
  }
  return Op(OpKind::kHostPte)
      .Set(Field::kHost, scene_.HostOf(way.directory))
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
    ops.push_back(Rewrite(way, scene_.GoodEntry(TableKind::kPd)));
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

// ---- An entry of a page table ----

Op Shapes::Edit(const Path& path, uint64_t window, uint64_t value) {
  const unsigned shift = path.mode == mode::k32Bit ? 13 : kPageShift;
  const uint64_t gva = path.gva ^ (path.table_index ^ window) << shift;
  return Op(OpKind::kStore)
      .Set(Field::kVcpu, path.vcpu)
      .Set(Field::kGva, gva + path.table_index * 8)
      .Set(Field::kValue, value);
}

std::vector<Op> Shapes::EditedTable() {
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, AnyPagedMode(), &ops);
  const uint64_t window = choices_.Of(scene_.indices());
  ops.push_back(Pte(path.table, path.table_index, choices_.Of(scene_.data())));
  ops.push_back(Pte(path.table, window, path.table));
  ops.push_back(RegsFor(path));
  const uint64_t other =
      choices_.Below(std::max<uint64_t>(scene_.vm().vcpus, 1));
  const auto with_vcpu = [&](Op op) {
    return op.Set(Field::kVcpu, choices_.Percent(30) ? other : path.vcpu);
  };
  if (choices_.Percent(50)) {
    ops.push_back(RegsFor(path).Set(Field::kVcpu, other));
  }
  const auto touch = [&] {
    const uint64_t type = choices_.Below(2);
    const uint64_t privilege = choices_.Below(2);
    ops.push_back(with_vcpu(Touch(path, type, privilege)));
  };
  touch();
  const uint64_t rounds = 1 + choices_.Below(4);
  for (uint64_t i = 0; i < rounds; ++i) {
    uint64_t entry = choices_.Of(scene_.data()) << kPageShift | kEntry;
    if (choices_.Percent(30)) entry &= ~(uint64_t{1} << choices_.Below(7));
    ops.push_back(Edit(path, window, entry));
    const uint64_t dice = choices_.Below(12);
    if (dice < 3) {
      ops.push_back(with_vcpu(Op(OpKind::kInvlpg)
                                  .Set(Field::kVcpu, path.vcpu)
                                  .Set(Field::kGva, path.gva)));
    } else if (dice < 6) {
      ops.push_back(with_vcpu(Op(OpKind::kCr3)
                                  .Set(Field::kVcpu, path.vcpu)
                                  .Set(Field::kCr3, path.cr3)));
    } else if (dice < 8) {
      // The table at another place, or away and back.
      ops.push_back(PteAs(path.directory, path.directory_index, 0));
      if (choices_.Percent(50)) ops.push_back(Edit(path, window, entry));
      ops.push_back(Pte(path.directory, path.directory_index, path.table));
    } else if (dice < 9) {
      // The same table one level up.
      ops.push_back(Pte(path.upper, path.directory_index, path.table));
      touch();
    }
    touch();
    if (choices_.Percent(50)) touch();
  }
  return ops;
}

std::vector<Op> Shapes::PcidSwitches() {
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, choices_.Percent(75) ? mode::kLong : mode::kLa57, &ops);
  ops.push_back(Pte(path.table, path.table_index, choices_.Of(scene_.data())));
  uint64_t other = path.cr3;
  if (path.mode == mode::kLong) {
    const uint64_t root = choices_.Of(scene_.tables(4));
    other = root << kPageShift;
    if (choices_.Percent(60)) ops.push_back(Pte(root, 0, path.upper));
  }
  const std::vector<uint64_t> contexts = {path.cr3 | 1, other | 2};
  ops.push_back(
      RegsFor(path).Set(Field::kPcide, 1).Set(Field::kCr3, contexts[0]));
  ops.push_back(Touch(path, kWrite, kUserMode));
  const uint64_t steps = 3 + choices_.Below(6);
  for (uint64_t i = 0; i < steps; ++i) {
    ops.push_back(PcidStep(path, choices_.Of(contexts)));
    const uint64_t type = choices_.Of({kRead, kWrite});
    if (choices_.Percent(75)) ops.push_back(Touch(path, type, kUserMode));
  }
  return ops;
}

// A switch to `context`, a change of the page's entry, or a flush.
Op Shapes::PcidStep(const Path& path, uint64_t context) {
  const uint64_t dice = choices_.Below(10);
  if (dice < 4) {
    const uint64_t keeps = choices_.Percent(75) ? cr3::kNoFlush : 0;
    return Op(OpKind::kCr3)
        .Set(Field::kVcpu, path.vcpu)
        .Set(Field::kCr3, context | keeps);
  }
  if (dice < 7) {
    const Op pte =
        Pte(path.table, path.table_index, choices_.Of(scene_.data()));
    if (choices_.Percent(50)) return pte;
    return Op(OpKind::kHostPte)
        .Set(Field::kHost, scene_.HostOf(path.table))
        .Set(Field::kIndex, pte.Get(Field::kIndex))
        .Set(Field::kValue, pte.Get(Field::kValue));
  }
  if (dice < 8) {
    return Op(OpKind::kInvlpg)
        .Set(Field::kVcpu, path.vcpu)
        .Set(Field::kGva, path.gva);
  }
  return Op(OpKind::kInvpcid)
      .Set(Field::kVcpu, path.vcpu)
      .Set(Field::kInvpcidType, choices_.Of({0, 0, 0, 1, 1, 2, 3}))
      .Set(Field::kPcid, context & cr3::kPcid)
      .Set(Field::kGva, path.gva);
}

// ---- A PDPTE ----

std::vector<Op> Shapes::StalePdpte() {
  if (!scene_.low()) return TwoParents();
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, mode::kPae, &ops);
  ops.push_back(Pte(path.table, path.table_index, choices_.Of(scene_.data())));
  ops.push_back(RegsFor(path));
  ops.push_back(Touch(path, kRead, kUserMode));
  const uint64_t other = choices_.Of(scene_.tables(2)) << kPageShift;
  const uint64_t value =
      choices_.Of({other | gpte::kPresent, other | gpte::kPresent, 0});
  const uint64_t index = (path.cr3 & kPageOffsetMask) / 8;
  Op change = PteAs(path.upper, index, value);
  if (choices_.Percent(30)) {
    change = Op(OpKind::kHostPte)
                 .Set(Field::kHost, scene_.HostOf(path.upper))
                 .Set(Field::kIndex, index)
                 .Set(Field::kValue, value);
  }
  ops.push_back(change);
  if (choices_.Percent(30)) {
    ops.push_back(Op(OpKind::kInvlpg)
                      .Set(Field::kVcpu, path.vcpu)
                      .Set(Field::kGva, path.gva));
  }
  ops.push_back(Touch(path, kWrite, kUserMode));
  // A load of CR3, of another register that loads them, or of one that does
  // not.
  const uint64_t dice = choices_.Below(10);
  if (dice < 5) {
    ops.push_back(Op(OpKind::kCr3)
                      .Set(Field::kVcpu, path.vcpu)
                      .Set(Field::kCr3, path.cr3));
  } else {
    const Field field = dice < 7   ? Field::kPse
                        : dice < 8 ? Field::kSmep
                                   : Field::kWp;
    const Op regs = RegsFor(path);
    ops.push_back(RegsFor(path).Set(field, regs.Get(field) ^ 1));
  }
  ops.push_back(Touch(path, kRead, kUserMode));
  return ops;
}

}  // namespace shadowmmu::testing
