/*
 * Commit: several processes write one log, any of them may be killed at any step.
 *
 * What is shared: the stage ring (page cache), the segment files, and a shm_commit and a shm_intent
 * (engine/shm/segment.h). Two processes write three records, records 2 and 4 ask for LSM_SYNC,
 * record 2 is two cells long. Then everybody is killed, or the power is cut; the database is opened,
 * written to, and crashes once more.
 *
 *   step here        in the source
 *   APPEND_LOCK      lock_with_room(), engine/db/commit.c, over locks.append (engine/shm/lock.c)
 *   COPY             wal_stage_locked(), engine/wal/append.c
 *   INTENT           shm_intent of engine/shm/segment.h: written before the first effect
 *   EXECUTE          pending_enter_locked(), wal_publish_locked(), insert(), publish_locked(); the
 *                    next owner of the lock runs it again from the ring's bytes
 *   ADVANCE          db_advance_visible(), engine/db/commit.c
 *   LOG_WRITER       wal_write_locked() and wal_sync_locked(), engine/wal/log_writer.c
 *   SYNC_TAKEOVER    wal_begin_segment(), engine/wal/spare.c, by the next owner of locks.sync
 *   Device           writes in flight: land late, also after the death of who submitted them
 *   RECOVER          wal_replay(), engine/wal/replay.c
 *   Opener           wal_open(), engine/wal/wal.c
 *
 * One cell stands for 2 KiB: a block of the file is BS cells. One record is one sequence number.
 *
 * Asserted:
 *   - what was acknowledged is found again: by every crash (LSM_WRITE: not by a power cut)
 *   - what is found is a prefix of the commit order, and what readers saw is in it; no record
 *     twice, no sequence number for two records, no record of which half is applied
 *   - nothing is visible before the log is durable behind it, when it asked for that
 *   - the log never claims to have been durable beyond what is found (replay would call it rot)
 *   - what the log writer takes from the ring is what was put there
 *
 * INSERT_FIRST is another order of EXECUTE: `staged` moves behind the insert, so that a takeover has
 * to read no record that is published; no write of the log can begin beside the insert then.
 *
 * Sizes: KILLS single kills before the crash (1); RING cells (4); MASK which records ask for
 * LSM_SYNC (20: 2 and 4); LONG which are two cells long (4: record 2); CHUNK cells of the longest
 * write (2); POST records after the open (1). POWER: each crash may be a power cut. TORN: cells of a
 * block land one by one.
 *
 * Mutations, each of which has to fail, are the macros MUT_*.
 *
 * Limits: sequentially consistent memory; no failing I/O; segments neither fill up nor are recycled;
 * the second life has one process; waiting and wake-ups (progress) are not looked at.
 */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RING
#define RING 4
#endif
#ifndef MASK
#define MASK 20
#endif
#ifndef LONG
#define LONG 4
#endif
#ifndef CHUNK
#define CHUNK 2
#endif
#ifndef POST
#define POST 1
#endif
#ifndef MORE
#define MORE 1
#endif
#ifndef PN
#define PN 2
#endif
#define BS   2             /* cells of a block */
#define MAXP 7             /* positions of the log, in cells */
#define MAXR 6             /* records, so sequence numbers */
#define NSEG (KILLS + 2)   /* segment files */
#define OE   (KILLS + 2)   /* the opener's place among the writes in flight */
#define NF   (KILLS + 3)   /* places for a write in flight: two lives, restarts, the opener */
#define FREE 9             /* of a lock: nobody has it */
#define DEAD 8             /* of a lock: its owner died */

#define SY(id)  ((MASK >> (id)) & 1)
#define LEN(id) (1 + ((LONG >> (id)) & 1))

/* What stands at a position: record, record before, position, nonce, and how far the log was durable
 * when it was made. The second cell of a record is the first one + 64 + HALF. */
#define HALF 32768
#define CELL(id, prev, pos, nonce, syn) ((id) + (prev)*8 + (pos)*64 + (nonce)*512 + (syn)*4096)
#define BLOCK(seg, w) (hs[seg] + (((w) - hs[seg]) / BS) * BS)

/* ---- survives the kill of everybody ---- */
int ring[RING], wal[NSEG * MAXP];
/* a segment's header: is there, segment before, where that one ends and this begins, where the
 * opening resumed, its nonce (0: begun by a takeover) */
bool hv[NSEG];
byte hp[NSEG], he[NSEG], hs[NSEG], ht[NSEG], hn[NSEG];
byte next_seg = 1;
#ifdef POWER
int oring[RING], dwal[NSEG * MAXP]; /* what may be left of it by a power cut */
bool dhv[NSEG];
#endif
/* a write in flight (1) or landed (2): of a dead process, segment, first position, cells to come */
byte f_on[NF], f_seg[NF], f_base[NF], f_m[NF];
bool f_dead[NF];
int f_val[NF * 4];

/* ---- shared memory ---- */
byte la = FREE, ls = FREE; /* locks.append, locks.sync */
byte staged, chain, applied, visible, written, durable, reusable, cur_seg;
byte i_on, i_seq, i_pos, i_prev, i_id; /* the intent */
byte phead, ptail, pseq[PN], pend[PN];
byte mt1[MAXR], mt2[MAXR]; /* the memtable: both halves of the entry of a sequence number */

/* ---- observers ---- */
byte gone, kills, endp[MAXR];
bool acked[6], die[2], allk, crash2, opened, ready;

/* ---- files ---- */
#ifdef POWER
#define PUT(p, v)                                                                                  \
    d_step {                                                                                       \
        if :: ring[(p) % RING] != (v) -> oring[(p) % RING] = ring[(p) % RING] :: else fi;          \
        ring[(p) % RING] = (v)                                                                     \
    }
inline FSYNC(s) {
    d_step {
        z = 0;
        do :: z < MAXP -> dwal[(s)*MAXP + z] = wal[(s)*MAXP + z]; z++ :: else -> break od;
        z = 0; dhv[s] = hv[s]
    }
}
#else
#define PUT(p, v) ring[(p) % RING] = (v)
inline FSYNC(s) { skip }
#endif

/* The blocks [block of from_, to_) leave from a private image, padded with zeros. */
inline SUBMIT(en_, seg_, from_, to_) {
    f_on[en_] = 1; f_seg[en_] = seg_; f_base[en_] = BLOCK(seg_, from_); z = 0;
    do
    :: f_base[en_] + z < (to_) ->
        f_val[(en_)*4 + z] = ring[(f_base[en_] + z) % RING];
#if !defined(MUT_OPEN_CONTINUE)
        assert((f_val[(en_)*4 + z] / 64) % 8 == f_base[en_] + z); /* not overwritten meanwhile */
#endif
        z++
    :: else -> break
    od;
    do :: z % BS != 0 -> f_val[(en_)*4 + z] = 0; z++ :: else -> break od;
    assert(z <= 4);
    f_m[en_] = (1 << z) - 1; z = 0
}

#define LAND(i, j)                                                                                 \
    if :: f_base[i] + (j) < MAXP -> wal[f_seg[i]*MAXP + f_base[i] + (j)] = f_val[(i)*4 + (j)]      \
       :: else fi;                                                                                 \
    f_val[(i)*4 + (j)] = 0; f_m[i] = f_m[i] - (1 << (j));
#define LANDED(i)                                                                                  \
    if :: f_m[i] == 0 ->                                                                           \
            f_seg[i] = 0; f_base[i] = 0;                                                           \
            if :: f_dead[i] -> f_on[i] = 0; f_dead[i] = false :: else -> f_on[i] = 2 fi            \
       :: else fi
#define DUE(i, bit) f_on[i] == 1 && (f_m[i] & (bit))
#ifdef TORN
#define DEVICE(i)                                                                                  \
    :: d_step { DUE(i, 1) -> LAND(i, 0) LANDED(i) } :: d_step { DUE(i, 2) -> LAND(i, 1) LANDED(i) }  \
    :: d_step { DUE(i, 4) -> LAND(i, 2) LANDED(i) } :: d_step { DUE(i, 8) -> LAND(i, 3) LANDED(i) }
#else
#define DEVICE(i)                                                                                  \
    :: d_step { DUE(i, 1) -> LAND(i, 0) LAND(i, 1) LANDED(i) }                                     \
    :: d_step { DUE(i, 4) -> LAND(i, 2) LAND(i, 3) LANDED(i) }
#endif
proctype Device() {
end:
    do
    DEVICE(0)
    DEVICE(1)
    DEVICE(2)
#if NF > 3
    DEVICE(3)
#endif
#if NF > 4
    DEVICE(4)
#endif
    od
}

/* ---- visibility ---- */

/* raise_to(visible_sequence): one atomic step. */
inline RAISE(to_) {
    d_step {
        s = 0;
        do
        :: visible < (to_) ->
            visible++;
            assert(mt1[visible] != 0 && mt1[visible] == mt2[visible]);
            assert(staged >= endp[visible]);
            assert(!SY(mt1[visible]) || durable >= endp[visible])
        :: else -> break
        od;
        s = 0
    }
}

#if PN == 1
#define LOAD_PENDING s = pseq[h % PN]; e = pend[h % PN]
#else /* no place is used twice in a run of this size */
#define LOAD_PENDING d_step { s = pseq[h % PN]; e = pend[h % PN] }
#endif
inline ADVANCE() {
    do
    :: true ->
#ifdef MUT_APPLIED_AFTER_PENDING
        h = phead;
        a = ptail;
        if
        :: h == a -> a = applied; RAISE(a); break
#else
        a = applied;
        h = phead;
        if
        :: h == ptail -> RAISE(a); break
#endif
        :: else ->
            LOAD_PENDING;
#ifdef MUT_VISIBLE_AT_WRITTEN
            if :: e > written ->
#else
            if :: e > durable ->
#endif
                if
                :: phead != h -> skip /* rare: the place was given to another meanwhile, look again */
                :: else -> a = (s - 1 < a -> s - 1 : a); RAISE(a); break
                fi
            :: else -> d_step { if :: phead == h -> phead = h + 1 :: else fi }
            fi
        fi
    od;
    atomic { a = 0; h = 0; s = 0; e = 0 }
}

/* ---- the commit ---- */

inline COPY(pos_, id_, prev_) {
    if
    :: LEN(id_) == 1 -> PUT(pos_, CELL(id_, prev_, pos_, 0, e))
    :: LEN(id_) == 2 ->
        PUT(pos_, CELL(id_, prev_, pos_, 0, e));
        PUT((pos_) + 1, CELL(id_, prev_, (pos_) + 1, 0, e) + HALF)
    :: LEN(id_) == 2 ->
        PUT((pos_) + 1, CELL(id_, prev_, (pos_) + 1, 0, e) + HALF);
        PUT(pos_, CELL(id_, prev_, pos_, 0, e))
    fi
}

inline INTENT(id_) {
    d_step { e = 0; i_seq = applied + 1; i_pos = staged; i_prev = chain; i_id = id_; i_on = 1 }
}

/* An entry is two stores, and the second one has to find its own first one. */
inline INSERT(seq_, id_) {
    d_step { assert(mt1[seq_] == 0 || mt1[seq_] == (id_)); mt1[seq_] = id_ };
    d_step { assert(mt2[seq_] == 0 || mt2[seq_] == (id_)); mt2[seq_] = id_ }
}

inline PUBLISH_TO_LOG(pos_, id_) {
    chain = id_;
    staged = (pos_) + LEN(id_)
}

/* Everything behind the intent. Run again by the next owner: absolute stores only. */
inline EXECUTE(again) {
    d_step {
        x = i_pos; q = i_seq; b = ring[i_pos % RING] % 8; /* the record is what the ring says */
        assert(b == i_id && (ring[x % RING] / 64) % 8 == x && ring[x % RING] < HALF);
        assert(LEN(b) == 1 || ring[(x + 1) % RING] == ring[x % RING] + 64 + HALF);
#ifdef MUT_REDO_SEQUENCE
        if :: again -> q = applied + 1 :: else fi;
#endif
#ifdef MUT_REDO_POSITION
        if
        :: again -> x = staged; assert(x + LEN(b) <= MAXP);
            ring[x % RING] = CELL(b, chain, x, 0, 0);
            if :: LEN(b) == 2 -> ring[(x+1) % RING] = CELL(b, chain, x + 1, 0, 0) + HALF :: else fi
        :: else
        fi;
#endif
        endp[q] = x + LEN(b)
    };
    if
    :: SY(b) ->
#ifdef MUT_PENDING_TWICE
        if
#else
        if
        :: again && ptail > 0 && pseq[(ptail + PN - 1) % PN] == q -> skip /* it is in already */
#endif
        :: else ->
            d_step {
                assert(ptail - phead < PN); /* never over one that is waited for */
                pseq[ptail % PN] = q; pend[ptail % PN] = x + LEN(b)
            };
            ptail++
        fi
    :: else
    fi;
#ifdef INSERT_FIRST
    INSERT(q, b);
    PUBLISH_TO_LOG(x, b);
    applied = (q > applied -> q : applied);
#else
#ifndef MUT_PUBLISH_BEFORE_INTENT
    PUBLISH_TO_LOG(x, b);
#endif
#ifdef MUT_APPLIED_BEFORE_INSERT
    applied = (q > applied -> q : applied);
    INSERT(q, b);
#else
    INSERT(q, b);
    applied = (q > applied -> q : applied);
#endif
#endif
    if :: phead == ptail -> RAISE(q) :: else fi;
    d_step { i_on = 0; i_seq = 0; i_pos = 0; i_prev = 0; i_id = 0; x = 0; q = 0; b = 0 }
}

/* Where the insert comes before `staged`, what is published lacks only its number. */
inline FINISH() {
    applied = i_seq;
    d_step { i_on = 0; i_seq = 0; i_pos = 0; i_prev = 0; i_id = 0 }
}
#if defined(MUT_REDO_UNPUBLISHED_ONLY) || defined(INSERT_FIRST)
#define REDONE_OTHERWISE (i_pos < staged)
#else
#define REDONE_OTHERWISE false
#endif

#define ROOM(id) (staged + LEN(id) - reusable <= RING && (!SY(id) || ptail - phead < PN))

inline APPEND_LOCK(me_, id_) {
    d_step { (la == FREE && ROOM(id_)) || la == DEAD -> dt = (la == DEAD); la = me_ }
}

inline COMMIT(id_) {
#ifdef MUT_INTENT_BEFORE_COPY
    INTENT(id_);
    COPY(i_pos, id_, i_prev);
#elif defined(MUT_INSERT_BEFORE_COPY)
    x = applied + 1;
    INSERT(x, id_);
    x = 0;
    COPY(staged, id_, chain);
    INTENT(id_);
#elif defined(MUT_PUBLISH_BEFORE_INTENT)
    COPY(staged, id_, chain);
    d_step { e = 0; i_seq = applied + 1; i_pos = staged; i_prev = chain; i_id = id_ };
    PUBLISH_TO_LOG(staged, id_);
    i_on = 1;
#else
    COPY(staged, id_, chain);
    INTENT(id_);
#endif
    EXECUTE(false)
}

/* ---- the log writer ---- */

/* The dead owner's segment is never written again: a new one begins at `written`. */
inline SYNC_TAKEOVER() {
    d_step { nf = next_seg; next_seg++ };
#ifndef MUT_NO_SYNC_OF_OLD
    FSYNC(cur_seg);
#ifndef MUT_SEAL_AT_DURABLE
    durable = written;
#endif
#endif
    d_step {
        hp[nf] = cur_seg; hs[nf] = written; he[nf] = written; hv[nf] = true
#ifdef MUT_SEAL_AT_FILE_END
        ; he[nf] = MAXP
#endif
#ifdef MUT_SEAL_AT_DURABLE
        ; hs[nf] = durable; he[nf] = durable
#endif
    };
    FSYNC(nf); /* the directory: the file itself is durable before it gets its name */
    cur_seg = nf;
    d_step { reusable = hs[nf]; written = hs[nf]; nf = 0 }
}

/* The last record border at or before w. A write may end inside a record, `written` may not: it is
 * where a takeover seals. */
inline BORDER() {
    e = written;
    do
    :: e < w && e + LEN(ring[e % RING] % 8) <= w -> e = e + LEN(ring[e % RING] % 8)
    :: else -> break
    od;
#ifdef MUT_WRITTEN_INSIDE_RECORD
    e = w
#else
    skip
#endif
}

inline LOG_WRITER() {
#ifndef MUT_CONTINUE_SEGMENT
    if :: dt -> SYNC_TAKEOVER() :: else fi;
#endif
    d_step {
        dt = false; w = written; goal = staged
#ifndef MUT_STALE_SEGMENT
        ; sg = cur_seg /* its number is shared, the rest is in its header */
#endif
    };
    do
    :: d_step {
            written < goal ->
            e = BLOCK(sg, w) + CHUNK; e = (e < staged -> e : staged);
            SUBMIT(fx, sg, w, e); w = e; e = 0
        };
        d_step { f_on[fx] == 2 -> f_on[fx] = 0; BORDER() };
        if
        :: e > written ->
            written = e;
#ifdef MUT_REUSE_TO_WRITTEN
            d_step { reusable = written; e = 0 }
#else
            d_step { reusable = BLOCK(sg, written); e = 0 }
#endif
        :: else -> e = 0
        fi
    :: else -> break
    od;
    atomic { w = 0; goal = 0 };
    if
#ifdef MUT_DURABLE_BEFORE_SYNC
    :: durable < written -> durable = written; FSYNC(sg)
#else
    :: durable < written -> FSYNC(sg); durable = written
#endif
    :: true
    fi
}

/* The record to write behind the one that is done with: the first process may have another. */
#define NEXT                                                                                       \
    id = (me == 0 && n < MORE -> 3 : 0); n++; committed = false; seq = 0; end = 0
#ifdef MUT_ACK_AT_WRITTEN
#define SAFE written
#else
#define SAFE durable
#endif

proctype Writer(byte me) {
    byte id, n, end, seq; /* the record on its way, and how many are done with */
    byte x, q, b, a, h, s, e, nf, z, w, goal, sg, fx;
    bool dt, committed;
    d_step { fx = me; id = 1 + me };
again:
    {
        do
        :: id != 0 && !committed ->
            APPEND_LOCK(me, id);
            if
#ifdef MUT_REDO_UNPUBLISHED_ONLY
            :: dt && i_on && i_pos < staged -> i_on = 0
#elif defined(INSERT_FIRST)
            :: dt && i_on && i_pos < staged -> FINISH()
#endif
            :: dt && i_on && !REDONE_OTHERWISE -> EXECUTE(true)
            :: else
            fi;
            if
            :: d_step { ROOM(id) -> dt = false; seq = applied + 1; end = staged + LEN(id);
                        committed = true; e = durable };
                COMMIT(id)
            :: else -> dt = false /* rare: no room behind what a dead owner left */
            fi;
            la = FREE
        /* the acknowledgement: db_log_sync(), wait_visible() */
        :: d_step { committed && (!SY(id) || SAFE >= end) && visible >= seq ->
                    acked[id] = true; NEXT }
#ifdef MUT_ACK_AT_WRITTEN
        :: d_step { committed && SY(id) && SAFE >= end ->
                    acked[id] = true; NEXT }
#endif
        :: visible < applied && (phead == ptail || pend[phead % PN] <= SAFE) -> ADVANCE()
        :: d_step { (ls == FREE && (written < staged || durable < written)) || ls == DEAD ->
                    dt = (ls == DEAD); ls = me };
            LOG_WRITER();
            ls = FREE
        od
    } unless { d_step { die[me] || allk -> skip } };
    if
#if POST > 0
    :: allk -> skip
#endif
    :: else ->
        /* the kernel lets go of the locks; what is in flight stays in flight */
        d_step {
            die[me] = false;
            if :: la == me -> la = DEAD :: else fi;
            if :: ls == me -> ls = DEAD :: else fi;
            if :: f_on[fx] == 1 -> f_dead[fx] = true :: else -> f_on[fx] = 0 fi;
            fx = 1 + kills; NEXT; x = 0; q = 0; b = 0; a = 0;
            h = 0; s = 0; e = 0; nf = 0; z = 0; w = 0; goal = 0; sg = 0; dt = false
        };
        goto again
    fi;
#if POST > 0
    d_step {
        fx = 0; id = 0; n = 0; committed = false; seq = 0; end = 0; x = 0; q = 0; b = 0; a = 0;
        h = 0; s = 0; e = 0; nf = 0; z = 0; w = 0; goal = 0; sg = 0; dt = false; gone++
    }
#endif
}

proctype Killer() {
end:
    do
    :: d_step { kills < KILLS && !allk -> kills++; die[0] = true }
    :: d_step { kills < KILLS && !allk -> kills++; die[1] = true }
#if POST > 0
    :: d_step { opened -> crash2 = true }; break
#endif
    od
}

/* ---- recovery ---- */
byte ch[NSEG], chn, top, g, k, rn, rk, r[MAXR + 1], last, pv, ep, et, en, lim, c, xend;
bool broken;
/* The nonce of the records at p: the newest one from where its opening resumed on. */
#define NONCE(p) (en != 0 && (p) >= et -> en : ep)
#if defined(POWER) && POST == 0
/* What a crash leaves, chosen anew each time. */
int iwal[NSEG * MAXP], iring[RING];
bool ihv[NSEG], pcut;
#define IN_FILE(p) iwal[c*MAXP + (p)]
#define IN_RING(p) iring[(p) % RING]
#define NAMED(seg) ihv[seg]
#else
bool pcut;
#define IN_FILE(p) wal[c*MAXP + (p)]
#define IN_RING(p) ring[(p) % RING]
#define NAMED(seg) hv[seg]
#endif
#define WHOLE(AT, p, lim_)                                                                         \
    ((p) < (lim_) && AT(p) != 0 && AT(p) < HALF && (AT(p) / 64) % 8 == (p) &&                      \
     (AT(p) / 512) % 8 == NONCE(p) && (p) + LEN(AT(p) % 8) <= (lim_) &&                            \
     (LEN(AT(p) % 8) == 1 || AT((p) + 1) == AT(p) + 64 + HALF))
#define FOLLOW(AT, lim_)                                                                           \
    do                                                                                             \
    :: WHOLE(AT, rn, lim_) && (AT(rn) / 8) % 8 == pv ->                                            \
        pv = AT(rn) % 8; rk++; r[rk] = pv; rn = rn + LEN(pv)                                       \
    :: else -> break                                                                               \
    od
/* No record beyond the end may say that the log was durable behind it: replay would call it rot. */
#define NO_PROOF(AT)                                                                               \
    g = rn + 1;                                                                                    \
    do                                                                                             \
    :: g < MAXP ->                                                                                 \
        if :: WHOLE(AT, g, MAXP) -> assert(AT(g) / 4096 <= rn) :: else fi;                         \
        g++                                                                                        \
    :: else -> break                                                                               \
    od
inline RECOVER() {
    d_step {
        top = 0; g = 0;
        do :: g < NSEG -> if :: NAMED(g) -> top = g :: else fi; g++ :: else -> break od;
        chn = 0; g = top;
        do :: ch[chn] = g; chn++; if :: g == 0 -> break :: else -> g = hp[g] fi od;
        g = 0;
        do :: g <= MAXR -> r[g] = 0; g++ :: else -> break od;
        rn = 0; rk = 0; broken = false; pv = 0; ep = 0; et = 0; en = 0; last = 0;
        do
        :: chn > 0 && !broken ->
            chn--; c = ch[chn]; lim = (chn == 0 -> MAXP : he[ch[chn - 1]]);
            if
            :: rn != hs[c] -> broken = true /* the sealed segment ends before its seal */
            :: else ->
                last = c;
                if
                :: hn[c] != 0 -> if :: en != 0 -> ep = en :: else fi; en = hn[c]; et = ht[c]
                :: else
                fi;
                FOLLOW(IN_FILE, lim)
            fi
        :: else -> break
        od;
        xend = rn;
        FOLLOW(IN_RING, MAXP);
        assert(!broken);
        NO_PROOF(IN_FILE);
        NO_PROOF(IN_RING);
        g = 0; c = 0; chn = 0; top = 0; lim = 0
    }
}
#define FOUND(id)                                                                                  \
    (r[1] == (id) || r[2] == (id) || r[3] == (id) || r[4] == (id) || r[5] == (id))
inline NO_DUPLICATES() {
    g = 1;
    do
    :: g < rk ->
        k = g + 1;
        do :: k <= rk -> assert(r[g] != r[k]); k++ :: else -> break od;
        g++
    :: else -> break
    od;
    g = 0; k = 0
}

#if POST == 0 && !defined(POWER)
inline IMAGE() { skip }
inline NO_IMAGE() { skip }
#elif POST == 0
/* What was not flushed is old or new, cell by cell. */
inline IMAGE() {
    if :: pcut = false :: pcut = true fi;
    g = 0;
    do
    :: g < NSEG*MAXP ->
        if :: iwal[g] = wal[g] :: pcut && wal[g] != dwal[g] -> iwal[g] = dwal[g] fi; g++
    :: else -> break
    od;
    g = 0;
    do
    :: g < NSEG -> if :: ihv[g] = hv[g] :: pcut && hv[g] != dhv[g] -> ihv[g] = dhv[g] fi; g++
    :: else -> break
    od;
    g = 0;
    do
    :: g < RING ->
        if
        :: iring[g] = ring[g]
        :: pcut && ring[g] != oring[g] -> iring[g] = oring[g]
        :: pcut && ring[g] != 0 && oring[g] != 0 -> iring[g] = 0
        fi;
        g++
    :: else -> break
    od;
    g = 0
}
inline NO_IMAGE() {
    d_step {
        g = 0;
        do :: g < NSEG*MAXP -> iwal[g] = 0; g++ :: else -> break od;
        g = 0;
        do :: g < NSEG -> ihv[g] = 0; g++ :: else -> break od;
        g = 0;
        do :: g < RING -> iring[g] = 0; g++ :: else -> break od;
        g = 0
    }
}
#endif
#if defined(POWER) && POST > 0
/* What was not flushed is old or new, cell by cell; nothing in flight remains. */
inline CUT() {
    atomic {
        g = 0;
        do
        :: g < NSEG*MAXP ->
            if :: dwal[g] = wal[g] :: wal[g] != dwal[g] -> wal[g] = dwal[g] fi;
            g++
        :: else -> break
        od;
        g = 0;
        do
        :: g < NSEG -> if :: dhv[g] = hv[g] :: hv[g] != dhv[g] -> hv[g] = dhv[g] fi; g++
        :: else -> break
        od;
        g = 0;
        do
        :: g < RING ->
            if
            :: true
            :: ring[g] != oring[g] -> ring[g] = oring[g]
            :: ring[g] != 0 && oring[g] != 0 -> ring[g] = 0
            fi;
            oring[g] = ring[g]; g++
        :: else -> break
        od;
        g = 0;
        d_step {
            g = 0;
            do
            :: g < NF ->
                f_on[g] = 0; f_seg[g] = 0; f_base[g] = 0; f_m[g] = 0; f_dead[g] = 0;
                f_val[g*4] = 0; f_val[g*4 + 1] = 0; f_val[g*4 + 2] = 0; f_val[g*4 + 3] = 0; g++
            :: else -> break
            od;
            g = 0
        }
    }
}
#endif

byte o_n, o_k, o_r[MAXR + 1], m2[MAXR + 1], count2;
bool synced1[6], ack2[MAXR + 1];

/* What the first life promised. */
inline CHECK_FIRST() {
    g = 1;
    do
    :: g <= 3 ->
        if :: acked[g] && (!pcut || SY(g)) -> assert(FOUND(g)) :: else fi;
#if POST > 0
        synced1[g] = acked[g] && SY(g); acked[g] = false;
#endif
        g++
    :: else -> break
    od;
    assert(rn >= durable);
    g = 1;
    do
    :: g < MAXR ->
        /* no number for two records, and what a reader saw is still there */
        if
        :: g <= rk && mt1[g] != 0 && (!pcut || endp[g] <= durable) -> assert(r[g] == mt1[g])
        :: else
        fi;
        if :: g <= visible && (!pcut || SY(mt1[g])) -> assert(r[g] == mt1[g]) :: else fi;
        g++
    :: else -> break
    od;
    g = 0
}

/* The shared memory is gone. */
inline FORGET() {
    g = 0;
    do :: g <= rk -> o_r[g] = r[g]; g++ :: else -> break od;
    g = 0;
    do :: g < MAXR -> mt1[g] = 0; mt2[g] = 0; endp[g] = 0; g++ :: else -> break od;
    g = 0;
    do :: g <= MAXR -> r[g] = 0; g++ :: else -> break od;
    g = 0;
    do :: g < PN -> pseq[g] = 0; pend[g] = 0; g++ :: else -> break od;
    g = 0;
    o_n = rn; o_k = rk; la = FREE; ls = FREE; chain = pv; staged = rn; written = rn; durable = rn;
    applied = rk; visible = rk; cur_seg = last; phead = 0; ptail = 0; reusable = 0;
    i_on = 0; i_seq = 0; i_pos = 0; i_prev = 0; i_id = 0; kills = 0; die[0] = false; die[1] = false;
    pcut = false; rn = 0; rk = 0; opened = true
}

#define MISSING(id) (o_r[1] != (id) && o_r[2] != (id) && o_r[3] != (id) && m2[o_k + 1] != (id))
/* Everything staged into the current segment: one writer, so nothing to wait for but the device. */
inline WRITE2() {
    do
    :: written < staged ->
        d_step {
            b = BLOCK(cur_seg, written) + CHUNK; b = (b < staged -> b : staged);
            SUBMIT(OE, cur_seg, written, b)
        };
        d_step { f_on[OE] == 2 -> f_on[OE] = 0; written = b; reusable = BLOCK(cur_seg, b); b = 0 }
    :: else -> break
    od;
    b = 0
}

#if POST == 0
/* At every moment: what if everybody is killed now, or the power is cut? Leaves no trace. */
proctype Opener() {
end:
    do
    :: atomic {
        IMAGE();
        RECOVER();
        d_step {
            NO_DUPLICATES(); CHECK_FIRST();
            do :: g <= MAXR -> r[g] = 0; g++ :: else -> break od;
            g = 0; rn = 0; rk = 0; pv = 0; ep = 0; et = 0; en = 0; last = 0; xend = 0; pcut = false
        };
        NO_IMAGE()
        }
    od
}
#else
proctype Opener() {
    byte z, b, n, e;
    allk = true;
    atomic {
        gone == 2;
#ifdef POWER
        if :: pcut = false :: pcut = true; CUT() fi;
#endif
        RECOVER();
        d_step { NO_DUPLICATES(); CHECK_FIRST(); FORGET() }
    };
    {
#ifdef MUT_OPEN_CONTINUE
        /* the nonce is given for free, so that only the segment is at fault */
        d_step { ht[cur_seg] = staged; hn[cur_seg] = 1; written = xend };
        WRITE2();
        FSYNC(cur_seg);
#else
        /* what the old segments hold is durable; the new one has the ring's tail and is durable
         * before it has its name */
        n = 0;
#ifndef MUT_OPEN_EARLY
        do :: n < next_seg -> FSYNC(n); n++ :: else -> break od;
#endif
        n = 0;
        d_step {
            n = next_seg; next_seg++;
            hp[n] = last; hs[n] = xend; he[n] = xend; ht[n] = staged;
#ifndef MUT_NO_NONCE
            hn[n] = (en != 0 -> en + 1 : 1);
#endif
            z = xend;
#ifdef MUT_OPEN_EARLY
            written = xend; durable = 0; ready = true;
#else
            do :: z < staged -> wal[n*MAXP + z] = ring[z % RING]; z++ :: else -> break od;
#endif
            hv[n] = true
        };
#ifdef POWER
        d_step {
            z = 0;
            do :: z < MAXP -> dwal[n*MAXP + z] = wal[n*MAXP + z]; z++ :: else -> break od;
            z = 0
        };
#endif
        FSYNC(n);
        d_step {
            cur_seg = n; n = 0; z = BLOCK(cur_seg, written); reusable = z;
            /* the block of the end is written again: its head must be in the ring */
            do :: z < written -> ring[z % RING] = wal[cur_seg*MAXP + z]; z++ :: else -> break od;
            z = 0
        };
#endif
        ready = true;
        do
        :: count2 < POST ->
            atomic {
                if
                :: b = 4 + count2
                :: MISSING(1) -> b = 1 /* a program may repeat what was not acknowledged */
                :: MISSING(2) -> b = 2
                :: MISSING(3) -> b = 3
                fi;
                count2++; applied++; m2[applied] = b
            };
            if :: staged + LEN(b) - reusable > RING -> d_step { n = b; b = 0 }; WRITE2();
                  b = n; n = 0
               :: else fi;
            d_step { e = durable; n = hn[cur_seg] };
            PUT(staged, CELL(b, chain, staged, n, e));
            if :: LEN(b) == 2 -> PUT(staged + 1, CELL(b, chain, staged + 1, n, e) + HALF)
               :: else fi;
            d_step { chain = b; staged = staged + LEN(b); n = b; b = 0; e = 0 };
            if
            :: SY(n) -> WRITE2(); FSYNC(cur_seg); durable = written
            :: !SY(n) -> skip
            :: !SY(n) -> WRITE2()
            fi;
            d_step { ack2[applied] = true; n = 0 }
        :: else -> break
        od;
        crash2
    } unless { d_step { crash2 -> skip } };
    atomic {
#ifdef POWER
        if :: pcut = false :: pcut = true; CUT() fi;
#endif
        RECOVER();
        d_step {
            NO_DUPLICATES();
            g = 1;
            do
            :: g <= rk ->
                if :: g <= o_k -> assert(r[g] == o_r[g]) :: else -> assert(r[g] == m2[g]) fi;
                g++
            :: else -> break
            od;
            if :: !pcut || ready -> assert(rk >= o_k) :: else fi;
            g = 1;
            do :: g <= 3 -> if :: synced1[g] -> assert(FOUND(g)) :: else fi; g++ :: else -> break od;
            g = 1;
            do
            :: g <= MAXR ->
                if :: ack2[g] && (!pcut || SY(m2[g])) -> assert(rk >= g) :: else fi;
                g++
            :: else -> break
            od
        }
    }
}
#endif

init {
    atomic {
        hv[0] = true;
#ifdef POWER
        dhv[0] = true;
#endif
        run Writer(0);
        run Writer(1);
        run Killer();
        run Device();
        run Opener()
    }
}
