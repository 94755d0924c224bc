// SMMU_CHECK, SMMU_DCHECK and the handler of what fails.

#include "src/base/check.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shadowmmu/check_handler.h"

namespace shadowmmu {
namespace {

enum class Plain : std::uint8_t { kOne = 1, kTwo = 2 };

struct Printable {
  int value;
  friend bool operator==(const Printable&, const Printable&) = default;
  friend std::ostream& operator<<(std::ostream& os, const Printable& p) {
    return os << "Printable{" << p.value << "}";
  }
};

struct Silent {
  int value;
  friend bool operator==(const Silent&, const Silent&) = default;
};

constexpr int HalfOfEven(int n) {
  SMMU_CHECK(n % 2 == 0) << n;
  SMMU_CHECK_GE(n, 0);
  SMMU_DCHECK_LT(n, 100) << "too large";
  return n / 2;
}
static_assert(HalfOfEven(8) == 4, "checks work in constant expressions");

void PrefixingHandler(absl::string_view message) {
  std::fputs(("HANDLED " + std::string(message) + "\n").c_str(), stderr);
}

void FailingHandler(absl::string_view /*message*/) {
  std::fputs("handler was called\n", stderr);
  SMMU_CHECK(false) << "inside the handler";
}

TEST(CheckTest, HoldingChecksDoNothing) {
  SMMU_CHECK(true) << "never streamed";
  SMMU_CHECK_EQ(1, 1);
  SMMU_CHECK_NE(1, 2);
  SMMU_CHECK_LT(1, 2);
  SMMU_CHECK_LE(2, 2);
  SMMU_CHECK_GT(2, 1);
  SMMU_CHECK_GE(2, 2);
}

TEST(CheckTest, StreamedContextIsEvaluatedOnFailureOnly) {
  int evaluated = 0;
  SMMU_CHECK(true) << ++evaluated;
  SMMU_CHECK_EQ(1, 1) << ++evaluated;
  EXPECT_EQ(evaluated, 0);
}

TEST(CheckTest, OperandsAreEvaluatedOnce) {
  int left = 0;
  int right = 0;
  SMMU_CHECK_EQ(++left, ++right);
  EXPECT_EQ(left, 1);
  EXPECT_EQ(right, 1);
}

TEST(CheckTest, IntegersOfDifferentSignednessCompareByValue) {
  const std::size_t size = 3;
  const int index = -1;
  SMMU_CHECK_LT(index, size);
  SMMU_CHECK_NE(index, ~std::size_t{0});
  SMMU_CHECK_EQ(size, 3);
}

TEST(CheckTest, DoesNotCaptureAnElse) {
  bool reached = false;
  // NOLINTBEGIN(google-readability-braces-around-statements)
  if (false)
    SMMU_CHECK(false);
  else
    reached = true;
  EXPECT_TRUE(reached);
  reached = false;
  if (false)
    SMMU_CHECK_EQ(1, 2) << "no";
  else
    reached = true;
  // NOLINTEND(google-readability-braces-around-statements)
  EXPECT_TRUE(reached);
}

TEST(CheckTest, DebugChecksEvaluateNothingWhenCompiledOut) {
  int evaluated = 0;
  SMMU_DCHECK(++evaluated > 0) << "context";
  SMMU_DCHECK_EQ(++evaluated, 2) << "context";
  EXPECT_EQ(evaluated, kDebugChecks ? 2 : 0);
}

using CheckDeathTest = testing::Test;

TEST(CheckDeathTest, FailureNamesPlaceConditionAndContext) {
  EXPECT_DEATH(SMMU_CHECK(1 + 1 == 3) << "gfn " << 0x42,
               "check_test.cc:[0-9]+: Check failed: 1 \\+ 1 == 3 gfn 66");
}

TEST(CheckDeathTest, ComparisonPrintsBothValues) {
  const int have = 7;
  EXPECT_DEATH(SMMU_CHECK_EQ(have, 9),
               "Check failed: have == 9 \\(7 vs\\. 9\\)");
  EXPECT_DEATH(SMMU_CHECK_NE(have, 7), "have != 7 \\(7 vs\\. 7\\)");
  EXPECT_DEATH(SMMU_CHECK_LT(have, -1), "have < -1 \\(7 vs\\. -1\\)");
  EXPECT_DEATH(SMMU_CHECK_LE(have, 6) << "context", "7 vs\\. 6\\) context");
  EXPECT_DEATH(SMMU_CHECK_GT(have, 7), "have > 7 \\(7 vs\\. 7\\)");
  EXPECT_DEATH(SMMU_CHECK_GE(have, 8), "have >= 8 \\(7 vs\\. 8\\)");
}

TEST(CheckDeathTest, ValuesOfEveryKindPrint) {
  const std::uint8_t small = 65;
  EXPECT_DEATH(SMMU_CHECK_EQ(small, 66), "\\(65 vs\\. 66\\)");
  EXPECT_DEATH(SMMU_CHECK_EQ(true, false), "\\(true vs\\. false\\)");
  EXPECT_DEATH(SMMU_CHECK_EQ(Plain::kOne, Plain::kTwo), "\\(1 vs\\. 2\\)");
  EXPECT_DEATH(SMMU_CHECK_EQ(Printable{1}, Printable{2}),
               "\\(Printable.1. vs\\. Printable.2.\\)");
  EXPECT_DEATH(SMMU_CHECK_EQ(Silent{1}, Silent{2}), "\\(a value of 4 bytes");
  const int* null = nullptr;
  EXPECT_DEATH(SMMU_CHECK_NE(null, nullptr), "vs\\. nullptr");
}

TEST(CheckDeathTest, DebugCheckFailsInDebugBuilds) {
  if (!kDebugChecks) GTEST_SKIP() << "DCHECKs are of debug builds only";
  EXPECT_DEATH(SMMU_DCHECK(false) << "context", "false context");
  EXPECT_DEATH(SMMU_DCHECK_EQ(1, 2), "1 == 2 \\(1 vs\\. 2\\)");
}

TEST(CheckDeathTest, InstalledHandlerReceivesTheMessage) {
  EXPECT_DEATH(
      {
        SetCheckHandler(&PrefixingHandler);
        SMMU_CHECK(false) << "context";
      },
      "HANDLED .*check_test.cc:[0-9]+: Check failed: false context");
}

TEST(CheckDeathTest, NullHandlerRestoresTheDefault) {
  EXPECT_DEATH(
      {
        SetCheckHandler(&PrefixingHandler);
        SetCheckHandler(nullptr);
        SMMU_CHECK(false) << "context";
      },
      testing::Not(testing::HasSubstr("HANDLED")));
}

TEST(CheckDeathTest, HandlerThatFailsACheckDoesNotRecurse) {
  EXPECT_DEATH(
      {
        SetCheckHandler(&FailingHandler);
        SMMU_CHECK(false);
      },
      "^handler was called\n$");
}

TEST(CheckHandlerTest, SetReturnsThePreviousHandler) {
  const CheckHandler standard = SetCheckHandler(&PrefixingHandler);
  EXPECT_NE(standard, nullptr);
  EXPECT_EQ(SetCheckHandler(nullptr), &PrefixingHandler);
  EXPECT_EQ(SetCheckHandler(nullptr), standard);
}

}  // namespace
}  // namespace shadowmmu
