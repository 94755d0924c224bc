#include "bench/exhaustive/cases.h"

#include <algorithm>
#include <array>
#include <ostream>

#include "src/base/check.h"

namespace shadowmmu::exhaustive {
namespace {

// Every subset of `mask`, as numbers that rise.
template <typename Body>
void ForEachSubset(uint32_t mask, Body body) {
  uint32_t subset = 0;
  do {
    body(subset);
    subset = (subset - mask) & mask;
  } while (subset != 0);
}

// The bits besides P that count in an entry, PS among them where it is set.
EntryBits BitsOf(GuestMode mode, const RegisterSet& registers, bool directory,
                 EntryBits page_size) {
  const bool leaf = !directory || page_size != 0;
  EntryBits bits = bit::kWritable | bit::kUser | bit::kAccessed;
  if (leaf) bits |= bit::kDirty;
  if (leaf && registers.keys) bits |= bit::kKey;
  if (mode != GuestMode::kTwoLevel) bits |= bit::kNoExecute | bit::kReserved;
  if (directory && leaf) bits |= bit::kReserved;
  return bits;
}

// The PTEs behind a directory entry that leads to a table.
void AddPtes(GuestMode mode, const RegisterSet& registers, EntryBits pde,
             std::vector<EntryPair>* pairs) {
  const bool faults = (pde & bit::kReserved) != 0 ||
                      ((pde & bit::kNoExecute) != 0 && !registers.no_execute);
  if (faults) {
    pairs->push_back({pde, kAnyPte});
    return;
  }
  pairs->push_back({pde, 0});
  ForEachSubset(BitsOf(mode, registers, false, 0), [&](EntryBits pte) {
    pairs->push_back({pde, pte | bit::kPresent});
  });
}

void AddLarge(GuestMode mode, const RegisterSet& registers,
              std::vector<EntryPair>* pairs) {
  const EntryBits bits = BitsOf(mode, registers, true, bit::kPageSize);
  for (const EntryBits behind :
       {EntryBits{0}, bit::kHost2M, bit::kChangedBetween}) {
    ForEachSubset(bits, [&](EntryBits pde) {
      pairs->push_back(
          {pde | bit::kPresent | bit::kPageSize | behind, kAnyPte});
    });
  }
}

const char* OnOff(bool on) { return on ? "=1" : "=0"; }

}  // namespace

const char* NameOf(GuestMode mode) {
  switch (mode) {
    case GuestMode::kTwoLevel:
      return "2-level";
    case GuestMode::kPae:
      return "3-level";
    case GuestMode::kFourLevel:
      return "4-level";
    case GuestMode::kFiveLevel:
      break;
  }
  return "5-level";
}

std::ostream& operator<<(std::ostream& os, const RegisterSet& registers) {
  return os << "WP" << OnOff(registers.write_protect) << " NXE"
            << OnOff(registers.no_execute) << " SMEP" << OnOff(registers.smep)
            << " SMAP" << OnOff(registers.smap) << " PKE"
            << OnOff(registers.keys) << " PSE" << OnOff(registers.pse);
}

Access ToAccess(const AccessShape& shape, unsigned key) {
  uint32_t pkru = ~(uint32_t{3} << (2 * key));
  if (shape.access_disable) pkru |= uint32_t{1} << (2 * key);
  if (shape.write_disable) pkru |= uint32_t{2} << (2 * key);
  return {.type = shape.type,
          .privilege = shape.privilege,
          .implicit = shape.implicit,
          .eflags_ac = shape.eflags_ac,
          .pkru = pkru};
}

std::vector<AccessShape> AccessesWith(const RegisterSet& registers) {
  std::vector<AccessShape> who = {
      {.privilege = Privilege::kUser},
      {.privilege = Privilege::kSupervisor},
      {.privilege = Privilege::kSupervisor, .implicit = Implicit::kYes},
      {.privilege = Privilege::kUser, .implicit = Implicit::kYes}};
  if (registers.smap) {
    who.push_back({.privilege = Privilege::kSupervisor, .eflags_ac = false});
  }
  std::vector<AccessShape> accesses;
  for (AccessShape shape : who) {
    for (const AccessType type : {AccessType::kRead, AccessType::kWrite}) {
      shape.type = type;
      for (const unsigned denied : {3u, 2u, 1u, 0u}) {
        if (denied != 3 && !registers.keys) break;
        shape.access_disable = (denied & 1) != 0;
        shape.write_disable = (denied & 2) != 0;
        accesses.push_back(shape);
      }
    }
  }
  for (const Privilege privilege : {Privilege::kUser, Privilege::kSupervisor}) {
    accesses.push_back({.type = AccessType::kFetch, .privilege = privilege});
  }
  return accesses;
}

std::vector<EntryPair> EntriesWith(GuestMode mode,
                                   const RegisterSet& registers) {
  std::vector<EntryPair> pairs = {{0, kAnyPte}};
  ForEachSubset(BitsOf(mode, registers, true, 0), [&](EntryBits pde) {
    AddPtes(mode, registers, pde | bit::kPresent, &pairs);
  });
  if (mode != GuestMode::kTwoLevel || registers.pse) {
    AddLarge(mode, registers, &pairs);
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

std::vector<RegisterSet> RegistersIn(GuestMode mode) {
  std::vector<RegisterSet> sets;
  const auto tried = [](bool wanted) { return wanted ? 2u : 1u; };
  for (unsigned keys = 0; keys < tried(IsLongMode(mode)); ++keys) {
    for (unsigned pse = 0; pse < tried(mode == GuestMode::kTwoLevel); ++pse) {
      for (unsigned bits = 0; bits < 16; ++bits) {
        sets.push_back({.write_protect = (bits & 1) != 0,
                        .no_execute = (bits & 2) != 0,
                        .smep = (bits & 4) != 0,
                        .smap = (bits & 8) != 0,
                        .keys = keys != 0,
                        .pse = pse != 0});
      }
    }
  }
  return sets;
}

CaseSpace::CaseSpace(GuestMode mode) : mode_(mode) {
  // Lists of entries depend on three of the registers only.
  std::array<std::shared_ptr<const std::vector<EntryPair>>, 8> lists;
  for (const RegisterSet& registers : RegistersIn(mode)) {
    auto& list = lists[(registers.no_execute ? 1 : 0) +
                       (registers.keys ? 2 : 0) + (registers.pse ? 4 : 0)];
    if (list == nullptr) {
      list = std::make_shared<const std::vector<EntryPair>>(
          EntriesWith(mode, registers));
    }
    blocks_.push_back({.registers = registers,
                       .accesses = AccessesWith(registers),
                       .entries = list,
                       .begin = count_});
    count_ += blocks_.back().count();
  }
}

CaseSpace::Position CaseSpace::Locate(uint64_t index) const {
  SMMU_DCHECK_LT(index, count_);
  const auto after = std::upper_bound(
      blocks_.begin(), blocks_.end(), index,
      [](uint64_t wanted, const Block& b) { return wanted < b.begin; });
  const Block& block = *(after - 1);
  const size_t accesses = block.accesses.size();
  const uint64_t within = index - block.begin;
  const uint64_t pair = within % block.pairs();
  return {.block = static_cast<size_t>(after - 1 - blocks_.begin()),
          .entries = within / block.pairs(),
          .first = pair / accesses,
          .access = pair % accesses};
}

Case CaseSpace::At(uint64_t index) const {
  const Position at = Locate(index);
  const Block& in = blocks_[at.block];
  return {.mode = mode_,
          .registers = in.registers,
          .entries = (*in.entries)[at.entries],
          .first = at.first,
          .access = at.access};
}

uint64_t CaseSpace::IndexOf(const Case& c) const {
  const auto block =
      std::find_if(blocks_.begin(), blocks_.end(),
                   [&](const Block& b) { return b.registers == c.registers; });
  SMMU_CHECK(block != blocks_.end() && c.mode == mode_);
  const auto& list = *block->entries;
  const auto entries = std::lower_bound(list.begin(), list.end(), c.entries);
  SMMU_CHECK(entries != list.end() && *entries == c.entries);
  SMMU_CHECK_LE(c.first, block->accesses.size());
  SMMU_CHECK_LT(c.access, block->accesses.size());
  return block->begin +
         static_cast<uint64_t>(entries - list.begin()) * block->pairs() +
         c.first * block->accesses.size() + c.access;
}

const char* NameOf(Before before) {
  constexpr const char* kNames[kBefores] = {
      "nothing", "W", "U", "NX", "the key", "WP", "NXE", "SMEP", "SMAP", "PKE"};
  return kNames[static_cast<size_t>(before)];
}

Before BeforeFirst(const CaseSpace& cases, const CaseSpace::Position& at) {
  const auto before = static_cast<Before>((at.entries + at.first) % kBefores);
  const bool short_entries = cases.mode() == GuestMode::kTwoLevel;
  switch (before) {
    case Before::kNoExecuteBit:
    case Before::kNoExecute:
      return short_entries ? Before::kNothing : before;
    case Before::kKey:
      return cases.block(at.block).registers.keys ? before : Before::kNothing;
    case Before::kKeys:
      return IsLongMode(cases.mode()) ? before : Before::kNothing;
    default:
      return before;
  }
}

// The finalizer of splitmix64.
uint64_t Mix(uint64_t value) {
  value += 0x9e37'79b9'7f4a'7c15;
  value = (value ^ value >> 30) * 0xbf58'476d'1ce4'e5b9;
  value = (value ^ value >> 27) * 0x94d0'49bb'1331'11eb;
  return value ^ value >> 31;
}

uint64_t PickedIndex(uint64_t i, uint64_t picked, uint64_t count,
                     uint64_t seed) {
  const uint64_t begin = i * count / picked;
  const uint64_t end = (i + 1) * count / picked;
  return begin + Mix(Mix(seed) + i) % (end - begin);
}

}  // namespace shadowmmu::exhaustive
