/*
 * Attach: processes come, share one segment, go, or are killed at any step; what a dead one left in
 * its slot is given back.
 *
 *   step here   in the source (engine/shm)
 *   A           attach lock of the LOCK file, held while somebody attaches or detaches:
 *               lock_attach(), attach.c
 *   B           presence lock: shared by all who are attached; exclusive means that nobody else is:
 *               settle_presence()
 *   S[i]        lock of slot i, held until its process's death: occupy(), attach_slot.c
 *   FOUND       begin_founding(), shm_attach_found(): always a new segment; shm_attach_ready(), after
 *               the database was recovered
 *   JOIN        attach_join(), attach_join.c: the segment that the LOCK file names
 *   SLOT, REAP  attach_take_slot(), reap_locked(), free_slot(), attach_slot.c
 *   DETACH      shm_detach_begin(), shm_detach_end(): the last one flushes, marks the database clean
 *               and removes the segment
 *
 * The kernel lets go of a dead process's locks one by one, in any order.
 *
 * Asserted: everybody who is attached uses the one segment that is named, ready and made for the
 * files as they are; nobody recovers the files while another one uses them; a joiner finds what it
 * was told; a slot has one process, keeps what that one put there as long as it lives, and nothing
 * is left in a slot that says it is free.
 *
 * Sizes: KILLS (2), ROUNDS of each process (2). Mutations that have to fail: MUT_*.
 *
 * Limits: a LOCK file that is removed or copied, other mount or pid namespaces, and forks are not
 * looked at; a full table of slots makes an attach give up.
 */
#ifndef KILLS
#define KILLS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef NP
#define NP 3 /* processes */
#endif
#define NS 2    /* slots */
#define NO 10   /* segments ever made; 0: none */
#define FREE 9  /* of a lock */

byte A = FREE, Bx = FREE, S[NS] = FREE;
bool Bs[NP];
/* ---- files ---- */
byte named;           /* by the LOCK file */
bool ready;           /* it says */
byte made = 1;        /* the next segment's number */
bool there[NO];       /* its name exists */
byte state[NO];       /* 0 garbage, 1 being made, 2 ready */
byte epoch[NO], files; /* recoveries of the database: before the segment was ready, and now */
/* ---- the segment's slots ---- */
bool used[NS];
byte pin[NS];
/* ---- observers ---- */
byte kills, holder[NS] = FREE;
bool die[NP];

#if NP == 2
#define SHARED_BY_OTHERS(me) (Bs[1 - (me)])
#else
#define SHARED_BY_OTHERS(me) ((Bs[0] && (me) != 0) || (Bs[1] && (me) != 1) || (Bs[2] && (me) != 2))
#endif
#define ALONE(me) (Bx == FREE && !SHARED_BY_OTHERS(me))

inline LOCK_A() {
#ifdef MUT_NO_A
    skip
#else
    d_step { A == FREE -> A = me }
#endif
}
#ifdef MUT_NO_A
#define UNLOCK_A skip
#else
#define UNLOCK_A A = FREE
#endif

inline FOUND_BEGIN() {
    d_step { ready = false; there[named] = false }; /* what the page named is nobody's */
#ifdef MUT_IN_PLACE
    o = 1;
#else
    d_step { o = made; made++ };
#endif
    d_step { assert(o < NO); state[o] = 1; there[o] = true };
    d_step {
        used[0] = false; used[1] = false; pin[0] = 0; pin[1] = 0; holder[0] = FREE; holder[1] = FREE
    };
    named = o
}
inline FOUND_END() {
    d_step { assert(!SHARED_BY_OTHERS(me)); files++ }; /* new log, new manifest */
    epoch[o] = files;
    state[o] = 2;
    ready = true;
    Bx = FREE; /* A is still held */
    d_step { Bx == FREE -> Bs[me] = true; alone = false }
}

inline JOIN() {
    o = named;
    assert(o != 0 && ready && state[o] == 2 && there[o] && epoch[o] == files)
}

/* S[j] is held: nobody takes the slot meanwhile. Run again by the next one when its reaper dies. */
inline REAP(j) {
#ifdef MUT_FREE_BEFORE_PIN
    used[j] = false;
    pin[j] = 0
#else
    pin[j] = 0;
    used[j] = false
#endif
}

inline SLOT() {
    i = 0;
    do
    :: i == NS -> break
    :: d_step { i < NS && S[i] == FREE -> S[i] = me };
        if :: used[i] -> REAP(i) :: else fi;
        d_step { assert(pin[i] == 0); used[i] = true; holder[i] = me };
        break
    :: i < NS && S[i] != FREE -> i++
    od
}

inline DETACH() {
    LOCK_A();
    Bs[me] = false;
    if
#ifdef MUT_UNLINK_NOT_LAST
    :: true -> there[o] = false
#else
    :: d_step { ALONE(me) -> Bx = me };
        /* flush, mark as clean */
        d_step { holder[i] = FREE; there[o] = false }
#endif
    :: else ->
        d_step { Bx == FREE -> Bs[me] = true };
        holder[i] = FREE;
        REAP(i) /* its own: what it had first, then the slot */
    fi;
    S[i] = FREE;
    d_step { Bs[me] = false; if :: Bx == me -> Bx = FREE :: else fi; o = 0; i = 0 };
    UNLOCK_A
}

#define MINE(i_) (used[i_] && holder[i_] == me && pin[i_] == 1 + me)

proctype Process(byte me) {
    byte o, i, j, rounds, was;
    bool alone;
    {
        do
        :: rounds < ROUNDS ->
            rounds++;
            LOCK_A();
            if
            :: d_step { ALONE(me) -> Bx = me; alone = true }; FOUND_BEGIN()
            :: d_step { Bx == FREE && SHARED_BY_OTHERS(me) -> Bs[me] = true }; JOIN()
#ifdef MUT_WAIT_FOR_SHARED /* found exclusive: waits, and does not look again who is there */
            :: Bx != FREE -> d_step { Bx == FREE -> Bs[me] = true }; JOIN()
#endif
            fi;
            SLOT();
            if
            :: i < NS ->
                if :: alone -> FOUND_END() :: else fi;
                UNLOCK_A;
                pin[i] = 1 + me;
                do
                :: assert(o == named && state[o] == 2 && there[o] && epoch[o] == files && MINE(i));
                    break
                :: true -> /* the sweep of the slots */
                    j = 1 - i;
#ifdef MUT_REAP_WITHOUT_SLOT
                    if :: used[j] -> REAP(j) :: else fi
#else
                    if
                    :: d_step { used[j] && S[j] == FREE -> S[j] = me };
                        if :: used[j] -> REAP(j) :: else fi;
                        S[j] = FREE
                    :: else
                    fi
#endif
                od;
                assert(o == named && state[o] == 2 && there[o] && epoch[o] == files && MINE(i));
                DETACH()
#if NP > NS
            :: else -> /* no slot */
                d_step {
                    Bs[me] = false; if :: Bx == me -> Bx = FREE; there[o] = false :: else fi;
                    o = 0; i = 0; alone = false
                };
                UNLOCK_A
#endif
            fi
        :: else -> break
        od
    } unless { d_step { die[me] -> was = o; o = 0 } };
    rounds = 0;
    d_step {
        if :: i < NS && holder[i] == me -> holder[i] = FREE :: else fi;
        i = 0; j = 0; alone = false
    };
    o = 0;
    do
    :: d_step { A == me -> A = FREE }
    :: d_step { Bx == me || Bs[me] -> Bs[me] = false; if :: Bx == me -> Bx = FREE :: else fi }
    :: d_step { S[0] == me -> S[0] = FREE }
    :: d_step { S[1] == me -> S[1] = FREE }
    :: else -> break
    od;
    /* what was under way into its segment may land still later */
    if
#ifdef MUT_IN_PLACE
    :: die[me] && was != 0 -> state[was] = 0
#else
    :: die[me] && was != 0 && was != named -> state[was] = 0
#endif
    :: true
    fi
}

proctype Killer() {
    byte x;
end:
    do
    :: kills < KILLS ->
        if :: x = 0 :: x = 1 :: x = NP - 1 fi;
        d_step { if :: !die[x] -> die[x] = true; kills++ :: else fi; x = 0 }
    od
}

/* At every moment. */
proctype Monitor() {
end:
    do
    :: d_step {
        assert(used[0] || pin[0] == 0 || S[0] != FREE);
        assert(used[1] || pin[1] == 0 || S[1] != FREE)
        }
    od
}

init {
    atomic {
        run Process(0);
        run Process(1);
#if NP > 2
        run Process(2);
#endif
        run Killer();
        run Monitor()
    }
}
