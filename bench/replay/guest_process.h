// GuestProcess: what the guest's kernel knows of one address space. The tables
// themselves lie in guest memory; this is the kernel's book about them.

#ifndef SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_
#define SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "shadowmmu/address.h"

namespace shadowmmu::replay {

struct GuestProcess {
  enum class Ownership : uint8_t {
    kShared,   // read-only, the same frame in every process
    kPrivate,  // this process's own
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

  Gfn root;
  // Below the root.
  absl::flat_hash_map<TableKey, Gfn> tables;
  absl::flat_hash_map<uint64_t, Page> pages;  // by page number
};

}  // namespace shadowmmu::replay

#endif  // SHADOWMMU_BENCH_REPLAY_GUEST_PROCESS_H_
