// FailingNew: makes an allocation fail, of those that the library asks for:
// from operator new, which this executable replaces, and from the Host.
//
//   FailingNew::Arm(3, FailingNew::kForGood);   // the fourth, and all after it
//   ... a call of the library ...
//   if (FailingNew::Disarm()) ...               // whether any failed
//
// Thread safety: what is armed is armed for the calling thread.

#ifndef SHADOWMMU_TESTS_NO_MEMORY_FAILING_NEW_H_
#define SHADOWMMU_TESTS_NO_MEMORY_FAILING_NEW_H_

#include <cstdint>

namespace shadowmmu::testing {

class FailingNew {
 public:
  // Whether memory comes back after the one failure.
  enum Lasting : bool { kOnce, kForGood };

  static void Arm(uint64_t succeed_first, Lasting lasting);
  static bool Disarm();
  // Called for each allocation: whether this one is to fail.
  static bool Fails();
  // Allocations of operator new that were not freed yet.
  static int64_t outstanding();
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_NO_MEMORY_FAILING_NEW_H_
