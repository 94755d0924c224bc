// One 8259A interrupt controller.
//
// Intel 8259A datasheet (231468). Two of them make a PC's PicPair.
//
// A request that came by an edge stays until it is acknowledged, even when the
// line falls again first (the datasheet would deliver a spurious IR7 then): a
// pulse is never lost, however late the guest looks. What a level-triggered
// line or the slave withdraws is withdrawn, and an acknowledge that finds
// nothing is the spurious IR7.
//
// Trigger mode is per line, from the ELCR (Intel 82371AB datasheet, 7.2); LTIM
// of ICW1 does nothing, as in that chip.
//
// Invariants:
//  1. Pending() iff an unmasked request has a priority above every level in
//     service (special mask mode: above every unmasked one).
//  2. Initialisation is complete before an interrupt is delivered.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_PIC_H_
#define HYPERVISOR_DEVICES_PIC_H_

#include <cstdint>
#include <optional>

#include "devices/interrupts.h"

namespace hypervisor {

class Pic : public InterruptSource {
 public:
  // Which of the pair: the master has a slave on IR2.
  enum class Role : uint8_t { kMaster, kSlave };

  // `elcr_mask` says which lines may be level-triggered.
  Pic(Role role, uint8_t elcr_mask);

  // The two ports, by address line A0: 0 commands, 1 data.
  uint8_t Read(unsigned a0);
  void Write(unsigned a0, uint8_t value);

  uint8_t edge_level_control() const { return elcr_; }
  void set_edge_level_control(uint8_t value);

  // Drives input `line`, 0 to 7.
  void SetInput(unsigned line, Signal signal);

  bool Pending() override;
  uint8_t Acknowledge() override;

  // The line that Acknowledge() would take, if any.
  std::optional<unsigned> PendingLine() const;

 private:
  void WriteIcw1(uint8_t value);
  void WriteIcw(uint8_t value);
  void WriteOcw2(uint8_t value);
  void WriteOcw3(uint8_t value);

  // Requests: latched edges, and level-triggered lines that are high.
  uint8_t Requests() const;
  // The first set bit of `lines` in priority order: 0 is the highest. 8: none.
  unsigned HighestPriority(uint8_t lines) const;
  unsigned LineOfPriority(unsigned priority) const;
  // Takes `line`: from request to in service.
  void Take(unsigned line);
  void EndOfInterrupt(unsigned line) {
    in_service_ &= static_cast<uint8_t>(~(1u << line));
  }

  const Role role_;
  const uint8_t elcr_mask_;

  uint8_t inputs_ = 0;      // levels of the lines
  uint8_t edges_ = 0;       // latched edges
  uint8_t elcr_ = 0;        // bit set: level triggered
  uint8_t mask_ = 0;        // IMR
  uint8_t in_service_ = 0;  // ISR
  uint8_t base_ = 0;        // vector of IR0, from ICW2
  uint8_t lowest_ = 7;      // the line of lowest priority

  // Which initialisation word comes next at A0 = 1; 0: none, that is OCW1.
  unsigned next_icw_ = 0;
  bool initialised_ = false;
  bool wants_icw3_ = false;
  bool wants_icw4_ = false;
  bool auto_eoi_ = false;
  bool special_fully_nested_ = false;
  bool special_mask_ = false;
  bool rotate_on_auto_eoi_ = false;
  bool reads_in_service_ = false;  // what A0 = 0 reads: ISR, else IRR
  bool poll_ = false;              // the next read is a poll
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_PIC_H_
