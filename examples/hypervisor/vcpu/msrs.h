// Msrs: the model-specific registers whose accesses exit. What is not here does
// not exist: #GP(0).
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_MSRS_H_
#define HYPERVISOR_VCPU_MSRS_H_

#include <cstdint>
#include <optional>

#include "emulate/exception.h"
#include "svm/vmcb.h"
#include "vcpu/board.h"
#include "vcpu/paging.h"

namespace hypervisor {

class Msrs {
 public:
  // All outlive this. `physical_bits` is how wide the guest's addresses are.
  Msrs(unsigned vcpu, Paging& paging, Board& board, Vmcb& vmcb,
       unsigned physical_bits)
      : vcpu_(vcpu),
        paging_(paging),
        board_(board),
        vmcb_(vmcb),
        physical_bits_(physical_bits),
        apic_base_(kLocalApicBase | kApicEnabled |
                   (vcpu == 0 ? kBootstrapCpu : 0)) {}

  // nullopt: #GP(0).
  std::optional<uint64_t> Read(uint32_t msr) const;
  // nullopt: it is written.
  std::optional<Exception> Write(uint32_t msr, uint64_t value);

  // APIC_BASE.EN.
  bool apic_enabled() const { return (apic_base_ & kApicEnabled) != 0; }

 private:
  // False: #GP(0).
  bool WriteApicBase(uint64_t value);

  static constexpr uint64_t kBootstrapCpu = 1u << 8;
  static constexpr uint64_t kApicEnabled = 1u << 11;

  const unsigned vcpu_;
  Paging& paging_;
  Board& board_;
  Vmcb& vmcb_;
  const unsigned physical_bits_;
  uint64_t pat_ = 0x0007'0406'0007'0406;  // at reset (APM vol. 2, 7.8.2)
  // MTRRs on, write-back where none says otherwise (7.7.2.2).
  uint64_t mtrr_default_type_ = 0x806;
  uint64_t apic_base_;
  uint64_t misc_enable_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_MSRS_H_
