#include "loaders/guest_options.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace hypervisor {
namespace {

struct NumberOption {
  absl::string_view name;
  uint32_t GuestOptions::*member;
};
constexpr std::array<NumberOption, 11> kNumbers = {{
    {"memory_mib", &GuestOptions::memory_mib},
    {"vcpus", &GuestOptions::vcpus},
    {"bump_every_ms", &GuestOptions::bump_every_ms},
    {"unplug_every_ms", &GuestOptions::unplug_every_ms},
    {"audit_every", &GuestOptions::audit_every},
    {"timeout_s", &GuestOptions::timeout_s},
    {"unsync", &GuestOptions::unsync},
    {"previous_roots", &GuestOptions::previous_roots},
    {"prefetch", &GuestOptions::prefetch},
    {"large_pages", &GuestOptions::large_pages},
    {"serial_input", &GuestOptions::serial_input},
}};

// Each in the order of its enum.
constexpr std::array<absl::string_view, 3> kStrategies = {
    "zap_all", "obsolete_walk", "release"};
constexpr std::array<absl::string_view, 4> kSlotZaps = {"auto", "targeted",
                                                        "walk", "release"};

template <typename Enum, size_t kWords>
bool SetWord(const std::array<absl::string_view, kWords>& words,
             absl::string_view value, Enum* to) {
  const auto* const word = std::find(words.begin(), words.end(), value);
  if (word == words.end()) return false;
  *to = static_cast<Enum>(word - words.begin());
  return true;
}

bool IsCpuFlag(absl::string_view value) {
  return value.size() >= 2 && (value[0] == '+' || value[0] == '-');
}

// Whether `name value` is an option; sets it.
bool Set(absl::string_view name, absl::string_view value,
         GuestOptions* options) {
  for (const NumberOption& number : kNumbers) {
    if (name != number.name) continue;
    const bool digits =
        !value.empty() && value.size() <= GuestOptions::kMaxDigits &&
        std::all_of(value.begin(), value.end(), absl::ascii_isdigit);
    return digits && absl::SimpleAtoi(value, &(options->*number.member));
  }
  if (name == "name") {
    options->name = std::string(value);
    return !value.empty();
  }
  if (name == "cpu_flag") {
    if (!IsCpuFlag(value) ||
        options->cpu_flags.size() == GuestOptions::kMaxCpuFlags) {
      return false;
    }
    options->cpu_flags.emplace_back(value);
    return true;
  }
  if (name == "strategy") {
    return SetWord(kStrategies, value, &options->strategy);
  }
  if (name == "slot_zap") return SetWord(kSlotZaps, value, &options->slot_zap);
  if (name == "statistics") {
    options->statistics =
        value == "com2" ? Statistics::kCom2 : Statistics::kNone;
    return value == "com2" || value == "none";
  }
  return false;
}

}  // namespace

absl::StatusOr<GuestOptions> GuestOptions::Parse(absl::string_view text) {
  if (text.size() > kMaxText) {
    return absl::InvalidArgumentError("the options are too long");
  }
  GuestOptions options;
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (!Set(parts.first, parts.second, &options)) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, " of the options: \"",
                       absl::CHexEscape(line.substr(0, 80)), "\""));
    }
  }
  return options;
}

}  // namespace hypervisor
