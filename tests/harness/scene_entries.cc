// The part of the scene that makes entries of tables.
//
// C++ leaves open in which order the parts of an expression are evaluated: no
// expression here makes two choices.

#include "tests/harness/guest_tables.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {
namespace {

unsigned LevelOf(TableKind kind) {
  if (kind == TableKind::kPt32) return 1;
  if (kind == TableKind::kPd32) return 2;
  return static_cast<unsigned>(kind);
}

}  // namespace

uint64_t Scene::Rights(Use use) {
  const bool leaf = use == Use::kLeaf;
  uint64_t bits = gpte::kPresent;
  if (!choices_.Percent(leaf ? 15 : 3)) bits |= gpte::kWritable;
  if (!choices_.Percent(leaf ? 12 : 2)) bits |= gpte::kUser;
  if (choices_.Percent(40)) bits |= gpte::kAccessed;
  if (choices_.Percent(40)) bits |= gpte::kDirty;
  if (choices_.Percent(leaf ? 10 : 1)) bits |= gpte::kNoExecute;
  if (choices_.Percent(5)) bits |= choices_.Below(8) << 9 | gpte::kGlobal;
  if (choices_.Percent(4)) bits |= gpte::kWriteThrough | gpte::kCacheDisable;
  // A protection key in long mode, reserved with PAE.
  if (choices_.Percent(leaf ? 15 : 3)) {
    bits |= choices_.Of({1, 1, 2, 3, 15}) << 59;
  }
  if (choices_.Percent(1)) bits |= choices_.Below(128) << 52;
  return bits;
}

uint64_t Scene::AnyPdpte() {
  const uint64_t target = choices_.Of(tables(2)) << kPageShift;
  const uint64_t entry = target | gpte::kPresent;
  const uint64_t dice = choices_.Below(100);
  if (dice < 82) return entry;
  if (dice < 88) return 0;
  if (dice < 91) return AnyGfn() << kPageShift | gpte::kPresent;
  if (dice < 94) return entry | choices_.Of({0x8, 0x10, 0x18, 0xe00});
  // Reserved bits.
  return entry ^ uint64_t { 1 } << choices_.Of({1, 2, 5, 6, 7, 8, 52, 62, 63});
}

// With no thought of what lies there.
uint64_t Scene::LargeEntry(TableKind kind) {
  const uint64_t gfn = AnyGfn();
  const uint64_t bits = Rights(Use::kLeaf) | gpte::kPageSize;
  if (kind == TableKind::kPd32) {
    // Bits 39:32 of the address in bits 20:13 (PSE-36); bit 21 is reserved.
    uint64_t high = gfn >> 20 & 0xff;
    if (choices_.Percent(10)) high ^= uint64_t{1} << choices_.Below(9);
    return (gfn & 0xffc00) << kPageShift | high << 13 | (bits & 0xfff);
  }
  const uint64_t mask = PagesPerEntry(LevelFromInt(LevelOf(kind))) - 1;
  return (gfn & ~mask) << kPageShift | bits;
}

uint64_t Scene::GoodSmallEntry(TableKind kind) {
  uint64_t target = choices_.Of(data_);
  if (kind == TableKind::kPd32) {
    target = choices_.Percent(50) ? small_table_ : choices_.Of(tables(1));
  }
  const Use use = kind == TableKind::kPd32 ? Use::kWay : Use::kLeaf;
  return (target << kPageShift & 0xffff'f000) | (Rights(use) & 0xfff);
}

uint64_t Scene::AnySmallEntry(TableKind kind) {
  const uint64_t dice = choices_.Below(100);
  if (dice < 8) {
    const uint64_t gfn = AnyGfn() & (kLowFrames - 1);
    return gfn << kPageShift | (Rights(Use::kLeaf) & 0xfff);
  }
  if (dice < 18 && kind == TableKind::kPd32) return LargeEntry(kind);
  const uint64_t entry = GoodSmallEntry(kind);
  if (dice < 94) return entry;
  if (dice < 97) return entry & ~choices_.Of({1, 2, 4, 6, 0x60});
  if (dice < 99) return 0;
  return entry ^ uint64_t { 1 } << choices_.Below(32);
}

uint64_t Scene::GoodEntry(TableKind kind) {
  if (IsSmall(kind)) {
    const uint64_t entry = GoodSmallEntry(kind);
    return entry | GoodSmallEntry(kind) << 32;
  }
  if (kind == TableKind::kPdptes) {
    return choices_.Of(tables(2)) << kPageShift | gpte::kPresent;
  }
  const uint64_t target = kind == TableKind::kPt
                              ? choices_.Of(data_)
                              : choices_.Of(tables(LevelOf(kind) - 1));
  const Use use = kind == TableKind::kPt ? Use::kLeaf : Use::kWay;
  return target << kPageShift | Rights(use);
}

uint64_t Scene::AnyEntry(TableKind kind) {
  if (IsSmall(kind)) {
    const uint64_t entry = AnySmallEntry(kind);
    return entry | AnySmallEntry(kind) << 32;
  }
  if (kind == TableKind::kPdptes) return AnyPdpte();
  const uint64_t dice = choices_.Below(100);
  if (dice < 8 || (dice < 15 && kind == TableKind::kPt)) {
    // A table where data is expected, at the wrong level, or itself.
    const uint64_t gfn = AnyGfn();
    return gfn << kPageShift | Rights(Use::kLeaf);
  }
  // At the upper levels a reserved bit.
  if (dice < (LevelOf(kind) > 3 ? 9 : 15)) return LargeEntry(kind);
  const uint64_t entry = GoodEntry(kind);
  if (dice < 94) return entry;
  if (dice < 97) return entry & ~choices_.Of({1, 2, 4, 6, 0x60});
  if (dice < 99) return 0;
  return entry ^ uint64_t { 1 } << choices_.Below(64);
}

}  // namespace shadowmmu::testing
