// How an emulated instruction touches the world: guest memory by linear
// address, and ports. The run loop implements it on the library and the
// devices; tests, on an array.
//
// Contract, for every implementation:
//  1. An access may cross pages: the bus splits it. One that is not kOk has
//     changed nothing, neither memory nor a device, in any of its pages.
//  2. Memory that is not there is no error: it reads as all ones, and writes to
//     it vanish.
//  3. The bus does the work of paging and nothing of segmentation: a Gva is
//  what
//     segment and mode have been applied to already (canonical in 64-bit mode,
//     below 4 GiB outside).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_GUEST_BUS_H_
#define HYPERVISOR_EMULATE_GUEST_BUS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "emulate/exception.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// What paging must know of an access. RFLAGS.AC and PKRU are the CPU's at the
// time, and the bus adds them.
struct BusAccess {
  // kWrite in a Read: the first half of a read-modify-write, which must have
  // the right to write, and faults as a write.
  shadowmmu::AccessType type = shadowmmu::AccessType::kRead;
  shadowmmu::Privilege privilege = shadowmmu::Privilege::kSupervisor;
  shadowmmu::Implicit implicit = shadowmmu::Implicit::kNo;
  friend constexpr bool operator==(const BusAccess&,
                                   const BusAccess&) = default;
};

struct BusResult {
  enum class Kind : uint8_t {
    kOk,
    kException,  // inject `exception`
    kRetry,      // something changed meanwhile: enter the guest again, and let
                 // it execute the instruction anew
  };
  Kind kind = Kind::kOk;
  Exception exception = {};

  static constexpr BusResult Ok() { return {}; }
  static constexpr BusResult Retry() { return {Kind::kRetry, {}}; }
  static constexpr BusResult Inject(const Exception& exception) {
    return {Kind::kException, exception};
  }
  constexpr bool ok() const { return kind == Kind::kOk; }
};

// Whether a CompareExchange found what it expected.
enum class Exchanged : uint8_t { kNo, kYes };
struct ExchangeResult {
  BusResult result = {};
  Exchanged exchanged = Exchanged::kNo;
};

class GuestBus {
 public:
  virtual ~GuestBus() = default;

  virtual BusResult Read(shadowmmu::Gva gva, const BusAccess& access,
                         std::span<std::byte> out) = 0;
  // `access.type` is kWrite.
  virtual BusResult Write(shadowmmu::Gva gva, const BusAccess& access,
                          std::span<const std::byte> bytes) = 0;
  // Whether the access would be allowed, accessed and dirty bits set as it
  // would set them; touches no data and no device.
  virtual BusResult Probe(shadowmmu::Gva gva, const BusAccess& access,
                          size_t bytes) = 0;
  // If memory holds `expected`, stores `desired`; else loads what it holds into
  // `expected`. Both are of one size: 1, 2, 4, 8 or 16 bytes. Atomic, as other
  // CPUs see it, where it is aligned and no device. Faults as a write.
  virtual ExchangeResult CompareExchange(
      shadowmmu::Gva gva, const BusAccess& access,
      std::span<std::byte> expected, std::span<const std::byte> desired) = 0;

  // Port `port`, 1, 2 or 4 bytes. The CPU has checked IOPL and the TSS's
  // permission bitmap before it exits.
  virtual uint32_t In(uint16_t port, unsigned bytes) = 0;
  virtual void Out(uint16_t port, unsigned bytes, uint32_t value) = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_GUEST_BUS_H_
