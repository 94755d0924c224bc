#include "boot/per_cpu.h"

#include "boot/cpu.h"

namespace hypervisor {
namespace {

constinit PerCpu cpus[kMaxCpus];

}  // namespace

void LoadPerCpu(uint32_t index) {
  constexpr uint32_t kMsrGsBase = 0xc0000101;
  PerCpu& cpu = cpus[index];
  cpu.self = &cpu;
  cpu.index = index;
  // The local APIC's number as it was at reset (APM vol. 3, CPUID, leaf 1).
  cpu.apic_id = ReadCpuid(1).ebx >> 24;
  cpu.segments.Load();
  WriteMsr(kMsrGsBase, reinterpret_cast<uintptr_t>(&cpu));
}

PerCpu& PerCpuAt(uint32_t index) { return cpus[index]; }

}  // namespace hypervisor
