// Threads on the machine's other CPUs, where it has any.
//
// Thread safety: TestThreads is the main thread's.

#include <sched.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "boot/apic_timer.h"
#include "boot/per_cpu.h"
#include "boot/processors.h"
#include "tests/boot_selftest/selftest.h"

namespace hypervisor {
namespace {

thread_local int own = 3;

void TestStartAndJoin() {
  constexpr int kRounds = 50;
  int sum = 0;
  for (int i = 0; i < kRounds; ++i) {
    uint32_t cpu = 0;
    std::thread([&] {
      cpu = CpuIndex();
      sum += own++;
    }).join();
    Expect(cpu != 0, "a thread runs on a CPU of its own");
  }
  Expect(sum == 3 * kRounds && own == 3, "each thread has its own storage");
}

void TestTooMany() {
  const uint32_t others = CpuCount() - 1;
  std::mutex gate;
  gate.lock();
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < others; ++i) {
    threads.emplace_back([&] { const std::lock_guard<std::mutex> in(gate); });
  }
  bool refused = false;
  try {
    std::thread([] {}).join();
  } catch (const std::system_error& error) {
    refused = error.code() == std::errc::resource_unavailable_try_again;
  }
  gate.unlock();
  for (std::thread& thread : threads) thread.join();
  Expect(refused, "there are as many threads as CPUs, and no more");
}

template <typename Lock>
void Contend(Lock lock, const char* what) {
  constexpr uint64_t kSteps = 5000;
  uint64_t count = 0;
  const auto add = [&] {
    for (uint64_t i = 0; i < kSteps; ++i) lock([&] { ++count; });
  };
  std::thread other(add);
  add();
  other.join();
  Expect(count == 2 * kSteps, what);
}

void TestMutexes() {
  std::mutex plain;
  Contend(
      [&](auto body) {
        const std::lock_guard<std::mutex> in(plain);
        body();
      },
      "a std::mutex keeps two CPUs apart");
  absl::Mutex abseil;
  Contend(
      [&](auto body) {
        const absl::MutexLock in(&abseil);
        body();
      },
      "an absl::Mutex keeps two CPUs apart");
  Contend(
      [&](auto body) {
        const absl::MutexLock in(&abseil);
        body();
        if (CpuIndex() == 0) sched_yield();
      },
      "sched_yield gives nothing away");
}

// Two threads that wake each other, in turns.
void TestPingPong() {
  constexpr int kTurns = 500;
  std::mutex mutex;
  std::condition_variable changed;
  int turn = 0;
  const auto play = [&](int mine) {
    std::unique_lock<std::mutex> lock(mutex);
    while (turn < kTurns) {
      changed.wait(lock, [&] { return turn >= kTurns || turn % 2 == mine; });
      if (turn < kTurns) ++turn;
      changed.notify_one();
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  Expect(turn == kTurns, "condition variables wake the other CPU, each time");

  absl::Mutex abseil;
  int stage = 0;
  std::thread waiter([&] {
    for (int i = 1; i < 100; i += 2) {
      const auto is_mine = [&] { return stage == i; };
      abseil.LockWhen(absl::Condition(&is_mine));
      ++stage;
      abseil.Unlock();
    }
  });
  for (int i = 0; i < 100; i += 2) {
    const auto is_mine = [&] { return stage == i; };
    abseil.LockWhen(absl::Condition(&is_mine));
    ++stage;
    abseil.Unlock();
  }
  waiter.join();
  Expect(stage == 100, "absl::Mutex's conditions wake the other CPU");
}

void TestTimeouts() {
  std::mutex mutex;
  std::condition_variable never;
  std::atomic<bool> early = false;
  const auto wait = [&] {
    constexpr auto kTime = std::chrono::milliseconds(20);
    std::unique_lock<std::mutex> lock(mutex);
    const auto start = std::chrono::steady_clock::now();
    while (never.wait_for(lock, kTime) != std::cv_status::timeout) {
    }
    if (std::chrono::steady_clock::now() - start < kTime) early = true;
  };
  std::thread other(wait);
  wait();
  other.join();
  Expect(!early, "a wait ends by its timeout, on each CPU, and not before");
  uint64_t ticks = 0;
  std::thread([&] {
    const uint64_t before = TimerTicks();
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    ticks = TimerTicks() - before;
  }).join();
  Expect(ticks > 0, "each CPU sleeps by its own timer");
}

// Blocks of many sizes, filled, checked, and given back by the other thread.
void TestMallocFromBoth() {
  constexpr int kBlocks = 1000;
  std::array<std::vector<std::vector<uint8_t>>, 2> blocks;
  std::atomic<bool> good = true;
  const auto make = [&](unsigned which) {
    for (int i = 0; i < kBlocks; ++i) {
      const auto bytes = static_cast<size_t>(1 + i * 37 % 9000);
      blocks[which].emplace_back(bytes, static_cast<uint8_t>(i + which));
      void* const pages = mmap(nullptr, 8192, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      auto* const word = static_cast<volatile uint64_t*>(pages);
      if (*word != 0) good = false;
      *word = 1;
      munmap(pages, 8192);
    }
  };
  const auto check = [&](unsigned which) {
    for (int i = 0; i < kBlocks; ++i) {
      std::vector<uint8_t>& block = blocks[which][static_cast<size_t>(i)];
      for (const uint8_t byte : block) {
        if (byte != static_cast<uint8_t>(i + which)) good = false;
      }
      block = {};
    }
  };
  std::thread maker(make, 1);
  make(0);
  maker.join();
  std::thread checker(check, 0);
  check(1);
  checker.join();
  Expect(good, "both CPUs have their memory to themselves");
}

void TestExceptionThere() {
  std::string caught;
  std::thread([&] {
    try {
      throw std::runtime_error("thrown there");
    } catch (const std::exception& error) {
      caught = error.what();
    }
  }).join();
  Expect(caught == "thrown there", "an exception is caught on another CPU");
}

void TestFloatingPointThere() {
  std::array<double, 2> sums = {};
  const auto add = [&](size_t which) {
    std::vector<double> values(20000);
    std::iota(values.begin(), values.end(), static_cast<double>(which));
    for (int i = 0; i < 20; ++i) {
      sums[which] += std::accumulate(values.begin(), values.end(), 0.0);
      sched_yield();
    }
  };
  std::thread other(add, 1);
  add(0);
  other.join();
  Expect(sums[0] == 20 * 199990000.0 && sums[1] == 20 * 200010000.0,
         "both CPUs count with doubles");
}

}  // namespace

void TestThreads() {
  Expect(std::thread::hardware_concurrency() == CpuCount(),
         "the process knows its CPUs");
  TestTooMany();
  if (CpuCount() == 1) return;
  TestStartAndJoin();
  TestMutexes();
  TestPingPong();
  TestTimeouts();
  TestMallocFromBoth();
  TestExceptionThere();
  TestFloatingPointThere();
  std::printf("threads on %u CPUs\n", CpuCount());
}

}  // namespace hypervisor
