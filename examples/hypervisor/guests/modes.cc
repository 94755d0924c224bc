// From protected mode to real mode and back, to long mode and back, and all
// again: with interrupts by the table at 0, segments of real mode, a limit of 4
// GiB that survives in it, compatibility mode, 64-bit registers and addresses;
// and paging by 32-bit tables in between.

#include <stddef.h>

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

extern "C" {
extern const char real_begin[];
extern const char real_end[];
extern const char real_ticks[];
extern const char real_interrupt[];
extern uint64_t gdt[];

uint32_t CallRealMode(uint32_t argument);
uint64_t CallLongMode(uint32_t root, uint32_t high_half_of_address);
void* memcpy(void* to, const void* from, size_t bytes);
}

namespace guest {
namespace {

constexpr unsigned kRounds = 50;
// As modes.S has them.
constexpr Word kRealBase = 0x8000;
constexpr Word kRealSegment = kRealBase >> 4;
constexpr Word kFarAbove = 0x1400000;
constexpr Word kFirstBeyondMegabyte = 0x100000;
constexpr Word kBySegment = 0x12350;
constexpr Word kString = 0x12440;
constexpr unsigned kRealVector = 0x60;
// In long mode: an address of a PML4 entry in the middle.
constexpr unsigned kPml4Slot = 100;
constexpr uint32_t kHighHalf = (kPml4Slot << 7);

void MakeSegments() {
  gdt[6] = 0x00009b000000ffff;  // 16-bit code, base 0, 64 KiB
  gdt[7] = 0x000093000000ffff;  // data of the same kind
  gdt[8] = 0x00af9b000000ffff;  // 64-bit code
}

void MakeRealMode() {
  memcpy(reinterpret_cast<void*>(kRealBase), real_begin,
         static_cast<size_t>(real_end - real_begin));
  PhysicalAt(kRealVector * 4) =
      kRealSegment << 16 | static_cast<uint32_t>(real_interrupt - real_begin);
}

// Tables of long mode: the first GiB onto itself, and again at kPml4Slot.
Word MakeLongMode() {
  const Word root = AllocateFrame();
  const Word pdpt = AllocateFrame();
  const Word directory = AllocateFrame();
  const Entry table = kPresent | kWritable;
  PhysicalAt<uint64_t>(root) = pdpt | table;
  PhysicalAt<uint64_t>(root + kPml4Slot * 8) = pdpt | table;
  PhysicalAt<uint64_t>(pdpt) = directory | table;
  for (unsigned i = 0; i < 512; ++i) {
    PhysicalAt<uint64_t>(directory + i * 8) =
        uint64_t{i} << 21 | table | kLarge;
  }
  return root;
}

void TryRealMode(uint32_t round) {
  PhysicalAt<uint8_t>(kFirstBeyondMegabyte) = 9;
  PhysicalAt(kFarAbove) = 1000 + round;
  CheckEqual(CallRealMode(round * 100000),
             round * 100000 + 2 * 5 + 9 + 1000 + round,
             "what real mode calculates");
  CheckEqual(PhysicalAt(kBySegment), round * 100000 + 2 * 5,
             "what it writes by a segment");
  for (unsigned i = 0; i < 16; ++i) {
    CheckEqual(PhysicalAt<uint8_t>(kString + i),
               PhysicalAt<uint8_t>(kRealBase + i), "a string that it copies");
  }
  CheckEqual(PhysicalAt<uint16_t>(kRealBase +
                                  static_cast<Word>(real_ticks - real_begin)),
             2 * round, "its interrupts");
}

void TryLongMode(Word root, uint32_t round) {
  // The first 8 bytes of physical memory, by an address beyond 32 bits.
  const auto low = PhysicalAt<uint64_t>(0);
  PhysicalAt<uint64_t>(0) = 0x1234567'89abcdef + round;
  CheckEqual(CallLongMode(root, kHighHalf), 3 * (0x1234567'89abcdef + round),
             "what long mode calculates");
  PhysicalAt<uint64_t>(0) = low;
}

void TryPaging(uint32_t round) {
  AddressSpace space;
  const Word frame = AllocateFrame();
  space.Map(TestBase(), frame, kAll);
  space.Use();
  WriteCr0(ReadCr0() | kCr0Pg);
  PhysicalAt(TestBase()) = round;
  WriteCr0(ReadCr0() & ~kCr0Pg);
  CheckEqual(PhysicalAt(frame), round, "what was written with paging");
  FreeFrame(frame);
}

}  // namespace

void GuestMain() {
  MakeSegments();
  MakeRealMode();
  const bool has_long_mode = (CpuidOrNone(0x80000001).edx & 1u << 29) != 0;
  if (!has_long_mode) Print("SKIPPED: the CPU has no long mode\n");
  const Word root = MakeLongMode();
  UsePaging();
  WriteCr0(ReadCr0() & ~kCr0Pg);
  const Word cr4 = ReadCr4();
  for (uint32_t round = 1; round <= kRounds; ++round) {
    TryRealMode(round);
    if (has_long_mode) TryLongMode(root, round);
    CheckEqual(ReadCr4(), cr4, "CR4 at the end of a round");
    TryPaging(round);
  }
  Print(kRounds, " rounds through real, protected and long mode: right\n");
}

}  // namespace guest
