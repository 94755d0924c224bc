#include "tests/harness/shapes.h"

#include <algorithm>

namespace shadowmmu::testing {

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

// ---- Ops ----

Op Shapes::PteAs(uint64_t table, uint64_t index, uint64_t value) {
  return Op(OpKind::kPte)
      .Set(Field::kTable, table)
      .Set(Field::kIndex, index)
      .Set(Field::kValue, value);
}

Op Shapes::Pte(uint64_t table, uint64_t index, uint64_t target) {
  return PteAs(table, index, target << kPageShift | kEntry);
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

}  // namespace shadowmmu::testing
