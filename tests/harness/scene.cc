#include "tests/harness/scene.h"

#include <algorithm>
#include <utility>

#include "tests/harness/guest_tables.h"

namespace shadowmmu::testing {
namespace {

// Tables of each level, page tables first; they lie in the first slot, from its
// second page on.
constexpr uint64_t kTablesOfLevel[] = {3, 2, 2, 2};

uint64_t Canonical(uint64_t gva) {
  return (gva & (uint64_t{1} << 47)) != 0 ? gva | 0xffff'0000'0000'0000 : gva;
}

}  // namespace

Scene::Scene(Choices* choices) : choices_(*choices) {
  ChooseVm();
  ChooseSlots();
  ChooseTables();
  ChooseAddresses();
}

void Scene::ChooseVm() {
  // Large frames are dear to make; now and then only.
  const bool large = choices_.Percent(6);
  vm_.frames = static_cast<uint32_t>(large ? 1024 : choices_.Of({32, 64, 128}));
  vm_.vcpus = static_cast<uint32_t>(
      choices_.Of({1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 0}));
  vm_.tables = static_cast<uint32_t>(choices_.Of({28, 28, 32, 40, 64, 128}));
  vm_.largest = static_cast<uint32_t>(large ? 2 : choices_.Of({1, 2, 3}));
  vm_.bits = static_cast<uint32_t>(choices_.Of({36, 40, 40, 46, 52}));
}

void Scene::AddSlot(uint64_t id, uint64_t space, uint64_t gfn, uint64_t pages,
                    uint64_t host) {
  slots_.push_back(
      Op(OpKind::kSlotCreate)
          .Set(Field::kId, id)
          .Set(Field::kGfn, gfn)
          .Set(Field::kPages, pages)
          .Set(Field::kHost, host)
          .Set(Field::kSpace, space)
          .Set(Field::kFlags, choices_.Percent(6) ? choices_.Below(4) : 0));
  edges_.insert(edges_.end(), {gfn, gfn + pages - 1, gfn + pages});
}

void Scene::ChooseSlots() {
  const uint64_t top = uint64_t{1} << (vm_.bits - kPageShift);
  pages_ = vm_.frames == 1024 ? choices_.Of({512, 1024, 700})
                              : choices_.Of({16, 24, vm_.frames});
  // At the edges of 2 MiB, of 1 GiB, of 4 GiB, of everything.
  base_ =
      choices_.Of({0, 0, 0, 0x1f8, 0x200, 0x3'fff8, 0xf'fff8, top - pages_});
  if (vm_.frames == 1024) base_ = choices_.Of({0, 0x200, 0x1f0});
  host_ = choices_.Percent(70) ? 0 : choices_.Below(vm_.frames);
  if (host_ + pages_ > vm_.frames) host_ = 0;
  AddSlot(0, 0, base_, pages_, host_);
  // A neighbour, with memory of its own or the same.
  const uint64_t gap = choices_.Of({0, 0, 1, 5});
  const uint64_t more = choices_.Of({1, 8, 16, 600});
  AddSlot(1, 0, base_ + pages_ + gap, more, choices_.Below(vm_.frames));
  // The same frames in the other address space: the same memory, or other.
  const uint64_t same = choices_.Percent(75) ? host_ : choices_.Below(8);
  AddSlot(0, 1, base_, pages_, same);
  const uint64_t space = choices_.Below(2);
  const uint64_t host = host_ + choices_.Below(8);
  AddSlot(2, space, base_ + pages_ + gap + more, 4, host);
  // As the first slot, some 2 MiB away: large guest pages of both have memory
  // at the same places.
  const uint64_t away = 16 * PagesPerEntry(Level::k2M);
  twin_ = base_ + away + 8 < top ? base_ + away : base_ - away;
  AddSlot(3, 0, twin_, 8, choices_.Below(vm_.frames));
}

void Scene::ChooseTables() {
  uint64_t next = base_ + 1;
  for (unsigned level = 1; level <= 4; ++level) {
    for (uint64_t i = 0; i < kTablesOfLevel[level - 1]; ++i) {
      tables_[level - 1].push_back(next++);
    }
  }
  for (uint64_t i = 0; i < 5; ++i) data_.push_back(next + i);
  data_.push_back(base_ + pages_ - 1);
  data_.push_back(slots_[1].Get(Field::kGfn));
  edges_.insert(edges_.end(), {base_ - 1, base_ & ~uint64_t{511},
                               (base_ & ~uint64_t{511}) + 511, 0x9999});
}

void Scene::ChooseAddresses() {
  indices_ = {0, choices_.Of({1, 7, 255, 511})};
  if (choices_.Percent(40)) indices_.push_back(choices_.Below(512));
  const uint64_t count = 4 + choices_.Below(10);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t gva = 0;
    for (unsigned level = 0; level < 4; ++level) {
      gva = gva << kIndexBits | choices_.Of(indices_);
    }
    gvas_.push_back(Canonical(gva << kPageShift));
  }
}

Scene::Place Scene::AnyTable() {
  const unsigned level = static_cast<unsigned>(1 + choices_.Below(4));
  return {level, choices_.Of(tables(level))};
}

uint64_t Scene::AnyGfn() {
  const uint64_t dice = choices_.Below(10);
  if (dice < 5) return choices_.Of(data_);
  if (dice < 8) return AnyTable().gfn;
  return choices_.Of(edges_);
}

Scene::Twins Scene::AnyTwins() {
  const uint64_t mask = PagesPerEntry(Level::k2M) - 1;
  Twins twins{base_ & ~mask, twin_ & ~mask, base_ & mask};
  twins.offset = (twins.offset + choices_.Below(8)) & mask;
  if (choices_.Percent(50)) std::swap(twins.first, twins.second);
  return twins;
}

uint64_t Scene::AnyIndex() {
  return choices_.Percent(92) ? choices_.Of(indices_) : choices_.Below(512);
}

uint64_t Scene::AnyGva() {
  uint64_t gva = choices_.Of(gvas_);
  // For a vCPU with paging off: the frames themselves.
  if (choices_.Percent(8)) gva = AnyGfn() << kPageShift;
  if (choices_.Percent(1)) gva ^= uint64_t{1} << choices_.Of({47, 48, 63});
  return gva + choices_.Of({0, 0, 8, 0x123, 0xff8, 0xfff});
}

uint64_t Scene::AnyHost() {
  const uint64_t dice = choices_.Below(20);
  if (dice == 0) return vm_.frames + choices_.Below(4);
  if (dice < 5) return choices_.Below(vm_.frames);
  const uint64_t gfn = dice < 11 ? AnyTable().gfn : choices_.Of(data_);
  return std::min<uint64_t>(gfn - base_ + host_, vm_.frames - 1);
}

uint64_t Scene::Rights() {
  uint64_t bits = gpte::kPresent;
  if (choices_.Percent(96)) bits |= gpte::kWritable;
  if (choices_.Percent(96)) bits |= gpte::kUser;
  if (choices_.Percent(40)) bits |= gpte::kAccessed;
  if (choices_.Percent(40)) bits |= gpte::kDirty;
  if (choices_.Percent(2)) bits |= gpte::kNoExecute;
  if (choices_.Percent(5)) bits |= choices_.Below(8) << 9 | gpte::kGlobal;
  if (choices_.Percent(4)) bits |= gpte::kWriteThrough | gpte::kCacheDisable;
  return bits;
}

// C++ leaves open in which order the parts of an expression are evaluated: no
// expression here makes two choices.
uint64_t Scene::GoodEntry(unsigned level) {
  const uint64_t target =
      level == 1 ? choices_.Of(data_) : choices_.Of(tables(level - 1));
  return target << kPageShift | Rights();
}

uint64_t Scene::AnyEntry(unsigned level) {
  const uint64_t dice = choices_.Below(100);
  if (dice < 15) {
    // A table where data is expected, at the wrong level, or itself; or a large
    // page.
    const uint64_t gfn = AnyGfn();
    const uint64_t rights = Rights();
    if (dice < 8 || level == 1) return gfn << kPageShift | rights;
    const uint64_t mask = PagesPerEntry(LevelFromInt(level)) - 1;
    return (gfn & ~mask) << kPageShift | gpte::kPageSize | rights;
  }
  const uint64_t entry = GoodEntry(level);
  if (dice < 94) return entry;
  if (dice < 97) return entry & ~choices_.Of({1, 2, 4, 6, 0x60});
  if (dice < 99) return 0;
  return entry ^ uint64_t { 1 } << choices_.Below(64);
}

Op Scene::AnyRegs(uint64_t vcpu) {
  Op op(OpKind::kRegs);
  op.Set(Field::kVcpu, vcpu);
  op.Set(Field::kMode, choices_.Percent(90) ? mode::kLong : mode::kOff);
  const uint64_t root =
      choices_.Percent(92) ? choices_.Of(tables(4)) : AnyGfn();
  op.Set(Field::kCr3, root << kPageShift);
  return op.Set(Field::kNxe, choices_.Percent(92) ? 1 : 0);
}

uint64_t Scene::Wild() {
  const uint64_t power = uint64_t{1} << choices_.Below(64);
  return choices_.Of({0, 1, ~uint64_t{0}, power, power - 1, choices_.Next()});
}

}  // namespace shadowmmu::testing
