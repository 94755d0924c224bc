// HostModel: what an op-stream's host is believed to be: which frame backs each
// hva, what every frame holds, and the notifier ranges in progress. It is the
// interpreter's own copy, kept by the ops alone, that the real memory is held
// against.
//
//  1. It is a Host only so that GuestMemory, and with it the oracle, can read
//     the copy: TryRead and TryWrite work on it, nothing else is called.
//  2. Frames that were never written hold zeroes and take no memory.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_HOST_MODEL_H_
#define SHADOWMMU_TESTS_HARNESS_HOST_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "shadowmmu/address.h"
#include "shadowmmu/default_host.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

class HostModel : public DefaultHost {
 public:
  // What backs a page.
  struct Backing {
    uint32_t frame = 0;
    bool writable = true;
    friend bool operator==(const Backing&, const Backing&) = default;
  };

  // Frame i backs the hva of frame i.
  explicit HostModel(uint32_t frames);

  uint32_t frames() const { return static_cast<uint32_t>(backings_.size()); }

  // ---- Mappings ----
  // nullopt where nothing backs it.
  std::optional<Backing> At(Hva hva) const;
  // host.unmap, host.map, host.retarget, host.readonly.
  void Change(const Op& op);

  // ---- Notifier ranges in progress ----
  void Begin(HvaRange hvas) { in_progress_.push_back(hvas); }
  size_t ranges_in_progress() const { return in_progress_.size(); }
  // False if no such range is in progress.
  bool End(HvaRange hvas);
  // Does one cover this page, or a page within `bytes` from it on?
  bool InProgress(Hva hva) const { return InProgress(HvaRange{hva, 1}); }
  bool InProgress(HvaRange hvas) const;
  // Do they cover every page of the range?
  bool Cover(HvaRange hvas) const;

  // ---- What the frames hold ----
  // Within one frame.
  void Write(uint32_t frame, uint64_t offset, std::span<const std::byte> bytes);
  void Read(uint32_t frame, uint64_t offset, std::span<std::byte> out) const;
  uint64_t Read64(uint32_t frame, uint64_t offset) const;
  // The first offset where `memory`, a whole frame, differs; nullopt if none.
  std::optional<uint64_t> Differs(uint32_t frame,
                                  const std::byte* memory) const;

  // ---- Host ----
  bool TryRead(Hva hva, std::span<std::byte> out) override;
  bool TryWrite(Hva hva, std::span<const std::byte> bytes) override;

 private:
  using Page = std::array<std::byte, kPageSize>;

  std::vector<std::optional<Backing>> backings_;  // by number of the hva
  std::vector<std::unique_ptr<Page>> pages_;      // by frame; null: all zero
  std::vector<HvaRange> in_progress_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_HOST_MODEL_H_
