// The part of the interpreter that checks what a regression file expects.

#include "tests/harness/interpreter.h"
#include "tests/harness/op_values.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

// In the order of the words of Field::kCode.
constexpr absl::StatusCode kCodes[] = {absl::StatusCode::kOk,
                                       absl::StatusCode::kInvalidArgument,
                                       absl::StatusCode::kNotFound,
                                       absl::StatusCode::kAlreadyExists,
                                       absl::StatusCode::kResourceExhausted,
                                       absl::StatusCode::kUnimplemented,
                                       absl::StatusCode::kUnavailable,
                                       absl::StatusCode::kFailedPrecondition};

// In the order of the words of Field::kStat.
constexpr uint64_t Stats::*kStats[] = {&Stats::shadow_pages,
                                       &Stats::obsolete_pages,
                                       &Stats::leaf_sptes,
                                       &Stats::pte_list_descs,
                                       &Stats::rmap_chunks,
                                       &Stats::slots,
                                       &Stats::faults,
                                       &Stats::guest_faults,
                                       &Stats::emulations,
                                       &Stats::sptes_set,
                                       &Stats::pages_created,
                                       &Stats::pages_zapped,
                                       &Stats::pages_evicted,
                                       &Stats::sptes_zapped,
                                       &Stats::generation_bumps,
                                       &Stats::reclaim_batches,
                                       &Stats::tlb_flushes,
                                       &Stats::guest_writes,
                                       &Stats::guest_table_writes,
                                       &Stats::fault_retries,
                                       &Stats::root_switches,
                                       &Stats::root_cache_hits,
                                       &Stats::unsync_pages,
                                       &Stats::unsyncs,
                                       &Stats::syncs,
                                       &Stats::page_limit,
                                       &Stats::pages_flooded,
                                       &Stats::sptes_prefetched,
                                       &Stats::pages_unlinked,
                                       &Stats::links_inherited};

// In the order of the words of Field::kWhy; 0 is "any".
bool IsWhy(const FaultOutcome& outcome, uint64_t why) {
  if (why == 0) return true;
  if (why <= 3) {
    return outcome.kind == FaultOutcome::Kind::kEmulate &&
           outcome.emulate_reason == static_cast<EmulateReason>(why - 1);
  }
  return outcome.kind == FaultOutcome::Kind::kMemoryFault && why <= 5 &&
         outcome.memory_fault_reason == static_cast<MemoryFaultReason>(why - 4);
}

}  // namespace

std::string Interpreter::Expect(const Op& op) {
  switch (op.kind()) {
    case OpKind::kExpectOutcome:
    case OpKind::kExpectFault:
      return ExpectOutcome(op);
    case OpKind::kExpectStatus: {
      const uint64_t code = op.Get(Field::kCode);
      const bool right =
          code < std::size(kCodes) && last_status_.code() == kCodes[code];
      return right ? "" : Say("it was: ", last_status_.ToString());
    }
    case OpKind::kExpectRmap: {
      const uint64_t length = backend_->RmapLength(
          SpaceOf(op), Gfn(op.Get(Field::kGfn)), LevelOf(op));
      return length == op.Get(Field::kCount) ? "" : Say("it has ", length);
    }
    case OpKind::kExpectLeaves: {
      const size_t leaves = backend_->Look().leaves.size();
      return leaves == op.Get(Field::kCount) ? "" : Say("there are ", leaves);
    }
    case OpKind::kExpectDirty:
      return last_dirty_ == op.Get(Field::kCount)
                 ? ""
                 : Say("it reported ", last_dirty_);
    default:
      return ExpectStat(op);
  }
}

std::string Interpreter::ExpectOutcome(const Op& op) const {
  if (!last_outcome_) return "nothing has ended yet";
  const FaultOutcome& outcome = *last_outcome_;
  bool right = false;
  if (op.kind() == OpKind::kExpectOutcome) {
    right = static_cast<uint64_t>(outcome.kind) == op.Get(Field::kIs) &&
            IsWhy(outcome, op.Get(Field::kWhy));
  } else {
    right = outcome.kind == FaultOutcome::Kind::kGuestFault &&
            static_cast<uint64_t>(outcome.guest_fault.vector) ==
                op.Get(Field::kVector) &&
            outcome.guest_fault.error_code == op.Get(Field::kError);
  }
  return right ? "" : Say("it was: ", outcome);
}

std::string Interpreter::ExpectStat(const Op& op) const {
  const uint64_t stat = op.Get(Field::kStat);
  if (stat >= std::size(kStats)) return "there is no such counter";
  const uint64_t value = backend_->GetStats().*kStats[stat];
  const bool right =
      value >= op.Get(Field::kMin) && value <= op.Get(Field::kMax);
  return right ? "" : Say("it is ", value);
}

}  // namespace shadowmmu::testing
