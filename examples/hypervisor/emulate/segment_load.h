// Loads of a data or stack segment register by MOV and POP, with the checks of
// APM vol. 2, 4.10.1 and 4.10.2 (SDM vol. 2, MOV).
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_SEGMENT_LOAD_H_
#define HYPERVISOR_EMULATE_SEGMENT_LOAD_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"

namespace hypervisor {

// `name` is not CS, which neither instruction loads. On an exception nothing is
// changed.
BusResult LoadSegment(CpuState& cpu, GuestBus& bus, SegmentName name,
                      uint16_t value);

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_SEGMENT_LOAD_H_
