/*
 * A guest table in one gfn, X, is shadowed, twice, while two vCPUs map X writable,
 * each in its address space, and while CPUs in the guest write it.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/page_life.cc       LinkChild, FindOrMakePage; LinkedChild
 *   src/mmu/table_tracking.cc  TrackTable, WriteProtectEverywhere, IsTracked,
 *                              LoosenTable, TightenTable
 *   src/rmap/slot_rmaps.cc     SlotRmaps::Track, Tracked; LockedList
 *   src/mmu/spte_sweep.cc      WriteProtectGfn
 *   src/mmu/map.cc             Mapper: Run, StillThere, SetTarget, MakeUnsync
 *   src/mmu/spte_write.cc      SetLeaf, LinkTable
 *   src/mmu/sync.cc            TryUnsync, SyncPages
 *   src/mmu/unsync_marks.cc    SetUnsync, ClearUnsync
 *   src/mmu/slot_update.cc     CreateSlot
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. Memory is sequentially consistent but where a macro says so: what is looked at
 *     under no common lock (the counts, the slot table) is written by
 *     read-modify-writes, which on x86 leave nothing in a store buffer, and what is
 *     stored under a lock is there for who has the lock next. That a chunk was made
 *     is like that a slot was published: it is done by a read-modify-write, before
 *     anything is put on the chunk's lists.
 *  2. A flush is one step: enter_and_kick.pml has it as it is. All CPUs that run a
 *     guest have one TLB together, with what any of them has.
 *  3. One spte in each address space can map X; the lists of X are one for each
 *     space, with one lock. (Levels above 4K are mapped with structure_lock held.)
 *  4. The MMU lock: who syncs, unlinks or zaps has it exclusively, in one step, when
 *     no fault holds it shared: for all others it is as if it had been at the moment
 *     when it got the lock. shared_lock.pml has the lock as it is, and why whoever
 *     waits gets in. A fault that has to come back alone is over; what it would do
 *     then is among those steps, which happen at any time.
 *  5. The guest's table has one entry, which says one of two things; each shadow page
 *     has one spte made of it. The shadow pages are of two roles: one a page table,
 *     the other a page table, too, or of an upper level, which never goes unsync.
 *  6. A vCPU that flushes, with no lock, looks at the marks (RootOutOfStep): any may at
 *     any time, so what they say is asked whenever the guest has written X.
 *  7. One slot appears in the second space; none goes (slot_deletion.pml).
 *
 * WHAT IS CHECKED
 *
 *   safety    A page that is linked, and not unsync, is of a table that the guest
 *             cannot write: no spte and no TLB entry allows it. So when the guest has
 *             written X, every linked page of X is marked. What a linked page in step
 *             has is what the guest's entry says. A page of an upper level never goes
 *             unsync, and is linked only where no page of X is; nor is a page that is
 *             unsync. No count goes below zero.
 *   progress  With weak fairness, where each vCPU has one fault, and the others go on
 *             for ever: every fault ends. (An attempt that finds a changed table ends,
 *             too; the code makes 8 at most.) Who waits for structure_lock while
 *             others come again and again gets it when std::mutex lets it: that is
 *             not asked here.
 *
 * MEASURED: safety 6,324,465 states, 12 s; progress 1,444,949 states, 39 s (spin
 * 6.5.2, -O2, one core that others use, too; under 600 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the
 * named check then fails. tests/models/check reads this table.
 *
 *   COUNT_AFTER_PROTECT     safety    the counts are raised when the lists have been write-protected
 *   VM_COUNT_AFTER_PROTECT  safety    the VM's count is, the gfn's is raised before
 *   VM_COUNT_RELAXED        safety    raising the VM's count orders nothing: it may wait in the store buffer
 *   TABLE_BEFORE_COUNT      safety    the slot table is looked at first, and then the counts are raised
 *   CHECK_BEFORE_LIST_LOCK  safety    SetLeaf looks at the counts, and then locks the list
 *   NO_CHECK_IN_SET_LEAF    safety    it does not look: the mapper's own look before is all
 *   CHECK_OWN_SPACE_ONLY    safety    it looks at the counts of its own address space only
 *   MAP_WITHOUT_LIST_LOCK   safety    it adds to the list without its lock
 *   PROTECT_WITHOUT_LOCK    safety    who tracks reads a list without its lock
 *   PROTECT_OWN_SPACE_ONLY  safety    it write-protects in its own address space only
 *   NO_FLUSH                safety    it does not pay the flush
 *   FLUSH_AFTER_STRUCTURE   safety    it drops structure_lock, and then pays
 *   LINK_BEFORE_FLUSH       safety    it links, and then pays
 *   LINK_WITHOUT_LOOK       safety    it links what it found though that is unsync
 *   FIND_WITHOUT_LOCK       safety    it finds and makes pages without structure_lock
 *   NO_SECOND_READ          safety    the guest's entry is not read again after the flush
 *   READ_BEFORE_FLUSH       safety    it is, before the flush
 *   COUNT_BEFORE_MARK       safety    to make unsync, the count is lowered, and then the page marked: another mapper slips in
 *   UNSYNC_WITHOUT_LOCK     safety    pages are made unsync without structure_lock
 *   UPPER_GOES_UNSYNC       safety    one of an upper level is made unsync as others are
 *   UPPER_BESIDE_UNSYNC     safety    an upper level is made though a page of the table is unsync
 *   SHARED_TAKES_AWAY       safety    a fault that shares the lock write-protects what it finds, and owes its own flush only
 *   SYNC_WITHOUT_FLUSH      safety    a sync reads the table before its flush is paid
 *   STRUCTURE_KEPT          progress  a fault that gives up keeps structure_lock
 *
 * The raise of the gfn's own count may wait in the store buffer: it is done under the
 * lock of the list, and more locks are taken before the slot table is looked at. The
 * VM's count is raised under no lock.
 *
 * COUNT_BEFORE_MARK is what sync.cc did until this model found it: a second vCPU that
 * looks at the counts between the two steps maps X writable, and its guest writes it;
 * a third that flushes then finds no mark at its root, and syncs nothing.
 */

/* Address spaces: the tables are of slots in one; in the other a slot appears. */
#define OWN 0
#define NEW 1

#define ABSENT 0
#define READ_ONLY 1
#define WRITABLE 2

/* ---- Shadow pages of X, by role: page 1 may be of an upper level ---- */

bit upper;     /* page 1 is */
bit exists[2]; /* in the hash */
bit linked[2];
bit unsync[2]; /* and marked up to the roots */
bit leaf[2];   /* its spte is present, */
bit value[2];  /* made of this guest entry */

/* ---- Locks ---- */

byte readers;      /* of the MMU lock: faults */
bit structure;     /* structure_lock */
bit list_lock[2];  /* of the list of X, by space */

/* ---- Looked at under no common lock ---- */

byte vm_count;  /* Vm::shadowed_tables of OWN */
byte count;     /* SlotRmaps::Tracked of X */
bit slot;       /* there is a slot for X in NEW */

/* ---- What can write X ---- */

byte spte[2];   /* by space, one that maps X; on its list while it is present */
bit tlb;        /* some CPU has X writable */
bit entry;      /* the guest's, in X */

bit in_fault[4];

#define CAN_WRITE (spte[OWN] == WRITABLE || spte[NEW] == WRITABLE || tlb)
#define IS_UPPER(p) (upper && (p) == 1)
#define IN_USE(p) (linked[p] && (!unsync[p] || IS_UPPER(p)))

inline AssertInStep() {
  assert(!((IN_USE(0) || IN_USE(1)) && CAN_WRITE));
  assert(!(IN_USE(0) && leaf[0] && value[0] != entry));
  assert(!(IN_USE(1) && leaf[1] && value[1] != entry))
}

inline Protect(space) {
  if
  :: spte[space] == WRITABLE -> spte[space] = READ_ONLY; owed = 1
  :: else
  fi
}

/* ---- CPUs in the guest ---- */

proctype Guest() {
end:
  do
  :: atomic { !tlb && (spte[OWN] == WRITABLE || spte[NEW] == WRITABLE) -> tlb = 1 }
  :: atomic { tlb -> entry = 1 - entry; AssertInStep() }
  od
}

/* ---- vCPUs that shadow X: `me` is their page, and the number of their CPU ---- */

#ifdef VM_COUNT_RELAXED
chan buffer[2] = [1] of { bit };
#define DRAINED(cpu) empty(buffer[cpu])
proctype StoreBuffer(bit cpu) {
end:
  do
  :: atomic { buffer[cpu] ? _ -> vm_count++ }
  od
}
#else
#define DRAINED(cpu) true
#endif

/* SlotRmaps::Track: under the lock of the list, which is free again */
inline RaiseCount() {
  atomic { DRAINED(me) && !list_lock[OWN] -> count++ }
}

inline RaiseVmCount() {
#ifdef VM_COUNT_RELAXED
  buffer[me] ! 1
#else
  vm_count++
#endif
}

/* WriteProtectGfn, of one list; it is one step, with the list's lock taken for it. */
#ifdef PROTECT_WITHOUT_LOCK
inline ProtectList(space) { atomic { Protect(space) } }
#else
inline ProtectList(space) {
  atomic { DRAINED(me) && !list_lock[space] -> Protect(space) }
}
#endif

/* WriteProtectEverywhere. The space that is looked at first is the one where a slot
   may appear: that is the harder case, as no lock is taken before. */
inline ProtectEverywhere() {
#ifndef PROTECT_OWN_SPACE_ONLY
#ifndef TABLE_BEFORE_COUNT
  seen = slot;
#endif
  if
  :: seen -> seen = 0; ProtectList(NEW)
  :: else
  fi;
#endif
  ProtectList(OWN)
}

inline TrackTable() {
#ifdef TABLE_BEFORE_COUNT
  seen = slot;
#endif
#if defined(COUNT_AFTER_PROTECT)
  ProtectEverywhere();
  RaiseCount();
  RaiseVmCount()
#elif defined(VM_COUNT_AFTER_PROTECT)
  RaiseCount();
  ProtectEverywhere();
  RaiseVmCount()
#else
  RaiseCount();
  RaiseVmCount();
  ProtectEverywhere()
#endif
}

/* FlushObligation::Pay */
inline Pay() {
#ifdef NO_FLUSH
  owed = 0
#else
  atomic {
    DRAINED(me) ->
    if
    :: owed -> tlb = 0; owed = 0
    :: else
    fi
  }
#endif
}

#ifdef FIND_WITHOUT_LOCK
inline LockStructure() { skip }
inline UnlockStructure() { skip }
#else
inline LockStructure() { DRAINED(me) && !structure -> structure = 1 }
inline UnlockStructure() { structure = 0 }
#endif

#ifdef CHECK_PROGRESS
#define FAULTS_LEFT (faults < 1)
#define NextFault() faults++
#else
#define FAULTS_LEFT true
#define NextFault() skip
#endif

proctype Shadower(bit me) {
  bit walked, seen, owed;
  byte faults;

guest:
end:
  atomic {
    FAULTS_LEFT && !(linked[me] && leaf[me]) ->
    NextFault();
    in_fault[me] = 1;
    walked = entry /* WalkGuest, with no lock */
  };
  /* SharedVmLock; Mapper::Run; EnsureChild: LinkedChild */
  atomic {
    readers++;
    if
    :: linked[me] -> goto again
    :: else
    fi
  };
  /* LinkChild */
  atomic {
    LockStructure();
    if
    :: linked[me] -> goto unlock
    :: else
    fi;
    /* FindOrMakePage */
#ifndef LINK_WITHOUT_LOOK
    if
    :: exists[me] && unsync[me] -> goto give_up /* kNil: come back alone */
    :: else
    fi;
#endif
#ifndef UPPER_BESIDE_UNSYNC
    if
    :: !exists[me] && me == 1 && upper && unsync[0] -> goto give_up
    :: else
    fi;
#endif
    if
    :: exists[me] -> goto link
    :: else -> exists[me] = 1
    fi
  };
  TrackTable();
#if defined(READ_BEFORE_FLUSH)
  if
  :: walked != entry -> walked = entry
  :: else
  fi;
#endif
#if defined(FLUSH_AFTER_STRUCTURE)
  UnlockStructure();
  Pay();
  atomic { LockStructure() };
#elif !defined(LINK_BEFORE_FLUSH)
  Pay();
#endif
link:
  /* LinkTable: rule 2 of unsync_marks.h, a CHECK, and rule 1 of sync.h */
#ifdef LINK_BEFORE_FLUSH
  linked[me] = 1;
  Pay();
#else
  atomic {
    assert(!unsync[me] && !(IS_UPPER(me) && unsync[0]));
    linked[me] = 1;
    AssertInStep();
    UnlockStructure();
    goto again
  };
#endif
unlock:
  UnlockStructure();

  /* Mapper::StillThere: the entry is read again. */
again:
#if !defined(NO_SECOND_READ) && !defined(READ_BEFORE_FLUSH)
  if
  :: walked != entry -> goto out /* kStale */
  :: else
  fi;
#endif
  atomic {
    leaf[me] = 1;
    value[me] = walked;
    AssertInStep();
    goto out
  };

give_up:
#ifndef STRUCTURE_KEPT
  UnlockStructure();
#endif
out:
  atomic {
    readers--;
    walked = 0;
    in_fault[me] = 0
  };
  goto guest
}

/* ---- vCPUs that map X writable: each in a space of its own ---- */

/* IsTracked, from one load to the next. */
inline LookWhetherTracked() {
#ifdef CHECK_OWN_SPACE_ONLY
  if
  :: space == OWN -> tracked = (vm_count != 0)
  :: else -> tracked = 0
  fi;
#else
  tracked = (vm_count != 0);
#endif
  if
  :: tracked -> tracked = (count != 0)
  :: else
  fi
}

inline Mark(p) { unsync[p] = 1 }
inline Loosen(p) { atomic { assert(count != 0); count-- } }

inline UnsyncPage(p) {
  if
  :: !tracked && exists[p] && !unsync[p] ->
#ifdef COUNT_BEFORE_MARK
     Loosen(p);
     Mark(p)
#else
     Mark(p);
     Loosen(p)
#endif
  :: else
  fi
}

proctype Mapper(bit space) {
  bit tracked;
  byte faults;

guest:
end:
#ifdef SHARED_TAKES_AWAY
  if
  :: atomic { spte[space] == WRITABLE -> readers++ };
     atomic { !list_lock[space] -> spte[space] = READ_ONLY };
     atomic { tlb = 0; readers-- };
     goto guest
  :: spte[space] != WRITABLE
  fi;
#endif
  atomic {
    FAULTS_LEFT && spte[space] != WRITABLE && (space == OWN || slot) ->
    NextFault();
    in_fault[2 + space] = 1;
    readers++ /* SharedVmLock */
  };
  /* Mapper::SetTarget. That it finds nothing tracked is no more than a hint. */
  if
  :: vm_count == 0 || count == 0
  :: vm_count != 0 && count != 0 ->
     /* MakeUnsync: TryUnsync */
     atomic {
#ifndef UNSYNC_WITHOUT_LOCK
       !structure -> structure = 1;
#endif
#ifdef UPPER_GOES_UNSYNC
       tracked = 0
#else
       tracked = (upper && exists[1])
#endif
     };
     UnsyncPage(0);
     UnsyncPage(1);
#ifndef UNSYNC_WITHOUT_LOCK
     structure = 0
#else
     skip
#endif
  fi;
  /* SetLeaf */
#if defined(NO_CHECK_IN_SET_LEAF)
  atomic { !list_lock[space] -> list_lock[space] = 1 };
#elif defined(CHECK_BEFORE_LIST_LOCK)
  if
  :: !tracked -> LookWhetherTracked()
  :: else
  fi;
  atomic { !list_lock[space] -> list_lock[space] = 1 };
#else
#ifndef MAP_WITHOUT_LIST_LOCK
  atomic { !list_lock[space] -> list_lock[space] = 1 };
#endif
  if
  :: !tracked -> LookWhetherTracked()
  :: else
  fi;
#endif
  atomic {
    if
    :: tracked -> spte[space] = READ_ONLY /* the write is emulated */
    :: else -> spte[space] = WRITABLE
    fi;
    AssertInStep();
    tracked = 0;
    list_lock[space] = 0;
    readers--;
    in_fault[2 + space] = 0
  };
  goto guest
}

/* ---- Those who hold the MMU lock exclusively ---- */

/* SyncPages */
inline Sync(p) {
  count++; /* TightenTable */
  Protect(OWN);
  Protect(NEW);
#ifndef SYNC_WITHOUT_FLUSH
  tlb = 0;
#endif
  owed = 0;
  if
  :: leaf[p] && value[p] != entry -> leaf[p] = 0; value[p] = 0
  :: else
  fi;
  unsync[p] = 0
}

/* UnmakePage: UntrackTable, or ForgetTable */
inline Zap(p) {
  if
  :: unsync[p]
  :: else -> assert(count != 0); count--
  fi;
  assert(vm_count != 0);
  vm_count--;
  exists[p] = 0;
  linked[p] = 0;
  unsync[p] = 0;
  leaf[p] = 0;
  value[p] = 0
}

proctype Alone() {
  bit owed;
end:
  do
  :: atomic { readers == 0 && unsync[0] -> Sync(0); AssertInStep() }
  :: atomic { readers == 0 && unsync[1] -> Sync(1); AssertInStep() }
  :: atomic { readers == 0 && linked[0] -> linked[0] = 0 }
  :: atomic { readers == 0 && linked[1] -> linked[1] = 0 }
  :: atomic { readers == 0 && exists[0] -> Zap(0) }
  :: atomic { readers == 0 && exists[1] -> Zap(1) }
     /* WritePart: the guest's store is emulated, and what was made of the entry goes. */
  :: atomic {
       readers == 0 ->
       entry = 1 - entry;
       leaf[0] = 0; value[0] = 0;
       leaf[1] = 0; value[1] = 0
     }
     /* A notifier takes the page away. */
  :: atomic {
       readers == 0 && (spte[OWN] != ABSENT || spte[NEW] != ABSENT) ->
       spte[OWN] = ABSENT;
       spte[NEW] = ABSENT;
       tlb = 0
     }
  od
}

/* CreateSlot: Publish */
proctype Creator() { slot = 1 }

init {
  atomic {
    if
    :: upper = 1
    :: upper = 0
    fi;
#ifdef VM_COUNT_RELAXED
    run StoreBuffer(0);
    run StoreBuffer(1);
#endif
    run Guest();
    run Shadower(0);
    run Shadower(1);
    run Mapper(OWN);
    run Mapper(NEW);
    run Alone();
    run Creator()
  }
}

ltl progress { <> [] (!in_fault[0] && !in_fault[1] && !in_fault[2] && !in_fault[3]) }
