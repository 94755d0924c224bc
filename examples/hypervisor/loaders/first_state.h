// The first state of a guest's CPU that a boot protocol asks for.
//
// Thread safety: a pure function.

#ifndef HYPERVISOR_LOADERS_FIRST_STATE_H_
#define HYPERVISOR_LOADERS_FIRST_STATE_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "shadowmmu/address.h"

namespace hypervisor {

// A CPU in protected mode without paging, its segments flat and of 4 GiB, with
// interrupts disabled and ring 0, about to fetch at `entry` (below 4 GiB). What
// is not about that is as after RESET (APM vol. 2, 14.1.3). `code` and `data`
// are the selectors; there is no table behind them.
inline CpuState FlatProtectedMode(shadowmmu::Gpa entry, uint16_t code,
                                  uint16_t data) {
  constexpr uint16_t kFlat = Segment::kGranularity | Segment::kDefault |
                             Segment::kPresent | Segment::kUserSegment |
                             Segment::kAccessed;
  constexpr uint16_t kLdt = Segment::kPresent | 2;
  constexpr uint16_t kBusyTss = Segment::kPresent | 11;
  constexpr uint32_t kWhole = 0xffffffff;
  CpuState state;
  state.rip = entry.value();
  state.cr0 = cr0::kPe | cr0::kEt;
  state.cs = {.selector = code,
              .attributes = kFlat | Segment::kCode | Segment::kReadable,
              .limit = kWhole};
  state.ds = {.selector = data,
              .attributes = kFlat | Segment::kWritable,
              .limit = kWhole};
  state.es = state.ss = state.fs = state.gs = state.ds;
  state.gdtr.limit = state.idtr.limit = 0xffff;
  state.ldtr = {.attributes = kLdt, .limit = 0xffff};
  state.tr = {.attributes = kBusyTss, .limit = 0xffff};
  return state;
}

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_FIRST_STATE_H_
