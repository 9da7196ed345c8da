/*
 * Files and the manifest: who may remove which table when its maker died, failed or left.
 *
 * Processes make tables and name them by edits, read what is published, come, leave and die at any
 * step; who lives reaps and looks for orphans.
 *
 *   JOB      db_outputs_begin(), compact_run() or compact_flush(), db_edit_begin(),
 *            version_set_apply(), db_state_publish(), db_edit_end(), db_outputs_end()
 *   REFRESH  db_state_refresh(): the place is read under the change lock, the manifest behind it
 *   CLEAN    dead_files_clean(): db_may_remove() under the change lock, unlink without
 *   REAP     shm_reap(): in the steps of clear_slot()
 *   ORPHANS  orphan_limit(), db_remove_orphans()
 *   JOIN     join(): place and pin under the change lock; LEAVE: handle_free()
 *
 * Asserted at every moment: the tables that the durable edits name are there (a recovery would find
 * them), and those of the version that a living process reads. And once nobody has anything to do,
 * there is no table that nobody names.
 *
 * Left out: what is in the tables (view.pml), the memtables, that edits may fail in the middle, new
 * manifests. The change lock is a step here: it guards memory only, and its repair is in view.pml.
 */
#ifndef JOBS
#define JOBS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef JOINS
#define JOINS 1
#endif
#define NP   2 /* slots */
#define NF   (JOBS + 1)
#define FREE 255
#define DEAD 254

#define BIT(k)    (1 << (k))
#define HAS(m, k) (((m) >> (k)) & 1)

/* slots */
#define S_FREE 0
#define S_USED 1 /* by somebody living or dead: */
bool s_used[NP];
bool s_alive[NP];
byte s_pin[NP];   /* one more than the version; 0: none */
byte s_floor[NP]; /* one more than the number; 0: none */

byte next_number;   /* of files */
byte there;         /* files on the disk */
byte edits;         /* durable */
byte e_set[NF + 1]; /* the files that the version of so many edits names */
byte published;
bool due_roll;
byte below; /* shm_version.orphans_below */
byte lv = FREE; /* the version lock: its owner */

/* private */
byte p_view[NP]; /* what it reads: one more than the version */
byte p_set[NP];  /* up to which edit it knows the manifest */
byte p_dead[NP]; /* files to be removed, */
byte p_no[NP * NF]; /* when all use this version or later ones */

byte jobs, kills, joins;
bool die[NP];
bool idle[NP];

/* ---- the version lock ---- */

#define CAN_TAKE (lv == FREE || lv == DEAD)
#define TAKE                                                                                       \
    d_step { CAN_TAKE -> if :: lv == DEAD -> due_roll = true :: else fi; lv = me }

inline SETTLE() {
    if
    :: due_roll ->
        /* what the dead one's edit removed is this one's to remove */
        d_step {
            k = 0; m = e_set[published];
            do
            :: k < NF ->
                if
                :: HAS(m, k) && !HAS(e_set[edits], k) ->
                    p_dead[me] = p_dead[me] | BIT(k); p_no[me * NF + k] = edits
                :: else
                fi;
                k++
            :: else -> break
            od;
            k = 0; m = 0; p_set[me] = edits
        };
        published = edits;
        due_roll = false
    :: else -> p_set[me] = published
    fi
}

#define EXPECT(number)                                                                             \
    d_step { if :: below < (number) -> below = number :: else fi }

/* ---- jobs ---- */

inline JOB() {
    d_step { jobs++; n = next_number };
#ifdef MUT_FLOOR_AFTER_NUMBER
    d_step { f = next_number; next_number++ };
    s_floor[me] = f + 2;
#else
    s_floor[me] = n + 1;
    d_step { f = next_number; next_number++ };
#endif
    d_step { n = 0; there = there | BIT(f) };
#ifdef MUT_FLOOR_CLEARED_EARLY
    s_floor[me] = 0;
#endif
    if
    :: true ->
        TAKE;
        SETTLE();
        if :: true -> r = 0 :: true -> r = e_set[p_set[me]] fi; /* a flush, a merge */
        d_step {
            assert(p_set[me] == edits);
            edits++;
            e_set[edits] = (e_set[edits - 1] & ~r) | BIT(f);
            p_set[me] = edits;
            k = 0;
            do
            :: k < NF ->
                if
                :: HAS(r, k) -> p_dead[me] = p_dead[me] | BIT(k); p_no[me * NF + k] = edits
                :: else
                fi;
                k++
            :: else -> break
            od;
            k = 0; r = 0
        };
#ifdef MUT_SHOW_UNPUBLISHED
        if :: true -> d_step { s_pin[me] = edits + 1; p_view[me] = edits + 1 }; CLEAN() :: true fi;
#endif
        published = edits;
        d_step { s_pin[me] = edits + 1; p_view[me] = edits + 1 };
        lv = FREE;
        s_floor[me] = 0
    :: true -> /* the edit failed, and left nothing */
        s_floor[me] = 0;
        EXPECT(next_number)
    fi;
    f = 0
}

/* ---- reading ---- */

inline REFRESH() {
    x = published;
    if :: p_set[me] < x -> p_set[me] = x :: else fi;
    d_step { s_pin[me] = x + 1; p_view[me] = x + 1; x = 0 }
}

/* ---- removing ---- */

inline CLEAN() {
    d_step {
        k = 0; x = 0;
        do
        :: k < NF ->
            if
            :: HAS(p_dead[me], k) && (s_pin[0] == 0 || s_pin[0] > p_no[me * NF + k]) &&
                    (s_pin[1] == 0 || s_pin[1] > p_no[me * NF + k]) -> x = x | BIT(k)
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0
    };
    d_step { there = there & ~x; p_dead[me] = p_dead[me] & ~x; x = 0 }
}

inline REAP(q) {
    s_floor[q] = 0;
    s_pin[q] = 0;
    s_used[q] = false;
    EXPECT(next_number)
}

inline LEAST(q)
{
    if :: s_floor[q] != 0 && s_floor[q] - 1 < n -> n = s_floor[q] - 1 :: else fi
}

inline ORPHANS() {
    b = below;
#ifdef MUT_FLOORS_FIRST
    d_step { n = 254; LEAST(0) };
    LEAST(1);
    if :: next_number < n -> n = next_number :: else fi;
#else
    n = next_number;
    d_step { LEAST(0) };
    d_step { LEAST(1) };
#endif
    d_step { if :: below == b -> below = 0 :: else -> n = 0; b = 0 fi }; /* b == 0: somebody else looks */
    if
#ifdef MUT_WITHOUT_LOCK
    :: true -> p_set[me] = published;
#elif defined MUT_WITHOUT_ROLL_FORWARD
    :: TAKE -> p_set[me] = published;
#elif defined MUT_WITHOUT_REFRESH
    :: TAKE -> skip;
#else
    :: TAKE -> SETTLE();
#endif
        d_step {
            k = 0;
            do
            :: k < NF ->
                if
                :: k < n && HAS(there, k) && !HAS(e_set[p_set[me]], k) && !HAS(p_dead[me], k) ->
                    p_dead[me] = p_dead[me] | BIT(k); p_no[me * NF + k] = p_set[me]
                :: else
                fi;
                k++
            :: else -> break
            od;
            k = 0
        };
#ifndef MUT_WITHOUT_LOCK
        lv = FREE;
#endif
#ifndef MUT_HIDDEN_FORGOTTEN
        EXPECT((n < b -> b : 0));
#endif
    :: !CAN_TAKE -> EXPECT(b)
    fi;
    d_step { n = 0; b = 0 }
}

/* ---- coming and going ---- */

inline JOIN() {
    d_step { s_used[me] = true; s_alive[me] = true; x = published; s_pin[me] = x + 1 };
    d_step { p_set[me] = x; p_view[me] = x + 1; x = 0 }
}

inline LEAVE() {
    d_step { p_view[me] = 0; s_pin[me] = 0 };
    CLEAN();
#ifndef MUT_LEAVE_FORGETS
    if :: p_dead[me] != 0 -> EXPECT(next_number) :: else fi;
#endif
    d_step { p_dead[me] = 0; s_used[me] = false; s_alive[me] = false; p_set[me] = 0 }
}

#define OTHER (1 - me)

proctype Process(byte me) {
    byte b, f, k, m, n, r, x;
end:
    do
    :: atomic { !s_used[me] && joins < JOINS -> joins++; idle[me] = false };
        {
            JOIN();
            do
            :: atomic { jobs < JOBS -> idle[me] = false }; JOB(); idle[me] = true
            :: atomic { p_view[me] != published + 1 -> idle[me] = false }; REFRESH(); idle[me] = true
            :: atomic { p_dead[me] != 0 -> idle[me] = false }; CLEAN(); idle[me] = true
            :: atomic { s_used[OTHER] && !s_alive[OTHER] -> idle[me] = false };
                REAP(OTHER); idle[me] = true
            :: atomic { below != 0 -> idle[me] = false }; ORPHANS(); idle[me] = true
            :: true -> idle[me] = false; LEAVE(); idle[me] = true; break
            od
        } unless {
            d_step {
                die[me] && s_alive[me] -> die[me] = false; s_alive[me] = false;
                if :: lv == me -> lv = DEAD :: else fi;
                p_view[me] = 0; p_set[me] = 0; p_dead[me] = 0; b = 0; f = 0; k = 0; m = 0; n = 0; r = 0;
                x = 0; idle[me] = true
            }
        }
    od
}

proctype Killer() {
end:
    do
    :: d_step { kills < KILLS && s_alive[0] && !die[0] -> kills++; die[0] = true }
    :: d_step { kills < KILLS && s_alive[1] && !die[1] -> kills++; die[1] = true }
    od
}

#define THERE(set_) ((there & (set_)) == (set_))
#define SEES(p)     (p_view[p] == 0 || THERE(e_set[p_view[p] - 1]))
#define RESTS(p)    (idle[p] && p_dead[p] == 0 && (s_alive[p] || !s_used[p]))

proctype Monitor() {
end:
    do
    :: d_step { !THERE(e_set[edits]) -> assert(false) }
    :: d_step { !SEES(0) || !SEES(1) -> assert(false) }
    :: d_step {
        (s_alive[0] || s_alive[1]) && !die[0] && !die[1] && RESTS(0) && RESTS(1) &&
        below == 0 && there != e_set[edits] -> assert(false)
       }
    od
}

init {
    atomic {
        idle[0] = true; idle[1] = true;
        run Process(0);
        run Process(1);
        run Killer();
        run Monitor()
    }
}
