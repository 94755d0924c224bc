#include "tests/harness/store_check.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "tests/harness/op_values.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

bool IsEmulate(const FaultOutcome& outcome, EmulateReason reason, Gpa gpa) {
  return outcome.kind == Kind::kEmulate && outcome.emulate_reason == reason &&
         outcome.gpa == gpa;
}

bool IsExchangeSize(uint32_t size) {
  return size == 1 || size == 2 || size == 4 || size == 8;
}

}  // namespace

StoreCheck::Verdict StoreCheck::Judge(AddressSpace space, Gpa gpa, Use use,
                                      const FaultOutcome& outcome) const {
  const auto refuses = [](bool right) {
    return right ? Verdict::kRefuses : Verdict::kWrong;
  };
  const std::optional<World::Page> page = world_->PageAt(space, ToGfn(gpa));
  if (!page) return refuses(IsEmulate(outcome, EmulateReason::kNoSlot, gpa));
  if (use == Use::kWrite && Has(page->slot.flags, SlotFlags::kReadOnly)) {
    return refuses(IsEmulate(outcome, EmulateReason::kReadOnlySlot, gpa));
  }
  const bool backed =
      page->backing && (use == Use::kRead || page->backing->writable);
  const bool host_refused =
      outcome.kind == Kind::kMemoryFault &&
      outcome.memory_fault_reason == MemoryFaultReason::kHostRefused &&
      ToGfn(outcome.gpa) == ToGfn(gpa);
  if (page->in_progress) {
    return refuses(outcome.kind == Kind::kRetry || (!backed && host_refused));
  }
  return backed ? Verdict::kGoesThrough : refuses(host_refused);
}

std::string StoreCheck::CheckWrite(AddressSpace space, Gpa gpa,
                                   std::span<const std::byte> bytes,
                                   const FaultOutcome& outcome) {
  frames_.clear();
  while (!bytes.empty()) {
    const size_t count =
        std::min<size_t>(bytes.size(), kPageSize - PageOffset(gpa));
    const std::optional<World::Page> page = world_->PageAt(space, ToGfn(gpa));
    if (page && page->backing) frames_.push_back(page->backing->frame);
    const Verdict verdict = Judge(space, gpa, Use::kWrite, outcome);
    if (verdict == Verdict::kWrong) {
      return Say("the store at ", gpa, " ended as ", outcome);
    }
    if (verdict == Verdict::kRefuses) return "";
    world_->NoteGuestStore(space, gpa, bytes.first(count), World::By::kLibrary);
    bytes = bytes.subspan(count);
    gpa += count;
  }
  return outcome.resume() ? "" : Say("the store ended as ", outcome);
}

std::string StoreCheck::CheckRead(AddressSpace space, Gpa gpa,
                                  const OpResult& result) {
  frames_.clear();
  const FaultOutcome& outcome = *result.outcome;
  std::span<const std::byte> data = result.data;
  while (!data.empty()) {
    const size_t count =
        std::min<size_t>(data.size(), kPageSize - PageOffset(gpa));
    const Verdict verdict = Judge(space, gpa, Use::kRead, outcome);
    if (verdict == Verdict::kWrong) {
      return Say("the read at ", gpa, " ended as ", outcome);
    }
    if (verdict == Verdict::kRefuses) return "";
    const std::optional<World::Page> page = world_->PageAt(space, ToGfn(gpa));
    std::vector<std::byte> expected(count);
    world_->host().Read(page->backing->frame, PageOffset(gpa), expected);
    if (outcome.resume() &&
        !std::equal(expected.begin(), expected.end(), data.begin())) {
      return Say("the read at ", gpa, " gave something else than is there");
    }
    data = data.subspan(count);
    gpa += count;
  }
  return outcome.resume() ? "" : Say("the read ended as ", outcome);
}

std::string StoreCheck::CheckExchange(AddressSpace space, Gpa gpa,
                                      uint32_t size, uint64_t expected,
                                      uint64_t desired,
                                      const OpResult& result) {
  frames_.clear();
  if (!IsExchangeSize(size) || gpa.value() % size != 0) {
    return absl::IsInvalidArgument(result.status)
               ? ""
               : Say("a compare-exchange of ", size, " bytes at ", gpa,
                     " was not refused");
  }
  if (!result.status.ok()) {
    return Say("the compare-exchange at ", gpa,
               " was refused: ", result.status.ToString());
  }
  const std::optional<World::Page> page = world_->PageAt(space, ToGfn(gpa));
  if (page && page->backing) frames_.push_back(page->backing->frame);
  const FaultOutcome& outcome = *result.outcome;
  const Verdict verdict = Judge(space, gpa, Use::kWrite, outcome);
  if (verdict == Verdict::kRefuses) return "";
  if (verdict == Verdict::kWrong || !outcome.resume()) {
    return Say("the compare-exchange at ", gpa, " ended as ", outcome);
  }
  uint64_t held = 0;
  world_->host().Read(page->backing->frame, PageOffset(gpa),
                      std::as_writable_bytes(std::span(&held, 1)).first(size));
  if (result.previous != held || result.exchanged != (held == expected)) {
    return Say("the compare-exchange at ", gpa, " found ", result.previous,
               result.exchanged ? ", and exchanged" : ", and did not exchange",
               "; it held ", held);
  }
  if (!result.exchanged) return "";
  const std::vector<std::byte> bytes = ToBytes(desired);
  world_->NoteGuestStore(space, gpa, std::span(bytes).first(size),
                         World::By::kLibrary);
  return "";
}

}  // namespace shadowmmu::testing
