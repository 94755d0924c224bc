#include "bench/replay/refill_book.h"

namespace shadowmmu::replay {
namespace {

uint64_t PageOf(Gva gva) { return gva.value() >> kPageShift; }

constexpr uint32_t BitOf(AccessType type) {
  return 1u << static_cast<unsigned>(type);
}

// The kernel's write to a page that is mapped, and not for writing: its own map
// forbids none.
bool WasForbidden(const Access& access) {
  return access.privilege == Privilege::kSupervisor &&
         access.type == AccessType::kWrite &&
         (access.reported_error.value_or(0) & pf_error::kPresent) != 0;
}

}  // namespace

void RefillBook::NoteThrough(Gva gva, AccessType type) {
  Record& record = spaces_[process_][PageOf(gva)];
  record.stay = stay_;
  record.types |= BitOf(type) | BitOf(AccessType::kRead);
}

void RefillBook::NoteFill(Gva gva, const Access& access) {
  const auto space = spaces_.find(process_);
  if (space == spaces_.end()) return;
  const auto found = space->second.find(PageOf(gva));
  if (found == space->second.end()) return;
  const Record& record = found->second;
  if ((record.types & BitOf(access.type)) == 0 || WasForbidden(access)) return;
  ++(record.stay == stay_ ? counts_.other : counts_.after_switch);
}

void RefillBook::NoteChange(ProcessId process, Gva gva) {
  const auto space = spaces_.find(process);
  if (space != spaces_.end()) space->second.erase(PageOf(gva));
}

}  // namespace shadowmmu::replay
