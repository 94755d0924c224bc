#include "bench/replay/synthetic_program.h"

namespace shadowmmu::replay {
namespace {

using testing::Choices;

// Of one turn.
constexpr uint64_t kWorkingPages = 24;  // of the heap
constexpr uint64_t kLoops = 4;          // through them
constexpr uint64_t kStoreChance = 60;   // per cent

constexpr uint32_t kWord = 8;
constexpr uint64_t kLine = 64;

TraceAccess In(Choices* choices, Gva page, TraceKind kind) {
  return {page + choices->Below(kPageSize / kLine) * kLine, kWord, kind};
}

TraceKind StoreOrLoad(Choices* choices, uint64_t chance) {
  return choices->Percent(chance) ? TraceKind::kStore : TraceKind::kLoad;
}

}  // namespace

void AppendTurn(Choices* choices, std::vector<TraceAccess>* accesses) {
  const uint64_t first = choices->Below(kProgramHeapPages - kWorkingPages + 1);
  uint64_t text = choices->Below(kProgramTextPages);
  for (uint64_t i = 0; i < kLoops * kWorkingPages; ++i) {
    if (choices->Percent(10)) text = choices->Below(kProgramTextPages);
    accesses->push_back(
        In(choices, kProgramText + text * kPageSize, TraceKind::kFetch));
    const Gva heap = kProgramHeap + (first + i % kWorkingPages) * kPageSize;
    accesses->push_back(In(choices, heap, StoreOrLoad(choices, kStoreChance)));
    const uint64_t depth = 1 + choices->Below(kProgramStackPages);
    const Gva stack(kProgramStack.value() - depth * kPageSize);
    accesses->push_back(In(choices, stack, TraceKind::kStore));
  }
}

void AppendTouches(Choices* choices, Gva begin, uint64_t pages,
                   std::vector<TraceAccess>* accesses) {
  constexpr uint64_t kWrites = 80;  // per cent
  for (uint64_t page = 0; page < pages; ++page) {
    accesses->push_back(
        In(choices, begin + page * kPageSize, StoreOrLoad(choices, kWrites)));
  }
}

}  // namespace shadowmmu::replay
