// shadowmmu_exhaustive: every combination of entry bits, registers and accesses
// (cases.h), each held against the oracle (check.h).
//
//   shadowmmu_exhaustive                     all of them
//   shadowmmu_exhaustive --cases 2000000     so many, picked evenly
//   shadowmmu_exhaustive --cases N --seed S  others
//   shadowmmu_exhaustive --mode 4-level      of one paging mode: 2-level,
//                                            3-level, 4-level, 5-level
//   shadowmmu_exhaustive --mode 4-level --case I     one case, by its number
//   shadowmmu_exhaustive --jobs N            threads; as many as CPUs if not
//   shadowmmu_exhaustive --smoke             a few: it runs
//
// Progress goes to stderr. Its last line is "<N> cases, <M> differences"; it
// exits with 1 unless M is 0, with 2 if it was called wrongly.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "bench/exhaustive/cases.h"
#include "bench/exhaustive/check.h"
#include "shadowmmu/check_handler.h"

namespace shadowmmu::exhaustive {
namespace {

constexpr int kExitDifferences = 1;
constexpr int kExitUsage = 2;
constexpr uint64_t kSmokeCases = 20'000;
constexpr uint64_t kMaxJobs = 256;
// What a thread takes at a time.
constexpr uint64_t kMaxChunk = uint64_t{1} << 18;
// Seconds between lines of progress where stderr is no terminal.
constexpr int kQuiet = 10;

struct Flags {
  std::optional<uint64_t> cases;
  uint64_t seed = 1;
  uint64_t jobs = std::max(1u, std::thread::hardware_concurrency());
  std::optional<GuestMode> mode;
  std::optional<uint64_t> one;  // a case of that mode
};

// The case that this thread runs, for a check that fails.
thread_local const CaseSpace* current_space = nullptr;
thread_local uint64_t current_case = 0;

void OnFailedCheck(absl::string_view message) {
  std::cerr << message << "\n";
  if (current_space == nullptr) return;
  std::cerr << "in case " << current_case << " of "
            << NameOf(current_space->mode()) << std::endl;
}

std::optional<uint64_t> ToNumber(std::string_view text) {
  uint64_t value = 0;
  const auto result =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

bool SetFlag(std::string_view name, std::string_view value, Flags* flags) {
  if (name == "--mode") {
    for (const GuestMode mode : kModes) {
      if (value == NameOf(mode)) flags->mode = mode;
    }
    return flags->mode.has_value();
  }
  const std::optional<uint64_t> number = ToNumber(value);
  if (!number) return false;
  if (name == "--cases") {
    flags->cases = number;
    return *number > 0;
  }
  if (name == "--case") {
    flags->one = number;
  } else if (name == "--seed") {
    flags->seed = *number;
  } else if (name == "--jobs") {
    flags->jobs = std::clamp<uint64_t>(*number, 1, kMaxJobs);
  } else {
    return false;
  }
  return true;
}

// "--name value" and "--name=value".
bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const size_t equals = word.find('=');
    if (word == "--smoke") {
      flags->cases = kSmokeCases;
    } else if (equals != std::string_view::npos) {
      if (!SetFlag(word.substr(0, equals), word.substr(equals + 1), flags)) {
        return false;
      }
    } else {
      if (i + 1 == argc || !SetFlag(word, argv[i + 1], flags)) return false;
      ++i;
    }
  }
  return true;
}

// All cases of the modes, and threads that run them.
class Run {
 public:
  explicit Run(const Flags& flags) : flags_(flags) {
    for (const GuestMode mode : kModes) {
      if (flags.mode && mode != *flags.mode) continue;
      spaces_.push_back(std::make_unique<CaseSpace>(mode));
      count_ += spaces_.back()->count();
      std::cout << NameOf(mode) << ": " << spaces_.back()->count()
                << " cases\n";
    }
    picked_ = std::min(flags.cases.value_or(count_), count_);
    chunk_ = std::clamp<uint64_t>(picked_ / (flags.jobs * 64), 1, kMaxChunk);
  }

  int Main() {
    std::cout << picked_ << " of " << count_ << " cases";
    if (picked_ != count_) std::cout << ", seed " << flags_.seed;
    std::cout << ", on " << flags_.jobs << " threads" << std::endl;
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (uint64_t job = 0; job < flags_.jobs; ++job) {
      threads.emplace_back([this] { Work(); });
    }
    ShowProgress();
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    for (const std::string& report : reports_) std::cout << report << "\n\n";
    std::cout << totals_ << "\n"
              << totals_.faults << " faults handled, " << totals_.states
              << " shadow states, " << took.count() << " s, "
              << static_cast<uint64_t>(static_cast<double>(totals_.cases) /
                                       took.count())
              << " cases/s\n"
              << totals_.cases << " cases, " << totals_.differences
              << " differences" << std::endl;
    return totals_.differences == 0 && totals_.cases == picked_
               ? 0
               : kExitDifferences;
  }

 private:
  // Chunks, until there are none. A checker lasts as long as the mode.
  void Work() {
    const CaseSpace* space = nullptr;
    std::optional<Checker> checker;
    for (;;) {
      const uint64_t begin = next_.fetch_add(chunk_);
      if (begin >= picked_) break;
      const uint64_t end = std::min(begin + chunk_, picked_);
      for (uint64_t i = begin; i < end; ++i) {
        uint64_t index = PickedIndex(i, picked_, count_, flags_.seed);
        const CaseSpace* in = SpaceOf(&index);
        if (in != space) {
          Collect(checker);
          space = in;
          current_space = space;
          checker.emplace(space);
        }
        current_case = index;
        checker->Run(index);
      }
      done_.fetch_add(end - begin);
    }
    Collect(checker);
    const std::lock_guard lock(mutex_);
    ++ended_;
    changed_.notify_all();
  }

  const CaseSpace* SpaceOf(uint64_t* index) const {
    size_t i = 0;
    for (; *index >= spaces_[i]->count(); ++i) *index -= spaces_[i]->count();
    return spaces_[i].get();
  }

  void Collect(const std::optional<Checker>& checker) {
    if (!checker) return;
    const std::lock_guard lock(mutex_);
    totals_ += checker->totals();
    for (const std::string& report : checker->reports()) {
      if (reports_.size() < Checker::kMostReports) reports_.push_back(report);
    }
  }

  void ShowProgress() {
    const bool terminal = isatty(STDERR_FILENO) != 0;
    std::unique_lock lock(mutex_);
    for (int second = 1; ended_ < flags_.jobs; ++second) {
      changed_.wait_for(lock, std::chrono::seconds(1));
      if (!terminal && second % kQuiet != 0) continue;
      std::cerr << (terminal ? "\r" : "") << done_.load() << " of " << picked_
                << " cases" << (terminal ? "" : "\n") << std::flush;
    }
    if (terminal) std::cerr << "\n";
  }

  const Flags flags_;
  std::vector<std::unique_ptr<CaseSpace>> spaces_;
  uint64_t count_ = 0;
  uint64_t picked_ = 0;
  uint64_t chunk_ = 1;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> done_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  uint64_t ended_ = 0;
  Totals totals_;
  std::vector<std::string> reports_;
};

int RunOne(GuestMode mode, uint64_t index) {
  const CaseSpace space(mode);
  if (index >= space.count()) {
    std::cerr << NameOf(mode) << " has " << space.count() << " cases\n";
    return kExitUsage;
  }
  Checker checker(&space);
  current_space = &space;
  current_case = index;
  checker.Run(index);
  for (const std::string& report : checker.reports()) {
    std::cout << report << "\n\n";
  }
  std::cout << "1 cases, " << checker.totals().differences << " differences"
            << std::endl;
  return checker.totals().differences == 0 ? 0 : kExitDifferences;
}

int Main(int argc, char** argv) {
  SetCheckHandler(OnFailedCheck);
  Flags flags;
  if (!ParseFlags(argc, argv, &flags) || (flags.one && !flags.mode)) {
    std::cerr << "usage: shadowmmu_exhaustive [--cases N] [--seed S] "
                 "[--mode 2-level|3-level|4-level|5-level] [--case I] "
                 "[--jobs N] [--smoke]\n";
    return kExitUsage;
  }
  if (flags.one) return RunOne(*flags.mode, *flags.one);
  return Run(flags).Main();
}

}  // namespace
}  // namespace shadowmmu::exhaustive

int main(int argc, char** argv) {
  return shadowmmu::exhaustive::Main(argc, argv);
}
