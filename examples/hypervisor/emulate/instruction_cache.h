// InstructionCache: instructions that were decoded before. A guest's kernel
// exits at the same few instructions, and to decode one takes longer than to
// execute it.
//
//  1. An entry is found by all that decoding depends on: mode, rIP and bytes.
//  So
//     code that changes needs no invalidation.
//
// Thread safety: one thread at a time per object.

#ifndef HYPERVISOR_EMULATE_INSTRUCTION_CACHE_H_
#define HYPERVISOR_EMULATE_INSTRUCTION_CACHE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "emulate/cpu_state.h"
#include "emulate/instruction.h"

namespace hypervisor {

class InstructionCache {
 public:
  // nullptr: it is not here. Good until the next Keep.
  const Instruction* Find(CpuMode mode, uint64_t rip,
                          std::span<const std::byte> bytes) const {
    const Entry& entry = entries_[PlaceOf(rip)];
    const bool same =
        entry.rip == rip && entry.bytes == bytes.size() &&
        entry.instruction.mode == mode &&
        std::equal(bytes.begin(), bytes.end(), entry.instruction.bytes.begin(),
                   [](std::byte a, uint8_t b) {
                     return static_cast<uint8_t>(a) == b;
                   });
    return same ? &entry.instruction : nullptr;
  }
  // What `bytes` bytes at `rip` were decoded to; in another one's place.
  void Keep(uint64_t rip, size_t bytes, const Instruction& instruction) {
    entries_[PlaceOf(rip)] = {rip, bytes, instruction};
  }

 private:
  static constexpr size_t kEntries = 512;
  struct Entry {
    uint64_t rip = 0;
    size_t bytes = 0;  // 0: empty; no instruction has none
    Instruction instruction;
  };
  static size_t PlaceOf(uint64_t rip) { return (rip ^ rip >> 9) % kEntries; }

  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_INSTRUCTION_CACHE_H_
