#include "shim/file_calls.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/termbits.h>

#include "boot/console.h"
#include "boot/freestanding.h"

namespace hypervisor {
namespace {

constexpr uint64_t kFiles = 3;
// S_IFCHR | S_IRUSR | S_IWUSR: glibc keeps the kernel's header from saying so.
constexpr uint32_t kCharacterDevice = 0020600;

bool IsConsole(uint64_t file) { return file == 1 || file == 2; }

}  // namespace

int64_t WriteCall(uint64_t file, const char* bytes, uint64_t count) {
  if (!IsConsole(file)) return -EBADF;
  ConsoleWrite({bytes, count});
  return static_cast<int64_t>(count);
}

int64_t WriteVectorCall(uint64_t file, const IoPiece* pieces, uint64_t count) {
  if (!IsConsole(file)) return -EBADF;
  int64_t written = 0;
  for (uint64_t i = 0; i < count; ++i) {
    written += WriteCall(file, pieces[i].begin, pieces[i].bytes);
  }
  return written;
}

int64_t StatCall(uint64_t file, struct stat* status) {
  if (file >= kFiles) return -EBADF;
  ZeroBytes(status, sizeof(*status));
  status->st_mode = kCharacterDevice;
  status->st_nlink = 1;
  status->st_blksize = 1024;
  return 0;
}

int64_t IoControlCall(uint64_t file, uint64_t request, void* argument) {
  if (file >= kFiles) return -EBADF;
  // isatty asks this, and wants no more than success.
  if (!IsConsole(file) || request != TCGETS) return -ENOTTY;
  ZeroBytes(argument, sizeof(struct termios));
  return 0;
}

}  // namespace hypervisor
