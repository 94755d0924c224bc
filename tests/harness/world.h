// World: what the interpreter believes of a stream's VM: slots, host, memory,
// vCPUs, and which guest tables it cannot vouch for. Kept by the ops alone; the
// backend is asked for nothing.
//
//  1. Slots and mappings change by the Note calls only, which keep `layout` and
//     `tables` (the versions below) in step.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_WORLD_H_
#define SHADOWMMU_TESTS_HARNESS_WORLD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/registers.h"
#include "tests/harness/guest_flushes.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/host_model.h"
#include "tests/harness/ops.h"
#include "tests/harness/oracle.h"
#include "tests/harness/taint.h"

namespace shadowmmu::testing {

// A vCPU as the ops made it.
struct VcpuModel {
  bool exists = false;
  PagingRegisters registers;
  Pdptes pdptes{};  // as last loaded; zero outside PAE paging
  CpuFeatures features = {};
  AddressSpace space = AddressSpace::kNormal;
  Taint::Time entered = 0;  // Taint::invalidated() at its last entry
  GuestFlushes flushes = {};

  OracleCpu cpu() const {
    return {.registers = registers, .pdptes = pdptes, .features = features};
  }
};

class World {
 public:
  // One page of guest memory.
  struct Page {
    SlotSpec slot;
    Hva hva;
    std::optional<HostModel::Backing> backing;
    bool in_progress = false;  // of a notifier

    // May a guest's access read, or write, it?
    bool readable() const { return backing.has_value() && !in_progress; }
    bool writable() const {
      return readable() && backing->writable &&
             !Has(slot.flags, SlotFlags::kReadOnly);
    }
  };

  explicit World(const VmShape& vm);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const VmShape& vm() const { return vm_; }
  const HostModel& host() const { return host_; }
  const GuestMemory& memory() const { return memory_; }
  Taint& taint() { return taint_; }
  VcpuModel& vcpu(uint32_t id) { return vcpus_[id]; }

  // ---- Looking ----
  // nullopt where no slot is.
  std::optional<Page> PageAt(AddressSpace space, Gfn gfn) const;
  // What `access` at `gva` comes to for a vCPU.
  OracleResult Translate(const VcpuModel& vcpu, Gva gva,
                         const Access& access) const;
  // Did a walk that came to `truth` read an entry that changed behind the
  // library's back?
  bool Tainted(const VcpuModel& vcpu, const OracleResult& truth) const;
  // May the vCPU still have what the last entry of the walk of `gva` said
  // before its guest stored into it? Not if it has flushed since; nor if an
  // entry above has changed since, for then no walk led there before: what a
  // guest links it need not flush (SDM vol. 3, 4.10.4.3).
  bool MayBeStale(const VcpuModel& vcpu, Gva gva,
                  const OracleResult& truth) const;
  // Either.
  bool MayDiffer(const VcpuModel& vcpu, Gva gva,
                 const OracleResult& truth) const {
    return Tainted(vcpu, truth) || MayBeStale(vcpu, gva, truth);
  }
  // The guest tables that a vCPU's root is made of: what CR3 names, or with PAE
  // paging the page directories of the PDPTEs that are present. None with
  // paging off.
  std::vector<Gfn> RootTables(const VcpuModel& vcpu) const;
  // Whether `gfn` is one of these, of any vCPU.
  bool IsRootTable(Gfn gfn) const;
  // The PDPTE registers of a vCPU that takes `registers`: as they are, or
  // `load`ed from memory as VcpuMmu::SetRegisters says, with its errors; zero
  // outside PAE paging.
  absl::StatusOr<Pdptes> PdptesFor(const VcpuModel& vcpu,
                                   const PagingRegisters& registers,
                                   bool load) const;
  // Changes whenever slots, mappings or ranges in progress do.
  uint64_t layout() const { return layout_; }
  // Changes whenever `layout` does, and when a guest table may have.
  uint64_t tables() const { return tables_; }

  // ---- What happened ----
  void NoteSlot(const Op& op);    // a slot op that succeeded
  void NoteChange(const Op& op);  // host.unmap ... host.readonly
  void NoteBegin(HvaRange hvas);
  bool NoteEnd(HvaRange hvas);  // false: no such range
  // The host stored, with no trap.
  void NoteHostStore(uint32_t frame, uint64_t offset,
                     std::span<const std::byte> bytes);
  // A guest's store at `gpa`, within one page that is backed: emulated by the
  // library, or by the CPU itself.
  enum class By : uint8_t { kLibrary, kCpu };
  void NoteGuestStore(AddressSpace space, Gpa gpa,
                      std::span<const std::byte> bytes, By by);
  // The library set bits of a guest's entry that is backed.
  void NoteEntryBits(AddressSpace space, Gpa entry, uint64_t bits);
  // A store went into the page, through a slot that may log. NoteGuestStore
  // notes it by itself.
  void NoteDirty(AddressSpace space, Gfn gfn);
  // The pages of a slot, from 0, that were stored into since the last call, or
  // since it began to log.
  std::set<uint64_t> TakeDirty(AddressSpace space, SlotId id);
  // Everything is invalid.
  void NoteInvalidation();

 private:
  bool IsIn(AddressSpace space, Gfn gfn, uint32_t frame) const;
  void Write(uint32_t frame, uint64_t offset, std::span<const std::byte> bytes);
  void NoteStoreTo(uint32_t frame, uint64_t offset, size_t bytes,
                   std::optional<Gfn> seen_through);
  void TaintSlot(const SlotSpec& slot);
  void NoteFlags(SlotSpec* slot, SlotFlags flags);

  const VmShape vm_;
  HostModel host_;
  GuestMemory memory_{&host_};
  Oracle oracle_;
  Taint taint_;
  std::array<VcpuModel, kStreamMaxVcpus> vcpus_;
  // By slot.
  std::map<std::pair<AddressSpace, SlotId>, std::set<uint64_t>> dirty_;
  uint64_t layout_ = 0;
  uint64_t tables_ = 0;
  // When 4 bytes of a frame last changed, by offset / 4.
  std::map<std::pair<uint32_t, uint64_t>, Taint::Time> changed_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_WORLD_H_
