// What a guest tells: text by the serial port, and its exit status.
//
//   Print("page ", Hex(address), " has ", count, "\n");
//   Check(value == 7, "the page's content");      // else says so, and exits

#ifndef HYPERVISOR_GUESTS_RUNTIME_REPORT_H_
#define HYPERVISOR_GUESTS_RUNTIME_REPORT_H_

#include <stdint.h>

namespace guest {

struct Hex {
  explicit Hex(uint64_t number) : value(number) {}
  uint64_t value;
};

void Put(const char* text);
void Put(Hex number);
void Put(unsigned number);
inline void Put(int number) {
  if (number < 0) Put("-");
  Put(number < 0 ? 0u - static_cast<unsigned>(number)
                 : static_cast<unsigned>(number));
}

template <typename... Items>
void Print(Items... items) {
  (Put(items), ...);
}

// Ends the run: 0 is success.
[[noreturn]] void Exit(uint32_t status);

// Exits with 1 unless `good`, after a message with the line of the caller.
void Check(bool good, const char* what, int line = __builtin_LINE());
// The same for two values that should be equal.
void CheckEqual(uint64_t actual, uint64_t expected, const char* what,
                int line = __builtin_LINE());

}  // namespace guest

#endif  // HYPERVISOR_GUESTS_RUNTIME_REPORT_H_
