// Mmu::Create and CreateVcpu: what they refuse, and that they name it; and
// table memory whose blocks lie anywhere in physical memory.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "shadowmmu/audit.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/mmu/vm.h"

namespace shadowmmu {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{2} << 20;

// A DefaultHost that may break its contract.
class OddHost : public DefaultHost {
 public:
  EntryFormat Format() const override { return format; }
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override {
    auto memory = DefaultHost::AllocateTables(tables);
    if (!memory.ok()) return memory;
    real_ = *memory;
    if (change_tables) change_tables(*memory);
    return memory;
  }
  void FreeTables(const TableMemory&) override {
    DefaultHost::FreeTables(real_);
    freed = true;
  }
  absl::StatusOr<LowPage> AllocateLowPage() override {
    auto page = DefaultHost::AllocateLowPage();
    if (page.ok() && high_low_page) page->hpa = Hpa(uint64_t{1} << 32);
    return page;
  }

  EntryFormat format;
  std::function<void(TableMemory&)> change_tables;
  bool high_low_page = false;
  bool freed = false;

 private:
  TableMemory real_;
};

class Create : public ::testing::Test {
 protected:
  MmuConfig Config() {
    return {.host = &host_, .table_capacity = 1200, .max_vcpus = 2};
  }
  void ExpectRefused(
      const MmuConfig& config, const std::string& words,
      absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const absl::Status status = Mmu::Create(config).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(std::string(status.message()).find(words), std::string::npos)
        << status;
  }

  OddHost host_;
};

TEST_F(Create, RefusesAConfigurationAndNamesTheField) {
  MmuConfig config = Config();
  config.host = nullptr;
  ExpectRefused(config, "host: null");
  for (const uint32_t vcpus : {0u, kMaxVcpus + 1}) {
    config = Config();
    config.max_vcpus = vcpus;
    ExpectRefused(config, "max_vcpus: ");
  }
  for (const uint32_t tables : {0u, 19u, uint32_t{1} << 22}) {
    config = Config();
    config.table_capacity = tables;
    ExpectRefused(config, "table_capacity: ");
  }
  for (const unsigned bits : {35u, 53u}) {
    config = Config();
    config.guest_physical_bits = bits;
    ExpectRefused(config, "guest_physical_bits: ");
  }
  config = Config();
  config.largest_page = Level::k512G;
  ExpectRefused(config, "largest_page: ");
  for (const uint32_t window : {1u, 3u, 65u, 2 * kMaxPrefetch}) {
    config = Config();
    config.prefetch = window;
    ExpectRefused(config, "prefetch: ");
  }
}

TEST_F(Create, RefusesAFormatThatNoCpuHas) {
  for (const unsigned bits : {35u, 53u}) {
    host_.format.physical_bits = bits;
    ExpectRefused(Config(), "physical_bits: ");
  }
  host_.format = EntryFormat{.has_accessed_dirty = false};
  ExpectRefused(Config(), "has_accessed_dirty",
                absl::StatusCode::kUnimplemented);
  host_.format = EntryFormat{.not_present_value = 1};
  ExpectRefused(Config(), "not_present_value");
  host_.format = EntryFormat{.encryption_bit = 0x3000};
  ExpectRefused(Config(), "encryption_bit");
  host_.format = EntryFormat{.encryption_bit = 8};
  ExpectRefused(Config(), "encryption_bit");
}

TEST_F(Create, RefusesTableMemoryThatIsNotAsAskedAndGivesItBack) {
  const auto refused = [&](const std::string& words,
                           std::function<void(TableMemory&)> change) {
    host_.change_tables = std::move(change);
    host_.freed = false;
    ExpectRefused(Config(), words);
    EXPECT_TRUE(host_.freed) << words;
  };
  refused("asked for 1200", [](TableMemory& m) { m.tables = 1199; });
  refused("in 2 blocks", [](TableMemory& m) { m.block_hpa.resize(2); });
  refused("base is not", [](TableMemory& m) { m.base += 64; });
  refused("block_hpa is not", [](TableMemory& m) { m.block_hpa[1] += 4096; });
  refused("below",
          [](TableMemory& m) { m.block_hpa[2] = Hpa(uint64_t{1} << 50); });
  refused("two blocks",
          [](TableMemory& m) { m.block_hpa[2] = m.block_hpa[0]; });
  host_.change_tables = nullptr;
  host_.high_low_page = true;
  ExpectRefused(Config(), "hpa is no page below 4 GiB");
}

TEST_F(Create, RefusesAVcpuThatIsThereOrOutOfRange) {
  auto mmu = Mmu::Create(Config());
  ASSERT_TRUE(mmu.ok()) << mmu.status();
  auto vcpu = (*mmu)->CreateVcpu(VcpuId{1});
  ASSERT_TRUE(vcpu.ok()) << vcpu.status();
  EXPECT_EQ((*mmu)->CreateVcpu(VcpuId{1}).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ((*mmu)->CreateVcpu(VcpuId{2}).status().code(),
            absl::StatusCode::kInvalidArgument);
  vcpu->reset();
  EXPECT_TRUE((*mmu)->CreateVcpu(VcpuId{1}).ok()) << "its place is free again";
}

// Blocks in one row, backwards, with holes, and with the first one last.
class Blocks : public Create,
               public ::testing::WithParamInterface<std::vector<uint64_t>> {};

TEST_P(Blocks, EveryTableIsFoundByItsAddressWhereverItsBlockLies) {
  constexpr uint64_t kFirst = uint64_t{1} << 32;
  const std::vector<uint64_t>& places = GetParam();
  host_.change_tables = [&](TableMemory& memory) {
    ASSERT_EQ(memory.block_hpa.size(), places.size());
    for (size_t i = 0; i < places.size(); ++i) {
      memory.block_hpa[i] = Hpa(kFirst + places[i] * kBlockBytes);
    }
  };
  auto mmu = Mmu::Create(Config());
  ASSERT_TRUE(mmu.ok()) << mmu.status();
  Vm& vm = (*mmu)->internals();
  const VmLock held(vm);
  const auto at = [&](uint64_t hpa) {
    vm.lock.AssertHeld();
    return vm.arena.TableAt(Hpa(hpa));
  };
  for (uint32_t i = 1; i <= 1200; ++i) {
    const auto table = static_cast<TableIndex>(i);
    EXPECT_EQ(at(vm.arena.HpaOf(table).value()), table);
  }
  // Where no table of ours is: before, between and behind the blocks, and in
  // the last one behind the capacity.
  const uint64_t last = kFirst + places.back() * kBlockBytes;
  EXPECT_EQ(at(last + (1200 % 512) * kPageSize), TableIndex::kNil);
  EXPECT_EQ(at(kFirst - kPageSize), TableIndex::kNil);
  for (uint64_t place = 0; place < 12; ++place) {
    if (std::count(places.begin(), places.end(), place) != 0) continue;
    EXPECT_EQ(at(kFirst + place * kBlockBytes), TableIndex::kNil) << place;
  }
}

INSTANTIATE_TEST_SUITE_P(Places, Blocks,
                         ::testing::Values(std::vector<uint64_t>{0, 1, 2},
                                           std::vector<uint64_t>{2, 1, 0},
                                           std::vector<uint64_t>{1, 5, 9},
                                           std::vector<uint64_t>{7, 8, 3}));

}  // namespace
}  // namespace shadowmmu
