// ThreadNumber: a number for each thread, in the order in which they ask. Where
// each is to have a cache line of its own, it picks one by this.
//
// Thread safety: any thread.

#ifndef SHADOWMMU_BASE_THREAD_NUMBER_H_
#define SHADOWMMU_BASE_THREAD_NUMBER_H_

#include <atomic>

namespace shadowmmu {

inline unsigned ThreadNumber() {
  static constinit std::atomic<unsigned> next{0};
  thread_local const unsigned number =
      next.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_BASE_THREAD_NUMBER_H_
