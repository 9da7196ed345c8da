/*
 * A guess where in its block an entry stands, made from the index alone, so that its bytes are on
 * their way to the cache together with the block's columns, which say it exactly.
 *
 * A key stands as far between its block's separator and the next one as its head does, and blocks
 * of one table are alike: heap and size of one that was read are taken for those of the others.
 * That is right where keys are dense and values of one size, as those of numbers counted up, and
 * wrong elsewhere. So the table counts right guesses, and fetches nothing by those it has no reason
 * to trust.
 *
 * All of it is one word, which threads may change at once: who loses a change loses little.
 */
#ifndef ENGINE_SST_GUESS_H
#define ENGINE_SST_GUESS_H

#include <stdbool.h>
#include <stdint.h>

#define GUESS_WHOLE  (UINT64_C(1) << 16) /* shares of the way through a block are parts of it */
#define GUESS_NEAR   64u                 /* bytes that a right guess is off at most */
#define GUESS_TRUST  8u                  /* right guesses from which on it is trusted */
#define GUESS_MOST   15u                 /* that are counted */
#define GUESS_SAMPLE 16u /* of so many keys one is learned from while none is right */
#define GUESS_LIMIT  (UINT32_C(1) << 28) /* larger blocks are not learned from */

struct guess {
    uint32_t first, limit; /* of a block's heap, in bytes from the block's */
    uint32_t right;        /* guesses lately: up by 1, down by half */
};

static inline struct guess guess_unpack(uint64_t word)
{
    return (struct guess){(uint32_t)(word & (GUESS_LIMIT - 1)),
                          (uint32_t)(word >> 28 & (GUESS_LIMIT - 1)), (uint32_t)(word >> 56)};
}

static inline uint64_t guess_pack(struct guess g)
{
    return (uint64_t)g.right << 56 | (uint64_t)g.limit << 28 | g.first;
}

/* Of the entry that is so far through its block, from the block's first byte. */
static inline uint32_t guess_place(struct guess g, uint64_t share)
{
    return g.first + (uint32_t)((g.limit - g.first) * share / GUESS_WHOLE);
}

static inline bool guess_is_trusted(struct guess g)
{
    return g.right >= GUESS_TRUST;
}

/* Whether it is looked at where the entry was; `hash` is that of its key. */
static inline bool guess_wants_answer(struct guess g, uint64_t hash)
{
    return g.right > 0 || hash % GUESS_SAMPLE == 0;
}

static inline bool guess_was_right(struct guess g, uint64_t share, uint32_t place)
{
    return guess_place(g, share) - place + GUESS_NEAR <= 2 * GUESS_NEAR;
}

static inline struct guess guess_praised(struct guess g)
{
    g.right += g.right < GUESS_MOST;
    return g;
}

/* The next ones are made after the heap [first, limit). */
static inline struct guess guess_corrected(struct guess g, uint64_t first, uint64_t limit)
{
    if (first > limit || limit >= GUESS_LIMIT)
        return (struct guess){0, 0, 0};
    return (struct guess){(uint32_t)first, (uint32_t)limit, g.right / 2};
}

#endif
