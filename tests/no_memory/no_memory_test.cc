// Every allocation of the library fails in turn, from operator new and from
// the Host, once and for good: each call then ends with a status or an outcome,
// never with an exception; the audit finds the VM healthy; the same call
// succeeds once there is memory; and in the end everything has been freed.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "shadowmmu/audit.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "src/mmu/roots.h"
#include "src/mmu/vcpu_state.h"
#include "src/mmu/vm.h"
#include "tests/no_memory/failing_new.h"

namespace shadowmmu::testing {
namespace {

// A DefaultHost whose memory runs out with operator new's.
class FailingHost : public DefaultHost {
 public:
  void* AllocateZeroed(size_t bytes) override {
    if (FailingNew::Fails()) return nullptr;
    void* memory = DefaultHost::AllocateZeroed(bytes);
    if (memory != nullptr) ++outstanding_;
    return memory;
  }
  void Free(void* memory, size_t bytes) override {
    --outstanding_;
    DefaultHost::Free(memory, bytes);
  }
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override {
    if (FailingNew::Fails()) {
      return absl::Status(absl::StatusCode::kResourceExhausted, "");
    }
    auto memory = DefaultHost::AllocateTables(tables);
    if (memory.ok()) ++outstanding_;
    return memory;
  }
  void FreeTables(const TableMemory& memory) override {
    --outstanding_;
    DefaultHost::FreeTables(memory);
  }
  absl::StatusOr<LowPage> AllocateLowPage() override {
    if (FailingNew::Fails()) {
      return absl::Status(absl::StatusCode::kResourceExhausted, "");
    }
    auto page = DefaultHost::AllocateLowPage();
    if (page.ok()) ++outstanding_;
    return page;
  }
  void FreeLowPage(const LowPage& page) override {
    --outstanding_;
    DefaultHost::FreeLowPage(page);
  }

  int64_t outstanding() const { return outstanding_; }

 private:
  int64_t outstanding_ = 0;
};

constexpr AddressSpace kNormal = AddressSpace::kNormal;
constexpr SlotId kSlot{0};

// 2048 pages of guest memory, with four-level tables in the first of them that
// map 2 MiB of linear addresses to the 512 gfns from 1024 on, and the 2 MiB
// after those to the same gfns.
class GuestRam {
 public:
  static constexpr uint64_t kPages = 2048;
  static constexpr uint64_t kTables = 16;  // first gfn of the tables

  GuestRam()
      : base_(static_cast<std::byte*>(
            mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    Set(0, 0, kTables + 1);
    Set(1, 0, kTables + 2);
    Set(2, 0, kTables + 3);
    Set(2, 1, kTables + 4);
    for (unsigned i = 0; i < kEntriesPerTable; ++i) {
      Set(3, i, 1024 + i);
      Set(4, i, 1024 + i);
    }
  }
  ~GuestRam() { munmap(base_, kPages * kPageSize); }
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;

  Hva hva() const { return Hva(reinterpret_cast<uintptr_t>(base_)); }

 private:
  void Set(unsigned table, unsigned index, uint64_t gfn) {
    const uint64_t entry = gfn << kPageShift | 7;  // present, writable, user
    std::memcpy(base_ + (kTables + table) * kPageSize + index * sizeof(entry),
                &entry, sizeof(entry));
  }
  std::byte* const base_;
};

PagingRegisters LongMode() {
  PagingRegisters registers;
  registers.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
  registers.cr3 = GuestRam::kTables << kPageShift;
  registers.cr4 = cr4::kPae;
  registers.efer = efer::kLme | efer::kLma;
  return registers;
}

class NoMemory : public ::testing::TestWithParam<FailingNew::Lasting> {
 protected:
  // Calls `call`, which returns whether it did what it was asked, with the
  // first allocation failing, then the second, until none does.
  void FailEach(const std::string& what, const std::function<bool()>& call) {
    constexpr uint64_t kMost = 1000;
    for (uint64_t n = 0;; ++n) {
      ASSERT_LT(n, kMost) << what << " does not end";
      FailingNew::Arm(n, GetParam());
      const bool done = call();
      const bool failed = FailingNew::Disarm();
      ExpectHealthy(what);
      if (!failed) {
        EXPECT_TRUE(done) << what << ", with all the memory it wanted";
        return;
      }
      ++failures_;
      EXPECT_FALSE(done) << what << " does not tell that memory failed";
      if (done) return;
    }
  }

  // A call that reports its failure by a status: ResourceExhausted only.
  void FailEachStatus(const std::string& what,
                      const std::function<absl::Status()>& call) {
    FailEach(what, [&] {
      const absl::Status status = call();
      if (!status.ok()) {
        EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << what;
      }
      return status.ok();
    });
  }

  // A guest on its own tables, with all the memory it wants.
  void MakeGuest() {
    auto mmu =
        Mmu::Create({.host = &host_, .table_capacity = 64, .max_vcpus = 2});
    ASSERT_TRUE(mmu.ok()) << mmu.status();
    mmu_ = *std::move(mmu);
    vcpu_ = *mmu_->CreateVcpu(VcpuId{0});
    ASSERT_TRUE(mmu_->CreateSlot({.id = kSlot,
                                  .base = Gfn(0),
                                  .pages = GuestRam::kPages,
                                  .hva = ram_.hva()})
                    .ok());
    ASSERT_TRUE(vcpu_->SetRegisters(LongMode()).ok());
  }

  void ExpectHealthy(const std::string& what) {
    if (mmu_ == nullptr) return;
    const AuditReport report = Audit(*mmu_);
    EXPECT_TRUE(report.violations.empty()) << what << ": " << report;
  }

  bool HasRoot() {
    Vm& vm = mmu_->internals();
    const VmLock held(vm);
    return RootUsable(vm, vm.vcpus[0]->root);
  }
  bool Enter() {
    const bool entered = vcpu_->EnterGuest().resume();
    if (entered) vcpu_->ExitGuest();
    return entered;
  }

  FailingHost host_;
  GuestRam ram_;
  std::unique_ptr<Mmu> mmu_;
  std::unique_ptr<VcpuMmu> vcpu_;
  int failures_ = 0;
};

TEST_P(NoMemory, EachAllocationInTurnLeavesAHealthyVm) {
  const int64_t before = FailingNew::outstanding();
  FailEachStatus("Create", [&] {
    // A fault that finds no room for neighbours does without them, and tells
    // nobody: NoRoomForNeighboursIsNoFailure.
    auto mmu = Mmu::Create(
        {.host = &host_, .table_capacity = 64, .max_vcpus = 2, .prefetch = 0});
    if (mmu.ok()) mmu_ = *std::move(mmu);
    return mmu.status();
  });
  FailEachStatus("CreateSlot", [&] {
    return mmu_->CreateSlot({.id = kSlot,
                             .base = Gfn(0),
                             .pages = GuestRam::kPages,
                             .hva = ram_.hva()});
  });
  FailEachStatus("CreateVcpu", [&] {
    auto vcpu = mmu_->CreateVcpu(VcpuId{0});
    if (vcpu.ok()) vcpu_ = *std::move(vcpu);
    return vcpu.status();
  });
  FailEach("EnterGuest, paging off", [&] { return Enter(); });
  FailEach("a fault, paging off", [&] {
    return vcpu_->HandleFault(Gva(0x10'0000), Write()).resume();
  });
  FailEachStatus("SetRegisters",
                 [&] { return vcpu_->SetRegisters(LongMode()); });
  FailEach("EnterGuest", [&] { return Enter(); });
  // Both addresses of each page: its list becomes a chain.
  for (const uint64_t gva : {0x0, 0x20'0000, 0x1000, 0x20'1000}) {
    FailEach("a fault",
             [&] { return vcpu_->HandleFault(Gva(gva), Write()).resume(); });
  }
  EXPECT_EQ(mmu_->GetStats().pte_list_descs, 2u);
  // Without a root it has to load one, or do without.
  ASSERT_TRUE(vcpu_->SetRegisters(PagingRegisters()).ok());
  ASSERT_TRUE(vcpu_->SetRegisters(LongMode()).ok());
  mmu_->InvalidateAll();
  FailEach("Invlpg", [&] {
    vcpu_->Invlpg(Gva(0x1000));
    return HasRoot();
  });
  for (const uint64_t gva : {0x0, 0x20'0000}) {
    EXPECT_TRUE(vcpu_->HandleFault(Gva(gva), Write()).resume());
  }
  const HvaRange page{ram_.hva() + 1024 * kPageSize, kPageSize};
  FailEachStatus("SetPageLimit", [&] { return mmu_->SetPageLimit(64); });
  FailEachStatus("InvalidateBegin",
                 [&] { return mmu_->InvalidateBegin(page); });
  FailEachStatus("InvalidateEnd", [&] { return mmu_->InvalidateEnd(page); });
  FailEachStatus("SetSlotFlags, log", [&] {
    return mmu_->SetSlotFlags(kNormal, kSlot, SlotFlags::kLogDirty);
  });
  std::array<uint64_t, DirtyBitmapWords(GuestRam::kPages)> words;
  FailEachStatus("GetAndClearDirty",
                 [&] { return mmu_->GetAndClearDirty(kNormal, kSlot, words); });
  FailEachStatus("SetSlotFlags", [&] {
    return mmu_->SetSlotFlags(kNormal, kSlot, SlotFlags::kReadOnly);
  });
  FailEachStatus("MoveSlot",
                 [&] { return mmu_->MoveSlot(kNormal, kSlot, Gfn(4096)); });
  FailEachStatus("MoveSlot back",
                 [&] { return mmu_->MoveSlot(kNormal, kSlot, Gfn(0)); });
  for (const SlotZapPolicy policy :
       {SlotZapPolicy::kTargeted, SlotZapPolicy::kWalk,
        SlotZapPolicy::kRelease}) {
    for (const Gfn base : {Gfn(4096), Gfn(0)}) {
      FailEachStatus("MoveSlot by each way", [&] {
        return mmu_->MoveSlot(kNormal, kSlot, base, policy);
      });
    }
  }
  FailEachStatus("CreateSlot beside it", [&] {
    return mmu_->CreateSlot(
        {.id = SlotId{1}, .base = Gfn(8192), .pages = 8, .hva = ram_.hva()});
  });
  FailEachStatus("DeleteSlot",
                 [&] { return mmu_->DeleteSlot(kNormal, kSlot); });
  EXPECT_GT(failures_, 40) << "nothing was made to fail";

  vcpu_.reset();
  mmu_.reset();
  EXPECT_EQ(host_.outstanding(), 0);
  EXPECT_EQ(FailingNew::outstanding(), before);
}

TEST_P(NoMemory, NoRoomForNeighboursIsNoFailure) {
  ASSERT_NO_FATAL_FAILURE(MakeGuest());
  ASSERT_TRUE(Enter());
  for (uint64_t n = 0; n < 40; ++n) {
    FailingNew::Arm(n, GetParam());
    const FaultOutcome outcome =
        vcpu_->HandleFault(Gva((n % 512) << kPageShift), Write());
    const bool failed = FailingNew::Disarm();
    ExpectHealthy("a fault with neighbours");
    EXPECT_TRUE(outcome.resume() ||
                (failed && outcome.kind == FaultOutcome::Kind::kNoMemory))
        << outcome;
  }
  EXPECT_GT(mmu_->GetStats().leaf_sptes, 0u);
}

// A release, and the walk, take none; filling again after it does.
TEST_P(NoMemory, APrefaultAfterAReleaseEndsWhereMemoryDoes) {
  ASSERT_NO_FATAL_FAILURE(MakeGuest());
  uint64_t stopped = 0;
  for (uint64_t n = 0;; ++n) {
    ASSERT_LT(n, 100u);
    FailingNew::Arm(n, GetParam());
    const PrefaultResult result = vcpu_->Prefault(Gva(0), 1024, Read());
    const bool failed = FailingNew::Disarm();
    ExpectHealthy("a prefault");
    EXPECT_EQ(result.skipped, 0u);
    if (!result.outcome.resume()) {
      EXPECT_TRUE(failed);
      EXPECT_EQ(result.outcome.kind, FaultOutcome::Kind::kNoMemory);
      EXPECT_LT(result.mapped, 1024u);
      ++stopped;
    } else {
      EXPECT_EQ(result.mapped, 1024u);
    }
    FailingNew::Arm(0, GetParam());
    mmu_->InvalidateAll(Strategy::kRelease);
    EXPECT_FALSE(FailingNew::Disarm()) << "a release takes memory";
    ExpectHealthy("a release");
    if (!failed) break;
  }
  EXPECT_GT(stopped, 0u);
}

// The text of an error takes memory, too.
TEST_P(NoMemory, ACallersMistakeIsAStatusWithoutAnyMemory) {
  auto mmu =
      Mmu::Create({.host = &host_, .table_capacity = 64, .max_vcpus = 2});
  ASSERT_TRUE(mmu.ok()) << mmu.status();
  mmu_ = *std::move(mmu);
  vcpu_ = *mmu_->CreateVcpu(VcpuId{0});
  // Each must fail, whatever the code: the mistake, or no memory to tell it.
  const auto refused = [&](const std::string& what,
                           const std::function<absl::Status()>& call) {
    for (uint64_t n = 0; n < 20; ++n) {
      FailingNew::Arm(n, GetParam());
      const absl::StatusCode code = call().code();
      const bool failed = FailingNew::Disarm();
      EXPECT_NE(code, absl::StatusCode::kOk) << what;
      if (!failed) {
        EXPECT_NE(code, absl::StatusCode::kResourceExhausted) << what;
        return;
      }
    }
    FAIL() << what << " does not end";
  };
  refused("Create", [&] { return Mmu::Create({.host = nullptr}).status(); });
  refused("CreateVcpu", [&] { return mmu_->CreateVcpu(VcpuId{7}).status(); });
  refused("CreateVcpu twice",
          [&] { return mmu_->CreateVcpu(VcpuId{0}).status(); });
  refused("CreateSlot", [&] {
    return mmu_->CreateSlot({.id = kSlot, .base = Gfn(0), .pages = 0});
  });
  refused("DeleteSlot", [&] { return mmu_->DeleteSlot(kNormal, kSlot); });
  refused("MoveSlot", [&] { return mmu_->MoveSlot(kNormal, kSlot, Gfn(5)); });
  refused("SetSlotFlags", [&] {
    return mmu_->SetSlotFlags(kNormal, kSlot, SlotFlags::kReadOnly);
  });
  refused("SetPageLimit", [&] { return mmu_->SetPageLimit(1); });
  refused("GetAndClearDirty",
          [&] { return mmu_->GetAndClearDirty(kNormal, kSlot, {}); });
  refused("InvalidateBegin", [&] { return mmu_->InvalidateBegin({}); });
  refused("InvalidateEnd", [&] {
    return mmu_->InvalidateEnd({ram_.hva(), kPageSize});
  });
  refused("SetRegisters",
          [&] { return vcpu_->SetRegisters({.cr0 = cr0::kPg}); });
  refused("SetAddressSpace",
          [&] { return vcpu_->SetAddressSpace(static_cast<AddressSpace>(9)); });
  refused("GuestCompareExchange", [&] {
    return mmu_->GuestCompareExchange(kNormal, Gpa(0), 3, 0, 1).status();
  });
  refused("GuestCompareExchange of a vCPU", [&] {
    return vcpu_->GuestCompareExchange(Gpa(1), 2, 0, 1).status();
  });
}

INSTANTIATE_TEST_SUITE_P(Memory, NoMemory,
                         ::testing::Values(FailingNew::kOnce,
                                           FailingNew::kForGood),
                         [](const auto& lasting) {
                           return lasting.param == FailingNew::kOnce
                                      ? "ComesBack"
                                      : "IsGone";
                         });

}  // namespace
}  // namespace shadowmmu::testing
