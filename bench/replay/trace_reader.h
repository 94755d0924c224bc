// TraceReader: a lackey trace, read as a stream: memory does not grow with it.
//
//   TraceReader reader(&in, TraceReader::Trailer::kRequired);
//   absl::StatusOr<size_t> got = reader.Read(buffer);   // 0: the end
//
// Rules:
//  1. Every line must be one that valgrind writes (trace_line.h), whole, with
//     its newline. Any other is damage, whatever the options.
//  2. A trace is complete if the trailer follows its last access. Without it
//     the trace was truncated: an error, unless Trailer::kOptional. (Several
//     complete traces one after another are one complete trace.)
//  3. A trace without any access is an error.
//  4. Errors name the line, counted from 1, and are the end: Read repeats them.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_REPLAY_TRACE_READER_H_
#define SHADOWMMU_BENCH_REPLAY_TRACE_READER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/replay/trace_access.h"

namespace shadowmmu::replay {

class TraceReader {
 public:
  enum class Trailer : uint8_t { kRequired, kOptional };

  struct Counts {
    uint64_t lines = 0;
    uint64_t bytes = 0;  // of text, as far as it has been read
    std::array<uint64_t, kTraceKinds> of_kind{};
    uint64_t page_crossings = 0;  // accesses that touch more than one page
    uint32_t largest_access = 0;  // bytes

    uint64_t of(TraceKind kind) const {
      return of_kind[static_cast<size_t>(kind)];
    }
    uint64_t accesses() const {
      uint64_t sum = 0;
      for (const uint64_t count : of_kind) sum += count;
      return sum;
    }
  };

  // `in` is not owned.
  TraceReader(std::istream* in, Trailer trailer);

  // Reads accesses until `out` is full or the trace ends; how many. `out` is
  // not empty; 0 means that the trace has ended as it should.
  // InvalidArgument: damage. DataLoss: truncated. Unavailable: cannot read.
  absl::StatusOr<size_t> Read(std::span<TraceAccess> out);

  const Counts& counts() const { return counts_; }
  // The trailer has been seen, and no access after it.
  bool complete() const { return complete_; }

 private:
  // What there is where a line should begin.
  enum class Next : uint8_t { kLine, kEnd };

  absl::StatusOr<Next> NextLine(absl::string_view* line);
  absl::Status Refill();
  absl::Status TakeLine(absl::string_view line, std::span<TraceAccess> out,
                        size_t* taken);
  absl::Status JudgeEnd() const;
  absl::Status At(uint64_t line, const absl::Status& status) const;

  std::istream* const in_;
  const Trailer trailer_;
  Counts counts_;
  bool complete_ = false;
  absl::Status failure_;

  // Read and not yet used: buffer_[begin_, end_).
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_TRACE_READER_H_
