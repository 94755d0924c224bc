// What CR4 adds to the rights of entries: SMEP, SMAP, and protection keys for
// user pages (SDM vol. 3, 4.6; APM vol. 2, 5.6), each where the CPU has it.

#include "runtime/access.h"
#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guest.h"
#include "runtime/report.h"

namespace guest {
namespace {

constexpr Word kFlagAc = 1u << 18;
constexpr uint32_t kContent = 0x1234e2ff;  // begins with kJumpBack

// A page for users at `user`, one for the supervisor at `supervisor`, of the
// same frame.
struct Pages {
  Pages() : frame(AllocateFrame()) {
    PhysicalAt(frame) = kContent;
    space.Map(user, frame, kAll);
    space.Map(supervisor, frame, kPresent | kWritable);
    space.Use();
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { FreeFrame(frame); }

  const Word user = TestBase() + 3 * kPageBytes;
  const Word supervisor = TestBase() + 9 * kPageBytes;
  const Word frame;
  AddressSpace space;
};

void Passes(Access access, Ring ring, Word page, int line = __builtin_LINE()) {
  Check(Do(access, ring, page, kContent).ok, "an access that is allowed", line);
}

void Faults(Access access, Ring ring, Word page, Word error_code,
            int line = __builtin_LINE()) {
  const Outcome outcome = Do(access, ring, page, kContent);
  CheckEqual(outcome.fault.vector, kPageFault, "an access that is not allowed",
             line);
  CheckEqual(outcome.fault.error_code, error_code, "its error code", line);
  CheckEqual(outcome.fault.cr2, page, "its address", line);
}

bool Has(uint32_t Cpuid::*word, unsigned bit, const char* name) {
  const bool has = (CpuidOrNone(7).*word & 1u << bit) != 0;
  if (!has) Print("SKIPPED: the CPU has no ", name, "\n");
  return has;
}

void TrySmep() {
  if (!Has(&Cpuid::ebx, 7, "SMEP")) return;
  const Pages pages;
  Passes(Access::kFetch, Ring::k0, pages.user);
  for (unsigned turn = 0; turn < 8; ++turn) {
    WriteCr4(ReadCr4() | kCr4Smep);
    Faults(Access::kFetch, Ring::k0, pages.user, kFaultPresent | kFaultFetch);
    Passes(Access::kFetch, Ring::k3, pages.user);
    Passes(Access::kFetch, Ring::k0, pages.supervisor);
    Passes(Access::kRead, Ring::k0, pages.user);
    WriteCr4(ReadCr4() & ~kCr4Smep);
    Passes(Access::kFetch, Ring::k0, pages.user);
  }
  Print("SMEP: right\n");
}

// With RFLAGS.AC set, which RunGuarded undoes.
Fault WriteWithAc(Word page) {
  return Guarded([page] {
#ifdef __x86_64__
    asm volatile("pushfq; orl %0, (%%rsp); popfq" ::"i"(kFlagAc) : "memory");
#else
    asm volatile("pushf; orl %0, (%%esp); popf" ::"i"(kFlagAc) : "memory");
#endif
    asm volatile("movl %0, (%1)" ::"r"(kContent), "r"(page) : "memory");
  });
}

void TrySmap() {
  if (!Has(&Cpuid::ebx, 20, "SMAP")) return;
  const Pages pages;
  for (unsigned turn = 0; turn < 8; ++turn) {
    WriteCr4(ReadCr4() | kCr4Smap);
    Faults(Access::kRead, Ring::k0, pages.user, kFaultPresent);
    Faults(Access::kWrite, Ring::k0, pages.user, kFaultPresent | kFaultWrite);
    Check(WriteWithAc(pages.user).vector == Fault::kNone, "a write with AC");
    Faults(Access::kRead, Ring::k0, pages.user, kFaultPresent);
    Passes(Access::kFetch, Ring::k0, pages.user);
    Passes(Access::kWrite, Ring::k3, pages.user);
    Passes(Access::kWrite, Ring::k0, pages.supervisor);
    WriteCr4(ReadCr4() & ~kCr4Smap);
    Passes(Access::kWrite, Ring::k0, pages.user);
  }
  Print("SMAP: right\n");
}

// CR0.WP clear and a read-only user page: SMAP still counts, and with AC set
// the supervisor writes.
void TrySmapWithoutWp() {
  if (!Has(&Cpuid::ebx, 20, "SMAP")) return;
  Pages pages;
  pages.space.Map(pages.user, pages.frame, kPresent | kUser);
  ReloadCr3();
  WriteCr4(ReadCr4() | kCr4Smap);
  WriteCr0(ReadCr0() & ~kCr0Wp);
  Faults(Access::kWrite, Ring::k0, pages.user, kFaultPresent | kFaultWrite);
  Faults(Access::kRead, Ring::k0, pages.user, kFaultPresent);
  Check(WriteWithAc(pages.user).vector == Fault::kNone, "a write with AC");
  Faults(Access::kWrite, Ring::k3, pages.user,
         kFaultPresent | kFaultWrite | kFaultUser);
  WriteCr0(ReadCr0() | kCr0Wp);
  CheckEqual(WriteWithAc(pages.user).vector, kPageFault, "a write with WP");
  WriteCr4(ReadCr4() & ~kCr4Smap);
  Print("SMAP with WP clear: right\n");
}

#ifdef __x86_64__
constexpr unsigned kKey = 5;
constexpr uint32_t kAccessDisable = 1u << (2 * kKey);
constexpr uint32_t kWriteDisable = 2u << (2 * kKey);

void WritePkru(uint32_t value) {
  asm volatile("wrpkru" ::"a"(value), "c"(0), "d"(0) : "memory");
}

void TryKeys() {
  if (!Has(&Cpuid::ecx, 3, "protection keys")) return;
  Pages pages;
  const Entry key = Entry{kKey} << kKeyShift;
  WriteCr4(ReadCr4() | kCr4Pke);
  WritePkru(0);
  pages.space.Map(pages.user, pages.frame, kAll | key);
  pages.space.Map(pages.supervisor, pages.frame, kPresent | kWritable | key);
  ReloadCr3();
  const Word denied = kFaultPresent | kFaultKey;
  for (unsigned turn = 0; turn < 8; ++turn) {
    Passes(Access::kWrite, Ring::k3, pages.user);
    Passes(Access::kWrite, Ring::k0, pages.user);

    WritePkru(kAccessDisable);
    Faults(Access::kRead, Ring::k3, pages.user, denied | kFaultUser);
    Faults(Access::kWrite, Ring::k3, pages.user,
           denied | kFaultUser | kFaultWrite);
    Faults(Access::kRead, Ring::k0, pages.user, denied);
    Passes(Access::kFetch, Ring::k3, pages.user);
    Passes(Access::kWrite, Ring::k0, pages.supervisor);

    WritePkru(kWriteDisable);
    Passes(Access::kRead, Ring::k3, pages.user);
    Faults(Access::kWrite, Ring::k3, pages.user,
           denied | kFaultUser | kFaultWrite);
    Faults(Access::kWrite, Ring::k0, pages.user, denied | kFaultWrite);

    // Without WP the supervisor's writes are not the key's business.
    WriteCr0(ReadCr0() & ~kCr0Wp);
    Passes(Access::kWrite, Ring::k0, pages.user);
    Faults(Access::kWrite, Ring::k3, pages.user,
           denied | kFaultUser | kFaultWrite);
    WriteCr0(ReadCr0() | kCr0Wp);
    WritePkru(0);
  }
  // Another key in the entry, and none at all.
  WritePkru(kAccessDisable);
  pages.space.Map(pages.user, pages.frame,
                  kAll | (key + (Entry{1} << kKeyShift)));
  Invlpg(pages.user);
  Passes(Access::kRead, Ring::k3, pages.user);
  pages.space.Map(pages.user, pages.frame, kAll | key);
  Invlpg(pages.user);
  Faults(Access::kRead, Ring::k3, pages.user, denied | kFaultUser);
  WriteCr4(ReadCr4() & ~kCr4Pke);
  Passes(Access::kRead, Ring::k3, pages.user);
  Print("protection keys: right\n");
}
#endif

}  // namespace

void GuestMain() {
  UsePaging();
  Print(Levels(), " levels\n");
  TrySmep();
  TrySmap();
  TrySmapWithoutWp();
#ifdef __x86_64__
  TryKeys();
#endif
}

}  // namespace guest
