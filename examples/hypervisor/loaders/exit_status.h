// ExitStatus: how a run of a guest ends, as `run` exits with it.
//
// The hypervisor tells QEMU by the exit port, which has 7 bits for it: QEMU
// then exits with 2 * status + 1.
//
// Thread safety: a pure function.

#ifndef HYPERVISOR_LOADERS_EXIT_STATUS_H_
#define HYPERVISOR_LOADERS_EXIT_STATUS_H_

#include <algorithm>
#include <cstdint>

namespace hypervisor {

enum class ExitStatus : uint8_t {
  kSuccess = 0,
  // What the guest wrote to its exit port, if it is not more than this.
  kLargestOfGuest = 119,
  // The guest reset the machine, or shut down by a triple fault.
  kReset = 120,
  // The guest halted with interrupts disabled: nothing will ever happen.
  kHalted = 121,
  // The time of `timeout_s` was over.
  kTimeout = 122,
  // The bundle is none, or there is no room for it.
  kBadBundle = 123,
  // Above: the hypervisor failed (boot/exit.h).
};

constexpr ExitStatus GuestExitStatus(uint32_t code) {
  return static_cast<ExitStatus>(
      std::min(code, static_cast<uint32_t>(ExitStatus::kLargestOfGuest)));
}

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_EXIT_STATUS_H_
