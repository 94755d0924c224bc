// LyingBackend: the library behind a Backend that tells a lie of the test's
// choice, to show that the interpreter finds it out.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_SIM_LYING_BACKEND_H_
#define SHADOWMMU_TESTS_SIM_LYING_BACKEND_H_

#include <functional>
#include <string>
#include <vector>

#include "tests/harness/shadowmmu_backend.h"

namespace shadowmmu::testing {

class LyingBackend : public ShadowmmuBackend {
 public:
  using ShadowmmuBackend::ShadowmmuBackend;

  // Each, where it is set, sees the truth and may change it.
  std::function<void(const Op&, OpResult&)> about_results;
  std::function<void(Picture&)> about_pictures;
  std::function<void(std::vector<TlbEntry>&)> about_tlbs;
  std::function<void(uint64_t&)> about_rmaps;
  std::function<void(std::vector<std::string>&)> about_audits;
  // Runs before the op reaches the library.
  std::function<void(const Op&)> before_op;

  OpResult Apply(const Op& op) override {
    if (before_op) before_op(op);
    OpResult result = ShadowmmuBackend::Apply(op);
    if (about_results) about_results(op, result);
    return result;
  }
  Picture Look() override {
    Picture picture = ShadowmmuBackend::Look();
    if (about_pictures) about_pictures(picture);
    return picture;
  }
  std::vector<TlbEntry> Tlb(uint32_t vcpu) override {
    std::vector<TlbEntry> entries = ShadowmmuBackend::Tlb(vcpu);
    if (about_tlbs) about_tlbs(entries);
    return entries;
  }
  uint64_t RmapLength(AddressSpace space, Gfn gfn, Level level) override {
    uint64_t length = ShadowmmuBackend::RmapLength(space, gfn, level);
    if (about_rmaps) about_rmaps(length);
    return length;
  }
  std::vector<std::string> Audit() override {
    std::vector<std::string> violations = ShadowmmuBackend::Audit();
    if (about_audits) about_audits(violations);
    return violations;
  }
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_SIM_LYING_BACKEND_H_
