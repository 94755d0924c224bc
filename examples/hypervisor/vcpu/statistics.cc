#include "vcpu/statistics.h"

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace hypervisor {
namespace {

std::string NameOf(size_t code) {
  switch (static_cast<ExitCode>(code)) {
    case ExitCode::kPageFault:
      return "page_fault";
    case ExitCode::kIntr:
      return "interrupt";
    case ExitCode::kVintr:
      return "interrupt_window";
    case ExitCode::kCpuid:
      return "cpuid";
    case ExitCode::kHlt:
      return "hlt";
    case ExitCode::kInvlpg:
      return "invlpg";
    case ExitCode::kIoio:
      return "port";
    case ExitCode::kMsr:
      return "msr";
    case ExitCode::kIret:
      return "iret";
    case ExitCode::kTaskSwitch:
      return "task_switch";
    case ExitCode::kWbinvd:
      return "wbinvd";
    case ExitCode::kShutdown:
      return "shutdown";
    default:
      break;
  }
  if (code < 0x10) return absl::StrCat("read_cr", code);
  if (code < 0x20) return absl::StrCat("write_cr", code - 0x10);
  return absl::StrFormat("code_0x%x", code);
}

std::string NameOf(shadowmmu::FaultOutcome::Kind kind) {
  std::ostringstream text;
  text << kind;
  return text.str();
}

using Rows = ExitStatistics::Rows;

// The library's own "name value" lines.
Rows RowsOf(const shadowmmu::Stats& mmu) {
  std::ostringstream text;
  text << mmu;
  std::istringstream lines(text.str());
  Rows rows;
  std::string name;
  uint64_t value = 0;
  while (lines >> name >> value) rows.emplace_back(name, value);
  return rows;
}

void AppendObject(std::string* json, absl::string_view name, const Rows& rows) {
  absl::StrAppend(json, "  \"", name, "\": {");
  bool first = true;
  for (const auto& row : rows) {
    absl::StrAppend(json, first ? "\n" : ",\n", "    \"", row.first,
                    "\": ", row.second);
    first = false;
  }
  absl::StrAppend(json, "\n  }");
}

void AppendTable(std::string* text, absl::string_view title, const Rows& rows) {
  absl::StrAppend(text, title, "\n");
  for (const auto& row : rows) {
    absl::StrAppendFormat(text, "  %-24s %14d\n", row.first, row.second);
  }
}

}  // namespace

void ExitStatistics::CountExit(ExitCode code) {
  ++exits_;
  last_ = &by_code_[std::min(static_cast<uint64_t>(code), uint64_t{kCodes})];
  ++last_->exits;
}

void ExitStatistics::CountEntry(uint64_t now) {
  entered_ = now;
  if (last_ == nullptr) return;
  const uint64_t pause = now - returned_ - waited_;
  longest_pause_ = std::max(longest_pause_, pause);
  last_->ns += pause;
  waited_ = 0;
}

void ExitStatistics::CountReturn(uint64_t now) {
  returned_ = now;
  guest_ns_ += now - entered_;
}

void ExitStatistics::CountHalt(uint64_t nanoseconds) {
  halted_ns_ += nanoseconds;
  waited_ += nanoseconds;
}

void ExitStatistics::CountBump(uint64_t nanoseconds) {
  ++bumps_;
  bump_ns_ += nanoseconds;
  longest_bump_ = std::max(longest_bump_, nanoseconds);
}

void ExitStatistics::CountReclaim(uint64_t nanoseconds) {
  reclaim_ns_ += nanoseconds;
  longest_reclaim_ = std::max(longest_reclaim_, nanoseconds);
}

void ExitStatistics::CountFault(const shadowmmu::FaultOutcome& outcome) {
  ++by_outcome_[std::min(static_cast<size_t>(outcome.kind), kOutcomes - 1)];
}

void ExitStatistics::Add(const ExitStatistics& other) {
  emulated_instructions += other.emulated_instructions;
  interrupts += other.interrupts;
  unplugs += other.unplugs;
  audits += other.audits;
  exits_ += other.exits_;
  bumps_ += other.bumps_;
  bump_ns_ += other.bump_ns_;
  longest_bump_ = std::max(longest_bump_, other.longest_bump_);
  reclaim_ns_ += other.reclaim_ns_;
  longest_reclaim_ = std::max(longest_reclaim_, other.longest_reclaim_);
  longest_pause_ = std::max(longest_pause_, other.longest_pause_);
  halted_ns_ += other.halted_ns_;
  guest_ns_ += other.guest_ns_;
  for (size_t i = 0; i < by_code_.size(); ++i) {
    by_code_[i].exits += other.by_code_[i].exits;
    by_code_[i].ns += other.by_code_[i].ns;
  }
  for (size_t i = 0; i < by_outcome_.size(); ++i) {
    by_outcome_[i] += other.by_outcome_[i];
  }
}

std::vector<ExitStatistics::Group> ExitStatistics::Groups(
    const shadowmmu::Stats& mmu) const {
  Rows exits;
  Rows served;
  for (size_t i = 0; i < by_code_.size(); ++i) {
    if (by_code_[i].exits == 0) continue;
    exits.emplace_back(NameOf(i), by_code_[i].exits);
    served.emplace_back(NameOf(i), by_code_[i].ns);
  }
  Rows faults;
  for (size_t i = 0; i < by_outcome_.size(); ++i) {
    if (by_outcome_[i] == 0) continue;
    faults.emplace_back(NameOf(static_cast<shadowmmu::FaultOutcome::Kind>(i)),
                        by_outcome_[i]);
  }
  const Rows run = {{"exits", exits_},
                    {"emulated_instructions", emulated_instructions},
                    {"interrupts", interrupts},
                    {"bumps", bumps_},
                    {"bump_ns", bump_ns_},
                    {"longest_bump_ns", longest_bump_},
                    {"reclaim_ns", reclaim_ns_},
                    {"longest_reclaim_ns", longest_reclaim_},
                    {"unplugs", unplugs},
                    {"audits", audits},
                    {"run_ns", run_ns},
                    {"guest_ns", guest_ns_},
                    {"halted_ns", halted_ns_},
                    {"longest_pause_ns", longest_pause_}};
  return {{"run", run},
          {"exits_by_reason", exits},
          {"ns_by_reason", served},
          {"faults_by_outcome", faults},
          {"mmu", RowsOf(mmu)}};
}

std::string ExitStatistics::Json(const shadowmmu::Stats& mmu) const {
  std::string json;
  for (const Group& group : Groups(mmu)) {
    json += json.empty() ? "{\n" : ",\n";
    AppendObject(&json, group.name, group.rows);
  }
  json += "\n}\n";
  return json;
}

std::string ExitStatistics::Table(const shadowmmu::Stats& mmu) const {
  std::string text;
  for (const Group& group : Groups(mmu)) {
    AppendTable(&text, group.name, group.rows);
  }
  return text;
}

}  // namespace hypervisor
