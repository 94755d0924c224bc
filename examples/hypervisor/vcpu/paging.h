// Paging: the guest's CR0, CR3, CR4 and EFER. What paging depends on is the
// library's; the rest goes to the CPU as it is.
//
//  1. A write that a CPU refuses changes nothing, and is #GP(0) (APM vol. 2,
//     3.1, 14.6.2, 14.7.1).
//  2. The CPU never has the guest's own values: Load puts into the VMCB what
//     the library says, beside the bits that are none of its business.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_PAGING_H_
#define HYPERVISOR_VCPU_PAGING_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "emulate/exception.h"
#include "shadowmmu/vcpu_mmu.h"
#include "svm/vmcb.h"

namespace hypervisor {

class Paging {
 public:
  // `mmu` outlives this. `allowed_cr4`: the bits that the guest's CPUID offers.
  Paging(shadowmmu::VcpuMmu& mmu, uint64_t allowed_cr4);

  uint64_t cr0() const { return cr0_; }
  uint64_t cr3() const { return mmu_.registers().cr3; }
  uint64_t cr4() const { return cr4_; }
  uint64_t efer() const { return efer_; }

  // CR0, CR3 and CR4 by number; nullopt: the guest has none of that number
  // here (#UD).
  std::optional<uint64_t> Read(unsigned number) const;
  std::optional<Exception> Write(unsigned number, uint64_t value);

  // The guest wrote the register. nullopt: it has the value now.
  std::optional<Exception> WriteCr0(uint64_t value);
  std::optional<Exception> WriteCr3(uint64_t value);
  std::optional<Exception> WriteCr4(uint64_t value);
  std::optional<Exception> WriteEfer(uint64_t value);
  // All at once, as a loader or a task switch gives them.
  std::optional<Exception> Set(uint64_t cr0, uint64_t cr3, uint64_t cr4,
                               uint64_t efer);

  // After VcpuMmu::EnterGuest, before the entry.
  void Load(Vmcb& vmcb) const;

 private:
  std::optional<Exception> Commit(uint64_t cr0, uint64_t cr3, uint64_t cr4,
                                  uint64_t efer);

  shadowmmu::VcpuMmu& mmu_;
  const uint64_t allowed_cr4_;
  uint64_t cr0_;
  uint64_t cr4_ = 0;
  uint64_t efer_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_PAGING_H_
