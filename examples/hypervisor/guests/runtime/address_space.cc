#include "runtime/address_space.h"

#include <stddef.h>

#include "runtime/access.h"
#include "runtime/frames.h"
#include "runtime/placement_new.h"
#include "runtime/report.h"

#ifdef __x86_64__
extern "C" const uint32_t boot_levels;
#endif
extern "C" char user_read[];

namespace guest {
namespace {

// The first GiB, as one entry of level 3, or all entries of level 2 in it.
constexpr Word kKernelBytes = 1u << 30;
// What the others copy. Its tables are never freed.
Word kernel_root = 0;

unsigned TableEntries(unsigned level) {
  return Levels() == 3 && level == 3 ? 4 : 1u << IndexBits();
}

// The four entries of the top level of PAE paging have no rights.
Entry TableFlags(unsigned level) {
  return Levels() == 3 && level == 3 ? kPresent : kAll;
}

Word TableOf(Entry entry) { return static_cast<Word>(entry & AddressMask()); }

bool LeadsToTable(Entry entry) {
  return (entry & kPresent) != 0 && (entry & kLarge) == 0;
}

void FreeTables(Word table, unsigned level, unsigned first) {
  for (unsigned i = first; level > 1 && i < TableEntries(level); ++i) {
    const Entry entry = ReadEntry(table, i * EntryBytes());
    if (LeadsToTable(entry)) FreeTables(TableOf(entry), level - 1, 0);
  }
  FreeFrame(table);
}

// The entries of the top level that are the kernel's.
unsigned KernelEntries() {
  return Levels() == 2 ? static_cast<unsigned>(kKernelBytes >> ShiftOf(2)) : 1;
}

}  // namespace

unsigned Levels() {
#ifdef __x86_64__
  return boot_levels;
#else
  return GUEST_LEVELS;
#endif
}
unsigned EntryBytes() { return Levels() == 2 ? 4 : 8; }
unsigned IndexBits() { return Levels() == 2 ? 10 : 9; }
unsigned ShiftOf(unsigned level) { return 12 + (level - 1) * IndexBits(); }
Word TestBase() {
#ifdef __x86_64__
  return Word{1} << ShiftOf(Levels());
#else
  return 0x80000000u;
#endif
}
Entry AddressMask() { return Levels() == 2 ? 0xfffff000 : 0xffffffffff000; }
bool HasNoExecute() {
  return Levels() != 2 && (ReadMsr(kMsrEfer) & kEferNxe) != 0;
}
bool HasGigabytePages() {
  return Levels() > 3 && (CpuidOrNone(0x80000001).edx & 1u << 26) != 0;
}

Entry ReadEntry(Word table, Word offset) {
  return EntryBytes() == 4 ? PhysicalAt<uint32_t>(table + offset)
                           : PhysicalAt<uint64_t>(table + offset);
}

void WriteEntry(Word table, Word offset, Entry entry) {
  if (EntryBytes() == 4) {
    PhysicalAt<uint32_t>(table + offset) = static_cast<uint32_t>(entry);
  } else {
    PhysicalAt<uint64_t>(table + offset) = entry;
  }
}

AddressSpace::AddressSpace() : root_(AllocateFrame()) {
  for (unsigned i = 0; kernel_root != 0 && i < KernelEntries(); ++i) {
    const Word offset = i * EntryBytes();
    WriteEntry(root_, offset, ReadEntry(kernel_root, offset));
  }
  if (Levels() != 3) return;
  for (unsigned i = kernel_root == 0 ? 0 : 1; i < TableEntries(3); ++i) {
    WriteEntry(root_, i * EntryBytes(), AllocateFrame() | TableFlags(3));
  }
}

AddressSpace::~AddressSpace() {
  if (ReadCr3() == root_) WriteCr3(kernel_root);
  FreeTables(root_, Levels(), KernelEntries());
}

Word AddressSpace::OffsetOf(unsigned level, Word address) {
  const Word index = address >> ShiftOf(level) & ((Word{1} << IndexBits()) - 1);
  return index * EntryBytes();
}

Word AddressSpace::TableAt(unsigned level, Word address) const {
  Word table = root_;
  for (unsigned above = Levels(); above > level; --above) {
    const Entry entry = ReadEntry(table, OffsetOf(above, address));
    if (!LeadsToTable(entry)) return 0;
    table = TableOf(entry);
  }
  return table;
}

Entry AddressSpace::Get(unsigned level, Word address) const {
  const Word table = TableAt(level, address);
  return table == 0 ? 0 : ReadEntry(table, OffsetOf(level, address));
}

void AddressSpace::Set(unsigned level, Word address, Entry entry) {
  Word table = root_;
  for (unsigned above = Levels(); above > level; --above) {
    const Word offset = OffsetOf(above, address);
    if (!LeadsToTable(ReadEntry(table, offset))) {
      WriteEntry(table, offset, AllocateFrame() | TableFlags(above));
    }
    table = TableOf(ReadEntry(table, offset));
  }
  WriteEntry(table, OffsetOf(level, address), entry);
}

void AddressSpace::Map(Word address, Word frame, Entry flags, unsigned level) {
  Set(level, address, frame | flags | (level > 1 ? kLarge : 0));
}

void LeaveSpaces() { WriteCr3(kernel_root); }

void UsePaging() {
  // Never destroyed.
  alignas(AddressSpace) static char place[sizeof(AddressSpace)];
  auto* const space = new (place) AddressSpace;
  for (Word at = 0; at < kLargeFramesEnd; at += BytesOf(2)) {
    space->Map(at, at, kPresent | kWritable, 2);
  }
  space->Map(kUserCode, reinterpret_cast<Word>(user_read), kPresent | kUser);
  constexpr Word kLocalApic = 0xfee00000;
  space->Map(kLocalApicPage, kLocalApic, kPresent | kWritable);
  kernel_root = space->root();
  if (Levels() == 2) WriteCr4(ReadCr4() | kCr4Pse);
  if (Levels() == 3) {
    WriteCr4(ReadCr4() | kCr4Pae);
    const bool no_execute = (CpuidOrNone(0x80000001).edx & 1u << 20) != 0;
    if (no_execute) WriteMsr(kMsrEfer, ReadMsr(kMsrEfer) | kEferNxe);
  }
  space->Use();
  WriteCr0(ReadCr0() | kCr0Pg | kCr0Wp);
}

}  // namespace guest
