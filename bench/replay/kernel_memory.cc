#include "bench/replay/kernel_memory.h"

#include <atomic>
#include <cstring>

#include "bench/replay/direct_map.h"
#include "bench/replay/replay_host.h"
#include "shadowmmu/fault.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {
namespace {

using testing::Say;

std::atomic_ref<uint64_t> WordAt(Hpa hpa) {
  return std::atomic_ref<uint64_t>(
      *reinterpret_cast<uint64_t*>(ReplayHost::PointerTo(hpa)));
}

absl::Status Unexpected(absl::string_view what, Gpa gpa,
                        const FaultOutcome& outcome) {
  return absl::InternalError(Say("the kernel's ", what, " at ", DirectGva(gpa),
                                 " ended as ", outcome));
}

bool IsEmulated(const FaultOutcome& outcome) {
  return outcome.kind == FaultOutcome::Kind::kEmulate;
}

}  // namespace

absl::StatusOr<Gfn> KernelMemory::NewFrame() {
  const absl::StatusOr<FrameAllocator::Frame> frame = frames_->Allocate();
  if (!frame.ok()) return frame.status();
  absl::Status done;
  if (frame->content == FrameAllocator::Content::kZero) {
    // The page is touched, and there is nothing to write: guest memory that
    // nobody uses takes no memory of the host.
    done = Touch(ToGpa(frame->gfn), AccessType::kWrite, [](Hpa) {});
  } else {
    ++counts_.frames_reused;
    done = Clear(frame->gfn);
  }
  if (!done.ok()) return done;
  return frame->gfn;
}

absl::Status KernelMemory::Clear(Gfn frame) {
  for (uint64_t offset = 0; offset < kPageSize; offset += sizeof(uint64_t)) {
    const Gpa gpa = ToGpa(frame) + offset;
    const absl::StatusOr<Touched> touched =
        cpu_->Touch(DirectGva(gpa), Write(), [offset](Hpa hpa) {
          std::memset(ReplayHost::PointerTo(hpa), 0, kPageSize - offset);
        });
    if (!touched.ok()) return touched.status();
    counts_.reuse_exits += touched->forbidden;
    if (touched->outcome.resume()) return absl::OkStatus();
    if (!IsEmulated(touched->outcome)) {
      return Unexpected("store", gpa, touched->outcome);
    }
    ++counts_.reuse_exits;
    absl::Status emulated = cpu_->Emulate(touched->outcome.gpa, 0);
    if (!emulated.ok()) return emulated;
  }
  return absl::OkStatus();
}

absl::Status KernelMemory::Read(Gfn frame) {
  return Touch(ToGpa(frame), AccessType::kRead, [](Hpa) {});
}

absl::StatusOr<uint64_t> KernelMemory::ReadEntry(Gpa gpa) {
  uint64_t entry = 0;
  absl::Status read = Touch(gpa, AccessType::kRead,
                            [&entry](Hpa hpa) { entry = WordAt(hpa).load(); });
  if (!read.ok()) return read;
  return entry;
}

absl::Status KernelMemory::Touch(Gpa gpa, AccessType type,
                                 testing::CpuModel::Body body) {
  const absl::StatusOr<Touched> touched =
      cpu_->Touch(DirectGva(gpa), Access{.type = type}, body);
  if (!touched.ok()) return touched.status();
  if (touched->outcome.resume()) return absl::OkStatus();
  return Unexpected("access", gpa, touched->outcome);
}

absl::Status KernelMemory::StoreEntry(Gpa gpa, uint64_t value) {
  const absl::StatusOr<Touched> touched = cpu_->Touch(
      DirectGva(gpa), Write(), [value](Hpa hpa) { WordAt(hpa).store(value); });
  if (!touched.ok()) return touched.status();
  counts_.write_faults += touched->forbidden;
  if (touched->outcome.resume()) {
    ++counts_.direct_stores;
    return absl::OkStatus();
  }
  if (!IsEmulated(touched->outcome)) {
    return Unexpected("store", gpa, touched->outcome);
  }
  ++counts_.emulated_stores;
  return cpu_->Emulate(touched->outcome.gpa, value);
}

}  // namespace shadowmmu::replay
