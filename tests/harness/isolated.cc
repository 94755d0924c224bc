#include "tests/harness/isolated.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <new>

#include "src/base/check.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

void DiscardStderr() {
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDERR_FILENO);
}

// In the child; does not return.
[[noreturn]] void RunChild(absl::FunctionRef<std::string()> body, int to,
                           ChildStderr child_stderr, unsigned seconds) {
  if (child_stderr == ChildStderr::kDiscard) DiscardStderr();
  alarm(seconds);
  const std::string said = body();
  size_t written = 0;
  while (written < said.size()) {
    const ssize_t count =
        write(to, said.data() + written, said.size() - written);
    if (count <= 0) break;
    written += static_cast<size_t>(count);
  }
  _exit(0);
}

std::string ReadAll(int from) {
  std::string all;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = read(from, buffer.data(), buffer.size());
    if (count <= 0) return all;
    all.append(buffer.data(), static_cast<size_t>(count));
  }
}

// A number that parent and child share.
class SharedNumber {
 public:
  SharedNumber()
      : memory_(mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    SMMU_CHECK(memory_ != MAP_FAILED);
    value_ = new (memory_) uint64_t{0};
  }
  ~SharedNumber() { munmap(memory_, sizeof(uint64_t)); }
  SharedNumber(const SharedNumber&) = delete;
  SharedNumber& operator=(const SharedNumber&) = delete;
  volatile uint64_t& value() { return *value_; }

 private:
  void* const memory_;
  volatile uint64_t* value_;
};

}  // namespace

std::optional<std::string> RunIsolated(absl::FunctionRef<std::string()> body,
                                       ChildStderr child_stderr,
                                       unsigned seconds) {
  std::array<int, 2> pipe_ends{};
  SMMU_CHECK(pipe(pipe_ends.data()) == 0);
  // What is buffered would be written twice.
  std::fflush(nullptr);
  const pid_t child = fork();
  SMMU_CHECK(child >= 0);
  if (child == 0) {
    close(pipe_ends[0]);
    RunChild(body, pipe_ends[1], child_stderr, seconds);
  }
  close(pipe_ends[1]);
  const std::string said = ReadAll(pipe_ends[0]);
  close(pipe_ends[0]);
  int status = 0;
  SMMU_CHECK(waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) {
    return WTERMSIG(status) == SIGALRM
               ? Say("it did not end within ", seconds, " seconds")
               : Say("it died of signal ", WTERMSIG(status));
  }
  if (WEXITSTATUS(status) != 0) {
    return Say("it ended with status ", WEXITSTATUS(status));
  }
  if (said.empty()) return std::nullopt;
  return said;
}

std::optional<std::string> RunStreamIsolated(const OpStream& stream,
                                             ChildStderr child_stderr) {
  return RunIsolated(
      [&] {
        const std::optional<StreamFailure> failure = RunStream(stream);
        return failure ? ReportOf(stream, *failure) : std::string();
      },
      child_stderr);
}

OpStream ShrinkIsolated(const OpStream& stream) {
  return Shrink(stream, [](const OpStream& candidate) {
    return RunStreamIsolated(candidate, ChildStderr::kDiscard).has_value();
  });
}

std::optional<uint64_t> FirstFailingSeed(uint64_t first, uint64_t last,
                                         const SimulatorOptions& options) {
  SharedNumber seed;
  const std::optional<std::string> failure = RunIsolated(
      [&]() -> std::string {
        for (uint64_t at = first; at <= last; ++at) {
          seed.value() = at;
          if (RunStream(GenerateStream(at, options))) return "failed";
        }
        return "";
      },
      ChildStderr::kDiscard, 600);
  if (!failure) return std::nullopt;
  return seed.value();
}

}  // namespace shadowmmu::testing
