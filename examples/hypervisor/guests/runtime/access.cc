#include "runtime/access.h"

#include "runtime/report.h"

extern "C" {
extern char user_read[];
extern char user_write[];
extern char user_fetch[];
extern char user_done[];

[[noreturn]] void EnterUser(guest::Word ip, guest::Word ax, guest::Word cx,
                            guest::Word dx);
}

namespace guest {
namespace {

Word InUserPage(const char* label) {
  return kUserCode + static_cast<Word>(label - user_read);
}

[[noreturn]] void DoAsUser(Access access, Word address, uint32_t value) {
  const char* const code = access == Access::kRead    ? user_read
                           : access == Access::kWrite ? user_write
                                                      : user_fetch;
  EnterUser(InUserPage(code), value, address, InUserPage(user_done));
}

void Fetch(Word address) {
#ifdef __x86_64__
  asm volatile("lea 1f(%%rip), %%rdx; jmp *%%rcx; 1:" ::"c"(address)
               : "rdx", "memory");
#else
  asm volatile("mov $1f, %%edx; jmp *%%ecx; 1:" ::"c"(address)
               : "edx", "memory");
#endif
}

// One instruction, so that a fault leaves nothing half done.
uint32_t DoAsSupervisor(Access access, Word address, uint32_t value) {
  switch (access) {
    case Access::kRead:
      asm volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
      return value;
    case Access::kWrite:
      asm volatile("movl %0, (%1)" ::"r"(value), "r"(address) : "memory");
      return value;
    case Access::kFetch:
      Fetch(address);
      return 0;
  }
  return 0;
}

void CheckDone(const Outcome& outcome, int line) {
  if (outcome.ok) return;
  Print("vector ", outcome.fault.vector, ", error code ",
        Hex(outcome.fault.error_code), ", cr2 ", Hex(outcome.fault.cr2), "\n");
  Check(false, "an access that should succeed", line);
}

}  // namespace

Outcome Do(Access access, Ring ring, Word address, uint32_t value) {
  volatile uint32_t result = 0;
  const Fault fault = Guarded([&] {
    if (ring == Ring::k3) DoAsUser(access, address, value);
    result = DoAsSupervisor(access, address, value);
  });
  if (ring == Ring::k3 && fault.vector == kUserDone) {
    return {true, static_cast<uint32_t>(fault.ax), {}};
  }
  return {fault.vector == Fault::kNone, result, fault};
}

uint32_t Read(Word address, int line) {
  const Outcome outcome = Do(Access::kRead, Ring::k0, address);
  CheckDone(outcome, line);
  return outcome.value;
}

void Write(Word address, uint32_t value, int line) {
  CheckDone(Do(Access::kWrite, Ring::k0, address, value), line);
}

}  // namespace guest
