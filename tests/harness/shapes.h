// Shapes: short runs of ops in the order in which shadow MMUs have failed,
// which single choices, each for itself, seldom come to.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_SHAPES_H_
#define SHADOWMMU_TESTS_HARNESS_SHAPES_H_

#include <cstdint>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/ops.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {

class Shapes {
 public:
  // Not owned.
  Shapes(Scene* scene, Choices* choices) : scene_(*scene), choices_(*choices) {}

  // A guest's 2 MiB page is split by a direct shadow page; then its directory
  // entry leads elsewhere, to another 2 MiB page or to a table, mostly with no
  // trap; more of it is touched; and mostly what was mapped first loses its
  // slot or its host memory.
  std::vector<Op> DirectChild();

 private:
  // Entries that lead a vCPU from a root to entry `index` of a directory.
  struct Way {
    uint64_t vcpu = 0;
    uint64_t directory = 0;  // gfn
    uint64_t index = 0;
    uint64_t gva = 0;  // what the entry maps
  };
  Way MakeWay(std::vector<Op>* ops);
  Op Rewrite(const Way& way, uint64_t entry);
  Op Touch(const Way& way, uint64_t page);

  Scene& scene_;
  Choices& choices_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SHAPES_H_
