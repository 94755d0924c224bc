// The system calls on files. There are three: 0 is always at its end, 1 and 2
// are the console, which is a terminal, so that stdout is flushed at each
// newline.
//
// Thread safety: any CPU, with interrupts off.

#ifndef HYPERVISOR_SHIM_FILE_CALLS_H_
#define HYPERVISOR_SHIM_FILE_CALLS_H_

#include <cstddef>
#include <cstdint>

struct stat;

namespace hypervisor {

// One piece of writev's (struct iovec).
struct IoPiece {
  const char* begin;
  size_t bytes;
};

int64_t WriteCall(uint64_t file, const char* bytes, uint64_t count);
int64_t WriteVectorCall(uint64_t file, const IoPiece* pieces, uint64_t count);
int64_t StatCall(uint64_t file, struct stat* status);
int64_t IoControlCall(uint64_t file, uint64_t request, void* argument);

}  // namespace hypervisor

#endif  // HYPERVISOR_SHIM_FILE_CALLS_H_
