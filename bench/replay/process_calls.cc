#include "bench/replay/process_calls.h"

#include <algorithm>

#include "bench/replay/trace_access.h"
#include "tests/harness/guest_tables.h"

namespace shadowmmu::replay {
namespace {

namespace gpte = testing::gpte;
using Ownership = GuestProcess::Ownership;

constexpr uint64_t kLastPage = (kUserEnd.value() >> kPageShift) - 1;

Gva GvaOf(uint64_t page) { return Gva(page << kPageShift); }

}  // namespace

// ---- Fork ----

absl::StatusOr<ProcessId> ProcessCalls::Fork() {
  ++counts_.forks;
  GuestProcess* const parent = Running();
  const absl::StatusOr<GuestProcess*> child = kernel_->NewProcess();
  if (!child.ok()) return child.status();
  for (auto& [number, page] : parent->pages) {
    if (page.ownership == Ownership::kShared) continue;
    absl::Status copied = CopyPage(parent, *child, number, &page);
    if (!copied.ok()) return copied;
  }
  if (absl::Status loaded = ReloadCr3(); !loaded.ok()) return loaded;
  return (*child)->id;
}

// The child's entry is the parent's, but for A.
absl::Status ProcessCalls::CopyPage(GuestProcess* parent, GuestProcess* child,
                                    uint64_t number, GuestProcess::Page* page) {
  PageTables& tables = kernel_->mutable_tables();
  const Gva gva = GvaOf(number);
  const absl::StatusOr<uint64_t> read = tables.Entry(*parent, gva);
  if (!read.ok()) return read.status();
  const uint64_t entry = *read & ~gpte::kWritable;
  if (page->ownership == Ownership::kPrivate) {
    ++counts_.pages_protected;
    page->ownership = Ownership::kCopyOnWrite;
    absl::Status set = tables.SetEntry(parent, gva, entry);
    if (!set.ok()) return set;
  }
  kernel_->users().Add(page->frame);
  child->pages.emplace(number, *page);
  return tables.SetEntry(child, gva, entry & ~gpte::kAccessed);
}

absl::Status ProcessCalls::ReloadCr3() {
  return kernel_->cpu().Load(ToGpa(Running()->root));
}

// ---- Exec and exit ----

absl::StatusOr<ProcessId> ProcessCalls::Exec(Gva stack, uint64_t arguments) {
  ++counts_.execs;
  GuestProcess* const old = Running();
  const absl::StatusOr<GuestProcess*> made = kernel_->NewProcess();
  if (!made.ok()) return made.status();
  for (uint64_t i = 1; i <= arguments; ++i) {
    absl::Status mapped =
        kernel_->MapPrivate(*made, Gva(stack.value() - i * kPageSize));
    if (!mapped.ok()) return mapped;
  }
  absl::Status done = kernel_->SwitchTo((*made)->id);
  if (done.ok()) done = TearDown(old);
  if (!done.ok()) return done;
  kernel_->Remove(old->id);
  return (*made)->id;
}

absl::Status ProcessCalls::Exit(ProcessId next) {
  ++counts_.exits;
  GuestProcess* const process = Running();
  absl::Status done = TearDown(process);
  if (done.ok()) done = kernel_->SwitchTo(next);
  if (done.ok()) kernel_->Remove(process->id);
  return done;
}

absl::Status ProcessCalls::TearDown(GuestProcess* process) {
  Gathered gathered;
  absl::Status done = Gather(process, 0, kLastPage, &gathered);
  if (!done.ok()) return done;
  return FlushAndFree(*process, gathered);
}

// ---- Munmap ----

absl::Status ProcessCalls::Unmap(Gva begin, uint64_t pages) {
  ++counts_.unmaps;
  GuestProcess* const process = Running();
  const uint64_t first = begin.value() >> kPageShift;
  Gathered gathered;
  absl::Status done = Gather(process, first, first + pages - 1, &gathered);
  if (!done.ok()) return done;
  return FlushAndFree(*process, gathered);
}

// Takes the pages from `first` to `last` out, and tables that are of no use
// then.
absl::Status ProcessCalls::Gather(GuestProcess* process, uint64_t first,
                                  uint64_t last, Gathered* gathered) {
  PageTables& tables = kernel_->mutable_tables();
  const auto begin = process->pages.lower_bound(first);
  auto at = begin;
  for (; at != process->pages.end() && at->first <= last; ++at) {
    ++counts_.pages_unmapped;
    absl::Status cleared = tables.SetEntry(process, GvaOf(at->first), 0);
    if (!cleared.ok()) return cleared;
    gathered->first = std::min(gathered->first, at->first);
    gathered->last = std::max(gathered->last, at->first);
    const Gfn frame = at->second.frame;
    if (kernel_->users().Drop(frame) == FrameUsers::Left::kNone) {
      gathered->frames.push_back(frame);
    }
  }
  process->pages.erase(begin, at);
  return tables.TakeUnused(process, GvaOf(first), GvaOf(last),
                           &gathered->frames);
}

absl::Status ProcessCalls::FlushAndFree(const GuestProcess& process,
                                        const Gathered& gathered) {
  if (gathered.first > gathered.last) return absl::OkStatus();
  if (process.id == kernel_->running()) {
    const uint64_t pages = gathered.last - gathered.first + 1;
    if (pages > kMostInvlpgs) {
      if (absl::Status loaded = ReloadCr3(); !loaded.ok()) return loaded;
    }
    for (uint64_t i = 0; i < pages && pages <= kMostInvlpgs; ++i) {
      kernel_->cpu().Invlpg(GvaOf(gathered.first + i));
    }
  }
  for (const Gfn frame : gathered.frames) kernel_->mutable_memory().Free(frame);
  return absl::OkStatus();
}

}  // namespace shadowmmu::replay
