// Page tables that change while they are in use: through another mapping of
// themselves, through a table that is its own entry, with INVLPG, with a load
// of CR3, and with no flush where the architecture needs none; and tables that
// stand in two places, or at two levels, at once.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kPages = 16;

// Frames, each of which holds its own number.
class NumberedFrames {
 public:
  NumberedFrames() {
    for (unsigned i = 0; i < kPages; ++i) {
      frames_[i] = AllocateFrame();
      PhysicalAt(frames_[i]) = i;
    }
  }
  NumberedFrames(const NumberedFrames&) = delete;
  NumberedFrames& operator=(const NumberedFrames&) = delete;
  ~NumberedFrames() {
    for (const Word frame : frames_) FreeFrame(frame);
  }
  Word operator[](unsigned i) const { return frames_[i % kPages]; }

 private:
  Word frames_[kPages];
};

enum class Flush : uint8_t { kInvlpg, kCr3 };

void Drop(Word address, Flush flush) {
  if (flush == Flush::kInvlpg) {
    Invlpg(address);
  } else {
    ReloadCr3();
  }
}

// The page table is mapped as a page, and its entries are written there.
void ThroughAMapping(Flush flush) {
  const NumberedFrames frames;
  AddressSpace space;
  const Word pages = TestBase();
  const Word window = TestBase() + BytesOf(2);
  for (unsigned i = 0; i < kPages; ++i) {
    space.Map(pages + i * kPageBytes, frames[i], kAll);
  }
  space.Map(window, space.TableAt(1, pages), kPresent | kWritable);
  space.Use();
  for (unsigned turn = 0; turn < 64; ++turn) {
    for (unsigned i = 0; i < kPages; ++i) {
      const Word page = pages + i * kPageBytes;
      CheckEqual(Read(page), (i + turn) % kPages, "the page of this turn");
      WriteEntry(window, AddressSpace::OffsetOf(1, page),
                 frames[i + turn + 1] | kAll);
      Drop(page, flush);
    }
  }
  Print("entries written through a mapping, ",
        flush == Flush::kInvlpg ? "INVLPG" : "CR3 loaded", ": right\n");
}

#ifdef __x86_64__
// An entry of the top level leads to the top level itself: then every table is
// a page, and its entries are written there. (PAE and 32-bit paging could do
// the same by other means.)
void ThroughItself() {
  const NumberedFrames frames;
  AddressSpace space;
  const Word page = TestBase();
  space.Map(page, frames[0], kAll);
  constexpr Word kSlot = 5;
  WriteEntry(space.root(), kSlot * 8, space.root() | kPresent | kWritable);
  space.Use();
  // The entry of level 1 of `page`, as the walk reaches it one level early.
  const unsigned bits = ShiftOf(Levels()) + 9;
  const Word canonical = (Word{1} << bits) - 1;
  const Word entries = kSlot << ShiftOf(Levels());
  const Word window =
      (entries | ((page & canonical) >> 12 << 3)) & ~Word{0xfff};
  for (unsigned turn = 1; turn < 64; ++turn) {
    WriteEntry(window, AddressSpace::OffsetOf(1, page), frames[turn] | kAll);
    Invlpg(page);
    CheckEqual(Read(page), turn % kPages, "the page of this turn");
  }
  // A page that appears by an entry one level higher.
  const Word upper_window = (entries | kSlot << ShiftOf(Levels() - 1) |
                             ((page & canonical) >> 21 << 3)) &
                            ~Word{0xfff};
  const Word other = AllocateFrame();
  WriteEntry(other, AddressSpace::OffsetOf(1, page), frames[7] | kAll);
  const Entry old = space.Get(2, page);
  WriteEntry(upper_window, AddressSpace::OffsetOf(2, page), other | kAll);
  Invlpg(page);
  CheckEqual(Read(page), 7, "the page of another table");
  WriteEntry(upper_window, AddressSpace::OffsetOf(2, page), old);
  Invlpg(page);
  CheckEqual(Read(page), 63 % kPages, "the page of the first table again");
  WriteEntry(space.root(), kSlot * 8, 0);
  FreeFrame(other);
  Print("entries written through a table that is its own entry: right\n");
}
#endif

// What was not present is not in any TLB: no flush.
void FromNotPresent() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  for (unsigned level = 1; level <= Levels() - 1; ++level) {
    // PAE reads its top level when CR3 is loaded.
    if (Levels() == 3 && level == 2) break;
    for (unsigned i = 0; i < kPages; ++i) {
      const Word page = TestBase() + (i + 1) * BytesOf(level + 1);
      Check(!Do(Access::kRead, Ring::k0, page).ok, "nothing is there yet");
      space.Map(page, frames[i], kAll);
      CheckEqual(Read(page), i, "what appeared, unflushed");
      Check(Do(Access::kWrite, Ring::k3, page, i).ok, "for users, too");
    }
  }
  Print("pages and tables that appear, unflushed: right\n");
}

// More rights without a flush: at most one fault, which drops what was stale
// (SDM vol. 3, 4.10.4.3; APM vol. 2, 5.5.1).
void MoreRights() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  unsigned faults = 0;
  for (unsigned i = 0; i < kPages; ++i) {
    const Word page = TestBase() + i * kPageBytes;
    space.Map(page, frames[i], kPresent);
    CheckEqual(Read(page), i, "a page for reading");
    Check(!Do(Access::kWrite, Ring::k0, page).ok, "and not for writing");
    space.Map(page, frames[i], kPresent | kWritable | kAccessed);
    if (!Do(Access::kWrite, Ring::k0, page, i + 1).ok) {
      ++faults;
      Write(page, i + 1);
    }
    Check(!Do(Access::kRead, Ring::k3, page).ok, "not for users");
    space.Map(page, frames[i], kAll | kAccessed | kDirty);
    if (!Do(Access::kWrite, Ring::k3, page, i + 2).ok) {
      ++faults;
      Check(Do(Access::kWrite, Ring::k3, page, i + 2).ok, "for users now");
    }
    CheckEqual(PhysicalAt(frames[i]), i + 2, "what users wrote");
  }
  Print("more rights, unflushed: right, after ", faults, " faults\n");
}

// Fewer rights with INVLPG: they count at once.
void FewerRights() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  for (unsigned i = 0; i < kPages; ++i) {
    const Word page = TestBase() + i * kPageBytes;
    space.Map(page, frames[i], kAll);
    Check(Do(Access::kWrite, Ring::k3, page, i).ok, "a page for all");
    space.Map(page, frames[i], kPresent | kUser);
    Invlpg(page);
    Check(!Do(Access::kWrite, Ring::k3, page).ok, "no longer for writing");
    Check(Do(Access::kRead, Ring::k3, page).ok, "but for reading");
    space.Map(page, frames[i], kPresent);
    Invlpg(page);
    Check(!Do(Access::kRead, Ring::k3, page).ok, "no longer for users");
    CheckEqual(Read(page), i, "but for the supervisor");
    space.Map(page, frames[i], 0);
    Invlpg(page);
    Check(!Do(Access::kRead, Ring::k0, page).ok, "no longer there");
  }
  Print("fewer rights, with INVLPG: right\n");
}

// D and A that the guest clears come back with the next use.
void AccessedAndDirtyAgain() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  const Word page = TestBase();
  for (unsigned i = 0; i < kPages; ++i) {
    space.Map(page, frames[i], kAll);
    Invlpg(page);
    Read(page);
    CheckEqual(space.Get(1, page) & (kAccessed | kDirty), kAccessed,
               "A after a read");
    Write(page, i);
    CheckEqual(space.Get(1, page) & (kAccessed | kDirty), kAccessed | kDirty,
               "A and D after a write");
    space.Map(page, frames[i], kAll | kAccessed);
    Invlpg(page);
    Read(page);
    CheckEqual(space.Get(1, page) & kDirty, 0, "D after another read");
    Write(page, i);
    CheckEqual(space.Get(1, page) & kDirty, kDirty, "D after another write");
  }
  Print("A and D, cleared and set again: right\n");
}

// One page table at two places of the level above.
void SharedTable() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  const Word first = TestBase();
  const Word second = TestBase() + 3 * BytesOf(2);
  space.Map(first, frames[1], kAll);
  space.Set(2, second, space.Get(2, first));
  CheckEqual(Read(second), 1, "the page by the second place");
  Write(second, 77);
  CheckEqual(Read(first), 77, "what was written there, by the first");
  for (unsigned i = 2; i < kPages; ++i) {
    space.Map(first, frames[i], kAll);
    Invlpg(first);
    Invlpg(second);
    CheckEqual(Read(first), i, "the page by the first place");
    CheckEqual(Read(second), i, "the page by the second place");
  }
  space.Set(2, second, 0);
  Invlpg(second);
  Check(!Do(Access::kRead, Ring::k0, second).ok, "the second place is gone");
  CheckEqual(Read(first), kPages - 1, "the first is not");
  Print("a table in two places: right\n");
}

// One table as one of level 1 and of level 2 at once: as the first, it maps the
// page table; as the second, the page.
void TableOfTwoLevels() {
  const NumberedFrames frames;
  AddressSpace space;
  space.Use();
  if (Levels() == 2) return;
  const Word page = TestBase();
  space.Map(page, frames[3], kAll);
  const Word directory = space.TableAt(2, page);
  const Word table = space.TableAt(1, page);
  // The directory, as a page table of another entry of its own.
  const Word window = page + BytesOf(2);
  space.Set(2, window, directory | kAll);
  const Word in_window = window | (page >> 21 & 0x1ff) << 12;
  CheckEqual(ReadEntry(in_window, AddressSpace::OffsetOf(1, page)) & ~0xfffu,
             frames[3], "the page table's entry, as a word of a page");
  WriteEntry(in_window, AddressSpace::OffsetOf(1, page), frames[4] | kAll);
  Invlpg(page);
  CheckEqual(Read(page), 4, "the page");
  // Entries of a directory that is used as a table lead to tables as pages.
  CheckEqual(space.Get(2, page) & AddressMask(), table, "nothing else moved");
  CheckEqual(space.Get(2, page) & kDirty, kDirty,
             "D of an entry that serves as a leaf");
  space.Set(2, window, 0);
  Invlpg(window);
  Print("a table of two levels: right\n");
}

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels\n");
  ThroughAMapping(Flush::kInvlpg);
  ThroughAMapping(Flush::kCr3);
#ifdef __x86_64__
  ThroughItself();
#endif
  FromNotPresent();
  MoreRights();
  FewerRights();
  AccessedAndDirtyAgain();
  SharedTable();
  TableOfTwoLevels();
}

}  // namespace guest
