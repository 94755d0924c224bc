// Checker: runs cases, and holds what comes of each against the oracle.
//
//   Checker checker(&cases, {});
//   for (uint64_t i = 0; i < cases.count(); ++i) checker.Run(i);
//   checker.totals().differences  // must be 0
//
// What must agree:
//  1. The first access and the access itself: fault or success, CR2 and error
//     code, the place in host memory, and A and D in the guest's two entries.
//  2. Once the access is over, the walking CPU, as its registers and the shadow
//     tables are then, grants no access of AccessesWith that the oracle denies,
//     and grants one that was let through just now. What it grants, it grants
//     only where the guest's A bits are set, and for a write its D bit.
//  3. Not counted as a difference, but by itself: a supervisor data access that
//     nothing but SMAP or a protection key denies goes through, or is granted,
//     by a fix-up: the guest has CR0.WP clear, an access of this case was an
//     allowed write that the oracle denies with WP set, and the shadow entry is
//     a supervisor one. What it leads to must be right all the same. No user
//     access is excused, nor any fetch, nor anything else.
//
// How it is fast: what the oracle says of the accesses of one pair of entries
// is asked for once each; every 128th case asks again, with the tables as they
// are then. Most accesses of the CPU are looks at the shadow tables
// (CpuModel::Peek); every 64th case runs the CPU with its TLB instead. Which
// those are follows from the number of the case.
//
// Any order of cases gives the same results; numbers that rise are fastest.
//
// Thread safety: one thread at a time per object.

#ifndef SHADOWMMU_BENCH_EXHAUSTIVE_CHECK_H_
#define SHADOWMMU_BENCH_EXHAUSTIVE_CHECK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "bench/exhaustive/cases.h"
#include "bench/exhaustive/world.h"

namespace shadowmmu::exhaustive {

// Why an access that went through is none the oracle allows (rule 3).
enum class Inexact : uint8_t { kSmap, kKey, kBoth };
inline constexpr size_t kInexactKinds = 3;

struct Totals {
  uint64_t cases = 0;
  uint64_t differences = 0;
  // Cases whose access went through by rule 3, by why it should not have.
  std::array<uint64_t, kInexactKinds> let_through = {};
  // Cases after which some access would.
  std::array<uint64_t, kInexactKinds> left_over = {};
  // What was done: shadow states built, faults handled.
  uint64_t states = 0;
  uint64_t faults = 0;

  Totals& operator+=(const Totals& other);
};
// What is counted apart, in three lines.
std::ostream& operator<<(std::ostream& os, const Totals& totals);

// What is wrongly told to the oracle, so that differences must be found.
struct Lies {
  uint64_t cr0 = 0;  // bits that are flipped
  uint64_t cr4 = 0;
  EntryValues entries = {};  // of entries that are present
};

class Checker {
 public:
  // `cases` is not owned.
  explicit Checker(const CaseSpace* cases, const Lies& lies = {});

  void Run(uint64_t index);

  const Totals& totals() const { return totals_; }
  // What the walking CPU had for the address when the last case was over.
  const std::optional<testing::TlbEntry>& found() const { return found_; }
  // The first few differences, in full.
  static constexpr size_t kMostReports = 10;
  const std::vector<std::string>& reports() const { return reports_; }

 private:
  // One bit for each access of AccessesWith.
  using Mask = uint64_t;

  // What the oracle says of one access to the entries as they begin.
  struct Expected {
    bool known = false;
    bool allowed = false;
    GuestFault fault;
    Hpa hpa;
    EntryValues updates;
    // May go through by rule 3, for a reason of this kind.
    bool excusable = false;
    size_t kind = 0;
  };
  // How an access ended.
  struct Ended {
    enum class Kind : uint8_t { kHit, kFault, kOther } kind = Kind::kOther;
    Hpa hpa;
    GuestFault fault;
    bool changed = false;  // the library resolved something
    std::string what;      // of kOther
  };

  void SetBlock(size_t block);
  void SetEntries(size_t entries);
  void SetFirst(uint64_t index, const CaseSpace::Position& at);
  void ChangeBetween(uint64_t index, const CaseSpace::Position& at);

  Expected ExpectedFrom(const testing::OracleResult& result) const;
  const Expected& Expect(size_t access);
  bool MayBeLetThrough(const Access& access,
                       const testing::OracleResult::Denied& denied) const;
  bool TakesFixUp(size_t access, const testing::OracleResult& walk) const;
  Ended Look(Gva gva, const Access& access);
  Ended Touch(size_t access);
  // Holds it against what is expected, and adds to `now_`. True if it was let
  // through by a fix-up of the first access (rule 3).
  bool Judge(uint64_t index, const char* which, Gva gva, Expected expected,
             const Ended& ended);
  void AskAgain(uint64_t index, size_t access);
  // Rule 2; what is granted of the excused ones.
  Mask CheckGrants(uint64_t index, const char* where,
                   const std::optional<testing::TlbEntry>& found, Mask excused);
  Mask GrantedBy(const testing::TlbEntry& found);
  void Difference(uint64_t index, const std::string& what);
  bool changed_between() const {
    return (bits_.pde & bit::kChangedBetween) != 0;
  }

  const CaseSpace& cases_;
  const Lies lies_;
  World world_;
  Totals totals_;
  std::vector<std::string> reports_;

  // ---- With one set of registers ----
  size_t block_ = ~size_t{0};
  testing::OracleCpu cpu_;
  Mask writes_ = 0;
  // What rights grant: by rights and key of the walk, and key of the page.
  struct Granted {
    bool known = false;
    Mask mask = 0;
  };
  std::array<Granted, 8 * 16 * 2> granted_;

  // ---- With one pair of entries ----
  size_t entries_ = ~size_t{0};
  EntryPair bits_;
  EntryValues begin_;
  unsigned key_ = 0;
  std::array<Access, 64> accesses_;
  std::array<Expected, 64> expected_;
  Mask allowed_ = 0;
  Mask fix_ups_ = 0;  // those of the allowed ones that take a fix-up
  std::array<Mask, kInexactKinds> inexact_ = {};
  Hpa page_;  // where a walk leads that completes

  // ---- After one first access ----
  bool ready_ = false;  // it is, and nothing has changed since
  size_t first_ = 0;
  bool fixed_up_ = false;  // by the first access
  Before before_ = Before::kNothing;
  Gva first_gva_;
  EntryValues now_;                         // what the entries must be
  std::optional<testing::TlbEntry> found_;  // by the last access
};

}  // namespace shadowmmu::exhaustive

#endif  // SHADOWMMU_BENCH_EXHAUSTIVE_CHECK_H_
