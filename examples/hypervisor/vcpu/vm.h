// Vm: a guest as a whole: its memory in slots of the library, its board, and
// how it ends.
//
//   slot 0   [0, 0xa0000)          RAM
//   slot 1   [0xc0000, 0x100000)   ROM: zeros, read-only
//   slot 2   [0x100000, size)      RAM
//
// Everything else is the board's, or nobody's.
//
// Thread safety: one thread.

#ifndef HYPERVISOR_VCPU_VM_H_
#define HYPERVISOR_VCPU_VM_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/clock.h"
#include "devices/machine.h"
#include "host/hypervisor_host.h"
#include "loaders/exit_status.h"
#include "loaders/guest_options.h"
#include "shadowmmu/mmu.h"
#include "vcpu/statistics.h"

namespace hypervisor {

class Vm {
 public:
  // `memory`, the guest's from address 0 on, and `clock` outlive the Vm.
  static absl::StatusOr<std::unique_ptr<Vm>> Create(
      std::span<std::byte> memory, Clock& clock, const GuestOptions& options,
      unsigned guest_physical_bits);
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  shadowmmu::Mmu& mmu() { return *mmu_; }
  Machine& machine() { return *machine_; }
  Clock& clock() { return clock_; }
  const GuestOptions& options() const { return options_; }
  ExitStatistics& statistics() { return statistics_; }

  // The first call counts.
  void End(ExitStatus status);
  std::optional<ExitStatus> ended() const { return ended_; }

  // While the guest is out: does what the options ask for while it runs, and is
  // due: bumps, slots that go and come back, audits, input, the time limit. An
  // error: the library is not as it should be.
  absl::Status Tick();

 private:
  // Takes the RAM's slot away, and brings it back with what was in it.
  absl::Status ReplugMemory();
  // Makes every shadow page obsolete.
  void Invalidate();
  absl::Status Audit();
  void ReceiveInput();

  Vm(std::span<std::byte> memory, Clock& clock, const GuestOptions& options);
  absl::Status Init(unsigned guest_physical_bits);

  const std::span<std::byte> memory_;
  Clock& clock_;
  const GuestOptions options_;
  HypervisorHost host_;
  std::unique_ptr<shadowmmu::Mmu> mmu_;
  std::unique_ptr<Machine> machine_;
  ExitStatistics statistics_;
  bool obsolete_left_ = false;  // a bump's pages are not all reclaimed
  uint64_t next_bump_ = 0;
  uint64_t next_replug_ = 0;
  uint64_t next_audit_ = 0;  // a number of exits
  uint64_t next_input_ = 0;
  std::optional<ExitStatus> ended_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_VM_H_
