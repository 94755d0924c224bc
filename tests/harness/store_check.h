// StoreCheck: did an emulated store, compare-exchange or read do what it says?
//
//  1. Page by page, from the first byte on: the first page that refuses decides
//     the outcome; the pages before it are written, the rest are not.
//  2. A page refuses for want of a slot, as a read-only slot (stores only),
//     because a notifier has it in progress (kRetry), or because the host has
//     it unmapped or read-only (kMemoryFault).
//  3. A check brings the world's memory up to date; that the real memory is the
//     same is for the caller to see, who learns which frames to compare.
//
// A check returns what is wrong, in words; empty if nothing.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_STORE_CHECK_H_
#define SHADOWMMU_TESTS_HARNESS_STORE_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shadowmmu/address.h"
#include "shadowmmu/fault.h"
#include "tests/harness/backend.h"
#include "tests/harness/world.h"

namespace shadowmmu::testing {

class StoreCheck {
 public:
  // Not owned.
  explicit StoreCheck(World* world) : world_(world) {}

  std::string CheckWrite(AddressSpace space, Gpa gpa,
                         std::span<const std::byte> bytes,
                         const FaultOutcome& outcome);
  std::string CheckRead(AddressSpace space, Gpa gpa, const OpResult& result);
  // `expected` and `desired` are cut to `size` bytes.
  std::string CheckExchange(AddressSpace space, Gpa gpa, uint32_t size,
                            uint64_t expected, uint64_t desired,
                            const OpResult& result);

  // Host frames that the last check wrote or would have.
  const std::vector<uint32_t>& frames() const { return frames_; }

 private:
  enum class Use : uint8_t { kRead, kWrite };
  // Must, or may, the page at `gpa` refuse with `outcome`?
  enum class Verdict : uint8_t { kGoesThrough, kRefuses, kWrong };
  Verdict Judge(AddressSpace space, Gpa gpa, Use use,
                const FaultOutcome& outcome) const;

  World* const world_;
  std::vector<uint32_t> frames_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_STORE_CHECK_H_
