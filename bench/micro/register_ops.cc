#include "bench/micro/register_ops.h"

#include "absl/strings/str_cat.h"
#include "bench/micro/options.h"

namespace shadowmmu::bench {

void RegisterDirectOps(const std::string& family,
                       std::span<const NamedOp> ops) {
  for (const NamedOp& op : ops) {
    for (const uint64_t gfns : TheOptions().Sizes()) {
      for (const Order order : {Order::kSequential, Order::kRandom}) {
        RegisterOp(
            absl::StrCat(family, "/", op.name, "/N:", gfns,
                         "/order:", Name(order)),
            [=] { return Layout::Direct(gfns, order); }, Per::kSpte, op.op);
      }
    }
  }
}

}  // namespace shadowmmu::bench
