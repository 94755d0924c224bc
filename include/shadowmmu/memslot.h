// Memslots as a hypervisor describes them: a range of guest frames backed by a
// range of host virtual addresses.

#ifndef SHADOWMMU_MEMSLOT_H_
#define SHADOWMMU_MEMSLOT_H_

#include <cstdint>
#include <iosfwd>

#include "shadowmmu/address.h"

namespace shadowmmu {

// A number that the hypervisor gives; unique within its address space.
enum class SlotId : uint32_t {};
constexpr uint32_t ToInt(SlotId id) { return static_cast<uint32_t>(id); }

// Ids are below this in each address space.
inline constexpr uint32_t kMaxSlotId = 32'768;

// A slot's behaviour; combine with |.
enum class SlotFlags : uint32_t {
  kNone = 0,
  kReadOnly = 1u << 0,  // guest writes end as EmulateReason::kReadOnlySlot
  kLogDirty = 1u << 1,  // stores are recorded: Mmu::GetAndClearDirty
};
constexpr SlotFlags operator|(SlotFlags a, SlotFlags b) {
  return static_cast<SlotFlags>(static_cast<uint32_t>(a) |
                                static_cast<uint32_t>(b));
}
constexpr bool Has(SlotFlags flags, SlotFlags bit) {
  return (static_cast<uint32_t>(flags) & static_cast<uint32_t>(bit)) != 0;
}

// Words of 64 bits that hold a bit for each of a slot's pages.
constexpr uint64_t DirtyBitmapWords(uint64_t pages) {
  return (pages + 63) / 64;
}

struct SlotSpec {
  SlotId id{};
  AddressSpace space = AddressSpace::kNormal;
  Gfn base = Gfn();    // first guest frame
  uint64_t pages = 0;  // length in 4 KiB pages, at least 1
  Hva hva = Hva();     // host address of the first page, a multiple of 4 KiB
  SlotFlags flags = SlotFlags::kNone;

  GfnRange gfns() const { return {base, pages}; }
  HvaRange hvas() const { return {hva, pages << kPageShift}; }
  friend bool operator==(const SlotSpec&, const SlotSpec&) = default;
};

std::ostream& operator<<(std::ostream& os, SlotId id);
std::ostream& operator<<(std::ostream& os, const SlotSpec& slot);

}  // namespace shadowmmu

#endif  // SHADOWMMU_MEMSLOT_H_
