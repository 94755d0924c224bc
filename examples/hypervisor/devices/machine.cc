#include "devices/machine.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "devices/apic_bus.h"
#include "devices/debug_console.h"
#include "devices/exit_port.h"
#include "devices/fw_cfg.h"
#include "devices/io_apic.h"
#include "devices/keyboard_controller.h"
#include "devices/pic_pair.h"
#include "devices/pit.h"
#include "devices/reset_control.h"
#include "devices/rtc.h"
#include "devices/system_interrupts.h"
#include "devices/test_device.h"
#include "devices/uart.h"

namespace hypervisor {
namespace {

constexpr uint16_t kCom1 = 0x3f8;
constexpr uint16_t kDebugPorts[] = {0xe9, 0x402};

constexpr unsigned kTimerIrq = 0;
constexpr unsigned kKeyboardIrq = 1;
constexpr unsigned kCom1Irq = 4;

constexpr unsigned kBootCpu = 0;

// A sink that the caller left out.
template <typename Signature>
std::function<Signature> OrNothing(std::function<Signature> sink) {
  if (sink) return sink;
  return [](auto&&...) {};
}

}  // namespace

// The devices, in an order in which each finds what it is wired to.
struct Machine::Board {
  Board(Clock& clock, Config config)
      : serial(OrNothing(std::move(config.serial))),
        reset(OrNothing(std::move(config.reset))),
        mmio(config.cpus),
        io_apic(apic_bus),
        interrupts(pics, io_apic),
        pit(clock, interrupts.line(kTimerIrq)),
        com1(kCom1, interrupts.line(kCom1Irq), serial),
        keyboard(interrupts.line(kKeyboardIrq), reset),
        reset_control(reset),
        rtc(clock, config.start_time, config.memory_bytes),
        fw_cfg(config.memory_bytes, static_cast<uint16_t>(config.cpus),
               config.command_line),
        exit_port(OrNothing(std::move(config.exit))),
        debug_console(serial),
        test_device(interrupts) {
    for (unsigned cpu = 0; cpu < config.cpus; ++cpu) {
      local_apics.push_back(std::make_unique<LocalApic>(
          clock, static_cast<uint8_t>(cpu),
          cpu == kBootCpu ? LocalApic::Role::kBoots
                          : LocalApic::Role::kIsStarted));
      LocalApic& local_apic = *local_apics.back();
      local_apic.ConnectTo(apic_bus);
      local_apic.OnEndOfLevel(
          [this](uint8_t vector) { io_apic.EndOfInterrupt(vector); });
      apic_bus.Attach(local_apic);
    }
  }

  const std::function<void(char)> serial;
  const std::function<void()> reset;

  IoBus ports;
  std::vector<MmioBus> mmio;  // of each CPU
  PicPair pics;
  std::vector<std::unique_ptr<LocalApic>> local_apics;
  ApicBus apic_bus;
  IoApic io_apic;
  SystemInterrupts interrupts;
  Pit pit;
  Uart com1;
  KeyboardController keyboard;
  ResetControl reset_control;
  Rtc rtc;
  FwCfg fw_cfg;
  ExitPort exit_port;
  DebugConsole debug_console;
  TestDevice test_device;
  bool pics_were_pending = false;

  void Wire() {
    pics.AttachTo(ports);
    pit.AttachTo(ports);
    keyboard.AttachTo(ports);
    reset_control.AttachTo(ports);
    test_device.AttachTo(ports);
    ports.Attach(kCom1, Uart::kPorts, &com1);
    ports.Attach(Rtc::kFirstPort, Rtc::kPorts, &rtc);
    ports.Attach(FwCfg::kFirstPort, FwCfg::kPorts, &fw_cfg);
    ports.Attach(ExitPort::kFirstPort, ExitPort::kPorts, &exit_port);
    for (const uint16_t port : kDebugPorts) {
      ports.Attach(port, 1, &debug_console);
    }
    for (size_t cpu = 0; cpu < mmio.size(); ++cpu) {
      mmio[cpu].Attach(shadowmmu::Gpa(kLocalApicBase), kLocalApicBytes,
                       local_apics[cpu].get());
      mmio[cpu].Attach(shadowmmu::Gpa(kIoApicBase), kIoApicBytes, &io_apic);
      test_device.AttachTo(mmio[cpu]);
    }
  }

  // The PICs have something for `cpu`.
  bool PicsReach(unsigned cpu) {
    return cpu == kBootCpu && local_apics[cpu]->PassesExtInt() &&
           pics.Pending();
  }

  // What firmware does, done as firmware does it: through the ports.
  void DoFirmwaresWork() {
    struct Write {
      uint16_t port;
      uint8_t value;
    };
    static constexpr Write kWrites[] = {
        {0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01},  // master
        {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01},  // slave
        {0x21, 0xfb}, {0xa1, 0xf1},  // masks: all but 2, 9, 10, 11
        {0x43, 0x36}, {0x40, 0x00}, {0x40, 0x00},  // 18.2 Hz square wave
    };
    for (const Write& write : kWrites) ports.Out(write.port, 1, write.value);
  }
};

Machine::Machine(Clock& clock, Config config)
    : board_(std::make_unique<Board>(clock, std::move(config))) {
  board_->Wire();
  board_->DoFirmwaresWork();
}

Machine::~Machine() = default;

unsigned Machine::cpus() const {
  return static_cast<unsigned>(board_->mmio.size());
}
IoBus& Machine::ports() { return board_->ports; }
MmioBus& Machine::mmio(unsigned cpu) { return board_->mmio[cpu]; }
LocalApic& Machine::local_apic(unsigned cpu) {
  return *board_->local_apics[cpu];
}

void Machine::MoveLocalApic(shadowmmu::Gpa base, unsigned cpu) {
  mmio(cpu).Move(&local_apic(cpu), base);
}

bool Machine::InterruptPending(unsigned cpu) {
  return board_->PicsReach(cpu) || local_apic(cpu).Pending();
}

uint8_t Machine::AcknowledgeInterrupt(unsigned cpu) {
  // ExtINT has no priority of its own. First, because it waits in only one
  // place, where a local APIC's vector keeps its turn.
  const bool spurious_of_pics = cpu == kBootCpu &&
                                local_apic(cpu).PassesExtInt() &&
                                !local_apic(cpu).Pending();
  if (board_->PicsReach(cpu) || spurious_of_pics) {
    return board_->pics.Acknowledge();
  }
  return local_apic(cpu).Acknowledge();
}

bool Machine::TakeAttention(unsigned cpu) {
  bool attention = local_apic(cpu).TakeAttention();
  if (cpu == kBootCpu) {
    const bool reach = board_->PicsReach(cpu);
    attention = attention || (reach && !board_->pics_were_pending);
    board_->pics_were_pending = reach;
  }
  return attention;
}

std::optional<uint64_t> Machine::NextEvent(unsigned cpu) {
  const std::optional<uint64_t> apic = local_apic(cpu).NextEvent();
  if (cpu != kBootCpu) return apic;
  const std::optional<uint64_t> pit = board_->pit.NextEvent();
  if (!pit.has_value()) return apic;
  if (!apic.has_value()) return pit;
  return std::min(*pit, *apic);
}

void Machine::Advance(unsigned cpu) {
  board_->pit.Advance();
  local_apic(cpu).Advance();
}

void Machine::ReceiveSerial(char byte) { board_->com1.Receive(byte); }

}  // namespace hypervisor
