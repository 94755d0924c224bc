#include "src/mmu/guest_walk.h"

#include <cstring>
#include <span>

namespace shadowmmu {
namespace {

// How often a walk starts over because its compare-exchange lost.
constexpr int kMaxWalks = 8;

// Bits that must be clear in a present 8-byte entry (SDM vol. 3, 4.5.4).
uint64_t ReservedBits(uint64_t gpte, Level level, const WalkContext& context) {
  uint64_t reserved =
      pte::kAddress & ~((uint64_t{1} << context.physical_bits) - 1);
  if (context.mode.no_execute == NoExecute::kDisabled) {
    reserved |= pte::kNoExecute;
  }
  if (level >= Level::k512G) reserved |= pte::kPageSize;
  const bool large = (gpte & pte::kPageSize) != 0;
  if (large && (level == Level::k2M || level == Level::k1G)) {
    // Between the PAT bit (12) and the address of the large page.
    reserved |= (BytesPerEntry(level) - 1) & ~((uint64_t{1} << 13) - 1);
  }
  return reserved;
}

bool IsLeaf(uint64_t gpte, Level level) {
  return level == Level::k4K || (gpte & pte::kPageSize) != 0;
}

class Walker {
 public:
  Walker(const WalkContext& context, Gva gva, const Access& access,
         GuestWalk& walk)
      : context_(context),
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
  std::optional<FaultOutcome> ReadEntry(Level level);
  std::optional<FaultOutcome> SetBits(bool* lost);
  std::optional<FaultOutcome> SetBitsAt(Level level, bool* lost);
  FaultOutcome PageFault(uint32_t code) const;
  FaultOutcome Refused(TouchResult result, Gpa gpa, Hva hva, AccessType type);

  const WalkContext& context_;
  const GuestMemory::Section section_;
  const Gva gva_;
  const Access& access_;
  GuestWalk& walk_;
};

FaultOutcome Walker::PageFault(uint32_t code) const {
  if (access_.type == AccessType::kWrite) code |= pf_error::kWrite;
  if (access_.privilege == Privilege::kUser &&
      access_.implicit == Implicit::kNo) {
    code |= pf_error::kUser;
  }
  // I/D is reported only where fetches can be told apart (SDM vol. 3, 4.7).
  if (access_.type == AccessType::kFetch &&
      context_.mode.no_execute == NoExecute::kEnabled) {
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

// Reads the entry of `level` from walk_.step[level].table.
std::optional<FaultOutcome> Walker::ReadEntry(Level level) {
  WalkStep& step = walk_.step[ToInt(level)];
  const Gpa gpa = ToGpa(step.table) + IndexAt(gva_, level) * sizeof(uint64_t);
  const Memslot* slot =
      context_.cache.Find(context_.slots, context_.space, step.table);
  if (slot == nullptr) {
    return FaultOutcome::MemoryFault(gpa,
                                     MemoryFaultReason::kTableOutsideSlots);
  }
  if (!slot->live()) return FaultOutcome::Retry();  // being deleted
  step.hva = slot->ToHva(step.table) + PageOffset(gpa);
  const TouchResult result = context_.memory.Read(
      section_, step.hva,
      std::as_writable_bytes(std::span<uint64_t, 1>(&step.gpte, 1)));
  if (result != TouchResult::kDone) {
    return Refused(result, gpa, step.hva, AccessType::kRead);
  }
  return std::nullopt;
}

std::optional<FaultOutcome> Walker::Descend() {
  Gfn table = context_.mode.root;
  Rights rights = Rights::All();
  for (Level level = context_.mode.root_level();; level = Below(level)) {
    WalkStep& step = walk_.step[ToInt(level)];
    step.table = table;
    step.above = rights;
    if (std::optional<FaultOutcome> bad = ReadEntry(level)) return bad;
    if ((step.gpte & pte::kPresent) == 0) return PageFault(0);
    if ((step.gpte & ReservedBits(step.gpte, level, context_)) != 0) {
      return PageFault(pf_error::kPresent | pf_error::kReserved);
    }
    rights = rights & GpteRights(step.gpte, context_.mode);
    step.through = rights;
    table = ToGfn(Gpa(step.gpte & pte::kAddress));
    if (!IsLeaf(step.gpte, level)) continue;
    walk_.levels = context_.mode.levels;
    walk_.leaf = level;
    walk_.rights = rights;
    walk_.gfn = AlignDown(table, level) +
                (gva_.value() >> kPageShift & (PagesPerEntry(level) - 1));
    break;
  }
  if (!Allow(rights, access_)) return PageFault(pf_error::kPresent);
  return std::nullopt;
}

std::optional<FaultOutcome> Walker::SetBits(bool* lost) {
  for (Level level = context_.mode.root_level();; level = Below(level)) {
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
      section_, step.hva, sizeof(uint64_t), &expected, wanted, &exchanged);
  if (result != TouchResult::kDone) {
    return Refused(result, ToGpa(step.table) + PageOffset(step.hva), step.hva,
                   AccessType::kWrite);
  }
  *lost = !exchanged;
  if (exchanged) step.gpte = wanted;
  return std::nullopt;
}

}  // namespace

Rights GpteRights(uint64_t gpte, const PagingMode& mode) {
  uint32_t bits = 0;
  if ((gpte & pte::kWritable) != 0) bits |= Rights::kWrite;
  if ((gpte & pte::kUser) != 0) bits |= Rights::kUser;
  if (mode.no_execute == NoExecute::kDisabled ||
      (gpte & pte::kNoExecute) == 0) {
    bits |= Rights::kExecute;
  }
  return Rights(bits);
}

std::optional<FaultOutcome> WalkGuest(const WalkContext& context, Gva gva,
                                      const Access& access, GuestWalk* walk) {
  walk->refused.reset();
  if (context.mode.off()) {
    walk->levels = 0;
    walk->leaf = Level::k2M;  // the largest that PAE tables map
    walk->gfn = Gfn((gva.value() & 0xffff'ffff) >> kPageShift);
    walk->rights = Rights::All();
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
