#include "tests/harness/shrinker.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace shadowmmu::testing {
namespace {

class Shrinker {
 public:
  Shrinker(OpStream stream, StreamFails fails, size_t most_tries)
      : best_(std::move(stream)), fails_(fails), tries_left_(most_tries) {}

  OpStream Run() {
    bool smaller = true;
    while (smaller && tries_left_ != 0) {
      const OpStream before = best_;
      DropOps();
      ShrinkNumbers();
      ShrinkVm();
      smaller = best_ != before;
    }
    return std::move(best_);
  }

 private:
  // Keeps `candidate` if it fails.
  bool Try(OpStream candidate) {
    if (tries_left_ == 0 || candidate == best_) return false;
    --tries_left_;
    if (!fails_(candidate)) return false;
    best_ = std::move(candidate);
    return true;
  }

  void DropOps() {
    for (size_t run = std::max<size_t>(best_.ops.size() / 2, 1); run != 0;
         run /= 2) {
      // From the end: what follows the failing op goes first.
      size_t end = best_.ops.size();
      while (end != 0 && tries_left_ != 0) {
        const size_t begin = end - std::min(end, run);
        OpStream candidate = best_;
        candidate.ops.erase(
            candidate.ops.begin() + static_cast<std::ptrdiff_t>(begin),
            candidate.ops.begin() + static_cast<std::ptrdiff_t>(end));
        Try(std::move(candidate));
        end = begin;
      }
    }
  }

  void ShrinkNumbers() {
    for (size_t i = 0; i < best_.ops.size(); ++i) {
      const OpShape& shape = ShapeOf(best_.ops[i].kind());
      for (size_t f = 0; f < shape.field_count(); ++f) {
        ShrinkField(i, shape.fields[f]);
      }
      while (!best_.ops[i].bytes().empty()) {
        OpStream candidate = best_;
        std::vector<uint8_t> bytes = best_.ops[i].bytes();
        bytes.resize(bytes.size() / 2);
        candidate.ops[i].SetBytes(std::move(bytes));
        if (!Try(std::move(candidate))) break;
      }
    }
  }

  // Whole values first, then halves, then single bits off.
  void ShrinkField(size_t op, Field field) {
    const auto try_value = [&](uint64_t value) {
      if (value == best_.ops[op].Get(field)) return false;
      OpStream candidate = best_;
      candidate.ops[op].Set(field, value);
      return Try(std::move(candidate));
    };
    if (try_value(InfoOf(field).absent) || try_value(0) || try_value(1)) return;
    while (try_value(best_.ops[op].Get(field) / 2)) {
    }
    for (uint64_t bit = uint64_t{1} << 63; bit != 0; bit >>= 1) {
      const uint64_t value = best_.ops[op].Get(field);
      if ((value & bit) != 0) try_value(value & ~bit);
    }
  }

  void ShrinkVm() {
    static constexpr uint32_t VmShape::*kNumbers[] = {
        &VmShape::vcpus,   &VmShape::frames,   &VmShape::tables,
        &VmShape::largest, &VmShape::roots,    &VmShape::unsync,
        &VmShape::flood,   &VmShape::prefetch, &VmShape::ones};
    for (uint32_t VmShape::*number : kNumbers) {
      for (const uint32_t value : {0u, 1u, 16u, 32u, 64u}) {
        OpStream candidate = best_;
        candidate.vm.*number = value;
        candidate.vm = ClampVm(candidate.vm);
        const bool less = candidate.vm.*number < best_.vm.*number;
        if (less && Try(std::move(candidate))) break;
      }
    }
  }

  OpStream best_;
  StreamFails fails_;
  size_t tries_left_;
};

}  // namespace

OpStream Shrink(const OpStream& stream, StreamFails fails, size_t most_tries) {
  return Shrinker(stream, fails, most_tries).Run();
}

}  // namespace shadowmmu::testing
