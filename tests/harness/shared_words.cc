#include "tests/harness/shared_words.h"

#include <atomic>
#include <cstring>

#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

// The longest naturally aligned word at `at` that `left` bytes hold.
size_t WordAt(const std::byte* at, size_t left) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  for (size_t size : {size_t{8}, size_t{4}, size_t{2}}) {
    if (left >= size && address % size == 0) return size;
  }
  return 1;
}

template <typename Word>
std::atomic_ref<Word> Ref(std::byte* at) {
  return std::atomic_ref<Word>(*reinterpret_cast<Word*>(at));
}

template <typename Word>
void LoadWord(std::byte* from, std::byte* to) {
  const Word word = Ref<Word>(from).load();
  std::memcpy(to, &word, sizeof(word));
}

template <typename Word>
void StoreWord(std::byte* to, const std::byte* from) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  Ref<Word>(to).store(word);
}

template <typename Word>
ExchangeResult Exchange(std::byte* at, uint64_t* expected, uint64_t desired) {
  auto old = static_cast<Word>(*expected);
  const bool exchanged =
      Ref<Word>(at).compare_exchange_strong(old, static_cast<Word>(desired));
  if (exchanged) return ExchangeResult::kExchanged;
  *expected = old;
  return ExchangeResult::kDifferent;
}

}  // namespace

void LoadShared(std::byte* from, std::span<std::byte> out) {
  while (!out.empty()) {
    const size_t size = WordAt(from, out.size());
    if (size == 8) LoadWord<uint64_t>(from, out.data());
    if (size == 4) LoadWord<uint32_t>(from, out.data());
    if (size == 2) LoadWord<uint16_t>(from, out.data());
    if (size == 1) LoadWord<uint8_t>(from, out.data());
    from += size;
    out = out.subspan(size);
  }
}

void StoreShared(std::byte* to, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t size = WordAt(to, bytes.size());
    if (size == 8) StoreWord<uint64_t>(to, bytes.data());
    if (size == 4) StoreWord<uint32_t>(to, bytes.data());
    if (size == 2) StoreWord<uint16_t>(to, bytes.data());
    if (size == 1) StoreWord<uint8_t>(to, bytes.data());
    to += size;
    bytes = bytes.subspan(size);
  }
}

ExchangeResult ExchangeShared(std::byte* at, unsigned size, uint64_t* expected,
                              uint64_t desired) {
  SMMU_CHECK(size == 1 || size == 2 || size == 4 || size == 8) << size;
  SMMU_CHECK_EQ(reinterpret_cast<uintptr_t>(at) % size, 0u);
  if (size == 1) return Exchange<uint8_t>(at, expected, desired);
  if (size == 2) return Exchange<uint16_t>(at, expected, desired);
  if (size == 4) return Exchange<uint32_t>(at, expected, desired);
  return Exchange<uint64_t>(at, expected, desired);
}

}  // namespace shadowmmu::testing
