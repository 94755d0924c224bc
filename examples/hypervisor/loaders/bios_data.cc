#include "loaders/bios_data.h"

#include <cstdint>

namespace hypervisor {

absl::Status WriteBiosData(const GuestMemoryView& memory) {
  constexpr uint16_t kCom1Port = 0x3f8;
  constexpr uint16_t kKib = GuestMemoryView::kLowRam.bytes >> 10;
  absl::Status status = memory.Clear(bios_data::kArea);
  status.Update(memory.WriteObject(bios_data::kCom1, kCom1Port));
  status.Update(memory.WriteObject(bios_data::kLowRamKib, kKib));
  return status;
}

}  // namespace hypervisor
