// CpuModel: the MMU of one CPU that runs a guest on shadow tables: it walks
// them as x86 hardware does, and keeps what it found until it is flushed.
//
//   CpuModel cpu(&host, host.Format());
//   std::string error = cpu.Enter(vcpu.HardwareState());   // empty if accepted
//   CpuResult result = cpu.Access(gva, Write(Privilege::kUser));
//
// Rules:
//  1. A translation, once cached, is used until a flush drops it, however the
//     tables change: a flush that the library forgets is then visible. Nothing
//     is evicted unless EvictAll asks.
//  2. A write through a translation whose D bit was clear walks again (SDM
//     vol. 3, 4.8).
//  3. A page fault drops all that is cached of its address (SDM vol. 3,
//     4.10.4.1), and may come from a stale translation with too few rights: a
//     spurious fault, which the library must bear.
//  4. Outside long mode linear addresses have 32 bits (the rest is cut), and
//     the four PDPTEs are registers, filled by Enter and Load only.
//  5. When Flush returns, on whatever thread, no translation of the range that
//     was cached before is used by an access, nor is one still being used: an
//     access, the `body` that touches the memory included, is one step under
//     the CPU's lock.
//  6. EFLAGS.AC and PKRU count for each access as it is made, one that the TLB
//     answers too; all else that rights depend on is in the HardwareState.
//
// Refused by Load: what the CPU does not have by its EntryFormat, and what is
// not modelled: CR4.PGE, PCIDs, shadow stacks, supervisor protection keys,
// linear-address masking, paging without PAE.
//
// Thread safety: Enter, Load, Access, Peek, Allows and Grants belong to the one
// thread that runs the vCPU. Flush, FlushPage, EvictAll, RequestExit and the
// other inspectors may be called by any thread. mutex_ is a leaf but for
// PhysicalMemory's own lock; `body` must call neither this CPU nor the library.

#ifndef SHADOWMMU_TESTS_HARNESS_CPU_MODEL_H_
#define SHADOWMMU_TESTS_HARNESS_CPU_MODEL_H_

#include <atomic>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/hardware_walk.h"
#include "tests/harness/physical_memory.h"
#include "tests/harness/tlb.h"

namespace shadowmmu::testing {

// What became of one access.
struct CpuResult {
  enum class Kind : uint8_t {
    kHit,                // went through, at `hpa`
    kPageFault,          // #PF with `error_code`, CR2 = `gva`
    kGeneralProtection,  // #GP(0): `gva` is not canonical
    kBroken,             // the tables are no tables; `broken` says how
  };
  Kind kind = Kind::kBroken;
  Gva gva{};  // the linear address, cut to 32 bits outside long mode
  Hpa hpa{};
  Level level = Level::k4K;  // of the page
  bool from_tlb = false;     // no walk was made
  uint32_t error_code = 0;
  std::string broken{};

  bool hit() const { return kind == Kind::kHit; }
};
std::ostream& operator<<(std::ostream& os, const CpuResult& result);

class CpuModel {
 public:
  // Touches the memory at the address of a hit.
  using Body = absl::FunctionRef<void(Hpa)>;

  // `memory` is not owned and must outlive the CPU.
  CpuModel(const PhysicalMemory* memory, const EntryFormat& format);
  CpuModel(const CpuModel&) = delete;
  CpuModel& operator=(const CpuModel&) = delete;

  // ---- Registers ----

  // An entry into the guest: Load if `state` differs from what is loaded, else
  // only the PDPTEs are read again, as a VM entry does without flushing (SDM
  // vol. 3, 26.3.2.4). Empty, or why the CPU refuses; it then has no state.
  std::string Enter(const HardwareState& state);
  // MOV to CR3 with the other registers: drops all that is cached.
  std::string Load(const HardwareState& state);

  // ---- Accesses ----

  // Needs a state (a CHECK).
  CpuResult Access(Gva gva, const shadowmmu::Access& access);
  // The same; a hit calls `body` with its address, and no Flush returns between
  // the translation and the end of `body`.
  CpuResult Access(Gva gva, const shadowmmu::Access& access, Body body);

  // ---- What other threads do to it ----

  void Flush(FlushRange range);
  void FlushPage(Gva gva);
  // A CPU may forget anything at any time; this one does when told.
  void EvictAll() { Flush(FlushRange::All()); }
  // A kick: whoever runs the vCPU should leave the guest.
  void RequestExit() { exit_requested_.store(true); }
  bool exit_requested() const { return exit_requested_.load(); }
  void ClearExitRequest() { exit_requested_.store(false); }

  // ---- Inspection ----

  // These three need a state, take no lock, and change nothing: no A or D bit,
  // nothing that is cached, nor do they look there.
  //
  // What a walk of the tables as they are now finds for `gva`, whatever the
  // access. nullopt where every access faults: an entry is not present or has
  // reserved bits set, or `gva` is not canonical. Broken tables are a CHECK.
  std::optional<TlbEntry> Peek(Gva gva) const;
  // Do `rights` let `access` through, by the registers that are loaded?
  bool Allows(const Rights& rights, const shadowmmu::Access& access) const;
  // Would `access` go through, by the tables as they are now?
  bool Grants(Gva gva, const shadowmmu::Access& access) const;

  std::vector<TlbEntry> TlbEntries() const;
  std::vector<StructureEntry> StructureEntries() const;
  // Walks since it was made, those that ended in a fault included.
  uint64_t walks() const { return walks_.load(std::memory_order_relaxed); }
  // What is loaded; nullopt before the first Load and after a refused one.
  std::optional<HardwareState> state() const;

 private:
  // `gva` as the CPU translates it; nullopt if it is not canonical.
  std::optional<Gva> LinearAddress(Gva gva) const;
  // With mutex_ held:
  std::string LoadLocked(const HardwareState& state);
  CpuResult AccessLocked(Gva gva, const shadowmmu::Access& access);
  CpuResult WalkLocked(Gva gva, const shadowmmu::Access& access);
  CpuResult PageFaultLocked(Gva gva, uint32_t error_code);

  mutable std::mutex mutex_;
  // Written by the vCPU's thread with mutex_ held; others read them under it.
  WalkContext context_;
  bool loaded_ = false;
  // Guarded by mutex_:
  Tlb tlb_;

  std::atomic<uint64_t> walks_{0};
  std::atomic<bool> exit_requested_{false};
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_CPU_MODEL_H_
