/*
 * Roots that a bump makes obsolete: vCPUs that enter the guest and leave it, each on a
 * root of some generation, and one thread that bumps the generation, kicks, and frees
 * obsolete pages when it has flushed those only who are on an obsolete root; on CPUs
 * with store buffers.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/vcpu_mmu.cc      VcpuMmu::EnterGuest, VcpuMmu::ExitGuest
 *   src/mmu/roots.cc         LoadRoot, MakeRoot, NoteRootFlushed, LetGo
 *   src/mmu/invalidate.cc    Bump, ReclaimBatch
 *   src/mmu/zap.cc           ZapBatch::Zap, ZapBatch::Commit, FreeUnpinned
 *   src/mmu/flush.cc         InGuestOnObsoleteRoot, OnObsoleteRoots, RequestAll,
 *                            FlushObligation::PayNow
 *   src/mmu/audit_roots.cc   AuditRoots::CheckEntered
 *   include/shadowmmu/host.h what Kick and FlushTlb promise
 *
 * THE MEMORY
 *
 * x86-TSO, as in enter_and_kick.pml: a store goes into its CPU's buffer, which drains
 * at any time, in order; a read-modify-write, and a seq_cst store, is over when it is
 * empty. So entered_generation may still be in the buffer when the next thing is read.
 * That a CPU sees its own buffered stores is left out: none here loads a word that it
 * stores to without draining. The MMU lock is handed over with its holder's stores
 * done.
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. Of each generation there are a root, which all vCPUs share, and a leaf page, to
 *     which the root has one link; the leaf page stands for all pages that are no roots,
 *     and for what they map. `cached` says of which generation a CPU has cached
 *     something; it stays until the CPU flushes. A page is freed once, and what it is
 *     used for then is not looked at: that a CPU in the guest walks a root, or has
 *     something cached of a leaf page, that is freed is the error.
 *  2. The Host does as host.h says, at its laziest, as in enter_and_kick.pml: FlushTlb
 *     leaves the flush due at the next real entry, kicks, and returns when the vCPU has
 *     flushed, or is out of the guest. That it drains its caller's stores is not
 *     promised. (PayNow counts the flush by a read-modify-write, which does.)
 *  3. LoadRoot's look with the lock shared, and what it does with it held exclusively,
 *     are one step: nothing else comes in between that could matter to this vCPU. It
 *     does not fail: where it does the request is left again, and the guest not entered.
 *     Previous roots are let go of by whoever serves kReloadRoot, with the current one,
 *     so a vCPU never comes back to an older generation.
 *  4. Nobody asks for a flush but a vCPU itself, for its new root. What is asked of
 *     everybody (FlushReach::kEverybody) is in enter_and_kick.pml.
 *  5. Two vCPUs and one bump, or one vCPU and two; each time with as many batches, and
 *     looks of the audit at vCPU 0, as come in between. A batch zaps all pages of the
 *     oldest generation. Where progress is checked: two vCPUs, one bump and no batch,
 *     so that no flush makes up for a kick that is lost.
 *
 * WHAT IS CHECKED
 *
 *   safety    No page is freed while it is the root of a vCPU that runs the guest, or
 *             while such a CPU has something cached of it; no vCPU enters the guest on a
 *             freed root, or with something cached of a freed page. Whom the audit finds
 *             in the guest on an obsolete root has been asked to load another. No
 *             deadlock.
 *   progress  With weak fairness, a guest that never leaves of its own accord included:
 *             after the last bump there is a time from which on no vCPU runs on an
 *             obsolete root.
 *
 * MEASURED: safety 398,777 states, 1 s; progress 59,237 states, 1 s (spin 6.5.2, -O2, of
 * one core; under 300 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the
 * named check then fails. tests/models/check reads this table. (What enter_and_kick.pml
 * breaks is not broken again here where nothing depends on the generation.)
 *
 *   MODE_STORE_RELAXED           safety    mode = in guest is a plain store, which may wait in the buffer
 *   SECOND_LOOK_BEFORE_MODE      safety    the vCPU loads requests again, and then stores mode
 *   TAKE_AFTER_LOAD_ROOT         safety    requests are taken when they are served
 *   NEW_ROOT_WITHOUT_FLUSH       safety    a new root asks for no flush
 *   ENTERED_IS_CURRENT           safety    a vCPU notes the generation that it finds, not its root's
 *   ENTERED_AFTER_MODE           safety    it stores mode, and then what it enters with
 *   NOT_NOTED                    safety    it does not note what it enters with
 *   ENTERED_LOOKED_AT_FIRST      safety    who judges loads what was entered with, and then mode
 *   AUDIT_ASKS_LAST              safety    the audit looks who is on an obsolete root, and then loads the requests
 *   ONE_BIT_GENERATION           safety    generations are told apart by their last bit
 *   ASK_ONLY_WHO_IS_IN           safety    a bump leaves no request with a vCPU that is out of the guest
 *   REQUEST_BEFORE_BUMP          safety    it does in one hold of the lock, and bumps in the next
 *   NO_FLUSH                     safety    the batch does not pay
 *   FREED_WHILE_ROOT             safety    it frees the root though a vCPU holds it
 *   STORE_WHOEVER_IS_IN          safety    it clears by plain stores though a vCPU is on an obsolete root
 *   REQUEST_RELAXED              progress  the or of a request orders nothing: it may wait in the buffer
 *   NO_KICK                      progress  a bump leaves the request, and kicks nobody
 *
 * Some things are stronger than these properties need. The stores of mode = outside may
 * wait in the buffer (OUTSIDE_RELAXED: both checks still pass). What is entered with may
 * be noted before the flush for the new root (ENTERED_BEFORE_FLUSH: safety still holds):
 * who notes it is seen outside, and flushes before it is in; slot_deletion.pml asks for
 * more only because every vCPU is in the guest there. What is noted may be too old
 * (ENTERED_AFTER_MODE, NOT_NOTED, ENTERED_LOOKED_AT_FIRST): that is a flush more, and an
 * audit that reports what is not so, but no page is freed too early. It must never be too
 * new.
 */

#define OUTSIDE 0
#define IN_GUEST 1

#define RELOAD 1 /* request::kReloadRoot */
#define FLUSH 2  /* request::kFlushTlb */

/* Generations are 0 to `last`. */
byte last;
#define NONE 3 /* no generation */

/* ---- Memory, and the store buffers before it ---- */

bit mode[2];
byte requests[2];
byte entered[2];  /* VcpuState::entered_generation */
bit link[3];      /* by generation: the root's entry is present, and leads to the leaf page */

/* CPUs 0 and 1 run the vCPUs, CPU 2 who invalidates. */
#define HOST 2

#define WORD_MODE 0    /* + vCPU: mode[vCPU] = value */
#define WORD_ENTERED 2 /* + vCPU: entered[vCPU] = value */
#define WORD_OR 4      /* + vCPU: requests[vCPU] |= value */
#define WORD_LINK 6    /* + generation: link[generation] = value */

chan buffer[3] = [2] of { byte, byte };

#define DRAINED(cpu) empty(buffer[cpu])

proctype StoreBuffer(byte cpu) {
  byte word, value;
end:
  do
  :: atomic {
       buffer[cpu] ? word, value;
       if
       :: word >= WORD_LINK -> link[word - WORD_LINK] = value
       :: word >= WORD_OR && word < WORD_LINK ->
          requests[word - WORD_OR] = requests[word - WORD_OR] | value
       :: word >= WORD_ENTERED && word < WORD_OR -> entered[word - WORD_ENTERED] = value
       :: word < WORD_ENTERED -> mode[word] = value
       fi;
       word = 0;
       value = 0
     }
  od
}

/* ---- Under the MMU lock ---- */

bit mmu_lock;
byte generation; /* mmu_valid_gen */
byte root[2];    /* by vCPU, whose it is: the generation of VcpuState::root */
byte oldest;     /* pages of generations before are zapped */
bit leaf_freed[3];
bit root_freed[3];

/* ---- The CPUs and the Host ---- */

byte cached[2];   /* the generation of a leaf page that the CPU has something of, or NONE */
bit running[2];   /* the CPU really runs the guest */
bit kicked[2];    /* a kick is on its way, or waits for the entry */
bit flush_due[2]; /* FlushTlb: to be done before the next entry at the latest */
bit done;

/* Each is one step with what is done first with the lock, or last. In an atomic. */
#define Lock() DRAINED(HOST) && !mmu_lock -> mmu_lock = 1
#define Unlock() mmu_lock = 0

/* What a CPU in the guest walks, and what it has cached, is there. */
inline AssertGood(v) {
  assert(!(running[v] && root_freed[root[v]]));
  assert(!(running[v] && cached[v] != NONE && leaf_freed[cached[v]]))
}

inline FreeRoot(gen) {
  root_freed[gen] = 1;
  AssertGood(0);
  AssertGood(1)
}

/* ---- A vCPU's thread, and its CPU ---- */

inline StoreEntered(gen) { buffer[me] ! WORD_ENTERED + me, gen }

/* mode.store(kInGuest, seq_cst) */
inline StoreModeInGuest() {
#ifdef MODE_STORE_RELAXED
  buffer[me] ! WORD_MODE + me, IN_GUEST
#else
  atomic { DRAINED(me) -> mode[me] = IN_GUEST }
#endif
}

inline StoreModeOutside() {
#ifdef OUTSIDE_RELAXED
  buffer[me] ! WORD_MODE + me, OUTSIDE
#else
  atomic { DRAINED(me) -> mode[me] = OUTSIDE }
#endif
}

/* With the MMU lock: LetGo of the root before, and a new one, which asks for a flush
   (NoteRootFlushed). In an atomic. */
inline NewRoot() {
  left = root[me];
  root[me] = generation;
  if
  :: left < oldest && root[0] != left && root[1] != left -> FreeRoot(left)
  :: else
  fi;
  left = 0;
#ifndef NEW_ROOT_WITHOUT_FLUSH
  requests[me] = requests[me] | FLUSH
#endif
}

#define MAY_LOCK (DRAINED(me) && !mmu_lock)

proctype Vcpu(byte me) {
  byte due, left;
  bit more;

outside:
  if
  :: skip
     /* A fault whose attempt was stale: LoadRoot. It takes no request. */
  :: atomic { MAY_LOCK && root[me] != generation -> NewRoot() }
  fi;
  /* VcpuMmu::EnterGuest */
  do
  :: /* requests.exchange(0, seq_cst) */
     atomic {
       DRAINED(me) ->
       due = requests[me];
#ifndef TAKE_AFTER_LOAD_ROOT
       requests[me] = 0;
#endif
       if
       :: due & RELOAD
       :: else -> goto flush
       fi
     };
     /* LoadRoot */
     atomic {
       MAY_LOCK ->
       if
       :: root[me] != generation -> NewRoot()
       :: else
       fi
     };
flush:
     /* take(kFlushTlb): nobody else asks for one here; and host.FlushTlb of oneself,
        who is out of the guest */
     atomic {
       if
       :: due & RELOAD -> due = due | requests[me]; requests[me] = requests[me] & ~FLUSH
       :: else
       fi;
#ifdef TAKE_AFTER_LOAD_ROOT
       requests[me] = 0;
#endif
#ifndef ENTERED_BEFORE_FLUSH
       if
       :: due & FLUSH -> cached[me] = NONE
       :: else
       fi;
       due = 0;
#endif
       /* entered_generation.store(release) */
#if defined(ENTERED_IS_CURRENT)
       StoreEntered(generation)
#elif !defined(ENTERED_AFTER_MODE) && !defined(NOT_NOTED)
       StoreEntered(root[me])
#endif
     };
#ifdef ENTERED_BEFORE_FLUSH
     atomic {
       DRAINED(me) ->
       if
       :: due & FLUSH -> cached[me] = NONE
       :: else
       fi;
       due = 0
     };
#endif
#ifdef SECOND_LOOK_BEFORE_MODE
     more = (requests[me] != 0);
#endif
     StoreModeInGuest();
#ifdef ENTERED_AFTER_MODE
     StoreEntered(root[me]);
#endif
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
     StoreModeOutside()
  od;

  /* kResume: the hypervisor's entry, with what the Host owes done first. */
  atomic {
    if
    :: flush_due[me] -> cached[me] = NONE; flush_due[me] = 0
    :: else
    fi;
    running[me] = 1;
    AssertGood(me)
  };
  do
  :: atomic { link[root[me]] && cached[me] == NONE -> cached[me] = root[me]; AssertGood(me) }
  :: !kicked[me] -> skip /* runs on, for ever if nobody kicks it */
  :: atomic { running[me] = 0; kicked[me] = 0; break }
  od;
  StoreModeOutside(); /* VcpuMmu::ExitGuest */
  goto outside
}

/* ---- Who invalidates ---- */

inline Or(v, what) {
#ifdef REQUEST_RELAXED
  buffer[HOST] ! WORD_OR + v, what
#else
  atomic { DRAINED(HOST) -> requests[v] = requests[v] | what }
#endif
}

/* RequestAll, for one vCPU */
inline Ask(v) {
#ifdef ASK_ONLY_WHO_IS_IN
  in_guest = mode[v];
  if
  :: in_guest -> Or(v, RELOAD)
  :: else
  fi;
#else
  Or(v, RELOAD);
  in_guest = mode[v];
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

inline RequestAll() { Ask(0); Ask(1) }

inline Bump() {
#ifdef REQUEST_BEFORE_BUMP
  atomic { Lock() };
  RequestAll();
  Unlock();
  atomic { Lock(); generation++; Unlock() }
#else
  atomic { Lock(); generation++ };
  RequestAll();
  atomic { DRAINED(HOST) -> Unlock() }
#endif
}

#ifdef ONE_BIT_GENERATION
#define IS_OBSOLETE(gen) (((gen) & 1) != (generation & 1))
#else
#define IS_OBSOLETE(gen) ((gen) != generation)
#endif

/* InGuestOnObsoleteRoot: mode, and then what it entered with */
inline LookWhoIsOn(v) {
#ifdef ENTERED_LOOKED_AT_FIRST
  on[v] = IS_OBSOLETE(entered[v]);
  on[v] = on[v] && mode[v]
#else
  on[v] = mode[v];
  on[v] = on[v] && IS_OBSOLETE(entered[v])
#endif
}

inline OnObsoleteRoots() { LookWhoIsOn(0); LookWhoIsOn(1) }

/* Host::FlushTlb sends, and waits. */
inline SendFlush(v) {
  if
  :: on[v] -> flush_due[v] = 1; kicked[v] = 1
  :: else
  fi
}

inline AwaitFlush(v) {
  atomic { !on[v] || !flush_due[v] || !running[v] -> on[v] = 0 }
}

/* Commit: the leaf page; and the root, unless a vCPU holds it. In an atomic. */
inline FreePages() {
  leaf_freed[oldest] = 1;
  AssertGood(0);
  AssertGood(1);
#ifdef FREED_WHILE_ROOT
  FreeRoot(oldest);
#else
  if
  :: root[0] != oldest && root[1] != oldest -> FreeRoot(oldest)
  :: else
  fi;
#endif
  oldest++
}

/* ReclaimBatch: of the pages of the oldest generation */
inline ReclaimBatch() {
  atomic { Lock() };
  OnObsoleteRoots();
  if
#ifdef STORE_WHOEVER_IS_IN
  :: true ->
#else
  :: !on[0] && !on[1] ->
#endif
     buffer[HOST] ! WORD_LINK + oldest, 0 /* Clearing::kStore */
#ifndef STORE_WHOEVER_IS_IN
  :: else -> atomic { DRAINED(HOST) -> link[oldest] = 0 } /* kExchange */
#endif
  fi;
#ifndef NO_FLUSH
  /* Commit: FlushObligation::PayNow */
  OnObsoleteRoots();
  atomic { SendFlush(0); SendFlush(1) };
  AwaitFlush(0);
  AwaitFlush(1);
#endif
  atomic {
    DRAINED(HOST) ->
    FreePages();
    Unlock()
  }
}

/* AuditRoots::CheckEntered */
inline Audit(v) {
#ifdef AUDIT_ASKS_LAST
  atomic { Lock() };
  LookWhoIsOn(v);
  asked = requests[v] & RELOAD;
#else
  atomic { Lock(); asked = requests[v] & RELOAD };
  LookWhoIsOn(v);
#endif
  atomic {
    assert(!on[v] || asked);
    on[v] = 0;
    asked = 0;
    Unlock()
  }
}

init {
  bit in_guest, asked;
  bit on[2];
  atomic {
    requests[0] = FLUSH;
    requests[1] = FLUSH;
    cached[0] = NONE;
    cached[1] = NONE;
    link[0] = 1;
    link[1] = 1;
    link[2] = 1;
    run StoreBuffer(0);
    run StoreBuffer(1);
    run StoreBuffer(HOST);
    run Vcpu(0);
    if
    :: last = 1; run Vcpu(1)
#ifndef CHECK_PROGRESS
    :: last = 2; root[1] = NONE
#endif
    fi
  };
  do
  :: generation < last -> Bump()
#ifndef CHECK_PROGRESS
  :: oldest < generation -> ReclaimBatch()
  :: Audit(0)
#endif
  :: generation == last -> break
  od;
  done = 1
}

ltl progress {
  <> [] (done && (!running[0] || root[0] == last) && (!running[1] || root[1] == last))
}
