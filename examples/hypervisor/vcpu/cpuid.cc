#include "vcpu/cpuid.h"

#include <string_view>

namespace hypervisor {
namespace {

constexpr uint32_t Bit(unsigned bit) { return 1u << bit; }

// ---- What is never offered: nothing here emulates it ----
// PCLMUL and the like are harmless; what has state or MSRs of its own is not.
constexpr uint32_t kNever1Ecx =
    Bit(2) | Bit(3) | Bit(4) | Bit(5) | Bit(6) | Bit(7) | Bit(8) |  // MONITOR..
    Bit(12) |                                                       // FMA
    Bit(15) |                                                       // PDCM
    Bit(17) |                                                       // PCID
    Bit(21) |                                                       // x2APIC
    Bit(24) |  // TSC deadline
    Bit(26) |  // XSAVE
    Bit(27) |  // OSXSAVE
    Bit(28) |  // AVX
    Bit(29) |  // F16C
    Bit(31);   // a hypervisor, with leaves at 0x4000'0000
constexpr uint32_t kNever1Edx = Bit(7) |   // MCE
                                Bit(12) |  // MTRR
                                Bit(14) |  // MCA
                                Bit(16) |  // PAT
                                Bit(21) | Bit(22) | Bit(28) | Bit(29);
// Of leaf 7 only these are offered: FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED,
// ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
constexpr uint32_t kOnly7Ebx = Bit(0) | Bit(3) | Bit(7) | Bit(8) | Bit(9) |
                               Bit(18) | Bit(19) | Bit(20) | Bit(23) | Bit(24) |
                               Bit(29);
// UMIP, PKU, LA57; OSPKE is CR4.PKE.
constexpr uint32_t kUmip = Bit(2);
constexpr uint32_t kPku = Bit(3);
constexpr uint32_t kOspke = Bit(4);
constexpr uint32_t kLa57 = Bit(16);
constexpr uint32_t kOnly7Ecx = kUmip | kPku | kLa57;
constexpr uint32_t kFsgsbase = Bit(0);
constexpr uint32_t kSmep = Bit(7);
constexpr uint32_t kSmap = Bit(20);
// LAHF, CMP_LEGACY, ABM, SSE4A, prefetches.
constexpr uint32_t kOnlyExtendedEcx =
    Bit(0) | Bit(5) | Bit(6) | Bit(7) | Bit(8);
constexpr uint32_t kNeverExtendedEdx =
    Bit(7) | Bit(12) | Bit(14) | Bit(16) | Bit(27);  // RDTSCP, and its MSR
constexpr uint32_t kNx = Bit(20);
constexpr uint32_t kPages1G = Bit(26);
constexpr uint32_t kPse = Bit(3);
constexpr uint32_t kPse36 = Bit(17);

// CR4 bits that every CPU has here: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE,
// OSFXSR, OSXMMEXCPT; and MCE, which does nothing.
constexpr uint64_t kCr4Always = 0x7ff;
constexpr uint64_t kCr4Umip = uint64_t{1} << 11;
constexpr uint64_t kCr4Fsgsbase = uint64_t{1} << 16;

}  // namespace

void Cpuid::Apply(std::span<const std::string> flags) {
  struct Name {
    std::string_view name;
    uint32_t Cpuid::*hidden;
    uint32_t bit;
  };
  const Name names[] = {
      {"smep", &Cpuid::hidden_7_ebx_, kSmep},
      {"smap", &Cpuid::hidden_7_ebx_, kSmap},
      {"fsgsbase", &Cpuid::hidden_7_ebx_, kFsgsbase},
      {"pku", &Cpuid::hidden_7_ecx_, kPku},
      {"la57", &Cpuid::hidden_7_ecx_, kLa57},
      {"umip", &Cpuid::hidden_7_ecx_, kUmip},
      {"nx", &Cpuid::hidden_extended_edx_, kNx},
      {"pdpe1gb", &Cpuid::hidden_extended_edx_, kPages1G},
      {"apic", &Cpuid::hidden_1_edx_, kLocalApic},
      {"pse", &Cpuid::hidden_1_edx_, kPse},
      {"pse36", &Cpuid::hidden_1_edx_, kPse36},
  };
  for (const std::string& flag : flags) {
    for (const Name& one : names) {
      if (flag.size() < 2 || std::string_view(flag).substr(1) != one.name) {
        continue;
      }
      if (flag[0] == '-') {
        this->*one.hidden |= one.bit;
      } else {
        this->*one.hidden &= ~one.bit;
      }
    }
  }
}

CpuidResult Cpuid::Read(uint32_t leaf, uint32_t subleaf, uint64_t cr4,
                        uint8_t apic_id) const {
  const bool extended = leaf >= 0x80000000;
  if (leaf >= 0x40000000 && leaf < 0x80000000) return {};
  CpuidResult result = ReadCpuidIfThere(leaf, subleaf);
  switch (leaf) {
    case 1:
      // One CPU a package: how many there are, firmware tells.
      result.ebx = (result.ebx & 0xff00) | Bit(16) | uint32_t{apic_id} << 24;
      result.ecx &= ~kNever1Ecx;
      result.edx &= ~(kNever1Edx | hidden_1_edx_);
      break;
    case 7:
      if (subleaf != 0) return {};
      result.eax = 0;
      result.ebx &= kOnly7Ebx & ~hidden_7_ebx_;
      result.ecx &= kOnly7Ecx & ~hidden_7_ecx_;
      if ((cr4 & shadowmmu::cr4::kPke) != 0) result.ecx |= kOspke;
      result.edx = 0;
      break;
    // Monitor, performance counters, topology, XSAVE, and all above.
    case 5:
    case 6:
    case 0xa:
    case 0xb:
    case 0x8000000a:
      return {};
    case 0x80000001:
      result.ecx &= kOnlyExtendedEcx;
      result.edx &= ~(kNeverExtendedEdx | hidden_extended_edx_ |
                      (hidden_1_edx_ & (kPse | kLocalApic | kPse36)));
      break;
    case 0x80000008:
      result.ebx = 0;
      result.ecx = 0;
      result.edx = 0;
      break;
    default:
      if (leaf > 0xb && !extended) return {};
      if (leaf > 0x80000008) return {};
      break;
  }
  return result;
}

uint64_t Cpuid::AllowedCr4() const {
  const CpuidResult structured = Read(7, 0, 0);
  uint64_t allowed = kCr4Always;
  const auto allow = [&allowed](uint32_t there, uint32_t bit, uint64_t in_cr4) {
    if ((there & bit) != 0) allowed |= in_cr4;
  };
  allow(structured.ecx, kUmip, kCr4Umip);
  allow(structured.ebx, kFsgsbase, kCr4Fsgsbase);
  allow(structured.ebx, kSmep, shadowmmu::cr4::kSmep);
  allow(structured.ebx, kSmap, shadowmmu::cr4::kSmap);
  allow(structured.ecx, kPku, shadowmmu::cr4::kPke);
  allow(structured.ecx, kLa57, shadowmmu::cr4::kLa57);
  return allowed;
}

shadowmmu::CpuFeatures Cpuid::PagingFeatures() const {
  const CpuidResult basic = Read(1, 0, 0);
  const CpuidResult structured = Read(7, 0, 0);
  const CpuidResult extended = Read(0x80000001, 0, 0);
  shadowmmu::CpuFeatures features;
  features.page_size_extensions = (basic.edx & kPse) != 0;
  features.pse36 = (basic.edx & kPse36) != 0;
  features.one_gib_pages = (extended.edx & kPages1G) != 0;
  features.pcid = false;
  features.invpcid = false;
  features.no_execute = (extended.edx & kNx) != 0;
  features.smep = (structured.ebx & kSmep) != 0;
  features.smap = (structured.ebx & kSmap) != 0;
  features.protection_keys = (structured.ecx & kPku) != 0;
  features.five_levels = (structured.ecx & kLa57) != 0;
  return features;
}

unsigned Cpuid::physical_bits() const {
  const CpuidResult sizes = Read(0x80000008, 0, 0);
  constexpr unsigned kWithoutTheLeaf = 36;
  return sizes.eax == 0 ? kWithoutTheLeaf : sizes.eax & 0xff;
}

}  // namespace hypervisor
