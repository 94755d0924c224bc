// malloc, mmap, and the memory map behind them.
//
// Thread safety: one thread.

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "boot/memory_map.h"
#include "boot/module.h"
#include "tests/boot_selftest/selftest.h"

namespace hypervisor {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

void TestMalloc() {
  for (size_t bytes = 1; bytes <= 256 * kMiB; bytes *= 2) {
    auto* block = static_cast<volatile char*>(std::malloc(bytes));
    Expect(block != nullptr, "malloc of up to 256 MiB");
    block[0] = 1;
    block[bytes - 1] = 2;
    std::free(const_cast<char*>(block));
  }
  std::vector<uint32_t> grows;
  for (uint32_t i = 0; i < 2000000; ++i) grows.push_back(i);
  Expect(grows.front() == 0 && grows.back() == 1999999, "a vector grows");
  void* text = std::malloc(kMiB);
  std::memset(text, 'x', kMiB);
  text = std::realloc(text, 64 * kMiB);
  Expect(text != nullptr && std::memchr(text, 0, kMiB) == nullptr,
         "realloc keeps what was there");
  std::free(text);
}

char* Map(size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
}

bool IsZero(const char* bytes, size_t count) {
  constexpr size_t kWord = sizeof(uint64_t);
  uint64_t any = 0;
  for (size_t i = 0; i + kWord <= count; i += kWord) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i, kWord);
    any |= word;
  }
  return any == 0;
}

void TestMappings() {
  char* const small = Map(4096);
  for (const size_t bytes : {2 * kMiB, 3 * kMiB + 5, 64 * kMiB}) {
    char* const at = Map(bytes);
    Expect(at != nullptr && reinterpret_cast<uintptr_t>(at) % (2 * kMiB) == 0,
           "a large mapping is aligned to 2 MiB");
    Expect(IsZero(at, bytes), "a new mapping is zero");
    std::memset(at, 0xaa, bytes);
    Expect(munmap(at, bytes) == 0, "munmap");
    Expect(Map(bytes) == at, "memory comes back when it is free again");
    Expect(IsZero(at, bytes), "used memory comes back as zeros");
    std::memset(at, 0x55, bytes);
    Expect(madvise(at, bytes, MADV_DONTNEED) == 0 && IsZero(at, bytes),
           "MADV_DONTNEED leaves zeros");
    munmap(at, bytes);
  }
  munmap(small, 4096);
  Expect(Map(8192 * kMiB) == nullptr && errno == ENOMEM, "8 GiB are not there");
}

// Whatever firmware, loader and earlier owners left, nobody gets to see.
void TestAllMemoryIsZero() {
  std::vector<char*> chunks;
  for (char* at = Map(16 * kMiB); at != nullptr; at = Map(16 * kMiB)) {
    Expect(IsZero(at, 16 * kMiB), "all memory is zero, used or not");
    chunks.push_back(at);
  }
  Expect(errno == ENOMEM, "memory ends with ENOMEM");
  Expect(chunks.size() >= 56, "most of the memory can be had");
  for (char* at : chunks) munmap(at, 16 * kMiB);
}

void TestMemoryMap() {
  static const int global = 0;
  const auto here = reinterpret_cast<uintptr_t>(&global);
  const auto module = reinterpret_cast<uintptr_t>(BootModule().data());
  uint64_t bytes = 0;
  for (const shadowmmu::HvaRange& range : UsableRam()) {
    bytes += range.bytes;
    Expect(range.begin.value() >= kMiB, "low memory is kept out");
    Expect(!range.Contains(shadowmmu::Hva(here)), "the image is kept out");
    Expect(!range.Contains(shadowmmu::Hva(module)), "the module is kept out");
  }
  Expect(bytes > 980 * kMiB && bytes < 1024 * kMiB, "1 GiB, less a little");
}

}  // namespace

void TestMemory() {
  TestMemoryMap();
  TestMalloc();
  TestMappings();
  TestAllMemoryIsZero();
}

}  // namespace hypervisor
