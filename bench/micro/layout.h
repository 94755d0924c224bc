// Layout: what a workload maps, and in which order: the D(N, order) and
// I(A, N, map) of docs/benchmarks.md.
//
//  1. Direct: page v of the address space maps gfn v; two slots, whose border
//     lies in the middle of a leaf table.
//  2. Indirect: page v = a * N + i, for each alias a of A, maps gfn i, or the
//     gfn that `map` puts in its place; so each of N gfns is mapped A times.
//     The guest's tables lie in gfns of their own above N.
//  3. Every spte maps pfn = kFirstPfn + gfn.
//
// Thread safety: immutable once made.

#ifndef SHADOWMMU_BENCH_MICRO_LAYOUT_H_
#define SHADOWMMU_BENCH_MICRO_LAYOUT_H_

#include <array>
#include <cstdint>
#include <vector>

#include "shadowmmu/address.h"
#include "src/mmu/page_role.h"

namespace shadowmmu::bench {

inline constexpr Pfn kFirstPfn{0x1000000};
inline constexpr Level kRootLevel = Level::k512G;

enum class Order : uint8_t { kSequential, kRandom };
enum class MapKind : uint8_t { kSequential, kRandom, kAlternating };
// "seq", "rand", "alt".
const char* Name(Order order);
const char* Name(MapKind map);

class Layout {
 public:
  // One spte: a page of the address space, and the gfn that it maps.
  struct Entry {
    uint32_t page;
    uint32_t gfn;

    Gva gva() const { return Gva(uint64_t{page} << kPageShift); }
  };

  static Layout Direct(uint64_t gfns, Order order);
  static Layout Indirect(uint64_t aliases, uint64_t gfns, MapKind map);

  PageKind kind() const { return kind_; }
  // N: gfns that are mapped, those of guest tables not counted.
  uint64_t gfns() const { return gfns_; }
  uint64_t sptes() const { return entries_.size(); }
  // In the order in which they are added.
  const std::vector<Entry>& entries() const { return entries_; }
  const std::array<GfnRange, 2>& slots() const { return slots_; }

  // The gfn of the shadow page of `level` on the way to `page`: of the guest's
  // table, or the first one that a direct page covers.
  template <PageKind kind>
  Gfn TableGfnOf(uint32_t page, Level level) const {
    if (kind == PageKind::kDirect) return AlignDown(Gfn(page), Above(level));
    return first_table_[ToInt(level)] +
           (uint64_t{page} >> (ToInt(level) * kIndexBits));
  }
  // The same where the kind is not known when it is compiled.
  Gfn TableGfn(uint32_t page, Level level) const {
    return kind_ == PageKind::kDirect
               ? TableGfnOf<PageKind::kDirect>(page, level)
               : TableGfnOf<PageKind::kIndirect>(page, level);
  }
  // Shadow pages that all of it takes at most.
  uint32_t tables() const;

 private:
  Layout(PageKind kind, uint64_t gfns) : kind_(kind), gfns_(gfns) {}

  const PageKind kind_;
  const uint64_t gfns_;
  std::vector<Entry> entries_;
  std::array<GfnRange, 2> slots_;
  std::array<Gfn, ToInt(kRootLevel) + 1> first_table_;  // by level
};

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_LAYOUT_H_
