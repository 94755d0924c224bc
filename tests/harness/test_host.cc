#include "tests/harness/test_host.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "tests/harness/shared_words.h"

namespace shadowmmu::testing {
namespace {

constexpr uint32_t kMaxFrames = 1u << 20;

Hva PageOf(Hva hva) { return hva - PageOffset(hva); }

std::byte* MapAnonymous(size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SMMU_CHECK(memory != MAP_FAILED) << "mmap of " << bytes << " bytes";
  return static_cast<std::byte*>(memory);
}

}  // namespace

TestHost::TestHost(Options options)
    : options_(options),
      memory_(MapAnonymous(size_t{options.frames} * kPageSize)) {
  SMMU_CHECK_GE(options.frames, 1u);
  SMMU_CHECK_LE(options.frames, kMaxFrames);
}

TestHost::~TestHost() {
  SMMU_CHECK(cpus_.empty()) << "a CPU is still attached";
  munmap(memory_, size_t{options_.frames} * kPageSize);
}

// ---- The space of host virtual addresses ----

void TestHost::Map(Hva hva, Frame frame, Protection protection) {
  SMMU_CHECK_LT(ToInt(frame), options_.frames);
  const std::lock_guard lock(mutex_);
  mappings_.insert_or_assign(PageOf(hva), Mapping{frame, protection});
}

void TestHost::MapRange(Hva hva, uint64_t pages, Frame first) {
  for (uint64_t i = 0; i < pages; ++i) {
    Map(hva + i * kPageSize, Frame{static_cast<uint32_t>(ToInt(first) + i)});
  }
}

void TestHost::Unmap(Hva hva) {
  const std::lock_guard lock(mutex_);
  mappings_.erase(PageOf(hva));
}

void TestHost::Retarget(Hva hva, Frame frame) {
  SMMU_CHECK_LT(ToInt(frame), options_.frames);
  const std::lock_guard lock(mutex_);
  const auto it = mappings_.find(PageOf(hva));
  SMMU_CHECK(it != mappings_.end()) << "retargeting an unmapped page";
  it->second.frame = frame;
}

void TestHost::Protect(Hva hva, Protection protection) {
  const std::lock_guard lock(mutex_);
  const auto it = mappings_.find(PageOf(hva));
  SMMU_CHECK(it != mappings_.end()) << "protecting an unmapped page";
  it->second.protection = protection;
}

std::optional<Frame> TestHost::FrameAt(Hva hva) const {
  const std::lock_guard lock(mutex_);
  const Mapping* const mapping = Find(hva);
  if (mapping == nullptr) return std::nullopt;
  return mapping->frame;
}

void TestHost::SetLargestPage(Level cap) {
  const std::lock_guard lock(mutex_);
  largest_page_ = cap;
}

const TestHost::Mapping* TestHost::Find(Hva hva) const {
  const auto it = mappings_.find(PageOf(hva));
  return it == mappings_.end() ? nullptr : &it->second;
}

// Where the bytes at `hva` are, if an access of `type` may touch them now.
std::byte* TestHost::Reach(Hva hva, AccessType type, size_t bytes) {
  SMMU_CHECK_LE(PageOffset(hva) + bytes, kPageSize) << "a Try across pages";
  const Mapping* const mapping = Find(hva);
  const bool allowed =
      mapping != nullptr && (type != AccessType::kWrite ||
                             mapping->protection == Protection::kReadWrite);
  if (!allowed) {
    ++refused_tries_;
    return nullptr;
  }
  return memory_ + ToInt(mapping->frame) * kPageSize + PageOffset(hva);
}

// Do the hvas of the aligned page of `level` around `hva` map an aligned run
// of frames, all with one protection?
bool TestHost::IsUniform(Hva hva, Level level) const {
  const Hva begin(hva.value() & ~(BytesPerEntry(level) - 1));
  const Mapping* const first = Find(begin);
  if (first == nullptr) return false;
  const Pfn pfn = ToPfn(first->frame);
  if (AlignDown(pfn, level) != pfn) return false;
  for (uint64_t i = 1; i < PagesPerEntry(level); ++i) {
    const Mapping* const page = Find(begin + i * kPageSize);
    if (page == nullptr || ToPfn(page->frame) != pfn + i ||
        page->protection != first->protection) {
      return false;
    }
  }
  return true;
}

Level TestHost::LargestAround(Hva hva) const {
  Level largest = Level::k4K;
  for (Level level : {Level::k2M, Level::k1G}) {
    if (level > largest_page_ || !IsUniform(hva, level)) break;
    largest = level;
  }
  return largest;
}

HostPage TestHost::PageOfMapping(Hva hva, const Mapping& mapping) const {
  return {.pfn = ToPfn(mapping.frame),
          .writable = mapping.protection == Protection::kReadWrite,
          .largest = LargestAround(hva)};
}

absl::StatusOr<HostPage> TestHost::Resolve(Hva hva, AccessType type) {
  absl::StatusOr<HostPage> page;
  {
    const std::lock_guard lock(mutex_);
    const Mapping* const mapping = Find(hva);
    if (mapping == nullptr) {
      page = absl::NotFoundError(
          absl::StrCat("nothing at hva 0x", absl::Hex(hva.value())));
    } else if (type == AccessType::kWrite &&
               mapping->protection == Protection::kReadOnly) {
      page = absl::PermissionDeniedError(
          absl::StrCat("read-only at hva 0x", absl::Hex(hva.value())));
    } else {
      page = PageOfMapping(hva, *mapping);
    }
  }
  if (resolve_hook_) resolve_hook_(hva, type);
  return page;
}

std::optional<HostPage> TestHost::TryResolve(Hva hva) {
  const std::lock_guard lock(mutex_);
  const Mapping* const mapping = Find(hva);
  if (mapping == nullptr) return std::nullopt;
  return PageOfMapping(hva, *mapping);
}

bool TestHost::TryRead(Hva hva, std::span<std::byte> out) {
  if (read_hook_) read_hook_(hva);
  const std::lock_guard lock(mutex_);
  std::byte* const from = Reach(hva, AccessType::kRead, out.size());
  if (from == nullptr) return false;
  LoadShared(from, out);
  return true;
}

bool TestHost::TryWrite(Hva hva, std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  std::byte* const to = Reach(hva, AccessType::kWrite, bytes.size());
  if (to == nullptr) return false;
  StoreShared(to, bytes);
  return true;
}

ExchangeResult TestHost::TryCompareExchange(Hva hva, unsigned size,
                                            uint64_t* expected,
                                            uint64_t desired) {
  const std::lock_guard lock(mutex_);
  std::byte* const at = Reach(hva, AccessType::kWrite, size);
  if (at == nullptr) return ExchangeResult::kUnavailable;
  return ExchangeShared(at, size, expected, desired);
}

// ---- The frames ----

std::byte* TestHost::PointerToFrame(Pfn pfn) const {
  if (!IsFrame(pfn)) return nullptr;
  return memory_ + (pfn - kFirstFramePfn) * kPageSize;
}

bool TestHost::ReadPhysical(Hpa hpa, std::span<std::byte> out) const {
  std::byte* const frame = PointerToFrame(ToPfn(hpa));
  const uint64_t offset = hpa.value() & kPageOffsetMask;
  if (frame == nullptr || offset + out.size() > kPageSize) return false;
  LoadShared(frame + offset, out);
  return true;
}

bool TestHost::WritePhysical(Hpa hpa, std::span<const std::byte> bytes) {
  std::byte* const frame = PointerToFrame(ToPfn(hpa));
  const uint64_t offset = hpa.value() & kPageOffsetMask;
  if (frame == nullptr || offset + bytes.size() > kPageSize) return false;
  StoreShared(frame + offset, bytes);
  return true;
}

// ---- CPUs ----

void TestHost::Attach(VcpuId id, CpuModel* cpu) {
  const std::lock_guard lock(cpus_mutex_);
  const bool attached = cpus_.emplace(id, cpu).second;
  SMMU_CHECK(attached) << "vCPU " << ToInt(id) << " has a CPU";
}

void TestHost::Detach(VcpuId id) {
  const std::lock_guard lock(cpus_mutex_);
  cpus_.erase(id);
}

void TestHost::Kick(const VcpuSet& set) {
  if (kick_hook_) kick_hook_(set);
  const std::lock_guard lock(cpus_mutex_);
  ++kicks_;
  if (kick_delivery_ == Delivery::kLose) return;
  for (const auto& [id, cpu] : cpus_) {
    if (set.Contains(id)) cpu->RequestExit();
  }
}

void TestHost::FlushTlb(const VcpuSet& set, FlushRange range) {
  if (flush_hook_) flush_hook_(set);
  const std::lock_guard lock(cpus_mutex_);
  ++flushes_;
  if (flush_delivery_ == Delivery::kLose) return;
  for (const auto& [id, cpu] : cpus_) {
    if (set.Contains(id)) cpu->Flush(range);
  }
}

void TestHost::SetFlushDelivery(Delivery delivery) {
  const std::lock_guard lock(cpus_mutex_);
  flush_delivery_ = delivery;
}

void TestHost::SetKickDelivery(Delivery delivery) {
  const std::lock_guard lock(cpus_mutex_);
  kick_delivery_ = delivery;
}

uint64_t TestHost::flushes() const {
  const std::lock_guard lock(cpus_mutex_);
  return flushes_;
}

uint64_t TestHost::kicks() const {
  const std::lock_guard lock(cpus_mutex_);
  return kicks_;
}

// ---- What the library told ----

void TestHost::MarkYoung(Hva hva, Pfn pfn, Level level) {
  if (young_hook_) young_hook_(hva);
  const std::lock_guard lock(mutex_);
  for (uint64_t i = 0; i < PagesPerEntry(level); ++i) {
    young_.emplace(PageOf(hva) + i * kPageSize, pfn + i);
  }
}

void TestHost::MarkDirty(Hva hva, Pfn pfn, Level level) {
  const std::lock_guard lock(mutex_);
  for (uint64_t i = 0; i < PagesPerEntry(level); ++i) {
    dirty_.emplace(PageOf(hva) + i * kPageSize, pfn + i);
  }
}

bool TestHost::IsMarkedYoung(Hva hva) const {
  const std::lock_guard lock(mutex_);
  const auto it = young_.lower_bound(Mark(PageOf(hva), Pfn(0)));
  return it != young_.end() && it->first == PageOf(hva);
}

bool TestHost::IsMarkedDirty(Hva hva) const {
  const std::lock_guard lock(mutex_);
  const auto it = dirty_.lower_bound(Mark(PageOf(hva), Pfn(0)));
  return it != dirty_.end() && it->first == PageOf(hva);
}

bool TestHost::IsMarkedDirty(Frame frame) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(dirty_.begin(), dirty_.end(), [frame](const Mark& mark) {
    return mark.second == ToPfn(frame);
  });
}

void TestHost::ClearMarks() {
  const std::lock_guard lock(mutex_);
  young_.clear();
  dirty_.clear();
}

uint64_t TestHost::refused_tries() const {
  const std::lock_guard lock(mutex_);
  return refused_tries_;
}

void TestHost::SetResolveHook(std::function<void(Hva, AccessType)> hook) {
  resolve_hook_ = std::move(hook);
}

void TestHost::SetReadHook(std::function<void(Hva)> hook) {
  read_hook_ = std::move(hook);
}

void TestHost::SetAllocateHook(std::function<void()> hook) {
  allocate_hook_ = std::move(hook);
}

void TestHost::SetYoungHook(std::function<void(Hva)> hook) {
  young_hook_ = std::move(hook);
}

void TestHost::SetKickHook(std::function<void(const VcpuSet&)> hook) {
  kick_hook_ = std::move(hook);
}

void TestHost::SetFlushHook(std::function<void(const VcpuSet&)> hook) {
  flush_hook_ = std::move(hook);
}

void TestHost::SetStallHook(std::function<void(const Stall&)> hook) {
  stall_hook_ = std::move(hook);
}

void TestHost::SetFormat(const EntryFormat& format) {
  const std::lock_guard lock(mutex_);
  format_ = format;
}

EntryFormat TestHost::Format() const {
  const std::lock_guard lock(mutex_);
  return format_;
}

}  // namespace shadowmmu::testing
