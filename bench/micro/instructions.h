// InstructionCounter: how many instructions this thread has executed in user
// mode, by the CPU's counter, where the machine lets us have it.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_BENCH_MICRO_INSTRUCTIONS_H_
#define SHADOWMMU_BENCH_MICRO_INSTRUCTIONS_H_

#include <cstdint>
#include <string>

namespace shadowmmu::bench {

class InstructionCounter {
 public:
  // Opens the counter, and tries it: a virtual machine may have one that stays
  // at zero.
  InstructionCounter();
  ~InstructionCounter();
  InstructionCounter(const InstructionCounter&) = delete;
  InstructionCounter& operator=(const InstructionCounter&) = delete;

  bool available() const { return file_ >= 0; }
  // Why it is not available.
  const std::string& why() const { return why_; }

  // Instructions so far; 0 where it is not available.
  uint64_t Read() const;

 private:
  int file_ = -1;
  std::string why_;
};

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_INSTRUCTIONS_H_
