// An image of its own for the bare machine: looks at what boot/ and shim/ made
// of it, from inside. tests/run_boot_selftest runs it under QEMU.
//
//   boot_selftest.elf                  checks everything; exits with 0, or with
//                                      1 after the name of what does not hold
//   boot_selftest.elf --fail-by=NAME   goes wrong in the way that is asked for
//
// Thread safety: one thread.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "boot/module.h"
#include "boot/tsc_clock.h"
#include "tests/boot_selftest/selftest.h"

namespace hypervisor {

void Expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

namespace {

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
  TestMemory();
  TestRuntime();
  TestSurvival();
  TestTime();
  TestThreads();
  std::printf("boot_selftest: all is well after %.1f ms\n",
              static_cast<double>(MonotonicNanoseconds()) / 1e6);
  return 0;
}
