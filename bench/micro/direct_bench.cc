// Direct/<op>/N:<N>/order:<seq|rand>: pages without guest tables behind them.
// Figures are per page, which is per spte.

#include "bench/micro/ops.h"
#include "bench/micro/register_ops.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {
namespace {

constexpr NamedOp kOps[] = {
    {"populate", PopulateOp},
    {"refill", RefillOp},
    {"zap_all", ZapAllOp},
    {"obsolete_walk", ObsoleteWalkOp},
    {"write_protect", WriteProtectOp},
    {"age", AgeOp},
};

}  // namespace

void RegisterDirect() { RegisterDirectOps("Direct", kOps); }

}  // namespace shadowmmu::bench
