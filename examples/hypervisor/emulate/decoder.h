// Decoder: from the bytes at CS:rIP to an Instruction. A face over Capstone,
// which stays behind it: one handle for each of 16-, 32- and 64-bit code.
//
//   Decoder decoder;
//   Fetched fetched = decoder.Fetch(cpu, bus);
//   if (fetched.result.ok()) ... fetched.instruction ...
//
// Thread safety: one thread at a time per object.

#ifndef HYPERVISOR_EMULATE_DECODER_H_
#define HYPERVISOR_EMULATE_DECODER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "emulate/cpu_state.h"
#include "emulate/guest_bus.h"
#include "emulate/instruction.h"
#include "emulate/instruction_cache.h"

struct cs_insn;  // Capstone's

namespace hypervisor {

// `instruction` counts if the result is kOk.
struct Fetched {
  BusResult result = {};
  Instruction instruction = {};
};

class Decoder {
 public:
  // Throws std::bad_alloc: once it is there, decoding allocates nothing.
  Decoder();
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Reads the instruction at CS:rIP, no byte beyond its own page before it is
  // known to go on there, and decodes it. The exception is what the fetch
  // raises: #PF, or #GP beyond the limit of CS.
  Fetched Fetch(const CpuState& cpu, GuestBus& bus);

  // Decodes the instruction that `bytes` begin with, as if it stood at `rip`.
  // Its length is 0 if there is none, or if it goes on beyond them.
  Instruction Decode(CpuMode mode, uint64_t rip,
                     std::span<const std::byte> bytes);

  // Instructions that were not found among those decoded before.
  uint64_t decoded() const { return decoded_; }

  // Its bytes and, if it is one, how an assembler writes it: for a report.
  std::string Describe(const Instruction& instruction);

 private:
  Instruction DecodeAnew(CpuMode mode, uint64_t rip,
                         std::span<const std::byte> bytes);
  // Whether `insn_` holds an instruction now.
  bool Disassemble(CpuMode mode, uint64_t rip, std::span<const uint8_t> bytes);

  std::array<size_t, 3> handles_ = {};
  cs_insn* insn_ = nullptr;
  InstructionCache cache_;
  uint64_t decoded_ = 0;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_EMULATE_DECODER_H_
