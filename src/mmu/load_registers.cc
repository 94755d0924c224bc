#include "src/mmu/load_registers.h"

#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/mmu/previous_roots.h"

namespace shadowmmu {
namespace {

absl::Status Unavailable(Gpa gpa) {
  return absl::UnavailableError(absl::StrCat("cr3: the PDPTEs at gpa 0x",
                                             absl::Hex(gpa.value()),
                                             " cannot be read now"));
}

TouchResult ReadPdptes(Vm& vm, Hva hva, Pdptes* pdptes) {
  const GuestMemory::Section section(vm.memory);
  // One by one: memory promises atomic reads of 8 bytes, not of 32.
  for (size_t i = 0; i < pdptes->size(); ++i) {
    const TouchResult read = vm.memory.Read(
        section, hva + i * sizeof(uint64_t),
        std::as_writable_bytes(std::span<uint64_t, 1>(&(*pdptes)[i], 1)));
    if (read != TouchResult::kDone) return read;
  }
  return TouchResult::kDone;
}

// The PDPTEs that `cr3` names, as memory has them now.
absl::StatusOr<Pdptes> FetchPdptes(Vm& vm, AddressSpace space, uint64_t cr3) {
  const Gpa gpa = AddressOfPdptes(cr3);
  const SlotReader reader(vm.slots, {.what = "a load of PDPTEs"});
  const Memslot* slot = reader.table().Find(space, ToGfn(gpa));
  if (slot == nullptr) {
    if (vm.config.absent_tables == AbsentTables::kReadAsOnes) {
      Pdptes ones;
      ones.fill(~uint64_t{0});
      return ones;
    }
    return absl::NotFoundError(absl::StrCat("cr3: the PDPTEs at gpa 0x",
                                            absl::Hex(gpa.value()),
                                            " are in no slot"));
  }
  if (!slot->live()) return Unavailable(gpa);  // being deleted
  const Hva hva = slot->ToHva(ToGfn(gpa)) + PageOffset(gpa);
  const uint64_t sequence = vm.memory.sequence();
  Pdptes pdptes = {};
  TouchResult read = ReadPdptes(vm, hva, &pdptes);
  if (read == TouchResult::kUnavailable) {
    // Swapped out, perhaps: asked for once.
    const bool there = vm.host.Resolve(hva, AccessType::kRead).ok();
    if (there) read = ReadPdptes(vm, hva, &pdptes);
    // While the range is being changed, a refusal is not the last word.
    if (read == TouchResult::kUnavailable &&
        !vm.memory.Blocks({hva, sizeof(pdptes)}) &&
        vm.memory.sequence() == sequence) {
      return absl::FailedPreconditionError(
          absl::StrCat("cr3: the host has no memory for the PDPTEs at gpa 0x",
                       absl::Hex(gpa.value())));
    }
  }
  if (read != TouchResult::kDone) return Unavailable(gpa);
  return pdptes;
}

// And checked.
absl::StatusOr<Pdptes> ReadGoodPdptes(Vm& vm, AddressSpace space,
                                      uint64_t cr3) {
  absl::StatusOr<Pdptes> pdptes = FetchPdptes(vm, space, cr3);
  if (!pdptes.ok()) return pdptes;
  absl::Status good = CheckPdptes(*pdptes, vm.config.guest_physical_bits);
  if (!good.ok()) return good;
  return pdptes;
}

absl::StatusOr<Pdptes> PdptesAfter(Vm& vm, const VcpuState& vcpu,
                                   const PagingRegisters& registers) {
  if (!PaePaging(registers)) return Pdptes{};
  if (!LoadsPdptes(vcpu.registers, registers)) return vcpu.pdptes;
  return ReadGoodPdptes(vm, vcpu.space, registers.cr3);
}

// The mode that follows from what the vCPU has now.
void Follow(Vm& vm, VcpuState& vcpu) ABSL_LOCKS_EXCLUDED(vm.lock) {
  vcpu.paging = PagingModeOf(vcpu.registers, vcpu.pdptes, vcpu.features,
                             vm.config.guest_physical_bits);
  {
    SpinLockHolder held(&vcpu.roots_lock);
    const Hpa root = vcpu.hardware.root;
    vcpu.hardware = HardwareStateFor(vcpu.paging, vm.entry_format);
    vcpu.hardware.root = root;
  }
  SwitchRoot(vm, vcpu, GuestFlush::kAll);
}

// What the walking CPU has not, the guest's cannot have.
absl::Status CheckBacked(const CpuFeatures& features,
                         const EntryFormat& format) {
  const CpuFeatures backed = CpuFeatures::BackedBy(format);
  const struct {
    bool wanted;
    bool backed;
    const char* name;
  } each[] = {
      {features.no_execute, backed.no_execute, "no_execute"},
      {features.smep, backed.smep, "smep"},
      {features.smap, backed.smap, "smap"},
      {features.protection_keys, backed.protection_keys, "protection_keys"},
      {features.five_levels, backed.five_levels, "five_levels"},
  };
  for (const auto& feature : each) {
    if (feature.wanted && !feature.backed) {
      return absl::InvalidArgumentError(
          absl::StrCat(feature.name, ": the walking CPU cannot back it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers) {
  absl::Status good =
      CheckRegisters(registers, vcpu.features, vm.config.guest_physical_bits);
  if (!good.ok()) return good;
  const absl::StatusOr<Pdptes> pdptes = PdptesAfter(vm, vcpu, registers);
  if (!pdptes.ok()) return pdptes.status();
  vcpu.registers = registers;
  vcpu.pdptes = *pdptes;
  Follow(vm, vcpu);
  return absl::OkStatus();
}

absl::Status LoadRegisters(Vm& vm, VcpuState& vcpu,
                           const PagingRegisters& registers,
                           const Pdptes& pdptes) {
  const unsigned bits = vm.config.guest_physical_bits;
  absl::Status good = CheckRegisters(registers, vcpu.features, bits);
  if (good.ok()) good = CheckPdptes(pdptes, bits);
  if (!good.ok()) return good;
  if (!PaePaging(registers) && pdptes != Pdptes{}) {
    return absl::InvalidArgumentError("pdptes: not zero without PAE paging");
  }
  vcpu.registers = registers;
  vcpu.pdptes = pdptes;
  Follow(vm, vcpu);
  return absl::OkStatus();
}

absl::Status LoadCr3(Vm& vm, VcpuState& vcpu, uint64_t value) {
  PagingRegisters registers = vcpu.registers;
  GuestFlush flush = GuestFlush::kContext;
  if (PcidsEnabled(registers) && (value & cr3::kNoFlush) != 0) {
    flush = GuestFlush::kNone;
    value &= ~cr3::kNoFlush;
  }
  registers.cr3 = value;
  absl::Status good = CheckCr3(registers, vm.config.guest_physical_bits);
  if (!good.ok()) return good;
  if (PaePaging(registers)) {
    const absl::StatusOr<Pdptes> pdptes =
        ReadGoodPdptes(vm, vcpu.space, registers.cr3);
    if (!pdptes.ok()) return pdptes.status();
    vcpu.pdptes = *pdptes;
  }
  vcpu.registers.cr3 = registers.cr3;
  PointToTables(vcpu.registers, vcpu.pdptes, vcpu.paging);
  SwitchRoot(vm, vcpu, flush);
  return absl::OkStatus();
}

absl::Status LoadFeatures(Vm& vm, VcpuState& vcpu,
                          const CpuFeatures& features) {
  absl::Status good = CheckBacked(features, vm.entry_format);
  if (good.ok()) {
    good =
        CheckRegisters(vcpu.registers, features, vm.config.guest_physical_bits);
  }
  if (!good.ok()) return good;
  vcpu.features = features;
  Follow(vm, vcpu);
  return absl::OkStatus();
}

}  // namespace shadowmmu
