/*
 * Release: the arena of shadow pages is reset in place, while vCPUs enter the guest,
 * store through what they have mapped, leave, fault beside each other and look at their
 * root with no lock, and while a notifier takes the memory away that they store to; on
 * CPUs with store buffers.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/release.cc        Release, ForbidEntry, AwaitOutside, ResetPages
 *   src/mmu/flush.cc          Request, RequestAll
 *   src/mmu/vcpu_state.h      LocklessWalk, RootHandle
 *   src/mmu/vcpu_mmu.cc       VcpuMmu::EnterGuest, VcpuMmu::ExitGuest
 *   src/mmu/roots.cc          NoteRootFlushed, RootUsable, LetGo, LoadRoot, MakeRoot
 *   src/mmu/table_arena.cc    TableArena::Take, TableArena::Reset
 *   src/mmu/fault.cc          Attempt: Stale, MapBesideOthers; MakeRoomShared
 *   src/rmap/slot_rmaps.{h,cc}  Refresh, MakeFresh, PeekChunk, CountAdded, Walk
 *   src/mmu/notifier.cc       BeginInvalidation
 *   src/mmu/invalidate.cc     Bump
 *
 * THE MEMORY
 *
 * x86-TSO, as in enter_and_kick.pml: a store goes into its CPU's buffer, which drains
 * at any time, in order; a read-modify-write, and a seq_cst store, is over when it is
 * empty. A guest's store to its memory is in the buffer of its vCPU's CPU, before what
 * the vCPU's thread stores after it. Locks are handed over with their holder's stores
 * done. No CPU loads a word that it has in its buffer, but by a read-modify-write.
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. A vCPU has one root, whose one entry maps its one gfn; it is in a chunk of its
 *     own of the one slot. So the lock of a chunk is its vCPU's own here (that two who
 *     map in one chunk need it is in slot_deletion.pml), and each vCPU looks at the
 *     other's chunk without it. Both gfns are of the host page that the notifier takes
 *     away, for good: what is mapped after its end is in slot_deletion.pml. `content`
 *     stands for what a chunk holds and is read with no lock of a list: which epoch's
 *     it is.
 *  2. A fault's walk, and its look at the blocked range, are not before the lock: what
 *     the order of its looks is for is in slot_deletion.pml. It gives up after one
 *     attempt, and goes on to the entry; if it was told to come back alone it would look
 *     again, as in any attempt.
 *  3. The MMU lock: as in slot_deletion.pml, two steps for who wants it alone. What is
 *     done with it held alone, and is looked at with it held only, is one step.
 *  4. A flush empties the TLBs at once, and is over when the stores that used them are
 *     seen: enter_and_kick.pml and host.h. (A release asks for none itself.)
 *  5. A guest's flush looks at the root's header (NoteRootFlushed), and that is all here:
 *     what it asks for afterwards only flushes more.
 *  6. The hash, active list, pools, and number of pages are reset with the lock held
 *     alone, and used with it: tests/mutations has what becomes of each that is not.
 *     A vCPU's reserve is here, since its thread fills it with the lock shared.
 *     Previous roots are handles as the current one is, and judged by the same two
 *     functions.
 *  7. Two vCPUs, one release, one notifier; or one vCPU, and a bump before the release.
 *     vCPU 0 may fail to load a root at its entry. Where progress is checked: two vCPUs
 *     and a release.
 *
 * WHAT IS CHECKED
 *
 *   safety    When begin has returned, no store of a guest reaches the page. The
 *             notifier finds every entry of a table that is in use, and nothing else. No
 *             CPU in the guest walks, and no lockless look reads, a table that is taken
 *             anew; no vCPU enters with anything cached of an older generation. A header
 *             is looked at, counted down or mapped under only by a handle of its epoch,
 *             and mapped under only in its generation. Who finds the new tag of a chunk
 *             finds its content reset; the slot's counts count what was added since.
 *             No descriptor of before is used. No deadlock.
 *   progress  With weak fairness, a guest that never leaves of its own accord included:
 *             the release ends, and a vCPU is in the guest afterwards on a new root.
 *             (The vCPUs are the same: that it holds for one says it for both.)
 *
 * MEASURED: safety 883,713 states, 2 s; progress 60,733 states, 2 s (spin 6.5.2, -O2, of
 * one core; under 300 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the named
 * check then fails. tests/models/check reads this table.
 *
 *   WAIT_FOR_NOBODY              safety    the release does not wait
 *   WAIT_WITHOUT_LOCK            safety    it raises the counters, drops the lock, and waits then
 *   WAIT_FOR_THE_GUEST_ONLY      safety    it does not wait for who looks with no lock
 *   WAIT_FOR_THE_CPU             safety    it waits until the CPU is out, and looks at no mode = in guest
 *   OUTSIDE_OVERTAKES            safety    mode = outside is seen before what the guest has stored
 *   MODE_STORE_RELAXED           safety    mode = in guest is a plain store, which may wait in the buffer
 *   LOCKLESS_STORE_RELAXED       safety    so is mode = lockless walk
 *   SECOND_LOOK_BEFORE_MODE      safety    the vCPU loads requests again, and then stores mode
 *   LOCKLESS_LOOKS_FIRST         safety    so does who looks with no lock
 *   REFUSED_LOOK_READS           safety    who looks reads though a reload is requested
 *   REQUEST_RELAXED              safety    the or of a request orders nothing: it may wait in the buffer
 *   LOOK_AT_MODE_BEFORE_REQUEST  safety    the release loads mode, and then ors the request in
 *   NO_RELOAD_REQUEST            safety    it kicks, and requests nothing
 *   NO_KICK                      progress  it requests, and kicks nobody
 *   EXIT_TAKES_LOCK              safety    a vCPU takes the MMU lock before it is out of the guest
 *   FAILED_LOAD_FORGETS          safety    no root can be had, and the request that was taken is not left again
 *   NEW_ROOT_WITHOUT_FLUSH       safety    a new root asks for no flush
 *   NO_ROOT_CHECK                safety    a root is judged neither by epoch nor by generation
 *   NO_GENERATION_CHECK          safety    it is judged by its epoch alone
 *   LET_GO_OF_STALE              safety    a root is counted down whatever its epoch
 *   KEEPS_EPOCH                  safety    the release raises the generation only
 *   KEEPS_RESERVES               safety    what a vCPU has in reserve stays
 *   TABLE_NOT_CLEARED            safety    a table is taken anew with its entries
 *   TAG_IS_GENERATION            safety    chunks are tagged with the generation
 *   TAG_BEFORE_RESET             safety    a chunk's tag is stored, and then its content reset
 *   TAG_READ_LAST                safety    who looks at a chunk loads its content, and then the tag
 *   COUNTS_TAG_FIRST             safety    the slot's counts are tagged, and then reset
 *   NO_SECOND_LOOK_AT_COUNTS     safety    who waited for their lock resets them again
 *
 * TSO keeps stores in order, and loads: a tag that is stored, or loaded, with no order is
 * what a compiler makes of it, and so TAG_BEFORE_RESET, or TAG_READ_LAST.
 *
 * Some things are stronger than these properties need. The counters may be raised, and
 * the arena reset, before the wait, as long as that is in one hold of the lock
 * (RAISE_FIRST: both checks still pass): who judges by them holds it. A release raises
 * both counters, so its stale roots show by either (NO_EPOCH_CHECK: passes); the
 * generation it need not raise, then (KEEPS_GENERATION: passes). The stores of mode =
 * outside may wait in the buffer (OUTSIDE_RELAXED: passes): the guest's stores are
 * before them there.
 */

#define BIT(i) (1 << (i))

#define OUTSIDE 0
#define IN_GUEST 1
#define LOCKLESS 2 /* VcpuMode::kLocklessWalk */

#define RELOAD 1 /* request::kReloadRoot */
#define FLUSH 2  /* request::kFlushTlb */

/* Arena epochs are FIRST, and LAST after the release. So are generations, where no
   bump comes before it. */
#define FIRST 1
#define LAST 2

/* ---- Memory, and the store buffers before it ---- */

byte mode[2];
byte requests[2];
/* By chunk, of which each vCPU has one. */
byte content[2] = FIRST; /* of which epoch is what it holds */
byte tag[2] = FIRST;     /* RmapChunk::epoch */
/* Of the slot. */
byte populated = 2;          /* SlotRmaps::populated_ */
byte counts_epoch = FIRST;   /* SlotRmaps::counts_epoch_ */

bit page_freed; /* the host page behind both gfns is somebody else's */

/* CPUs 0 and 1 run the vCPUs, CPU 2 who releases. (The notifier's stores are done when
   it drops the lock.) */
#define RELEASER 2

#define WORD_MODE 0      /* + vCPU: mode[vCPU] = value */
#define WORD_OR 2        /* + vCPU: requests[vCPU] |= value */
#define WORD_CONTENT 4   /* + chunk: content[chunk] = value */
#define WORD_TAG 6       /* + chunk: tag[chunk] = value */
#define WORD_POPULATED 8 /* populated = value */
#define WORD_COUNTS_EPOCH 9
#define WORD_PAGE 10     /* a guest's store to the host page */

chan buffer[3] = [2] of { byte, byte };

#define DRAINED(cpu) empty(buffer[cpu])

proctype StoreBuffer(byte cpu) {
  byte word, value;
end:
  do
  :: atomic {
       buffer[cpu] ? word, value;
       if
       :: word == WORD_PAGE -> assert(!page_freed)
       :: word == WORD_COUNTS_EPOCH -> counts_epoch = value
       :: word == WORD_POPULATED -> populated = value
       :: word >= WORD_TAG && word < WORD_POPULATED -> tag[word - WORD_TAG] = value
       :: word >= WORD_CONTENT && word < WORD_TAG -> content[word - WORD_CONTENT] = value
       :: word >= WORD_OR && word < WORD_CONTENT ->
          requests[word - WORD_OR] = requests[word - WORD_OR] | value
       :: word < WORD_OR -> mode[word - WORD_MODE] = value
       fi;
       word = 0;
       value = 0
     }
  od
}

/* ---- The MMU lock, and what it guards ---- */

bit writer;   /* held exclusively, or about to be */
byte readers; /* who holds it shared */

byte epoch = FIRST;
byte generation = FIRST;

/* The arena. A table is a root, and has one entry, which maps its vCPU's gfn. */
#define TABLES 4
byte next_fresh;          /* tables below it are taken */
byte page_epoch[TABLES];  /* the header: in which epoch it was taken, */
byte page_roots[TABLES];  /* and root_count */
byte entries;             /* by bit: the table's entry is there, and maps the host page */

/* By chunk, under its lock: by bit, the tables whose entries are on the list. */
byte rmap[2];
bit counts_lock;       /* SlotRmaps::counts_lock_ */
bit blocked;           /* GuestMemory::Blocks: of the host page */

/* RootHandle: a page, and of what epoch and generation. */
byte root[2];
byte root_epoch[2];
byte root_generation[2];
byte reserve[2];       /* Writer::reserve: the epoch of what is in it; 0: it is empty */

/* ---- The CPUs and the Host ---- */

byte cached[2];   /* the generation of the entry that the CPU has cached, or 0 */
bit running[2];   /* the CPU really runs the guest */
bit kicked[2];    /* a kick is on its way, or waits for the entry */
bit looking[2];   /* reads the header of its root with no lock */
bit done;         /* the release is over */
bit bumps;        /* a bump comes first */

#define MAY_SHARE (DRAINED(me) && !writer)

/* Who waits for those inside keeps others out. */
inline LockAlone() {
  atomic { MAY_SHARE -> writer = 1 };
  readers == 0
}

/* ---- What may be done to a header of a shadow page ---- */

inline AssertUnused(v, table) {
  assert(!(running[v] && root[v] == table)); /* a CPU walks it */
  assert(!(looking[v] && root[v] == table)) /* reads its header */
}

/* A look at the header that `root[me]` names, or a change of it. */
inline AssertMine() { assert(page_epoch[root[me]] == root_epoch[me]) }

/* ---- A vCPU's thread, and its CPU ---- */

/* mode.store(value, seq_cst) */
inline StoreMode(value) { atomic { DRAINED(me) -> mode[me] = value } }

inline StoreModeInGuest() {
#ifdef MODE_STORE_RELAXED
  buffer[me] ! WORD_MODE + me, IN_GUEST
#else
  StoreMode(IN_GUEST)
#endif
}

inline StoreModeLockless() {
#ifdef LOCKLESS_STORE_RELAXED
  buffer[me] ! WORD_MODE + me, LOCKLESS
#else
  StoreMode(LOCKLESS)
#endif
}

inline StoreModeOutside() {
#if defined(OUTSIDE_RELAXED)
  buffer[me] ! WORD_MODE + me, OUTSIDE
#elif defined(OUTSIDE_OVERTAKES)
  mode[me] = OUTSIDE
#else
  StoreMode(OUTSIDE)
#endif
}

/* RootUsable */
#if defined(NO_EPOCH_CHECK) || defined(NO_ROOT_CHECK)
#define OF_THIS_EPOCH 1
#else
#define OF_THIS_EPOCH (root_epoch[me] == epoch)
#endif
#if defined(NO_GENERATION_CHECK) || defined(NO_ROOT_CHECK)
#define OF_THIS_GENERATION 1
#else
#define OF_THIS_GENERATION (root_generation[me] == generation)
#endif
#define ROOT_USABLE (OF_THIS_EPOCH && OF_THIS_GENERATION)

/* LetGo, and MakeRoot. With the MMU lock alone, in an atomic. */
inline NewRoot() {
  if
#ifdef LET_GO_OF_STALE
  :: true ->
#else
  :: root_epoch[me] == epoch ->
#endif
     AssertMine();
     assert(page_roots[root[me]] > 0);
     page_roots[root[me]]--
#ifndef LET_GO_OF_STALE
  :: else /* of another epoch: forgotten */
#endif
  fi;
  /* TableArena::Take, and a new header */
  root[me] = next_fresh;
  next_fresh++;
  AssertUnused(1 - me, root[me]);
#ifndef TABLE_NOT_CLEARED
  entries = entries & ~BIT(root[me]);
#endif
  page_epoch[root[me]] = epoch;
  page_roots[root[me]] = 1;
  root_epoch[me] = epoch;
  root_generation[me] = generation;
#ifndef NEW_ROOT_WITHOUT_FLUSH
  requests[me] = requests[me] | FLUSH
#endif
}

inline LoadRoot() {
  if
  :: atomic { MAY_SHARE && ROOT_USABLE } /* AllRootsUsable */
  :: atomic { MAY_SHARE && !(ROOT_USABLE) -> writer = 1 };
     atomic { readers == 0 -> NewRoot(); writer = 0 }
  fi
}

/* NoteRootFlushed: class LocklessWalk */
inline Look() {
#ifdef LOCKLESS_LOOKS_FIRST
  more = requests[me] & RELOAD;
#endif
  StoreModeLockless();
#ifndef LOCKLESS_LOOKS_FIRST
  more = requests[me] & RELOAD; /* requests.load(seq_cst) */
#endif
  if
#ifdef REFUSED_LOOK_READS
  :: true ->
#else
  :: !more ->
#endif
     atomic { AssertMine(); looking[me] = 1 };
     looking[me] = 0
#ifndef REFUSED_LOOK_READS
  :: else
#endif
  fi;
  atomic { buffer[me] ! WORD_MODE + me, OUTSIDE; more = 0 } /* release */
}

/* SlotRmaps::MakeFresh */
inline MakeFresh() {
  if
  :: counts_epoch == epoch
  :: counts_epoch != epoch ->
     atomic { !counts_lock -> counts_lock = 1 };
     if
#ifndef NO_SECOND_LOOK_AT_COUNTS
     :: counts_epoch == epoch
     :: counts_epoch != epoch ->
#else
     :: true ->
#endif
#ifdef COUNTS_TAG_FIRST
        buffer[me] ! WORD_COUNTS_EPOCH, epoch;
        buffer[me] ! WORD_POPULATED, 0
#else
        buffer[me] ! WORD_POPULATED, 0;
        buffer[me] ! WORD_COUNTS_EPOCH, epoch
#endif
     fi;
     atomic { DRAINED(me) -> counts_lock = 0 }
  fi
}

/* What chunks are tagged with */
#ifdef TAG_IS_GENERATION
#define TAG_NOW generation
#else
#define TAG_NOW epoch
#endif

/* SlotRmaps::Refresh, under the lock of the chunk */
inline Refresh() {
  MakeFresh();
#ifdef TAG_BEFORE_RESET
  buffer[me] ! WORD_TAG + me, TAG_NOW;
  buffer[me] ! WORD_CONTENT + me, epoch;
#else
  buffer[me] ! WORD_CONTENT + me, epoch;
  buffer[me] ! WORD_TAG + me, TAG_NOW;
#endif
  rmap[me] = 0
}

/* SlotRmaps::Tracked of a gfn of the other chunk, with no lock of a list */
inline Peek() {
#ifdef TAG_READ_LAST
  old = content[1 - me];
  atomic {
    assert(tag[1 - me] != TAG_NOW || old == epoch);
    old = 0
  }
#else
  more = (tag[1 - me] == TAG_NOW);
  atomic {
    assert(!more || content[1 - me] == epoch);
    more = 0
  }
#endif
}

/* MapBesideOthers: MakeRoomShared, Stale, Map */
inline Fault() {
  atomic {
    MAY_SHARE ->
    readers++;
    if
    :: reserve[me] == 0 -> reserve[me] = epoch
    :: else
    fi;
    stale = !(ROOT_USABLE) || blocked
  };
  if
  :: !stale ->
     Peek();
     /* The list's lock is this vCPU's own. */
     if
     :: tag[me] != TAG_NOW -> Refresh()
     :: tag[me] == TAG_NOW
     fi;
     /* SetLeaf, CountAdded */
     atomic {
       DRAINED(me) ->
       AssertMine();
       assert(root_generation[me] == generation);
       if
       :: !(entries & BIT(root[me])) ->
          assert(reserve[me] == epoch); /* a descriptor that is the pool's again */
          entries = entries | BIT(root[me]);
          populated = populated + (rmap[me] == 0);
          rmap[me] = rmap[me] | BIT(root[me])
       :: else
       fi
     }
  :: stale
  fi;
  atomic { DRAINED(me) -> readers-- };
  if
  :: atomic { stale -> stale = 0 };
     LoadRoot() /* of the next attempt */
  :: !stale
  fi
}

proctype Vcpu(byte me) {
  byte due, old;
  bit more, stale, stored;

outside:
  if
  :: Look()
  :: Fault()
  :: skip
  fi;
  /* VcpuMmu::EnterGuest */
  do
  :: /* requests.exchange(0, seq_cst) */
     atomic { DRAINED(me) -> due = requests[me]; requests[me] = 0 };
     if
     :: due & RELOAD -> LoadRoot()
#ifndef CHECK_PROGRESS
     :: atomic { /* LoadRoot fails: there is no memory, or no slot */
          me == 0 && due & RELOAD && DRAINED(me) ->
#ifndef FAILED_LOAD_FORGETS
          requests[me] = requests[me] | due;
#endif
          due = 0;
          goto outside
        }
#endif
     :: else
     fi;
     /* take(kFlushTlb), and host.FlushTlb of oneself, who is out of the guest */
     atomic {
       DRAINED(me) ->
       if
       :: due & RELOAD -> due = due | requests[me]; requests[me] = requests[me] & ~FLUSH
       :: else
       fi;
       if
       :: due & FLUSH -> cached[me] = 0
       :: else
       fi;
       due = 0
     };
#ifdef SECOND_LOOK_BEFORE_MODE
     more = (requests[me] != 0);
#endif
     StoreModeInGuest();
     /* requests.load(seq_cst) */
     atomic {
#ifndef SECOND_LOOK_BEFORE_MODE
       more = (requests[me] != 0);
#endif
       if
       :: !more -> break
       :: more -> more = 0
       fi
     };
     StoreMode(OUTSIDE)
  od;

  /* kResume: the hypervisor's entry */
  atomic {
    running[me] = 1;
    AssertMine();
    assert(cached[me] == 0 || cached[me] == root_generation[me])
  };
  do
  :: atomic {
       entries & BIT(root[me]) && cached[me] == 0 -> cached[me] = root_generation[me]
     }
  :: atomic { cached[me] != 0 && !stored -> buffer[me] ! WORD_PAGE, 0; stored = 1 }
  :: !kicked[me] -> skip /* runs on, for ever if nobody kicks it */
  :: break
  od;
#ifdef EXIT_TAKES_LOCK
  MAY_SHARE;
#endif
  atomic { running[me] = 0; kicked[me] = 0; stored = 0 };
  StoreModeOutside(); /* VcpuMmu::ExitGuest */
  goto outside
}

/* ---- Release ---- */

inline Or(v, what) {
#ifdef REQUEST_RELAXED
  buffer[me] ! WORD_OR + v, what
#else
  atomic { DRAINED(me) -> requests[v] = requests[v] | what }
#endif
}

/* Request, for one vCPU: fetch_or, and then the load of mode */
inline Ask(v) {
#ifdef LOOK_AT_MODE_BEFORE_REQUEST
  in_guest = (mode[v] == IN_GUEST);
  out[v] = (mode[v] == OUTSIDE);
  Or(v, RELOAD);
#else
#ifndef NO_RELOAD_REQUEST
  Or(v, RELOAD);
#endif
  in_guest = (mode[v] == IN_GUEST);
#endif
  atomic {
#ifndef NO_KICK
    if
    :: in_guest -> kicked[v] = 1
    :: else
    fi;
#endif
    in_guest = 0
  }
}

/* AwaitOutside */
inline Await(v) {
#if defined(WAIT_FOR_THE_GUEST_ONLY)
  mode[v] != IN_GUEST
#elif defined(WAIT_FOR_THE_CPU)
  !running[v] && mode[v] != LOCKLESS
#elif defined(LOOK_AT_MODE_BEFORE_REQUEST)
  out[v] || mode[v] == OUTSIDE
#elif defined(WAIT_FOR_NOBODY)
  skip
#else
  mode[v] == OUTSIDE
#endif
}

inline ForbidEntry() {
  Ask(0);
  Ask(1);
  Await(0);
  Await(1)
}

inline RaiseAndReset() {
  atomic {
#ifndef KEEPS_GENERATION
    generation++;
#endif
#ifndef KEEPS_EPOCH
    epoch++;
#endif
    next_fresh = 0;
#ifndef KEEPS_RESERVES
    reserve[0] = 0;
    reserve[1] = 0;
#endif
    skip
  }
}

/* Way 2, without its walk */
inline Bump() {
  LockAlone();
  generation++;
  Ask(0);
  Ask(1);
  atomic { DRAINED(me) -> writer = 0 }
}

proctype Release() {
  byte me = RELEASER;
  bit in_guest;
#ifdef LOOK_AT_MODE_BEFORE_REQUEST
  bit out[2];
#endif
#ifndef CHECK_PROGRESS
  if
  :: bumps -> Bump()
  :: else
  fi;
#endif
  LockAlone();
#if defined(RAISE_FIRST)
  RaiseAndReset();
  ForbidEntry();
  atomic { DRAINED(me) -> writer = 0; done = 1 }
#elif defined(WAIT_WITHOUT_LOCK)
  RaiseAndReset();
  writer = 0;
  ForbidEntry();
  done = 1
#else
  ForbidEntry();
  RaiseAndReset();
  atomic { DRAINED(me) -> writer = 0; done = 1 }
#endif
}

/* ---- The notifier: BeginInvalidation ---- */

inline DropList(chunk) {
  if
  :: tag[chunk] == TAG_NOW && rmap[chunk] != 0 ->
     assert((entries & rmap[chunk]) == rmap[chunk]); /* on a list and present */
     entries = entries & ~rmap[chunk];
     rmap[chunk] = 0;
     assert(populated > 0);
     populated--;
     owed = 1
  :: else
  fi
}

#define ANY_LEAF_SPTES (counts_epoch == epoch && populated != 0)

proctype Notifier() {
  bit owed;
  blocked = 1; /* GuestMemory::Block */
  atomic { !writer -> writer = 1 };
  /* DropRange: SlotRmaps::Walk */
  atomic {
    readers == 0 ->
    if
    :: ANY_LEAF_SPTES ->
       DropList(0);
       DropList(1)
    :: else
    fi;
    /* No entry of a table that is taken was left. */
    assert((entries & (BIT(next_fresh) - 1)) == 0)
  };
  atomic {
    if
    :: owed && DRAINED(0) && DRAINED(1) -> /* FlushObligation::Pay */
       cached[0] = 0;
       cached[1] = 0
    :: !owed
    fi;
    owed = 0;
    writer = 0
  };
  page_freed = 1
}

init {
  atomic {
    next_fresh = 2;
    root[1] = 1;
    root_epoch[0] = FIRST;
    root_epoch[1] = FIRST;
    root_generation[0] = FIRST;
    root_generation[1] = FIRST;
    page_epoch[0] = FIRST;
    page_epoch[1] = FIRST;
    page_roots[0] = 1;
    page_roots[1] = 1;
    entries = 3;
    rmap[0] = 1;
    rmap[1] = 2;
    reserve[0] = FIRST;
    reserve[1] = FIRST;
    run StoreBuffer(0);
    run StoreBuffer(1);
    run StoreBuffer(RELEASER);
    run Vcpu(0);
    if
#ifndef CHECK_PROGRESS
    :: bumps = 1
#endif
    :: run Vcpu(1)
    fi;
    run Release();
#ifndef CHECK_PROGRESS
    run Notifier()
#endif
  }
}

ltl progress { <> (done && running[0] && root_epoch[0] == LAST) }
