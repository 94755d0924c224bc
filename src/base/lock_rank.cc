#include "src/base/lock_rank.h"

#ifndef NDEBUG
#include <array>
#include <cstddef>

#include "absl/types/span.h"
#include "src/base/check.h"
#endif

namespace shadowmmu {

const char* LockRankName(LockRank rank) {
  switch (rank) {
    case LockRank::kSlotsUpdate:
      return "kSlotsUpdate";
    case LockRank::kSrcu:
      return "kSrcu";
    case LockRank::kVm:
      return "kVm";
    case LockRank::kStructure:
      return "kStructure";
    case LockRank::kPage:
      return "kPage";
    case LockRank::kChunk:
      return "kChunk";
    case LockRank::kLeaf:
      return "kLeaf";
  }
  return "(no rank)";
}

#ifndef NDEBUG
namespace {

struct HeldLock {
  const LockOrder* lock;
  LockRank rank;
  LockMode mode;
};

// The locks of one thread, in the order in which it took them. By rule 1 one of
// each rank, but for those that were tried.
class HeldLocks {
 public:
  absl::Span<const HeldLock> all() const {
    return absl::MakeConstSpan(held_.data(), count_);
  }

  const HeldLock* Find(const LockOrder* lock) const {
    for (const HeldLock& held : all()) {
      if (held.lock == lock) return &held;
    }
    return nullptr;
  }

  void Push(const HeldLock& lock) {
    SMMU_CHECK_LT(count_, held_.size()) << "a thread holds too many locks";
    held_[count_++] = lock;
  }

  void Remove(const LockOrder* lock) {
    const HeldLock* found = Find(lock);
    SMMU_CHECK(found != nullptr) << "releasing a lock that is not held";
    for (std::size_t i = static_cast<std::size_t>(found - held_.data());
         i + 1 < count_; ++i) {
      held_[i] = held_[i + 1];
    }
    --count_;
  }

 private:
  std::array<HeldLock, 64> held_{};
  std::size_t count_ = 0;
};

constinit thread_local HeldLocks held_locks;

}  // namespace

void LockOrder::WillWait() const {
  for (const HeldLock& held : held_locks.all()) {
    SMMU_CHECK(held.lock != this)
        << "taking the " << LockRankName(rank_) << " lock at " << this
        << ", which this thread holds already";
    SMMU_CHECK(held.rank < rank_)
        << "lock order: taking the " << LockRankName(rank_) << " lock at "
        << this << " while holding the " << LockRankName(held.rank)
        << " lock at " << held.lock;
  }
}

void LockOrder::WillTry() const {
  SMMU_CHECK(held_locks.Find(this) == nullptr)
      << "trying the " << LockRankName(rank_) << " lock at " << this
      << ", which this thread holds already";
}

void LockOrder::Acquired(LockMode mode) const {
  held_locks.Push({this, rank_, mode});
}

void LockOrder::Released() const { held_locks.Remove(this); }

void LockOrder::CheckHeld(LockMode at_least) const {
  const HeldLock* held = held_locks.Find(this);
  SMMU_CHECK(held != nullptr) << "this thread does not hold the "
                              << LockRankName(rank_) << " lock at " << this;
  SMMU_CHECK(held->mode == LockMode::kExclusive ||
             at_least == LockMode::kShared)
      << "this thread holds the " << LockRankName(rank_) << " lock at " << this
      << " shared, not exclusively";
}
#endif  // !NDEBUG

}  // namespace shadowmmu
