// The segment registers of a task that has just been switched to, loaded from
// the selectors of its TSS with the checks of SDM vol. 3, table 7-1 (APM vol.
// 2, 12.2.5): what is wrong with them is #TS, #NP or #SS in the new task.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_TASK_SEGMENTS_H_
#define HYPERVISOR_EMULATE_TASK_SEGMENTS_H_

#include <cstdint>
#include <span>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"

namespace hypervisor {

// Whether the task switch was brought about by something outside of the
// program: bit 0 (EXT) of its error codes.
enum class EventSource : uint8_t { kProgram = 0, kExternal = 1 };

class TaskSegments {
 public:
  // `cpu` has the new task's CPL, RFLAGS and GDT already. Not owned; must
  // outlive this.
  TaskSegments(CpuState& cpu, GuestBus& bus, EventSource source)
      : cpu_(cpu), bus_(bus), source_(source) {}

  // The selectors alone, in registers that cannot be used: what is left of one
  // whose load fails, and of those after it.
  void SetSelectors(std::span<const uint16_t, 6> selectors, uint16_t ldt);

  // LDTR first, then CS, SS and the others, until the first that fails. In
  // virtual-8086 mode segments are what their selectors say.
  BusResult Load();

 private:
  BusResult LoadLdtr();
  BusResult LoadSegment(SegmentName name);
  // What the descriptor of `name` must be; kOk if it is.
  BusResult Check(SegmentName name, const Segment& segment) const;
  bool TypeAllowed(SegmentName name, const Segment& segment) const;
  void LoadVirtual8086();

  uint32_t ErrorCode(uint16_t selector) const;
  BusResult Invalid(uint16_t selector) const;

  CpuState& cpu_;
  GuestBus& bus_;
  const EventSource source_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_TASK_SEGMENTS_H_
