// The hypervisor: boots the guest of the bundle that QEMU gave it, and ends the
// machine as the guest ends (loaders/exit_status.h). docs/hypervisor.md tells
// the story.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "boot/cpu.h"
#include "boot/exit.h"
#include "boot/module.h"
#include "boot/processors.h"
#include "boot/tsc_clock.h"
#include "loaders/bundle.h"
#include "loaders/bzimage.h"
#include "loaders/exit_status.h"
#include "loaders/guest_image.h"
#include "loaders/guest_memory.h"
#include "svm/svm.h"
#include "vcpu/cpuid.h"
#include "vcpu/statistics.h"
#include "vcpu/vcpu.h"
#include "vcpu/vm.h"

namespace hypervisor {
namespace {

// The guest's time begins with it.
class GuestClock final : public Clock {
 public:
  uint64_t Nanoseconds() override { return MonotonicNanoseconds() - start_; }

 private:
  const uint64_t start_ = MonotonicNanoseconds();
};

// Not present before it is touched costs nothing here: all of it is there.
absl::StatusOr<std::span<std::byte>> TakeMemory(uint64_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        "memory_mib: the machine has not so much memory");
  }
  return std::span(static_cast<std::byte*>(memory), bytes);
}

void WriteToCom2(const std::string& text) {
  constexpr uint16_t kData = 0x2f8;
  constexpr uint16_t kLineStatus = 0x2fd;
  constexpr uint8_t kEmpty = 1u << 5;
  constexpr int kMaxWait = 1'000'000;
  for (const char byte : text) {
    for (int i = 0; i < kMaxWait && (PortIn8(kLineStatus) & kEmpty) == 0; ++i) {
    }
    PortOut8(kData, static_cast<uint8_t>(byte));
  }
}

// Runs one vCPU on the CPU that calls, until the guest has ended.
absl::Status RunVcpu(Vm& vm, const Cpuid& cpuid, unsigned number,
                     const CpuState* first) {
  if (absl::Status on = EnableSvm(); !on.ok()) return on;
  absl::StatusOr<std::unique_ptr<Vcpu>> vcpu =
      Vcpu::Create(vm, cpuid, number, first);
  if (!vcpu.ok()) return vcpu.status();
  absl::Status ran = absl::OkStatus();
  while (ran.ok() && !vm.ended()) ran = (*vcpu)->RunOnce();
  vm.AddStatistics((*vcpu)->statistics());
  return ran;
}

// CPUs that so many vCPUs need, the one that boots among them. That one runs a
// single vCPU, but none of several, for QEMU's TCG (7.2): another CPU's FXRSTOR
// or FLDENV clears a flag of the machine's first CPU, with no lock, and not in
// one step. It lies in one word with the flags that VMRUN sets so that
// interrupts end the guest's turn. If the first CPU executes VMRUN at the time,
// these may be lost, and no interrupt gets through until the guest exits for
// another reason.
uint64_t CpusFor(uint32_t vcpus) {
  return vcpus == 1 ? 1 : uint64_t{vcpus} + 1;
}

// A single vCPU here, several on CPUs of their own. One that fails ends all.
absl::Status RunToTheEnd(Vm& vm, const Cpuid& cpuid, const CpuState& first) {
  std::vector<absl::Status> ran(vm.board().vcpus());
  const auto run = [&](unsigned number) {
    ran[number] = RunVcpu(vm, cpuid, number, number == 0 ? &first : nullptr);
    if (!ran[number].ok()) vm.End(ExitStatus::kBadBundle);
  };
  if (ran.size() == 1) {
    run(0);
  } else {
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < ran.size(); ++number) {
      threads.emplace_back(run, number);
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (const absl::Status& status : ran) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitStatus> Run() {
  if (absl::Status on = EnableSvm(); !on.ok()) return on;
  const absl::StatusOr<Bundle> bundle = Bundle::Read(BootModule());
  if (!bundle.ok()) return bundle.status();
  // A thread for each, and no more.
  if (bundle->options.vcpus == 0 ||
      CpusFor(bundle->options.vcpus) > CpuCount()) {
    return absl::InvalidArgumentError(
        "vcpus: the machine has not so many CPUs");
  }
  Cpuid cpuid;
  cpuid.Apply(bundle->options.cpu_flags);
  // Linux would look for the rest of an APIC system, and finds a PC of its time
  // without. Test images want to see what they find there anyway.
  if (!IsBzImage(bundle->image)) cpuid.OfferLocalApic();
  const absl::StatusOr<std::span<std::byte>> memory =
      TakeMemory(bundle->options.memory_mib * GuestMemoryView::kMiB);
  if (!memory.ok()) return memory.status();
  const absl::StatusOr<GuestMemoryView> view = GuestMemoryView::Make(*memory);
  if (!view.ok()) return view.status();
  const absl::StatusOr<CpuState> first = LoadGuest(*bundle, *view);
  if (!first.ok()) return first.status();

  GuestClock clock;
  const absl::StatusOr<std::unique_ptr<Vm>> vm =
      Vm::Create(*memory, clock, bundle->options, cpuid.physical_bits());
  if (!vm.ok()) return vm.status();
  const absl::Status ran = RunToTheEnd(**vm, cpuid, *first);
  ExitStatistics statistics = (*vm)->statistics();
  statistics.run_ns = clock.Nanoseconds();
  const shadowmmu::Stats stats = (*vm)->mmu().GetStats();
  if (bundle->options.statistics == Statistics::kCom2) {
    WriteToCom2(statistics.Json(stats));
    std::printf("\n%s", statistics.Table(stats).c_str());
  }
  if (!ran.ok()) return ran;
  return *(*vm)->ended();
}

// Internal and Unimplemented are the hypervisor's own failures; the rest is
// what it was given.
unsigned CodeOf(const absl::Status& status) {
  const bool own = absl::IsInternal(status) || absl::IsUnimplemented(status);
  return own ? kExitImpossible : static_cast<unsigned>(ExitStatus::kBadBundle);
}

}  // namespace
}  // namespace hypervisor

int main() {
  // The library orders its locks itself.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const absl::StatusOr<hypervisor::ExitStatus> status = hypervisor::Run();
  if (!status.ok()) {
    std::printf("\nhypervisor: %s\n", status.status().ToString().c_str());
  }
  std::fflush(stdout);
  hypervisor::ExitMachine(status.ok() ? static_cast<unsigned>(*status)
                                      : hypervisor::CodeOf(status.status()));
}
