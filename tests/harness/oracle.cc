#include "tests/harness/oracle.h"

#include <algorithm>
#include <ostream>
#include <span>
#include <utility>

#include "tests/harness/oracle_registers.h"

namespace shadowmmu::testing {
namespace {

// Bits of an entry (SDM 4.3 to 4.5, tables 4-4 to 4-20; APM 5.2.1 to 5.4).
// Written down here once more on purpose: it shares no code.
constexpr uint64_t kPresent = 0x1;
constexpr uint64_t kWritable = 0x2;
constexpr uint64_t kUser = 0x4;
constexpr uint64_t kAccessed = 0x20;
constexpr uint64_t kDirty = 0x40;
constexpr uint64_t kPageSizeBit = 0x80;
constexpr uint64_t kNoExecute = 0x8000'0000'0000'0000;
constexpr uint64_t kAddress = 0x000f'ffff'ffff'f000;
constexpr uint64_t kAddress32 = 0xffff'f000;  // of an entry of 4 bytes
constexpr unsigned kKeyShift = 59;            // SDM 4.6.2: bits 62:59

// What PS is in an entry of a level.
enum class PageSizeBit : uint8_t {
  kMustBeZero,
  kMapsPage,          // it makes the entry a leaf
  kMapsPageIfPse,     // with CR4.PSE; else it is ignored
  kMapsPageIfOneGib,  // if the CPU has such pages; else it must be zero
  kLeaf,              // the entry is one anyhow, and the bit is PAT
};

// One level of a paging mode, from the root down.
struct LevelRule {
  Level level;
  unsigned shift;  // of the index within the address
  PageSizeBit page_size;
};

// One paging mode with tables.
struct ModeRule {
  unsigned entry_bytes;
  std::span<const LevelRule> levels;
  unsigned linear_bits;
  uint64_t entries() const { return 4096 / entry_bytes; }
};

// SDM 4.3: two levels of 1024 entries. APM 5.2.1.
constexpr LevelRule k32BitLevels[] = {
    {Level::k2M, 22, PageSizeBit::kMapsPageIfPse},
    {Level::k4K, 12, PageSizeBit::kLeaf},
};
// SDM 4.5.4: five levels of 512 entries; PS is reserved in a PML5E and a PML4E
// (tables 4-14, 4-15). APM 5.3.3. SDM 4.4.2: PAE paging has the last two of
// them, below the PDPTE registers; APM 5.2.3.
constexpr LevelRule kLongLevels[] = {
    {Level::k256T, 48, PageSizeBit::kMustBeZero},
    {Level::k512G, 39, PageSizeBit::kMustBeZero},
    {Level::k1G, 30, PageSizeBit::kMapsPageIfOneGib},
    {Level::k2M, 21, PageSizeBit::kMapsPage},
    {Level::k4K, 12, PageSizeBit::kLeaf},
};
constexpr std::span<const LevelRule> kLong(kLongLevels);
constexpr ModeRule k32Bit{4, k32BitLevels, 32};
constexpr ModeRule kPae{8, kLong.subspan(3), 32};
constexpr ModeRule kFourLevels{8, kLong.subspan(1), 48};
constexpr ModeRule kFiveLevels{8, kLong, 57};

constexpr uint64_t LowBits(unsigned count) {
  return (uint64_t{1} << count) - 1;
}
// Bits `high` to `low`, both inclusive; none where `high` is below `low`.
constexpr uint64_t Bits(unsigned high, unsigned low) {
  return LowBits(high + 1) & ~LowBits(low);
}

// SDM vol. 1, 3.3.7.1; APM vol. 2, 1.1.3: the bits from the highest one that is
// translated up are all equal.
bool IsCanonical(uint64_t address, unsigned linear_bits) {
  const uint64_t top = address >> (linear_bits - 1);
  return top == 0 || top == LowBits(65 - linear_bits);
}

}  // namespace

// One translation under way.
struct Oracle::Walk {
  const GuestMemory& memory;
  const unsigned physical_bits;
  const OracleCpu& cpu;
  const AddressSpace space;
  const Gva gva;
  const Access& access;
  const AbsentTables absent_tables;
  OracleResult result = {};
  // The first entry that no slot holds, and that read as ones.
  std::optional<Gpa> absent = {};

  // An entry that the walk used.
  struct Used {
    Gpa gpa;
    uint64_t value = 0;
  };
  std::vector<Used> used = {};

  bool cr4(uint64_t bit) const { return (cpu.registers.cr4 & bit) != 0; }
  bool efer(uint64_t bit) const { return (cpu.registers.efer & bit) != 0; }
  bool write() const { return access.type == AccessType::kWrite; }
  bool fetch() const { return access.type == AccessType::kFetch; }

  void Run();
  void RunUnpaged();
  void RunPae();
  void RunPaged(const ModeRule& mode, Gpa root);
  // What follows an entry: go on to the next level, or the walk has ended.
  enum class Step { kNext, kLeaf, kEnd };
  Step Use(const ModeRule& mode, const LevelRule& rule, Gpa* table);
  bool ReadEntry(const ModeRule& mode, Gpa at, uint64_t* entry);
  bool MapsPage(const LevelRule& rule, uint64_t entry) const;
  uint64_t ReservedBits(const ModeRule& mode, const LevelRule& rule,
                        uint64_t entry) const;
  void Complete(Gpa gpa);
  void PageFault(uint32_t cause);
  void Update();
  void Arrive(Gpa gpa);
};

// ---- The modes ----

void Oracle::Walk::Run() {
  const uint64_t cr3 = cpu.registers.cr3;
  switch (PagingModeOf(cpu.registers)) {
    case PagingMode::kOff:
      return RunUnpaged();
    case PagingMode::k32Bit:
      // SDM 4.3, table 4-3: bits 31:12 of CR3.
      return RunPaged(k32Bit, Gpa(cr3 & kAddress32));
    case PagingMode::kPae:
      return RunPae();
    case PagingMode::kFourLevels:
    case PagingMode::kFiveLevels:
      break;
  }
  // SDM 4.5.2, table 4-12: bits 51 (or MAXPHYADDR - 1) to 12 of CR3.
  const Gpa root(cr3 & kAddress & LowBits(physical_bits));
  const ModeRule& mode = cr4(manual::kCr4La57) ? kFiveLevels : kFourLevels;
  // SDM vol. 1, 3.3.7.1: a reference to a non-canonical address is #GP(0), not
  // a page fault. APM vol. 2, 5.3.1.
  if (!IsCanonical(gva.value(), mode.linear_bits)) {
    result.fault = {GuestFault::Vector::kGeneralProtection, 0, Gva()};
    return;
  }
  RunPaged(mode, root);
}

// SDM 4.1.1: with CR0.PG clear linear addresses are physical ones.
void Oracle::Walk::RunUnpaged() {
  Complete(Gpa(gva.value()));
  Arrive(*result.page);
}

// SDM 4.4.2: bits 31:30 of the address choose the PDPTE register, which gives
// no rights and has no A bit; if it is not present the access faults as by any
// entry that is not (4.7). APM 5.2.3.
void Oracle::Walk::RunPae() {
  const uint64_t pdpte = cpu.pdptes[gva.value() >> 30];
  if ((pdpte & kPresent) == 0) return PageFault(0);
  RunPaged(kPae, Gpa(pdpte & kAddress));
}

void Oracle::Walk::RunPaged(const ModeRule& mode, Gpa root) {
  Gpa table = root;
  for (const LevelRule& rule : mode.levels) {
    const Step step = Use(mode, rule, &table);
    if (step == Step::kEnd) return;
    if (step == Step::kNext) continue;
    const uint64_t offset = LowBits(rule.shift);
    Complete(Gpa((table.value() & ~offset) | (gva.value() & offset)));
    // SDM 4.6: rights are judged over all levels, once the walk is complete.
    if (result.denied.any()) return PageFault(pf_error::kPresent);
    Update();
    return Arrive(*result.page);
  }
}

// ---- Entries ----

// Reads and judges one entry; `table` is its table on entry, and what it points
// to afterwards.
Oracle::Walk::Step Oracle::Walk::Use(const ModeRule& mode,
                                     const LevelRule& rule, Gpa* table) {
  const uint64_t index = (gva.value() >> rule.shift) & (mode.entries() - 1);
  const Gpa at = *table + index * mode.entry_bytes;
  uint64_t entry = 0;
  if (!ReadEntry(mode, at, &entry)) return Step::kEnd;
  // SDM 4.7, P flag: 0 when the fault is due to an entry that is not present,
  // at whatever level. Nothing else in that entry counts (4.3, 4.4.2, 4.5.4).
  if ((entry & kPresent) == 0) {
    PageFault(0);
    return Step::kEnd;
  }
  // SDM 4.7, RSVD flag: a reserved bit in an entry that is present, at the
  // level where it is met, before rights. P is 1 then too. APM 8.4.2.
  if (ReservedBits(mode, rule, entry) != 0) {
    PageFault(pf_error::kPresent | pf_error::kReserved);
    return Step::kEnd;
  }
  used.push_back({at, entry});
  // SDM 4.6.1: a page is a user-mode address if U/S is 1 in every entry, may be
  // written if R/W is 1 in every entry, and not executed if XD is 1 in any.
  // APM 5.6. An entry of 4 bytes has no XD.
  result.user = result.user && (entry & kUser) != 0;
  result.writable = result.writable && (entry & kWritable) != 0;
  result.executable = result.executable && (entry & kNoExecute) == 0;
  *table = Gpa(entry & kAddress);
  if (!MapsPage(rule, entry)) return Step::kNext;
  result.level = rule.level;
  result.page_bytes = uint64_t{1} << rule.shift;
  result.dirty = (entry & kDirty) != 0;
  // SDM 4.6.2: the key of the leaf, in four and five levels; APM 5.6.7.
  if (efer(manual::kEferLma)) {
    result.key = static_cast<unsigned>(entry >> kKeyShift & 0xf);
  }
  // SDM 4.3, table 4-4: of a page of 4 MiB bits 39:32 stand in 20:13 (where
  // they are not reserved). APM 5.2.1.
  if (mode.entry_bytes == 4 && rule.level != Level::k4K) {
    *table = Gpa((entry & 0xffc0'0000) | ((entry >> 13 & 0xff) << 32));
  }
  return Step::kLeaf;
}

bool Oracle::Walk::ReadEntry(const ModeRule& mode, Gpa at, uint64_t* entry) {
  result.gpa = at;
  if (!memory.SlotAt(space, ToGfn(at)).has_value()) {
    if (absent_tables == AbsentTables::kReadAsOnes) {
      if (!absent) absent = at;
      *entry = mode.entry_bytes == 4 ? 0xffff'ffff : ~uint64_t{0};
      return true;
    }
    result.kind = OracleResult::Kind::kTableOutsideSlots;
    return false;
  }
  result.entries.push_back(at);
  const auto bytes = std::as_writable_bytes(std::span(entry, 1));
  *entry = 0;
  if (!memory.Read(space, at, bytes.first(mode.entry_bytes))) {
    result.kind = OracleResult::Kind::kTableUnreadable;
    return false;
  }
  return true;
}

// SDM 4.3, 4.4.2, 4.5.4: PS maps a page of 4 MiB (if CR4.PSE), 2 MiB or 1 GiB;
// bit 7 of a PTE is PAT. APM 5.2, 5.3.
bool Oracle::Walk::MapsPage(const LevelRule& rule, uint64_t entry) const {
  const bool set = (entry & kPageSizeBit) != 0;
  switch (rule.page_size) {
    case PageSizeBit::kLeaf:
      return true;
    case PageSizeBit::kMustBeZero:
      return false;
    case PageSizeBit::kMapsPageIfPse:
      return set && cr4(manual::kCr4Pse);
    case PageSizeBit::kMapsPage:
    case PageSizeBit::kMapsPageIfOneGib:
      break;
  }
  return set;
}

// Those of the reserved bits that are set.
uint64_t Oracle::Walk::ReservedBits(const ModeRule& mode, const LevelRule& rule,
                                    uint64_t entry) const {
  const bool large = rule.level != Level::k4K && MapsPage(rule, entry);
  if (mode.entry_bytes == 4) {
    // SDM 4.3, table 4-4: only in the entry of a page of 4 MiB, bits 21 to
    // M - 19, where M is the smaller of 40 and MAXPHYADDR with PSE-36, and 32
    // without: then 21:13. APM 5.2.1.
    if (!large) return 0;
    const unsigned m = cpu.features.pse36 ? std::min(40u, physical_bits) : 32;
    return entry & Bits(21, m - 19);
  }
  // SDM 4.5.4: bits 51 to MAXPHYADDR; above them bits are ignored, or a key.
  // SDM 4.4.2, tables 4-9 to 4-11: with PAE paging 62 to MAXPHYADDR. APM 5.3.3,
  // 5.2.3 (MBZ).
  const unsigned top = efer(manual::kEferLma) ? 51 : 62;
  uint64_t reserved = Bits(top, physical_bits);
  // SDM 4.4.2, 4.5.4: bit 63 if EFER.NXE is clear; APM 5.6.1.
  if (!efer(manual::kEferNxe)) reserved |= kNoExecute;
  // SDM tables 4-14 to 4-16, 4.1.4 (pages of 1 GiB): PS where no page is.
  if (rule.page_size == PageSizeBit::kMustBeZero ||
      (rule.page_size == PageSizeBit::kMapsPageIfOneGib &&
       !cpu.features.one_gib_pages)) {
    reserved |= kPageSizeBit;
  }
  // SDM tables 4-9, 4-16, 4-18: in a large page's entry bits 29:13 (1 GiB) and
  // 20:13 (2 MiB). Bit 12 is PAT. APM 5.3.4, 5.3.5.
  if (large) reserved |= Bits(rule.shift - 1, 13);
  return entry & reserved;
}

// ---- The end of the walk ----

// The walk has come to its end.
void Oracle::Walk::Complete(Gpa gpa) {
  result.page = gpa;
  result.denied = Judge(cpu, result, access);
}

// SDM 4.7; APM 8.4.2.
void Oracle::Walk::PageFault(uint32_t cause) {
  uint32_t code = cause;
  // W/R: the access was a write, whatever caused the fault.
  if (write()) code |= pf_error::kWrite;
  // U/S: the access was a user-mode one.
  if (IsUserMode(access)) code |= pf_error::kUser;
  // I/D: the access was a fetch, if SMEP, or CR4.PAE and EFER.NXE, are set.
  if (fetch() && (cr4(manual::kCr4Smep) ||
                  (cr4(manual::kCr4Pae) && efer(manual::kEferNxe)))) {
    code |= pf_error::kFetch;
  }
  // PK: the page's key denies the access, whatever else does too.
  if (result.denied.key) code |= pf_error::kProtectionKey;
  result.kind = OracleResult::Kind::kGuestFault;
  result.gpa = Gpa(0);
  result.fault = {
      .vector = GuestFault::Vector::kPage, .error_code = code, .address = gva};
}

// ---- The end ----

// SDM 4.8; APM 5.4.2: A in every entry used; D in the leaf by a write. The same
// entry may serve at several levels, where a guest's tables map themselves.
void Oracle::Walk::Update() {
  for (const Used& entry : used) {
    const bool leaf = &entry == &used.back();
    uint64_t bits = kAccessed;
    if (leaf && write()) bits |= kDirty;
    bits &= ~entry.value;
    // Rule 4 of oracle.h. Where there is no slot, no bit is clear.
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
  if (absent && result.slot.has_value()) {
    result.kind = OracleResult::Kind::kTableOutsideSlots;
    result.gpa = *absent;
    return;
  }
  if (!result.slot.has_value()) {
    result.target = OracleTarget::kNoSlot;
  } else if (write() && Has(result.slot->flags, SlotFlags::kReadOnly)) {
    result.target = OracleTarget::kReadOnlySlot;
  } else {
    result.target = OracleTarget::kMemory;
  }
}

Oracle::Oracle(const GuestMemory* memory, unsigned guest_physical_bits,
               AbsentTables absent_tables)
    : memory_(memory),
      guest_physical_bits_(guest_physical_bits),
      absent_tables_(absent_tables) {}

OracleResult Oracle::Translate(const OracleCpu& cpu, AddressSpace space,
                               Gva gva, const Access& access) const {
  // SDM vol. 1, 3.2.1, APM vol. 2, 1.2: outside long mode linear addresses have
  // 32 bits.
  const bool long_mode = (cpu.registers.efer & manual::kEferLma) != 0;
  Walk walk{.memory = *memory_,
            .physical_bits = guest_physical_bits_,
            .cpu = cpu,
            .space = space,
            .gva = long_mode ? gva : Gva(gva.value() & LowBits(32)),
            .access = access,
            .absent_tables = absent_tables_};
  walk.Run();
  return std::move(walk.result);
}

}  // namespace shadowmmu::testing
