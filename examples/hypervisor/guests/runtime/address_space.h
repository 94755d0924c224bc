// AddressSpace: a guest's page tables, in whichever mode the guest was built
// for (GUEST_LEVELS): 2 (32-bit paging), 3 (PAE), 4 or 5 levels.
//
//  1. The first GiB of each space is the kernel's, and the same in all: 256 MiB
//     mapped onto themselves for the supervisor, by large pages, the code of
//     user mode (access.h), and the local APIC.
//  2. Levels are numbered from 1, the page table. An entry is 8 bytes, or 4
//  with
//     2 levels, and is passed as a uint64_t in either case.
//  3. Nothing here invalidates a TLB.
//  4. With 3 levels, the four entries of the top level are there from the
//     start, as a CPU reads them when CR3 is loaded, and not again.

#ifndef HYPERVISOR_GUESTS_RUNTIME_ADDRESS_SPACE_H_
#define HYPERVISOR_GUESTS_RUNTIME_ADDRESS_SPACE_H_

#include <stdint.h>

#include "runtime/cpu.h"

namespace guest {

using Entry = uint64_t;
inline constexpr Entry kPresent = 1u << 0;
inline constexpr Entry kWritable = 1u << 1;
inline constexpr Entry kUser = 1u << 2;
inline constexpr Entry kAccessed = 1u << 5;
inline constexpr Entry kDirty = 1u << 6;
inline constexpr Entry kLarge = 1u << 7;
inline constexpr Entry kGlobal = 1u << 8;
inline constexpr Entry kNoExecute = Entry{1} << 63;
inline constexpr Entry kAll = kPresent | kWritable | kUser;
inline constexpr unsigned kKeyShift = 59;

// Of the mode.
unsigned Levels();
unsigned EntryBytes();
unsigned IndexBits();
// The address bits below an entry of `level`: what it maps.
unsigned ShiftOf(unsigned level);
inline Word BytesOf(unsigned level) { return Word{1} << ShiftOf(level); }
Entry AddressMask();
// Whether entries have kNoExecute.
bool HasNoExecute();
// Whether an entry of level 3 may map a page.
bool HasGigabytePages();

// Where guests put what they test: beyond the first GiB, in an entry of the top
// level of its own.
Word TestBase();

// Where each space has the local APIC's registers, for the supervisor.
inline constexpr Word kLocalApicPage = 0x30001000;

class AddressSpace {
 public:
  // With the kernel's part only.
  AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;
  // Frees the tables, but not the pages that they map, and leaves the space if
  // it is in use.
  ~AddressSpace();

  Word root() const { return root_; }
  void Use() const { WriteCr3(root_); }

  // The entry of `level` that `address` leads to: 0 where a table is missing.
  Entry Get(unsigned level, Word address) const;
  // Makes the tables that are missing.
  void Set(unsigned level, Word address, Entry entry);
  void Map(Word address, Word frame, Entry flags, unsigned level = 1);

  // The physical address of the table whose entry is of `level`; 0: none.
  Word TableAt(unsigned level, Word address) const;
  // Where in it the entry is.
  static Word OffsetOf(unsigned level, Word address);

 private:
  Word root_;
};

// Entries by the physical address of their table.
Entry ReadEntry(Word table, Word offset);
void WriteEntry(Word table, Word offset, Entry entry);

// Goes to the kernel's own space, which is never freed.
void LeaveSpaces();

// Turns paging on (32-bit guests), with the first space. Every guest that uses
// address spaces calls it first.
void UsePaging();

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_ADDRESS_SPACE_H_
