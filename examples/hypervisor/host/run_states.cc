#include "host/run_states.h"

#include "boot/apic_timer.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/processors.h"
#include "boot/tsc_clock.h"

namespace hypervisor {
namespace {

using shadowmmu::VcpuId;
using shadowmmu::VcpuSet;

// Longer than any machine keeps a CPU from running.
constexpr uint64_t kPatience = 60'000'000'000;  // ns

// Where the machine is a virtual one, the CPU that is waited for may itself
// wait for a processor.
constexpr uint64_t kSpin = 100'000;  // ns
constexpr uint64_t kNap = 50'000;

constexpr bool IsInside(uint64_t turn) { return turn % 2 != 0; }

}  // namespace

// All are seq_cst: rule 2.

void RunStates::Bind(unsigned vcpu) { states_[vcpu].cpu.store(CpuIndex()); }

void RunStates::Prepare(unsigned vcpu) { states_[vcpu].recalled.store(false); }

bool RunStates::Begin(unsigned vcpu) {
  State& state = states_[vcpu];
  state.turn.fetch_add(1);
  if (!state.recalled.load()) return true;
  state.turn.fetch_add(1);
  return false;
}

void RunStates::End(unsigned vcpu) { states_[vcpu].turn.fetch_add(1); }

void RunStates::ClearNews(unsigned vcpu) { states_[vcpu].news.store(false); }

bool RunStates::HasNews(unsigned vcpu) const {
  return states_[vcpu].news.load();
}

void RunStates::Interrupt(const State& state) {
  const uint32_t cpu = state.cpu.load();
  // Who calls is out of the guest, and not halted.
  if (cpu != kNowhere && cpu != CpuIndex()) WakeCpu(cpu);
}

void RunStates::Notify(unsigned vcpu) {
  State& state = states_[vcpu];
  // One interrupt is enough until the vCPU looks.
  if (!state.news.exchange(true)) Interrupt(state);
}

void RunStates::NotifyAll() {
  for (unsigned vcpu = 0; vcpu < states_.size(); ++vcpu) Notify(vcpu);
}

void RunStates::Recall(const VcpuSet& set) {
  for (unsigned vcpu = 0; vcpu < states_.size(); ++vcpu) {
    if (!set.Contains(VcpuId{vcpu})) continue;
    State& state = states_[vcpu];
    state.recalled.store(true);
    if (IsInside(state.turn.load())) Interrupt(state);
  }
}

void RunStates::AwaitExit(const VcpuSet& set) {
  std::array<uint64_t, kMaxCpus> turns = {};
  for (unsigned vcpu = 0; vcpu < states_.size(); ++vcpu) {
    if (!set.Contains(VcpuId{vcpu})) continue;
    State& state = states_[vcpu];
    state.recalled.store(true);
    turns[vcpu] = state.turn.load();
    if (IsInside(turns[vcpu])) Interrupt(state);
  }
  const uint64_t start = MonotonicNanoseconds();
  for (unsigned vcpu = 0; vcpu < states_.size(); ++vcpu) {
    while (IsInside(turns[vcpu]) && states_[vcpu].turn.load() == turns[vcpu]) {
      Pause();
      const uint64_t now = MonotonicNanoseconds();
      if (now - start > kPatience) {
        ExitBecause("a vCPU does not leave the guest");
      }
      if (now - start <= kSpin) continue;
      SleepUntil(now + kNap);
    }
  }
}

}  // namespace hypervisor
