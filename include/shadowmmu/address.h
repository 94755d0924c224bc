// Address types and page arithmetic: what every other header speaks in.
//
// Six strong types, one machine word each, that never convert into each other
// by accident. Addresses are in bytes, frame numbers (Gfn, Pfn) in units of
// 4 KiB pages:
//
//   Gva  guest virtual address        what a guest program uses
//   Gpa  guest physical address       Gfn = Gpa >> 12
//   Hva  host virtual address         where the hypervisor maps guest memory
//   Hpa  host physical address        what the CPU that runs the guest sees as
//                                     physical; Pfn = Hpa >> 12
//
// Levels are named by what one entry of a table at that level can map
// (Intel SDM vol. 3, 4.5; AMD APM vol. 2, 5.3): a table of level k4K is a page
// table, k2M a page directory, k1G a page-directory-pointer table, and so on.
//
// Thread safety: values; nothing here has state.

#ifndef SHADOWMMU_ADDRESS_H_
#define SHADOWMMU_ADDRESS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <utility>

namespace shadowmmu {

inline constexpr unsigned kPageShift = 12;
inline constexpr uint64_t kPageSize = uint64_t{1} << kPageShift;
inline constexpr uint64_t kPageOffsetMask = kPageSize - 1;

// Index bits that one level of a 64-bit-entry table resolves, and the number
// of entries in such a table.
inline constexpr unsigned kIndexBits = 9;
inline constexpr unsigned kEntriesPerTable = 1u << kIndexBits;

// The level of a table, and of the entries in it.
enum class Level : uint8_t { k4K = 1, k2M = 2, k1G = 3, k512G = 4, k256T = 5 };

constexpr unsigned ToInt(Level level) { return static_cast<unsigned>(level); }
constexpr Level LevelFromInt(unsigned level) {
  return static_cast<Level>(level);
}
// The level below / above. Precondition: there is one.
constexpr Level Below(Level level) { return LevelFromInt(ToInt(level) - 1); }
constexpr Level Above(Level level) { return LevelFromInt(ToInt(level) + 1); }

// 4K pages that one entry of `level` maps: 1, 512, 512^2, ...
constexpr uint64_t PagesPerEntry(Level level) {
  return uint64_t{1} << ((ToInt(level) - 1) * kIndexBits);
}
// Bytes that one entry of `level` maps.
constexpr uint64_t BytesPerEntry(Level level) {
  return PagesPerEntry(level) << kPageShift;
}

namespace internal {

// One word with a type. `Self` is the derived type (CRTP), so that arithmetic
// stays within it.
template <typename Self>
class StrongWord {
 public:
  constexpr StrongWord() = default;
  constexpr explicit StrongWord(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(const StrongWord&,
                                    const StrongWord&) = default;
  friend constexpr Self operator+(Self a, uint64_t delta) {
    return Self(a.value_ + delta);
  }
  friend constexpr Self operator-(Self a, uint64_t delta) {
    return Self(a.value_ - delta);
  }
  // The distance from `b` to `a`, modulo 2^64.
  friend constexpr uint64_t operator-(Self a, Self b) {
    return a.value_ - b.value_;
  }
  constexpr Self& operator+=(uint64_t delta) {
    value_ += delta;
    return static_cast<Self&>(*this);
  }

  template <typename H>
  friend H AbslHashValue(H state, const StrongWord& word) {
    return H::combine(std::move(state), word.value_);
  }

 private:
  uint64_t value_ = 0;
};

}  // namespace internal

class Gva : public internal::StrongWord<Gva> {
 public:
  using StrongWord::StrongWord;
};
class Gpa : public internal::StrongWord<Gpa> {
 public:
  using StrongWord::StrongWord;
};
class Gfn : public internal::StrongWord<Gfn> {
 public:
  using StrongWord::StrongWord;
};
class Hva : public internal::StrongWord<Hva> {
 public:
  using StrongWord::StrongWord;
};
class Hpa : public internal::StrongWord<Hpa> {
 public:
  using StrongWord::StrongWord;
};
class Pfn : public internal::StrongWord<Pfn> {
 public:
  using StrongWord::StrongWord;
};

constexpr Gfn ToGfn(Gpa gpa) { return Gfn(gpa.value() >> kPageShift); }
constexpr Gpa ToGpa(Gfn gfn) { return Gpa(gfn.value() << kPageShift); }
constexpr Pfn ToPfn(Hpa hpa) { return Pfn(hpa.value() >> kPageShift); }
constexpr Hpa ToHpa(Pfn pfn) { return Hpa(pfn.value() << kPageShift); }

constexpr uint64_t PageOffset(Gva gva) { return gva.value() & kPageOffsetMask; }
constexpr uint64_t PageOffset(Gpa gpa) { return gpa.value() & kPageOffsetMask; }
constexpr uint64_t PageOffset(Hva hva) { return hva.value() & kPageOffsetMask; }

// The frame number rounded down to what one entry of `level` maps.
constexpr Gfn AlignDown(Gfn gfn, Level level) {
  return Gfn(gfn.value() & ~(PagesPerEntry(level) - 1));
}
constexpr Pfn AlignDown(Pfn pfn, Level level) {
  return Pfn(pfn.value() & ~(PagesPerEntry(level) - 1));
}
constexpr bool IsAligned(Gfn gfn, Level level) {
  return AlignDown(gfn, level) == gfn;
}

// The index that `gva` selects in a table of `level` with 8-byte entries.
constexpr unsigned IndexAt(Gva gva, Level level) {
  return static_cast<unsigned>(gva.value() >>
                               (kPageShift + (ToInt(level) - 1) * kIndexBits)) &
         (kEntriesPerTable - 1);
}

// A half-open range of frames or host addresses: [begin, begin + count).
struct GfnRange {
  Gfn begin = Gfn();
  uint64_t pages = 0;

  constexpr Gfn end() const { return begin + pages; }
  constexpr bool Contains(Gfn gfn) const { return gfn - begin < pages; }
  friend constexpr bool operator==(const GfnRange&, const GfnRange&) = default;
};
struct HvaRange {
  Hva begin = Hva();
  uint64_t bytes = 0;

  constexpr Hva end() const { return begin + bytes; }
  constexpr bool Contains(Hva hva) const { return hva - begin < bytes; }
  constexpr bool Overlaps(const HvaRange& other) const {
    return bytes != 0 && other.bytes != 0 &&
           (Contains(other.begin) || other.Contains(begin));
  }
  friend constexpr bool operator==(const HvaRange&, const HvaRange&) = default;
};

// A VM has this many guest physical address spaces: 0 is the normal one, 1 the
// one that a CPU in system management mode sees.
inline constexpr unsigned kAddressSpaces = 2;
enum class AddressSpace : uint8_t { kNormal = 0, kSmm = 1 };
constexpr unsigned ToInt(AddressSpace space) {
  return static_cast<unsigned>(space);
}

// Print as "gfn 0x1f", "hva 0x7f00...", "2M", "as 1".
std::ostream& operator<<(std::ostream& os, Gva gva);
std::ostream& operator<<(std::ostream& os, Gpa gpa);
std::ostream& operator<<(std::ostream& os, Gfn gfn);
std::ostream& operator<<(std::ostream& os, Hva hva);
std::ostream& operator<<(std::ostream& os, Hpa hpa);
std::ostream& operator<<(std::ostream& os, Pfn pfn);
std::ostream& operator<<(std::ostream& os, Level level);
std::ostream& operator<<(std::ostream& os, AddressSpace space);

}  // namespace shadowmmu

#endif  // SHADOWMMU_ADDRESS_H_
