// StateCheck: is what the CPUs have cached, and what the shadow tables hold,
// true of the world?
//
//  1. Host safety, never waived: a translation of a CPU in the guest, and a
//     leaf spte, lead only to the frame that the host has there now, of a slot
//     that is there now; never to a range that a notifier has in progress; and
//     for writing never to what the host, or the slot, has read-only.
//  2. Agreement: a cached translation is what the guest's tables say, with no
//     right that they do not give, A set on all its way, and D if it lets a
//     write through. Waived where its walk may differ (World::MayDiffer).
//     The walking CPU has CR0.WP set always; where the guest has not, what its
//     supervisor may write is cached as a supervisor page ("fix-up").
//  3. No CPU in the guest can write a guest table that is shadowed.
//
// A vCPU outside the guest may have anything cached; what counts is what it
// still has when it is next inside. So the caller checks those inside.
//
// Each check returns what is wrong, in words; empty if nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_STATE_CHECK_H_
#define SHADOWMMU_TESTS_HARNESS_STATE_CHECK_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/harness/backend.h"
#include "tests/harness/oracle.h"
#include "tests/harness/tlb.h"
#include "tests/harness/world.h"

namespace shadowmmu::testing {

class StateCheck {
 public:
  // Not owned.
  explicit StateCheck(World* world) : world_(world) {}

  // Rules 1 and 2 for what a vCPU's CPU has cached. Remembers what it found
  // good, and looks at it again only after the world has changed.
  std::string CheckTlb(uint32_t vcpu, const std::vector<TlbEntry>& entries);
  // Rule 1 for the leaves, and the slots.
  std::string CheckPicture(const Picture& picture);
  // Rule 3.
  std::string CheckNoTableWritable(uint32_t vcpu, const Picture& picture,
                                   const std::vector<TlbEntry>& entries);

 private:
  // Which frames a translation of an address space may lead to at all.
  struct Reach {
    std::vector<bool> readable;
    std::vector<bool> writable;
  };
  // What was found good, and in which world.
  struct Checked {
    uint64_t tables = ~uint64_t{0};
    VcpuModel vcpu;
    std::vector<TlbEntry> entries;
  };

  void RefreshReach();
  std::string CheckReach(AddressSpace space, Pfn pfn, bool writable) const;
  std::string CheckEntry(const VcpuModel& vcpu, const TlbEntry& entry);
  std::string CheckTranslation(const VcpuModel& vcpu, const TlbEntry& entry,
                               uint64_t page);
  std::string CheckBits(const VcpuModel& vcpu, const OracleResult& truth,
                        const TlbEntry& entry) const;
  std::string CheckLeaf(const LeafRecord& leaf) const;

  World* const world_;
  uint64_t reach_layout_ = ~uint64_t{0};
  std::array<Reach, kAddressSpaces> reach_;
  std::array<Checked, kStreamMaxVcpus> checked_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_STATE_CHECK_H_
