#include "bench/replay/trace_reader.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/replay/trace_line.h"

namespace shadowmmu::replay {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

}  // namespace

TraceReader::TraceReader(std::istream* in, Trailer trailer)
    : in_(in), trailer_(trailer), buffer_(kBufferBytes) {}

absl::StatusOr<size_t> TraceReader::Read(std::span<TraceAccess> out) {
  if (!failure_.ok()) return failure_;
  size_t taken = 0;
  while (taken < out.size()) {
    absl::string_view line;
    const absl::StatusOr<Next> next = NextLine(&line);
    if (!next.ok()) return failure_ = next.status();
    if (*next == Next::kEnd) {
      failure_ = JudgeEnd();
      if (!failure_.ok()) return failure_;
      return taken;
    }
    ++counts_.lines;
    failure_ = TakeLine(line, out, &taken);
    if (!failure_.ok()) return failure_;
  }
  return taken;
}

absl::Status TraceReader::TakeLine(absl::string_view line,
                                   std::span<TraceAccess> out, size_t* taken) {
  const absl::StatusOr<TraceLine> parsed = ParseTraceLine(line);
  if (!parsed.ok()) return At(counts_.lines, parsed.status());
  if (parsed->kind != TraceLine::Kind::kAccess) {
    if (parsed->kind == TraceLine::Kind::kTrailer) complete_ = true;
    return absl::OkStatus();
  }
  complete_ = false;
  const TraceAccess& access = parsed->access;
  ++counts_.of_kind[static_cast<size_t>(access.kind)];
  if (!access.in_one_page()) ++counts_.page_crossings;
  counts_.largest_access = std::max(counts_.largest_access, access.bytes);
  out[(*taken)++] = access;
  return absl::OkStatus();
}

absl::StatusOr<TraceReader::Next> TraceReader::NextLine(
    absl::string_view* line) {
  size_t searched = 0;  // from begin_ on, where no newline is
  for (;;) {
    const char* const from = buffer_.data() + begin_ + searched;
    const size_t left = end_ - begin_ - searched;
    if (const void* const newline = std::memchr(from, '\n', left)) {
      const char* const begin = buffer_.data() + begin_;
      const auto length =
          static_cast<size_t>(static_cast<const char*>(newline) - begin);
      *line = absl::string_view(begin, length);
      begin_ += length + 1;
      counts_.bytes += length + 1;
      return Next::kLine;
    }
    searched = end_ - begin_;
    if (searched == buffer_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", counts_.lines + 1, ": no newline in ",
                       buffer_.size(), " bytes: this is no lackey trace"));
    }
    if (absl::Status read = Refill(); !read.ok()) return read;
    if (end_ - begin_ > searched) continue;
    if (searched == 0) return Next::kEnd;
    *line = absl::string_view(buffer_.data() + begin_, searched);
    begin_ = end_;
    counts_.bytes += searched;
    // Valgrind's last words may lack their newline; an access may not, because
    // digits could be missing.
    if (absl::StartsWith(*line, "==")) return Next::kLine;
    return absl::InvalidArgumentError(absl::StrCat(
        "line ", counts_.lines + 1, ": the trace ends within a line: \"",
        absl::CHexEscape(line->substr(0, 60)),
        "\" (without that line, --allow-truncated would play the rest)"));
  }
}

absl::Status TraceReader::Refill() {
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (in_->eof()) return absl::OkStatus();
  in_->read(buffer_.data() + end_,
            static_cast<std::streamsize>(buffer_.size() - end_));
  const auto got = static_cast<size_t>(in_->gcount());
  end_ += got;
  if (in_->bad() || (in_->fail() && !in_->eof())) {
    return At(counts_.lines + 1,
              absl::UnavailableError("the trace cannot be read"));
  }
  return absl::OkStatus();
}

absl::Status TraceReader::JudgeEnd() const {
  if (counts_.accesses() == 0) {
    return At(std::max<uint64_t>(counts_.lines, 1),
              absl::InvalidArgumentError(
                  "the trace ends and has no access in it (was it made with "
                  "--tool=lackey --trace-mem=yes?)"));
  }
  if (complete_ || trailer_ == Trailer::kOptional) return absl::OkStatus();
  return At(counts_.lines,
            absl::DataLossError(
                "the trace ends without valgrind's trailer (\"==pid== Exit "
                "code: n\"): it was truncated; --allow-truncated plays it all "
                "the same"));
}

absl::Status TraceReader::At(uint64_t line, const absl::Status& status) const {
  return absl::Status(status.code(),
                      absl::StrCat("line ", line, ": ", status.message()));
}

}  // namespace shadowmmu::replay
