// What a first program against the installed library looks like: it sees the
// public headers and nothing of the source tree.

#include <cstdio>

#include "absl/strings/string_view.h"
#include "shadowmmu/address.h"
#include "shadowmmu/check_handler.h"

namespace {

void Log(absl::string_view message) {
  std::fprintf(stderr, "hypervisor: %.*s\n", static_cast<int>(message.size()),
               message.data());
}

}  // namespace

int main() {
  shadowmmu::SetCheckHandler(&Log);
  if (shadowmmu::SetCheckHandler(nullptr) != &Log) return 1;
  std::puts("consumer: ok");
  return 0;
}
