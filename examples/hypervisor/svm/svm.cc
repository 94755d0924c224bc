#include "svm/svm.h"

#include "boot/cpu.h"
#include "boot/per_cpu.h"

extern "C" void SvmEnter(uint64_t vmcb, hypervisor::SvmRegisters* registers,
                         uint64_t host);

namespace hypervisor {
namespace {

constexpr uint32_t kMsrEfer = 0xc0000080;
constexpr uint64_t kEferSvme = 1u << 12;
constexpr uint32_t kMsrVmCr = 0xc0010114;
constexpr uint64_t kVmCrSvmeDisabled = 1u << 4;
constexpr uint32_t kMsrHostSave = 0xc0010117;

struct alignas(4096) Page {
  std::byte bytes[4096];
};
// Of each CPU.
Page host_save_areas[kMaxCpus];  // VMRUN's own
Vmcb host_states[kMaxCpus];      // what VMSAVE keeps

bool HasSvm() {
  constexpr uint32_t kSvm = 1u << 2;
  return (ReadCpuidIfThere(0x80000001).ecx & kSvm) != 0;
}

// So that the hypervisor can read the guest's PKRU; it has no user pages
// itself.
void EnableProtectionKeys() {
  constexpr uint32_t kPku = 1u << 3;
  if ((ReadCpuidIfThere(7).ecx & kPku) == 0) return;
  constexpr uint64_t kCr4Pke = 1u << 22;
  uint64_t cr4 = 0;
  __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
  __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | kCr4Pke));
}

// Pointers are physical addresses here.
uint64_t AddressOf(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

}  // namespace

absl::Status EnableSvm() {
  if (!HasSvm()) return absl::UnimplementedError("this CPU has no SVM");
  if ((ReadMsr(kMsrVmCr) & kVmCrSvmeDisabled) != 0) {
    return absl::UnimplementedError("the firmware has switched SVM off");
  }
  WriteMsr(kMsrEfer, ReadMsr(kMsrEfer) | kEferSvme);
  WriteMsr(kMsrHostSave, AddressOf(&host_save_areas[CpuIndex()]));
  EnableProtectionKeys();
  return absl::OkStatus();
}

void SvmRun(Vmcb& vmcb, SvmRegisters& registers) {
  SvmEnter(AddressOf(&vmcb), &registers, AddressOf(&host_states[CpuIndex()]));
}

}  // namespace hypervisor
