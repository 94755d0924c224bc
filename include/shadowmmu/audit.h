// The audit: checks every invariant of docs/invariants.md, both ways, over
// every slot and every shadow page.
//
// It is cheap enough to run after every step of a test on a small VM: its time
// is linear in tables, sptes and chunks. Call it wherever you would like to be
// sure; it is the same code that the library's own tests run after each step.

#ifndef SHADOWMMU_AUDIT_H_
#define SHADOWMMU_AUDIT_H_

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "shadowmmu/mmu.h"

namespace shadowmmu {

struct AuditReport {
  // One line for each thing that is wrong, in plain words, beginning with the
  // number of the invariant: "invariant 1: spte ... sits in no rmap".
  std::vector<std::string> violations;
  // What was looked at: an audit that saw nothing proves nothing.
  uint64_t pages = 0;
  uint64_t sptes = 0;
  uint64_t rmap_entries = 0;
  uint64_t slots = 0;

  bool ok() const { return violations.empty(); }
};

// Takes the MMU lock for its whole length: other threads may go on, and wait.
// May throw std::bad_alloc.
AuditReport Audit(const Mmu& mmu);

std::ostream& operator<<(std::ostream& os, const AuditReport& report);

}  // namespace shadowmmu

#endif  // SHADOWMMU_AUDIT_H_
