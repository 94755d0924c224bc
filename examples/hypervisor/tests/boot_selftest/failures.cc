// Ways to go wrong, that must be seen from outside.
//
// Thread safety: one thread.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "tests/boot_selftest/selftest.h"

namespace hypervisor {
namespace {

[[gnu::noinline]] int Recurse(volatile int* above) {
  if (*above < 0) return 0;
  volatile int here[1024];
  here[0] = *above + 1;
  return Recurse(here) + here[0];
}

}  // namespace

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
  if (way == "exit-5") {
    std::puts("leaving");
    std::exit(5);
  }
  if (way == "deadlock") {
    std::mutex mutex;
    mutex.lock();
    mutex.lock();
  }
  if (way == "deadlock-of-two") {
    std::mutex mutex;
    mutex.lock();
    std::thread([&] { mutex.lock(); }).join();
  }
  if (way == "abandoned-lock") {
    std::mutex mutex;
    std::thread([&] { mutex.lock(); }).join();
    mutex.lock();
  }
  if (way == "null-there") {
    std::thread([] { *reinterpret_cast<volatile int*>(null) = 1; }).join();
  }
  if (way == "exit-there") {
    std::thread([] {
      std::puts("leaving from there");
      std::_Exit(6);
    }).join();
  }
}

}  // namespace hypervisor
