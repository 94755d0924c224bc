#include "boot/trap.h"

#include <atomic>
#include <string_view>

#include "boot/apic_timer.h"
#include "boot/console.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/local_apic.h"
#include "boot/per_cpu.h"
#include "boot/pic.h"

// From the linker and the C library's start: where code begins and ends.
extern "C" void _init();
extern "C" const char etext[];

namespace hypervisor {
namespace {

constexpr uint64_t kExceptions = 32;

// APM vol. 2, 8.2, table 8-1.
constexpr std::string_view kNames[kExceptions] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",  "#TS",
    "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XF", "20", "#CP",
    "22",  "23",  "24",  "25",  "26",  "27",  "#HV", "#VC", "#SX", "31"};

void PrintRegister(std::string_view name, uint64_t value) {
  ConsoleWrite(name);
  ConsoleWriteHex(value);
}

void PrintRegisters(const TrapFrame& frame) {
  PrintRegister("  rip ", frame.rip);
  PrintRegister("  rsp ", frame.rsp);
  PrintRegister("  rflags ", frame.rflags);
  PrintRegister("\n  rax ", frame.rax);
  PrintRegister("  rbx ", frame.rbx);
  PrintRegister("  rcx ", frame.rcx);
  PrintRegister("  rdx ", frame.rdx);
  PrintRegister("\n  rsi ", frame.rsi);
  PrintRegister("  rdi ", frame.rdi);
  PrintRegister("  rbp ", frame.rbp);
  PrintRegister("  r8  ", frame.r8);
  PrintRegister("\n  r9  ", frame.r9);
  PrintRegister("  r10 ", frame.r10);
  PrintRegister("  r11 ", frame.r11);
  PrintRegister("  r12 ", frame.r12);
  PrintRegister("\n  r13 ", frame.r13);
  PrintRegister("  r14 ", frame.r14);
  PrintRegister("  r15 ", frame.r15);
  ConsoleWrite("\n");
}

// The words of the stack that point into code: the callers are among them.
void PrintCallers(uint64_t stack_pointer) {
  constexpr unsigned kWords = 256;
  constexpr unsigned kCallers = 16;
  const auto code_begin = reinterpret_cast<uintptr_t>(&_init);
  const auto code_end = reinterpret_cast<uintptr_t>(etext);
  ConsoleWrite("  words on the stack that may be return addresses:\n");
  const auto* words = reinterpret_cast<const uint64_t*>(stack_pointer & ~7ull);
  unsigned found = 0;
  for (unsigned i = 0; i < kWords && found < kCallers; ++i) {
    if (words[i] < code_begin || words[i] >= code_end) continue;
    PrintRegister("    ", words[i]);
    ConsoleWrite("\n");
    ++found;
  }
}

[[noreturn]] void Die(const TrapFrame& frame) {
  // A fault in here would come back to the same stack, again and again; and one
  // report is enough.
  constexpr uint32_t kNobody = ~0u;
  constinit static std::atomic<uint32_t> dying = kNobody;
  uint32_t first = kNobody;
  if (!dying.compare_exchange_strong(first, CpuIndex())) {
    if (first == CpuIndex()) ExitMachine(kExitException);
    HaltForEver();
  }

  ConsoleWrite("\nhypervisor: CPU ");
  ConsoleWriteDecimal(CpuIndex());
  ConsoleWrite(": exception ");
  ConsoleWrite(kNames[frame.vector]);
  PrintRegister("  error code ", frame.error_code);
  PrintRegister("  cr2 ", ReadCr2());
  ConsoleWrite("\n");
  PrintRegisters(frame);
  PrintCallers(frame.rsp);
  ExitMachine(kExitException);
}

}  // namespace
}  // namespace hypervisor

extern "C" void HandleTrap(const hypervisor::TrapFrame* frame) {
  using namespace hypervisor;  // NOLINT: it has to have C's name
  if (frame->vector < kExceptions) Die(*frame);
  if (frame->vector == kTimerVector) return HandleTimerInterrupt();
  if (frame->vector == kWakeVector) {
    ApicWrite(ApicRegister::kEndOfInterrupt, 0);
    return;
  }
  // Neither a spurious interrupt of the local APIC nor one of the PICs is
  // acknowledged (SDM vol. 3, 11.9; datasheet of the 8259A, spurious IR7).
  if (frame->vector == kSpuriousVector || IsPicVector(frame->vector)) return;
  ConsoleWrite("hypervisor: interrupt ");
  ConsoleWriteHex(frame->vector);
  ExitBecause(" that nothing here asks for");
}
