/*
 * View: memtables are switched and flushed, tables are merged, and what nobody reads is freed, while
 * any process may be killed at any step.
 *
 * One key is written again and again; a sequence number is a value. Two processes write, read, hold
 * an iterator, flush, merge and reclaim as they like. Process 0 may be killed once; process 1 finds
 * what it left.
 *
 *   step here    in the source
 *   WRITE        commit(), engine/db/commit.c, under locks.append (the record itself: commit.pml)
 *   SWITCH       db_memtable_switch_private(), engine/db/state.c
 *   REPAIR       what the next owner of locks.change puts in order
 *   REFRESH      the view of a process and its pin, both under locks.change
 *   READ         read.c; ITERATE: iterator.c, engine/db
 *   FLUSH        db_flush_once(), flush_install(), engine/db/background.c
 *   MERGE        db_compaction_run(), engine/db/background.c
 *   INSTALL      version_set_apply(), engine/version: the edit is durable, then published
 *   ROLL_FORWARD the next owner of locks.version publishes the manifest's durable tail first
 *   RECLAIM      frees arenas and removes tables below all pins
 *   REAP         engine/shm/attach.c: the dead process's claims and its pin are given back
 *
 * Deciding stores: `newest` (shm_version.active_memtable) for a switch and `published` (the manifest's end) for an edit. Before it
 * a change has not happened, behind it REPAIR completes the rest. `number` moves last.
 *
 * Asserted:
 *   - an arena is not freed and a table not removed while a view in use has it
 *   - whenever locks.change is free, the newest acknowledged write is in the current view, and no
 *     write is in it twice; the same for what a recovery would find
 *   - no memtable is flushed twice
 *   - who begins to read behind an acknowledgement sees what was acknowledged, in every process;
 *     an iterator sees the same all the time
 *
 * Sizes: WRITES (3), SWITCHES (2), KILLS (1). NARROW: process 1 only reads and reclaims as long as
 * process 0 lives. RECLAIMER: process 1 reclaims in a thread of its own. Mutations that have to fail: the macros MUT_*.
 *
 * Limits: sequentially consistent memory; durability of the log and torn edits are not looked at;
 * file numbers are never used twice; one restart is not made: a killed process stays away.
 */
#ifndef WRITES
#define WRITES 3
#endif
#ifndef SWITCHES
#define SWITCHES 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define NP   2 /* processes */
#define NA   3 /* arenas */
#define NT   4 /* tables ever made */
#define NE   4 /* edits of the manifest */
#define FREE 9 /* of a lock: nobody has it */
#define DEAD 8 /* of a lock: its owner died */
#define NONE 7 /* no arena, no table */

#define A_FREE     0 /* enum shm_memtable_state */
#define A_BUILDING 1
#define A_ACTIVE   2
#define A_SEALED   3
#define A_FLUSHING 4
#define A_FLUSHED  5

/* ---- shared memory ---- */
byte la = FREE, lv = FREE, lc = FREE;           /* locks.append, .version, .change */
byte number = 1, newest = 1, visible, switches; /* shm_version, shm_commit */
byte a_state[NA], a_id[NA], a_owner[NA], a_left[NA], a_set[NA]; /* a_left: not in views from there */
byte published, flushed;                        /* edits, and the newest memtable they flushed */
byte t_left[NT];
byte pin[NP];                                   /* shm_slot: oldest view in use; 0: none */
/* ---- files ---- */
byte edits, e_id[NE], e_add[NE], e_del[NE];     /* flushed memtable or 0; table; tables gone */
byte tables, t_set[NT];
bool t_there[NT];
/* ---- private to each process: the current view, and that of the iterator ---- */
byte c_no[NP], c_ar[NP], c_ta[NP], i_no[NP], i_ar[NP], i_ta[NP];
/* ---- observers ---- */
byte acked, kills;
bool die, dead, reaped;

#define BIT(x)     (1 << (x))
#define HAS(m, x)  (((m) >> (x)) & 1)
#define LIVE(a)    (a_state[a] >= A_ACTIVE && a_state[a] <= A_FLUSHING)
#define USED_AR(a) (HAS(c_ar[0], a) || HAS(i_ar[0], a) || HAS(c_ar[1], a) || HAS(i_ar[1], a))
#define USED_TA(t) (HAS(c_ta[0], t) || HAS(i_ta[0], t) || HAS(c_ta[1], t) || HAS(i_ta[1], t))
#define VIEW_AR    (LIVE(0) * 1 + LIVE(1) * 2 + LIVE(2) * 4)

/* Tables after the first n edits, in m. */
#define TABLES_OF(n, m)                                                                            \
    m = 0; k = 0;                                                                                  \
    do                                                                                             \
    :: k < (n) -> m = (m | BIT(e_add[k])) & (255 - e_del[k]); k++                                  \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = 0
/* The newest write at or before s in arenas ar and tables ta, in g. */
#define SEARCH(ar, ta, s)                                                                          \
    g = 0; k = 0;                                                                                  \
    do                                                                                             \
    :: k < NA -> if :: HAS(ar, k) -> g = g | a_set[k] :: else fi; k++                              \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = 0;                                                                                         \
    do                                                                                             \
    :: k < NT -> if :: HAS(ta, k) -> g = g | t_set[k] :: else fi; k++                              \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = s;                                                                                         \
    do :: k > 0 && !HAS(g, k) -> k-- :: else -> break od;                                          \
    g = k; k = 0

/* ---- the change lock ---- */

/* What the published edits say is gone gets the number from which on no view has it. */
#define FLUSHED_OUT(no)                                                                            \
    TABLES_OF(published, m);                                                                       \
    k = 0;                                                                                         \
    do                                                                                             \
    :: k < NT ->                                                                                   \
        if :: k < tables && t_left[k] == 0 && t_there[k] && WAS(k) && !HAS(m, k) -> t_left[k] = no \
           :: else fi;                                                                             \
        k++                                                                                        \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = 0; flushed = 0;                                                                            \
    do                                                                                             \
    :: k < published -> if :: e_id[k] > flushed -> flushed = e_id[k] :: else fi; k++               \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = 0;                                                                                         \
    do                                                                                             \
    :: k < NA ->                                                                                   \
        if                                                                                         \
        :: a_id[k] <= flushed && LIVE(k) -> OUT(k, no)                                             \
        :: else                                                                                    \
        fi;                                                                                        \
        k++                                                                                        \
    :: else -> break                                                                               \
    od;                                                                                            \
    k = 0; m = 0
/* Table t was added by a published edit. */
#define WAS(t)                                                                                     \
    ((published > 0 && e_add[0] == (t)) || (published > 1 && e_add[1] == (t)) ||                   \
     (published > 2 && e_add[2] == (t)) || (published > 3 && e_add[3] == (t)))
#ifdef MUT_FREE_AT_INSTALL
#define OUT(a, no) assert(!USED_AR(a)); a_state[a] = A_FREE; a_id[a] = 0; a_set[a] = 0
#else
#define OUT(a, no) a_state[a] = A_FLUSHED; a_left[a] = no; a_owner[a] = 0
#endif

/* Completes a change whose deciding store was made, takes back one whose was not. */
inline REPAIR() {
    d_step {
        k = 0;
        do
        :: k < NA ->
            if
            :: a_state[k] == A_ACTIVE && a_id[k] < newest -> a_state[k] = A_SEALED
            :: a_state[k] == A_ACTIVE && a_id[k] > newest -> a_state[k] = A_BUILDING
            :: (a_state[k] == A_SEALED || a_state[k] == A_BUILDING) && a_id[k] == newest ->
                a_state[k] = A_ACTIVE
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0;
        FLUSHED_OUT(number + 1)
    };
#ifndef MUT_REPAIR_KEEPS_NUMBER
    number++
#endif
}

inline LOCK_CHANGE() {
    d_step { lc == FREE || lc == DEAD -> dt = (lc == DEAD); lc = me };
    if :: dt -> REPAIR(); dt = false :: else fi
}
#define UNLOCK_CHANGE lc = FREE

/* ---- reading ---- */

/* Oldest view in use by this process. */
#define OLDEST (i_no[me] != 0 && i_no[me] < c_no[me] -> i_no[me] : c_no[me])
inline REFRESH() {
    LOCK_CHANGE();
    d_step {
        c_no[me] = number; c_ar[me] = VIEW_AR; TABLES_OF(published, m); c_ta[me] = m; m = 0
    };
#ifdef MUT_PIN_AFTER_UNLOCK
    UNLOCK_CHANGE;
    pin[me] = OLDEST
#else
#ifdef MUT_PIN_NEWEST
    pin[me] = c_no[me];
#else
    pin[me] = OLDEST;
#endif
    UNLOCK_CHANGE
#endif
}

inline READ() {
    s = acked; /* seen by the caller, wherever it was acknowledged */
#ifdef MUT_SEQUENCE_BEFORE_VIEW
    n = visible;
    if :: number != c_no[me] -> REFRESH() :: else fi;
#else
    if :: number != c_no[me] -> REFRESH() :: else fi;
    n = visible;
#endif
    d_step {
        SEARCH(c_ar[me], c_ta[me], n);
        assert(g >= s);
        n = 0; s = 0; g = 0
    }
}

/* Two threads of the process: what the iterator was opened on stays while the process goes on. */
inline ITERATOR_OPEN() {
    d_step {
        i_no[me] = c_no[me]; i_ar[me] = c_ar[me]; i_ta[me] = c_ta[me]; i_seq = visible;
        SEARCH(i_ar[me], i_ta[me], i_seq); i_found = g; g = 0
    }
}
inline ITERATOR_READ() {
    d_step { SEARCH(i_ar[me], i_ta[me], i_seq); assert(g == i_found); g = 0 }
}
inline ITERATOR_CLOSE() {
    d_step { i_no[me] = 0; i_ar[me] = 0; i_ta[me] = 0; i_seq = 0; i_found = 0 };
    pin[me] = c_no[me]
}

/* ---- writing ---- */

#define ARENA(id_, a)                                                                              \
    a = 0;                                                                                         \
    do :: a < NA && a_id[a] != (id_) -> a++ :: else -> break od
#define FREE_ARENA(a)                                                                              \
    a = 0;                                                                                         \
    do :: a < NA && a_state[a] != A_FREE -> a++ :: else -> break od
#define ANY_FREE (a_state[0] == A_FREE || a_state[1] == A_FREE || a_state[2] == A_FREE)

inline SWITCH() {
    d_step {
        FREE_ARENA(x); switches++;
        a_state[x] = A_BUILDING; a_owner[x] = me; a_id[x] = newest + 1; a_set[x] = 0; a_left[x] = 0
    };
    LOCK_CHANGE();
    d_step { ARENA(newest, g); a_state[g] = A_SEALED; a_owner[g] = 0; g = 0 };
    a_state[x] = A_ACTIVE;
    newest = a_id[x];
    number++;
    UNLOCK_CHANGE
}

inline WRITE() {
    d_step { la == FREE || la == DEAD -> dt = (la == DEAD); la = me };
    if
    :: dt ->
        /* the dead owner may have died inside a switch, too */
#ifndef MUT_CHANGE_NOT_REPAIRED
        LOCK_CHANGE();
        UNLOCK_CHANGE;
#endif
        d_step {
            k = 0;
            do
            :: k < NA ->
                if
                :: a_state[k] == A_BUILDING && a_id[k] != newest -> a_state[k] = A_FREE; a_id[k] = 0
                :: else
                fi;
                k++
            :: else -> break
            od;
            k = 0; dt = false
        }
    :: else
    fi;
    d_step { ARENA(newest, x); n = (x < NA && a_set[x] != 0); x = 0 };
    if
    :: n == 1 && switches < SWITCHES && ANY_FREE -> SWITCH()
    :: true
    fi;
    d_step {
        ARENA(newest, x);
#ifndef MUT_CHANGE_NOT_REPAIRED
        assert(a_state[x] == A_ACTIVE);
#endif
        /* one step, since a death in between is redone before anything else: commit.pml */
        n = visible + 1; a_set[x] = a_set[x] | BIT(n); x = 0; visible = n
    };
    la = FREE;
    d_step { if :: n > acked -> acked = n :: else fi; n = 0 }
}

/* ---- flush, merge, install ---- */

/* locks.version, with the manifest's durable tail published. */
inline LOCK_VERSION() {
    d_step { lv == FREE || lv == DEAD -> dt = (lv == DEAD); lv = me };
    if
    :: dt ->
        dt = false;
#ifndef MUT_NO_ROLL_FORWARD
        if :: edits > published -> PUBLISH() :: else fi
#endif
    :: else
    fi
}
inline PUBLISH() {
    LOCK_CHANGE();
    published = edits; /* the manifest's end: decides */
    d_step { FLUSHED_OUT(number + 1) };
    number++;
    UNLOCK_CHANGE
}

/* Of the writes in `set_`, what a flush keeps: the newest that is visible and all behind it. */
#define KEEP(set_, s)                                                                              \
    g = set_; k = s;                                                                               \
    do :: k > 0 && !HAS(g, k) -> k-- :: else -> break od;                                          \
    g = (g >> k) << k; k = 0

#define OLDEST_SEALED(a)                                                                           \
    (a_state[a] == A_SEALED && a_id[a] == flushed + 1)
inline FLUSH() {
    LOCK_CHANGE();
    d_step {
        x = NONE;
        if
        :: OLDEST_SEALED(0) -> x = 0
        :: OLDEST_SEALED(1) -> x = 1
        :: OLDEST_SEALED(2) -> x = 2
        :: else
        fi;
        if :: x != NONE -> a_state[x] = A_FLUSHING; a_owner[x] = me; n = a_id[x] :: else fi
    };
    UNLOCK_CHANGE;
    if
    :: x != NONE ->
        s = visible; /* db_snapshot_list() */
        d_step {
            t = tables; tables++; KEEP(a_set[x], s); t_set[t] = g; t_there[t] = true; g = 0; s = 0
        };
        LOCK_VERSION();
        if
#ifdef MUT_NO_RECHECK
        :: true ->
#else
        :: n == flushed + 1 ->
#endif
            d_step { e_id[edits] = n; e_add[edits] = t; e_del[edits] = 0; edits++ };
            PUBLISH()
#ifndef MUT_NO_RECHECK
        :: else -> t_there[t] = false /* rare: somebody's dead, and his flush was rolled forward */
#endif
        fi;
        lv = FREE
    :: else
    fi;
    d_step { x = 0; n = 0; t = 0 }
}

/* All tables into one. */
inline MERGE() {
    LOCK_VERSION();
    d_step { TABLES_OF(published, m); x = m; m = 0 };
    if
    :: x == 3 && tables < NT && edits < NE ->
        s = visible;
        d_step {
            t = tables; tables++; KEEP((t_set[0] | t_set[1]), s); t_set[t] = g; t_there[t] = true;
            e_id[edits] = 0; e_add[edits] = t; e_del[edits] = x; edits++; g = 0; s = 0
        };
        PUBLISH()
    :: else
    fi;
    lv = FREE;
    d_step { x = 0; t = 0 }
}

/* ---- reclaiming ---- */

#define LESS(p) if :: pin[p] != 0 && pin[p] < n -> n = pin[p] :: else fi
inline RECLAIM() {
    n = 255;
#ifdef MUT_PINS_WITHOUT_LOCK
    d_step { LESS(1) };
    d_step { LESS(0) };
    LOCK_CHANGE();
#else
    LOCK_CHANGE();
    d_step { LESS(0); LESS(1) };
#endif
    d_step {
        k = 0;
        do
        :: k < NA ->
            if
            :: a_state[k] == A_FLUSHED && a_left[k] <= n ->
                assert(!USED_AR(k));
                a_state[k] = A_FREE; a_id[k] = 0; a_left[k] = 0; a_set[k] = 0
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0; x = 0;
        do
        :: k < NT ->
            if :: t_there[k] && t_left[k] != 0 && t_left[k] <= n -> x = x | BIT(k) :: else fi;
            k++
        :: else -> break
        od;
        k = 0; n = 0
    };
    UNLOCK_CHANGE;
    d_step { /* no input and output under this lock: files go afterwards */
        k = 0;
        do
        :: k < NT ->
            if :: HAS(x, k) -> assert(!USED_TA(k)); t_there[k] = false :: else fi;
            k++
        :: else -> break
        od;
        k = 0; x = 0
    }
}

/* Whoever holds the dead one's slot byte gives back what it had. */
inline REAP() {
    LOCK_CHANGE();
    d_step {
        k = 0;
        do
        :: k < NA ->
            if :: a_state[k] == A_FLUSHING && a_owner[k] == 0 -> a_state[k] = A_SEALED :: else fi;
            k++
        :: else -> break
        od;
        k = 0
    };
    pin[0] = 0;
    reaped = true;
    UNLOCK_CHANGE
}

/* Who does what. */
#ifdef NARROW /* one works until it dies, the other one reads */
#define WORKS (me == 0 || dead)
#define READS (me == 1)
#else
#define WORKS true
#define READS true
#endif
#ifdef RECLAIMER
#define RECLAIMS (me == 0)
#else
#define RECLAIMS true
#endif
#define TO_RECLAIM                                                                                 \
    (a_state[0] == A_FLUSHED || a_state[1] == A_FLUSHED || a_state[2] == A_FLUSHED ||              \
     (t_left[0] != 0 && t_there[0]) || (t_left[1] != 0 && t_there[1]))
#define TO_FLUSH (OLDEST_SEALED(0) || OLDEST_SEALED(1) || OLDEST_SEALED(2))

proctype Process(byte me) {
    byte k, g, m, n, s, t, x, i_seq, i_found;
    bool dt;
    {
        REFRESH();
        do
        :: WORKS && visible < WRITES -> WRITE()
        :: READS -> READ()
        :: READS && i_no[me] == 0 && visible > 0 -> ITERATOR_OPEN()
        :: READS && i_no[me] != 0 -> ITERATOR_READ()
        :: READS && i_no[me] != 0 -> ITERATOR_CLOSE()
        :: WORKS && TO_FLUSH -> FLUSH()
        :: WORKS && published == 2 && tables < NT -> MERGE()
        :: WORKS && number != c_no[me] -> REFRESH()
        :: RECLAIMS && TO_RECLAIM -> RECLAIM()
        :: me == 1 && dead && !reaped -> REAP()
        od
    } unless { d_step { me == 0 && die -> skip } };
    d_step {
        if :: la == me -> la = DEAD :: else fi;
        if :: lv == me -> lv = DEAD :: else fi;
        if :: lc == me -> lc = DEAD :: else fi;
        c_no[me] = 0; c_ar[me] = 0; c_ta[me] = 0; i_no[me] = 0; i_ar[me] = 0; i_ta[me] = 0;
        k = 0; g = 0; m = 0; n = 0; s = 0; t = 0; x = 0; i_seq = 0; i_found = 0; dt = false;
        dead = true
    }
}

#ifdef RECLAIMER
/* A thread of process 1. */
proctype Reclaimer() {
    byte k, g, m, n, x;
    byte me = 2;
    bool dt;
end:
#ifdef MUT_PINS_WITHOUT_LOCK
    do :: RECLAIM() od
#else
    do :: TO_RECLAIM -> RECLAIM() od
#endif
}
#endif

proctype Killer() {
end:
    d_step { kills < KILLS -> kills++; die = true }
}

/* At every moment. */
proctype Monitor() {
    byte k, g, m, j;
end:
    do
    :: d_step {
        /* what readers are given next */
        lc == FREE ->
            TABLES_OF(published, m); SEARCH(VIEW_AR, m, 7);
            assert(g >= acked);
            j = 1;
            do
            :: j <= WRITES ->
                g = 0; k = 0;
                do
                :: k < NA -> if :: LIVE(k) && HAS(a_set[k], j) -> g++ :: else fi; k++
                :: else -> break
                od;
                k = 0;
                do
                :: k < NT -> if :: HAS(m, k) && HAS(t_set[k], j) -> g++ :: else fi; k++
                :: else -> break
                od;
                assert(g <= 1);
                j++
            :: else -> break
            od;
            g = 0; k = 0; m = 0; j = 0
        }
    :: d_step {
        /* what a recovery would find: the durable edits, and the log behind the newest flush */
        j = 0; k = 0; g = 0;
        do
        :: k < edits ->
            if :: e_id[k] != 0 -> assert(e_id[k] > j); j = e_id[k] :: else fi;
            k++
        :: else -> break
        od;
        TABLES_OF(edits, m);
        do :: k < NT -> assert(!HAS(m, k) || t_there[k]); k++ :: else -> break od;
        k = 0; g = 0;
        do
        :: k < NA ->
            if :: a_id[k] > j && a_state[k] != A_FREE -> g = g | BIT(k) :: else fi;
            k++
        :: else -> break
        od;
        j = g;
        SEARCH(j, m, 7);
        assert(g >= acked);
        g = 0; k = 0; m = 0; j = 0
        }
    od
}

init {
    atomic {
        a_state[0] = A_ACTIVE; a_id[0] = 1;
        run Process(0);
        run Process(1);
#ifdef RECLAIMER
        run Reclaimer();
#endif
        run Killer();
        run Monitor()
    }
}
