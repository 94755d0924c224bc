#include "bench/micro/ops.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/micro/options.h"
#include "bench/micro/random.h"
#include "src/base/check.h"
#include "src/mmu/aging.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/notifier.h"
#include "src/mmu/release.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kDropSeed = 4242;

// Populated, or words why not.
std::string MakeReady(ShadowMap& map) {
  map.Populate();
  return map.bench().ExpectSptes(map.layout().sptes());
}

// All sptes are gone; so is everything else, afterwards.
std::string Finish(ShadowMap& map) {
  std::string wrong = map.bench().ExpectSptes(0);
  map.Clear();
  return wrong;
}

// What of each slot is mapped: all but the gfns of guest tables.
std::vector<GfnRange> MappedParts(const ShadowMap& map) {
  const Gfn end(map.layout().gfns());
  std::vector<GfnRange> parts;
  for (const GfnRange& slot : map.layout().slots()) {
    parts.push_back({slot.begin, std::min(slot.end(), end) - slot.begin});
  }
  return parts;
}

HvaRange MemoryOf(GfnRange gfns) {
  return BenchVm::Untouched(SlotId{0}, gfns).hvas();
}

}  // namespace

void MeasureOp(benchmark::State& state, const Layout& layout, uint64_t items,
               MapOp op) {
  struct Mapped {
    explicit Mapped(const Layout& l) : vm(l), map(&l, &vm) {}
    BenchVm vm;
    ShadowMap map;
  };
  std::unique_ptr<Mapped> mapped;
  Measure(state, items, [&](Meter& meter) {
    if (mapped == nullptr || TheOptions().fresh) {
      mapped = std::make_unique<Mapped>(layout);
    }
    return op(mapped->map, meter);
  });
}

std::string PopulateOp(ShadowMap& map, Meter& meter) {
  map.Populate(&meter);
  const auto sptes = static_cast<double>(map.layout().sptes());
  meter.Note("bytes", static_cast<double>(MemoryInUse(map.vm())) / sptes);
  const Stats stats = map.bench().mmu().GetStats();
  meter.Note(
      "held_bytes",
      static_cast<double>(stats.table_bytes + stats.metadata_bytes) / sptes);
  std::string wrong = map.bench().ExpectSptes(map.layout().sptes());
  map.Clear();
  return wrong;
}

std::string RefillOp(ShadowMap& map, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  Release(map.vm());
  map.Populate(&meter);
  std::string wrong = map.bench().ExpectSptes(map.layout().sptes());
  map.Clear();
  return wrong;
}

std::string ZapAllOp(ShadowMap& map, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  meter.Start();
  ZapAll(map.vm());
  meter.Stop();
  if (map.bench().mmu().GetStats().shadow_pages != 0) {
    return "shadow pages outlived zap-all";
  }
  return Finish(map);
}

std::string ObsoleteWalkOp(ShadowMap& map, Meter& meter) {
  using Clock = std::chrono::steady_clock;
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  const uint64_t pages = map.bench().mmu().GetStats().shadow_pages;
  const Clock::time_point before = Clock::now();
  Bump(map.vm());
  const std::chrono::duration<double, std::nano> bump = Clock::now() - before;
  meter.Note("bump_ns", bump.count());
  meter.Start();
  const ReclaimResult result = Reclaim(map.vm(), kNoBudget);
  meter.Stop();
  if (result.pages != pages || result.more) {
    return absl::StrCat("the walk took ", result.pages, " of ", pages,
                        " obsolete pages");
  }
  return Finish(map);
}

std::string WriteProtectOp(ShadowMap& map, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  Vm& vm = map.vm();
  {
    VmLock held(vm);
    FlushObligation flush;
    const std::vector<GfnRange> parts = MappedParts(map);
    meter.Start();
    for (const GfnRange& part : parts) {
      const Memslot* slot =
          vm.slot_table().Find(AddressSpace::kNormal, part.begin);
      WriteProtectRange(vm, *slot->rmaps, part, Protect::kWholly, flush);
    }
    flush.Pay(vm);
    meter.Stop();
  }
  if (const uint64_t left = map.CountWith(pte::kWritable); left != 0) {
    return absl::StrCat(left, " sptes are writable");
  }
  return map.bench().ExpectSptes(map.layout().sptes());
}

std::string AgeOp(ShadowMap& map, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  bool young = false;
  const std::vector<GfnRange> parts = MappedParts(map);
  meter.Start();
  for (const GfnRange& part : parts) {
    young |= AgeRange(map.vm(), MemoryOf(part), Aging::kClear);
  }
  meter.Stop();
  if (!young) return "nothing was young";
  if (const uint64_t left = map.CountWith(pte::kAccessed); left != 0) {
    return absl::StrCat(left, " sptes are still young");
  }
  return map.bench().ExpectSptes(map.layout().sptes());
}

const char* Name(DropOrder order) {
  switch (order) {
    case DropOrder::kRandom:
      return "random";
    case DropOrder::kFifo:
      return "fifo";
    case DropOrder::kLifo:
      break;
  }
  return "lifo";
}

std::string DropOp(ShadowMap& map, DropOrder order, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  std::vector<SpteRef> refs = map.Refs();
  if (order == DropOrder::kRandom) Shuffle(refs, kDropSeed);
  if (order == DropOrder::kLifo) std::reverse(refs.begin(), refs.end());
  Vm& vm = map.vm();
  {
    const VmLock held(vm);
    FlushObligation flush;
    meter.Start();
    DropRefs(vm, refs, flush);
    flush.Pay(vm);
    meter.Stop();
  }
  return Finish(map);
}

std::string DropByListOp(ShadowMap& map, Meter& meter) {
  if (std::string wrong = MakeReady(map); !wrong.empty()) return wrong;
  const std::vector<GfnRange> parts = MappedParts(map);
  meter.Start();
  for (const GfnRange& part : parts) {
    SMMU_CHECK(BeginInvalidation(map.vm(), MemoryOf(part)).ok());
  }
  meter.Stop();
  for (const GfnRange& part : parts) {
    SMMU_CHECK(EndInvalidation(map.vm(), MemoryOf(part)).ok());
  }
  return Finish(map);
}

}  // namespace shadowmmu::bench
