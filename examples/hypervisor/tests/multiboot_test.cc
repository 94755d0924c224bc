// Multiboot images: whole ones of every form, and damaged ones.

#include "loaders/multiboot.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "loaders/bundle.h"
#include "loaders/multiboot_info.h"
#include "tests/guest_block.h"

namespace hypervisor::testing {
namespace {

constexpr uint64_t kMultibootAt = 0x800;
constexpr uint64_t kTextAt = 0x1000;
constexpr uint64_t kTextBytes = 0x20;
constexpr uint64_t kLoadAt = 0x400000;
// Within the text.
constexpr uint64_t kEntryOffset = 0x10;

MultibootHeader Header(uint32_t flags) {
  return {.magic = MultibootHeader::kMagic,
          .flags = flags,
          .checksum = 0u - MultibootHeader::kMagic - flags};
}

// An image of one segment, whose virtual addresses lie 16 MiB above.
template <typename FileHeader, typename ProgramHeader>
FileMaker ElfFile(unsigned char elf_class, uint32_t multiboot_flags = 0) {
  constexpr uint64_t kVirtual = kLoadAt + 0x1000000;
  FileHeader file = {};
  std::memcpy(file.e_ident, ELFMAG, SELFMAG);
  file.e_ident[EI_CLASS] = elf_class;
  file.e_ident[EI_DATA] = ELFDATA2LSB;
  file.e_type = ET_EXEC;
  file.e_machine = EM_386;
  file.e_entry = kVirtual + kEntryOffset;
  file.e_phoff = sizeof(FileHeader);
  file.e_phentsize = sizeof(ProgramHeader);
  file.e_phnum = 1;
  ProgramHeader program = {};
  program.p_type = PT_LOAD;
  program.p_offset = kTextAt;
  program.p_vaddr = kVirtual;
  program.p_paddr = kLoadAt;
  program.p_filesz = kTextBytes;
  program.p_memsz = 0x3000;
  return FileMaker()
      .Put(0, file)
      .Put(sizeof(FileHeader), program)
      .Put(kMultibootAt, Header(multiboot_flags))
      .PutText(kTextAt, std::string(kTextBytes, 'T'));
}

FileMaker Elf32(uint32_t flags = 0) {
  return ElfFile<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, flags);
}
FileMaker Elf64() { return ElfFile<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64); }

class Multiboot : public ::testing::Test {
 protected:
  Multiboot() : guest_(16) { guest_.Fill(std::byte{0xcc}); }

  absl::StatusOr<CpuState> Load(const FileMaker& file) {
    return LoadMultiboot({.file = file.bytes(), .cmdline = "name args"},
                         guest_.view());
  }
  MultibootInfo Info(const CpuState& state) const {
    return guest_.Read<MultibootInfo>(state.gpr[kRbx]);
  }

  GuestBlock guest_;
};

TEST_F(Multiboot, AnElfImageOfEitherClassIsLoadedByPhysicalAddresses) {
  for (const FileMaker& file : {Elf32(), Elf64()}) {
    guest_.Fill(std::byte{0xcc});
    const auto state = Load(file);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->rip, kLoadAt + kEntryOffset);
    EXPECT_EQ(guest_.Text(kLoadAt, kTextBytes), std::string(kTextBytes, 'T'));
    EXPECT_EQ(guest_.Text(kLoadAt + kTextBytes, 0x3000 - kTextBytes),
              std::string(0x3000 - kTextBytes, '\0'));
    EXPECT_EQ(guest_.Read<uint8_t>(kLoadAt - 1), 0xcc);
    EXPECT_EQ(guest_.Read<uint8_t>(kLoadAt + 0x3000), 0xcc);
  }
}

TEST_F(Multiboot, TheMachineIsInTheStateThatTheSpecificationDemands) {
  const auto state = Load(Elf32());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->gpr[kRax], 0x2badb002u);
  EXPECT_EQ(state->cr0 & (cr0::kPe | cr0::kPg), cr0::kPe);
  EXPECT_EQ(state->efer, 0u);
  EXPECT_EQ(state->rflags & (rflags::kIf | rflags::kVm), 0u);
  EXPECT_EQ(state->cpl, 0);
  for (const Segment& segment :
       {state->cs, state->ds, state->es, state->fs, state->gs, state->ss}) {
    EXPECT_EQ(segment.base, 0u);
    EXPECT_EQ(segment.limit, 0xffffffffu);
    EXPECT_TRUE(segment.Has(Segment::kPresent | Segment::kUserSegment |
                            Segment::kDefault | Segment::kGranularity));
    EXPECT_EQ(segment.dpl(), 0u);
  }
  EXPECT_TRUE(state->cs.Has(Segment::kCode | Segment::kReadable));
  EXPECT_FALSE(state->ds.Has(Segment::kCode));
  EXPECT_TRUE(state->ds.Has(Segment::kWritable));
  EXPECT_EQ(state->mode(), CpuMode::k32Bit);
}

TEST_F(Multiboot, TheInformationTellsMemoryAndCommandLine) {
  const auto state = Load(Elf32());
  ASSERT_TRUE(state.ok()) << state.status();
  const MultibootInfo info = Info(*state);
  EXPECT_EQ(info.flags, MultibootInfo::kMemory | MultibootInfo::kCommandLine |
                            MultibootInfo::kMemoryMap |
                            MultibootInfo::kLoaderName);
  EXPECT_EQ(info.memory_lower, 640u);
  EXPECT_EQ(info.memory_upper, 15u * 1024);
  EXPECT_EQ(guest_.TextToNul(info.command_line), "name args");
  EXPECT_EQ(guest_.TextToNul(info.loader_name), "shadowmmu");
}

TEST_F(Multiboot, TheInformationIsAtNeitherEndOfLowRam) {
  const auto state = Load(Elf32());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_GE(state->gpr[kRbx], 0x10000u);
  EXPECT_LT(state->gpr[kRbx], 0x80000u);
}

TEST_F(Multiboot, TheMemoryMapIsThatOfThePc) {
  const auto state = Load(Elf32());
  ASSERT_TRUE(state.ok()) << state.status();
  const MultibootInfo info = Info(*state);
  uint64_t at = info.memory_map_address;
  for (const E820Entry& expected : guest_.view().e820()) {
    ASSERT_LT(at, info.memory_map_address + info.memory_map_bytes);
    const auto entry = guest_.Read<MultibootMapEntry>(at);
    EXPECT_EQ(entry.base_low, expected.base);
    EXPECT_EQ(entry.bytes_low, expected.bytes);
    EXPECT_EQ(entry.type, expected.type);
    at += entry.size + sizeof(entry.size);
  }
  EXPECT_EQ(at, info.memory_map_address + info.memory_map_bytes);
}

TEST_F(Multiboot, AModuleFollowsTheImageOnAPage) {
  const FileMaker file = Elf32();
  const std::string module(5000, 'M');
  const auto state = LoadMultiboot(
      {.file = file.bytes(), .initrd = Bytes(module)}, guest_.view());
  ASSERT_TRUE(state.ok()) << state.status();
  const MultibootInfo info = Info(*state);
  EXPECT_NE(info.flags & MultibootInfo::kModules, 0u);
  EXPECT_EQ(info.modules, 1u);
  const auto entry = guest_.Read<MultibootModule>(info.modules_address);
  EXPECT_EQ(entry.begin, kLoadAt + 0x3000);
  EXPECT_EQ(entry.end, entry.begin + module.size());
  EXPECT_EQ(guest_.Text(entry.begin, module.size()), module);
}

TEST_F(Multiboot, AnImageThatFillsLowMemoryHasItsInformationElsewhere) {
  FileMaker file = Elf32();
  Elf32_Phdr program = {};
  std::memcpy(&program, file.bytes().data() + sizeof(Elf32_Ehdr),
              sizeof(program));
  program.p_paddr = 0x1000;
  program.p_memsz = 0x9f000;
  file.Put(sizeof(Elf32_Ehdr), program);
  const auto state = Load(file);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_GE(state->gpr[kRbx], 0x100000u);
  EXPECT_EQ(guest_.TextToNul(Info(*state).command_line), "name args");
}

TEST_F(Multiboot, AnImageWithAddressesIsLoadedByThem) {
  constexpr uint32_t kBase = 0x200000;
  MultibootHeader header = Header(MultibootHeader::kHasAddresses);
  header.header_address = kBase + 0x20;
  header.load_address = kBase;
  header.load_end_address = kBase + 0x1000;
  header.bss_end_address = kBase + 0x1800;
  header.entry_address = kBase + 0x40;
  // What is before load_addr in the file is not loaded.
  FileMaker file(0x2000);
  file.PutText(0x100, "FIRST").Put(0x120, header);
  const auto state = Load(file);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->rip, header.entry_address);
  EXPECT_EQ(guest_.Text(kBase, 5), "FIRST");
  EXPECT_EQ(guest_.Read<uint8_t>(kBase + 0x17ff), 0);
  EXPECT_EQ(guest_.Read<uint8_t>(kBase + 0x1800), 0xcc);
}

TEST_F(Multiboot, ZeroAddressesMeanAllOfTheFileAndNoBss) {
  constexpr uint32_t kBase = 0x200000;
  MultibootHeader header = Header(MultibootHeader::kHasAddresses);
  header.header_address = header.load_address = header.entry_address = kBase;
  FileMaker file(0x1003);
  file.Put(0, header).PutText(0x1000, "END");
  ASSERT_TRUE(Load(file).ok());
  EXPECT_EQ(guest_.Text(kBase + 0x1000, 3), "END");
  EXPECT_EQ(guest_.Read<uint8_t>(kBase + 0x1003), 0xcc);
}

TEST_F(Multiboot, BadAddressesAreRefused) {
  constexpr uint32_t kBase = 0x200000;
  const auto load = [&](uint32_t MultibootHeader::*field, uint32_t value) {
    MultibootHeader header = Header(MultibootHeader::kHasAddresses);
    header.header_address = header.load_address = header.entry_address = kBase;
    header.load_end_address = kBase + 0x800;
    header.bss_end_address = kBase + 0x900;
    header.*field = value;
    FileMaker file(0x1000);
    file.Put(0, header);
    return Load(file).status();
  };
  ASSERT_TRUE(load(&MultibootHeader::entry_address, kBase + 4).ok());
  for (const uint32_t bad : {1u, kBase - 4, 0x7fffffffu, 0xffffffffu}) {
    EXPECT_FALSE(load(&MultibootHeader::load_address, bad).ok()) << bad;
    EXPECT_FALSE(load(&MultibootHeader::header_address, bad).ok()) << bad;
    EXPECT_FALSE(load(&MultibootHeader::load_end_address, bad).ok()) << bad;
    EXPECT_FALSE(load(&MultibootHeader::bss_end_address, bad).ok()) << bad;
  }
  EXPECT_FALSE(load(&MultibootHeader::entry_address, 0xa0000).ok());
  EXPECT_FALSE(load(&MultibootHeader::entry_address, 0xffffffff).ok());
}

TEST_F(Multiboot, AHeaderCountsOnlyWhereTheSpecificationLetsItBe) {
  const auto found = [](uint64_t offset, const MultibootHeader& header) {
    FileMaker file(16384);
    file.Put(offset, header);
    return FindMultibootHeader(file.bytes()).has_value();
  };
  EXPECT_TRUE(found(0, Header(0)));
  EXPECT_TRUE(found(8192 - 12, Header(0)));
  EXPECT_FALSE(found(8192 - 8, Header(0)));
  EXPECT_FALSE(found(2, Header(0)));
  MultibootHeader wrong = Header(0);
  wrong.checksum += 1;
  EXPECT_FALSE(found(0, wrong));
}

TEST_F(Multiboot, AHeaderAtTheVeryEndOfAFileIsFound) {
  FileMaker file;
  file.Put(0, Header(0));
  file.Cut(12);
  EXPECT_TRUE(FindMultibootHeader(file.bytes()).has_value());
  file.Cut(11);
  EXPECT_FALSE(FindMultibootHeader(file.bytes()).has_value());
}

TEST_F(Multiboot, FlagsThatALoaderMustKnowAreRefusedIfItDoesNot) {
  for (unsigned bit = 0; bit < 16; ++bit) {
    EXPECT_EQ(Load(Elf32(1u << bit)).ok(), bit < 3) << bit;
  }
  EXPECT_TRUE(Load(Elf32(1u << 17)).ok());
}

// Every field of both headers at its extremes: an error, or an image that was
// loaded; never a write outside of RAM, which the sanitizers would see.
template <typename FileHeader, typename ProgramHeader>
void DamageFields(const FileMaker& whole, GuestBlock* guest) {
  const size_t bytes = sizeof(FileHeader) + sizeof(ProgramHeader);
  for (size_t at = 0; at + sizeof(uint64_t) <= bytes; ++at) {
    for (const uint64_t value :
         {uint64_t{0}, uint64_t{1}, uint64_t{0x7fffffff}, uint64_t{0xffffffff},
          uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()}) {
      for (const size_t width : {1, 2, 4, 8}) {
        FileMaker file = whole;
        file.PutText(at,
                     std::string(reinterpret_cast<const char*>(&value), width));
        const auto state = LoadMultiboot({.file = file.bytes()}, guest->view());
        if (state.ok()) {
          EXPECT_TRUE(guest->view().Ram({shadowmmu::Gpa(state->rip), 1}).ok());
        }
      }
    }
  }
}

TEST_F(Multiboot, ADamagedElfImageIsRefusedOrHarmless) {
  GuestBlock small(8);
  DamageFields<Elf32_Ehdr, Elf32_Phdr>(Elf32(), &small);
  DamageFields<Elf64_Ehdr, Elf64_Phdr>(Elf64(), &small);
}

TEST_F(Multiboot, AnElfImageThatIsCutIsRefused) {
  for (const size_t bytes : {0x80cu, 0x1000u, 0x101fu}) {
    FileMaker file = Elf32();
    file.Cut(bytes);
    EXPECT_FALSE(Load(file).ok()) << bytes;
  }
}

TEST_F(Multiboot, WhatHasNoRoomIsRefused) {
  const FileMaker file = Elf32();
  const std::string module(12 << 20, 'M');
  EXPECT_EQ(LoadMultiboot({.file = file.bytes(), .initrd = Bytes(module)},
                          guest_.view())
                .status()
                .code(),
            absl::StatusCode::kOutOfRange);
  const GuestBlock tiny(4);
  EXPECT_EQ(LoadMultiboot({.file = file.bytes()}, tiny.view()).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST_F(Multiboot, ABundleGivesTheImageItsNameAsFirstWord) {
  const FileMaker file = Elf32();
  Bundle bundle{.image = file.bytes(), .cmdline = "one two"};
  bundle.options.name = "image.elf";
  const auto state = LoadGuest(bundle, guest_.view());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(guest_.TextToNul(Info(*state).command_line), "image.elf one two");
}

TEST_F(Multiboot, AnImageOfNoKindIsRefused) {
  const std::string text(10000, 'x');
  EXPECT_EQ(LoadGuest({.image = Bytes(text)}, guest_.view()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace hypervisor::testing
