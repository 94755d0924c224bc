#include "src/base/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "shadowmmu/check_handler.h"

namespace shadowmmu {
namespace {

void WriteToStderr(absl::string_view message) {
  std::fwrite(message.data(), 1, message.size(), stderr);
  std::fputc('\n', stderr);
  std::fflush(stderr);
}

std::atomic<CheckHandler>& InstalledHandler() {
  static constinit std::atomic<CheckHandler> handler{&WriteToStderr};
  return handler;
}

// Set while this thread reports, so that a handler which fails a check itself
// cannot recurse.
constinit thread_local bool reporting = false;

[[noreturn]] void ReportAndAbort(absl::string_view message) {
  if (!reporting) {
    reporting = true;
    InstalledHandler().load()(message);
  }
  std::abort();
}

}  // namespace

CheckHandler SetCheckHandler(CheckHandler handler) {
  return InstalledHandler().exchange(handler == nullptr ? &WriteToStderr
                                                        : handler);
}

namespace base_internal {

struct CheckFailure::Message {
  std::ostringstream text;
  std::size_t bare_length =
      0;  // Of the text before anything is streamed by the caller.
};

CheckFailure::CheckFailure(const char* file, int line, const char* what)
    : message_(new Message) {
  message_->text << file << ":" << line << ": Check failed: " << what;
  message_->bare_length = message_->text.str().size();
}

CheckFailure::CheckFailure(const char* file, int line, std::string* what)
    : CheckFailure(file, line, std::unique_ptr<std::string>(what)->c_str()) {}

CheckFailure::~CheckFailure() {
  const std::string text = message_->text.str();
  const auto bare = absl::string_view(text).substr(0, message_->bare_length);
  const auto more = absl::string_view(text).substr(message_->bare_length);
  // One blank between the condition and what the caller had to say.
  ReportAndAbort(more.empty() ? text : absl::StrCat(bare, " ", more));
}

std::ostream& CheckFailure::stream() { return message_->text; }

struct CheckOpText::Message {
  std::ostringstream text;
};

CheckOpText::CheckOpText(const char* what) : message_(new Message) {
  message_->text << what << " (";
}

CheckOpText::~CheckOpText() { delete message_; }

std::ostream& CheckOpText::stream() { return message_->text; }

std::string* CheckOpText::Finish() {
  message_->text << ")";
  return new std::string(message_->text.str());
}

}  // namespace base_internal
}  // namespace shadowmmu
