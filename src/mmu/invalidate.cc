#include "src/mmu/invalidate.h"

#include <thread>

#include "src/mmu/flush.h"
#include "src/mmu/release.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/zap.h"

namespace shadowmmu {
namespace {

// Pages between looks at whether somebody waits for the lock.
constexpr uint64_t kPagesBetweenBreaks = 16;

bool AnyObsolete(Vm& vm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  const TableIndex oldest = vm.pages.oldest();
  return oldest != TableIndex::kNil &&
         vm.arena.Page(oldest).mmu_valid_gen != vm.generations.mmu_valid_gen;
}

// Zaps up to `budget` obsolete pages in one hold of the lock; ends early when
// others wait.
uint64_t ReclaimBatch(Vm& vm, uint64_t budget)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(vm.lock) {
  ZapBatch batch;
  const Clearing clearing =
      OnObsoleteRoots(vm).empty() ? Clearing::kStore : Clearing::kExchange;
  while (batch.zapped() < budget && AnyObsolete(vm)) {
    batch.Zap(vm, vm.pages.oldest(), clearing);
    if (batch.zapped() % kPagesBetweenBreaks == 0 && vm.lock.Contended()) {
      break;
    }
  }
  batch.Commit(vm);
  ++vm.counters.reclaim_batches;
  return batch.zapped();
}

}  // namespace

void Bump(Vm& vm) {
  WriterMutexLock held(&vm.lock);
  ++vm.generations.mmu_valid_gen;
  ++vm.counters.generation_bumps;
  RequestAll(vm, request::kReloadRoot);
}

ReclaimResult Reclaim(Vm& vm, uint64_t budget) {
  ReclaimResult result;
  VmLock held(vm);
  for (;;) {
    result.pages += ReclaimBatch(vm, budget - result.pages);
    result.more = AnyObsolete(vm);
    if (!result.more || result.pages >= budget) return result;
    ++vm.counters.lock_breaks;
    held.Break([] { std::this_thread::yield(); });
  }
}

void ZapAll(Vm& vm) {
  VmLock held(vm);
  ZapBatch batch;
  while (vm.pages.oldest() != TableIndex::kNil) {
    batch.Zap(vm, vm.pages.oldest());
  }
  batch.Commit(vm);
}

void Invalidate(Vm& vm, Strategy strategy) {
  switch (strategy) {
    case Strategy::kZapAll:
      ZapAll(vm);
      return;
    case Strategy::kObsoleteWalk:
      Bump(vm);
      Reclaim(vm, kNoBudget);
      return;
    case Strategy::kRelease:
      Release(vm);
      return;
  }
}

}  // namespace shadowmmu
