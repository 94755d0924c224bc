#include "boot/processors.h"

#include <atomic>
#include <cstddef>

#include "boot/apic_timer.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/freestanding.h"
#include "boot/idt.h"
#include "boot/local_apic.h"
#include "boot/per_cpu.h"
#include "boot/trap.h"
#include "boot/tsc_clock.h"
#include "shim/syscall.h"
#include "shim/threads.h"

// From ap_start.S: the code that is to be copied below 1 MiB.
extern "C" const char ap_trampoline[];
extern "C" const char ap_trampoline_end[];

// For ap_start.S: a stack for each, the first of them unused.
extern "C" {
extern const uint32_t ap_limit = hypervisor::kMaxCpus;
extern const uint32_t ap_stack_bytes = hypervisor::kIdleStackBytes;
alignas(16) constinit std::byte
    ap_stacks[hypervisor::kMaxCpus * hypervisor::kIdleStackBytes] = {};
[[noreturn]] void ApMain(uint32_t index);
}

namespace hypervisor {
namespace {

// Conventional memory that nobody uses any more, a whole page (memory_map.h).
constexpr uintptr_t kTrampoline = 0x8000;

constinit uint32_t cpu_count = 1;
// CPUs that wait for work, the one that boots among them.
constinit std::atomic<uint32_t> arrived = 1;

// QEMU's specification "QEMU Firmware Configuration (fw_cfg) Device".
constexpr uint16_t kSelector = 0x510;
constexpr uint16_t kData = 0x511;

uint32_t CountCpus() {
  constexpr uint16_t kSignature = 0;
  constexpr uint16_t kCpus = 5;
  PortOut16(kSelector, kSignature);
  for (const char byte : {'Q', 'E', 'M', 'U'}) {
    if (PortIn8(kData) != static_cast<uint8_t>(byte)) return 1;
  }
  PortOut16(kSelector, kCpus);
  const uint32_t low = PortIn8(kData);
  const uint32_t count = low | uint32_t{PortIn8(kData)} << 8;
  if (count == 0) return 1;
  return count < kMaxCpus ? count : kMaxCpus;
}

void WaitFor(uint64_t nanoseconds) {
  const uint64_t start = MonotonicNanoseconds();
  while (MonotonicNanoseconds() - start < nanoseconds) Pause();
}

bool AllArrived() { return arrived.load() >= cpu_count; }

}  // namespace

void StartProcessors() {
  cpu_count = CountCpus();
  if (cpu_count == 1) return;
  CopyBytes(reinterpret_cast<void*>(kTrampoline), ap_trampoline,
            static_cast<size_t>(ap_trampoline_end - ap_trampoline));
  constexpr uint64_t kMillisecond = 1'000'000;
  constexpr uint64_t kPatience = 60'000 * kMillisecond;
  SendInitToOthers();
  WaitFor(10 * kMillisecond);
  // One that has been started takes no notice of more; one that was too slow
  // to see INIT takes none of the first.
  const uint64_t start = MonotonicNanoseconds();
  while (!AllArrived()) {
    SendStartupToOthers(kTrampoline / 4096);
    for (int i = 0; i < 10 && !AllArrived(); ++i) WaitFor(kMillisecond / 5);
    if (MonotonicNanoseconds() - start > kPatience) {
      ExitBecause("not all CPUs start");
    }
  }
}

uint32_t CpuCount() { return cpu_count; }

void WakeCpu(uint32_t index) {
  SendInterrupt(PerCpuAt(index).apic_id, kWakeVector);
}

}  // namespace hypervisor

void ApMain(uint32_t index) {
  using namespace hypervisor;  // NOLINT: it has to have C's name
  LoadPerCpu(index);
  LoadIdt();
  EnableLocalApic();
  StartApicTimer();
  InstallSyscalls();
  arrived.fetch_add(1);
  WaitForThreads();
}
