/*
 * Guest entry against requests and kicks: two vCPUs that enter the guest and
 * leave it, and one thread that invalidates, on CPUs with store buffers.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/mmu/vcpu_mmu.cc    VcpuMmu::EnterGuest, VcpuMmu::ExitGuest
 *   src/mmu/flush.cc       Request, FlushObligation::PayNow, RequestAll
 *   src/mmu/invalidate.cc  Bump, ReclaimBatch
 *   src/mmu/zap.cc         ZapBatch::Commit
 *   include/shadowmmu/host.h      what Kick and FlushTlb promise
 *   include/shadowmmu/vcpu_mmu.h  a Kick before the real entry is not lost
 *
 * THE MEMORY
 *
 * x86-TSO. Each CPU has a FIFO store buffer, which drains at any time, one store
 * after another. A store goes into the buffer. A read-modify-write, and a store
 * that is seq_cst, is over when the buffer is empty. A load looks into memory:
 * that a CPU sees its own buffered stores is left out, since no CPU here loads a
 * word that it stores to without draining. Words that are not in the buffers (who
 * runs, the locks, what the CPU has cached) are the hardware's or the Host's own.
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. One spte stands for all that a flush is about, a shadow page's memory or
 *     a guest page's: `cached` says whether the CPU has taken something from it.
 *  2. The MMU lock excludes, and is handed over with its holder's stores done, as
 *     a lock on TSO is. LoadRoot's holds of it are one wait until it is free:
 *     nothing that it does under it is looked at here.
 *  3. The Host does as host.h says, at its laziest: FlushTlb leaves the flush due
 *     at the vCPU's next real entry, kicks it, and returns when it has flushed
 *     or is seen out of the guest. A real CPU would use what it has cached up to
 *     the moment when it leaves, so a use is no step of its own: what is asserted
 *     is that there is nothing to use.
 *  4. kSyncRoot is left out: it is the owner's own request, as Ask makes it.
 *     EnterGuest's 64 attempts are one loop: the requester's rounds are fewer.
 *  5. The requester invalidates twice, and once where progress is checked: each
 *     round waits for the same things as the first.
 *
 * WHAT IS CHECKED
 *
 *   safety    When a page is freed, no CPU that runs a guest has anything cached
 *             of it; none caches it afterwards; no vCPU that was out of the guest
 *             enters it again with what it had cached. No deadlock.
 *   progress  With weak fairness, a guest that never leaves of its own accord
 *             included: each request is served, and so no kick is lost; each wait
 *             of the requester ends.
 *
 * MEASURED: safety 1,834,058 states, 5 s; progress 271,160 states, 3 s (spin 6.5.2,
 * -O2, one core that others use, too; under 500 MB each).
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the
 * named check then fails. tests/models/check reads this table.
 *
 *   MODE_STORE_RELAXED           safety    mode = in guest is a plain store, which may wait in the buffer
 *   REQUEST_RELAXED              safety    the or of a request orders nothing: it may wait in the buffer
 *   NO_SECOND_LOOK_AT_REQUESTS   safety    the vCPU enters without loading requests again
 *   SECOND_LOOK_BEFORE_MODE      safety    it loads them again, and then stores mode
 *   LOOK_AT_MODE_BEFORE_REQUEST  safety    the requester loads mode, and then ors the request in
 *   TAKE_NOT_RMW                 safety    requests are taken by a load and a store of zero
 *   TAKEN_NOT_SERVED             safety    a flush that is asked for during LoadRoot is taken and forgotten
 *   ASK_ONLY_WHO_IS_IN           safety    a vCPU that is out of the guest is left no request
 *   TABLE_AFTER_REQUEST          safety    the spte is cleared when the flush is over
 *   FREE_BEFORE_FLUSH            safety    the page is freed when the flush is asked for
 *   FLUSH_ONLY_SENDS             safety    FlushTlb returns without waiting, as Kick does
 *   NO_FLUSH                     safety    the flush is not paid
 *   NO_KICK                      progress  RequestAll leaves the request, and kicks nobody
 *   KICK_NOT_LATCHED             progress  a Kick between EnterGuest and the real entry is lost
 *   EXIT_TAKES_LOCK              safety    a vCPU takes the MMU lock before it is out of the guest
 *
 * Two orderings are stronger than these properties need: the stores of mode =
 * outside may wait in the buffer (OUTSIDE_RELAXED: both checks still pass), and the
 * spte's clear may too, as a relaxed store (it is one here): the or that follows
 * drains it. Clearing::kStore, which no or follows, is used where no CPU is on an
 * obsolete root, and none can come there (slot_deletion.pml).
 */

#ifdef CHECK_PROGRESS
#define ROUNDS 1
#else
#define ROUNDS 2
#endif

#define OUTSIDE 0
#define IN_GUEST 1

#define RELOAD 1 /* request::kReloadRoot */
#define FLUSH 2  /* request::kFlushTlb */

/* ---- Memory, and the store buffers before it ---- */

bit mode[2];
byte requests[2];
bit spte = 1; /* present */

/* CPUs 0 and 1 run the vCPUs, CPU 2 the requester. */
#define REQUESTER 2

#define WORD_MODE 0     /* + vCPU: mode[vCPU] = value */
#define WORD_OR 2       /* + vCPU: requests[vCPU] |= value */
#define WORD_SPTE 4     /* spte = value */

chan buffer[3] = [2] of { byte, byte };

#define DRAINED(cpu) empty(buffer[cpu])

proctype StoreBuffer(byte cpu) {
  byte word, value;
end:
  do
  :: atomic {
       buffer[cpu] ? word, value;
       if
       :: word == WORD_SPTE -> spte = value
       :: word >= WORD_OR && word < WORD_SPTE ->
          requests[word - WORD_OR] = requests[word - WORD_OR] | value
       :: word < WORD_OR -> mode[word - WORD_MODE] = value
       fi;
       word = 0;
       value = 0
     }
  od
}

/* ---- The CPUs and the Host ---- */

#define NOTHING 0
#define CACHED 1
#define STALE 2  /* a flush was promised to have taken it */

byte cached[2];
bit running[2];    /* the CPU really runs the guest */
bit kicked[2];     /* a kick is on its way, or waits for the entry */
bit flush_due[2];  /* FlushTlb: to be done before the next entry at the latest */
bit freed;         /* the page that the spte led to */
bit mmu_lock;
bit done;

inline Lock() { atomic { DRAINED(REQUESTER) && !mmu_lock -> mmu_lock = 1 } }
inline Unlock() { atomic { DRAINED(REQUESTER) -> mmu_lock = 0 } }

/* Host::Kick: only sends. */
inline Kick(v) {
#ifdef KICK_NOT_LATCHED
  kicked[v] = running[v]
#else
  kicked[v] = 1
#endif
}

/* ---- A vCPU's thread ---- */

/* A seq_cst store: XCHG, or a MOV and a fence, between which its CPU does nothing
   that others could see. */
inline StoreMode(value) { atomic { DRAINED(me) -> mode[me] = value } }

inline StoreModeOutside() {
#ifdef OUTSIDE_RELAXED
  buffer[me] ! WORD_MODE + me, OUTSIDE
#else
  StoreMode(OUTSIDE)
#endif
}

inline FlushOwnTlb() { cached[me] = NOTHING }

proctype Vcpu(byte me) {
  byte due;
  bit more;

outside: /* VcpuMmu::EnterGuest */
  do
  :: /* requests.exchange(0, seq_cst) */
#ifdef TAKE_NOT_RMW
     due = requests[me];
     requests[me] = 0;
#else
     atomic { DRAINED(me) -> due = requests[me]; requests[me] = 0 };
#endif
     if
     :: due & RELOAD ->
        !mmu_lock; /* LoadRoot */
        /* take(kFlushTlb): due |= requests.fetch_and(~kFlushTlb, seq_cst). A new
           root asks for a flush of its own, too (NoteRootFlushed). */
        atomic {
          DRAINED(me) -> requests[me] = requests[me] & ~FLUSH;
#ifndef TAKEN_NOT_SERVED
          due = due | FLUSH
#endif
        }
     :: else
     fi;
     /* host.FlushTlb of oneself, who is out of the guest */
     atomic {
       if
       :: due & FLUSH -> FlushOwnTlb()
       :: else
       fi;
       due = 0
     };
#ifdef SECOND_LOOK_BEFORE_MODE
     more = (requests[me] != 0);
#endif
     /* mode.store(kInGuest, seq_cst) */
#ifdef MODE_STORE_RELAXED
     buffer[me] ! WORD_MODE + me, IN_GUEST;
#else
     StoreMode(IN_GUEST);
#endif
     /* requests.load(seq_cst) */
#if defined(NO_SECOND_LOOK_AT_REQUESTS)
     more = 0;
#elif !defined(SECOND_LOOK_BEFORE_MODE)
     more = (requests[me] != 0);
#endif
     if
     :: !more -> break
     :: more -> more = 0
     fi;
     StoreModeOutside()
  od;

  /* kResume: the hypervisor's entry, with what the Host owes done first. */
  atomic {
    if
    :: flush_due[me] -> cached[me] = NOTHING; flush_due[me] = 0
    :: else
    fi;
    assert(cached[me] != STALE);
    running[me] = 1
  };
  do
  :: atomic {
       spte && cached[me] == NOTHING ->
       assert(!freed);
       cached[me] = CACHED
     }
  :: !kicked[me] -> skip /* runs on, for ever if nobody kicks it */
  :: break
  od;
#ifdef EXIT_TAKES_LOCK
  !mmu_lock;
#endif
  atomic { running[me] = 0; kicked[me] = 0 };
  StoreModeOutside(); /* VcpuMmu::ExitGuest */
  goto outside
}

/* ---- The thread that invalidates ---- */

inline LookAtMode(v) { in_guest[v] = mode[v] }

inline Or(v, what) {
#ifdef REQUEST_RELAXED
  buffer[REQUESTER] ! WORD_OR + v, what
#else
  atomic { DRAINED(REQUESTER) -> requests[v] = requests[v] | what }
#endif
}

/* Request (flush.cc), for one vCPU after the other. */
inline Ask(v, what) {
#if defined(LOOK_AT_MODE_BEFORE_REQUEST)
  LookAtMode(v);
  Or(v, what)
#elif defined(ASK_ONLY_WHO_IS_IN)
  LookAtMode(v);
  if
  :: in_guest[v] -> Or(v, what)
  :: else
  fi
#else
  Or(v, what); /* requests.fetch_or(requests, seq_cst) */
  LookAtMode(v) /* mode.load(seq_cst) */
#endif
}

inline FreePage() {
  atomic {
    assert(!(running[0] && cached[0] != NOTHING));
    assert(!(running[1] && cached[1] != NOTHING));
    if
    :: cached[0] == CACHED -> cached[0] = STALE
    :: else
    fi;
    if
    :: cached[1] == CACHED -> cached[1] = STALE
    :: else
    fi;
    freed = 1
  }
}

/* Clearing::kStore: a relaxed store. */
inline ClearSpte() { buffer[REQUESTER] ! WORD_SPTE, 0 }

/* Host::FlushTlb, for one vCPU of the set: sends ... */
inline SendFlush(v) {
  atomic {
    if
    :: in_guest[v] -> flush_due[v] = 1; Kick(v)
    :: else
    fi
  }
}

/* ... and waits. */
inline AwaitFlush(v) {
#ifndef FLUSH_ONLY_SENDS
  !in_guest[v] || !flush_due[v] || !running[v];
#endif
  in_guest[v] = 0
}

init {
  bit in_guest[2];
  byte round;
  atomic {
    requests[0] = RELOAD | FLUSH; /* VcpuState::requests, as it begins */
    requests[1] = RELOAD | FLUSH;
    run StoreBuffer(REQUESTER);
#if defined(MODE_STORE_RELAXED) || defined(OUTSIDE_RELAXED)
    run StoreBuffer(0); /* else they are empty always */
    run StoreBuffer(1);
#endif
    run Vcpu(0);
    run Vcpu(1)
  };
  do
  :: round < ROUNDS ->
     round++;
     /* ReclaimBatch: ZapBatch::Zap, and ZapBatch::Commit */
     Lock();
#ifndef TABLE_AFTER_REQUEST
     ClearSpte();
#endif
#ifdef FREE_BEFORE_FLUSH
     DRAINED(REQUESTER);
     FreePage();
#endif
     /* FlushObligation::PayNow */
#ifndef NO_FLUSH
     Ask(0, FLUSH);
     Ask(1, FLUSH);
     SendFlush(0);
     SendFlush(1);
     AwaitFlush(0);
     AwaitFlush(1);
#endif
#ifdef TABLE_AFTER_REQUEST
     ClearSpte();
     DRAINED(REQUESTER);
#endif
#ifndef FREE_BEFORE_FLUSH
     FreePage();
#endif
     Unlock();
     /* A fault maps something else there. */
     Lock();
     atomic { freed = 0; spte = 1 };
     Unlock();

     /* Bump: RequestAll(kReloadRoot). Last, so that no flush makes up for a kick
        that is lost. */
     Lock();
     Ask(0, RELOAD);
     Ask(1, RELOAD);
     atomic {
#ifndef NO_KICK
       if
       :: in_guest[0] -> Kick(0)
       :: else
       fi;
       if
       :: in_guest[1] -> Kick(1)
       :: else
       fi;
#endif
       in_guest[0] = 0;
       in_guest[1] = 0
     };
     Unlock()
  :: else -> break
  od;
  done = 1
}

ltl progress { <> (done && requests[0] == 0 && requests[1] == 0) }
