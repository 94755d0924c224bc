// shadowmmu_replay: plays the memory accesses of a real program, as valgrind's
// lackey has recorded them, in the processes of a small guest on the library's
// shadow tables, and reports what they cost (docs/replay.md).

#include <iostream>
#include <vector>

#include "absl/strings/string_view.h"
#include "bench/replay/command.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const std::vector<absl::string_view> words(argv + 1, argv + argc);
  return shadowmmu::replay::RunCommand(words, std::cin, std::cout, std::cerr);
}
