// Repairs: what a simulated stream has damaged, and the ops that put it back.
//
// A stream that only breaks things soon sits in a world where every access ends
// the same way: the slot of the tables is gone, a notifier never ends. So what
// makes much of the world useless is noted, and put back now and then.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_REPAIRS_H_
#define SHADOWMMU_TESTS_HARNESS_REPAIRS_H_

#include <optional>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/ops.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {

class Repairs {
 public:
  // Neither is owned.
  Repairs(Scene* scene, Choices* choices) : scene_(scene), choices_(choices) {}

  // An op of the stream, which may have broken something.
  void Note(const Op& op);
  // One repair, if there is something to repair, now and then.
  std::optional<Op> Take();

 private:
  void NoteSlot(const Op& op);
  void NoteRange(const Op& op, OpKind repair);

  Scene* const scene_;
  Choices* const choices_;
  std::vector<Op> due_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_REPAIRS_H_
