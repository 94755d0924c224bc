#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/harness/choices.h"
#include "tests/harness/op_text.h"
#include "tests/harness/op_values.h"
#include "tests/harness/simulator.h"

// Of libFuzzer: mutates bytes.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace shadowmmu::testing {
namespace {

// One mutation in so many turns a text into bytes: those of a fuzzer that is
// started on texts alone come from here.
constexpr uint64_t kTextsToBytes = 16;
constexpr size_t kMostBytes = 1024;

// One bit of a register.
bool IsBit(Field field) {
  return (field >= Field::kWp && field <= Field::kAc) || field == Field::kNxe;
}

class Mutator {
 public:
  Mutator(OpStream stream, uint64_t seed)
      : stream_(std::move(stream)), choices_(seed) {}

  OpStream Run() {
    stream_.story.clear();
    const uint64_t changes = 1 + choices_.Below(4);
    for (uint64_t i = 0; i < changes; ++i) Change();
    return std::move(stream_);
  }

 private:
  std::vector<Op>& ops() { return stream_.ops; }
  size_t AnyPlace() {
    return static_cast<size_t>(choices_.Below(ops().size()));
  }
  void Insert(size_t place, Op op) {
    ops().insert(ops().begin() + static_cast<std::ptrdiff_t>(place),
                 std::move(op));
  }

  void Change() {
    const uint64_t dice = choices_.Below(10);
    if (ops().empty() || dice == 0) {
      InsertSimulated();
    } else if (dice <= 2) {
      ops().erase(ops().begin() + static_cast<std::ptrdiff_t>(AnyPlace()));
    } else if (dice <= 4) {
      Op again = ops()[AnyPlace()];
      Insert(AnyPlace(), std::move(again));
    } else if (dice == 5) {
      const size_t one = AnyPlace();
      std::swap(ops()[one], ops()[AnyPlace()]);
    } else {
      ChangeNumber(ops()[AnyPlace()]);
    }
  }

  // A few ops in a row of some simulated stream.
  void InsertSimulated() {
    const OpStream other = GenerateStream(choices_.Next(), {.ops = 40});
    const uint64_t from = choices_.Below(other.ops.size());
    const size_t count = static_cast<size_t>(
        std::min<uint64_t>(1 + choices_.Below(8), other.ops.size() - from));
    const size_t place = static_cast<size_t>(choices_.Below(ops().size() + 1));
    for (size_t i = 0; i < count; ++i) {
      Insert(place + i, other.ops[static_cast<size_t>(from) + i]);
    }
  }

  // To what the field is elsewhere in the stream, to another of its words, to
  // something near, or to anything.
  void ChangeNumber(Op& op) {
    const size_t fields = ShapeOf(op.kind()).field_count();
    if (fields == 0) return;
    const Field field =
        ShapeOf(op.kind()).fields[static_cast<size_t>(choices_.Below(fields))];
    const Op& other = ops()[AnyPlace()];
    const uint64_t dice = choices_.Below(10);
    uint64_t value = op.Get(field);
    if (dice < 4 && other.Has(field)) {
      value = other.Get(field);
    } else if (dice < 8 && IsBit(field)) {
      value ^= 1;
    } else if (dice < 8 && !InfoOf(field).words.empty()) {
      value = choices_.Below(InfoOf(field).words.size());
    } else if (dice < 5 && field == Field::kSize) {
      value = value == 4 ? 8 : 4;
    } else if (dice < 5 && field == Field::kHas) {
      value = kAllFeatures ^ uint64_t { 1 } << choices_.Below(kFeatureBits);
    } else if (dice < 7) {
      value += choices_.Of({1, 2, 8, 0x1000, 0x20'0000}) *
               choices_.Of({1, ~uint64_t{0}});
    } else if (dice < 9) {
      value ^= uint64_t{1} << choices_.Below(64);
    } else {
      value = choices_.Next() >> choices_.Below(64);
    }
    op.Set(field, value);
  }

  OpStream stream_;
  Choices choices_;
};

}  // namespace

bool IsText(std::span<const uint8_t> input) {
  const std::string_view text = TextOf(input);
  return text.starts_with('#') || text.starts_with("vm");
}

std::string_view TextOf(std::span<const uint8_t> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

OpStream Mutated(const OpStream& stream, uint64_t seed) {
  return Mutator(stream, seed).Run();
}

}  // namespace shadowmmu::testing

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned seed);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned seed) {
  namespace st = shadowmmu::testing;
  st::Choices choices(seed);
  if (st::IsText({data, size}) && choices.Below(st::kTextsToBytes) == 0) {
    const size_t bytes =
        std::min(max_size, static_cast<size_t>(choices.Below(st::kMostBytes)));
    std::generate_n(data, bytes,
                    [&] { return static_cast<uint8_t>(choices.Next()); });
    return bytes;
  }
  if (!st::IsText({data, size})) return LLVMFuzzerMutate(data, size, max_size);
  const absl::StatusOr<st::OpStream> stream =
      st::ParseStream(st::TextOf({data, size}));
  if (!stream.ok()) return LLVMFuzzerMutate(data, size, max_size);
  st::OpStream mutated = st::Mutated(*stream, seed);
  std::string text = st::PrintStream(mutated);
  while (text.size() > max_size && !mutated.ops.empty()) {
    mutated.ops.resize(mutated.ops.size() / 2);
    text = st::PrintStream(mutated);
  }
  const size_t bytes = std::min(text.size(), max_size);
  std::copy_n(text.data(), bytes, data);
  return bytes;
}
