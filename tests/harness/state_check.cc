#include "tests/harness/state_check.h"

#include <algorithm>
#include <utility>

#include "shadowmmu/access.h"
#include "tests/harness/oracle_registers.h"
#include "tests/harness/say.h"

namespace shadowmmu::testing {
namespace {

// Of a large page's 4K pages the first and the last, and some between.
bool IsSample(uint64_t page, uint64_t pages) {
  return page == 0 || page + 1 == pages || page % 73 == 1;
}

bool Before(const TlbEntry& a, const TlbEntry& b) {
  return std::pair(a.gva, a.level) < std::pair(b.gva, b.level);
}

bool Contains(const std::vector<TlbEntry>& sorted, const TlbEntry& entry) {
  const auto at = std::lower_bound(sorted.begin(), sorted.end(), entry, Before);
  return at != sorted.end() && *at == entry;
}

// Is nothing known of how the vCPU translates other than before?
bool SameTranslations(const VcpuModel& a, const VcpuModel& b) {
  return a.cpu() == b.cpu() && a.space == b.space && a.entered == b.entered &&
         a.flushes == b.flushes;
}

// One that no right denies where the walk completes.
Access Harmless() {
  Access access = Read();
  access.eflags_ac = true;
  return access;
}

bool HasCr4(const VcpuModel& vcpu, uint64_t bits) {
  return (vcpu.registers.cr4 & bits) != 0;
}

// What is wrong with the rights of a cached translation whose page the guest
// gives `truth`; empty if nothing. The CPU that has it cached has CR0.WP set,
// and SMEP, SMAP and keys as the guest (SDM vol. 3, 4.6).
std::string WrongRights(const VcpuModel& vcpu, const OracleResult& truth,
                        const Rights& cached) {
  const PagingMode mode = PagingModeOf(vcpu.registers);
  const bool wp =
      mode == PagingMode::kOff || (vcpu.registers.cr0 & manual::kCr0Wp) != 0;
  // Without CR0.WP the supervisor may write whatever is there.
  const bool writable = truth.writable || (!wp && !cached.user);
  if ((cached.writable && !writable) || (cached.user && !truth.user) ||
      (cached.executable && !truth.executable)) {
    return "gives more rights than the guest does: ";
  }
  if (mode == PagingMode::kOff) return "";
  // A supervisor page in place of a user page: the CPU no longer asks SMEP,
  // SMAP and the key.
  if (!cached.user && truth.user) {
    if (cached.executable && HasCr4(vcpu, manual::kCr4Smep)) {
      return "lets the supervisor fetch from a user page: ";
    }
    if (wp && HasCr4(vcpu, manual::kCr4Smap | manual::kCr4Pke)) {
      return "is a supervisor page, and no fix-up: ";
    }
  }
  const bool keys =
      HasCr4(vcpu, manual::kCr4Pke) &&
      (mode == PagingMode::kFourLevels || mode == PagingMode::kFiveLevels);
  if (keys && cached.user && cached.key != truth.key) {
    return Say("has protection key ", cached.key, ": ");
  }
  return "";
}

}  // namespace

// ---- Translations ----

void StateCheck::RefreshReach() {
  if (reach_layout_ == world_->layout()) return;
  reach_layout_ = world_->layout();
  const HostModel& host = world_->host();
  for (Reach& reach : reach_) {
    reach.readable.assign(host.frames(), false);
    reach.writable.assign(host.frames(), false);
  }
  for (const SlotSpec& slot : world_->memory().slots()) {
    Reach& reach = reach_[ToInt(slot.space)];
    for (uint32_t i = 0; i < host.frames(); ++i) {
      const Hva hva = HvaOfFrame(i);
      const std::optional<HostModel::Backing> backing = host.At(hva);
      if (!slot.hvas().Contains(hva) || !backing || host.InProgress(hva)) {
        continue;
      }
      reach.readable[backing->frame] = true;
      if (backing->writable && !Has(slot.flags, SlotFlags::kReadOnly)) {
        reach.writable[backing->frame] = true;
      }
    }
  }
}

std::string StateCheck::CheckReach(AddressSpace space, Pfn pfn,
                                   bool writable) const {
  const Reach& reach = reach_[ToInt(space)];
  const uint64_t frame = pfn - PfnOfFrame(0);
  if (frame >= reach.readable.size()) {
    return Say("leads to ", pfn, ", which is no frame of the host");
  }
  if (!reach.readable[frame]) {
    return Say("leads to host frame ", frame,
               ", which no slot of this address space has now");
  }
  if (writable && !reach.writable[frame]) {
    return Say("lets writes through to host frame ", frame,
               ", which is read-only in every slot, or for the host");
  }
  return "";
}

std::string StateCheck::CheckTlb(uint32_t vcpu,
                                 const std::vector<TlbEntry>& entries) {
  RefreshReach();
  const VcpuModel& model = world_->vcpu(vcpu);
  Checked& checked = checked_[vcpu];
  // A range that comes into progress changes the layout alone.
  const uint64_t version = world_->tables() + world_->layout();
  const bool same =
      checked.tables == version && SameTranslations(checked.vcpu, model);
  for (const TlbEntry& entry : entries) {
    if (same && Contains(checked.entries, entry)) continue;
    const std::string wrong = CheckEntry(model, entry);
    if (!wrong.empty()) {
      return Say("vCPU ", vcpu, " has cached ", entry, ", which ", wrong);
    }
  }
  checked = {version, model, entries};
  return "";
}

std::string StateCheck::CheckEntry(const VcpuModel& vcpu,
                                   const TlbEntry& entry) {
  const uint64_t pages = PagesPerEntry(entry.level);
  for (uint64_t page = 0; page < pages; ++page) {
    std::string wrong =
        CheckReach(vcpu.space, entry.pfn + page, entry.rights.writable);
    if (wrong.empty() && IsSample(page, pages)) {
      wrong = CheckTranslation(vcpu, entry, page);
    }
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string StateCheck::CheckTranslation(const VcpuModel& vcpu,
                                         const TlbEntry& entry, uint64_t page) {
  const Gva gva = entry.gva + (page << kPageShift);
  const OracleResult truth = world_->Translate(vcpu, gva, Harmless());
  if (world_->MayDiffer(vcpu, gva, truth)) return "";
  if (truth.kind != OracleResult::Kind::kTranslated) {
    return Say("the guest's tables do not give ", gva, ": ", truth);
  }
  const std::optional<World::Page> at =
      world_->PageAt(vcpu.space, ToGfn(truth.gpa));
  if (!at.has_value()) return Say("leads into no slot: ", truth);
  if (!at->backing.has_value()) {
    return Say("the host has unmapped: ", truth);
  }
  if (at->in_progress) return Say("a notifier has in progress: ", truth);
  if (PfnOfFrame(at->backing->frame) != entry.pfn + page) {
    return Say("is not where ", truth, " lies, host frame ",
               at->backing->frame);
  }
  if (entry.rights.writable && !at->writable()) {
    return Say("lets writes through to memory that is read-only: ", truth);
  }
  const std::string wrong = WrongRights(vcpu, truth, entry.rights);
  if (!wrong.empty()) return Say(wrong, truth);
  return CheckBits(vcpu, truth, entry);
}

std::string StateCheck::CheckBits(const VcpuModel& vcpu,
                                  const OracleResult& truth,
                                  const TlbEntry& entry) const {
  if (!truth.updates.empty()) {
    return Say("was cached, and A is clear in the entry at ",
               truth.updates.front().entry);
  }
  if (!entry.rights.writable || truth.dirty) return "";
  // In a table of a read-only slot D is never set.
  const std::optional<World::Page> table =
      world_->PageAt(vcpu.space, ToGfn(truth.entries.back()));
  if (table.has_value() && Has(table->slot.flags, SlotFlags::kReadOnly)) {
    return "";
  }
  return Say("lets writes through, and D is clear: ", truth);
}

// ---- Leaf sptes ----

std::string StateCheck::CheckPicture(const Picture& picture) {
  std::vector<SlotSpec> slots = world_->memory().slots();
  std::sort(slots.begin(), slots.end(),
            [](const SlotSpec& a, const SlotSpec& b) {
              return std::pair(a.space, a.base) < std::pair(b.space, b.base);
            });
  if (slots != picture.slots) {
    return Say(
        "the slots are not those that the ops made: ", picture.slots.size(),
        " instead of ", slots.size(), ", or not as they should be");
  }
  for (const LeafRecord& leaf : picture.leaves) {
    const std::string wrong = CheckLeaf(leaf);
    if (!wrong.empty()) return Say("leaf spte [", leaf, "] ", wrong);
  }
  return "";
}

std::string StateCheck::CheckLeaf(const LeafRecord& leaf) const {
  for (uint64_t i = 0; i < PagesPerEntry(leaf.level); ++i) {
    const std::optional<World::Page> page =
        world_->PageAt(leaf.space, leaf.gfn + i);
    if (!page.has_value()) {
      return Say("maps ", leaf.gfn + i, ", which is in no slot");
    }
    if (page->in_progress) {
      return Say("maps ", leaf.gfn + i, ", which a notifier has in progress");
    }
    if (!page->backing.has_value()) {
      return Say("maps ", leaf.gfn + i, ", which the host has unmapped");
    }
    if (PfnOfFrame(page->backing->frame) != leaf.pfn + i) {
      return Say("maps ", leaf.gfn + i, ", which is now host frame ",
                 page->backing->frame);
    }
    if (leaf.writable && !page->writable()) {
      return Say("is writable, and ", leaf.gfn + i, " is read-only");
    }
  }
  return "";
}

std::string StateCheck::CheckNoTableWritable(
    uint32_t vcpu, const Picture& picture,
    const std::vector<TlbEntry>& entries) {
  const VcpuModel& model = world_->vcpu(vcpu);
  for (const TlbEntry& entry : entries) {
    if (!entry.rights.writable) continue;
    const OracleResult truth = world_->Translate(model, entry.gva, Harmless());
    if (truth.kind != OracleResult::Kind::kTranslated ||
        world_->MayDiffer(model, entry.gva, truth)) {
      continue;
    }
    const Gfn first = ToGfn(truth.gpa);
    const auto table = std::lower_bound(picture.shadowed.begin(),
                                        picture.shadowed.end(), first);
    if (table != picture.shadowed.end() &&
        *table - first < PagesPerEntry(entry.level)) {
      return Say("vCPU ", vcpu, " has cached ", entry,
                 ", which lets it write the shadowed guest table at ", *table);
    }
  }
  return "";
}

}  // namespace shadowmmu::testing
