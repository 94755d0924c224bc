#include "bench/replay/options.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "bench/replay/help_text.h"

namespace shadowmmu::replay {
namespace {

constexpr uint64_t kMaxProcesses = 4096;
constexpr uint64_t kMaxSlots = 256;
constexpr uint64_t kMaxMemoryMib = 256 * 1024;
constexpr uint64_t kMaxTables = (uint64_t{1} << 22) - 1;
constexpr uint64_t kMaxSlice = 10'000'000;
constexpr uint64_t kUnbounded = uint64_t{1} << 62;

// Guest memory is touched page by page, so what is not used costs nothing.
constexpr uint64_t kMibForTheKernel = 64;
constexpr uint64_t kMibOfAProcess = 32;

// A number that an option takes, and where it goes.
struct NumberOption {
  absl::string_view name;
  absl::string_view unit;
  uint64_t least;
  uint64_t most;
  void (*set)(Options* options, uint64_t value);
  absl::string_view help;
};

constexpr NumberOption kNumbers[] = {
    {"processes", "P", 1, kMaxProcesses,
     [](Options* o, uint64_t v) { o->processes = static_cast<uint32_t>(v); },
     "processes, each with its own tables and memory: copies of the program "
     "(1); "
     "fork: the most that run at once (4)"},
    {"forks", "N", 1, kUnbounded, [](Options* o, uint64_t v) { o->forks = v; },
     "fork without a trace: end after N children have come and gone (100)"},
    {"seed", "N", 0, kUnbounded, [](Options* o, uint64_t v) { o->seed = v; },
     "fork: what the guest does follows from it (1)"},
    {"slots", "N", 1, kMaxSlots,
     [](Options* o, uint64_t v) { o->slots = static_cast<uint32_t>(v); },
     "memslots that the guest's memory is cut into (4)"},
    {"memory", "MIB", 1, kMaxMemoryMib,
     [](Options* o, uint64_t v) { o->memory_mib = v; },
     "guest memory; costs nothing before it is used (64 + 32 * P)"},
    {"tables", "N", 64, kMaxTables,
     [](Options* o, uint64_t v) { o->tables = static_cast<uint32_t>(v); },
     "shadow pages that the VM may have (by the guest's memory)"},
    {"slice", "N", 1, kMaxSlice, [](Options* o, uint64_t v) { o->slice = v; },
     "accesses that one process runs before the next one's turn (20000)"},
    {"write-flooding", "N", 0, kMaxWriteFlooding,
     [](Options* o, uint64_t v) {
       o->write_flooding = static_cast<uint32_t>(v);
     },
     "stores in a row after which a guest table is shadowed no longer (3); 0: "
     "never"},
    {"max-accesses", "N", 1, kUnbounded,
     [](Options* o, uint64_t v) { o->max_accesses = v; },
     "play only the first N accesses of the trace"},
    {"invalidate-every", "N", 1, kUnbounded,
     [](Options* o, uint64_t v) { o->invalidate_every = v; },
     "invalidate all shadow pages after every N accesses, those of all "
     "processes counted together (never)"},
    {"reclaim-budget", "N", 1, kUnbounded,
     [](Options* o, uint64_t v) { o->reclaim_budget = v; },
     "obsolete_walk: shadow pages to reclaim at a time (64)"},
    {"reclaim-every", "N", 1, kUnbounded,
     [](Options* o, uint64_t v) { o->reclaim_every = v; },
     "obsolete_walk: accesses from one such step to the next (10000)"},
    {"slot-churn", "N", 1, kUnbounded,
     [](Options* o, uint64_t v) { o->slot_churn = v; },
     "delete the last slot after every N accesses, and add it again at "
     "another host address (never)"},
};

// An option that takes no value.
struct Switch {
  absl::string_view name;
  void (*set)(Options* options);
  absl::string_view help;
};

constexpr Switch kSwitches[] = {
    {"allow-truncated",
     [](Options* o) { o->trailer = TraceReader::Trailer::kOptional; },
     "play a trace whose trailer is missing; damage stays an error"},
    {"no-unsync", [](Options* o) { o->unsync = false; },
     "write-protect the guest's last-level tables, too, for as long as they "
     "are "
     "shadowed"},
    {"no-root-cache", [](Options* o) { o->previous_roots = 0; },
     "keep no root but the current one across a load of CR3"},
    {"check", [](Options* o) { o->checking = Options::Checking::kOn; },
     "hold every access against the oracle, and audit the library at every "
     "invalidation, reclaim and slot change; slow, and the times mean little"},
    {"json", [](Options* o) { o->output = Options::Output::kJson; },
     "print the report as one JSON object"},
    {"smoke", [](Options* o) { o->task = Options::Task::kSmoke; },
     "play a tiny built-in trace in every way, checked; nothing else"},
    {"help", [](Options* o) { o->task = Options::Task::kHelp; }, "this text"},
};

absl::Status Wrong(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", what));
}

absl::Status SetNumber(const NumberOption& option, absl::string_view value,
                       Options* options) {
  uint64_t number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < option.least ||
      number > option.most) {
    return Wrong(option.name, absl::StrCat("\"", value, "\" is no number from ",
                                           option.least, " to ", option.most));
  }
  option.set(options, number);
  return absl::OkStatus();
}

absl::Status SetStrategy(absl::string_view value, Options* options) {
  for (const Strategy strategy : kStrategies) {
    if (value != NameOf(strategy)) continue;
    options->strategy = strategy;
    return absl::OkStatus();
  }
  return Wrong("strategy",
               absl::StrCat("\"", value,
                            "\" is none of zap_all, obsolete_walk, release"));
}

absl::Status SetSlotZap(absl::string_view value, Options* options) {
  for (const SlotZapPolicy policy : kSlotZapPolicies) {
    if (value != absl::StrFormat("%s", absl::FormatStreamed(policy))) continue;
    options->slot_zap = policy;
    return absl::OkStatus();
  }
  return Wrong(
      "slot-zap",
      absl::StrCat("\"", value, "\" is none of auto, targeted, walk, release"));
}

absl::Status SetWorkload(absl::string_view value, Options* options) {
  for (const Options::Workload workload :
       {Options::Workload::kTrace, Options::Workload::kFork}) {
    if (value != NameOf(workload)) continue;
    options->workload = workload;
    return absl::OkStatus();
  }
  return Wrong("workload",
               absl::StrCat("\"", value, "\" is neither trace nor fork"));
}

absl::Status SetValue(absl::string_view name, absl::string_view value,
                      Options* options) {
  if (name == "strategy") return SetStrategy(value, options);
  if (name == "slot-zap") return SetSlotZap(value, options);
  if (name == "workload") return SetWorkload(value, options);
  if (name == "trace") {
    if (value.empty()) return Wrong(name, "no file is named");
    options->trace = std::string(value);
    return absl::OkStatus();
  }
  for (const NumberOption& option : kNumbers) {
    if (option.name == name) return SetNumber(option, value, options);
  }
  return Wrong(name, "there is no such option; see --help");
}

const Switch* FindSwitch(absl::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kSwitches), std::end(kSwitches),
                   [name](const Switch& one) { return one.name == name; });
  return found == std::end(kSwitches) ? nullptr : found;
}

std::string HelpLine(absl::string_view option, absl::string_view help) {
  constexpr size_t kIndent = 26;
  return HelpEntry(absl::StrCat("  ", option), kIndent, help);
}

}  // namespace

uint64_t Options::GuestMib() const {
  return memory_mib != 0 ? memory_mib
                         : kMibForTheKernel + Processes() * kMibOfAProcess;
}

uint32_t Options::Processes() const {
  if (processes != 0) return processes;
  return workload == Workload::kFork ? 4 : 1;
}

// One table for each 2 MiB of the direct map, 64 for each process's own tree,
// and twice that, because obsolete ones stand beside new ones for a while.
uint32_t Options::TableCapacity() const {
  if (tables != 0) return tables;
  constexpr uint64_t kOfAProcess = 64;
  const uint64_t wanted =
      2 * (GuestMib() / 2 + Processes() * kOfAProcess) + 1024;
  return static_cast<uint32_t>(std::min(wanted, kMaxTables));
}

absl::StatusOr<Options> ParseOptions(std::span<const absl::string_view> words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    absl::string_view name = words[i];
    if (!absl::ConsumePrefix(&name, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", name, "\" is no option; see --help"));
    }
    std::optional<absl::string_view> value;
    if (const size_t equals = name.find('=');
        equals != absl::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    if (const Switch* const found = FindSwitch(name)) {
      if (value.has_value()) return Wrong(name, "takes no value");
      found->set(&options);
      continue;
    }
    if (!value.has_value() && i + 1 < words.size()) value = words[++i];
    if (!value.has_value()) return Wrong(name, "needs a value; see --help");
    if (absl::Status set = SetValue(name, *value, &options); !set.ok()) {
      return set;
    }
  }
  if (options.workload == Options::Workload::kFork && options.Processes() < 2) {
    return Wrong("processes", "a guest that forks has at least 2");
  }
  return options;
}

absl::string_view NameOf(Strategy strategy) {
  switch (strategy) {
    case Strategy::kZapAll:
      return "zap_all";
    case Strategy::kObsoleteWalk:
      return "obsolete_walk";
    case Strategy::kRelease:
      return "release";
  }
  return "";
}

absl::string_view NameOf(Options::Workload workload) {
  switch (workload) {
    case Options::Workload::kTrace:
      return "trace";
    case Options::Workload::kFork:
      return "fork";
  }
  return "";
}

std::string OptionsHelp() {
  std::string text = HelpLine("--trace FILE",
                              "the trace; without it, standard input (fork: "
                              "no trace)");
  text += HelpLine("--workload=trace|fork",
                   "what the guest does (trace): its processes play the trace, "
                   "or they fork, map, unmap and switch, and play it besides "
                   "if one is named");
  text += HelpLine("--strategy=zap_all|obsolete_walk|release",
                   "how to invalidate (obsolete_walk): walk and unlink "
                   "everything at once; bump the generation and reclaim "
                   "while the guest runs; or release all at once, unwalked");
  text += HelpLine("--slot-zap=auto|targeted|walk|release",
                   "how a slot that is replaced takes its sptes along (auto): "
                   "the cheapest; its own alone; or all of them");
  for (const NumberOption& option : kNumbers) {
    text += HelpLine(absl::StrCat("--", option.name, " ", option.unit),
                     option.help);
  }
  for (const Switch& one : kSwitches) {
    text += HelpLine(absl::StrCat("--", one.name), one.help);
  }
  return text;
}

}  // namespace shadowmmu::replay
