// The registers' part of the oracle: each of its rules by hand.

#include "tests/harness/oracle_registers.h"

#include <gtest/gtest.h>

namespace shadowmmu::testing {
namespace {

constexpr PagingRegisters kOff{};
constexpr PagingRegisters k32Bit{.cr0 = 0x8000'0001, .cr3 = 0x1000};
constexpr PagingRegisters kPae{.cr0 = 0x8000'0001, .cr3 = 0x1000, .cr4 = 0x20};
constexpr PagingRegisters kLong{
    .cr0 = 0x8000'0001, .cr3 = 0x1000, .cr4 = 0x20, .efer = 0x500};

// `registers` with these bits turned round.
PagingRegisters Turn(PagingRegisters registers, uint64_t cr0, uint64_t cr4 = 0,
                     uint64_t efer = 0) {
  registers.cr0 ^= cr0;
  registers.cr4 ^= cr4;
  registers.efer ^= efer;
  return registers;
}
PagingRegisters WithCr3(PagingRegisters registers, uint64_t cr3) {
  registers.cr3 = cr3;
  return registers;
}

TEST(OracleRegistersTest, TheBitsAreThoseOfThePublicHeader) {
  EXPECT_EQ(manual::kCr0Pe, cr0::kPe);
  EXPECT_EQ(manual::kCr0Wp, cr0::kWp);
  EXPECT_EQ(manual::kCr0Nw, cr0::kNw);
  EXPECT_EQ(manual::kCr0Cd, cr0::kCd);
  EXPECT_EQ(manual::kCr0Pg, cr0::kPg);
  EXPECT_EQ(manual::kCr3Pcid, cr3::kPcid);
  EXPECT_EQ(manual::kCr3NoFlush, cr3::kNoFlush);
  EXPECT_EQ(manual::kCr4Pse, cr4::kPse);
  EXPECT_EQ(manual::kCr4Pae, cr4::kPae);
  EXPECT_EQ(manual::kCr4Pge, cr4::kPge);
  EXPECT_EQ(manual::kCr4La57, cr4::kLa57);
  EXPECT_EQ(manual::kCr4Pcide, cr4::kPcide);
  EXPECT_EQ(manual::kCr4Smep, cr4::kSmep);
  EXPECT_EQ(manual::kCr4Smap, cr4::kSmap);
  EXPECT_EQ(manual::kCr4Pke, cr4::kPke);
  EXPECT_EQ(manual::kCr4Cet, cr4::kCet);
  EXPECT_EQ(manual::kCr4Pks, cr4::kPks);
  EXPECT_EQ(manual::kCr4LamSup, cr4::kLamSup);
  EXPECT_EQ(manual::kEferLme, efer::kLme);
  EXPECT_EQ(manual::kEferLma, efer::kLma);
  EXPECT_EQ(manual::kEferNxe, efer::kNxe);
}

TEST(OracleRegistersTest, TheModeFollowsFromPgPaeLmaAndLa57) {
  EXPECT_EQ(PagingModeOf(kOff), PagingMode::kOff);
  EXPECT_EQ(PagingModeOf(k32Bit), PagingMode::k32Bit);
  EXPECT_EQ(PagingModeOf(kPae), PagingMode::kPae);
  EXPECT_EQ(PagingModeOf(kLong), PagingMode::kFourLevels);
  EXPECT_EQ(PagingModeOf(Turn(kLong, 0, 0x1000)), PagingMode::kFiveLevels);
  // LA57 says nothing outside long mode, nor PAE with paging off.
  EXPECT_EQ(PagingModeOf(Turn(kPae, 0, 0x1000)), PagingMode::kPae);
  EXPECT_EQ(PagingModeOf(Turn(kOff, 0, 0x1020, 0x100)), PagingMode::kOff);
  EXPECT_TRUE(PaePaging(kPae));
  EXPECT_FALSE(PaePaging(kLong) || PaePaging(k32Bit) || PaePaging(kOff));
}

struct AcceptCase {
  const char* name;
  PagingRegisters registers;
  bool accepted;
};

TEST(OracleRegistersTest, WhatACpuAccepts) {
  constexpr uint64_t kAllCr4 = 0x70'1000;  // PKE, SMAP, SMEP, LA57
  const AcceptCase cases[] = {
      {"off", kOff, true},
      {"32-bit", k32Bit, true},
      {"PAE", kPae, true},
      {"long", kLong, true},
      {"five levels", Turn(kLong, 0, 0x1000), true},
      {"all there is", Turn(kLong, 0x6001'0000, kAllCr4 | 0x90, 0x800), true},
      {"all there is, 32-bit", Turn(k32Bit, 0x6001'0000, kAllCr4, 0x800), true},
      {"PG without PE", Turn(k32Bit, 1), false},
      {"PE alone", Turn(kOff, 1), true},
      {"NW without CD", Turn(kOff, 0x2000'0000), false},
      {"CD without NW", Turn(kOff, 0x4000'0000), true},
      {"NW and CD", Turn(kOff, 0x6000'0000), true},
      {"CR0 bit 32", Turn(kOff, uint64_t{1} << 32), false},
      {"CR0 bit 63", Turn(kLong, uint64_t{1} << 63), false},
      {"LME with paging off", Turn(kOff, 0, 0, 0x100), true},
      {"LMA with paging off", Turn(kOff, 0, 0, 0x500), false},
      {"LMA alone", Turn(kPae, 0, 0, 0x400), false},
      {"LME and PG, no LMA", Turn(kPae, 0, 0, 0x100), false},
      {"long without PAE", Turn(kLong, 0, 0x20), false},
      {"PCIDE", Turn(kLong, 0, 0x2'0000), true},
      {"PCIDE, five levels", Turn(kLong, 0, 0x2'1000), true},
      {"PCIDE, off", Turn(kOff, 0, 0x2'0000), false},
      {"PCIDE, 32-bit", Turn(k32Bit, 0, 0x2'0000), false},
      {"PCIDE, PAE", Turn(kPae, 0, 0x2'0000), false},
      {"PCIDE, CR3 bit 63",
       WithCr3(Turn(kLong, 0, 0x2'0000), uint64_t{1} << 63), false},
      {"PKS", Turn(kLong, 0, 0x100'0000), false},
      {"CET", Turn(kLong, 0x1'0000, 0x80'0000), false},
      {"LAM_SUP", Turn(kLong, 0, 0x1000'0000), false},
      {"what has nothing to do with paging", Turn(kLong, 0x3e, 0x600, 1), true},
      {"CR3 below MAXPHYADDR", WithCr3(kLong, 0xff'ffff'ffff), true},
      {"CR3 at MAXPHYADDR", WithCr3(kLong, uint64_t{1} << 40), false},
      {"CR3 bit 61", WithCr3(kLong, uint64_t{1} << 61), false},
      {"CR3 bit 63", WithCr3(kLong, uint64_t{1} << 63), false},
      {"32-bit: CR3 above", WithCr3(k32Bit, ~uint64_t{0}), true},
      {"PAE: CR3 above", WithCr3(kPae, ~uint64_t{0}), true},
      {"off: CR3 above", WithCr3(kOff, ~uint64_t{0}), true},
  };
  for (const AcceptCase& c : cases) {
    EXPECT_EQ(CpuAccepts(c.registers, CpuFeatures{}, 40), c.accepted) << c.name;
  }
}

TEST(OracleRegistersTest, ABitWhoseFeatureIsNotThereIsRefused) {
  struct FeatureCase {
    bool CpuFeatures::*feature;
    uint64_t cr4;
    uint64_t efer;
  };
  const FeatureCase cases[] = {
      {&CpuFeatures::page_size_extensions, 0x10, 0},
      {&CpuFeatures::five_levels, 0x1000, 0},
      {&CpuFeatures::smep, 0x10'0000, 0},
      {&CpuFeatures::smap, 0x20'0000, 0},
      {&CpuFeatures::protection_keys, 0x40'0000, 0},
      {&CpuFeatures::no_execute, 0, 0x800},
  };
  for (const PagingRegisters& mode : {kOff, k32Bit, kPae, kLong}) {
    for (const FeatureCase& c : cases) {
      CpuFeatures features;
      features.*c.feature = false;
      const PagingRegisters uses = Turn(mode, 0, c.cr4, c.efer);
      EXPECT_TRUE(CpuAccepts(uses, CpuFeatures{}, 40));
      EXPECT_FALSE(CpuAccepts(uses, features, 40));
      EXPECT_TRUE(CpuAccepts(mode, features, 40));
      // It takes nothing else away.
      EXPECT_TRUE(CpuAccepts(Turn(mode, 0, 0x70'1010 & ~c.cr4, 0x800 & ~c.efer),
                             features, 40));
    }
  }
  // These three have no bit in a register.
  CpuFeatures features;
  features.pse36 = false;
  features.one_gib_pages = false;
  features.invpcid = false;
  EXPECT_TRUE(CpuAccepts(Turn(kLong, 0, 0x70'1010, 0x800), features, 40));
}

constexpr PagingRegisters kPcids{
    .cr0 = 0x8000'0001, .cr3 = 0x1234, .cr4 = 0x2'0020, .efer = 0x500};

TEST(OracleRegistersTest, PcidsNeedTheirFeature) {
  CpuFeatures features;
  features.pcid = false;
  EXPECT_TRUE(CpuAccepts(kPcids, CpuFeatures{}, 40));
  EXPECT_FALSE(CpuAccepts(kPcids, features, 40));
  EXPECT_TRUE(CpuAccepts(kLong, features, 40));
}

TEST(OracleRegistersTest, WhatMovToCr3DoesWithBit63) {
  constexpr uint64_t kBit63 = uint64_t{1} << 63;
  EXPECT_EQ(PcidOf(kPcids), 0x234u);
  EXPECT_EQ(PcidOf(WithCr3(kLong, 0x1234)), 0u);
  EXPECT_EQ(Cr3After(kPcids, kBit63 | 0x5001), 0x5001u);
  EXPECT_EQ(Cr3After(kPcids, uint64_t{3} << 62), uint64_t{1} << 62);
  EXPECT_EQ(Cr3After(kLong, kBit63 | 0x5000), kBit63 | 0x5000);
  EXPECT_FALSE(Cr3WriteFlushes(kPcids, kBit63));
  EXPECT_TRUE(Cr3WriteFlushes(kPcids, kBit63 - 1));
  EXPECT_TRUE(Cr3WriteFlushes(kLong, kBit63));
}

TEST(OracleRegistersTest, HowInvpcidEnds) {
  constexpr auto kDone = InvpcidEnd::kDone;
  constexpr auto kGp = InvpcidEnd::kProtection;
  const auto ends = [](const PagingRegisters& registers, uint64_t type,
                       uint64_t pcid, uint64_t gva = 0) {
    return InvpcidEnds(registers, CpuFeatures{}, type,
                       {.pcid = pcid, .gva = Gva(gva)});
  };
  for (uint64_t type = 0; type < 4; ++type) {
    EXPECT_EQ(ends(kPcids, type, 0xfff), kDone) << type;
    EXPECT_EQ(ends(kPcids, type, 0x1000), kGp) << type;
    EXPECT_EQ(ends(kPcids, type, uint64_t{1} << 63), kGp) << type;
    EXPECT_EQ(ends(kLong, type, 1), type < 2 ? kGp : kDone) << type;
    EXPECT_EQ(ends(kPae, type, 0), kDone) << type;
    // Not canonical, which is asked of an address only.
    const uint64_t gva = 0x8000'0000'0000;
    EXPECT_EQ(ends(kPcids, type, 0, gva), type == 0 ? kGp : kDone) << type;
    EXPECT_EQ(ends(Turn(kPcids, 0, 0x1000), type, 0, gva), kDone) << type;
    EXPECT_EQ(ends(kPae, type, 0, gva), kDone) << type;
  }
  EXPECT_EQ(ends(kPcids, 4, 0), kGp);
  EXPECT_EQ(ends(kPcids, uint64_t{1} << 32, 0), kGp);
  EXPECT_EQ(ends(kPcids, 0, 0, 0x7fff'ffff'ffff), kDone);
  EXPECT_EQ(ends(kPcids, 0, 0, 0xffff'8000'0000'0000), kDone);
  EXPECT_EQ(ends(kPcids, 0, 0, 0xffff'7fff'ffff'ffff), kGp);
  EXPECT_EQ(ends(Turn(kPcids, 0, 0x1000), 0, 0, uint64_t{1} << 56), kGp);
  CpuFeatures features;
  features.invpcid = false;
  EXPECT_EQ(InvpcidEnds(kPcids, features, 4, {}), InvpcidEnd::kUndefinedOpcode);
}

TEST(OracleRegistersTest, ReservedBitsOfPdptes) {
  for (unsigned bit = 1; bit < 64; ++bit) {
    const bool reserved =
        bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;
    for (size_t i = 0; i < 4; ++i) {
      Pdptes pdptes{};
      pdptes[i] = 1 | uint64_t{1} << bit;
      EXPECT_EQ(PdptesAccepted(pdptes, 40), !reserved) << bit;
      pdptes[i] ^= 1;
      EXPECT_TRUE(PdptesAccepted(pdptes, 40)) << bit;
    }
  }
  EXPECT_TRUE(PdptesAccepted({1, 1, 1, uint64_t{1} << 40 | 1}, 41));
  EXPECT_TRUE(PdptesAccepted({}, 40));
}

struct ReloadCase {
  const char* name;
  PagingRegisters before;
  PagingRegisters after;
  bool reloads;
};

TEST(OracleRegistersTest, WhenPdptesAreLoaded) {
  const ReloadCase cases[] = {
      {"the same", kPae, kPae, false},
      {"from off", kOff, kPae, true},
      {"from 32-bit", k32Bit, kPae, true},
      {"from long mode", kLong, kPae, true},
      {"to long mode", kPae, kLong, false},
      {"to off", kPae, kOff, false},
      {"32-bit", k32Bit, WithCr3(k32Bit, 0x2000), false},
      {"CR3", kPae, WithCr3(kPae, 0x2000), true},
      {"CR3's low bits", kPae, WithCr3(kPae, 0x1008), true},
      {"CD", kPae, Turn(kPae, 0x4000'0000), true},
      {"CD and NW", kPae, Turn(kPae, 0x6000'0000), true},
      {"NW", Turn(kPae, 0x6000'0000), Turn(kPae, 0x4000'0000), true},
      {"WP", kPae, Turn(kPae, 0x1'0000), false},
      {"PGE", kPae, Turn(kPae, 0, 0x80), true},
      {"PSE", kPae, Turn(kPae, 0, 0x10), true},
      {"SMEP", kPae, Turn(kPae, 0, 0x10'0000), true},
      {"SMAP", kPae, Turn(kPae, 0, 0x20'0000), false},
      {"PKE", kPae, Turn(kPae, 0, 0x40'0000), false},
      {"LA57", kPae, Turn(kPae, 0, 0x1000), false},
      {"NXE", kPae, Turn(kPae, 0, 0, 0x800), false},
  };
  for (const ReloadCase& c : cases) {
    EXPECT_EQ(ReloadsPdptes(c.before, c.after), c.reloads) << c.name;
  }
}

TEST(OracleRegistersTest, PdptesLieWhereBits31To5OfCr3Say) {
  EXPECT_EQ(PdptesAt(WithCr3(kPae, 0xffff'ffff'8765'433f)), Gpa(0x8765'4320));
}

}  // namespace
}  // namespace shadowmmu::testing
