// PhysicalMemory: what a simulated CPU sees of host physical memory while it
// walks shadow tables.
//
// Only memory that holds tables is visible: a walk that is led anywhere else
// (into guest memory, say) has found broken tables, and the CPU model says so
// instead of reading on.
//
// Thread safety: every implementation may be called by any thread at any time.

#ifndef SHADOWMMU_TESTS_HARNESS_PHYSICAL_MEMORY_H_
#define SHADOWMMU_TESTS_HARNESS_PHYSICAL_MEMORY_H_

#include "shadowmmu/address.h"

namespace shadowmmu::testing {

class PhysicalMemory {
 public:
  virtual ~PhysicalMemory() = default;

  // Where this process has the byte at `hpa`, or nullptr where `hpa` is not
  // memory for tables. What follows is contiguous to the end of the 4 KiB page.
  virtual void* PointerToTable(Hpa hpa) const = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_PHYSICAL_MEMORY_H_
