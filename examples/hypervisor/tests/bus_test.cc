// IoBus and MmioBus: who is asked, and what nobody's addresses give.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>

#include "devices/io_bus.h"
#include "devices/mmio_bus.h"

namespace hypervisor::testing {
namespace {

using shadowmmu::Gpa;

// Remembers what was written where, and the size of each access.
class Recorder : public PortDevice {
 public:
  explicit Recorder(PortWidth width = PortWidth::kByte) : width_(width) {}
  uint32_t In(uint16_t port, unsigned bytes) override {
    last_bytes = bytes;
    const auto found = values.find(port);
    return found == values.end() ? 0 : found->second;
  }
  void Out(uint16_t port, unsigned bytes, uint32_t value) override {
    last_bytes = bytes;
    values[port] = value;
  }
  PortWidth Width() const override { return width_; }

  std::map<uint16_t, uint32_t> values;
  unsigned last_bytes = 0;

 private:
  PortWidth width_;
};

TEST(IoBusTest, PortWithoutDeviceReadsAllOnesOfItsSize) {
  IoBus bus;
  bus.Out(0x80, 1, 0x12);
  EXPECT_EQ(bus.In(0x80, 1), 0xffu);
  EXPECT_EQ(bus.In(0x80, 2), 0xffffu);
  EXPECT_EQ(bus.In(0xcfc, 4), 0xffffffffu);
}

TEST(IoBusTest, DeviceSeesItsFirstAndLastPortAndNoOther) {
  IoBus bus;
  Recorder device;
  bus.Attach(0x100, 4, &device);
  for (const unsigned port : {0xffu, 0x100u, 0x103u, 0x104u}) {
    bus.Out(static_cast<uint16_t>(port), 1, 7);
  }
  EXPECT_EQ(device.values,
            (std::map<uint16_t, uint32_t>{{0x100, 7}, {0x103, 7}}));
}

TEST(IoBusTest, DevicesAttachedInAnyOrderAreFound) {
  IoBus bus;
  Recorder a, b, c;
  bus.Attach(0x200, 1, &b);
  bus.Attach(0x300, 1, &c);
  bus.Attach(0x100, 1, &a);
  bus.Out(0x100, 1, 1);
  bus.Out(0x200, 1, 2);
  bus.Out(0x300, 1, 3);
  EXPECT_EQ(a.values.at(0x100), 1u);
  EXPECT_EQ(b.values.at(0x200), 2u);
  EXPECT_EQ(c.values.at(0x300), 3u);
}

TEST(IoBusTest, WideAccessToByteDeviceIsBytesEachToItsOwner) {
  IoBus bus;
  Recorder low, high;
  bus.Attach(0x100, 1, &low);
  bus.Attach(0x101, 1, &high);
  bus.Out(0x100, 4, 0x44332211);
  EXPECT_EQ(low.values.at(0x100), 0x11u);
  EXPECT_EQ(high.values.at(0x101), 0x22u);
  EXPECT_EQ(high.last_bytes, 1u);
  EXPECT_EQ(bus.In(0x100, 4), 0xffff2211u);
}

TEST(IoBusTest, WideDeviceGetsTheAccessWhole) {
  IoBus bus;
  Recorder device(PortWidth::kAny);
  bus.Attach(0x100, 8, &device);
  bus.Out(0x100, 4, 0x44332211);
  EXPECT_EQ(device.values.at(0x100), 0x44332211u);
  EXPECT_EQ(device.last_bytes, 4u);
  // Only the bytes that were asked for.
  EXPECT_EQ(bus.In(0x100, 2), 0x2211u);
}

TEST(IoBusTest, AccessAtTheLastPortWraps) {
  IoBus bus;
  Recorder first, last;
  bus.Attach(0xffff, 1, &last);
  bus.Attach(0, 1, &first);
  bus.Out(0xffff, 2, 0x2211);
  EXPECT_EQ(last.values.at(0xffff), 0x11u);
  EXPECT_EQ(first.values.at(0), 0x22u);
}

TEST(IoBusDeathTest, PortsOfTwoDevicesMustNotOverlap) {
  IoBus bus;
  Recorder device;
  bus.Attach(0x100, 4, &device);
  EXPECT_DEATH(bus.Attach(0x103, 4, &device), "");
  EXPECT_DEATH(bus.Attach(0xfe, 3, &device), "");
}

class MmioRecorder : public MmioDevice {
 public:
  uint64_t Read(uint64_t offset, unsigned /*bytes*/) override {
    return 0x1122334455667700 + offset;
  }
  void Write(uint64_t offset, unsigned /*bytes*/, uint64_t value) override {
    values[offset] = value;
  }
  std::map<uint64_t, uint64_t> values;
};

TEST(MmioBusTest, AbsentMemoryReadsAllOnes) {
  MmioBus bus;
  bus.Write(Gpa(0x1000), 4, 1);
  EXPECT_EQ(bus.Read(Gpa(0x1000), 1), 0xffu);
  EXPECT_EQ(bus.Read(Gpa(0x1000), 8), ~uint64_t{0});
}

TEST(MmioBusTest, DeviceIsToldTheOffsetAndItsBytesOnly) {
  MmioBus bus;
  MmioRecorder device;
  bus.Attach(Gpa(0xfee00000), 0x1000, &device);
  EXPECT_EQ(bus.Read(Gpa(0xfee00020), 4), 0x55667720u);
  bus.Write(Gpa(0xfee00ffe), 2, 0xabcdef);
  EXPECT_EQ(device.values.at(0xffe), 0xcdefu);
}

TEST(MmioBusTest, AccessThatLeavesTheDeviceGoesNowhere) {
  MmioBus bus;
  MmioRecorder device;
  bus.Attach(Gpa(0x1000), 0x1000, &device);
  EXPECT_EQ(bus.Read(Gpa(0x1ffe), 4), 0xffffffffu);
  EXPECT_EQ(bus.Read(Gpa(0xffe), 4), 0xffffffffu);
  bus.Write(Gpa(0x1ffe), 4, 0);
  EXPECT_TRUE(device.values.empty());
}

TEST(MmioBusDeathTest, RangesOfTwoDevicesMustNotOverlap) {
  MmioBus bus;
  MmioRecorder device;
  bus.Attach(Gpa(0x1000), 0x1000, &device);
  EXPECT_DEATH(bus.Attach(Gpa(0x1fff), 1, &device), "");
  EXPECT_DEATH(bus.Attach(Gpa(0), 0x1001, &device), "");
}

}  // namespace
}  // namespace hypervisor::testing
