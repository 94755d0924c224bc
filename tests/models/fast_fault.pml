/*
 * Fast faults against the dirty log, write tracking and zaps: two vCPUs that fault on
 * one entry, which maps a page X of a slot that logs, while CPUs in the guest store to
 * X as long as a TLB lets them.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/fast_fault.cc        FastFault, FindLeaf
 *   src/mmu/spte_write.cc        LiftLogProtection; SetLeaf, ChangeInPlace, DropEntry
 *   src/mmu/spte_sweep.cc        LogProtect; WriteProtect, WriteProtectGfn
 *   src/mmu/dirty_log.cc         GetAndClearDirty, TakeBits
 *   src/memslot/dirty_bitmap.h   DirtyBitmap: Mark, Test, Take
 *   src/mmu/map.cc               Mapper::SetTarget
 *   src/mmu/table_tracking.cc    TrackTable, WriteProtectEverywhere, UntrackTable
 *   src/mmu/guest_walk.cc        Walker::SetBitsAt
 *   include/shadowmmu/host.h     what FlushTlb promises
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. Store buffers but the guest's. What others see of a fast fault, and of all that
 *     it meets beside it, is written by read-modify-writes, which on x86 leave nothing
 *     in a store buffer: the mark, the entry, the counts. (SetLeaf stores an entry that
 *     was not present: to hold it back is to set it later, under the locks that it is
 *     set under.) A store of the guest that used a TLB entry may be in its CPU's buffer
 *     when that entry goes, so this buffer is there.
 *  2. A flush is one step: enter_and_kick.pml has it as it is. All CPUs that run a
 *     guest have one TLB together, with what any of them has, and one buffered store.
 *  3. The MMU lock: who zaps, unmakes a page, or unmaps, is one step, when no fault
 *     holds it shared. Who gets the log closes it first, and waits for those inside.
 *     shared_lock.pml has the lock as it is. A fault that has to come back alone is
 *     over; what it would take away the zap takes away, and the next fault sets again.
 *  4. vCPU 1 has the faults of the long way, too: one that reads, and one that writes,
 *     with whatever the guest's tables say. Two setters of one entry exclude each other
 *     by the page's lock, so a second one would do no more than this one.
 *  5. One table of X is tracked, by one vCPU; in track_and_map.pml it is two, in two
 *     spaces, with structure_lock. That the table becomes unsync is for the log the end
 *     of its tracking.
 *  6. An entry has the bits that count here. The CPU's accessed and dirty bits make a
 *     compare-exchange fail once more. What another leaf in its place would map is not
 *     told apart, but each making of the entry from the last: a fast fault must make
 *     writable what it has found, not what came after. The slot's state and flags are
 *     left out: who changes them waits for the section of the fault, and then takes
 *     what it has made (slot_update.cc). Nor are unsync pages here (fast_fault.h, 4.):
 *     that is about what the guest's table says, not about the log.
 *  7. T is another page, with its bit in the same word of the log. The walker's store to
 *     it is made, and told, with no lock. Emulated stores are made and told in one
 *     exclusive hold, so nothing can come between.
 *
 * WHAT IS CHECKED
 *
 *   safety    Who gets the log is told of each store that was seen in memory when the
 *             bits were taken, unless it has been copied since, or whoever made it (T's
 *             walker) is just about to mark it: so a store after a harvest is in a later
 *             one. From when the flush of the tracking is paid until the tracking ends
 *             the entry is not writable, and no store of the guest is seen in X. What a
 *             fast fault makes writable is the leaf that it found.
 *   progress  With weak fairness, for ever: every fault that has the lock ends, every
 *             harvest ends.
 *
 * MEASURED: safety 858,746 states, 2 s; progress 58,956 states, 1 s (spin 6.5.2, -O2, of
 * one core; under 300 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the
 * named check then fails. tests/models/check reads this table.
 *
 *   FAST_WITHOUT_LOCK             safety    a fast fault does not hold the MMU lock
 *   FOUND_IN_ANOTHER_HOLD         safety    it finds the leaf in one hold of it, and lifts the protection in another
 *   MARK_OUTSIDE_LOCK             safety    it marks the page when it has let go of the lock
 *   LIFT_IS_A_STORE               safety    it stores the entry, whatever that is by now
 *   NOT_READ_AGAIN                progress  when the exchange fails it tries again with what it expected
 *   TRACKING_KEEPS_THE_BIT        safety    tracking takes W from the entry, and leaves L
 *   TRACKING_SKIPS_THE_PROTECTED  safety    it looks for W only, and so passes by an entry with L
 *   OWES_BY_FIRST_LOOK            safety    it owes a flush if it found W, not if it took W
 *   NO_FLUSH_FOR_TRACKING         safety    it does not pay
 *   SET_LEAF_ASKS_OF_WRITABLE     safety    SetLeaf asks whether X is tracked for a leaf with W only
 *   IN_PLACE_LOOKS_ONCE           safety    ChangeInPlace does not look again at what it takes away when the exchange fails
 *   HARVEST_SHARED                safety    the log is got with the MMU lock shared
 *   PROTECT_BEFORE_TAKE           safety    X is protected in one hold of it, and the bits are taken in the next
 *   NO_FLUSH_FOR_LOG              safety    who gets the log does not pay
 *   FLUSH_KEEPS_STORES            safety    FlushTlb returns while a store that used what it flushes is still buffered
 *   MARK_NOT_RMW                  safety    a mark is a load of the word and a store
 *   MARK_BEFORE_STORE             safety    the walker marks T, and then stores to it
 *
 * One order is stronger than these properties need: a fast fault may mark the page after
 * it has made the entry writable, in the same hold of the lock (MARK_AFTER_LIFT: safety
 * still holds). Who takes the bits waits for the hold's end. That a fault which reads
 * (MayBeWritable) finds the mark of what is writable already only spares it to come back
 * alone.
 */

/* ---- The entry that maps X: 0, not present, or these; one of W and L at most ---- */

#define W 1 /* pte::kWritable */
#define L 2 /* pte::kLogProtected */
#define P 4 /* pte::kPresent */
byte entry;
bit made; /* of which making it is: it may have been made to map something else */

/* ---- The dirty log: a word of it, with a bit for X, and one for T ---- */

#define X 1
#define T 2
byte word;
byte unsaved; /* what has changed in memory and is in no copy, by page */
bit telling;  /* T was stored to, and is about to be marked */

/* ---- Tracking of X ---- */

bit tracked; /* the counts of table_tracking.h */
bit in_use;  /* a table of X is linked: its flush is paid */

/* ---- Locks ---- */

bit closed;    /* the MMU lock: a writer is inside, or waits */
byte readers;
bit list_lock; /* of the list of X */

/* ---- CPUs in the guest ---- */

bit tlb;      /* some CPU has X writable */
bit buffered; /* a store to X is in a CPU's store buffer */

bit in_fault[2];
bit harvesting;

#define SHARED (!closed)
#define ALONE (!closed && readers == 0)

inline AssertEntry() {
  assert(!((entry & W) && (entry & L)));
  assert(!(in_use && (entry & W)))
}

/* A store to X is seen in memory. */
inline Land() {
  assert(!in_use);
  buffered = 0;
  unsaved = unsaved | X
}

/* FlushTlb, as one step. An interrupt, or what else makes a CPU flush, waits until
   its stores are seen. */
inline FlushTlb() {
  tlb = 0;
#ifndef FLUSH_KEEPS_STORES
  if
  :: buffered -> Land()
  :: else
  fi
#endif
}

proctype Guest() {
end:
  do
  :: atomic { !tlb && (entry & W) -> tlb = 1 }
  :: atomic { tlb && !buffered -> buffered = 1 }
  :: atomic { buffered -> Land() }
  od
}

/* DirtyBitmap::Mark: fetch_or */
inline Mark(page) {
#ifdef MARK_NOT_RMW
  before = word;
  atomic { word = before | page; before = 0 }
#else
  word = word | page
#endif
}

/* Walker::SetBitsAt, with no lock: a compare-exchange in guest memory, and the mark. */
proctype Walker() {
  byte before;
end:
  do
  :: SHARED ->
#ifdef MARK_BEFORE_STORE
     Mark(T);
     unsaved = unsaved | T
#else
     atomic { unsaved = unsaved | T; telling = 1 };
     Mark(T);
     telling = 0
#endif
  od
}

/* ---- vCPUs: 0 has fast faults only, 1 has others, too ---- */

proctype Vcpu(bit me) {
  bit found, takes_away;
  byte bits, leaf, before;

guest:
end:
  if
     /* FastFault: FindLeaf; log_protected */
  :: atomic {
       SHARED && (entry & L) ->
#ifndef FAST_WITHOUT_LOCK
       readers++;
       in_fault[me] = 1;
#endif
       found = made
     }
  :: atomic { me == 1 && SHARED -> readers++; in_fault[me] = 1; goto slow }
  fi;
#ifdef FOUND_IN_ANOTHER_HOLD
  readers--;
  atomic { SHARED -> readers++ };
#endif
#if !defined(MARK_OUTSIDE_LOCK) && !defined(MARK_AFTER_LIFT)
  Mark(X);
#endif
  /* LiftLogProtection */
  bits = entry;
  do
  :: bits & L ->
     atomic {
       if
#ifndef LIFT_IS_A_STORE
       :: entry != bits ->
#ifdef NOT_READ_AGAIN
          skip
#else
          bits = entry
#endif
       :: else ->
#else
       :: true ->
#endif
          entry = (bits & ~L) | W;
          bits = entry;
          assert(made == found);
          AssertEntry()
       fi
     }
  :: !(bits & L) -> break
  od;
#ifdef MARK_AFTER_LIFT
  Mark(X);
#endif
#ifdef MARK_OUTSIDE_LOCK
  readers--;
  Mark(X);
  readers++;
#endif
  goto out;

slow: /* Mapper::SetTarget */
  if
  :: tracked -> leaf = 0
  :: atomic { !tracked && (word & X) -> leaf = W }; Mark(X)
  :: !tracked -> leaf = W; Mark(X) /* a write */
  :: atomic { !tracked && !(word & X) -> leaf = L }
  fi;
  /* SetLeaf: IsTracked, in the lock of the list */
  atomic {
    !list_lock -> list_lock = 1;
    if
#ifdef SET_LEAF_ASKS_OF_WRITABLE
    :: leaf == W && tracked -> leaf = 0
#else
    :: leaf && tracked -> leaf = 0
#endif
    :: else
    fi
  };
  atomic {
    bits = entry;
    takes_away = (bits & W) && leaf != W;
    if
    :: !(bits & P) -> entry = P | leaf; made = 1 - made; AssertEntry(); goto set
    :: else
    fi
  };
  /* ChangeInPlace */
  do
  :: takes_away -> break /* kNeedsExclusive */
  :: atomic {
       !takes_away ->
       if
       :: entry == bits -> entry = P | leaf; AssertEntry(); break
       :: else ->
          bits = entry;
#ifndef IN_PLACE_LOOKS_ONCE
          takes_away = (bits & W) && leaf != W
#endif
       fi
     }
  od;
set:
  list_lock = 0;
out:
  atomic {
#ifdef FAST_WITHOUT_LOCK
    if
    :: in_fault[me] -> readers--
    :: else
    fi;
#else
    readers--;
#endif
    in_fault[me] = 0;
    found = 0;
    takes_away = 0;
    bits = 0;
    leaf = 0
  };
  goto guest
}

/* ---- A vCPU that shadows the table in X ---- */

proctype Tracker() {
  byte old;
  bit owed;

end:
  do
  :: atomic { SHARED && !tracked -> readers++ };
     /* TrackTable */
     atomic { !list_lock -> tracked = 1 };
     /* WriteProtectGfn: LockedList; WriteProtect */
     atomic {
       !list_lock -> list_lock = 1;
#ifdef TRACKING_SKIPS_THE_PROTECTED
       old = entry & W
#else
       old = entry & (W | L)
#endif
     };
     if
     :: old ->
        atomic {
#ifndef OWES_BY_FIRST_LOOK
          old = entry;
#endif
#ifdef TRACKING_KEEPS_THE_BIT
          entry = entry & ~W;
#else
          entry = entry & ~(W | L);
#endif
          owed = old & W;
          old = 0
        }
     :: else
     fi;
     list_lock = 0;
     /* FlushObligation::Pay; LinkTable */
     atomic {
#ifndef NO_FLUSH_FOR_TRACKING
       if
       :: owed -> FlushTlb()
       :: else
       fi;
#endif
       owed = 0;
       in_use = 1;
       readers--;
       AssertEntry()
     }
     /* UnmakePage: UntrackTable */
  :: atomic { ALONE && in_use -> in_use = 0; tracked = 0 }
  od
}

/* ---- The dirty log is got ---- */

inline Protect() {
  if
  :: (taken & X) && (entry & W) -> entry = entry ^ (W | L); owed = 1
  :: else
  fi
}

inline Take() {
  taken = word;
  word = 0;
  assert(!(unsaved & X) || (taken & X));
  assert(!(unsaved & T) || (taken & T) || telling)
}

#ifdef HARVEST_SHARED
inline Lock() { atomic { SHARED -> readers++ } }
inline Unlock() { readers-- }
#else
inline Lock() { closed = 1; readers == 0 }
inline Unlock() { closed = 0 }
#endif

/* GetAndClearDirty: TakeBits, LogProtect */
proctype Harvester() {
  byte taken;
  bit owed;
end:
  do
  :: harvesting = 1;
     Lock();
#ifdef PROTECT_BEFORE_TAKE
     atomic { taken = word; Protect() };
     atomic { if :: owed -> FlushTlb(); owed = 0 :: else fi };
     Unlock();
     Lock();
     atomic { Take() };
#else
     atomic { Take() };
     atomic { Protect() };
#ifdef NO_FLUSH_FOR_LOG
     owed = 0;
#endif
     /* Pay */
     atomic {
       if
       :: owed -> FlushTlb(); owed = 0
       :: else
       fi
     };
#endif
     Unlock();
     /* The caller copies what it was told of. */
     atomic { unsaved = unsaved & ~taken; taken = 0; harvesting = 0 }
  od
}

/* ---- One who zaps: DropEntry, and its flush ---- */

proctype Zapper() {
end:
  do
  :: atomic { ALONE && (entry & P) -> entry = 0; FlushTlb() }
  od
}

init {
  atomic {
#ifndef CHECK_PROGRESS
    run Guest();
    run Walker();
#endif
    run Vcpu(0);
    run Vcpu(1);
    run Tracker();
    run Harvester();
    run Zapper()
  }
}

ltl progress {
  ([] <> !in_fault[0]) && ([] <> !in_fault[1]) && ([] <> !harvesting)
}
