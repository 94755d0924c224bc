#include "boot/exit.h"

#include "boot/console.h"
#include "boot/cpu.h"

namespace hypervisor {
namespace {

constexpr uint16_t kDebugExitPort = 0xf4;

}  // namespace

void ExitMachine(unsigned code) {
  PortOut32(kDebugExitPort, code & 0x7f);
  ConsoleWrite("hypervisor: exit with code ");
  ConsoleWriteDecimal(code & 0x7f);
  ConsoleWrite("; no exit device at port 0xf4, halted\n");
  HaltForEver();
}

void ExitBecause(std::string_view why) {
  ConsoleWrite("hypervisor: ");
  ConsoleWrite(why);
  ConsoleWrite("\n");
  ExitMachine(kExitImpossible);
}

}  // namespace hypervisor
