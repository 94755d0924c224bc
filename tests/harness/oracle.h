// Oracle: translates guest addresses by the guest's tables and slots alone,
// from the manuals. It shares no code with the library, so that where the two
// agree they are probably right.
//
// Sources: Intel SDM vol. 3 chapter 4 ("SDM" below), AMD APM vol. 2 chapter 5
// ("APM"). Each rule cites its section where it stands in the code.
//
// Rules:
//  1. It changes nothing: what an access would set in the guest's tables is
//     part of the answer.
//  2. An access that faults sets no bit. (A CPU may set A bits of the levels
//     above the entry that faults: SDM 4.8 says that it does so "whenever the
//     processor uses" an entry, APM 5.4.2 allows it on speculation. Neither
//     says that it must when the access faults, and the library does not.)
//  3. An access that passes the tables sets its bits whatever lies at its
//     address: memory, a read-only slot, or no slot.
//  4. In a table that lies in a read-only slot no bit is set; the access goes
//     through.
//  5. It is given registers that a CPU accepts (oracle_registers.h). Outside
//     long mode linear addresses have 32 bits; the rest is cut.
//
// Modes: paging off, 32-bit with PSE-36, PAE, four and five levels; CR0.WP,
// SMEP, SMAP, NX, and protection keys of user pages.
//
// Thread safety: as GuestMemory's reads.

#ifndef SHADOWMMU_TESTS_HARNESS_ORACLE_H_
#define SHADOWMMU_TESTS_HARNESS_ORACLE_H_

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <vector>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/registers.h"
#include "tests/harness/guest_memory.h"

namespace shadowmmu::testing {

// Bits that an access sets in the guest's entry at `entry`.
struct EntryUpdate {
  Gpa entry{};
  uint64_t bits = 0;  // A, or A and D; only those that are clear now
  friend bool operator==(const EntryUpdate&, const EntryUpdate&) = default;
};

// What lies at a guest physical address, for a given access.
enum class OracleTarget : uint8_t {
  kMemory,        // a slot that allows it
  kNoSlot,        // EmulateReason::kNoSlot
  kReadOnlySlot,  // a write into a read-only slot
};

// What the CPU holds that a translation depends on.
struct OracleCpu {
  PagingRegisters registers;
  Pdptes pdptes{};  // PAE paging only
  CpuFeatures features = {};
  friend bool operator==(const OracleCpu&, const OracleCpu&) = default;
};

struct OracleResult {
  enum class Kind : uint8_t {
    kTranslated,  // to `gpa`, where `target` is
    kGuestFault,  // `fault`
    // The walk needs the entry at `gpa`, which is in no slot; where these read
    // as ones, it leads from there to a page in a slot.
    kTableOutsideSlots,
    kTableUnreadable,  // the entry at `gpa` is in a slot; the host refuses
  };
  // Why an access has no right to a page; each cause is judged by itself.
  struct Denied {
    bool rights = false;  // R/W, U/S, NX, SMEP
    bool smap = false;
    bool key = false;
    bool any() const { return rights || smap || key; }
    friend bool operator==(const Denied&, const Denied&) = default;
  };
  Kind kind = Kind::kGuestFault;
  Gpa gpa{};
  GuestFault fault{};

  // Of a translation:
  OracleTarget target = OracleTarget::kNoSlot;
  std::optional<SlotSpec> slot{};  // that `gpa` is in, whatever the target

  // Of a walk that completed, whatever the access came to: where it leads, and
  // why the access was denied.
  std::optional<Gpa> page{};
  Denied denied{};
  // The guest's page; k4K with paging off, k2M for one of 4 MiB, too.
  Level level = Level::k4K;
  uint64_t page_bytes = kPageSize;
  // What the tables grant over all levels, whatever this access needs; with
  // paging off everything. `dirty` is the leaf's D bit as it is now, `key` its
  // protection key (0 outside long mode).
  bool writable = true;
  bool user = true;
  bool executable = true;
  bool dirty = true;
  unsigned key = 0;

  // Of a translation, from the root down; entries that need no bit are left
  // out.
  std::vector<EntryUpdate> updates;

  // The entries that the walk looked at, from the root down, in every kind of
  // result; but for one in no slot. PDPTE registers are none.
  std::vector<Gpa> entries;
  // The tables that they are in.
  std::vector<Gfn> tables() const;
};
std::ostream& operator<<(std::ostream& os, const OracleResult& result);

class Oracle {
 public:
  // `memory` is not owned. `guest_physical_bits` is MAXPHYADDR of the guest.
  Oracle(const GuestMemory* memory, unsigned guest_physical_bits,
         AbsentTables absent_tables = AbsentTables::kMemoryFault);

  // What `access` at `gva` comes to.
  OracleResult Translate(const OracleCpu& cpu, AddressSpace space, Gva gva,
                         const Access& access) const;

  // Why the page that a completed walk led to is denied to `access`, which may
  // be another than the one that walked; and whether it is not.
  static OracleResult::Denied Judge(const OracleCpu& cpu,
                                    const OracleResult& completed_walk,
                                    const Access& access);
  static bool Allows(const OracleCpu& cpu, const OracleResult& completed_walk,
                     const Access& access) {
    return !Judge(cpu, completed_walk, access).any();
  }

 private:
  // SDM 4.6: "user-mode accesses" are those made at CPL 3, but for the implicit
  // ones, which are supervisor-mode whatever the CPL is. APM 5.6.
  static bool IsUserMode(const Access& access) {
    return access.privilege == Privilege::kUser &&
           access.implicit == Implicit::kNo;
  }

  struct Walk;  // one translation under way (oracle.cc)

  const GuestMemory* const memory_;
  const unsigned guest_physical_bits_;
  const AbsentTables absent_tables_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_ORACLE_H_
