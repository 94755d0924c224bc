// TestHost: a simulated host. It has frames (real memory of this process) with
// made-up physical addresses, a made-up space of host virtual addresses that
// maps pages onto frames, table memory, and the CPUs of cpu_model.h.
//
//   TestHost host(TestHost::Options{.frames = 64});
//   host.MapRange(Hva(0x7000'0000), 64, Frame{0});
//   auto mmu = Mmu::Create({.host = &host});
//
// Rules:
//  1. Hvas, pfns, and pointers of this process are three different things: the
//     pfn of frame i is 0x100000 + i whatever hva maps it, and no hva is a
//     pointer. Code that mixes them up fails at once.
//  2. Several hvas may map one frame. An hva may be unmapped or retargeted at
//     any time; once that call has returned no Try call touches the old frame.
//  3. The library's own memory is that of library_memory.h: table blocks out of
//     order, allocations counted, leaks caught.
//  4. The destructor CHECKs that no CPU is attached.
//  5. A flush reaches a CPU before FlushTlb returns, unless the host is told to
//     lose it (which is how a test shows that a lost flush is noticed).
//
// Thread safety: every member may be called by any thread, but for the options
// marked "before the Mmu is made". Locks: cpus_mutex_ before a CPU's own lock
// before mutex_. No lock is held while a hook runs.

#ifndef SHADOWMMU_TESTS_HARNESS_TEST_HOST_H_
#define SHADOWMMU_TESTS_HARNESS_TEST_HOST_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/host.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/library_memory.h"
#include "tests/harness/physical_memory.h"

namespace shadowmmu::testing {

// A frame of the simulated host's memory, from 0.
enum class Frame : uint32_t {};
constexpr uint32_t ToInt(Frame frame) { return static_cast<uint32_t>(frame); }

// Frames lie from 4 GiB on, below all tables (library_memory.h).
inline constexpr Pfn kFirstFramePfn{0x10'0000};
constexpr Pfn ToPfn(Frame frame) { return kFirstFramePfn + ToInt(frame); }

// What the host lets the guest do with the page at an hva.
enum class Protection : uint8_t { kReadWrite, kReadOnly };

// What becomes of a kick or a flush.
enum class Delivery : uint8_t { kDeliver, kLose };

class TestHost : public Host, public PhysicalMemory {
 public:
  struct Options {
    uint32_t frames = 1024;  // 1 to 2^20
  };
  explicit TestHost(Options options);
  ~TestHost() override;
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;

  // ---- The space of host virtual addresses ----
  // An hva may be given anywhere within its page.

  // Maps the page at `hva` onto `frame`, in place of what was there.
  void Map(Hva hva, Frame frame,
           Protection protection = Protection::kReadWrite);
  // Maps `pages` pages from `hva` on onto successive frames from `first` on.
  void MapRange(Hva hva, uint64_t pages, Frame first);
  // Nothing backs the page any more. Of an unmapped page: no effect.
  void Unmap(Hva hva);
  // Another frame behind a page that is mapped (a CHECK); protection stays.
  void Retarget(Hva hva, Frame frame);
  // Of a page that is mapped (a CHECK). A read-only page resolves as not
  // writable; resolving it for a write, and TryWrite, fail.
  void Protect(Hva hva, Protection protection);
  std::optional<Frame> FrameAt(Hva hva) const;
  // Resolve never answers more than this. The default is k4K.
  void SetLargestPage(Level cap);

  // ---- The frames ----

  uint32_t frames() const { return options_.frames; }
  bool IsFrame(Pfn pfn) const { return pfn - kFirstFramePfn < options_.frames; }
  // The memory of a frame; nullptr where `pfn` is none.
  std::byte* PointerToFrame(Pfn pfn) const;
  // Reads and writes within one frame, as a CPU does that has translated to
  // `hpa`: naturally aligned words of up to 8 bytes are single atomic accesses.
  // False where `hpa` is in no frame.
  bool ReadPhysical(Hpa hpa, std::span<std::byte> out) const;
  bool WritePhysical(Hpa hpa, std::span<const std::byte> bytes);

  // ---- Allocations ----

  // As LibraryMemory, which says what each means.
  void FailAllocation(uint64_t n) { library_memory_.FailAllocation(n); }
  void FailAllAllocations() { library_memory_.FailAllAllocations(); }
  void AllowAllocations() { library_memory_.AllowAllocations(); }
  uint64_t allocations() const { return library_memory_.allocations(); }
  uint64_t failed_allocations() const {
    return library_memory_.failed_allocations();
  }
  uint64_t bytes_outstanding() const {
    return library_memory_.bytes_outstanding();
  }

  // ---- CPUs ----

  // From now on Kick and FlushTlb for `id` reach `cpu`, which must be detached
  // before it goes. One CPU for each id (a CHECK).
  void Attach(VcpuId id, CpuModel* cpu);
  void Detach(VcpuId id);
  void SetFlushDelivery(Delivery delivery);
  void SetKickDelivery(Delivery delivery);
  // Calls of FlushTlb and Kick, lost ones included.
  uint64_t flushes() const;
  uint64_t kicks() const;

  // ---- What the library told, and what it met ----

  // Was MarkYoung / MarkDirty called for the page since the last ClearMarks?
  bool IsMarkedYoung(Hva hva) const;
  bool IsMarkedDirty(Hva hva) const;
  // The same by frame, whatever the hva was.
  bool IsMarkedDirty(Frame frame) const;
  void ClearMarks();
  // Try calls that failed since the host was made.
  uint64_t refused_tries() const;
  // Called by Resolve when it has its answer and before it returns it, with no
  // lock held: the place to change the world in the middle of a fault. nullptr:
  // none. Set it while no other thread uses the host.
  void SetResolveHook(std::function<void(Hva, AccessType)> hook);
  // The same for TryRead, before it reads; the library may hold its MMU lock.
  void SetReadHook(std::function<void(Hva)> hook);
  // The same for AllocateZeroed, before it allocates.
  void SetAllocateHook(std::function<void()> hook);
  // The same for MarkYoung: of the page that faulted, with no lock held.
  void SetYoungHook(std::function<void(Hva)> hook);
  // The same for Kick and FlushTlb, before they reach a CPU; the library may
  // hold its MMU lock.
  void SetKickHook(std::function<void(const VcpuSet&)> hook);
  void SetFlushHook(std::function<void(const VcpuSet&)> hook);
  // Called by NoteStall.
  void SetStallHook(std::function<void(const Stall&)> hook);
  // What Format() answers; before the Mmu is made.
  void SetFormat(const EntryFormat& format);

  // ---- PhysicalMemory ----
  void* PointerToTable(Hpa hpa) const override {
    return library_memory_.PointerToTable(hpa);
  }

  // ---- Host ----
  void* AllocateZeroed(size_t bytes) override {
    if (allocate_hook_) allocate_hook_();
    return library_memory_.AllocateZeroed(bytes);
  }
  void Free(void* memory, size_t bytes) override {
    library_memory_.Free(memory, bytes);
  }
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override {
    return library_memory_.AllocateTables(tables);
  }
  void FreeTables(const TableMemory& memory) override {
    library_memory_.FreeTables(memory);
  }
  absl::StatusOr<LowPage> AllocateLowPage() override {
    return library_memory_.AllocateLowPage();
  }
  void FreeLowPage(const LowPage& page) override {
    library_memory_.FreeLowPage(page);
  }
  absl::StatusOr<HostPage> Resolve(Hva hva, AccessType type) override;
  std::optional<HostPage> TryResolve(Hva hva) override;
  void NoteStall(const Stall& stall) override {
    if (stall_hook_) stall_hook_(stall);
  }
  bool TryRead(Hva hva, std::span<std::byte> out) override;
  bool TryWrite(Hva hva, std::span<const std::byte> bytes) override;
  ExchangeResult TryCompareExchange(Hva hva, unsigned size, uint64_t* expected,
                                    uint64_t desired) override;
  void MarkYoung(Hva hva, Pfn pfn, Level level) override;
  void MarkDirty(Hva hva, Pfn pfn, Level level) override;
  void Kick(const VcpuSet& set) override;
  void FlushTlb(const VcpuSet& set, FlushRange range) override;
  EntryFormat Format() const override;

 private:
  struct Mapping {
    Frame frame{};
    Protection protection = Protection::kReadWrite;
  };
  using Mark = std::pair<Hva, Pfn>;

  // All of these with mutex_ held.
  const Mapping* Find(Hva hva) const;
  std::byte* Reach(Hva hva, AccessType type, size_t bytes);
  bool IsUniform(Hva hva, Level level) const;
  Level LargestAround(Hva hva) const;
  HostPage PageOfMapping(Hva hva, const Mapping& mapping) const;

  const Options options_;
  // The frames' memory; never changes.
  std::byte* const memory_;
  std::function<void(Hva, AccessType)> resolve_hook_;
  std::function<void(Hva)> read_hook_;
  std::function<void()> allocate_hook_;
  std::function<void(Hva)> young_hook_;
  std::function<void(const VcpuSet&)> kick_hook_;
  std::function<void(const VcpuSet&)> flush_hook_;
  std::function<void(const Stall&)> stall_hook_;

  LibraryMemory library_memory_;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  absl::flat_hash_map<Hva, Mapping> mappings_;  // by first hva of the page
  Level largest_page_ = Level::k4K;
  EntryFormat format_ = DefaultHost().Format();
  std::set<Mark> young_;
  std::set<Mark> dirty_;
  uint64_t refused_tries_ = 0;

  mutable std::mutex cpus_mutex_;
  // Guarded by cpus_mutex_:
  std::map<VcpuId, CpuModel*> cpus_;
  Delivery flush_delivery_ = Delivery::kDeliver;
  Delivery kick_delivery_ = Delivery::kDeliver;
  uint64_t flushes_ = 0;
  uint64_t kicks_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TEST_HOST_H_
