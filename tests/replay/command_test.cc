// shadowmmu_replay from its words to its exit status, with small traces.

#include "bench/replay/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/replay/report.h"
#include "bench/replay/smoke.h"

namespace shadowmmu::replay {
namespace {

using ::testing::HasSubstr;

struct Ran {
  int status = 0;
  std::string out;
  std::string err;
};

Ran Command(const std::vector<absl::string_view>& words,
            const std::string& text = "") {
  std::istringstream in(text);
  std::ostringstream out;
  std::ostringstream err;
  Ran ran;
  ran.status = RunCommand(words, in, out, err);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

// The keys of a report in JSON, and their values as text. Not a parser: it
// knows that there is one key a line.
std::map<std::string, std::string> ValuesOf(const std::string& json) {
  std::map<std::string, std::string> values;
  for (absl::string_view line : absl::StrSplit(json, '\n')) {
    const size_t colon = line.find("\": ");
    if (line.substr(0, 3) != "  \"" || colon == absl::string_view::npos) {
      continue;
    }
    std::string value(line.substr(colon + 3));
    if (!value.empty() && value.back() == ',') value.pop_back();
    values[std::string(line.substr(3, colon - 3))] = value;
  }
  return values;
}

uint64_t NumberOf(const std::map<std::string, std::string>& values,
                  const std::string& key) {
  const auto found = values.find(key);
  EXPECT_NE(found, values.end()) << key;
  if (found == values.end()) return 0;
  return std::strtoull(found->second.c_str(), nullptr, 10);
}

constexpr char kSmall[] =
    "==9== Lackey\n"
    "I  00108000,4\n"
    " L 04a30ff0,32\n"
    " S 1ffeffeff8,8\n"
    " M 1ffeffeff0,4\n"
    "==9== Exit code:       0\n";

TEST(CommandTest, ASmallTraceIsPlayedAndChecked) {
  const Ran ran = Command({"--check", "--json", "--processes", "2"}, kSmall);
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto values = ValuesOf(ran.out);
  EXPECT_EQ(NumberOf(values, "trace_accesses"), 4u);
  EXPECT_EQ(NumberOf(values, "trace_crossings"), 1u);
  EXPECT_EQ(NumberOf(values, "accesses"), 8u);
  // Text, two pages of data, a stack, of each process; text and data shared.
  EXPECT_EQ(NumberOf(values, "guest_page_faults"), 8u);
  EXPECT_EQ(NumberOf(values, "guest_shared_pages"), 3u);
  EXPECT_EQ(NumberOf(values, "guest_private_pages"), 2u);
  EXPECT_GE(NumberOf(values, "checked_accesses"), 10u);
  EXPECT_EQ(NumberOf(values, "differences"), 0u);
  EXPECT_EQ(values.at("trace_end"), "\"complete\"");
  // Nothing was invalidated: nothing is said of it.
  EXPECT_EQ(values.at("stall_ns_median"), "null");
}

TEST(CommandTest, TheJsonHasTheKeysOfTheHelpAndNoOthers) {
  const Ran help = Command({"--help"});
  ASSERT_EQ(help.status, 0);
  const auto values = ValuesOf(Command({"--json"}, kSmall).out);
  size_t fields = 0;
  for (const auto& list : {RunFields(), PagingFields(), CostFields()}) {
    for (const Field& field : list) {
      ++fields;
      EXPECT_TRUE(values.contains(std::string(field.key))) << field.key;
      EXPECT_THAT(help.out, HasSubstr(absl::StrCat("    ", field.key, " ")));
      EXPECT_FALSE(field.meaning.empty()) << field.key;
    }
  }
  EXPECT_EQ(values.size(), fields);
}

TEST(CommandTest, TheJsonIsOneObject) {
  const std::string json = Command({"--json"}, kSmall).out;
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.substr(json.size() - 3), "\n}\n");
  EXPECT_EQ(json.find(",\n}"), std::string::npos);
}

TEST(CommandTest, TheHelpNamesEveryOption) {
  const std::string help = Command({"--help"}).out;
  for (const char* option : {"--trace",
                             "--processes",
                             "--slots",
                             "--invalidate-every",
                             "--strategy=zap_all|obsolete_walk|release",
                             "--slot-zap=auto|targeted|walk|release",
                             "--slot-churn",
                             "--json",
                             "--check",
                             "--allow-truncated",
                             "--max-accesses",
                             "--smoke",
                             "--memory",
                             "--tables",
                             "--slice",
                             "--reclaim-budget",
                             "--reclaim-every",
                             "--workload=trace|fork",
                             "--forks",
                             "--seed",
                             "--no-unsync",
                             "--write-flooding",
                             "--no-root-cache"}) {
    EXPECT_THAT(help, HasSubstr(option));
  }
}

TEST(CommandTest, ATruncatedTraceIsAnErrorWithItsLine) {
  const Ran ran = Command({"--json"}, "I  00108000,4\nI  00108004,4\n");
  EXPECT_EQ(ran.status, kExitTrace);
  EXPECT_THAT(ran.err, HasSubstr("line 2: "));
  EXPECT_EQ(ran.out, "");
}

TEST(CommandTest, ATruncatedTraceIsPlayedIfThatIsAllowed) {
  const Ran ran = Command({"--json", "--allow-truncated"}, "I  00108000,4\n");
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ValuesOf(ran.out).at("trace_end"), "\"truncated\"");
}

TEST(CommandTest, ADamagedTraceIsAnErrorWithItsLineWhateverIsAllowed) {
  const Ran ran =
      Command({"--allow-truncated"}, "I  00108000,4\nI  0010\nI  00108000,4\n");
  EXPECT_EQ(ran.status, kExitTrace);
  EXPECT_THAT(ran.err, HasSubstr("line 2: "));
}

TEST(CommandTest, AFileThatIsNotThereIsAnError) {
  const Ran ran = Command({"--trace=/nonexistent/trace"});
  EXPECT_EQ(ran.status, kExitTrace);
  EXPECT_THAT(ran.err, HasSubstr("/nonexistent/trace"));
}

TEST(CommandTest, ATraceMayComeFromAFile) {
  const std::string name = ::testing::TempDir() + "/replay_command_test.txt";
  std::ofstream(name) << kSmall;
  const std::string word = absl::StrCat("--trace=", name);
  const Ran ran = Command({word, "--json"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(NumberOf(ValuesOf(ran.out), "accesses"), 4u);
}

TEST(CommandTest, WrongOptionsAreNamed) {
  const std::vector<std::vector<absl::string_view>> wrong = {
      {"--processes=0"},
      {"--processes=x"},
      {"--strategy=fast"},
      {"--slot-zap=fast"},
      {"--no-such-thing=1"},
      {"--processes"},
      {"--json=1"},
      {"trace.txt"},
      {"--slots=-1"},
      {"--trace="},
      {"--invalidate-every=0"},
      {"--workload=x"},
      {"--no-unsync=1"},
      {"--write-flooding=-1"},
      {"--write-flooding=100000"},
      {"--workload=fork", "--processes=1"}};
  for (const auto& words : wrong) {
    const Ran ran = Command(words, kSmall);
    EXPECT_EQ(ran.status, kExitUsage) << words.front();
    EXPECT_NE(ran.err, "") << words.front();
  }
}

TEST(CommandTest, TooLittleGuestMemoryIsToldFromAWrongTrace) {
  const Ran ran = Command({"--memory=1", "--slots=1"}, SyntheticTrace(400));
  EXPECT_EQ(ran.status, kExitMemory);
  EXPECT_THAT(ran.err, HasSubstr("--memory"));
}

TEST(CommandTest, MaxAccessesEndsTheTraceEarly) {
  const Ran ran = Command({"--json", "--max-accesses=2"}, kSmall);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(NumberOf(ValuesOf(ran.out), "accesses"), 2u);
  EXPECT_EQ(ValuesOf(ran.out).at("trace_end"), "\"cut\"");
}

TEST(CommandTest, TheTableSaysWhatTheJsonSays) {
  const Ran ran = Command({}, kSmall);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("trace_accesses"));
  EXPECT_THAT(ran.out, HasSubstr("rmap_histogram"));
  EXPECT_THAT(ran.out, ::testing::Not(HasSubstr("stall_ns_median")));
}

TEST(CommandTest, SmokePasses) {
  const Ran ran = Command({"--smoke"});
  EXPECT_EQ(ran.status, 0) << ran.err;
}

// What each strategy must come to, whatever the times are.
class StrategyTest : public ::testing::TestWithParam<const char*> {};

TEST_P(StrategyTest, EveryInvalidationIsMeasured) {
  const std::string strategy = absl::StrCat("--strategy=", GetParam());
  const Ran ran = Command({strategy, "--json", "--check", "--processes=4",
                           "--slots=3", "--slice=100", "--invalidate-every=500",
                           "--reclaim-budget=3", "--reclaim-every=50"},
                          SyntheticTrace(30));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto values = ValuesOf(ran.out);
  const uint64_t invalidations = NumberOf(values, "accesses") / 500;
  EXPECT_EQ(NumberOf(values, "invalidations"), invalidations);
  EXPECT_GE(invalidations, 3u);
  EXPECT_GT(NumberOf(values, "mapped_min"), 0u);
  EXPECT_GT(NumberOf(values, "stall_ns_median"), 0u);
  EXPECT_GT(NumberOf(values, "refaults_median"), 0u);
  EXPECT_GT(NumberOf(values, "refault_ns_median"), 0u);
  EXPECT_GE(NumberOf(values, "audits"), invalidations);
  EXPECT_EQ(NumberOf(values, "first_fills") + NumberOf(values, "refaults") +
                NumberOf(values, "repeated_fills"),
            NumberOf(values, "fills"));
  EXPECT_GE(NumberOf(values, "rmap_longest"), 4u);
  const bool walks = std::string(GetParam()) == "obsolete_walk";
  EXPECT_EQ(NumberOf(values, "reclaim_ns_median") > 0, walks);
}

TEST_P(StrategyTest, SlotsMayGoAndComeWhileTheGuestRuns) {
  const std::string strategy = absl::StrCat("--strategy=", GetParam());
  const Ran ran =
      Command({strategy, "--json", "--check", "--processes=3", "--slice=64",
               "--invalidate-every=700", "--reclaim-budget=1",
               "--reclaim-every=100", "--slot-churn=300"},
              SyntheticTrace(30));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto values = ValuesOf(ran.out);
  EXPECT_EQ(NumberOf(values, "slot_changes"),
            NumberOf(values, "accesses") / 300);
  EXPECT_GT(NumberOf(values, "slot_mapped_median"), 0u);
  EXPECT_GT(NumberOf(values, "slot_delete_ns_median"), 0u);
  EXPECT_GT(NumberOf(values, "slot_refaults_median"), 0u);
}

TEST_P(StrategyTest, FewTablesAreEnoughWithEviction) {
  const std::string strategy = absl::StrCat("--strategy=", GetParam());
  const Ran ran =
      Command({strategy, "--json", "--check", "--processes=12", "--slice=100",
               "--tables=64", "--memory=64", "--invalidate-every=2000"},
              SyntheticTrace(30));
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_GT(NumberOf(ValuesOf(ran.out), "pages_evicted"), 0u);
}

INSTANTIATE_TEST_SUITE_P(All, StrategyTest,
                         ::testing::Values("zap_all", "obsolete_walk",
                                           "release"));

}  // namespace
}  // namespace shadowmmu::replay
