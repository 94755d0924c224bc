// One counter of an 8254 programmable interval timer.
//
// Intel 8254 datasheet (231164). Nothing here runs: a counter remembers when
// its count was loaded, and what it would show now is computed. So a guest
// reads the true count however seldom the hypervisor looks.
//
// Time is in periods of the counter's input clock, 1.193182 MHz, since any
// fixed moment; each call's `now` is at least that of the call before.
//
// One simplification: a count written to a square wave that runs takes effect
// at the end of the whole period, not of the half.
//
// Invariants:
//  1. OUT is low from a mode 0 control word to the count's end; every other
//     control word makes it high.
//  2. A control word or a count puts both byte flip-flops where the access mode
//     wants them; a latched value stays until it has been read.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_PIT_CHANNEL_H_
#define HYPERVISOR_DEVICES_PIT_CHANNEL_H_

#include <cstdint>
#include <optional>

#include "devices/interrupts.h"

namespace hypervisor {

class PitChannel {
 public:
  // The control word's bits 5:0; its access mode is not 0 (that is a latch
  // command).
  void WriteControl(uint8_t control, uint64_t now);
  void WriteCount(uint8_t byte, uint64_t now);
  void LatchCount(uint64_t now);
  void LatchStatus(uint64_t now);
  uint8_t Read(uint64_t now);

  void SetGate(Signal gate, uint64_t now);

  Signal Output(uint64_t now) const;
  // The first moment after `now` at which OUT rises by itself.
  std::optional<uint64_t> NextRise(uint64_t now) const;
  // Rises come again and again, this far apart; 0 if not.
  uint64_t Period() const;

  // Puts a count that was written while the last one ran into effect, if its
  // time has come by `now`.
  void Settle(uint64_t now);

 private:
  bool Periodic() const { return mode_ == 2 || mode_ == 3; }
  bool TriggeredByGate() const { return mode_ == 1 || mode_ == 5; }

  void TakeCount(uint32_t count, uint64_t now);
  // The counting element gets `count` at the next clock.
  void Load(uint32_t count, uint64_t now);
  // Clocks counted since it was loaded.
  uint64_t Elapsed(uint64_t now) const;
  // What the counter shows, as a guest reads it.
  uint16_t Count(uint64_t now) const;

  uint8_t mode_ = 3;
  uint8_t access_ = 3;
  bool bcd_ = false;
  Signal gate_ = Signal::kHigh;

  bool counting_ = false;
  uint32_t reload_ = 0;                  // the count in use
  std::optional<uint32_t> next_reload_;  // written, not yet in use
  uint64_t start_ = 0;                   // when reload_ was loaded
  std::optional<uint64_t> stopped_;      // clocks counted when the gate fell
  uint16_t held_ = 0;                    // shown while nothing counts

  uint8_t low_byte_ = 0;     // of a count whose high byte is still to come
  bool write_high_ = false;  // the next byte written is the high one
  bool read_high_ = false;
  std::optional<uint16_t> latched_count_;
  std::optional<uint8_t> latched_status_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_PIT_CHANNEL_H_
