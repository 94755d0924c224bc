// Many addresses of one frame: what is written by one is read by all; each has
// rights of its own; two address spaces map the frame, too, and what one
// changes in its tables is not seen in the other.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kAliases = 1000;

// Far enough apart to lie in several page tables.
Word AliasAt(unsigned i) { return TestBase() + i * 3 * kPageBytes; }

void OneSpace() {
  const Word frame = AllocateFrame();
  AddressSpace space;
  for (unsigned i = 0; i < kAliases; ++i) {
    space.Map(AliasAt(i), frame, i % 2 == 0 ? kAll : kPresent);
  }
  space.Use();
  for (unsigned writer = 0; writer < kAliases; writer += 50) {
    Write(AliasAt(writer), writer + 1);
    for (unsigned i = 0; i < kAliases; ++i) {
      CheckEqual(Read(AliasAt(i)), writer + 1, "what an alias reads");
    }
  }
  for (unsigned i = 0; i < kAliases; ++i) {
    const bool writable = Do(Access::kWrite, Ring::k0, AliasAt(i), i).ok;
    const bool user = Do(Access::kRead, Ring::k3, AliasAt(i)).ok;
    Check(writable == (i % 2 == 0) && user == (i % 2 == 0),
          "the rights of an alias");
  }
  CheckEqual(PhysicalAt(frame), kAliases - 2, "what was written last");
  FreeFrame(frame);
  Print(kAliases, " addresses of a frame: right\n");
}

// The frame under each address, exchanged for another one.
void Exchange() {
  const Word frames[] = {AllocateFrame(), AllocateFrame()};
  AddressSpace space;
  space.Use();
  PhysicalAt(frames[0]) = 100;
  PhysicalAt(frames[1]) = 101;
  for (unsigned turn = 0; turn < 4; ++turn) {
    for (unsigned i = 0; i < kAliases; ++i) {
      space.Map(AliasAt(i), frames[(i + turn) % 2], kAll);
      Invlpg(AliasAt(i));
      CheckEqual(Read(AliasAt(i)), 100 + (i + turn) % 2, "the frame of a turn");
    }
  }
  for (const Word frame : frames) FreeFrame(frame);
  Print("frames exchanged under their addresses: right\n");
}

void TwoSpaces() {
  const Word frame = AllocateFrame();
  const Word other = AllocateFrame();
  PhysicalAt(other) = 1000;
  AddressSpace first;
  AddressSpace second;
  const Word page = AliasAt(0);
  first.Map(page, frame, kAll);
  second.Map(page, frame, kPresent);
  for (unsigned turn = 0; turn < 100; ++turn) {
    first.Use();
    Check(Do(Access::kWrite, Ring::k3, page, turn).ok, "a write by the first");
    second.Use();
    CheckEqual(Read(page), turn, "a read by the second");
    Check(!Do(Access::kWrite, Ring::k0, page).ok, "a write by the second");
    Check(!Do(Access::kRead, Ring::k3, page).ok, "a user's read by the second");
  }
  // The first goes on to another frame while the second is in use.
  first.Map(page, other, kAll);
  CheckEqual(Read(page), 99, "the second space's frame");
  first.Use();
  CheckEqual(Read(page), 1000, "the first space's other frame");
  second.Use();
  CheckEqual(Read(page), 99, "the second space's frame again");
  FreeFrame(frame);
  FreeFrame(other);
  Print("two address spaces of a frame: right\n");
}

// One page table in two address spaces.
void SharedTable() {
  const Word frame = AllocateFrame();
  AddressSpace first;
  const Word page = AliasAt(0);
  first.Map(page, frame, kAll);
  {
    AddressSpace second;
    second.Set(2, page, first.Get(2, page));
    second.Use();
    Write(page, 5);
    first.Use();
    CheckEqual(Read(page), 5, "what the other space wrote");
    first.Map(page + kPageBytes, frame, kAll);
    second.Use();
    CheckEqual(Read(page + kPageBytes), 5, "a page that the other space made");
    // The table is the first space's.
    second.Set(2, page, 0);
  }
  FreeFrame(frame);
  Print("a page table in two address spaces: right\n");
}

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels\n");
  OneSpace();
  Exchange();
  TwoSpaces();
  SharedTable();
}

}  // namespace guest
