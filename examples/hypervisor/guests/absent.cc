// Memory that is not there: reads give all ones, writes vanish, and page tables
// in it are all ones; a ROM cannot be written. Nothing of this is an exception.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

// Above all RAM of a small guest, below the devices.
constexpr Word kAbsent = 0xd0000000;
constexpr Word kRom = 0xf0000;
constexpr uint32_t kOnes = 0xffffffff;
constexpr unsigned kInvalidOpcode = 6;

void TryPages() {
  AddressSpace space;
  space.Use();
  // A small page, and a large one where it is.
  const Word small = TestBase();
  const Word large = TestBase() + BytesOf(2);
  space.Map(small, kAbsent, kAll);
  space.Map(large, kAbsent, kAll, 2);
  const Word pages[] = {small, large};
  for (const Word page : pages) {
    for (Word offset = 0; offset < kPageBytes; offset += 252) {
      Write(page + offset, 0x12345678);
      const uint32_t value = Read(page + offset);
      // QEMU has zeros there.
      Check(value == kOnes || (IsPlainQemu() && value == 0),
            "what memory that is not there reads as");
      Check(Do(Access::kWrite, Ring::k3, page + offset, 1).ok,
            "a user's write to it");
    }
  }
  Print("reads of memory that is not there: ", Hex(Read(small)), "\n");
}

// Widths, and an instruction that reads and writes.
void TryInstructions() {
  AddressSpace space;
  space.Use();
  const Word page = TestBase();
  space.Map(page, kAbsent, kAll);
  const uint32_t ones = Read(page);
  CheckEqual(PhysicalAt<uint8_t>(page + 1), ones & 0xff, "a byte");
  CheckEqual(PhysicalAt<uint16_t>(page + 3), ones & 0xffff, "a word");
  PhysicalAt<uint8_t>(page) = 5;
  uint32_t value = 1;
  asm volatile("lock xaddl %0, (%1)" : "+r"(value) : "r"(page) : "memory");
  CheckEqual(value, ones, "what xadd found");
  CheckEqual(Read(page), ones, "what it left");
  // A string copied from there to RAM and back.
  static uint32_t buffer[16];
  const void* from = reinterpret_cast<const void*>(page);
  void* to = buffer;
  size_t count = 16;
  asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  for (const uint32_t word : buffer) CheckEqual(word, ones, "a copy of it");
  Print("instructions on memory that is not there: right\n");
}

// All ones are no instruction.
void TryFetch() {
  if (IsPlainQemu()) return;  // which has zeros there: ADD
  AddressSpace space;
  space.Use();
  space.Map(TestBase(), kAbsent, kAll);
  const Outcome outcome = Do(Access::kFetch, Ring::k0, TestBase());
  Check(!outcome.ok, "a fetch from memory that is not there");
  CheckEqual(outcome.fault.vector, kInvalidOpcode, "its exception");
  Print("a fetch from memory that is not there: right\n");
}

// An access that begins in RAM and ends where there is none.
void TryEdge() {
  AddressSpace space;
  space.Use();
  const Word frame = AllocateFrame();
  const Word page = TestBase();
  space.Map(page, frame, kAll);
  space.Map(page + kPageBytes, kAbsent, kAll);
  PhysicalAt(frame + kPageBytes - 4) = 0x11223344;
  const uint32_t ones = Read(page + kPageBytes);
  CheckEqual(Read(page + kPageBytes - 2), 0x1122 | ones << 16,
             "a read across the edge");
  Write(page + kPageBytes - 2, 0xaabbccdd);
  CheckEqual(PhysicalAt(frame + kPageBytes - 4), 0xccdd3344,
             "the part of a write that lies in RAM");
  FreeFrame(frame);
  Print("accesses across its edge: right\n");
}

// A page table that is not there: entries of 8 bytes have reserved bits set.
// Those of 4 have none, and lead to the last page of all, which is not there
// either.
void TryTable() {
  AddressSpace space;
  space.Use();
  const Word page = TestBase();
  space.Set(2, page, (kAbsent + 5 * kPageBytes) | kAll);
  const Outcome outcome = Do(Access::kRead, Ring::k0, page);
  if (IsPlainQemu()) {
    // Zeros there: not present.
    Check(!outcome.ok, "a page of no table");
  } else if (Levels() == 2) {
    Check(outcome.ok, "a page of a table of ones");
    CheckEqual(outcome.value, kOnes, "what is read there");
  } else {
    CheckEqual(outcome.fault.error_code, kFaultPresent | kFaultReserved,
               "the fault of a table of ones");
  }
  space.Set(2, page, 0);
  Print("a page table that is not there: right\n");
}

void TryRom() {
  AddressSpace space;
  space.Use();
  const Word page = TestBase();
  space.Map(page, kRom, kAll);
  const uint32_t before = Read(page);
  Write(page, ~before);
  CheckEqual(Read(page), before, "a ROM after a write");
  Print("a ROM: right\n");
}

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels\n");
  TryPages();
  TryInstructions();
  TryFetch();
  TryEdge();
  TryTable();
  TryRom();
}

}  // namespace guest
