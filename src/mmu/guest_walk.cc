#include "src/mmu/guest_walk.h"

#include <span>

namespace shadowmmu {
namespace {

// How often a walk starts over because its compare-exchange lost.
constexpr int kMaxWalks = 8;

class Walker {
 public:
  Walker(const WalkContext& context, Gva gva, const Access& access,
         GuestWalk& walk)
      : context_(context),
        mode_(context.mode),
        format_(context.mode.format),
        section_(context.memory),
        gva_(gva),
        access_(access),
        walk_(walk) {}

  std::optional<FaultOutcome> Run() {
    for (int i = 0; i < kMaxWalks; ++i) {
      if (std::optional<FaultOutcome> bad = Descend()) return bad;
      bool lost = false;
      if (std::optional<FaultOutcome> bad = SetBits(&lost)) return bad;
      if (!lost) return std::nullopt;
    }
    return FaultOutcome::Retry();
  }

 private:
  std::optional<FaultOutcome> Descend();
  std::optional<FaultOutcome> Judge();
  std::optional<FaultOutcome> ReadEntry(Level level);
  std::optional<FaultOutcome> SetBits(bool* lost);
  std::optional<FaultOutcome> SetBitsAt(Level level, bool* lost);
  FaultOutcome PageFault(uint32_t code) const;
  FaultOutcome Refused(TouchResult result, Gpa gpa, Hva hva, AccessType type);

  const WalkContext& context_;
  const PagingMode& mode_;
  const GuestFormat& format_;
  const GuestMemory::Section section_;
  const Gva gva_;
  const Access& access_;
  GuestWalk& walk_;
};

FaultOutcome Walker::PageFault(uint32_t code) const {
  if (access_.type == AccessType::kWrite) code |= pf_error::kWrite;
  if (IsUserMode(access_)) code |= pf_error::kUser;
  // I/D is reported only where fetches can be told apart (SDM vol. 3, 4.7).
  if (access_.type == AccessType::kFetch && mode_.reports_fetch) {
    code |= pf_error::kFetch;
  }
  return FaultOutcome::Inject({.vector = GuestFault::Vector::kPage,
                               .error_code = code,
                               .address = gva_});
}

FaultOutcome Walker::Refused(TouchResult result, Gpa gpa, Hva hva,
                             AccessType type) {
  if (result == TouchResult::kBlocked) return FaultOutcome::Retry();
  walk_.refused = GuestWalk::Refusal{.hva = hva, .type = type};
  return FaultOutcome::MemoryFault(gpa, MemoryFaultReason::kHostRefused);
}

FaultOutcome OutsideSlots(Gpa entry) {
  return FaultOutcome::MemoryFault(entry,
                                   MemoryFaultReason::kTableOutsideSlots);
}

// Reads the entry of `level` from walk_.step[level].table.
std::optional<FaultOutcome> Walker::ReadEntry(Level level) {
  WalkStep& step = walk_.step[ToInt(level)];
  const Gpa gpa = ToGpa(step.table) + format_.OffsetOfEntry(gva_, level);
  const Memslot* slot =
      context_.cache.Find(context_.slots, context_.space, step.table);
  if (slot == nullptr) {
    if (context_.absent_tables == AbsentTables::kMemoryFault) {
      return OutsideSlots(gpa);
    }
    if (!walk_.absent) walk_.absent = gpa;
    step.gpte = ~uint64_t{0} >> (64 - 8 * format_.entry_bytes());
    return std::nullopt;
  }
  if (!slot->live()) return FaultOutcome::Retry();  // being deleted
  step.hva = slot->ToHva(step.table) + PageOffset(gpa);
  const TouchResult result =
      ReadGpte(context_.memory, section_, format_, step.hva, &step.gpte);
  if (result != TouchResult::kDone) {
    return Refused(result, gpa, step.hva, AccessType::kRead);
  }
  return std::nullopt;
}

std::optional<FaultOutcome> Walker::Descend() {
  walk_.absent.reset();
  Gfn table = mode_.root;
  if (mode_.UsesPdptes()) {
    const uint64_t pdpte = mode_.PdpteOf(gva_);
    if ((pdpte & pte::kPresent) == 0) return PageFault(0);
    table = GuestFormat::GfnOf(pdpte);
  }
  Rights rights = Rights::All();
  for (Level level = format_.root_level();; level = Below(level)) {
    WalkStep& step = walk_.step[ToInt(level)];
    step.table = table;
    step.above = rights;
    if (std::optional<FaultOutcome> bad = ReadEntry(level)) return bad;
    if ((step.gpte & pte::kPresent) == 0) return PageFault(0);
    if (format_.ReservedBitsSet(step.gpte, level) != 0) {
      return PageFault(pf_error::kPresent | pf_error::kReserved);
    }
    rights = rights & GuestFormat::RightsOf(step.gpte);
    step.through = rights;
    if (format_.IsLeaf(step.gpte, level)) {
      walk_.levels = format_.levels();
      walk_.leaf = level;
      walk_.rights = rights;
      walk_.key = GuestFormat::KeyOf(step.gpte);
      walk_.gfn = format_.FrameOf(step.gpte, level, gva_);
      return Judge();
    }
    table = GuestFormat::GfnOf(step.gpte);
  }
}

// The tables lead to a page: may the access have it?
std::optional<FaultOutcome> Walker::Judge() {
  const PermissionRules& rules = mode_.permissions;
  const bool key_denies = KeyDenies(walk_.rights, walk_.key, access_, rules);
  if (key_denies || !RightsAllow(walk_.rights, access_, rules)) {
    // PK tells of the key, whatever else forbids the access (SDM vol. 3, 4.7).
    return PageFault(pf_error::kPresent |
                     (key_denies ? pf_error::kProtectionKey : 0));
  }
  // Rule 4.
  if (walk_.absent && context_.cache.Find(context_.slots, context_.space,
                                          walk_.gfn) != nullptr) {
    return OutsideSlots(*walk_.absent);
  }
  walk_.fix_up = NeedsFixUp(walk_.rights, walk_.key, access_, rules);
  return std::nullopt;
}

std::optional<FaultOutcome> Walker::SetBits(bool* lost) {
  for (Level level = format_.root_level();; level = Below(level)) {
    if (std::optional<FaultOutcome> bad = SetBitsAt(level, lost)) return bad;
    if (*lost || level == walk_.leaf) break;
  }
  const bool dirty = access_.type == AccessType::kWrite ||
                     (walk_.At(walk_.leaf).gpte & pte::kDirty) != 0;
  walk_.dirty = dirty ? Dirty::kYes : Dirty::kNo;
  return std::nullopt;
}

std::optional<FaultOutcome> Walker::SetBitsAt(Level level, bool* lost) {
  WalkStep& step = walk_.step[ToInt(level)];
  uint64_t wanted = step.gpte | pte::kAccessed;
  if (level == walk_.leaf && access_.type == AccessType::kWrite) {
    wanted |= pte::kDirty;
  }
  if (wanted == step.gpte) return std::nullopt;
  const Memslot* slot =
      context_.cache.Find(context_.slots, context_.space, step.table);
  // The bits cannot be kept there; the access goes on as if they were set.
  if (slot->read_only()) return std::nullopt;
  uint64_t expected = step.gpte;
  bool exchanged = false;
  const TouchResult result = context_.memory.CompareExchange(
      section_, step.hva, format_.entry_bytes(), &expected, wanted, &exchanged);
  if (result != TouchResult::kDone) {
    return Refused(result, ToGpa(step.table) + PageOffset(step.hva), step.hva,
                   AccessType::kWrite);
  }
  *lost = !exchanged;
  if (exchanged) {
    step.gpte = wanted;
    slot->MarkDirty(step.table);
    if (step.hva.value() % sizeof(uint64_t) != 0) walk_.upper_half_set = true;
  }
  return std::nullopt;
}

}  // namespace

std::optional<FaultOutcome> WalkGuest(const WalkContext& context, Gva gva,
                                      const Access& access, GuestWalk* walk) {
  walk->refused.reset();
  walk->upper_half_set = false;
  if (context.mode.format.off()) {
    walk->absent.reset();
    walk->levels = 0;
    walk->leaf = Level::k2M;  // the largest that PAE tables map
    walk->gfn = Gfn((gva.value() & 0xffff'ffff) >> kPageShift);
    walk->rights = Rights::All();
    walk->key = 0;
    walk->fix_up = false;
    walk->dirty = Dirty::kYes;
    return std::nullopt;
  }
  if (!context.mode.Canonical(gva)) {
    return FaultOutcome::Inject(
        {.vector = GuestFault::Vector::kGeneralProtection});
  }
  return Walker(context, gva, access, *walk).Run();
}

}  // namespace shadowmmu
