// Backend: a shadow MMU that op-streams can drive: ops go in; what each came
// to, and a canonical picture of sptes, rmaps and TLBs, come out.
//
// The interpreter (interpreter.h) knows an MMU only through this interface, so
// that any other one can be driven, and checked, by the same streams.
//
// Rules for every backend:
//  1. Apply executes the op at once and wholly: a `touch` runs the guest until
//     the access has gone through or ended otherwise. Any values are legal;
//     what the MMU can refuse by a status is put to it.
//  2. A vCPU that `enter` left in the guest stays there until `exit`, as far as
//     the MMU lets it. An op on a vCPU that cannot be done in the guest leaves
//     it, and enters it again afterwards.
//  3. Host frame n stands at HvaOfFrame(n); pfns are PfnOfFrame(n).
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_BACKEND_H_
#define SHADOWMMU_TESTS_HARNESS_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "shadowmmu/address.h"
#include "shadowmmu/dump.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/stats.h"
#include "tests/harness/ops.h"
#include "tests/harness/test_host.h"
#include "tests/harness/tlb.h"

namespace shadowmmu::testing {

// Where the host maps its frames in a stream: aligned to 1 GiB, so that large
// pages are possible. Whatever `host` numbers a stream names wraps around.
inline constexpr Hva kStreamHva{0x5000'0000'0000};
constexpr Hva HvaOfFrame(uint64_t frame) {
  return kStreamHva + (frame << kPageShift);
}
constexpr Pfn PfnOfFrame(uint32_t frame) { return ToPfn(Frame{frame}); }

// What an op came to. Which members count depends on the op.
struct OpResult {
  // False: there was nothing to execute, and nothing was.
  bool executed = true;
  // Ops on slots, vCPUs, registers, notifiers; cmpxchg.
  absl::Status status;
  // touch, store, translate, enter, and emulated stores and reads. A touch
  // that went through has kResume, and `hpa`.
  std::optional<FaultOutcome> outcome;
  std::optional<Hpa> hpa;  // where a touch hit
  // Of a `store` that the library asked to emulate: how the emulation ended.
  std::optional<FaultOutcome> stored;
  bool from_tlb = false;        // the CPU made no walk for it
  uint32_t faults = 0;          // that a touch took
  std::optional<Gpa> gpa;       // translate
  std::vector<uint64_t> dirty;  // dirty.get: the words
  bool exchanged = false;       // cmpxchg
  uint64_t previous = 0;        // cmpxchg
  std::vector<std::byte> data;  // read
  bool young = false;           // age, testage
  ReclaimResult reclaim;        // reclaim
  bool unshadowed = false;      // unshadow
  // The vCPU entered the guest (again) in the course of the op: all that it
  // had to flush has been flushed.
  bool entered = false;
  // What cannot happen has happened, in words: tables that are no tables, a
  // touch without end.
  std::string broken;
};

// What the MMU holds, in a form that any MMU can give.
struct Picture {
  std::vector<SlotSpec> slots;     // by address space, then by base
  std::vector<LeafRecord> leaves;  // all of them, obsolete ones included
  // The frames of the guest tables that are shadowed and in use: those of
  // shadow pages which are neither direct nor obsolete nor unsync. Sorted.
  std::vector<Gfn> shadowed;
  uint64_t pages = 0;     // shadow pages
  uint64_t roots = 0;     // of these, held as root by some vCPU
  uint64_t obsolete = 0;  // obsolete ones that no vCPU holds
};

// What an MMU asks of its host with no lock of its own held. In the order of
// the words of Field::kAt.
enum class HostCall : uint8_t { kResolve, kAllocation };

class Backend {
 public:
  virtual ~Backend() = default;

  // Never one that only the interpreter has to do with: expect.*, meanwhile,
  // repeat.
  virtual OpResult Apply(const Op& op) = 0;
  // Calls `body`, once, inside the n-th such call from here (0: as 1) that the
  // MMU makes in the course of a touch, a store or a translate: for Resolve,
  // when the host has its answer and has not given it yet. `body` may Apply ops
  // that neither run a guest nor change slots. In place of what was set before.
  virtual void Interrupt(HostCall call, uint64_t n,
                         std::function<void()> body) = 0;

  // ---- Pictures ----
  // One line for each thing that the MMU finds wrong with itself.
  virtual std::vector<std::string> Audit() = 0;
  virtual Picture Look() = 0;
  virtual uint64_t RmapLength(AddressSpace space, Gfn gfn, Level level) = 0;
  virtual Stats GetStats() = 0;
  virtual uint64_t generation() = 0;

  // ---- vCPUs. Ids are below kStreamMaxVcpus. ----
  virtual bool HasVcpu(uint32_t vcpu) = 0;
  // The rest: of a vCPU that exists.
  virtual bool InGuest(uint32_t vcpu) = 0;
  // What its CPU has cached, by address.
  virtual std::vector<TlbEntry> Tlb(uint32_t vcpu) = 0;

  // ---- The host below it ----
  // The memory of a frame of the host, kPageSize bytes.
  virtual const std::byte* FrameMemory(uint32_t frame) = 0;
  // Allocations that were made to fail.
  virtual uint64_t failed_allocations() = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_BACKEND_H_
