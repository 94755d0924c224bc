// What a CPU makes of its paging registers, from the manuals: which sets of
// them it accepts, which paging mode they name, when the PDPTE registers are
// loaded. A part of the oracle: it shares no code with the library.
//
// Sources: Intel SDM vol. 3 ("SDM"), AMD APM vol. 2 ("APM"). Each rule cites
// its section where it stands in the code.
//
// Rules:
//  1. A set of registers is judged as a whole, as VM entry does (SDM 26.3.1.1):
//     that no single instruction may lead to it does not matter.
//  2. Only bits that paging depends on are judged.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_HARNESS_ORACLE_REGISTERS_H_
#define SHADOWMMU_TESTS_HARNESS_ORACLE_REGISTERS_H_

#include <cstdint>

#include "shadowmmu/address.h"
#include "shadowmmu/registers.h"

namespace shadowmmu::testing {

// Bits of the control registers (SDM 2.5, 2.2.1; APM 3.1), written down here
// once more on purpose.
namespace manual {
inline constexpr uint64_t kCr0Pe = 0x1;
inline constexpr uint64_t kCr0Wp = 0x1'0000;
inline constexpr uint64_t kCr0Nw = 0x2000'0000;
inline constexpr uint64_t kCr0Cd = 0x4000'0000;
inline constexpr uint64_t kCr0Pg = 0x8000'0000;
inline constexpr uint64_t kCr3Pcid = 0xfff;
inline constexpr uint64_t kCr3NoFlush = 0x8000'0000'0000'0000;
inline constexpr uint64_t kCr4Pse = 0x10;
inline constexpr uint64_t kCr4Pae = 0x20;
inline constexpr uint64_t kCr4Pge = 0x80;
inline constexpr uint64_t kCr4La57 = 0x1000;
inline constexpr uint64_t kCr4Pcide = 0x2'0000;
inline constexpr uint64_t kCr4Smep = 0x10'0000;
inline constexpr uint64_t kCr4Smap = 0x20'0000;
inline constexpr uint64_t kCr4Pke = 0x40'0000;
inline constexpr uint64_t kCr4Cet = 0x80'0000;
inline constexpr uint64_t kCr4Pks = 0x100'0000;
inline constexpr uint64_t kCr4LamSup = 0x1000'0000;
inline constexpr uint64_t kEferLme = 0x100;
inline constexpr uint64_t kEferLma = 0x400;
inline constexpr uint64_t kEferNxe = 0x800;
}  // namespace manual

// SDM 4.1.1, figure 4-1; APM 5.1.
enum class PagingMode : uint8_t {
  kOff,
  k32Bit,
  kPae,
  kFourLevels,
  kFiveLevels
};
PagingMode PagingModeOf(const PagingRegisters& registers);
bool PaePaging(const PagingRegisters& registers);

// Does a CPU with these features, and MAXPHYADDR `physical_bits`, accept the
// registers? Else it raises #GP(0).
bool CpuAccepts(const PagingRegisters& registers, const CpuFeatures& features,
                unsigned physical_bits);

// ---- PCIDs (SDM 4.10.1, 4.10.4.1) ----

// The current one.
uint64_t PcidOf(const PagingRegisters& registers);
// What CR3 holds after MOV to CR3 of `operand`, if it is accepted.
uint64_t Cr3After(const PagingRegisters& before, uint64_t operand);
// Does that MOV to CR3 flush what is cached of the PCID that it makes current?
bool Cr3WriteFlushes(const PagingRegisters& before, uint64_t operand);
// How INVPCID ends (SDM vol. 2).
enum class InvpcidEnd : uint8_t { kDone, kUndefinedOpcode, kProtection };
InvpcidEnd InvpcidEnds(const PagingRegisters& registers,
                       const CpuFeatures& features, uint64_t type,
                       const InvpcidDescriptor& descriptor);

// Does it accept these PDPTEs?
bool PdptesAccepted(const Pdptes& pdptes, unsigned physical_bits);
// Are the PDPTEs loaded from memory when these registers follow those? A MOV to
// CR3 always loads them where PAE paging is in use.
bool ReloadsPdptes(const PagingRegisters& before, const PagingRegisters& after);
// Where the four PDPTEs lie.
Gpa PdptesAt(const PagingRegisters& registers);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_ORACLE_REGISTERS_H_
