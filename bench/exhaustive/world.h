// World: one VM whose guest has one address of interest, with the tables of one
// paging mode on the way to it, and the CPU that walks the shadow tables.
//
//  1. The two last entries are set by SetEntries, as a guest's store would
//     that the hypervisor emulates. Back puts A and D bits back behind the
//     library's back, as a guest may with tables that are not tracked; then
//     what is shadowed must be dropped.
//  2. Memory that accesses lead to is never touched, so that it costs nothing.
//  3. Nothing here takes a lock, but for the library and the CPU model: memory
//     is at fixed places.
//
// Thread safety: one thread at a time per object.

#ifndef SHADOWMMU_BENCH_EXHAUSTIVE_WORLD_H_
#define SHADOWMMU_BENCH_EXHAUSTIVE_WORLD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "bench/exhaustive/cases.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/registers.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/guest_vcpu.h"
#include "tests/harness/oracle.h"
#include "tests/harness/physical_memory.h"

namespace shadowmmu::exhaustive {

// The protection key that is not 0.
inline constexpr unsigned kOtherKey = 5;

// The values of the two entries.
struct EntryValues {
  uint64_t pde = 0;
  uint64_t pte = 0;
  friend bool operator==(const EntryValues&, const EntryValues&) = default;
};

class World {
 public:
  explicit World(GuestMode mode);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Gva gva() const { return gva_; }
  // Others in the same large page, where there is one: in the 4 KiB beside; in
  // the other 2 MiB of a page of 4 MiB.
  Gva beside() const { return Gva(gva_.value() ^ kPageSize); }
  Gva other_half() const {
    return Gva(gva_.value() ^ BytesPerEntry(Level::k2M));
  }
  VcpuMmu& mmu() { return *vcpu_; }
  testing::CpuModel& cpu() { return *cpu_; }
  // The two together, the hypervisor's loop between them.
  testing::GuestVcpu& guest() { return *guest_; }

  // ---- Registers ----

  PagingRegisters RegistersFor(const RegisterSet& registers) const;
  void SetRegisters(const PagingRegisters& registers);
  // Throws away all that is shadowed.
  void InvalidateAll();
  // What the library's vCPU holds, for the oracle.
  testing::OracleCpu OracleCpu() const;

  // ---- Entries ----

  EntryValues ValuesOf(const EntryPair& entries,
                       const RegisterSet& registers) const;
  EntryValues Values() const;
  void SetEntries(const EntryValues& values);
  void PutBack(const EntryValues& values);
  // Drops all that is shadowed of these addresses: INVLPG, and for a large
  // page on host pages of 4 KiB a notifier.
  void DropAll(bool direct);

  // ---- The oracle ----

  // It reads the two entries as memory has them, or as these.
  void ShowOracle(const std::optional<EntryValues>& values);
  // Bits of the leaf to show it wrong, for tests of the test.
  void LieToOracle(const EntryValues& flipped);
  testing::OracleResult Ask(const testing::OracleCpu& cpu,
                            const Access& access) const;
  // Where the host has it.
  Hpa HpaOf(Gpa gpa) const;
  // The bits that it would set in the two entries; all others must have them.
  EntryValues UpdatesIn(const testing::OracleResult& result) const;

 private:
  class TheHost;
  class OracleView;

  Hva HvaOf(Gpa gpa) const;
  void MakeTables();
  void Write(Gpa gpa, uint64_t value);

  const GuestMode mode_;
  const Gva gva_;
  const unsigned entry_bytes_;
  std::unique_ptr<TheHost> host_;
  std::unique_ptr<OracleView> view_;
  std::unique_ptr<testing::GuestMemory> memory_;
  std::unique_ptr<testing::GuestMemory> seen_;  // by the oracle
  std::unique_ptr<testing::Oracle> oracle_;
  std::unique_ptr<Mmu> library_;
  std::unique_ptr<VcpuMmu> vcpu_;
  std::unique_ptr<testing::CpuModel> cpu_;
  std::unique_ptr<testing::GuestVcpu> guest_;
  Gpa root_;
  Gpa pde_;
  Gpa pte_;
  Gpa table_;  // that the directory entry leads to
};

}  // namespace shadowmmu::exhaustive

#endif  // SHADOWMMU_BENCH_EXHAUSTIVE_WORLD_H_
