#include "runtime/frames.h"

#include "runtime/processors.h"
#include "runtime/report.h"

extern "C" void* memset(void* to, int value, size_t bytes);

namespace guest {
namespace {

SpinLock lock;
// Freed frames, each with the address of the next in its first word.
Word first_free = 0;
Word never_used = kFramesBegin;
unsigned in_use = 0;

Word TakeFrame() {
  const SpinLockScope hold(lock);
  Word frame = first_free;
  if (frame != 0) {
    first_free = PhysicalAt<Word>(frame);
  } else {
    Check(never_used < kFramesEnd, "the guest has frames left");
    frame = never_used;
    never_used += kPageBytes;
  }
  ++in_use;
  return frame;
}

}  // namespace

Word AllocateFrame() {
  const Word frame = TakeFrame();
  memset(reinterpret_cast<void*>(frame), 0, kPageBytes);
  return frame;
}

void FreeFrame(Word frame) {
  const SpinLockScope hold(lock);
  PhysicalAt<Word>(frame) = first_free;
  first_free = frame;
  --in_use;
}

unsigned FramesInUse() { return in_use; }

}  // namespace guest
