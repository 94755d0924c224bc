// Vm: a guest as a whole: its memory in slots of the library, its board, and
// how it ends.
//
//   slot 0   [0, 0xa0000)          RAM
//   slot 1   [0xc0000, 0x100000)   ROM: zeros, read-only
//   slot 2   [0x100000, size)      RAM
//
// Everything else is the board's, or nobody's.
//
// Thread safety: any thread. What the options ask for while the guest runs is
// done by one vCPU's thread at a time, whichever is there. `tick_lock_` comes
// before `memory_lock()`, and that before the locks of the library and of the
// board.

#ifndef HYPERVISOR_VCPU_VM_H_
#define HYPERVISOR_VCPU_VM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "devices/clock.h"
#include "host/hypervisor_host.h"
#include "loaders/exit_status.h"
#include "loaders/guest_options.h"
#include "shadowmmu/mmu.h"
#include "vcpu/board.h"
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
  Board& board() { return *board_; }
  RunStates& states() { return host_.states(); }
  Clock& clock() { return clock_; }
  const GuestOptions& options() const { return options_; }

  // Held shared while what a vCPU does depends on the guest's RAM being there:
  // --unplug-every takes it away and brings it back with this held exclusively,
  // so that no vCPU takes its memory for absent. Not held in the guest, nor for
  // what the library finds out by itself and may be asked again: so vCPUs run,
  // and fault, while the slot goes. Nobody waits with it.
  absl::Mutex& memory_lock() ABSL_LOCK_RETURNED(memory_lock_) {
    return memory_lock_;
  }

  // Raised when RAM goes, and when it is back: equal before and after something
  // that was done without memory_lock(), the second time with it, if it was
  // there all the time.
  uint64_t replugs() const { return replugs_.load(); }

  // A vCPU has exited: audits are due by the number.
  void CountExit() { exits_.fetch_add(1, std::memory_order_relaxed); }
  // What a vCPU that has ended has counted.
  void AddStatistics(const ExitStatistics& of_vcpu)
      ABSL_LOCKS_EXCLUDED(tick_lock_);
  // Of the VM, and of the vCPUs that were added.
  ExitStatistics statistics() ABSL_LOCKS_EXCLUDED(tick_lock_);

  // The first call counts. Every vCPU has news then.
  void End(ExitStatus status);
  std::optional<ExitStatus> ended() const {
    const uint32_t status = ended_.load();
    if (status == kRuns) return std::nullopt;
    return static_cast<ExitStatus>(status);
  }

  // Called by each vCPU's thread between two turns: does what the options ask
  // for while the guest runs, and is due: bumps, slots that go and come back,
  // audits, input, the time limit; nothing while another thread is at it. An
  // error: the library is not as it should be.
  absl::Status Tick(unsigned vcpu) ABSL_LOCKS_EXCLUDED(tick_lock_);

 private:
  absl::Status DoWhatIsDue(unsigned vcpu)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(tick_lock_);
  // Takes the RAM's slot away, and brings it back with what was in it.
  absl::Status ReplugMemory() ABSL_LOCKS_EXCLUDED(memory_lock_);
  // Makes every shadow page obsolete.
  void Invalidate() ABSL_EXCLUSIVE_LOCKS_REQUIRED(tick_lock_);
  absl::Status Audit();
  void ReceiveInput(unsigned vcpu);

  Vm(std::span<std::byte> memory, Clock& clock, const GuestOptions& options);
  absl::Status Init(unsigned guest_physical_bits);

  const std::span<std::byte> memory_;
  Clock& clock_;
  const GuestOptions options_;
  HypervisorHost host_;
  std::unique_ptr<shadowmmu::Mmu> mmu_;
  std::unique_ptr<Board> board_;
  std::atomic<uint64_t> exits_ = 0;
  std::atomic<uint64_t> replugs_ = 0;

  absl::Mutex tick_lock_ ABSL_ACQUIRED_BEFORE(memory_lock_);
  absl::Mutex memory_lock_;
  ExitStatistics statistics_ ABSL_GUARDED_BY(tick_lock_);
  // A bump's pages are not all reclaimed.
  bool obsolete_left_ ABSL_GUARDED_BY(tick_lock_) = false;
  uint64_t next_bump_ ABSL_GUARDED_BY(tick_lock_) = 0;
  uint64_t next_replug_ ABSL_GUARDED_BY(tick_lock_) = 0;
  uint64_t next_audit_ ABSL_GUARDED_BY(tick_lock_) = 0;  // a number of exits
  uint64_t next_input_ ABSL_GUARDED_BY(tick_lock_) = 0;

  // An ExitStatus, or none.
  static constexpr uint32_t kRuns = ~0u;
  std::atomic<uint32_t> ended_ = kRuns;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_VM_H_
