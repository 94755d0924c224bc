#include "boot/identity_map.h"

#include <elf.h>

#include <cstdint>

#include "boot/cpu.h"
#include "boot/freestanding.h"
#include "boot/initial_stack.h"
#include "boot/memory_map.h"

// From the linker: the image's first bytes.
extern "C" const Elf64_Ehdr __ehdr_start;
// From entry.S: entry i maps 2 MiB at i * 2 MiB; entry i maps 4 KiB at i * 4
// KiB.
extern "C" uint64_t boot_page_directories[4 * 512];
extern "C" uint64_t boot_first_page_table[512];

namespace hypervisor {
namespace {

// Bits of an entry (APM vol. 2, 5.3.3).
constexpr uint64_t kWritable = uint64_t{1} << 1;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kLargePage = uint64_t{1} << 21;

uint64_t& EntryOf(uint64_t address) {
  return boot_page_directories[address / kLargePage];
}

// A page that two segments share gets what either needs.
void Grant(const Elf64_Phdr& segment) {
  const uint64_t end = segment.p_vaddr + segment.p_memsz;
  for (uint64_t at = AlignDown(segment.p_vaddr, kLargePage); at < end;
       at += kLargePage) {
    if (segment.p_flags & PF_W) EntryOf(at) |= kWritable;
    if (segment.p_flags & PF_X) EntryOf(at) &= ~kNoExecute;
  }
}

void RestrictImage() {
  const shadowmmu::HvaRange image = ImageRange();
  for (uint64_t at = AlignDown(image.begin.value(), kLargePage);
       at < image.end().value(); at += kLargePage) {
    EntryOf(at) &= ~kWritable;
  }
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(
      reinterpret_cast<uintptr_t>(&__ehdr_start) + __ehdr_start.e_phoff);
  for (unsigned i = 0; i < __ehdr_start.e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD) Grant(segments[i]);
  }
}

}  // namespace

void RestrictIdentityMap() {
  // The first entry is a page table's: its NX holds for all of that table.
  for (uint64_t& entry : boot_page_directories) entry |= kNoExecute;
  RestrictImage();
  boot_first_page_table[0] = 0;
  EntryOf(MainStackGuard().value()) = 0;
  FlushTlb();
}

}  // namespace hypervisor
