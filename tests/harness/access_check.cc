#include "tests/harness/access_check.h"

#include <algorithm>
#include <cstring>

#include "tests/harness/oracle_registers.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

using Kind = FaultOutcome::Kind;

bool SameFault(const GuestFault& a, const GuestFault& b) {
  return a.vector == b.vector && a.error_code == b.error_code &&
         (a.vector != GuestFault::Vector::kPage || a.address == b.address);
}

// The outcomes after which A and D must all be set, or none.
bool IsExact(Kind kind) {
  return kind == Kind::kResume || kind == Kind::kGuestFault ||
         kind == Kind::kEmulate;
}

bool IsSupervisor(const Access& access) {
  return access.privilege == Privilege::kSupervisor ||
         access.implicit == Implicit::kYes;
}

}  // namespace

AccessCheck::Case AccessCheck::Begin(uint32_t vcpu, Gva gva,
                                     const Access& access) {
  const VcpuModel& model = world_->vcpu(vcpu);
  Case c;
  c.vcpu = vcpu;
  c.space = model.space;
  c.gva = gva;
  c.access = access;
  c.truth = world_->Translate(model, gva, access);
  const bool flushed =
      flushed_ && flushed_->vcpu == vcpu &&
      flushed_->gva.value() >> kPageShift == gva.value() >> kPageShift;
  c.fixup = FixupOf(model, c);
  c.tainted = !flushed && world_->Tainted(model, c.truth);
  c.stale = !flushed && world_->MayBeStale(model, gva, c.truth);
  c.roots = world_->RootTables(model);
  c.cr3_outside = IsRootOutside(model, c.roots);
  world_->taint().NoteWalk(model.space, c.truth.tables());
  // It may enter the guest, with all that its root names.
  world_->taint().NoteWalk(model.space, c.roots);
  return c;
}

std::optional<OracleResult> AccessCheck::FixupOf(const VcpuModel& model,
                                                 const Case& c) const {
  const OracleResult& truth = c.truth;
  const bool applies = truth.kind == OracleResult::Kind::kGuestFault &&
                       truth.page.has_value() && !truth.denied.rights &&
                       truth.denied.any() && IsSupervisor(c.access) &&
                       c.access.type != AccessType::kFetch &&
                       (model.registers.cr0 & manual::kCr0Wp) == 0;
  if (!applies) return std::nullopt;
  VcpuModel unguarded = model;
  unguarded.registers.cr4 &= ~(manual::kCr4Smap | manual::kCr4Pke);
  return world_->Translate(unguarded, c.gva, c.access);
}

// With PAE paging a root's tables may lie anywhere.
bool AccessCheck::IsRootOutside(const VcpuModel& model,
                                const std::vector<Gfn>& roots) const {
  if (PaePaging(model.registers)) return false;
  return std::any_of(roots.begin(), roots.end(), [&](Gfn root) {
    return !world_->PageAt(model.space, root).has_value();
  });
}

bool AccessCheck::AnyInProgress(AddressSpace space,
                                const std::vector<Gfn>& tables) const {
  return std::any_of(tables.begin(), tables.end(), [&](Gfn table) {
    const auto page = world_->PageAt(space, table);
    return page && page->in_progress;
  });
}

void AccessCheck::Resume(Case* c) {
  *c = Begin(c->vcpu, c->gva, c->access);
  c->interrupted = true;
}

std::vector<uint32_t> AccessCheck::Frames(const Case& c) const {
  std::vector<uint32_t> frames;
  for (const Gfn table : c.truth.tables()) {
    const std::optional<World::Page> page = world_->PageAt(c.space, table);
    if (page && page->backing) frames.push_back(page->backing->frame);
  }
  if (!c.truth.page) return frames;
  const std::optional<World::Page> target =
      world_->PageAt(c.space, ToGfn(*c.truth.page));
  if (target && target->backing) frames.push_back(target->backing->frame);
  return frames;
}

// ---- What is allowed ----

std::optional<World::Page> AccessCheck::TargetOf(const Case& c) const {
  if (c.truth.kind != OracleResult::Kind::kTranslated) return std::nullopt;
  return world_->PageAt(c.space, ToGfn(c.truth.gpa));
}

bool AccessCheck::MayRetry(const Case& c) const {
  const std::optional<World::Page> target = TargetOf(c);
  if (target && target->in_progress) return true;
  // An entry into the guest, which an access may make, needs the whole root.
  return AnyInProgress(c.space, c.truth.tables()) ||
         AnyInProgress(c.space, c.roots);
}

// Does the host refuse to have an entry written that needs A or D?
bool AccessCheck::UpdateRefused(const Case& c) const {
  return std::any_of(c.truth.updates.begin(), c.truth.updates.end(),
                     [&](const EntryUpdate& update) {
                       const auto page =
                           world_->PageAt(c.space, ToGfn(update.entry));
                       return page && page->backing && !page->backing->writable;
                     });
}

std::string AccessCheck::CheckHit(const Case& c, Hpa hpa) const {
  const std::optional<World::Page> target = TargetOf(c);
  if (!target || c.truth.target != OracleTarget::kMemory) {
    return Say("went through to ", hpa, "; the oracle: ", c.truth);
  }
  if (!target->readable() || (c.write() && !target->writable())) {
    return Say("went through to ", hpa,
               ", which the host has taken away or made read-only");
  }
  const Hpa expected =
      ToHpa(PfnOfFrame(target->backing->frame)) + PageOffset(c.truth.gpa);
  if (hpa != expected) {
    return Say("went through to ", hpa, "; ", c.truth, " lies at ", expected);
  }
  return "";
}

// Rule 4.
std::string AccessCheck::CheckFixup(const Case& c, Hpa hpa) {
  Case granted = c;
  granted.truth = *c.fixup;
  if (!granted.truth.updates.empty()) {
    return Say("went through to ", hpa,
               ", and A or D is clear in the entry at ",
               granted.truth.updates.front().entry, "; the oracle: ", c.truth);
  }
  std::string wrong = CheckHit(granted, hpa);
  if (wrong.empty()) ++excused_;
  return wrong;
}

std::string AccessCheck::CheckEmulate(const Case& c,
                                      const FaultOutcome& outcome) const {
  const std::string wrong =
      Say("ended as ", outcome, "; the oracle: ", c.truth);
  if (c.truth.kind != OracleResult::Kind::kTranslated ||
      outcome.gpa != c.truth.gpa) {
    return wrong;
  }
  switch (outcome.emulate_reason) {
    case EmulateReason::kNoSlot:
      return c.truth.target == OracleTarget::kNoSlot ? "" : wrong;
    case EmulateReason::kReadOnlySlot:
      return c.truth.target == OracleTarget::kReadOnlySlot ? "" : wrong;
    case EmulateReason::kWriteTracked:
      break;
  }
  if (c.truth.target != OracleTarget::kMemory || !c.write()) return wrong;
  const Gfn gfn = ToGfn(c.truth.gpa);
  const bool table = world_->taint().AnyTable(
      [gfn](AddressSpace /*space*/, Gfn at) { return at == gfn; });
  return table ? "" : wrong + ", and no walk ever read it as a table";
}

std::string AccessCheck::CheckMemoryFault(const Case& c,
                                          const FaultOutcome& outcome) const {
  const std::string wrong =
      Say("ended as ", outcome, "; the oracle: ", c.truth);
  if (outcome.memory_fault_reason == MemoryFaultReason::kTableOutsideSlots) {
    if (c.cr3_outside) return "";
    return c.truth.kind == OracleResult::Kind::kTableOutsideSlots &&
                   ToGfn(outcome.gpa) == ToGfn(c.truth.gpa)
               ? ""
               : wrong;
  }
  if (UpdateRefused(c)) return "";
  if (ToGfn(outcome.gpa) != ToGfn(c.truth.gpa)) return wrong;
  if (c.truth.kind == OracleResult::Kind::kTableUnreadable) return "";
  const std::optional<World::Page> target = TargetOf(c);
  const bool refused =
      target && (!target->backing || (c.write() && !target->backing->writable));
  return refused ? "" : wrong;
}

// An end that is not a success.
std::string AccessCheck::CheckEnd(const Case& c,
                                  const FaultOutcome& outcome) const {
  switch (outcome.kind) {
    case Kind::kGuestFault:
      if (c.truth.kind == OracleResult::Kind::kGuestFault &&
          SameFault(c.truth.fault, outcome.guest_fault)) {
        return "";
      }
      return Say("ended as ", outcome, "; the oracle: ", c.truth);
    case Kind::kEmulate:
      return CheckEmulate(c, outcome);
    case Kind::kMemoryFault:
      return CheckMemoryFault(c, outcome);
    case Kind::kRetry:
      return MayRetry(c) ? ""
                         : Say("ended as retry with no notifier in the way; "
                               "the oracle: ",
                               c.truth);
    case Kind::kResume:
    case Kind::kDirtyRingFull:
    case Kind::kNoMemory:
      break;
  }
  return Say("ended as ", outcome);
}

// ---- A and D ----

std::string AccessCheck::Settle(const Case& c, Bits bits) {
  for (const EntryUpdate& update : c.truth.updates) {
    const std::optional<World::Page> page =
        world_->PageAt(c.space, ToGfn(update.entry));
    if (!page || !page->backing) continue;
    // By words: an entry of 4 bytes may be the upper half of one.
    const uint64_t offset = PageOffset(update.entry) & ~uint64_t{7};
    const uint64_t shift = 8 * (PageOffset(update.entry) - offset);
    uint64_t now = 0;
    std::memcpy(&now, backend_->FrameMemory(page->backing->frame) + offset,
                sizeof(now));
    const uint64_t held = world_->host().Read64(page->backing->frame, offset);
    const uint64_t set = ((now & ~held) >> shift) & update.bits;
    if (page->in_progress && set != 0) {
      return Say("set A or D in the entry at ", update.entry,
                 ", which a notifier has in progress");
    }
    const uint64_t taken = bits == Bits::kAll ? update.bits : set;
    world_->NoteEntryBits(c.space, update.entry, taken);
    // What a store left there may have come by another gfn.
    const bool by_walk = bits != Bits::kSome || !c.write();
    if (taken != 0 && by_walk) {
      world_->NoteDirty(c.space, ToGfn(update.entry));
    }
  }
  return "";
}

// ---- The checks ----

std::string AccessCheck::CheckTouch(const Case& c, const OpResult& result,
                                    Allocations allocations) {
  const FaultOutcome& outcome = *result.outcome;
  const bool exact = MustAgree(c, result) && IsExact(outcome.kind);
  const std::string settled = Settle(c, exact ? Bits::kAll : Bits::kSome);
  if (!settled.empty()) return settled;
  if (outcome.kind == Kind::kNoMemory) {
    return allocations == Allocations::kSomeFailed
               ? ""
               : "ended as no memory, though no allocation failed";
  }
  if (!MustAgree(c, result)) return "";
  if (!result.hpa) return CheckEnd(c, outcome);
  return c.fixup ? CheckFixup(c, *result.hpa) : CheckHit(c, *result.hpa);
}

std::string AccessCheck::CheckTranslate(const Case& c, const OpResult& result,
                                        Allocations allocations) {
  const FaultOutcome& outcome = *result.outcome;
  // It walks the guest's tables themselves: no taint matters.
  const std::string settled =
      Settle(c, IsExact(outcome.kind) ? Bits::kAll : Bits::kSome);
  if (!settled.empty()) return settled;
  if (outcome.kind == Kind::kNoMemory) {
    return allocations == Allocations::kSomeFailed
               ? ""
               : "ended as no memory, though no allocation failed";
  }
  // It is tried once only.
  if (outcome.kind == Kind::kRetry && c.interrupted) return "";
  if (outcome.kind != Kind::kResume) return CheckEnd(c, outcome);
  if (c.truth.kind == OracleResult::Kind::kTranslated &&
      result.gpa == c.truth.gpa) {
    return "";
  }
  return Say("translated to ", result.gpa.value_or(Gpa(0)),
             "; the oracle: ", c.truth);
}

std::string AccessCheck::CheckEnter(uint32_t vcpu, const OpResult& result,
                                    Allocations allocations) {
  const VcpuModel& model = world_->vcpu(vcpu);
  const FaultOutcome& outcome = *result.outcome;
  const std::vector<Gfn> roots = world_->RootTables(model);
  const bool outside = IsRootOutside(model, roots);
  const Gpa cr3(model.registers.cr3);
  switch (outcome.kind) {
    case Kind::kResume:
      return outside ? Say("entered, with CR3 outside the slots: ", cr3) : "";
    case Kind::kMemoryFault:
      if (outside && outcome.memory_fault_reason ==
                         MemoryFaultReason::kTableOutsideSlots) {
        return "";
      }
      break;
    case Kind::kRetry:
      if (AnyInProgress(model.space, roots)) return "";
      break;
    case Kind::kNoMemory:
      if (allocations == Allocations::kSomeFailed) return "";
      break;
    case Kind::kGuestFault:
    case Kind::kEmulate:
    case Kind::kDirtyRingFull:
      break;
  }
  return Say("could not enter: ", outcome, ", CR3 at ", cr3);
}

}  // namespace shadowmmu::testing
