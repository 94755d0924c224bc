// What each of the machine's CPUs has to itself, found by its GS base: C and
// C++ programs have no use for GS in long mode, and VMLOAD brings it back after
// a guest.
//
//  1. CPUs are numbered from 0, the one that boots, in the order in which they
//     came (processors.h). A thread stays on its CPU.
//
// Thread safety: an object belongs to its CPU, but for what never changes after
// LoadPerCpu: index and apic_id.

#ifndef HYPERVISOR_BOOT_PER_CPU_H_
#define HYPERVISOR_BOOT_PER_CPU_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "boot/segments.h"

namespace hypervisor {

// Eight for vCPUs, and the one that boots (main.cc). More are left halted.
inline constexpr unsigned kMaxCpus = 9;

struct PerCpu {
  static constexpr uint64_t kNever = ~uint64_t{0};

  PerCpu* self = nullptr;
  uint32_t index = 0;
  uint32_t apic_id = 0;
  // Of apic_timer.cc. The CPU's own handler changes them between two
  // instructions of the CPU, and nobody else.
  std::atomic<uint64_t> timer_ticks = 0;
  // On MonotonicNanoseconds' scale; kNever when the timer is not armed.
  std::atomic<uint64_t> timer_armed_for = kNever;
  Segments segments = {};
};
static_assert(offsetof(PerCpu, self) == 0);
static_assert(offsetof(PerCpu, index) == 8);

// Called once a CPU, first of all: makes it CPU `index`, with segments of its
// own.
void LoadPerCpu(uint32_t index);

// Any CPU's; `index` is below kMaxCpus.
PerCpu& PerCpuAt(uint32_t index);

inline PerCpu& ThisCpu() {
  PerCpu* cpu = nullptr;
  __asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
  return *cpu;
}

inline uint32_t CpuIndex() {
  uint32_t index = 0;
  __asm__ volatile("movl %%gs:8, %0" : "=r"(index));
  return index;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_PER_CPU_H_
