// What the guest did to its page tables, what that cost, and what its switches
// of CR3 cost: the fields of the report for which guest tables are tracked and
// roots kept.

#include "bench/replay/report.h"

namespace shadowmmu::replay {
namespace {

using R = const Results&;

Value Ratio(uint64_t value, uint64_t of) {
  if (of == 0) return {};
  return static_cast<double>(value) / static_cast<double>(of);
}

// Of what only a guest that forks does.
Value IfForks(R r, uint64_t value) {
  if (r.options.workload != Options::Workload::kFork) return {};
  return value;
}

constexpr absl::string_view kCalls = "processes";
constexpr absl::string_view kTables = "guest page tables";
constexpr absl::string_view kSwitches = "CR3";

const Field kFields[] = {
    {kCalls, "guest_forks", "processes forked",
     [](R r) { return IfForks(r, r.calls.forks); }},
    {kCalls, "guest_execs", "address spaces torn down and made anew",
     [](R r) { return IfForks(r, r.calls.execs); }},
    {kCalls, "guest_exits", "processes that ended",
     [](R r) { return IfForks(r, r.calls.exits); }},
    {kCalls, "guest_maps", "regions mapped",
     [](R r) { return IfForks(r, r.maps); }},
    {kCalls, "guest_unmaps", "regions unmapped",
     [](R r) { return IfForks(r, r.calls.unmaps); }},
    {kCalls, "guest_pages_protected", "entries write-protected by forks",
     [](R r) { return IfForks(r, r.calls.pages_protected); }},
    {kCalls, "guest_pages_unmapped", "entries cleared by munmap, exec and exit",
     [](R r) { return IfForks(r, r.calls.pages_unmapped); }},
    {kCalls, "guest_copies_saved",
     "writes after a fork to a page that nobody else had any more",
     [](R r) { return IfForks(r, r.kernel.reuses); }},

    {kTables, "guest_pte_edits",
     "stores of the guest's kernel into table entries",
     [](R r) -> Value { return r.kernel_memory.entry_stores(); }},
    {kTables, "write_exits",
     "exits that these cost: emulated, or a fault of a protected table",
     [](R r) -> Value { return r.kernel_memory.write_exits(); }},
    {kTables, "write_exits_per_edit", "write_exits by guest_pte_edits",
     [](R r) {
       return Ratio(r.kernel_memory.write_exits(),
                    r.kernel_memory.entry_stores());
     }},
    {kTables, "guest_tables_made", "tables made, roots included",
     [](R r) -> Value { return r.guest_tables.made; }},
    {kTables, "guest_tables_freed", "tables freed",
     [](R r) -> Value { return r.guest_tables.freed; }},
    {kTables, "guest_frames_reused", "frames used again, as tables or as pages",
     [](R r) -> Value { return r.kernel_memory.frames_reused; }},
    {kTables, "reuse_exits",
     "exits of stores that clear such frames: still tracked as tables",
     [](R r) -> Value { return r.kernel_memory.reuse_exits; }},
    {kTables, "user_write_exits",
     "user stores into pages that are still tracked as tables",
     [](R r) -> Value { return r.played.emulated; }},

    {kSwitches, "cr3_switches", "loads of CR3 that changed it",
     [](R r) -> Value { return r.cpu.cr3_switches; }},
    {kSwitches, "cr3_reloads", "loads of the value that it had, to flush",
     [](R r) -> Value { return r.cpu.cr3_reloads; }},
    {kSwitches, "invlpgs", "INVLPG instructions of the guest",
     [](R r) -> Value { return r.cpu.invlpgs; }},
    {kSwitches, "root_cache_hits", "switches to a root that the vCPU had kept",
     [](R r) -> Value { return r.stats.root_cache_hits; }},
    {kSwitches, "root_cache_hit_rate", "root_cache_hits by cr3_switches",
     [](R r) { return Ratio(r.stats.root_cache_hits, r.cpu.cr3_switches); }},
    {kSwitches, "refills_after_switch",
     "faults on pages that the process had, lost by a load of CR3: nothing "
     "about "
     "them had changed",
     [](R r) -> Value { return r.refills.after_switch; }},
    {kSwitches, "refills_per_switch", "refills_after_switch by cr3_switches",
     [](R r) { return Ratio(r.refills.after_switch, r.cpu.cr3_switches); }},
    {kSwitches, "refills_other", "the same, lost without a load of CR3",
     [](R r) -> Value { return r.refills.other; }},
};

}  // namespace

std::span<const Field> PagingFields() { return kFields; }

}  // namespace shadowmmu::replay
