#include "tests/harness/op_values.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "tests/harness/backend.h"

namespace shadowmmu::testing {
namespace {

template <typename T>
T Cut(uint64_t value) {
  return static_cast<T>(
      std::min(value, uint64_t{std::numeric_limits<T>::max()}));
}

}  // namespace

AddressSpace SpaceOf(const Op& op) {
  return static_cast<AddressSpace>(op.Get(Field::kSpace) % kAddressSpaces);
}

AddressSpace SlotSpaceOf(const Op& op) {
  return static_cast<AddressSpace>(Cut<uint8_t>(op.Get(Field::kSpace)));
}

SlotId SlotIdOf(const Op& op) {
  return static_cast<SlotId>(Cut<uint32_t>(op.Get(Field::kId)));
}

SlotFlags FlagsOf(const Op& op) {
  return static_cast<SlotFlags>(Cut<uint32_t>(op.Get(Field::kFlags)));
}

SlotSpec SlotOf(const Op& op) {
  SlotSpec spec;
  spec.id = SlotIdOf(op);
  spec.space = SlotSpaceOf(op);
  spec.base = Gfn(op.Get(Field::kGfn));
  spec.pages = op.Get(Field::kPages);
  spec.hva = HvaOfFrame(op.Get(Field::kHost));
  spec.flags = FlagsOf(op);
  return spec;
}

std::optional<uint32_t> VcpuOf(const Op& op) {
  const uint64_t vcpu = op.Get(Field::kVcpu);
  if (vcpu >= kStreamMaxVcpus) return std::nullopt;
  return static_cast<uint32_t>(vcpu);
}

PagingRegisters RegistersOf(const Op& op) {
  PagingRegisters registers;
  registers.cr3 = op.Get(Field::kCr3);
  if (op.kind() == OpKind::kRegsRaw) {
    registers.cr0 = op.Get(Field::kCr0);
    registers.cr4 = op.Get(Field::kCr4);
    registers.efer = op.Get(Field::kEfer);
    return registers;
  }
  const auto set = [&op](Field field, uint64_t bit) {
    return op.Get(field) % 2 != 0 ? bit : 0;
  };
  const uint64_t mode = op.Get(Field::kMode) % mode::kModes;
  registers.cr0 = set(Field::kWp, cr0::kWp);
  registers.cr4 = set(Field::kSmep, cr4::kSmep) |
                  set(Field::kSmap, cr4::kSmap) | set(Field::kPke, cr4::kPke) |
                  set(Field::kPse, cr4::kPse) | set(Field::kPcide, cr4::kPcide);
  registers.efer = set(Field::kNxe, efer::kNxe);
  if (mode != mode::kOff) registers.cr0 |= cr0::kPe | cr0::kPg;
  if (mode != mode::kOff && mode != mode::k32Bit) {
    registers.cr4 |= cr4::kPae;
  }
  if (mode == mode::kLong || mode == mode::kLa57) {
    registers.efer |= efer::kLme | efer::kLma;
  }
  if (mode == mode::kLa57) registers.cr4 |= cr4::kLa57;
  return registers;
}

CpuFeatures FeaturesOf(const Op& op) {
  const uint64_t has = op.Get(Field::kHas);
  CpuFeatures features;
  features.page_size_extensions = (has & 0x01) != 0;
  features.pse36 = (has & 0x02) != 0;
  features.one_gib_pages = (has & 0x04) != 0;
  features.no_execute = (has & 0x08) != 0;
  features.smep = (has & 0x10) != 0;
  features.smap = (has & 0x20) != 0;
  features.protection_keys = (has & 0x40) != 0;
  features.five_levels = (has & 0x80) != 0;
  features.pcid = (has & 0x100) != 0;
  features.invpcid = (has & 0x200) != 0;
  return features;
}

InvpcidType InvpcidTypeOf(const Op& op) {
  return static_cast<InvpcidType>(op.Get(Field::kInvpcidType));
}

InvpcidDescriptor DescriptorOf(const Op& op) {
  return {.pcid = op.Get(Field::kPcid), .gva = Gva(op.Get(Field::kGva))};
}

Gva GvaOf(const Op& op, const PagingRegisters& registers) {
  uint64_t gva = op.Get(Field::kGva);
  if (op.kind() == OpKind::kStore) gva &= ~uint64_t{EntrySizeOf(op) - 1};
  if ((registers.efer & efer::kLma) == 0) gva &= 0xffff'ffff;
  return Gva(gva);
}

Access AccessOf(const Op& op) {
  Access access;
  access.type = op.kind() == OpKind::kStore
                    ? AccessType::kWrite
                    : static_cast<AccessType>(op.Get(Field::kType) % 3);
  const uint64_t privilege = op.Get(Field::kPrivilege) % 3;
  access.privilege = privilege == 1 ? Privilege::kSupervisor : Privilege::kUser;
  access.implicit = privilege == 2 ? Implicit::kYes : Implicit::kNo;
  access.eflags_ac = op.Get(Field::kAc) % 2 != 0;
  access.pkru = Cut<uint32_t>(op.Get(Field::kPkru));
  return access;
}

uint32_t EntrySizeOf(const Op& op) { return op.Get(Field::kSize) == 4 ? 4 : 8; }

Gpa GpaOf(const Op& op) {
  if (op.kind() != OpKind::kPte) return Gpa(op.Get(Field::kGpa));
  return ToGpa(Gfn(op.Get(Field::kTable))) +
         op.Get(Field::kIndex) * EntrySizeOf(op) % kPageSize;
}

std::vector<std::byte> ToBytes(uint64_t value) {
  std::vector<std::byte> bytes(sizeof(value));
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::vector<std::byte> BytesOf(const Op& op) {
  if (op.Has(Field::kValue)) {
    std::vector<std::byte> bytes = ToBytes(op.Get(Field::kValue));
    bytes.resize(EntrySizeOf(op));
    return bytes;
  }
  std::vector<std::byte> bytes(op.bytes().size());
  std::transform(op.bytes().begin(), op.bytes().end(), bytes.begin(),
                 [](uint8_t byte) { return std::byte{byte}; });
  return bytes;
}

uint32_t SizeOf(const Op& op) {
  const uint32_t size = Cut<uint32_t>(op.Get(Field::kSize));
  return op.kind() == OpKind::kRead
             ? std::min(size, static_cast<uint32_t>(kStreamMaxBytes))
             : size;
}

uint64_t OperandOf(const Op& op, Field field) {
  const uint32_t size = SizeOf(op);
  if (size == 0 || size >= 8) return op.Get(field);
  return op.Get(field) & ((uint64_t{1} << (8 * size)) - 1);
}

uint64_t OffsetOf(const Op& op) {
  return op.kind() == OpKind::kHostPte
             ? op.Get(Field::kIndex) * EntrySizeOf(op) % kPageSize
             : op.Get(Field::kOffset) % kPageSize;
}

bool IsHostChange(OpKind kind) {
  return kind == OpKind::kHostUnmap || kind == OpKind::kHostMap ||
         kind == OpKind::kHostRetarget || kind == OpKind::kHostReadonly;
}

HvaRange HvasOf(const Op& op) {
  return {HvaOfFrame(op.Get(Field::kHost)), op.Get(Field::kPages)
                                                << kPageShift};
}

FrameRange FramesOf(const Op& op, uint32_t frames) {
  const uint64_t first = op.Get(Field::kHost);
  if (first >= frames) return {};
  return {
      static_cast<uint32_t>(first),
      static_cast<uint32_t>(std::min(op.Get(Field::kPages), frames - first))};
}

Strategy StrategyOf(const Op& op) {
  return static_cast<Strategy>(op.Get(Field::kStrategy) % 3);
}

SlotZapPolicy PolicyOf(const Op& op) {
  return static_cast<SlotZapPolicy>(op.Get(Field::kPolicy) % 4);
}

uint64_t TimesOf(const Op& op) {
  return std::min(op.Get(Field::kTimes), op.kind() == OpKind::kBump
                                             ? kStreamMaxBumps
                                             : kStreamMaxRepeats);
}

Level LevelOf(const Op& op) {
  return LevelFromInt(
      static_cast<unsigned>(std::clamp<uint64_t>(op.Get(Field::kLevel), 1, 3)));
}

}  // namespace shadowmmu::testing
