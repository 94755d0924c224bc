// The replay's guest: demand paging, sharing, copy on write.

#include "bench/replay/guest_kernel.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "bench/replay/player.h"
#include "shadowmmu/dump.h"

namespace shadowmmu::replay {
namespace {

constexpr Gva kPage{0x4a3'0000};
constexpr uint32_t kProcesses = 3;

class GuestKernelTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(Machine::Options{2, 1024, 512}); }

  void Start(const Machine::Options& options) {
    machine_ = *Machine::Create(options);
    checker_.emplace(machine_.get());
    cpu_.emplace(machine_.get(), &log_, &*checker_);
    kernel_.emplace(machine_.get(), &*cpu_, &log_);
    player_.emplace(&*cpu_, &*kernel_, Player::Mode::kChecked);
    booted_ = kernel_->Boot(kProcesses);
  }

  // Process `id` makes one access of 8 bytes.
  absl::Status Play(uint32_t id, TraceKind kind, Gva gva = kPage,
                    uint32_t bytes = 8) {
    absl::Status done = kernel_->SwitchTo(ProcessId{id});
    if (!done.ok()) return done;
    const TraceAccess access{gva, bytes, kind};
    return player_->Play({&access, 1});
  }
  GuestProcess::Page PageOf(uint32_t id, Gva gva = kPage) const {
    const auto& pages = kernel_->process(ProcessId{id}).pages;
    const auto found = pages.find(gva.value() >> kPageShift);
    EXPECT_NE(found, pages.end());
    return found == pages.end() ? GuestProcess::Page{} : found->second;
  }
  // Sptes that map the frame; the kernel's direct map is one of them.
  size_t ChainOf(Gfn frame) {
    return DumpRmap(machine_->mmu(), AddressSpace::kNormal, frame).size();
  }
  void TearDown() override {
    if (!booted_.ok()) return;
    cpu_->Leave();
    const absl::Status audited =
        checker_->CheckLibrary(machine_->mmu(), "the test");
    EXPECT_TRUE(audited.ok()) << audited;
  }

  std::unique_ptr<Machine> machine_;
  FaultLog log_;
  std::optional<Checker> checker_;
  std::optional<VirtualCpu> cpu_;
  std::optional<GuestKernel> kernel_;
  std::optional<Player> player_;
  absl::Status booted_;
};

TEST_F(GuestKernelTest, BootsWithATableTreeForEachProcess) {
  ASSERT_TRUE(booted_.ok()) << booted_;
  const Gfn first = kernel_->process(ProcessId{0}).root;
  const Gfn second = kernel_->process(ProcessId{1}).root;
  EXPECT_NE(first, second);
  // The kernel's root and its map of less than a GiB, and the processes'.
  EXPECT_EQ(kernel_->table_frames(), 3u + kProcesses);
}

TEST_F(GuestKernelTest, NothingIsMappedBeforeItIsAccessed) {
  EXPECT_TRUE(kernel_->process(ProcessId{0}).pages.empty());
  ASSERT_TRUE(Play(0, TraceKind::kLoad).ok());
  EXPECT_EQ(kernel_->process(ProcessId{0}).pages.size(), 1u);
  EXPECT_TRUE(kernel_->process(ProcessId{1}).pages.empty());
  EXPECT_EQ(kernel_->counts().page_faults, 1u);
}

TEST_F(GuestKernelTest, APageThatIsMappedFaultsNoMore) {
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  const uint64_t faults = log_.totals().all.count;
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  ASSERT_TRUE(Play(0, TraceKind::kLoad).ok());
  ASSERT_TRUE(Play(0, TraceKind::kModify).ok());
  EXPECT_EQ(log_.totals().all.count, faults);
}

TEST_F(GuestKernelTest, PagesThatAreOnlyReadAreOneFrameWithALongChain) {
  for (uint32_t id = 0; id < kProcesses; ++id) {
    ASSERT_TRUE(Play(id, TraceKind::kLoad).ok());
  }
  const Gfn frame = PageOf(0).frame;
  for (uint32_t id = 1; id < kProcesses; ++id) {
    EXPECT_EQ(PageOf(id).frame, frame);
    EXPECT_EQ(PageOf(id).ownership, GuestProcess::Ownership::kShared);
  }
  EXPECT_EQ(kernel_->counts().shared_pages, 1u);
  EXPECT_EQ(ChainOf(frame), kProcesses + 1);
}

TEST_F(GuestKernelTest, AWriteToASharedPageCopiesItForTheWriterAlone) {
  for (uint32_t id = 0; id < kProcesses; ++id) {
    ASSERT_TRUE(Play(id, TraceKind::kLoad).ok());
  }
  const Gfn shared = PageOf(0).frame;
  ASSERT_TRUE(Play(1, TraceKind::kStore).ok());
  EXPECT_NE(PageOf(1).frame, shared);
  EXPECT_EQ(PageOf(1).ownership, GuestProcess::Ownership::kPrivate);
  EXPECT_EQ(PageOf(0).frame, shared);
  EXPECT_EQ(PageOf(2).frame, shared);
  EXPECT_EQ(kernel_->counts().copies, 1u);
  EXPECT_EQ(ChainOf(shared), kProcesses);
  // Checked against the oracle: no TLB still leads to the shared frame.
  EXPECT_TRUE(Play(1, TraceKind::kLoad).ok());
}

TEST_F(GuestKernelTest, AFirstWriteWhereOthersReadIsACopyToo) {
  ASSERT_TRUE(Play(0, TraceKind::kLoad).ok());
  ASSERT_TRUE(Play(1, TraceKind::kStore).ok());
  EXPECT_EQ(kernel_->counts().copies, 1u);
  EXPECT_EQ(kernel_->counts().private_pages, 1u);
}

TEST_F(GuestKernelTest, AFirstWriteWhereNobodyReadIsAFrameOfItsOwn) {
  for (uint32_t id = 0; id < kProcesses; ++id) {
    ASSERT_TRUE(Play(id, TraceKind::kStore).ok());
  }
  EXPECT_NE(PageOf(0).frame, PageOf(1).frame);
  EXPECT_EQ(kernel_->counts().private_pages, uint64_t{kProcesses});
  EXPECT_EQ(kernel_->counts().copies, 0u);
}

TEST_F(GuestKernelTest, AModifyIsAWrite) {
  ASSERT_TRUE(Play(0, TraceKind::kModify).ok());
  EXPECT_EQ(PageOf(0).ownership, GuestProcess::Ownership::kPrivate);
  EXPECT_EQ(kernel_->counts().page_faults, 1u);
}

TEST_F(GuestKernelTest, APageIsNotExecutableBeforeItIsFetchedFrom) {
  ASSERT_TRUE(Play(0, TraceKind::kLoad).ok());
  EXPECT_FALSE(PageOf(0).executable);
  ASSERT_TRUE(Play(0, TraceKind::kFetch).ok());
  EXPECT_TRUE(PageOf(0).executable);
  EXPECT_EQ(kernel_->counts().execute_grants, 1u);
  ASSERT_TRUE(Play(0, TraceKind::kFetch).ok());
  EXPECT_EQ(kernel_->counts().execute_grants, 1u);
}

TEST_F(GuestKernelTest, ACodePageThatIsWrittenStaysExecutable) {
  ASSERT_TRUE(Play(0, TraceKind::kFetch).ok());
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  EXPECT_TRUE(PageOf(0).executable);
  EXPECT_EQ(PageOf(0).ownership, GuestProcess::Ownership::kPrivate);
  EXPECT_TRUE(Play(0, TraceKind::kFetch).ok());
}

TEST_F(GuestKernelTest, AnAccessAcrossPagesMapsAllOfThem) {
  ASSERT_TRUE(Play(0, TraceKind::kLoad, kPage + kPageSize - 16, 32).ok());
  EXPECT_EQ(kernel_->process(ProcessId{0}).pages.size(), 2u);
  ASSERT_TRUE(Play(0, TraceKind::kStore, kPage + 5 * kPageSize - 1, 4098).ok());
  EXPECT_EQ(kernel_->process(ProcessId{0}).pages.size(), 5u);
}

TEST_F(GuestKernelTest, StoresIntoShadowedTablesTrapAndOthersDoNot) {
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  const KernelMemory::Counts before = kernel_->memory().counts();
  EXPECT_GT(before.direct_stores, 0u);
  // Now the page table is shadowed. It may be let through after a fault: an
  // exit all the same.
  ASSERT_TRUE(Play(0, TraceKind::kStore, kPage + kPageSize).ok());
  const KernelMemory::Counts& after = kernel_->memory().counts();
  EXPECT_EQ(after.entry_stores(), before.entry_stores() + 1);
  EXPECT_EQ(after.write_exits(), before.write_exits() + 1);
}

TEST_F(GuestKernelTest, NeighboursLieInDifferentSlots) {
  // The first access takes frames for tables, too.
  for (int page = 0; page < 3; ++page) {
    ASSERT_TRUE(Play(0, TraceKind::kStore, kPage + page * kPageSize).ok());
  }
  const auto slot_of = [this](Gva gva) {
    return machine_->memory()
        .SlotAt(AddressSpace::kNormal, PageOf(0, gva).frame)
        ->id;
  };
  EXPECT_NE(slot_of(kPage + kPageSize), slot_of(kPage + 2 * kPageSize));
}

TEST_F(GuestKernelTest, AfterAnInvalidationTheGuestTakesNoPageFault) {
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  const uint64_t faults = kernel_->counts().page_faults;
  cpu_->Leave();
  machine_->mmu().InvalidateAll(Strategy::kZapAll);
  log_.OpenWindow(1);
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  EXPECT_EQ(kernel_->counts().page_faults, faults);
  EXPECT_EQ(log_.totals().refaults.count, 1u);
}

TEST_F(GuestKernelTest, ASlotThatIsReplacedLeadsToItsMemorysNewPlace) {
  for (int page = 0; page < 4; ++page) {
    ASSERT_TRUE(Play(0, TraceKind::kStore, kPage + page * kPageSize).ok());
  }
  cpu_->Leave();
  for (const SlotId id : {SlotId{0}, SlotId{1}}) {
    const Hva before = machine_->slots()[ToInt(id)].hva;
    ASSERT_TRUE(machine_->ReplaceSlot(id).ok());
    EXPECT_NE(machine_->slots()[ToInt(id)].hva, before);
  }
  // Checked against the oracle, which goes by the new addresses.
  for (int page = 0; page < 4; ++page) {
    ASSERT_TRUE(Play(0, TraceKind::kStore, kPage + page * kPageSize).ok());
  }
  EXPECT_EQ(kernel_->counts().page_faults, 4u);
}

TEST_F(GuestKernelTest, AGuestWithoutMemoryLeftSaysSo) {
  kernel_.reset();
  cpu_.reset();
  checker_.reset();
  Start(Machine::Options{1, 12, 512});
  ASSERT_TRUE(booted_.ok()) << booted_;
  absl::Status played;
  for (int page = 0; page < 12 && played.ok(); ++page) {
    played = Play(0, TraceKind::kStore, kPage + page * kPageSize);
  }
  EXPECT_EQ(played.code(), absl::StatusCode::kResourceExhausted) << played;
}

TEST_F(GuestKernelTest, TheCheckerNoticesAWrongAddress) {
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  const PagingRegisters registers = machine_->vcpu().registers();
  const Access access = Write(Privilege::kUser);
  const Hva right =
      *machine_->memory().HvaOf(AddressSpace::kNormal, ToGpa(PageOf(0).frame));
  EXPECT_TRUE(checker_
                  ->CheckAccess(registers, kPage, access,
                                FaultOutcome::Resume(), Hpa(right.value()))
                  .ok());
  EXPECT_EQ(checker_
                ->CheckAccess(registers, kPage, access, FaultOutcome::Resume(),
                              Hpa(right.value() + kPageSize))
                .code(),
            absl::StatusCode::kInternal);
  EXPECT_FALSE(checker_
                   ->CheckAccess(registers, kPage + kPageSize, access,
                                 FaultOutcome::Resume(), Hpa(right.value()))
                   .ok());
  EXPECT_FALSE(checker_
                   ->CheckAccess(registers, kPage, access,
                                 FaultOutcome::Inject({.address = kPage}),
                                 Hpa())
                   .ok());
}

TEST_F(GuestKernelTest, TheCheckerNoticesAStaleTranslation) {
  ASSERT_TRUE(Play(0, TraceKind::kStore).ok());
  // The host puts another frame into the entry behind everybody's back: what
  // the CPU has cached is now as stale as if a flush had been lost.
  const Gfn table = kernel_->process(ProcessId{0})
                        .tables.at(GuestProcess::KeyOf(Level::k4K, kPage));
  const Gpa entry =
      ToGpa(table) + IndexAt(kPage, Level::k4K) * sizeof(uint64_t);
  const uint64_t value =
      *machine_->memory().Read64(AddressSpace::kNormal, entry);
  ASSERT_TRUE(machine_->memory().Write64(AddressSpace::kNormal, entry,
                                         value ^ kPageSize));
  const TraceAccess access{kPage, 8, TraceKind::kStore};
  EXPECT_EQ(player_->Play({&access, 1}).code(), absl::StatusCode::kInternal);
  ASSERT_TRUE(machine_->memory().Write64(AddressSpace::kNormal, entry, value));
}

}  // namespace
}  // namespace shadowmmu::replay
