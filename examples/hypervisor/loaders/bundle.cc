#include "loaders/bundle.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "loaders/cpio.h"

namespace hypervisor {
namespace {

using Content = std::optional<std::span<const std::byte>>;

absl::string_view Text(const Content& content) {
  if (!content.has_value()) return {};
  return {reinterpret_cast<const char*>(content->data()), content->size()};
}

struct Members {
  Content image;
  Content initrd;
  Content cmdline;
  Content options;

  Content* Find(absl::string_view name) {
    if (name == "image") return &image;
    if (name == "initrd") return &initrd;
    if (name == "cmdline") return &cmdline;
    if (name == "options") return &options;
    return nullptr;
  }
};

absl::StatusOr<Members> Sort(const std::vector<CpioMember>& list) {
  Members members;
  for (const CpioMember& member : list) {
    Content* content = members.Find(member.name);
    if (content == nullptr || content->has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the bundle has ", content == nullptr ? "an unknown" : "a second",
          " member \"", absl::CHexEscape(member.name.substr(0, 80)), "\""));
    }
    *content = member.content;
  }
  return members;
}

}  // namespace

absl::StatusOr<Bundle> Bundle::Read(std::span<const std::byte> archive) {
  auto list = ReadCpio(archive);
  if (!list.ok()) return list.status();
  auto members = Sort(*list);
  if (!members.ok()) return members.status();
  if (!members->image.has_value()) {
    return absl::InvalidArgumentError("the bundle has no image");
  }
  const absl::string_view cmdline =
      absl::StripSuffix(Text(members->cmdline), "\n");
  if (cmdline.size() > kMaxCommandLine ||
      cmdline.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        "the command line is too long, or has a NUL");
  }
  auto options = GuestOptions::Parse(Text(members->options));
  if (!options.ok()) return options.status();
  return Bundle{.image = *members->image,
                .initrd = members->initrd,
                .cmdline = cmdline,
                .options = *std::move(options)};
}

}  // namespace hypervisor
