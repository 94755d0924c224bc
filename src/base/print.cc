// How the public types print.

#include <cstddef>
#include <cstdint>
#include <ostream>

#include "shadowmmu/access.h"
#include "shadowmmu/fault.h"
#include "shadowmmu/stats.h"

namespace shadowmmu {

std::ostream& operator<<(std::ostream& os, AccessType type) {
  switch (type) {
    case AccessType::kRead:
      return os << "read";
    case AccessType::kWrite:
      return os << "write";
    case AccessType::kFetch:
      return os << "fetch";
  }
  return os << "?";
}

std::ostream& operator<<(std::ostream& os, const Access& access) {
  return os << (access.privilege == Privilege::kUser ? "user " : "supervisor ")
            << (access.implicit == Implicit::kYes ? "implicit " : "")
            << access.type;
}

std::ostream& operator<<(std::ostream& os, FaultOutcome::Kind kind) {
  switch (kind) {
    case FaultOutcome::Kind::kResume:
      return os << "resume";
    case FaultOutcome::Kind::kGuestFault:
      return os << "guest fault";
    case FaultOutcome::Kind::kEmulate:
      return os << "emulate";
    case FaultOutcome::Kind::kMemoryFault:
      return os << "memory fault";
    case FaultOutcome::Kind::kDirtyRingFull:
      return os << "dirty ring full";
    case FaultOutcome::Kind::kRetry:
      return os << "retry";
    case FaultOutcome::Kind::kNoMemory:
      return os << "no memory";
  }
  return os << "?";
}

std::ostream& operator<<(std::ostream& os, EmulateReason reason) {
  switch (reason) {
    case EmulateReason::kNoSlot:
      return os << "no slot";
    case EmulateReason::kReadOnlySlot:
      return os << "read-only slot";
    case EmulateReason::kWriteTracked:
      return os << "write-tracked";
  }
  return os << "?";
}

std::ostream& operator<<(std::ostream& os, MemoryFaultReason reason) {
  switch (reason) {
    case MemoryFaultReason::kHostRefused:
      return os << "host refused";
    case MemoryFaultReason::kTableOutsideSlots:
      return os << "table outside slots";
  }
  return os << "?";
}

std::ostream& operator<<(std::ostream& os, const GuestFault& fault) {
  if (fault.vector == GuestFault::Vector::kGeneralProtection) {
    return os << "#GP(" << fault.error_code << ")";
  }
  const std::ios_base::fmtflags flags = os.flags();
  os << "#PF(0x" << std::hex << fault.error_code << ")";
  os.flags(flags);
  return os << " at " << fault.address;
}

std::ostream& operator<<(std::ostream& os, const FaultOutcome& outcome) {
  os << outcome.kind;
  switch (outcome.kind) {
    case FaultOutcome::Kind::kGuestFault:
      return os << " " << outcome.guest_fault;
    case FaultOutcome::Kind::kEmulate:
      return os << " " << outcome.gpa << " (" << outcome.emulate_reason << ")";
    case FaultOutcome::Kind::kMemoryFault:
      return os << " " << outcome.gpa << " (" << outcome.memory_fault_reason
                << ")";
    default:
      return os;
  }
}

std::ostream& operator<<(std::ostream& os, SlotZapPolicy policy) {
  switch (policy) {
    case SlotZapPolicy::kAuto:
      return os << "auto";
    case SlotZapPolicy::kTargeted:
      return os << "targeted";
    case SlotZapPolicy::kWalk:
      return os << "walk";
    case SlotZapPolicy::kRelease:
      return os << "release";
  }
  return os << "?";
}

std::ostream& operator<<(std::ostream& os, const Stats& stats) {
  os << "shadow_pages " << stats.shadow_pages << "\nobsolete_pages "
     << stats.obsolete_pages << "\nunsync_pages " << stats.unsync_pages
     << "\nleaf_sptes " << stats.leaf_sptes << "\npte_list_descs "
     << stats.pte_list_descs << "\nrmap_chunks " << stats.rmap_chunks
     << "\nslots " << stats.slots << "\nvcpus " << stats.vcpus
     << "\npage_limit " << stats.page_limit << "\ntable_bytes "
     << stats.table_bytes << "\nmetadata_bytes " << stats.metadata_bytes
     << "\nfaults " << stats.faults << "\nfast_faults " << stats.fast_faults
     << "\nfault_retries " << stats.fault_retries << "\nguest_faults "
     << stats.guest_faults << "\nemulations " << stats.emulations
     << "\nroot_switches " << stats.root_switches << "\nroot_cache_hits "
     << stats.root_cache_hits << "\nsptes_prefetched " << stats.sptes_prefetched
     << "\nunsyncs " << stats.unsyncs << "\nsyncs " << stats.syncs
     << "\nsptes_set " << stats.sptes_set << "\npages_created "
     << stats.pages_created << "\npages_zapped " << stats.pages_zapped
     << "\npages_evicted " << stats.pages_evicted << "\npages_released "
     << stats.pages_released << "\nreleases " << stats.releases
     << "\nslots_zapped_targeted " << stats.slots_zapped_targeted
     << "\nslots_zapped_by_walk " << stats.slots_zapped_by_walk
     << "\nslots_zapped_by_release " << stats.slots_zapped_by_release
     << "\nlast_slot_zap_targeted_ns "
     << stats.last_slot_zap.estimate.targeted_ns << "\nlast_slot_zap_walk_ns "
     << stats.last_slot_zap.estimate.walk_ns << "\nlast_slot_zap_release_ns "
     << stats.last_slot_zap.estimate.release_ns << "\npages_flooded "
     << stats.pages_flooded << "\npages_unlinked " << stats.pages_unlinked
     << "\nlinks_inherited " << stats.links_inherited << "\nsptes_zapped "
     << stats.sptes_zapped << "\ngeneration_bumps " << stats.generation_bumps
     << "\nreclaim_batches " << stats.reclaim_batches << "\nlock_breaks "
     << stats.lock_breaks << "\ntlb_flushes " << stats.tlb_flushes
     << "\nflushes_spared " << stats.flushes_spared << "\nguest_writes "
     << stats.guest_writes << "\nguest_table_writes "
     << stats.guest_table_writes << "\nlongest_lock_hold_ns "
     << stats.longest_lock_hold_ns << "\n";
  for (size_t i = 0; i < stats.lock_holds.size(); ++i) {
    if (stats.lock_holds[i] == 0) continue;
    os << "lock_holds_from_" << (uint64_t{1} << i) << "_ns "
       << stats.lock_holds[i] << "\n";
  }
  return os;
}

}  // namespace shadowmmu
