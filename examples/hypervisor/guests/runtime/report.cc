#include "runtime/report.h"

#include "runtime/cpu.h"

namespace guest {
namespace {

constexpr uint16_t kUart = 0x3f8;
constexpr uint16_t kLineStatus = kUart + 5;
constexpr uint8_t kTransmitterEmpty = 1u << 5;
constexpr uint16_t kExitPort = 0xf4;

void PutChar(char c) {
  while ((In8(kLineStatus) & kTransmitterEmpty) == 0) {
  }
  Out8(kUart, static_cast<uint8_t>(c));
}

void Fail(const char* what, int line) {
  Print("FAILED, line ", line, ": ", what, "\n");
}

}  // namespace

void Put(const char* text) {
  for (; *text != '\0'; ++text) PutChar(*text);
}

void Put(Hex number) {
  Put("0x");
  bool leading = true;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const unsigned digit = static_cast<unsigned>(number.value >> shift) & 0xf;
    leading = leading && digit == 0 && shift != 0;
    if (!leading) PutChar("0123456789abcdef"[digit]);
  }
}

void Put(unsigned number) {
  char digits[11];
  char* at = digits + sizeof(digits) - 1;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  Put(at);
}

void Exit(uint32_t status) {
  Out32(kExitPort, status);
  while (true) asm volatile("cli; hlt");
}

void Check(bool good, const char* what, int line) {
  if (good) return;
  Fail(what, line);
  Exit(1);
}

void CheckEqual(uint64_t actual, uint64_t expected, const char* what,
                int line) {
  if (actual == expected) return;
  Fail(what, line);
  Print("  is ", Hex(actual), ", should be ", Hex(expected), "\n");
  Exit(1);
}

}  // namespace guest
