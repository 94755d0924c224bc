// BusyVm: a VM under everything at once, in steps that any number of threads
// may take: a guest that touches memory, edits its tables (trapped and not),
// flushes or does not, switches processes and WP; and others, who take memory
// away, move it and give it back, age it, make, move, change and delete slots,
// log what is dirty, invalidate by every strategy, press on the page limit, and
// look.
//
//   BusyVm vm({.vcpus = 3});
//   ... in a thread for each vCPU:   Rng rng(v);  while (...) vm.StepVcpu(v,
//   rng);
//   ... in threads of others:        Rng rng(100);  while (...)
//   vm.StepOther(rng); EXPECT_EQ(vm.wrong(), "");
//
// All vCPUs map the same data, so that their sptes meet in chains, and all
// tables of all vCPUs, so that tables map each other. The steps of others are
// free to get in each other's way: that a slot is there already, or is not, is
// no fault.
//
// Thread safety: StepVcpu by one thread for each vCPU; the rest by any.

#ifndef SHADOWMMU_TESTS_HARNESS_BUSY_VM_H_
#define SHADOWMMU_TESTS_HARNESS_BUSY_VM_H_

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "tests/harness/rng.h"
#include "tests/harness/small_vm.h"

namespace shadowmmu::testing {

class BusyVm {
 public:
  // Whether all vCPUs have tables of four levels, and share processes; or each
  // another mode than the one before.
  enum class Modes : uint8_t { kAlike, kMixed };
  struct Options {
    unsigned vcpus = 3;
    Modes modes = Modes::kAlike;
    uint32_t table_capacity = 128;
    uint32_t prefetch = 0;
  };
  explicit BusyVm(Options options);

  void StepVcpu(unsigned v, Rng& rng);
  void StepOther(Rng& rng);

  // What went wrong first; empty: nothing.
  std::string wrong() const;
  // Accesses of the guest that reached memory.
  uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }

  unsigned vcpus() const { return options_.vcpus; }
  Mmu& mmu() { return vm_.mmu(); }
  SmallVm& small() { return vm_; }
  // The slot that comes, goes and moves.
  const SlotSpec& extra() const { return extra_; }
  // A page of the guest that lies in it.
  static Gva InExtra() { return At(5); }

 private:
  static constexpr uint64_t kPages = 48;
  static Gva At(uint64_t page) { return Gva(page * 0x8000'1000); }
  static Gpa Target(uint64_t page);
  static uint64_t EntryFor(uint64_t page);
  // As it is in the tables of `v`.
  std::span<const std::byte> BytesOf(unsigned v, const uint64_t& gpte) const;

  void BuildTables(unsigned v);
  // What a guest does.
  void Touch(unsigned v, Rng& rng);
  void EditTrapped(unsigned v, uint64_t page, Rng& rng);
  void EditUntrapped(unsigned v, uint64_t page, Rng& rng);
  void ChangeRegisters(unsigned v, Rng& rng);
  // What others do.
  void UnmapData(Rng& rng);
  void UnmapTable(Rng& rng);
  void UnmapMuch();
  void ChangeSlots(Rng& rng);
  void LogDirty(Rng& rng);
  void Invalidate(Rng& rng);
  void Look(Rng& rng);

  void Fail(const std::string& why);
  // Fails unless `status` is OK, or one of these.
  void Expect(const absl::Status& status,
              std::initializer_list<absl::StatusCode> also = {});

  const Options options_;
  SmallVm vm_;
  SlotSpec main_;
  SlotSpec extra_;
  std::vector<GuestMode> modes_;
  std::vector<GuestTableBuilder*> tables_;
  // Of each vCPU, the address of the entry of each page.
  std::vector<std::vector<uint64_t>> entry_of_;

  std::mutex retarget_lock_;  // a page is retargeted by one at a time
  std::atomic<uint64_t> hits_{0};
  mutable std::mutex wrong_lock_;
  std::string wrong_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_BUSY_VM_H_
