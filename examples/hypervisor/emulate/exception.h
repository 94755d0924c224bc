// An exception that a guest's CPU raises (APM vol. 2, 8.2): a vector, its error
// code where it has one, and for a page fault what CR2 must hold.
//
// Thread safety: values.

#ifndef HYPERVISOR_EMULATE_EXCEPTION_H_
#define HYPERVISOR_EMULATE_EXCEPTION_H_

#include <cstdint>
#include <optional>

#include "shadowmmu/address.h"

namespace hypervisor {

enum class ExceptionVector : uint8_t {
  kDivideError = 0,
  kDebug = 1,
  kInvalidOpcode = 6,
  kDeviceNotAvailable = 7,
  kDoubleFault = 8,
  kInvalidTss = 10,
  kSegmentNotPresent = 11,
  kStack = 12,
  kGeneralProtection = 13,
  kPageFault = 14,
  kAlignmentCheck = 17,
};

struct Exception {
  ExceptionVector vector = ExceptionVector::kGeneralProtection;
  std::optional<uint32_t> error_code = std::nullopt;
  // Of a page fault only.
  shadowmmu::Gva address = shadowmmu::Gva();

  static constexpr Exception InvalidOpcode() {
    return {ExceptionVector::kInvalidOpcode, std::nullopt, {}};
  }
  static constexpr Exception DeviceNotAvailable() {
    return {ExceptionVector::kDeviceNotAvailable, std::nullopt, {}};
  }
  static constexpr Exception DoubleFault() {
    return {ExceptionVector::kDoubleFault, 0, {}};
  }
  static constexpr Exception GeneralProtection(uint32_t code = 0) {
    return {ExceptionVector::kGeneralProtection, code, {}};
  }
  static constexpr Exception Stack(uint32_t code = 0) {
    return {ExceptionVector::kStack, code, {}};
  }
  static constexpr Exception SegmentNotPresent(uint32_t code) {
    return {ExceptionVector::kSegmentNotPresent, code, {}};
  }
  static constexpr Exception InvalidTss(uint32_t code) {
    return {ExceptionVector::kInvalidTss, code, {}};
  }
  static constexpr Exception PageFault(uint32_t code, shadowmmu::Gva address) {
    return {ExceptionVector::kPageFault, code, address};
  }
  friend constexpr bool operator==(const Exception&,
                                   const Exception&) = default;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_EXCEPTION_H_
