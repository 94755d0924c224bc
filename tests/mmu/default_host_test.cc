// DefaultHost, end to end: a guest in this process's memory, a CPU that walks
// what the library wrote, and loads and stores that arrive where they should.

#include "shadowmmu/default_host.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "shadowmmu/audit.h"
#include "shadowmmu/dump.h"
#include "tests/harness/cpu_model.h"
#include "tests/harness/guest_tables.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kPages = 64;
constexpr Gva kGva{0x40'0000'0000};
constexpr Gfn kData{40};
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;

// Physical addresses are pointers.
class OwnMemory : public PhysicalMemory {
 public:
  void* PointerToTable(Hpa hpa) const override {
    return reinterpret_cast<void*>(hpa.value());
  }
};

// What default_host.h advises: one override, to reach the CPU.
class HostWithACpu : public DefaultHost {
 public:
  void FlushTlb(const VcpuSet& set, FlushRange range) override {
    DefaultHost::FlushTlb(set, range);
    if (set.Contains(VcpuId{0})) cpu.Flush(range);
  }

  OwnMemory memory;
  CpuModel cpu{&memory, EntryFormat{}};
};

struct FreeRam {
  DefaultHost* host;
  void operator()(std::byte* ram) const { host->Free(ram, kPages * kPageSize); }
};

class DefaultHostGuest : public ::testing::Test {
 protected:
  DefaultHostGuest() {
    mmu_ = *Mmu::Create({.host = &host_});
    const SlotSpec slot{.id = SlotId{0}, .pages = kPages, .hva = HvaOf(0)};
    EXPECT_TRUE(mmu_->CreateSlot(slot).ok());
    memory_.AddSlot(slot);
    vcpu_ = *mmu_->CreateVcpu(VcpuId{0});
    tables_.emplace(&memory_, &store_, GfnRange{Gfn(0), 16});
    EXPECT_TRUE(tables_->Map(kGva, ToGpa(kData), Level::k4K, kAll).ok());
    EXPECT_TRUE(vcpu_->SetRegisters(LongMode(tables_->root())).ok());
  }
  ~DefaultHostGuest() override { EXPECT_TRUE(Audit(*mmu_).ok()); }

  Hva HvaOf(uint64_t offset) const {
    return Hva(reinterpret_cast<uintptr_t>(ram_.get()) + offset);
  }
  uint64_t* Word(Gfn gfn, uint64_t offset) {
    return reinterpret_cast<uint64_t*>(ram_.get() + gfn.value() * kPageSize +
                                       offset);
  }
  // One access, as a hypervisor's loop makes it; nullopt where the library ends
  // it otherwise.
  std::optional<Hpa> Touch(Gva gva, const Access& access) {
    for (int i = 0; i < 8; ++i) {
      if (!vcpu_->EnterGuest().resume()) return std::nullopt;
      EXPECT_EQ(host_.cpu.Enter(vcpu_->HardwareState()), "");
      const CpuResult result = host_.cpu.Access(gva, access);
      vcpu_->ExitGuest();
      if (result.hit()) return result.hpa;
      if (!vcpu_->HandleFault(gva, access).resume()) return std::nullopt;
    }
    return std::nullopt;
  }

  HostWithACpu host_;
  const std::unique_ptr<std::byte, FreeRam> ram_{
      static_cast<std::byte*>(host_.AllocateZeroed(kPages * kPageSize)),
      FreeRam{&host_}};
  GuestMemory memory_{&host_};
  UntrackedStore store_{&memory_};
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_;
  std::optional<GuestTableBuilder> tables_;
};

TEST_F(DefaultHostGuest, AStoreOfTheGuestArrivesInTheProcessesMemory) {
  const std::optional<Hpa> hpa = Touch(kGva + 8, Write());
  ASSERT_TRUE(hpa.has_value());
  *reinterpret_cast<uint64_t*>(hpa->value()) = 0x1234'5678;
  EXPECT_EQ(*Word(kData, 8), 0x1234'5678u);
}

TEST_F(DefaultHostGuest, ThePfnIsTheHvasPageNumber) {
  ASSERT_TRUE(Touch(kGva, Write()).has_value());
  const MmuDump dump = Dump(*mmu_);
  ASSERT_EQ(dump.leaves.size(), 1u);
  EXPECT_EQ(dump.leaves[0].pfn,
            Pfn(HvaOf(ToGpa(kData).value()).value() >> kPageShift));
  EXPECT_TRUE(dump.leaves[0].writable);
}

TEST_F(DefaultHostGuest, WithPagingOffTheGuestRunsOnTablesBelow4GiB) {
  ASSERT_TRUE(vcpu_->SetRegisters({}).ok());
  const std::optional<Hpa> hpa = Touch(Gva(ToGpa(kData).value()), Write());
  ASSERT_TRUE(hpa.has_value());
  EXPECT_EQ(hpa->value(), reinterpret_cast<uintptr_t>(Word(kData, 0)));
  EXPECT_LT(vcpu_->HardwareState().root.value(), uint64_t{1} << 32);
}

TEST_F(DefaultHostGuest, AnEmulatedStoreIsWrittenAndChangesTheMapping) {
  ASSERT_TRUE(Touch(kGva, Write()).has_value());
  TrackedStore tracked(mmu_.get());
  tables_->SetStore(&tracked);
  ASSERT_TRUE(tables_->Map(kGva, ToGpa(kData + 1), Level::k4K, kAll).ok());
  EXPECT_EQ(Touch(kGva, Write())->value(),
            reinterpret_cast<uintptr_t>(Word(kData + 1, 0)));
}

TEST_F(DefaultHostGuest, ANotifierUnmapsFlushesAndLetsTheGuestComeBack) {
  ASSERT_TRUE(Touch(kGva, Write()).has_value());
  const HvaRange page{HvaOf(ToGpa(kData).value()), kPageSize};
  EXPECT_TRUE(mmu_->TestAge(page));
  ASSERT_TRUE(mmu_->InvalidateBegin(page).ok());
  EXPECT_EQ(Dump(*mmu_).leaves.size(), 0u);
  ASSERT_TRUE(mmu_->InvalidateEnd(page).ok());
  EXPECT_TRUE(Touch(kGva, Write()).has_value());
}

TEST_F(DefaultHostGuest, FlushesAreCounted) {
  ASSERT_TRUE(Touch(kGva, Write()).has_value());
  const uint64_t before = host_.flushes();
  ASSERT_TRUE(vcpu_->SetRegisters(vcpu_->registers()).ok());
  ASSERT_TRUE(Touch(kGva, Write()).has_value());
  EXPECT_EQ(host_.flushes(), before + 1);
}

TEST_F(DefaultHostGuest, GuestMemoryIsReadAndWrittenAcrossPages) {
  std::vector<std::byte> bytes(3 * kPageSize);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 7);
  const Gpa gpa = ToGpa(Gfn(30)) + 100;
  ASSERT_TRUE(mmu_->GuestWrite(kNormal, gpa, bytes).resume());
  EXPECT_EQ(std::memcmp(ram_.get() + gpa.value(), bytes.data(), bytes.size()),
            0);
  std::vector<std::byte> back(bytes.size());
  ASSERT_TRUE(mmu_->GuestRead(kNormal, gpa, back).resume());
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(mmu_->GuestWrite(kNormal, ToGpa(Gfn(kPages)) - 1, bytes).kind,
            FaultOutcome::Kind::kEmulate)
      << "it leaves the slot";
}

TEST_F(DefaultHostGuest, CompareExchangeComparesAndExchangesEverySize) {
  for (const unsigned size : {1u, 2u, 4u, 8u}) {
    uint64_t& word = *Word(kData, 64);
    word = 0x8877'6655'4433'2211;
    const uint64_t mask = ~uint64_t{0} >> (64 - 8 * size);
    const Gpa gpa = ToGpa(kData) + 64;
    const auto swap = [&](uint64_t expected, uint64_t desired) {
      return *mmu_->GuestCompareExchange(kNormal, gpa, size, expected, desired);
    };
    const uint64_t old = 0x8877'6655'4433'2211 & mask;
    const GuestExchange wrong = swap(old ^ 1, 0);
    EXPECT_TRUE(wrong.outcome.resume());
    EXPECT_FALSE(wrong.exchanged);
    EXPECT_EQ(wrong.previous, old);
    EXPECT_EQ(word, 0x8877'6655'4433'2211u) << size;
    const GuestExchange right = swap(old, mask);
    EXPECT_TRUE(right.exchanged);
    EXPECT_EQ(right.previous, old);
    EXPECT_EQ(word, 0x8877'6655'4433'2211u | mask) << size;
  }
}

TEST_F(DefaultHostGuest, CompareExchangesOfOtherSizesAndAlignmentsAreRefused) {
  const Gpa gpa = ToGpa(kData);
  for (const unsigned size : {0u, 3u, 16u}) {
    EXPECT_EQ(
        mmu_->GuestCompareExchange(kNormal, gpa, size, 0, 0).status().code(),
        absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(
      mmu_->GuestCompareExchange(kNormal, gpa + 4, 8, 0, 0).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(DefaultHostGuest, NoIncrementByCompareExchangeIsLost) {
  constexpr int kRounds = 2000;
  const auto increment = [this] {
    for (int i = 0; i < kRounds;) {
      const uint64_t now = std::atomic_ref(*Word(kData, 0)).load();
      const auto done =
          mmu_->GuestCompareExchange(kNormal, ToGpa(kData), 8, now, now + 1);
      if (done->exchanged) ++i;
    }
  };
  std::thread other(increment);
  increment();
  other.join();
  EXPECT_EQ(*Word(kData, 0), 2u * kRounds);
}

// ---- What it gives the library ----

TEST(DefaultHostMemory, IsZeroedAndAlignedWhateverItsSize) {
  DefaultHost host;
  for (const size_t bytes :
       {size_t{1}, size_t{63}, size_t{64}, size_t{4096},
        (size_t{128} << 10) - 1, size_t{128} << 10, (size_t{2} << 20) - 8,
        size_t{2} << 20, (size_t{4} << 20) + 1, size_t{4} << 20}) {
    auto* const memory = static_cast<std::byte*>(host.AllocateZeroed(bytes));
    ASSERT_NE(memory, nullptr) << bytes;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u) << bytes;
    EXPECT_EQ(memory[0], std::byte{0});
    EXPECT_EQ(memory[bytes - 1], std::byte{0});
    std::memset(memory, 0x5a, bytes);
    host.Free(memory, bytes);
  }
}

TEST(DefaultHostMemory, WhatIsTooMuchIsNotGiven) {
  DefaultHost host;
  EXPECT_EQ(host.AllocateZeroed(size_t{1} << 60), nullptr);
}

TEST(DefaultHostMemory, TablesLieInBlocksAtTheirOwnAddresses) {
  DefaultHost host;
  for (const uint32_t tables : {1u, 512u, 513u, 1500u}) {
    const absl::StatusOr<TableMemory> memory = host.AllocateTables(tables);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(memory->tables, tables);
    ASSERT_EQ(memory->block_hpa.size(), (tables + 511) / 512);
    for (size_t i = 0; i < memory->block_hpa.size(); ++i) {
      const uint64_t hpa = memory->block_hpa[i].value();
      EXPECT_EQ(hpa % BytesPerEntry(Level::k2M), 0u);
      EXPECT_EQ(hpa, reinterpret_cast<uintptr_t>(memory->base) +
                         i * BytesPerEntry(Level::k2M));
    }
    std::memset(memory->base, 1, size_t{tables} * kPageSize);
    host.FreeTables(*memory);
  }
}

TEST(DefaultHostMemory, LowPagesLieBelow4GiBAndApart) {
  DefaultHost host;
  std::vector<LowPage> pages;
  std::set<uint64_t> addresses;
  for (int i = 0; i < 10; ++i) {
    const absl::StatusOr<LowPage> page = host.AllocateLowPage();
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->hpa.value() >> 32, 0u);
    EXPECT_EQ(page->hpa.value() % kPageSize, 0u);
    EXPECT_EQ(page->hpa.value(), reinterpret_cast<uintptr_t>(page->base));
    EXPECT_TRUE(addresses.insert(page->hpa.value()).second);
    pages.push_back(*page);
  }
  for (const LowPage& page : pages) host.FreeLowPage(page);
}

TEST(DefaultHostMemory, TryCallsCopyAnySizeAndAlignment) {
  DefaultHost host;
  alignas(16) std::array<std::byte, 64> memory{};
  const Hva base(reinterpret_cast<uintptr_t>(memory.data()));
  for (size_t at = 0; at < 9; ++at) {
    for (size_t size = 1; size <= 16; ++size) {
      std::vector<std::byte> bytes(size);
      for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(size * 16 + i);
      memory.fill(std::byte{0xee});
      ASSERT_TRUE(host.TryWrite(base + at, bytes));
      std::vector<std::byte> back(size);
      ASSERT_TRUE(host.TryRead(base + at, back));
      EXPECT_EQ(back, bytes);
      EXPECT_EQ(memory[at + size], std::byte{0xee});
      EXPECT_TRUE(at == 0 || memory[at - 1] == std::byte{0xee});
    }
  }
}

}  // namespace
}  // namespace shadowmmu::testing
