// What was run: the fields of the report that count.

#include "bench/replay/report.h"

namespace shadowmmu::replay {
namespace {

using R = const Results&;

constexpr double kNanosecondsPerSecond = 1e9;

Value Seconds(Nanoseconds time) {
  return static_cast<double>(time.count()) / kNanosecondsPerSecond;
}

Value Ratio(uint64_t value, uint64_t of) {
  if (of == 0) return {};
  return static_cast<double>(value) / static_cast<double>(of);
}

Value Rate(uint64_t count, Nanoseconds time) {
  if (time.count() == 0) return {};
  return static_cast<double>(count) * kNanosecondsPerSecond /
         static_cast<double>(time.count());
}

Value EndOf(Results::TraceEnd end) {
  switch (end) {
    case Results::TraceEnd::kComplete:
      return std::string("complete");
    case Results::TraceEnd::kTruncated:
      return std::string("truncated");
    case Results::TraceEnd::kCut:
      return std::string("cut");
    case Results::TraceEnd::kNone:
      break;
  }
  return {};
}

// Of values that say something only if there was a trace.
Value IfTraced(R r, uint64_t value) {
  if (!r.options.HasTrace()) return {};
  return value;
}

// Of values that say something only if the run was checked.
Value IfChecked(R r, uint64_t value) {
  if (r.options.checking == Options::Checking::kOff) return {};
  return value;
}

constexpr absl::string_view kTrace = "trace";
constexpr absl::string_view kRun = "run";
constexpr absl::string_view kGuest = "guest";
constexpr absl::string_view kFaults = "faults";
constexpr absl::string_view kLibrary = "library";
constexpr absl::string_view kRmaps = "rmap chains";
constexpr absl::string_view kCheck = "check";

const Field kFields[] = {
    {kTrace, "trace_lines", "lines read",
     [](R r) { return IfTraced(r, r.trace.lines); }},
    {kTrace, "trace_accesses", "accesses read; each is run by each process",
     [](R r) { return IfTraced(r, r.trace.accesses()); }},
    {kTrace, "trace_fetches", "of these, instruction fetches",
     [](R r) { return IfTraced(r, r.trace.of(TraceKind::kFetch)); }},
    {kTrace, "trace_loads", "of these, loads",
     [](R r) { return IfTraced(r, r.trace.of(TraceKind::kLoad)); }},
    {kTrace, "trace_stores", "of these, stores",
     [](R r) { return IfTraced(r, r.trace.of(TraceKind::kStore)); }},
    {kTrace, "trace_modifies", "of these, loads and stores of one place",
     [](R r) { return IfTraced(r, r.trace.of(TraceKind::kModify)); }},
    {kTrace, "trace_crossings", "accesses that touch more than one page",
     [](R r) { return IfTraced(r, r.trace.page_crossings); }},
    {kTrace, "trace_largest", "bytes of the largest access",
     [](R r) { return IfTraced(r, r.trace.largest_access); }},
    {kTrace, "trace_end",
     "complete; truncated (no trailer); cut (by --max-accesses)",
     [](R r) { return EndOf(r.trace_end); }},

    {kRun, "workload", "what the guest did",
     [](R r) -> Value { return std::string(NameOf(r.options.workload)); }},
    {kRun, "strategy", "how all shadow pages are invalidated",
     [](R r) -> Value { return std::string(NameOf(r.options.strategy)); }},
    {kRun, "processes", "copies of the program; fork: the most at once",
     [](R r) -> Value { return uint64_t{r.options.Processes()}; }},
    {kRun, "slots", "memslots",
     [](R r) -> Value { return uint64_t{r.options.slots}; }},
    {kRun, "seconds", "time of the replay, reading the trace included",
     [](R r) { return Seconds(r.time); }},
    {kRun, "accesses", "accesses run, over all processes",
     [](R r) -> Value { return r.played.accesses; }},
    {kRun, "accesses_per_second", "accesses run, by time",
     [](R r) { return Rate(r.played.accesses, r.time); }},
    {kRun, "cpu_accesses",
     "pages put to the CPU model (its front TLB did not have them)",
     [](R r) -> Value { return r.played.cpu_accesses; }},
    {kRun, "walks", "walks of the shadow tables by the CPU model",
     [](R r) -> Value { return r.walks; }},
    {kRun, "tlb_flushes", "TLB flushes that the library asked for",
     [](R r) -> Value { return r.tlb_flushes; }},
    {kRun, "entries", "entries into the guest",
     [](R r) -> Value { return r.entries; }},
    {kRun, "switches", "turns of processes; each begins with a switch to it",
     [](R r) -> Value { return r.switches; }},
    {kRun, "switch_seconds", "time of the switches, new roots included",
     [](R r) { return Seconds(r.switch_time); }},

    {kGuest, "guest_page_faults", "page faults that the guest's kernel served",
     [](R r) -> Value { return r.kernel.page_faults; }},
    {kGuest, "guest_frames", "frames of guest memory in use",
     [](R r) -> Value { return r.guest_frames; }},
    {kGuest, "guest_tables", "of these, frames that hold guest tables",
     [](R r) -> Value { return r.table_frames; }},
    {kGuest, "guest_shared_pages", "frames that processes share, read-only",
     [](R r) -> Value { return r.kernel.shared_pages; }},
    {kGuest, "guest_private_pages", "frames given to one process",
     [](R r) -> Value { return r.kernel.private_pages; }},
    {kGuest, "guest_copies", "of these, copied on write from a shared one",
     [](R r) -> Value { return r.kernel.copies; }},
    {kGuest, "guest_direct_stores",
     "stores of table entries that went through (not shadowed, or unsync)",
     [](R r) -> Value { return r.kernel_memory.direct_stores; }},
    {kGuest, "guest_emulated_stores",
     "stores of table entries that trapped and were emulated",
     [](R r) -> Value { return r.kernel_memory.emulated_stores; }},

    {kFaults, "faults", "faults that the library handled",
     [](R r) -> Value { return r.faults.all.count; }},
    {kFaults, "fault_seconds", "time in HandleFault",
     [](R r) { return Seconds(r.faults.all.time); }},
    {kFaults, "fault_ns", "ns in HandleFault, mean",
     [](R r) {
       return Ratio(static_cast<uint64_t>(r.faults.all.time.count()),
                    r.faults.all.count);
     }},
    {kFaults, "fills", "faults that ended with the page mapped",
     [](R r) -> Value { return r.faults.fills(); }},
    {kFaults, "first_fills", "of these, of pages never mapped before",
     [](R r) -> Value { return r.faults.first_fills.count; }},
    {kFaults, "refaults",
     "of these, of pages that an invalidation had unmapped",
     [](R r) -> Value { return r.faults.refaults.count; }},
    {kFaults, "repeated_fills",
     "of these, of pages whose entry or rights changed, or that were evicted",
     [](R r) -> Value { return r.faults.repeats.count; }},
    {kFaults, "guest_faults", "faults given to the guest's kernel",
     [](R r) -> Value { return r.faults.guest_faults.count; }},
    {kFaults, "emulations", "faults that ended as stores to be emulated",
     [](R r) -> Value { return r.faults.emulations.count; }},
    {kFaults, "fault_retries", "times that a fault started over",
     [](R r) -> Value { return r.stats.fault_retries; }},

    {kLibrary, "sptes", "sptes that map guest memory, at the end",
     [](R r) -> Value { return r.stats.leaf_sptes; }},
    {kLibrary, "sptes_most", "the most of these that were seen at once",
     [](R r) -> Value { return r.peaks.leaf_sptes; }},
    {kLibrary, "shadow_pages", "shadow pages (tables), at the end",
     [](R r) -> Value { return r.stats.shadow_pages; }},
    {kLibrary, "shadow_pages_most", "the most of these that were seen at once",
     [](R r) -> Value { return r.peaks.shadow_pages; }},
    {kLibrary, "table_bytes", "memory of tables, at the end",
     [](R r) -> Value { return r.stats.table_bytes; }},
    {kLibrary, "table_bytes_most", "the most of it that was seen at once",
     [](R r) -> Value { return r.peaks.shadow_pages * kPageSize; }},
    {kLibrary, "metadata_bytes", "all other memory of the library, at the end",
     [](R r) -> Value { return r.stats.metadata_bytes; }},
    {kLibrary, "metadata_bytes_most", "the most of it that was seen at once",
     [](R r) -> Value { return r.peaks.metadata_bytes; }},
    {kLibrary, "sptes_set", "sptes made or changed",
     [](R r) -> Value { return r.stats.sptes_set; }},
    {kLibrary, "sptes_zapped", "sptes taken off their rmap",
     [](R r) -> Value { return r.stats.sptes_zapped; }},
    {kLibrary, "pages_created", "shadow pages made",
     [](R r) -> Value { return r.stats.pages_created; }},
    {kLibrary, "pages_zapped", "shadow pages taken out",
     [](R r) -> Value { return r.stats.pages_zapped; }},
    {kLibrary, "pages_evicted", "of these, to make room (see --tables)",
     [](R r) -> Value { return r.stats.pages_evicted; }},

    {kRmaps, "rmap_frames", "frames that are mapped, when most sptes were seen",
     [](R r) -> Value { return r.chains.frames(); }},
    {kRmaps, "rmap_sptes", "sptes that map these frames",
     [](R r) -> Value { return r.chains.sptes(); }},
    {kRmaps, "rmap_mean", "sptes a frame, mean",
     [](R r) { return Ratio(r.chains.sptes(), r.chains.frames()); }},
    {kRmaps, "rmap_longest", "sptes of the frame that has most",
     [](R r) -> Value { return r.chains.longest(); }},
    {kRmaps, "rmap_histogram", "frames by the number of their sptes",
     [](R r) -> Value { return r.chains.Histogram(); }},
    {kRmaps, "pte_list_descs_most", "descriptors, the most seen at once",
     [](R r) -> Value { return r.peaks.pte_list_descs; }},

    {kCheck, "checked_accesses", "accesses held against the oracle (--check)",
     [](R r) { return IfChecked(r, r.checked_accesses); }},
    {kCheck, "audits", "audits of the library",
     [](R r) { return IfChecked(r, r.audits); }},
    {kCheck, "differences", "differences found; the first one ends the run",
     [](R r) -> Value { return r.differences; }},
};

}  // namespace

std::span<const Field> RunFields() { return kFields; }

}  // namespace shadowmmu::replay
