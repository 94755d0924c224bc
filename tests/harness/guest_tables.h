// GuestTableBuilder: the page tables of one guest address space, of any paging
// mode, as a guest kernel would build them.
//
//   UntrackedStore store(&memory);
//   GuestTableBuilder tables(&memory, &store, GfnRange{Gfn(16), 32});
//   tables.Map(Gva(0x40'0000), Gpa(0x5000), Level::k4K,
//              gpte::kWritable | gpte::kUser);
//   registers.cr3 = tables.root().value();
//
// Rules:
//  1. It keeps no copy of the tables: guest memory is what counts, and anybody
//     may change it between calls.
//  2. Table pages come from the range that it was given, in order; the first is
//     the root. They are never given back.
//  3. Entries that it makes on the way to a leaf grant everything (P, W, U), so
//     that the leaf decides; SetBits takes rights away at any level.
//  4. Levels are named as in 8-byte tables, whatever the mode: an entry of
//     Level::k2M is an entry of a page directory, and maps 4 MiB where entries
//     have 4 bytes. With two levels and with PAE, bits above 31 of an address
//     count for nothing.
//  5. With PAE the root frame begins with the four PDPTEs, and their four
//     directories are made with it: a CPU reads PDPTEs when CR3 is loaded, and
//     what is mapped later must be reached all the same.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_GUEST_TABLES_H_
#define SHADOWMMU_TESTS_HARNESS_GUEST_TABLES_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/guest_store.h"

namespace shadowmmu::testing {

// Bits of a guest's entry (SDM vol. 3, 4.5.4; APM vol. 2, 5.4).
namespace gpte {
inline constexpr uint64_t kPresent = uint64_t{1} << 0;
inline constexpr uint64_t kWritable = uint64_t{1} << 1;
inline constexpr uint64_t kUser = uint64_t{1} << 2;
inline constexpr uint64_t kWriteThrough = uint64_t{1} << 3;
inline constexpr uint64_t kCacheDisable = uint64_t{1} << 4;
inline constexpr uint64_t kAccessed = uint64_t{1} << 5;
inline constexpr uint64_t kDirty = uint64_t{1} << 6;
inline constexpr uint64_t kPageSize = uint64_t{1} << 7;
inline constexpr uint64_t kGlobal = uint64_t{1} << 8;
inline constexpr uint64_t kNoExecute = uint64_t{1} << 63;
// Bits 12 to 51: the address of a table or of a 4K page.
inline constexpr uint64_t kAddress = 0x000f'ffff'ffff'f000;
}  // namespace gpte

// The paging modes: how many levels, and how wide an entry is.
enum class GuestMode : uint8_t { kTwoLevel, kPae, kFourLevel, kFiveLevel };

class GuestTableBuilder {
 public:
  // `memory` is read, `store` is written; neither is owned. `tables` are frames
  // of `space` within slots, for two levels and PAE below 4 GiB; at least one,
  // for PAE five (a CHECK). Clears the root (a CHECK).
  GuestTableBuilder(const GuestMemory* memory, GuestStore* store,
                    GfnRange tables, AddressSpace space = AddressSpace::kNormal,
                    GuestMode mode = GuestMode::kFourLevel);

  // For CR3.
  Gpa root() const { return ToGpa(tables_.begin); }
  // How entries are written from now on. Not owned.
  void SetStore(GuestStore* store) { store_ = store; }

  // ---- Mapping ----

  // Makes the entry of `gva` at `level` (k4K, k2M, k1G) a leaf for `gpa` with
  // `bits`; P, and PS as the level needs, are added. Makes tables on the way.
  // Replaces a leaf or a table in its place. A page of 4 MiB may lie anywhere
  // below 2^40 (PSE-36). InvalidArgument: the mode has no pages of this level.
  // AlreadyExists: a larger leaf is on the way. ResourceExhausted: no table
  // pages left. Unavailable: memory could not be read or written.
  //
  // In all calls `level` is one that the mode has (a CHECK); k1G is a PDPTE
  // with PAE.
  absl::Status Map(Gva gva, Gpa gpa, Level level, uint64_t bits);
  // Clears the entry of `gva` at `level`. NotFound: no table there.
  absl::Status Unmap(Gva gva, Level level);
  // Replaces all bits but the address (and PS), of any level. NotFound.
  absl::Status SetBits(Gva gva, Level level, uint64_t bits);
  // Writes the whole entry, of any level, as it is. Makes tables on the way.
  absl::Status SetEntry(Gva gva, Level level, uint64_t entry);
  // Makes the entry of `gva` at `level` (k2M or above) point to the table at
  // `table`, which may be in use elsewhere, be itself, or be no table at all.
  absl::Status SetTable(Gva gva, Level level, Gfn table);

  // ---- Looking ----

  // Where the entry of `gva` at `level` lies; NotFound where entries above it
  // are not present or a leaf, Unavailable.
  absl::StatusOr<Gpa> EntryAddress(Gva gva, Level level) const;
  absl::StatusOr<uint64_t> Entry(Gva gva, Level level) const;
  // Table pages taken so far, the root included.
  GfnRange used_tables() const { return {tables_.begin, used_}; }

 private:
  bool IsLeaf(Level level, uint64_t entry) const;
  // Of an entry that points to a table.
  uint64_t LinkTo(Level level, Gfn table) const;
  Gpa EntryIn(Gpa table, Gva gva, Level level) const;
  Level top() const;
  unsigned entry_size() const { return mode_ == GuestMode::kTwoLevel ? 4 : 8; }
  uint64_t address_mask() const;
  // As EntryAddress, but makes the tables that are missing.
  absl::StatusOr<Gpa> DescendMaking(Gva gva, Level level);
  absl::StatusOr<Gfn> NewTable();
  absl::StatusOr<uint64_t> ReadEntry(Gpa entry) const;
  absl::Status WriteEntry(Gpa entry, uint64_t value);

  const GuestMemory* const memory_;
  GuestStore* store_;
  const GfnRange tables_;
  const AddressSpace space_;
  const GuestMode mode_;
  uint64_t used_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_GUEST_TABLES_H_
