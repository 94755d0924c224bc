// The library in thirty lines: one slot, one vCPU with paging off, one fault,
// one generation bump. What a hypervisor does, without the guest.

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "shadowmmu/audit.h"
#include "shadowmmu/default_host.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"

int main() {
  using namespace shadowmmu;
  constexpr uint64_t kPages = 512;
  void* ram = std::aligned_alloc(kPageSize, kPages * kPageSize);

  DefaultHost host;  // pfn = hva >> 12; a real one knows its own memory
  auto mmu = Mmu::Create({.host = &host}).value();
  const SlotSpec slot{.id = SlotId{0},
                      .base = Gfn(0),
                      .pages = kPages,
                      .hva = Hva(reinterpret_cast<uintptr_t>(ram))};
  if (!mmu->CreateSlot(slot).ok()) return 1;
  {
    auto vcpu = mmu->CreateVcpu(VcpuId{0}).value();
    if (!vcpu->EnterGuest().resume()) return 1;
    std::cout << "walk from " << vcpu->HardwareState().root << "\n";
    vcpu->ExitGuest();  // the guest wrote to 0x5000: a page fault
    std::cout << vcpu->HandleFault(Gva(0x5000), Write()) << ", then "
              << mmu->GetStats().leaf_sptes << " page mapped\n";

    mmu->BumpGeneration();  // all of it is obsolete, at once
    std::cout << mmu->ReclaimObsolete(100).pages << " shadow pages reclaimed, "
              << mmu->GetStats().leaf_sptes << " pages mapped\n";
    std::cout << Audit(*mmu);
  }
  mmu.reset();
  std::free(ram);
}
