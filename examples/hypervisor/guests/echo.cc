// Reads its serial port: the alphabet in small letters by polling, and in
// capitals by interrupts, halted between them. `typed` types it.

#include "runtime/cpu.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

namespace guest {
namespace {

// National Semiconductor PC16550D: the registers used here.
constexpr uint16_t kUart = 0x3f8;
constexpr uint16_t kInterruptEnable = kUart + 1;
constexpr uint16_t kModemControl = kUart + 4;
constexpr uint16_t kLineStatus = kUart + 5;
constexpr uint8_t kReceived = 1u << 0;
constexpr uint8_t kDataReady = 1u << 0;
// On a PC OUT2 lets the interrupt through.
constexpr uint8_t kOut2 = 1u << 3;
// Intel 8259A: the ports of the first one.
constexpr uint16_t kPic1 = 0x20;
constexpr uint8_t kEndOfInterrupt = 0x20;
constexpr unsigned kFirstVector = 0x20;
constexpr unsigned kUartIrq = 4;
constexpr unsigned kLetters = 26;

volatile unsigned capitals = 0;

uint8_t Receive() {
  while ((In8(kLineStatus) & kDataReady) == 0) {
  }
  return In8(kUart);
}

Handled OnByte(InterruptFrame*) {
  while ((In8(kLineStatus) & kDataReady) != 0) {
    CheckEqual(In8(kUart), 'A' + capitals, "a capital");
    capitals = capitals + 1;
  }
  Out8(kPic1, kEndOfInterrupt);
  return Handled::kDone;
}

void ReceiveByInterrupts() {
  // ICW1 to ICW4, then the mask.
  Out8(kPic1, 0x11);
  Out8(kPic1 + 1, kFirstVector);
  Out8(kPic1 + 1, 4);
  Out8(kPic1 + 1, 1);
  Out8(kPic1 + 1, static_cast<uint8_t>(~(1u << kUartIrq)));
  SetHandler(kFirstVector + kUartIrq, OnByte);
  Out8(kModemControl, kOut2);
  Out8(kInterruptEnable, kReceived);
  while (capitals < kLetters) Halt();
}

}  // namespace

void GuestMain() {
  Print("ready\n");
  for (unsigned i = 0; i < kLetters; ++i) {
    CheckEqual(Receive(), 'a' + i, "a small letter");
  }
  ReceiveByInterrupts();
  Print("read all that was typed\n");
}

}  // namespace guest
