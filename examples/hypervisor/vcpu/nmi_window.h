// NmiWindow: finds the end of the guest's IRET after an NMI, which is when
// another one may be delivered (APM vol. 2, 8.2.3, 15.20).
//
//  1. While NMIs are masked IRET exits, before it is executed. It then is, by
//     one step with RFLAGS.TF if an NMI waits for its end.
//  2. An IRET that exits for another reason, or whose delivery does, has not
//     been executed: RIP is still there, and it starts anew.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_NMI_WINDOW_H_
#define HYPERVISOR_VCPU_NMI_WINDOW_H_

#include <cstdint>

#include "svm/vmcb.h"
#include "vcpu/events.h"

namespace hypervisor {

class NmiWindow {
 public:
  // Whether an exit was for this window, and has been served.
  enum class Exit : uint8_t { kOwn, kAnother };

  void BeforeEntry(const Events& events, Vmcb& vmcb);
  Exit AfterExit(Events& events, Vmcb& vmcb);

 private:
  // IRET has exited, and has been let go.
  bool leaving_ = false;
  bool stepping_ = false;
  uint64_t iret_rip_ = 0;
  // As they were before the step.
  uint64_t trap_flag_ = 0;
  uint64_t dr6_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_NMI_WINDOW_H_
