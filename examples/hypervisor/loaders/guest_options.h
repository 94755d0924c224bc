// GuestOptions: how a guest is to be run, as the script `run` writes it into
// the bundle: lines of a name, one space and a value.
//
//   name debian         the image's: a Multiboot guest's argv[0]
//   memory_mib 256      MiB of guest memory
//   vcpus 2             virtual CPUs, each on a CPU of the machine's
//   cpu_flag -la57      a CPU feature to hide (-), or not (+); more than once
//   bump_every_ms 10    make all shadow pages obsolete so often; 0: never
//   strategy release    how: zap_all, obsolete_walk or release
//   unplug_every_ms 50  take the memslot of the RAM away, and bring it back
//   slot_zap walk       how it goes: auto, targeted, walk or release
//   audit_every 1000    exits between two audits of the MMU; 0: never
//   unsync 0            0: without this feature of the library
//   previous_roots 0    MmuConfig::previous_roots
//   prefetch 0          MmuConfig::prefetch
//   large_pages 0       0: without large pages
//   timeout_s 60        then the guest is stopped; 0: never
//   serial_input 1      1: the guest's serial port reads what COM1 receives
//   statistics com2     statistics go to COM2 at exit; none: nowhere
//
// Every line may be missing; a line that is not one of these is an error.
//
// Thread safety: values.

#ifndef HYPERVISOR_LOADERS_GUEST_OPTIONS_H_
#define HYPERVISOR_LOADERS_GUEST_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "shadowmmu/mmu.h"

namespace hypervisor {

enum class Statistics : uint8_t { kNone, kCom2 };

struct GuestOptions {
  // Numbers have no more digits than this.
  static constexpr size_t kMaxDigits = 9;
  // Bounds of the text, in bytes, and of cpu_flags.
  static constexpr size_t kMaxText = 64 << 10;
  static constexpr size_t kMaxCpuFlags = 64;

  std::string name = "guest";
  uint32_t memory_mib = 256;
  uint32_t vcpus = 1;
  // Each "+name" or "-name".
  std::vector<std::string> cpu_flags;
  uint32_t bump_every_ms = 0;
  uint32_t unplug_every_ms = 0;
  uint32_t audit_every = 0;
  uint32_t timeout_s = 0;
  uint32_t unsync = 1;
  uint32_t previous_roots = 3;
  uint32_t prefetch = 8;
  uint32_t large_pages = 1;
  uint32_t serial_input = 0;
  Statistics statistics = Statistics::kNone;
  shadowmmu::Strategy strategy = shadowmmu::Strategy::kObsoleteWalk;
  shadowmmu::SlotZapPolicy slot_zap = shadowmmu::SlotZapPolicy::kAuto;

  // InvalidArgument, with the line's number, if a line is none.
  static absl::StatusOr<GuestOptions> Parse(absl::string_view text);
};

}  // namespace hypervisor

#endif  // HYPERVISOR_LOADERS_GUEST_OPTIONS_H_
