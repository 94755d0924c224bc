// The system's interrupt lines: each is wired to a PIC, up to 15, and to the
// I/O APIC, where line 0, the timer, is number 2 (MultiProcessor Specification
// 1.4, 3.6.2.3). The guest masks what it does not use.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_SYSTEM_INTERRUPTS_H_
#define HYPERVISOR_DEVICES_SYSTEM_INTERRUPTS_H_

#include <array>

#include "devices/interrupts.h"
#include "devices/io_apic.h"
#include "devices/pic_pair.h"

namespace hypervisor {

class SystemInterrupts {
 public:
  static constexpr unsigned kLines = IoApic::kLines;

  // Not owned; must outlive this.
  SystemInterrupts(PicPair& pics, IoApic& io_apic) {
    constexpr unsigned kTimerPin = 2;
    for (unsigned i = 0; i < kLines; ++i) {
      lines_[i].pic = i < PicPair::kLines ? &pics.line(i) : nullptr;
      lines_[i].io_apic = &io_apic;
      lines_[i].pin = i == 0 ? kTimerPin : i;
    }
  }
  SystemInterrupts(const SystemInterrupts&) = delete;
  SystemInterrupts& operator=(const SystemInterrupts&) = delete;

  // For a device to hold.
  IrqLine& line(unsigned number) { return lines_[number]; }

 private:
  struct Line : IrqLine {
    void Set(Signal signal) override {
      if (pic != nullptr) pic->Set(signal);
      io_apic->SetLine(pin, signal);
    }
    IrqLine* pic = nullptr;
    IoApic* io_apic = nullptr;
    unsigned pin = 0;
  };

  std::array<Line, kLines> lines_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_SYSTEM_INTERRUPTS_H_
