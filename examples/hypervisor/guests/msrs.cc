// Model-specific registers that kernels use without asking CPUID for them.

#include "runtime/cpu.h"
#include "runtime/guard.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

// APM vol. 2, appendix A.
constexpr uint32_t kFirstCounter = 0xc0010000;
constexpr uint32_t kLastCounter = 0xc0010007;
constexpr uint32_t kMtrrCapabilities = 0xfe;
constexpr uint32_t kMtrrDefaultType = 0x2ff;
constexpr uint64_t kMtrrsEnabled = 1u << 11;

bool Faults(uint32_t msr, uint64_t value) {
  return Guarded([&] { WriteMsr(msr, value); }).vector == kGeneralProtection;
}

void CheckCounters() {
  for (uint32_t msr = kFirstCounter; msr <= kLastCounter; ++msr) {
    WriteMsr(msr, 0);
    CheckEqual(ReadMsr(msr), 0, "a performance counter");
  }
}

void CheckMtrrs() {
  ReadMsr(kMtrrCapabilities);
  const uint64_t before = ReadMsr(kMtrrDefaultType);
  WriteMsr(kMtrrDefaultType, before & ~kMtrrsEnabled);
  CheckEqual(ReadMsr(kMtrrDefaultType), before & ~kMtrrsEnabled,
             "the default memory type");
  // QEMU takes what no CPU does.
  if (!IsPlainQemu()) {
    Check(Faults(kMtrrDefaultType, 2), "a reserved memory type");
    Check(Faults(kMtrrDefaultType, 7), "one that PAT alone has");
    Check(Faults(kMtrrDefaultType, 1u << 12), "a reserved bit");
    Check(Faults(kMtrrCapabilities, 0), "a register that cannot be written");
  }
  WriteMsr(kMtrrDefaultType, before);
}

}  // namespace

void GuestMain() {
  CheckCounters();
  CheckMtrrs();
  Print("model-specific registers: right\n");
}

}  // namespace guest
