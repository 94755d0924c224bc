// GuestFlushes: when the guest of a vCPU last flushed what may be cached: all
// of it, that of one PCID, or one page of a PCID.
//
// Thread safety: a value.

#ifndef SHADOWMMU_TESTS_HARNESS_GUEST_FLUSHES_H_
#define SHADOWMMU_TESTS_HARNESS_GUEST_FLUSHES_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "shadowmmu/address.h"
#include "tests/harness/taint.h"

namespace shadowmmu::testing {

class GuestFlushes {
 public:
  void NoteAll(Taint::Time now) {
    *this = GuestFlushes();
    all_ = now;
  }
  void NotePcid(uint64_t pcid, Taint::Time now) { pcid_[pcid] = now; }
  void NotePage(uint64_t pcid, Gva gva, Taint::Time now) {
    page_[{pcid, gva.value() >> kPageShift}] = now;
  }

  // The last one that covers the page of `gva`; 0: none.
  Taint::Time Last(uint64_t pcid, Gva gva) const {
    return std::max({all_, Find(pcid_, pcid),
                     Find(page_, {pcid, gva.value() >> kPageShift})});
  }

  friend bool operator==(const GuestFlushes&, const GuestFlushes&) = default;

 private:
  using Page = std::pair<uint64_t, uint64_t>;
  template <typename Key>
  static Taint::Time Find(const std::map<Key, Taint::Time>& times,
                          const Key& key) {
    const auto found = times.find(key);
    return found == times.end() ? 0 : found->second;
  }

  Taint::Time all_ = 0;
  std::map<uint64_t, Taint::Time> pcid_;
  std::map<Page, Taint::Time> page_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_GUEST_FLUSHES_H_
