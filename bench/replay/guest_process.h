// GuestProcess: what the guest's kernel knows of one address space. The tables
// themselves lie in guest memory; this is the kernel's book about them.
//
// Both books are in order, so that what goes through them does so the same way
// in every run.

#ifndef SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_
#define SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_

#include <cstdint>
#include <utility>

#include "absl/container/btree_map.h"
#include "bench/replay/refill_book.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

// Where mmap puts its regions: memory without a file. What lies elsewhere is
// the program's image.
inline constexpr Gva kMapArea{0x7e00'0000'0000};
inline constexpr Gva kMapAreaEnd{0x7f00'0000'0000};

constexpr bool IsAnonymous(Gva gva) {
  return gva >= kMapArea && gva < kMapAreaEnd;
}

struct GuestProcess {
  enum class Ownership : uint8_t {
    kShared,       // of a file, or the zero page: read-only, the same frame in
                   // every process
    kCopyOnWrite,  // read-only since a fork: the process's own once nobody else
                   // has it
    kPrivate,      // this process's own
  };
  struct Page {
    Gfn frame;
    Ownership ownership = Ownership::kShared;
    bool executable = false;
  };
  // A table: its level, and the address bits that lead to it.
  using TableKey = std::pair<Level, uint64_t>;
  static TableKey KeyOf(Level level, Gva gva) {
    return {level, gva.value() / (BytesPerEntry(level) * kEntriesPerTable)};
  }

  ProcessId id{};
  Gfn root;
  // Below the root.
  absl::btree_map<TableKey, Gfn> tables = {};
  absl::btree_map<uint64_t, Page> pages = {};  // by page number
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_
