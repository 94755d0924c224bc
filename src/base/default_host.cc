#include "shadowmmu/default_host.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "src/base/no_memory.h"

namespace shadowmmu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// From here on memory comes from mmap: it is not resident before it is touched.
constexpr size_t kMapThreshold = size_t{128} << 10;

// An hva of this host is an address of this process.
template <typename T>
T* PointerTo(Hva hva) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): this is the one place.
  return reinterpret_cast<T*>(hva.value());
}

void* Map(size_t bytes, int flags) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

size_t RoundUp(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Maps `bytes`, a multiple of 2 MiB, at a multiple of 2 MiB, on huge pages if
// the system has them to give.
void* MapAligned(size_t bytes) {
  auto* raw = static_cast<std::byte*>(Map(bytes + kHugePage, 0));
  if (raw == nullptr) return nullptr;
  const size_t head =
      (kHugePage - reinterpret_cast<uintptr_t>(raw) % kHugePage) % kHugePage;
  if (head != 0) munmap(raw, head);
  if (head != kHugePage) munmap(raw + head + bytes, kHugePage - head);
  madvise(raw + head, bytes, MADV_HUGEPAGE);
  return raw + head;
}

template <typename T>
ExchangeResult Exchange(Hva hva, uint64_t* expected, uint64_t desired) {
  std::atomic_ref<T> memory(*PointerTo<T>(hva));
  auto held = static_cast<T>(*expected);
  if (held == *expected &&
      memory.compare_exchange_strong(held, static_cast<T>(desired))) {
    return ExchangeResult::kExchanged;
  }
  *expected = memory.load();
  return ExchangeResult::kDifferent;
}

template <typename T>
void AtomicRead(Hva hva, std::byte* out) {
  const T value = std::atomic_ref<T>(*PointerTo<T>(hva)).load();
  std::memcpy(out, &value, sizeof(T));
}

template <typename T>
void AtomicWrite(Hva hva, const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  std::atomic_ref<T>(*PointerTo<T>(hva)).store(value);
}

}  // namespace

void* DefaultHost::AllocateZeroed(size_t bytes) {
  if (bytes >= kHugePage && bytes % kHugePage == 0) return MapAligned(bytes);
  if (bytes >= kMapThreshold) return Map(bytes, 0);
  void* memory = std::aligned_alloc(64, RoundUp(bytes, 64));
  if (memory != nullptr) std::memset(memory, 0, bytes);
  return memory;
}

void DefaultHost::Free(void* memory, size_t bytes) {
  if (bytes >= kMapThreshold) {
    munmap(memory, bytes);
  } else {
    std::free(memory);
  }
}

absl::StatusOr<TableMemory> DefaultHost::AllocateTables(uint32_t tables) {
  const size_t bytes = RoundUp(size_t{tables} * kPageSize, kHugePage);
  auto* base = static_cast<std::byte*>(MapAligned(bytes));
  if (base == nullptr) {
    return NoMemory("table_capacity: no memory for the tables");
  }
  const auto describe = [&]() -> absl::StatusOr<TableMemory> {
    TableMemory memory{.base = base, .tables = tables};
    for (size_t at = 0; at < bytes; at += kHugePage) {
      memory.block_hpa.push_back(Hpa(reinterpret_cast<uintptr_t>(base) + at));
    }
    return memory;
  };
  auto memory = CatchNoMemory("no memory to describe the tables", describe);
  if (!memory.ok()) munmap(base, bytes);
  return memory;
}

void DefaultHost::FreeTables(const TableMemory& memory) {
  munmap(memory.base, memory.block_hpa.size() * kHugePage);
}

absl::StatusOr<LowPage> DefaultHost::AllocateLowPage() {
  // MAP_32BIT gives addresses below 2 GiB.
  auto* page = static_cast<std::byte*>(Map(kPageSize, MAP_32BIT));
  if (page == nullptr) {
    return NoMemory("no memory below 4 GiB");
  }
  return LowPage{.base = page, .hpa = Hpa(reinterpret_cast<uintptr_t>(page))};
}

void DefaultHost::FreeLowPage(const LowPage& page) {
  munmap(page.base, kPageSize);
}

absl::StatusOr<HostPage> DefaultHost::Resolve(Hva hva, AccessType) {
  return HostPage{.pfn = Pfn(hva.value() >> kPageShift)};
}

std::optional<HostPage> DefaultHost::TryResolve(Hva hva) {
  return HostPage{.pfn = Pfn(hva.value() >> kPageShift)};
}

bool DefaultHost::TryRead(Hva hva, std::span<std::byte> out) {
  if (out.size() == 8 && hva.value() % 8 == 0) {
    AtomicRead<uint64_t>(hva, out.data());
  } else if (out.size() == 4 && hva.value() % 4 == 0) {
    AtomicRead<uint32_t>(hva, out.data());
  } else {
    std::memcpy(out.data(), PointerTo<const void>(hva), out.size());
  }
  return true;
}

bool DefaultHost::TryWrite(Hva hva, std::span<const std::byte> bytes) {
  if (bytes.size() == 8 && hva.value() % 8 == 0) {
    AtomicWrite<uint64_t>(hva, bytes.data());
  } else if (bytes.size() == 4 && hva.value() % 4 == 0) {
    AtomicWrite<uint32_t>(hva, bytes.data());
  } else {
    std::memcpy(PointerTo<void>(hva), bytes.data(), bytes.size());
  }
  return true;
}

ExchangeResult DefaultHost::TryCompareExchange(Hva hva, unsigned size,
                                               uint64_t* expected,
                                               uint64_t desired) {
  switch (size) {
    case 1:
      return Exchange<uint8_t>(hva, expected, desired);
    case 2:
      return Exchange<uint16_t>(hva, expected, desired);
    case 4:
      return Exchange<uint32_t>(hva, expected, desired);
    default:
      return Exchange<uint64_t>(hva, expected, desired);
  }
}

void DefaultHost::MarkYoung(Hva, Pfn, Level) {}
void DefaultHost::MarkDirty(Hva, Pfn, Level) {}
void DefaultHost::Kick(const VcpuSet&) {}

void DefaultHost::FlushTlb(const VcpuSet&, FlushRange) {
  flushes_.fetch_add(1, std::memory_order_relaxed);
}

EntryFormat DefaultHost::Format() const {
  // No CPU walks the tables: it has everything.
  EntryFormat format;
  format.has_smep = true;
  format.has_smap = true;
  format.has_protection_keys = true;
  format.has_five_levels = true;
  return format;
}

}  // namespace shadowmmu
