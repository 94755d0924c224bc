#include "bench/replay/invalidator.h"

namespace shadowmmu::replay {

absl::Status Invalidator::Invalidate(uint64_t now) {
  if (absl::Status rest = ReclaimRest(); !rest.ok()) return rest;
  cpu_->Leave();
  const Stats before = mmu_->GetStats();
  peaks_->Note(before);
  Invalidation one{.at = now,
                   .mapped = before.leaf_sptes,
                   .shadow_pages = before.shadow_pages,
                   .window = log_->OpenWindow(now)};
  const StopWatch stall;
  if (options_.strategy == Strategy::kObsoleteWalk) {
    mmu_->BumpGeneration();
  } else {
    mmu_->InvalidateAll(options_.strategy);
  }
  one.stall = stall.elapsed();
  const StopWatch reentry;
  if (absl::Status entered = cpu_->Enter(); !entered.ok()) return entered;
  one.reentry = reentry.elapsed();
  done_.push_back(one);
  reclaiming_ = options_.strategy == Strategy::kObsoleteWalk;
  if (checker_ == nullptr) return absl::OkStatus();
  cpu_->Leave();
  return checker_->CheckLibrary(*mmu_, "an invalidation");
}

absl::Status Invalidator::ReclaimRest() {
  while (reclaiming_) {
    if (absl::Status some = ReclaimSome(); !some.ok()) return some;
  }
  return absl::OkStatus();
}

absl::Status Invalidator::ReclaimSome() {
  cpu_->Leave();
  peaks_->Note(mmu_->GetStats());
  Invalidation& one = done_.back();
  const StopWatch watch;
  const ReclaimResult result = mmu_->ReclaimObsolete(options_.reclaim_budget);
  const Nanoseconds time = watch.elapsed();
  one.reclaim += time;
  reclaim_calls_.Add(static_cast<uint64_t>(time.count()));
  one.reclaimed_pages += result.pages;
  reclaiming_ = result.more;
  if (checker_ == nullptr) return absl::OkStatus();
  return checker_->CheckLibrary(*mmu_, "a reclaim");
}

}  // namespace shadowmmu::replay
