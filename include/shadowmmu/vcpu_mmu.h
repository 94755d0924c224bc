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
#include "shadowmmu/registers.h"

namespace shadowmmu {

struct VcpuState;  // the library's inside (src/mmu/vcpu_state.h)

class VcpuMmu {
 public:
  ~VcpuMmu();
  VcpuMmu(const VcpuMmu&) = delete;
  VcpuMmu& operator=(const VcpuMmu&) = delete;

  VcpuId id() const;

  // ---- Registers. Not while in the guest. ----

  // Takes a write of CR0, CR3, CR4 or EFER: the whole new set at once.
  // InvalidArgument: a combination that a CPU with these features refuses (it
  // raises #GP), naming the register and the bit. That a single MOV or WRMSR
  // may not step from the old set to the new one (EFER.LME while CR0.PG is set,
  // CR4.LA57 in long mode: SDM vol. 3, 2.5, 4.1.2) is not looked at: states
  // are also loaded as a whole. Nor can CR3 hold bit 63, cr3::kNoFlush. On an
  // error nothing changes. On success nothing cached of any PCID is used any
  // more, and the vCPU's own TLB is flushed before its next entry.
  //
  // With PAE paging the PDPTEs are loaded from guest memory when SDM vol. 3,
  // 4.4.1 says that they are: CR3 is another, PAE paging begins, or one of
  // CR0.CD, CR0.NW, CR4.PGE, CR4.PSE and CR4.SMEP changes; in the address space
  // that the vCPU has then (RSM: SetAddressSpace first). InvalidArgument as
  // well: one that is present has a reserved bit set (#GP). NotFound: CR3 leads
  // outside the slots. FailedPrecondition: the Host has nothing there.
  // Unavailable: a notifier is about to take the memory away, or its slot is
  // being deleted; try again.
  absl::Status SetRegisters(const PagingRegisters& registers);
  // The same for a state that is loaded as a whole (a snapshot, a migration,
  // RSM), PDPTEs included: these are taken as they are, and checked, and memory
  // is not read. Without PAE paging they must be zero (InvalidArgument).
  absl::Status SetRegisters(const PagingRegisters& registers,
                            const Pdptes& pdptes);
  // MOV to CR3 of `cr3`, with SetRegisters' errors; the PDPTEs are loaded even
  // if it is the value that CR3 has. With CR4.PCIDE bits 11:0 are the PCID that
  // is current from then on, and bit 63 (cr3::kNoFlush), which CR3 does not
  // keep, says whether what is cached of that PCID may still be used; otherwise
  // none of it is. What is cached of other PCIDs may still be used when the
  // guest comes back to them.
  absl::Status WriteCr3(uint64_t cr3);
  const PagingRegisters& registers() const;
  // As last loaded; zero outside PAE paging.
  const Pdptes& pdptes() const;
  // What the vCPU's CPU has, as its CPUID says. At first: everything that the
  // walking CPU can back. InvalidArgument: a feature that it cannot, or the
  // registers use one that is taken away, naming it; nothing changes then.
  absl::Status SetFeatures(const CpuFeatures& features);
  const CpuFeatures& features() const;
  // Switches to the other guest physical address space (SMM entry and RSM).
  // Loads no PDPTEs.
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
  // Maps a range of 4 KiB pages at once, as if the guest accessed each in turn:
  // when a guest starts, or after a release, so that it need not fault for
  // each. What an access would not map is left out: what the guest's tables do
  // not let through, no slot holds, the Host refuses, or must be emulated.
  // Stops early, and says where, when there is no room but by taking shadow
  // pages that are in use (kNoMemory), or when something was in the way for too
  // long (kRetry). Sets A, and D for a write, in the guest's tables as the
  // accesses would; reads a CPU may do ahead, too (SDM vol. 3, 4.8). Takes the
  // MMU lock for some dozens of pages at a time.
  PrefaultResult Prefault(Gva first, uint64_t pages, const Access& access);
  // What the guest's tables say about `gva`, for an emulator. Sets accessed
  // and dirty bits in the guest's tables as the access itself would. Maps
  // nothing.
  Translation Translate(Gva gva, const Access& access);
  // The guest executed INVLPG: nothing cached of `gva` is used any more, in the
  // mode and the address space that the vCPU has now: under the CR3 that it has
  // now and, with CR4.PCIDE, under each that it may write without a flush.
  void Invlpg(Gva gva);
  // The guest executed INVPCID: nothing that `type` names is used any more.
  // Global translations are not told apart: more may go than the type says.
  // FailedPrecondition: the vCPU has no INVPCID (#UD). InvalidArgument (#GP),
  // naming what is wrong: an unknown type, bits 63:12 of descriptor.pcid; of
  // kAddress, a gva that is not canonical; of kAddress and kContext, a PCID
  // other than 0 with CR4.PCIDE clear. On an error nothing changes.
  absl::Status Invpcid(InvpcidType type, const InvpcidDescriptor& descriptor);

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
