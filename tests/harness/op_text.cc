#include "tests/harness/op_text.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace shadowmmu::testing {
namespace {

using Style = FieldInfo::Style;

// An Abseil older than C++17 has its own string_view.
absl::string_view Abseil(std::string_view text) {
  return absl::string_view(text.data(), text.size());
}

std::optional<uint64_t> ParseNumber(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x")) {
    text.remove_prefix(2);
    base = 16;
  }
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value, base);
  if (text.empty() || result.ec != std::errc() || result.ptr != end) {
    return std::nullopt;
  }
  return value;
}

// A word of the field, or a number.
std::optional<uint64_t> ParseValue(const FieldInfo& info,
                                   std::string_view text) {
  for (size_t i = 0; i < info.words.size(); ++i) {
    if (info.words[i] == text) return i;
  }
  return ParseNumber(text);
}

std::optional<std::vector<uint8_t>> ParseBytes(std::string_view text) {
  if (text.size() % 2 != 0 || text.size() / 2 > kStreamMaxBytes) {
    return std::nullopt;
  }
  std::vector<uint8_t> bytes(text.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char* from = text.data() + 2 * i;
    const auto result = std::from_chars(from, from + 2, bytes[i], 16);
    if (result.ec != std::errc() || result.ptr != from + 2) {
      return std::nullopt;
    }
  }
  return bytes;
}

void AppendValue(std::string& out, const FieldInfo& info, uint64_t value) {
  if (value < info.words.size()) {
    out += info.words[static_cast<size_t>(value)];
  } else if (info.style == Style::kHex) {
    absl::StrAppend(&out, "0x", absl::Hex(value));
  } else {
    absl::StrAppend(&out, value);
  }
}

// Takes the next word off `line`; empty at its end.
std::string_view NextWord(std::string_view& line) {
  const size_t begin = std::min(line.find_first_not_of(" \t\r"), line.size());
  line.remove_prefix(begin);
  const size_t length = std::min(line.find_first_of(" \t\r"), line.size());
  const std::string_view word = line.substr(0, length);
  line.remove_prefix(length);
  return word;
}

struct KeyValue {
  std::string_view key;
  std::string_view value;
};
std::optional<KeyValue> SplitKeyValue(std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  return KeyValue{word.substr(0, equals), word.substr(equals + 1)};
}

std::optional<OpKind> KindNamed(std::string_view name) {
  for (size_t i = 0; i < kOpKinds; ++i) {
    const OpKind kind = static_cast<OpKind>(i);
    if (ShapeOf(kind).name == name) return kind;
  }
  return std::nullopt;
}

// The numbers of a `vm` line, by name.
struct VmNumber {
  std::string_view name;
  uint32_t VmShape::*member;
};
constexpr VmNumber kVmNumbers[] = {
    {"vcpus", &VmShape::vcpus},       {"frames", &VmShape::frames},
    {"tables", &VmShape::tables},     {"largest", &VmShape::largest},
    {"bits", &VmShape::bits},         {"roots", &VmShape::roots},
    {"unsync", &VmShape::unsync},     {"flood", &VmShape::flood},
    {"prefetch", &VmShape::prefetch}, {"ones", &VmShape::ones}};

class Parser {
 public:
  absl::StatusOr<OpStream> Parse(std::string_view text) {
    while (!text.empty()) {
      ++line_number_;
      const size_t length = std::min(text.find('\n'), text.size());
      absl::Status status = ParseLine(text.substr(0, length));
      if (!status.ok()) return status;
      text.remove_prefix(std::min(length + 1, text.size()));
    }
    if (!seen_vm_) return Error("no `vm` line", "");
    return std::move(stream_);
  }

 private:
  absl::Status Error(std::string_view what, std::string_view word) const {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line_number_, ": ", Abseil(what),
                     word.empty() ? "" : " ", Abseil(word)));
  }

  absl::Status ParseLine(std::string_view line) {
    const size_t hash = line.find('#');
    if (hash == 0 && !seen_vm_) {
      std::string_view story = line.substr(1);
      if (story.starts_with(' ')) story.remove_prefix(1);
      stream_.story.emplace_back(story);
      return absl::OkStatus();
    }
    line = line.substr(0, hash);
    const std::string_view name = NextWord(line);
    if (name.empty()) return absl::OkStatus();
    if (name == "vm") return ParseVm(line);
    if (!seen_vm_) return Error("expected `vm` before", name);
    if (stream_.ops.size() == kStreamMaxOps) return Error("too many ops", "");
    return ParseOp(name, line);
  }

  absl::Status ParseVm(std::string_view line) {
    if (seen_vm_) return Error("a second `vm`", "");
    seen_vm_ = true;
    for (std::string_view word = NextWord(line); !word.empty();
         word = NextWord(line)) {
      const std::optional<KeyValue> pair = SplitKeyValue(word);
      if (!pair) return Error("expected key=value, found", word);
      const auto* number =
          std::find_if(std::begin(kVmNumbers), std::end(kVmNumbers),
                       [&](const VmNumber& n) { return n.name == pair->key; });
      if (number == std::end(kVmNumbers)) {
        return Error("`vm` has no", pair->key);
      }
      const std::optional<uint64_t> value =
          number->member == &VmShape::largest
              ? ParseValue(InfoOf(Field::kLevel), pair->value)
              : ParseNumber(pair->value);
      if (!value || *value > UINT32_MAX) return Error("bad number in", word);
      stream_.vm.*(number->member) = static_cast<uint32_t>(*value);
    }
    if (ClampVm(stream_.vm) != stream_.vm) {
      return Error("a number of `vm` is out of bounds", "");
    }
    return absl::OkStatus();
  }

  // What one op line has given so far.
  struct Line {
    Op op;
    std::array<bool, kMaxFields> seen{};
    bool seen_bytes = false;
  };

  absl::Status ParseOp(std::string_view name, std::string_view line) {
    const std::optional<OpKind> kind = KindNamed(name);
    if (!kind) return Error("unknown op", name);
    Line parsed{.op = Op(*kind)};
    for (std::string_view word = NextWord(line); !word.empty();
         word = NextWord(line)) {
      absl::Status status = ParseWord(word, &parsed);
      if (!status.ok()) return status;
    }
    const OpShape& shape = ShapeOf(*kind);
    for (size_t i = 0; i < shape.required; ++i) {
      if (!parsed.seen[i]) {
        return Error(absl::StrCat(Abseil(name), " needs"),
                     InfoOf(shape.fields[i]).name);
      }
    }
    if (shape.has_bytes && !parsed.seen_bytes) {
      return Error(absl::StrCat(Abseil(name), " needs"), "bytes");
    }
    stream_.ops.push_back(std::move(parsed.op));
    return absl::OkStatus();
  }

  absl::Status ParseWord(std::string_view word, Line* line) {
    const OpShape& shape = ShapeOf(line->op.kind());
    const std::optional<KeyValue> pair = SplitKeyValue(word);
    if (!pair) return Error("expected key=value, found", word);
    if (shape.has_bytes && pair->key == "bytes") {
      std::optional<std::vector<uint8_t>> bytes = ParseBytes(pair->value);
      if (!bytes || line->seen_bytes) return Error("bad bytes in", word);
      line->seen_bytes = true;
      line->op.SetBytes(*std::move(bytes));
      return absl::OkStatus();
    }
    size_t place = 0;
    while (place < shape.field_count() &&
           InfoOf(shape.fields[place]).name != pair->key) {
      ++place;
    }
    if (place == shape.field_count()) {
      return Error(absl::StrCat(Abseil(shape.name), " has no"), pair->key);
    }
    if (line->seen[place]) return Error("given twice:", pair->key);
    line->seen[place] = true;
    const Field field = shape.fields[place];
    const std::optional<uint64_t> value =
        ParseValue(InfoOf(field), pair->value);
    if (!value) return Error("bad value in", word);
    line->op.Set(field, *value);
    return absl::OkStatus();
  }

  size_t line_number_ = 0;
  bool seen_vm_ = false;
  OpStream stream_;
};

}  // namespace

absl::StatusOr<OpStream> ParseStream(std::string_view text) {
  return Parser().Parse(text);
}

std::string PrintOp(const Op& op) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const OpShape& shape = ShapeOf(op.kind());
  std::string out(shape.name);
  for (size_t i = 0; i < shape.field_count(); ++i) {
    const FieldInfo& info = InfoOf(shape.fields[i]);
    const uint64_t value = op.Get(shape.fields[i]);
    if (i >= shape.required && value == info.absent) continue;
    absl::StrAppend(&out, " ", Abseil(info.name), "=");
    AppendValue(out, info, value);
  }
  if (!shape.has_bytes) return out;
  out += " bytes=";
  for (const uint8_t byte : op.bytes()) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::ostream& operator<<(std::ostream& os, const Op& op) {
  return os << PrintOp(op);
}

std::string PrintStream(const OpStream& stream) {
  std::string out;
  for (const std::string& line : stream.story) {
    absl::StrAppend(&out, line.empty() ? "#" : "# ", line, "\n");
  }
  out += "vm";
  for (const VmNumber& number : kVmNumbers) {
    const uint32_t value = stream.vm.*(number.member);
    absl::StrAppend(&out, " ", Abseil(number.name), "=");
    AppendValue(out,
                number.member == &VmShape::largest ? InfoOf(Field::kLevel)
                                                   : InfoOf(Field::kN),
                value);
  }
  out += '\n';
  for (const Op& op : stream.ops) absl::StrAppend(&out, PrintOp(op), "\n");
  return out;
}

}  // namespace shadowmmu::testing
