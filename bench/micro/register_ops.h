// Registers operations on a populated map (ops.h): each benchmark makes its
// layout when it runs, and measures one operation on it.

#ifndef SHADOWMMU_BENCH_MICRO_REGISTER_OPS_H_
#define SHADOWMMU_BENCH_MICRO_REGISTER_OPS_H_

#include <cstdint>
#include <span>
#include <string>

#include "bench/micro/layout.h"
#include "bench/micro/ops.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {

using Op = std::string (*)(ShadowMap& map, Meter& meter);

struct NamedOp {
  const char* name;
  Op op;
};

// What figures are of.
enum class Per : uint8_t { kSpte, kGfn };

// `make_layout` returns the Layout.
template <typename MakeLayout>
void RegisterOp(const std::string& name, MakeLayout make_layout, Per per,
                Op op) {
  Register(name, [=](benchmark::State& state) {
    const Layout layout = make_layout();
    const uint64_t items = per == Per::kGfn ? layout.gfns() : layout.sptes();
    MeasureOp(state, layout, items, op);
  });
}

// <family>/<op>/N:<N>/order:<seq|rand>: each on direct page tables, of every
// size that the options ask for.
void RegisterDirectOps(const std::string& family, std::span<const NamedOp> ops);

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_REGISTER_OPS_H_
