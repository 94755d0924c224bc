// A stack that lies in a page table in use: what the CPU pushes there when it
// delivers an exception are stores into the table that no instruction makes.

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kRounds = 20;
constexpr unsigned kBreakpoint = 3;
constexpr unsigned kInvalidOpcode = 6;
constexpr unsigned kUd2Bytes = 2;

unsigned breakpoints = 0;
unsigned invalid_opcodes = 0;

Handled OnBreakpoint(InterruptFrame*) {
  ++breakpoints;
  return Handled::kDone;
}

Handled OnInvalidOpcode(InterruptFrame* frame) {
  ++invalid_opcodes;
  frame->ip += kUd2Bytes;
  return Handled::kDone;
}

// The exceptions, on a stack that ends at `top`.
void RaiseOn(Word top) {
  Word kept = 0;
  asm volatile(
      "mov %%rsp, %0\n"
      "mov %1, %%rsp\n"
      "int3\n"
      "ud2\n"
      "mov %0, %%rsp\n"
      : "=&r"(kept)
      : "r"(top)
      : "memory");
}

// The entries at the end of a table, where the stack is, map nothing that is
// used.
void TryTableOf(const AddressSpace& space, unsigned level) {
  for (unsigned round = 0; round < kRounds; ++round) {
    PhysicalAt(TestBase()) = round;
    RaiseOn(space.TableAt(level, TestBase()) + kPageBytes);
    CheckEqual(PhysicalAt(TestBase()), round, "what the table maps");
    ReloadCr3();
    CheckEqual(PhysicalAt(TestBase()), round, "what it maps after a flush");
  }
  // What the stack left there is no entry.
  const Word table = space.TableAt(level, TestBase());
  for (Word at = kPageBytes / 2; at < kPageBytes; at += sizeof(Entry)) {
    WriteEntry(table, at, 0);
  }
  CheckEqual(breakpoints, kRounds, "breakpoints");
  CheckEqual(invalid_opcodes, kRounds, "invalid opcodes");
  breakpoints = invalid_opcodes = 0;
  Print("a stack in a table of level ", level, ": right\n");
}

}  // namespace

void GuestMain() {
  UsePaging();
  SetHandler(kBreakpoint, OnBreakpoint);
  SetHandler(kInvalidOpcode, OnInvalidOpcode);
  AddressSpace own;
  own.Map(TestBase(), AllocateFrame(), kAll);
  own.Use();
  for (unsigned level = 1; level < Levels(); ++level) TryTableOf(own, level);
}

}  // namespace guest
