#include "vcpu/paging.h"

#include "emulate/cpu_state.h"

namespace hypervisor {
namespace {

using shadowmmu::HardwareState;
namespace mmu_cr0 = shadowmmu::cr0;
namespace mmu_cr4 = shadowmmu::cr4;
namespace mmu_efer = shadowmmu::efer;

constexpr uint64_t kCr0Bits = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs |
                              cr0::kEt | cr0::kNe | mmu_cr0::kWp | cr0::kAm |
                              mmu_cr0::kNw | mmu_cr0::kCd | mmu_cr0::kPg;
// SCE beside those of paging; the guest has no SVM.
constexpr uint64_t kEferSce = 1u << 0;
constexpr uint64_t kEferSvme = 1u << 12;
constexpr uint64_t kEferBits =
    kEferSce | mmu_efer::kLme | mmu_efer::kLma | mmu_efer::kNxe;
// Of CR4, what HardwareState sets and clears.
constexpr uint64_t kPagingCr4 = mmu_cr4::kPse | mmu_cr4::kPae | mmu_cr4::kPge |
                                mmu_cr4::kLa57 | mmu_cr4::kPcide |
                                mmu_cr4::kSmep | mmu_cr4::kSmap | mmu_cr4::kPke;
constexpr uint64_t kPagingEfer =
    mmu_efer::kLme | mmu_efer::kLma | mmu_efer::kNxe;
// A notifier is under way, or a slot update: both end.
constexpr int kMaxTries = 1000;

constexpr Exception kRefused = Exception::GeneralProtection();

std::optional<Exception> Retry(auto call) {
  for (int i = 0; i < kMaxTries; ++i) {
    const absl::Status status = call();
    if (status.ok()) return std::nullopt;
    if (!absl::IsUnavailable(status)) break;
  }
  // NotFound, too: PDPTEs that are not there read as all ones, which are
  // reserved.
  return kRefused;
}

}  // namespace

Paging::Paging(shadowmmu::VcpuMmu& mmu, uint64_t allowed_cr4)
    : mmu_(mmu), allowed_cr4_(allowed_cr4), cr0_(cr0::kEt) {}

std::optional<Exception> Paging::Commit(uint64_t cr0, uint64_t cr3,
                                        uint64_t cr4, uint64_t efer) {
  const shadowmmu::PagingRegisters registers{
      .cr0 = cr0, .cr3 = cr3, .cr4 = cr4, .efer = efer};
  if (registers != mmu_.registers()) {
    if (auto bad = Retry([&] { return mmu_.SetRegisters(registers); })) {
      return bad;
    }
  }
  cr0_ = cr0;
  cr4_ = cr4;
  efer_ = efer;
  return std::nullopt;
}

std::optional<uint64_t> Paging::Read(unsigned number) const {
  switch (number) {
    case 0:
      return cr0();
    case 3:
      return cr3();
    case 4:
      return cr4();
    default:
      return std::nullopt;
  }
}

std::optional<Exception> Paging::Write(unsigned number, uint64_t value) {
  switch (number) {
    case 0:
      return WriteCr0(value);
    case 3:
      return WriteCr3(value);
    case 4:
      return WriteCr4(value);
    default:
      return Exception::InvalidOpcode();
  }
}

std::optional<Exception> Paging::WriteCr0(uint64_t value) {
  if (value >> 32 != 0) return kRefused;
  value = (value & kCr0Bits) | cr0::kEt;
  uint64_t efer = efer_ & ~mmu_efer::kLma;
  if ((value & cr0::kPg) != 0 && (efer & mmu_efer::kLme) != 0) {
    efer |= mmu_efer::kLma;
  }
  return Commit(value, cr3(), cr4_, efer);
}

std::optional<Exception> Paging::WriteCr3(uint64_t value) {
  return Retry([&] { return mmu_.WriteCr3(value); });
}

std::optional<Exception> Paging::WriteCr4(uint64_t value) {
  const bool in_long_mode = (efer_ & mmu_efer::kLma) != 0;
  if ((value & ~allowed_cr4_) != 0) return kRefused;
  if (in_long_mode && ((value ^ cr4_) & mmu_cr4::kLa57) != 0) return kRefused;
  return Commit(cr0_, cr3(), value, efer_);
}

std::optional<Exception> Paging::WriteEfer(uint64_t value) {
  if ((value & ~kEferBits) != 0) return kRefused;
  const bool paging = (cr0_ & cr0::kPg) != 0;
  if (paging && ((value ^ efer_) & mmu_efer::kLme) != 0) return kRefused;
  // LMA is the CPU's to change.
  value = (value & ~mmu_efer::kLma) | (efer_ & mmu_efer::kLma);
  return Commit(cr0_, cr3(), cr4_, value);
}

std::optional<Exception> Paging::Set(uint64_t cr0, uint64_t cr3, uint64_t cr4,
                                     uint64_t efer) {
  return Commit((cr0 & kCr0Bits) | cr0::kEt, cr3, cr4, efer & kEferBits);
}

void Paging::Load(Vmcb& vmcb) const {
  const HardwareState hardware = mmu_.HardwareState();
  constexpr uint64_t kOwnCr0 =
      mmu_cr0::kWp | mmu_cr0::kPg | mmu_cr0::kCd | mmu_cr0::kNw;
  vmcb.cr3 = hardware.root.value();
  vmcb.cr0 = (cr0_ & ~kOwnCr0) | (hardware.cr0 & ~cr0::kPe);
  vmcb.cr4 = (cr4_ & ~kPagingCr4) | hardware.cr4;
  vmcb.efer = (efer_ & ~kPagingEfer) | hardware.efer | kEferSvme;
}

}  // namespace hypervisor
