// Access to memory that other threads, and the guest, touch at the same time.
//
// Bytes move in the longest naturally aligned words that fit, each in one
// sequentially consistent atomic access: an aligned access of 2, 4 or 8 bytes
// is never torn, and ThreadSanitizer sees no race.
//
// Thread safety: that is the point.

#ifndef SHADOWMMU_TESTS_HARNESS_SHARED_WORDS_H_
#define SHADOWMMU_TESTS_HARNESS_SHARED_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "shadowmmu/host.h"

namespace shadowmmu::testing {

void LoadShared(std::byte* from, std::span<std::byte> out);
void StoreShared(std::byte* to, std::span<const std::byte> bytes);
// Compare-exchange of 1, 2, 4 or 8 bytes, naturally aligned (a CHECK), with the
// results of Host::TryCompareExchange.
ExchangeResult ExchangeShared(std::byte* at, unsigned size, uint64_t* expected,
                              uint64_t desired);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SHARED_WORDS_H_
