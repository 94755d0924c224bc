#include "src/mmu/dirty_log.h"

#include <algorithm>
#include <bit>
#include <memory>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/mmu/flush.h"
#include "src/mmu/slot_walk.h"
#include "src/mmu/spte_sweep.h"

namespace shadowmmu {
namespace {

// Calls run(first, pages) for each run of bits that are set; `words` begins
// with the bit of page `base`.
template <typename Run>
void ForEachRun(std::span<const uint64_t> words, uint64_t base, Run run) {
  uint64_t pages = 0;  // of the run that ends where we are
  uint64_t at = base;
  for (const uint64_t word : words) {
    for (uint64_t done = 0; done < DirtyBitmap::kPagesPerWord;) {
      const uint64_t rest = word >> done;
      const uint64_t left = DirtyBitmap::kPagesPerWord - done;
      const bool set = (rest & 1) != 0;
      const uint64_t same = std::min<uint64_t>(
          left, static_cast<uint64_t>(set ? std::countr_one(rest)
                                          : std::countr_zero(rest)));
      if (set) pages += same;
      if (!set && pages != 0) {
        run(at - pages, pages);
        pages = 0;
      }
      at += same;
      done += same;
    }
  }
  if (pages != 0) run(at - pages, pages);
}

// The words of `bitmap` that stand for these pages.
std::span<uint64_t> WordsOf(std::span<uint64_t> bitmap, uint64_t first,
                            uint64_t pages) {
  return bitmap.subspan(first / DirtyBitmap::kPagesPerWord,
                        DirtyBitmapWords(pages));
}

// Takes the bits of the slot's pages from `first` on, and the right to write
// from what maps a page whose bit was set.
void TakeBits(Vm& vm, const Memslot& slot, uint64_t first,
              std::span<uint64_t> words, FlushObligation& flush)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = slot.dirty->Take(first / DirtyBitmap::kPagesPerWord + i);
  }
  ForEachRun(words, first, [&](uint64_t page, uint64_t pages) {
    vm.lock.AssertHeld();
    const GfnRange run{slot.spec.base + page, pages};
    WriteProtectRange(vm, *slot.rmaps, run, Protect::kForLog, flush);
  });
}

absl::Status CheckGet(AddressSpace space, SlotId id, const Memslot* slot,
                      size_t words) {
  if (slot == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("id: as ", ToInt(space), " has no slot ", ToInt(id)));
  }
  if (!slot->logs_dirty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "id: slot ", ToInt(id), " of as ", ToInt(space), " does not log"));
  }
  if (words < slot->dirty->words()) {
    return absl::InvalidArgumentError(
        absl::StrCat("bitmap: ", words, " words, for ", slot->spec.pages,
                     " pages that take ", slot->dirty->words()));
  }
  return absl::OkStatus();
}

}  // namespace

void StartDirtyLog(Vm& vm, const Memslot& slot) {
  ForEachStep(
      vm, slot.spec.pages,
      [&](uint64_t first, uint64_t pages, FlushObligation& flush) {
        vm.lock.AssertHeld();
        SplitRange(vm, *slot.rmaps, {slot.spec.base + first, pages}, flush);
        if (first + pages == slot.spec.pages) slot.dirty->Arm();
      });
}

absl::Status GetAndClearDirty(Vm& vm, AddressSpace space, SlotId id,
                              std::span<uint64_t> bitmap) {
  MutexLock update(&vm.slots.update_lock());
  const std::shared_ptr<const Memslot> slot =
      vm.slots.Current().FindById(space, id);
  absl::Status good = CheckGet(space, id, slot.get(), bitmap.size());
  if (!good.ok()) return good;
  ForEachStep(vm, slot->spec.pages,
              [&](uint64_t first, uint64_t pages, FlushObligation& flush) {
                vm.lock.AssertHeld();
                TakeBits(vm, *slot, first, WordsOf(bitmap, first, pages),
                         flush);
              });
  return absl::OkStatus();
}

}  // namespace shadowmmu
