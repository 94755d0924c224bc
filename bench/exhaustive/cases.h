// The cases of the exhaustive permission test: every combination of the bits of
// a guest's last two entries, of the registers, and of one or two accesses,
// each with a number, so that any of them can be picked without a list of them.
//
//   CaseSpace cases(GuestMode::kFourLevel);
//   Case one = cases.At(index);        // index < cases.count()
//
// A case: the guest's tables and registers are as it says, nothing is shadowed;
// then a first access is made (or none), whose shadow entry stays; then the
// access that is judged. EFLAGS.AC and PKRU may differ from the one to the
// other, as a guest may change both without an exit.
//
// Rules (what is no case of its own):
//  1. Of an entry that is not present no other bit counts: all are set.
//  2. PS is in directory entries only, D and the key in leaves only. One
//     reserved bit is tried where the format has one, a key where CR4.PKE makes
//     it count; 4-byte entries have no NX. With EFER.NXE clear NX is one more
//     reserved bit.
//  3. Behind a directory entry that maps a page, or faults, there is one PTE.
//  4. A large page of the guest has memory of 4 KiB pages behind it, or of
//     2 MiB ones; or, once more, of 4 KiB, and between the two accesses the
//     guest changes something ("changed between"): it clears what A and D bits
//     the first one set, and executes INVLPG; and before that there may be one
//     bit of the entry, or of the registers, that is another (Before). The
//     first access is then to another part of the page than the second.
//  5. What counts for nothing in the entries (of the bits above) is set.
//     AC is tried for explicit supervisor data accesses with CR4.SMAP, AD and
//     WD for data accesses with CR4.PKE. Where AC or PKRU counts for nothing,
//     AC is set, and PKRU denies everything. To the keys that the page has not,
//     PKRU always denies everything.
//  6. An implicit access is made at CPL 0 and at CPL 3.
//  7. CR4.PSE is tried with two levels only, CR4.PKE in long mode only.
//
// Numbers: registers change most slowly, then the entries, then the first
// access, then the second.
//
// Thread safety: const after construction.

#ifndef SHADOWMMU_BENCH_EXHAUSTIVE_CASES_H_
#define SHADOWMMU_BENCH_EXHAUSTIVE_CASES_H_

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <vector>

#include "shadowmmu/access.h"
#include "tests/harness/guest_tables.h"

namespace shadowmmu::exhaustive {

using testing::GuestMode;

inline constexpr GuestMode kModes[] = {GuestMode::kTwoLevel, GuestMode::kPae,
                                       GuestMode::kFourLevel,
                                       GuestMode::kFiveLevel};
const char* NameOf(GuestMode mode);

constexpr bool IsLongMode(GuestMode mode) {
  return mode == GuestMode::kFourLevel || mode == GuestMode::kFiveLevel;
}

// What of the registers is tried.
struct RegisterSet {
  bool write_protect = false;
  bool no_execute = false;
  bool smep = false;
  bool smap = false;
  bool keys = false;  // PKE
  bool pse = false;
  friend bool operator==(const RegisterSet&, const RegisterSet&) = default;
};
std::ostream& operator<<(std::ostream& os, const RegisterSet& registers);

// The bits of an entry that are tried, packed; not as the CPU has them.
using EntryBits = uint32_t;
namespace bit {
inline constexpr EntryBits kPresent = 1u << 0;
inline constexpr EntryBits kWritable = 1u << 1;
inline constexpr EntryBits kUser = 1u << 2;
inline constexpr EntryBits kAccessed = 1u << 3;
inline constexpr EntryBits kDirty = 1u << 4;
inline constexpr EntryBits kNoExecute = 1u << 5;
inline constexpr EntryBits kPageSize = 1u << 6;
inline constexpr EntryBits kReserved = 1u << 7;
inline constexpr EntryBits kKey = 1u << 8;  // the other key, not 0
// Rule 4, of large pages.
inline constexpr EntryBits kHost2M = 1u << 9;
inline constexpr EntryBits kChangedBetween = 1u << 10;
inline constexpr EntryBits kEnd = 1u << 11;
}  // namespace bit
// The PTE behind a directory entry that does not lead to it.
inline constexpr EntryBits kAnyPte =
    bit::kPresent | bit::kWritable | bit::kUser | bit::kAccessed | bit::kDirty;

// The guest's last two entries.
struct EntryPair {
  EntryBits pde = 0;
  EntryBits pte = 0;

  // The directory entry maps a page.
  bool large() const { return (pde & bit::kPageSize) != 0; }
  // Of the two, the one that maps the page, if all is well.
  EntryBits leaf() const { return large() ? pde : pte; }
  friend auto operator<=>(const EntryPair&, const EntryPair&) = default;
};

// One access, as far as a case chooses it.
struct AccessShape {
  AccessType type = AccessType::kRead;
  Privilege privilege = Privilege::kUser;
  Implicit implicit = Implicit::kNo;
  bool eflags_ac = true;
  bool access_disable = true;
  bool write_disable = true;
  friend bool operator==(const AccessShape&, const AccessShape&) = default;
};
// `key` is that of the page.
Access ToAccess(const AccessShape& shape, unsigned key);

struct Case {
  GuestMode mode = GuestMode::kFourLevel;
  RegisterSet registers;
  EntryPair entries;
  size_t first = 0;   // 0: none, else 1 + a number of an access
  size_t access = 0;  // a number of an access
  friend bool operator==(const Case&, const Case&) = default;
};

// The accesses that are tried with these registers, at most 64.
std::vector<AccessShape> AccessesWith(const RegisterSet& registers);
// The entries, in order. Of the registers NXE, PKE and PSE count.
std::vector<EntryPair> EntriesWith(GuestMode mode,
                                   const RegisterSet& registers);
// The sets of registers, in order.
std::vector<RegisterSet> RegistersIn(GuestMode mode);

class CaseSpace {
 public:
  // All cases with one set of registers.
  struct Block {
    RegisterSet registers;
    std::vector<AccessShape> accesses;
    std::shared_ptr<const std::vector<EntryPair>> entries;
    uint64_t begin = 0;  // the number of its first case

    // Cases with the same entries.
    uint64_t pairs() const { return accesses.size() * (accesses.size() + 1); }
    uint64_t count() const { return entries->size() * pairs(); }
  };
  // Where a case lies.
  struct Position {
    size_t block = 0;
    size_t entries = 0;
    size_t first = 0;
    size_t access = 0;
  };

  explicit CaseSpace(GuestMode mode);

  GuestMode mode() const { return mode_; }
  uint64_t count() const { return count_; }
  const Block& block(size_t i) const { return blocks_[i]; }
  size_t blocks() const { return blocks_.size(); }

  // Precondition of both: index < count().
  Position Locate(uint64_t index) const;
  Case At(uint64_t index) const;
  // The inverse. Precondition: it is a case of this mode (a CHECK).
  uint64_t IndexOf(const Case& c) const;

 private:
  const GuestMode mode_;
  std::vector<Block> blocks_;
  uint64_t count_ = 0;
};

// What is other at the first access of a case that is changed between. Which it
// is follows from the numbers of the entries and of the access.
enum class Before : uint8_t {
  kNothing,
  kWritable,
  kUser,
  kNoExecuteBit,
  kKey,
  kWriteProtect,
  kNoExecute,
  kSmep,
  kSmap,
  kKeys,
};
inline constexpr size_t kBefores = 10;
const char* NameOf(Before before);
// kNothing where the mode, or what the registers are, has no such bit.
Before BeforeFirst(const CaseSpace& cases, const CaseSpace::Position& at);

// A seeded shard: the i-th of `picked` numbers below `count`, which rise with
// i and are all different. All of them if `picked` is `count`. Precondition:
// i < picked <= count < 2^32.
uint64_t PickedIndex(uint64_t i, uint64_t picked, uint64_t count,
                     uint64_t seed);
// A number that looks random.
uint64_t Mix(uint64_t value);

}  // namespace shadowmmu::exhaustive

#endif  // SHADOWMMU_BENCH_EXHAUSTIVE_CASES_H_
