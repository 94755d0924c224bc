// A serial port: the 16550A of a PC, with an infinitely fast line.
//
// National Semiconductor PC16550D datasheet. A byte written to THR has been
// sent before the write returns, so the transmitter is always empty; what is
// received waits in a queue behind the FIFO. Baud rate, parity and modem inputs
// are kept and mean nothing: the other end is always connected and ready.
//
// Invariants:
//  1. LSR always has THRE and TEMT set.
//  2. The line is high iff IIR would name an interrupt and the PC's gate is
//  open:
//     OUT2 set, not in loopback.
//  3. The THRE interrupt is requested anew by each byte that is sent and by
//  each
//     setting of its enable bit, and withdrawn by reading IIR when IIR names
//     it: drivers probe for exactly this.
//  4. The FIFO holds at most 16 bytes (1 when disabled); the queue behind it is
//     bounded as well, and what does not fit is dropped.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_UART_H_
#define HYPERVISOR_DEVICES_UART_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>

#include "devices/interrupts.h"
#include "devices/io_bus.h"

namespace hypervisor {

class Uart : public PortDevice {
 public:
  static constexpr uint16_t kPorts = 8;
  static constexpr size_t kQueueLimit = 4096;

  // Attach at `base`, kPorts ports. `sink` gets what the guest sends.
  Uart(uint16_t base, IrqLine& line, std::function<void(char)> sink);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

  // A byte arrives on the wire.
  void Receive(char byte);

 private:
  bool DivisorLatch() const;
  bool Loopback() const;
  size_t FifoSize() const;

  uint8_t ReadReceiver();
  uint8_t ReadInterruptIdentification();
  uint8_t ReadLineStatus();
  uint8_t ReadModemStatus();
  void WriteTransmitter(uint8_t value);
  void WriteInterruptEnable(uint8_t value);
  void WriteFifoControl(uint8_t value);
  void WriteModemControl(uint8_t value);

  // What IIR's low four bits say now, without the side effect of reading it.
  uint8_t Interrupt() const;
  uint8_t ModemInputs() const;
  // Puts a byte into the FIFO, or notes an overrun.
  void PushReceived(uint8_t value);
  // Moves what waits on the wire into the FIFO, as far as it has room.
  void Refill();
  void UpdateLine();

  const uint16_t base_;
  IrqLine& line_;
  const std::function<void(char)> sink_;

  std::deque<uint8_t> fifo_;  // received, to be read from RBR
  std::deque<uint8_t> wire_;  // arrived, and waiting for room in the FIFO
  uint16_t divisor_ = 12;     // 9600 baud, as firmware leaves it
  uint8_t interrupt_enable_ = 0;
  uint8_t fifo_control_ = 0;
  uint8_t line_control_ = 0;
  uint8_t modem_control_ = 0;
  uint8_t scratch_ = 0;
  uint8_t modem_delta_ = 0;  // MSR bits 3:0
  bool overrun_ = false;
  bool transmitter_interrupt_ = false;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_UART_H_
