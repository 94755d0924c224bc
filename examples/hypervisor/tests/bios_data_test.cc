// What the loaders leave where firmware has its data, and that an image may lie
// there all the same.

#include "loaders/bios_data.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "loaders/bundle.h"
#include "loaders/guest_image.h"
#include "loaders/multiboot.h"
#include "tests/guest_block.h"

namespace hypervisor::testing {
namespace {

// A Multiboot image of nothing but its header, to be loaded at `base`.
std::string ImageAt(uint32_t base) {
  MultibootHeader header = {};
  header.magic = MultibootHeader::kMagic;
  header.flags = MultibootHeader::kHasAddresses;
  header.checksum = 0u - header.magic - header.flags;
  header.header_address = base;
  header.load_address = base;
  header.entry_address = base;
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header));
}

TEST(BiosData, AGuestFindsItsLowRamAndItsSerialPort) {
  GuestBlock guest(16);
  guest.Fill(std::byte{0xcc});
  const std::string image = ImageAt(0x100000);
  Bundle bundle;
  bundle.image = Bytes(image);
  ASSERT_TRUE(LoadGuest(bundle, guest.view()).ok());
  EXPECT_EQ(guest.Read<uint16_t>(0x400), 0x3f8);
  EXPECT_EQ(guest.Read<uint16_t>(0x402), 0) << "COM2";
  EXPECT_EQ(guest.Read<uint16_t>(0x40e), 0) << "an extended area";
  EXPECT_EQ(guest.Read<uint16_t>(0x413), 640);
}

TEST(BiosData, AnImageThatLiesThereIsWhole) {
  GuestBlock guest(16);
  const std::string image = ImageAt(0x400);
  Bundle bundle;
  bundle.image = Bytes(image);
  ASSERT_TRUE(LoadGuest(bundle, guest.view()).ok());
  EXPECT_EQ(guest.Text(0x400, image.size()), image);
}

}  // namespace
}  // namespace hypervisor::testing
