#include "vcpu/nmi_window.h"

#include "emulate/cpu_state.h"

namespace hypervisor {
namespace {

constexpr uint32_t kDebugException = 1u << 1;

}  // namespace

void NmiWindow::BeforeEntry(const Events& events, Vmcb& vmcb) {
  if (events.NmiMasked() && !leaving_) {
    vmcb.intercepts_1 |= intercept_1::kIret;
  } else {
    vmcb.intercepts_1 &= ~intercept_1::kIret;
  }
  if (stepping_) {
    vmcb.intercept_exceptions |= kDebugException;
  } else {
    vmcb.intercept_exceptions &= ~kDebugException;
  }
}

NmiWindow::Exit NmiWindow::AfterExit(Events& events, Vmcb& vmcb) {
  const auto code = static_cast<ExitCode>(vmcb.exit_code);
  if (!leaving_) {
    if (code != ExitCode::kIret) return Exit::kAnother;
    leaving_ = true;
    stepping_ = events.NmiWaits();
    iret_rip_ = vmcb.rip;
    trap_flag_ = vmcb.rflags & rflags::kTf;
    dr6_ = vmcb.dr6;
    if (stepping_) vmcb.rflags |= rflags::kTf;
    return Exit::kOwn;
  }
  const bool stepped = stepping_ && code == ExitCode::kDebug;
  leaving_ = stepping_ = false;
  if (!stepped && vmcb.rip == iret_rip_) {
    vmcb.rflags = (vmcb.rflags & ~rflags::kTf) | trap_flag_;
    return Exit::kAnother;
  }
  events.UnmaskNmi();
  if (!stepped) return Exit::kAnother;
  // The guest's own step, too, if it makes one.
  if (trap_flag_ != 0) {
    events.Raise({ExceptionVector::kDebug, std::nullopt, {}});
  } else {
    vmcb.dr6 = dr6_;
  }
  return Exit::kOwn;
}

}  // namespace hypervisor
