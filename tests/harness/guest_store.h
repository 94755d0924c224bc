// GuestStore: how a test writes guest memory: as the host does, with no trap,
// or as a hypervisor does that emulates a guest's store, through the library.
//
// Thread safety: as what is underneath, GuestMemory or Mmu.

#ifndef SHADOWMMU_TESTS_HARNESS_GUEST_STORE_H_
#define SHADOWMMU_TESTS_HARNESS_GUEST_STORE_H_

#include <cstddef>
#include <span>

#include "shadowmmu/address.h"
#include "shadowmmu/mmu.h"
#include "tests/harness/guest_memory.h"

namespace shadowmmu::testing {

class GuestStore {
 public:
  virtual ~GuestStore() = default;
  // Writes within one page. False when it could not.
  virtual bool Write(AddressSpace space, Gpa gpa,
                     std::span<const std::byte> bytes) = 0;
};

// The host's own stores, which the library does not see.
class UntrackedStore : public GuestStore {
 public:
  // Not owned.
  explicit UntrackedStore(GuestMemory* memory) : memory_(memory) {}
  bool Write(AddressSpace space, Gpa gpa,
             std::span<const std::byte> bytes) override {
    return memory_->Write(space, gpa, bytes);
  }

 private:
  GuestMemory* const memory_;
};

// Mmu::GuestWrite; a kRetry is tried again, a bounded number of times.
class TrackedStore : public GuestStore {
 public:
  // Not owned.
  explicit TrackedStore(Mmu* mmu) : mmu_(mmu) {}
  bool Write(AddressSpace space, Gpa gpa,
             std::span<const std::byte> bytes) override;

 private:
  Mmu* const mmu_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_GUEST_STORE_H_
