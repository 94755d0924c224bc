// VcpuState: the inside of a VcpuMmu, and what other threads see of it.
//
//  1. `mode` says where the vCPU is, `requests` what must be served before it
//     enters the guest. Entering and kicking is store-buffering: the one who
//     enters stores mode, then loads requests; the one who requests stores
//     requests, then loads mode. All four are seq_cst, so at least one of them
//     sees the other.
//     Whoever would take away what a lockless walk reads does the same with
//     kReloadRoot, and waits; who walks and finds it requested reads nothing.
//  2. A root, current or previous, is held by a count in its shadow pages; a
//     handle of another arena epoch is discarded, never dereferenced.
//  3. The guest's flushes are its own: whoever makes the vCPU flush on the
//     guest's behalf, or gives it a root that others kept, requests kSyncRoot
//     where that root leads to unsync pages.
//  4. A previous root is usable unless kReloadRoot is requested: what makes a
//     root unusable requests it of every vCPU, and who serves it lets go of
//     those that are not usable.
//  5. A guest with PCIDs may come back to a context and keep what is cached of
//     it. A previous root is `flushed` if what was cached has been flushed
//     since it was last in step: then none of it may be used after all.
//
// Locking: the fields of one thread are those of the thread that uses the
// VcpuMmu. `roots_lock`, a leaf, is held by whoever writes a field of "roots",
// and by other threads that read one; only the owning thread writes what is not
// `previous`, and may read that without it. So a switch to a previous root
// takes no lock that vCPUs share.

#ifndef SHADOWMMU_MMU_VCPU_STATE_H_
#define SHADOWMMU_MMU_VCPU_STATE_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "shadowmmu/host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/base/mutex.h"
#include "src/mmu/paging_mode.h"
#include "src/mmu/writer.h"
#include "src/rmap/spte_ref.h"

namespace shadowmmu {

enum class VcpuMode : uint32_t {
  kOutside,
  kInGuest,
  // Reads headers of shadow pages that it holds as its root, with no lock.
  kLocklessWalk,
};

namespace request {
inline constexpr uint32_t kReloadRoot = 1u << 0;
inline constexpr uint32_t kFlushTlb = 1u << 1;
// Bring in step what the current root leads to: the guest flushed.
inline constexpr uint32_t kSyncRoot = 1u << 2;
}  // namespace request

// The shadow pages that a vCPU walks from: one, or the four page directories
// that a PAE root names; of these kNil where the guest has none (a PDPTE that
// is not present, or names a table that no slot covers).
struct RootHandle {
  static constexpr unsigned kMaxPages = 4;
  std::array<TableIndex, kMaxPages> page = {};
  unsigned pages = 0;  // 0: no root
  uint64_t epoch = 0;
  uint64_t mmu_valid_gen = 0;  // of its pages, all the same

  bool empty() const { return pages == 0; }
  // The pages that are there.
  template <typename Visit>
  void ForEachPage(Visit visit) const {
    for (unsigned i = 0; i < pages; ++i) {
      if (page[i] != TableIndex::kNil) visit(page[i]);
    }
  }
  // Where the walk of `gva` begins. Precondition: not empty.
  TableIndex For(Gva gva) const {
    return pages == 1 ? page[0] : page[gva.value() >> 30 & (kMaxPages - 1)];
  }
};

// What decides which tables a vCPU walks: two vCPUs, or one at two times, whose
// keys are equal may have the same root.
struct RootKey {
  // What MOV to CR3 changes; first, because it differs most often. The tables
  // are the same for every PCID; what the guest has flushed of them is not.
  Gfn table;
  Pcid pcid = {};
  AddressSpace space = AddressSpace::kNormal;
  bool long_mode = false;
  unsigned levels = 0;
  GuestRules rules{EntryLayout::kPae, 0};  // as with paging off, at reset
  Pdptes pdptes = {};
  friend bool operator==(const RootKey&, const RootKey&) = default;
};

// A root that the vCPU has left, and may come back to.
struct PreviousRoot {
  RootKey key;
  RootHandle root;       // empty: none
  bool flushed = false;  // 4.
};

struct alignas(64) VcpuState {
  // ---- Shared words, on a line of their own ----
  std::atomic<VcpuMode> mode{VcpuMode::kOutside};
  std::atomic<uint32_t> requests{request::kReloadRoot | request::kFlushTlb};
  // Of the root that it last entered the guest with: stored before `mode`.
  std::atomic<uint64_t> entered_generation{0};

  // ---- The owning thread's ----
  alignas(64) VcpuId id{};
  PagingRegisters registers;
  Pdptes pdptes = {};
  CpuFeatures features;
  PagingMode paging;
  AddressSpace space = AddressSpace::kNormal;
  Writer writer;

  // Leaves requests with oneself, from the owning thread: nobody else takes
  // them back, so those that are there already stay.
  void Ask(uint32_t wanted) {
    const uint32_t there = requests.load(std::memory_order_seq_cst);
    if ((there & wanted) == wanted) return;
    requests.fetch_or(wanted, std::memory_order_seq_cst);
  }

  // ---- Roots ----
  mutable SpinLock roots_lock{LockRank::kLeaf};
  HardwareState hardware;
  RootKey root_key;
  RootHandle root;
  // The latest first.
  std::array<PreviousRoot, kMaxPreviousRoots> previous
      ABSL_GUARDED_BY(roots_lock);
  // The PAE root: four entries, 32 bytes, below 4 GiB.
  std::atomic<uint64_t>* pae_entries = nullptr;
  Hpa pae_root;

  OwnCounter root_switches;
  OwnCounter root_cache_hits;
  OwnCounter faults;
  OwnCounter fast_faults;
  OwnCounter fault_retries;
  OwnCounter guest_faults;
  OwnCounter emulations;
};

// A walk with no lock, by the vCPU's own thread, which is outside the guest:
// what its current root's pages are stays, if allowed(). Otherwise the root may
// be gone.
class LocklessWalk {
 public:
  explicit LocklessWalk(VcpuState& vcpu) : vcpu_(vcpu) {
    vcpu_.mode.store(VcpuMode::kLocklessWalk, std::memory_order_seq_cst);
    allowed_ = (vcpu_.requests.load(std::memory_order_seq_cst) &
                request::kReloadRoot) == 0;
  }
  ~LocklessWalk() {
    vcpu_.mode.store(VcpuMode::kOutside, std::memory_order_release);
  }
  LocklessWalk(const LocklessWalk&) = delete;
  LocklessWalk& operator=(const LocklessWalk&) = delete;

  bool allowed() const { return allowed_; }

 private:
  VcpuState& vcpu_;
  bool allowed_;
};

// Adds what the vCPU counted for itself.
inline void AddOwnCounters(const VcpuState& vcpu, Stats& stats) {
  stats.root_switches += vcpu.root_switches.value();
  stats.root_cache_hits += vcpu.root_cache_hits.value();
  stats.faults += vcpu.faults.value();
  stats.fast_faults += vcpu.fast_faults.value();
  stats.fault_retries += vcpu.fault_retries.value();
  stats.guest_faults += vcpu.guest_faults.value();
  stats.emulations += vcpu.emulations.value();
  stats.sptes_set += vcpu.writer.sptes_set.value();
  stats.sptes_prefetched += vcpu.writer.sptes_prefetched.value();
  stats.pages_created += vcpu.writer.pages_created.value();
  stats.unsyncs += vcpu.writer.unsyncs.value();
}

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_VCPU_STATE_H_
