// The guest's board: a PC's chips on their buses.
//
//   serial port COM1  0x3f8  IRQ 4      keyboard controller  0x60, 0x64
//   PIC pair          0x20, 0xa0        CMOS and clock       0x70  (no IRQ)
//   I/O APIC          0xfec00000
//   PIT               0x40, 0x61 IRQ 0  local APIC           0xfee00000
//   fw_cfg            0x510             exit port            0xf4
//   test device       0xe0, 0x2000, 0xff000000
//   debug consoles    0xe9, 0x402       reset                0x92, 0xcf9
//
// Everything else is absent: ports and addresses read as all ones, and so the
// PCI probe at 0xcf8 finds nothing.
//
// No firmware has run, but the board is as firmware leaves it: the PICs
// initialised with IRQ 0-7 on vectors 0x08-0x0f and IRQ 8-15 on 0x70-0x77, PIT
// channel 0 at 18.2 Hz, the local APIC transparent to the PIC (virtual wire
// mode: MultiProcessor Specification 1.4, 3.6.2.2), the memory's size in CMOS.
// All lines that a device of the board drives are masked, because there are no
// firmware handlers for them; 9, 10 and 11, which a PC gives to PCI and here
// only the test device drives, are not.
//
// Each CPU has a local APIC, which it alone sees, and which is linked with the
// others by a bus (apic_bus.h). The PICs' interrupts go to CPU 0, the one that
// boots; the others wait for their start-up interrupt.
//
// How to run it:
//  - every guest IN, OUT and access to absent memory goes to ports() or mmio();
//  - when the Clock reaches NextEvent(), and before InterruptPending() is
//  asked,
//    call Advance();
//  - when InterruptPending() and the guest can take an interrupt, inject
//    AcknowledgeInterrupt().
// The sinks are called from within these calls: a sink notes what was asked of
// it, and must not call back into the board.
//
// Thread safety: none; one thread at a time.

#ifndef HYPERVISOR_DEVICES_MACHINE_H_
#define HYPERVISOR_DEVICES_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "devices/clock.h"
#include "devices/io_bus.h"
#include "devices/local_apic.h"
#include "devices/mmio_bus.h"

namespace hypervisor {

class Machine {
 public:
  // What differs from board to board, and where its outputs go.
  struct Config {
    // RAM, all of it from address 0 (as CMOS and fw_cfg tell it).
    uint64_t memory_bytes = 0;
    // CPUs, numbered from 0, as are their local APICs.
    unsigned cpus = 1;
    // What the real-time clock says at Clock 0: seconds since 1970, UTC.
    uint64_t start_time = 0;
    // What fw_cfg gives as the command line.
    std::string command_line;
    // What the guest writes to COM1 and to the debug consoles.
    std::function<void(char)> serial;
    // The guest asks to end, with this value (0: success). isa-debug-exit would
    // end the process with (code << 1) | 1.
    std::function<void(uint32_t code)> exit;
    // The guest asks for a reset: keyboard controller, port 0x92 or 0xcf9.
    std::function<void()> reset;
  };

  Machine(Clock& clock, Config config);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  unsigned cpus() const;
  IoBus& ports();
  // What `cpu` reaches by memory.
  MmioBus& mmio(unsigned cpu = 0);
  // For the CPU's own faces of it: APIC_BASE.EN, CR8.
  LocalApic& local_apic(unsigned cpu = 0);

  // APIC_BASE: where its registers are (SDM vol. 3, 11.4.4). Memory that is
  // there, or another device, hides them.
  void MoveLocalApic(shadowmmu::Gpa base, unsigned cpu = 0);

  // An interrupt waits for `cpu`, from the PIC or its local APIC.
  bool InterruptPending(unsigned cpu = 0);
  // The CPU takes it: its vector. See InterruptSource.
  uint8_t AcknowledgeInterrupt(unsigned cpu = 0);
  // Whether `cpu` has to look at all this, because something has come since the
  // last call.
  bool TakeAttention(unsigned cpu);

  // The Clock time at which `cpu` has to call Advance; none if only the guest
  // can make a device act. CPU 0 sees to what all share.
  std::optional<uint64_t> NextEvent(unsigned cpu = 0);
  // Does what is due by now, of what all share, and of `cpu`.
  void Advance(unsigned cpu = 0);

  // A byte arrives at COM1.
  void ReceiveSerial(char byte);

 private:
  struct Board;
  std::unique_ptr<Board> board_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_MACHINE_H_
