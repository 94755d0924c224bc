// fast_fault: a store that only the dirty log keeps from going on. Each harvest
// of the log makes one such fault of each page that is written again, and all
// that is to be done is to mark the page and to set one bit: no guest walk, no
// call of the Host, no page or list is touched.
//
//  1. A leaf that is log-protected would be writable if the slot did not log:
//     the guest's tables allow it, the Host was told (MarkDirty) and has the
//     page writable, and the page is not tracked. Whatever ends one of these
//     takes the entry's bit, or the entry, with it. (Of a slot that became
//     read-only, or INVALID, a moment after: so that is asked.)
//  2. Under the MMU lock held shared nothing is taken away, so the leaf that
//     was found still maps what it did. What may come is tracking of its page,
//     which clears both bits in one step, so that the compare-exchange fails,
//     or clears what it set; and another fault that changes the entry in place,
//     which looks again at what it would take away.
//  3. The page is marked first: that of a writable spte is marked
//     (dirty_bitmap.h).
//  4. Not in an unsync page. Its guest table may say by now that the page is
//     read-only, and a CPU that has had a fault for that must not find the
//     store allowed afterwards. (It may if the table becomes unsync just after
//     the look, and the guest has edited it and had its fault before the entry
//     is set; so it may where a fault goes the long way. The next flush ends
//     it.)
//  5. Whether the access is allowed is not asked: that the entry is writable is
//     right, whoever asked for it. If something else forbids the access, the
//     CPU faults again, and finds no log-protected entry.
//
// Accessed bits need no such fault: every CPU sets them by itself in the
// formats that are written here.
//
// Locking: takes the MMU lock shared, no other.

#ifndef SHADOWMMU_MMU_FAST_FAULT_H_
#define SHADOWMMU_MMU_FAST_FAULT_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/access.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"

namespace shadowmmu {

// Whether a fault may be one: the CPU found the page, and must not write it.
// Not so where no slot has ever logged: copy-on-write looks the same. (Who has
// not seen yet that one does goes the long way.)
inline bool MayBeFastFault(const Vm& vm, const Access& access) {
  constexpr uint32_t kAsked = pf_error::kPresent | pf_error::kWrite |
                              pf_error::kReserved | pf_error::kProtectionKey;
  return vm.has_logged.load(std::memory_order_relaxed) &&
         access.type == AccessType::kWrite && access.reported_error &&
         (*access.reported_error & kAsked) ==
             (pf_error::kPresent | pf_error::kWrite);
}

// True: the store may go on. `gva` is linear. Precondition: it may be one.
bool FastFault(Vm& vm, VcpuState& vcpu, Gva gva) ABSL_LOCKS_EXCLUDED(vm.lock);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_FAST_FAULT_H_
