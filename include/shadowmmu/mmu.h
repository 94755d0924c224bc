// Mmu: the shadow MMU of one virtual machine.
//
// It owns the memslots, the shadow pages and their rmaps, and the generation.
// One VcpuMmu (vcpu_mmu.h) per virtual CPU takes its faults to it.
//
//   shadowmmu::DefaultHost host;
//   auto mmu = shadowmmu::Mmu::Create({.host = &host});
//   if (!mmu.ok()) return mmu.status();
//   absl::Status made = (*mmu)->CreateSlot({.id = shadowmmu::SlotId{0},
//                                           .base = shadowmmu::Gfn(0),
//                                           .pages = 512,
//                                           .hva = ram});
//
// Thread safety: every member may be called from any thread at any time, but
// for the destructor, which runs last. Slot updates wait for each other, and
// for faults that are under way; none of them may be called from inside a Host
// callback.
//
// Three counters, never to be confused, all 64 bits wide:
//   mmu_valid_gen       tags shadow pages; BumpGeneration() raises it
//   arena epoch         tags what a release of the whole arena would orphan
//   memslot generation  raised by every change of the slots

#ifndef SHADOWMMU_MMU_H_
#define SHADOWMMU_MMU_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/host.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/slot_zap.h"
#include "shadowmmu/stats.h"

namespace shadowmmu {

class VcpuMmu;
struct Vm;  // the library's inside (src/mmu/vm.h)

inline constexpr uint32_t kMaxPreviousRoots = 3;
inline constexpr uint32_t kMaxWriteFlooding = 255;
inline constexpr uint32_t kMaxPrefetch = 64;

// What a guest's walk finds where a page table lies in no slot. (A CR3 that
// names no slot is a kMemoryFault of EnterGuest and HandleFault in any case.)
enum class AbsentTables : uint8_t {
  // Nothing: the access ends as kMemoryFault, and the caller decides.
  kMemoryFault,
  // All ones, as reads of memory that is not there have them on a PC: mostly a
  // page fault for reserved bits. PDPTEs, too, which no CPU takes then
  // (InvalidArgument in place of NotFound). A walk that leads from there back
  // into a slot, as one of 4-byte entries may, ends as kMemoryFault.
  kReadAsOnes,
};

struct MmuConfig {
  // Not owned; must outlive the Mmu. Required.
  Host* host = nullptr;
  // Table pages (4 KiB each) that the VM may have at once, up to 2^22 - 1, and
  // at least 12 + 4 * max_vcpus: roots cannot be evicted, and beside them a
  // fault must find room. Fixed for the VM's life; when they are used up the
  // oldest pages go.
  uint32_t table_capacity = 4096;
  // How many of these the VM may use, to begin with: see SetPageLimit. 0: all.
  uint32_t page_limit = 0;
  // Virtual CPUs that may exist at once, 1 to kMaxVcpus.
  uint32_t max_vcpus = 16;
  // MAXPHYADDR of the guest's CPU, 36 to 52 bits: slots must lie below it, and
  // address bits at and above it are reserved in guest entries.
  unsigned guest_physical_bits = 48;
  // The largest page that the library may map in one entry.
  Level largest_page = Level::k1G;
  // How many roots a vCPU keeps besides its current one, 0 to
  // kMaxPreviousRoots: a CR3 write that goes back to one of them takes no lock
  // that vCPUs share, and finds everything mapped that was.
  uint32_t previous_roots = kMaxPreviousRoots;
  // Whether a guest's first write to a page table (the last level) gives it the
  // table, to be written with no further exit until the guest flushes. Without,
  // every store into a shadowed table ends as EmulateReason::kWriteTracked.
  bool unsync = true;
  // A guest table that the guest writes as data is shadowed no longer, so that
  // the stores that follow need no exit: after so many emulated stores in a
  // row, none of its entries used in between, and after one that is no edit of
  // an entry (it is part of one, or of two). 0 to kMaxWriteFlooding; 0: never.
  // A table that a vCPU's CR3 or PDPTEs name now stays.
  uint32_t write_flooding = 3;
  // When an access faults on a page of 4 KiB, the aligned window of so many
  // entries of the guest's page table around its own is mapped with it, where
  // the guest has set A, and the Host knows at once what is there
  // (Host::TryResolve). A power of two from 2 to kMaxPrefetch; 0: off.
  uint32_t prefetch = 8;
  AbsentTables absent_tables = AbsentTables::kMemoryFault;
  // Whether Stats tells how long the MMU lock was held exclusively. Two looks
  // at the clock for each hold.
  bool time_lock_holds = false;
};

// How InvalidateAll makes every shadow page go.
enum class Strategy : uint8_t {
  // Walk and unlink everything now, in one hold of the MMU lock.
  kZapAll,
  // Bump the generation; then reclaim obsolete pages oldest first, in batches,
  // with lock breaks. The default, and what KVM does.
  kObsoleteWalk,
  // Reset the memory of all shadow pages in place, in one hold of the MMU lock
  // whose cost does not depend on how many there were. First every vCPU leaves
  // the guest: who calls this must not be one that is in it, and Host::Kick
  // must work. What is mapped anew later pays a little for it: a page is
  // cleared when it comes into use.
  kRelease,
};

// What a call of ReclaimObsolete did.
struct ReclaimResult {
  uint64_t pages = 0;  // shadow pages zapped
  bool more = false;   // obsolete pages remain
};

class Mmu {
 public:
  // Fails with InvalidArgument (and says which field), or ResourceExhausted.
  static absl::StatusOr<std::unique_ptr<Mmu>> Create(const MmuConfig& config);
  // Every VcpuMmu must be gone (a CHECK), and no other call under way.
  ~Mmu();
  Mmu(const Mmu&) = delete;
  Mmu& operator=(const Mmu&) = delete;

  // ---- Memslots ----
  // Each fails with a status that says what is wrong, and then has changed
  // nothing. Each may sleep until faults that are under way have ended.

  // InvalidArgument: an empty slot, an unaligned hva, a range that wraps around
  // or lies beyond guest_physical_bits, an id of kMaxSlotId or more.
  // AlreadyExists: the id is taken, or the range overlaps another slot of the
  // same address space. ResourceExhausted: no memory for the slot's directory.
  absl::Status CreateSlot(const SlotSpec& spec);
  // Publishes the slot as INVALID, waits for readers, takes away all that was
  // made from it as `policy` says, flushes, publishes the table without the
  // slot, frees it. Whatever the policy, no spte maps the slot when this
  // returns; Stats::last_slot_zap tells which way it went, and why. NotFound;
  // InvalidArgument: no such policy.
  absl::Status DeleteSlot(AddressSpace space, SlotId id,
                          SlotZapPolicy policy = SlotZapPolicy::kAuto);
  // The same memory at other guest frames, by the same two steps. NotFound,
  // and as CreateSlot.
  absl::Status MoveSlot(AddressSpace space, SlotId id, Gfn new_base,
                        SlotZapPolicy policy = SlotZapPolicy::kAuto);
  // Replaces the slot's flags. A slot that becomes read-only is
  // write-protected before this returns. NotFound, InvalidArgument (unknown
  // bits), ResourceExhausted (no memory for the dirty bitmap).
  //
  // A slot that begins to log is write-protected, and its large pages are
  // split, before this returns: every store from then on is recorded. One that
  // no longer logs loses its bitmap, and large pages come back as the guest
  // faults.
  absl::Status SetSlotFlags(AddressSpace space, SlotId id, SlotFlags flags);
  // Which pages of a slot that logs were written since the last call, or since
  // it began to log: bit i % 64 of bitmap[i / 64] is set for the slot's page i.
  // The pages may be copied when this returns: a later store sets their bit
  // anew. Counted are stores of the guest's CPUs through this slot, those of
  // GuestWrite and GuestCompareExchange, and accessed and dirty bits that the
  // library sets in guest tables; not what the hypervisor, or another slot of
  // the same memory, writes by itself. A page may be reported that was not
  // written after all, never the other way round.
  //
  // Words beyond DirtyBitmapWords(pages) are left as they are. NotFound;
  // FailedPrecondition: the slot does not log; InvalidArgument: `bitmap` is too
  // short. Waits for slot updates; not from inside a Host callback.
  absl::Status GetAndClearDirty(AddressSpace space, SlotId id,
                                std::span<uint64_t> bitmap);

  // A slot by id, or by one of its frames; nullopt where there is none.
  std::optional<SlotSpec> FindSlot(AddressSpace space, SlotId id) const;
  std::optional<SlotSpec> FindSlot(AddressSpace space, Gfn gfn) const;
  // All slots of all address spaces, by space, then by base. May throw
  // std::bad_alloc, as no other call here does.
  std::vector<SlotSpec> Slots() const;
  // The memslot generation: changes with every change of the slots.
  uint64_t memslot_generation() const;

  // ---- Invalidation (docs/design.md, "Ways to invalidate") ----

  // Makes every shadow page obsolete, at a cost that does not depend on how
  // many there are: no lookup returns one any more, and every vCPU loads a new
  // root before it enters the guest again. The pages' sptes stay on their
  // rmaps, and notifiers find them there, until ReclaimObsolete takes them.
  void BumpGeneration();
  // Zaps up to `budget` obsolete pages, oldest first, unlinking every spte
  // from its rmap, those of live slots included. Drops the MMU lock between
  // batches when others wait for it. Any thread, any number of them.
  ReclaimResult ReclaimObsolete(uint64_t budget);
  // The whole of one way: when it returns no page that was there before the
  // call is left.
  void InvalidateAll(Strategy strategy = Strategy::kObsoleteWalk);
  // mmu_valid_gen, as it stands now.
  uint64_t generation() const;

  // ---- Memory ----

  // From now on at most `pages` shadow pages (4 KiB each) are in use. If there
  // are more, the oldest are zapped before this returns, obsolete ones first,
  // in steps that let others in when they wait for the MMU lock; roots stay,
  // but for those that vCPUs have left. Later, when a fault needs a page beyond
  // the limit, the oldest go. InvalidArgument (and nothing changes): fewer than
  // 12 + 4 * max_vcpus, with which a fault might not get on, or more than
  // table_capacity. Of two calls at once one comes last; any thread, any time.
  absl::Status SetPageLimit(uint32_t pages);

  // ---- Notifiers: the host changes its mappings of guest memory ----

  // From the return of InvalidateBegin to the call of InvalidateEnd no spte
  // maps any page of `hvas`, and the library touches none of it. Ranges may
  // overlap and nest; every begin needs one end with the same range. Begin
  // sleeps until accesses of guest memory that are under way are over.
  // InvalidArgument: an empty or wrapping range; from End, no such begin.
  absl::Status InvalidateBegin(HvaRange hvas);
  absl::Status InvalidateEnd(HvaRange hvas);
  // Was any page of the range accessed through a spte since it was last aged?
  // Age clears the accessed bits, TestAge leaves them. False for a range that
  // is empty or wraps around.
  bool Age(HvaRange hvas);
  bool TestAge(HvaRange hvas);

  // ---- Stores that the hypervisor emulates ----
  // The library performs the store itself, and zaps what it changes of the
  // guest tables that are shadowed. Memory that the Host's Try call refuses is
  // a kMemoryFault: make it present, and try again. Use these for every
  // emulated store of a guest, and for devices that write guest memory.

  // Writes `bytes` at `gpa`; may cross pages (it is then not atomic, and the
  // outcome tells of the first page that refused; what came before it is
  // written). kResume if all is written.
  FaultOutcome GuestWrite(AddressSpace space, Gpa gpa,
                          std::span<const std::byte> bytes);
  // Compares and exchanges `size` bytes (1, 2, 4, 8; naturally aligned), in
  // one atomic step as other CPUs see it. InvalidArgument for another size or
  // alignment (a locked access that crosses a line is the caller's to split).
  absl::StatusOr<GuestExchange> GuestCompareExchange(AddressSpace space,
                                                     Gpa gpa, unsigned size,
                                                     uint64_t expected,
                                                     uint64_t desired);
  // Zaps the shadow pages of the guest table in `gfn`, of either address space,
  // so that stores into it need no exit until it is used as a table again. For
  // a store that cannot be emulated: the push of an event's frame onto a stack
  // that was a table once. False: a vCPU's CR3 or PDPTEs name it now, and that
  // page stays.
  bool StopShadowing(Gfn gfn);
  // Reads guest memory for an emulator; may cross pages. kResume if read.
  FaultOutcome GuestRead(AddressSpace space, Gpa gpa, std::span<std::byte> out);

  // ---- Virtual CPUs ----

  // AlreadyExists: `id` has one; InvalidArgument: `id` >= max_vcpus;
  // ResourceExhausted. The VcpuMmu must go before the Mmu.
  absl::StatusOr<std::unique_ptr<VcpuMmu>> CreateVcpu(VcpuId id);

  Stats GetStats() const;

  // The library's inside, for the audit, the dump and tests.
  Vm& internals() const { return *vm_; }

 private:
  explicit Mmu(std::unique_ptr<Vm> vm);
  const std::unique_ptr<Vm> vm_;
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_MMU_H_
