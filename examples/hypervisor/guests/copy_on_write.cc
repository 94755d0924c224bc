// Copy on write: two address spaces share all their pages read-only, and a
// handler of page faults gives each writer a copy of its own, as an operating
// system does after fork(). Writers are the supervisor (with CR0.WP set) and
// users.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

extern "C" void* memcpy(void* to, const void* from, size_t bytes);

namespace guest {
namespace {

constexpr unsigned kPages = 128;
constexpr unsigned kWords = 8;

AddressSpace* current = nullptr;
unsigned copies = 0;

Word PageAt(unsigned i) { return TestBase() + i * kPageBytes; }

uint32_t ContentOf(unsigned page, unsigned word, uint32_t who) {
  return who << 24 | page << 8 | word;
}

void Enter(AddressSpace* space) {
  current = space;
  space->Use();
}

// A write to a page that is present and read-only.
Handled Copy(InterruptFrame* frame) {
  if ((frame->error_code & ~kFaultUser) != (kFaultPresent | kFaultWrite)) {
    return Handled::kNot;
  }
  const Word page = ReadCr2() & ~(kPageBytes - 1);
  const auto old = static_cast<Word>(current->Get(1, page) & AddressMask());
  const Word copy = AllocateFrame();
  memcpy(reinterpret_cast<void*>(copy), reinterpret_cast<const void*>(old),
         kPageBytes);
  current->Map(page, copy, kAll);
  Invlpg(page);
  ++copies;
  return Handled::kDone;
}

void CheckPages(AddressSpace* space, uint32_t even, uint32_t odd) {
  Enter(space);
  for (unsigned i = 0; i < kPages; ++i) {
    for (unsigned word = 0; word < kWords; ++word) {
      CheckEqual(Read(PageAt(i) + word * 4),
                 ContentOf(i, word, i % 2 == 0 ? even : odd),
                 "the content of a page");
    }
  }
}

void WritePages(AddressSpace* space, unsigned first, uint32_t who, Ring ring) {
  Enter(space);
  for (unsigned i = first; i < kPages; i += 2) {
    for (unsigned word = 0; word < kWords; ++word) {
      Check(Do(Access::kWrite, ring, PageAt(i) + word * 4,
               ContentOf(i, word, who))
                .ok,
            "a write to a shared page");
    }
  }
}

void Fork(Ring ring) {
  AddressSpace parent;
  AddressSpace child;
  copies = 0;
  for (unsigned i = 0; i < kPages; ++i) {
    const Word frame = AllocateFrame();
    for (unsigned word = 0; word < kWords; ++word) {
      PhysicalAt(frame + word * 4) = ContentOf(i, word, 1);
    }
    parent.Map(PageAt(i), frame, kPresent | kUser);
    child.Map(PageAt(i), frame, kPresent | kUser);
  }
  CheckPages(&parent, 1, 1);
  CheckPages(&child, 1, 1);
  WritePages(&child, 0, 2, ring);
  CheckPages(&parent, 1, 1);
  CheckPages(&child, 2, 1);
  WritePages(&parent, 1, 3, ring);
  CheckPages(&parent, 1, 3);
  CheckPages(&child, 2, 1);
  CheckEqual(copies, kPages, "copies: one of each page");
  Print("copies for ",
        ring == Ring::k3 ? "users: " : "the supervisor: ", copies,
        ", all right\n");
}

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels\n");
  SetHandler(kPageFault, Copy);
  Fork(Ring::k0);
  Fork(Ring::k3);
}

}  // namespace guest
