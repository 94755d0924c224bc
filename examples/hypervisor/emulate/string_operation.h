// String instructions, with their repeat prefixes: MOVS, CMPS, STOS, LODS,
// SCAS, INS and OUTS (APM vol. 3, "String Instructions").
//
//  1. An element is whole or not at all: rSI, rDI and rCX are those of the next
//     element whenever one has been done, so that a fault, or the limit on how
//     much one call does, leaves what the instruction can go on from.
//  2. A port is read when the right to store what it gives is known.
//
// Thread safety: one thread at a time.

#ifndef HYPERVISOR_EMULATE_STRING_OPERATION_H_
#define HYPERVISOR_EMULATE_STRING_OPERATION_H_

#include <cstdint>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/operands.h"

namespace hypervisor {

class StringOperation {
 public:
  // How many elements one call does of a REP: few in memory, where the guest
  // goes on at its own speed once an exit is no longer needed; more at a port,
  // where each would be an exit. Interrupts wait for that long.
  static constexpr unsigned kMaxMemoryElements = 64;
  static constexpr unsigned kMaxPortElements = 1024;

  // Whether all elements are done. Counts if the result is kOk.
  enum class Progress : uint8_t { kMore, kDone };
  struct Outcome {
    BusResult result = {};
    Progress progress = Progress::kDone;
  };

  // Not owned; must outlive this.
  StringOperation(CpuState& cpu, GuestBus& bus, const Instruction& instruction);

  // `cpu` has all elements that were done, whatever the result is. With
  // RFLAGS.TF set one call does one element.
  Outcome Run();

 private:
  BusResult Element();
  BusResult Move();
  BusResult CompareStrings();
  BusResult StoreString();
  BusResult LoadString();
  BusResult Scan();
  BusResult Input();
  BusResult Output();

  BusResult ReadSource(uint64_t& value);
  BusResult ReadDestination(uint64_t& value);
  BusResult WriteDestination(uint64_t value);
  // To the next element of rSI or rDI.
  void Step(Gpr index);
  void Compare(uint64_t a, uint64_t b);
  bool Repeats() const;
  bool EndsByFlag() const;
  unsigned MaxElements() const;

  CpuState& cpu_;
  GuestBus& bus_;
  const Instruction& instruction_;
  Operands operands_;
  const unsigned bytes_;
  const unsigned address_bytes_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_STRING_OPERATION_H_
