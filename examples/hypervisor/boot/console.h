// The host's serial port, COM1 at 0x3f8 (datasheet of the 16550D), written and
// read by polling: what the hypervisor says, and through the shim what stdout
// and stderr say. Works from the first instruction of C++ on, in interrupt
// handlers too.
//
// Thread safety: any CPU; a call's text stays together. From an interrupt
// handler that ends the hypervisor it may come in between.

#ifndef HYPERVISOR_BOOT_CONSOLE_H_
#define HYPERVISOR_BOOT_CONSOLE_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace hypervisor {

// Sets 115200 baud, 8N1, no interrupts, FIFOs on.
void InitConsole();

// Writes the bytes of `text` as they are.
void ConsoleWrite(std::string_view text);
// Writes "0x" and 16 hexadecimal digits.
void ConsoleWriteHex(uint64_t value);
void ConsoleWriteDecimal(uint64_t value);

// The next byte that has arrived.
std::optional<char> ConsoleRead();

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_CONSOLE_H_
