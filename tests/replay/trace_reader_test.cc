// TraceReader: what a whole trace is, and what is told of one that is not.

#include "bench/replay/trace_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <sstream>
#include <streambuf>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace shadowmmu::replay {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kHeader[] = "==7== Lackey, an example Valgrind tool\n==7== \n";
constexpr char kTrailer[] = "==7== \n==7== Exit code:       0\n";

struct Outcome {
  std::vector<TraceAccess> accesses;
  absl::Status status;
  TraceReader::Counts counts;
  bool complete = false;
};

Outcome ReadAll(const std::string& text,
                TraceReader::Trailer trailer = TraceReader::Trailer::kRequired,
                size_t at_once = 3) {
  std::istringstream in(text);
  TraceReader reader(&in, trailer);
  Outcome outcome;
  std::vector<TraceAccess> buffer(at_once);
  for (;;) {
    const absl::StatusOr<size_t> got = reader.Read(buffer);
    outcome.status = got.status();
    if (!got.ok() || *got == 0) break;
    outcome.accesses.insert(outcome.accesses.end(), buffer.begin(),
                            buffer.begin() + static_cast<ptrdiff_t>(*got));
  }
  outcome.counts = reader.counts();
  outcome.complete = reader.complete();
  return outcome;
}

std::string MessageOf(const Outcome& outcome) {
  return std::string(outcome.status.message());
}

TEST(TraceReaderTest, ACompleteTraceIsReadInOrder) {
  const Outcome outcome = ReadAll(absl::StrCat(
      kHeader, "I  1000,3\n L 2000,8\n S 2008,8\n M 2010,4\nI  1ffe,4\n",
      kTrailer));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_TRUE(outcome.complete);
  EXPECT_EQ(outcome.accesses,
            (std::vector<TraceAccess>{{Gva(0x1000), 3, TraceKind::kFetch},
                                      {Gva(0x2000), 8, TraceKind::kLoad},
                                      {Gva(0x2008), 8, TraceKind::kStore},
                                      {Gva(0x2010), 4, TraceKind::kModify},
                                      {Gva(0x1ffe), 4, TraceKind::kFetch}}));
  EXPECT_EQ(outcome.counts.lines, 9u);
  EXPECT_EQ(outcome.counts.of(TraceKind::kFetch), 2u);
  EXPECT_EQ(outcome.counts.accesses(), 5u);
  EXPECT_EQ(outcome.counts.page_crossings, 1u);
  EXPECT_EQ(outcome.counts.largest_access, 8u);
}

TEST(TraceReaderTest, CountsEveryByteOfTheText) {
  const std::string text = absl::StrCat(kHeader, "I  1000,3\n", kTrailer);
  EXPECT_EQ(ReadAll(text).counts.bytes, text.size());
}

TEST(TraceReaderTest, ADamagedLineIsNamedByItsNumber) {
  const Outcome outcome = ReadAll(
      absl::StrCat(kHeader, "I  1000,3\n L 20\x01", "00,8\n", kTrailer));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(outcome), StartsWith("line 4: "));
}

TEST(TraceReaderTest, DamageIsAnErrorEvenWhereTheTrailerIsOptional) {
  const Outcome outcome =
      ReadAll("I  1000,3\nI  10\nI  1000,3\n", TraceReader::Trailer::kOptional);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(outcome), StartsWith("line 2: "));
}

TEST(TraceReaderTest, AMissingTrailerIsAnErrorAtTheLastLine) {
  const Outcome outcome =
      ReadAll(absl::StrCat(kHeader, "I  1000,3\nI  1003,3\n"));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(MessageOf(outcome), StartsWith("line 4: "));
  EXPECT_THAT(MessageOf(outcome), HasSubstr("truncated"));
  EXPECT_FALSE(outcome.complete);
}

TEST(TraceReaderTest, AMissingTrailerIsForgivenIfItIsOptional) {
  const Outcome outcome = ReadAll(absl::StrCat(kHeader, "I  1000,3\n"),
                                  TraceReader::Trailer::kOptional);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.accesses.size(), 1u);
  EXPECT_FALSE(outcome.complete);
}

TEST(TraceReaderTest, ATrailerBeforeMoreAccessesDoesNotCount) {
  const Outcome outcome =
      ReadAll(absl::StrCat("I  1000,3\n", kTrailer, "I  1003,3\n"));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
}

TEST(TraceReaderTest, TwoCompleteTracesAreOne) {
  const std::string one = absl::StrCat(kHeader, "I  1000,3\n", kTrailer);
  const Outcome outcome = ReadAll(one + one);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.accesses.size(), 2u);
}

TEST(TraceReaderTest, ALastLineWithoutItsNewlineIsDamage) {
  for (const auto trailer :
       {TraceReader::Trailer::kRequired, TraceReader::Trailer::kOptional}) {
    const Outcome outcome = ReadAll("I  1000,3\n L 2000,1", trailer);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(outcome), StartsWith("line 2: "));
    EXPECT_THAT(MessageOf(outcome), HasSubstr("within a line"));
  }
}

TEST(TraceReaderTest, ATrailerWithoutItsNewlineIsATrailer) {
  const Outcome outcome = ReadAll("I  1000,3\n==7== Exit code: 0");
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.counts.lines, 2u);
}

TEST(TraceReaderTest, ATrailerThatIsCutIsATruncatedTrace) {
  const Outcome outcome = ReadAll("I  1000,3\n==7== Exit co");
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
}

TEST(TraceReaderTest, ATraceWithoutAccessesIsAnError) {
  for (const std::string& text :
       {std::string(), absl::StrCat(kHeader, kTrailer)}) {
    const Outcome outcome = ReadAll(text, TraceReader::Trailer::kOptional);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(outcome), HasSubstr("no access"));
    EXPECT_THAT(MessageOf(outcome), Not(StartsWith("line 0")));
  }
}

TEST(TraceReaderTest, AnErrorIsRepeated) {
  std::istringstream in("I  1000,3\nnonsense\nI  1000,3\n");
  TraceReader reader(&in, TraceReader::Trailer::kOptional);
  std::array<TraceAccess, 8> buffer;
  const absl::Status first = reader.Read(buffer).status();
  EXPECT_FALSE(first.ok());
  EXPECT_EQ(reader.Read(buffer).status(), first);
}

// Larger than the reader's buffer, so that lines lie across its end.
TEST(TraceReaderTest, AnySizeIsReadThroughOneBuffer) {
  constexpr uint64_t kAccesses = 400'000;
  std::string text = kHeader;
  for (uint64_t i = 0; i < kAccesses; ++i) {
    absl::StrAppend(&text, " L ", absl::Hex(0x1000 + i), ",8\n");
  }
  text += kTrailer;
  ASSERT_GT(text.size(), size_t{4} << 20);
  const Outcome outcome =
      ReadAll(text, TraceReader::Trailer::kRequired, 10'000);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.accesses.size(), kAccesses);
  for (uint64_t i = 0; i < kAccesses; ++i) {
    ASSERT_EQ(outcome.accesses[i].begin, Gva(0x1000 + i));
  }
}

TEST(TraceReaderTest, ALineWithoutEndIsNoTrace) {
  const Outcome outcome = ReadAll(std::string(size_t{3} << 20, 'x'));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(outcome), StartsWith("line 1: "));
}

// Gives some text, and then fails as a disk does.
class FailingBuffer : public std::streambuf {
 public:
  explicit FailingBuffer(std::string text) : text_(std::move(text)) {
    setg(text_.data(), text_.data(), text_.data() + text_.size());
  }

 protected:
  int_type underflow() override { throw 1; }

 private:
  std::string text_;
};

TEST(TraceReaderTest, AStreamThatFailsIsNotTheEndOfATrace) {
  FailingBuffer buffer("I  1000,3\n");
  std::istream in(&buffer);
  TraceReader reader(&in, TraceReader::Trailer::kOptional);
  std::array<TraceAccess, 8> accesses;
  const absl::StatusOr<size_t> got = reader.Read(accesses);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kUnavailable)
      << got.status();
}

}  // namespace
}  // namespace shadowmmu::replay
