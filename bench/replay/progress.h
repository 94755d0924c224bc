// Progress: a bar on standard error, if that is a terminal, redrawn a few times
// a second; otherwise nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_PROGRESS_H_
#define SHADOWMMU_BENCH_REPLAY_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "bench/replay/stop_watch.h"

namespace shadowmmu::replay {

class Progress {
 public:
  enum class Where : uint8_t { kNowhere, kTerminal };

  // kTerminal if standard error is one.
  static Where Detect();

  explicit Progress(Where where) : where_(where) {}
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `fraction` of the trace, 0 to 1; nullopt: its length is not known.
  // `accesses` have been run.
  void Show(std::optional<double> fraction, uint64_t accesses);
  // Removes the bar.
  void Clear();

  // What Show draws.
  static std::string Line(std::optional<double> fraction, uint64_t accesses);

 private:
  const Where where_;
  StopWatch watch_;
  Nanoseconds next_{};
  bool shown_ = false;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_PROGRESS_H_
