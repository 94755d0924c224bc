#include "boot/console.h"

#include "boot/cpu.h"
#include "boot/spin_lock.h"

namespace hypervisor {
namespace {

constexpr uint16_t kPort = 0x3f8;
constexpr uint16_t kInterruptEnable = kPort + 1;
constexpr uint16_t kFifoControl = kPort + 2;
constexpr uint16_t kLineControl = kPort + 3;
constexpr uint16_t kModemControl = kPort + 4;
constexpr uint16_t kLineStatus = kPort + 5;

constexpr uint8_t kDivisorAccess = 0x80;
constexpr uint8_t kEightBitsNoParity = 0x03;
constexpr uint8_t kFifosOnAndCleared = 0x07;
constexpr uint8_t kDtrRts = 0x03;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x20;
// What the bus gives where no port is.
constexpr uint8_t kAbsent = 0xff;

// Bounded, so that a machine without the port goes on without it: one that is
// there sends a byte in 87 us.
constexpr unsigned kPolls = 100000;

void WriteByte(char byte) {
  for (unsigned i = 0; i < kPolls; ++i) {
    if (PortIn8(kLineStatus) & kTransmitterEmpty) break;
  }
  PortOut8(kPort, static_cast<uint8_t>(byte));
}

constinit SpinLock lock;

}  // namespace

void InitConsole() {
  PortOut8(kInterruptEnable, 0);
  PortOut8(kLineControl, kDivisorAccess);
  PortOut8(kPort, 1);
  PortOut8(kInterruptEnable, 0);
  PortOut8(kLineControl, kEightBitsNoParity);
  PortOut8(kFifoControl, kFifosOnAndCleared);
  PortOut8(kModemControl, kDtrRts);
}

// Last words must get out, whoever has the lock: a CPU that met an exception
// while it wrote, maybe.
void ConsoleWrite(std::string_view text) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  constexpr uint64_t kPatience = 1'000'000'000;  // ns
  const bool locked = lock.TryLockFor(kPatience);
  for (const char byte : text) WriteByte(byte);
  if (locked) lock.Unlock();
}

void ConsoleWriteHex(uint64_t value) {
  char text[2 + 16] = {'0', 'x'};
  unsigned count = 2;
  for (int shift = 60; shift >= 0; shift -= 4) {
    text[count++] = "0123456789abcdef"[(value >> shift) & 0xf];
  }
  ConsoleWrite({text, count});
}

void ConsoleWriteDecimal(uint64_t value) {
  constexpr unsigned kDigits = 20;
  char digits[kDigits];
  unsigned first = kDigits;
  do {
    digits[--first] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  ConsoleWrite({digits + first, kDigits - first});
}

std::optional<char> ConsoleRead() {
  const uint8_t status = PortIn8(kLineStatus);
  if (status == kAbsent || (status & kDataReady) == 0) return std::nullopt;
  return static_cast<char>(PortIn8(kPort));
}

}  // namespace hypervisor
