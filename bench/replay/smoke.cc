#include "bench/replay/smoke.h"

#include <memory>
#include <optional>
#include <sstream>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "bench/replay/replay.h"

namespace shadowmmu::replay {
namespace {

constexpr uint64_t kText = 0x10'8000;
constexpr uint64_t kTable = 0x40'0000;
constexpr uint64_t kHeap = 0x4a3'0000;
constexpr uint64_t kStack = 0x1f'feff'f000;
constexpr uint64_t kTextPages = 3;
constexpr uint64_t kSmokePages = 40;

void Append(std::string* text, absl::string_view kind, uint64_t address,
            uint64_t bytes) {
  absl::StrAppend(text, kind, absl::Hex(address, absl::kZeroPad8), ",", bytes,
                  "\n");
}

Options SmokeOptions(Strategy strategy) {
  Options options;
  options.processes = 3;
  options.slots = 3;
  options.slice = 50;
  options.strategy = strategy;
  // Each of them once.
  options.slot_zap = kSlotZapPolicies[1 + static_cast<size_t>(strategy)];
  options.invalidate_every = 400;
  options.reclaim_budget = 2;
  options.reclaim_every = 30;
  options.slot_churn = 700;
  options.checking = Options::Checking::kOn;
  return options;
}

// The guest forks, without what can be left out of the library the first time.
Options ForkOptions(Strategy strategy) {
  Options options = SmokeOptions(strategy);
  options.workload = Options::Workload::kFork;
  options.forks = 2;
  if (strategy == Strategy::kZapAll) {
    options.unsync = false;
    options.previous_roots = 0;
  } else {
    options.trace = "the smoke's";
  }
  return options;
}

absl::Status PlayText(const Options& options, const std::string& text) {
  const absl::StatusOr<std::unique_ptr<Replay>> replay =
      Replay::Create(options);
  if (!replay.ok()) return replay.status();
  std::istringstream in(text);
  TraceReader trace(&in, TraceReader::Trailer::kRequired);
  Progress progress(Progress::Where::kNowhere);
  return (*replay)->Run(options.HasTrace() ? &trace : nullptr, std::nullopt,
                        &progress);
}

}  // namespace

std::string SyntheticTrace(uint64_t pages) {
  std::string text = "==1== Lackey, an example Valgrind tool\n==1== \n";
  for (uint64_t i = 0; i < 4 * pages; ++i) {
    const uint64_t page = i % pages * kPageSize;
    Append(&text, "I  ", kText + i % (kTextPages * kPageSize), 4);
    Append(&text, " L ", kTable + (page >> 3), 8);
    // The first round only reads, the later ones write more and more of it.
    Append(&text, i / pages > i % 4 ? " S " : " L ", kHeap + page + i % 512, 8);
    Append(&text, " S ", kStack - i % 3 * kPageSize, 8);
    if (i % 5 == 0) Append(&text, " M ", kHeap + page + 64, 4);
    // Across the end of the page.
    if (i % 7 == 0) Append(&text, " L ", kHeap + page + kPageSize - 16, 32);
    // From a page that was read as data before.
    if (i % 11 == 0) Append(&text, "I  ", kTable, 2);
  }
  return text + "==1== \n==1== Exit code:       0\n";
}

absl::Status RunSmoke() {
  const std::string text = SyntheticTrace(kSmokePages);
  for (const Strategy strategy : kStrategies) {
    absl::Status played = PlayText(SmokeOptions(strategy), text);
    if (played.ok()) played = PlayText(ForkOptions(strategy), text);
    if (!played.ok()) return played;
  }
  return absl::OkStatus();
}

}  // namespace shadowmmu::replay
