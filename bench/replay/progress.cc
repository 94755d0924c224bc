#include "bench/replay/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <iostream>

#include "absl/strings/str_cat.h"

namespace shadowmmu::replay {
namespace {

constexpr Nanoseconds kBetween = std::chrono::milliseconds(100);
constexpr size_t kBarColumns = 40;
// Back to the first column, and nothing behind what follows (ECMA-48: EL).
constexpr const char* kErase = "\r\x1b[K";

}  // namespace

Progress::Where Progress::Detect() {
  return isatty(STDERR_FILENO) != 0 ? Where::kTerminal : Where::kNowhere;
}

void Progress::Show(std::optional<double> fraction, uint64_t accesses) {
  if (where_ == Where::kNowhere || watch_.elapsed() < next_) return;
  next_ = watch_.elapsed() + kBetween;
  shown_ = true;
  std::cerr << kErase << Line(fraction, accesses) << std::flush;
}

void Progress::Clear() {
  if (shown_) std::cerr << kErase << std::flush;
  shown_ = false;
}

std::string Progress::Line(std::optional<double> fraction, uint64_t accesses) {
  const std::string count =
      absl::StrCat(accesses / 1'000'000, " million accesses");
  if (!fraction.has_value()) return count;
  const double part = std::clamp(*fraction, 0.0, 1.0);
  const auto full = static_cast<size_t>(part * kBarColumns);
  return absl::StrCat("[", std::string(full, '#'),
                      std::string(kBarColumns - full, '.'), "] ",
                      static_cast<int>(part * 100), " %, ", count);
}

}  // namespace shadowmmu::replay
