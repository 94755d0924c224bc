// One CPU's segments (APM vol. 2, 4.8, 12.2): a GDT with flat 64-bit code and
// data of ring 0, and a TSS for the stacks of interrupt handlers.
//
// Every handler runs on a stack of the interrupt stack table, because what it
// interrupts, in ring 0 as it is, owns the 128 bytes below its stack pointer
// (System V ABI, AMD64, 3.2.2: the red zone). Handlers run with interrupts off,
// so that one stack for exceptions and one for interrupts is enough.
//
// Thread safety: an object belongs to one CPU.

#ifndef HYPERVISOR_BOOT_SEGMENTS_H_
#define HYPERVISOR_BOOT_SEGMENTS_H_

#include <cstddef>
#include <cstdint>

namespace hypervisor {

inline constexpr uint16_t kCodeSelector = 0x08;
inline constexpr uint16_t kDataSelector = 0x10;  // SYSCALL wants code + 8

// Indices into the interrupt stack table, as an IDT entry has them.
inline constexpr uint8_t kExceptionStack = 1;
inline constexpr uint8_t kInterruptStack = 2;

class Segments {
 public:
  constexpr Segments() = default;
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;

  // Makes this CPU use them. The object must not move or go from here on.
  void Load();

 private:
  static constexpr size_t kStackBytes = 16384;

  // The 64-bit TSS (APM vol. 2, 12.2.5).
  struct [[gnu::packed]] Tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];  // ist[0] is number 1
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
  };
  static_assert(sizeof(Tss) == 104);

  // Null, code, data, and the TSS in two.
  uint64_t gdt_[5] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0};
  Tss tss_ = {};
  alignas(16) std::byte exception_stack_[kStackBytes] = {};
  alignas(16) std::byte interrupt_stack_[kStackBytes] = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_BOOT_SEGMENTS_H_
