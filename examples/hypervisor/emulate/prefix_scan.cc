#include "emulate/prefix_scan.h"

#include <optional>

namespace hypervisor {
namespace {

std::optional<SegmentName> SegmentPrefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
      return SegmentName::kEs;
    case 0x2e:
      return SegmentName::kCs;
    case 0x36:
      return SegmentName::kSs;
    case kDsPrefix:
      return SegmentName::kDs;
    case 0x64:
      return SegmentName::kFs;
    case 0x65:
      return SegmentName::kGs;
    default:
      return std::nullopt;
  }
}

// Whether `byte` is a legacy prefix, noted in `prefixes` then.
bool TakeLegacyPrefix(uint8_t byte, Prefixes& prefixes) {
  if (std::optional<SegmentName> segment = SegmentPrefix(byte)) {
    prefixes.segment = segment;
    return true;
  }
  switch (byte) {
    case kLockPrefix:
      prefixes.lock = true;
      return true;
    case kRepnePrefix:
      prefixes.repeat = Repeat::kWhileNotEqual;
      return true;
    case kRepePrefix:
      prefixes.repeat = Repeat::kWhileEqual;
      return true;
    case kOperandSizePrefix:
      prefixes.operand_size = true;
      return true;
    case kAddressSizePrefix:
      prefixes.address_size = true;
      return true;
    default:
      return false;
  }
}

}  // namespace

ScannedPrefixes ScanPrefixes(CpuMode mode, std::span<const uint8_t> code) {
  ScannedPrefixes scanned;
  for (uint8_t byte : code) {
    if (TakeLegacyPrefix(byte, scanned.prefixes)) {
      scanned.prefixes.rex = 0;
    } else if (mode == CpuMode::k64Bit && (byte & 0xf0) == 0x40) {
      scanned.prefixes.rex = byte;
    } else {
      break;
    }
    ++scanned.count;
  }
  return scanned;
}

uint8_t OperandBytes(CpuMode mode, const Prefixes& prefixes) {
  if ((prefixes.rex & kRexW) != 0) return 8;
  const bool is_16_bit = (mode == CpuMode::k16Bit) != prefixes.operand_size;
  return is_16_bit ? 2 : 4;
}

}  // namespace hypervisor
