#include "tests/harness/scene.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "shadowmmu/registers.h"
#include "tests/harness/guest_tables.h"

namespace shadowmmu::testing {
namespace {

// Tables of 8-byte entries of each level, page tables first.
constexpr uint64_t kTablesOfLevel[] = {3, 2, 2, 2, 1};
// Entry indices at which four PDPTEs begin.
constexpr uint64_t kPdptesInSmall = 64;
constexpr uint64_t kPdptesInPdpt = 504;

uint64_t SignExtend(uint64_t gva, unsigned bits) {
  const uint64_t sign = uint64_t{1} << (bits - 1);
  return ((gva & (sign | (sign - 1))) ^ sign) - sign;
}

}  // namespace

Scene::Scene(Choices* choices) : choices_(*choices) {
  ChooseVm();
  ChooseSlots();
  ChooseTables();
  ChooseAddresses();
}

// C++ leaves open in which order the parts of an expression are evaluated: no
// expression here makes two choices.
void Scene::ChooseVm() {
  // Large frames are dear to make; now and then only.
  const bool large = choices_.Percent(6);
  vm_.frames = static_cast<uint32_t>(large ? 1024 : choices_.Of({32, 64, 128}));
  vm_.vcpus = static_cast<uint32_t>(
      choices_.Of({1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 0}));
  vm_.tables = static_cast<uint32_t>(choices_.Of({28, 28, 32, 40, 64, 128}));
  vm_.largest = static_cast<uint32_t>(large ? 2 : choices_.Of({1, 2, 3}));
  vm_.bits = static_cast<uint32_t>(choices_.Of({36, 40, 40, 46, 52}));
  vm_.roots = static_cast<uint32_t>(choices_.Of({3, 3, 3, 2, 1, 0}));
  vm_.unsync = static_cast<uint32_t>(choices_.Of({1, 1, 1, 1, 0}));
  vm_.flood = static_cast<uint32_t>(choices_.Of({3, 3, 2, 1, 0, 0}));
  vm_.prefetch = static_cast<uint32_t>(choices_.Of({0, 0, 0, 0, 8, 8, 64}));
  vm_.ones = static_cast<uint32_t>(choices_.Of({0, 0, 1}));
}

void Scene::AddSlot(uint64_t id, uint64_t space, uint64_t gfn, uint64_t pages,
                    uint64_t host) {
  const uint64_t dice = choices_.Below(100);
  const uint64_t flags = dice < 6 ? choices_.Below(4) : dice < 18 ? 2 : 0;
  slots_.push_back(Op(OpKind::kSlotCreate)
                       .Set(Field::kId, id)
                       .Set(Field::kGfn, gfn)
                       .Set(Field::kPages, pages)
                       .Set(Field::kHost, host)
                       .Set(Field::kSpace, space)
                       .Set(Field::kFlags, flags));
  edges_.insert(edges_.end(), {gfn, gfn + pages - 1, gfn + pages});
}

void Scene::ChooseSlots() {
  const uint64_t top = uint64_t{1} << (vm_.bits - kPageShift);
  pages_ = vm_.frames == 1024 ? choices_.Of({512, 1024, 700})
                              : choices_.Of({20, 24, vm_.frames});
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

// In the first slot, from its second page on; those that 32 bits must reach
// come first.
void Scene::ChooseTables() {
  uint64_t next = base_ + 1;
  for (unsigned level = 1; level <= 5; ++level) {
    if (level == 3) {
      small_table_ = next++;
      small_directory_ = next++;
      low_ = next <= kLowFrames;
    }
    for (uint64_t i = 0; i < kTablesOfLevel[level - 1]; ++i) {
      tables_[level - 1].push_back(next++);
    }
  }
  pdptes_ = {(small_directory_ << kPageShift) + kPdptesInSmall * 8,
             (tables(3).front() << kPageShift) + kPdptesInPdpt * 8};
  for (uint64_t i = 0; i < 5; ++i) data_.push_back(next + i);
  data_.push_back(base_ + pages_ - 1);
  const uint64_t neighbour = slots_[1].Get(Field::kGfn);
  if (neighbour >> (vm_.bits - kPageShift) == 0) data_.push_back(neighbour);
  if (base_ != 0) edges_.push_back(base_ - 1);
  edges_.insert(edges_.end(), {base_ & ~uint64_t{511},
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
    gvas_[mode::kLong].push_back(SignExtend(gva << kPageShift, 48));
    gva |= choices_.Of(indices_) << (4 * kIndexBits);
    gvas_[mode::kLa57].push_back(SignExtend(gva << kPageShift, 57));
  }
  for (uint64_t i = 0; i < 6; ++i) {
    uint64_t gva = choices_.Of({0, 0, 0, 1, 2, 3});
    gva = gva << kIndexBits | choices_.Of(indices_);
    gva = gva << kIndexBits | choices_.Of(indices_);
    gvas_[mode::kPae].push_back(gva << kPageShift);
    uint64_t small = choices_.Of(indices_) * 2;
    if (choices_.Percent(8)) ++small;
    small = small << 10 | choices_.Of(indices_) * 2;
    if (choices_.Percent(8)) ++small;
    gvas_[mode::k32Bit].push_back(small << kPageShift);
  }
}

std::vector<Scene::Place> Scene::Places() const {
  std::vector<Place> places;
  const auto add = [&](TableKind kind, uint64_t gfn) {
    for (const uint64_t index : indices_) places.push_back({kind, gfn, index});
  };
  for (unsigned level = 1; level <= 5; ++level) {
    for (const uint64_t table : tables(level)) {
      add(static_cast<TableKind>(level), table);
    }
  }
  add(TableKind::kPt32, small_table_);
  add(TableKind::kPd32, small_directory_);
  for (const uint64_t run : pdptes_) {
    for (uint64_t i = 0; i < 4; ++i) {
      places.push_back({TableKind::kPdptes, run >> kPageShift,
                        (run & kPageOffsetMask) / 8 + i});
    }
  }
  return places;
}

Scene::Place Scene::AnyPdptes() {
  uint64_t run = choices_.Of(pdptes_);
  if (run >> kPageShift >= kLowFrames) run = pdptes_.front();
  return {TableKind::kPdptes, run >> kPageShift, (run & kPageOffsetMask) / 8};
}

Scene::Place Scene::AnyPlace() {
  const uint64_t dice = choices_.Below(100);
  Place place;
  if (dice < 8) {
    place = AnyPdptes();
    place.index += choices_.Below(4);
    return place;
  }
  place.index = AnyIndex();
  if (dice < 24) {
    place.kind = dice < 15 ? TableKind::kPt32 : TableKind::kPd32;
    place.gfn = dice < 15 ? small_table_ : small_directory_;
    return place;
  }
  const unsigned level = dice < 50   ? 1
                         : dice < 70 ? 2
                         : dice < 82 ? 3
                         : dice < 93 ? 4
                                     : 5;
  place.kind = static_cast<TableKind>(level);
  place.gfn = choices_.Of(tables(level));
  return place;
}

uint64_t Scene::AnyGfn() {
  const uint64_t dice = choices_.Below(10);
  if (dice < 5) return choices_.Of(data_);
  if (dice < 8) return AnyPlace().gfn;
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

uint64_t Scene::AnyGva(uint64_t mode) {
  const uint64_t dice = choices_.Below(100);
  if (dice < 2) {
    // The lowest and the highest of each mode, and what is not canonical.
    return choices_.Of(
        {0xfff, 0xffff'f000, 0xffff'ffff, 0x1'0000'0000, 0x7fff'ffff'f000,
         0x8000'0000'0000, 0xffff'7fff'ffff'ffff, 0xffff'8000'0000'0000,
         0xff'ffff'ffff'f000, 0x100'0000'0000'0000, 0xfeff'ffff'ffff'ffff,
         0xff00'0000'0000'0000, 0xffff'ffff'ffff'f000, 0xffff'ffff'ffff'ffff});
  }
  const std::vector<uint64_t>& gvas =
      gvas_[dice < 10 ? choices_.Below(mode::kModes) : mode];
  uint64_t gva = 0;
  if (dice >= 4 && !gvas.empty()) {
    gva = choices_.Of(gvas);
  } else {
    // With paging off: the frames themselves.
    const uint64_t gfn = choices_.Percent(50) ? choices_.Of(data_) : AnyGfn();
    gva = gfn << kPageShift;
  }
  if (choices_.Percent(1)) {
    gva ^= uint64_t{1} << choices_.Of({31, 32, 47, 48, 56, 57, 63});
  }
  return gva + choices_.Of({0, 0, 8, 0x123, 0xff8, 0xfff});
}

uint64_t Scene::AnyHost() {
  const uint64_t dice = choices_.Below(20);
  if (dice == 0) return vm_.frames + choices_.Below(4);
  if (dice < 5) return choices_.Below(vm_.frames);
  const uint64_t gfn = dice < 11 ? AnyPlace().gfn : choices_.Of(data_);
  return std::min<uint64_t>(HostOf(gfn), vm_.frames - 1);
}

// ---- Registers ----

uint64_t Scene::AnyMode() {
  const uint64_t dice = choices_.Below(100);
  if (dice < 45) return mode::kLong;
  if (dice < 57) return mode::kLa57;
  if (dice >= 87) return mode::kOff;
  // Where the tables lie too high, mostly not.
  if (!low_ && !choices_.Percent(10)) return mode::kLong;
  return dice < 72 ? mode::kPae : mode::k32Bit;
}

uint64_t Scene::AnyRoot(uint64_t mode) {
  uint64_t root = 0;
  if (choices_.Percent(3)) {
    root = AnyGfn() << kPageShift;
  } else if (mode == mode::kPae) {
    const Place first = AnyPdptes();
    root = (first.gfn << kPageShift) + first.index * 8;
  } else if (mode == mode::k32Bit) {
    root = choices_.Percent(50) ? small_directory_ : choices_.Of(tables(2));
    root <<= kPageShift;
  } else {
    root = choices_.Of(tables(mode == mode::kLa57 ? 5 : 4)) << kPageShift;
  }
  if (choices_.Percent(4)) root |= choices_.Of({8, 16, 24});
  return root;
}

Op Scene::AnyRegs(uint64_t vcpu) {
  Op op(OpKind::kRegs);
  const uint64_t mode = AnyMode();
  op.Set(Field::kVcpu, vcpu).Set(Field::kMode, mode);
  op.Set(Field::kCr3, AnyRoot(mode));
  op.Set(Field::kNxe, choices_.Percent(75) ? 1 : 0);
  op.Set(Field::kWp, choices_.Percent(75) ? 1 : 0);
  op.Set(Field::kSmep, choices_.Percent(28) ? 1 : 0);
  op.Set(Field::kSmap, choices_.Percent(25) ? 1 : 0);
  op.Set(Field::kPke, choices_.Percent(28) ? 1 : 0);
  op.Set(Field::kPse, choices_.Percent(80) ? 1 : 0);
  const bool pcids = mode == mode::kLong || mode == mode::kLa57;
  if (choices_.Percent(pcids ? 45 : 1)) {
    op.Set(Field::kPcide, 1);
    op.Set(Field::kCr3, (op.Get(Field::kCr3) & ~cr3::kPcid) | AnyPcid());
  }
  return op;
}

// Few, so that they come again.
uint64_t Scene::AnyPcid() { return choices_.Of({0, 1, 1, 2, 2, 0xfff}); }

Op Scene::Turned(Op regs) {
  constexpr Field kBits[] = {Field::kWp,   Field::kWp,   Field::kSmep,
                             Field::kSmap, Field::kPke,  Field::kNxe,
                             Field::kPse,  Field::kPcide};
  Field field = kBits[choices_.Below(std::size(kBits))];
  const uint64_t mode = regs.Get(Field::kMode) % mode::kModes;
  const bool pcids = mode == mode::kLong || mode == mode::kLa57;
  if (field == Field::kPcide && !pcids) field = Field::kWp;
  return regs.Set(field, regs.Get(field) % 2 ^ 1);
}

uint64_t Scene::AnyPkru() {
  const uint64_t dice = choices_.Below(100);
  if (dice < 60) return 0;
  if (dice < 75) return 0x5555'5554;  // as Linux starts with
  if (dice < 85) return 0xc;
  if (dice < 92) return 0xaaaa'aaa8;
  return choices_.Next() & 0xffff'ffff;
}

uint64_t Scene::Wild() {
  const uint64_t power = uint64_t{1} << choices_.Below(64);
  return choices_.Of({0, 1, ~uint64_t{0}, power, power - 1, choices_.Next()});
}

}  // namespace shadowmmu::testing
