/*
 * A slot is deleted while two vCPUs fault, and while a notifier takes the host
 * memory away that the slot, and another slot that stays, are mapped to.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/slot_update.cc         DeleteSlot, Retire
 *   src/memslot/slot_registry.cc   SlotRegistry::Publish, SlotReader
 *   src/base/srcu.cc               Srcu::Enter, Leave, Synchronize
 *   src/mmu/invalidate.cc, zap.cc  Bump, Reclaim; ZapBatch::Zap, Commit
 *   src/mmu/flush.cc               FlushObligation::PayNow: OnObsoleteRoots
 *   src/base/mutex.cc              SharedMutex: Lock, ReaderLock
 *   src/mmu/fault.cc               Attempt: Run, Resolve, Stale, MapUnderLock,
 *                                  MapBesideOthers, MapAlone
 *   src/mmu/spte_write.cc          SetLeaf; CountAdded of src/rmap/slot_rmaps.h
 *   src/mmu/roots.cc               LoadRoot, RootUsable, LetGo
 *   src/mmu/notifier.cc            BeginInvalidation, EndInvalidation
 *   src/mmu/guest_memory.cc        Block, Blocks, Unblock, sequence
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. Memory is sequentially consistent: every word here that is not under a lock
 *     is seq_cst in the code (Srcu's relaxed look at a counter only decides
 *     whether to look again). For the words where weaker ones would do harm see
 *     enter_and_kick.pml. That Synchronize accepts its zero by a read-modify-write
 *     is a matter of the C++ memory model (srcu.h, 2.), which is not modelled.
 *  2. A flush empties the TLBs that it is for at once. That a flush is as good as
 *     this is what enter_and_kick.pml checks. Every vCPU is in the guest, as far as
 *     a flush can see: one that is outside has cached no more than it could there.
 *     A kick only asks: the vCPU serves the request
 *     whenever it likes, or never. A TLB takes in at once all that its CPU could
 *     find, and a fault may come whatever is in it: what is asked of a TLB is only
 *     that something is not there, so no other TLB would do more harm. An spte is
 *     asked, when it is written, whether it leads to what the host maps now.
 *  3. Each slot has one gfn; both gfns are of the host page that the notifier
 *     takes away. Each vCPU has a shadow page of its own, which is its root, of
 *     each generation: four in all. So pages are zapped while they are roots, and
 *     after; and a walk has two pages to zap, with a lock break between them or
 *     not. The guest's tables lie in the slot that stays. vCPU 1 faults on the
 *     dying slot only: its entry of the other is mapped from the start. (With both
 *     on both slots safety held, too, in 8.3 million states.)
 *  4. Where a section of slot readers lies within another of the same thread, only
 *     the outer one is here: the inner one waits for nothing, and is over before.
 *     LoadRoot's own looks at no more than what a fault's looks at.
 *  5. The MMU lock: faults that map hold it shared, all others exclusively. A writer
 *     keeps readers out, and then waits for those inside; who waits for the writer's
 *     mutex, and who waits for the flag, wait for one bit. shared_lock.pml has the
 *     lock as it is. What one thread does with it held exclusively to what it guards
 *     is one step, and so is what it does under the lock of a list with the MMU lock
 *     shared; what others see without it (the sequence, the blocked range, the slot
 *     table, the TLBs) is a step of its own. What can make a fault come back alone
 *     is no part of the model: it may do so at any time, each vCPU, and vCPU 0 only
 *     where progress is checked.
 *  6. Guest memory's sections are left out: nobody touches guest memory here. The
 *     count of blocked ranges and the range are one bit: there is one notifier, and
 *     its lock's holder changes both in one section.
 *  7. Faults start over without a bound; the code gives up after 8 attempts.
 *  8. One notifier round. What the host maps in its place is told from what it
 *     mapped before; and what TLBs hold is known. Neither decides what anybody does,
 *     so both are left out where progress is checked. Nor is the order of a fault's
 *     looks at the blocked range and the sequence: they are one step there.
 *
 * WHAT IS CHECKED
 *
 *   safety    Nothing is put on the rmap of the dying slot once it is remove-only,
 *             and every spte that is written finds its slot in the current table.
 *             When the slot is freed, no spte, no TLB entry and no reader refers
 *             to it; nor does a reader to a slot table that is freed. The notifier
 *             can walk the rmaps of every slot in the table, the dying one until
 *             its end; they name only present sptes of pages that are not freed.
 *             When begin has returned there is no spte and no TLB entry of the
 *             range, nor until its end; after it none leads to what the host had
 *             mapped before. A page is freed with no spte in it, on no rmap, and
 *             walked by no CPU. No deadlock.
 *   progress  With weak fairness: every fault ends, the deletion ends, the notifier
 *             ends. (The vCPUs are the same: that it holds for one says it for
 *             both.)
 *
 * MEASURED: safety 1,760,444 states, 6 s; progress 4,094,747 states, 45 s (spin
 * 6.5.2, -O2, one core that others use, too; under 500 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step, and the named check then fails.
 * tests/models/check reads this table.
 *
 *   NO_DRAIN                  safety    INVALID is published, and no reader waited for
 *   NO_LAST_DRAIN             safety    the table without the slot is published, and no reader waited for
 *   ONE_ROUND                 safety    Synchronize flips and waits once, not twice
 *   WAIT_FOR_NEW              progress  it waits for the counter that it has selected, not for the one before
 *   ENTER_NOT_RMW             safety    a reader enters by a load and a store
 *   LEAVE_NOT_RMW             safety    a reader leaves by a load and a store
 *   TABLE_BEFORE_ENTER        safety    a reader loads the table, and then enters
 *   NO_FLIP                   progress  Synchronize waits for each counter, with new readers still sent there
 *   DRAIN_UNDER_LOCK          safety    readers are waited for under the MMU lock, which they take
 *   REMOVE_ONLY_BEFORE_DRAIN  safety    the rmap is remove-only before the readers have left
 *   INVALID_IS_LIVE           safety    faults map through a slot that is INVALID
 *   NO_BUMP                   safety    the generation stays: the walk finds nothing obsolete
 *   BUMP_BEFORE_DRAIN         safety    the generation is bumped while readers still map
 *   WALK_STOPS_AT_BREAK       safety    the walk does not come back from its lock break
 *   WALK_SKIPS_LIVE_SLOTS     safety    it leaves the entries of other slots on their rmaps
 *   RELEASE_RMAPS             safety    the dying rmap is emptied at once, its sptes go with the walk
 *   NO_FLUSH                  safety    the walk does not pay its flush
 *   ENTERED_IS_CURRENT        safety    a vCPU notes the generation that it finds on entry, not its root's
 *   ENTERED_BEFORE_FLUSH      safety    it notes its new root's generation before it has flushed
 *   FREE_BEFORE_FLUSH         safety    it pays it when the slot has been freed
 *   PAGE_FREED_WHILE_ROOT     safety    a zapped page is freed though it is a root
 *   NO_STALE_CHECK            safety    a fault maps without looking whether it is stale
 *   NO_ROOT_CHECK             safety    it does not look at its root's generation
 *   NO_BLOCKED_CHECK          safety    it does not look whether the range is blocked
 *   NO_SEQUENCE_CHECK         safety    it does not look at the sequence
 *   SEQUENCE_BEFORE_BLOCKED   safety    it looks at the sequence, and then at the blocked range
 *   STALE_CHECK_BEFORE_LOCK   safety    it looks at both before it has the lock
 *   MAP_WITHOUT_LOCK          safety    it looks and maps without the MMU lock
 *   MAP_IN_ANOTHER_HOLD       safety    it looks in one shared hold, and maps in the next
 *   ALONE_WITHOUT_A_LOOK      safety    told to come back alone, it maps without looking again
 *   NO_LIST_LOCK              safety    two map at the same time, without the lock of the list
 *   WRITER_DOES_NOT_WAIT      safety    who takes the MMU lock alone does not wait for readers inside
 *   SAMPLE_AFTER_RESOLVE      safety    it samples the sequence when it has resolved
 *   STALE_ROOT_KEPT           progress  a stale fault starts over on its old root
 *   NOTIFIER_SKIPS_INVALID    safety    the notifier walks live slots only
 *   NOTIFIER_NO_SECTION       safety    it walks under the MMU lock, in no reader's section
 *   NOTIFIER_NO_FLUSH         safety    begin returns with its flush unpaid
 *   UNMAP_BEFORE_BLOCK        safety    begin unmaps, and then blocks the range
 *   UNBLOCK_BEFORE_SEQUENCE   safety    end lets go of the range, and then raises the sequence
 *
 * There is none for the mark itself. It is a CHECK in the code, not what keeps
 * faults off: without it nothing here would change, and a fault that came late would
 * not be noticed. The draining, and the look at the slot's state, keep them off.
 *
 * Nor is there one for a fault that comes in beside a writer that is inside: whatever
 * the writers here do in more than one step, such a fault is stale already (its root
 * is obsolete, its range is blocked), and what a list looks like half-way is not
 * here. That readers are kept out is what shared_lock.pml checks.
 */

/* The slot table: what became of the slot that is deleted. */
#define LIVE 0
#define INVALID 1
#define WITHOUT 2

/* Slots, each with one gfn. */
#define DYING 0
#define OTHER 1

/* Threads that hold a table. */
#define NOTIFIER 2
#define NO_TABLE 3

/* ---- Shared by all, without a lock ---- */

byte current = LIVE; /* SlotRegistry::current_ */
byte inside[2];      /* Srcu::Stripe::inside */
bit selector;        /* Srcu::selector_ */
bit blocked;         /* GuestMemory::blocked_count_, and the range */
bit sequence;        /* GuestMemory::sequence_ */
bit reload[2];       /* kReloadRoot of VcpuState::requests */

/* ---- The MMU lock, and what it guards ---- */

bit closed;   /* SharedMutex::closed_, with its writer's mutex */
byte readers; /* all stripes of SharedMutex::stripes_ */

bit generation; /* mmu_valid_gen */
bit remove_only;

/* Page p is of generation p / 2, and the root of vCPU p % 2. */
#define PAGE(gen, vcpu) ((gen) * 2 + (vcpu))
#define UNMADE 0
#define ACTIVE 1
#define ZAPPED 2
#define FREED 3
byte page_state[4];

/* Of each gfn, a bit for each page: */
byte spte[2]; /* whether its spte is present */
byte rmap[2]; /* whether that is on the rmap */
#define BIT(page) (1 << (page))

/* ---- The CPUs, the host, and what is watched ---- */

byte root[2];      /* VcpuState::root: a page; its root_count is 1 then */
bit entered[2];    /* VcpuState::entered_generation */
bit tlb[4];        /* of vCPU * 2 + gfn: cached */
bit host_page;     /* what the host maps there */
bit gone;          /* between begin's return and end's call */
bit slot_freed;
byte holds[3] = NO_TABLE; /* by thread, while it is in a section */
bit in_fault[2];
bit deleted;
bit notified;

/* ---- Srcu ---- */

/* Enter: loads the selector, later adds itself. */
inline Enter() {
  ticket = selector;
#ifdef ENTER_NOT_RMW
  before = inside[ticket];
  atomic { inside[ticket] = before + 1; before = 0; assert(inside[ticket] <= 3) }
#else
  atomic { inside[ticket]++; assert(inside[ticket] <= 3) } /* of three threads */
#endif
}

/* Leave: until then it may use the table that it has. */
inline Leave(thread) {
  assert(inside[ticket] != 0); /* a CHECK */
#ifdef LEAVE_NOT_RMW
  before = inside[ticket];
  inside[ticket] = before - 1;
  before = 0;
#else
  inside[ticket]--;
#endif
  holds[thread] = NO_TABLE;
  ticket = 0
}

#ifdef ONE_ROUND
#define ROUNDS 1
#else
#define ROUNDS 2
#endif

/* Synchronize: two rounds of flip, and wait for those that were selected. */
inline Synchronize() {
  do
  :: atomic {
       round < ROUNDS ->
       old = selector; /* selector_.fetch_xor(1) */
#ifdef NO_FLIP
       old = round;
#else
       selector = 1 - selector;
#endif
#ifdef WAIT_FOR_NEW
       old = 1 - old;
#endif
     };
     atomic { inside[old] == 0 -> old = 0; round++ } /* WaitForReaders */
  :: atomic { round == ROUNDS -> round = 0 };
     break
  od
}

/* ---- The MMU lock: SharedMutex. shared_lock.pml has it as it is ---- */

/* Lock: keeps readers out, and then waits for those inside. What is done first with
   the lock is one step with the wait's end. In an atomic. */
#define Lock() !closed -> closed = 1
#ifdef WRITER_DOES_NOT_WAIT
#define LOCKED true
#else
#define LOCKED (readers == 0)
#endif
#define Unlock() closed = 0

/* ReaderLock, and what is looked at first with the lock. */
#define MAY_SHARE (!closed)

/* ---- TLBs ---- */

/* Whatever the CPU of `v` finds in the tables it has cached at once. */
inline Fill(v) {
#ifdef CHECK_PROGRESS
  skip
#else
  tlb[v * 2 + DYING] = tlb[v * 2 + DYING] || (spte[DYING] & BIT(root[v]));
  tlb[v * 2 + OTHER] = tlb[v * 2 + OTHER] || (spte[OTHER] & BIT(root[v]));
  assert(page_state[root[v]] != FREED)
#endif
}

inline FlushTlb(v) {
  tlb[v * 2 + DYING] = 0;
  tlb[v * 2 + OTHER] = 0;
  Fill(v)
}

inline AssertNothingMapped(gfn) {
  assert(!spte[gfn]);
  assert(!tlb[gfn] && !tlb[2 + gfn])
}

inline FreePage(page) {
  assert(!(spte[DYING] & BIT(page)) && !(spte[OTHER] & BIT(page)));
  assert(!(rmap[DYING] & BIT(page)) && !(rmap[OTHER] & BIT(page)));
  assert(root[(page) & 1] != (page));
  page_state[page] = FREED
}

/* ---- A vCPU: its CPU in the guest, and its thread outside ---- */

#define USABLE (root[me] / 2 == generation && page_state[root[me]] == ACTIVE)

/* LoadRoot. Where the root is not usable: LetGo, FindOrMakePage, and the flush that
   comes with a new root. */
inline LoadRoot() {
  atomic {
    Lock(); LOCKED ->
    if
    :: USABLE
    :: else ->
       p = root[me];
       root[me] = PAGE(generation, me);
       page_state[root[me]] = ACTIVE;
#ifdef ENTERED_BEFORE_FLUSH
       entered[me] = root[me] / 2;
       flush_due = 1;
#else
       FlushTlb(me);
#endif
       if
       :: page_state[p] == ZAPPED -> FreePage(p) /* FreeUnpinned */
       :: else
       fi;
       p = 0
    fi;
    Unlock()
  }
}

/* Stale, with the MMU lock in either way; the look at the root comes with the lock. */
inline LookWhetherStale() {
#if defined(NO_STALE_CHECK)
  skip
#elif defined(CHECK_PROGRESS)
  stale = stale || blocked || sequence != sampled
#elif defined(SEQUENCE_BEFORE_BLOCKED)
  stale = stale || sequence != sampled;
  stale = stale || blocked
#else
#ifndef NO_BLOCKED_CHECK
  stale = stale || blocked;
#endif
#ifndef NO_SEQUENCE_CHECK
  stale = stale || sequence != sampled
#endif
#endif
}

#if defined(NO_STALE_CHECK) || defined(NO_ROOT_CHECK)
#define STALE_ROOT false
#else
#define STALE_ROOT (!USABLE)
#endif

/* A fault may find out at any time that it has to be alone. */
#ifdef CHECK_PROGRESS
#define MAY_NEED_EXCLUSIVE (me == 0)
#else
#define MAY_NEED_EXCLUSIVE true
#endif

/* SetLeaf, under the lock of the list: the page is the vCPU's own, so there is
   nothing at that place, or the same. */
inline Map() {
  assert(current != WITHOUT || gfn == OTHER); /* ListOf: a slot for the gfn */
  assert(gfn == OTHER || (!remove_only && !slot_freed)); /* CountAdded */
  assert(!gone && pfn == host_page); /* what a CPU finds, from now on */
  assert(page_state[root[me]] != FREED);
  assert(!(spte[gfn] & BIT(root[me])));
#ifdef NO_LIST_LOCK
  rmap[gfn] = before | BIT(root[me]);
#else
  rmap[gfn] = rmap[gfn] | BIT(root[me]);
#endif
  spte[gfn] = spte[gfn] | BIT(root[me]);
  Fill(me)
}

proctype Vcpu(byte me) {
  bit gfn, ticket, sampled, pfn, stale, alone;
#ifdef ENTERED_BEFORE_FLUSH
  bit flush_due;
#endif
  byte p, before;

guest:
  /* EnterGuest */
  atomic {
#ifdef ENTERED_BEFORE_FLUSH
    if
    :: flush_due -> flush_due = 0; FlushTlb(me)
    :: else
    fi;
#endif
    entered[me] = root[me] / 2
  };
  do
  :: atomic { reload[me] -> reload[me] = 0 }; /* a kick, and EnterGuest */
#ifdef ENTERED_IS_CURRENT
     entered[me] = generation;
#endif
     LoadRoot();
     entered[me] = root[me] / 2
  :: atomic {
       !(spte[DYING] & BIT(root[me])) ->
       gfn = DYING;
       in_fault[me] = 1
     };
     break
  :: atomic {
       me == 0 && !(spte[OTHER] & BIT(root[me])) ->
       gfn = OTHER;
       in_fault[me] = 1
     };
     break
  od;

  /* Attempt::Attempt: SlotReader */
attempt:
#ifdef TABLE_BEFORE_ENTER
  holds[me] = current;
#endif
  Enter();
  /* Run: the slot */
  atomic {
#ifndef TABLE_BEFORE_ENTER
    holds[me] = current;
#endif
    if
#ifdef INVALID_IS_LIVE
    :: gfn == DYING && holds[me] == WITHOUT -> goto leave
#else
    :: gfn == DYING && holds[me] != LIVE -> goto leave /* Retry, or Emulate */
#endif
    :: else
    fi
  };
  /* Resolve */
#ifdef SAMPLE_AFTER_RESOLVE
  pfn = host_page;
#endif
  sampled = sequence;
  if
  :: blocked -> goto leave /* Retry */
  :: else
  fi;
#if !defined(SAMPLE_AFTER_RESOLVE) && !defined(CHECK_PROGRESS)
  pfn = host_page; /* Host::Resolve */
#endif

  /* MapUnderLock: MapBesideOthers */
#ifdef STALE_CHECK_BEFORE_LOCK
  LookWhetherStale();
#endif
#ifdef MAP_WITHOUT_LOCK
  stale = STALE_ROOT;
  LookWhetherStale();
#else
  atomic { MAY_SHARE -> readers++; stale = stale || STALE_ROOT };
#ifndef STALE_CHECK_BEFORE_LOCK
  LookWhetherStale();
#endif
#endif
#ifdef MAP_IN_ANOTHER_HOLD
  readers--;
  atomic { MAY_SHARE -> readers++ };
#endif
#ifdef NO_LIST_LOCK
  before = rmap[gfn];
#endif
  atomic {
    if
    :: stale
    :: !stale -> Map()
    :: !stale && MAY_NEED_EXCLUSIVE -> alone = 1 /* kNeedsExclusive */
    fi;
#ifdef NO_LIST_LOCK
    before = 0;
#endif
#ifndef MAP_WITHOUT_LOCK
    readers--;
#endif
    if
    :: alone -> alone = 0
    :: else -> goto leave
    fi
  };
  /* MapAlone */
#if defined(ALONE_WITHOUT_A_LOOK) || defined(STALE_CHECK_BEFORE_LOCK)
  atomic { Lock(); LOCKED };
#else
  atomic { Lock(); LOCKED -> stale = STALE_ROOT };
  LookWhetherStale();
#endif
#ifdef NO_LIST_LOCK
  before = rmap[gfn];
#endif
  atomic {
    if
    :: stale
    :: else -> Map()
    fi;
    Unlock()
  };

leave:
#ifdef LEAVE_NOT_RMW
  Leave(me);
#endif
  atomic {
#ifndef LEAVE_NOT_RMW
    Leave(me);
#endif
    sampled = 0;
    pfn = 0;
    if
    :: !stale -> gfn = 0; in_fault[me] = 0; goto guest
    :: stale -> stale = 0 /* Try: the next attempt */
    fi
  };
#ifndef STALE_ROOT_KEPT
  LoadRoot();
#endif
  goto attempt
}

/* ---- The host's notifier ---- */

#define FREED_BIT(page) ((page_state[page] == FREED) << (page))
#define FREED_PAGES (FREED_BIT(0) | FREED_BIT(1) | FREED_BIT(2) | FREED_BIT(3))

/* DropRange, for one slot. */
inline DropRmap(gfn) {
  assert(!(rmap[gfn] & ~spte[gfn]));
  assert(!(rmap[gfn] & FREED_PAGES));
  spte[gfn] = spte[gfn] & ~rmap[gfn];
  rmap[gfn] = 0
}

inline Unmap() {
  /* VmLock */
#ifndef NOTIFIER_NO_SECTION
  Enter();
#endif
  atomic { Lock(); LOCKED -> holds[NOTIFIER] = current };
  /* ForEachInHvaRange */
  atomic {
    DropRmap(OTHER);
    if
#ifdef NOTIFIER_SKIPS_INVALID
    :: holds[NOTIFIER] == LIVE ->
#else
    :: holds[NOTIFIER] != WITHOUT ->
#endif
       assert(!slot_freed);
       DropRmap(DYING)
    :: else
    fi
  };
#ifndef NOTIFIER_NO_FLUSH
  atomic { FlushTlb(0); FlushTlb(1); Unlock() }; /* Pay */
#else
  Unlock();
#endif
#ifdef NOTIFIER_NO_SECTION
  holds[NOTIFIER] = NO_TABLE
#else
  atomic { Leave(NOTIFIER) }
#endif
}

proctype Notifier() {
  bit ticket;
  byte before;
  /* BeginInvalidation */
#ifdef UNMAP_BEFORE_BLOCK
  Unmap();
  blocked = 1;
#else
  blocked = 1; /* Block */
  Unmap();
#endif
  atomic {
    AssertNothingMapped(DYING);
    AssertNothingMapped(OTHER);
    gone = 1
  };
#ifdef CHECK_PROGRESS
  gone = 0;
#else
  atomic { host_page = 1; gone = 0 };
#endif
  /* EndInvalidation: Unblock */
#ifdef UNBLOCK_BEFORE_SEQUENCE
  blocked = 0;
  sequence = 1;
#else
  sequence = 1;
  blocked = 0;
#endif
  notified = 1
}

/* ---- The slot update ---- */

inline TakeOff(page, gfn) {
  if
  :: spte[gfn] & BIT(page) ->
     spte[gfn] = spte[gfn] & ~BIT(page);
#ifdef RELEASE_RMAPS
     assert(gfn == DYING || (rmap[gfn] & BIT(page)));
#else
     assert(rmap[gfn] & BIT(page));
#endif
#ifdef WALK_SKIPS_LIVE_SLOTS
     rmap[DYING] = rmap[DYING] & ~BIT(page)
#else
     rmap[gfn] = rmap[gfn] & ~BIT(page)
#endif
  :: else
  fi
}

/* ZapBatch::Zap, of an obsolete page. */
inline Zap(page) {
  TakeOff(page, DYING);
  TakeOff(page, OTHER);
  page_state[page] = ZAPPED
}

/* Commit, after the flush: a root is freed by who lets go of it. */
inline FreeZapped(page) {
  if
#ifdef PAGE_FREED_WHILE_ROOT
  :: page_state[page] == ZAPPED -> FreePage(page)
#else
  :: page_state[page] == ZAPPED && root[page] != page -> FreePage(page)
#endif
  :: else
  fi
}

/* OnObsoleteRoots. */
inline FlushIfObsolete(v) {
  if
  :: entered[v] != generation -> FlushTlb(v)
  :: else
  fi
}

inline RequestReload() {
  reload[0] = 1;
  reload[1] = 1
}

inline Bump() {
  atomic {
    Lock(); LOCKED ->
#ifndef NO_BUMP
    generation = 1;
#endif
    RequestReload();
    Unlock()
  }
}

#define OBSOLETE(page) ((page) / 2 != generation && page_state[page] == ACTIVE)

/* Reclaim. Its section begins, and ends, on the way into and out of the lock: only
   Synchronize would mind, which this thread is not in. */
inline Reclaim() {
  do
  :: atomic {
       Lock(); LOCKED ->
       /* ReclaimBatch: one page or both, as others wait or not */
       if
       :: OBSOLETE(0) -> Zap(0)
       :: OBSOLETE(0) && OBSOLETE(1) -> Zap(0); Zap(1)
       :: !OBSOLETE(0) && OBSOLETE(1) -> Zap(1)
       :: !OBSOLETE(0) && !OBSOLETE(1)
       fi
     };
     /* Commit */
     atomic {
#if !defined(NO_FLUSH) && !defined(FREE_BEFORE_FLUSH)
       FlushIfObsolete(0);
       FlushIfObsolete(1);
#endif
       FreeZapped(0);
       FreeZapped(1);
       Unlock();
#ifndef WALK_STOPS_AT_BREAK
       if
       :: OBSOLETE(0) || OBSOLETE(1)
       :: else -> break
       fi
#else
       break
#endif
     }
  od
}

inline FreeTable(table) {
  assert(holds[0] != table && holds[1] != table && holds[NOTIFIER] != table)
}

init {
  bit old;
  byte round;
  atomic {
    page_state[PAGE(0, 0)] = ACTIVE;
    page_state[PAGE(0, 1)] = ACTIVE;
    root[0] = PAGE(0, 0);
    root[1] = PAGE(0, 1);
    spte[OTHER] = BIT(root[1]);
    rmap[OTHER] = BIT(root[1]);
    Fill(1);
    run Vcpu(0);
    run Vcpu(1);
    run Notifier()
  };

#ifdef REMOVE_ONLY_BEFORE_DRAIN
  atomic { Lock(); LOCKED -> remove_only = 1; Unlock() };
#endif
#ifdef BUMP_BEFORE_DRAIN
  Bump();
#endif
  /* Retire: Publish */
  current = INVALID;
#ifdef DRAIN_UNDER_LOCK
  atomic { Lock(); LOCKED };
#endif
#ifndef NO_DRAIN
  Synchronize();
#endif
  FreeTable(LIVE);
  /* SetRemoveOnly, in a hold of the lock of its own */
#ifdef DRAIN_UNDER_LOCK
  atomic { remove_only = 1; Unlock() };
#else
  atomic { Lock(); LOCKED -> remove_only = 1; Unlock() };
#endif
#ifdef RELEASE_RMAPS
  atomic { Lock(); LOCKED -> rmap[DYING] = 0; Unlock() };
#endif
  /* Invalidate(kObsoleteWalk) */
#ifndef BUMP_BEFORE_DRAIN
  Bump();
#endif
  Reclaim();
  /* leaf_sptes() == 0, a CHECK */
  atomic { Lock(); LOCKED -> assert(rmap[DYING] == 0); Unlock() };
  /* Publish */
  current = WITHOUT;
#ifndef NO_LAST_DRAIN
  Synchronize();
#endif
  /* The table with INVALID goes, and the last reference to the slot. */
  atomic {
    FreeTable(LIVE);
    FreeTable(INVALID);
    AssertNothingMapped(DYING);
    assert(rmap[DYING] == 0);
    slot_freed = 1;
#ifdef FREE_BEFORE_FLUSH
    FlushTlb(0);
    FlushTlb(1);
#endif
    deleted = 1
  }
}

ltl progress {
  (<> (deleted && notified)) && ([] <> !in_fault[0])
}
