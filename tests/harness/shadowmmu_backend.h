// ShadowmmuBackend: the library behind Backend: a TestHost, an Mmu, and the
// vCPUs of the stream.
//
// Numbers that an enum of the public face cannot hold are cut to one that it
// can, and where the library could not refuse them (the address space of a
// store, say) to one that is legal; everything else is put to it as it is.
//
// What guests do is in shadowmmu_backend_guest.cc.
//
// Thread safety: one thread at a time.

#ifndef SHADOWMMU_TESTS_HARNESS_SHADOWMMU_BACKEND_H_
#define SHADOWMMU_TESTS_HARNESS_SHADOWMMU_BACKEND_H_

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "shadowmmu/mmu.h"
#include "tests/harness/backend.h"
#include "tests/harness/ops.h"
#include "tests/harness/stream_vcpu.h"
#include "tests/harness/test_host.h"

namespace shadowmmu::testing {

class ShadowmmuBackend : public Backend {
 public:
  // `vm` must be within its bounds (a CHECK).
  explicit ShadowmmuBackend(const VmShape& vm);
  ~ShadowmmuBackend() override;

  OpResult Apply(const Op& op) override;
  void Interrupt(HostCall call, uint64_t n,
                 std::function<void()> body) override;
  std::vector<std::string> Audit() override;
  Picture Look() override;
  uint64_t RmapLength(AddressSpace space, Gfn gfn, Level level) override;
  Stats GetStats() override { return mmu_->GetStats(); }
  uint64_t generation() override { return mmu_->generation(); }
  bool HasVcpu(uint32_t vcpu) override { return vcpus_[vcpu] != nullptr; }
  bool InGuest(uint32_t vcpu) override { return vcpus_[vcpu]->in_guest(); }
  std::vector<TlbEntry> Tlb(uint32_t vcpu) override {
    return vcpus_[vcpu]->cpu().TlbEntries();
  }
  const std::byte* FrameMemory(uint32_t frame) override {
    return host_.PointerToFrame(PfnOfFrame(frame));
  }
  uint64_t failed_allocations() override { return host_.failed_allocations(); }

  // For tests that make the host lie.
  TestHost& test_host() { return host_; }
  Mmu& mmu() { return *mmu_; }

 private:
  static OpResult NotExecuted();
  static OpResult WithStatus(absl::Status status);

  // Each executes a family of ops.
  OpResult ApplySlot(const Op& op);
  OpResult ApplyVcpu(const Op& op);
  OpResult ApplyGuest(const Op& op, StreamVcpu& vcpu);
  OpResult ApplyStore(const Op& op);
  OpResult ApplyVcpuStore(const Op& op, StreamVcpu& vcpu);
  OpResult ApplyHost(const Op& op);
  OpResult ApplyNotifier(const Op& op);
  OpResult ApplyInvalidate(const Op& op);

  OpResult StoreThrough(StreamVcpu& vcpu, Gva gva, const Access& access,
                        std::span<const std::byte> bytes);
  void ChangeMapping(const Op& op);
  void Bump(uint64_t times);
  // The host is being asked.
  void OnHostCall(HostCall call);
  // Runs `call`, which may wait until no vCPU is in the guest: those that are
  // kicked leave at once, and come back when it is over.
  OpResult WithKicksObeyed(absl::FunctionRef<OpResult()> call);
  OpResult RetireSlot(const Op& op, absl::FunctionRef<OpResult()> call);

  // What Interrupt asked for; no body: nothing.
  struct Interruption {
    HostCall call = HostCall::kResolve;
    uint64_t left = 0;
    std::function<void()> body;
  };
  Interruption interruption_;
  bool kicks_obeyed_ = false;
  // The vCPU whose touch, store or translate is under way; null: none.
  const StreamVcpu* accessing_ = nullptr;

  TestHost host_;
  std::unique_ptr<Mmu> mmu_;
  std::array<std::unique_ptr<StreamVcpu>, kStreamMaxVcpus> vcpus_;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_SHADOWMMU_BACKEND_H_
