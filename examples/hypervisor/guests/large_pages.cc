// Large pages: mapped (4 MiB in 32-bit paging, 2 MiB, and 1 GiB where the CPU
// has them), split into small ones, some of which then differ, and merged
// again; and a large page of the guest's whose frames are mapped small
// elsewhere.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

// Beyond all frames that are handed out, and aligned for 4 MiB.
constexpr Word kLargeFrame = kFramesEnd;

Word Pages() { return BytesOf(2) / kPageBytes; }

void Fill(Word frame, uint32_t first) {
  for (Word i = 0; i < Pages(); ++i) {
    PhysicalAt(frame + i * kPageBytes) = first + static_cast<uint32_t>(i);
  }
}

void CheckContent(Word address, uint32_t first) {
  for (Word i = 0; i < Pages(); ++i) {
    CheckEqual(Read(address + i * kPageBytes), first + static_cast<uint32_t>(i),
               "the content of a part of a large page");
  }
}

void SplitAndMerge() {
  AddressSpace space;
  const Word address = TestBase() + 2 * BytesOf(2);
  const Word other = AllocateFrame();
  PhysicalAt(other) = 0xabcdef;
  Fill(kLargeFrame, 1000);
  space.Map(address, kLargeFrame, kAll, 2);
  space.Use();
  CheckContent(address, 1000);
  Check((space.Get(2, address) & kDirty) == 0,
        "D of a large page that was read");
  Write(address + 7 * kPageBytes + 4, 77);
  Check((space.Get(2, address) & kDirty) != 0, "D of a large page");

  // Split: the same, by small pages.
  space.Set(2, address, 0);
  for (Word i = 0; i < Pages(); ++i) {
    space.Map(address + i * kPageBytes, kLargeFrame + i * kPageBytes, kAll);
  }
  ReloadCr3();
  CheckContent(address, 1000);
  CheckEqual(Read(address + 7 * kPageBytes + 4), 77, "what was written large");

  // One of them differs, one is read-only, one is not there.
  space.Map(address + 3 * kPageBytes, other, kAll);
  space.Map(address + 4 * kPageBytes, kLargeFrame + 4 * kPageBytes, kPresent);
  space.Map(address + 5 * kPageBytes, 0, 0);
  for (Word i = 3; i < 6; ++i) Invlpg(address + i * kPageBytes);
  CheckEqual(Read(address + 3 * kPageBytes), 0xabcdef, "the other page");
  Check(!Do(Access::kWrite, Ring::k0, address + 4 * kPageBytes).ok,
        "the read-only page");
  Check(!Do(Access::kRead, Ring::k0, address + 5 * kPageBytes).ok,
        "the missing page");
  CheckEqual(Read(address + 6 * kPageBytes), 1006, "its neighbour");

  // Merged, and all is as it was.
  const Word table = space.TableAt(1, address);
  space.Map(address, kLargeFrame, kAll, 2);
  ReloadCr3();
  CheckContent(address, 1000);
  Write(address + 5 * kPageBytes, 1005);
  FreeFrame(table);
  FreeFrame(other);
  Print("a large page, split and merged: right\n");
}

// Large pages one beside the other, and their edges.
void Edges() {
  AddressSpace space;
  const Word address = TestBase() + 4 * BytesOf(2);
  const Word last = BytesOf(2) - 4;
  for (unsigned i = 0; i < 4; ++i) {
    space.Map(address + i * BytesOf(2), kLargeFrame + i * BytesOf(2), kAll, 2);
    PhysicalAt(kLargeFrame + i * BytesOf(2)) = 10 + i;
    PhysicalAt(kLargeFrame + i * BytesOf(2) + last) = 20 + i;
  }
  space.Use();
  for (unsigned i = 0; i < 4; ++i) {
    CheckEqual(Read(address + i * BytesOf(2)), 10 + i, "the begin of a page");
    CheckEqual(Read(address + i * BytesOf(2) + last), 20 + i, "its end");
  }
  Check(!Do(Access::kRead, Ring::k0, address + 4 * BytesOf(2)).ok,
        "nothing beyond");
  Print("neighbours and edges: right\n");
}

// The same memory by a large page and by a small one.
void LargeAndSmall() {
  AddressSpace space;
  const Word large = TestBase() + 8 * BytesOf(2);
  const Word small = TestBase() + 16 * BytesOf(2);
  space.Map(large, kLargeFrame, kAll, 2);
  space.Map(small, kLargeFrame + 9 * kPageBytes, kPresent);
  space.Use();
  for (uint32_t i = 0; i < 100; ++i) {
    Write(large + 9 * kPageBytes, i);
    CheckEqual(Read(small), i, "what was written by the large page");
    Check(!Do(Access::kWrite, Ring::k0, small).ok,
          "the small one is read-only");
  }
  Print("memory mapped large and small: right\n");
}

#ifdef __x86_64__
void Gigabyte() {
  if (!HasGigabytePages()) {
    Print("SKIPPED: the CPU has no 1 GiB pages\n");
    return;
  }
  AddressSpace space;
  const Word address = TestBase() + 4 * BytesOf(3);
  Fill(kLargeFrame, 5000);
  space.Map(address, 0, kAll, 3);
  space.Use();
  CheckContent(address + kLargeFrame, 5000);
  Write(address + kLargeFrame, 4999);
  CheckEqual(PhysicalAt(kLargeFrame), 4999, "what was written by 1 GiB");
  // In pieces of 2 MiB, one of them missing.
  space.Set(3, address, 0);
  for (Word at = 0; at < kLargeFramesEnd; at += BytesOf(2)) {
    if (at != kLargeFrame + BytesOf(2)) space.Map(address + at, at, kAll, 2);
  }
  ReloadCr3();
  CheckEqual(Read(address + kLargeFrame), 4999, "the same by 2 MiB");
  Check(!Do(Access::kRead, Ring::k0, address + kLargeFrame + BytesOf(2)).ok,
        "the piece that is missing");
  Print("a page of 1 GiB, split: right\n");
}
#endif

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels, large pages of ",
        static_cast<unsigned>(BytesOf(2) >> 20), " MiB\n");
  SplitAndMerge();
  Edges();
  LargeAndSmall();
#ifdef __x86_64__
  Gigabyte();
#endif
}

}  // namespace guest
