// Threads for tests that know what comes when: a call beside the test's own
// thread, several calls that begin together, and waiting for what is seen.

#ifndef SHADOWMMU_TESTS_CONCURRENT_BESIDE_H_
#define SHADOWMMU_TESTS_CONCURRENT_BESIDE_H_

#include <atomic>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace shadowmmu::testing {

// A call on a thread of its own.
class Beside {
 public:
  explicit Beside(std::function<void()> call)
      : thread_([this, call = std::move(call)] {
          call();
          done_ = true;
        }) {}
  ~Beside() { Join(); }

  bool done() const { return done_; }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

// A while in which other threads come as far as they can.
inline void LetOthersRun() {
  for (int i = 0; i < 20; ++i) std::this_thread::yield();
}

// Runs step(0) to step(count - 1), each in a thread, all beginning at once.
template <typename Step>
void Together(unsigned count, Step step) {
  std::atomic<unsigned> waiting{count};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      --waiting;
      Await([&] { return waiting == 0; });
      step(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_CONCURRENT_BESIDE_H_
