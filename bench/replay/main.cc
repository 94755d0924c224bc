// shadowmmu_replay: plays the memory accesses of a real program, as valgrind's
// lackey has recorded them, in the processes of a small guest on the library's
// shadow tables, and reports what they cost (docs/replay.md).

#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "bench/replay/replay.h"
#include "bench/replay/report.h"
#include "bench/replay/smoke.h"

namespace shadowmmu::replay {
namespace {

constexpr int kExitDifference = 1;
constexpr int kExitUsage = 2;
constexpr int kExitTrace = 3;
constexpr int kExitMemory = 4;

constexpr absl::string_view kIntroduction =
    R"(shadowmmu_replay: plays a real program's memory accesses on shadow tables.

  valgrind --tool=lackey --trace-mem=yes --log-file=trace.txt PROGRAM ...
  shadowmmu_replay --trace trace.txt --processes 64 --invalidate-every 50000000

Reads what lackey writes, as a stream, and runs it in P processes of a small
guest (demand paging, copy on write, page tables in guest memory) on a CPU model
with a TLB, over the library's shadow page tables. docs/replay.md explains all
of it.

Options
)";
constexpr absl::string_view kExitHelp = R"(
Exit status
  0  played
  1  a difference (--check), or a defect
  2  wrong options
  3  the trace is damaged, truncated or cannot be read; the error names the line
  4  too little memory or too few tables

Keys of the JSON object, in the order of the table; null where there is nothing
to say. "median", "most" and the like go on from the line above; times are
in nanoseconds (ns) of the monotonic clock, whose reading is included in each.
)";

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnavailable:
      return kExitTrace;
    case absl::StatusCode::kResourceExhausted:
      return kExitMemory;
    default:
      return kExitDifference;
  }
}

int Fail(int code, absl::string_view what) {
  std::cerr << "shadowmmu_replay: " << what << "\n";
  return code;
}

// How long a file is; nullopt for what is no file.
std::optional<uint64_t> SizeOf(const std::string& name) {
  struct stat info = {};
  if (stat(name.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(info.st_size);
}

int RunReplay(const Options& options) {
  std::ifstream file;
  std::istream* in = &std::cin;
  std::optional<uint64_t> bytes;
  if (!options.trace.empty()) {
    file.open(options.trace, std::ios::binary);
    if (!file) return Fail(kExitTrace, "cannot open " + options.trace);
    in = &file;
    bytes = SizeOf(options.trace);
  } else {
    std::ios::sync_with_stdio(false);
  }
  const absl::StatusOr<std::unique_ptr<Replay>> replay =
      Replay::Create(options);
  if (!replay.ok()) {
    const int code = absl::IsInvalidArgument(replay.status())
                         ? kExitUsage
                         : ExitCodeFor(replay.status());
    return Fail(code, replay.status().message());
  }
  TraceReader trace(in, options.trailer);
  Progress progress(Progress::Detect());
  const absl::Status played = (*replay)->Run(&trace, bytes, &progress);
  const int code = ExitCodeFor(played);
  if (code == 0 || code == kExitDifference) {
    const Results results = (*replay)->TakeResults(trace);
    std::cout << (options.output == Options::Output::kJson
                      ? ReportJson(results)
                      : ReportTable(results))
              << std::flush;
  }
  if (!played.ok()) return Fail(code, played.message());
  return std::cout ? 0 : Fail(kExitDifference, "cannot write the report");
}

int Main(int argc, char** argv) {
  const std::vector<absl::string_view> words(argv + 1, argv + argc);
  const absl::StatusOr<Options> options = ParseOptions(words);
  if (!options.ok()) return Fail(kExitUsage, options.status().message());
  switch (options->task) {
    case Options::Task::kHelp:
      std::cout << kIntroduction << OptionsHelp() << kExitHelp << KeysHelp();
      return 0;
    case Options::Task::kSmoke: {
      const absl::Status passed = RunSmoke();
      if (!passed.ok()) return Fail(ExitCodeFor(passed), passed.message());
      std::cout << "shadowmmu_replay: smoke passed\n";
      return 0;
    }
    case Options::Task::kReplay:
      return RunReplay(*options);
  }
  return kExitUsage;
}

}  // namespace
}  // namespace shadowmmu::replay

int main(int argc, char** argv) { return shadowmmu::replay::Main(argc, argv); }
