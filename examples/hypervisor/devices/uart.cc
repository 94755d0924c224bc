#include "devices/uart.h"

#include <utility>

namespace hypervisor {
namespace {

// Registers by offset; DLL and DLM stand in the first two while LCR.DLAB is
// set.
enum Register : uint16_t {
  kData = 0,                     // RBR, THR
  kInterruptEnable = 1,          // IER
  kInterruptIdentification = 2,  // IIR; written, it is FCR
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

// IER.
constexpr uint8_t kEnableReceived = 0x01;
constexpr uint8_t kEnableTransmitter = 0x02;
constexpr uint8_t kEnableLineStatus = 0x04;
constexpr uint8_t kEnableModemStatus = 0x08;

// IIR bits 3:0, highest priority first.
constexpr uint8_t kIdLineStatus = 0x06;
constexpr uint8_t kIdReceived = 0x04;
constexpr uint8_t kIdTimeout = 0x0c;
constexpr uint8_t kIdTransmitter = 0x02;
constexpr uint8_t kIdModemStatus = 0x00;
constexpr uint8_t kIdNone = 0x01;
constexpr uint8_t kIdFifosEnabled = 0xc0;

// FCR.
constexpr uint8_t kFifoEnable = 0x01;
constexpr uint8_t kFifoResetReceiver = 0x02;

// LCR.
constexpr uint8_t kDlab = 0x80;

// MCR.
constexpr uint8_t kDtr = 0x01;
constexpr uint8_t kRts = 0x02;
constexpr uint8_t kOut1 = 0x04;
constexpr uint8_t kOut2 = 0x08;
constexpr uint8_t kLoop = 0x10;

// LSR.
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kOverrun = 0x02;
constexpr uint8_t kTransmitterEmpty = 0x60;  // THRE and TEMT

// MSR: inputs in bits 7:4, and what changed since the last read in 3:0, in the
// same order: CTS, DSR, RI, DCD.
constexpr uint8_t kCts = 0x10;
constexpr uint8_t kDsr = 0x20;
constexpr uint8_t kRi = 0x40;
constexpr uint8_t kDcd = 0x80;

// FCR bits 7:6: how many bytes make the received-data interrupt.
constexpr size_t kTriggerLevels[4] = {1, 4, 8, 14};

}  // namespace

Uart::Uart(uint16_t base, IrqLine& line, std::function<void(char)> sink)
    : base_(base), line_(line), sink_(std::move(sink)) {}

bool Uart::DivisorLatch() const { return (line_control_ & kDlab) != 0; }
bool Uart::Loopback() const { return (modem_control_ & kLoop) != 0; }
size_t Uart::FifoSize() const {
  return (fifo_control_ & kFifoEnable) != 0 ? 16 : 1;
}

uint32_t Uart::In(uint16_t port, unsigned /*bytes*/) {
  switch (port - base_) {
    case kData:
      return DivisorLatch() ? divisor_ & 0xff : ReadReceiver();
    case kInterruptEnable:
      return DivisorLatch() ? divisor_ >> 8 : interrupt_enable_;
    case kInterruptIdentification:
      return ReadInterruptIdentification();
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return ReadLineStatus();
    case kModemStatus:
      return ReadModemStatus();
    case kScratch:
      return scratch_;
    default:
      return 0xff;
  }
}

void Uart::Out(uint16_t port, unsigned /*bytes*/, uint32_t value) {
  const uint8_t byte = static_cast<uint8_t>(value);
  switch (port - base_) {
    case kData:
      if (DivisorLatch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | byte);
      } else {
        WriteTransmitter(byte);
      }
      break;
    case kInterruptEnable:
      if (DivisorLatch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff) | byte << 8);
      } else {
        WriteInterruptEnable(byte);
      }
      break;
    case kInterruptIdentification:
      WriteFifoControl(byte);
      break;
    case kLineControl:
      line_control_ = byte;
      break;
    case kModemControl:
      WriteModemControl(byte);
      break;
    case kScratch:
      scratch_ = byte;
      break;
    default:
      break;  // LSR and MSR are read only
  }
}

void Uart::Receive(char byte) {
  if (wire_.size() >= kQueueLimit) return;
  wire_.push_back(static_cast<uint8_t>(byte));
  Refill();
  UpdateLine();
}

uint8_t Uart::ReadReceiver() {
  if (fifo_.empty()) return 0;
  const uint8_t value = fifo_.front();
  fifo_.pop_front();
  Refill();
  UpdateLine();
  return value;
}

uint8_t Uart::ReadInterruptIdentification() {
  const uint8_t id = Interrupt();
  if (id == kIdTransmitter) {
    transmitter_interrupt_ = false;
    UpdateLine();
  }
  return (fifo_control_ & kFifoEnable) != 0
             ? static_cast<uint8_t>(id | kIdFifosEnabled)
             : id;
}

uint8_t Uart::ReadLineStatus() {
  uint8_t status = kTransmitterEmpty;
  if (!fifo_.empty()) status |= kDataReady;
  if (overrun_) status |= kOverrun;
  overrun_ = false;
  UpdateLine();
  return status;
}

uint8_t Uart::ReadModemStatus() {
  const uint8_t status = ModemInputs() | modem_delta_;
  modem_delta_ = 0;
  UpdateLine();
  return status;
}

void Uart::WriteTransmitter(uint8_t value) {
  if (Loopback()) {
    PushReceived(value);
  } else {
    sink_(static_cast<char>(value));
  }
  // Writing withdraws the interrupt and having sent requests it again. The
  // line shows both: an edge-triggered controller must see the second.
  transmitter_interrupt_ = false;
  UpdateLine();
  transmitter_interrupt_ = true;
  UpdateLine();
}

void Uart::WriteInterruptEnable(uint8_t value) {
  const uint8_t before = interrupt_enable_;
  interrupt_enable_ = value & 0x0f;
  if ((interrupt_enable_ & ~before & kEnableTransmitter) != 0) {
    transmitter_interrupt_ = true;
  }
  UpdateLine();
}

void Uart::WriteFifoControl(uint8_t value) {
  const bool toggled = ((value ^ fifo_control_) & kFifoEnable) != 0;
  // The other bits are only written together with the enable bit.
  fifo_control_ = (value & kFifoEnable) != 0 ? value : 0;
  if (toggled || (value & kFifoResetReceiver) != 0) fifo_.clear();
  Refill();
  UpdateLine();
}

void Uart::WriteModemControl(uint8_t value) {
  const uint8_t before = ModemInputs();
  modem_control_ = value & 0x1f;
  const uint8_t after = ModemInputs();
  const uint8_t changed = before ^ after;
  // RI notes its trailing edge only.
  const uint8_t noted = (changed & (kCts | kDsr | kDcd)) |
                        (before & static_cast<uint8_t>(~after) & kRi);
  modem_delta_ |= noted >> 4;
  Refill();
  UpdateLine();
}

uint8_t Uart::ModemInputs() const {
  if (!Loopback()) return kCts | kDsr | kDcd;
  uint8_t inputs = 0;
  if ((modem_control_ & kRts) != 0) inputs |= kCts;
  if ((modem_control_ & kDtr) != 0) inputs |= kDsr;
  if ((modem_control_ & kOut1) != 0) inputs |= kRi;
  if ((modem_control_ & kOut2) != 0) inputs |= kDcd;
  return inputs;
}

uint8_t Uart::Interrupt() const {
  if ((interrupt_enable_ & kEnableLineStatus) != 0 && overrun_) {
    return kIdLineStatus;
  }
  if ((interrupt_enable_ & kEnableReceived) != 0 && !fifo_.empty()) {
    const bool level =
        FifoSize() == 1 || fifo_.size() >= kTriggerLevels[fifo_control_ >> 6];
    // Below the trigger level the four character times have always passed.
    return level ? kIdReceived : kIdTimeout;
  }
  if ((interrupt_enable_ & kEnableTransmitter) != 0 && transmitter_interrupt_) {
    return kIdTransmitter;
  }
  if ((interrupt_enable_ & kEnableModemStatus) != 0 && modem_delta_ != 0) {
    return kIdModemStatus;
  }
  return kIdNone;
}

void Uart::PushReceived(uint8_t value) {
  if (fifo_.size() < FifoSize()) {
    fifo_.push_back(value);
  } else {
    overrun_ = true;
    // Without FIFOs the new byte takes the old one's place.
    if (FifoSize() == 1) fifo_.back() = value;
  }
}

void Uart::Refill() {
  if (Loopback()) return;  // the receiver is disconnected from the wire
  while (!wire_.empty() && fifo_.size() < FifoSize()) {
    fifo_.push_back(wire_.front());
    wire_.pop_front();
  }
}

void Uart::UpdateLine() {
  // On a PC, OUT2 gates the interrupt; loopback holds the pin inactive.
  const bool open = (modem_control_ & kOut2) != 0 && !Loopback();
  line_.Set(open && Interrupt() != kIdNone ? Signal::kHigh : Signal::kLow);
}

}  // namespace hypervisor
