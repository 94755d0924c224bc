// A copy of guest memory that is kept up by the dirty log alone, while vCPUs
// and an emulator store, walks set bits, and the host takes mappings away: at
// the end it is what the memory is. A store that the log loses is a word that
// differs.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {
namespace {

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr uint64_t kAll = gpte::kWritable | gpte::kUser;
constexpr unsigned kVcpus = 3;
// More than a get does in one step.
constexpr SlotSpec kData{.id = SlotId{1}, .base = Gfn(0x1000), .pages = 2100};
constexpr SlotSpec kTables{.id = SlotId{0}, .base = Gfn(0), .pages = 512};
// Of kData, those that are used: every 40th.
constexpr uint64_t kUsed = 50;
constexpr uint64_t kGets = 60;
constexpr Gva kGva{0x40'0000'0000};

using Page = std::array<uint64_t, kPageSize / sizeof(uint64_t)>;

// A slot's memory as the log told of it.
class Copy {
 public:
  Copy(SmallVm* vm, const SlotSpec& slot)
      : vm_(*vm), slot_(slot), pages_(slot.pages) {
    for (uint64_t i = 0; i < slot.pages; ++i) Take(i);
  }

  void Update() {
    std::vector<uint64_t> words(DirtyBitmapWords(slot_.pages));
    ASSERT_TRUE(vm_.mmu().GetAndClearDirty(slot_.space, slot_.id, words).ok());
    for (uint64_t i = 0; i < slot_.pages; ++i) {
      if ((words[i / 64] >> i % 64 & 1) != 0) Take(i);
    }
  }
  // Words that are not as in memory.
  uint64_t Wrong() const {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < slot_.pages; ++i) {
      const Page now = Read(i);
      for (size_t word = 0; word < now.size(); ++word) {
        if (now[word] != pages_[i][word]) ++wrong;
      }
    }
    return wrong;
  }
  uint64_t taken() const { return taken_; }

 private:
  Page Read(uint64_t page) const {
    Page read;
    const Hpa at = ToHpa(vm_.PfnOf(slot_.base + page));
    // By words: each is one access, as a CPU's store is.
    for (size_t word = 0; word < read.size(); ++word) {
      EXPECT_TRUE(vm_.host().ReadPhysical(
          at + word * sizeof(uint64_t),
          std::as_writable_bytes(std::span(&read[word], 1))));
    }
    return read;
  }
  void Take(uint64_t page) {
    pages_[page] = Read(page);
    ++taken_;
  }

  SmallVm& vm_;
  const SlotSpec slot_;
  std::vector<Page> pages_;
  uint64_t taken_ = 0;
};

class DirtyLogThreads : public ::testing::Test {
 protected:
  DirtyLogThreads() : vm_(SmallVm::Options{.table_capacity = 128}) {
    tables_slot_ = vm_.AddSlot(kTables);
    data_slot_ = vm_.AddSlot(kData);
    for (unsigned v = 0; v < kVcpus; ++v) {
      GuestTableBuilder& tables =
          vm_.UseTables(vm_.AddVcpu(), {Gfn(16 + uint64_t{v} * 100), 100});
      for (uint64_t i = 0; i < kUsed; ++i) {
        EXPECT_TRUE(tables.Map(At(i), Target(i), Level::k4K, kAll).ok());
        entries_[v][i] = tables.EntryAddress(At(i), Level::k4K).value();
      }
    }
  }

  static Gva At(uint64_t i) { return kGva + i * 0x20'1000; }
  static Gpa Target(uint64_t i) { return ToGpa(kData.base + i * 40); }
  static std::span<const std::byte> Bytes(const uint64_t& value) {
    return std::as_bytes(std::span(&value, 1));
  }

  // Each vCPU has a word of its own in every page. It stores until the log was
  // read often enough.
  void RunVcpu(unsigned v) {
    GuestVcpu& cpu = vm_.vcpu(v);
    for (uint64_t n = 1; gets_ < kGets; ++n) {
      const uint64_t i = n * 7 % kUsed;
      const TouchResult touched =
          cpu.Touch(At(i) + v * sizeof(n), Write(), [&](Hpa hpa) {
            EXPECT_TRUE(vm_.host().WritePhysical(hpa, Bytes(n)));
          });
      ASSERT_NE(touched.kind, TouchResult::Kind::kBroken) << touched;
      if (n % 16 != 0) continue;
      // The entry as it was made: the next walk sets its bits.
      const uint64_t entry = Target(i).value() | gpte::kPresent | kAll;
      cpu.mmu().GuestWrite(entries_[v][i], Bytes(entry));
      cpu.mmu().Invlpg(At(i));
    }
  }
  void RunEmulator(const std::atomic<bool>& done) {
    for (uint64_t n = 1; !done; ++n) {
      vm_.mmu().GuestWrite(kNormal, Target(n * 11 % kUsed) + 0x800, Bytes(n));
      std::this_thread::yield();
    }
  }
  void RunHost(const std::atomic<bool>& done) {
    for (uint64_t n = 0; !done; ++n) {
      const HvaRange range{data_slot_.hva + n % kUsed * 40 * kPageSize,
                           80 * kPageSize};
      ASSERT_TRUE(vm_.mmu().InvalidateBegin(range).ok());
      ASSERT_TRUE(vm_.mmu().InvalidateEnd(range).ok());
      if (n % 16 == 0) vm_.mmu().InvalidateAll();
      const AuditReport report = Audit(vm_.mmu());
      ASSERT_TRUE(report.ok()) << report;
      std::this_thread::yield();
    }
  }

  SmallVm vm_;
  SlotSpec tables_slot_, data_slot_;
  std::array<std::array<Gpa, kUsed>, kVcpus> entries_;
  std::atomic<uint64_t> gets_{0};
};

TEST_F(DirtyLogThreads, ACopyKeptUpByTheLogIsWhatTheMemoryIs) {
  for (const SlotSpec& slot : {tables_slot_, data_slot_}) {
    ASSERT_TRUE(
        vm_.mmu().SetSlotFlags(kNormal, slot.id, SlotFlags::kLogDirty).ok());
  }
  Copy tables(&vm_, tables_slot_);
  Copy data(&vm_, data_slot_);
  std::atomic<bool> done{false};
  std::vector<std::thread> vcpus;
  for (unsigned v = 0; v < kVcpus; ++v) {
    vcpus.emplace_back([this, v] { RunVcpu(v); });
  }
  std::vector<std::thread> others;
  others.emplace_back([&] { RunEmulator(done); });
  others.emplace_back([&] { RunHost(done); });
  others.emplace_back([&] {
    while (!done) {
      tables.Update();
      data.Update();
      ++gets_;
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : vcpus) thread.join();
  done = true;
  for (std::thread& thread : others) thread.join();

  tables.Update();
  data.Update();
  EXPECT_EQ(tables.Wrong(), 0u);
  EXPECT_EQ(data.Wrong(), 0u);
  EXPECT_GT(data.taken(), data_slot_.pages + 5 * kUsed);
  EXPECT_EQ(vm_.Violations(), "");
}

}  // namespace
}  // namespace shadowmmu::testing
