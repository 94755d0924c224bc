#include "tests/harness/ops.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "shadowmmu/mmu.h"
#include "src/base/check.h"

namespace shadowmmu::testing {
namespace {

using Style = FieldInfo::Style;
using Words = std::string_view;

constexpr Words kSpaceWords[] = {"0", "1"};
constexpr Words kFlagWords[] = {"none", "ro", "log", "ro+log"};
constexpr Words kModeWords[] = {"off", "long", "32bit", "pae", "la57"};
constexpr Words kTypeWords[] = {"r", "w", "x"};
// In the order of InvpcidType.
constexpr Words kInvpcidWords[] = {"address", "context", "all+global", "all"};
// User, supervisor, implicit supervisor.
constexpr Words kPrivilegeWords[] = {"u", "s", "i"};
constexpr Words kStrategyWords[] = {"zap_all", "obsolete_walk", "release"};
// In the order of SlotZapPolicy.
constexpr Words kPolicyWords[] = {"auto", "targeted", "walk", "release"};
constexpr Words kLevelWords[] = {"none", "4K", "2M", "1G"};
// In the order of FaultOutcome::Kind.
constexpr Words kOutcomeWords[] = {"resume",    "fault", "emulate",  "memory",
                                   "ring_full", "retry", "no_memory"};
// EmulateReason, then MemoryFaultReason; 0 is "any".
constexpr Words kWhyWords[] = {"any",           "no_slot",      "read_only",
                               "write_tracked", "host_refused", "no_table"};
constexpr Words kCodeWords[] = {"ok",          "invalid",     "not_found",
                                "exists",      "exhausted",   "unimplemented",
                                "unavailable", "precondition"};
constexpr Words kStatWords[] = {"shadow_pages",
                                "obsolete_pages",
                                "leaf_sptes",
                                "pte_list_descs",
                                "rmap_chunks",
                                "slots",
                                "faults",
                                "guest_faults",
                                "emulations",
                                "sptes_set",
                                "pages_created",
                                "pages_zapped",
                                "pages_evicted",
                                "sptes_zapped",
                                "generation_bumps",
                                "reclaim_batches",
                                "tlb_flushes",
                                "guest_writes",
                                "guest_table_writes",
                                "fault_retries",
                                "root_switches",
                                "root_cache_hits",
                                "unsync_pages",
                                "unsyncs",
                                "syncs",
                                "page_limit",
                                "pages_flooded",
                                "sptes_prefetched",
                                "pages_unlinked",
                                "links_inherited"};
constexpr Words kHostCallWords[] = {"resolve", "allocation"};

constexpr uint64_t kNoLimit = ~uint64_t{0};

// In the order of Field.
constexpr FieldInfo kFieldTable[] = {
    {"", Style::kDecimal, {}, 0},
    {"vcpu", Style::kDecimal, {}, 0},
    {"as", Style::kWords, kSpaceWords, 0},
    {"id", Style::kDecimal, {}, 0},
    {"gfn", Style::kHex, {}, 0},
    {"pages", Style::kDecimal, {}, 1},
    {"host", Style::kDecimal, {}, 0},
    {"to", Style::kDecimal, {}, 0},
    {"flags", Style::kWords, kFlagWords, 0},
    {"mode", Style::kWords, kModeWords, 0},
    {"nxe", Style::kDecimal, {}, 0},
    {"cr0", Style::kHex, {}, 0},
    {"cr3", Style::kHex, {}, 0},
    {"cr4", Style::kHex, {}, 0},
    {"efer", Style::kHex, {}, 0},
    {"gva", Style::kHex, {}, 0},
    {"type", Style::kWords, kTypeWords, 0},
    {"priv", Style::kWords, kPrivilegeWords, 1},
    {"gpa", Style::kHex, {}, 0},
    {"size", Style::kDecimal, {}, 8},
    {"old", Style::kHex, {}, 0},
    {"new", Style::kHex, {}, 0},
    {"value", Style::kHex, {}, 0},
    {"table", Style::kHex, {}, 0},
    {"index", Style::kDecimal, {}, 0},
    {"offset", Style::kHex, {}, 0},
    {"budget", Style::kDecimal, {}, 0},
    {"strategy", Style::kWords, kStrategyWords, 1},
    {"n", Style::kDecimal, {}, 1},
    {"is", Style::kWords, kOutcomeWords, 0},
    {"why", Style::kWords, kWhyWords, 0},
    {"vector", Style::kDecimal, {}, 14},
    {"error", Style::kHex, {}, 0},
    {"is", Style::kWords, kCodeWords, 0},
    {"level", Style::kWords, kLevelWords, 1},
    {"count", Style::kDecimal, {}, 0},
    {"stat", Style::kWords, kStatWords, 0},
    {"min", Style::kDecimal, {}, 0},
    {"max", Style::kDecimal, {}, kNoLimit},
    {"times", Style::kDecimal, {}, 1},
    {"at", Style::kWords, kHostCallWords, 0},
    {"wp", Style::kDecimal, {}, 1},
    {"smep", Style::kDecimal, {}, 0},
    {"smap", Style::kDecimal, {}, 0},
    {"pke", Style::kDecimal, {}, 0},
    {"pse", Style::kDecimal, {}, 1},
    {"pcide", Style::kDecimal, {}, 0},
    {"ac", Style::kDecimal, {}, 0},
    {"pkru", Style::kHex, {}, 0},
    {"has", Style::kHex, {}, 0},
    {"type", Style::kWords, kInvpcidWords, 0},
    {"pcid", Style::kHex, {}, 0},
    {"policy", Style::kWords, kPolicyWords, 2},
    {"warm", Style::kDecimal, {}, 0},
};
static_assert(std::size(kFieldTable) == kFields);

using F = Field;

// In the order of OpKind.
constexpr OpShape kOpTable[] = {
    {"slot.create",
     {F::kId, F::kGfn, F::kPages, F::kHost, F::kSpace, F::kFlags},
     4,
     false},
    {"slot.delete", {F::kId, F::kSpace, F::kPolicy}, 1, false},
    {"slot.move", {F::kId, F::kGfn, F::kSpace, F::kPolicy}, 2, false},
    {"slot.flags", {F::kId, F::kFlags, F::kSpace}, 2, false},
    {"dirty.get", {F::kId, F::kSpace}, 1, false},
    {"vcpu.create", {F::kVcpu}, 1, false},
    {"vcpu.destroy", {F::kVcpu}, 1, false},
    {"regs",
     {F::kVcpu, F::kMode, F::kCr3, F::kNxe, F::kWp, F::kSmep, F::kSmap, F::kPke,
      F::kPse, F::kPcide},
     2,
     false},
    {"regs.raw", {F::kVcpu, F::kCr0, F::kCr3, F::kCr4, F::kEfer}, 5, false},
    {"cr3", {F::kVcpu, F::kCr3}, 2, false},
    {"features", {F::kVcpu, F::kHas}, 2, false},
    {"space", {F::kVcpu, F::kSpace}, 2, false},
    {"enter", {F::kVcpu}, 1, false},
    {"exit", {F::kVcpu}, 1, false},
    {"touch",
     {F::kVcpu, F::kGva, F::kType, F::kPrivilege, F::kAc, F::kPkru},
     2,
     false},
    {"store",
     {F::kVcpu, F::kGva, F::kValue, F::kPrivilege, F::kAc, F::kPkru, F::kSize},
     3,
     false},
    {"translate",
     {F::kVcpu, F::kGva, F::kType, F::kPrivilege, F::kAc, F::kPkru, F::kWarm},
     2,
     false},
    {"invlpg", {F::kVcpu, F::kGva}, 2, false},
    {"invpcid", {F::kVcpu, F::kInvpcidType, F::kPcid, F::kGva}, 2, false},
    {"evict", {F::kVcpu}, 1, false},
    {"pte", {F::kTable, F::kIndex, F::kValue, F::kSpace, F::kSize}, 3, false},
    {"write", {F::kGpa, F::kSpace}, 1, true},
    {"cmpxchg", {F::kGpa, F::kOld, F::kNew, F::kSize, F::kSpace}, 3, false},
    {"vcpu.write", {F::kVcpu, F::kGpa}, 2, true},
    {"vcpu.cmpxchg", {F::kVcpu, F::kGpa, F::kOld, F::kNew, F::kSize}, 4, false},
    {"read", {F::kGpa, F::kSize, F::kSpace}, 1, false},
    {"host.pte", {F::kHost, F::kIndex, F::kValue, F::kSize}, 3, false},
    {"host.write", {F::kHost, F::kOffset}, 2, true},
    {"notify.begin", {F::kHost, F::kPages}, 1, false},
    {"notify.end", {F::kHost, F::kPages}, 1, false},
    {"notify.sequence", {F::kValue}, 1, false},
    {"host.unmap", {F::kHost, F::kPages}, 1, false},
    {"host.map", {F::kHost, F::kPages}, 1, false},
    {"host.retarget", {F::kHost, F::kTo}, 2, false},
    {"host.readonly", {F::kHost, F::kPages}, 1, false},
    {"age", {F::kHost, F::kPages}, 1, false},
    {"testage", {F::kHost, F::kPages}, 1, false},
    {"bump", {F::kTimes}, 0, false},
    {"reclaim", {F::kBudget}, 1, false},
    {"invalidate", {F::kStrategy}, 0, false},
    {"limit", {F::kPages}, 1, false},
    {"unshadow", {F::kGfn}, 1, false},
    {"meanwhile", {F::kAt, F::kN}, 0, false},
    {"repeat",
     {F::kTimes, F::kGva, F::kGpa, F::kIndex, F::kValue, F::kHost},
     1,
     false},
    {"alloc.fail", {F::kN}, 1, false},
    {"expect.outcome", {F::kIs, F::kWhy}, 1, false},
    {"expect.fault", {F::kError, F::kVector}, 1, false},
    {"expect.status", {F::kCode}, 1, false},
    {"expect.rmap", {F::kGfn, F::kCount, F::kLevel, F::kSpace}, 2, false},
    {"expect.leaves", {F::kCount}, 1, false},
    {"expect.dirty", {F::kCount}, 1, false},
    {"expect.stat", {F::kStat, F::kMin, F::kMax}, 1, false},
};
static_assert(std::size(kOpTable) == kOpKinds);

// Where `field` stands among the fields of `shape`; kMaxFields if nowhere.
size_t PlaceOf(const OpShape& shape, Field field) {
  const auto* at = std::find(shape.fields.begin(), shape.fields.end(), field);
  return static_cast<size_t>(at - shape.fields.begin());
}

}  // namespace

const FieldInfo& InfoOf(Field field) {
  return kFieldTable[static_cast<size_t>(field)];
}

const OpShape& ShapeOf(OpKind kind) {
  return kOpTable[static_cast<size_t>(kind)];
}

size_t OpShape::field_count() const { return PlaceOf(*this, Field::kNone); }

Op::Op(OpKind kind) : kind_(kind) {
  const OpShape& shape = ShapeOf(kind);
  for (size_t i = 0; i < shape.field_count(); ++i) {
    values_[i] = InfoOf(shape.fields[i]).absent;
  }
}

bool Op::Has(Field field) const {
  return field != Field::kNone && PlaceOf(ShapeOf(kind_), field) < kMaxFields;
}

uint64_t Op::Get(Field field) const {
  return Has(field) ? values_[PlaceOf(ShapeOf(kind_), field)]
                    : InfoOf(field).absent;
}

Op& Op::Set(Field field, uint64_t value) {
  SMMU_CHECK(Has(field)) << ShapeOf(kind_).name << " has no "
                         << InfoOf(field).name;
  values_[PlaceOf(ShapeOf(kind_), field)] = value;
  return *this;
}

Op& Op::SetBytes(std::vector<uint8_t> bytes) {
  SMMU_CHECK(ShapeOf(kind_).has_bytes);
  SMMU_CHECK_LE(bytes.size(), kStreamMaxBytes);
  bytes_ = std::move(bytes);
  return *this;
}

VmShape ClampVm(VmShape vm) {
  vm.vcpus = std::min(vm.vcpus, kStreamMaxVcpus);
  vm.frames = std::clamp(vm.frames, 1u, kStreamMaxFrames);
  vm.tables = std::clamp(vm.tables, kStreamMinTables, kStreamMaxTables);
  vm.largest = std::clamp(vm.largest, 1u, 3u);
  vm.bits = std::clamp(vm.bits, 36u, 52u);
  vm.roots = std::min(vm.roots, 3u);
  vm.unsync = std::min(vm.unsync, 1u);
  vm.flood = std::min(vm.flood, 255u);
  vm.prefetch = std::bit_floor(std::min(vm.prefetch, kMaxPrefetch));
  if (vm.prefetch == 1) vm.prefetch = 0;
  vm.ones = std::min(vm.ones, 1u);
  return vm;
}

}  // namespace shadowmmu::testing
