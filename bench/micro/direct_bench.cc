// Direct/<op>/N:<N>/order:<seq|rand>: pages without guest tables behind them.
// Figures are per page, which is per spte.

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/micro/ops.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {
namespace {

using Op = std::string (*)(ShadowMap& map, Meter& meter);

constexpr std::pair<const char*, Op> kOps[] = {
    {"populate", PopulateOp},
    {"zap_all", ZapAllOp},
    {"obsolete_walk", ObsoleteWalkOp},
    {"write_protect", WriteProtectOp},
    {"age", AgeOp},
};

void RunDirect(benchmark::State& state, uint64_t gfns, Order order, Op op) {
  const Layout layout = Layout::Direct(gfns, order);
  MeasureOp(state, layout, layout.sptes(), op);
}

}  // namespace

void RegisterDirect() {
  for (const auto& [name, op] : kOps) {
    for (const uint64_t gfns : TheOptions().Sizes()) {
      for (const Order order : {Order::kSequential, Order::kRandom}) {
        Register(
            absl::StrCat("Direct/", name, "/N:", gfns, "/order:", Name(order)),
            [gfns = gfns, order = order, op = op](benchmark::State& s) {
              RunDirect(s, gfns, order, op);
            });
      }
    }
  }
}

}  // namespace shadowmmu::bench
