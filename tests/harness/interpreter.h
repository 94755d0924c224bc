// Interpreter: runs an op-stream against a Backend, beside its own World, and
// holds the one against the other after every op.
//
//   ShadowmmuBackend backend(stream.vm);
//   std::optional<StreamFailure> failure = RunStream(stream, backend);
//   if (failure) std::cerr << ReportOf(stream, *failure);
//
// After each op (of one that is repeated: after the last time only 1, 3 and 4):
//  1. The backend's audit is clean.
//  2. The op came to what it had to: access_check.h, store_check.h,
//     slot_rules.h.
//  3. TLBs of CPUs in the guest, and leaf sptes, are sound: state_check.h. No
//     more shadow pages are in use than the page limit allows.
//  4. The memory that the op may have changed holds what it should; at the end
//     of the stream all memory does.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_INTERPRETER_H_
#define SHADOWMMU_TESTS_HARNESS_INTERPRETER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/harness/access_check.h"
#include "tests/harness/backend.h"
#include "tests/harness/ops.h"
#include "tests/harness/state_check.h"
#include "tests/harness/store_check.h"
#include "tests/harness/world.h"

namespace shadowmmu::testing {

class Interpreter {
 public:
  // A backend that was made for the same `vm` and saw no op yet. Not owned.
  Interpreter(const VmShape& vm, Backend* backend);

  // Runs one op. What is wrong after it, in words; empty if nothing. After a
  // failure the interpreter is of no more use.
  std::string Step(const Op& op);
  // The checks at the end of a stream.
  std::string Finish();
  // AccessCheck's rule 4.
  uint64_t excused() const { return access_check_.excused(); }

 private:
  // What was so before an op.
  struct Before {
    uint64_t failed_allocations = 0;
    uint64_t generation = 0;
    std::optional<AccessCheck::Case> access;  // touch, store, translate
    bool in_guest = false;                    // the op's vCPU
    Picture picture;                          // age, testage
  };

  // Now, and once (interpreter_order.cc).
  std::string Once(const Op& op);
  std::string Repeat(const Op& repeat, const Op& op);
  // In the middle of the next access.
  void Postpone(const Op& meanwhile, const Op& op);
  std::string RunMeanwhile(const Op& op);

  // The op itself, with no notifier around it.
  std::string Run(const Op& op);
  std::string ChangeHost(const Op& op);

  Before Look(const Op& op);
  VcpuModel* VcpuModelOf(const Op& op);
  // What the op came to.
  std::string CheckResult(const Op& op, const Before& before,
                          const OpResult& result);
  std::string CheckSlotOp(const Op& op, const OpResult& result);
  std::string CheckDirtyGet(const Op& op, const OpResult& result);
  std::string CheckVcpuOp(const Op& op, const Before& before,
                          const OpResult& result);
  std::string CheckRegisters(const Op& op, const OpResult& result);
  std::string CheckFeatures(const Op& op, const OpResult& result);
  std::string CheckPageFlushed(const Op& op);
  std::string CheckInvpcid(const Op& op, const OpResult& result);
  std::string CheckFlushed(const Op& op) const;
  void NoteFlushedAll(VcpuModel& vcpu);
  void NoteInvpcid(VcpuModel& vcpu, InvpcidType type,
                   const InvpcidDescriptor& descriptor);
  std::string CheckVcpuCreate(const Op& op, const OpResult& result);
  std::string CheckTouch(const Before& before, const OpResult& result);
  std::string CheckStore(const Op& op, const Before& before,
                         const OpResult& result);
  std::string CheckEmulated(const Op& op, AddressSpace space,
                            const OpResult& result);
  std::string CheckNotifier(const Op& op, const OpResult& result);
  std::string CheckAge(const Op& op, const Before& before,
                       const OpResult& result);
  std::string CheckInvalidation(const Op& op, const Before& before,
                                const OpResult& result);
  std::string CheckLimit(const Op& op, const OpResult& result);
  std::string CheckUnshadow(const Op& op, const OpResult& result);
  void NoteHostStore(const Op& op);
  std::string CheckStatus(const std::vector<absl::StatusCode>& refusals,
                          const absl::Status& status) const;
  // What everything is like now.
  void NoteEntry(const Op& op, const Before& before, const OpResult& result);
  void NoteRoot(const VcpuModel& vcpu);
  bool Entered(const Op& op, const OpResult& result) const;
  std::string CheckState(const Op& op, const OpResult& result);
  std::string CheckTlbs(const Op& op, const OpResult& result,
                        const Picture* picture);
  std::string CheckFrames(const std::vector<uint32_t>& frames);
  // A new picture, if there is anything new to see.
  std::optional<Picture> NewPicture();
  // expect.*
  std::string Expect(const Op& op);
  std::string ExpectOutcome(const Op& op) const;
  std::string ExpectStat(const Op& op) const;

  Backend* const backend_;
  World world_;
  StateCheck state_check_{&world_};
  AccessCheck access_check_;
  StoreCheck store_check_{&world_};

  Allocations allocations_ = Allocations::kAllWell;  // of the op under way
  std::vector<uint32_t> frames_;  // that the op under way may have changed
  // What `repeat` or `meanwhile` says about the next op.
  std::optional<Op> about_next_;
  bool look_ = true;  // at the state, after the op under way
  uint64_t page_limit_;
  // The access under way; another op may be run in the middle of it.
  AccessCheck::Case* under_way_ = nullptr;
  bool interrupted_ = false;  // the op under way was
  std::string wrong_meanwhile_;
  std::vector<uint64_t> seen_;  // counters and versions at the last picture
  std::optional<FaultOutcome> last_outcome_;
  absl::Status last_status_;
  uint64_t last_dirty_ = 0;  // pages that the last dirty.get reported
};

// What went wrong, and after which op (counted from 0; the number of ops if it
// was at the end).
struct StreamFailure {
  size_t op = 0;
  std::string what;
};

std::optional<StreamFailure> RunStream(const OpStream& stream,
                                       Backend& backend);
// Against the library.
std::optional<StreamFailure> RunStream(const OpStream& stream);

// The op, what differs, and the stream up to there in the text format.
std::string ReportOf(const OpStream& stream, const StreamFailure& failure);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_INTERPRETER_H_
