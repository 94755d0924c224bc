// The harness is only worth something if it finds what is wrong. Each test here
// plants one wrong, and expects the stream to fail for it.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/op_text.h"
#include "tests/harness/simulator.h"
#include "tests/sim/lying_backend.h"

namespace shadowmmu::testing {
namespace {

using ::testing::HasSubstr;

// One page, mapped for user code at gva 0x5000, in the memory at gfn 9; the
// vCPU is in the guest.
constexpr std::string_view kMapped =
    "vm vcpus=1 frames=32 tables=28 largest=4K\n"
    "slot.create id=0 gfn=0x0 pages=32 host=0\n"
    "pte table=0x1 index=0 value=0x2027\n"
    "pte table=0x2 index=0 value=0x3027\n"
    "pte table=0x3 index=0 value=0x4027\n"
    "pte table=0x4 index=5 value=0x9067\n"
    "pte table=0x4 index=6 value=0xa007\n"
    "regs vcpu=0 mode=long cr3=0x1000 nxe=1\n"
    "enter vcpu=0\n"
    "touch vcpu=0 gva=0x5000 type=w priv=u\n"
    "expect.outcome is=resume\n";

OpStream StreamOf(std::string_view more) {
  absl::StatusOr<OpStream> stream =
      ParseStream(std::string(kMapped) + std::string(more));
  EXPECT_TRUE(stream.ok()) << stream.status();
  return stream.ok() ? *stream : OpStream{};
}

class HarnessTest : public ::testing::Test {
 protected:
  // Runs kMapped and `more` with the lies that are set; what was found.
  std::string Run(std::string_view more) {
    const OpStream stream = StreamOf(more);
    const std::optional<StreamFailure> failure = RunStream(stream, backend_);
    return failure ? failure->what : "";
  }

  LyingBackend backend_{
      VmShape{.vcpus = 1, .frames = 32, .tables = 28, .largest = 1}};
};

TEST_F(HarnessTest, ATruthfulBackendPasses) {
  EXPECT_EQ(Run("slot.delete id=0\nexpect.leaves count=0\n"), "");
}

TEST_F(HarnessTest, ALostFlushIsFoundWhenAMappingGoes) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_THAT(Run("pte table=0x4 index=5 value=0x0\n"),
              HasSubstr("the guest's tables do not give"));
}

TEST_F(HarnessTest, ALostFlushIsFoundWhenTheHostTakesMemoryAway) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_THAT(Run("notify.begin host=9\n"),
              HasSubstr("which no slot of this address space has now"));
}

TEST_F(HarnessTest, ALostFlushIsFoundWhenASlotGoes) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_NE(Run("slot.delete id=0\n"), "");
}

TEST_F(HarnessTest, ALostFlushIsFoundWhenASlotBecomesReadOnly) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_THAT(Run("slot.flags id=0 flags=ro\n"), HasSubstr("read-only"));
}

TEST_F(HarnessTest, ALostFlushIsFoundByTheLogOfASlot) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_THAT(Run("slot.flags id=0 flags=log\n"
                  "touch vcpu=0 gva=0x5000 type=w priv=u\ndirty.get id=0\n"),
              HasSubstr("does not report page 9"));
}

// A lie about the words of dirty.get, after a store.
class DirtyLie : public HarnessTest {
 protected:
  std::string RunLying(std::function<void(std::vector<uint64_t>&)> lie) {
    backend_.about_results = [lie](const Op& op, OpResult& result) {
      if (op.kind() == OpKind::kDirtyGet) lie(result.dirty);
    };
    return Run(
        "slot.flags id=0 flags=log\nwrite gpa=0x9000 bytes=55\n"
        "dirty.get id=0\n");
  }
};

TEST_F(DirtyLie, TheTruthPasses) {
  EXPECT_EQ(RunLying([](std::vector<uint64_t>&) {}), "");
}

TEST_F(DirtyLie, AStoreThatIsNotReportedFails) {
  EXPECT_THAT(RunLying([](std::vector<uint64_t>& words) { words[0] = 0; }),
              HasSubstr("does not report page 9"));
}

TEST_F(DirtyLie, APageThatStaysMarkedFails) {
  EXPECT_THAT(RunLying([](std::vector<uint64_t>& words) { words[0] = 1 << 9; }),
              HasSubstr("left a page marked"));
}

TEST_F(DirtyLie, APageBeyondTheSlotFails) {
  EXPECT_THAT(RunLying([](std::vector<uint64_t>& words) {
                words[0] |= uint64_t{1} << 32;
              }),
              HasSubstr("reports a page beyond the 32"));
}

TEST_F(HarnessTest, AHostRewriteOfATableExcusesWhatTheGuestSees) {
  EXPECT_EQ(Run("host.pte host=4 index=5 value=0x0\n"
                "touch vcpu=0 gva=0x5000 type=w priv=u\n"),
            "");
}

TEST_F(HarnessTest, AHostRewriteOfATableExcusesNoLostMemory) {
  backend_.test_host().SetFlushDelivery(Delivery::kLose);
  EXPECT_THAT(Run("host.pte host=4 index=5 value=0x0\nnotify.begin host=9\n"),
              HasSubstr("which no slot of this address space has now"));
}

TEST_F(HarnessTest, AHostRewriteIsForgottenAfterAnInvalidation) {
  backend_.about_tlbs = [](std::vector<TlbEntry>& entries) {
    for (TlbEntry& entry : entries) entry.rights.executable = true;
  };
  EXPECT_THAT(Run("host.pte host=4 index=5 value=0x9067\n"
                  "exit vcpu=0\nbump\n"
                  "host.pte host=9 index=0 value=0x1\n"
                  "pte table=0x4 index=5 value=0x8000000000009067\n"
                  "touch vcpu=0 gva=0x5000 priv=u\n"),
              HasSubstr("more rights"));
}

TEST_F(HarnessTest, AnAuditThatFindsSomethingFails) {
  backend_.about_audits = [](std::vector<std::string>& violations) {
    violations.push_back("invariant 1: planted");
  };
  EXPECT_THAT(Run(""), HasSubstr("invariant 1: planted"));
}

TEST_F(HarnessTest, ALeafThatMapsAnotherFrameFails) {
  backend_.about_pictures = [](Picture& picture) {
    for (LeafRecord& leaf : picture.leaves) leaf.pfn += 1;
  };
  EXPECT_THAT(Run(""), HasSubstr("which is now host frame 9"));
}

TEST_F(HarnessTest, ALeafOfNoSlotFails) {
  backend_.about_pictures = [](Picture& picture) {
    for (LeafRecord& leaf : picture.leaves) leaf.gfn += 100;
  };
  EXPECT_THAT(Run(""), HasSubstr("which is in no slot"));
}

TEST_F(HarnessTest, AWrongRmapFailsWhatAFileExpects) {
  EXPECT_EQ(Run("expect.rmap gfn=0x9 count=1\n"), "");
}

TEST_F(HarnessTest, ARmapThatLostAnEntryFailsWhatAFileExpects) {
  backend_.about_rmaps = [](uint64_t& length) { length = 0; };
  EXPECT_EQ(Run("expect.rmap gfn=0x9 count=1\n"), "it has 0");
}

TEST_F(HarnessTest, ASlotThatIsNotThereFails) {
  backend_.about_pictures = [](Picture& picture) { picture.slots.clear(); };
  EXPECT_THAT(Run(""), HasSubstr("the slots are not those"));
}

TEST_F(HarnessTest, AGuestTableThatACpuCanWriteFails) {
  backend_.about_pictures = [](Picture& picture) {
    picture.shadowed = {Gfn(9)};
  };
  EXPECT_THAT(Run(""), HasSubstr("write the shadowed guest table"));
}

TEST_F(HarnessTest, AnEntryWithoutAccessedBitsFails) {
  backend_.before_op = [this](const Op& op) {
    // Behind the interpreter's back: A is gone again before the next op.
    if (op.kind() != OpKind::kEvict) return;
    std::byte* const entry =
        backend_.test_host().PointerToFrame(PfnOfFrame(4)) + 6 * 8;
    *entry &= ~std::byte{0x20};
  };
  EXPECT_THAT(Run("touch vcpu=0 gva=0x6000 priv=u\nevict vcpu=0\n"),
              HasSubstr("host frame 4 holds"));
}

TEST_F(HarnessTest, AStrayWriteIsFoundAtTheEnd) {
  backend_.before_op = [this](const Op& op) {
    if (op.kind() != OpKind::kEvict) return;
    *backend_.test_host().PointerToFrame(PfnOfFrame(20)) = std::byte{1};
  };
  EXPECT_THAT(Run("evict vcpu=0\n"),
              HasSubstr("at the end, host frame 20 holds 0x1"));
}

TEST_F(HarnessTest, AFaultThatIsNotTheGuestsFails) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.kind() != OpKind::kTouch || result.hpa) return;
    result.outcome->guest_fault.error_code |= pf_error::kPresent;
  };
  EXPECT_THAT(Run("touch vcpu=0 gva=0x7000\n"), HasSubstr("the oracle: #PF"));
}

TEST_F(HarnessTest, ARetryWithoutANotifierFails) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.kind() != OpKind::kTranslate) return;
    result.outcome = FaultOutcome::Retry();
  };
  EXPECT_THAT(Run("translate vcpu=0 gva=0x5000\n"),
              HasSubstr("no notifier in the way"));
}

TEST_F(HarnessTest, AStoreThatDidNotHappenFails) {
  backend_.before_op = [this](const Op& op) {
    if (op.kind() != OpKind::kRead) return;
    *backend_.test_host().PointerToFrame(PfnOfFrame(20)) = std::byte{0};
  };
  EXPECT_THAT(Run("write gpa=0x14000 bytes=ff\nread gpa=0x14000 size=1\n"),
              HasSubstr("something else than is there"));
}

TEST_F(HarnessTest, ARefusalThatHasNoReasonFails) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.kind() == OpKind::kSlotFlags) {
      result.status = absl::NotFoundError("planted");
    }
  };
  EXPECT_THAT(Run("slot.flags id=0 flags=log\n"), HasSubstr("planted"));
}

TEST_F(HarnessTest, AnAgeThatForgetsFails) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.kind() == OpKind::kAge) result.young = false;
  };
  EXPECT_THAT(Run("age host=9\n"), HasSubstr("says old"));
}

TEST_F(HarnessTest, WhatAFileExpectsIsChecked) {
  EXPECT_EQ(Run("expect.outcome is=fault\n"), "it was: resume");
}

TEST_F(HarnessTest, ARootThatOnlyAnInvlpgLoadedMayBeWriteTracked) {
  EXPECT_EQ(Run("exit vcpu=0\nregs vcpu=0 mode=long cr3=0x9000\n"
                "invlpg vcpu=0 gva=0x0\nregs vcpu=0 mode=long cr3=0x1000\n"
                "touch vcpu=0 gva=0x5000 type=w priv=u\n"
                "expect.outcome is=emulate why=write_tracked\n"),
            "");
}

// ---- When and how often ----

// The translation is over when the vCPU allocates for its new root.
TEST(HarnessTestOfItsOwn, NothingHappensMeanwhileOnTheWayBackIntoTheGuest) {
  const auto stream = ParseStream(
      "vm vcpus=0 frames=16 tables=28 largest=4K bits=52\n"
      "vcpu.create vcpu=0\n"
      "slot.create id=0 gfn=0x0 pages=16 host=0\n"
      "regs vcpu=0 mode=long cr3=0x9000 nxe=1\n"
      "enter vcpu=0\n"
      "meanwhile at=allocation\n"
      "host.unmap host=6\n"
      "write gpa=0x9000 bytes=c70f00000000000007600000\n"
      "slot.delete id=0\n"
      "slot.create id=1 gfn=0x0 pages=16 host=0 flags=ro\n"
      "translate vcpu=0 gva=0x8000000000 priv=u\n");
  ASSERT_TRUE(stream.ok()) << stream.status();
  const auto failure = RunStream(*stream);
  EXPECT_FALSE(failure.has_value());
}

TEST_F(HarnessTest, BeginsThatNeverEndDoNotBlockWhatTheyDoNotCover) {
  EXPECT_EQ(Run("repeat times=100\nnotify.begin host=40\n"
                "touch vcpu=0 gva=0x5000 priv=u\n"
                "expect.outcome is=resume\n"
                "host.retarget host=9 to=41\n"
                "touch vcpu=0 gva=0x5000 priv=u\n"),
            "");
}

TEST_F(HarnessTest, WhatIsToHappenMeanwhileHappensInsideTheNextAccess) {
  EXPECT_EQ(Run("meanwhile\nbump\n"
                "expect.stat stat=generation_bumps max=0\n"
                "touch vcpu=0 gva=0x6000 priv=u\n"
                "expect.stat stat=generation_bumps min=1 max=1\n"
                "expect.stat stat=fault_retries min=1\n"
                "touch vcpu=0 gva=0x6000 priv=u\n"
                "expect.stat stat=generation_bumps max=1\n"),
            "");
}

TEST_F(HarnessTest, WhatCannotHappenMeanwhileHappensAtOnce) {
  EXPECT_EQ(Run("meanwhile\nslot.delete id=0\nexpect.leaves count=0\n"), "");
}

TEST_F(HarnessTest, AnAccessThatMissesWhatHappenedMeanwhileFails) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.Get(Field::kGva) == 0x6000) result.hpa = ToHpa(PfnOfFrame(10));
  };
  EXPECT_THAT(Run("meanwhile\nhost.retarget host=10 to=20\n"
                  "touch vcpu=0 gva=0x6000 priv=u\n"),
              HasSubstr("gpa 0xa000"));
}

TEST_F(HarnessTest, WhatGoesWrongMeanwhileIsToldAsSuch) {
  backend_.about_results = [](const Op& op, OpResult& result) {
    if (op.kind() == OpKind::kReclaim) result.reclaim.pages = 99;
  };
  EXPECT_EQ(Run("meanwhile\nreclaim budget=1\n"
                "touch vcpu=0 gva=0x6000 priv=u\n"),
            "meanwhile: zapped 99 pages");
}

TEST_F(HarnessTest, ARepeatedOpIsDoneSoOftenAndMovesOn) {
  EXPECT_EQ(Run("expect.leaves count=1\n"
                "repeat times=3 index=1 value=0x1000\n"
                "pte table=0x4 index=8 value=0xb067\n"
                "repeat times=3 gva=0x1000\n"
                "touch vcpu=0 gva=0x8000 priv=u\n"
                "expect.leaves count=4\n"
                "expect.rmap gfn=0xd count=1\n"
                "repeat times=0\nslot.delete id=0\n"
                "expect.leaves count=4\n"),
            "");
}

TEST_F(HarnessTest, ARepeatedOpThatFailsSaysWhichTime) {
  EXPECT_THAT(Run("repeat times=5\nexpect.leaves count=2\n"),
              HasSubstr("time 1 of 5: there are 1"));
}

TEST_F(HarnessTest, ManyBumpsAreOneLine) {
  EXPECT_EQ(Run("bump times=0x100000000\n"), "");
  EXPECT_EQ(backend_.generation(), 0x1'0000'0001u);
}

// Of many simulated streams some must notice that no flush arrives.
TEST(Harness, SimulatedStreamsNoticeLostFlushes) {
  int noticed = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const OpStream stream = GenerateStream(seed, {.ops = 200});
    LyingBackend backend(stream.vm);
    backend.test_host().SetFlushDelivery(Delivery::kLose);
    if (RunStream(stream, backend)) ++noticed;
  }
  EXPECT_GT(noticed, 30);
}

}  // namespace
}  // namespace shadowmmu::testing
