// HandTables: shadow tables that a test writes by hand, entry by entry, in the
// table memory of a TestHost.
//
// Entries on the way to a leaf grant everything, so that the leaf decides; a
// test then changes any entry through Slot.
//
// Thread safety: Slot's memory is shared with CPUs: use std::atomic_ref where
// they run at the same time.

#ifndef SHADOWMMU_TESTS_HARNESS_TEST_HAND_TABLES_H_
#define SHADOWMMU_TESTS_HARNESS_TEST_HAND_TABLES_H_

#include <cstdint>

#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/hardware_walk.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

inline constexpr uint64_t kLink =
    hw_entry::kPresent | hw_entry::kWritable | hw_entry::kUser;

class HandTables {
 public:
  // The level of the root: k512G and k256T for long mode, k1G for PAE.
  HandTables(TestHost* host, Level top)
      : host_(host),
        top_(top),
        memory_(*host->AllocateTables(kTables)),
        low_page_(*host->AllocateLowPage()) {
    // The first root of PAE tables is not the first 32 bytes of its page.
    root_ = top == Level::k1G ? low_page_.hpa + 64 : NewTable();
  }
  ~HandTables() {
    host_->FreeTables(memory_);
    host_->FreeLowPage(low_page_);
  }
  HandTables(const HandTables&) = delete;
  HandTables& operator=(const HandTables&) = delete;

  // What a CPU loads to walk these tables: WP and NXE set.
  HardwareState State() const {
    HardwareState state;
    state.root = root_;
    state.cr0 = cr0::kPg | cr0::kPe | cr0::kWp;
    state.cr4 = cr4::kPae;
    state.efer = efer::kNxe;
    if (top_ != Level::k1G) {
      state.efer |= efer::kLme | efer::kLma;
    }
    if (top_ == Level::k256T) state.cr4 |= cr4::kLa57;
    return state;
  }

  // The entry of `gva` at `level`; makes the tables above it.
  uint64_t& Slot(Gva gva, Level level) {
    Hpa table = root_;
    for (Level at = top_; at != level; at = Below(at)) {
      uint64_t& entry = At(table, gva, at);
      if (entry == 0) {
        entry = NewTable().value() |
                (at == Level::k1G && top_ == Level::k1G ? hw_entry::kPresent
                                                        : kLink);
      }
      table = Hpa(entry & kAddress);
    }
    return At(table, gva, level);
  }

  // Writes a leaf: P, and PS as the level needs, are added to `bits`.
  void Map(Gva gva, Pfn pfn, Level level, uint64_t bits) {
    const uint64_t size = level == Level::k4K ? 0 : hw_entry::kPageSize;
    Slot(gva, level) = ToHpa(pfn).value() | hw_entry::kPresent | size | bits;
  }

  Hpa root() const { return root_; }
  // A fresh table.
  Hpa NewTable() {
    const uint32_t i = used_++;
    return memory_.block_hpa[i / kEntriesPerTable] +
           (i % kEntriesPerTable) * kPageSize;
  }

 private:
  static constexpr uint32_t kTables = 64;
  // All tables lie below 64 GiB; bits above may be what a test has set.
  static constexpr uint64_t kAddress = 0xf'ffff'f000;

  uint64_t& At(Hpa table, Gva gva, Level level) {
    void* const pointer = host_->PointerToTable(table);
    return static_cast<uint64_t*>(pointer)[IndexAt(gva, level)];
  }

  TestHost* const host_;
  const Level top_;
  const TableMemory memory_;
  const LowPage low_page_;
  Hpa root_;
  uint32_t used_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_TEST_HAND_TABLES_H_
