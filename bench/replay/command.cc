#include "bench/replay/command.h"

#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/replay/replay.h"
#include "bench/replay/report.h"
#include "bench/replay/smoke.h"

namespace shadowmmu::replay {
namespace {

constexpr absl::string_view kIntroduction =
    R"(shadowmmu_replay: plays a real program's memory accesses on shadow tables.

  valgrind --tool=lackey --trace-mem=yes --log-file=trace.txt PROGRAM ...
  shadowmmu_replay --trace trace.txt --processes 64 --invalidate-every 50000000

Reads what lackey writes, as a stream, and runs it in P processes of a small
guest (demand paging, copy on write, page tables in guest memory) on a CPU model
with a TLB, over the library's shadow page tables. docs/replay.md explains all
of it. With --workload=fork it is the guest's own work that is played: fork,
exec, exit, munmap, and switches between processes.

Options
)";
constexpr absl::string_view kExitHelp = R"(
Exit status
  0  played
  1  a difference (--check), or a defect
  2  wrong options
  3  the trace is damaged, truncated or cannot be read; the error names the line
  4  too little memory or too few tables

Keys of the JSON object, in the order of the table. Values are numbers, but for
workload, strategy and trace_end (strings) and rmap_histogram (an object: length of the
chain, number of frames), or null where there is nothing to say. Times named ns
are nanoseconds of the monotonic clock; each includes one reading of it.
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

int Fail(int code, absl::string_view what, std::ostream& err) {
  err << "shadowmmu_replay: " << what << "\n";
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

// `in` is null where there is no trace.
int Play(const Options& options, std::istream* in,
         std::optional<uint64_t> bytes, std::ostream& out, std::ostream& err) {
  const absl::StatusOr<std::unique_ptr<Replay>> replay =
      Replay::Create(options);
  if (!replay.ok()) {
    const int code = absl::IsInvalidArgument(replay.status())
                         ? kExitUsage
                         : ExitCodeFor(replay.status());
    return Fail(code, replay.status().message(), err);
  }
  std::optional<TraceReader> reader;
  if (in != nullptr) reader.emplace(in, options.trailer);
  TraceReader* const trace = reader.has_value() ? &*reader : nullptr;
  Progress progress(Progress::Detect());
  const absl::Status played = (*replay)->Run(trace, bytes, &progress);
  const int code = ExitCodeFor(played);
  if (code == 0 || code == kExitDifference) {
    const Results results = (*replay)->TakeResults(trace);
    out << (options.output == Options::Output::kJson ? ReportJson(results)
                                                     : ReportTable(results))
        << std::flush;
  }
  if (!played.ok()) return Fail(code, played.message(), err);
  return out ? 0 : Fail(kExitDifference, "cannot write the report", err);
}

int OpenAndPlay(const Options& options, std::istream& in, std::ostream& out,
                std::ostream& err) {
  if (options.trace.empty()) {
    return Play(options, options.HasTrace() ? &in : nullptr, std::nullopt, out,
                err);
  }
  std::ifstream file(options.trace, std::ios::binary);
  if (!file) {
    return Fail(kExitTrace, absl::StrCat("cannot open ", options.trace), err);
  }
  return Play(options, &file, SizeOf(options.trace), out, err);
}

}  // namespace

int RunCommand(std::span<const absl::string_view> words, std::istream& in,
               std::ostream& out, std::ostream& err) {
  const absl::StatusOr<Options> options = ParseOptions(words);
  if (!options.ok()) return Fail(kExitUsage, options.status().message(), err);
  switch (options->task) {
    case Options::Task::kHelp:
      out << kIntroduction << OptionsHelp() << kExitHelp << KeysHelp();
      return 0;
    case Options::Task::kSmoke: {
      const absl::Status passed = RunSmoke();
      if (!passed.ok()) {
        return Fail(ExitCodeFor(passed), passed.message(), err);
      }
      out << "shadowmmu_replay: smoke passed\n";
      return 0;
    }
    case Options::Task::kReplay:
      return OpenAndPlay(*options, in, out, err);
  }
  return kExitUsage;
}

}  // namespace shadowmmu::replay
