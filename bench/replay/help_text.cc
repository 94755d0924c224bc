#include "bench/replay/help_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace shadowmmu::replay {

std::string HelpEntry(absl::string_view name, size_t indent,
                      absl::string_view meaning) {
  constexpr size_t kColumns = 80;
  const std::string margin(indent, ' ');
  std::string text(name);
  if (text.size() >= indent) {
    absl::StrAppend(&text, "\n", margin);
  } else {
    text.resize(indent, ' ');
  }
  size_t column = indent;
  for (const absl::string_view word : absl::StrSplit(meaning, ' ')) {
    if (column == indent) {
      absl::StrAppend(&text, word);
      column += word.size();
    } else if (column + 1 + word.size() <= kColumns) {
      absl::StrAppend(&text, " ", word);
      column += 1 + word.size();
    } else {
      absl::StrAppend(&text, "\n", margin, word);
      column = indent + word.size();
    }
  }
  return text + "\n";
}

}  // namespace shadowmmu::replay
