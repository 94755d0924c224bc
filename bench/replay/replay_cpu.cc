#include "bench/replay/replay_cpu.h"

namespace shadowmmu::replay {

std::string ReplayCpu::Enter(const HardwareState& state) {
  // The model drops all that it has cached when the state differs.
  if (loaded_ != state) front_.Flush(FlushRange::All());
  loaded_ = state;
  return model_.Enter(state);
}

testing::CpuResult ReplayCpu::Access(Gva gva, const shadowmmu::Access& access,
                                     testing::CpuModel::Body body) {
  testing::CpuResult result = model_.Access(gva, access, body);
  if (!result.hit()) {
    front_.FlushPage(gva);
  } else if (access.privilege == Privilege::kUser) {
    front_.Note(gva, access.type);
  }
  return result;
}

void ReplayCpu::Flush(FlushRange range) {
  model_.Flush(range);
  front_.Flush(range);
}

}  // namespace shadowmmu::replay
