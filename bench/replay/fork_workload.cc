#include "bench/replay/fork_workload.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "bench/replay/synthetic_program.h"

namespace shadowmmu::replay {
namespace {

// Chances at the end of a turn, per cent.
constexpr uint64_t kForkChance = 25;  // of a resident, if a child may be born
constexpr uint64_t kWaitChance = 50;  // of its parent
constexpr uint64_t kExecChance = 50;  // of a child, in its life
constexpr uint64_t kMapChance = 20;
constexpr uint64_t kUnmapChance = 15;

// Turns that a child has.
constexpr uint64_t kLeastTurns = 12;
constexpr uint64_t kMostTurns = 36;
constexpr uint64_t kExecArguments = 2;  // pages

}  // namespace

ForkWorkload::ForkWorkload(const Options& options, GuestKernel* kernel)
    : options_(options),
      kernel_(kernel),
      calls_(kernel),
      choices_(options.seed),
      tasks_(options.processes) {}

uint32_t ForkWorkload::Children(uint32_t processes) {
  return std::max(processes / 4, uint32_t{1});
}

absl::Status ForkWorkload::Boot() {
  const uint32_t residents = options_.processes - Children(options_.processes);
  for (uint32_t i = 0; i < residents; ++i) {
    tasks_[i].state = State::kRuns;
    tasks_[i].space = ProcessId{i};
  }
  just_switched_ = true;
  return kernel_->Boot(residents);
}

// ---- Scheduling ----

// Another that can run; the same one if there is none.
size_t ForkWorkload::ChooseNext() {
  std::vector<size_t> others;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (i != current_ && tasks_[i].state == State::kRuns) others.push_back(i);
  }
  return others.empty() ? current_ : choices_.Of(others);
}

absl::Status ForkWorkload::Switch() {
  if (just_switched_) {
    just_switched_ = false;
    return absl::OkStatus();
  }
  const size_t next = ChooseNext();
  if (next == current_) return absl::OkStatus();
  current_ = next;
  return kernel_->SwitchTo(tasks_[next].space);
}

// ---- A turn ----

absl::Status ForkWorkload::RunTurn(std::span<const TraceAccess> slice,
                                   Play play) {
  std::vector<TraceAccess> own;
  if (options_.program == Program::kSynthetic) AppendTurn(&choices_, &own);
  const Task& task = tasks_[current_];
  const size_t region = choices_.Below(kRegions);
  AppendTouches(&choices_, kMapArea + region * kMostPages * kPageSize,
                task.region[region], &own);
  absl::Status played = play(slice);
  if (played.ok()) played = play(own);
  if (!played.ok()) return played;
  return Call(play);
}

absl::Status ForkWorkload::Call(Play play) {
  Task& task = tasks_[current_];
  if (task.is_child) {
    if (--task.turns_left == 0) return Exit();
    if (task.turns_left == task.exec_at) return Exec();
  } else if (FindFree() != nullptr && choices_.Percent(kForkChance)) {
    return Fork();
  }
  if (choices_.Percent(kMapChance)) return Map(play);
  if (choices_.Percent(kUnmapChance)) return Unmap();
  return absl::OkStatus();
}

ForkWorkload::Task* ForkWorkload::FindFree() {
  const auto found =
      std::find_if(tasks_.begin(), tasks_.end(),
                   [](const Task& one) { return one.state == State::kFree; });
  return found == tasks_.end() ? nullptr : &*found;
}

absl::Status ForkWorkload::Fork() {
  Task& parent = tasks_[current_];
  Task* const child = FindFree();
  const absl::StatusOr<ProcessId> space = calls_.Fork();
  if (!space.ok()) return space.status();
  *child = parent;
  child->space = *space;
  child->is_child = true;
  child->parent = current_;
  child->turns_left =
      kLeastTurns + choices_.Below(kMostTurns - kLeastTurns + 1);
  child->exec_at = choices_.Percent(kExecChance)
                       ? child->turns_left - 1 - choices_.Below(kLeastTurns / 2)
                       : 0;
  if (choices_.Percent(kWaitChance)) parent.state = State::kWaits;
  return absl::OkStatus();
}

absl::Status ForkWorkload::Exec() {
  Task& task = tasks_[current_];
  std::fill(std::begin(task.region), std::end(task.region), 0);
  const absl::StatusOr<ProcessId> space =
      calls_.Exec(kProgramStack, kExecArguments);
  if (!space.ok()) return space.status();
  task.space = *space;
  return absl::OkStatus();
}

absl::Status ForkWorkload::Exit() {
  Task& task = tasks_[current_];
  task.state = State::kFree;
  tasks_[task.parent].state = State::kRuns;
  current_ = ChooseNext();
  just_switched_ = true;
  return calls_.Exit(tasks_[current_].space);
}

// A region that the process then uses from end to end.
absl::Status ForkWorkload::Map(Play play) {
  Task& task = tasks_[current_];
  uint64_t* const place =
      std::find(std::begin(task.region), std::end(task.region), 0);
  if (place == std::end(task.region)) return Unmap();
  *place = 1 + choices_.Below(kMostPages);
  ++maps_;
  const auto index = static_cast<uint64_t>(place - std::begin(task.region));
  std::vector<TraceAccess> touches;
  AppendTouches(&choices_, kMapArea + index * kMostPages * kPageSize, *place,
                &touches);
  return play(touches);
}

absl::Status ForkWorkload::Unmap() {
  Task& task = tasks_[current_];
  uint64_t* const place =
      std::find_if(std::begin(task.region), std::end(task.region),
                   [](uint64_t pages) { return pages != 0; });
  if (place == std::end(task.region)) return absl::OkStatus();
  const auto index = static_cast<uint64_t>(place - std::begin(task.region));
  const uint64_t pages = std::exchange(*place, 0);
  return calls_.Unmap(kMapArea + index * kMostPages * kPageSize, pages);
}

}  // namespace shadowmmu::replay
