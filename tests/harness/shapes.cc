#include "tests/harness/shapes.h"

#include <algorithm>

#include "shadowmmu/registers.h"
#include "tests/harness/guest_tables.h"

namespace shadowmmu::testing {
namespace {

// As a guest has them that has used them.
constexpr uint64_t kEntry = gpte::kPresent | gpte::kWritable | gpte::kUser |
                            gpte::kAccessed | gpte::kDirty;

constexpr uint64_t kUserMode = 0;
constexpr uint64_t kSupervisorMode = 1;
constexpr uint64_t kRead = 0, kWrite = 1, kFetch = 2;

Op PteAs(uint64_t table, uint64_t index, uint64_t value) {
  return Op(OpKind::kPte)
      .Set(Field::kTable, table)
      .Set(Field::kIndex, index)
      .Set(Field::kValue, value);
}

Op Pte(uint64_t table, uint64_t index, uint64_t target) {
  return PteAs(table, index, target << kPageShift | kEntry);
}

}  // namespace

std::vector<Op> Shapes::Any() {
  const uint64_t dice = choices_.Below(18);
  if (dice >= 16) return PcidSwitches();
  if (dice < 4) return DirectChild();
  if (dice < 6) return WriteProtectGame();
  if (dice < 7) return ModeTour();
  if (dice < 9) return TwoParents();
  if (dice < 13) return EditedTable();
  return dice < 14 ? StalePdpte() : DirtyLog();
}

// ---- Paths ----

Shapes::Path Shapes::AnyPath() {
  Path path;
  path.vcpu = choices_.Below(std::max<uint64_t>(scene_.vm().vcpus, 1));
  path.directory = choices_.Of(scene_.tables(2));
  path.table = choices_.Of(scene_.tables(1));
  path.directory_index = choices_.Of(scene_.indices());
  path.table_index = choices_.Of(scene_.indices());
  return path;
}

uint64_t Shapes::AnyPagedMode() {
  const uint64_t mode = choices_.Of(
      {mode::kLong, mode::kLong, mode::kPae, mode::k32Bit, mode::kLa57});
  const bool narrow = mode == mode::kPae || mode == mode::k32Bit;
  return narrow && !scene_.low() ? mode::kLong : mode;
}

void Shapes::Lay(Path* path, uint64_t mode, std::vector<Op>* ops) {
  path->mode = mode;
  ops->push_back(Pte(path->directory, path->directory_index, path->table));
  path->gva = path->directory_index << 21 | path->table_index << kPageShift;
  if (mode == mode::k32Bit) {
    path->cr3 = path->directory << kPageShift;
    path->upper = path->directory;
    // Entry i of 8 bytes is entry 2 * i of 4.
    path->gva = path->directory_index << 23 | path->table_index << 13;
    return;
  }
  if (mode == mode::kPae) {
    const Scene::Place pdptes = scene_.AnyPdptes();
    path->upper = pdptes.gfn;
    path->cr3 = (pdptes.gfn << kPageShift) + pdptes.index * 8;
    ops->push_back(PteAs(pdptes.gfn, pdptes.index,
                         path->directory << kPageShift | gpte::kPresent));
    return;
  }
  path->upper = choices_.Of(scene_.tables(3));
  uint64_t root = choices_.Of(scene_.tables(4));
  ops->push_back(Pte(path->upper, 0, path->directory));
  ops->push_back(Pte(root, 0, path->upper));
  if (mode == mode::kLa57) {
    const uint64_t top = choices_.Of(scene_.tables(5));
    ops->push_back(Pte(top, 0, root));
    root = top;
  }
  path->cr3 = root << kPageShift;
}

Op Shapes::RegsFor(const Path& path) {
  return Op(OpKind::kRegs)
      .Set(Field::kVcpu, path.vcpu)
      .Set(Field::kMode, path.mode)
      .Set(Field::kCr3, path.cr3)
      .Set(Field::kNxe, 1);
}

Op Shapes::Touch(const Path& path, uint64_t type, uint64_t privilege) {
  return Op(OpKind::kTouch)
      .Set(Field::kVcpu, path.vcpu)
      .Set(Field::kGva, path.gva)
      .Set(Field::kType, type)
      .Set(Field::kPrivilege, privilege);
}

// ---- Shapes ----

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

std::vector<Op> Shapes::WriteProtectGame() {
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, AnyPagedMode(), &ops);
  const uint64_t page = choices_.Of(scene_.data());
  uint64_t rights = kEntry & ~gpte::kWritable;
  if (choices_.Percent(20)) rights &= ~gpte::kDirty;
  if (choices_.Percent(10)) rights &= ~gpte::kUser;
  ops.push_back(
      PteAs(path.table, path.table_index, page << kPageShift | rights));
  const uint64_t smep = choices_.Below(2);
  const auto load = [&](uint64_t protect) {
    ops.push_back(RegsFor(path)
                      .Set(Field::kWp, protect)
                      .Set(Field::kSmep, choices_.Percent(80) ? smep : !smep));
  };
  const auto touches = [&] {
    const uint64_t count = 1 + choices_.Below(4);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t type = choices_.Of({kRead, kWrite, kWrite, kFetch});
      ops.push_back(Touch(path, type, choices_.Below(2)));
    }
  };
  load(0);
  ops.push_back(Touch(path, kWrite, kSupervisorMode));
  if (choices_.Percent(70)) ops.push_back(Touch(path, kRead, kUserMode));
  touches();
  load(1);
  ops.push_back(Touch(path, kWrite, kSupervisorMode));
  ops.push_back(Touch(path, kWrite, kUserMode));
  touches();
  load(choices_.Below(2));
  touches();
  return ops;
}

std::vector<Op> Shapes::ModeTour() {
  std::vector<Op> ops;
  Path path = AnyPath();
  const uint64_t page = choices_.Of(scene_.data());
  ops.push_back(Pte(path.table, path.table_index, page));
  for (const uint64_t mode : {mode::kOff, mode::k32Bit, mode::kPae, mode::kOff,
                              mode::kLong, mode::kOff, mode::kLa57}) {
    if (mode == mode::kOff) {
      path.mode = mode;
      path.gva = page << kPageShift;
    } else {
      Lay(&path, mode, &ops);
    }
    ops.push_back(RegsFor(path));
    const uint64_t type = choices_.Below(3);
    ops.push_back(Touch(path, type, choices_.Below(2)));
    if (choices_.Percent(30)) ops.push_back(Touch(path, kWrite, kUserMode));
  }
  return ops;
}

std::vector<Op> Shapes::TwoParents() {
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, AnyPagedMode(), &ops);
  ops.push_back(Pte(path.table, path.table_index, choices_.Of(scene_.data())));
  Path other = path;
  const uint64_t less = kEntry & ~choices_.Of({gpte::kWritable, gpte::kUser,
                                               gpte::kWritable | gpte::kUser});
  const bool long_mode = path.mode == mode::kLong || path.mode == mode::kLa57;
  if (long_mode && choices_.Percent(50)) {
    // The directory under another entry of what is above it.
    ops.push_back(PteAs(path.upper, 1, path.directory << kPageShift | less));
    other.gva = path.gva | uint64_t{1} << 30;
  } else {
    other.directory_index = path.directory_index ^ 1;
    ops.push_back(PteAs(path.directory, other.directory_index,
                        path.table << kPageShift | less));
    other.gva = path.gva ^ (path.mode == mode::k32Bit ? uint64_t{1} << 23
                                                      : uint64_t{1} << 21);
  }
  ops.push_back(RegsFor(path).Set(Field::kWp, choices_.Percent(75) ? 1 : 0));
  const uint64_t count = 3 + choices_.Below(4);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t type = choices_.Of({kRead, kWrite, kWrite, kFetch});
    const Path& way = choices_.Percent(50) ? path : other;
    ops.push_back(Touch(way, type, choices_.Of({0, 0, 1})));
  }
  return ops;
}

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

std::vector<Op> Shapes::DirtyLog() {
  std::vector<Op> ops;
  Path path = AnyPath();
  Lay(&path, AnyPagedMode(), &ops);
  const uint64_t page = choices_.Of(scene_.data());
  // The guest's page may be a large one.
  const uint64_t entry = page << kPageShift | kEntry;
  if (choices_.Percent(30)) {
    ops.push_back(PteAs(path.directory, path.directory_index,
                        (entry & ~uint64_t{0x1f'f000}) | gpte::kPageSize));
    path.gva += (page & 511) << kPageShift;
    path.gva -= path.mode == mode::k32Bit ? path.table_index << 13
                                          : path.table_index << kPageShift;
  } else {
    ops.push_back(PteAs(path.table, path.table_index, entry));
  }
  ops.push_back(RegsFor(path));
  const auto flags = [&](uint64_t value) {
    // The first slot, which holds the tables and most of the data.
    ops.push_back(
        Op(OpKind::kSlotFlags).Set(Field::kId, 0).Set(Field::kFlags, value));
  };
  if (choices_.Percent(60)) ops.push_back(Touch(path, kWrite, kUserMode));
  if (choices_.Percent(60)) {
    ops.push_back(Op(OpKind::kEnter).Set(Field::kVcpu, path.vcpu));
  }
  flags(2);
  const uint64_t count = 2 + choices_.Below(5);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t dice = choices_.Below(10);
    if (dice < 4) {
      ops.push_back(Op(OpKind::kDirtyGet).Set(Field::kId, 0));
    } else if (dice < 9) {
      ops.push_back(Touch(path, choices_.Of({kRead, kWrite, kWrite}), 0));
    } else {
      ops.push_back(Op(OpKind::kWrite)
                        .Set(Field::kGpa, page << kPageShift)
                        .SetBytes({0xa5, 0x5a}));
    }
  }
  ops.push_back(Op(OpKind::kDirtyGet).Set(Field::kId, 0));
  if (choices_.Percent(70)) flags(0);
  ops.push_back(Touch(path, kWrite, kUserMode));
  return ops;
}

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

}  // namespace shadowmmu::testing
