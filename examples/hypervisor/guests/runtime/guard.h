// Code that may fault, and what became of it.

#ifndef HYPERVISOR_GUESTS_RUNTIME_GUARD_H_
#define HYPERVISOR_GUESTS_RUNTIME_GUARD_H_

#include "runtime/cpu.h"
#include "runtime/interrupts.h"

namespace guest {

struct Fault {
  // No vector: nothing happened.
  static constexpr unsigned kNone = 256;

  unsigned vector = kNone;
  Word error_code = 0;
  // Of a page fault.
  Word cr2 = 0;
  // The register eax or rax, and where it was.
  Word ax = 0;
  Word ip = 0;
};

// The last one of Guarded on this CPU. Its fields are those of this run only.
Fault& LastFault();

extern "C" bool RunGuarded(void (*body)(void*), void* argument);

// Runs `body` until it ends or faults. What is on its stack is forgotten after
// a fault. Not to be nested.
template <typename Body>
Fault Guarded(Body body) {
  LastFault() = {};
  RunGuarded([](void* argument) { (*static_cast<Body*>(argument))(); }, &body);
  return LastFault();
}

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_GUARD_H_
