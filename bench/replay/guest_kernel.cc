#include "bench/replay/guest_kernel.h"

#include <atomic>

#include "tests/harness/guest_tables.h"
#include "tests/harness/say.h"

namespace shadowmmu::replay {
namespace {

using testing::Say;
namespace gpte = testing::gpte;

constexpr uint64_t kTableBits = gpte::kPresent | gpte::kWritable | gpte::kUser;

uint64_t PageOf(Gva gva) { return gva.value() >> kPageShift; }

Gpa EntryIn(Gfn table, unsigned index) {
  return ToGpa(table) + index * sizeof(uint64_t);
}

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

GuestKernel::GuestKernel(Machine* machine, VirtualCpu* cpu, FaultLog* log)
    : machine_(machine), cpu_(cpu), log_(log), frames_(machine->slots()) {}

// ---- Boot and processes ----

absl::Status GuestKernel::Boot(uint32_t processes) {
  const absl::StatusOr<Gfn> root = frames_.Allocate();
  if (!root.ok()) return root.status();
  const absl::StatusOr<DirectMap> map =
      BuildDirectMap(&machine_->memory(), &frames_,
                     ToGpa(machine_->slots().back().gfns().end()));
  if (!map.ok()) return map.status();
  direct_map_ = *map;
  counts_.tables += 1 + map->tables;
  if (!machine_->memory().Write64(AddressSpace::kNormal,
                                  EntryIn(*root, kDirectMapIndex),
                                  map->root_entry)) {
    return absl::InternalError("the kernel's root cannot be written");
  }
  // From here on the kernel runs in the guest, on a root of its own.
  if (absl::Status loaded = cpu_->Load(ToGpa(*root)); !loaded.ok()) {
    return loaded;
  }
  processes_.reserve(processes);
  for (uint32_t i = 0; i < processes; ++i) {
    if (absl::Status made = MakeProcess(); !made.ok()) return made;
  }
  return SwitchTo(ProcessId{0});
}

absl::Status GuestKernel::MakeProcess() {
  const absl::StatusOr<Gfn> root = NewClearedFrame();
  if (!root.ok()) return root.status();
  ++counts_.tables;
  processes_.push_back(GuestProcess{.root = *root, .tables = {}, .pages = {}});
  return StoreDirect(EntryIn(*root, kDirectMapIndex), direct_map_.root_entry);
}

absl::Status GuestKernel::SwitchTo(ProcessId process) {
  running_ = process;
  log_->SetProcess(process);
  return cpu_->Load(ToGpa(processes_[ToInt(process)].root));
}

// ---- Page faults ----

absl::Status GuestKernel::HandlePageFault(const GuestFault& fault) {
  ++counts_.page_faults;
  const Gva gva = fault.address;
  const bool write = (fault.error_code & pf_error::kWrite) != 0;
  const bool fetch = (fault.error_code & pf_error::kFetch) != 0;
  GuestProcess* const process = &processes_[ToInt(running_)];
  const auto found = process->pages.find(PageOf(gva));
  if (found == process->pages.end()) {
    if (write) return MapPrivate(process, gva);
    return MapShared(process, gva,
                     fetch ? AccessType::kFetch : AccessType::kRead);
  }
  Page* const page = &found->second;
  if (write && page->ownership == GuestProcess::Ownership::kShared) {
    return CopyOnWrite(process, gva, page);
  }
  if (fetch && !page->executable) return AllowExecute(process, gva, page);
  return absl::InternalError(
      Say("the guest's tables do not explain its ", fault));
}

absl::Status GuestKernel::MapShared(GuestProcess* process, Gva gva,
                                    AccessType type) {
  const absl::StatusOr<Gfn> frame = SharedFrame(PageOf(gva));
  if (!frame.ok()) return frame.status();
  ++counts_.shared_mappings;
  const Page page{.frame = *frame,
                  .ownership = GuestProcess::Ownership::kShared,
                  .executable = type == AccessType::kFetch};
  process->pages.emplace(PageOf(gva), page);
  return SetEntry(process, gva, EntryFor(page));
}

absl::StatusOr<Gfn> GuestKernel::SharedFrame(uint64_t page) {
  const auto found = shared_.find(page);
  if (found != shared_.end()) return found->second;
  const absl::StatusOr<Gfn> frame = NewClearedFrame();
  if (!frame.ok()) return frame.status();
  ++counts_.shared_pages;
  shared_.emplace(page, *frame);
  return *frame;
}

// A frame for one process alone, with what the page holds now.
absl::StatusOr<Gfn> GuestKernel::PrivateFrame(uint64_t page) {
  const auto shared = shared_.find(page);
  if (shared != shared_.end()) {
    absl::Status read = TouchDirect(shared->second, AccessType::kRead);
    if (!read.ok()) return read;
    ++counts_.copies;
  }
  ++counts_.private_pages;
  return NewClearedFrame();
}

absl::Status GuestKernel::MapPrivate(GuestProcess* process, Gva gva) {
  const absl::StatusOr<Gfn> frame = PrivateFrame(PageOf(gva));
  if (!frame.ok()) return frame.status();
  const Page page{.frame = *frame,
                  .ownership = GuestProcess::Ownership::kPrivate};
  process->pages.emplace(PageOf(gva), page);
  return SetEntry(process, gva, EntryFor(page));
}

absl::Status GuestKernel::CopyOnWrite(GuestProcess* process, Gva gva,
                                      Page* page) {
  const absl::StatusOr<Gfn> frame = PrivateFrame(PageOf(gva));
  if (!frame.ok()) return frame.status();
  page->frame = *frame;
  page->ownership = GuestProcess::Ownership::kPrivate;
  if (absl::Status set = SetEntry(process, gva, EntryFor(*page)); !set.ok()) {
    return set;
  }
  cpu_->Invlpg(gva);
  return absl::OkStatus();
}

absl::Status GuestKernel::AllowExecute(GuestProcess* process, Gva gva,
                                       Page* page) {
  ++counts_.execute_grants;
  page->executable = true;
  if (absl::Status set = SetEntry(process, gva, EntryFor(*page)); !set.ok()) {
    return set;
  }
  cpu_->Invlpg(gva);
  return absl::OkStatus();
}

// ---- Tables ----

absl::Status GuestKernel::SetEntry(GuestProcess* process, Gva gva,
                                   uint64_t entry) {
  const absl::StatusOr<Gfn> table = TableOf(process, gva, Level::k4K);
  if (!table.ok()) return table.status();
  return StoreDirect(EntryIn(*table, IndexAt(gva, Level::k4K)), entry);
}

// Recursion: at most once a level.
absl::StatusOr<Gfn> GuestKernel::TableOf(GuestProcess* process, Gva gva,
                                         Level level) {
  if (level == Level::k512G) return process->root;
  const GuestProcess::TableKey key = GuestProcess::KeyOf(level, gva);
  const auto found = process->tables.find(key);
  if (found != process->tables.end()) return found->second;
  const absl::StatusOr<Gfn> parent = TableOf(process, gva, Above(level));
  if (!parent.ok()) return parent;
  const absl::StatusOr<Gfn> table = NewClearedFrame();
  if (!table.ok()) return table;
  ++counts_.tables;
  process->tables.emplace(key, *table);
  const absl::Status stored =
      StoreDirect(EntryIn(*parent, IndexAt(gva, Above(level))),
                  ToGpa(*table).value() | kTableBits);
  if (!stored.ok()) return stored;
  return *table;
}

// ---- Memory ----

absl::StatusOr<Gfn> GuestKernel::NewClearedFrame() {
  const absl::StatusOr<Gfn> frame = frames_.Allocate();
  if (!frame.ok()) return frame;
  if (absl::Status cleared = TouchDirect(*frame, AccessType::kWrite);
      !cleared.ok()) {
    return cleared;
  }
  return *frame;
}

absl::Status GuestKernel::TouchDirect(Gfn frame, AccessType type) {
  const Gva gva = DirectGva(ToGpa(frame));
  const absl::StatusOr<Touched> touched =
      cpu_->Touch(gva, Access{.type = type});
  if (!touched.ok()) return touched.status();
  if (touched->outcome.resume()) return absl::OkStatus();
  return absl::InternalError(
      Say("the kernel's access at ", gva, " ended as ", touched->outcome));
}

absl::Status GuestKernel::StoreDirect(Gpa gpa, uint64_t value) {
  const Gva gva = DirectGva(gpa);
  const absl::StatusOr<Touched> touched =
      cpu_->Touch(gva, Write(), [value](Hpa hpa) {
        auto* const entry =
            reinterpret_cast<uint64_t*>(ReplayHost::PointerTo(hpa));
        std::atomic_ref<uint64_t>(*entry).store(value);
      });
  if (!touched.ok()) return touched.status();
  if (touched->outcome.resume()) {
    ++counts_.direct_stores;
    return absl::OkStatus();
  }
  if (touched->outcome.kind == FaultOutcome::Kind::kEmulate) {
    ++counts_.emulated_stores;
    return cpu_->Emulate(touched->outcome.gpa, value);
  }
  return absl::InternalError(
      Say("the kernel's store at ", gva, " ended as ", touched->outcome));
}

}  // namespace shadowmmu::replay
