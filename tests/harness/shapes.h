// Shapes: short runs of ops in the order in which shadow MMUs have failed,
// which single choices, each for itself, seldom come to. Those in which a guest
// changes an entry that it has used are in shapes_edits.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_SHAPES_H_
#define SHADOWMMU_TESTS_HARNESS_SHAPES_H_

#include <cstdint>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/guest_tables.h"
#include "tests/harness/ops.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {

class Shapes {
 public:
  // Not owned.
  Shapes(Scene* scene, Choices* choices) : scene_(*scene), choices_(*choices) {}

  // One of those below.
  std::vector<Op> Any();

  // A guest's 2 MiB page is split by a direct shadow page; then its directory
  // entry leads elsewhere, to another 2 MiB page or to a table, mostly with no
  // trap; more of it is touched; and mostly what was mapped first loses its
  // slot or its host memory.
  std::vector<Op> DirectChild();
  // One page that its guest may not write, under CR0.WP clear and set: stores
  // by supervisor and user code, and fetches with CR4.SMEP, in changing order.
  std::vector<Op> WriteProtectGame();
  // Off, 32-bit, PAE, off, long, off, five levels: one vCPU, the same tables
  // where the modes allow it, an access in each.
  std::vector<Op> ModeTour();
  // One table, or directory, under two entries that differ in W or U, reached
  // both ways.
  std::vector<Op> TwoParents();
  // A guest edits a page table through a page of it that it has mapped, as a
  // kernel does, and uses what it edited: at once, after INVLPG, after a CR3
  // load, from another vCPU, or through an entry that it links afterwards.
  std::vector<Op> EditedTable();
  // A PDPTE changes in memory; what was loaded must hold until CR3 is.
  std::vector<Op> StalePdpte();
  // Two contexts with PCIDs, of one table or of two that lead to the same page:
  // switches that flush and that do not, changes of the page's entry, INVLPG
  // and INVPCID in changing order.
  std::vector<Op> PcidSwitches();
  // A slot logs; its pages are written by the guest, by stores that are
  // emulated, and by walks, with gets between them and mostly from inside the
  // guest; then it logs no more.
  std::vector<Op> DirtyLog();

 private:
  // An entry's bits, as a guest has them that has used it.
  static constexpr uint64_t kEntry = gpte::kPresent | gpte::kWritable |
                                     gpte::kUser | gpte::kAccessed |
                                     gpte::kDirty;
  // Of Field::kPrivilege, and of Field::kType.
  static constexpr uint64_t kUserMode = 0, kSupervisorMode = 1;
  static constexpr uint64_t kRead = 0, kWrite = 1, kFetch = 2;

  // The entry becomes `value`, or leads to gfn `target`.
  static Op PteAs(uint64_t table, uint64_t index, uint64_t value);
  static Op Pte(uint64_t table, uint64_t index, uint64_t target);

  // Entries that lead a vCPU from a root to entry `index` of a directory.
  struct Way {
    uint64_t vcpu = 0;
    uint64_t directory = 0;  // gfn
    uint64_t index = 0;
    uint64_t gva = 0;  // what the entry maps
  };
  Way MakeWay(std::vector<Op>* ops);
  // Entries that lead a vCPU in `mode` to the page at `gva`.
  struct Path {
    uint64_t mode = 0;
    uint64_t vcpu = 0;
    uint64_t cr3 = 0;
    uint64_t upper = 0;      // gfn of what leads to the directory
    uint64_t directory = 0;  // gfns
    uint64_t table = 0;
    uint64_t directory_index = 0;  // of 8-byte entries
    uint64_t table_index = 0;
    uint64_t gva = 0;
  };
  // With tables and indices chosen, but for the mode and what hangs on it.
  Path AnyPath();
  // A mode that tables here can serve.
  uint64_t AnyPagedMode();
  // The path in `mode`: the entries down to the directory's, through `ops`.
  void Lay(Path* path, uint64_t mode, std::vector<Op>* ops);
  Op RegsFor(const Path& path);
  Op PcidStep(const Path& path, uint64_t context);
  Op Touch(const Path& path, uint64_t type, uint64_t privilege);
  // A store of the guest into entry `table_index` of its page table, through
  // entry `window`.
  Op Edit(const Path& path, uint64_t window, uint64_t value);
  Op Rewrite(const Way& way, uint64_t entry);
  Op Touch(const Way& way, uint64_t page);

  Scene& scene_;
  Choices& choices_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SHAPES_H_
