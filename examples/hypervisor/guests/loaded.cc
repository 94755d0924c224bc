// Puts another guest into memory, as a loader of the hypervisor had it in a
// memory of its own, and enters that: so that the loaders are tested with real
// kernels, and nothing else of the hypervisor. Its module is what
// tests/loaded/dump.cc writes.

#include <stddef.h>

#include "runtime/cpu.h"
#include "runtime/guest.h"
#include "runtime/report.h"

extern "C" void* memcpy(void* to, const void* from, size_t bytes);

namespace guest {
namespace {

// The words of the Multiboot information that tell of modules.
constexpr unsigned kModuleCount = 5;
constexpr unsigned kModuleAddress = 6;

// As tests/loaded/dump.cc writes it.
struct Registers {
  uint32_t eip, eax, ebx, esi;
  uint32_t code_selector, data_selector;
  // 0: the loader made none.
  uint32_t gdt_base;
  uint32_t gdt_limit;
};
// What follows, with its content, one after the other; the last one is empty.
struct Piece {
  uint32_t address;
  uint32_t bytes;
};

struct __attribute__((packed)) TablePointer {
  uint16_t limit;
  uint32_t base;
};

[[noreturn]] void Enter(const Registers& registers) {
  if (registers.gdt_base != 0) {
    const TablePointer gdt = {static_cast<uint16_t>(registers.gdt_limit),
                              registers.gdt_base};
    asm volatile("lgdt %0" ::"m"(gdt));
  }
  struct {
    uint32_t eip;
    uint16_t selector;
  } target = {registers.eip, static_cast<uint16_t>(registers.code_selector)};
  asm volatile(
      "mov %%ecx, %%ds\n"
      "mov %%ecx, %%es\n"
      "mov %%ecx, %%fs\n"
      "mov %%ecx, %%gs\n"
      "mov %%ecx, %%ss\n"
      "xor %%ecx, %%ecx\n"
      "ljmp *(%%edi)\n" ::"a"(registers.eax),
      "b"(registers.ebx), "S"(registers.esi), "c"(registers.data_selector),
      "D"(&target), "m"(target));
  __builtin_unreachable();
}

}  // namespace

void GuestMain() {
  const uint32_t* const information = MultibootInformation();
  CheckEqual(information[kModuleCount], 1, "modules");
  const auto* const module =
      reinterpret_cast<const uint32_t*>(information[kModuleAddress]);
  const auto* at = reinterpret_cast<const char*>(module[0]);
  Registers registers;
  memcpy(&registers, at, sizeof(registers));
  at += sizeof(registers);
  while (true) {
    Piece piece;
    memcpy(&piece, at, sizeof(piece));
    at += sizeof(piece);
    if (piece.bytes == 0) break;
    memcpy(reinterpret_cast<void*>(piece.address), at, piece.bytes);
    at += piece.bytes;
  }
  Enter(registers);
}

}  // namespace guest
