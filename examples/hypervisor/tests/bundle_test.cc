// The bundle that `run` makes, its archive and its options.

#include "loaders/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "loaders/cpio.h"
#include "loaders/exit_status.h"
#include "loaders/guest_options.h"
#include "tests/guest_block.h"

namespace hypervisor::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Padded(std::string text) {
  text.resize((text.size() + 3) / 4 * 4);
  return text;
}

std::string Member(const std::string& name, const std::string& content) {
  std::string header = "070701";
  for (unsigned i = 0; i < 13; ++i) {
    const uint64_t number = i == 6    ? content.size()
                            : i == 11 ? name.size() + 1
                                      : 0xabcdu;
    absl::StrAppend(&header, absl::Hex(number, absl::kZeroPad8));
  }
  return Padded(header + name + '\0') + Padded(content);
}

std::string Archive(const std::string& members) {
  std::string archive = members + Member("TRAILER!!!", "");
  archive.resize((archive.size() + 511) / 512 * 512);
  return archive;
}

absl::StatusCode CodeOf(const std::string& archive) {
  return Bundle::Read(Bytes(archive)).status().code();
}

TEST(Cpio, MembersComeInTheirOrder) {
  const std::string archive = Archive(Member("a", "one") + Member("bb", "") +
                                      Member("ccc", std::string(5000, 'x')));
  const auto members = ReadCpio(Bytes(archive));
  ASSERT_TRUE(members.ok()) << members.status();
  ASSERT_EQ(members->size(), 3u);
  EXPECT_EQ((*members)[0].name, "a");
  EXPECT_EQ((*members)[0].content.size(), 3u);
  EXPECT_EQ((*members)[1].content.size(), 0u);
  EXPECT_EQ((*members)[2].name, "ccc");
  EXPECT_EQ((*members)[2].content.size(), 5000u);
}

TEST(Cpio, AnArchiveThatIsCutAnywhereIsDamaged) {
  const std::string archive =
      Member("image", "abcdefg") + Member("TRAILER!!!", "");
  for (size_t bytes = 0; bytes < archive.size() - 1; ++bytes) {
    const std::string cut = archive.substr(0, bytes);
    EXPECT_EQ(ReadCpio(Bytes(cut)).status().code(), absl::StatusCode::kDataLoss)
        << bytes;
  }
  EXPECT_TRUE(ReadCpio(Bytes(archive)).ok());
}

TEST(Cpio, ABadByteInAHeaderNeverLeadsOutOfTheArchive) {
  const std::string archive = Archive(Member("image", "abcdefg"));
  for (size_t at = 0; at < 110; ++at) {
    for (const char c : {'\0', 'g', 'F', '0', '\xff'}) {
      std::string bad = archive;
      bad[at] = c;
      const auto members = ReadCpio(Bytes(bad));
      if (!members.ok()) continue;
      for (const CpioMember& member : *members) {
        EXPECT_GE(member.content.data(), Bytes(bad).data());
        EXPECT_LE(member.content.data() + member.content.size(),
                  Bytes(bad).data() + bad.size());
      }
    }
  }
}

TEST(Cpio, AnArchiveOfTooManyMembersIsDamaged) {
  std::string members;
  for (size_t i = 0; i < kMaxCpioMembers; ++i) members += Member("x", "");
  EXPECT_TRUE(ReadCpio(Bytes(Archive(members))).ok());
  EXPECT_FALSE(ReadCpio(Bytes(Archive(members + Member("x", "")))).ok());
}

TEST(Bundle, EveryMemberIsFound) {
  const std::string archive = Archive(
      Member("options", "memory_mib 64\n") + Member("image", "IMAGE") +
      Member("cmdline", "console=ttyS0 x\n") + Member("initrd", "INITRD!"));
  const auto bundle = Bundle::Read(Bytes(archive));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_EQ(bundle->image.size(), 5u);
  ASSERT_TRUE(bundle->initrd.has_value());
  EXPECT_EQ(bundle->initrd->size(), 7u);
  EXPECT_EQ(bundle->cmdline, "console=ttyS0 x");
  EXPECT_EQ(bundle->options.memory_mib, 64u);
}

TEST(Bundle, AnImageIsEnough) {
  const std::string archive = Archive(Member("image", "IMAGE"));
  const auto bundle = Bundle::Read(Bytes(archive));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_FALSE(bundle->initrd.has_value());
  EXPECT_EQ(bundle->cmdline, "");
  EXPECT_EQ(bundle->options.memory_mib, GuestOptions().memory_mib);
}

TEST(Bundle, WhatIsNoBundleIsRefused) {
  const std::string image = Member("image", "x");
  EXPECT_EQ(CodeOf(""), absl::StatusCode::kDataLoss);
  EXPECT_EQ(CodeOf(Archive("")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Archive(image + image)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Archive(image + Member("y", ""))),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Archive(image + Member("cmdline", std::string(4097, 'x')))),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Archive(image + Member("cmdline", std::string("a\0b", 3)))),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Archive(image + Member("options", "nonsense 1\n"))),
            absl::StatusCode::kInvalidArgument);
}

TEST(GuestOptions, EveryLineIsUnderstood) {
  const auto options = GuestOptions::Parse(
      "name debian\nmemory_mib 512\ncpu_flag -la57\ncpu_flag +smep\n"
      "bump_every_ms 10\nunplug_every_ms 50\naudit_every 1000\n"
      "timeout_s 60\nserial_input 1\nstatistics com2\n"
      "strategy release\nslot_zap targeted\n");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->name, "debian");
  EXPECT_EQ(options->memory_mib, 512u);
  EXPECT_THAT(options->cpu_flags, ElementsAre("-la57", "+smep"));
  EXPECT_EQ(options->bump_every_ms, 10u);
  EXPECT_EQ(options->unplug_every_ms, 50u);
  EXPECT_EQ(options->audit_every, 1000u);
  EXPECT_EQ(options->timeout_s, 60u);
  EXPECT_EQ(options->serial_input, 1u);
  EXPECT_EQ(options->statistics, Statistics::kCom2);
  EXPECT_EQ(options->strategy, shadowmmu::Strategy::kRelease);
  EXPECT_EQ(options->slot_zap, shadowmmu::SlotZapPolicy::kTargeted);
}

TEST(GuestOptions, ABadLineIsNamed) {
  for (const std::string bad :
       {"memory_mib", "memory_mib ", "memory_mib -1", "memory_mib 1 ",
        "memory_mib 1234567890", "memory_mib 0x10", "cpu_flag la57",
        "cpu_flag +", "statistics com3", "name ", "memory_mb 1"}) {
    const auto options = GuestOptions::Parse("timeout_s 1\n" + bad + "\n");
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
    EXPECT_THAT(std::string(options.status().message()), HasSubstr("line 2"))
        << bad;
  }
}

TEST(GuestOptions, TextAndFlagsAreBounded) {
  EXPECT_FALSE(
      GuestOptions::Parse(std::string(GuestOptions::kMaxText + 1, '\n')).ok());
  std::string flags;
  for (size_t i = 0; i < GuestOptions::kMaxCpuFlags; ++i) {
    flags += "cpu_flag +x\n";
  }
  EXPECT_TRUE(GuestOptions::Parse(flags).ok());
  EXPECT_FALSE(GuestOptions::Parse(flags + "cpu_flag +x\n").ok());
}

TEST(ExitStatus, AGuestCannotPretendToBeTheHypervisor) {
  EXPECT_EQ(GuestExitStatus(0), ExitStatus::kSuccess);
  EXPECT_EQ(GuestExitStatus(7), static_cast<ExitStatus>(7));
  EXPECT_EQ(GuestExitStatus(125), ExitStatus::kLargestOfGuest);
  EXPECT_EQ(GuestExitStatus(0xffffffff), ExitStatus::kLargestOfGuest);
}

}  // namespace
}  // namespace hypervisor::testing
