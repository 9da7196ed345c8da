/*
 * A tournament over the children: inner node n of `losers` remembers who lost there, `winner` who
 * lost nowhere. Moving the winner replays only its path. Children are compared by their heads, kept
 * next to the tree, and by whole keys only where heads are equal. Who wins a match is a coin toss
 * to the processor's branch prediction, so a match by heads is played without a branch.
 *
 * Galloping: when a child has won twice in a row, the best of the others is looked up once (it lost
 * on the winner's path), and as long as the winner stays before it the tree is left alone: what the
 * winner has in its array before the runner-up is shown at once.
 *
 * Batches: a walk forwards that goes on is merged ahead, into an array, as far as the children's
 * own arrays reach: their entries stay where they are, so what is borrowed from them stays. The
 * children then stand behind the batch. Who turns around in one gives back first what he did not
 * walk over.
 *
 * All children stand on the same side of the current entry: at the first one behind it (forwards)
 * or before it (backwards). A change of direction moves them over, except the winner, whose key is
 * the place to move to.
 */
#include "engine/iter/merging.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

#include <assert.h>

#define GALLOP_AFTER 2 /* wins in a row */
#define NO_RUNNER_UP UINT32_MAX

#define BATCH_AFTER  12 /* moves forwards behind a seek */
#define BATCH_FIRST  16 /* entries in the first batch, */
#define BATCH_MAX    32 /* and in the later ones */
#define BATCH_GALLOP 8  /* wins in a row that end one: galloping is better */

#define APPROACH_STEPS 3 /* of a seek: see iter.h */

struct merging {
    struct iter it;
    struct iter **children; /* owned, each */
    uint64_t *heads;        /* of each child's entry; of a spent child the last to win */
    uint32_t *losers;       /* [1, count) */
    uint32_t *winners;      /* [1, 2 * count): only while the tree is built */
    uint32_t count;
    uint32_t winner;
    /* Entries of the winner around the current one that were shown at once: iter.run, iter.back. */
    uint32_t shown_run, shown_back;
    uint32_t wins;      /* in a row */
    uint32_t runner_up; /* while galloping */
    bool galloping;
    bool backwards;
    uint32_t steps; /* forwards since the last seek; 0 before a batch is allowed */
    uint32_t batch_limit;
    uint32_t batch_count; /* 0: the winner stands on the current entry */
    struct iter_entry batch[BATCH_MAX];
    uint32_t batch_child[BATCH_MAX]; /* whose each is */
};

static struct merging *merging_of(struct iter *it)
{
    return (struct merging *)(void *)it;
}

static inline void note_head(struct merging *m, uint32_t child)
{
    const struct iter *c = m->children[child];
    m->heads[child] = c->valid ? c->entry->head : m->backwards ? 0 : UINT64_MAX;
}

/* The match of two children whose heads are equal; spent children come last. */
static __attribute__((noinline)) bool beats_by_key(const struct merging *m, uint32_t a, uint32_t b)
{
    const struct iter *x = m->children[a], *y = m->children[b];
    if (!x->valid || !y->valid)
        return x->valid || (!y->valid && a < b);
    const struct iter_entry *first = x->entry, *second = y->entry;
    int order = entry_compare(first->key, first->trailer, second->key, second->trailer);
    if (order == 0)
        return (a < b) != m->backwards;
    return (order < 0) != m->backwards;
}

/* Does child a come before child b in the direction of the walk? */
static inline bool beats(const struct merging *m, uint32_t a, uint32_t b)
{
    uint64_t x = m->heads[a], y = m->heads[b];
    if (__builtin_expect(x == y, 0))
        return beats_by_key(m, a, b);
    return (x < y) != m->backwards;
}

/* Shows the winner's entry, and `run` more of its entries behind it or `back` before it. */
static void publish(struct merging *m, uint32_t run, uint32_t back)
{
    const struct iter *w = m->children[m->winner];
    m->it.valid = w->valid;
    m->it.entry = w->entry;
    m->it.run = m->shown_run = run;
    m->it.back = m->shown_back = back;
}

/* Before a move: tells the winner how far its entries were walked over. */
static void follow(struct merging *m)
{
    struct iter *w = m->children[m->winner];
    w->entry = m->it.entry;
    w->run -= m->shown_run - m->it.run;
    w->back -= m->shown_back - m->it.back;
    m->shown_run = m->it.run;
    m->shown_back = m->it.back;
}

static bool child_failed(struct merging *m, uint32_t child)
{
    const struct iter *c = m->children[child];
    if (c->valid || c->status == LSM_OK)
        return false;
    m->it.valid = false;
    m->it.run = m->shown_run = 0;
    m->it.back = m->shown_back = 0;
    m->it.status = c->status;
    return true;
}

/* Plays all matches. Leaves are nodes [count, 2 * count). */
static void build(struct merging *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (child_failed(m, i))
            return;
        note_head(m, i);
        m->winners[m->count + i] = i;
    }
    for (uint32_t node = m->count - 1; node > 0; node--) {
        uint32_t left = m->winners[2 * node], right = m->winners[2 * node + 1];
        bool left_wins = beats(m, left, right);
        m->winners[node] = left_wins ? left : right;
        m->losers[node] = left_wins ? right : left;
    }
    m->winner = m->winners[1];
    m->wins = 0;
    m->galloping = false;
    m->steps = 0;
    m->batch_count = 0;
    m->batch_limit = BATCH_FIRST;
    m->it.status = LSM_OK;
    publish(m, 0, 0);
}

static uint32_t runner_up_of(const struct merging *m)
{
    uint32_t best = NO_RUNNER_UP;
    for (uint32_t node = (m->count + m->winner) / 2; node > 0; node /= 2) {
        if (best == NO_RUNNER_UP || beats(m, m->losers[node], best))
            best = m->losers[node];
    }
    return best;
}

/* How many entries of the winner's array come before the runner-up, which it is before. */
static uint32_t run_of_winner(const struct merging *m)
{
    const struct iter *w = m->children[m->winner];
    uint64_t bound = m->heads[m->runner_up];
    uint32_t run = 0;
    while (run < w->run && w->entry[run + 1].head < bound)
        run++;
    return run;
}

/* The same on the way backwards. */
static uint32_t back_of_winner(const struct merging *m)
{
    const struct iter *w = m->children[m->winner];
    const struct iter_entry *entry = w->entry;
    uint64_t bound = m->heads[m->runner_up];
    uint32_t back = 0;
    while (back < w->back && (--entry)->head > bound)
        back++;
    return back;
}

/* `winner` has moved: the new one. */
static inline uint32_t play_path(struct merging *m, uint32_t winner)
{
    for (uint32_t node = (m->count + winner) / 2; node > 0; node /= 2) {
        uint32_t other = m->losers[node];
        uint32_t change = -(uint32_t)beats(m, other, winner) & (winner ^ other);
        m->losers[node] = other ^ change;
        winner ^= change;
    }
    return winner;
}

/* Shows the winner's entry, or, where it wins again and again, those before the runner-up's. */
static inline void show_winner(struct merging *m)
{
    m->galloping = m->wins >= GALLOP_AFTER;
    if (m->galloping)
        m->runner_up = runner_up_of(m);
    publish(m, 0, 0);
}

/* The winner has moved. */
static inline void replay(struct merging *m)
{
    uint32_t before = m->winner;
    if (child_failed(m, before))
        return;
    note_head(m, before);
    if (m->galloping && beats(m, before, m->runner_up)) {
        publish(m, m->backwards ? 0 : run_of_winner(m), m->backwards ? back_of_winner(m) : 0);
        return;
    }
    m->winner = play_path(m, before);
    m->wins = m->winner == before ? m->wins + 1 : 0;
    show_winner(m);
}

/* ---- batches --------------------------------------------------------------------------------- */

/* Merges ahead from the winner's entry on, which is not shown yet. A child's last entry in its
 * array stays out: moving behind it may take away what it shows. */
static __attribute__((noinline)) void fill_batch(struct merging *m)
{
    uint32_t count = 0, winner = m->winner, wins = 0;
    while (count < m->batch_limit && wins < BATCH_GALLOP) {
        struct iter *w = m->children[winner];
        if (!w->valid || w->run == 0)
            break;
        m->batch[count] = *w->entry;
        m->batch_child[count++] = winner;
        w->run--;
        w->entry++;
        m->heads[winner] = w->entry->head;
        uint32_t next = play_path(m, winner);
        wins = next == winner ? wins + 1 : 0;
        winner = next;
    }
    m->winner = winner;
    m->wins = wins;
    m->batch_count = count;
    m->batch_limit = BATCH_MAX;
    if (count == 0) {
        show_winner(m);
        return;
    }
    m->it.valid = true;
    m->it.entry = m->batch;
    m->it.run = count - 1;
    m->it.back = m->shown_run = m->shown_back = 0;
}

/* The children go back to where the winner stands on the current entry. */
static __attribute__((noinline)) void leave_batch(struct merging *m)
{
    uint32_t current = (uint32_t)(m->it.entry - m->batch);
    for (uint32_t i = m->batch_count; i-- > current;) {
        struct iter *c = m->children[m->batch_child[i]];
        c->entry--;
        c->run++;
    }
    m->winner = m->batch_child[current];
    m->batch_count = 0;
    publish(m, 0, 0);
}

/* ---- moving ---------------------------------------------------------------------------------- */

static void merging_first(struct iter *it)
{
    struct merging *m = merging_of(it);
    m->backwards = false;
    for (uint32_t i = 0; i < m->count; i++)
        m->children[i]->ops->first(m->children[i]);
    build(m);
}

static void merging_last(struct iter *it)
{
    struct merging *m = merging_of(it);
    m->backwards = true;
    for (uint32_t i = 0; i < m->count; i++)
        m->children[i]->ops->last(m->children[i]);
    build(m);
}

static void merging_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct merging *m = merging_of(it);
    m->backwards = false;
    for (unsigned step = 0; step < APPROACH_STEPS; step++) {
        for (uint32_t i = 0; i < m->count; i++)
            iter_approach(m->children[i], key, trailer);
    }
    for (uint32_t i = 0; i < m->count; i++)
        iter_seek(m->children[i], key, trailer);
    build(m);
}

static void merging_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct merging *m = merging_of(it);
    m->backwards = true;
    for (uint32_t i = 0; i < m->count; i++)
        m->children[i]->ops->seek_for_prev(m->children[i], key, trailer);
    build(m);
}

static bool stands_on_current(const struct merging *m, uint32_t child)
{
    const struct iter *c = m->children[child];
    const struct iter_entry *w = m->children[m->winner]->entry;
    return c->valid && entry_compare(c->entry->key, c->entry->trailer, w->key, w->trailer) == 0;
}

/* Moves the others to the far side of the winner, equal entries by the order of children. */
static void turn(struct merging *m, bool backwards)
{
    const struct iter_entry *w = m->children[m->winner]->entry;
    for (uint32_t i = 0; i < m->count; i++) {
        struct iter *c = m->children[i];
        if (i == m->winner)
            continue;
        if (backwards) {
            c->ops->seek_for_prev(c, w->key, w->trailer);
            if (i > m->winner && stands_on_current(m, i))
                iter_prev(c);
        } else {
            iter_seek(c, w->key, w->trailer);
            if (i < m->winner && stands_on_current(m, i))
                iter_next(c);
        }
    }
    m->backwards = backwards;
}

static void merging_next(struct iter *it)
{
    struct merging *m = merging_of(it);
    assert(it->valid);
    if (m->batch_count > 0) {
        m->batch_count = 0;
        if (m->wins < GALLOP_AFTER)
            fill_batch(m);
        else
            show_winner(m);
        return;
    }
    follow(m);
    if (m->backwards) {
        turn(m, false);
        iter_next(m->children[m->winner]);
        build(m);
        return;
    }
    iter_next(m->children[m->winner]);
    replay(m);
    if (m->steps < BATCH_AFTER)
        m->steps++;
    else if (m->it.valid && !m->galloping)
        fill_batch(m);
}

static void merging_prev(struct iter *it)
{
    struct merging *m = merging_of(it);
    assert(it->valid);
    if (m->batch_count > 0)
        leave_batch(m);
    else
        follow(m);
    if (!m->backwards) {
        turn(m, true);
        iter_prev(m->children[m->winner]);
        build(m);
        return;
    }
    iter_prev(m->children[m->winner]);
    replay(m);
}

static void merging_rest(struct iter *it)
{
    struct merging *m = merging_of(it);
    m->batch_count = 0;
    for (uint32_t i = 0; i < m->count; i++)
        iter_rest(m->children[i]);
}

static void merging_release(struct iter *it)
{
    struct merging *m = merging_of(it);
    for (uint32_t i = 0; i < m->count; i++)
        iter_release(m->children[i]);
    mem_free(m);
}

static const struct iter_ops merging_ops = {
    .first = merging_first,
    .last = merging_last,
    .seek = merging_seek,
    .seek_for_prev = merging_seek_for_prev,
    .next = merging_next,
    .prev = merging_prev,
    .release = merging_release,
    .rest = merging_rest,
};

/* ---- the empty iterator ---------------------------------------------------------------------- */

static void empty_go(struct iter *it)
{
    it->valid = false;
}

static void empty_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    (void)key;
    (void)trailer;
    it->valid = false;
}

static void empty_release(struct iter *it)
{
    mem_free(it);
}

static const struct iter_ops empty_ops = {
    .first = empty_go,
    .last = empty_go,
    .seek = empty_seek,
    .seek_for_prev = empty_seek,
    .next = empty_go,
    .prev = empty_go,
    .release = empty_release,
};

/* ---- making ---------------------------------------------------------------------------------- */

static struct iter *empty_new(void)
{
    struct iter *it = mem_alloc_zeroed(sizeof *it);
    if (it != NULL)
        it->ops = &empty_ops;
    return it;
}

/* One allocation: the struct, the children, the heads, the losers, the winners. */
static struct iter *tournament_new(struct iter **children, size_t count)
{
    size_t size = sizeof(struct merging) +
                  count * (sizeof(struct iter *) + sizeof(uint64_t) + 3 * sizeof(uint32_t));
    struct merging *m = mem_alloc_zeroed(size);
    if (m == NULL)
        return NULL;
    m->it.ops = &merging_ops;
    m->count = (uint32_t)count;
    m->children = (struct iter **)(m + 1);
    m->heads = (uint64_t *)(m->children + count);
    m->losers = (uint32_t *)(m->heads + count);
    m->winners = m->losers + count;
    memcpy(m->children, children, count * sizeof *children);
    return &m->it;
}

lsm_status merging_new(struct iter **children, size_t count, struct iter **merged, lsm_error *err)
{
    struct iter *made = count == 0   ? empty_new()
                        : count == 1 ? children[0]
                                     : tournament_new(children, count);
    if (made == NULL) {
        for (size_t i = 0; i < count; i++)
            iter_release(children[i]);
        return lsm_fail_memory(err, sizeof(struct merging));
    }
    *merged = made;
    return LSM_OK;
}
