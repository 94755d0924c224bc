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
inline constexpr uint64_t kProtection = 1u << 0;        // PE
inline constexpr uint64_t kWriteProtect = 1u << 16;     // WP
inline constexpr uint64_t kNotWriteThrough = 1u << 29;  // NW
inline constexpr uint64_t kCacheDisable = 1u << 30;     // CD
inline constexpr uint64_t kPaging = 1u << 31;           // PG
}  // namespace cr0
namespace cr4 {
inline constexpr uint64_t kPageSizeExtensions = 1u << 4;         // PSE
inline constexpr uint64_t kPhysicalAddressExtension = 1u << 5;   // PAE
inline constexpr uint64_t kGlobalPages = 1u << 7;                // PGE
inline constexpr uint64_t kFiveLevels = 1u << 12;                // LA57
inline constexpr uint64_t kProcessContextIds = 1u << 17;         // PCIDE
inline constexpr uint64_t kSupervisorNoExecute = 1u << 20;       // SMEP
inline constexpr uint64_t kSupervisorNoAccess = 1u << 21;        // SMAP
inline constexpr uint64_t kProtectionKeys = 1u << 22;            // PKE
inline constexpr uint64_t kControlFlow = 1u << 23;               // CET
inline constexpr uint64_t kSupervisorProtectionKeys = 1u << 24;  // PKS
inline constexpr uint64_t kLinearAddressMasking = 1u << 28;      // LAM_SUP
}  // namespace cr4
namespace efer {
inline constexpr uint64_t kLongModeEnable = 1u << 8;    // LME
inline constexpr uint64_t kLongModeActive = 1u << 10;   // LMA
inline constexpr uint64_t kNoExecuteEnable = 1u << 11;  // NXE
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
// 4.1.4). PAE and long mode are always there; PCIDs, supervisor protection
// keys, shadow stacks and linear-address masking never. MAXPHYADDR is the VM's
// (MmuConfig::guest_physical_bits).
struct CpuFeatures {
  bool page_size_extensions = true;  // PSE: pages of 4 MiB in 32-bit paging
  bool pse36 = true;                 // and these of up to 40 address bits
  bool one_gib_pages = true;         // long mode
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

// What the CPU that runs the guest must really hold while it does.
struct HardwareState {
  Hpa root = Hpa();   // for CR3
  uint64_t cr0 = 0;   // the paging bits to set: PG and WP, with PE
  uint64_t cr4 = 0;   // the paging bits to set; all others of `cr4::` clear
  uint64_t efer = 0;  // LME, LMA and NXE as the CPU needs them
  friend bool operator==(const HardwareState&, const HardwareState&) = default;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_REGISTERS_H_
