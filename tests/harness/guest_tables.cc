#include "tests/harness/guest_tables.h"

#include <array>
#include <cstddef>
#include <span>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

constexpr Level kTop = Level::k512G;

bool IsLeaf(Level level, uint64_t entry) {
  return level == Level::k4K ||
         (level <= Level::k1G && (entry & gpte::kPageSize) != 0);
}

uint64_t PageSizeBit(Level level) {
  return level == Level::k2M || level == Level::k1G ? gpte::kPageSize : 0;
}

Gpa EntryIn(Gpa table, Gva gva, Level level) {
  return table + IndexAt(gva, level) * sizeof(uint64_t);
}

}  // namespace

GuestTableBuilder::GuestTableBuilder(const GuestMemory* memory,
                                     GuestStore* store, GfnRange tables,
                                     AddressSpace space)
    : memory_(memory), store_(store), tables_(tables), space_(space) {
  const absl::StatusOr<Gfn> root = NewTable();
  SMMU_CHECK(root.ok()) << root.status().ToString();
}

absl::Status GuestTableBuilder::Map(Gva gva, Gpa gpa, Level level,
                                    uint64_t bits) {
  const uint64_t address =
      gpa.value() & gpte::kAddress & ~(BytesPerEntry(level) - 1);
  return SetEntry(gva, level,
                  address | bits | gpte::kPresent | PageSizeBit(level));
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
  uint64_t kept = gpte::kAddress;
  if (level != Level::k4K) kept |= gpte::kPageSize;
  return WriteEntry(*entry, (*old & kept) | (bits & ~kept));
}

absl::Status GuestTableBuilder::SetEntry(Gva gva, Level level, uint64_t entry) {
  const absl::StatusOr<Gpa> at = DescendMaking(gva, level);
  if (!at.ok()) return at.status();
  return WriteEntry(*at, entry);
}

absl::Status GuestTableBuilder::SetTable(Gva gva, Level level, Gfn table) {
  return SetEntry(
      gva, level,
      ToGpa(table).value() | gpte::kPresent | gpte::kWritable | gpte::kUser);
}

absl::StatusOr<Gpa> GuestTableBuilder::EntryAddress(Gva gva,
                                                    Level level) const {
  Gpa table = root();
  for (Level at = kTop; at != level; at = Below(at)) {
    const absl::StatusOr<uint64_t> entry = ReadEntry(EntryIn(table, gva, at));
    if (!entry.ok()) return entry.status();
    if ((*entry & gpte::kPresent) == 0 || IsLeaf(at, *entry)) {
      return absl::NotFoundError(
          absl::StrCat("no table below the entry of level ", ToInt(at)));
    }
    table = Gpa(*entry & gpte::kAddress);
  }
  return EntryIn(table, gva, level);
}

absl::StatusOr<uint64_t> GuestTableBuilder::Entry(Gva gva, Level level) const {
  const absl::StatusOr<Gpa> entry = EntryAddress(gva, level);
  if (!entry.ok()) return entry.status();
  return ReadEntry(*entry);
}

absl::StatusOr<Gpa> GuestTableBuilder::DescendMaking(Gva gva, Level level) {
  for (Level at = kTop; at != level; at = Below(at)) {
    const absl::StatusOr<Gpa> entry = EntryAddress(gva, at);
    if (!entry.ok()) return entry.status();
    const absl::StatusOr<uint64_t> value = ReadEntry(*entry);
    if (!value.ok()) return value.status();
    if ((*value & gpte::kPresent) == 0) {
      const absl::StatusOr<Gfn> table = NewTable();
      if (!table.ok()) return table.status();
      const absl::Status linked =
          WriteEntry(*entry, ToGpa(*table).value() | gpte::kPresent |
                                 gpte::kWritable | gpte::kUser);
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
  const std::optional<uint64_t> value = memory_->Read64(space_, entry);
  if (value.has_value()) return *value;
  return absl::UnavailableError(absl::StrCat("cannot read the entry at gpa 0x",
                                             absl::Hex(entry.value())));
}

absl::Status GuestTableBuilder::WriteEntry(Gpa entry, uint64_t value) {
  if (store_->Write(space_, entry, std::as_bytes(std::span(&value, 1)))) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("cannot write the entry at gpa 0x",
                                             absl::Hex(entry.value())));
}

}  // namespace shadowmmu::testing
