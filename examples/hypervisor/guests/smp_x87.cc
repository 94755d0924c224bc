// Flushes of the other CPU's TLB while it loads the x87 unit. CPU 0 makes an
// exit, and spins with interrupts off until CPU 1 has changed the rights of a
// page that CPU 0 has used. For that the hypervisor must get CPU 0 out of the
// guest. Between two changes CPU 1 loads its x87 environment again and again:
// under QEMU 7.2's TCG that may undo what VMRUN has just set in the machine's
// first CPU, so that no interrupt gets it out (CpusFor in main.cc).

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/processors.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr unsigned kRounds = 300;
constexpr unsigned kExits = 10;
constexpr unsigned kLoads = 50;

AddressSpace* space = nullptr;
Word frame = 0;
// Rounds that CPU 0 has begun, and that CPU 1 has served.
unsigned begun = 0;
unsigned served = 0;

struct X87Environment {
  uint32_t words[7];
};

void Serve() {
  space->Use();
  X87Environment environment;
  asm volatile("fninit; fnstenv %0" : "=m"(environment));
  for (unsigned round = 1; round <= kRounds; ++round) {
    while (Load(begun) < round) {
      for (unsigned i = 0; i < kLoads; ++i) {
        asm volatile("fldenv %0" ::"m"(environment));
      }
    }
    space->Map(TestBase(), frame, round % 2 != 0 ? kPresent : kAll);
    Invlpg(TestBase());
    Store(served, round);
  }
}

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace own;
  space = &own;
  frame = AllocateFrame();
  own.Map(TestBase(), frame, kAll);
  own.Use();
  StartCpu(1, Serve);
  for (unsigned round = 1; round <= kRounds; ++round) {
    const volatile unsigned& seen =
        *reinterpret_cast<const volatile unsigned*>(TestBase());
    CheckEqual(seen, 0, "what CPU 0 reads");
    for (unsigned i = 0; i < kExits; ++i) ReadCpuid(0);
    Store(begun, round);
    WaitUntil([&] { return Load(served) == round; },
              "CPU 1 changes a page's rights");
  }
  AwaitCpu(1);
  FreeFrame(frame);
  Print(Levels(), " levels: ", kRounds, " flushes of a CPU beside ",
        "loads of the other's x87 unit\n");
}

}  // namespace guest
