#include "boot/boot.h"

#include "boot/apic_timer.h"
#include "boot/calibration.h"
#include "boot/console.h"
#include "boot/exit.h"
#include "boot/identity_map.h"
#include "boot/idt.h"
#include "boot/initial_stack.h"
#include "boot/local_apic.h"
#include "boot/memory_map.h"
#include "boot/module.h"
#include "boot/per_cpu.h"
#include "boot/pic.h"
#include "boot/processors.h"
#include "boot/tsc_clock.h"
#include "shim/memory_calls.h"
#include "shim/syscall.h"

// From entry.S.
extern "C" [[noreturn]] void EnterProcess(uint64_t stack_pointer);

namespace hypervisor {
namespace {

void StartClocks() {
  SilencePics();
  EnableLocalApic();
  const Calibration calibration = Calibrate();
  InitTscClock(calibration.tsc_hertz);
  InitApicTimer(calibration.apic_timer_hertz);
}

}  // namespace
}  // namespace hypervisor

extern "C" [[noreturn]] void BootMain(const hypervisor::StartInfo* info) {
  using namespace hypervisor;  // NOLINT: it has to have C's name
  InitConsole();
  LoadPerCpu(0);
  InitIdt();
  LoadIdt();
  if (info->magic != StartInfo::kMagic ||
      info->version < StartInfo::kVersionWithMemoryMap) {
    ExitBecause("the loader gives no memory map (PVH start info, version 1)");
  }
  InitModule(*info);
  InitMemoryMap(*info);
  RestrictIdentityMap();
  InitShimMemory(UsableRam(), ImageRange());
  StartClocks();
  InstallSyscalls();
  StartProcessors();
  EnterProcess(BuildInitialStack(BootCommandLine()).value());
}
