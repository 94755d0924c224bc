// A PC's real-time clock and CMOS memory.
//
// Motorola MC146818A datasheet, at ports 0x70 (index; its top bit, the NMI
// mask, is ignored) and 0x71 (data). The date is computed from the Clock when
// it is read. 128 bytes; the century is at 0x32 and the memory's size where PC
// firmware puts it. There are no interrupts: register C always reads 0.
//
// Invariants:
//  1. Update-in-progress is set for the last 2.2 ms of each second (the
//     datasheet's 244 us of warning and 1,984 us of update), and never while
//     SET or the divider's reset holds the clock. What is read with it clear is
//     consistent for 244 us.
//  2. While SET is on, the date stands still and is written field by field; it
//     takes effect, whatever was written, when SET goes off.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_RTC_H_
#define HYPERVISOR_DEVICES_RTC_H_

#include <array>
#include <cstdint>
#include <optional>

#include "devices/clock.h"
#include "devices/io_bus.h"

namespace hypervisor {

class Rtc : public PortDevice {
 public:
  static constexpr uint16_t kFirstPort = 0x70;
  static constexpr uint16_t kPorts = 2;

  // `start_time`: the date at Clock 0, in seconds since 1970, UTC.
  // `memory_bytes`: RAM from address 0.
  Rtc(Clock& clock, uint64_t start_time, uint64_t memory_bytes);

  uint32_t In(uint16_t port, unsigned bytes) override;
  void Out(uint16_t port, unsigned bytes, uint32_t value) override;

 private:
  // The date in plain numbers.
  struct Fields {
    unsigned second, minute, hour;  // hour 0 to 23
    unsigned weekday;               // 1 is Sunday
    unsigned day, month;            // from 1
    unsigned year, century;         // 26 and 20
  };

  void DescribeMemory(uint64_t memory_bytes);
  uint8_t Read(uint8_t index);
  void Write(uint8_t index, uint8_t value);
  void WriteRegisterB(uint8_t value);

  // The plain number of a date register, if `index` is one.
  static unsigned* FieldAt(Fields& fields, uint8_t index);
  Fields Date();
  void SetDate(const Fields& fields);
  uint64_t SecondsSinceStart();
  bool UpdateInProgress();

  // Between a plain number and a register, by the data mode of register B.
  uint8_t Encode(uint8_t index, unsigned number) const;
  unsigned Decode(uint8_t index, uint8_t value) const;

  Clock& clock_;
  int64_t epoch_;               // the date at Clock 0, seconds since 1970
  std::optional<Fields> held_;  // the date while SET is on
  uint8_t index_ = 0;
  std::array<uint8_t, 128> memory_ = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_RTC_H_
