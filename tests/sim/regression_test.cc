// Runs every tests/regression/*.ops as a test of its own, named for its file.
// The first lines of each file tell its story.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/op_text.h"

namespace shadowmmu::testing {
namespace {

std::vector<std::string> RegressionFiles() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::string(TEST_DATA_DIR) + "/regression")) {
    if (entry.path().extension() == ".ops") {
      files.push_back(entry.path().stem().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// gtest allows letters, digits and underscores.
std::string TestName(const ::testing::TestParamInfo<std::string>& file) {
  std::string name = file.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class Regression : public ::testing::TestWithParam<std::string> {};

TEST_P(Regression, RunsClean) {
  const std::string path =
      std::string(TEST_DATA_DIR) + "/regression/" + GetParam() + ".ops";
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  ASSERT_TRUE(in) << path;
  const absl::StatusOr<OpStream> stream = ParseStream(text.str());
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_FALSE(stream->story.empty()) << "the file tells no story";
  const std::optional<StreamFailure> failure = RunStream(*stream);
  EXPECT_FALSE(failure) << ReportOf(*stream, *failure);
}

INSTANTIATE_TEST_SUITE_P(Bugs, Regression,
                         ::testing::ValuesIn(RegressionFiles()), TestName);

}  // namespace
}  // namespace shadowmmu::testing
