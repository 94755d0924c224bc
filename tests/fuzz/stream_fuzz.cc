// shadowmmu_fuzz: libFuzzer over op-streams (docs/op-streams.md), each run and
// checked as the simulator's are.
//
//   shadowmmu_fuzz NEW_INPUTS tests/regression    fuzzes; reads the files first
//   shadowmmu_fuzz INPUT                          runs one input
//
// An input has one of two forms:
//  - Text, if it begins with '#' or "vm": a stream as it stands in a file, so
//    that tests/regression is a corpus. It is mutated op by op (mutate.h).
//    What the file expects is left out, since a mutated stream need not keep
//    it.
//  - Anything else: the choices that the simulator makes (GenerateStream).
//
// A finding ends the process, after the stream has been printed as text: put it
// into a file, and shadowmmu_simulate --file shows it again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <span>

#include "shadowmmu/check_handler.h"
#include "tests/fuzz/mutate.h"
#include "tests/harness/interpreter.h"
#include "tests/harness/op_text.h"
#include "tests/harness/simulator.h"

namespace shadowmmu::testing {
namespace {

constexpr size_t kMostOps = 300;
// What one op costs must not depend on its numbers.
constexpr uint64_t kMostRepeats = 20;
constexpr uint64_t kMostPages = uint64_t{1} << 20;

// The one that is being run, for who reports a death.
const OpStream* under_way = nullptr;

void PrintUnderWay() {
  if (under_way == nullptr) return;
  std::cerr << "---- the stream ----\n"
            << PrintStream(*under_way) << "---- its end ----" << std::endl;
}

void SayCheck(absl::string_view message) {
  std::cerr << message << std::endl;
  PrintUnderWay();
}

OpStream Tamed(const OpStream& stream) {
  OpStream tame;
  tame.vm = stream.vm;
  for (Op op : stream.ops) {
    if (op.kind() >= OpKind::kExpectOutcome) continue;
    if (tame.ops.size() == kMostOps) break;
    const auto limit = [&op](Field field, uint64_t most) {
      if (op.Has(field)) op.Set(field, std::min(op.Get(field), most));
    };
    if (op.kind() == OpKind::kRepeat) limit(Field::kTimes, kMostRepeats);
    limit(Field::kPages, kMostPages);
    tame.ops.push_back(op);
  }
  return tame;
}

std::optional<OpStream> StreamOf(std::span<const uint8_t> input) {
  if (!IsText(input)) return GenerateStream(input, {.ops = kMostOps});
  const absl::StatusOr<OpStream> stream = ParseStream(TextOf(input));
  if (!stream.ok()) return std::nullopt;
  return *stream;
}

void Run(std::span<const uint8_t> input) {
  const std::optional<OpStream> stream = StreamOf(input);
  if (!stream) return;
  const OpStream tame = Tamed(*stream);
  under_way = &tame;
  if (const std::optional<StreamFailure> failure = RunStream(tame)) {
    std::cerr << ReportOf(tame, *failure) << std::flush;
    PrintUnderWay();
    std::abort();
  }
  under_way = nullptr;
}

}  // namespace
}  // namespace shadowmmu::testing

// Called by the AddressSanitizer when it has reported something.
extern "C" void __asan_on_error();
extern "C" void __asan_on_error() { shadowmmu::testing::PrintUnderWay(); }

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  shadowmmu::SetCheckHandler(&shadowmmu::testing::SayCheck);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  shadowmmu::testing::Run({data, size});
  return 0;
}
