#include "bench/replay/report.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "bench/replay/help_text.h"

namespace shadowmmu::replay {
namespace {

constexpr size_t kKeyColumns = 26;
constexpr size_t kValueColumns = 16;

std::vector<Field> AllFields() {
  std::vector<Field> fields;
  for (const auto& list : {RunFields(), PagingFields(), CostFields()}) {
    fields.insert(fields.end(), list.begin(), list.end());
  }
  return fields;
}

// Enough digits for any measured number, never an exponent.
std::string Print(double value) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", value < 100 ? 3 : 1, value);
  return text;
}

// 12,345,678
std::string WithCommas(uint64_t value) {
  std::string text = absl::StrCat(value);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

// A JSON string (RFC 8259, 7).
std::string Quoted(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", byte);
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

struct JsonPrinter {
  std::string operator()(std::monostate) const { return "null"; }
  std::string operator()(uint64_t value) const { return absl::StrCat(value); }
  std::string operator()(double value) const { return Print(value); }
  std::string operator()(const std::string& text) const { return Quoted(text); }
  std::string operator()(const Histogram& histogram) const {
    std::string text = "{";
    for (const auto& [name, count] : histogram) {
      absl::StrAppend(&text, text.size() > 1 ? ", " : "", Quoted(name), ": ",
                      count);
    }
    return text + "}";
  }
};

struct TablePrinter {
  std::string operator()(std::monostate) const { return "-"; }
  std::string operator()(uint64_t value) const { return WithCommas(value); }
  std::string operator()(double value) const { return Print(value); }
  std::string operator()(const std::string& text) const { return text; }
  std::string operator()(const Histogram& histogram) const {
    std::string text;
    for (const auto& [name, count] : histogram) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", name, ": ",
                      WithCommas(count));
    }
    return text;
  }
};

std::string Padded(std::string text, size_t columns) {
  text.resize(std::max(columns, text.size() + 1), ' ');
  return text;
}

// Long values get a line to themselves.
std::string TableLine(const Field& field, const Value& value) {
  std::string text = std::visit(TablePrinter(), value);
  const std::string key = absl::StrCat("  ", field.key);
  if (text.size() > kValueColumns) {
    return absl::StrCat(Padded(key, kKeyColumns + 2), field.meaning, "\n      ",
                        text, "\n");
  }
  text.insert(0, kValueColumns - text.size(), ' ');
  return absl::StrCat(Padded(key, kKeyColumns + 2), text, "  ", field.meaning,
                      "\n");
}

bool IsEmpty(const Value& value) {
  return std::holds_alternative<std::monostate>(value);
}

}  // namespace

std::string ReportJson(const Results& results) {
  std::string text = "{";
  for (const Field& field : AllFields()) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\n  ",
                    Quoted(field.key), ": ",
                    std::visit(JsonPrinter(), field.get(results)));
  }
  return text + "\n}\n";
}

std::string ReportTable(const Results& results) {
  std::string text;
  std::string section;
  absl::string_view name;
  bool said = false;
  const auto close = [&] {
    if (said) absl::StrAppend(&text, text.empty() ? "" : "\n", section);
    said = false;
  };
  for (const Field& field : AllFields()) {
    if (field.section != name) {
      close();
      name = field.section;
      section = absl::StrCat(name, "\n");
    }
    const Value value = field.get(results);
    said = said || !IsEmpty(value);
    section += TableLine(field, value);
  }
  close();
  return text;
}

std::string KeysHelp() {
  std::string text;
  absl::string_view name;
  for (const Field& field : AllFields()) {
    if (field.section != name) {
      name = field.section;
      absl::StrAppend(&text, "  ", name, "\n");
    }
    text += HelpEntry(absl::StrCat("    ", field.key), kKeyColumns + 4,
                      field.meaning);
  }
  return text;
}

}  // namespace shadowmmu::replay
