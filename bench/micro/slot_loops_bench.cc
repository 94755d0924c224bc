// Slots/memslot_perf/<loop>/slots:<S>: the six loops of the memslot_perf test
// of Linux, on 512 MiB in S slots: what the host does in them, and the faults
// that the guest takes. The guest is a vCPU with paging off, which writes;
// there is no CPU that runs it.
//
//   map             a fault for each page; per page
//   unmap           the host takes all memory away in two halves; per page
//   unmap_chunked   the same, 2 MiB at a time; per page
//   move_active     the last slot is moved away and back, while half of the 256
//                   pages that the guest uses lie in it; per move
//   move_inactive   the same, while none of them do; per move
//   rw              the hypervisor reads and writes 8 bytes of each page of the
//                   first 64 MiB; per page

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/meter.h"
#include "bench/micro/options.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"

namespace shadowmmu::bench {
namespace {

constexpr AddressSpace kSpace = AddressSpace::kNormal;
// Beyond all slots, and below the 4 GiB that a guest without paging reaches.
constexpr Gfn kFarAway{uint64_t{1} << 19};

class Guest {
 public:
  explicit Guest(uint32_t slots)
      : pages_(TheOptions().small() ? 4096 : uint64_t{1} << 17),
        slots_(slots),
        vm_(static_cast<uint32_t>(2 * pages_ / kEntriesPerTable)),
        vcpu_(vm_.AddVcpu()) {
    memory_ = mmap(nullptr, pages_ << kPageShift, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SMMU_CHECK(memory_ != MAP_FAILED) << "no memory for the guest";
    for (uint32_t i = 0; i < slots; ++i) vm_.AddSlot(Slot(i));
  }
  ~Guest() { munmap(memory_, pages_ << kPageShift); }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  uint64_t pages() const { return pages_; }
  BenchVm& vm() { return vm_; }
  Mmu& mmu() { return vm_.mmu(); }
  VcpuMmu& vcpu() { return vcpu_; }

  // Slots of equal size; the last one takes what is left.
  SlotSpec Slot(uint32_t number) const {
    const uint64_t size = pages_ / slots_;
    const Gfn base(number * size);
    return {.id = SlotId{number},
            .base = base,
            .pages = number + 1 == slots_ ? pages_ - base.value() : size,
            .hva = HvaOf(base)};
  }
  SlotSpec LastSlot() const { return Slot(slots_ - 1); }
  HvaRange Memory(GfnRange gfns) const {
    return {HvaOf(gfns.begin), gfns.pages << kPageShift};
  }

  // Before Touch is timed.
  void Enter() { BenchVm::PassThroughGuest(vcpu_); }
  // The guest writes each page; how many of the faults did not resolve.
  uint64_t Touch(GfnRange gfns) {
    uint64_t bad = 0;
    for (Gfn gfn = gfns.begin; gfn < gfns.end(); gfn += 1) {
      if (!vcpu_.HandleFault(Gva(ToGpa(gfn).value()), Write()).resume()) ++bad;
    }
    return bad;
  }
  // The host takes memory away, and puts something else there.
  void Unmap(GfnRange gfns) {
    SMMU_CHECK(mmu().InvalidateBegin(Memory(gfns)).ok());
    SMMU_CHECK(mmu().InvalidateEnd(Memory(gfns)).ok());
  }

 private:
  Hva HvaOf(Gfn gfn) const {
    return Hva(reinterpret_cast<uintptr_t>(memory_) + ToGpa(gfn).value());
  }

  const uint64_t pages_;
  const uint32_t slots_;
  BenchVm vm_;
  VcpuMmu& vcpu_;
  void* memory_ = nullptr;
};

void MapLoop(benchmark::State& state, uint32_t slots) {
  Guest guest(slots);
  const GfnRange all{Gfn(0), guest.pages()};
  Measure(state, all.pages, [&](Meter& meter) -> std::string {
    guest.Enter();
    meter.Start();
    const uint64_t bad = guest.Touch(all);
    meter.Stop();
    if (bad != 0) return absl::StrCat(bad, " faults are not over");
    std::string wrong = guest.vm().ExpectSptes(all.pages);
    guest.Unmap(all);
    return wrong;
  });
}

void UnmapLoop(benchmark::State& state, uint32_t slots, uint64_t chunk) {
  Guest guest(slots);
  const GfnRange all{Gfn(0), guest.pages()};
  if (chunk == 0) chunk = all.pages / 2;
  Measure(state, all.pages, [&](Meter& meter) -> std::string {
    guest.Touch(all);
    std::string wrong = guest.vm().ExpectSptes(all.pages);
    meter.Start();
    for (Gfn gfn(0); gfn < all.end(); gfn += chunk) guest.Unmap({gfn, chunk});
    meter.Stop();
    return wrong.empty() ? guest.vm().ExpectSptes(0) : wrong;
  });
}

enum class Area : uint8_t { kActive, kInactive };

void MoveLoop(benchmark::State& state, uint32_t slots, Area area) {
  constexpr uint64_t kUsed = 256;
  Guest guest(slots);
  const SlotSpec moved = guest.LastSlot();
  // With a single slot everything is in it.
  const uint64_t before =
      std::min(moved.base.value(), area == Area::kActive ? kUsed / 2 : kUsed);
  const uint64_t inside =
      std::min(area == Area::kActive ? kUsed / 2 : 0, moved.pages);
  const GfnRange used{moved.base - before, before + inside};
  Measure(state, 2, [&](Meter& meter) -> std::string {
    ZapAll(guest.vm().vm());
    if (guest.Touch(used) != 0) return "the guest cannot use its memory";
    std::string wrong = guest.vm().ExpectSptes(used.pages);
    meter.Start();
    const absl::Status away = guest.mmu().MoveSlot(kSpace, moved.id, kFarAway);
    const absl::Status back =
        guest.mmu().MoveSlot(kSpace, moved.id, moved.base);
    meter.Stop();
    if (!away.ok()) return away.ToString();
    if (!back.ok()) return back.ToString();
    if (guest.mmu().FindSlot(kSpace, moved.id) != moved) {
      return "the slot is not back";
    }
    return wrong;
  });
}

void ReadWriteLoop(benchmark::State& state, uint32_t slots) {
  Guest guest(slots);
  const uint64_t pages = std::min<uint64_t>(guest.pages(), 1 << 14);
  uint64_t round = 0;
  Measure(state, pages, [&](Meter& meter) -> std::string {
    uint64_t bad = 0;
    ++round;
    meter.Start();
    for (uint64_t i = 0; i < pages; ++i) {
      std::array<std::byte, 8> word;
      const Gpa gpa = ToGpa(Gfn(i));
      std::memcpy(word.data(), &round, sizeof(round));
      if (!guest.mmu().GuestWrite(kSpace, gpa, word).resume()) ++bad;
      word = {};
      if (!guest.mmu().GuestRead(kSpace, gpa, word).resume()) ++bad;
      if (std::memcmp(word.data(), &round, sizeof(round)) != 0) ++bad;
    }
    meter.Stop();
    return bad == 0 ? "" : "memory does not hold what was written";
  });
}

template <typename Loop>
void RegisterLoop(const char* name, uint32_t slots, Loop loop) {
  Register(absl::StrCat("Slots/memslot_perf/", name, "/slots:", slots),
           [slots, loop](benchmark::State& state) { loop(state, slots); });
}

}  // namespace

void RegisterSlotLoops() {
  std::vector<uint32_t> counts{1, 512};
  if (!TheOptions().small()) counts.push_back(32764);
  for (const uint32_t slots : counts) {
    RegisterLoop("map", slots, MapLoop);
    RegisterLoop("unmap", slots, [](benchmark::State& state, uint32_t count) {
      UnmapLoop(state, count, 0);
    });
    RegisterLoop("unmap_chunked", slots,
                 [](benchmark::State& state, uint32_t count) {
                   UnmapLoop(state, count, PagesPerEntry(Level::k2M));
                 });
    RegisterLoop("move_active", slots,
                 [](benchmark::State& state, uint32_t count) {
                   MoveLoop(state, count, Area::kActive);
                 });
    RegisterLoop("move_inactive", slots,
                 [](benchmark::State& state, uint32_t count) {
                   MoveLoop(state, count, Area::kInactive);
                 });
    RegisterLoop("rw", slots, ReadWriteLoop);
  }
}

}  // namespace shadowmmu::bench
