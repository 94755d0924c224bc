// Statistics: what a run of a guest cost: exits by reason, faults by outcome,
// what was emulated, and the longest that the guest was kept waiting.
//
// Each vCPU counts for itself, and what is done to the VM is counted apart; the
// sum is the guest's: times of vCPUs that ran beside each other add up.
//
// Thread safety: none.

#ifndef HYPERVISOR_VCPU_STATISTICS_H_
#define HYPERVISOR_VCPU_STATISTICS_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "shadowmmu/fault.h"
#include "shadowmmu/stats.h"
#include "svm/vmcb.h"

namespace hypervisor {

class ExitStatistics {
 public:
  using Rows = std::vector<std::pair<std::string, uint64_t>>;

  void CountExit(ExitCode code);
  void CountFault(const shadowmmu::FaultOutcome& outcome);
  // Times of the one clock. The pause is from an exit to the next entry, but
  // for the waiting of a guest that halts.
  void CountEntry(uint64_t now);
  void CountReturn(uint64_t now);
  void CountHalt(uint64_t nanoseconds);

  // Everything was made obsolete, by a bump or by zap-all; some of what a bump
  // left was taken away. How long that took.
  void CountBump(uint64_t nanoseconds);
  void CountReclaim(uint64_t nanoseconds);

  void Add(const ExitStatistics& other);

  uint64_t exits() const { return exits_; }

  uint64_t emulated_instructions = 0;
  uint64_t interrupts = 0;
  uint64_t unplugs = 0;
  uint64_t audits = 0;
  uint64_t run_ns = 0;

  // One JSON object with what the library counted beside it; and a table.
  std::string Json(const shadowmmu::Stats& mmu) const;
  std::string Table(const shadowmmu::Stats& mmu) const;

 private:
  struct Group {
    std::string name;
    Rows rows;
  };
  std::vector<Group> Groups(const shadowmmu::Stats& mmu) const;

  static constexpr size_t kCodes = 0x100;  // one more for all others
  static constexpr size_t kOutcomes = 8;

  uint64_t exits_ = 0;
  uint64_t bumps_ = 0;
  uint64_t bump_ns_ = 0;
  uint64_t longest_bump_ = 0;
  uint64_t reclaim_ns_ = 0;
  uint64_t longest_reclaim_ = 0;
  uint64_t longest_pause_ = 0;
  uint64_t halted_ns_ = 0;
  uint64_t guest_ns_ = 0;  // VMRUN to #VMEXIT
  uint64_t entered_ = 0;
  uint64_t returned_ = 0;  // of the last exit; 0: there was none
  uint64_t waited_ = 0;    // since then
  struct Reason {
    uint64_t exits = 0;
    uint64_t ns = 0;  // from there to the next entry
  };
  std::array<Reason, kCodes + 1> by_code_ = {};
  Reason* last_ = nullptr;  // of by_code_
  std::array<uint64_t, kOutcomes> by_outcome_ = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_STATISTICS_H_
