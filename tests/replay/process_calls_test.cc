// Fork, exec, munmap and exit in the replay's guest. Every access is checked
// against the oracle: a flush that the kernel forgets is a difference.

#include "bench/replay/process_calls.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "bench/replay/player.h"
#include "bench/replay/synthetic_program.h"

namespace shadowmmu::replay {
namespace {

using Ownership = GuestProcess::Ownership;

constexpr Gva kPage{0x4a3'0000};
constexpr ProcessId kParent{0};

class ProcessCallsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_ = *Machine::Create({.slots = 2, .pages_per_slot = 1024});
    checker_.emplace(machine_.get());
    cpu_.emplace(machine_.get(), &log_, &*checker_);
    kernel_.emplace(machine_.get(), &*cpu_, &log_,
                    GuestKernel::FaultAround::kLinux);
    calls_.emplace(&*kernel_);
    player_.emplace(&*cpu_, &*kernel_, Player::Mode::kChecked);
    ASSERT_TRUE(kernel_->Boot(1).ok());
  }
  void TearDown() override {
    cpu_->Leave();
    const absl::Status audited =
        checker_->CheckLibrary(machine_->mmu(), "the test");
    EXPECT_TRUE(audited.ok()) << audited;
  }

  // The process that runs makes one access to each of the pages.
  void Play(TraceKind kind, Gva gva = kPage, uint64_t pages = 1) {
    for (uint64_t i = 0; i < pages; ++i) {
      const TraceAccess access{gva + i * kPageSize, 8, kind};
      const absl::Status played = player_->Play({&access, 1});
      ASSERT_TRUE(played.ok()) << played;
    }
  }
  ProcessId Fork() {
    const absl::StatusOr<ProcessId> child = calls_->Fork();
    EXPECT_TRUE(child.ok()) << child.status();
    return *child;
  }
  void SwitchTo(ProcessId process) {
    ASSERT_TRUE(kernel_->SwitchTo(process).ok());
  }
  const GuestProcess::Page& PageOf(ProcessId id, Gva gva = kPage) const {
    return kernel_->process(id).pages.at(gva.value() >> kPageShift);
  }
  bool Has(ProcessId id, Gva gva) const {
    return kernel_->process(id).pages.contains(gva.value() >> kPageShift);
  }

  std::unique_ptr<Machine> machine_;
  FaultLog log_;
  std::optional<Checker> checker_;
  std::optional<VirtualCpu> cpu_;
  std::optional<GuestKernel> kernel_;
  std::optional<ProcessCalls> calls_;
  std::optional<Player> player_;
};

TEST_F(ProcessCallsTest, AForkTakesTheParentsRightToWriteAndReloadsCr3) {
  Play(TraceKind::kStore, kPage, 3);
  const VirtualCpu::Counts before = cpu_->counts();
  const ProcessId child = Fork();
  EXPECT_EQ(calls_->counts().pages_protected, 3u);
  EXPECT_EQ(cpu_->counts().cr3_reloads, before.cr3_reloads + 1);
  EXPECT_EQ(cpu_->counts().cr3_switches, before.cr3_switches);
  EXPECT_EQ(PageOf(kParent).ownership, Ownership::kCopyOnWrite);
  EXPECT_EQ(PageOf(child).frame, PageOf(kParent).frame);
  // Reading needs no fault of the guest, on neither side.
  const uint64_t faults = kernel_->counts().page_faults;
  Play(TraceKind::kLoad);
  SwitchTo(child);
  Play(TraceKind::kLoad);
  EXPECT_EQ(kernel_->counts().page_faults, faults);
}

TEST_F(ProcessCallsTest, TheFirstWriterCopiesAndTheLastOneKeepsThePage) {
  Play(TraceKind::kStore);
  const Gfn frame = PageOf(kParent).frame;
  const ProcessId child = Fork();
  Play(TraceKind::kStore);
  EXPECT_NE(PageOf(kParent).frame, frame);
  EXPECT_EQ(PageOf(child).frame, frame);
  EXPECT_EQ(kernel_->counts().copies, 1u);
  SwitchTo(child);
  Play(TraceKind::kStore);
  EXPECT_EQ(PageOf(child).frame, frame);
  EXPECT_EQ(PageOf(child).ownership, Ownership::kPrivate);
  EXPECT_EQ(kernel_->counts().copies, 1u);
  EXPECT_EQ(kernel_->counts().reuses, 1u);
}

TEST_F(ProcessCallsTest, AGrandchildSharesWithBoth) {
  Play(TraceKind::kStore);
  const Gfn frame = PageOf(kParent).frame;
  const ProcessId child = Fork();
  SwitchTo(child);
  const ProcessId grandchild = Fork();
  // Of the two forks only the first had anything to protect.
  EXPECT_EQ(calls_->counts().pages_protected, 1u);
  Play(TraceKind::kStore);
  SwitchTo(grandchild);
  Play(TraceKind::kStore);
  SwitchTo(kParent);
  Play(TraceKind::kStore);
  EXPECT_EQ(PageOf(kParent).frame, frame);
  EXPECT_EQ(kernel_->counts().copies, 2u);
}

TEST_F(ProcessCallsTest, PagesOfFilesAreLeftForTheChildToFaultInAllAround) {
  Play(TraceKind::kFetch, kPage, 5);
  const ProcessId child = Fork();
  EXPECT_FALSE(Has(child, kPage));
  SwitchTo(child);
  const uint64_t faults = kernel_->counts().page_faults;
  Play(TraceKind::kFetch, kPage, 5);
  EXPECT_EQ(kernel_->counts().page_faults, faults + 1);
  EXPECT_EQ(PageOf(child).frame, PageOf(kParent).frame);
}

TEST_F(ProcessCallsTest, FewPagesAreUnmappedWithInvlpgAndManyWithCr3) {
  Play(TraceKind::kStore, kMapArea, 2 * kMostInvlpgs + 1);
  const VirtualCpu::Counts before = cpu_->counts();
  ASSERT_TRUE(calls_->Unmap(kMapArea, kMostInvlpgs).ok());
  EXPECT_EQ(cpu_->counts().invlpgs, before.invlpgs + kMostInvlpgs);
  EXPECT_EQ(cpu_->counts().cr3_reloads, before.cr3_reloads);
  const Gva rest = kMapArea + kMostInvlpgs * kPageSize;
  ASSERT_TRUE(calls_->Unmap(rest, kMostInvlpgs + 1).ok());
  EXPECT_EQ(cpu_->counts().invlpgs, before.invlpgs + kMostInvlpgs);
  EXPECT_EQ(cpu_->counts().cr3_reloads, before.cr3_reloads + 1);
  // They are gone for the process, and for the oracle.
  const uint64_t faults = kernel_->counts().page_faults;
  Play(TraceKind::kStore, kMapArea, 2);
  EXPECT_EQ(kernel_->counts().page_faults, faults + 2);
}

TEST_F(ProcessCallsTest, TheLastPageOfATableTakesItAlong) {
  Play(TraceKind::kStore);
  const uint64_t frames = kernel_->frames().allocated();
  const uint64_t tables = kernel_->table_frames();
  Play(TraceKind::kStore, kMapArea, 2);
  EXPECT_EQ(kernel_->table_frames(), tables + 3);
  ASSERT_TRUE(calls_->Unmap(kMapArea, 1).ok());
  EXPECT_EQ(kernel_->table_frames(), tables + 3);
  ASSERT_TRUE(calls_->Unmap(kMapArea, 2).ok());
  EXPECT_EQ(kernel_->table_frames(), tables);
  EXPECT_EQ(kernel_->frames().allocated(), frames);
}

TEST_F(ProcessCallsTest, FramesOfTablesAreUsedAgainAsPagesAndAsTables) {
  Play(TraceKind::kStore, kMapArea);
  const auto& tables = kernel_->process(kParent).tables;
  const Gfn table = tables.at(GuestProcess::KeyOf(Level::k1G, kMapArea));
  ASSERT_TRUE(calls_->Unmap(kMapArea, 1).ok());
  // It is the frame that was freed last: the first to go, and all zero.
  Play(TraceKind::kStore);
  EXPECT_EQ(PageOf(kParent).frame, table);
  Play(TraceKind::kStore, kMapArea);
  Play(TraceKind::kLoad, kMapArea);
  EXPECT_EQ(kernel_->memory().counts().frames_reused, 4u);
}

TEST_F(ProcessCallsTest, ExecLeavesOnlyTheArguments) {
  Play(TraceKind::kStore, kPage, 4);
  const uint64_t frames = kernel_->frames().allocated();
  const absl::StatusOr<ProcessId> fresh = calls_->Exec(kProgramStack, 2);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_EQ(kernel_->running(), *fresh);
  EXPECT_EQ(kernel_->process(*fresh).pages.size(), 2u);
  EXPECT_LT(kernel_->frames().allocated(), frames);
  const uint64_t faults = kernel_->counts().page_faults;
  Play(TraceKind::kStore, Gva(kProgramStack.value() - kPageSize));
  EXPECT_EQ(kernel_->counts().page_faults, faults);
  Play(TraceKind::kStore, kPage, 4);
  EXPECT_EQ(kernel_->counts().page_faults, faults + 4);
}

TEST_F(ProcessCallsTest, AChildThatExitsGivesEverythingBack) {
  Play(TraceKind::kStore, kPage, 4);
  Play(TraceKind::kStore, kMapArea, 40);
  const uint64_t frames = kernel_->frames().allocated();
  const uint64_t tables = kernel_->table_frames();
  const ProcessId child = Fork();
  SwitchTo(child);
  Play(TraceKind::kStore, kPage, 2);
  Play(TraceKind::kStore, kProgramHeap, 20);
  ASSERT_TRUE(calls_->Exit(kParent).ok());
  EXPECT_EQ(kernel_->running(), kParent);
  EXPECT_EQ(kernel_->frames().allocated(), frames);
  EXPECT_EQ(kernel_->table_frames(), tables);
  // What it shared is the parent's alone again.
  Play(TraceKind::kStore, kPage, 4);
  EXPECT_EQ(kernel_->frames().allocated(), frames);
}

TEST_F(ProcessCallsTest, AReadOfMemoryWithoutAFileIsOfTheZeroPage) {
  Play(TraceKind::kLoad, kMapArea, 3);
  EXPECT_EQ(PageOf(kParent, kMapArea).frame,
            PageOf(kParent, kMapArea + 2 * kPageSize).frame);
  Play(TraceKind::kStore, kMapArea);
  EXPECT_NE(PageOf(kParent, kMapArea).frame,
            PageOf(kParent, kMapArea + kPageSize).frame);
}

}  // namespace
}  // namespace shadowmmu::replay
