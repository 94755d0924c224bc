// Sweep/<op>/...: how far ahead a walk should ask the cache for what it will
// touch. The distances of src/mmu/rmap_walk.h and src/mmu/removals.h are read
// off here:
//
//   Sweep/write_protect/far:<F>/near:<N>/aliases:<A>   by gfn
//   Sweep/drop/far:<F>/near:<N>/batch:<B>/aliases:<A>  by spte, random order
//
// Figures are per spte.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/ops.h"
#include "bench/micro/options.h"
#include "bench/micro/random.h"
#include "bench/micro/register_ops.h"
#include "bench/micro/registry.h"
#include "src/mmu/removals.h"
#include "src/mmu/rmap_walk.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kDropSeed = 4242;
constexpr uint64_t kAliases[] = {1, 4, 16};

template <uint64_t kFar, uint64_t kNear>
std::string Protect(ShadowMap& map, Meter& meter) {
  map.Populate();
  Vm& vm = map.vm();
  {
    const VmLock held(vm);
    meter.Start();
    vm.slot_table().ForEach([&](const Memslot& slot) {
      vm.lock.AssertHeld();
      ForEachEntry<LookAhead<kFar, kNear>>(
          vm, *slot.rmaps, slot.spec.gfns(), [](std::atomic<uint64_t>& entry) {
            if (!Spte(entry.load(std::memory_order_relaxed)).writable()) return;
            entry.fetch_and(~pte::kWritable, std::memory_order_acq_rel);
          });
    });
    meter.Stop();
  }
  const uint64_t left = map.CountWith(pte::kWritable);
  map.Clear();
  return left == 0 ? "" : absl::StrCat(left, " sptes are writable");
}

template <size_t kFar, size_t kNear, size_t kBatch>
std::string Drop(ShadowMap& map, Meter& meter) {
  map.Populate();
  std::vector<SpteRef> refs = map.Refs();
  Shuffle(refs, kDropSeed);
  Vm& vm = map.vm();
  {
    const VmLock held(vm);
    FlushObligation flush;
    meter.Start();
    DropRefsAhead<kFar, kNear, kBatch>(vm, refs, flush);
    flush.Pay(vm);
    meter.Stop();
  }
  std::string wrong = map.bench().ExpectSptes(0);
  map.Clear();
  return wrong;
}

void RegisterSweep(const std::string& name, Op op) {
  for (const uint64_t aliases : kAliases) {
    const uint64_t sptes =
        std::min(TheOptions().Sizes().back(), uint64_t{1} << 20);
    RegisterOp(
        absl::StrCat("Sweep/", name, "/aliases:", aliases),
        [=] {
          return Layout::Indirect(aliases, sptes / aliases, MapKind::kRandom);
        },
        Per::kSpte, op);
  }
}

template <uint64_t kFar, uint64_t kNear>
void RegisterProtect() {
  RegisterSweep(absl::StrCat("write_protect/far:", kFar, "/near:", kNear),
                Protect<kFar, kNear>);
}

template <size_t kFar, size_t kNear, size_t kBatch>
void RegisterDrop() {
  RegisterSweep(
      absl::StrCat("drop/far:", kFar, "/near:", kNear, "/batch:", kBatch),
      Drop<kFar, kNear, kBatch>);
}

}  // namespace

void RegisterSweeps() {
  RegisterProtect<1, 1>();
  RegisterProtect<4, 2>();
  RegisterProtect<8, 4>();
  RegisterProtect<16, 4>();
  RegisterProtect<16, 8>();
  RegisterProtect<24, 8>();
  RegisterProtect<32, 8>();
  RegisterProtect<32, 16>();
  RegisterProtect<64, 16>();
  RegisterDrop<1, 1, 1>();
  RegisterDrop<8, 4, 16>();
  RegisterDrop<16, 8, 32>();
  RegisterDrop<24, 12, 32>();
  RegisterDrop<24, 12, 64>();
  RegisterDrop<24, 12, 128>();
  RegisterDrop<48, 24, 64>();
}

}  // namespace shadowmmu::bench
