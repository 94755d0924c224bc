#include "bench/micro/layout.h"

#include <numeric>

#include "bench/micro/random.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kOrderSeed = 42;
// Leaf table that both of a direct workload's slots have a part in.
constexpr uint64_t kSharedHalf = kEntriesPerTable / 2;

}  // namespace

const char* Name(Order order) {
  return order == Order::kSequential ? "seq" : "rand";
}

const char* Name(MapKind map) {
  switch (map) {
    case MapKind::kSequential:
      return "seq";
    case MapKind::kRandom:
      return "rand";
    case MapKind::kAlternating:
      break;
  }
  return "alt";
}

Layout Layout::Direct(uint64_t gfns, Order order) {
  SMMU_CHECK_GT(gfns / 2, kSharedHalf) << "two slots do not fit";
  Layout layout(PageKind::kDirect, gfns);
  const uint64_t border = gfns / 2 + kSharedHalf;
  layout.slots_ = {GfnRange{Gfn(0), border},
                   GfnRange{Gfn(border), gfns - border}};
  std::vector<uint32_t> pages(gfns);
  std::iota(pages.begin(), pages.end(), uint32_t{0});
  if (order == Order::kRandom) Shuffle(pages, kOrderSeed);
  layout.entries_.reserve(gfns);
  for (const uint32_t page : pages) layout.entries_.push_back({page, page});
  return layout;
}

Layout Layout::Indirect(uint64_t aliases, uint64_t gfns, MapKind map) {
  SMMU_CHECK_GE(gfns, 2u) << "two slots do not fit";
  Layout layout(PageKind::kIndirect, gfns);
  const uint64_t sptes = aliases * gfns;
  Gfn next(gfns);
  for (Level level = Level::k4K; level <= kRootLevel; level = Above(level)) {
    layout.first_table_[ToInt(level)] = next;
    next += (sptes >> (ToInt(level) * kIndexBits)) + 1;
  }
  layout.slots_ = {GfnRange{Gfn(0), gfns / 2},
                   GfnRange{Gfn(gfns / 2), next.value() - gfns / 2}};
  layout.entries_.reserve(sptes);
  for (uint64_t alias = 0; alias < aliases; ++alias) {
    std::vector<uint32_t> shuffled;
    if (map == MapKind::kRandom) {
      shuffled = Permutation(gfns, kOrderSeed + alias);
    }
    for (uint64_t i = 0; i < gfns; ++i) {
      uint64_t gfn = i;
      if (map == MapKind::kRandom) gfn = shuffled[i];
      if (map == MapKind::kAlternating) {
        gfn = i % 2 == 0 ? i / 2 : gfns / 2 + i / 2;
      }
      layout.entries_.push_back({static_cast<uint32_t>(alias * gfns + i),
                                 static_cast<uint32_t>(gfn)});
    }
  }
  return layout;
}

uint32_t Layout::tables() const {
  uint64_t tables = 0;
  for (Level level = Level::k4K; level <= kRootLevel; level = Above(level)) {
    tables += (sptes() >> (ToInt(level) * kIndexBits)) + 1;
  }
  return static_cast<uint32_t>(tables);
}

}  // namespace shadowmmu::bench
