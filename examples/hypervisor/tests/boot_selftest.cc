// An image of its own for the bare machine: looks at what boot/ and shim/ made of
// it, from inside. tests/run_boot_selftest runs it under QEMU.
//
//   boot_selftest.elf                   checks everything; exits with 0, or with 1
//                                       after the name of what does not hold
//   boot_selftest.elf --fail-by=NAME    goes wrong in the way that is asked for
//
// Thread safety: one thread.

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "boot/apic_timer.h"
#include "boot/cpu.h"
#include "boot/host_clock.h"
#include "boot/memory_map.h"
#include "boot/module.h"
#include "boot/pit.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

constexpr uint64_t kMillisecond = 1000000;
constexpr size_t kMiB = size_t{1} << 20;

void Expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

// True if `attempt` succeeds once in a few times: for what a busy machine, which
// takes the processor away from QEMU, may spoil.
bool OnceInTen(const std::function<bool()>& attempt) {
  for (int i = 0; i < 10; ++i) {
    if (attempt()) return true;
  }
  return false;
}

// ---- The C++ runtime ----

struct Counts {
  explicit Counts(int& count) : count_(count) { ++count_; }
  Counts(const Counts&) = delete;
  Counts& operator=(const Counts&) = delete;
  ~Counts() { --count_; }
  int& count_;
};

[[gnu::noinline]] void ThrowFrom(int depth, int& alive) {
  const Counts counts(alive);
  if (depth == 0) throw std::runtime_error("thrown");
  ThrowFrom(depth - 1, alive);
}

void TestExceptions() {
  int alive = 0;
  std::string caught;
  try {
    ThrowFrom(20, alive);
  } catch (const std::exception& error) {
    caught = error.what();
  }
  Expect(caught == "thrown", "an exception is caught");
  Expect(alive == 0, "destructors run while one is on its way");
}

struct FromConstructor {
  FromConstructor() : value(std::make_unique<int>(17)) {}
  std::unique_ptr<int> value;
};
const FromConstructor global;
thread_local int thread_local_value = 4;

FromConstructor& Static() {
  static FromConstructor object;
  return object;
}

void TestStatics() {
  Expect(*global.value == 17, "constructors of globals have run");
  Expect(*Static().value == 17, "a static in a function is made");
  Expect(++thread_local_value == 5, "thread-local storage is there");
}

void TestContainers() {
  absl::flat_hash_map<uint64_t, std::string> map;
  for (uint64_t i = 0; i < 20000; ++i) map[i * 4096] = std::to_string(i);
  for (uint64_t i = 0; i < 20000; i += 2) map.erase(i * 4096);
  Expect(map.size() == 10000, "a flat_hash_map counts");
  Expect(map.at(9999 * 4096) == "9999", "a flat_hash_map finds");
}

void TestMutex() {
  absl::Mutex mutex;
  bool ready = true;
  {
    const absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&ready));
    ready = false;
    Expect(!mutex.AwaitWithTimeout(absl::Condition(&ready),
                                   absl::Milliseconds(2)),
           "a wait with a timeout ends");
  }
  Expect(mutex.TryLock(), "a mutex is free after its lock");
  mutex.Unlock();
}

void TestThreadsAreRefused() {
  bool refused = false;
  try {
    std::thread([] {}).join();
  } catch (const std::system_error&) {
    refused = true;
  }
  Expect(refused, "a thread cannot be had, and the caller is told");
}

void TestFloatingPoint() {
  std::vector<double> values(1000);
  std::iota(values.begin(), values.end(), 1.0);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  Expect(sum == 500500.0, "doubles add");
  Expect(std::abs(std::sin(0.5) - 0.479425538604203) < 1e-15, "sin(0.5)");
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", std::sqrt(2.0));
  Expect(std::string_view(text) == "1.414", "printf prints doubles");
}

// ---- Memory ----

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
  Expect(std::malloc(size_t{8} << 30) == nullptr, "malloc of 8 GiB fails");
}

char* Map(size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
}

bool IsZero(const char* bytes, size_t count) {
  return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, count - 1) == 0;
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
}

// Whatever firmware and loader left in memory that is free, nobody gets to see.
void TestAllMemoryIsZero() {
  std::vector<char*> chunks;
  for (char* at = Map(16 * kMiB); at != nullptr; at = Map(16 * kMiB)) {
    Expect(IsZero(at, 16 * kMiB), "all memory is zero at first");
    chunks.push_back(at);
  }
  Expect(errno == ENOMEM, "memory ends with ENOMEM");
  Expect(chunks.size() >= 56, "most of the memory can be had");
  for (char* at : chunks) munmap(at, 16 * kMiB);
}

void TestMemoryMap() {
  const uintptr_t here = reinterpret_cast<uintptr_t>(&global);
  const uintptr_t module = reinterpret_cast<uintptr_t>(BootModule().data());
  uint64_t bytes = 0;
  for (const shadowmmu::HvaRange& range : UsableRam()) {
    bytes += range.bytes;
    Expect(range.begin.value() >= kMiB, "low memory is kept out");
    Expect(!range.Contains(shadowmmu::Hva(here)), "the image is kept out");
    Expect(!range.Contains(shadowmmu::Hva(module)), "the module is kept out");
  }
  Expect(bytes > 980 * kMiB && bytes < 1024 * kMiB, "1 GiB, less a little");
}

// ---- What system calls and interrupts leave alone ----

// Fills the red zone and an SSE register, does `what`, and looks.
#define SURVIVES(what, clobbers...)                            \
  [] {                                                         \
    uint64_t zone = 0;                                         \
    uint64_t sse = 0;                                          \
    __asm__ volatile(                                          \
        "lea -256(%%rsp), %%rsp\n\t"                           \
        "movq $0x1234567, %%rbx\n\t"                           \
        "movq %%rbx, -8(%%rsp)\n\t"                            \
        "movq %%rbx, -128(%%rsp)\n\t"                          \
        "movq %%rbx, %%xmm5\n\t" what                          \
        "\n\t"                                                 \
        "movq -8(%%rsp), %0\n\t"                               \
        "andq -128(%%rsp), %0\n\t"                             \
        "movq %%xmm5, %1\n\t"                                  \
        "lea 256(%%rsp), %%rsp"                                \
        : "=&r"(zone), "=&r"(sse)                              \
        :                                                      \
        : "rax", "rbx", "xmm5", "cc", "memory", ##clobbers);   \
    return zone == 0x1234567 && sse == 0x1234567;              \
  }()

void TestStateSurvives() {
  const bool over_call =
      SURVIVES("mov $39, %%eax\n\tsyscall", "rcx", "r11");  // getpid
  Expect(over_call, "red zone and SSE state live over a system call");
  const uint64_t before = TimerTicks();
  ArmTimer(0);
  const uint64_t start = MonotonicNanoseconds();
  while (MonotonicNanoseconds() < start + kMillisecond) {
  }
  const bool over_interrupt = SURVIVES("sti\n\tnop\n\tcli");
  Expect(TimerTicks() == before + 1, "the interrupt came");
  Expect(over_interrupt, "red zone and SSE state live over an interrupt");
}

// ---- Time ----

void TestClockAgainstPit() {
  HostClock clock;
  uint64_t last = clock.Nanoseconds();
  for (int i = 0; i < 100000; ++i) {
    const uint64_t now = clock.Nanoseconds();
    Expect(now >= last, "the clock does not go back");
    last = now;
  }
  const bool right = OnceInTen([&clock] {
    constexpr uint16_t kCounts = kPitHertz / 50;  // 20 ms
    PitStart();
    PitLatch();
    const uint64_t start = clock.Nanoseconds();
    const uint16_t first = PitReadLatched();
    uint16_t passed = 0;
    uint64_t end = 0;
    while (passed < kCounts) {
      PitLatch();
      end = clock.Nanoseconds();
      passed = static_cast<uint16_t>(first - PitReadLatched());
    }
    const double expected = 1e9 * passed / kPitHertz;
    return std::abs(static_cast<double>(end - start) / expected - 1) < 0.01;
  });
  Expect(right, "the clock agrees with the PIT within 1 %");
}

void TestTimer() {
  const bool in_time = OnceInTen([] {
    const uint64_t before = TimerTicks();
    const uint64_t start = MonotonicNanoseconds();
    ArmTimer(5 * kMillisecond);
    while (TimerTicks() == before) WaitForInterrupt();
    const uint64_t took = MonotonicNanoseconds() - start;
    Expect(took > 4900000, "the timer does not fire early");
    return took < 7 * kMillisecond;
  });
  Expect(in_time, "the timer wakes who waits after 5 ms");

  const uint64_t before = TimerTicks();
  ArmTimer(kMillisecond / 10);
  const uint64_t start = MonotonicNanoseconds();
  while (MonotonicNanoseconds() < start + kMillisecond) {
  }
  Expect(TimerTicks() == before, "no interrupt comes while they are off");
  TakePendingInterrupts();
  Expect(TimerTicks() == before + 1, "it comes when it is let in");

  ArmTimer(kMillisecond);
  DisarmTimer();
  ArmTimer(2 * kMillisecond);
  WaitForInterrupt();
  Expect(TimerTicks() == before + 2, "arming replaces, disarming stops");
}

void TestSleep() {
  const uint64_t ticks = TimerTicks();
  ArmTimer(6 * kMillisecond);
  const uint64_t start = MonotonicNanoseconds();
  usleep(2000);
  Expect(MonotonicNanoseconds() - start >= 2 * kMillisecond, "usleep sleeps");
  Expect(TimerTicks() > ticks, "it waits for the timer, and does not spin");
  const uint64_t slept = TimerTicks();
  WaitForInterrupt();
  Expect(TimerTicks() == slept + 1 &&
             MonotonicNanoseconds() - start > 5900000,
         "the timer is armed after a sleep as it was before");
}

// ---- What came along ----

// The script's: the numbers from 1, one a line.
void TestModule() {
  std::string expected;
  for (int i = 1; i <= 100000; ++i) expected += std::to_string(i) + "\n";
  const auto module = BootModule();
  Expect(std::string_view(reinterpret_cast<const char*>(module.data()),
                          module.size()) == expected,
         "the module is what was given");
}

void TestCommandLine(int argc, char** argv) {
  Expect(BootCommandLine() == "--word  \"two words\" --last=\"x y\"",
         "the command line is what was given");
  Expect(argc == 4, "it has three words");
  Expect(std::string_view(argv[1]) == "--word", "the first word");
  Expect(std::string_view(argv[2]) == "two words", "one in quotes");
  Expect(std::string_view(argv[3]) == "--last=x y", "one in part");
  Expect(argv[4] == nullptr, "argv ends");
}

// ---- Going wrong ----

[[gnu::noinline]] int Recurse(volatile int* above) {
  volatile int here[1024];
  here[0] = *above + 1;
  return Recurse(here) + here[0];
}

// Each is the end, one way or another; `way` must be known.
void FailBy(std::string_view way) {
  static volatile uintptr_t null = 0;
  static unsigned char data[] = {0xc3};
  volatile int zero = 0;
  if (way == "null") *reinterpret_cast<volatile int*>(null) = 1;
  if (way == "null-call") reinterpret_cast<void (*)()>(null)();
  if (way == "write-code") *reinterpret_cast<volatile char*>(&FailBy) = 1;
  if (way == "run-data") reinterpret_cast<void (*)()>(data)();
  if (way == "overflow") Recurse(&zero);
  if (way == "uncaught") throw std::runtime_error("nobody catches this");
  if (way == "exit-5") std::exit(5);
  if (way == "deadlock") {
    absl::Mutex mutex;
    mutex.Lock();
    mutex.Lock();
  }
}

}  // namespace
}  // namespace hypervisor

int main(int argc, char** argv) {
  using namespace hypervisor;
  constexpr std::string_view kFailBy = "--fail-by=";
  if (argc == 2 && std::string_view(argv[1]).starts_with(kFailBy)) {
    FailBy(std::string_view(argv[1]).substr(kFailBy.size()));
    std::puts("still here");
    return 1;
  }
  TestCommandLine(argc, argv);
  TestModule();
  TestMemoryMap();
  TestAllMemoryIsZero();
  TestExceptions();
  TestStatics();
  TestContainers();
  TestMutex();
  TestThreadsAreRefused();
  TestFloatingPoint();
  TestMalloc();
  TestMappings();
  TestStateSurvives();
  TestClockAgainstPit();
  TestTimer();
  TestSleep();
  std::printf("boot_selftest: all is well after %.1f ms\n",
              static_cast<double>(MonotonicNanoseconds()) / 1e6);
  return 0;
}
