// Parallel/<direct|indirect>/split:<halves|mixed>/vcpus:<V>: V vCPUs that fault
// at once, each on a CPU of its own, in two ways that take turns: all of one
// VM, and each of a VM of its own. The first is to be as fast as the second.
//
// The work is the same in both: each vCPU has its share of the pages (a run of
// its own, or every V-th page, so that neighbours in one page table, and in one
// chunk of the rmap, are faulted by different vCPUs), and takes one write fault
// for each. In one VM they are threads of one process: one set of guest tables,
// or, with paging off, one set of direct pages.
//
// `together` and `alone` are nanoseconds per fault and vCPU, `ratio` is
// alone / together: the medians of the rounds, and of the ratios of rounds that
// follow each other. A round ends when the last vCPU is done.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/guest_tables.h"
#include "bench/micro/layout.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/pin.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"

namespace shadowmmu::bench {
namespace {

enum class Split : uint8_t { kHalves, kMixed };

const char* Name(Split split) {
  return split == Split::kHalves ? "halves" : "mixed";
}

// A layout that several VMs can have.
struct Scene {
  Layout layout;
  std::unique_ptr<GuestTables> tables;  // none: paging off

  static std::unique_ptr<Scene> Make(PageKind kind, uint64_t pages) {
    auto scene = std::make_unique<Scene>(
        Scene{kind == PageKind::kDirect
                  ? Layout::Direct(pages, Order::kSequential)
                  : Layout::Indirect(1, pages, MapKind::kSequential),
              nullptr});
    if (kind == PageKind::kIndirect) {
      scene->tables = std::make_unique<GuestTables>(scene->layout);
    }
    return scene;
  }
  std::unique_ptr<BenchVm> MakeVm() const {
    if (tables == nullptr) return std::make_unique<BenchVm>(layout);
    auto vm = std::make_unique<BenchVm>(layout.tables());
    vm->AddSlot(layout.slots()[0]);
    vm->AddSlot(tables->slot());
    return vm;
  }
  VcpuMmu& AddVcpu(BenchVm& vm) const {
    VcpuMmu& vcpu = vm.AddVcpu();
    if (tables == nullptr) return vcpu;
    const absl::Status set = vcpu.SetRegisters(tables->registers());
    SMMU_CHECK(set.ok()) << set.ToString();
    return vcpu;
  }
};

// vCPUs that run at once, and the VMs that they belong to.
class Team {
 public:
  Team(const Scene& scene, unsigned vcpus, unsigned vms, Split split)
      : scene_(scene), split_(split) {
    for (unsigned i = 0; i < vms; ++i) vms_.push_back(scene.MakeVm());
    for (unsigned i = 0; i < vcpus; ++i) {
      vcpus_.push_back(&scene.AddVcpu(*vms_[i % vms]));
    }
  }

  // Nanoseconds per fault and vCPU. What went wrong, if anything did, is added
  // to `wrong`.
  double Round(std::string& wrong) {
    for (VcpuMmu* vcpu : vcpus_) BenchVm::PassThroughGuest(*vcpu);
    waiting_ = static_cast<unsigned>(vcpus_.size());
    unresolved_ = 0;
    std::vector<Clock::time_point> begun(vcpus_.size());
    std::vector<Clock::time_point> ended(vcpus_.size());
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < vcpus_.size(); ++i) {
      threads.emplace_back([&, i] { Run(i, begun[i], ended[i]); });
    }
    for (std::thread& thread : threads) thread.join();
    if (unresolved_ != 0) {
      absl::StrAppend(&wrong, unresolved_.load(), " faults are not over; ");
    }
    uint64_t sptes = 0;
    for (const auto& vm : vms_) {
      sptes += vm->leaf_sptes();
      ZapAll(vm->vm());
    }
    if (sptes != scene_.layout.sptes()) {
      absl::StrAppend(&wrong, sptes, " sptes; ");
    }
    const auto took = *std::max_element(ended.begin(), ended.end()) -
                      *std::min_element(begun.begin(), begun.end());
    const double ns = std::chrono::duration<double, std::nano>(took).count();
    return ns * static_cast<double>(vcpus_.size()) /
           static_cast<double>(scene_.layout.sptes());
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Run(unsigned number, Clock::time_point& begun,
           Clock::time_point& ended) {
    SMMU_CHECK_GE(PinToNth(number), 0);
    const auto& entries = scene_.layout.entries();
    const size_t team = vcpus_.size();
    const size_t share = entries.size() / team;
    const size_t first = split_ == Split::kHalves ? number * share : number;
    const size_t step = split_ == Split::kHalves ? 1 : team;
    VcpuMmu& vcpu = *vcpus_[number];
    uint64_t unresolved = 0;
    --waiting_;
    while (waiting_ != 0) {
    }
    begun = Clock::now();
    for (size_t i = 0, at = first; i < share; ++i, at += step) {
      if (!vcpu.HandleFault(entries[at].gva(), Write()).resume()) ++unresolved;
    }
    ended = Clock::now();
    unresolved_ += unresolved;
  }

  const Scene& scene_;
  const Split split_;
  std::vector<std::unique_ptr<BenchVm>> vms_;
  std::vector<VcpuMmu*> vcpus_;
  std::atomic<unsigned> waiting_{0};
  std::atomic<uint64_t> unresolved_{0};
};

void RunParallel(benchmark::State& state, PageKind kind, Split split,
                 unsigned vcpus, uint64_t pages) {
  const auto scene = Scene::Make(kind, pages);
  Team one_vm(*scene, vcpus, 1, split);
  Team private_vms(*scene, vcpus, vcpus, split);
  const int rounds = TheOptions().small() ? 1 : 31;
  std::vector<double> together;
  std::vector<double> alone;
  std::vector<double> ratio;
  std::string wrong;
  while (state.KeepRunning()) {
    for (int i = -1; i < rounds; ++i) {
      const double a = private_vms.Round(wrong);
      const double b = one_vm.Round(wrong);
      if (i < 0) continue;  // memory that the host had not given yet
      alone.push_back(a);
      together.push_back(b);
      ratio.push_back(a / b);
    }
    state.SetIterationTime(Median(together) * 1e-9);
  }
  if (!wrong.empty()) Fail(state, wrong);
  state.counters["together"] = Median(together);
  state.counters["alone"] = Median(alone);
  state.counters["ratio"] = Median(ratio);
}

}  // namespace

void RegisterParallel() {
  const uint64_t pages = TheOptions().small() ? 1 << 10 : 1 << 17;
  for (unsigned vcpus = 1;
       vcpus <= std::min(CpusAllowed(), BenchVm::kMostVcpus); vcpus *= 2) {
    for (const PageKind kind : {PageKind::kDirect, PageKind::kIndirect}) {
      for (const Split split : {Split::kHalves, Split::kMixed}) {
        if (vcpus == 1 && split == Split::kMixed) continue;
        Register(absl::StrCat("Parallel/",
                              kind == PageKind::kDirect ? "direct" : "indirect",
                              "/split:", Name(split), "/vcpus:", vcpus),
                 [=](benchmark::State& state) {
                   RunParallel(state, kind, split, vcpus, pages);
                 });
      }
    }
  }
}

}  // namespace shadowmmu::bench
