#include "src/mmu/spte.h"

namespace shadowmmu {

SpteFormat::SpteFormat(const EntryFormat& format)
    : format_(format),
      address_mask_(pte::kAddress &
                    ((uint64_t{1} << format.physical_bits) - 1) &
                    ~format.encryption_bit) {
  for (const bool pae : {false, true}) {
    for (unsigned level = 1; level <= ToInt(Level::k256T); ++level) {
      for (const bool page_size : {false, true}) {
        reserved_[pae][level][page_size] =
            ReservedBits(pae, LevelFromInt(level), page_size);
      }
      suspect_ |= pte::kPageSize | reserved_[pae][level][false];
    }
  }
}

uint64_t SpteFormat::ReservedBits(bool pae, Level level, bool page_size) const {
  uint64_t reserved = pte::kAddress & ~address_mask_ & ~format_.encryption_bit;
  if (pae) reserved |= uint64_t{0x7ff} << 52;
  if (!format_.has_no_execute) reserved |= pte::kNoExecute;
  // Bit 7 of an entry of a page table is PAT.
  if (!page_size || level == Level::k4K) return reserved;
  const bool may_be_large =
      level == Level::k2M || (level == Level::k1G && format_.has_1g_pages);
  if (!may_be_large) return reserved | pte::kPageSize;
  // Between the PAT bit (12) and the address of the large page.
  return reserved | ((BytesPerEntry(level) - 1) & ~((uint64_t{1} << 13) - 1));
}

uint64_t SpteFormat::ReservedBitsSetInRoot(Spte spte) const {
  if (!spte.present()) return 0;
  constexpr uint64_t kMayBeSet =
      pte::kPresent | pte::kWriteThrough | pte::kCacheDisable | 0xe00;
  return spte.bits() & ~(kMayBeSet | address_mask_ | format_.encryption_bit);
}

}  // namespace shadowmmu
