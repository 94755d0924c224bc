// DirtyLog/<op>/N:<N>/order:<seq|rand>: dirty logging of N pages, all mapped by
// one spte each and writable, in direct page tables. Figures are per page.
//
//   start           SetSlotFlags(kLogDirty) of both slots: the bitmap, the
//                   publication, and write-protecting every spte
//   get_and_clear   GetAndClearDirty of both, with every page dirty
//   stop            SetSlotFlags(kNone) of both: every page table goes, so that
//                   large pages can come

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/ops.h"
#include "bench/micro/register_ops.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

constexpr AddressSpace kSpace = AddressSpace::kNormal;
constexpr SlotId kSlots[] = {SlotId{0}, SlotId{1}};

void SetFlags(ShadowMap& map, SlotFlags flags) {
  for (const SlotId id : kSlots) {
    const absl::Status set = map.bench().mmu().SetSlotFlags(kSpace, id, flags);
    SMMU_CHECK(set.ok()) << set.ToString();
  }
}

// As faults for writing leave it in slots that log.
void PopulateLogged(ShadowMap& map) {
  {
    Vm& vm = map.vm();
    const VmLock held(vm);
    for (uint64_t i = 0; i < map.layout().gfns(); ++i) {
      vm.slot_table().Find(kSpace, Gfn(i))->MarkDirty(Gfn(i));
    }
  }
  map.Populate();
}

std::string ExpectNothingWritable(ShadowMap& map) {
  const uint64_t left = map.CountWith(pte::kWritable);
  return left == 0 ? map.bench().ExpectSptes(map.layout().sptes())
                   : absl::StrCat(left, " sptes are writable");
}

std::string Finish(ShadowMap& map, std::string wrong) {
  SetFlags(map, SlotFlags::kNone);
  map.Clear();
  return wrong;
}

std::string StartOp(ShadowMap& map, Meter& meter) {
  map.Populate();
  meter.Start();
  SetFlags(map, SlotFlags::kLogDirty);
  meter.Stop();
  return Finish(map, ExpectNothingWritable(map));
}

std::string GetAndClearOp(ShadowMap& map, Meter& meter) {
  SetFlags(map, SlotFlags::kLogDirty);
  const std::array<GfnRange, 2>& slots = map.layout().slots();
  const uint64_t most = std::max(slots[0].pages, slots[1].pages);
  std::vector<uint64_t> words(DirtyBitmapWords(most));
  PopulateLogged(map);
  uint64_t pages = 0;
  uint64_t refused = 0;
  for (const SlotId id : kSlots) {
    meter.Start();
    const absl::Status got =
        map.bench().mmu().GetAndClearDirty(kSpace, id, words);
    meter.Stop();
    if (!got.ok()) ++refused;
    for (uint64_t& word : words) {
      pages += static_cast<uint64_t>(std::popcount(word));
      word = 0;
    }
  }
  std::string wrong = ExpectNothingWritable(map);
  if (refused != 0) wrong = "a get was refused";
  if (pages != map.layout().gfns()) {
    wrong = absl::StrCat(pages, " pages were reported");
  }
  return Finish(map, std::move(wrong));
}

std::string StopOp(ShadowMap& map, Meter& meter) {
  SetFlags(map, SlotFlags::kLogDirty);
  PopulateLogged(map);
  std::string wrong = map.bench().ExpectSptes(map.layout().sptes());
  meter.Start();
  SetFlags(map, SlotFlags::kNone);
  meter.Stop();
  // The table that both slots share, and what is cut off, stay.
  const uint64_t left = map.bench().leaf_sptes();
  if (left > 3 * kEntriesPerTable) {
    wrong = absl::StrCat(left, " small sptes are left");
  }
  return Finish(map, std::move(wrong));
}

constexpr NamedOp kOps[] = {
    {"start", StartOp},
    {"get_and_clear", GetAndClearOp},
    {"stop", StopOp},
};

}  // namespace

void RegisterDirtyLog() { RegisterDirectOps("DirtyLog", kOps); }

}  // namespace shadowmmu::bench
