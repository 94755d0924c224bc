// DefaultHost: the Host of a plain Linux process.
//
// Guest memory is memory of this process: pfn = hva >> 12, every page is
// writable, present and 4 KiB. Tables come from mmap; "physical" addresses of
// tables are their virtual ones. There is no CPU that runs the guest, so Kick
// does nothing and FlushTlb only counts, and Format says that it has every
// feature: derive from it and override these three to drive a CPU, as the
// tests' CPU model does. A vCPU that was put into the guest leaves it when its
// own thread calls ExitGuest, and not before: a release of all pages waits for
// that (Strategy::kRelease; a slot that goes may go by one, SlotZapPolicy).
//
// Thread safety: as Host asks.

#ifndef SHADOWMMU_DEFAULT_HOST_H_
#define SHADOWMMU_DEFAULT_HOST_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "shadowmmu/host.h"

namespace shadowmmu {

class DefaultHost : public Host {
 public:
  void* AllocateZeroed(size_t bytes) override;
  void Free(void* memory, size_t bytes) override;
  absl::StatusOr<TableMemory> AllocateTables(uint32_t tables) override;
  void FreeTables(const TableMemory& memory) override;
  absl::StatusOr<LowPage> AllocateLowPage() override;
  void FreeLowPage(const LowPage& page) override;

  absl::StatusOr<HostPage> Resolve(Hva hva, AccessType type) override;
  std::optional<HostPage> TryResolve(Hva hva) override;
  bool TryRead(Hva hva, std::span<std::byte> out) override;
  bool TryWrite(Hva hva, std::span<const std::byte> bytes) override;
  ExchangeResult TryCompareExchange(Hva hva, unsigned size, uint64_t* expected,
                                    uint64_t desired) override;
  void MarkYoung(Hva hva, Pfn pfn, Level level) override;
  void MarkDirty(Hva hva, Pfn pfn, Level level) override;

  void Kick(const VcpuSet& set) override;
  void FlushTlb(const VcpuSet& set, FlushRange range) override;
  EntryFormat Format() const override;

  // How often FlushTlb was called.
  uint64_t flushes() const { return flushes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> flushes_{0};
};

}  // namespace shadowmmu

#endif  // SHADOWMMU_DEFAULT_HOST_H_
