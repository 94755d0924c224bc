// GuestMemory and SlotRegistry with real threads: whoever takes memory or slots
// away waits for those who may be using them.

#include "src/mmu/guest_memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "src/memslot/slot_registry.h"
#include "tests/harness/test_host.h"

namespace shadowmmu {
namespace {

// Long enough for a call that does not wait to have returned.
constexpr std::chrono::milliseconds kAWhile{20};

// Runs `call` on another thread, and tells whether it is still under way after
// a while. `let_go` then ends what it waits for.
template <typename Call, typename LetGo>
bool Waits(Call call, LetGo let_go) {
  std::atomic<bool> started{false};
  std::atomic<bool> done{false};
  std::thread thread([&] {
    started = true;
    call();
    done = true;
  });
  while (!started) std::this_thread::yield();
  std::this_thread::sleep_for(kAWhile);
  const bool waits = !done;
  let_go();
  thread.join();
  return waits;
}

TEST(GuestMemoryThreads, BlockingWaitsForASectionThatMayTouchTheRange) {
  testing::TestHost host{testing::TestHost::Options{.frames = 1}};
  GuestMemory memory(host);
  auto section = std::make_unique<GuestMemory::Section>(memory);
  EXPECT_TRUE(Waits(
      [&] {
        memory.Block({Hva(0x1000), kPageSize});
      },
      [&] { section.reset(); }));
  // One that begins later finds the range, and holds nobody up.
  const GuestMemory::Section later(memory);
  EXPECT_TRUE(memory.Blocks({Hva(0x1000), 8}));
  EXPECT_TRUE(memory.Unblock({Hva(0x1000), kPageSize}).ok());
}

TEST(SlotRegistryThreads, PublishingWaitsForAReaderOfTheOldTable) {
  DefaultHost host;
  SlotRegistry registry(&host);
  auto reader = std::make_unique<SlotReader>(registry);
  const uint64_t generation = reader->table().generation();
  EXPECT_TRUE(Waits(
      [&] {
        MutexLock update(&registry.update_lock());
        registry.Publish(std::make_unique<SlotTable>());
      },
      [&] {
        EXPECT_EQ(reader->table().generation(), generation);
        reader.reset();
      }));
}

}  // namespace
}  // namespace shadowmmu
