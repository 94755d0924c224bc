// AccessCheck: did an access of a guest end as the manuals say?
//
//  1. What the oracle says before the op is what the op must come to: the same
//     guest fault, the same reason to emulate, the same place in host memory,
//     and A and D set in the guest's entries exactly where the oracle sets
//     them.
//  2. kRetry only where a notifier has the page or one of its tables in
//     progress; kMemoryFault only where the host refuses one of them, or a
//     table lies outside the slots; kNoMemory only when an allocation was made
//     to fail.
//  3. Where the walk reads a tainted entry (taint.h), and the access goes
//     through with no fault, it may go anywhere, and A and D may be set, but
//     only where the oracle sets them. So where the translation may be stale
//     (World::MayBeStale), unless the access faulted on its way: a fault looks
//     at the guest's tables. (But one of a CPU whose own translation has too
//     few rights comes to nothing where a notifier is in the way of what the
//     tables say now, and the CPU goes on with the stale one.) The first access
//     after an INVLPG of its page is never excused.
//  4. The CPU that walks shadow tables always has CR0.WP set. Where the guest
//     has not, a user page that only its supervisor may write is mapped as a
//     supervisor page ("fix-up"), which asks neither SMAP nor the protection
//     key. So there an access of supervisor code which nothing but these denies
//     may go through to where the page is, if its A (and D) bits are all set.
//     Such excuses are counted. No other access is excused so.
//
// Use: Begin before the op, then one Check, which also brings the world's
// memory up to date with the A and D bits. A check returns what is wrong, in
// words; empty if nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_ACCESS_CHECK_H_
#define SHADOWMMU_TESTS_HARNESS_ACCESS_CHECK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "tests/harness/backend.h"
#include "tests/harness/oracle.h"
#include "tests/harness/world.h"

namespace shadowmmu::testing {

// Did the host fail an allocation in the course of the op?
enum class Allocations : uint8_t { kAllWell, kSomeFailed };

class AccessCheck {
 public:
  // An access, and what it must come to.
  struct Case {
    uint32_t vcpu = 0;
    AddressSpace space = AddressSpace::kNormal;
    Gva gva;
    Access access;
    OracleResult truth;
    // Rule 4: `truth`, if SMAP and the key asked nothing; absent where the rule
    // does not apply.
    std::optional<OracleResult> fixup;
    bool tainted = false;
    bool stale = false;        // or may be: World::MayBeStale
    std::vector<Gfn> roots;    // tables of the root
    bool cr3_outside = false;  // of all slots: no root can be made
    bool interrupted = false;  // the world changed in the middle of it

    bool write() const { return access.type == AccessType::kWrite; }
  };

  // Not owned.
  AccessCheck(World* world, Backend* backend)
      : world_(world), backend_(backend) {}

  Case Begin(uint32_t vcpu, Gva gva, const Access& access);
  // The vCPU executed INVLPG, and nothing has happened since.
  void NoteInvlpg(uint32_t vcpu, Gva gva) { flushed_ = Flushed{vcpu, gva}; }
  // Something has.
  void ForgetInvlpg() { flushed_.reset(); }
  // The world changes in the middle of an access: Pause before, Resume after.
  // What A and D bits the first half has set are taken over; the second half
  // must come to what the oracle says now.
  std::string Pause(const Case& c) { return Settle(c, Bits::kSoFar); }
  void Resume(Case* c);
  // For touch and store; the store itself comes after this.
  std::string CheckTouch(const Case& c, const OpResult& result,
                         Allocations allocations);
  std::string CheckTranslate(const Case& c, const OpResult& result,
                             Allocations allocations);
  // Of a vCPU that was outside.
  std::string CheckEnter(uint32_t vcpu, const OpResult& result,
                         Allocations allocations);

  // Need the access have come to what the oracle says?
  bool MustAgree(const Case& c, const OpResult& result) const {
    return !c.tainted && !(c.stale && (result.faults == 0 || MayRetry(c)));
  }
  // How many accesses rule 4 has excused.
  uint64_t excused() const { return excused_; }

  // Host frames that an access may have changed: those of its tables, and of
  // its page.
  std::vector<uint32_t> Frames(const Case& c) const;

 private:
  bool IsRootOutside(const VcpuModel& model,
                     const std::vector<Gfn>& roots) const;
  bool AnyInProgress(AddressSpace space, const std::vector<Gfn>& tables) const;
  bool MayRetry(const Case& c) const;
  bool UpdateRefused(const Case& c) const;
  std::optional<OracleResult> FixupOf(const VcpuModel& model,
                                      const Case& c) const;
  std::optional<World::Page> TargetOf(const Case& c) const;
  std::string CheckEnd(const Case& c, const FaultOutcome& outcome) const;
  std::string CheckHit(const Case& c, Hpa hpa) const;
  std::string CheckFixup(const Case& c, Hpa hpa);
  std::string CheckMemoryFault(const Case& c,
                               const FaultOutcome& outcome) const;
  std::string CheckEmulate(const Case& c, const FaultOutcome& outcome) const;
  // Takes over the A and D bits that the op set: all that it had to, or those
  // that are there now, before or after what the access itself may store.
  enum class Bits : uint8_t { kAll, kSoFar, kSome };
  std::string Settle(const Case& c, Bits bits);

  struct Flushed {
    uint32_t vcpu = 0;
    Gva gva;
  };

  World* const world_;
  Backend* const backend_;
  std::optional<Flushed> flushed_;
  uint64_t excused_ = 0;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_ACCESS_CHECK_H_
