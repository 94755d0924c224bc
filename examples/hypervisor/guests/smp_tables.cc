// Two CPUs edit the same page tables at the same time, each its own entries
// with locked exchanges, and sets a bit that is software's in the other one's;
// while both, by what they access, have accessed and dirty bits set there. No
// bit and no entry may be lost.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/processors.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kEntries = 32;  // of each of two tables
constexpr unsigned kTables = 2;
constexpr unsigned kRounds = 50;
// Software's bits (APM vol. 2, 5.4.1): set by the other CPU.
constexpr Entry kMark = 1u << 9;

AddressSpace* space = nullptr;
// Each CPU's entry `i` alternates between two frames.
Word frames[2][kTables * kEntries][2];
uint32_t marks_set[2];
uint32_t marks_found[2];

// Entries of the two CPUs alternate.
Word PageAt(unsigned cpu, unsigned i) {
  return TestBase() + i % kTables * BytesOf(2) +
         (2 * (i / kTables) + cpu) * kPageBytes;
}

// In the size that the mode's entries have.
class EntryPlace {
 public:
  explicit EntryPlace(Word page)
      : at_(space->TableAt(1, page) + AddressSpace::OffsetOf(1, page)) {}

  Entry Exchange(Entry entry) {
    if (EntryBytes() == 4) {
      return __atomic_exchange_n(reinterpret_cast<uint32_t*>(at_),
                                 static_cast<uint32_t>(entry),
                                 __ATOMIC_SEQ_CST);
    }
    return Exchange64(entry);
  }

  // Whether the bit was clear.
  bool Mark() {
    if (EntryBytes() == 4) {
      return (__atomic_fetch_or(reinterpret_cast<uint32_t*>(at_),
                                static_cast<uint32_t>(kMark),
                                __ATOMIC_SEQ_CST) &
              kMark) == 0;
    }
    // The low half has it, whatever the size.
    uint8_t was_set = 0;
    asm volatile("lock btsl $9, %0; setc %1"
                 : "+m"(*reinterpret_cast<uint32_t*>(at_)), "=q"(was_set)
                 :
                 : "memory", "cc");
    return was_set == 0;
  }

 private:
  Entry Exchange64(Entry entry) {
#ifdef __x86_64__
    return __atomic_exchange_n(reinterpret_cast<uint64_t*>(at_), entry,
                               __ATOMIC_SEQ_CST);
#else
    // CMPXCHG8B.
    uint64_t old = *reinterpret_cast<volatile uint64_t*>(at_);
    bool done = false;
    while (!done) {
      asm volatile("lock cmpxchg8b %1; setz %2"
                   : "+A"(old), "+m"(*reinterpret_cast<uint64_t*>(at_)),
                     "=q"(done)
                   : "b"(static_cast<uint32_t>(entry)),
                     "c"(static_cast<uint32_t>(entry >> 32))
                   : "memory", "cc");
    }
    return old;
#endif
  }

  const Word at_;
};

uint32_t MarkOf(unsigned cpu, unsigned i, unsigned which) {
  return cpu << 16 | i << 4 | which;
}

// One entry of one's own, put in, used, and taken out.
void Turn(unsigned cpu, unsigned i, unsigned round) {
  const Word page = PageAt(cpu, i);
  const unsigned which = round % 2;
  const Word frame = frames[cpu][i][which];
  const bool writes = (round / 2 + i) % 3 != 0;
  EntryPlace place(page);
  const Entry before = place.Exchange(frame | kAll);
  CheckEqual(before & ~kMark, 0, "an entry that is empty");
  if ((before & kMark) != 0) ++marks_found[cpu];
  Invlpg(page);
  CheckEqual(Read(page), MarkOf(cpu, i, which), "what an entry leads to");
  if (writes) Write(page + 4, round);
  if (i % 4 == 0) Pause();
  const Entry after = place.Exchange(0);
  Invlpg(page);
  if ((after & kMark) != 0) ++marks_found[cpu];
  CheckEqual(after & ~kMark,
             frame | kAll | kAccessed | (writes ? kDirty : Entry{0}),
             "an entry, with the bits that its use has set");
  if (writes) {
    CheckEqual(PhysicalAt(frame + 4), round, "what was written");
  }
}

void Work(unsigned cpu) {
  space->Use();
  for (unsigned round = 0; round < kRounds; ++round) {
    for (unsigned i = 0; i < kTables * kEntries; ++i) {
      Turn(cpu, i, round);
      const unsigned other = (i * 5 + round) % (kTables * kEntries);
      if (EntryPlace(PageAt(1 - cpu, other)).Mark()) ++marks_set[cpu];
    }
  }
}

void WorkThere() { Work(1); }

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace own;
  space = &own;
  for (unsigned cpu = 0; cpu < 2; ++cpu) {
    for (unsigned i = 0; i < kTables * kEntries; ++i) {
      for (unsigned which = 0; which < 2; ++which) {
        frames[cpu][i][which] = AllocateFrame();
        PhysicalAt(frames[cpu][i][which]) = MarkOf(cpu, i, which);
      }
      own.Set(1, PageAt(cpu, i), 0);
    }
  }
  own.Use();
  StartCpu(1, WorkThere);
  Work(0);
  AwaitCpu(1);
  for (unsigned cpu = 0; cpu < 2; ++cpu) {
    for (unsigned i = 0; i < kTables * kEntries; ++i) {
      const Entry left = EntryPlace(PageAt(cpu, i)).Exchange(0);
      CheckEqual(left & ~kMark, 0, "an entry at the end");
      if (left != 0) ++marks_found[cpu];
    }
    CheckEqual(marks_found[cpu], marks_set[1 - cpu],
               "bits that the other CPU has set");
  }
  Print(Levels(), " levels: ", kRounds * kTables * kEntries,
        " turns on each CPU, ", marks_set[0] + marks_set[1],
        " marks: none lost\n");
}

}  // namespace guest
