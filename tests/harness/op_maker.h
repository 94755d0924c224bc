// OpMaker: makes single ops of a simulated stream, each for itself, with values
// that suit the scene and what the vCPUs are at.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_OP_MAKER_H_
#define SHADOWMMU_TESTS_HARNESS_OP_MAKER_H_

#include <array>
#include <cstdint>
#include <vector>

#include "tests/harness/choices.h"
#include "tests/harness/ops.h"
#include "tests/harness/scene.h"

namespace shadowmmu::testing {

class OpMaker {
 public:
  // Neither is owned.
  OpMaker(Scene* scene, Choices* choices) : scene_(*scene), choices_(*choices) {
    regs_.fill(Op(OpKind::kRegs));
  }

  // The stream has this op now.
  void Note(const Op& op);
  Op Make(OpKind kind);

 private:
  // Each makes a family of ops.
  Op MakeSlotOp(OpKind kind);
  Op MakeVcpuOp(Op op);
  Op MakeStore(Op op);
  Op MakeHostOp(Op op);
  Op MakeRegs(uint64_t vcpu);
  Op MakeRegsRaw(Op op);
  Op MakeCr3(Op op);
  Op MakeInvpcid(Op op);
  Op MakeGuestStore(Op op);
  // An entry or several, or a part of one, for a table of `kind`.
  std::vector<uint8_t> SomeBytes(TableKind kind);
  // Sets `index`, `value` and `size` to what suits the place.
  Op SetEntry(Op op, const Scene::Place& place);
  // Sets what every op has that has it.
  void SetCommon(Op& op);
  // Who makes an access, and with what PKRU.
  void SetAccess(Op& op);
  // The last `regs` of a vCPU, with what `cr3` made of it.
  Op& RegsOf(uint64_t vcpu) { return regs_[vcpu % kStreamMaxVcpus]; }
  uint64_t ModeOf(uint64_t vcpu) {
    return RegsOf(vcpu).Get(Field::kMode) % mode::kModes;
  }

  Scene& scene_;
  Choices& choices_;
  std::array<Op, kStreamMaxVcpus> regs_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_OP_MAKER_H_
