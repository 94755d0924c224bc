// The machine's other CPUs, started at boot by INIT and start-up interrupts
// (SDM vol. 3, 9.4.4): each halts until it is given a thread (shim/threads.h).
//
// How many there are QEMU's fw_cfg tells; where there is none, there is one.
//
// Thread safety: StartProcessors once, at boot; the rest, any CPU.

#ifndef HYPERVISOR_BOOT_PROCESSORS_H_
#define HYPERVISOR_BOOT_PROCESSORS_H_

#include <cstdint>

namespace hypervisor {

// Returns when all are there; ends the hypervisor if one does not come.
// Precondition: clocks run, and tables that all CPUs share are made.
void StartProcessors();

// 1 to kMaxCpus; constant after boot.
uint32_t CpuCount();

// Interrupts a CPU (kWakeVector), which does nothing but that: it ends a HLT, a
// guest's turn, or the guest's next turn before its first instruction. Never
// waits for that CPU.
void WakeCpu(uint32_t index);

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_PROCESSORS_H_
