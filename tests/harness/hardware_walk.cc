#include "tests/harness/hardware_walk.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// A walk that changing entries made start over this often is stuck.
constexpr int kMaxRestarts = 1 << 20;

// Bits first to last, both included; none if last < first.
constexpr uint64_t BitRange(unsigned first, unsigned last) {
  if (last < first) return 0;
  const uint64_t below = (uint64_t{1} << first) - 1;
  const uint64_t through =
      last == 63 ? ~uint64_t{0} : (uint64_t{1} << (last + 1)) - 1;
  return through & ~below;
}

// Address bits that the CPU does not have (SDM vol. 3, 4.1.4). The encryption
// bit is one that it does have, wherever it lies (APM vol. 2, 15.34.6).
uint64_t ReservedAddressBits(const EntryFormat& format) {
  return BitRange(format.physical_bits, 51) & ~format.encryption_bit;
}

Hpa AddressIn(const EntryFormat& format, uint64_t entry) {
  return Hpa(entry & BitRange(12, 51) & ~format.encryption_bit);
}

bool IsUserAccess(const Access& access) {
  return access.privilege == Privilege::kUser &&
         access.implicit == Implicit::kNo;
}

bool IsLeaf(Level level, uint64_t entry) {
  return level == Level::k4K ||
         (level <= Level::k1G && (entry & hw_entry::kPageSize) != 0);
}

Rights RightsIn(const WalkContext& context, uint64_t entry, bool leaf) {
  Rights rights;
  rights.writable = (entry & hw_entry::kWritable) != 0;
  rights.user = (entry & hw_entry::kUser) != 0;
  rights.executable =
      !context.no_execute() || (entry & hw_entry::kNoExecute) == 0;
  if (leaf && context.long_mode()) {
    rights.key = static_cast<unsigned>(entry >> hw_entry::kKeyShift) & 15;
  }
  return rights;
}

Gva FirstAddress(Gva gva, Level level) {
  return Gva(gva.value() & ~(BytesPerEntry(level) - 1));
}

// The table that the walk has come to, and the rights on the way there.
struct Cursor {
  Hpa table;
  Level level = Level::k4K;
  Rights rights;
};

// Where a walk starts; nullopt if its PDPTE register is not present.
std::optional<Cursor> AtRoot(const WalkContext& context, Gva gva) {
  Cursor cursor;
  if (context.long_mode()) {
    cursor.table = AddressIn(context.format, context.state.root.value());
    cursor.level = context.HasCr4(cr4::kLa57) ? Level::k256T : Level::k512G;
    return cursor;
  }
  const uint64_t pdpte = context.pdptes[IndexAt(gva, Level::k1G) & 3];
  if ((pdpte & hw_entry::kPresent) == 0) return std::nullopt;
  cursor.table = AddressIn(context.format, pdpte);
  cursor.level = Level::k2M;
  return cursor;
}

// Where the entry that the walk needs now lies; nullptr if nowhere.
uint64_t* SlotAt(const WalkContext& context, Gva gva, const Cursor& cursor) {
  return static_cast<uint64_t*>(context.memory->PointerToTable(
      cursor.table + IndexAt(gva, cursor.level) * sizeof(uint64_t)));
}

std::string NoTable(Gva gva, const Cursor& cursor) {
  return absl::StrCat("the walk of gva 0x", absl::Hex(gva.value()),
                      " needs a table of level ", ToInt(cursor.level),
                      " at hpa 0x", absl::Hex(cursor.table.value()),
                      ", which is not memory for tables");
}

// What a leaf that reads `entry` translates.
TlbEntry Translation(const WalkContext& context, Gva gva, const Cursor& cursor,
                     uint64_t entry) {
  const uint64_t offset_bits = BytesPerEntry(cursor.level) - 1;
  const Hpa page(AddressIn(context.format, entry).value() & ~offset_bits);
  const bool dirty =
      !context.format.has_accessed_dirty || (entry & hw_entry::kDirty) != 0;
  return {FirstAddress(gva, cursor.level), cursor.level, ToPfn(page),
          cursor.rights, dirty};
}

// Does the protection key deny what the page may allow (SDM vol. 3, 4.6.2)?
bool KeyDenies(const WalkContext& context, const Rights& rights,
               const Access& access) {
  if (!context.long_mode() || !context.HasCr4(cr4::kPke)) return false;
  if (!rights.user || access.type == AccessType::kFetch) return false;
  const uint32_t of_key = access.pkru >> (2 * rights.key);
  const bool access_disabled = (of_key & 1) != 0;  // AD
  const bool write_disabled = (of_key & 2) != 0;   // WD
  if (access_disabled) return true;
  return write_disabled && access.type == AccessType::kWrite &&
         (IsUserAccess(access) || context.write_protect());
}

// One attempt at a walk. An attempt that finds an entry changed under it ends
// with nothing.
class Attempt {
 public:
  Attempt(const WalkContext& context, Gva gva, const Access& access)
      : context_(context), gva_(gva), access_(access) {}

  std::optional<WalkResult> Run(const std::optional<StructureEntry>& start) {
    if (start.has_value()) {
      return RunFrom({start->table, Below(start->level), start->rights});
    }
    const std::optional<Cursor> root = AtRoot(context_, gva_);
    return root.has_value() ? RunFrom(*root) : Fault(0);
  }

 private:
  std::optional<WalkResult> RunFrom(Cursor cursor) {
    for (;; cursor.level = Below(cursor.level)) {
      uint64_t* const pointer = SlotAt(context_, gva_, cursor);
      if (pointer == nullptr) return WalkBroken{NoTable(gva_, cursor)};
      const std::atomic_ref<uint64_t> slot(*pointer);
      const uint64_t entry = slot.load();
      if ((entry & hw_entry::kPresent) == 0) return Fault(0);
      if (ReservedBitsSet(context_, cursor.level, entry) != 0) {
        return Fault(pf_error::kPresent | pf_error::kReserved);
      }
      const bool leaf = IsLeaf(cursor.level, entry);
      cursor.rights = Intersect(cursor.rights, RightsIn(context_, entry, leaf));
      if (leaf) return Finish(slot, entry, cursor);
      if (!SetBits(slot, entry, hw_entry::kAccessed)) return std::nullopt;
      cursor.table = AddressIn(context_.format, entry);
      hit_.structures[hit_.depth++] = {FirstAddress(gva_, cursor.level),
                                       cursor.level, cursor.table,
                                       cursor.rights};
    }
  }

  std::optional<WalkResult> Finish(std::atomic_ref<uint64_t> slot,
                                   uint64_t entry, const Cursor& cursor) {
    if (!HardwareAllows(context_, cursor.rights, access_)) {
      return WalkFault{DeniedErrorCode(context_, cursor.rights, access_)};
    }
    const bool write = access_.type == AccessType::kWrite;
    const uint64_t bits =
        hw_entry::kAccessed | (write ? hw_entry::kDirty : uint64_t{0});
    if (!SetBits(slot, entry, bits)) return std::nullopt;
    hit_.translation = Translation(context_, gva_, cursor, entry | bits);
    return std::move(hit_);
  }

  // Sets `bits` if the slot still holds `entry`; false if it does not.
  bool SetBits(std::atomic_ref<uint64_t> slot, uint64_t entry,
               uint64_t bits) const {
    if (!context_.format.has_accessed_dirty) return true;
    if ((entry & bits) == bits) return true;
    return slot.compare_exchange_strong(entry, entry | bits);
  }

  WalkResult Fault(uint32_t cause) const {
    return WalkFault{HardwareErrorCode(context_, access_, cause)};
  }

  const WalkContext& context_;
  const Gva gva_;
  const Access& access_;
  WalkHit hit_;
};

}  // namespace

WalkResult Walk(const WalkContext& context, Gva gva, const Access& access,
                const std::optional<StructureEntry>& start) {
  for (int i = 0; i < kMaxRestarts; ++i) {
    std::optional<WalkResult> result = Attempt(context, gva, access).Run(start);
    if (result.has_value()) return *std::move(result);
  }
  return WalkBroken{"the walk found its entries changed each time"};
}

std::optional<TlbEntry> PeekWalk(const WalkContext& context, Gva gva) {
  std::optional<Cursor> cursor = AtRoot(context, gva);
  if (!cursor.has_value()) return std::nullopt;
  for (;; cursor->level = Below(cursor->level)) {
    uint64_t* const slot = SlotAt(context, gva, *cursor);
    SMMU_CHECK(slot != nullptr) << NoTable(gva, *cursor);
    const uint64_t entry = std::atomic_ref<uint64_t>(*slot).load();
    if ((entry & hw_entry::kPresent) == 0 ||
        ReservedBitsSet(context, cursor->level, entry) != 0) {
      return std::nullopt;
    }
    const bool leaf = IsLeaf(cursor->level, entry);
    cursor->rights = Intersect(cursor->rights, RightsIn(context, entry, leaf));
    if (leaf) return Translation(context, gva, *cursor, entry);
    cursor->table = AddressIn(context.format, entry);
  }
}

uint32_t HardwareErrorCode(const WalkContext& context, const Access& access,
                           uint32_t cause) {
  uint32_t code = cause;
  if (access.type == AccessType::kWrite) code |= pf_error::kWrite;
  if (IsUserAccess(access)) code |= pf_error::kUser;
  // SDM vol. 3, 4.7: I/D only with NXE (and PAE, always set here) or SMEP.
  const bool reports_fetch = context.no_execute() || context.HasCr4(cr4::kSmep);
  if (access.type == AccessType::kFetch && reports_fetch) {
    code |= pf_error::kFetch;
  }
  return code;
}

uint32_t DeniedErrorCode(const WalkContext& context, const Rights& rights,
                         const Access& access) {
  uint32_t cause = pf_error::kPresent;
  if (KeyDenies(context, rights, access)) cause |= pf_error::kProtectionKey;
  return HardwareErrorCode(context, access, cause);
}

bool HardwareAllows(const WalkContext& context, const Rights& rights,
                    const Access& access) {
  const bool user = IsUserAccess(access);
  if (user && !rights.user) return false;
  // SDM vol. 3, 4.6.1: SMEP and SMAP are about supervisor accesses to pages
  // that user code may use.
  const bool reaches_down = !user && rights.user;
  if (access.type == AccessType::kFetch) {
    if (reaches_down && context.HasCr4(cr4::kSmep)) return false;
    return rights.executable;
  }
  if (reaches_down && context.HasCr4(cr4::kSmap)) {
    // EFLAGS.AC lifts it, but not for implicit accesses.
    if (access.implicit == Implicit::kYes || !access.eflags_ac) return false;
  }
  if (KeyDenies(context, rights, access)) return false;
  return access.type == AccessType::kRead || rights.writable ||
         (!user && !context.write_protect());
}

uint64_t ReservedBitsSet(const WalkContext& context, Level level,
                         uint64_t entry) {
  const EntryFormat& format = context.format;
  uint64_t reserved = ReservedAddressBits(format);
  if (!context.no_execute()) reserved |= hw_entry::kNoExecute;
  // With PAE paging bits 52 to 62 are reserved too (SDM vol. 3, tables 4-9 to
  // 4-11); in long mode they are ignored, but for the protection key of a leaf
  // with CR4.PKE (tables 4-16, 4-18, 4-20).
  if (!context.long_mode()) reserved |= BitRange(52, 62);
  const bool has_page_size =
      level == Level::k2M || (level == Level::k1G && format.has_1g_pages);
  if (level > Level::k4K && !has_page_size) reserved |= hw_entry::kPageSize;
  if (has_page_size && (entry & hw_entry::kPageSize) != 0) {
    // Address bits below the page's size, but for bit 12, which is PAT.
    reserved |=
        (BytesPerEntry(level) - 1) & BitRange(13, 51) & ~format.encryption_bit;
  }
  return entry & reserved;
}

uint64_t ReservedPdpteBitsSet(const EntryFormat& format, uint64_t pdpte) {
  if ((pdpte & hw_entry::kPresent) == 0) return 0;
  const uint64_t reserved = BitRange(1, 2) | BitRange(5, 8) |
                            ReservedAddressBits(format) | BitRange(52, 63);
  return pdpte & reserved;
}

}  // namespace shadowmmu::testing
