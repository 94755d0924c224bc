// Every right of every level, in the mode that this was built for: a page is
// mapped with each combination of rights, by a small page and by a large one,
// and read, written and fetched from by supervisor and user, with CR0.WP set
// and clear. The outcome, the error code, CR2, and the A and D bits that the
// CPU left are held against what the manuals say (Intel SDM vol. 3, 4.6 to 4.8;
// AMD APM vol. 2, 5.3 to 5.6). Then reserved bits, in entries of each level.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr Entry kAd = kAccessed | kDirty;
constexpr Access kAccesses[] = {Access::kRead, Access::kWrite, Access::kFetch};
constexpr Ring kRings[] = {Ring::k0, Ring::k3};
constexpr Word kWps[] = {kCr0Wp, 0};
// Where in a page.
constexpr Word kContentOffset = 8;
constexpr uint32_t kContent = 0x2ea1e2ff;  // begins with kJumpBack

struct Case {
  Access access;
  Ring ring;
  Word cr0_wp;
  // The level of the entry that maps the page.
  unsigned leaf;
};

unsigned checked = 0;

// All entries from the top to the leaf, and, by their rights, what must happen.
class Expected {
 public:
  Expected(const AddressSpace& space, Word address, const Case& c) {
    Entry rights = kWritable | kUser;
    bool no_execute = false;
    for (unsigned level = Levels(); level >= c.leaf; --level) {
      const Entry entry = space.Get(level, address);
      if ((entry & kPresent) == 0) {
        Deny(c, 0);
        return;
      }
      // PAE's top level has no rights.
      if (Levels() == 3 && level == 3) continue;
      rights &= entry;
      no_execute = no_execute || (entry & kNoExecute) != 0;
    }
    const bool user_page = (rights & kUser) != 0;
    const bool writable =
        (rights & kWritable) != 0 || (c.ring == Ring::k0 && c.cr0_wp == 0);
    ok_ = (user_page || c.ring == Ring::k0) &&
          (writable || c.access != Access::kWrite) &&
          (!no_execute || c.access != Access::kFetch);
    if (!ok_) Deny(c, kFaultPresent);
  }

  bool ok() const { return ok_; }
  Word error_code() const { return error_code_; }

 private:
  void Deny(const Case& c, Word present) {
    error_code_ = present | (c.ring == Ring::k3 ? kFaultUser : 0) |
                  (c.access == Access::kWrite ? kFaultWrite : 0);
    if (c.access == Access::kFetch && HasNoExecute()) {
      error_code_ |= kFaultFetch;
    }
  }

  bool ok_ = false;
  Word error_code_ = 0;
};

void Explain(const AddressSpace& space, Word address, const Case& c,
             const Outcome& outcome) {
  Print(c.ring == Ring::k3 ? "user " : "supervisor ",
        c.access == Access::kRead    ? "read"
        : c.access == Access::kWrite ? "write"
                                     : "fetch",
        ", wp ", Hex(c.cr0_wp), ", vector ", outcome.fault.vector,
        ", error code ", Hex(outcome.fault.error_code), ", entries");
  for (unsigned level = Levels(); level >= c.leaf; --level) {
    Print(" ", Hex(space.Get(level, address)));
  }
  Print("\n");
}

void CheckAccessedDirty(const AddressSpace& space, Word address, const Case& c,
                        bool ok) {
  const Entry leaf = space.Get(c.leaf, address);
  if (!ok) {
    // A leaf that was not used stays as it was: clear. QEMU's TCG sets A of a
    // 1 GiB page before it looks at the rights.
    const Entry forgiven = IsPlainQemu() && c.leaf == 3 ? kAccessed : 0;
    CheckEqual(leaf & kAd & ~forgiven, 0, "A and D of a leaf after a fault");
    return;
  }
  for (unsigned level = Levels(); level >= c.leaf; --level) {
    if (Levels() == 3 && level == 3) continue;
    Check((space.Get(level, address) & kAccessed) != 0, "A of every level");
  }
  CheckEqual(leaf & kDirty, c.access == Access::kWrite ? kDirty : 0,
             "D of the leaf");
}

// What was changed of the tables of `address` counts from here on. With PAE
// paging the CPU has the entries of level 3 in registers, which a load of CR3
// loads (SDM vol. 3, 4.4.1); QEMU's TCG reads them at each walk.
void Flush(Word address) {
  Invlpg(address);
  if (Levels() == 3) ReloadCr3();
}

void Try(const AddressSpace& space, Word address, const Case& c) {
  WriteCr0((ReadCr0() & ~kCr0Wp) | c.cr0_wp);
  Flush(address);
  const Expected expected(space, address, c);
  const Outcome outcome =
      Do(c.access, c.ring, address + kContentOffset, kContent);
  WriteCr0(ReadCr0() | kCr0Wp);
  const bool same =
      outcome.ok == expected.ok() &&
      (outcome.ok || (outcome.fault.vector == kPageFault &&
                      outcome.fault.error_code == expected.error_code() &&
                      outcome.fault.cr2 == address + kContentOffset));
  if (!same) {
    Explain(space, address, c, outcome);
    Print("should ", expected.ok() ? "succeed" : "fault, error code ",
          Hex(expected.error_code()), "\n");
    Check(false, "the outcome of an access");
  }
  if (outcome.ok && c.access == Access::kRead) {
    CheckEqual(outcome.value, kContent, "what was read");
  }
  CheckAccessedDirty(space, address, c, outcome.ok);
  ++checked;
}

// Rights as numbers: bit 0 P, 1 W, 2 U, 3 NX.
constexpr unsigned kRights = 16;
// A table's entry that lets everything through.
Entry Open(unsigned level) {
  return Levels() == 3 && level == 3 ? kPresent : kAll;
}
Entry RightsOf(unsigned number) {
  return (number & 7) | ((number & 8) != 0 ? kNoExecute : 0);
}
bool IsPossible(unsigned number) { return HasNoExecute() || number < 8; }

void TryAllAccesses(AddressSpace* space, Word address, unsigned leaf,
                    Entry entry) {
  for (const Word wp : kWps) {
    for (const Ring ring : kRings) {
      for (const Access access : kAccesses) {
        space->Set(leaf, address, entry);
        Try(*space, address, {access, ring, wp, leaf});
      }
    }
  }
}

// Rights of the leaf, and of one level above it.
void TryRights(unsigned leaf, unsigned above, Word frame) {
  checked = 0;
  AddressSpace space;
  const Word address = TestBase() + 5 * BytesOf(leaf);
  space.Map(address, frame, kAll, leaf);
  space.Use();
  const Entry leaf_address = space.Get(leaf, address) & ~kAll;
  const Entry table = space.Get(above, address) & ~(kAll | kAd);
  for (unsigned upper = 0; upper < kRights; ++upper) {
    if (!IsPossible(upper)) continue;
    // The top level of PAE has a P bit only, and keeps it until CR3 is loaded.
    if (Levels() == 3 && above == 3 && RightsOf(upper) != kPresent) continue;
    for (unsigned lower = 0; lower < kRights; ++lower) {
      if (!IsPossible(lower)) continue;
      // An entry that is not present hides its table from Set.
      space.Set(above, address, table | Open(above));
      space.Set(leaf, address, leaf_address | RightsOf(lower));
      const Word leaf_table = space.TableAt(leaf, address);
      space.Set(above, address, table | RightsOf(upper));
      if ((RightsOf(upper) & kPresent) != 0) {
        TryAllAccesses(&space, address, leaf, leaf_address | RightsOf(lower));
      } else {
        for (const Access access : kAccesses) {
          Try(space, address, {access, Ring::k3, kCr0Wp, above});
        }
        CheckEqual(
            ReadEntry(leaf_table, AddressSpace::OffsetOf(leaf, address)) & kAd,
            0, "A and D below an entry that is not present");
      }
    }
  }
  space.Set(above, address, table | Open(above));
  Print("rights of levels ", above, " and ", leaf, ": ", checked,
        " accesses\n");
}

// Rights of a leaf below tables that allow everything.
void TryLeaf(unsigned leaf, Word frame) {
  checked = 0;
  AddressSpace space;
  const Word address = TestBase() + 5 * BytesOf(leaf);
  space.Use();
  for (unsigned rights = 0; rights < kRights; ++rights) {
    if (!IsPossible(rights)) continue;
    TryAllAccesses(&space, address, leaf, frame | kLarge | RightsOf(rights));
  }
  Print("rights of a large page of level ", leaf, ": ", checked, " accesses\n");
}

void TryReservedBit(AddressSpace* space, Word address, unsigned level,
                    unsigned bit) {
  const Entry good = space->Get(level, address);
  space->Set(level, address, good | Entry{1} << bit);
  for (const Access access : kAccesses) {
    if (access == Access::kFetch) continue;
    Invlpg(address);
    const Outcome outcome = Do(access, Ring::k3, address);
    Check(!outcome.ok && outcome.fault.vector == kPageFault,
          "a reserved bit faults");
    // QEMU's TCG leaves P out.
    const Word forgiven = IsPlainQemu() ? kFaultPresent : 0;
    CheckEqual(outcome.fault.error_code | forgiven,
               kFaultPresent | kFaultReserved | kFaultUser |
                   (access == Access::kWrite ? kFaultWrite : 0),
               "the error code of a reserved bit");
    ++checked;
  }
  space->Set(level, address, good);
  Invlpg(address);
}

// Address bits that the CPU does not have are reserved in all 8-byte entries,
// and so is PS above level 3.
void TryReserved(Word frame) {
  if (EntryBytes() == 4) return;
  checked = 0;
  const uint32_t sizes = CpuidOrNone(0x80000008).eax;
  const unsigned address_bits = sizes == 0 ? 36 : sizes & 0xff;
  AddressSpace space;
  const Word address = TestBase();
  space.Map(address, frame, kAll);
  space.Use();
  for (unsigned level = 1; level <= Levels(); ++level) {
    // PAE checks its top level when CR3 is loaded, by #GP.
    if (Levels() == 3 && level == 3) continue;
    for (unsigned bit = address_bits; bit < 52; ++bit) {
      TryReservedBit(&space, address, level, bit);
    }
    if (level > 3) TryReservedBit(&space, address, level, 7);
  }
  Print("reserved bits: ", checked, " accesses\n");
}

// A CPU refuses to load CR3 where a PDPTE has reserved bits set, or else to use
// that entry (APM vol. 2, 5.3.3; SDM vol. 3, 4.4.1).
void TryBadPdpte() {
  AddressSpace space;
  space.Use();
  constexpr Word kAddress = 0xc0000000;
  space.Set(3, kAddress, kPresent | kWritable);
  const Fault load = Guarded([&] { space.Use(); });
  if (load.vector == Fault::kNone) {
    const Outcome use = Do(Access::kRead, Ring::k0, kAddress);
    CheckEqual(use.fault.vector, kPageFault, "reserved bits of a PDPTE");
    Check((use.fault.error_code & kFaultReserved) != 0,
          "the error code of reserved bits of a PDPTE");
  } else {
    CheckEqual(load.vector, kGeneralProtection,
               "a CR3 load with reserved bits in a PDPTE");
  }
  space.Set(3, kAddress, 0);
  Print("reserved bits of a PDPTE: refused ",
        load.vector == Fault::kNone ? "when used\n" : "when loaded\n");
}

#ifdef __x86_64__
void TryNonCanonical() {
  const Word beyond = Word{1} << (ShiftOf(Levels()) + IndexBits() - 1);
  const Word addresses[] = {beyond, ~Word{0} - beyond};
  for (const Word address : addresses) {
    const Outcome outcome = Do(Access::kRead, Ring::k0, address);
    CheckEqual(outcome.fault.vector, kGeneralProtection,
               "an address that is not canonical");
  }
  Print("addresses that are not canonical: refused\n");
}
#endif

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels, ", HasNoExecute() ? "with" : "without", " NX\n");
#if GUEST_LEVELS == 5
  if (Levels() != 5) Print("SKIPPED: the CPU has no 5-level paging\n");
#endif
  const Word frame = kFramesEnd;
  PhysicalAt(frame + kContentOffset) = kContent;
  for (unsigned above = 2; above <= Levels(); ++above) {
    TryRights(1, above, frame);
    if (above > 2) TryRights(2, above, frame);
  }
  TryLeaf(2, frame);
  if (HasGigabytePages()) {
    PhysicalAt(kContentOffset) = kContent;
    TryLeaf(3, 0);
  }
  TryReserved(frame);
  if (Levels() == 3) TryBadPdpte();
#ifdef __x86_64__
  TryNonCanonical();
#endif
}

}  // namespace guest
