#include "devices/fw_cfg.h"

namespace hypervisor {
namespace {

constexpr uint16_t kSignature = 0x00;
constexpr uint16_t kFeatures = 0x01;
constexpr uint16_t kRamSize = 0x03;
constexpr uint16_t kNoGraphics = 0x04;
constexpr uint16_t kCpus = 0x05;
constexpr uint16_t kMostCpus = 0x0f;
constexpr uint16_t kCommandLineSize = 0x14;
constexpr uint16_t kCommandLine = 0x15;
constexpr uint16_t kFileDirectory = 0x19;

}  // namespace

FwCfg::FwCfg(uint64_t memory_bytes, uint16_t cpus,
             std::string_view command_line) {
  items_[kSignature] = "QEMU";
  AddNumber(kFeatures, 1, 4);
  AddNumber(kRamSize, memory_bytes, 8);
  AddNumber(kNoGraphics, 1, 2);
  AddNumber(kCpus, cpus, 2);
  AddNumber(kMostCpus, cpus, 2);
  AddNumber(kCommandLineSize, command_line.size() + 1, 4);
  items_[kCommandLine] = std::string(command_line);
  AddNumber(kFileDirectory, 0, 4);
}

void FwCfg::AddNumber(uint16_t key, uint64_t value, unsigned bytes) {
  std::string& item = items_[key];
  for (unsigned i = 0; i < bytes; ++i) {
    item.push_back(static_cast<char>(value >> (8 * i)));
  }
}

uint32_t FwCfg::In(uint16_t port, unsigned bytes) {
  if (port != kFirstPort + 1 || bytes != 1) return ~uint32_t{0};
  const auto item = items_.find(key_);
  if (item == items_.end() || offset_ >= item->second.size()) return 0;
  return static_cast<uint8_t>(item->second[offset_++]);
}

void FwCfg::Out(uint16_t port, unsigned /*bytes*/, uint32_t value) {
  if (port != kFirstPort) return;
  key_ = static_cast<uint16_t>(value);
  offset_ = 0;
}

}  // namespace hypervisor
