#include "tests/harness/guest_tables.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// Pages of 4 MiB: bits 39:32 of their address stand in bits 20:13 (SDM vol. 3,
// table 4-4).
constexpr uint64_t kFourMib = uint64_t{4} << 20;
uint64_t FourMibAddress(Gpa gpa) {
  return (gpa.value() & 0xffff'ffff & ~(kFourMib - 1)) |
         (gpa.value() >> 32 & 0xff) << 13;
}

}  // namespace

GuestTableBuilder::GuestTableBuilder(const GuestMemory* memory,
                                     GuestStore* store, GfnRange tables,
                                     AddressSpace space, GuestMode mode)
    : memory_(memory),
      store_(store),
      tables_(tables),
      space_(space),
      mode_(mode) {
  const absl::StatusOr<Gfn> root = NewTable();
  SMMU_CHECK(root.ok()) << root.status().ToString();
  if (mode_ != GuestMode::kPae) return;
  for (uint64_t i = 0; i < 4; ++i) {
    const absl::StatusOr<Gpa> directory =
        DescendMaking(Gva(i << 30), Level::k2M);
    SMMU_CHECK(directory.ok()) << directory.status().ToString();
  }
}

Level GuestTableBuilder::top() const {
  switch (mode_) {
    case GuestMode::kTwoLevel:
      return Level::k2M;
    case GuestMode::kPae:
      return Level::k1G;
    case GuestMode::kFourLevel:
      return Level::k512G;
    case GuestMode::kFiveLevel:
      break;
  }
  return Level::k256T;
}

uint64_t GuestTableBuilder::address_mask() const {
  return mode_ == GuestMode::kTwoLevel ? gpte::kAddress & 0xffff'ffff
                                       : gpte::kAddress;
}

bool GuestTableBuilder::IsLeaf(Level level, uint64_t entry) const {
  if (level == Level::k4K) return true;
  const Level largest =
      mode_ == GuestMode::kPae ? Level::k2M : std::min(Level::k1G, top());
  return level <= largest && (entry & gpte::kPageSize) != 0;
}

uint64_t GuestTableBuilder::LinkTo(Level level, Gfn table) const {
  const uint64_t link = ToGpa(table).value() | gpte::kPresent;
  // A PDPTE has no rights: the bits are reserved (SDM vol. 3, table 4-8).
  if (mode_ == GuestMode::kPae && level == Level::k1G) return link;
  return link | gpte::kWritable | gpte::kUser;
}

Gpa GuestTableBuilder::EntryIn(Gpa table, Gva gva, Level level) const {
  SMMU_CHECK_LE(ToInt(level), ToInt(top()));
  if (mode_ == GuestMode::kTwoLevel) {
    const unsigned shift = level == Level::k4K ? 12 : 22;
    return table + (gva.value() >> shift & 0x3ff) * entry_size();
  }
  uint64_t index = IndexAt(gva, level);
  if (mode_ == GuestMode::kPae && level == Level::k1G) index %= 4;
  return table + index * entry_size();
}

absl::Status GuestTableBuilder::Map(Gva gva, Gpa gpa, Level level,
                                    uint64_t bits) {
  if (!IsLeaf(level, gpte::kPageSize)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no pages of level ", ToInt(level), " in this mode"));
  }
  uint64_t entry = bits | gpte::kPresent;
  if (level != Level::k4K) entry |= gpte::kPageSize;
  entry |= mode_ == GuestMode::kTwoLevel && level == Level::k2M
               ? FourMibAddress(gpa)
               : gpa.value() & address_mask() & ~(BytesPerEntry(level) - 1);
  return SetEntry(gva, level, entry);
}

absl::Status GuestTableBuilder::Unmap(Gva gva, Level level) {
  const absl::StatusOr<Gpa> entry = EntryAddress(gva, level);
  if (!entry.ok()) return entry.status();
  return WriteEntry(*entry, 0);
}

absl::Status GuestTableBuilder::SetBits(Gva gva, Level level, uint64_t bits) {
  const absl::StatusOr<Gpa> entry = EntryAddress(gva, level);
  if (!entry.ok()) return entry.status();
  const absl::StatusOr<uint64_t> old = ReadEntry(*entry);
  if (!old.ok()) return old.status();
  uint64_t kept = address_mask();
  if (level != Level::k4K) kept |= gpte::kPageSize;
  return WriteEntry(*entry, (*old & kept) | (bits & ~kept));
}

absl::Status GuestTableBuilder::SetEntry(Gva gva, Level level, uint64_t entry) {
  const absl::StatusOr<Gpa> at = DescendMaking(gva, level);
  if (!at.ok()) return at.status();
  return WriteEntry(*at, entry);
}

absl::Status GuestTableBuilder::SetTable(Gva gva, Level level, Gfn table) {
  return SetEntry(gva, level, LinkTo(level, table));
}

absl::StatusOr<Gpa> GuestTableBuilder::EntryAddress(Gva gva,
                                                    Level level) const {
  Gpa table = root();
  for (Level at = top(); at > level; at = Below(at)) {
    const absl::StatusOr<uint64_t> entry = ReadEntry(EntryIn(table, gva, at));
    if (!entry.ok()) return entry.status();
    if ((*entry & gpte::kPresent) == 0 || IsLeaf(at, *entry)) {
      return absl::NotFoundError(
          absl::StrCat("no table below the entry of level ", ToInt(at)));
    }
    table = Gpa(*entry & address_mask());
  }
  return EntryIn(table, gva, level);
}

absl::StatusOr<uint64_t> GuestTableBuilder::Entry(Gva gva, Level level) const {
  const absl::StatusOr<Gpa> entry = EntryAddress(gva, level);
  if (!entry.ok()) return entry.status();
  return ReadEntry(*entry);
}

absl::StatusOr<Gpa> GuestTableBuilder::DescendMaking(Gva gva, Level level) {
  for (Level at = top(); at > level; at = Below(at)) {
    const absl::StatusOr<Gpa> entry = EntryAddress(gva, at);
    if (!entry.ok()) return entry.status();
    const absl::StatusOr<uint64_t> value = ReadEntry(*entry);
    if (!value.ok()) return value.status();
    if ((*value & gpte::kPresent) == 0) {
      const absl::StatusOr<Gfn> table = NewTable();
      if (!table.ok()) return table.status();
      const absl::Status linked = WriteEntry(*entry, LinkTo(at, *table));
      if (!linked.ok()) return linked;
    } else if (IsLeaf(at, *value)) {
      return absl::AlreadyExistsError(
          absl::StrCat("a leaf of level ", ToInt(at), " is on the way"));
    }
  }
  return EntryAddress(gva, level);
}

absl::StatusOr<Gfn> GuestTableBuilder::NewTable() {
  if (used_ == tables_.pages) {
    return absl::ResourceExhaustedError("no guest table pages left");
  }
  const Gfn table = tables_.begin + used_;
  static constexpr std::array<std::byte, kPageSize> kZeros{};
  if (!store_->Write(space_, ToGpa(table), kZeros)) {
    return absl::UnavailableError("cannot clear a guest table");
  }
  ++used_;
  return table;
}

absl::StatusOr<uint64_t> GuestTableBuilder::ReadEntry(Gpa entry) const {
  uint64_t value = 0;
  const auto bytes =
      std::as_writable_bytes(std::span(&value, 1)).first(entry_size());
  if (memory_->Read(space_, entry, bytes)) return value;
  return absl::UnavailableError(absl::StrCat("cannot read the entry at gpa 0x",
                                             absl::Hex(entry.value())));
}

absl::Status GuestTableBuilder::WriteEntry(Gpa entry, uint64_t value) {
  const auto bytes = std::as_bytes(std::span(&value, 1)).first(entry_size());
  if (store_->Write(space_, entry, bytes)) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("cannot write the entry at gpa 0x",
                                             absl::Hex(entry.value())));
}

}  // namespace shadowmmu::testing
