#include "bench/replay/guest_kernel.h"

#include <algorithm>

#include "tests/harness/guest_tables.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {
namespace {

using testing::Say;
namespace gpte = testing::gpte;

// Where the page cache has the zero page: no user page has this number.
constexpr uint64_t kZeroPage = ~uint64_t{0};

uint64_t PageOf(Gva gva) { return gva.value() >> kPageShift; }

uint64_t EntryFor(const GuestProcess::Page& page) {
  uint64_t entry = ToGpa(page.frame).value() | gpte::kPresent | gpte::kUser |
                   gpte::kAccessed;
  if (page.ownership == GuestProcess::Ownership::kPrivate) {
    entry |= gpte::kWritable | gpte::kDirty;
  }
  if (!page.executable) entry |= gpte::kNoExecute;
  return entry;
}

}  // namespace

GuestKernel::GuestKernel(Machine* machine, VirtualCpu* cpu, FaultLog* log,
                         FaultAround fault_around)
    : machine_(machine),
      cpu_(cpu),
      log_(log),
      fault_around_(static_cast<uint32_t>(fault_around)),
      frames_(machine->slots()),
      memory_(cpu, &frames_),
      tables_(&memory_, log) {}

// ---- Boot and processes ----

absl::Status GuestKernel::Boot(uint32_t processes) {
  const absl::StatusOr<FrameAllocator::Frame> root = frames_.Allocate();
  if (!root.ok()) return root.status();
  const absl::StatusOr<DirectMap> map =
      BuildDirectMap(&machine_->memory(), &frames_,
                     ToGpa(machine_->slots().back().gfns().end()));
  if (!map.ok()) return map.status();
  direct_map_ = *map;
  first_tables_ = 1 + map->tables;
  if (!machine_->memory().Write64(AddressSpace::kNormal,
                                  EntryIn(root->gfn, kDirectMapIndex),
                                  map->root_entry)) {
    return absl::InternalError("the kernel's root cannot be written");
  }
  // From here on the kernel runs in the guest, on a root of its own.
  if (absl::Status loaded = cpu_->Load(ToGpa(root->gfn)); !loaded.ok()) {
    return loaded;
  }
  for (uint32_t i = 0; i < processes; ++i) {
    const absl::StatusOr<GuestProcess*> made = NewProcess();
    if (!made.ok()) return made.status();
  }
  return SwitchTo(ProcessId{0});
}

absl::StatusOr<GuestProcess*> GuestKernel::NewProcess() {
  const absl::StatusOr<Gfn> root = tables_.NewRoot(direct_map_.root_entry);
  if (!root.ok()) return root.status();
  const ProcessId id{next_process_++};
  return &processes_.emplace(id, GuestProcess{.id = id, .root = *root})
              .first->second;
}

void GuestKernel::Remove(ProcessId id) {
  memory_.Free(process(id).root);
  tables_.NoteRootFreed();
  log_->Forget(id);
  processes_.erase(id);
}

absl::Status GuestKernel::SwitchTo(ProcessId process) {
  running_ = process;
  log_->SetProcess(process);
  return cpu_->Load(ToGpa(processes_.at(process).root));
}

// ---- Page faults ----

absl::Status GuestKernel::HandlePageFault(const GuestFault& fault) {
  ++counts_.page_faults;
  const Gva gva = fault.address;
  const bool write = (fault.error_code & pf_error::kWrite) != 0;
  const bool fetch = (fault.error_code & pf_error::kFetch) != 0;
  GuestProcess* const process = mutable_process(running_);
  const auto found = process->pages.find(PageOf(gva));
  if (found == process->pages.end()) {
    if (write) return MapPrivate(process, gva);
    return MapShared(process, gva,
                     fetch ? AccessType::kFetch : AccessType::kRead);
  }
  Page* const page = &found->second;
  if (write && page->ownership != GuestProcess::Ownership::kPrivate) {
    return CopyOnWrite(process, gva, page);
  }
  if (fetch && !page->executable) return AllowExecute(process, gva, page);
  return absl::InternalError(
      Say("the guest's tables do not explain its ", fault));
}

// What everybody sees at `gva` who has not written there.
absl::StatusOr<GuestKernel::CachedPage*> GuestKernel::Cached(Gva gva) {
  const uint64_t page = IsAnonymous(gva) ? kZeroPage : PageOf(gva);
  const auto found = cache_.find(page);
  if (found != cache_.end()) return &found->second;
  const absl::StatusOr<Gfn> frame = memory_.NewFrame();
  if (!frame.ok()) return frame.status();
  ++counts_.shared_pages;
  users_.Add(*frame);
  return &cache_.emplace(page, CachedPage{.frame = *frame}).first->second;
}

absl::Status GuestKernel::MapShared(GuestProcess* process, Gva gva,
                                    AccessType type) {
  const absl::StatusOr<CachedPage*> cached = Cached(gva);
  if (!cached.ok()) return cached.status();
  if (type == AccessType::kFetch) (*cached)->executable = true;
  CachedPage asked = **cached;
  asked.executable = type == AccessType::kFetch;
  if (absl::Status mapped = MapCached(process, gva, asked); !mapped.ok()) {
    return mapped;
  }
  return IsAnonymous(gva) ? absl::OkStatus() : MapAround(process, gva);
}

absl::Status GuestKernel::MapCached(GuestProcess* process, Gva gva,
                                    const CachedPage& cached) {
  ++counts_.shared_mappings;
  users_.Add(cached.frame);
  const Page page{.frame = cached.frame,
                  .ownership = GuestProcess::Ownership::kShared,
                  .executable = cached.executable};
  process->pages.emplace(PageOf(gva), page);
  return tables_.SetEntry(process, gva, EntryFor(page));
}

absl::Status GuestKernel::MapAround(GuestProcess* process, Gva gva) {
  const uint64_t first = PageOf(gva) & ~(fault_around_ - 1);
  for (uint64_t page = first; page < first + fault_around_; ++page) {
    const auto cached = cache_.find(page);
    if (cached == cache_.end() || process->pages.contains(page)) continue;
    absl::Status mapped =
        MapCached(process, Gva(page << kPageShift), cached->second);
    if (!mapped.ok()) return mapped;
  }
  return absl::OkStatus();
}

// A frame for one process alone, with what `source` holds.
absl::StatusOr<Gfn> GuestKernel::CopyOf(Gfn source) {
  if (absl::Status read = memory_.Read(source); !read.ok()) return read;
  ++counts_.copies;
  return memory_.NewFrame();
}

absl::Status GuestKernel::MapPrivate(GuestProcess* process, Gva gva) {
  const auto cached = cache_.find(PageOf(gva));
  const absl::StatusOr<Gfn> frame = cached == cache_.end()
                                        ? memory_.NewFrame()
                                        : CopyOf(cached->second.frame);
  if (!frame.ok()) return frame.status();
  ++counts_.private_pages;
  users_.Add(*frame);
  const Page page{.frame = *frame,
                  .ownership = GuestProcess::Ownership::kPrivate};
  process->pages.emplace(PageOf(gva), page);
  return tables_.SetEntry(process, gva, EntryFor(page));
}

absl::Status GuestKernel::CopyOnWrite(GuestProcess* process, Gva gva,
                                      Page* page) {
  page->ownership = GuestProcess::Ownership::kPrivate;
  if (users_.Of(page->frame) == 1) {
    ++counts_.reuses;
    return tables_.SetEntry(process, gva, EntryFor(*page));
  }
  const absl::StatusOr<Gfn> frame = CopyOf(page->frame);
  if (!frame.ok()) return frame.status();
  ++counts_.private_pages;
  if (absl::Status set = tables_.SetEntry(process, gva, 0); !set.ok()) {
    return set;
  }
  cpu_->Invlpg(gva);
  users_.Drop(page->frame);
  users_.Add(*frame);
  page->frame = *frame;
  return tables_.SetEntry(process, gva, EntryFor(*page));
}

absl::Status GuestKernel::AllowExecute(GuestProcess* process, Gva gva,
                                       Page* page) {
  ++counts_.execute_grants;
  page->executable = true;
  if (page->ownership == GuestProcess::Ownership::kShared) {
    const absl::StatusOr<CachedPage*> cached = Cached(gva);
    if (!cached.ok()) return cached.status();
    (*cached)->executable = true;
  }
  absl::Status set = tables_.SetEntry(process, gva, EntryFor(*page));
  if (set.ok()) cpu_->Invlpg(gva);
  return set;
}

}  // namespace shadowmmu::replay
