#include "tests/harness/hardware_walk.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"

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

Rights RightsIn(const WalkContext& context, uint64_t entry) {
  return {.writable = (entry & hw_entry::kWritable) != 0,
          .user = (entry & hw_entry::kUser) != 0,
          .executable =
              !context.no_execute() || (entry & hw_entry::kNoExecute) == 0};
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

// One attempt at a walk. An attempt that finds an entry changed under it ends
// with nothing.
class Attempt {
 public:
  Attempt(const WalkContext& context, Gva gva, const Access& access)
      : context_(context), gva_(gva), access_(access) {}

  std::optional<WalkResult> Run(const std::optional<StructureEntry>& start) {
    Cursor cursor;
    if (start.has_value()) {
      cursor = {start->table, Below(start->level), start->rights};
    } else if (context_.long_mode()) {
      const bool five = (context_.state.cr4 & cr4::kFiveLevels) != 0;
      cursor.table = AddressIn(context_.format, context_.state.root.value());
      cursor.level = five ? Level::k256T : Level::k512G;
    } else {
      const uint64_t pdpte = context_.pdptes[IndexAt(gva_, Level::k1G) & 3];
      if ((pdpte & hw_entry::kPresent) == 0) return Fault(0);
      cursor.table = AddressIn(context_.format, pdpte);
      cursor.level = Level::k2M;
    }
    return RunFrom(cursor);
  }

 private:
  std::optional<WalkResult> RunFrom(Cursor cursor) {
    for (;; cursor.level = Below(cursor.level)) {
      const Hpa at =
          cursor.table + IndexAt(gva_, cursor.level) * sizeof(uint64_t);
      void* const pointer = context_.memory->PointerToTable(at);
      if (pointer == nullptr) return Broken(cursor);
      const std::atomic_ref<uint64_t> slot(*static_cast<uint64_t*>(pointer));
      const uint64_t entry = slot.load();
      if ((entry & hw_entry::kPresent) == 0) return Fault(0);
      if (ReservedBitsSet(context_, cursor.level, entry) != 0) {
        return Fault(pf_error::kPresent | pf_error::kReserved);
      }
      cursor.rights = Intersect(cursor.rights, RightsIn(context_, entry));
      if (IsLeaf(cursor.level, entry)) return Finish(slot, entry, cursor);
      if (!SetBits(slot, entry, hw_entry::kAccessed)) return std::nullopt;
      cursor.table = AddressIn(context_.format, entry);
      hit_.structures.push_back({FirstAddress(gva_, cursor.level), cursor.level,
                                 cursor.table, cursor.rights});
    }
  }

  std::optional<WalkResult> Finish(std::atomic_ref<uint64_t> slot,
                                   uint64_t entry, const Cursor& cursor) {
    if (!HardwareAllows(context_, cursor.rights, access_)) {
      return Fault(pf_error::kPresent);
    }
    const bool write = access_.type == AccessType::kWrite;
    const uint64_t bits =
        hw_entry::kAccessed | (write ? hw_entry::kDirty : uint64_t{0});
    if (!SetBits(slot, entry, bits)) return std::nullopt;
    const uint64_t offset_bits = BytesPerEntry(cursor.level) - 1;
    const Hpa page(AddressIn(context_.format, entry).value() & ~offset_bits);
    const bool dirty = !context_.format.has_accessed_dirty || write ||
                       (entry & hw_entry::kDirty) != 0;
    hit_.translation = {FirstAddress(gva_, cursor.level), cursor.level,
                        ToPfn(page), cursor.rights, dirty};
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
  WalkResult Broken(const Cursor& cursor) const {
    return WalkBroken{absl::StrCat(
        "the walk of gva 0x", absl::Hex(gva_.value()),
        " needs a table of level ", ToInt(cursor.level), " at hpa 0x",
        absl::Hex(cursor.table.value()), ", which is not memory for tables")};
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

uint32_t HardwareErrorCode(const WalkContext& context, const Access& access,
                           uint32_t cause) {
  uint32_t code = cause;
  if (access.type == AccessType::kWrite) code |= pf_error::kWrite;
  if (IsUserAccess(access)) code |= pf_error::kUser;
  // SDM vol. 3, 4.7: I/D only with NXE (and PAE, always set here) or SMEP.
  const bool reports_fetch =
      context.no_execute() ||
      (context.state.cr4 & cr4::kSupervisorNoExecute) != 0;
  if (access.type == AccessType::kFetch && reports_fetch) {
    code |= pf_error::kFetch;
  }
  return code;
}

// SMEP, SMAP and protection keys belong here; CpuModel::Load refuses them yet.
bool HardwareAllows(const WalkContext& context, const Rights& rights,
                    const Access& access) {
  const bool user = IsUserAccess(access);
  if (user && !rights.user) return false;
  switch (access.type) {
    case AccessType::kRead:
      return true;
    case AccessType::kFetch:
      return rights.executable;
    case AccessType::kWrite:
      return rights.writable ||
             (!user && (context.state.cr0 & cr0::kWriteProtect) == 0);
  }
  return false;
}

uint64_t ReservedBitsSet(const WalkContext& context, Level level,
                         uint64_t entry) {
  const EntryFormat& format = context.format;
  uint64_t reserved = ReservedAddressBits(format);
  if (!context.no_execute()) reserved |= hw_entry::kNoExecute;
  // With PAE paging bits 52 to 62 are reserved too (SDM vol. 3, tables 4-9 to
  // 4-11); in long mode they are ignored or hold a protection key.
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
