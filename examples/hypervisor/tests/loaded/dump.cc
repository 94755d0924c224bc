// Loads a bundle, as the hypervisor does, and writes what then is in the
// guest's memory and registers, for guests/loaded.cc to enter.
//
//   dump MIB BUNDLE OUT     MIB: the guest's memory

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "loaders/bundle.h"
#include "loaders/guest_image.h"
#include "loaders/guest_memory.h"

namespace hypervisor {
namespace {

constexpr size_t kPageBytes = 4096;

void Put(std::ostream& out, uint64_t word) {
  const auto value = static_cast<uint32_t>(word);
  out.write(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutRegisters(std::ostream& out, const CpuState& state) {
  for (const uint64_t word :
       {state.rip, state.gpr[kRax], state.gpr[kRbx], state.gpr[kRsi],
        uint64_t{state.cs.selector}, uint64_t{state.ds.selector},
        state.gdtr.base, uint64_t{state.gdtr.limit}}) {
    Put(out, word);
  }
}

bool IsZero(std::span<const std::byte> page) {
  for (const std::byte byte : page) {
    if (byte != std::byte{0}) return false;
  }
  return true;
}

// Each page that is not all zeros. Page 0 is the firmware's.
void PutMemory(std::ostream& out, std::span<const std::byte> memory) {
  for (size_t at = kPageBytes; at < memory.size(); at += kPageBytes) {
    const auto page = memory.subspan(at, kPageBytes);
    if (IsZero(page)) continue;
    Put(out, at);
    Put(out, kPageBytes);
    out.write(reinterpret_cast<const char*>(page.data()), kPageBytes);
  }
  Put(out, 0);
  Put(out, 0);
}

absl::Status Dump(uint64_t mib, const char* in, const char* out) {
  std::ifstream file(in, std::ios::binary);
  const std::string archive{std::istreambuf_iterator<char>(file),
                            std::istreambuf_iterator<char>()};
  const auto bundle = Bundle::Read(std::as_bytes(std::span(archive)));
  if (!bundle.ok()) return bundle.status();
  std::vector<std::byte> block(mib << 20);
  const auto memory = GuestMemoryView::Make(block);
  if (!memory.ok()) return memory.status();
  const auto state = LoadGuest(*bundle, *memory);
  if (!state.ok()) return state.status();
  std::ofstream stream(out, std::ios::binary);
  PutRegisters(stream, *state);
  PutMemory(stream, block);
  stream.close();
  return stream ? absl::OkStatus() : absl::UnknownError("cannot write");
}

}  // namespace
}  // namespace hypervisor

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "dump MIB BUNDLE OUT\n";
    return EXIT_FAILURE;
  }
  const absl::Status status =
      hypervisor::Dump(std::strtoull(argv[1], nullptr, 10), argv[2], argv[3]);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
}
