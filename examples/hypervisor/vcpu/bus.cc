#include "vcpu/bus.h"

#include <algorithm>
#include <cstring>

#include "emulate/cpu_state.h"
#include "shadowmmu/registers.h"

namespace hypervisor {
namespace {

using shadowmmu::FaultOutcome;
using shadowmmu::Gpa;
using shadowmmu::Gva;
namespace pf_error = shadowmmu::pf_error;

constexpr size_t kLongestDeviceAccess = 8;

// PKRU, where the guest's CR4 lets it count. RDPKRU needs the hypervisor's own
// CR4.PKE (EnableSvm).
uint32_t ReadPkru() {
  uint32_t value = 0;
  __asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "edx");
  return value;
}

}  // namespace

Exception ExceptionOf(const shadowmmu::GuestFault& fault) {
  if (fault.vector == shadowmmu::GuestFault::Vector::kPage) {
    return Exception::PageFault(fault.error_code, fault.address);
  }
  return Exception::GeneralProtection(fault.error_code);
}

shadowmmu::Access Bus::AccessOf(const BusAccess& access) const {
  shadowmmu::Access made;
  made.type = access.type;
  made.privilege = access.privilege;
  made.implicit = access.implicit;
  made.eflags_ac = (vmcb_.rflags & rflags::kAc) != 0;
  if ((vcpu_.registers().cr4 & shadowmmu::cr4::kPke) != 0) {
    made.pkru = ReadPkru();
  }
  return made;
}

BusResult Bus::Translate(Gva gva, const BusAccess& access, size_t bytes,
                         Pieces& pieces) {
  const shadowmmu::Access made = AccessOf(access);
  size_t done = 0;
  while (done < bytes && pieces.count < pieces.piece.size()) {
    const Gva at = gva + done;
    const size_t left_on_page =
        shadowmmu::kPageSize - static_cast<size_t>(shadowmmu::PageOffset(at));
    const size_t here = std::min(bytes - done, left_on_page);
    const shadowmmu::Translation found = vcpu_.Translate(at, made);
    if (!found.gpa) {
      switch (found.outcome.kind) {
        case FaultOutcome::Kind::kGuestFault:
          return BusResult::Inject(ExceptionOf(found.outcome.guest_fault));
        default:
          return BusResult::Retry();
      }
    }
    pieces.piece[pieces.count++] = {*found.gpa, done, here};
    done += here;
  }
  return BusResult::Ok();
}

bool Bus::IsMemory(Gva gva) {
  const BusAccess access = {shadowmmu::AccessType::kRead,
                            shadowmmu::Privilege::kSupervisor,
                            shadowmmu::Implicit::kYes};
  const shadowmmu::Translation found = vcpu_.Translate(gva, AccessOf(access));
  return found.gpa && mmu_.FindSlot(vcpu_.address_space(),
                                    shadowmmu::Gfn(found.gpa->value() >>
                                                   shadowmmu::kPageShift))
                          .has_value();
}

BusResult Bus::ReadPiece(Gpa gpa, std::span<std::byte> out) {
  const FaultOutcome outcome = mmu_.GuestRead(vcpu_.address_space(), gpa, out);
  if (outcome.resume()) return BusResult::Ok();
  if (outcome.kind == FaultOutcome::Kind::kRetry) return BusResult::Retry();
  for (size_t done = 0; done < out.size();) {
    const size_t here = std::min(out.size() - done, kLongestDeviceAccess);
    const uint64_t value =
        board_.Read(number(), gpa + done, static_cast<unsigned>(here));
    std::memcpy(&out[done], &value, here);
    done += here;
  }
  return BusResult::Ok();
}

BusResult Bus::WritePiece(Gpa gpa, std::span<const std::byte> bytes) {
  const FaultOutcome outcome = vcpu_.GuestWrite(gpa, bytes);
  if (outcome.resume()) return BusResult::Ok();
  if (outcome.kind == FaultOutcome::Kind::kRetry) return BusResult::Retry();
  for (size_t done = 0; done < bytes.size();) {
    const size_t here = std::min(bytes.size() - done, kLongestDeviceAccess);
    uint64_t value = 0;
    std::memcpy(&value, &bytes[done], here);
    board_.Write(number(), gpa + done, static_cast<unsigned>(here), value);
    done += here;
  }
  return BusResult::Ok();
}

BusResult Bus::Read(Gva gva, const BusAccess& access,
                    std::span<std::byte> out) {
  Pieces pieces;
  BusResult result = Translate(gva, access, out.size(), pieces);
  for (size_t i = 0; i < pieces.count && result.ok(); ++i) {
    const Piece& piece = pieces.piece[i];
    result = ReadPiece(piece.gpa, out.subspan(piece.offset, piece.bytes));
  }
  return result;
}

BusResult Bus::Write(Gva gva, const BusAccess& access,
                     std::span<const std::byte> bytes) {
  Pieces pieces;
  BusResult result = Translate(gva, access, bytes.size(), pieces);
  for (size_t i = 0; i < pieces.count && result.ok(); ++i) {
    const Piece& piece = pieces.piece[i];
    result = WritePiece(piece.gpa, bytes.subspan(piece.offset, piece.bytes));
  }
  return result;
}

BusResult Bus::Probe(Gva gva, const BusAccess& access, size_t bytes) {
  Pieces pieces;
  return Translate(gva, access, bytes, pieces);
}

std::optional<ExchangeResult> Bus::ExchangeAtOnce(
    Gva gva, const BusAccess& access, std::span<std::byte> expected,
    std::span<const std::byte> desired) {
  const size_t bytes = expected.size();
  if (bytes > sizeof(uint64_t) || gva.value() % bytes != 0) return std::nullopt;
  ExchangeResult exchange;
  Pieces pieces;
  exchange.result = Translate(gva, access, bytes, pieces);
  if (!exchange.result.ok()) return exchange;
  uint64_t compared = 0;
  uint64_t replacement = 0;
  std::memcpy(&compared, expected.data(), bytes);
  std::memcpy(&replacement, desired.data(), bytes);
  const absl::StatusOr<shadowmmu::GuestExchange> done =
      vcpu_.GuestCompareExchange(pieces.piece[0].gpa,
                                 static_cast<unsigned>(bytes), compared,
                                 replacement);
  if (!done.ok() || done->outcome.kind == FaultOutcome::Kind::kRetry) {
    exchange.result = BusResult::Retry();
    return exchange;
  }
  if (!done->outcome.resume()) return std::nullopt;
  if (done->exchanged) exchange.exchanged = Exchanged::kYes;
  std::memcpy(expected.data(), &done->previous, bytes);
  return exchange;
}

ExchangeResult Bus::CompareExchange(Gva gva, const BusAccess& access,
                                    std::span<std::byte> expected,
                                    std::span<const std::byte> desired) {
  if (const auto at_once = ExchangeAtOnce(gva, access, expected, desired)) {
    return *at_once;
  }
  std::array<std::byte, 16> held = {};
  const std::span<std::byte> now = std::span(held).first(expected.size());
  ExchangeResult exchange;
  exchange.result = Read(gva, access, now);
  if (!exchange.result.ok()) return exchange;
  if (std::equal(now.begin(), now.end(), expected.begin())) {
    exchange.result = Write(gva, access, desired);
    if (exchange.result.ok()) exchange.exchanged = Exchanged::kYes;
  } else {
    std::copy(now.begin(), now.end(), expected.begin());
  }
  return exchange;
}

uint32_t Bus::In(uint16_t port, unsigned bytes) {
  return board_.In(number(), port, bytes);
}

void Bus::Out(uint16_t port, unsigned bytes, uint32_t value) {
  board_.Out(number(), port, bytes, value);
}

}  // namespace hypervisor
