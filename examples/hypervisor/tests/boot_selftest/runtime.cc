// What the C and C++ runtimes need of the machine.
//
// Thread safety: one thread.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tests/boot_selftest/selftest.h"

namespace hypervisor {
namespace {

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
    Expect(
        !mutex.AwaitWithTimeout(absl::Condition(&ready), absl::Milliseconds(2)),
        "a wait with a timeout ends");
  }
  const bool free = mutex.TryLock();
  if (free) mutex.Unlock();
  Expect(free, "a mutex is free after its lock");
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

}  // namespace

void TestRuntime() {
  TestExceptions();
  TestStatics();
  TestContainers();
  TestMutex();
  TestFloatingPoint();
}

}  // namespace hypervisor
