// Scene: the few places that one simulated stream plays at: guest frames that
// hold tables and data, addresses that lead to them, slots that may come and
// go. Everything is chosen once for a stream, so that its ops meet.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_SCENE_H_
#define SHADOWMMU_TESTS_HARNESS_SCENE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "shadowmmu/address.h"
#include "tests/harness/choices.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

class Scene {
 public:
  explicit Scene(Choices* choices);

  const VmShape& vm() const { return vm_; }
  // The slots that the stream makes (again), as the ops that make them; the
  // first holds the tables.
  const std::vector<Op>& slots() const { return slots_; }

  // The guest's tables of one level: 1 (page tables) to 4 (roots).
  const std::vector<uint64_t>& tables(unsigned level) const {
    return tables_[level - 1];
  }
  // Indices that are used within tables.
  const std::vector<uint64_t>& indices() const { return indices_; }

  // ---- Choices ----
  struct Place {
    unsigned level = 1;
    uint64_t gfn = 0;
  };
  Place AnyTable();
  // Of any kind: data, tables, edges of slots, holes.
  uint64_t AnyGfn();
  uint64_t AnyIndex();
  uint64_t AnyGva();
  // A number of a host frame; mostly one behind a table or data.
  uint64_t AnyHost();
  // An entry for a table of `level`.
  uint64_t AnyEntry(unsigned level);
  // An entry that leads on, as guests have them.
  uint64_t GoodEntry(unsigned level);
  // Two aligned runs of 2 MiB with memory at the same places in them, and where
  // in them: those around the first slot, and around the last.
  struct Twins {
    uint64_t first = 0;
    uint64_t second = 0;
    uint64_t offset = 0;  // pages
  };
  Twins AnyTwins();
  // Registers for a vCPU that lead somewhere, mostly.
  Op AnyRegs(uint64_t vcpu);
  // A number at the edges of what 64 bits hold.
  uint64_t Wild();

 private:
  void ChooseVm();
  void ChooseSlots();
  void ChooseTables();
  void ChooseAddresses();
  void AddSlot(uint64_t id, uint64_t space, uint64_t gfn, uint64_t pages,
               uint64_t host);
  uint64_t Rights();

  Choices& choices_;
  VmShape vm_;
  uint64_t base_ = 0;   // first gfn of the first slot,
  uint64_t pages_ = 0;  // its length,
  uint64_t host_ = 0;   // and its first host frame
  uint64_t twin_ = 0;   // first gfn of the last slot
  std::vector<Op> slots_;
  std::array<std::vector<uint64_t>, 4> tables_;
  std::vector<uint64_t> indices_;
  std::vector<uint64_t> data_;   // gfns that hold no table
  std::vector<uint64_t> edges_;  // first, last and beyond, of slots; holes
  std::vector<uint64_t> gvas_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SCENE_H_
