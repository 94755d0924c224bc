#include "loaders/elf.h"

#include <elf.h>

#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "loaders/bytes.h"

namespace hypervisor {

using shadowmmu::Gpa;

namespace {

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the ELF image: ", what));
}

// Adds what `header` says to `image`. `entry` is that of the file.
template <typename ProgramHeader>
absl::Status AddSegment(std::span<const std::byte> file,
                        const ProgramHeader& header, uint64_t entry,
                        ElfImage* image) {
  if (header.p_type != PT_LOAD || header.p_memsz == 0) return absl::OkStatus();
  if (header.p_filesz > header.p_memsz) {
    return Bad("a segment has more bytes in the file than in memory");
  }
  const auto content = SliceAt(file, header.p_offset, header.p_filesz);
  if (!content.has_value()) return Bad("a segment lies beyond the file's end");
  image->segments.push_back(
      {.range = {Gpa(header.p_paddr), header.p_memsz}, .content = *content});
  if (entry - header.p_vaddr < header.p_memsz) {
    image->entry = Gpa(header.p_paddr + (entry - header.p_vaddr));
  }
  return absl::OkStatus();
}

template <typename FileHeader, typename ProgramHeader>
absl::StatusOr<ElfImage> Read(std::span<const std::byte> file) {
  const auto header = ReadAt<FileHeader>(file, 0);
  if (!header.has_value()) return Bad("its header is cut off");
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
    return Bad("it is no executable");
  }
  if (header->e_machine != EM_386 && header->e_machine != EM_X86_64) {
    return Bad("it is not for x86");
  }
  if (header->e_phnum == 0 || header->e_phnum > kMaxProgramHeaders ||
      header->e_phentsize < sizeof(ProgramHeader)) {
    return Bad("no, too many, or too short program headers");
  }
  ElfImage image{.entry = Gpa(header->e_entry)};
  const auto table = SliceAt(file, header->e_phoff,
                             uint64_t{header->e_phnum} * header->e_phentsize);
  if (!table.has_value()) return Bad("its program headers are cut off");
  for (uint64_t i = 0; i < header->e_phnum; ++i) {
    const auto program = ReadAt<ProgramHeader>(*table, i * header->e_phentsize);
    if (!program.has_value()) return Bad("its program headers are cut off");
    const absl::Status added =
        AddSegment(file, *program, header->e_entry, &image);
    if (!added.ok()) return added;
  }
  if (image.segments.empty()) return Bad("nothing of it is to be loaded");
  return image;
}

}  // namespace

absl::StatusOr<ElfImage> ReadElf(std::span<const std::byte> file) {
  if (file.size() < EI_NIDENT ||
      std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) {
    return Bad("its magic number is not there");
  }
  if (std::to_integer<int>(file[EI_DATA]) != ELFDATA2LSB) {
    return Bad("it is not little-endian");
  }
  switch (std::to_integer<int>(file[EI_CLASS])) {
    case ELFCLASS32:
      return Read<Elf32_Ehdr, Elf32_Phdr>(file);
    case ELFCLASS64:
      return Read<Elf64_Ehdr, Elf64_Phdr>(file);
    default:
      return Bad("its class is neither 32 nor 64 bits");
  }
}

}  // namespace hypervisor
