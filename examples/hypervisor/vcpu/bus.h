// Bus: a guest's memory and devices as its CPU reaches them, for what is
// emulated: GuestBus on the library's Translate, GuestRead and GuestWrite, and
// the board.
//
//  1. Memory that no slot has is a device's, or nobody's: it reads as all ones,
//     and writes to it vanish, as those to ROM do.
//  2. A walk that leads to a table in such memory finds entries of all ones:
//     present, with reserved bits.
//  3. A CompareExchange of 8 bytes or fewer, aligned, in memory is one step to
//     all CPUs. A longer or an unaligned one, or a device's, is a read and a
//     write: others may come in between.
//
// Thread safety: belongs to one vCPU.

#ifndef HYPERVISOR_VCPU_BUS_H_
#define HYPERVISOR_VCPU_BUS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "emulate/exception.h"
#include "emulate/guest_bus.h"
#include "shadowmmu/access.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "svm/vmcb.h"
#include "vcpu/board.h"

namespace hypervisor {
// What a fault that the library wants injected is for the CPU.
Exception ExceptionOf(const shadowmmu::GuestFault& fault);

class Bus final : public GuestBus {
 public:
  // All outlive this.
  Bus(shadowmmu::Mmu& mmu, shadowmmu::VcpuMmu& vcpu, Board& board,
      const Vmcb& vmcb)
      : mmu_(mmu), vcpu_(vcpu), board_(board), vmcb_(vmcb) {}

  BusResult Read(shadowmmu::Gva gva, const BusAccess& access,
                 std::span<std::byte> out) override;
  BusResult Write(shadowmmu::Gva gva, const BusAccess& access,
                  std::span<const std::byte> bytes) override;
  BusResult Probe(shadowmmu::Gva gva, const BusAccess& access,
                  size_t bytes) override;
  ExchangeResult CompareExchange(shadowmmu::Gva gva, const BusAccess& access,
                                 std::span<std::byte> expected,
                                 std::span<const std::byte> desired) override;
  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

  // Whether a read there, by the CPU itself, would be one of memory.
  bool IsMemory(shadowmmu::Gva gva);

  // The CPU's side of an access: RFLAGS.AC and PKRU as they are now.
  shadowmmu::Access AccessOf(const BusAccess& access) const;

 private:
  // An access is on two pages at most: none is longer than a page.
  struct Piece {
    shadowmmu::Gpa gpa;
    size_t offset = 0;
    size_t bytes = 0;
  };
  struct Pieces {
    std::array<Piece, 2> piece;
    size_t count = 0;
  };

  BusResult Translate(shadowmmu::Gva gva, const BusAccess& access, size_t bytes,
                      Pieces& pieces);
  BusResult ReadPiece(shadowmmu::Gpa gpa, std::span<std::byte> out);
  BusResult WritePiece(shadowmmu::Gpa gpa, std::span<const std::byte> bytes);

  // nullopt: not in one step.
  std::optional<ExchangeResult> ExchangeAtOnce(
      shadowmmu::Gva gva, const BusAccess& access,
      std::span<std::byte> expected, std::span<const std::byte> desired);
  unsigned number() const { return shadowmmu::ToInt(vcpu_.id()); }

  shadowmmu::Mmu& mmu_;
  shadowmmu::VcpuMmu& vcpu_;
  Board& board_;
  const Vmcb& vmcb_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_BUS_H_
