#include "boot/module.h"

#include "boot/exit.h"

namespace hypervisor {
namespace {

constinit const std::byte* module_begin = nullptr;
constinit size_t module_bytes = 0;
constinit char command_line[kMaxCommandLine] = {};
constinit size_t command_line_length = 0;

void CopyCommandLine(const char* from) {
  while (from[command_line_length] != 0) {
    if (command_line_length == kMaxCommandLine) {
      ExitBecause("the command line is too long");
    }
    command_line[command_line_length] = from[command_line_length];
    ++command_line_length;
  }
}

}  // namespace

void InitModule(const StartInfo& info) {
  if (info.command_line != 0) {
    CopyCommandLine(reinterpret_cast<const char*>(info.command_line));
  }
  if (info.module_count == 0) return;
  const auto& module = *reinterpret_cast<const StartInfoModule*>(info.modules);
  constexpr uint64_t kMapped = uint64_t{1} << 32;
  if (module.address > kMapped || module.bytes > kMapped - module.address) {
    ExitBecause("the module lies above 4 GiB");
  }
  module_begin = reinterpret_cast<const std::byte*>(module.address);
  module_bytes = module.bytes;
}

std::span<const std::byte> BootModule() { return {module_begin, module_bytes}; }

std::string_view BootCommandLine() {
  return {command_line, command_line_length};
}

}  // namespace hypervisor
