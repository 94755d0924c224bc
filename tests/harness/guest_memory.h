// GuestMemory: guest physical memory from the test's side: a list of slots that
// the test keeps for itself, and a Host.
//
// It asks the library for nothing, so that what it says can be held against
// what the library says. Its writes are those of a host process that no trap
// sees: the library learns of them only if it is told.
//
// Rules:
//  1. The list is what the test believes; keep it in step with the Mmu's slots.
//  2. Slot flags do not matter to Read and Write: the host may write memory
//     that is read-only for the guest. What the host itself refuses fails.
//
// Thread safety: reads and writes of memory as the Host; changes of the list
// need every other call to be over.

#ifndef SHADOWMMU_TESTS_HARNESS_GUEST_MEMORY_H_
#define SHADOWMMU_TESTS_HARNESS_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "shadowmmu/address.h"
#include "shadowmmu/host.h"
#include "shadowmmu/memslot.h"

namespace shadowmmu::testing {

class GuestMemory {
 public:
  // `host` is not owned and must outlive this.
  explicit GuestMemory(Host* host) : host_(host) {}

  // ---- The list of slots ----

  // The id must be free in its address space (a CHECK).
  void AddSlot(const SlotSpec& slot);
  // False if there is none.
  bool RemoveSlot(AddressSpace space, SlotId id);
  // The slot of that id; the first to change its base or flags. nullptr if
  // none.
  SlotSpec* MutableSlot(AddressSpace space, SlotId id);
  const SlotSpec* FindSlot(AddressSpace space, SlotId id) const;
  const std::vector<SlotSpec>& slots() const { return slots_; }
  std::optional<SlotSpec> SlotAt(AddressSpace space, Gfn gfn) const;
  // Where the host has the byte at `gpa`; nullopt where no slot is.
  std::optional<Hva> HvaOf(AddressSpace space, Gpa gpa) const;

  // ---- Memory ----

  // May cross pages and slots (then it is not atomic, and may be half done when
  // it fails). False where no slot is or the host refuses.
  bool Read(AddressSpace space, Gpa gpa, std::span<std::byte> out) const;
  bool Write(AddressSpace space, Gpa gpa, std::span<const std::byte> bytes);
  // One naturally aligned word, atomically.
  std::optional<uint64_t> Read64(AddressSpace space, Gpa gpa) const;
  bool Write64(AddressSpace space, Gpa gpa, uint64_t value);

 private:
  Host* const host_;
  std::vector<SlotSpec> slots_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_GUEST_MEMORY_H_
