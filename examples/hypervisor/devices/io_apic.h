// The I/O APIC: 24 interrupt lines, each with the vector and the destination
// that the guest gives it.
//
// Intel 82093AA datasheet. Registers are reached through two windows from
// 0xfec00000 on: the number of one is written at 0, its 32 bits are at 0x10.
// All lines are masked until the guest programs them, and until then only the
// PICs have what devices signal.
//
// Invariants:
//  1. A line that is edge-triggered interrupts when it rises, and is not
//     masked; an edge on a masked line is lost.
//  2. A line that is level-triggered interrupts while it is high and not
//     masked, once for each end of interrupt (remote IRR).
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_IO_APIC_H_
#define HYPERVISOR_DEVICES_IO_APIC_H_

#include <array>
#include <cstdint>

#include "devices/apic_message.h"
#include "devices/interrupts.h"
#include "devices/mmio_bus.h"

namespace hypervisor {

inline constexpr uint64_t kIoApicBase = 0xfec00000;
inline constexpr uint64_t kIoApicBytes = 0x1000;

class IoApic : public MmioDevice {
 public:
  static constexpr unsigned kLines = 24;

  // `bus` outlives this; the interrupts of all lines go there.
  explicit IoApic(ApicMessageSink& bus) : bus_(bus) { entries_.fill(kMasked); }

  uint64_t Read(uint64_t offset, unsigned bytes) override;
  void Write(uint64_t offset, unsigned bytes, uint64_t value) override;

  void SetLine(unsigned line, Signal signal);
  // A local APIC has told the end of a level-triggered interrupt.
  void EndOfInterrupt(uint8_t vector);

 private:
  // Bits of a redirection entry.
  static constexpr uint64_t kMasked = uint64_t{1} << 16;

  uint32_t ReadRegister() const;
  void WriteRegister(uint32_t value);
  void WriteEntry(unsigned line, uint64_t value);
  // Delivers a level-triggered line's interrupt if one is due.
  void ServeLevel(unsigned line);
  void Deliver(unsigned line);

  ApicMessageSink& bus_;
  uint8_t select_ = 0;
  uint32_t id_ = 0;
  std::array<uint64_t, kLines> entries_;
  std::array<Signal, kLines> signals_ = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_IO_APIC_H_
