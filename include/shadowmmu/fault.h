// What became of a guest's access: the outcome of a fault, a translation or an
// emulated store. Whatever a guest does ends in one of these, never in an
// abort.

#ifndef SHADOWMMU_FAULT_H_
#define SHADOWMMU_FAULT_H_

#include <cstdint>
#include <iosfwd>
#include <optional>

#include "shadowmmu/address.h"

namespace shadowmmu {

// A fault that the hypervisor must inject into the guest.
struct GuestFault {
  enum class Vector : uint8_t { kGeneralProtection = 13, kPage = 14 };
  Vector vector = Vector::kPage;
  // The error code to push: for a page fault as in SDM vol. 3, 4.7 (pf_error).
  uint32_t error_code = 0;
  // For a page fault, what CR2 must hold.
  Gva address = Gva();
  friend bool operator==(const GuestFault&, const GuestFault&) = default;
};

// Why an access must be emulated by the hypervisor.
enum class EmulateReason : uint8_t {
  kNoSlot,        // nothing is mapped there: a device, or nothing
  kReadOnlySlot,  // a write into a read-only slot: flash, or nothing
  kWriteTracked,  // a write into a guest page table that is shadowed: decode
                  // the store, and perform it by Mmu::GuestWrite or
                  // Mmu::GuestCompareExchange
};

// Why the memory behind a guest access could not be used.
enum class MemoryFaultReason : uint8_t {
  kHostRefused,        // Host::Resolve gave an error, or a Try call failed
                       // while no invalidation was under way
  kTableOutsideSlots,  // the guest's walk, or its CR3, leads to memory that no
                       // slot covers
};

struct FaultOutcome {
  enum class Kind : uint8_t {
    kResume,         // enter the guest again: the access goes through now, or
                     // faults for what is still in its way
    kGuestFault,     // inject guest_fault
    kEmulate,        // gpa and emulate_reason say what
    kMemoryFault,    // gpa and memory_fault_reason say what
    kDirtyRingFull,  // reserved: no slot has a dirty ring yet
    kRetry,          // something changed meanwhile: enter the guest again (or
                     // fault again, for a caller that does not run a guest)
    kNoMemory,       // no table page or descriptor could be had; nothing was
                     // mapped. Free something, or raise the capacity.
  };

  Kind kind = Kind::kResume;
  GuestFault guest_fault = {};
  Gpa gpa = Gpa();
  EmulateReason emulate_reason = EmulateReason::kNoSlot;
  MemoryFaultReason memory_fault_reason = MemoryFaultReason::kHostRefused;

  static FaultOutcome Resume() { return {}; }
  static FaultOutcome Retry() { return {.kind = Kind::kRetry}; }
  static FaultOutcome NoMemory() { return {.kind = Kind::kNoMemory}; }
  static FaultOutcome Inject(GuestFault fault) {
    return {.kind = Kind::kGuestFault, .guest_fault = fault};
  }
  static FaultOutcome Emulate(Gpa gpa, EmulateReason reason) {
    return {.kind = Kind::kEmulate, .gpa = gpa, .emulate_reason = reason};
  }
  static FaultOutcome MemoryFault(Gpa gpa, MemoryFaultReason reason) {
    return {
        .kind = Kind::kMemoryFault, .gpa = gpa, .memory_fault_reason = reason};
  }

  bool resume() const { return kind == Kind::kResume; }
};

// The outcome of VcpuMmu::Prefault: mapped + skipped is the pages asked for,
// where nothing stopped it.
struct PrefaultResult {
  uint64_t mapped = 0;   // those that the access now goes through to
  uint64_t skipped = 0;  // those left out
  // What stopped it, at page mapped + skipped: kNoMemory or kRetry; else
  // kResume.
  FaultOutcome outcome = FaultOutcome::Resume();
};

// The outcome of VcpuMmu::Translate: `gpa` if the access is allowed, else
// `outcome` says why not (outcome.kind is then not kResume).
struct Translation {
  FaultOutcome outcome = {};
  std::optional<Gpa> gpa = std::nullopt;
};

// The outcome of a GuestCompareExchange.
struct GuestExchange {
  // kResume if the memory was compared (and exchanged if equal).
  FaultOutcome outcome = {};
  bool exchanged = false;
  // What the memory held before.
  uint64_t previous = 0;
};

std::ostream& operator<<(std::ostream& os, FaultOutcome::Kind kind);
std::ostream& operator<<(std::ostream& os, EmulateReason reason);
std::ostream& operator<<(std::ostream& os, MemoryFaultReason reason);
std::ostream& operator<<(std::ostream& os, const GuestFault& fault);
std::ostream& operator<<(std::ostream& os, const FaultOutcome& outcome);

}  // namespace shadowmmu

#endif  // SHADOWMMU_FAULT_H_
