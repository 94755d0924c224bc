#include "bench/replay/trace_line.h"

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace shadowmmu::replay {
namespace {

constexpr size_t kPrefix = 3;       // "I  ", " L ", ...
constexpr size_t kShown = 60;       // of a line, in an error
constexpr size_t kHexDigits = 16;   // of an address
constexpr size_t kSizeDigits = 10;  // of a size

absl::Status Damaged(absl::string_view why, absl::string_view line) {
  const absl::string_view rest = line.size() > kShown ? "..." : "";
  return absl::InvalidArgumentError(absl::StrCat(
      why, ": \"", absl::CHexEscape(line.substr(0, kShown)), "\"", rest));
}

size_t CountDigits(absl::string_view text) {
  size_t count = 0;
  while (count < text.size() && absl::ascii_isdigit(text[count])) ++count;
  return count;
}

// Takes `mark`, a process id, and `mark` again off the front.
bool ConsumeMark(absl::string_view mark, absl::string_view* line) {
  absl::string_view rest = *line;
  if (!absl::ConsumePrefix(&rest, mark)) return false;
  const size_t digits = CountDigits(rest);
  if (digits == 0) return false;
  rest.remove_prefix(digits);
  if (!absl::ConsumePrefix(&rest, mark)) return false;
  *line = rest;
  return true;
}

// "==23305== Exit code:       0"
bool IsTrailer(absl::string_view line) {
  if (!ConsumeMark("==", &line)) return false;
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "Exit code:")) return false;
  line = absl::StripLeadingAsciiWhitespace(line);
  absl::ConsumePrefix(&line, "-");
  return !line.empty() && CountDigits(line) == line.size();
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Takes a number off the front of `text`; false where there is none, or one of
// more than `most` digits.
bool ConsumeHex(size_t most, absl::string_view* text, uint64_t* value) {
  size_t digits = 0;
  *value = 0;
  for (; digits < text->size(); ++digits) {
    const int digit = HexValue((*text)[digits]);
    if (digit < 0) break;
    *value = *value << 4 | static_cast<uint64_t>(digit);
  }
  text->remove_prefix(digits);
  return digits >= 1 && digits <= most;
}

bool ConsumeDecimal(size_t most, absl::string_view* text, uint64_t* value) {
  const size_t digits = CountDigits(*text);
  if (digits < 1 || digits > most) return false;
  *value = 0;
  for (size_t i = 0; i < digits; ++i) {
    *value = *value * 10 + static_cast<uint64_t>((*text)[i] - '0');
  }
  text->remove_prefix(digits);
  return true;
}

bool FindKind(absl::string_view line, TraceKind* kind) {
  if (absl::StartsWith(line, "I  ")) {
    *kind = TraceKind::kFetch;
  } else if (absl::StartsWith(line, " L ")) {
    *kind = TraceKind::kLoad;
  } else if (absl::StartsWith(line, " S ")) {
    *kind = TraceKind::kStore;
  } else if (absl::StartsWith(line, " M ")) {
    *kind = TraceKind::kModify;
  } else {
    return false;
  }
  return true;
}

bool IsRemark(absl::string_view line) {
  return absl::StartsWith(line, "==") || ConsumeMark("--", &line) ||
         ConsumeMark("**", &line);
}

}  // namespace

absl::StatusOr<TraceLine> ParseTraceLine(absl::string_view line) {
  TraceAccess access;
  if (!FindKind(line, &access.kind)) {
    if (IsTrailer(line)) return TraceLine{TraceLine::Kind::kTrailer};
    if (IsRemark(line)) return TraceLine{TraceLine::Kind::kRemark};
    return Damaged("neither an access nor a line of valgrind's", line);
  }
  absl::string_view rest = line.substr(kPrefix);
  uint64_t address = 0;
  if (!ConsumeHex(kHexDigits, &rest, &address)) {
    return Damaged("no hexadecimal address", line);
  }
  uint64_t bytes = 0;
  if (!absl::ConsumePrefix(&rest, ",") ||
      !ConsumeDecimal(kSizeDigits, &rest, &bytes)) {
    return Damaged("no size", line);
  }
  if (!rest.empty()) return Damaged("something follows the size", line);
  if (bytes < 1 || bytes > kMaxAccessBytes) {
    return Damaged(absl::StrCat("a size not in 1 to ", kMaxAccessBytes), line);
  }
  if (address > kUserEnd.value() - bytes) {
    return Damaged("an address that is no user program's", line);
  }
  access.begin = Gva(address);
  access.bytes = static_cast<uint32_t>(bytes);
  return TraceLine{TraceLine::Kind::kAccess, access};
}

}  // namespace shadowmmu::replay
