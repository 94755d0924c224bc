#include "devices/keyboard_controller.h"

#include <utility>

namespace hypervisor {
namespace {

constexpr uint16_t kDataPort = 0x60;
constexpr uint16_t kCommandPort = 0x64;

// Status.
constexpr uint8_t kOutputFull = 0x01;
constexpr uint8_t kSystemFlag = 0x04;
constexpr uint8_t kLastWasCommand = 0x08;
constexpr uint8_t kNotLocked = 0x10;
constexpr uint8_t kTimeOut = 0x40;

// The command byte.
constexpr uint8_t kInterrupts = 0x01;
constexpr uint8_t kKeyboardOff = 0x10;
constexpr uint8_t kTranslate = 0x40;

// Commands.
constexpr uint8_t kReadMemory = 0x20;   // to 0x3f
constexpr uint8_t kWriteMemory = 0x60;  // to 0x7f
constexpr uint8_t kTestMouse = 0xa9;
constexpr uint8_t kSelfTest = 0xaa;
constexpr uint8_t kTestKeyboard = 0xab;
constexpr uint8_t kDisableKeyboard = 0xad;
constexpr uint8_t kEnableKeyboard = 0xae;
constexpr uint8_t kReadInputPort = 0xc0;
constexpr uint8_t kReadOutputPort = 0xd0;
constexpr uint8_t kWriteOutputPort = 0xd1;
constexpr uint8_t kEchoKeyboard = 0xd2;
constexpr uint8_t kEchoMouse = 0xd3;
constexpr uint8_t kToMouse = 0xd4;
constexpr uint8_t kCloseA20 = 0xdd;
constexpr uint8_t kOpenA20 = 0xdf;
constexpr uint8_t kPulse = 0xf0;  // bits 3:0 that are 0 name output port lines

// The output port.
constexpr uint8_t kNotReset = 0x01;
constexpr uint8_t kA20 = 0x02;

constexpr uint8_t kSelfTestPassed = 0x55;
constexpr uint8_t kInterfaceGood = 0x00;
constexpr uint8_t kClockStuckLow = 0x01;  // how a port that is not there tests
constexpr uint8_t kResend = 0xfe;

}  // namespace

KeyboardController::KeyboardController(IrqLine& irq1,
                                       std::function<void()> reset)
    : irq1_(irq1), reset_(std::move(reset)) {
  memory_[0] = kTranslate | kSystemFlag;
  output_port_ = kNotReset | kA20;
}

void KeyboardController::AttachTo(IoBus& bus) {
  bus.Attach(kDataPort, 1, this);
  bus.Attach(kCommandPort, 1, this);
}

uint32_t KeyboardController::In(uint16_t port, unsigned /*bytes*/) {
  return port == kDataPort ? ReadData() : Status();
}

void KeyboardController::Out(uint16_t port, unsigned /*bytes*/,
                             uint32_t value) {
  const uint8_t byte = static_cast<uint8_t>(value);
  last_was_command_ = port == kCommandPort;
  if (last_was_command_) {
    WriteCommand(byte);
  } else {
    WriteData(byte);
  }
}

uint8_t KeyboardController::Status() const {
  uint8_t status = kNotLocked | (memory_[0] & kSystemFlag);
  if (last_was_command_) status |= kLastWasCommand;
  if (output_.has_value()) {
    status |= kOutputFull;
    if (output_->source == Source::kNoReply) status |= kTimeOut;
  }
  return status;
}

uint8_t KeyboardController::ReadData() {
  if (!output_.has_value()) return 0;
  const uint8_t byte = output_->byte;
  output_.reset();
  UpdateLine();
  return byte;
}

void KeyboardController::WriteCommand(uint8_t command) {
  command_ = 0;
  if (command >= kPulse) {
    if ((command & kNotReset) == 0) reset_();
    return;
  }
  if (command >= kReadMemory && command < kReadMemory + memory_.size()) {
    Put(memory_[command - kReadMemory], Source::kController);
    return;
  }
  if (command >= kWriteMemory && command < kWriteMemory + memory_.size()) {
    command_ = command;
    return;
  }
  switch (command) {
    case kTestMouse:
      Put(kClockStuckLow, Source::kController);
      break;
    case kSelfTest:
      Put(kSelfTestPassed, Source::kController);
      break;
    case kTestKeyboard:
      Put(kInterfaceGood, Source::kController);
      break;
    case kDisableKeyboard:
      memory_[0] |= kKeyboardOff;
      break;
    case kEnableKeyboard:
      memory_[0] &= static_cast<uint8_t>(~kKeyboardOff);
      break;
    case kReadInputPort:
      Put(0x80, Source::kController);  // the lock is open
      break;
    case kReadOutputPort:
      Put(output_port_, Source::kController);
      break;
    case kWriteOutputPort:
    case kEchoKeyboard:
    case kEchoMouse:
    case kToMouse:
      command_ = command;
      break;
    case kCloseA20:
      output_port_ &= static_cast<uint8_t>(~kA20);
      break;
    case kOpenA20:
      output_port_ |= kA20;
      break;
    default:
      break;
  }
}

void KeyboardController::WriteData(uint8_t value) {
  const uint8_t command = std::exchange(command_, uint8_t{0});
  if (command >= kWriteMemory && command < kWriteMemory + memory_.size()) {
    memory_[command - kWriteMemory] = value;
    UpdateLine();
    return;
  }
  switch (command) {
    case kWriteOutputPort:
      WriteOutputPort(value);
      break;
    case kEchoKeyboard:
      Put(value, Source::kKeyboard);
      break;
    case kEchoMouse:
      // Without a mouse port, not marked as the mouse's: so a probe learns that
      // there is none, and need not wait for it.
      Put(value, Source::kController);
      break;
    default:  // for the keyboard or the mouse
      Put(kResend, Source::kNoReply);
      break;
  }
}

void KeyboardController::WriteOutputPort(uint8_t value) {
  output_port_ = value;
  if ((value & kNotReset) == 0) reset_();
}

void KeyboardController::Put(uint8_t byte, Source source) {
  // One interrupt a byte: the line falls between two.
  output_.reset();
  UpdateLine();
  output_ = Output{.byte = byte, .source = source};
  UpdateLine();
}

void KeyboardController::UpdateLine() {
  const bool interrupts = (memory_[0] & kInterrupts) != 0;
  // Only the keyboard interrupts; commands are polled.
  const bool high = interrupts && output_.has_value() &&
                    output_->source != Source::kController;
  irq1_.Set(high ? Signal::kHigh : Signal::kLow);
}

}  // namespace hypervisor
