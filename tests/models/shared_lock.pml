/*
 * The lock of many readers or one writer, by itself: two readers, each with a stripe
 * of its own, and two writers come and go.
 *
 * WHAT IT MIRRORS (the functions are named again at the lines they are)
 *
 *   src/base/mutex.h   SharedMutex: Lock, Unlock, ReaderLock, ReaderUnlock, TryEnter,
 *                      Close
 *                      Open, MayGo
 *   src/base/mutex.cc  SharedMutex: TryLock, AnyInside, AwaitTurn, AwaitReaders,
 *                      ReaderLockSlow
 *
 * THE MEMORY
 *
 * x86-TSO, as in enter_and_kick.pml: each CPU has a FIFO store buffer, which drains
 * at any time, one store after another. A read-modify-write, and a store that is
 * seq_cst, is over when the buffer is empty. A load looks into memory: no CPU here
 * loads a word that it has stored to without draining. Who is inside is known to the
 * model alone.
 *
 * WHAT IT LEAVES OUT, AND WHY THAT IS SOUND
 *
 *  1. Turns have 32 bits in the code, and come round; here they are counted modulo 4,
 *     which is enough to tell two writers apart. That TryLock sleeps between its two
 *     looks at them until they have come round is left out.
 *  2. What the lock guards is left out: on x86 stores become visible in their order,
 *     and loads are done in theirs, so that whoever sees the count or the flag that a
 *     hold ends with sees what was stored in it.
 *  3. WaiterCount decides nothing here: it is a hint for who holds the lock long.
 *     Ranks and the times of holds are no part of it. ReaderTryLock is ReaderLock's
 *     first half.
 *  4. Two readers on one stripe: their additions are read-modify-writes of one word,
 *     so a count is theirs together. One stripe for both is less than this: the
 *     writer then looks at all in one step. (ONE_WORD does so: both checks pass.)
 *
 * WHAT IS CHECKED
 *
 *   safety    A writer is inside alone: no other writer, and no reader. No deadlock.
 *   progress  With weak fairness, with everybody coming again for ever: reader 0 gets
 *             in whenever it wants to, and so does writer 0. Any of
 *             them may stay away for ever, too. (The readers are the same
 *             but for the order in which a writer looks at their stripes, and so are
 *             the writers. TryLock may fail for ever, and so is none of it.)
 *
 * MEASURED: safety 1,278,194 states, 23 s; progress 1,352,883 states, 20 s (spin 6.5.2, -O2, one core
 * that others use, too; under 1 GB each). Where progress is checked nobody tries: with
 * TRY_TOO it holds as well, 2,907,050 states, 75 s.
 *
 * BROKEN ON PURPOSE: each macro breaks one step or weakens one ordering, and the
 * named check then fails. tests/models/check reads this table.
 *
 *   COUNT_RELAXED         safety    the reader's addition orders nothing: it may wait in the buffer
 *   LOOK_BEFORE_COUNT     safety    the reader looks at the flag, and then counts itself
 *   COUNT_NOT_RMW         safety    it counts itself by a load and a store, with both on one stripe
 *   CLOSE_RELAXED         safety    closed = true is a plain store, which may wait in the buffer
 *   LOOK_BEFORE_CLOSE     safety    the writer looks at the counts, and then closes
 *   NO_LOOK_AT_FLAG       safety    the reader does not look at the flag
 *   ONE_STRIPE            safety    the writer looks at one stripe only
 *   LOOK_ONCE             safety    the writer looks at each stripe once, and waits for none
 *   NO_UNDO               progress  the reader that found the flag stays counted
 *   NO_TURNS              safety    a writer does not wait for its turn
 *   TURN_BEFORE_OPEN      safety    the writer gives the turn to the next, and then opens
 *   SLOW_BLIND            safety    the slow path counts itself, and does not look at the flag again
 *   SLOW_STAYS_WAITING    progress  the reader that has come in still counts as waiting
 *   READERS_LAST          progress  a writer does not let those come first who waited
 *   NOT_CLOSED_FIRST      progress  the writer closes when it has seen no reader, and looks again
 *
 * Two orderings are stronger than these properties need: closed = false may wait in
 * the buffer (OPEN_RELAXED: both checks pass), since the turn is given on by a store
 * that comes after it; the subtractions of readers are releases only, which on x86 are
 * read-modify-writes like any other.
 */

#define READER(i) (i)
#define WRITER(i) (2 + (i))

/* ---- Memory, and the store buffers before it ---- */

bit closed;     /* closed_ */
byte inside[2]; /* Stripe::inside */
byte next;      /* next_, modulo TURNS */
byte serving;   /* serving_ */
byte waiting;   /* readers_waiting_ */

#define TURNS 4

#define WORD_CLOSED 0
#define WORD_SERVING 1
#define WORD_INSIDE 2 /* + stripe: inside[stripe] += value */

chan buffer[4] = [2] of { byte, byte };

#define DRAINED(cpu) empty(buffer[cpu])

proctype StoreBuffer(byte cpu) {
  byte word, value;
end:
  do
  :: atomic {
       buffer[cpu] ? word, value;
       if
       :: word == WORD_CLOSED -> closed = value
       :: word == WORD_SERVING -> serving = value
       :: word >= WORD_INSIDE ->
          inside[word - WORD_INSIDE] = inside[word - WORD_INSIDE] + value
       fi;
       word = 0;
       value = 0
     }
  od
}

/* ---- What is watched ---- */

bit wants[4];
bit in[4];

inline GoIn() {
  atomic {
    wants[me] = 0;
    in[me] = 1;
    assert(!(in[WRITER(0)] && in[WRITER(1)]));
    assert(!((in[WRITER(0)] || in[WRITER(1)]) && (in[READER(0)] || in[READER(1)])))
  }
}

/* ---- Readers ---- */

#if defined(ONE_WORD) || defined(COUNT_NOT_RMW)
#define STRIPE 0
#else
#define STRIPE me
#endif

/* fetch_add */
inline CountIn() {
#if defined(COUNT_RELAXED)
  buffer[me] ! WORD_INSIDE + STRIPE, 1
#elif defined(COUNT_NOT_RMW)
  count = inside[STRIPE];
  atomic { DRAINED(me) -> inside[STRIPE] = count + 1; count = 0 }
#else
  atomic { DRAINED(me) -> inside[STRIPE]++ }
#endif
}

/* fetch_sub */
inline CountOut() {
  atomic { DRAINED(me) -> inside[STRIPE] = inside[STRIPE] - 1 }
}

/* Into `found`, whether the flag was up. */
inline TryEnter() {
#ifdef LOOK_BEFORE_COUNT
  found = closed;
  CountIn();
#else
  CountIn();
#ifndef NO_LOOK_AT_FLAG
  found = closed;
#endif
#endif
  if
  :: !found
  :: found ->
#ifndef NO_UNDO
     CountOut()
#else
     skip
#endif
  fi
}

proctype Reader(byte me) {
  byte count;
  bit found;
end:
  do
  :: break
  :: wants[me] = 1;
     TryEnter();
     if
     :: !found
     :: found ->
        /* ReaderLockSlow */
        atomic { DRAINED(me) -> waiting++ };
        do
        :: atomic { !closed -> found = 0 };
#ifdef SLOW_BLIND
           CountIn();
           break
#else
           TryEnter();
           if
           :: found
           :: !found -> break
           fi
#endif
        od;
#ifndef SLOW_STAYS_WAITING
        atomic { DRAINED(me) -> waiting-- }
#endif
     fi;
     found = 0;
     GoIn();
     in[me] = 0;
     CountOut() /* ReaderUnlock */
  od
}

/* ---- Writers ---- */

inline StoreClosed(value) { atomic { DRAINED(me) -> closed = value } }

inline Raise() {
#ifdef CLOSE_RELAXED
  buffer[me] ! WORD_CLOSED, 1
#else
  StoreClosed(1)
#endif
}

inline Open() {
#ifdef OPEN_RELAXED
  buffer[me] ! WORD_CLOSED, 0
#else
  StoreClosed(0)
#endif
}

/* AnyInside: one stripe after the other, until one has readers. */
inline LookInside() {
  any = (inside[0] != 0);
#ifndef ONE_STRIPE
  if
  :: any
  :: !any -> any = (inside[1] != 0)
  fi
#endif
}

/* AwaitReaders; it looks again and again. */
inline AwaitReaders() {
  do
  :: LookInside();
     if
     :: any -> any = 0
     :: else -> break
     fi
  od
}

/* fetch_add, and AwaitTurn. */
inline TakeTurn() {
  atomic { DRAINED(me) -> turn = next; next = (next + 1) % TURNS };
#ifndef NO_TURNS
  do
  :: serving == turn ->
#ifdef READERS_LAST
     break
#else
     if
     :: waiting == 0 -> break
     :: else
     fi
#endif
  od
#endif
}

inline GiveTurn() { buffer[me] ! WORD_SERVING, (turn + 1) % TURNS }

proctype Writer(byte me) {
  bit any;
  byte turn;
end:
  do
  :: break
  :: wants[me] = 1;
     TakeTurn();
#if defined(LOOK_BEFORE_CLOSE)
     AwaitReaders();
     Raise();
#elif defined(NOT_CLOSED_FIRST)
     do
     :: AwaitReaders();
        Raise();
        LookInside();
        if
        :: any -> any = 0; Open()
        :: else -> break
        fi
     od;
#elif defined(LOOK_ONCE)
     Raise();
     LookInside();
     any = 0;
#else
     Raise(); /* Close */
     AwaitReaders();
#endif
enters:
     GoIn();
     in[me] = 0;
     /* Unlock */
#ifdef TURN_BEFORE_OPEN
     GiveTurn();
     Open()
#else
     Open();
     GiveTurn()
#endif
#if !defined(CHECK_PROGRESS) || defined(TRY_TOO)
  :: me == WRITER(1) -> /* TryLock */
     turn = serving;
     if
     :: waiting == 0 ->
        if
        :: atomic {
             DRAINED(me) && next == turn && serving == turn ->
             next = (next + 1) % TURNS
           };
           Raise();
           LookInside();
           if
           :: any -> any = 0; Open(); GiveTurn()
           :: else -> goto enters
           fi
        :: next != turn || serving != turn
        fi
     :: else
     fi
#endif
  od
}

init {
  atomic {
    run StoreBuffer(READER(0));
    run StoreBuffer(READER(1));
    run StoreBuffer(WRITER(0));
    run StoreBuffer(WRITER(1));
    run Reader(READER(0));
    run Reader(READER(1));
    run Writer(WRITER(0));
    run Writer(WRITER(1))
  }
}

ltl progress {
  ([] (wants[0] -> <> in[0])) && ([] (wants[2] -> <> in[2]))
}
