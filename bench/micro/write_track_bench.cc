// WriteTrack/store and WriteTrack/reuse/flooding:<0|3>: what it costs that
// guest tables are write-protected.
//
// store: GuestWrite of one entry that nothing is made from, into a table that
// stays tracked (a vCPU's root). Figures are per store.
//
// reuse: a guest gives a page directory up, and fills its page with 512 words
// of data. (A page table would be unsync after the first.) The first store to a
// page that is tracked faults, is emulated by the library, and so on, until a
// store finds the page writable. `exits` is how many did not. With write
// flooding off all are exits. Figures are per store. Not timed, because it is
// not there: the exit and the entry of a real CPU, which cost several times as
// much.

#include <sys/mman.h>

#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/micro/bench_vm.h"
#include "bench/micro/meter.h"
#include "bench/micro/registry.h"
#include "src/base/check.h"
#include "src/mmu/invalidate.h"
#include "src/mmu/spte.h"

namespace shadowmmu::bench {
namespace {

constexpr uint64_t kPages = 16;
// The guest's tables, from the root down, and a data page.
constexpr Gfn kRoot{0};
constexpr Gfn kDirectory{2};
constexpr Gfn kPageTable{3};
constexpr Gfn kDataPage{8};

// The memory of a guest with four tables, which map kDataPage at address 0.
class GuestMemory {
 public:
  GuestMemory() {
    void* const memory =
        mmap(nullptr, kPages << kPageShift, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SMMU_CHECK(memory != MAP_FAILED) << "no memory for the guest";
    words_ = static_cast<uint64_t*>(memory);
    Link(0, Gfn(1));
    Link(1, kDirectory);
    LinkPageTable();
    Link(kPageTable.value(), kDataPage);
  }
  ~GuestMemory() { munmap(words_, kPages << kPageShift); }
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  SlotSpec slot() const {
    return {.id = SlotId{0},
            .base = Gfn(0),
            .pages = kPages,
            .hva = Hva(reinterpret_cast<uintptr_t>(words_))};
  }
  void LinkPageTable() { Link(kDirectory.value(), kPageTable); }
  uint64_t& Word(Gpa gpa) { return words_[gpa.value() / sizeof(uint64_t)]; }

 private:
  void Link(uint64_t table, Gfn target) {
    Word(ToGpa(Gfn(table))) = ToGpa(target).value() | pte::kPresent |
                              pte::kWritable | pte::kUser | pte::kAccessed |
                              pte::kDirty;
  }

  uint64_t* words_ = nullptr;
};

// A vCPU on the tables.
VcpuMmu& AddRunner(BenchVm& vm) {
  VcpuMmu& vcpu = vm.AddVcpu();
  const absl::Status four_levels =
      vcpu.SetRegisters({.cr0 = cr0::kPe | cr0::kWp | cr0::kPg,
                         .cr3 = ToGpa(kRoot).value(),
                         .cr4 = cr4::kPae,
                         .efer = efer::kLme | efer::kLma | efer::kNxe});
  SMMU_CHECK(four_levels.ok()) << four_levels.ToString();
  return vcpu;
}

bool Store(BenchVm& vm, Gpa gpa, uint64_t value) {
  return vm.mmu()
      .GuestWrite(AddressSpace::kNormal, gpa,
                  std::as_bytes(std::span<const uint64_t, 1>(&value, 1)))
      .resume();
}

void RunStore(benchmark::State& state) {
  constexpr uint64_t kStores = 100'000;
  GuestMemory memory;
  BenchVm vm(/*tables=*/64);
  vm.AddSlot(memory.slot());
  BenchVm::PassThroughGuest(AddRunner(vm));
  const Gpa entry = ToGpa(kRoot) + kPageSize / 2;
  Measure(state, kStores, [&](Meter& meter) -> std::string {
    uint64_t refused = 0;
    const uint64_t before = vm.mmu().GetStats().guest_table_writes;
    meter.Start();
    for (uint64_t i = 0; i < kStores; ++i) {
      if (!Store(vm, entry, i << 1)) ++refused;
    }
    meter.Stop();
    if (refused != 0) return absl::StrCat(refused, " stores were refused");
    if (vm.mmu().GetStats().guest_table_writes - before != kStores) {
      return "the table is tracked no longer";
    }
    return vm.ExpectSptes(0);
  });
}

// The guest's store of `value` through a vCPU with paging off, which has the
// page mapped writable if `writable`. Returns whether it exited.
bool StoreOrExit(BenchVm& vm, VcpuMmu& writer, GuestMemory& memory, Gpa gpa,
                 uint64_t value, bool& writable) {
  if (writable) {
    memory.Word(gpa) = value;
    return false;
  }
  const FaultOutcome outcome = writer.HandleFault(Gva(gpa.value()), Write());
  writable = outcome.resume();
  if (writable) {
    memory.Word(gpa) = value;
  } else {
    SMMU_CHECK(Store(vm, gpa, value));
  }
  return true;
}

void RunReuse(benchmark::State& state, uint32_t flooding) {
  constexpr uint64_t kStores = kPageSize / sizeof(uint64_t);
  GuestMemory memory;
  BenchVm vm(/*tables=*/64, {.write_flooding = flooding});
  vm.AddSlot(memory.slot());
  VcpuMmu& runner = AddRunner(vm);
  VcpuMmu& writer = vm.AddVcpu();
  Measure(state, kStores, [&](Meter& meter) -> std::string {
    ZapAll(vm.vm());
    memory.LinkPageTable();
    BenchVm::PassThroughGuest(runner);
    BenchVm::PassThroughGuest(writer);
    if (!runner.HandleFault(Gva(0), Write()).resume()) return "nothing mapped";
    uint64_t exits = 0;
    bool writable = false;
    meter.Start();
    for (uint64_t i = 0; i < kStores; ++i) {
      const Gpa gpa = ToGpa(kDirectory) + i * sizeof(uint64_t);
      if (StoreOrExit(vm, writer, memory, gpa, i << 1, writable)) ++exits;
    }
    meter.Stop();
    meter.Note("exits", static_cast<double>(exits));
    if (flooding == 0 ? exits != kStores : exits > 8) {
      return absl::StrCat(exits, " stores were exits");
    }
    return "";
  });
}

}  // namespace

void RegisterWriteTrack() {
  Register("WriteTrack/store",
           [](benchmark::State& state) { RunStore(state); });
  for (const uint32_t flooding : {0u, MmuConfig{}.write_flooding}) {
    Register(absl::StrCat("WriteTrack/reuse/flooding:", flooding),
             [=](benchmark::State& state) { RunReuse(state, flooding); });
  }
}

}  // namespace shadowmmu::bench
