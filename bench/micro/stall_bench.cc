// Stall/<what>/N:<N>: what a vCPU that faults all the time feels of an
// operation on another CPU, in a VM that has N pages mapped, half of them in a
// slot that goes. <what>: `nothing` (as long, and only the machine's own
// noise), `delete_<policy>` (the slot), `zap_all`, `obsolete_walk` and
// `release` (each of everything), `bump` (the obsolete pages stay), `flags`
// (the slot becomes read-only, and is writable again).
//
// The vCPU takes write faults on pages of the other slot, one after another,
// again and again; each is timed. Figures are microseconds, medians of the
// rounds: `op`, how long the operation took; `stall`, the longest fault while
// it did, and `stall_max` of all rounds; `lock`, the longest that the MMU lock
// was held exclusively in all of them (two looks at the clock for each hold);
// `holds_<ns>`, how many holds of a round took so long or longer, and less than
// twice as long (the first one, of 512: all shorter ones, too), the mean of all
// rounds. `faults`: how many there were meanwhile.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/pin.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"

namespace shadowmmu::bench {
namespace {

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

enum class What : uint8_t {
  kNothing,
  kDeleteTargeted,
  kDeleteWalk,
  kDeleteRelease,
  kDeleteAuto,
  kZapAll,
  kObsoleteWalk,
  kRelease,
  kBump,
  kFlags,
};
constexpr const char* kNames[] = {"nothing",       "delete_targeted",
                                  "delete_walk",   "delete_release",
                                  "delete_auto",   "zap_all",
                                  "obsolete_walk", "release",
                                  "bump",          "flags"};
constexpr What kAll[] = {What::kNothing,      What::kDeleteTargeted,
                         What::kDeleteWalk,   What::kDeleteRelease,
                         What::kDeleteAuto,   What::kZapAll,
                         What::kObsoleteWalk, What::kRelease,
                         What::kBump,         What::kFlags};

// How the slot goes, if it does.
std::optional<SlotZapPolicy> PolicyOf(What what) {
  switch (what) {
    case What::kDeleteTargeted:
      return SlotZapPolicy::kTargeted;
    case What::kDeleteWalk:
      return SlotZapPolicy::kWalk;
    case What::kDeleteRelease:
      return SlotZapPolicy::kRelease;
    case What::kDeleteAuto:
      return SlotZapPolicy::kAuto;
    default:
      return std::nullopt;
  }
}

class StalledVm {
 public:
  explicit StalledVm(uint64_t pages)
      : stays_(BenchVm::Untouched(SlotId{0}, {Gfn(0), pages / 2})),
        goes_(BenchVm::Untouched(SlotId{1}, {Gfn(pages / 2), pages / 2})),
        vm_(static_cast<uint32_t>(pages / kEntriesPerTable + 16),
            BenchVm::Settings{.time_lock_holds = true}),
        vcpu_(vm_.AddVcpu()) {
    vm_.AddSlot(stays_);
    vm_.AddSlot(goes_);
  }

  // Everything is mapped again, by one vCPU, while nothing else happens.
  void MapAll() {
    for (const SlotSpec* slot : {&stays_, &goes_}) {
      for (uint64_t i = 0; i < slot->pages; ++i) Fault(*slot, i);
    }
  }

  // Does it beside a vCPU that faults. Returns how long it took.
  double Do(What what, Clock::duration nothing) {
    std::atomic<bool> done{false};
    faults_ = 0;
    longest_ = {};
    std::atomic<bool> begun{false};
    std::thread guest([&] {
      SMMU_CHECK_GE(PinToNth(0), 0);
      for (uint64_t i = 0; !done; i = (i + 1) % stays_.pages) {
        const Clock::time_point before = Clock::now();
        Fault(stays_, i);
        longest_ = std::max(longest_, Clock::now() - before);
        ++faults_;
        begun = true;
      }
    });
    while (!begun) std::this_thread::yield();
    const Stats before = vm_.stats();
    const Clock::time_point from = Clock::now();
    Operate(what, from + nothing);
    const double took = Microseconds(Clock::now() - from);
    const Stats after = vm_.stats();
    done = true;
    guest.join();
    for (size_t i = 0; i < holds_.size(); ++i) {
      holds_[i] += after.lock_holds[i] - before.lock_holds[i];
    }
    return took;
  }
  void Restore(What what) {
    if (PolicyOf(what)) Expect(vm_.mmu().CreateSlot(goes_));
    vm_.mmu().ReclaimObsolete(~uint64_t{0});
  }

  double longest() const { return Microseconds(longest_); }
  // As Stats::lock_holds, of all that was done.
  const std::array<uint64_t, 32>& holds() const { return holds_; }
  uint64_t faults() const { return faults_; }
  Stats stats() const { return vm_.stats(); }

 private:
  static void Expect(const absl::Status& status) {
    SMMU_CHECK(status.ok()) << status.ToString();
  }
  void Fault(const SlotSpec& slot, uint64_t page) {
    const Gva gva(ToGpa(slot.base + page).value());
    SMMU_CHECK(vcpu_.HandleFault(gva, Write()).resume());
  }
  void Operate(What what, Clock::time_point until) {
    Mmu& mmu = vm_.mmu();
    if (const std::optional<SlotZapPolicy> policy = PolicyOf(what)) {
      return Expect(mmu.DeleteSlot(goes_.space, goes_.id, *policy));
    }
    switch (what) {
      case What::kNothing:
        while (Clock::now() < until) {
        }
        break;
      case What::kZapAll:
        mmu.InvalidateAll(Strategy::kZapAll);
        break;
      case What::kObsoleteWalk:
        mmu.InvalidateAll(Strategy::kObsoleteWalk);
        break;
      case What::kRelease:
        mmu.InvalidateAll(Strategy::kRelease);
        break;
      case What::kBump:
        mmu.BumpGeneration();
        break;
      case What::kFlags:
        Expect(mmu.SetSlotFlags(goes_.space, goes_.id, SlotFlags::kReadOnly));
        Expect(mmu.SetSlotFlags(goes_.space, goes_.id, SlotFlags::kNone));
        break;
      default:
        break;
    }
  }

  const SlotSpec stays_;
  const SlotSpec goes_;
  BenchVm vm_;
  VcpuMmu& vcpu_;
  uint64_t faults_ = 0;
  Clock::duration longest_{};
  std::array<uint64_t, 32> holds_{};
};

void ReportHolds(benchmark::State& state, const StalledVm& vm, int rounds) {
  constexpr size_t kShortest = 9;
  uint64_t holds = 0;
  for (size_t i = 0; i < vm.holds().size(); ++i) {
    holds += vm.holds()[i];
    if (i < kShortest || holds == 0) continue;
    state.counters[absl::StrCat("holds_", uint64_t{1} << i)] =
        static_cast<double>(holds) / rounds;
    holds = 0;
  }
}

void RunStall(benchmark::State& state, What what, uint64_t pages) {
  StalledVm vm(pages);
  const int rounds = TheOptions().small() ? 1 : 21;
  std::vector<double> took;
  std::vector<double> stalls;
  std::vector<double> faults;
  while (state.KeepRunning()) {
    for (int i = -1; i < rounds; ++i) {
      vm.MapAll();
      const double us = vm.Do(what, std::chrono::milliseconds(2));
      if (i >= 0) {
        took.push_back(us);
        stalls.push_back(vm.longest());
        faults.push_back(static_cast<double>(vm.faults()));
      }
      vm.Restore(what);
    }
    state.SetIterationTime(Median(took) * 1e-6);
  }
  state.counters["op"] = Median(took);
  state.counters["stall"] = Median(stalls);
  state.counters["stall_max"] = *std::max_element(stalls.begin(), stalls.end());
  state.counters["faults"] = Median(faults);
  state.counters["lock"] =
      static_cast<double>(vm.stats().longest_lock_hold_ns) / 1000;
  ReportHolds(state, vm, rounds + 1);
}

}  // namespace

void RegisterStalls() {
  if (CpusAllowed() < 2) return;
  const std::vector<uint64_t> sizes =
      TheOptions().small() ? std::vector<uint64_t>{1 << 10}
                           : std::vector<uint64_t>{1 << 14, 1 << 18};
  for (const uint64_t pages : sizes) {
    for (const What what : kAll) {
      Register(absl::StrCat("Stall/", kNames[static_cast<size_t>(what)],
                            "/N:", pages),
               [=](benchmark::State& state) { RunStall(state, what, pages); });
    }
  }
}

}  // namespace shadowmmu::bench
