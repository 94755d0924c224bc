// VcpuMmu::SetRegisters and SetFeatures: what a CPU refuses, and what the CPU
// that runs the guest must hold. What each mode translates is in
// paging_modes_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "shadowmmu/audit.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr Gva kGva{0x40'0000'0000};
constexpr Gfn kData{1024};
constexpr GfnRange kTables{Gfn(16), 32};
constexpr GfnRange kOtherTables{Gfn(64), 32};
constexpr uint64_t kPagingOn = cr0::kPe | cr0::kPg | cr0::kWp;

class Registers : public ::testing::Test {
 protected:
  Registers() {
    vm_.AddSlot({.id = SlotId{0}, .base = Gfn(0), .pages = 2048});
    cpu_ = &vm_.AddVcpu();
    tables_ = &vm_.UseTables(*cpu_, kTables);
    long_mode_ = cpu_->mmu().registers();
    EXPECT_TRUE(tables_->Map(kGva, ToGpa(kData), Level::k4K, kAll).ok());
  }
  ~Registers() override { EXPECT_EQ(vm_.Violations(), ""); }

  absl::Status Set(const PagingRegisters& registers) {
    return cpu_->mmu().SetRegisters(registers);
  }
  // The long-mode registers with some bits changed.
  PagingRegisters Flip(uint64_t cr0, uint64_t cr4, uint64_t efer) const {
    PagingRegisters registers = long_mode_;
    registers.cr0 ^= cr0;
    registers.cr4 ^= cr4;
    registers.efer ^= efer;
    return registers;
  }

  // Refused like that, with nothing changed: not the registers, not the root,
  // not what is mapped, not the TLB.
  void ExpectRefused(absl::StatusCode code, const std::string& words,
                     const PagingRegisters& registers) {
    ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
    const std::string before = State();
    const absl::Status status = Set(registers);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    EXPECT_EQ(State(), before) << status;
    EXPECT_EQ(cpu_->mmu().registers(), long_mode_);
    const TouchResult touched = cpu_->Touch(kGva, Write());
    EXPECT_TRUE(touched.hit() && touched.from_tlb) << touched;
  }
  void ExpectGp(const std::string& words, const PagingRegisters& registers) {
    ExpectRefused(absl::StatusCode::kInvalidArgument, "#GP: " + words,
                  registers);
  }
  std::string State() {
    std::ostringstream text;
    const HardwareState state = cpu_->mmu().HardwareState();
    text << Dump(vm_.mmu()) << state.root << " " << state.cr0 << " "
         << state.cr4 << " " << state.efer;
    return text.str();
  }

  SmallVm vm_;
  GuestVcpu* cpu_ = nullptr;
  GuestTableBuilder* tables_ = nullptr;
  PagingRegisters long_mode_;
};

// ---- What a CPU refuses ----

TEST_F(Registers, PagingWithoutProtectionIsRefused) {
  ExpectGp("CR0.PG without CR0.PE", Flip(cr0::kPe, 0, 0));
  ExpectGp("CR0.PG without CR0.PE", {.cr0 = cr0::kPg});
}

TEST_F(Registers, AnLmaThatIsNotLmeAndPgIsRefused) {
  const std::string words = "EFER.LMA is not what EFER.LME and CR0.PG make it";
  ExpectGp(words, Flip(0, 0, efer::kLma));
  ExpectGp(words, Flip(0, 0, efer::kLme));
  ExpectGp(words, Flip(cr0::kPg, 0, 0));
  ExpectGp(words, {.efer = efer::kLma});
  ExpectGp(words, {.efer = efer::kLme | efer::kLma});
}

TEST_F(Registers, LongModeWithoutPaeIsRefused) {
  ExpectGp("CR4.PAE clear in long mode", Flip(0, cr4::kPae, 0));
}

TEST_F(Registers, BitsOfCr0ThatNoCpuTakesAreRefused) {
  ExpectGp("CR0 bits 63 to 32 are set", Flip(uint64_t{1} << 32, 0, 0));
  ExpectGp("CR0 bits 63 to 32 are set", Flip(uint64_t{1} << 63, 0, 0));
  ExpectGp("CR0.NW without CR0.CD", Flip(cr0::kNw, 0, 0));
}

TEST_F(Registers, WhatNoVcpuHasIsRefused) {
  ExpectGp("CR4.PKS: ", Flip(0, cr4::kPks, 0));
  ExpectGp("CR4.CET: ", Flip(0, cr4::kCet, 0));
  ExpectGp("CR4.LAM_SUP: ", Flip(0, cr4::kLamSup, 0));
}

TEST_F(Registers, PcidsOutsideLongModeAreRefused) {
  const std::string words = "CR4.PCIDE outside long mode";
  ExpectGp(words, {.cr4 = cr4::kPcide});
  ExpectGp(words, {.cr0 = kPagingOn, .cr4 = cr4::kPcide});
  ExpectGp(words, {.cr0 = kPagingOn, .cr4 = cr4::kPcide | cr4::kPae});
  ExpectGp(words, {.cr4 = cr4::kPcide | cr4::kPae, .efer = efer::kLme});
}

TEST_F(Registers, ACr3AboveMaxphyaddrIsRefusedFromItsLowestBitOn) {
  for (const unsigned bit : {48u, 51u, 52u, 63u}) {
    PagingRegisters registers = long_mode_;
    registers.cr3 |= uint64_t{1} << bit;
    ExpectGp("CR3 bits at or above MAXPHYADDR, 48", registers);
  }
  PagingRegisters highest = long_mode_;
  highest.cr3 = uint64_t{1} << 47;
  EXPECT_TRUE(Set(highest).ok());
  EXPECT_EQ(cpu_->mmu().EnterGuest().kind, Kind::kMemoryFault)
      << "there is no slot";
  ASSERT_TRUE(Set(long_mode_).ok());
}

// ---- Features ----

struct FeatureBit {
  bool CpuFeatures::*feature;
  bool EntryFormat::*backing;  // null: it needs none
  const char* name;            // in SetFeatures' status
  const char* bit;             // in SetRegisters' status; null: no bit
  uint64_t cr4;
  uint64_t efer;
};
constexpr FeatureBit kFeatureBits[] = {
    {&CpuFeatures::page_size_extensions, nullptr, "", "CR4.PSE", cr4::kPse, 0},
    {&CpuFeatures::pse36, nullptr, "", nullptr, 0, 0},
    {&CpuFeatures::one_gib_pages, nullptr, "", nullptr, 0, 0},
    {&CpuFeatures::pcid, nullptr, "", "CR4.PCIDE", cr4::kPcide, 0},
    {&CpuFeatures::invpcid, nullptr, "", nullptr, 0, 0},
    {&CpuFeatures::no_execute, &EntryFormat::has_no_execute, "no_execute",
     "EFER.NXE", 0, efer::kNxe},
    {&CpuFeatures::smep, &EntryFormat::has_smep, "smep", "CR4.SMEP", cr4::kSmep,
     0},
    {&CpuFeatures::smap, &EntryFormat::has_smap, "smap", "CR4.SMAP", cr4::kSmap,
     0},
    {&CpuFeatures::protection_keys, &EntryFormat::has_protection_keys,
     "protection_keys", "CR4.PKE", cr4::kPke, 0},
    {&CpuFeatures::five_levels, &EntryFormat::has_five_levels, "five_levels",
     "CR4.LA57", cr4::kLa57, 0},
};

TEST_F(Registers, AVcpuHasAtFirstWhatTheWalkingCpuBacks) {
  EXPECT_EQ(cpu_->mmu().features(), CpuFeatures());
  for (const FeatureBit& bit : kFeatureBits) {
    if (bit.backing == nullptr) continue;
    TestHost host(TestHost::Options{.frames = 1});
    EntryFormat format = host.Format();
    format.*bit.backing = false;
    host.SetFormat(format);
    const auto mmu = *Mmu::Create({.host = &host});
    const auto vcpu = *mmu->CreateVcpu(VcpuId{0});
    EXPECT_FALSE(vcpu->features().*bit.feature) << bit.name;
    const CpuFeatures before = vcpu->features();
    CpuFeatures more = before;
    more.*bit.feature = true;
    const absl::Status status = vcpu->SetFeatures(more);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                StartsWith(std::string(bit.name) + ": "));
    EXPECT_EQ(vcpu->features(), before);
  }
}

TEST_F(Registers, SmepNeedsNxOfTheWalkingCpu) {
  EntryFormat format = vm_.host().Format();
  format.has_no_execute = false;
  EXPECT_FALSE(CpuFeatures::BackedBy(format).smep);
}

TEST_F(Registers, ABitWithoutItsFeatureIsRefused) {
  for (const FeatureBit& bit : kFeatureBits) {
    if (bit.bit == nullptr) continue;
    CpuFeatures features;
    features.*bit.feature = false;
    PagingRegisters registers = long_mode_;
    registers.cr4 &= ~bit.cr4;
    registers.efer &= ~bit.efer;
    ASSERT_TRUE(Set(registers).ok());
    ASSERT_TRUE(cpu_->mmu().SetFeatures(features).ok()) << bit.bit;
    long_mode_ = registers;
    ExpectGp(std::string(bit.bit) + ": ", Flip(0, bit.cr4, bit.efer));
    ASSERT_TRUE(cpu_->mmu().SetFeatures(CpuFeatures()).ok());
    long_mode_ = LongMode(tables_->root());
    ASSERT_TRUE(Set(long_mode_).ok());
  }
}

TEST_F(Registers, AFeatureThatIsInUseCannotBeTakenAway) {
  for (const FeatureBit& bit : kFeatureBits) {
    if (bit.bit == nullptr || bit.cr4 == cr4::kLa57) continue;
    PagingRegisters registers = long_mode_;
    registers.cr4 |= bit.cr4;
    registers.efer |= bit.efer;
    ASSERT_TRUE(Set(registers).ok()) << bit.bit;
    CpuFeatures features;
    features.*bit.feature = false;
    const absl::Status status = cpu_->mmu().SetFeatures(features);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bit.bit;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bit.bit));
    EXPECT_EQ(cpu_->mmu().features(), CpuFeatures());
    EXPECT_EQ(cpu_->mmu().registers(), registers);
  }
}

TEST_F(Registers, WhatMattersToNobodyWhilePagingIsOffIsTaken) {
  EXPECT_TRUE(Set({.cr0 = cr0::kPe,
                   .cr3 = ~uint64_t{0},
                   .cr4 = cr4::kSmep | cr4::kPke | cr4::kLa57 | cr4::kPse,
                   .efer = efer::kLme})
                  .ok());
  EXPECT_TRUE(cpu_->Touch(Gva(ToGpa(kData).value()), Write()).hit());
}

TEST_F(Registers, BitsThatPagingDoesNotDependOnAreKept) {
  PagingRegisters registers = long_mode_;
  registers.cr0 |= 1u << 5 | 1u << 18;  // NE, AM
  registers.cr4 |= cr4::kPge | cr4::kPse | 1u << 9;
  registers.efer |= 1u;    // SCE
  registers.cr3 |= 0x018;  // PWT, PCD
  ASSERT_TRUE(Set(registers).ok());
  EXPECT_EQ(cpu_->mmu().registers(), registers);
  EXPECT_TRUE(cpu_->Touch(kGva, Write()).hit());
}

// ---- What the walking CPU must hold ----

TEST_F(Registers, WithPagingOffTheCpuWalksPaeTablesBelow4GiB) {
  ASSERT_TRUE(Set({}).ok());
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  const HardwareState state = cpu_->mmu().HardwareState();
  EXPECT_EQ(state.cr0, kPagingOn);
  EXPECT_EQ(state.cr4, cr4::kPae);
  EXPECT_EQ(state.efer, efer::kNxe);
  EXPECT_EQ(state.root.value() % 32, 0u);
  EXPECT_EQ(state.root.value() >> 32, 0u);
  cpu_->mmu().ExitGuest();
}

TEST_F(Registers, InLongModeTheCpuWalksFourLevelsWithNxWhateverTheGuestHas) {
  for (const uint64_t nxe : {uint64_t{0}, efer::kNxe}) {
    ASSERT_TRUE(Set(Flip(0, 0, nxe)).ok());
    ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
    const HardwareState state = cpu_->mmu().HardwareState();
    EXPECT_EQ(state.cr0, kPagingOn);
    EXPECT_EQ(state.cr4, cr4::kPae);
    EXPECT_EQ(state.efer, efer::kNxe | efer::kLme | efer::kLma);
    EXPECT_EQ(state.root.value() % kPageSize, 0u);
    EXPECT_NE(vm_.host().PointerToTable(state.root), nullptr);
    cpu_->mmu().ExitGuest();
  }
}

TEST_F(Registers, WithoutNxOnTheHostTheCpuIsNotAskedForIt) {
  TestHost host(TestHost::Options{.frames = 1});
  EntryFormat format;
  format.has_no_execute = false;
  host.SetFormat(format);
  const auto mmu = *Mmu::Create({.host = &host});
  const auto vcpu = *mmu->CreateVcpu(VcpuId{0});
  ASSERT_TRUE(vcpu->EnterGuest().resume());
  EXPECT_EQ(vcpu->HardwareState().efer, 0u);
  vcpu->ExitGuest();
}

TEST_F(Registers, EveryVcpuHasAPaeRootOfItsOwn) {
  GuestVcpu& other = vm_.AddVcpu();
  ASSERT_TRUE(Set({}).ok());
  for (GuestVcpu* vcpu : {cpu_, &other}) {
    ASSERT_TRUE(vcpu->Touch(Gva(ToGpa(kData).value()), Write()).hit());
  }
  EXPECT_NE(cpu_->mmu().HardwareState().root, other.mmu().HardwareState().root);
}

// ---- What a change of registers changes ----

TEST_F(Registers, AnotherCr3IsAnotherTranslationAndTheFirstComesBack) {
  GuestTableBuilder other(&vm_.memory(), &vm_.untracked(), kOtherTables);
  ASSERT_TRUE(other.Map(kGva, ToGpa(kData + 1), Level::k4K, kAll).ok());
  EXPECT_EQ(cpu_->Touch(kGva, Write()).hpa, ToHpa(vm_.PfnOf(kData)));
  ASSERT_TRUE(Set(LongMode(other.root())).ok());
  EXPECT_EQ(cpu_->Touch(kGva, Write()).hpa, ToHpa(vm_.PfnOf(kData + 1)));
  ASSERT_TRUE(Set(long_mode_).ok());
  const TouchResult back = cpu_->Touch(kGva, Write());
  EXPECT_EQ(back.hpa, ToHpa(vm_.PfnOf(kData)));
  EXPECT_EQ(back.faults, 0u) << "its shadow pages were kept";
}

TEST_F(Registers, WritingTheSameCr3FlushesAndKeepsTheRoot) {
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  const Hpa root = cpu_->mmu().HardwareState().root;
  const uint64_t flushes = vm_.host().flushes();
  ASSERT_TRUE(Set(long_mode_).ok());
  const TouchResult touched = cpu_->Touch(kGva, Write());
  EXPECT_EQ(touched.faults, 0u);
  EXPECT_FALSE(touched.from_tlb);
  EXPECT_EQ(vm_.host().flushes(), flushes + 1);
  EXPECT_EQ(cpu_->mmu().HardwareState().root, root);
}

TEST_F(Registers, WithoutNxeBit63OfAGuestEntryIsReserved) {
  ASSERT_TRUE(
      tables_->Map(kGva, ToGpa(kData), Level::k4K, kAll | gpte::kNoExecute)
          .ok());
  ASSERT_TRUE(cpu_->Touch(kGva, Read()).hit());
  EXPECT_FALSE(cpu_->Touch(kGva, Fetch()).hit());

  ASSERT_TRUE(Set(Flip(0, 0, efer::kNxe)).ok());
  const TouchResult touched = cpu_->Touch(kGva, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kGuestFault)) << touched;
  EXPECT_EQ(touched.outcome.guest_fault.error_code,
            pf_error::kPresent | pf_error::kReserved)
      << "the page that was shadowed with NXE was used again";
}

TEST_F(Registers, OutsideLongModeAddressesHave32Bits) {
  ASSERT_TRUE(Set({}).ok());
  const Gva gva(0xffff'ffff'0000'0000 | ToGpa(kData).value());
  EXPECT_TRUE(cpu_->mmu().HandleFault(gva, Write()).resume());
  EXPECT_EQ(vm_.RmapLength(kData), 1u);
  EXPECT_EQ(cpu_->mmu().Translate(gva + 5, Read()).gpa, ToGpa(kData) + 5);
}

TEST_F(Registers, InLongModeBits48To63MustCopyBit47) {
  const auto vector = [&](uint64_t gva) {
    const FaultOutcome outcome = cpu_->mmu().HandleFault(Gva(gva), Read());
    EXPECT_EQ(outcome.kind, Kind::kGuestFault) << Gva(gva);
    EXPECT_EQ(cpu_->mmu().Translate(Gva(gva), Read()).outcome.guest_fault,
              outcome.guest_fault);
    return outcome.guest_fault.vector;
  };
  const auto gp = GuestFault::Vector::kGeneralProtection;
  const auto page_fault = GuestFault::Vector::kPage;
  EXPECT_EQ(vector(0x0000'7fff'ffff'ffff), page_fault);
  EXPECT_EQ(vector(0x0000'8000'0000'0000), gp);
  EXPECT_EQ(vector(0xffff'7fff'ffff'ffff), gp);
  EXPECT_EQ(vector(0xffff'8000'0000'0000), page_fault);
  EXPECT_EQ(vector(0xffff'ffff'ffff'ffff), page_fault);
  EXPECT_EQ(vector(0x0001'0000'0000'0000), gp);
  EXPECT_EQ(vector(0x8000'0000'0000'0000), gp);
}

TEST_F(Registers, InvlpgOfAnAddressThatIsNotCanonicalHarmsNothing) {
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  cpu_->mmu().Invlpg(Gva(0x8000'0000'0000'0000 | kGva.value()));
  EXPECT_EQ(vm_.RmapLength(kData), 1u);
}

TEST_F(Registers, AnAddressSpaceThatDoesNotExistIsRefused) {
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  const std::string before = State();
  EXPECT_EQ(cpu_->mmu().SetAddressSpace(AddressSpace{2}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cpu_->mmu().address_space(), AddressSpace::kNormal);
  EXPECT_EQ(State(), before);
}

TEST_F(Registers, TheOtherAddressSpaceHasOtherTablesAndOtherMemory) {
  ASSERT_TRUE(cpu_->Touch(kGva, Write()).hit());
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kSmm).ok());
  const TouchResult touched = cpu_->Touch(kGva, Read());
  ASSERT_TRUE(touched.EndedAs(Kind::kMemoryFault)) << "SMM has no slots";
  ASSERT_TRUE(cpu_->mmu().SetAddressSpace(AddressSpace::kNormal).ok());
  EXPECT_EQ(cpu_->Touch(kGva, Write()).faults, 0u);
}

using RegistersDeathTest = Registers;

TEST_F(RegistersDeathTest, ChangingThemInTheGuestIsACheck) {
  ASSERT_TRUE(cpu_->mmu().EnterGuest().resume());
  EXPECT_DEATH(static_cast<void>(Set(long_mode_)), "SetRegisters by a vCPU");
  EXPECT_DEATH(
      static_cast<void>(cpu_->mmu().SetAddressSpace(AddressSpace::kNormal)),
      "SetAddressSpace by a vCPU");
  EXPECT_DEATH(static_cast<void>(cpu_->mmu().HandleFault(kGva, Read())),
               "HandleFault by a vCPU");
  EXPECT_DEATH(static_cast<void>(cpu_->mmu().EnterGuest()),
               "EnterGuest by a vCPU that is in the guest");
  cpu_->mmu().ExitGuest();
}

}  // namespace
}  // namespace shadowmmu::testing
