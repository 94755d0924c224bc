// The local APIC of one CPU, in xAPIC mode.
//
// AMD APM vol. 2, chapter 16; Intel SDM vol. 3, chapter 11. Registers are 32
// bits wide, 16 bytes apart, from 0xfee00000. What is there: ID, version, TPR,
// PPR, EOI, LDR, DFR, SVR, ISR/TMR/IRR, ESR, ICR, the local vector table, and
// the timer on a bus of 1 GHz. Interprocessor interrupts go over the bus that
// ConnectTo names, or, without one, to this CPU only; SMI vanishes. NMI, INIT
// and the start-up interrupt wait for TakeNmi() and the like.
//
// The PIC's output is wired to LINT0, and PassesExtInt() says whether it gets
// through to the CPU: while the APIC is disabled, or by LVT LINT0 as ExtINT. A
// real one that is only software-disabled passes nothing, and firmware programs
// it to; here the reset state passes, so the board works for a guest that never
// looks at the APIC (virtual wire mode).
//
// Invariants:
//  1. An enabled APIC has a request pending iff the class of its highest IRR
//  bit
//     is above the class of PPR, which is that of max(TPR, highest ISR bit).
//  2. While software-disabled (SVR.8 = 0) no vector is accepted, and every
//     LVT entry is masked (APM vol. 2, 16.4.7).
//  3. A start-up interrupt counts only after INIT, and once (SDM vol. 3,
//     9.4.4.1); a CPU that is not the one that boots begins as after INIT.
//  4. At most one timer interrupt is ever owed: periods that went by unseen are
//     one interrupt, as in IRR.
//
// Thread safety: none.

#ifndef HYPERVISOR_DEVICES_LOCAL_APIC_H_
#define HYPERVISOR_DEVICES_LOCAL_APIC_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "devices/apic_message.h"
#include "devices/clock.h"
#include "devices/interrupts.h"
#include "devices/mmio_bus.h"
#include "devices/vector_set.h"

namespace hypervisor {

inline constexpr uint64_t kLocalApicBase = 0xfee00000;
inline constexpr uint64_t kLocalApicBytes = 0x1000;

class LocalApic : public MmioDevice, public InterruptSource {
 public:
  // APIC_BASE.EN, bit 11 of the MSR (SDM vol. 3, 11.4.3).
  enum class GlobalEnable : uint8_t { kDisabled, kEnabled };

  // The CPU that boots is started already; the others wait for it.
  enum class Role : uint8_t { kBoots, kIsStarted };

  LocalApic(Clock& clock, uint8_t id, Role role = Role::kBoots);

  // What this one sends goes to `bus`, which outlives it, and comes back by
  // Receive() if it is for this one, too.
  void ConnectTo(ApicMessageSink& bus) { bus_ = &bus; }

  // While disabled, registers read as all ones and the APIC does nothing.
  // Enabling resets it.
  void SetGlobalEnable(GlobalEnable enable);

  uint64_t Read(uint64_t offset, unsigned bytes) override;
  void Write(uint64_t offset, unsigned bytes, uint64_t value) override;

  bool Pending() override;
  uint8_t Acknowledge() override;

  // Whether an NMI has arrived since the last call: as many as did are one.
  bool TakeNmi();
  // The same for INIT: what the APIC itself had is reset already.
  bool TakeInit();
  // The page that the start-up interrupt names, if one has arrived.
  std::optional<uint8_t> TakeStartup();
  bool NmiWaits() const { return nmi_; }
  bool InitOrStartupWaits() const { return init_ || startup_.has_value(); }
  // Something has arrived since the last call that Pending() or one of these
  // may tell: the CPU has to look.
  bool TakeAttention();

  // The PIC's interrupts reach the CPU.
  bool PassesExtInt() const;

  // Whether a message names this one, and it listens.
  bool IsFor(const ApicMessage& message) const;
  // Takes a message that is for this one.
  void Receive(const ApicMessage& message);
  // PPR: the class of what is served or held back.
  uint8_t ProcessorPriority() const;

  // Told the vector at the end of each level-triggered interrupt.
  void OnEndOfLevel(std::function<void(uint8_t vector)> sink) {
    end_of_level_ = std::move(sink);
  }

  // CR8 is TPR bits 7:4 (SDM vol. 3, 11.8.6.1).
  uint8_t TaskPriorityClass() const;
  void SetTaskPriorityClass(uint8_t priority_class);

  // The Clock time of the timer's next interrupt, if one is armed.
  std::optional<uint64_t> NextEvent() const;
  // Accepts the timer's interrupt if it is due.
  void Advance();

 private:
  // Local vector table entries, in the order of their registers.
  enum Lvt : unsigned {
    kTimer,
    kThermal,
    kPerformance,
    kLint0,
    kLint1,
    kError,
    kLvts
  };
  void Reset();
  bool SoftwareEnabled() const;
  uint32_t ReadRegister(uint64_t reg);
  void WriteRegister(uint64_t reg, uint32_t value);
  void WriteLvt(Lvt entry, uint32_t value);
  void WriteSpurious(uint32_t value);
  void EndOfInterrupt();

  // Interprocessor interrupts.
  void SendCommand();
  bool IsMe(uint32_t destination, bool logical) const;
  // Takes a fixed interrupt into IRR.
  void Accept(uint8_t vector);
  // Notes an error, and raises the error interrupt if it is not masked.
  void Error(uint32_t bit);

  // The timer. One count takes TimerDivisor() nanoseconds.
  uint64_t TimerDivisor() const;
  bool TimerIsPeriodic() const;
  // TimerCount() is what the current-count register reads.
  uint32_t TimerCount();
  void StartTimer(uint32_t count);

  Clock& clock_;
  const uint8_t id_at_reset_;
  const Role role_;
  ApicMessageSink* bus_ = nullptr;
  GlobalEnable global_enable_ = GlobalEnable::kEnabled;

  uint32_t id_ = 0;
  uint8_t task_priority_ = 0;
  uint32_t logical_destination_ = 0;
  uint32_t destination_format_ = 0;
  uint32_t spurious_ = 0;
  uint32_t errors_ = 0;        // since ESR was last written
  uint32_t error_status_ = 0;  // what ESR reads
  uint32_t command_low_ = 0;
  uint32_t command_high_ = 0;
  std::array<uint32_t, kLvts> lvt_ = {};
  VectorSet request_;
  VectorSet in_service_;
  VectorSet level_;  // the trigger mode of what was accepted
  std::function<void(uint8_t vector)> end_of_level_;
  bool nmi_ = false;
  bool init_ = false;
  bool waits_for_startup_;
  std::optional<uint8_t> startup_;
  bool attention_ = false;

  uint32_t timer_initial_ = 0;
  uint32_t timer_divide_ = 0;
  std::optional<uint64_t> timer_next_;  // Clock time of the next expiry
  uint64_t timer_last_ = 0;             // ... and of the last one seen
};

}  // namespace hypervisor

#endif  // HYPERVISOR_DEVICES_LOCAL_APIC_H_
