#include "loaders/bzimage.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "loaders/bytes.h"
#include "loaders/first_state.h"
#include "loaders/placement.h"

namespace hypervisor {

using shadowmmu::Gpa;

namespace {

namespace hdr = setup_header;

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kParagraphBytes = 16;
constexpr uint8_t kDefaultSetupSectors = 4;
constexpr uint16_t kOldestVersion = 0x0203;
constexpr uint16_t kVersionOfCommandLineSize = 0x0206;
constexpr uint16_t kVersionOfInitSize = 0x020a;
constexpr uint32_t kDefaultCommandLineSize = 255;
constexpr uint16_t kNormalVideo = 0xffff;
constexpr uint8_t kUndefinedLoader = 0xff;
// Zero page, command line and GDT are below where PCs have the extended BIOS
// data area.
constexpr GpaRange kLowInfo = {Gpa(0), 0x9f000};

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the bzImage: ", what));
}

// The file, taken apart.
struct Kernel {
  // The setup header, from hdr::kBegin on.
  std::span<const std::byte> header;
  // What is entered in protected mode.
  std::span<const std::byte> system;
  Gpa load;
  // The memory that it will use before it looks at the memory map.
  GpaRange used;
  uint64_t longest_command_line = kDefaultCommandLineSize;
  // The last byte of an initramfs may lie here.
  Gpa initrd_last;
};

// A field that the header has, as its length was checked.
template <typename T>
T Field(std::span<const std::byte> file, uint64_t offset) {
  return ReadAt<T>(file, offset).value_or(0);
}

absl::Status CheckHeader(std::span<const std::byte> file) {
  if (!IsBzImage(file)) return Bad("its setup header is not there");
  if (!SliceAt(file, 0, hdr::kLongestEnd).has_value()) {
    return Bad("its setup header is cut off");
  }
  if (Field<uint16_t>(file, hdr::kVersion) < kOldestVersion) {
    return Bad("its boot protocol is older than 2.03");
  }
  if ((Field<uint8_t>(file, hdr::kLoadFlags) & hdr::kLoadedHigh) == 0) {
    return Bad("it is a zImage, which is loaded low");
  }
  return absl::OkStatus();
}

// The header ends where its jump leads; a version may know more fields.
uint64_t HeaderEnd(std::span<const std::byte> file) {
  const uint64_t end = hdr::kMagic + Field<uint8_t>(file, hdr::kJumpOffset);
  return std::min(end, hdr::kLongestEnd);
}

void ReadLimits(std::span<const std::byte> file, Kernel* kernel) {
  const uint16_t version = Field<uint16_t>(file, hdr::kVersion);
  if (version >= kVersionOfCommandLineSize) {
    kernel->longest_command_line = Field<uint32_t>(file, hdr::kCommandLineSize);
  }
  kernel->used = {kernel->load, kernel->system.size()};
  if (version < kVersionOfInitSize) return;
  // Loaded below, a relocatable kernel moves to its preferred address; another
  // one stays.
  const uint64_t preferred = Field<uint64_t>(file, hdr::kPreferredAddress);
  if (Field<uint8_t>(file, hdr::kRelocatable) != 0 &&
      preferred > kernel->load.value()) {
    kernel->used.begin = Gpa(preferred);
  }
  kernel->used.bytes = std::max<uint64_t>(
      kernel->used.bytes, Field<uint32_t>(file, hdr::kInitSize));
}

absl::StatusOr<Kernel> ReadKernel(std::span<const std::byte> file) {
  const absl::Status status = CheckHeader(file);
  if (!status.ok()) return status;
  uint64_t sectors = Field<uint8_t>(file, hdr::kSetupSectors);
  if (sectors == 0) sectors = kDefaultSetupSectors;
  const uint64_t setup_bytes = (sectors + 1) * kSectorBytes;
  if (setup_bytes >= file.size()) return Bad("it ends within its setup code");
  Kernel kernel{
      .header = file.subspan(hdr::kBegin, HeaderEnd(file) - hdr::kBegin),
      .system = file.subspan(setup_bytes),
      .load = Gpa(Field<uint32_t>(file, hdr::kCode32Start)),
      .initrd_last = Gpa(Field<uint32_t>(file, hdr::kInitrdAddressMax))};
  // The size is rounded up to paragraphs; what follows the system, as a
  // signature does, is loaded with it.
  const uint64_t paragraphs = Field<uint32_t>(file, hdr::kSystemSize);
  if ((kernel.system.size() + kParagraphBytes - 1) / kParagraphBytes <
      paragraphs) {
    return Bad("it is shorter than its header says");
  }
  ReadLimits(file, &kernel);
  return kernel;
}

// Where everything of ours lies.
struct Layout {
  Gpa zero_page;
  Gpa cmdline;
  Gpa gdt;
  std::optional<GpaRange> initrd;
};

constexpr std::array<uint64_t, 4> kGdt = {
    0, 0,
    0x00cf9b000000ffff,  // kBootCs: flat, 32-bit, code
    0x00cf93000000ffff,  // kBootDs: flat, data
};

absl::StatusOr<Layout> Place(const Kernel& kernel, const GuestImage& image,
                             const GuestMemoryView& memory) {
  Placement placement(memory);
  placement.Take({kernel.load, kernel.system.size()});
  placement.Take(kernel.used);
  const auto zero = placement.TakeHighest(zero_page::kBytes, kLowInfo);
  const auto cmdline =
      placement.TakeHighest(image.cmdline.size() + 1, kLowInfo);
  const auto gdt = placement.TakeHighest(sizeof(kGdt), kLowInfo);
  if (!zero.has_value() || !cmdline.has_value() || !gdt.has_value()) {
    return absl::OutOfRangeError("no room for the zero page in low memory");
  }
  Layout layout{
      .zero_page = zero->begin, .cmdline = cmdline->begin, .gdt = gdt->begin};
  if (!image.initrd.has_value() || image.initrd->empty()) return layout;
  layout.initrd = placement.TakeHighest(
      image.initrd->size(), {Gpa(0), kernel.initrd_last.value() + 1});
  if (!layout.initrd.has_value()) {
    return absl::OutOfRangeError("no room in memory for the initramfs");
  }
  return layout;
}

// The zero page, byte by byte, as its fields lie at odd offsets.
class ZeroPage {
 public:
  template <typename T>
  void Set(uint64_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(value));
  }
  void Copy(uint64_t offset, std::span<const std::byte> bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + offset);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::array<std::byte, zero_page::kBytes> bytes_ = {};
};

void SetE820(const GuestMemoryView& memory, ZeroPage* page) {
  uint64_t at = zero_page::kE820Table;
  const auto map = memory.e820();
  for (const E820Entry& entry : map) {
    page->Set(at, entry.base);
    page->Set(at + 8, entry.bytes);
    page->Set(at + 16, entry.type);
    at += 20;
  }
  page->Set(zero_page::kE820Entries, static_cast<uint8_t>(map.size()));
}

ZeroPage MakeZeroPage(const Kernel& kernel, const Layout& layout,
                      const GuestMemoryView& memory) {
  ZeroPage page;
  page.Copy(hdr::kBegin, kernel.header);
  page.Set(hdr::kVideoMode, kNormalVideo);
  page.Set(hdr::kLoaderType, kUndefinedLoader);
  page.Set(hdr::kCommandLinePointer,
           static_cast<uint32_t>(layout.cmdline.value()));
  if (layout.initrd.has_value()) {
    page.Set(hdr::kRamdiskImage,
             static_cast<uint32_t>(layout.initrd->begin.value()));
    page.Set(hdr::kRamdiskSize, static_cast<uint32_t>(layout.initrd->bytes));
  }
  const uint64_t high_kib = memory.high_ram().bytes >> 10;
  page.Set(zero_page::kExtendedMemory,
           static_cast<uint16_t>(std::min<uint64_t>(high_kib, 0xfc00)));
  page.Set(zero_page::kAltMemory, static_cast<uint32_t>(high_kib));
  SetE820(memory, &page);
  return page;
}

}  // namespace

bool IsBzImage(std::span<const std::byte> file) {
  return ReadAt<uint16_t>(file, hdr::kBootFlag) == hdr::kBootFlagValue &&
         ReadAt<uint32_t>(file, hdr::kMagic) == hdr::kMagicValue;
}

absl::StatusOr<CpuState> LoadBzImage(const GuestImage& image,
                                     const GuestMemoryView& memory) {
  auto kernel = ReadKernel(image.file);
  if (!kernel.ok()) return kernel.status();
  if (image.cmdline.size() > kernel->longest_command_line) {
    return absl::InvalidArgumentError(
        absl::StrCat("the kernel takes a command line of ",
                     kernel->longest_command_line, " bytes, and no more"));
  }
  absl::Status status = memory.Ram(kernel->used).status();
  if (!status.ok()) return status;
  auto layout = Place(*kernel, image, memory);
  if (!layout.ok()) return layout.status();
  status.Update(memory.Write(kernel->load, kernel->system));
  status.Update(memory.Write(layout->zero_page,
                             MakeZeroPage(*kernel, *layout, memory).bytes()));
  status.Update(memory.Clear({layout->cmdline, image.cmdline.size() + 1}));
  status.Update(
      memory.Write(layout->cmdline, std::as_bytes(std::span(image.cmdline))));
  status.Update(memory.WriteObject(layout->gdt, kGdt));
  if (layout->initrd.has_value()) {
    status.Update(memory.Write(layout->initrd->begin, *image.initrd));
  }
  if (!status.ok()) return status;
  CpuState state = FlatProtectedMode(kernel->load, kBootCs, kBootDs);
  state.gdtr = {.limit = sizeof(kGdt) - 1, .base = layout->gdt.value()};
  state.gpr[kRsi] = layout->zero_page.value();
  return state;
}

}  // namespace hypervisor
