#include "src/mmu/guest_format.h"

#include <algorithm>

namespace shadowmmu {
namespace {

// Bits first to last, both included; none if last < first.
constexpr uint64_t Bits(unsigned first, unsigned last) {
  return first > last ? 0 : (~uint64_t{0} >> (63 - last)) >> first << first;
}

// Of an entry of 8 bytes (SDM vol. 3, 4.4.2, 4.5.4; APM vol. 2, 5.3).
uint64_t ReservedOfLong(GuestRules rules, unsigned level, bool page_size,
                        unsigned physical_bits) {
  const bool pae = rules.layout() == EntryLayout::kPae;
  uint64_t reserved = Bits(physical_bits, pae ? 62 : 51);
  if (!rules.Has(GuestRules::kNoExecute)) reserved |= pte::kNoExecute;
  if (!page_size || level == 1) return reserved;  // bit 7 of a PTE is PAT
  const bool leaf =
      level == 2 || (level == 3 && rules.Has(GuestRules::kLargePages));
  if (!leaf) return reserved | pte::kPageSize;
  // Between the PAT bit (12) and the address.
  return reserved | Bits(13, kPageShift + (level - 1) * kIndexBits - 1);
}

// Of an entry of 4 bytes (SDM vol. 3, tables 4-4 to 4-6; APM vol. 2, 5.2.2):
// only where it maps a page of 4 MiB.
uint64_t ReservedOf32Bit(GuestRules rules, unsigned level, bool page_size,
                         unsigned physical_bits) {
  if (level != 2 || !page_size || !rules.Has(GuestRules::kLargePages)) return 0;
  if (!rules.Has(GuestRules::kPse36)) return Bits(13, 21);
  return Bits(std::min(40u, physical_bits) - 19, 21);
}

}  // namespace

GuestFormat::GuestFormat(GuestRules rules, unsigned levels,
                         unsigned physical_bits)
    : levels_(levels) {
  const bool short_entries = rules.layout() == EntryLayout::k32Bit;
  if (short_entries) {
    entry_bytes_ = 4;
    index_bits_ = 10;
    if (rules.Has(GuestRules::kLargePages)) large_levels_ = 1u << 2;
  } else {
    large_levels_ = 1u << 2;
    if (rules.Has(GuestRules::kLargePages)) large_levels_ |= 1u << 3;
  }
  for (unsigned level = 1; level <= kMaxLevels; ++level) {
    for (const bool page_size : {false, true}) {
      reserved_[level][page_size ? 1 : 0] =
          short_entries
              ? ReservedOf32Bit(rules, level, page_size, physical_bits)
              : ReservedOfLong(rules, level, page_size, physical_bits);
    }
  }
}

uint64_t GuestFormat::ReservedInPageTable(GuestRules rules,
                                          unsigned physical_bits) {
  return rules.layout() == EntryLayout::k32Bit
             ? 0
             : ReservedOfLong(rules, 1, false, physical_bits);
}

EntryRange EntriesMadeFrom(PageRole role, size_t offset, size_t bytes) {
  if (role.rules().layout() != EntryLayout::k32Bit) {
    return {static_cast<unsigned>(offset / 8),
            static_cast<unsigned>((offset + bytes - 1) / 8 + 1)};
  }
  // A guest entry of a directory makes two entries, one of a page table one;
  // `part` guest entries make up the page.
  const unsigned each = role.level() == Level::k2M ? 2 : 1;
  const unsigned part = kEntriesPerTable / each;
  const auto within = [&](size_t gpte) {
    const size_t begin = size_t{role.quadrant()} * part;
    return static_cast<unsigned>(std::clamp(gpte, begin, begin + part) -
                                 begin) *
           each;
  };
  return {within(offset / 4), within((offset + bytes - 1) / 4 + 1)};
}

unsigned OffsetOfGuestEntry(PageRole role, unsigned index) {
  if (role.rules().layout() != EntryLayout::k32Bit) return index * 8;
  const unsigned each = role.level() == Level::k2M ? 2 : 1;
  return (role.quadrant() * (kEntriesPerTable / each) + index / each) * 4;
}

bool MayEditEntry(EntryLayout layout, size_t offset, size_t bytes) {
  const size_t entry = EntryBytesOf(layout);
  if (bytes == 1) return offset % entry == 0;
  return (bytes == 4 || bytes == entry) && offset % bytes == 0;
}

}  // namespace shadowmmu
