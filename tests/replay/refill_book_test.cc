// Which faults are counted as refills.

#include "bench/replay/refill_book.h"

#include <gtest/gtest.h>

#include "bench/replay/fault_log.h"

namespace shadowmmu::replay {
namespace {

constexpr Gva kGva{0x4a3'0000};
constexpr ProcessId kFirst{0};
constexpr ProcessId kSecond{1};

class RefillBookTest : public ::testing::Test {
 protected:
  void SetUp() override { book_.NoteLoad(kFirst); }
  void Fill(AccessType type) {
    book_.NoteFill(kGva, Access{.type = type, .privilege = Privilege::kUser});
  }
  void SwitchAwayAndBack() {
    book_.NoteLoad(kSecond);
    book_.NoteLoad(kFirst);
  }
  RefillBook book_;
};

TEST_F(RefillBookTest, WhatIsLostByASwitchIsCountedOnce) {
  Fill(AccessType::kRead);
  book_.NoteThrough(kGva, AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 0u);
  SwitchAwayAndBack();
  Fill(AccessType::kRead);
  book_.NoteThrough(kGva, AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 1u);
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 1u);
  EXPECT_EQ(book_.counts().other, 1u);
}

TEST_F(RefillBookTest, AnEntryThatTheGuestChangedIsNoLoss) {
  book_.NoteThrough(kGva, AccessType::kWrite);
  book_.NoteChange(kFirst, kGva);
  SwitchAwayAndBack();
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 0u);
}

TEST_F(RefillBookTest, AnEntryOfAnotherProcessIsAnother) {
  book_.NoteThrough(kGva, AccessType::kRead);
  book_.NoteChange(kSecond, kGva);
  book_.NoteLoad(kSecond);
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 0u);
  book_.NoteLoad(kFirst);
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 1u);
}

TEST_F(RefillBookTest, ARightThatThePageNeverHadIsNotLost) {
  book_.NoteThrough(kGva, AccessType::kRead);
  SwitchAwayAndBack();
  Fill(AccessType::kWrite);
  Fill(AccessType::kFetch);
  EXPECT_EQ(book_.counts().after_switch, 0u);
}

TEST_F(RefillBookTest, WhoMayWriteOrFetchMayRead) {
  book_.NoteThrough(kGva, AccessType::kWrite);
  SwitchAwayAndBack();
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 1u);
}

TEST_F(RefillBookTest, AReloadOfTheSameRootIsALoadToo) {
  book_.NoteThrough(kGva, AccessType::kRead);
  book_.NoteLoad(kFirst);
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 1u);
}

TEST_F(RefillBookTest, TheKernelsStoreIntoAProtectedTableIsNoRefill) {
  Access store = Write();
  store.reported_error = pf_error::kPresent | pf_error::kWrite;
  book_.NoteThrough(kGva, AccessType::kWrite);
  SwitchAwayAndBack();
  book_.NoteFill(kGva, store);
  EXPECT_EQ(book_.counts().after_switch, 0u);
  // It would be one, were the page not there.
  store.reported_error = pf_error::kWrite;
  book_.NoteFill(kGva, store);
  EXPECT_EQ(book_.counts().after_switch, 1u);
}

TEST_F(RefillBookTest, WhatAnInvalidationTookNoSwitchHasLost) {
  FaultLog log;
  log.SetProcess(kFirst);
  log.NoteLoad();
  const Access read = Read(Privilege::kUser);
  log.NoteThrough(kGva, read);
  log.OpenWindow(10);
  log.NoteLoad();
  log.Note(kGva, read, FaultOutcome::Resume(), Nanoseconds(1));
  EXPECT_EQ(log.refills().counts().after_switch, 0u);
  log.NoteThrough(kGva, read);
  log.NoteLoad();
  log.Note(kGva, read, FaultOutcome::Resume(), Nanoseconds(1));
  EXPECT_EQ(log.refills().counts().after_switch, 1u);
}

TEST_F(RefillBookTest, AnAddressSpaceThatIsGoneIsForgotten) {
  book_.NoteThrough(kGva, AccessType::kRead);
  book_.Forget(kFirst);
  SwitchAwayAndBack();
  Fill(AccessType::kRead);
  EXPECT_EQ(book_.counts().after_switch, 0u);
}

}  // namespace
}  // namespace shadowmmu::replay
