// The two counters that decide which shadow pages count.
//
//  1. Both are 64 bits wide, begin at 1, and never come round.
//  2. mmu_valid_gen tags shadow pages: a page of another value is obsolete. No
//     lookup returns it, and the obsolete walk takes it.
//  3. arena_epoch tags what only a release of the whole arena orphans
//     (release.h): chunks, GiB records, counts of a slot, lines of the hash,
//     handles. It is not mmu_valid_gen: while the obsolete walk runs, one chunk
//     rightly holds sptes of obsolete and of current pages. A release raises
//     both.
//
// (The memslot generation is a third counter: SlotTable::generation.)
//
// Locking: the MMU lock.

#ifndef SHADOWMMU_MMU_GENERATION_H_
#define SHADOWMMU_MMU_GENERATION_H_

#include <cstdint>

namespace shadowmmu {

struct Generations {
  uint64_t mmu_valid_gen = 1;
  uint64_t arena_epoch = 1;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GENERATION_H_
