// bzImages: made-up ones, damaged ones, and a real kernel where one is given.

#include "loaders/bzimage.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include "loaders/bundle.h"
#include "tests/guest_block.h"

namespace hypervisor::testing {
namespace {

namespace hdr = setup_header;

constexpr uint64_t kSetupBytes = 2 * 512;
constexpr uint64_t kSystemBytes = 0x2345;
constexpr uint64_t kPreferred = 0x800000;

FileMaker Kernel() {
  FileMaker file(kSetupBytes);
  file.Put(hdr::kSetupSectors, uint8_t{1})
      .Put(hdr::kSystemSize, uint32_t{(kSystemBytes + 15) / 16})
      .Put(hdr::kBootFlag, hdr::kBootFlagValue)
      .Put(uint64_t{0x200}, uint16_t{0x6aeb})
      .Put(hdr::kMagic, hdr::kMagicValue)
      .Put(hdr::kVersion, uint16_t{0x020f})
      .Put(hdr::kLoadFlags, uint8_t{1})
      .Put(hdr::kCode32Start, uint32_t{0x100000})
      .Put(hdr::kInitrdAddressMax, uint32_t{0x7fffffff})
      .Put(hdr::kRelocatable, uint8_t{1})
      .Put(hdr::kCommandLineSize, uint32_t{2047})
      .Put(hdr::kPreferredAddress, kPreferred)
      .Put(hdr::kInitSize, uint32_t{0x400000})
      .PutText(kSetupBytes, std::string(kSystemBytes, 'K'));
  return file;
}

class BzImage : public ::testing::Test {
 protected:
  BzImage() : guest_(16) { guest_.Fill(std::byte{0xcc}); }

  absl::StatusOr<CpuState> Load(const FileMaker& file) {
    return LoadBzImage({.file = file.bytes(), .cmdline = "console=ttyS0"},
                       guest_.view());
  }
  template <typename T>
  T ZeroPage(const CpuState& state, uint64_t offset) const {
    return guest_.Read<T>(state.gpr[kRsi] + offset);
  }

  GuestBlock guest_;
};

TEST_F(BzImage, TheSystemIsLoadedAndEnteredAtCode32Start) {
  const auto state = Load(Kernel());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->rip, 0x100000u);
  EXPECT_EQ(guest_.Text(0x100000, kSystemBytes),
            std::string(kSystemBytes, 'K'));
  EXPECT_EQ(guest_.Read<uint8_t>(0x100000 + kSystemBytes), 0xcc);
}

TEST_F(BzImage, TheCpuIsInTheStateOfThe32BitProtocol) {
  const auto state = Load(Kernel());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->cs.selector, 0x10);
  for (const Segment& segment : {state->ds, state->es, state->ss}) {
    EXPECT_EQ(segment.selector, 0x18);
  }
  EXPECT_EQ(state->cr0 & (cr0::kPe | cr0::kPg), cr0::kPe);
  EXPECT_EQ(state->rflags & rflags::kIf, 0u);
  for (const Gpr gpr : {kRbx, kRbp, kRdi}) EXPECT_EQ(state->gpr[gpr], 0u);
}

TEST_F(BzImage, TheSegmentsStandInADescriptorTableOfTheGuest) {
  const auto state = Load(Kernel());
  ASSERT_TRUE(state.ok()) << state.status();
  for (const Segment& segment : {state->cs, state->ds}) {
    ASSERT_GE(state->gdtr.limit, segment.selector + 7u);
    const auto descriptor =
        guest_.Read<uint64_t>(state->gdtr.base + segment.selector);
    EXPECT_EQ(descriptor & 0xffff, 0xffffu);
    EXPECT_EQ(descriptor >> 48 & 0xf, 0xfu);
    EXPECT_EQ(descriptor & 0xff0000ff'ffff0000, 0u);
    EXPECT_EQ((descriptor >> 40 & 0xff) | (descriptor >> 44 & 0xf00),
              segment.attributes);
  }
}

TEST_F(BzImage, TheZeroPageHasTheSetupHeaderAndWhatALoaderAdds) {
  const auto state = Load(Kernel());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(ZeroPage<uint8_t>(*state, 0x1f0), 0);
  EXPECT_EQ(ZeroPage<uint32_t>(*state, hdr::kMagic), hdr::kMagicValue);
  EXPECT_EQ(ZeroPage<uint64_t>(*state, hdr::kPreferredAddress), kPreferred);
  EXPECT_EQ(ZeroPage<uint8_t>(*state, hdr::kLoaderType), 0xff);
  EXPECT_EQ(ZeroPage<uint32_t>(*state, hdr::kRamdiskSize), 0u);
  EXPECT_EQ(
      guest_.TextToNul(ZeroPage<uint32_t>(*state, hdr::kCommandLinePointer)),
      "console=ttyS0");
}

TEST_F(BzImage, TheHeaderIsCopiedUpToWhereItsJumpLeads) {
  FileMaker file = Kernel();
  file.Put(hdr::kJumpOffset, uint8_t{0x10})
      .Put(hdr::kCode32Start - 2, 0xffffffff);
  file.Put(hdr::kCode32Start, uint32_t{0x100000});
  const auto state = Load(file);
  ASSERT_TRUE(state.ok()) << state.status();
  // The header now ends before 0x212.
  EXPECT_EQ(ZeroPage<uint16_t>(*state, 0x212), 0);
  EXPECT_EQ(ZeroPage<uint64_t>(*state, hdr::kPreferredAddress), 0u);
}

TEST_F(BzImage, TheZeroPageHasTheMemoryMap) {
  const auto state = Load(Kernel());
  ASSERT_TRUE(state.ok()) << state.status();
  const auto map = guest_.view().e820();
  ASSERT_EQ(ZeroPage<uint8_t>(*state, zero_page::kE820Entries), map.size());
  uint64_t at = zero_page::kE820Table;
  for (const E820Entry& entry : map) {
    EXPECT_EQ(ZeroPage<uint64_t>(*state, at), entry.base);
    EXPECT_EQ(ZeroPage<uint64_t>(*state, at + 8), entry.bytes);
    EXPECT_EQ(ZeroPage<uint32_t>(*state, at + 16), entry.type);
    at += 20;
  }
  EXPECT_EQ(ZeroPage<uint32_t>(*state, zero_page::kAltMemory), 15u * 1024);
}

TEST_F(BzImage, AnInitramfsLiesAtTheEndOfMemory) {
  const FileMaker file = Kernel();
  const std::string initrd(5000, 'I');
  const auto state = LoadBzImage(
      {.file = file.bytes(), .initrd = Bytes(initrd)}, guest_.view());
  ASSERT_TRUE(state.ok()) << state.status();
  const auto at = ZeroPage<uint32_t>(*state, hdr::kRamdiskImage);
  EXPECT_EQ(at, (16u << 20) - 0x2000);
  EXPECT_EQ(ZeroPage<uint32_t>(*state, hdr::kRamdiskSize), initrd.size());
  EXPECT_EQ(guest_.Text(at, initrd.size()), initrd);
}

TEST_F(BzImage, AnInitramfsRespectsTheKernelsLimit) {
  FileMaker file = Kernel();
  file.Put(hdr::kInitrdAddressMax, uint32_t{0x6fffff});
  const std::string initrd(5000, 'I');
  const auto state = LoadBzImage(
      {.file = file.bytes(), .initrd = Bytes(initrd)}, guest_.view());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(ZeroPage<uint32_t>(*state, hdr::kRamdiskImage), 0x6fe000u);
}

TEST_F(BzImage, AnInitramfsStaysOutOfTheMemoryThatTheKernelWillUse) {
  FileMaker file = Kernel();
  file.Put(hdr::kInitSize, uint32_t{0x800000});  // to the end of memory
  const std::string initrd(5000, 'I');
  const auto state = LoadBzImage(
      {.file = file.bytes(), .initrd = Bytes(initrd)}, guest_.view());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(ZeroPage<uint32_t>(*state, hdr::kRamdiskImage),
            kPreferred - 0x2000);
}

TEST_F(BzImage, AKernelThatWillNotFitIsRefused) {
  FileMaker file = Kernel();
  file.Put(hdr::kInitSize, uint32_t{0x800001});
  EXPECT_EQ(Load(file).status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(BzImage, AnInitramfsThatWillNotFitIsRefused) {
  const FileMaker file = Kernel();
  const std::string initrd(15 << 20, 'I');
  EXPECT_EQ(LoadBzImage({.file = file.bytes(), .initrd = Bytes(initrd)},
                        guest_.view())
                .status()
                .code(),
            absl::StatusCode::kOutOfRange);
}

TEST_F(BzImage, AKernelThatStaysWhereItIsLoadedNeedsItsRoomThere) {
  FileMaker file = Kernel();
  file.Put(hdr::kRelocatable, uint8_t{0}).Put(hdr::kInitSize, 15u << 20);
  EXPECT_TRUE(Load(file).ok());
  file.Put(hdr::kInitSize, (15u << 20) + 1);
  EXPECT_FALSE(Load(file).ok());
}

TEST_F(BzImage, ACommandLineThatIsTooLongIsRefused) {
  FileMaker file = Kernel();
  file.Put(hdr::kCommandLineSize, uint32_t{13});
  EXPECT_TRUE(Load(file).ok());
  file.Put(hdr::kCommandLineSize, uint32_t{12});
  EXPECT_EQ(Load(file).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(BzImage, WhatTheProtocolDoesNotCoverIsRefused) {
  const auto code = [&](auto change) {
    FileMaker file = Kernel();
    change(&file);
    return Load(file).status().code();
  };
  EXPECT_EQ(code([](FileMaker* f) { f->Put(hdr::kVersion, uint16_t{0x202}); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileMaker* f) { f->Put(hdr::kLoadFlags, uint8_t{0}); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileMaker* f) { f->Put(hdr::kMagic, 0u); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileMaker* f) { f->Put(hdr::kBootFlag, uint16_t{0}); }),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(BzImage, AFileThatIsShorterThanItSaysIsRefused) {
  for (const size_t bytes : {size_t{0x204}, size_t{0x206}, size_t{0x28f},
                             kSetupBytes, kSetupBytes + kSystemBytes - 16}) {
    FileMaker file = Kernel();
    file.Cut(bytes);
    EXPECT_EQ(Load(file).status().code(), absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST_F(BzImage, NoSetupSectorsMeanFour) {
  FileMaker file(5 * 512);
  const FileMaker kernel = Kernel();
  file.PutText(
      0,
      std::string(reinterpret_cast<const char*>(kernel.bytes().data()), 0x290));
  file.Put(hdr::kSetupSectors, uint8_t{0})
      .PutText(5 * 512, std::string(kSystemBytes, 'Q'));
  ASSERT_TRUE(Load(file).ok());
  EXPECT_EQ(guest_.Text(0x100000, 4), "QQQQ");
}

// Every byte of the setup header, alone and in fours and eights, at its
// extremes: an error, or a kernel that was loaded; never a write outside of
// RAM, which the sanitizers would see.
TEST_F(BzImage, ADamagedHeaderIsRefusedOrHarmless) {
  const FileMaker whole = Kernel();
  const std::string initrd(64, 'I');
  const GuestBlock small(13);
  for (uint64_t at = hdr::kBegin; at < hdr::kLongestEnd; ++at) {
    for (const uint64_t value :
         {uint64_t{0}, uint64_t{1}, uint64_t{0x7fffffff}, uint64_t{0xffffffff},
          uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()}) {
      for (const size_t width : {1, 4, 8}) {
        FileMaker file = whole;
        file.PutText(at,
                     std::string(reinterpret_cast<const char*>(&value), width));
        const auto state = LoadBzImage(
            {.file = file.bytes(), .initrd = Bytes(initrd)}, small.view());
        if (state.ok()) {
          EXPECT_TRUE(small.view().Ram({shadowmmu::Gpa(state->rip), 1}).ok());
        }
      }
    }
  }
}

// HYPERVISOR_TEST_BZIMAGE names one; guests/linux/prepare brings one.
TEST(RealBzImage, LoadsWithItsInitramfs) {
  const char* path = std::getenv("HYPERVISOR_TEST_BZIMAGE");
  std::ifstream stream(path == nullptr ? "" : path, std::ios::binary);
  if (!stream) GTEST_SKIP() << "HYPERVISOR_TEST_BZIMAGE names no kernel";
  const std::string file{std::istreambuf_iterator<char>(stream),
                         std::istreambuf_iterator<char>()};
  const GuestBlock guest(256);
  const std::string initrd(1 << 20, 'I');
  const auto state = LoadGuest({.image = Bytes(file),
                                .initrd = Bytes(initrd),
                                .cmdline = "console=ttyS0"},
                               guest.view());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->rip, 0x100000u);
}

}  // namespace
}  // namespace hypervisor::testing
