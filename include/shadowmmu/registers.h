// What the paging of a CPU depends on besides its tables: control registers,
// the features that its CPUID names, PDPTE registers; and what the CPU that
// runs a guest on shadow tables must hold instead.
//
// Thread safety: values.

#ifndef SHADOWMMU_REGISTERS_H_
#define SHADOWMMU_REGISTERS_H_

#include <array>
#include <cstdint>

#include "shadowmmu/address.h"
#include "shadowmmu/host.h"

namespace shadowmmu {

// Bits of the control registers that paging depends on (SDM vol. 3, 2.5, 4.1;
// APM vol. 2, 3.1).
namespace cr0 {
inline constexpr uint64_t kPe = 1u << 0;
inline constexpr uint64_t kWp = 1u << 16;
inline constexpr uint64_t kNw = 1u << 29;
inline constexpr uint64_t kCd = 1u << 30;
inline constexpr uint64_t kPg = 1u << 31;
}  // namespace cr0
namespace cr3 {
inline constexpr uint64_t kPcid = 0xfff;  // with CR4.PCIDE
// Of the operand of MOV to CR3 only, with CR4.PCIDE: what is cached of the PCID
// stays.
inline constexpr uint64_t kNoFlush = uint64_t{1} << 63;
}  // namespace cr3
namespace cr4 {
inline constexpr uint64_t kPse = 1u << 4;
inline constexpr uint64_t kPae = 1u << 5;
inline constexpr uint64_t kPge = 1u << 7;
inline constexpr uint64_t kLa57 = 1u << 12;
inline constexpr uint64_t kPcide = 1u << 17;
inline constexpr uint64_t kSmep = 1u << 20;
inline constexpr uint64_t kSmap = 1u << 21;
inline constexpr uint64_t kPke = 1u << 22;
inline constexpr uint64_t kCet = 1u << 23;
inline constexpr uint64_t kPks = 1u << 24;
inline constexpr uint64_t kLamSup = 1u << 28;
}  // namespace cr4
namespace efer {
inline constexpr uint64_t kLme = 1u << 8;
inline constexpr uint64_t kLma = 1u << 10;
inline constexpr uint64_t kNxe = 1u << 11;
}  // namespace efer

// The guest's view of its paging registers. The values at reset: paging off.
struct PagingRegisters {
  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  friend bool operator==(const PagingRegisters&,
                         const PagingRegisters&) = default;
};

// The four page-directory-pointer entries of PAE paging, which a CPU holds in
// registers (SDM vol. 3, 4.4.1): what memory says later does not count.
using Pdptes = std::array<uint64_t, 4>;

// What a guest's CPU has of paging, as CPUID tells the guest (SDM vol. 3,
// 4.1.4). PAE and long mode are always there; supervisor protection keys,
// shadow stacks and linear-address masking never. MAXPHYADDR is the VM's
// (MmuConfig::guest_physical_bits).
struct CpuFeatures {
  bool page_size_extensions = true;  // PSE: pages of 4 MiB in 32-bit paging
  bool pse36 = true;                 // and these of up to 40 address bits
  bool one_gib_pages = true;         // long mode
  bool pcid = true;                  // CR4.PCIDE
  bool invpcid = true;
  // Of these the walking CPU must have as much: the guest uses them with no
  // exit, or they are in the entries that it walks.
  bool no_execute = true;       // EFER.NXE
  bool smep = true;             // CR4.SMEP
  bool smap = true;             // CR4.SMAP
  bool protection_keys = true;  // CR4.PKE, and WRPKRU
  bool five_levels = true;      // CR4.LA57

  // Everything that a walking CPU of this format can back. SMEP needs its NX,
  // too: with CR0.WP clear pages are mapped that supervisor code may write and
  // not fetch (docs/design.md).
  static constexpr CpuFeatures BackedBy(const EntryFormat& format) {
    CpuFeatures all;
    all.no_execute = format.has_no_execute;
    all.smep = format.has_smep && format.has_no_execute;
    all.smap = format.has_smap;
    all.protection_keys = format.has_protection_keys;
    all.five_levels = format.has_five_levels;
    return all;
  }
  friend bool operator==(const CpuFeatures&, const CpuFeatures&) = default;
};

// INVPCID (SDM vol. 2; vol. 3, 4.10.4.1): the type in its register operand,
enum class InvpcidType : uint64_t {
  kAddress = 0,        // what is cached of one address, of one PCID
  kContext = 1,        // of one PCID, global translations apart
  kAllWithGlobal = 2,  // of every PCID, global translations included
  kAll = 3,            // of every PCID, global translations apart
};
// and the descriptor in its memory operand, as the guest has it there.
struct InvpcidDescriptor {
  uint64_t pcid = 0;  // bits 63:12 are reserved
  Gva gva = Gva();
};

// What the CPU that runs the guest must really hold while it does. Beside it
// the guest's own EFLAGS.AC and, where cr4 has PKE, the guest's own PKRU: pages
// have the guest's rights and keys, and STAC, CLAC and WRPKRU need no exit.
struct HardwareState {
  Hpa root = Hpa();   // for CR3
  uint64_t cr0 = 0;   // the paging bits to set: PG and WP, with PE
  uint64_t cr4 = 0;   // the paging bits to set; all others of `cr4::` clear
  uint64_t efer = 0;  // LME, LMA and NXE as the CPU needs them
  friend bool operator==(const HardwareState&, const HardwareState&) = default;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_REGISTERS_H_
