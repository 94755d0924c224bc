#include "bench/exhaustive/check.h"

#include <algorithm>
#include <bit>
#include <ostream>
#include <sstream>
#include <utility>

#include "src/base/check.h"

namespace shadowmmu::exhaustive {
namespace {

using testing::CpuModel;
using testing::Oracle;
using testing::OracleResult;
using testing::TlbEntry;

// Rounds of entering and resolving that one access may take.
constexpr int kMaxRounds = 8;

constexpr uint64_t kTouchEvery = 64;
constexpr uint64_t kAskEvery = 128;

constexpr uint64_t kAccessed = testing::gpte::kAccessed;
constexpr uint64_t kDirty = testing::gpte::kDirty;

size_t KindOf(const OracleResult::Denied& denied) {
  const Inexact kind = !denied.key   ? Inexact::kSmap
                       : denied.smap ? Inexact::kBoth
                                     : Inexact::kKey;
  return static_cast<size_t>(kind);
}

std::string Hex(uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

std::string TextOf(const EntryValues& values) {
  return "PDE " + Hex(values.pde) + ", PTE " + Hex(values.pte);
}

// Makes one bit another.
void Flip(Before before, RegisterSet* registers, EntryBits* pde) {
  switch (before) {
    case Before::kNothing:
      break;
    case Before::kWritable:
      *pde ^= bit::kWritable;
      break;
    case Before::kUser:
      *pde ^= bit::kUser;
      break;
    case Before::kNoExecuteBit:
      *pde ^= bit::kNoExecute;
      break;
    case Before::kKey:
      *pde ^= bit::kKey;
      break;
    case Before::kWriteProtect:
      registers->write_protect = !registers->write_protect;
      break;
    case Before::kNoExecute:
      registers->no_execute = !registers->no_execute;
      break;
    case Before::kSmep:
      registers->smep = !registers->smep;
      break;
    case Before::kSmap:
      registers->smap = !registers->smap;
      break;
    case Before::kKeys:
      registers->keys = !registers->keys;
      break;
  }
}

}  // namespace

Totals& Totals::operator+=(const Totals& other) {
  cases += other.cases;
  differences += other.differences;
  for (size_t i = 0; i < kInexactKinds; ++i) {
    let_through[i] += other.let_through[i];
    left_over[i] += other.left_over[i];
  }
  states += other.states;
  faults += other.faults;
  return *this;
}

std::ostream& operator<<(std::ostream& os, const Totals& totals) {
  const auto print = [&os](const std::array<uint64_t, kInexactKinds>& counts) {
    os << counts[0] << " by SMAP, " << counts[1] << " by the key, " << counts[2]
       << " by both";
  };
  os << "Supervisor accesses, forbidden by SMAP or the key alone, and a fix-up "
        "lets them through:\n  the access itself in ";
  print(totals.let_through);
  os << "\n  some access afterwards in ";
  print(totals.left_over);
  return os;
}

Checker::Checker(const CaseSpace* cases, const Lies& lies)
    : cases_(*cases), lies_(lies), world_(cases->mode()) {
  world_.LieToOracle(lies_.entries);
}

void Checker::Run(uint64_t index) {
  const CaseSpace::Position at = cases_.Locate(index);
  if (at.block != block_) SetBlock(at.block);
  if (at.entries != entries_) SetEntries(at.entries);
  if (!ready_ || at.first != first_) SetFirst(index, at);
  ++totals_.cases;

  const uint64_t mixed = Mix(index);
  if (mixed % kAskEvery == 0) AskAgain(index, at.access);
  const bool touch = mixed / kAskEvery % kTouchEvery == 0;
  const Ended ended =
      touch ? Touch(at.access) : Look(world_.gva(), accesses_[at.access]);
  if (ended.changed) ready_ = false;
  const Expected& expected = Expect(at.access);
  if (Judge(index, "the access", world_.gva(), expected, ended)) {
    ++totals_.let_through[expected.kind];
  }
  const Mask granted = found_ ? GrantedBy(*found_) : 0;
  if (ended.kind == Ended::Kind::kHit && (granted >> at.access & 1) == 0) {
    Difference(index, "the access went through, and is not granted");
  }
  Mask excused = 0;
  if (fixed_up_ || (fix_ups_ >> at.access & 1) != 0) {
    for (const Mask kind : inexact_) excused |= kind;
  }
  Mask left_over = CheckGrants(index, "there", found_, excused);
  if (changed_between()) {
    left_over |= CheckGrants(index, "where the first access was",
                             world_.cpu().Peek(first_gva_), excused);
  }
  for (size_t kind = 0; kind < kInexactKinds; ++kind) {
    if ((left_over & inexact_[kind]) != 0) ++totals_.left_over[kind];
  }
}

// ---- Setting up ----

void Checker::SetBlock(size_t block) {
  block_ = block;
  entries_ = ~size_t{0};
  const CaseSpace::Block& in = cases_.block(block);
  SMMU_CHECK_LE(in.accesses.size(), accesses_.size());
  world_.SetRegisters(world_.RegistersFor(in.registers));
  world_.InvalidateAll();
  cpu_ = world_.OracleCpu();
  cpu_.registers.cr0 ^= lies_.cr0;
  cpu_.registers.cr4 ^= lies_.cr4;
  granted_.fill({});
  writes_ = 0;
  for (size_t i = 0; i < in.accesses.size(); ++i) {
    if (in.accesses[i].type == AccessType::kWrite) writes_ |= Mask{1} << i;
  }
}

void Checker::SetEntries(size_t entries) {
  entries_ = entries;
  ready_ = false;
  const CaseSpace::Block& in = cases_.block(block_);
  bits_ = (*in.entries)[entries];
  begin_ = world_.ValuesOf(bits_, in.registers);
  world_.SetEntries(begin_);
  const EntryBits leaf = bits_.leaf();
  key_ = (leaf & bit::kKey) != 0 ? kOtherKey : 0;
  for (size_t i = 0; i < in.accesses.size(); ++i) {
    accesses_[i] = ToAccess(in.accesses[i], key_);
    expected_[i].known = false;
  }

  // What every access comes to, in one look at the tables.
  world_.ShowOracle(begin_);
  const OracleResult walk = world_.Ask(cpu_, accesses_[0]);
  world_.ShowOracle(std::nullopt);
  allowed_ = 0;
  fix_ups_ = 0;
  inexact_.fill(0);
  if (!walk.page.has_value()) return;
  page_ = world_.HpaOf(*walk.page);
  for (size_t i = 0; i < in.accesses.size(); ++i) {
    const OracleResult::Denied denied = Oracle::Judge(cpu_, walk, accesses_[i]);
    if (!denied.any()) {
      allowed_ |= Mask{1} << i;
      if (TakesFixUp(i, walk)) fix_ups_ |= Mask{1} << i;
    } else if (MayBeLetThrough(accesses_[i], denied)) {
      inexact_[KindOf(denied)] |= Mask{1} << i;
    }
  }
}

// Rule 3.
bool Checker::MayBeLetThrough(const Access& a,
                              const OracleResult::Denied& denied) const {
  const bool user =
      a.privilege == Privilege::kUser && a.implicit == Implicit::kNo;
  return denied.any() && !denied.rights && !user &&
         a.type != AccessType::kFetch &&
         !cases_.block(block_).registers.write_protect;
}

// Of an allowed access.
bool Checker::TakesFixUp(size_t access, const OracleResult& walk) const {
  testing::OracleCpu protecting = cpu_;
  protecting.registers.cr0 |= cr0::kWp;
  return accesses_[access].type == AccessType::kWrite &&
         !Oracle::Allows(protecting, walk, accesses_[access]);
}

void Checker::SetFirst(uint64_t index, const CaseSpace::Position& at) {
  first_ = at.first;
  first_gva_ = world_.gva();
  before_ = Before::kNothing;
  fixed_up_ = false;
  ++totals_.states;
  world_.PutBack(begin_);
  world_.DropAll(bits_.large() && (bits_.pde & bit::kHost2M) == 0);
  now_ = begin_;
  if (changed_between()) {
    ChangeBetween(index, at);
  } else if (first_ != 0) {
    const size_t access = first_ - 1;
    Judge(index, "the first access", first_gva_, Expect(access),
          Look(first_gva_, accesses_[access]));
    fixed_up_ = (fix_ups_ >> access & 1) != 0;
  }
  found_.reset();
  ready_ = true;
}

// Rule 4 of cases.h: the first access, and what the guest does then.
void Checker::ChangeBetween(uint64_t index, const CaseSpace::Position& at) {
  const CaseSpace::Block& in = cases_.block(block_);
  const bool far = cases_.mode() == GuestMode::kTwoLevel &&
                   (at.entries + at.first) / kBefores % 2 != 0;
  first_gva_ = far ? world_.other_half() : world_.beside();
  before_ = BeforeFirst(cases_, at);

  RegisterSet registers = in.registers;
  EntryPair bits = bits_;
  Flip(before_, &registers, &bits.pde);
  const bool other_registers = registers != in.registers;
  // The key of `begin_` stays where PKE makes it count or not.
  const EntryValues begin =
      bits == bits_ ? begin_ : world_.ValuesOf(bits, in.registers);
  if (first_ != 0) {
    testing::OracleCpu cpu = cpu_;
    if (other_registers) {
      world_.SetRegisters(world_.RegistersFor(registers));
      world_.DropAll(true);
      cpu = world_.OracleCpu();
      cpu.registers.cr0 ^= lies_.cr0;
      cpu.registers.cr4 ^= lies_.cr4;
    }
    world_.SetEntries(begin);
    now_ = begin;
    const unsigned key = (bits.pde & bit::kKey) != 0 ? kOtherKey : 0;
    const Access access = ToAccess(in.accesses[first_ - 1], key);
    const Expected expected = ExpectedFrom(world_.Ask(cpu, access));
    Judge(index, "the first access", first_gva_, expected,
          Look(first_gva_, access));
    fixed_up_ =
        before_ == Before::kNothing && (fix_ups_ >> (first_ - 1) & 1) != 0;
    if (other_registers) {
      world_.SetRegisters(world_.RegistersFor(in.registers));
    }
  }
  if (begin != begin_) {
    world_.SetEntries(begin_);
  } else {
    world_.PutBack(begin_);
  }
  world_.mmu().Invlpg(world_.gva());
  now_ = begin_;
}

Checker::Expected Checker::ExpectedFrom(const OracleResult& result) const {
  Expected expected{.known = true,
                    .allowed = result.kind == OracleResult::Kind::kTranslated,
                    .fault = result.fault,
                    .updates = world_.UpdatesIn(result)};
  if (expected.allowed) expected.hpa = world_.HpaOf(result.gpa);
  return expected;
}

const Checker::Expected& Checker::Expect(size_t access) {
  Expected& expected = expected_[access];
  if (expected.known) return expected;
  world_.ShowOracle(begin_);
  const OracleResult result = world_.Ask(cpu_, accesses_[access]);
  world_.ShowOracle(std::nullopt);
  expected = ExpectedFrom(result);
  expected.excusable = MayBeLetThrough(accesses_[access], result.denied);
  expected.kind = KindOf(result.denied);
  return expected;
}

// ---- Accesses ----

// The walking CPU without a TLB, in the hypervisor's loop.
Checker::Ended Checker::Look(Gva gva, const Access& access) {
  Ended ended;
  VcpuMmu& mmu = world_.mmu();
  CpuModel& cpu = world_.cpu();
  for (int round = 0; round < kMaxRounds; ++round) {
    const FaultOutcome entered = mmu.EnterGuest();
    if (!entered.resume()) {
      ended.what = "no entry into the guest";
      return ended;
    }
    const std::string refused = cpu.Enter(mmu.HardwareState());
    if (!refused.empty()) {
      mmu.ExitGuest();
      ended.what = "the CPU refuses to enter: " + refused;
      return ended;
    }
    found_ = cpu.Peek(gva);
    mmu.ExitGuest();
    if (found_ && cpu.Allows(found_->rights, access)) {
      ended.kind = Ended::Kind::kHit;
      ended.hpa =
          ToHpa(found_->pfn) + (gva.value() % BytesPerEntry(found_->level));
      return ended;
    }
    ++totals_.faults;
    const FaultOutcome outcome = mmu.HandleFault(gva, access);
    if (outcome.kind == FaultOutcome::Kind::kGuestFault) {
      ended.kind = Ended::Kind::kFault;
      ended.fault = outcome.guest_fault;
      return ended;
    }
    ended.changed = true;
    if (outcome.kind != FaultOutcome::Kind::kResume &&
        outcome.kind != FaultOutcome::Kind::kRetry) {
      std::ostringstream text;
      text << outcome;
      ended.what = text.str();
      return ended;
    }
  }
  ended.what = "resolved again and again";
  return ended;
}

// The walking CPU with its TLB.
Checker::Ended Checker::Touch(size_t access) {
  const testing::TouchResult touched =
      world_.guest().Touch(world_.gva(), accesses_[access]);
  totals_.faults += touched.faults;
  found_ = world_.cpu().Peek(world_.gva());
  Ended ended{.changed = true};
  if (touched.hit()) {
    ended.kind = Ended::Kind::kHit;
    ended.hpa = touched.hpa;
  } else if (touched.EndedAs(FaultOutcome::Kind::kGuestFault)) {
    ended.kind = Ended::Kind::kFault;
    ended.fault = touched.outcome.guest_fault;
  } else {
    std::ostringstream text;
    text << touched;
    ended.what = text.str();
  }
  return ended;
}

// ---- Judging ----

bool Checker::Judge(uint64_t index, const char* which, Gva gva,
                    Expected expected, const Ended& ended) {
  const uint64_t beside = gva - world_.gva();
  expected.hpa += beside;
  if (!expected.allowed) expected.fault.address = gva;
  const bool hit = ended.kind == Ended::Kind::kHit;
  bool let_through = false;
  bool right = false;
  if (expected.allowed) {
    right = hit && ended.hpa == expected.hpa;
    now_.pde |= expected.updates.pde;
    now_.pte |= expected.updates.pte;
  } else if (hit) {
    let_through = fixed_up_ && expected.excusable;
    right = let_through && ended.hpa == page_ + beside;
  } else {
    right = ended.kind == Ended::Kind::kFault && ended.fault == expected.fault;
  }
  if (!right) {
    std::ostringstream text;
    text << which << ": expected ";
    if (expected.allowed) {
      text << "success at " << expected.hpa;
    } else {
      text << expected.fault;
    }
    text << ", got ";
    if (hit) {
      text << "success at " << ended.hpa;
    } else if (ended.kind == Ended::Kind::kFault) {
      text << ended.fault;
    } else {
      text << ended.what;
    }
    Difference(index, text.str());
  }
  const EntryValues values = world_.Values();
  if (values != now_) {
    Difference(index, std::string("A and D after ") + which + ": expected " +
                          TextOf(now_) + ", got " + TextOf(values));
  }
  return let_through;
}

// The oracle once more, with the tables as they are.
void Checker::AskAgain(uint64_t index, size_t access) {
  const Expected& expected = Expect(access);
  const OracleResult result = world_.Ask(cpu_, accesses_[access]);
  const EntryValues updates = world_.UpdatesIn(result);
  const bool translated = result.kind == OracleResult::Kind::kTranslated;
  const bool same =
      translated == expected.allowed && result.fault == expected.fault &&
      (!translated || world_.HpaOf(result.gpa) == expected.hpa) &&
      ((allowed_ >> access & 1) != 0) == translated &&
      (now_.pde | updates.pde) == (now_.pde | expected.updates.pde) &&
      (now_.pte | updates.pte) == (now_.pte | expected.updates.pte);
  if (!same) Difference(index, "the oracle, asked again, says something else");
}

Checker::Mask Checker::GrantedBy(const TlbEntry& found) {
  const testing::Rights& rights = found.rights;
  const size_t i = (rights.writable ? 1 : 0) + (rights.user ? 2 : 0) +
                   (rights.executable ? 4 : 0) + size_t{8} * rights.key +
                   (key_ != 0 ? 128 : 0);
  Granted& granted = granted_[i];
  if (!granted.known) {
    granted = {.known = true};
    const size_t accesses = cases_.block(block_).accesses.size();
    for (size_t a = 0; a < accesses; ++a) {
      if (world_.cpu().Allows(rights, accesses_[a])) {
        granted.mask |= Mask{1} << a;
      }
    }
  }
  return granted.mask;
}

// Rule 2.
Checker::Mask Checker::CheckGrants(uint64_t index, const char* where,
                                   const std::optional<TlbEntry>& found,
                                   Mask excused) {
  const Mask granted = found ? GrantedBy(*found) : 0;
  if (granted == 0) return 0;
  if (found->rights.user || !found->rights.writable) excused = 0;
  const Mask wrong = granted & ~allowed_ & ~excused;
  if (wrong != 0) {
    std::ostringstream text;
    text << "afterwards this is granted " << where
         << ", which the guest's tables deny: "
         << accesses_[std::countr_zero(wrong)];
    Difference(index, text.str());
  }
  // A and D bits of what the CPU may do without the library.
  const uint64_t leaf = bits_.large() ? now_.pde : now_.pte;
  const bool accessed = (now_.pde & leaf & kAccessed) != 0;
  if (!accessed || ((granted & writes_) != 0 && (leaf & kDirty) == 0)) {
    std::ostringstream text;
    text << "afterwards this is granted " << where
         << ", and A or D are not set: "
         << accesses_[std::countr_zero(accessed ? granted & writes_ : granted)]
         << ", " << TextOf(now_);
    Difference(index, text.str());
  }
  return granted & excused;
}

void Checker::Difference(uint64_t index, const std::string& what) {
  ++totals_.differences;
  ready_ = false;
  if (reports_.size() >= kMostReports) return;
  const Case c = cases_.At(index);
  std::ostringstream text;
  text << "case " << index << " of " << NameOf(c.mode) << ": " << what
       << "\n  registers  " << c.registers << "\n  entries    "
       << TextOf(begin_);
  if ((bits_.pde & bit::kHost2M) != 0) text << ", host page of 2 MiB";
  if ((bits_.pde & bit::kChangedBetween) != 0) {
    text << ", changed between (at the first access " << NameOf(before_)
         << " was another)";
  }
  text << "\n  first      ";
  if (c.first == 0) {
    text << "none";
  } else {
    text << accesses_[c.first - 1];
  }
  text << "\n  access     " << accesses_[c.access] << "\n  shadow     ";
  if (found_) {
    text << *found_;
  } else {
    text << "nothing";
  }
  reports_.push_back(text.str());
}

}  // namespace shadowmmu::exhaustive
