#include "tests/harness/oracle.h"

#include <algorithm>
#include <ostream>
#include <span>
#include <utility>

namespace shadowmmu::testing {
namespace {

// Bits of an entry (SDM 4.5.4, tables 4-15 to 4-20; APM 5.3.3, 5.4). Written
// down here once more on purpose: rule "shares no code".
constexpr uint64_t kPresent = 0x1;
constexpr uint64_t kWritable = 0x2;
constexpr uint64_t kUser = 0x4;
constexpr uint64_t kAccessed = 0x20;
constexpr uint64_t kDirty = 0x40;
constexpr uint64_t kPageSize = 0x80;
constexpr uint64_t kNoExecute = 0x8000'0000'0000'0000;
constexpr uint64_t kTableAddress = 0x000f'ffff'ffff'f000;

// Modes that have their own rules, not written yet.
constexpr uint64_t kUnmodelledCr4 =
    cr4::kFiveLevels | cr4::kProcessContextIds | cr4::kSupervisorNoExecute |
    cr4::kSupervisorNoAccess | cr4::kProtectionKeys |
    cr4::kSupervisorProtectionKeys;

// One level of a paging mode, from the root down.
struct LevelRule {
  Level level;
  unsigned shift;       // of the index within the address
  uint64_t index_mask;  // entries of the table, less one
  bool page_size;       // PS makes it a leaf (else PS is reserved, or PAT)
  uint64_t always_reserved;
};

// SDM 4.5.4; APM 5.3.3 (four levels of 512 entries). PS is reserved in a PML4E
// (SDM table 4-15; APM 5.3.3: must be zero).
constexpr LevelRule kFourLevels[] = {
    {Level::k512G, 39, 511, false, kPageSize},
    {Level::k1G, 30, 511, true, 0},
    {Level::k2M, 21, 511, true, 0},
    {Level::k4K, 12, 511, false, 0},
};

constexpr uint64_t LowBits(unsigned count) {
  return (uint64_t{1} << count) - 1;
}

// SDM vol. 1, 3.3.7.1; APM vol. 2, 1.1.3: bits 63 to 47 are all equal.
bool IsCanonical48(uint64_t address) {
  const uint64_t top = address >> 47;
  return top == 0 || top == 0x1'ffff;
}

}  // namespace

// One translation under way.
struct Oracle::Walk {
  const GuestMemory& memory;
  const unsigned physical_bits;
  const PagingRegisters& registers;
  const AddressSpace space;
  const Gva gva;
  const Access& access;
  OracleResult result = {};

  // An entry that the walk used.
  struct Used {
    Gpa gpa;
    uint64_t value = 0;
  };
  std::vector<Used> used = {};

  bool write() const { return access.type == AccessType::kWrite; }
  bool fetch() const { return access.type == AccessType::kFetch; }
  bool nxe() const { return (registers.efer & efer::kNoExecuteEnable) != 0; }
  // SDM 4.6: "user-mode accesses" are those made at CPL 3, but for the implicit
  // ones, which are supervisor-mode whatever the CPL is. APM 5.6.
  bool user_mode() const {
    return access.privilege == Privilege::kUser &&
           access.implicit == Implicit::kNo;
  }

  void RunUnpaged();
  void RunPaged(std::span<const LevelRule> levels);
  // What follows an entry: go on to the next level, or the walk has ended.
  enum class Step { kNext, kLeaf, kEnd };
  Step Use(const LevelRule& rule, Gpa* table);
  bool ReadEntry(Gpa at, uint64_t* entry);
  uint64_t ReservedBits(const LevelRule& rule, uint64_t entry) const;
  bool Allowed() const;
  void PageFault(uint32_t cause);
  void Update();
  void Arrive(Gpa gpa);
};

// SDM 4.1.1: with CR0.PG clear linear addresses are physical ones; outside long
// mode both have 32 bits (SDM vol. 1, 3.2.1; APM vol. 2, 1.2).
void Oracle::Walk::RunUnpaged() { Arrive(Gpa(gva.value() & LowBits(32))); }

void Oracle::Walk::RunPaged(std::span<const LevelRule> levels) {
  // SDM vol. 1, 3.3.7.1: a reference to a non-canonical address is #GP(0), not
  // a page fault. APM vol. 2, 5.3.1.
  if (!IsCanonical48(gva.value())) {
    result.kind = OracleResult::Kind::kGuestFault;
    result.fault = {GuestFault::Vector::kGeneralProtection, 0, Gva()};
    return;
  }
  // SDM 4.5.2, table 4-12: bits 51 (or MAXPHYADDR - 1) to 12 of CR3.
  Gpa table(registers.cr3 & kTableAddress & LowBits(physical_bits));
  for (const LevelRule& rule : levels) {
    const Step step = Use(rule, &table);
    if (step == Step::kEnd) return;
    if (step == Step::kNext) continue;
    // SDM 4.6: rights are judged over all levels, once the walk is complete.
    if (!Allowed()) return PageFault(pf_error::kPresent);
    Update();
    const uint64_t offset = LowBits(rule.shift);
    return Arrive(Gpa((table.value() & ~offset) | (gva.value() & offset)));
  }
}

// Reads and judges one entry; `table` is its table on entry, and what it points
// to afterwards.
Oracle::Walk::Step Oracle::Walk::Use(const LevelRule& rule, Gpa* table) {
  const uint64_t index = (gva.value() >> rule.shift) & rule.index_mask;
  const Gpa at = *table + index * 8;
  uint64_t entry = 0;
  if (!ReadEntry(at, &entry)) return Step::kEnd;
  // SDM 4.7, P flag: 0 when the fault is due to an entry that is not present,
  // at whatever level. Nothing else in that entry counts (4.5.4).
  if ((entry & kPresent) == 0) {
    PageFault(0);
    return Step::kEnd;
  }
  // SDM 4.7, RSVD flag: a reserved bit in an entry that is present, at the
  // level where it is met, before rights. P is 1 then too. APM 8.4.2.
  if (ReservedBits(rule, entry) != 0) {
    PageFault(pf_error::kPresent | pf_error::kReserved);
    return Step::kEnd;
  }
  used.push_back({at, entry});
  // SDM 4.6.1: a page is a user-mode address if U/S is 1 in every entry, may be
  // written if R/W is 1 in every entry, and not executed if XD is 1 in any.
  // APM 5.6.
  result.user = result.user && (entry & kUser) != 0;
  result.writable = result.writable && (entry & kWritable) != 0;
  result.executable = result.executable && (entry & kNoExecute) == 0;
  *table = Gpa(entry & kTableAddress);
  // SDM 4.5.4: PS maps a page of 1 GiB from a PDPTE, of 2 MiB from a PDE; bit 7
  // of a PTE is PAT.
  const bool leaf =
      rule.level == Level::k4K || (rule.page_size && (entry & kPageSize) != 0);
  if (!leaf) return Step::kNext;
  result.level = rule.level;
  result.dirty = (entry & kDirty) != 0;
  return Step::kLeaf;
}

bool Oracle::Walk::ReadEntry(Gpa at, uint64_t* entry) {
  result.gpa = at;
  if (!memory.SlotAt(space, ToGfn(at)).has_value()) {
    result.kind = OracleResult::Kind::kTableOutsideSlots;
    return false;
  }
  result.tables.push_back(ToGfn(at));
  const std::optional<uint64_t> value = memory.Read64(space, at);
  if (!value.has_value()) {
    result.kind = OracleResult::Kind::kTableUnreadable;
    return false;
  }
  *entry = *value;
  return true;
}

uint64_t Oracle::Walk::ReservedBits(const LevelRule& rule,
                                    uint64_t entry) const {
  // SDM 4.5.4: bits 51 to MAXPHYADDR in every entry; APM 5.3.3 (MBZ).
  uint64_t reserved =
      rule.always_reserved | (LowBits(52) & ~LowBits(physical_bits));
  // SDM 4.5.4: bit 63 if EFER.NXE is clear; APM 5.6.1.
  if (!nxe()) reserved |= kNoExecute;
  // SDM tables 4-16 and 4-18: in a large page's entry bits 29:13 (1 GiB) and
  // 20:13 (2 MiB). Bit 12 is PAT. APM 5.3.4, 5.3.5.
  if (rule.page_size && (entry & kPageSize) != 0) {
    reserved |= LowBits(rule.shift) & ~LowBits(13);
  }
  return entry & reserved;
}

// SDM 4.6.1; APM 5.6. SMEP, SMAP and protection keys would come in here.
bool Oracle::Walk::Allowed() const {
  if (user_mode() && !result.user) return false;
  // Writes: user-mode ones need R/W in every entry; supervisor-mode ones too,
  // but only with CR0.WP set.
  if (write() && !result.writable) {
    const bool wp = (registers.cr0 & cr0::kWriteProtect) != 0;
    if (wp || user_mode()) return false;
  }
  // Fetches: XD counts only with EFER.NXE set (else it is reserved, above).
  return !fetch() || result.executable;
}

// SDM 4.7; APM 8.4.2.
void Oracle::Walk::PageFault(uint32_t cause) {
  uint32_t code = cause;
  // W/R: the access was a write, whatever caused the fault.
  if (write()) code |= pf_error::kWrite;
  // U/S: the access was a user-mode one.
  if (user_mode()) code |= pf_error::kUser;
  // I/D: the access was a fetch, if CR4.PAE and EFER.NXE are set (or SMEP).
  if (fetch() && nxe()) code |= pf_error::kFetch;
  result.kind = OracleResult::Kind::kGuestFault;
  result.gpa = Gpa(0);
  result.fault = {
      .vector = GuestFault::Vector::kPage, .error_code = code, .address = gva};
}

// SDM 4.8; APM 5.4.2: A in every entry used; D in the leaf by a write. The same
// entry may serve at several levels, where a guest's tables map themselves.
void Oracle::Walk::Update() {
  for (const Used& entry : used) {
    const bool leaf = &entry == &used.back();
    uint64_t bits = kAccessed;
    if (leaf && write()) bits |= kDirty;
    bits &= ~entry.value;
    // Rule 4 of oracle.h.
    const std::optional<SlotSpec> slot = memory.SlotAt(space, ToGfn(entry.gpa));
    if (bits == 0 || Has(slot->flags, SlotFlags::kReadOnly)) continue;
    const auto same = std::find_if(result.updates.begin(), result.updates.end(),
                                   [&entry](const EntryUpdate& update) {
                                     return update.entry == entry.gpa;
                                   });
    if (same != result.updates.end()) {
      same->bits |= bits;
    } else {
      result.updates.push_back({entry.gpa, bits});
    }
  }
}

void Oracle::Walk::Arrive(Gpa gpa) {
  result.kind = OracleResult::Kind::kTranslated;
  result.gpa = gpa;
  result.slot = memory.SlotAt(space, ToGfn(gpa));
  if (!result.slot.has_value()) {
    result.target = OracleTarget::kNoSlot;
  } else if (write() && Has(result.slot->flags, SlotFlags::kReadOnly)) {
    result.target = OracleTarget::kReadOnlySlot;
  } else {
    result.target = OracleTarget::kMemory;
  }
}

Oracle::Oracle(const GuestMemory* memory, unsigned guest_physical_bits)
    : memory_(memory), guest_physical_bits_(guest_physical_bits) {}

OracleResult Oracle::Translate(const PagingRegisters& registers,
                               AddressSpace space, Gva gva,
                               const Access& access) const {
  Walk walk{.memory = *memory_,
            .physical_bits = guest_physical_bits_,
            .registers = registers,
            .space = space,
            .gva = gva,
            .access = access};
  // SDM 4.1.1: the paging mode follows from CR0.PG, CR4.PAE, EFER.LME (LMA when
  // paging is on) and CR4.LA57.
  if ((registers.cr0 & cr0::kPaging) == 0) {
    walk.RunUnpaged();
  } else if ((registers.efer & efer::kLongModeActive) != 0 &&
             (registers.cr4 & cr4::kPhysicalAddressExtension) != 0 &&
             (registers.cr4 & kUnmodelledCr4) == 0) {
    walk.RunPaged(kFourLevels);
  }
  return std::move(walk.result);
}

std::ostream& operator<<(std::ostream& os, const OracleResult& result) {
  switch (result.kind) {
    case OracleResult::Kind::kTranslated:
      os << result.gpa << " (" << result.level << ", "
         << (result.writable ? 'w' : '-') << (result.user ? 'u' : '-')
         << (result.executable ? 'x' : '-');
      switch (result.target) {
        case OracleTarget::kMemory:
          return os << ")";
        case OracleTarget::kNoSlot:
          return os << ", in no slot)";
        case OracleTarget::kReadOnlySlot:
          return os << ", a write into a read-only slot)";
      }
      return os;
    case OracleResult::Kind::kGuestFault:
      return os << result.fault;
    case OracleResult::Kind::kTableOutsideSlots:
      return os << "an entry outside the slots, at " << result.gpa;
    case OracleResult::Kind::kTableUnreadable:
      return os << "an entry that the host refuses, at " << result.gpa;
    case OracleResult::Kind::kNotModelled:
      return os << "a mode that is not modelled";
  }
  return os;
}

}  // namespace shadowmmu::testing
