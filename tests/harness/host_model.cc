#include "tests/harness/host_model.h"

#include <algorithm>
#include <cstring>

#include "src/base/check.h"
#include "tests/harness/backend.h"
#include "tests/harness/op_values.h"

namespace shadowmmu::testing {

HostModel::HostModel(uint32_t frames) : backings_(frames), pages_(frames) {
  for (uint32_t i = 0; i < frames; ++i) backings_[i] = Backing{.frame = i};
}

std::optional<HostModel::Backing> HostModel::At(Hva hva) const {
  const uint64_t number = (hva - kStreamHva) >> kPageShift;
  if (number >= backings_.size()) return std::nullopt;
  return backings_[number];
}

void HostModel::Change(const Op& op) {
  const FrameRange changed = FramesOf(op, frames());
  for (uint32_t i = 0; i < changed.count; ++i) {
    std::optional<Backing>& backing = backings_[changed.first + i];
    if (op.kind() == OpKind::kHostUnmap) {
      backing = std::nullopt;
    } else if (op.kind() == OpKind::kHostMap) {
      backing = Backing{.frame = changed.first + i};
    } else if (!backing.has_value()) {
      continue;
    } else if (op.kind() == OpKind::kHostReadonly) {
      backing->writable = false;
    } else if (op.Get(Field::kTo) < frames()) {
      backing->frame = static_cast<uint32_t>(op.Get(Field::kTo));
    }
  }
}

bool HostModel::End(HvaRange hvas) {
  const auto range = std::find(in_progress_.begin(), in_progress_.end(), hvas);
  if (range == in_progress_.end()) return false;
  in_progress_.erase(range);
  return true;
}

bool HostModel::InProgress(HvaRange hvas) const {
  return std::any_of(
      in_progress_.begin(), in_progress_.end(),
      [&](const HvaRange& range) { return range.Overlaps(hvas); });
}

bool HostModel::Cover(HvaRange hvas) const {
  for (uint64_t at = 0; at < hvas.bytes; at += kPageSize) {
    if (!InProgress(hvas.begin + at)) return false;
  }
  return true;
}

void HostModel::Write(uint32_t frame, uint64_t offset,
                      std::span<const std::byte> bytes) {
  SMMU_CHECK_LE(offset + bytes.size(), kPageSize);
  if (bytes.empty()) return;
  if (pages_[frame] == nullptr) pages_[frame] = std::make_unique<Page>();
  std::memcpy(pages_[frame]->data() + offset, bytes.data(), bytes.size());
}

void HostModel::Read(uint32_t frame, uint64_t offset,
                     std::span<std::byte> out) const {
  SMMU_CHECK_LE(offset + out.size(), kPageSize);
  if (out.empty()) return;
  if (pages_[frame] == nullptr) {
    std::fill(out.begin(), out.end(), std::byte{0});
  } else {
    std::memcpy(out.data(), pages_[frame]->data() + offset, out.size());
  }
}

uint64_t HostModel::Read64(uint32_t frame, uint64_t offset) const {
  uint64_t value = 0;
  Read(frame, offset, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

std::optional<uint64_t> HostModel::Differs(uint32_t frame,
                                           const std::byte* memory) const {
  static constexpr Page kZeroes{};
  const Page& page = pages_[frame] == nullptr ? kZeroes : *pages_[frame];
  if (std::memcmp(page.data(), memory, kPageSize) == 0) return std::nullopt;
  const auto* const at = std::mismatch(page.begin(), page.end(), memory).first;
  return static_cast<uint64_t>(at - page.begin());
}

bool HostModel::TryRead(Hva hva, std::span<std::byte> out) {
  const std::optional<Backing> backing = At(hva);
  if (!backing.has_value()) return false;
  Read(backing->frame, PageOffset(hva), out);
  return true;
}

bool HostModel::TryWrite(Hva hva, std::span<const std::byte> bytes) {
  const std::optional<Backing> backing = At(hva);
  if (!backing.has_value() || !backing->writable) return false;
  Write(backing->frame, PageOffset(hva), bytes);
  return true;
}

}  // namespace shadowmmu::testing
