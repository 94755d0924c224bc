// Two CPUs count in the same pages with locked instructions, and fault on them
// at the same time: one goes up through them, the other down, and both let go
// of what they have cached again and again. With one CPU only, that does the
// work of both.

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/processors.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kPages = 256;
constexpr unsigned kRounds = 40;
constexpr unsigned kCpus = 2;

AddressSpace* space = nullptr;
Word frames[kPages];
uint32_t total = 0;

// Several page tables.
Word PageAt(unsigned i) {
  return TestBase() + i % 4 * BytesOf(2) + i * kPageBytes;
}

void Add(uint32_t* word, uint32_t value) {
  asm volatile("lock addl %1, %0" : "+m"(*word) : "r"(value) : "memory");
}

// `part` is 0 or 1: the work of one CPU.
void Count(unsigned part) {
  space->Use();
  for (unsigned round = 0; round < kRounds; ++round) {
    for (unsigned i = 0; i < kPages; ++i) {
      const unsigned page = part == 0 ? i : kPages - 1 - i;
      auto* const words = reinterpret_cast<uint32_t*>(PageAt(page));
      Add(&words[0], part + 1);
      words[1 + part] = words[1 + part] + 1;
      Add(&total, 1);
    }
    ReloadCr3();
  }
}

void CountThere() { Count(1); }

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace own;
  space = &own;
  for (unsigned i = 0; i < kPages; ++i) {
    frames[i] = AllocateFrame();
    own.Map(PageAt(i), frames[i], kAll);
  }
  own.Use();
  const bool two = CpuCount() >= kCpus;
  const uint64_t begin = ReadTsc();
  if (two) StartCpu(1, CountThere);
  Count(0);
  if (!two) Count(1);
  if (two) AwaitCpu(1);
  const uint64_t took = ReadTsc() - begin;
  for (unsigned i = 0; i < kPages; ++i) {
    CheckEqual(PhysicalAt(frames[i]), kRounds * 3, "what both counted");
    CheckEqual(PhysicalAt(frames[i] + 4), kRounds, "what CPU 0 counted");
    CheckEqual(PhysicalAt(frames[i] + 8), kRounds, "what CPU 1 counted");
    const Entry entry = own.Get(1, PageAt(i));
    CheckEqual(entry & (kAccessed | kDirty), kAccessed | kDirty,
               "accessed and dirty bits of a page that was written");
  }
  CheckEqual(total, kRounds * kPages * 2, "what was counted in all");
  Print(Levels(), " levels, ", two ? 2u : 1u, " CPUs: ", total,
        " counts are right, after ", static_cast<unsigned>(took >> 20),
        " Mi ticks\n");
}

}  // namespace guest
