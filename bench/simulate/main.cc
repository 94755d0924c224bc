// shadowmmu_simulate: runs simulated op-streams (docs/op-streams.md) against
// the library, each op checked, in as many processes as asked for.
//
//   shadowmmu_simulate --seeds 1..10000 --ops 500 --jobs 2
//   shadowmmu_simulate --print 42            the stream of a seed, as text
//   shadowmmu_simulate --file tests/regression/x.ops
//   shadowmmu_simulate --smoke               a few seeds: it runs
//
// A seed that fails is made small, printed, and written to <seed>.ops in the
// working directory. Its last line is "<N> seeds, <M> failures"; it exits with
// 1 if there were failures, with 2 if it was called wrongly.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "tests/harness/interpreter.h"
#include "tests/harness/isolated.h"
#include "tests/harness/op_text.h"
#include "tests/harness/simulator.h"

namespace shadowmmu::testing {
namespace {

constexpr int kExitFailures = 1;
constexpr int kExitUsage = 2;

// Seeds that one child runs; a failure costs at most this many again.
constexpr uint64_t kBatch = 50;
// A job gives up after this many failing seeds: more say nothing new.
constexpr uint64_t kMostFailures = 20;

struct Flags {
  uint64_t first = 1;
  uint64_t last = 100;
  SimulatorOptions options;
  uint64_t jobs = 1;
  std::optional<uint64_t> print;
  std::string file;
};

std::optional<uint64_t> ToNumber(std::string_view text) {
  uint64_t value = 0;
  const auto result =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

bool SetSeeds(std::string_view text, Flags* flags) {
  const size_t dots = text.find("..");
  const std::optional<uint64_t> first = ToNumber(text.substr(0, dots));
  const std::optional<uint64_t> last =
      dots == std::string_view::npos ? first : ToNumber(text.substr(dots + 2));
  if (!first || !last || *first > *last) return false;
  flags->first = *first;
  flags->last = *last;
  return true;
}

bool SetFlag(std::string_view name, std::string_view value, Flags* flags) {
  if (name == "--seeds") return SetSeeds(value, flags);
  if (name == "--file") {
    flags->file = value;
    return true;
  }
  const std::optional<uint64_t> number = ToNumber(value);
  if (!number) return false;
  if (name == "--ops") {
    flags->options.ops = static_cast<size_t>(*number);
  } else if (name == "--jobs") {
    flags->jobs = std::clamp<uint64_t>(*number, 1, 256);
  } else if (name == "--print") {
    flags->print = *number;
  } else {
    return false;
  }
  return true;
}

// "--name value" and "--name=value".
bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--smoke") {
      flags->last = flags->first + 4;
      flags->options.ops = 100;
      continue;
    }
    const size_t equals = word.find('=');
    if (equals != std::string_view::npos) {
      if (!SetFlag(word.substr(0, equals), word.substr(equals + 1), flags)) {
        return false;
      }
      continue;
    }
    if (i + 1 == argc || !SetFlag(word, argv[i + 1], flags)) return false;
    ++i;
  }
  return true;
}

// Shrinks the stream of a seed that fails, and shows it.
void ShowFailure(uint64_t seed, const SimulatorOptions& options) {
  const OpStream stream = GenerateStream(seed, options);
  OpStream small = ShrinkIsolated(stream);
  const std::optional<std::string> report =
      RunStreamIsolated(small, ChildStderr::kShow);
  small.story = {"Seed " + std::to_string(seed) + " of shadowmmu_simulate, " +
                 std::to_string(options.ops) + " ops, made small."};
  if (report) {
    small.story.push_back("It failed with: " +
                          report->substr(0, report->find("\n----")));
    std::replace(small.story.back().begin(), small.story.back().end(), '\n',
                 ' ');
  }
  const std::string text = PrintStream(small);
  const std::string name = std::to_string(seed) + ".ops";
  std::ofstream(name) << text;
  std::cout << "\nseed " << seed << " fails: " << report.value_or("not again")
            << "\n---- " << name << " ----\n"
            << text << std::flush;
}

// The seeds first, first + jobs * kBatch, ... by batches. The failures.
uint64_t RunJob(const Flags& flags, uint64_t job, int progress) {
  uint64_t failures = 0;
  for (uint64_t begin = flags.first + job * kBatch;
       begin <= flags.last && failures < kMostFailures;
       begin += flags.jobs * kBatch) {
    const uint64_t end = std::min(begin + kBatch - 1, flags.last);
    uint64_t at = begin;
    while (at <= end && failures < kMostFailures) {
      const std::optional<uint64_t> failed =
          FirstFailingSeed(at, end, flags.options);
      if (!failed) break;
      ++failures;
      ShowFailure(*failed, flags.options);
      at = *failed + 1;
    }
    if (write(progress, "", 1) != 1) break;
  }
  return failures;
}

// Shows how many batches are done, until every job has closed its end.
void ShowProgress(int from, const Flags& flags) {
  const uint64_t seeds = flags.last - flags.first + 1;
  uint64_t done = 0;
  char byte = 0;
  while (read(from, &byte, 1) == 1) {
    done = std::min(done + kBatch, seeds);
    if (isatty(STDERR_FILENO) != 0) {
      std::cerr << "\r" << done << " of " << seeds << " seeds" << std::flush;
    }
  }
  if (isatty(STDERR_FILENO) != 0) std::cerr << "\n";
}

int RunSeeds(const Flags& flags) {
  int ends[2];
  if (pipe(ends) != 0) return kExitUsage;
  for (uint64_t job = 0; job < flags.jobs; ++job) {
    if (fork() != 0) continue;
    close(ends[0]);
    _exit(
        static_cast<int>(std::min<uint64_t>(RunJob(flags, job, ends[1]), 255)));
  }
  close(ends[1]);
  ShowProgress(ends[0], flags);
  uint64_t failures = 0;
  int status = 0;
  while (wait(&status) > 0) {
    failures += WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  std::cout << flags.last - flags.first + 1 << " seeds, " << failures
            << " failures" << std::endl;
  return failures == 0 ? 0 : kExitFailures;
}

int RunFile(const std::string& name) {
  std::ifstream in(name);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) {
    std::cerr << "cannot read " << name << "\n";
    return kExitUsage;
  }
  const absl::StatusOr<OpStream> stream = ParseStream(text.str());
  if (!stream.ok()) {
    std::cerr << name << ": " << stream.status().ToString() << "\n";
    return kExitUsage;
  }
  const std::optional<StreamFailure> failure = RunStream(*stream);
  if (failure) std::cout << ReportOf(*stream, *failure);
  std::cout << stream->ops.size() << " ops, " << (failure ? 1 : 0)
            << " failures" << std::endl;
  return failure ? kExitFailures : 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) {
    std::cerr << "usage: shadowmmu_simulate [--seeds A..B] [--ops N] "
                 "[--jobs N] [--print SEED] [--file F.ops] [--smoke]\n";
    return kExitUsage;
  }
  if (flags.print) {
    std::cout << PrintStream(GenerateStream(*flags.print, flags.options));
    return 0;
  }
  return flags.file.empty() ? RunSeeds(flags) : RunFile(flags.file);
}

}  // namespace
}  // namespace shadowmmu::testing

int main(int argc, char** argv) { return shadowmmu::testing::Main(argc, argv); }
