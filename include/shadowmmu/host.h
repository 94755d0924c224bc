// The Host seam: all that the library needs from a hypervisor.
//
// A hypervisor implements this interface once per VM and hands it to
// Mmu::Create. `DefaultHost` (default_host.h) implements it for a plain Linux
// process, where pfn = hva >> 12.
//
// Contract, for every implementation:
//  1. Calls come from any thread that calls into the library. Everything here
//     may be called by several threads at once.
//  2. No call is made while the library holds a spinning lock. The calls marked
//     "under the MMU lock" may be made while it holds the VM's MMU lock, alone
//     or with other vCPUs that fault: they must not call back into the library,
//     must not wait for a thread that may be doing so, and should be short,
//     because others may be waiting. The rest are made with no lock held.
//  3. The Host outlives the Mmu.
//  4. Guest memory that a slot names stays readable and writable through the
//     Try calls until Mmu::InvalidateBegin has returned for it (a host that
//     unmaps without telling is the host's bug: docs/caveats.md).

#ifndef SHADOWMMU_HOST_H_
#define SHADOWMMU_HOST_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace shadowmmu {

// A VM has at most this many virtual CPUs.
inline constexpr unsigned kMaxVcpus = 1024;

// A virtual CPU's number within its VM, from 0.
enum class VcpuId : uint32_t {};
constexpr uint32_t ToInt(VcpuId id) { return static_cast<uint32_t>(id); }

// A set of virtual CPUs of one VM.
class VcpuSet {
 public:
  static VcpuSet Of(VcpuId id) {
    VcpuSet set;
    set.Add(id);
    return set;
  }
  void Add(VcpuId id) { bits_.set(ToInt(id)); }
  bool Contains(VcpuId id) const { return bits_.test(ToInt(id)); }
  bool empty() const { return bits_.none(); }
  size_t size() const { return bits_.count(); }
  friend bool operator==(const VcpuSet&, const VcpuSet&) = default;

 private:
  std::bitset<kMaxVcpus> bits_;
};

// What a TLB flush must cover: everything that the vCPU's CPU may have cached
// of this VM, or the translations of some pages from `begin` on.
struct FlushRange {
  static constexpr uint64_t kAllPages = ~uint64_t{0};
  Gva begin = Gva();
  uint64_t pages = kAllPages;

  static constexpr FlushRange All() { return FlushRange{}; }
  constexpr bool all() const { return pages == kAllPages; }
};

enum class MemoryType : uint8_t { kWriteBack, kUncacheable };

// What backs one page of guest memory right now.
struct HostPage {
  Pfn pfn = Pfn();
  // May the guest write it? A host that answers false for a read may still
  // answer true when asked for a write (it then breaks copy-on-write, say).
  bool writable = true;
  // The largest page that the host's own mapping allows around it: with k2M,
  // the naturally aligned 2 MiB of pfns and of hvas around it correspond.
  Level largest = Level::k4K;
  MemoryType memory_type = MemoryType::kWriteBack;
};

// Memory for tables that the CPU walks: `tables` pages of 4 KiB, contiguous in
// virtual addresses from `base`, zeroed, where the 2 MiB block i of them
// (tables 512 * i to 512 * i + 511) is contiguous at physical block_hpa[i], a
// multiple of 2 MiB.
struct TableMemory {
  std::byte* base = nullptr;
  uint32_t tables = 0;
  std::vector<Hpa> block_hpa = {};
};

// One page of 4 KiB below 4 GiB of host physical memory, zeroed: PAE roots
// live there, because CR3 has 32 bits outside long mode.
struct LowPage {
  std::byte* base = nullptr;
  Hpa hpa = Hpa();
};

// The format of entries that the walking CPU wants.
struct EntryFormat {
  // MAXPHYADDR of the CPU that runs the guest, 36 to 52 bits: address bits at
  // and above it are reserved in what the library writes.
  unsigned physical_bits = 48;
  // Memory encryption: a bit (SEV's C-bit) set in every address, or 0.
  uint64_t encryption_bit = 0;
  // The CPU sets accessed and dirty bits itself. Mmu::Create refuses a CPU
  // that does not.
  bool has_accessed_dirty = true;
  bool has_no_execute = true;
  bool has_1g_pages = true;
  // Guests are offered these only where the walking CPU has them.
  bool has_smep = false;
  bool has_smap = false;
  bool has_protection_keys = false;  // of user pages (PKU)
  bool has_five_levels = false;      // LA57
  // Written into entries that are not present. Bit 0 must be clear.
  uint64_t not_present_value = 0;
};

// The outcome of a compare-exchange in guest memory.
enum class ExchangeResult : uint8_t {
  kExchanged,    // it held `expected`, it holds `desired` now
  kDifferent,    // it held something else, returned in `*expected`
  kUnavailable,  // the memory cannot be touched now; nothing changed
};

// The library waits for what should be over soon. The texts are literals.
struct Stall {
  const char* waiting = "";    // as "a change of the slots"
  const char* for_whom = "";   // as "a fault"
  std::optional<VcpuId> vcpu;  // of whom
  uint64_t milliseconds = 0;   // so far
};

// No call may throw.
class Host {
 public:
  virtual ~Host() = default;

  // ---- Memory for the library itself. Not under the MMU lock, nor under a
  // spinning one; a slot update may be under way. ----

  // `bytes` of zeroed memory, aligned to 64 bytes, or nullptr when there is
  // none. Large amounts (a slot's directory: 8 bytes for each 2 MiB it spans)
  // should not become resident before they are touched.
  virtual void* AllocateZeroed(size_t bytes) = 0;
  virtual void Free(void* memory, size_t bytes) = 0;
  // Table pages. Called once, by Mmu::Create; fails with ResourceExhausted.
  virtual absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) = 0;
  virtual void FreeTables(const TableMemory& memory) = 0;
  virtual absl::StatusOr<LowPage> AllocateLowPage() = 0;
  virtual void FreeLowPage(const LowPage& page) = 0;

  // ---- Guest memory ----

  // What backs the page at `hva`, for an access of `type`. No lock held; may
  // block (fault the page in), and may call the notifiers of mmu.h; not the
  // slot updates, which wait for faults. An error means that nothing backs it:
  // the fault that asked ends as FaultOutcome::Kind::kMemoryFault, a load of
  // PDPTEs as FailedPrecondition.
  virtual absl::StatusOr<HostPage> Resolve(Hva hva, AccessType type) = 0;
  // What backs the page at `hva`, if that can be told at once: what is mapped
  // beside the page that faulted (MmuConfig::prefetch) asks this. `writable` as
  // for a read. Must not block, faults nothing in, and calls no notifier;
  // nullopt where Resolve would have to, and where it would fail. Under the MMU
  // lock. The default never knows, so that nothing is prefetched.
  virtual std::optional<HostPage> TryResolve(Hva /*hva*/) {
    return std::nullopt;
  }

  // Read or write bytes within one page. Must not block and must not fault;
  // false when the memory cannot be touched right now. Naturally aligned
  // accesses of 4 and 8 bytes are single atomic ones. A page that is written
  // is dirty from then on; that is the host's to note. Under the MMU lock.
  virtual bool TryRead(Hva hva, std::span<std::byte> out) = 0;
  virtual bool TryWrite(Hva hva, std::span<const std::byte> bytes) = 0;
  // Atomic compare-exchange of `size` bytes (1, 2, 4 or 8, naturally aligned).
  // Under the MMU lock.
  virtual ExchangeResult TryCompareExchange(Hva hva, unsigned size,
                                            uint64_t* expected,
                                            uint64_t desired) = 0;

  // From now on the guest may read (young) or write (dirty) the page of `level`
  // at `hva`, which `pfn` backs. Never late: called before the entry that
  // allows it exists. Said once: what the guest may do it may do again, also
  // after a dirty log kept it from that, until InvalidateBegin. Under the MMU
  // lock for what is prefetched; of an access with no lock held.
  virtual void MarkYoung(Hva hva, Pfn pfn, Level level) = 0;
  virtual void MarkDirty(Hva hva, Pfn pfn, Level level) = 0;

  // ---- CPUs ----

  // Makes each vCPU of `set` leave the guest soon. Only sends; never waits.
  // Under the MMU lock.
  virtual void Kick(const VcpuSet& set) = 0;
  // Returns when no CPU that runs a vCPU of `set` can use anything of `range`
  // that it cached before the call, translations and upper levels alike: each
  // has flushed, or is out of the guest and will flush before it enters again.
  // What it stored through them is then to be seen by every CPU, as it is after
  // an interrupt: a dirty log that is read next must not miss it.
  // Under the MMU lock; a vCPU that leaves the guest takes no lock of the
  // library to do so.
  virtual void FlushTlb(const VcpuSet& set, FlushRange range) = 0;

  // The same for the VM's life. Called once, by Mmu::Create.
  virtual EntryFormat Format() const = 0;

  // ---- Trouble ----

  // For a log. A slot update waits for those who may still use a slot, a fault
  // inside Resolve above all: one that never ends would be a silent hang.
  // Called after a second, after two more, four more and so on, from the thread
  // that waits; a slot update is under way. With more than 16 threads inside at
  // once it may name another than the one that is stuck.
  virtual void NoteStall(const Stall& /*stall*/) {}
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_HOST_H_
