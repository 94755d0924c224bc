// A guest's memory for tests of loaders, and little programs that write files
// such as loaders read.
//
// Thread safety: none.

#ifndef HYPERVISOR_TESTS_GUEST_BLOCK_H_
#define HYPERVISOR_TESTS_GUEST_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "loaders/guest_memory.h"
#include "shadowmmu/address.h"

namespace hypervisor::testing {

class GuestBlock {
 public:
  explicit GuestBlock(uint64_t mib)
      : block_(mib << 20), view_(*GuestMemoryView::Make(block_)) {}

  const GuestMemoryView& view() const { return view_; }

  // Of anywhere in the block.
  template <typename T>
  T Read(uint64_t gpa) const {
    T value;
    std::memcpy(&value, &block_.at(gpa + sizeof(T) - 1) + 1 - sizeof(T),
                sizeof(T));
    return value;
  }
  std::string Text(uint64_t gpa, size_t bytes) const {
    std::string text(bytes, '\0');
    if (bytes != 0) {
      std::memcpy(text.data(), &block_.at(gpa + bytes - 1) + 1 - bytes, bytes);
    }
    return text;
  }
  std::string TextToNul(uint64_t gpa) const {
    std::string text;
    for (; Read<char>(gpa) != '\0'; ++gpa) text += Read<char>(gpa);
    return text;
  }
  // Fills all of it.
  void Fill(std::byte value) { block_.assign(block_.size(), value); }

 private:
  std::vector<std::byte> block_;
  GuestMemoryView view_;
};

// A file under construction.
class FileMaker {
 public:
  explicit FileMaker(size_t bytes = 0) : bytes_(bytes, '\0') {}

  // Grows the file where it is too short.
  template <typename T>
  FileMaker& Put(uint64_t offset, const T& value) {
    if (bytes_.size() < offset + sizeof(T)) bytes_.resize(offset + sizeof(T));
    std::memcpy(bytes_.data() + offset, &value, sizeof(T));
    return *this;
  }
  FileMaker& PutText(uint64_t offset, const std::string& text) {
    if (bytes_.size() < offset + text.size()) {
      bytes_.resize(offset + text.size());
    }
    bytes_.replace(offset, text.size(), text);
    return *this;
  }
  void Cut(size_t bytes) { bytes_.resize(bytes); }
  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(bytes_));
  }

 private:
  std::string bytes_;
};

inline std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace hypervisor::testing

#endif  // HYPERVISOR_TESTS_GUEST_BLOCK_H_
