/*
 * Random operations from a seed. A script draws its own habits first (how many keys, what they look
 * like, how much is written, how long snapshots are held), so that different seeds differ in kind
 * and not only in detail.
 */
#include "tests/lib/script.h"

#include "engine/base/bytes.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 600

struct generator {
    struct random_state random;
    const struct script_profile *profile;
    struct script_key keys[KEYS_MAX];
    uint32_t key_count;
    uint32_t hot_count; /* keys that get most of the writes */
    uint32_t value_typical;
    uint32_t delete_percent;
    uint32_t write_weight;
    uint32_t family_bias; /* percent of operations on family 0 */
    uint64_t next_value;
    uint32_t next_name;
    uint32_t sync_percent;
};

static uint32_t below(struct generator *g, uint64_t limit)
{
    return (uint32_t)random_below(&g->random, limit);
}

static bool chance(struct generator *g, uint32_t percent)
{
    return below(g, 100) < percent;
}

/* ---- keys and values ------------------------------------------------------------------------- */

static void tail_number(struct script_key *key, uint32_t number, uint8_t size)
{
    key->tail_size = size;
    for (uint8_t i = 0; i < size; i++)
        key->tail[i] = (uint8_t)(i + 4 < size ? 0 : number >> (8 * (size - 1 - i)));
}

static struct script_key odd_key(struct generator *g)
{
    static const uint32_t lengths[] = {0, 1, 6, 7, 8, 9, 15, 16, 17, 31, 127, 128, 255, 256, 1000};
    static const uint32_t long_lengths[] = {4094, 4095, 4096, 8192, 16384, 65534, 65535};
    static const uint8_t bytes[] = {0x00, 0xff, 'a', 'k', 0x80};
    struct script_key key = {.byte = bytes[below(g, sizeof bytes)]};
    key.repeat = lengths[below(g, sizeof lengths / sizeof lengths[0])];
    if (g->profile->large && chance(g, 10))
        key.repeat = long_lengths[below(g, sizeof long_lengths / sizeof long_lengths[0])];
    if (chance(g, 60)) {
        key.tail_size = (uint8_t)below(g, 3);
        for (uint8_t i = 0; i < key.tail_size; i++)
            key.tail[i] =
                chance(g, 50) ? (uint8_t)(chance(g, 50) ? 0 : 0xff) : (uint8_t)below(g, 256);
    }
    if (script_key_size(&key) > SCRIPT_KEY_MAX)
        key.tail_size = 0;
    return key;
}

static void make_keys(struct generator *g)
{
    static const uint32_t counts[] = {6, 40, 200, KEYS_MAX};
    static const uint32_t prefixes[] = {0, 0, 1, 5, 8, 40, 300};
    g->key_count = counts[below(g, sizeof counts / sizeof counts[0])];
    g->hot_count = chance(g, 50) ? g->key_count : 1 + g->key_count / 8;
    uint32_t prefix = prefixes[below(g, sizeof prefixes / sizeof prefixes[0])];
    uint32_t odd_percent = chance(g, 50) ? 5 : 40;
    for (uint32_t i = 0; i < g->key_count; i++) {
        struct script_key key = {.byte = 'a', .repeat = prefix};
        tail_number(&key, i * 7, (uint8_t)(2 + below(g, 2) * (below(g, 2) * 6)));
        g->keys[i] = chance(g, odd_percent) ? odd_key(g) : key;
    }
}

static struct script_key any_key(struct generator *g)
{
    return g->keys[below(g, chance(g, 80) ? g->hot_count : g->key_count)];
}

/* A key near those that are written: one of them, cut, longer, or one step off. */
static struct script_key near_key(struct generator *g)
{
    struct script_key key = any_key(g);
    switch (below(g, 6)) {
    case 0:
        if (key.tail_size > 0)
            key.tail_size--;
        break;
    case 1:
        if (key.tail_size < SCRIPT_TAIL_MAX && script_key_size(&key) < SCRIPT_KEY_MAX)
            key.tail[key.tail_size++] = chance(g, 50) ? 0 : 0xff;
        break;
    case 2:
        if (key.tail_size > 0)
            key.tail[key.tail_size - 1] = (uint8_t)(key.tail[key.tail_size - 1] + 1);
        break;
    default:
        break;
    }
    return key;
}

static struct model_value any_value(struct generator *g)
{
    static const uint32_t edges[] = {511, 512, 513, 4080, 4096, 4097, 8170, 8192, 8200};
    static const uint32_t large_edges[] = {16384, 32760, 65500, 65536, 65540, 131072, 300000};
    struct model_value value = {.seed = ++g->next_value};
    if (chance(g, 85))
        value.size = below(g, g->value_typical + 1);
    else if (g->profile->large && chance(g, 20))
        value.size = large_edges[below(g, sizeof large_edges / sizeof large_edges[0])];
    else
        value.size = edges[below(g, sizeof edges / sizeof edges[0])];
    return value;
}

static uint32_t any_family(struct generator *g)
{
    return chance(g, g->family_bias) ? 0 : below(g, SCRIPT_FAMILIES);
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct script_op make_batch(struct generator *g)
{
    struct script_op op = {.kind = SCRIPT_BATCH};
    uint32_t count = chance(g, 20) ? below(g, 60) : below(g, 8);
    uint32_t bytes = 0;
    op.entries = test_alloc((count + 1) * sizeof *op.entries);
    for (uint32_t i = 0; i < count && bytes < 20000; i++) {
        struct script_entry entry = {.family = any_family(g), .key = any_key(g)};
        if (i > 0 && chance(g, 15))
            entry.key = op.entries[i - 1].key; /* the same key again */
        uint32_t kind = below(g, 100);
        entry.kind = kind < 65   ? SCRIPT_ENTRY_PUT
                     : kind < 90 ? SCRIPT_ENTRY_DELETE
                     : kind < 96 ? SCRIPT_ENTRY_SAVE
                                 : SCRIPT_ENTRY_ROLLBACK;
        if (entry.kind == SCRIPT_ENTRY_PUT) {
            entry.value = any_value(g);
            bytes += entry.value.size;
        }
        op.entries[op.entry_count++] = entry;
    }
    return op;
}

static struct script_op make_write(struct generator *g)
{
    struct script_op op = {.flags = SCRIPT_F_KEY, .key = any_key(g), .family = any_family(g)};
    if (chance(g, 20))
        op = make_batch(g);
    else if (chance(g, g->delete_percent))
        op.kind = SCRIPT_DELETE;
    else {
        op.kind = SCRIPT_PUT;
        op.value = any_value(g);
    }
    if (chance(g, g->sync_percent))
        op.flags |= SCRIPT_F_SYNC;
    if (op.kind == SCRIPT_BATCH && chance(g, 40))
        op.flags |= chance(g, 20) ? SCRIPT_F_TXN | SCRIPT_F_ABORT : SCRIPT_F_TXN;
    else if (chance(g, 25))
        op.flags |= chance(g, 20) ? SCRIPT_F_INGEST | SCRIPT_F_ABORT : SCRIPT_F_INGEST;
    return op;
}

static struct script_op make_read(struct generator *g)
{
    struct script_op op = {.family = any_family(g), .flags = SCRIPT_F_KEY, .key = near_key(g)};
    if (chance(g, 40))
        op.snapshot = below(g, SCRIPT_SNAPSHOTS + 1);
    if (chance(g, 10))
        op.flags |= SCRIPT_F_NO_FILL;
    switch (below(g, 10)) {
    case 0:
    case 1:
    case 2:
        op.kind = SCRIPT_GET_INTO;
        op.count = chance(g, 30) ? below(g, 20) : 10000;
        break;
    case 3:
        op.kind = SCRIPT_MULTI_GET;
        op.flags &= ~(unsigned)SCRIPT_F_KEY;
        op.entry_count = below(g, 20);
        op.entries = test_alloc((op.entry_count + 1) * sizeof *op.entries);
        for (uint32_t i = 0; i < op.entry_count; i++)
            op.entries[i] = (struct script_entry){.kind = SCRIPT_ENTRY_KEY, .key = near_key(g)};
        break;
    case 4:
        op.kind = chance(g, 70) ? SCRIPT_PIN : SCRIPT_UNPIN;
        op.slot = below(g, SCRIPT_PINS);
        break;
    default:
        op.kind = SCRIPT_GET;
        break;
    }
    return op;
}

static struct script_op make_iter_open(struct generator *g)
{
    struct script_op op = {.kind = SCRIPT_ITER_OPEN, .family = any_family(g)};
    op.slot = below(g, SCRIPT_ITERATORS);
    if (chance(g, 40))
        op.snapshot = below(g, SCRIPT_SNAPSHOTS + 1);
    if (chance(g, 25)) {
        op.flags |= SCRIPT_F_KEY;
        op.key = near_key(g);
    }
    if (chance(g, 25)) {
        op.flags |= SCRIPT_F_LIMIT;
        op.limit = near_key(g);
    }
    if (chance(g, 15)) {
        op.flags |= SCRIPT_F_PREFIX;
        op.prefix = near_key(g);
        op.prefix.tail_size = (uint8_t)(op.prefix.tail_size / 2);
    }
    if (chance(g, 15))
        op.flags |= SCRIPT_F_KEYS_ONLY;
    if (chance(g, 20))
        op.flags |= SCRIPT_F_NO_FILL;
    if (chance(g, 10))
        op.count = 1u << below(g, 20); /* readahead */
    return op;
}

static struct script_op make_iter(struct generator *g)
{
    static const enum script_kind moves[] = {
        SCRIPT_ITER_FIRST, SCRIPT_ITER_LAST,          SCRIPT_ITER_SEEK,          SCRIPT_ITER_SEEK,
        SCRIPT_ITER_SEEK,  SCRIPT_ITER_SEEK_FOR_PREV, SCRIPT_ITER_SEEK_FOR_PREV, SCRIPT_ITER_NEXT,
        SCRIPT_ITER_NEXT,  SCRIPT_ITER_NEXT,          SCRIPT_ITER_NEXT,          SCRIPT_ITER_PREV,
        SCRIPT_ITER_PREV,  SCRIPT_ITER_PREV,
    };
    struct script_op op = {.slot = below(g, SCRIPT_ITERATORS)};
    uint32_t what = below(g, 100);
    if (what < 12)
        return make_iter_open(g);
    if (what < 15)
        op.kind = SCRIPT_ITER_CLOSE;
    else if (what < 20)
        op.kind = SCRIPT_ITER_REFRESH;
    else
        op.kind = moves[below(g, sizeof moves / sizeof moves[0])];
    if (op.kind == SCRIPT_ITER_SEEK || op.kind == SCRIPT_ITER_SEEK_FOR_PREV) {
        op.flags |= SCRIPT_F_KEY;
        op.key = near_key(g);
    }
    if (op.kind == SCRIPT_ITER_NEXT || op.kind == SCRIPT_ITER_PREV)
        op.count = chance(g, 80) ? 1 : below(g, 60);
    return op;
}

static struct script_op make_family(struct generator *g)
{
    struct script_op op = {.family = 1 + below(g, SCRIPT_FAMILIES - 1)};
    uint32_t what = below(g, 100);
    op.kind = what < 55 ? SCRIPT_CF_CREATE : what < 80 ? SCRIPT_CF_DROP : SCRIPT_CF_RENAME;
    if (op.kind != SCRIPT_CF_DROP)
        op.name = chance(g, 70) ? ++g->next_name : 1 + below(g, g->next_name + 1);
    return op;
}

static struct script_op make_compact(struct generator *g)
{
    struct script_op op = {.kind = SCRIPT_COMPACT, .family = any_family(g)};
    if (chance(g, 50)) {
        op.flags |= SCRIPT_F_KEY;
        op.key = near_key(g);
    }
    if (chance(g, 50)) {
        op.flags |= SCRIPT_F_LIMIT;
        op.limit = near_key(g);
    }
    if (chance(g, 30))
        op.flags |= SCRIPT_F_FORCE;
    if (chance(g, 15)) {
        op.flags |= SCRIPT_F_CANCEL;
        op.count = below(g, 3);
    }
    return op;
}

static struct script_op make_maintenance(struct generator *g)
{
    struct script_op op = {.kind = SCRIPT_FLUSH};
    uint32_t what = below(g, 100);
    if (what < 40)
        return op;
    if (what < 65)
        return make_compact(g);
    if (what < 75)
        op.kind = SCRIPT_WAIT_IDLE;
    else if (what < 85)
        op.kind = SCRIPT_SYNC;
    else if (what < 92) {
        op.kind = SCRIPT_REOPEN;
        op.flags = chance(g, 30) ? SCRIPT_F_READ_ONLY : 0;
    } else if (g->profile->crashes) {
        op.kind = SCRIPT_CRASH;
        op.power = (enum script_power)below(g, 4);
        op.seed = random_next(&g->random) % 1000000;
    } else
        op.kind = SCRIPT_CHECK;
    return op;
}

static struct script_op make_snapshot(struct generator *g)
{
    return (struct script_op){.kind = chance(g, 60) ? SCRIPT_SNAPSHOT : SCRIPT_UNSNAPSHOT,
                              .snapshot = 1 + below(g, SCRIPT_SNAPSHOTS)};
}

static struct script_op make_any(struct generator *g)
{
    if (chance(g, g->write_weight))
        return make_write(g);
    uint32_t what = below(g, 1000);
    if (what < 380)
        return make_read(g);
    if (what < 900)
        return make_iter(g);
    if (what < 940)
        return make_snapshot(g);
    if (what < 965)
        return make_family(g);
    return make_maintenance(g);
}

struct script script_generate(const struct script_profile *profile)
{
    static const uint32_t typical[] = {0, 10, 60, 200, 1000};
    static const uint32_t weights[] = {20, 45, 70, 90};
    static const uint32_t syncs[] = {0, 2, 10, 50};
    struct generator *g = test_alloc(sizeof *g);
    *g = (struct generator){.random = random_seeded(profile->seed), .profile = profile};
    g->value_typical = typical[below(g, 5)];
    g->write_weight = weights[below(g, 4)];
    if (profile->write_weight != 0)
        g->write_weight = profile->write_weight;
    g->delete_percent = chance(g, 20) ? 60 : 20;
    g->family_bias = chance(g, 50) ? 80 : 20;
    g->sync_percent = syncs[below(g, 4)];
    make_keys(g);
    struct script s = {0};
    uint32_t family_count = below(g, SCRIPT_FAMILIES);
    for (uint32_t i = 1; i <= family_count; i++)
        script_append(
            &s, (struct script_op){.kind = SCRIPT_CF_CREATE, .family = i, .name = ++g->next_name});
    for (uint32_t i = 0; i < profile->op_count; i++)
        script_append(&s, make_any(g));
    free(g);
    return s;
}
