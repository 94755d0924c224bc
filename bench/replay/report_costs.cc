// What invalidations and slot changes cost: the fields of the report that
// measure. invalidator.h says what each part is.

#include "bench/replay/report.h"

namespace shadowmmu::replay {
namespace {

using R = const Results&;

uint64_t Count(Nanoseconds time) { return static_cast<uint64_t>(time.count()); }

Value Of(const std::optional<uint64_t>& value) {
  if (!value.has_value()) return {};
  return *value;
}

// get(invalidation, window) of each invalidation.
template <typename Get>
Samples Each(R r, Get get) {
  Samples samples;
  for (const Results::Measured& one : r.invalidations) {
    samples.Add(get(one.invalidation, one.window));
  }
  return samples;
}

// The same of those whose window was as long as it should be.
template <typename Get>
Samples EachWhole(R r, Get get) {
  Samples samples;
  for (const Results::Measured& one : r.invalidations) {
    if (one.window.end - one.window.begin >= r.options.invalidate_every) {
      samples.Add(get(one.window));
    }
  }
  return samples;
}

template <typename Get>
Samples EachSlot(R r, Get get) {
  Samples samples;
  for (const Results::Replaced& one : r.slot_changes) {
    samples.Add(get(one.change, one.window));
  }
  return samples;
}

Samples Mapped(R r) {
  return Each(r, [](const Invalidation& i, const FaultLog::Window&) {
    return i.mapped;
  });
}
Samples Stalls(R r) {
  return Each(r, [](const Invalidation& i, const FaultLog::Window&) {
    return Count(i.stall);
  });
}
Samples Reentries(R r) {
  return Each(r, [](const Invalidation& i, const FaultLog::Window&) {
    return Count(i.reentry);
  });
}
Samples Reclaims(R r) {
  return Each(r, [](const Invalidation& i, const FaultLog::Window&) {
    return Count(i.reclaim);
  });
}
Samples RefaultCounts(R r) {
  return EachWhole(r,
                   [](const FaultLog::Window& w) { return w.refaults.count; });
}
Samples RefaultTimes(R r) {
  return EachWhole(
      r, [](const FaultLog::Window& w) { return Count(w.refaults.time); });
}
Samples Deletes(R r) {
  return EachSlot(r, [](const SlotChange& c, const FaultLog::Window&) {
    return Count(c.times.remove);
  });
}

Value PerMapped(R r, const Samples& times) {
  const uint64_t mapped = Mapped(r).sum();
  if (mapped == 0) return {};
  return static_cast<double>(times.sum()) / static_cast<double>(mapped);
}

// Of an invalidation, in one word: is there any?
Value IfInvalidated(R r, uint64_t value) {
  if (r.options.invalidate_every == 0) return {};
  return value;
}

constexpr absl::string_view kInvalidations = "invalidations";
constexpr absl::string_view kSlots = "slot changes";

const Field kFields[] = {
    {kInvalidations, "invalidations", "invalidations of all shadow pages",
     [](R r) { return IfInvalidated(r, r.invalidations.size()); }},
    {kInvalidations, "mapped_min",
     "sptes mapped just before an invalidation, least",
     [](R r) { return Of(Mapped(r).min()); }},
    {kInvalidations, "mapped_median", "the same, median",
     [](R r) { return Of(Mapped(r).median()); }},
    {kInvalidations, "mapped_max", "the same, most",
     [](R r) { return Of(Mapped(r).max()); }},
    {kInvalidations, "stall_ns_min",
     "stall: ns that no vCPU may be in the guest, least",
     [](R r) { return Of(Stalls(r).min()); }},
    {kInvalidations, "stall_ns_median", "stall, median",
     [](R r) { return Of(Stalls(r).median()); }},
    {kInvalidations, "stall_ns_max", "stall, most",
     [](R r) { return Of(Stalls(r).max()); }},
    {kInvalidations, "stall_ns_per_spte",
     "all stalls by all sptes mapped, mean",
     [](R r) { return PerMapped(r, Stalls(r)); }},
    {kInvalidations, "reentry_ns_median",
     "re-entry: ns until the vCPU is in the guest again, median",
     [](R r) { return Of(Reentries(r).median()); }},
    {kInvalidations, "reentry_ns_max", "re-entry, most",
     [](R r) { return Of(Reentries(r).max()); }},
    {kInvalidations, "reclaim_ns_min",
     "reclaim: ns of an invalidation's ReclaimObsolete calls, least",
     [](R r) { return Of(Reclaims(r).min()); }},
    {kInvalidations, "reclaim_ns_median", "reclaim, median",
     [](R r) { return Of(Reclaims(r).median()); }},
    {kInvalidations, "reclaim_ns_max", "reclaim, most",
     [](R r) { return Of(Reclaims(r).max()); }},
    {kInvalidations, "reclaim_ns_per_spte",
     "all reclaims by all sptes mapped, mean",
     [](R r) { return PerMapped(r, Reclaims(r)); }},
    {kInvalidations, "reclaim_calls", "calls of ReclaimObsolete, all together",
     [](R r) { return IfInvalidated(r, r.reclaim_calls.count()); }},
    {kInvalidations, "reclaim_call_ns_median", "ns of one such call, median",
     [](R r) { return Of(r.reclaim_calls.median()); }},
    {kInvalidations, "reclaim_call_ns_max", "ns of one such call, most",
     [](R r) { return Of(r.reclaim_calls.max()); }},
    {kInvalidations, "refault_windows",
     "windows of --invalidate-every accesses that were not cut short",
     [](R r) { return IfInvalidated(r, RefaultCounts(r).count()); }},
    {kInvalidations, "refaults_min", "refaults in one of them, least",
     [](R r) { return Of(RefaultCounts(r).min()); }},
    {kInvalidations, "refaults_median", "refaults in one of them, median",
     [](R r) { return Of(RefaultCounts(r).median()); }},
    {kInvalidations, "refaults_max", "refaults in one of them, most",
     [](R r) { return Of(RefaultCounts(r).max()); }},
    {kInvalidations, "refault_window_ns_min",
     "ns of all refaults of one of them, least",
     [](R r) { return Of(RefaultTimes(r).min()); }},
    {kInvalidations, "refault_window_ns_median", "the same, median",
     [](R r) { return Of(RefaultTimes(r).median()); }},
    {kInvalidations, "refault_window_ns_max", "the same, most",
     [](R r) { return Of(RefaultTimes(r).max()); }},
    {kInvalidations, "refault_ns_median", "ns of a single refault, median",
     [](R r) { return Of(r.refault_times.median()); }},
    {kInvalidations, "refault_ns_max", "ns of a single refault, most",
     [](R r) { return Of(r.refault_times.max()); }},

    {kSlots, "slot_changes",
     "deletions of a slot, each followed by an addition",
     [](R r) -> Value {
       if (r.options.slot_churn == 0) return {};
       return uint64_t{r.slot_changes.size()};
     }},
    {kSlots, "slot_mapped_median",
     "sptes that map the slot just before its deletion, median",
     [](R r) {
       return Of(EachSlot(r, [](const SlotChange& c, const FaultLog::Window&) {
                   return c.mapped_in_slot;
                 }).median());
     }},
    {kSlots, "slot_vm_mapped_median", "sptes of the whole VM then, median",
     [](R r) {
       return Of(EachSlot(r, [](const SlotChange& c, const FaultLog::Window&) {
                   return c.mapped;
                 }).median());
     }},
    {kSlots, "slot_delete_ns_min", "ns of DeleteSlot, least",
     [](R r) { return Of(Deletes(r).min()); }},
    {kSlots, "slot_delete_ns_median", "ns of DeleteSlot, median",
     [](R r) { return Of(Deletes(r).median()); }},
    {kSlots, "slot_delete_ns_max", "ns of DeleteSlot, most",
     [](R r) { return Of(Deletes(r).max()); }},
    {kSlots, "slot_create_ns_median", "ns of CreateSlot, median",
     [](R r) {
       return Of(EachSlot(r, [](const SlotChange& c, const FaultLog::Window&) {
                   return Count(c.times.add);
                 }).median());
     }},
    {kSlots, "slot_refaults_median",
     "refaults until the next change or invalidation, median",
     [](R r) {
       return Of(EachSlot(r, [](const SlotChange&, const FaultLog::Window& w) {
                   return w.refaults.count;
                 }).median());
     }},
};

}  // namespace

std::span<const Field> CostFields() { return kFields; }

}  // namespace shadowmmu::replay
