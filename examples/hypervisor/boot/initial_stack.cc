#include "boot/initial_stack.h"

#include <elf.h>

#include <cstdint>

#include "boot/exit.h"
#include "boot/freestanding.h"
#include "boot/module.h"
#include "boot/random.h"

// From the linker: the image's first bytes.
extern "C" const Elf64_Ehdr __ehdr_start;

namespace hypervisor {
namespace {

constexpr size_t kGuardBytes = size_t{2} << 20;
alignas(kGuardBytes) constinit std::byte
    main_stack[kGuardBytes + kMainStackBytes] = {};

// argv's strings: the command line with its words ended by zeros.
constinit char program_name[] = "hypervisor";
constinit char arguments[kMaxCommandLine + 1] = {};
constinit char* argv[1 + kMaxArguments] = {program_name};
constinit size_t argc = 1;

// malloc's arenas reserve 64 MiB of address space each, which is memory here:
// one has to do for all threads. And without ERMS, memset and memcpy do not use
// string instructions, which take an emulator ten times as long as SSE's.
constinit char tunables[] =
    "GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.cpu.hwcaps=-ERMS";

constinit uint64_t random_bytes[2] = {};

void SplitIntoWords(std::string_view line) {
  size_t length = 0;
  bool quoted = false;
  bool in_word = false;
  for (const char c : line) {
    if (c == ' ' && !quoted) {
      if (in_word) arguments[length++] = 0;
      in_word = false;
      continue;
    }
    if (!in_word) {
      if (argc == 1 + kMaxArguments) ExitBecause("too many arguments");
      argv[argc++] = &arguments[length];
      in_word = true;
    }
    if (c == '"') {
      quoted = !quoted;
    } else {
      arguments[length++] = c;
    }
  }
}

// Stores words one after the other, from the lowest address up.
class WordWriter {
 public:
  explicit WordWriter(uint64_t* at) : at_(at) {}

  void Put(uint64_t word) { *at_++ = word; }
  void PutAddress(const void* address) {
    Put(reinterpret_cast<uintptr_t>(address));
  }
  void PutAuxiliary(uint64_t type, uint64_t value) {
    Put(type);
    Put(value);
  }

 private:
  uint64_t* at_;
};

}  // namespace

shadowmmu::Hva BuildInitialStack(std::string_view command_line) {
  SplitIntoWords(command_line);
  for (uint64_t& word : random_bytes) word = NextRandom();

  constexpr size_t kAuxiliaries = 12;
  const size_t words = 1 + argc + 1 + 2 + 2 * kAuxiliaries;
  const uint64_t top =
      reinterpret_cast<uintptr_t>(main_stack) + sizeof(main_stack);
  const uint64_t stack_pointer = AlignDown(top - words * 8, 16);

  WordWriter writer(reinterpret_cast<uint64_t*>(stack_pointer));
  writer.Put(argc);
  for (size_t i = 0; i < argc; ++i) writer.PutAddress(argv[i]);
  writer.Put(0);
  writer.PutAddress(tunables);
  writer.Put(0);
  const auto image = reinterpret_cast<uintptr_t>(&__ehdr_start);
  writer.PutAuxiliary(AT_PHDR, image + __ehdr_start.e_phoff);
  writer.PutAuxiliary(AT_PHENT, __ehdr_start.e_phentsize);
  writer.PutAuxiliary(AT_PHNUM, __ehdr_start.e_phnum);
  writer.PutAuxiliary(AT_PAGESZ, shadowmmu::kPageSize);
  writer.PutAuxiliary(AT_ENTRY, __ehdr_start.e_entry);
  writer.PutAuxiliary(AT_RANDOM, reinterpret_cast<uintptr_t>(random_bytes));
  writer.PutAuxiliary(AT_EXECFN, reinterpret_cast<uintptr_t>(program_name));
  writer.PutAuxiliary(AT_SECURE, 0);
  writer.PutAuxiliary(AT_HWCAP, 0);
  writer.PutAuxiliary(AT_HWCAP2, 0);
  writer.PutAuxiliary(AT_CLKTCK, 100);
  writer.PutAuxiliary(AT_NULL, 0);
  return shadowmmu::Hva(stack_pointer);
}

shadowmmu::Hva MainStackGuard() {
  return shadowmmu::Hva(reinterpret_cast<uintptr_t>(main_stack));
}

}  // namespace hypervisor
