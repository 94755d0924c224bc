#include "bench/micro/instructions.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace shadowmmu::bench {

InstructionCounter::InstructionCounter() {
  perf_event_attr what;
  std::memset(&what, 0, sizeof(what));
  what.type = PERF_TYPE_HARDWARE;
  what.size = sizeof(what);
  what.config = PERF_COUNT_HW_INSTRUCTIONS;
  what.exclude_kernel = 1;
  what.exclude_hv = 1;
  file_ = static_cast<int>(syscall(SYS_perf_event_open, &what, 0, -1, -1, 0));
  if (file_ < 0) {
    why_ = absl::StrCat("perf_event_open: ", std::strerror(errno));
    return;
  }
  if (Read() == 0 && Read() == 0) {
    why_ = "the machine's counter of instructions stays at zero";
    close(file_);
    file_ = -1;
  }
}

InstructionCounter::~InstructionCounter() {
  if (file_ >= 0) close(file_);
}

uint64_t InstructionCounter::Read() const {
  uint64_t count = 0;
  if (file_ < 0 || read(file_, &count, sizeof(count)) != sizeof(count)) {
    return 0;
  }
  return count;
}

}  // namespace shadowmmu::bench
