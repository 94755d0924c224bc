// The state of a CPU that a start-up interrupt starts (SDM vol. 3, 9.4.4, and
// table 9-1; APM vol. 2, 14.1.3): real mode, at the page that it names.
//
// Thread safety: a pure function.

#ifndef HYPERVISOR_VCPU_STARTUP_STATE_H_
#define HYPERVISOR_VCPU_STARTUP_STATE_H_

#include <cstdint>

#include "emulate/cpu_state.h"

namespace hypervisor {

inline CpuState StartedAt(uint8_t page) {
  constexpr uint16_t kRealMode = Segment::kPresent | Segment::kUserSegment |
                                 Segment::kWritable | Segment::kAccessed;
  constexpr uint16_t kLdt = Segment::kPresent | 2;
  constexpr uint16_t kBusyTss = Segment::kPresent | 11;
  constexpr uint32_t kLimit = 0xffff;
  CpuState state;
  state.rip = 0;
  state.cs = {.selector = static_cast<uint16_t>(page << 8),
              .attributes = kRealMode | Segment::kCode,
              .limit = kLimit,
              .base = uint64_t{page} << 12};
  state.ds = {.attributes = kRealMode, .limit = kLimit};
  state.es = state.ss = state.fs = state.gs = state.ds;
  state.gdtr.limit = state.idtr.limit = kLimit;
  state.ldtr = {.attributes = kLdt, .limit = kLimit};
  state.tr = {.attributes = kBusyTss, .limit = kLimit};
  return state;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_VCPU_STARTUP_STATE_H_
