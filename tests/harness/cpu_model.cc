#include "tests/harness/cpu_model.h"

#include <array>
#include <cstddef>
#include <ostream>
#include <variant>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

constexpr uint64_t kUnmodelledCr4 =
    cr4::kPge | cr4::kPcide | cr4::kCet | cr4::kPks | cr4::kLamSup;

// Bits of CR4 that are reserved on a CPU without the feature (SDM vol. 3, 2.5).
struct FeatureBit {
  uint64_t cr4;
  bool EntryFormat::*has;
  const char* name;
};
constexpr std::array kFeatureBits = {
    FeatureBit{cr4::kSmep, &EntryFormat::has_smep, "SMEP"},
    FeatureBit{cr4::kSmap, &EntryFormat::has_smap, "SMAP"},
    FeatureBit{cr4::kPke, &EntryFormat::has_protection_keys, "PKE"},
    FeatureBit{cr4::kLa57, &EntryFormat::has_five_levels, "LA57"},
};

constexpr uint64_t kFourGib = uint64_t{1} << 32;

bool Has(uint64_t value, uint64_t bit) { return (value & bit) != 0; }

// SDM vol. 3, 3.3.7.1.
bool IsCanonical(Gva gva, uint64_t cr4) {
  const unsigned bits = Has(cr4, cr4::kLa57) ? 57 : 48;
  const uint64_t upper = gva.value() >> (bits - 1);
  return upper == 0 || upper == (~uint64_t{0} >> (bits - 1));
}

// Why a CPU of `format` cannot run with these registers; empty if it can.
std::string CheckRegisters(const HardwareState& state,
                           const EntryFormat& format) {
  if (!Has(state.cr0, cr0::kPg) || !Has(state.cr0, cr0::kPe)) {
    return "CR0.PG and CR0.PE must be set";
  }
  if (!Has(state.cr4, cr4::kPae)) {
    return "CR4.PAE must be set";
  }
  if ((state.cr4 & kUnmodelledCr4) != 0) {
    return absl::StrCat("CR4 has bits that are not modelled: 0x",
                        absl::Hex(state.cr4 & kUnmodelledCr4));
  }
  for (const FeatureBit& feature : kFeatureBits) {
    if (Has(state.cr4, feature.cr4) && !(format.*feature.has)) {
      return absl::StrCat("CR4.", feature.name, " is set on a CPU without it");
    }
  }
  if (Has(state.efer, efer::kLme) != Has(state.efer, efer::kLma)) {
    return "EFER.LME and EFER.LMA differ with paging on";
  }
  if (Has(state.efer, efer::kNxe) && !format.has_no_execute) {
    return "EFER.NXE is set on a CPU without NX";
  }
  return "";
}

// The same for the root (SDM vol. 3, 4.4.1 and table 4-12).
std::string CheckRoot(const HardwareState& state, const EntryFormat& format) {
  const uint64_t root = state.root.value();
  if (!Has(state.efer, efer::kLma)) {
    if (root >= kFourGib) return "a PAE root lies above 4 GiB";
    if (root % 32 != 0) return "a PAE root is not aligned to 32 bytes";
    return "";
  }
  if (PageOffset(Gpa(root)) != 0) return "the root is not aligned to a page";
  const uint64_t address = root & ~format.encryption_bit;
  if ((address >> format.physical_bits) != 0) {
    return "the root has address bits that are reserved";
  }
  return "";
}

std::string ReadPdptes(const WalkContext& context, PdpteRegisters* pdptes) {
  void* const pointer = context.memory->PointerToTable(context.state.root);
  if (pointer == nullptr) return "the PAE root is not in memory for tables";
  for (size_t i = 0; i < pdptes->size(); ++i) {
    uint64_t& slot = static_cast<uint64_t*>(pointer)[i];
    const uint64_t pdpte = std::atomic_ref<uint64_t>(slot).load();
    const uint64_t reserved = ReservedPdpteBitsSet(context.format, pdpte);
    if (reserved != 0) {
      return absl::StrCat("PDPTE ", i, " has reserved bits set: 0x",
                          absl::Hex(reserved));
    }
    (*pdptes)[i] = pdpte;
  }
  return "";
}

}  // namespace

std::ostream& operator<<(std::ostream& os, const CpuResult& result) {
  switch (result.kind) {
    case CpuResult::Kind::kHit:
      return os << result.gva << " hits " << result.hpa << " (" << result.level
                << (result.from_tlb ? ", from the TLB)" : ")");
    case CpuResult::Kind::kPageFault:
      return os << result.gva << " #PF, error code " << result.error_code;
    case CpuResult::Kind::kGeneralProtection:
      return os << result.gva << " #GP";
    case CpuResult::Kind::kBroken:
      return os << result.gva << " broken: " << result.broken;
  }
  return os;
}

CpuModel::CpuModel(const PhysicalMemory* memory, const EntryFormat& format) {
  context_.memory = memory;
  context_.format = format;
}

std::string CpuModel::Enter(const HardwareState& state) {
  const std::lock_guard lock(mutex_);
  if (!loaded_ || state != context_.state) return LoadLocked(state);
  if (context_.long_mode()) return "";
  std::string error = ReadPdptes(context_, &context_.pdptes);
  loaded_ = error.empty();
  return error;
}

std::string CpuModel::Load(const HardwareState& state) {
  const std::lock_guard lock(mutex_);
  return LoadLocked(state);
}

std::string CpuModel::LoadLocked(const HardwareState& state) {
  tlb_.Flush(FlushRange::All());
  loaded_ = false;
  std::string error = CheckRegisters(state, context_.format);
  if (error.empty()) error = CheckRoot(state, context_.format);
  if (!error.empty()) return error;
  context_.state = state;
  context_.pdptes = {};
  if (!context_.long_mode()) error = ReadPdptes(context_, &context_.pdptes);
  loaded_ = error.empty();
  return error;
}

CpuResult CpuModel::Access(Gva gva, const shadowmmu::Access& access) {
  return Access(gva, access, [](Hpa) {});
}

CpuResult CpuModel::Access(Gva gva, const shadowmmu::Access& access,
                           Body body) {
  const std::lock_guard lock(mutex_);
  SMMU_CHECK(loaded_) << "an access before a successful Load";
  const CpuResult result = AccessLocked(gva, access);
  if (result.hit()) body(result.hpa);
  return result;
}

std::optional<Gva> CpuModel::LinearAddress(Gva gva) const {
  if (!context_.long_mode()) return Gva(gva.value() & (kFourGib - 1));
  if (!IsCanonical(gva, context_.state.cr4)) return std::nullopt;
  return gva;
}

CpuResult CpuModel::AccessLocked(Gva gva, const shadowmmu::Access& access) {
  const std::optional<Gva> linear = LinearAddress(gva);
  if (!linear.has_value()) {
    return {.kind = CpuResult::Kind::kGeneralProtection, .gva = gva};
  }
  gva = *linear;
  const std::optional<TlbEntry> cached = tlb_.Find(gva);
  if (!cached.has_value()) return WalkLocked(gva, access);
  if (!HardwareAllows(context_, cached->rights, access)) {
    return PageFaultLocked(gva,
                           DeniedErrorCode(context_, cached->rights, access));
  }
  if (access.type == AccessType::kWrite && !cached->dirty) {
    return WalkLocked(gva, access);
  }
  return {.kind = CpuResult::Kind::kHit,
          .gva = gva,
          .hpa = ToHpa(cached->pfn) + (gva - cached->gva),
          .level = cached->level,
          .from_tlb = true};
}

CpuResult CpuModel::WalkLocked(Gva gva, const shadowmmu::Access& access) {
  walks_.fetch_add(1, std::memory_order_relaxed);
  const WalkResult walked =
      Walk(context_, gva, access, tlb_.FindStructure(gva));
  if (const auto* fault = std::get_if<WalkFault>(&walked)) {
    return PageFaultLocked(gva, fault->error_code);
  }
  if (const auto* broken = std::get_if<WalkBroken>(&walked)) {
    return {
        .kind = CpuResult::Kind::kBroken, .gva = gva, .broken = broken->what};
  }
  const auto& hit = std::get<WalkHit>(walked);
  for (size_t i = 0; i < hit.depth; ++i) {
    tlb_.InsertStructure(hit.structures[i]);
  }
  tlb_.Insert(hit.translation);
  return {.kind = CpuResult::Kind::kHit,
          .gva = gva,
          .hpa = ToHpa(hit.translation.pfn) + (gva - hit.translation.gva),
          .level = hit.translation.level};
}

CpuResult CpuModel::PageFaultLocked(Gva gva, uint32_t error_code) {
  tlb_.FlushPage(gva);
  return {.kind = CpuResult::Kind::kPageFault,
          .gva = gva,
          .error_code = error_code};
}

void CpuModel::Flush(FlushRange range) {
  const std::lock_guard lock(mutex_);
  tlb_.Flush(range);
}

void CpuModel::FlushPage(Gva gva) {
  const std::lock_guard lock(mutex_);
  tlb_.FlushPage(gva);
}

std::optional<TlbEntry> CpuModel::Peek(Gva gva) const {
  SMMU_CHECK(loaded_) << "a look before a successful Load";
  const std::optional<Gva> linear = LinearAddress(gva);
  if (!linear.has_value()) return std::nullopt;
  return PeekWalk(context_, *linear);
}

bool CpuModel::Allows(const Rights& rights,
                      const shadowmmu::Access& access) const {
  return HardwareAllows(context_, rights, access);
}

bool CpuModel::Grants(Gva gva, const shadowmmu::Access& access) const {
  const std::optional<TlbEntry> found = Peek(gva);
  return found.has_value() && Allows(found->rights, access);
}

std::vector<TlbEntry> CpuModel::TlbEntries() const {
  const std::lock_guard lock(mutex_);
  return tlb_.Entries();
}

std::vector<StructureEntry> CpuModel::StructureEntries() const {
  const std::lock_guard lock(mutex_);
  return tlb_.Structures();
}

std::optional<HardwareState> CpuModel::state() const {
  const std::lock_guard lock(mutex_);
  if (!loaded_) return std::nullopt;
  return context_.state;
}

}  // namespace shadowmmu::testing
