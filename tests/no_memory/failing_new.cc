#include "tests/no_memory/failing_new.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace shadowmmu::testing {
namespace {

thread_local bool armed = false;
thread_local bool failed = false;
thread_local bool for_good = false;
thread_local uint64_t left = 0;
std::atomic<int64_t> unfreed{0};

}  // namespace

void FailingNew::Arm(uint64_t succeed_first, Lasting lasting) {
  left = succeed_first;
  for_good = lasting == kForGood;
  failed = false;
  armed = true;
}

bool FailingNew::Disarm() {
  armed = false;
  return failed;
}

bool FailingNew::Fails() {
  if (!armed) return false;
  if (failed) return for_good;
  if (left-- > 0) return false;
  failed = true;
  return true;
}

int64_t FailingNew::outstanding() { return unfreed; }

}  // namespace shadowmmu::testing

namespace {

using shadowmmu::testing::FailingNew;

void* Allocate(std::size_t bytes, std::size_t alignment) {
  if (FailingNew::Fails()) return nullptr;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, bytes == 0 ? alignment : bytes);
  if (memory != nullptr) ++shadowmmu::testing::unfreed;
  return memory;
}

void* AllocateOrThrow(std::size_t bytes, std::size_t alignment) {
  void* memory = Allocate(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void Free(void* memory) noexcept {
  if (memory == nullptr) return;
  --shadowmmu::testing::unfreed;
  std::free(memory);
}

constexpr std::size_t kDefault = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

// The forms for arrays call these.
void* operator new(std::size_t bytes) {
  return AllocateOrThrow(bytes, kDefault);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return AllocateOrThrow(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes, kDefault);
}
void* operator new(std::size_t bytes, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete(void* memory, std::size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  Free(memory);
}
