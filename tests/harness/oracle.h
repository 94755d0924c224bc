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
//
// Modes: paging off, and four-level paging with NX, pages of 2 MiB and 1 GiB,
// CR0.WP set or clear. Every other mode answers kNotModelled.
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
#include "shadowmmu/vcpu_mmu.h"
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

struct OracleResult {
  enum class Kind : uint8_t {
    kTranslated,         // to `gpa`, where `target` is
    kGuestFault,         // `fault`
    kTableOutsideSlots,  // the walk needs the entry at `gpa`, in no slot
    kTableUnreadable,    // the entry at `gpa` is in a slot; the host refuses
    kNotModelled,        // a mode that the oracle does not have
  };
  Kind kind = Kind::kNotModelled;
  Gpa gpa{};
  GuestFault fault{};

  // Of a translation:
  OracleTarget target = OracleTarget::kNoSlot;
  std::optional<SlotSpec> slot{};  // that `gpa` is in, whatever the target
  Level level = Level::k4K;        // of the guest's page; k4K with paging off
  // What the tables grant over all levels, whatever this access needs; with
  // paging off everything. `dirty` is the leaf's D bit as it is now.
  bool writable = true;
  bool user = true;
  bool executable = true;
  bool dirty = true;
  // From the root down; entries that need no bit are left out.
  std::vector<EntryUpdate> updates;

  // The frames of the tables that the walk read, from the root down, in every
  // kind of result.
  std::vector<Gfn> tables;
};
std::ostream& operator<<(std::ostream& os, const OracleResult& result);

class Oracle {
 public:
  // `memory` is not owned. `guest_physical_bits` is MAXPHYADDR of the guest.
  Oracle(const GuestMemory* memory, unsigned guest_physical_bits);

  // What `access` at `gva` comes to under `registers`.
  OracleResult Translate(const PagingRegisters& registers, AddressSpace space,
                         Gva gva, const Access& access) const;

 private:
  struct Walk;  // one translation under way (oracle.cc)

  const GuestMemory* const memory_;
  const unsigned guest_physical_bits_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_ORACLE_H_
