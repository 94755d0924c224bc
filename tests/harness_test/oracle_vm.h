// OracleVm: the fixture of the oracle's tests: 64 frames of host memory, guest
// frames 0 to 31 in a slot, 0x100 to 0x10f in one that is read-only.

#ifndef SHADOWMMU_TESTS_HARNESS_TEST_ORACLE_VM_H_
#define SHADOWMMU_TESTS_HARNESS_TEST_ORACLE_VM_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "tests/harness/guest_memory.h"
#include "tests/harness/oracle.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

class OracleVm : public ::testing::Test {
 protected:
  static constexpr uint64_t kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40;
  static constexpr uint64_t kPs = 0x80;
  static constexpr uint64_t kNx = uint64_t{1} << 63;
  static constexpr uint64_t Bit(unsigned bit) { return uint64_t{1} << bit; }

  void SetUp() override {
    host_.MapRange(Hva(0x10'0000), 64, Frame{0});
    memory_.AddSlot(
        {.id = SlotId{0}, .base = Gfn(0), .pages = 32, .hva = Hva(0x10'0000)});
    memory_.AddSlot({.id = SlotId{1},
                     .base = Gfn(0x100),
                     .pages = 16,
                     .hva = Hva(0x12'0000),
                     .flags = SlotFlags::kReadOnly});
    SetPhysicalBits(40);
  }
  void SetPhysicalBits(unsigned bits) { oracle_.emplace(&memory_, bits); }

  void Put(Gpa gpa, uint64_t value) {
    ASSERT_TRUE(memory_.Write64(AddressSpace::kNormal, gpa, value));
  }
  void Put32(Gpa gpa, uint32_t value) {
    std::array<std::byte, 4> bytes;
    std::memcpy(bytes.data(), &value, sizeof(value));
    ASSERT_TRUE(memory_.Write(AddressSpace::kNormal, gpa, bytes));
  }
  uint64_t Get(Gpa gpa) {
    return memory_.Read64(AddressSpace::kNormal, gpa).value_or(~uint64_t{0});
  }
  OracleResult Translate(const Access& access, Gva gva) {
    return oracle_->Translate(cpu_, AddressSpace::kNormal, gva, access);
  }
  // The error code of the page fault that `access` must come to.
  uint32_t FaultCode(const Access& access, Gva gva) {
    const OracleResult result = Translate(access, gva);
    EXPECT_EQ(result.kind, OracleResult::Kind::kGuestFault) << result;
    EXPECT_EQ(result.fault.vector, GuestFault::Vector::kPage);
    EXPECT_EQ(result.fault.address, gva);
    EXPECT_TRUE(result.updates.empty());
    return result.fault.error_code;
  }
  // Where `access` must go through to.
  Gpa Target(const Access& access, Gva gva) {
    const OracleResult result = Translate(access, gva);
    EXPECT_EQ(result.kind, OracleResult::Kind::kTranslated) << result;
    EXPECT_EQ(result.page, result.gpa);
    return result.gpa;
  }

  static constexpr Access kUserRead = Read(Privilege::kUser);
  static constexpr Access kUserWrite = Write(Privilege::kUser);
  static constexpr Access kUserFetch = Fetch(Privilege::kUser);

  TestHost host_{TestHost::Options{.frames = 64}};
  GuestMemory memory_{&host_};
  std::optional<Oracle> oracle_;
  OracleCpu cpu_;
};

// Four-level paging, NXE and WP set. The address selects entry 0x0ab of the
// PML4, 0x0cd of the PDPT, 0x12 of the page directory and 0x34 of the page
// table; these stand in frames 1 to 4, the page in frame 5.
class FourLevelVm : public OracleVm {
 protected:
  static constexpr Gva kGva{0x0000'55b3'4243'4000};
  static constexpr Gpa kPml4e{0x1000 + 0x0ab * 8};
  static constexpr Gpa kPdpte{0x2000 + 0x0cd * 8};
  static constexpr Gpa kPde{0x3000 + 0x12 * 8};
  static constexpr Gpa kPte{0x4000 + 0x34 * 8};

  void SetUp() override {
    OracleVm::SetUp();
    Put(kPml4e, 0x2000 | kP | kW | kU);
    Put(kPdpte, 0x3000 | kP | kW | kU);
    Put(kPde, 0x4000 | kP | kW | kU);
    Put(kPte, 0x5000 | kP | kW | kU);
    cpu_.registers = {.cr0 = 0x8001'0001,  // PG, WP, PE
                      .cr3 = 0x1000,
                      .cr4 = 0x20,     // PAE
                      .efer = 0xd00};  // NXE, LMA, LME
  }
  using OracleVm::FaultCode;
  using OracleVm::Target;
  using OracleVm::Translate;
  OracleResult Translate(const Access& access) {
    return OracleVm::Translate(access, kGva);
  }
  uint32_t FaultCode(const Access& access) {
    return OracleVm::FaultCode(access, kGva);
  }
  Gpa Target(const Access& access) { return OracleVm::Target(access, kGva); }
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TEST_ORACLE_VM_H_
