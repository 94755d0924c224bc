#include "emulate/stack.h"

#include "emulate/linear.h"

namespace hypervisor {

unsigned Stack::PointerBytes() const {
  if (cpu_.mode() == CpuMode::k64Bit) return 8;
  return cpu_.ss.Has(Segment::kDefault) ? 4 : 2;
}

BusResult Stack::Push(unsigned bytes, uint64_t value) {
  const unsigned width = PointerBytes();
  const uint64_t top = Truncate(cpu_.gpr[kRsp] - bytes, width);
  BusResult written = operands_.WriteAt(SegmentName::kSs, top, bytes, value);
  if (written.ok()) WriteGpr(cpu_, kRsp, width, top);
  return written;
}

BusResult Stack::Pop(unsigned bytes, uint64_t& value) {
  const unsigned width = PointerBytes();
  const uint64_t top = ReadGpr(cpu_, kRsp, width);
  BusResult read = operands_.ReadAt(SegmentName::kSs, top, bytes, value);
  if (read.ok()) Release(bytes);
  return read;
}

void Stack::Release(uint64_t bytes) {
  WriteGpr(cpu_, kRsp, PointerBytes(), cpu_.gpr[kRsp] + bytes);
}

}  // namespace hypervisor
