// Reads what a boot loader needs of an ELF executable for x86: where its
// segments lie in physical memory, and where it is entered.
//
// Thread safety: a pure function.

#ifndef HYPERVISOR_LOADERS_ELF_H_
#define HYPERVISOR_LOADERS_ELF_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "loaders/guest_memory.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// A segment of type PT_LOAD that is not empty. `content`, a view of the file,
// fills the begin of `range`, and zeros the rest.
struct ElfSegment {
  GpaRange range;
  std::span<const std::byte> content;
};

struct ElfImage {
  // Physical: an entry within a segment's virtual addresses moves with it.
  shadowmmu::Gpa entry;
  std::vector<ElfSegment> segments;
};

// A file of more program headers is refused.
inline constexpr size_t kMaxProgramHeaders = 256;

// Of either class. InvalidArgument if it is no such file, or names bytes that
// it does not have. That the segments lie in RAM is not checked here.
absl::StatusOr<ElfImage> ReadElf(std::span<const std::byte> file);

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_ELF_H_
