#include "tests/harness/oracle_registers.h"

#include <algorithm>

namespace shadowmmu::testing {
namespace {

bool Any(uint64_t value, uint64_t bits) { return (value & bits) != 0; }

// SDM 2.5: #GP on MOV to CR0, WRMSR and MOV to CR4. APM 3.1.1, 3.1.3, 3.1.7.
bool CombinationAccepted(const PagingRegisters& registers) {
  const auto& [cr0, cr3, cr4, efer] = registers;
  // SDM 2.5: paging needs protected mode; NW needs CD; the upper half of CR0 is
  // reserved.
  if (Any(cr0, manual::kCr0Pg) && !Any(cr0, manual::kCr0Pe)) return false;
  if (Any(cr0, manual::kCr0Nw) && !Any(cr0, manual::kCr0Cd)) return false;
  if (cr0 >> 32 != 0) return false;
  // SDM 4.1.1, 9.8.5: the CPU keeps LMA equal to LME & PG, and needs PAE for
  // it. APM 14.6.1, 14.6.2.
  const bool active = Any(efer, manual::kEferLme) && Any(cr0, manual::kCr0Pg);
  if (Any(efer, manual::kEferLma) != active) return false;
  // SDM 2.5, 4.10.1: PCIDs in IA-32e mode only; MOV to CR0 does not leave it,
  // nor MOV to CR4 set PCIDE outside.
  if (!active && Any(cr4, manual::kCr4Pcide)) return false;
  return !active || Any(cr4, manual::kCr4Pae);
}

// SDM 4.1.4: a bit whose feature CPUID does not name is reserved.
bool FeaturesAccepted(const PagingRegisters& registers,
                      const CpuFeatures& features) {
  // Never offered (registers.h).
  uint64_t reserved = manual::kCr4Pks | manual::kCr4Cet | manual::kCr4LamSup;
  if (!features.pcid) reserved |= manual::kCr4Pcide;
  if (!features.page_size_extensions) reserved |= manual::kCr4Pse;
  if (!features.five_levels) reserved |= manual::kCr4La57;
  if (!features.smep) reserved |= manual::kCr4Smep;
  if (!features.smap) reserved |= manual::kCr4Smap;
  if (!features.protection_keys) reserved |= manual::kCr4Pke;
  if (Any(registers.cr4, reserved)) return false;
  return features.no_execute || !Any(registers.efer, manual::kEferNxe);
}

}  // namespace

PagingMode PagingModeOf(const PagingRegisters& registers) {
  if (!Any(registers.cr0, manual::kCr0Pg)) return PagingMode::kOff;
  if (!Any(registers.cr4, manual::kCr4Pae)) return PagingMode::k32Bit;
  if (!Any(registers.efer, manual::kEferLma)) return PagingMode::kPae;
  return Any(registers.cr4, manual::kCr4La57) ? PagingMode::kFiveLevels
                                              : PagingMode::kFourLevels;
}

bool PaePaging(const PagingRegisters& registers) {
  return PagingModeOf(registers) == PagingMode::kPae;
}

bool CpuAccepts(const PagingRegisters& registers, const CpuFeatures& features,
                unsigned physical_bits) {
  if (!CombinationAccepted(registers) ||
      !FeaturesAccepted(registers, features)) {
    return false;
  }
  // SDM 2.5, table 4-12: in IA-32e mode bits 63 to MAXPHYADDR of CR3 are
  // reserved (bits 62:61 too, without LAM; bit 63 is never in the register).
  // Elsewhere it has 32 bits: what stands above them is nothing.
  // APM 3.1.2, 5.3.2.
  return !Any(registers.efer, manual::kEferLma) ||
         registers.cr3 >> physical_bits == 0;
}

// SDM 4.5, table 4-12: bits 11:0 of CR3.
uint64_t PcidOf(const PagingRegisters& registers) {
  return Any(registers.cr4, manual::kCr4Pcide)
             ? registers.cr3 & manual::kCr3Pcid
             : 0;
}

// SDM vol. 2, MOV (control registers): with PCIDE bit 63 of the operand is no
// part of the new value; without, it is reserved.
uint64_t Cr3After(const PagingRegisters& before, uint64_t operand) {
  return Any(before.cr4, manual::kCr4Pcide) ? operand & ~manual::kCr3NoFlush
                                            : operand;
}

bool Cr3WriteFlushes(const PagingRegisters& before, uint64_t operand) {
  return !Any(before.cr4, manual::kCr4Pcide) ||
         !Any(operand, manual::kCr3NoFlush);
}

InvpcidEnd InvpcidEnds(const PagingRegisters& registers,
                       const CpuFeatures& features, uint64_t type,
                       const InvpcidDescriptor& descriptor) {
  if (!features.invpcid) return InvpcidEnd::kUndefinedOpcode;
  if (type > 3 || descriptor.pcid >> 12 != 0) return InvpcidEnd::kProtection;
  if (type < 2 && descriptor.pcid != 0 &&
      !Any(registers.cr4, manual::kCr4Pcide)) {
    return InvpcidEnd::kProtection;
  }
  if (type != 0) return InvpcidEnd::kDone;
  // SDM vol. 1, 3.3.7.1: bits from 47, or 56, on are equal. Outside IA-32e mode
  // an address has 32 bits.
  const PagingMode mode = PagingModeOf(registers);
  if (mode != PagingMode::kFourLevels && mode != PagingMode::kFiveLevels) {
    return InvpcidEnd::kDone;
  }
  const unsigned top = mode == PagingMode::kFiveLevels ? 56 : 47;
  const uint64_t high = descriptor.gva.value() >> top;
  return high == 0 || high == ~uint64_t{0} >> top ? InvpcidEnd::kDone
                                                  : InvpcidEnd::kProtection;
}

// SDM 4.4.1, table 4-8: bits 2:1, 8:5 and 63:MAXPHYADDR are reserved in a PDPTE
// that is present; in one that is not, nothing is. APM 5.2.3.
bool PdptesAccepted(const Pdptes& pdptes, unsigned physical_bits) {
  return std::all_of(pdptes.begin(), pdptes.end(), [&](uint64_t pdpte) {
    return (pdpte & 1) == 0 ||
           ((pdpte & 0x1e6) == 0 && pdpte >> physical_bits == 0);
  });
}

// SDM 4.4.1: MOV to CR3; and MOV to CR0 or CR4 that modifies one of these bits,
// where PAE paging is in use afterwards. That PAE paging begins by EFER.LMA is
// no instruction's doing; the registers are then loaded as a whole.
bool ReloadsPdptes(const PagingRegisters& before,
                   const PagingRegisters& after) {
  constexpr uint64_t kCr0 = manual::kCr0Cd | manual::kCr0Nw | manual::kCr0Pg;
  constexpr uint64_t kCr4 =
      manual::kCr4Pae | manual::kCr4Pge | manual::kCr4Pse | manual::kCr4Smep;
  if (!PaePaging(after)) return false;
  return !PaePaging(before) || before.cr3 != after.cr3 ||
         Any(before.cr0 ^ after.cr0, kCr0) || Any(before.cr4 ^ after.cr4, kCr4);
}

// SDM 4.4.1, table 4-7: bits 31:5 of CR3. APM 5.2.3.
Gpa PdptesAt(const PagingRegisters& registers) {
  return Gpa(registers.cr3 & 0xffff'ffe0);
}

}  // namespace shadowmmu::testing
