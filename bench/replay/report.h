// The report of a replay: a table for people, or one JSON object.
//
// Both, and the list of keys in --help, are made from one list of fields, so
// that they cannot differ: a field is a key, what it means, and how it is got
// from the Results.

#ifndef SHADOWMMU_BENCH_REPLAY_REPORT_H_
#define SHADOWMMU_BENCH_REPLAY_REPORT_H_

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "bench/replay/results.h"

namespace shadowmmu::replay {

using Histogram = std::vector<std::pair<std::string, uint64_t>>;
// monostate: there is nothing to say; null in JSON.
using Value =
    std::variant<std::monostate, uint64_t, double, std::string, Histogram>;

struct Field {
  absl::string_view section;
  absl::string_view key;
  absl::string_view meaning;
  Value (*get)(const Results& results);
};

// What was run (report_run.cc), what the guest did to its page tables
// (report_paging.cc), and what it cost (report_costs.cc).
std::span<const Field> RunFields();
std::span<const Field> PagingFields();
std::span<const Field> CostFields();

// One key a line. Ends with a newline.
std::string ReportJson(const Results& results);
// Sections of which nothing is to be said are left out.
std::string ReportTable(const Results& results);
// The part of --help that describes the keys.
std::string KeysHelp();

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_REPORT_H_
