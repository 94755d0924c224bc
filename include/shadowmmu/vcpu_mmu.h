// VcpuMmu: the MMU of one virtual CPU: its paging registers, its root, its
// faults.
//
// A hypervisor's loop:
//
//   for (;;) {
//     FaultOutcome ready = vcpu.EnterGuest();
//     if (ready.resume()) {
//       ... load vcpu.HardwareState(), run the guest until it exits ...
//       vcpu.ExitGuest();
//     }
//     ... on a page fault: vcpu.HandleFault(Gva(cr2), access) ...
//   }
//
// Thread safety: one thread at a time per object. Objects of one VM are
// independent of each other and of the Mmu's own calls.

#ifndef SHADOWMMU_VCPU_MMU_H_
#define SHADOWMMU_VCPU_MMU_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/host.h"
#include "shadowmmu/mmu.h"

namespace shadowmmu {

// Bits of the control registers that paging depends on (SDM vol. 3, 2.5, 4.1;
// APM vol. 2, 3.1).
namespace cr0 {
inline constexpr uint64_t kProtection = 1u << 0;     // PE
inline constexpr uint64_t kWriteProtect = 1u << 16;  // WP
inline constexpr uint64_t kPaging = 1u << 31;        // PG
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
inline constexpr uint64_t kSupervisorProtectionKeys = 1u << 24;  // PKS
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

// What the CPU that runs the guest must really hold while it does.
struct HardwareState {
  Hpa root = Hpa();   // for CR3
  uint64_t cr0 = 0;   // the paging bits to set: PG and WP, with PE
  uint64_t cr4 = 0;   // the paging bits to set; all others of `cr4::` clear
  uint64_t efer = 0;  // LME, LMA and NXE as the CPU needs them
  friend bool operator==(const HardwareState&, const HardwareState&) = default;
};

struct VcpuState;  // the library's inside (src/mmu/vcpu_state.h)

class VcpuMmu {
 public:
  ~VcpuMmu();
  VcpuMmu(const VcpuMmu&) = delete;
  VcpuMmu& operator=(const VcpuMmu&) = delete;

  VcpuId id() const;

  // ---- Registers. Not while in the guest. ----

  // Takes a write of CR0, CR3, CR4 or EFER (the whole new set at once).
  // InvalidArgument: a combination that a CPU refuses (it raises #GP), naming
  // the register and the bit. Unimplemented: a mode that the library does not
  // have yet: 32-bit, PAE and five-level paging, CR0.WP clear, SMEP, SMAP,
  // protection keys, PCIDs. On an error nothing changes. On success the
  // vCPU's own TLB is flushed before its next entry.
  absl::Status SetRegisters(const PagingRegisters& registers);
  const PagingRegisters& registers() const;
  // Switches to the other guest physical address space (SMM entry and RSM).
  // InvalidArgument: there is no such space.
  absl::Status SetAddressSpace(AddressSpace space);
  AddressSpace address_space() const;

  // ---- Entering the guest ----

  // Serves what is due (a new root, a TLB flush), and marks the vCPU as in the
  // guest. kResume: load HardwareState() and enter. Otherwise the vCPU is not
  // in the guest, and the outcome says why: kMemoryFault (CR3 points outside
  // the slots), kNoMemory, kRetry. After kResume a Host::Kick that arrives
  // before the real entry must make that entry return at once.
  FaultOutcome EnterGuest();
  // The CPU has left the guest. Takes no lock.
  void ExitGuest();
  // Valid from a successful EnterGuest on, until ExitGuest; outside long mode
  // the four entries that `root` names may then change in place, so each entry
  // into the guest must read them again, as VMRUN and VM entry do. `root` has
  // no encryption bit.
  shadowmmu::HardwareState HardwareState() const;

  // ---- Faults. Not while in the guest. ----

  // The guest accessed `gva` and the CPU found no right to it in the shadow
  // tables. Finds what the guest's own tables say, and maps it. Ends in bounded
  // time; kRetry when others kept changing what it needs.
  FaultOutcome HandleFault(Gva gva, const Access& access);
  // What the guest's tables say about `gva`, for an emulator. Sets accessed
  // and dirty bits in the guest's tables as the access itself would. Maps
  // nothing.
  Translation Translate(Gva gva, const Access& access);
  // The guest executed INVLPG: nothing cached of `gva` is used any more.
  void Invlpg(Gva gva);

  // As in Mmu, in this vCPU's current address space.
  FaultOutcome GuestWrite(Gpa gpa, std::span<const std::byte> bytes);
  absl::StatusOr<GuestExchange> GuestCompareExchange(Gpa gpa, unsigned size,
                                                     uint64_t expected,
                                                     uint64_t desired);

 private:
  friend class Mmu;
  VcpuMmu(Vm& vm, std::unique_ptr<VcpuState> state);

  Vm& vm_;
  const std::unique_ptr<VcpuState> state_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_VCPU_MMU_H_
