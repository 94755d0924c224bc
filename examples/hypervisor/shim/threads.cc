#include "shim/threads.h"

#include <asm/errno.h>
#include <linux/sched.h>

#include <atomic>

#include "boot/apic_timer.h"
#include "boot/cpu.h"
#include "boot/per_cpu.h"
#include "boot/processors.h"
#include "boot/spin_lock.h"
#include "boot/tsc_clock.h"
#include "shim/futex.h"
#include "shim/process_calls.h"

namespace hypervisor {

// What thread_switch.S loads: the registers that SYSCALL's caller had, and the
// new stack. rax is 0, which tells the thread that it is the new one.
struct ThreadStart {
  uint64_t rdi, rsi, rdx, r10, r8, r9;
  uint64_t rip;
  uint64_t rsp;
};

}  // namespace hypervisor

extern "C" {
extern std::byte ap_stacks[];  // processors.cc
// From thread_switch.S.
[[noreturn]] void EnterThread(const hypervisor::ThreadStart* start);
[[noreturn]] void LeaveThread(std::byte* stack_end);
// Called by it.
[[noreturn]] void AfterThread();
}

namespace hypervisor {
namespace {

// One CPU's. Changed under `lock` from free to taken; the rest belongs to who
// took it, and from `has_work` on to the CPU.
struct Place {
  bool taken = false;
  std::atomic<bool> has_work = false;
  ThreadStart start = {};
  uint64_t fs_base = 0;
  uint32_t* clear_at_exit = nullptr;
};

constinit SpinLock lock;
constinit Place places[kMaxCpus];  // places[0] is never used
constinit std::atomic<uint32_t> running = 1;

// The index of a CPU that was free; 0: none.
uint32_t TakePlace() {
  const SpinLockScope hold(lock);
  for (uint32_t i = 1; i < CpuCount(); ++i) {
    if (places[i].taken) continue;
    places[i].taken = true;
    return i;
  }
  return 0;
}

void FreePlace(Place& place) {
  const SpinLockScope hold(lock);
  place.taken = false;
}

}  // namespace

int64_t CloneCall(const SyscallFrame& frame) {
  const auto* const wanted =
      reinterpret_cast<const clone_args*>(frame.arguments[0]);
  constexpr uint64_t kThread = CLONE_VM | CLONE_THREAD | CLONE_SETTLS;
  if (frame.arguments[1] < CLONE_ARGS_SIZE_VER0 ||
      (wanted->flags & kThread) != kThread || wanted->stack == 0) {
    return -EINVAL;
  }
  const uint32_t index = TakePlace();
  if (index == 0) return -EAGAIN;
  Place& place = places[index];
  const int64_t id = kProcessId + index;
  const auto set = [&](uint64_t flag, uint64_t at) {
    if ((wanted->flags & flag) == 0) return;
    *reinterpret_cast<int32_t*>(at) = static_cast<int32_t>(id);
  };
  set(CLONE_PARENT_SETTID, wanted->parent_tid);
  set(CLONE_CHILD_SETTID, wanted->child_tid);
  place.clear_at_exit = (wanted->flags & CLONE_CHILD_CLEARTID) != 0
                            ? reinterpret_cast<uint32_t*>(wanted->child_tid)
                            : nullptr;
  place.fs_base = wanted->tls;
  const uint64_t* const a = frame.arguments;
  place.start = {.rdi = a[0],
                 .rsi = a[1],
                 .rdx = a[2],
                 .r10 = a[3],
                 .r8 = a[4],
                 .r9 = a[5],
                 .rip = frame.rip,
                 .rsp = wanted->stack + wanted->stack_size};
  running.fetch_add(1);
  place.has_work.store(true);
  WakeCpu(index);
  return id;
}

void ExitThreadCall() {
  // The caller's stack is given back as soon as somebody knows: rule 2.
  LeaveThread(ap_stacks + (CpuIndex() + 1) * kIdleStackBytes);
}

void YieldCall() {
  constexpr uint32_t kCalls = 16;
  constexpr uint64_t kNap = 20'000;  // ns
  // Of the CPU's own.
  constinit static uint32_t calls[kMaxCpus] = {};
  if (++calls[CpuIndex()] % kCalls != 0 || RunningThreads() == 1) {
    return Pause();
  }
  SleepUntil(MonotonicNanoseconds() + kNap);
}

int64_t ThreadId() { return kProcessId + CpuIndex(); }

uint32_t RunningThreads() { return running.load(); }

void WaitForThreads() {
  Place& place = places[CpuIndex()];
  // An interrupt that comes after the look is pending when HLT begins.
  while (!place.has_work.exchange(false)) WaitForInterrupt();
  constexpr uint32_t kMsrFsBase = 0xc0000100;
  WriteMsr(kMsrFsBase, place.fs_base);
  EnterThread(&place.start);
}

}  // namespace hypervisor

void AfterThread() {
  using namespace hypervisor;  // NOLINT: it has to have C's name
  DisarmTimer();
  Place& place = places[CpuIndex()];
  uint32_t* const at = place.clear_at_exit;
  FreePlace(place);
  if (at != nullptr) {
    std::atomic_ref<uint32_t>(*at).store(0);
    WakeWaiters(at);
  }
  running.fetch_sub(1);
  CheckForDeadlock();
  WaitForThreads();
}
