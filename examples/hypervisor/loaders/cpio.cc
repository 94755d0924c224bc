#include "loaders/cpio.h"

#include <cstdint>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "loaders/bytes.h"

namespace hypervisor {
namespace {

constexpr absl::string_view kMagic = "070701";
constexpr absl::string_view kTrailer = "TRAILER!!!";
constexpr uint64_t kHeaderBytes = 110;
// Where the digits of the two numbers that count begin.
constexpr uint64_t kFileSize = 54;
constexpr uint64_t kNameSize = 94;

absl::Status Damaged(uint64_t offset, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the archive is damaged at byte ", offset, ": ", what));
}

absl::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<uint32_t> Hex8(absl::string_view digits) {
  uint32_t value = 0;
  for (const char c : digits.substr(0, 8)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return std::nullopt;
    }
    const int digit = absl::ascii_isdigit(static_cast<unsigned char>(c))
                          ? c - '0'
                          : absl::ascii_tolower(c) - 'a' + 10;
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  return value;
}

uint64_t Up4(uint64_t value) { return (value + 3) & ~uint64_t{3}; }

// The member at `*offset`, which then is that of the next one.
absl::StatusOr<CpioMember> ReadMember(std::span<const std::byte> archive,
                                      uint64_t* offset) {
  const uint64_t at = *offset;
  const auto header = SliceAt(archive, at, kHeaderBytes);
  if (!header.has_value()) return Damaged(at, "it ends before its trailer");
  const absl::string_view text = Text(*header);
  if (text.substr(0, kMagic.size()) != kMagic) {
    return Damaged(at, "no member begins here (is it of the format newc?)");
  }
  const auto file_size = Hex8(text.substr(kFileSize));
  const auto name_size = Hex8(text.substr(kNameSize));
  if (!file_size.has_value() || !name_size.has_value() || *name_size == 0) {
    return Damaged(at, "a size is no number");
  }
  const auto name = SliceAt(archive, at + kHeaderBytes, *name_size);
  if (!name.has_value()) return Damaged(at, "a name is longer than the rest");
  if (Text(*name).find('\0') != *name_size - 1) {
    return Damaged(at, "a name does not end where it should");
  }
  const uint64_t content_at = Up4(at + kHeaderBytes + *name_size);
  const auto content = SliceAt(archive, content_at, *file_size);
  if (!content.has_value()) {
    return Damaged(at, "a member is longer than the rest");
  }
  *offset = Up4(content_at + *file_size);
  return CpioMember{.name = Text(name->first(*name_size - 1)),
                    .content = *content};
}

}  // namespace

absl::StatusOr<std::vector<CpioMember>> ReadCpio(
    std::span<const std::byte> archive) {
  std::vector<CpioMember> members;
  uint64_t offset = 0;
  while (true) {
    const uint64_t at = offset;
    auto member = ReadMember(archive, &offset);
    if (!member.ok()) return member.status();
    if (member->name == kTrailer) return members;
    if (members.size() == kMaxCpioMembers) {
      return Damaged(at, "it has too many members");
    }
    members.push_back(*member);
  }
}

}  // namespace hypervisor
