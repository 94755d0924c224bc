// Srcu: readers never wait and may sleep; a writer waits for them.
//
//   Reader:                              Writer:
//     SrcuReader reader(&srcu);            Table* old = table.exchange(next);
//     Use(*table.load());                  srcu.Synchronize();
//                                          delete old;
//
// Every reader that may have seen what was published before a call of
// Synchronize has left when the call returns.
//
// How: there are two counters, and a selector that says which one new readers
// go to. A reader adds one to the counter it found selected and takes it back
// from the same counter when it leaves. Synchronize does twice: flip the
// selector, wait until the counter that was selected before is zero.
//
// Why it is right:
//
//  1. Safe. The two rounds together watch both counters, and see each at zero
//     at some moment after the call began. A reader that was inside when the
//     call began is in one of them, so it has left. It does not matter how old
//     the selector is that a reader acts on: a reader that read it, slept, and
//     then entered the counter that nobody watches any more is in one of the
//     two all the same, and the next call watches both again. One round would
//     miss that reader; this is why there are two.
//  2. Ordered. Enter, Leave and the zero that Synchronize accepts are all
//     read-modify-writes of one counter, so one of them comes first and the
//     later one synchronises with it. If a reader's Enter comes before the
//     accepted zero, so does its Leave, and all that it read happens before
//     Synchronize returns. If it comes after, what was published before the
//     call happens before its section, and it cannot see what was replaced. A
//     plain load of zero would not do: a reader could enter after it and still
//     see the old value.
//  3. Live. After a flip only readers that hold an old selector still enter the
//     counter that is watched: at most one for each thread that was just
//     entering, so it drains when those that are inside leave.
//
// For speed each counter is spread over stripes, a cache line each, and a
// thread keeps to one stripe. 1 to 3 hold for every stripe by itself, because a
// reader leaves the stripe that it entered.
//
// A reader that does not leave is a bug of its own (of a Host call that never
// returns, say), and would be a silent hang: Synchronize reports it, by the
// name that it entered with, after a second, after two more, four more, and so
// on.
//
// Locking: Enter and Leave take no lock, may be called under any, and nest.
// Synchronize takes a lock of rank kSrcu, so the caller may hold kSlotsUpdate
// and nothing above it; and it must not be inside a section of this Srcu, since
// it would wait for itself.

#ifndef SHADOWMMU_BASE_SRCU_H_
#define SHADOWMMU_BASE_SRCU_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "src/base/lock_rank.h"
#include "src/base/mutex.h"

namespace shadowmmu {

// Who is inside, for a report.
struct SrcuReaderName {
  static constexpr uint32_t kNoVcpu = ~uint32_t{0};
  const char* what = "a reader";  // a literal
  uint32_t vcpu = kNoVcpu;
};

// A wait for readers that takes long.
struct SrcuStall {
  // The one that was the last to enter in the stripe that is waited for. Where
  // more than kStripes threads read, it may be another one of the same stripe.
  SrcuReaderName reader;
  uint64_t readers = 0;  // inside that stripe
  uint64_t milliseconds = 0;
};

class Srcu {
 public:
  using StallReport = absl::FunctionRef<void(const SrcuStall&)>;

  Srcu() = default;
  // No reader may be inside.
  ~Srcu();
  Srcu(const Srcu&) = delete;
  Srcu& operator=(const Srcu&) = delete;

  // Begins a section and returns the ticket that Leave needs. Never waits.
  ABSL_MUST_USE_RESULT int Enter(SrcuReaderName name = {});

  // Ends the section that returned `ticket`; another thread may do it.
  void Leave(int ticket);

  // Waits until every section that was open when the call began has ended.
  // `report` is called while it waits, if that takes long.
  void Synchronize(StallReport report = [](const SrcuStall&) {})
      ABSL_LOCKS_EXCLUDED(update_mutex_);

 private:
  static constexpr int kStripes = 16;

  // Readers inside, by selector. A cache line, so that stripes do not share
  // one.
  struct alignas(64) Stripe {
    std::array<std::atomic<std::uint64_t>, 2> inside{};
    // Of the last that entered. Not one value: they may be of two threads.
    std::atomic<const char*> what{""};
    std::atomic<uint32_t> vcpu{SrcuReaderName::kNoVcpu};
  };
  static_assert(sizeof(Stripe) == 64);

  friend class SrcuTestPeer;

  // Enters the counter `selector`, which the caller read some time ago.
  int EnterSelected(unsigned selector, SrcuReaderName name = {});

  // Waits until each stripe's counter `selector` was seen at zero.
  void WaitForReaders(unsigned selector, StallReport report)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(update_mutex_);

  std::array<Stripe, kStripes> stripes_;
  // Only the lowest bit counts. Read without the lock, flipped under it.
  std::atomic<unsigned> selector_{0};
  // One Synchronize at a time: rounds that overlapped could both watch one
  // counter.
  Mutex update_mutex_{LockRank::kSrcu};
};

// Is inside an Srcu for a scope.
class SrcuReader {
 public:
  explicit SrcuReader(Srcu* srcu, SrcuReaderName name = {})
      : srcu_(srcu), ticket_(srcu->Enter(name)) {}
  ~SrcuReader() { srcu_->Leave(ticket_); }
  SrcuReader(const SrcuReader&) = delete;
  SrcuReader& operator=(const SrcuReader&) = delete;

 private:
  Srcu* const srcu_;
  const int ticket_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_SRCU_H_
