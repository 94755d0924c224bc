// A GuestBus on an array, for tests of what executes instructions: linear
// addresses from `base` on, pages that can be made read-only, supervisor or not
// present, a log of all accesses, and ports with a script.
//
//  1. Page permissions are those of one level: P, R/W and U/S, with CR0.WP set.
//  2. An access of more than one page is checked as a whole before it begins.

#ifndef HYPERVISOR_TESTS_FAKE_BUS_H_
#define HYPERVISOR_TESTS_FAKE_BUS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "emulate/guest_bus.h"
#include "emulate/word_bytes.h"
#include "shadowmmu/access.h"
#include "shadowmmu/address.h"

namespace hypervisor {

class FakeBus : public GuestBus {
 public:
  enum class Call : uint8_t { kRead, kWrite, kProbe, kExchange, kIn, kOut };
  struct Entry {
    Call call = Call::kRead;
    uint64_t address = 0;  // or the port
    size_t bytes = 0;
    BusAccess access = {};
    uint64_t value = 0;  // of a port
  };
  struct Page {
    bool present = true;
    bool writable = true;
    bool user = true;
  };

  FakeBus(uint64_t base, size_t bytes)
      : base_(base),
        memory_(bytes),
        pages_((bytes + shadowmmu::kPageSize - 1) / shadowmmu::kPageSize) {}

  std::vector<std::byte>& memory() { return memory_; }
  std::vector<Entry>& log() { return log_; }
  std::deque<uint32_t>& input() { return input_; }
  Page& PageAt(uint64_t address) {
    return pages_[(address - base_) / shadowmmu::kPageSize];
  }
  // Called before each access of memory, with the log's newest entry; what it
  // returns, if anything, is the access's result.
  std::function<std::optional<BusResult>(const Entry&)> before;

  uint64_t Word(uint64_t address, unsigned bytes) const {
    return FromBytes(std::span(memory_).subspan(address - base_, bytes));
  }
  void SetWord(uint64_t address, unsigned bytes, uint64_t value) {
    const WordBytes word = ToBytes(value);
    std::copy_n(word.begin(), bytes, memory_.begin() + (address - base_));
  }
  void SetBytes(uint64_t address, std::span<const uint8_t> bytes) {
    std::transform(bytes.begin(), bytes.end(),
                   memory_.begin() + (address - base_),
                   [](uint8_t byte) { return std::byte{byte}; });
  }
  size_t Count(Call call) const {
    return std::count_if(log_.begin(), log_.end(), [call](const Entry& entry) {
      return entry.call == call;
    });
  }

  BusResult Read(shadowmmu::Gva gva, const BusAccess& access,
                 std::span<std::byte> out) override {
    BusResult result = Admit(Call::kRead, gva, access, out.size());
    if (result.ok()) {
      std::copy_n(memory_.begin() + (gva.value() - base_), out.size(),
                  out.begin());
    }
    return result;
  }

  BusResult Write(shadowmmu::Gva gva, const BusAccess& access,
                  std::span<const std::byte> bytes) override {
    BusResult result = Admit(Call::kWrite, gva, access, bytes.size());
    if (result.ok()) {
      std::copy(bytes.begin(), bytes.end(),
                memory_.begin() + (gva.value() - base_));
    }
    return result;
  }

  BusResult Probe(shadowmmu::Gva gva, const BusAccess& access,
                  size_t bytes) override {
    return Admit(Call::kProbe, gva, access, bytes);
  }

  ExchangeResult CompareExchange(shadowmmu::Gva gva, const BusAccess& access,
                                 std::span<std::byte> expected,
                                 std::span<const std::byte> desired) override {
    BusResult result = Admit(Call::kExchange, gva, access, expected.size());
    if (!result.ok()) return {result, Exchanged::kNo};
    const auto held = memory_.begin() + (gva.value() - base_);
    if (std::equal(expected.begin(), expected.end(), held)) {
      std::copy(desired.begin(), desired.end(), held);
      return {result, Exchanged::kYes};
    }
    std::copy_n(held, expected.size(), expected.begin());
    return {result, Exchanged::kNo};
  }

  uint32_t In(uint16_t port, unsigned bytes) override {
    uint32_t value = ~uint32_t{0};
    if (!input_.empty()) {
      value = input_.front();
      input_.pop_front();
    }
    log_.push_back({Call::kIn, port, bytes, {}, value});
    return value;
  }
  void Out(uint16_t port, unsigned bytes, uint32_t value) override {
    log_.push_back({Call::kOut, port, bytes, {}, value});
  }

 private:
  BusResult Admit(Call call, shadowmmu::Gva gva, const BusAccess& access,
                  size_t bytes) {
    log_.push_back({call, gva.value(), bytes, access, 0});
    if (before) {
      if (std::optional<BusResult> result = before(log_.back())) {
        return *result;
      }
    }
    uint64_t at = gva.value();
    const uint64_t end = at + bytes;
    while (at != end) {
      if (std::optional<Exception> fault = FaultAt(at, access)) {
        return BusResult::Inject(*fault);
      }
      const uint64_t page_end = (at | shadowmmu::kPageOffsetMask) + 1;
      at = end - at <= page_end - at ? end : page_end;
    }
    return BusResult::Ok();
  }

  std::optional<Exception> FaultAt(uint64_t at, const BusAccess& access) const {
    namespace pf_error = shadowmmu::pf_error;
    const bool write = access.type == shadowmmu::AccessType::kWrite;
    const bool user = access.privilege == shadowmmu::Privilege::kUser &&
                      access.implicit == shadowmmu::Implicit::kNo;
    Page page = {.present = false};
    if (at - base_ < memory_.size()) {
      page = pages_[(at - base_) / shadowmmu::kPageSize];
    }
    if (page.present && (!write || page.writable) && (!user || page.user)) {
      return std::nullopt;
    }
    return Exception::PageFault((page.present ? pf_error::kPresent : 0) |
                                    (write ? pf_error::kWrite : 0) |
                                    (user ? pf_error::kUser : 0),
                                shadowmmu::Gva(at));
  }

  const uint64_t base_;
  std::vector<std::byte> memory_;
  std::vector<Page> pages_;
  std::vector<Entry> log_;
  std::deque<uint32_t> input_;
};

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_FAKE_BUS_H_
