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

// What a table is to the CPU that walks it: of 8-byte entries, page tables
// first; of 4-byte entries; and the four PDPTEs that a CR3 of PAE paging names.
enum class TableKind : uint8_t {
  kPt = 1,
  kPd = 2,
  kPdpt = 3,
  kPml4 = 4,
  kPml5 = 5,
  kPt32,
  kPd32,
  kPdptes,
};
// Frame numbers that 32 bits of address reach.
inline constexpr uint64_t kLowFrames = uint64_t{1} << 20;
constexpr bool IsSmall(TableKind kind) {
  return kind == TableKind::kPt32 || kind == TableKind::kPd32;
}

// One frame serves in several modes: page tables and directories of four levels
// are those of PAE and of five levels, and, as far as their entries fit 32
// bits, of 4-byte entries: 8-byte entry i is there entry 2 * i.
class Scene {
 public:
  explicit Scene(Choices* choices);

  const VmShape& vm() const { return vm_; }
  // The slots that the stream makes (again), as the ops that make them; the
  // first holds the tables.
  const std::vector<Op>& slots() const { return slots_; }

  // The guest's tables of 8-byte entries of one level: 1 (page tables) to 5.
  const std::vector<uint64_t>& tables(unsigned level) const {
    return tables_[level - 1];
  }
  // Indices that are used within tables.
  const std::vector<uint64_t>& indices() const { return indices_; }
  // Can a CR3 of 32 bits name tables here?
  bool low() const { return low_; }
  const std::vector<uint64_t>& data() const { return data_; }

  // ---- Choices ----
  // The 8 bytes at entry `index` of a table; one of 4-byte entries has two
  // there.
  struct Place {
    TableKind kind = TableKind::kPt;
    uint64_t gfn = 0;
    uint64_t index = 0;
  };
  // All that a stream begins with: for each table, those of its indices.
  std::vector<Place> Places() const;
  Place AnyPlace();
  // The first of four PDPTEs, which a CR3 can name.
  Place AnyPdptes();
  // Of any kind: data, tables, edges of slots, holes.
  uint64_t AnyGfn();
  uint64_t AnyIndex();
  // For a vCPU in `mode`, mostly.
  uint64_t AnyGva(uint64_t mode);
  // The host frame behind a gfn of the first slot.
  uint64_t HostOf(uint64_t gfn) const { return gfn - base_ + host_; }
  // A number of a host frame; mostly one behind a table or data.
  uint64_t AnyHost();
  // 8 bytes for a place of `kind`: an entry, or two.
  uint64_t AnyEntry(TableKind kind);
  // That lead on, as guests have them.
  uint64_t GoodEntry(TableKind kind);
  // One entry of 4 bytes.
  uint64_t AnySmallEntry(TableKind kind);
  // For CR3, in `mode`.
  uint64_t AnyRoot(uint64_t mode);
  uint64_t AnyPcid();
  // A PKRU; mostly one that denies nothing.
  uint64_t AnyPkru();
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
  // The same mode, with one bit of the control registers turned round.
  Op Turned(Op regs);
  // A number at the edges of what 64 bits hold.
  uint64_t Wild();

 private:
  void ChooseVm();
  void ChooseSlots();
  void ChooseTables();
  void ChooseAddresses();
  void AddSlot(uint64_t id, uint64_t space, uint64_t gfn, uint64_t pages,
               uint64_t host);
  // Of an entry that maps a page, or of one on the way there.
  enum class Use : uint8_t { kLeaf, kWay };
  uint64_t Rights(Use use);
  uint64_t GoodSmallEntry(TableKind kind);
  uint64_t LargeEntry(TableKind kind);
  uint64_t AnyPdpte();
  uint64_t AnyMode();

  Choices& choices_;
  VmShape vm_;
  uint64_t base_ = 0;   // first gfn of the first slot,
  uint64_t pages_ = 0;  // its length,
  uint64_t host_ = 0;   // and its first host frame
  uint64_t twin_ = 0;   // first gfn of the last slot
  bool low_ = false;
  std::vector<Op> slots_;
  std::array<std::vector<uint64_t>, 5> tables_;
  uint64_t small_table_ = 0;      // a page table of 4-byte entries
  uint64_t small_directory_ = 0;  // and a directory
  std::vector<uint64_t> pdptes_;  // gpas of the runs of four
  std::vector<uint64_t> indices_;
  std::vector<uint64_t> data_;   // gfns that hold no table
  std::vector<uint64_t> edges_;  // first, last and beyond, of slots; holes
  std::array<std::vector<uint64_t>, mode::kModes> gvas_;  // off: none
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SCENE_H_
