// GuestMemory: the only way in which the library touches guest memory, and the
// record of host ranges that are going away.
//
//  1. Guest memory is touched inside a Section only. A section is short, and
//     waits for nothing but a TLB flush under the MMU lock, which whoever
//     blocks a range needs next.
//  2. Block(range) returns when no section is left that may touch the range;
//     from then on, until Unblock, every touch of it is refused as kBlocked.
//  3. Unblock raises the sequence before it lets go of the range: whoever
//     sampled the sequence, then resolved an hva, and still finds the sequence
//     the same and the hva not blocked, has what the host maps now.
//  4. The sequence has 64 bits and never comes round.
//
// Locking: Section, Read, Write, CompareExchange, Blocks: under any lock, or
// none. Block waits for sections: not from inside one, and not under the MMU
// lock.

#ifndef SHADOWMMU_MMU_GUEST_MEMORY_H_
#define SHADOWMMU_MMU_GUEST_MEMORY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "src/base/mutex.h"
#include "src/base/srcu.h"

namespace shadowmmu {

enum class TouchResult : uint8_t {
  kDone,
  kBlocked,      // the host is changing this range: try again later
  kUnavailable,  // the Host refused
};

class GuestMemory {
 public:
  // A section in which guest memory may be touched.
  class Section {
   public:
    explicit Section(GuestMemory& memory) : reader_(&memory.sections_) {}

   private:
    SrcuReader reader_;
  };

  explicit GuestMemory(Host& host) : host_(host) {}

  // Each touches bytes of one page; see Host::TryRead and so on.
  TouchResult Read(const Section&, Hva hva, std::span<std::byte> out);
  TouchResult Write(const Section&, Hva hva, std::span<const std::byte> bytes);
  // `*exchanged` tells whether memory held `*expected`; `*expected` then holds
  // what it held.
  TouchResult CompareExchange(const Section&, Hva hva, unsigned size,
                              uint64_t* expected, uint64_t desired,
                              bool* exchanged);

  // Both take the pages that the range touches. Block cannot fail: a host's
  // notifier has no way to give up. Beyond kMaxRanges at once, everything is
  // blocked until there are fewer; an Unblock of what was never blocked cannot
  // be told from a right one then.
  void Block(HvaRange hvas);
  // InvalidArgument: no such range is blocked.
  absl::Status Unblock(HvaRange hvas);
  bool Blocks(HvaRange hvas) const;

  uint64_t sequence() const {
    return sequence_.load(std::memory_order_seq_cst);
  }
  void SetSequenceForTesting(uint64_t sequence) { sequence_ = sequence; }

 private:
  static constexpr size_t kMaxRanges = 64;
  static HvaRange WholePages(HvaRange hvas);
  bool BlocksSlow(HvaRange hvas) const;

  Host& host_;
  Srcu sections_;
  std::atomic<uint64_t> sequence_{0};
  std::atomic<uint32_t> blocked_count_{0};
  mutable Mutex blocked_lock_{LockRank::kLeaf};
  std::array<HvaRange, kMaxRanges> blocked_ ABSL_GUARDED_BY(blocked_lock_);
  size_t noted_ ABSL_GUARDED_BY(blocked_lock_) = 0;     // of blocked_
  size_t overflow_ ABSL_GUARDED_BY(blocked_lock_) = 0;  // ranges not noted
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_GUEST_MEMORY_H_
