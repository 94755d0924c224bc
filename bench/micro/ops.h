// The operations on a populated map that are measured, direct and indirect
// alike. Each is a whole run: it populates, untimed; times the operation; sees
// that it was done; and clears up.
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_OPS_H_
#define SHADOWMMU_BENCH_MICRO_OPS_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "bench/micro/meter.h"
#include "bench/micro/shadow_map.h"

namespace shadowmmu::bench {

// Measures `op` on the layout: all runs in one VM, or each in its own, as the
// options say.
using MapOp = absl::FunctionRef<std::string(ShadowMap& map, Meter& meter)>;
void MeasureOp(benchmark::State& state, const Layout& layout, uint64_t items,
               MapOp op);

// Timed: see ShadowMap::Populate.
std::string PopulateOp(ShadowMap& map, Meter& meter);
// The same over what a release has left stale: chunks, tables, the hash.
std::string RefillOp(ShadowMap& map, Meter& meter);
// Timed: ZapAll, its lock included.
std::string ZapAllOp(ShadowMap& map, Meter& meter);
// Timed: Reclaim without a budget, its lock included. The Bump before it is
// timed by itself: `bump_ns`, which one reading of the clock adds to.
std::string ObsoleteWalkOp(ShadowMap& map, Meter& meter);
// Timed: taking the right to write away from all that maps the layout's gfns, a
// call for each slot's part in one hold of the lock, and the flush.
std::string WriteProtectOp(ShadowMap& map, Meter& meter);
// Timed: AgeRange over the memory of these gfns, a call for each slot's part,
// its lock included.
std::string AgeOp(ShadowMap& map, Meter& meter);

// The order in which sptes go, against that in which they came.
enum class DropOrder : uint8_t { kRandom, kFifo, kLifo };
// "random", "fifo", "lifo".
const char* Name(DropOrder order);
// Timed: dropping each spte by its reference, in one hold of the lock, and one
// flush.
std::string DropOp(ShadowMap& map, DropOrder order, Meter& meter);
// Timed: BeginInvalidation of that memory, which goes gfn by gfn, and drops
// what is on each one's list.
std::string DropByListOp(ShadowMap& map, Meter& meter);

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_OPS_H_
