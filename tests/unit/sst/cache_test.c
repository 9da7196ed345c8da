/* The block cache: bounded, counted, and sound while many threads read and evict. */
#include "tests/unit/sst/fixture.h"

#include "engine/base/epoch.h"
#include "engine/sst/block_pool.h"
#include "engine/sst/cache_private.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static struct table *open_filled(struct entries *e, size_t count, size_t max_value)
{
    struct random_state r = random_seeded(99);
    *e = make_entries(&r, count, KEYS_DECIMAL, 1, max_value);
    struct table_write_options options = write_options(1);
    options.block_size = 1024;
    options.compress = true;
    struct table_meta meta = write_table(e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, 1, meta.size, &t, &f.error));
    table_meta_release(&meta);
    return t;
}

static lsm_status get(struct table *t, const struct entry *wanted, unsigned flags,
                      struct table_found *found)
{
    bool is_found;
    lsm_error error;
    lsm_status status = table_get(t, wanted->key, hash_key(wanted->key.data, wanted->key.size),
                                  ENTRY_MAX_SEQUENCE, flags, &is_found, found, &error);
    ck_assert(status != LSM_OK || is_found);
    return status;
}

static void get_and_check(struct table *t, const struct entry *wanted, unsigned flags)
{
    struct table_found found;
    epoch_enter();
    ck_ok(get(t, wanted, flags, &found));
    ck_assert(slice_equal(found.value, wanted->value));
    if (found.owned)
        block_drop(found.block);
    epoch_exit();
}

START_TEST(test_cache_cached_get_allocates_and_reads_nothing)
{
    fixture_open(1, 10 << 20);
    struct entries e;
    struct table *t = open_filled(&e, 500, 100);
    for (size_t i = 0; i < e.count; i++)
        get_and_check(t, &e.at[i], 0);
    uint64_t allocations = mem_allocation_count();
    uint64_t reads = sim_operation_count(f.disk, SIM_FAULT_READ);
    for (size_t i = 0; i < e.count; i++)
        get_and_check(t, &e.at[i], 0);
    ck_assert_uint_eq(mem_allocation_count(), allocations);
    ck_assert_uint_eq(sim_operation_count(f.disk, SIM_FAULT_READ), reads);
    uint64_t hits, misses;
    block_cache_counts(f.env.cache, &hits, &misses);
    ck_assert_uint_eq(hits + misses, 2 * e.count);
    ck_assert_uint_eq(misses, table_properties(t)->block_count);
    table_close(t);
    ck_assert_uint_eq(block_cache_bytes(f.env.cache), 0);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_cache_stays_within_its_capacity)
{
    uint64_t capacity = 20000;
    fixture_open(1, capacity);
    struct entries e;
    struct table *t = open_filled(&e, 2000, 100);
    uint64_t most = 0;
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < e.count; i++) {
            get_and_check(t, &e.at[i], 0);
            uint64_t bytes = block_cache_bytes(f.env.cache);
            ck_assert_uint_le(bytes, capacity);
            most = bytes > most ? bytes : most;
        }
    }
    ck_assert_uint_gt(most, capacity / 2);
    table_close(t);
    ck_assert_uint_eq(block_cache_bytes(f.env.cache), 0);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* A block that is read between all others stays; without the touched mark it would go. */
START_TEST(test_cache_hot_block_survives_a_scan)
{
    fixture_open(1, 20000);
    struct entries e;
    struct table *t = open_filled(&e, 2000, 100);
    get_and_check(t, &e.at[0], 0);
    get_and_check(t, &e.at[0], 0);
    uint64_t hits_before, hits, misses_before, misses;
    block_cache_counts(f.env.cache, &hits_before, &misses_before);
    for (size_t i = 1; i < e.count; i++) {
        get_and_check(t, &e.at[i], 0);
        get_and_check(t, &e.at[0], 0);
    }
    block_cache_counts(f.env.cache, &hits, &misses);
    ck_assert_uint_le(misses - misses_before, table_properties(t)->block_count);
    ck_assert_uint_ge(hits - hits_before, e.count);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_cache_without_capacity_or_fill_gives_owned_blocks)
{
    fixture_open(1, _i == 0 ? 0 : 10 << 20);
    struct entries e;
    struct table *t = open_filled(&e, 50, 100);
    struct table_found found;
    epoch_enter();
    ck_ok(get(t, &e.at[3], TABLE_NO_FILL, &found));
    ck_assert(found.owned);
    epoch_exit();
    ck_assert(slice_equal(found.value, e.at[3].value)); /* ours beyond the epoch */
    block_drop(found.block);
    ck_assert_uint_eq(block_cache_bytes(f.env.cache), 0);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_cache_kept_block_outlives_eviction_table_and_cache)
{
    fixture_open(1, _i == 0 ? 10 << 20 : 64 << 20); /* from the heap, from a pool */
    struct entries e;
    struct table *t = open_filled(&e, 50, 100);
    struct table_found found;
    epoch_enter();
    ck_ok(get(t, &e.at[3], 0, &found));
    ck_assert(!found.owned);
    block_keep(found.block);
    epoch_exit();
    table_close(t);
    fixture_close();
    ck_assert(slice_equal(found.value, e.at[3].value));
    block_drop(found.block);
    block_drop(NULL);
    free_entries(&e);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

#define PIECES 1500

static void fill_piece(uint8_t *piece, size_t size, size_t index)
{
    memset(piece, (int)(index % 251), size);
}

static void check_piece(const uint8_t *piece, size_t size, size_t index)
{
    bool intact = true;
    for (size_t i = 0; i < size; i++)
        intact = intact && piece[i] == index % 251;
    ck_assert(intact);
}

START_TEST(test_pool_pieces_do_not_overlap_and_outlive_the_pool)
{
    struct random_state r = random_seeded(4);
    struct block_pool *pool = block_pool_new();
    uint8_t *pieces[PIECES] = {NULL};
    size_t sizes[PIECES];
    for (int n = 0; n < 20000; n++) {
        size_t i = random_below(&r, PIECES);
        if (pieces[i] != NULL) {
            if (n % 8 == 0)
                check_piece(pieces[i], sizes[i], i);
            block_pool_give_back(pool, pieces[i]);
            pieces[i] = NULL;
            continue;
        }
        size_t most = random_below(&r, 10) == 0 ? BLOCK_POOL_MAX_PIECE : 9000;
        sizes[i] = 1 + random_below(&r, most);
        pieces[i] = block_pool_take(pool, sizes[i], UINT64_MAX);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % 64, 0);
        ck_assert_uint_ge(block_pool_piece_size(sizes[i]), sizes[i]);
        ck_assert_uint_le(block_pool_piece_size(sizes[i]), sizes[i] + sizes[i] / 16 + 256);
        fill_piece(pieces[i], sizes[i], i);
    }
    block_pool_close(pool);
    for (size_t i = 0; i < PIECES; i++) {
        if (pieces[i] == NULL)
            continue;
        check_piece(pieces[i], sizes[i], i);
        block_pool_give_back(pool, pieces[i]); /* the last one frees the pool: leaks are seen */
    }
}
END_TEST

/* Blocks of many sizes come and go: the memory behind them stays within the capacity. When sizes
 * change for good, slabs of the old ones are in partial use until the last of those have gone. */
START_TEST(test_pool_stays_within_the_capacity) /* 1: memory is touched ahead */
{
    enum { SLOTS = 40000 };
    const uint64_t capacity = (uint64_t)48 << 20;
    struct random_state r = random_seeded(5);
    struct block_cache *cache = block_cache_new(capacity);
    if (_i == 1)
        block_cache_touch_ahead(cache);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    uint64_t most_bytes = 0;
    for (unsigned n = 0; n < 2 * SLOTS; n++) {
        size_t size = (n < SLOTS ? 2800 : 4300) + random_below(&r, 1500);
        epoch_enter();
        void *_Atomic *slot = &slots[random_below(&r, SLOTS)];
        uint32_t index = (uint32_t)(slot - slots);
        if (block_cache_find(cache, slot, 1, index) == NULL)
            ck_assert_ptr_nonnull(
                block_cache_insert(cache, slot, 1, index, block_new(cache, size)));
        epoch_exit();
        uint64_t bytes = block_cache_bytes(cache);
        most_bytes = bytes > most_bytes ? bytes : most_bytes;
        ck_assert_uint_le(bytes, capacity);
        ck_assert_uint_le(block_cache_memory(cache), n < SLOTS ? capacity : 2 * capacity);
        if (n == 2 * SLOTS - 1)
            ck_assert_uint_gt(bytes, capacity * 3 / 4); /* the change has been got over */
    }
    ck_assert_uint_gt(most_bytes, capacity * 7 / 8);
    for (unsigned i = 0; i < SLOTS; i++)
        block_cache_remove(cache, &slots[i]);
    epoch_drain();
    block_cache_free(cache);
    free(slots);
}
END_TEST

struct sleeper {
    pthread_barrier_t barrier;
};

static void *sleep_inside(void *argument)
{
    struct sleeper *s = argument;
    epoch_enter();
    pthread_barrier_wait(&s->barrier);
    pthread_barrier_wait(&s->barrier);
    epoch_exit();
    return NULL;
}

/* Inserts `count` blocks of 16 KB, one a slot; returns how many the cache took. */
static unsigned insert_many(struct block_cache *cache, void *_Atomic *slots, unsigned count)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < count; i++) {
        epoch_enter();
        struct block *made = block_new(cache, 16000);
        bool is_in = block_cache_insert(cache, &slots[i], 1, i, made) != NULL;
        epoch_exit();
        if (!is_in)
            block_drop(made);
        taken += is_in;
    }
    return taken;
}

/* What is evicted cannot be freed while a reader sleeps inside: the memory stays bounded, too. */
START_TEST(test_cache_is_bounded_while_a_reader_sleeps)
{
    enum { SLOTS = 4000 };
    const uint64_t capacity = (uint64_t)8 << 20;
    struct block_cache *cache = block_cache_new(capacity);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    struct sleeper sleeper;
    pthread_t thread;
    pthread_barrier_init(&sleeper.barrier, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, sleep_inside, &sleeper), 0);
    pthread_barrier_wait(&sleeper.barrier);
    ck_assert_uint_lt(insert_many(cache, slots, SLOTS / 2), SLOTS / 2);
    ck_assert_uint_le(block_cache_memory(cache), capacity + capacity / 4);
    pthread_barrier_wait(&sleeper.barrier);
    pthread_join(thread, NULL);
    epoch_drain();
    ck_assert_uint_eq(insert_many(cache, slots + SLOTS / 2, SLOTS / 2), SLOTS / 2);
    ck_assert_uint_le(block_cache_memory(cache), capacity + capacity / 4);
    for (unsigned i = 0; i < SLOTS; i++)
        block_cache_remove(cache, &slots[i]);
    epoch_drain();
    block_cache_free(cache);
    pthread_barrier_destroy(&sleeper.barrier);
    free(slots);
}
END_TEST

/* Blocks of `size` bytes into `count` slots from `first` on, at most once each. */
static void fill_slots(struct block_cache *cache, void *_Atomic *slots, unsigned first,
                       unsigned count, size_t size)
{
    for (unsigned i = first; i < first + count; i++) {
        epoch_enter();
        struct block *made = block_new(cache, size);
        if (block_cache_insert(cache, &slots[i], 1, i, made) == NULL)
            block_drop(made);
        epoch_exit();
    }
    epoch_drain();
}

static void remove_all(struct block_cache *cache, void *_Atomic *slots, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        block_cache_remove(cache, &slots[i]);
    epoch_drain();
}

/* A chunk that is being touched when memory is lent is given back as soon as that is done. */
static uint64_t memory_at_rest(const struct block_cache *cache, uint64_t wanted)
{
    uint64_t memory = block_cache_memory(cache);
    for (int n = 0; memory > wanted && n < 20000; n++) {
        usleep(1000);
        memory = block_cache_memory(cache);
    }
    return memory;
}

/* What others hold comes out of the cache's memory, not only out of what it counts. 1: memory is
 * touched ahead. */
START_TEST(test_cache_lends_memory_and_has_it_back)
{
    enum { SLOTS = 6000, SIZE = 8000 };
    const uint64_t capacity = (uint64_t)32 << 20, least = (uint64_t)8 << 20, MiB = 1 << 20;
    struct block_cache *cache = block_cache_new(capacity);
    block_cache_lend(cache, 2 * MiB, least);
    if (_i == 1)
        block_cache_touch_ahead(cache);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    fill_slots(cache, slots, 0, SLOTS, SIZE);
    uint64_t full = block_cache_bytes(cache);
    ck_assert_uint_gt(full, capacity * 3 / 4);
    ck_assert_uint_le(block_cache_memory(cache), capacity);
    block_cache_charge(cache, 2 * (int64_t)MiB); /* is free */
    ck_assert_uint_eq(block_cache_bytes(cache), full);
    for (int64_t taken = 3; taken <= 16; taken += 3) {
        block_cache_charge(cache, 3 * (int64_t)MiB);
        epoch_drain();
        uint64_t most = capacity - (uint64_t)taken * MiB;
        ck_assert_uint_le(memory_at_rest(cache, most), most);
        ck_assert_uint_gt(block_cache_bytes(cache), capacity / 4);
        fill_slots(cache, slots, (unsigned)taken * 100, 300, SIZE);
        ck_assert_uint_le(block_cache_memory(cache), capacity - (uint64_t)taken * MiB);
    }
    block_cache_charge(cache, 100 * (int64_t)MiB);
    fill_slots(cache, slots, 0, SLOTS, SIZE);
    ck_assert_uint_gt(block_cache_bytes(cache), least / 2);
    ck_assert_uint_le(block_cache_memory(cache), least + 2 * BLOCK_POOL_CHUNK);
    block_cache_charge(cache, -117 * (int64_t)MiB);
    remove_all(cache, slots, SLOTS);
    fill_slots(cache, slots, 0, SLOTS, SIZE);
    ck_assert_uint_ge(block_cache_bytes(cache), full - BLOCK_POOL_CHUNK);
    remove_all(cache, slots, SLOTS);
    block_cache_free(cache);
    free(slots);
}
END_TEST

/* An empty chunk gives way before blocks do. */
START_TEST(test_cache_lends_what_nobody_uses_first)
{
    enum { SLOTS = 2000 };
    const uint64_t capacity = (uint64_t)24 << 20;
    struct block_cache *cache = block_cache_new(capacity);
    block_cache_lend(cache, 0, BLOCK_POOL_CHUNK);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    fill_slots(cache, slots, 0, SLOTS, 4000);
    for (unsigned i = 0; i < SLOTS / 2; i++)
        block_cache_remove(cache, &slots[i]);
    epoch_drain();
    uint64_t left = block_cache_bytes(cache), memory = block_cache_memory(cache);
    ck_assert_uint_ge(memory, left + 2 * BLOCK_POOL_CHUNK); /* empty chunks are kept */
    block_cache_charge(cache, (int64_t)(capacity - memory) + (int64_t)BLOCK_POOL_CHUNK);
    ck_assert_uint_eq(block_cache_bytes(cache), left);
    ck_assert_uint_lt(block_cache_memory(cache), memory);
    remove_all(cache, slots, SLOTS);
    block_cache_free(cache);
    free(slots);
}
END_TEST

/* A block that is held keeps its chunk, and that one only; nothing new gets into it. */
START_TEST(test_cache_lends_memory_beside_held_blocks)
{
    enum { SLOTS = 4000 };
    const uint64_t capacity = (uint64_t)24 << 20, MiB = 1 << 20;
    struct block_cache *cache = block_cache_new(capacity);
    block_cache_lend(cache, 0, MiB);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    fill_slots(cache, slots, 0, SLOTS, 8000);
    epoch_enter();
    struct block *held = NULL;
    for (unsigned i = SLOTS; held == NULL && i-- > 0;)
        held = block_cache_peek(cache, &slots[i], 1, i);
    ck_assert_ptr_nonnull(held);
    block_keep(held);
    memset(block_memory(held), 77, block_size(held));
    epoch_exit();
    struct block *late = block_new(cache, 8000); /* read before, put in when its chunk is left */
    block_cache_charge(cache, 22 * (int64_t)MiB);
    epoch_enter();
    ck_assert_ptr_null(block_cache_insert(cache, &slots[0], 1, 0, late));
    epoch_exit();
    block_drop(late);
    fill_slots(cache, slots, 0, SLOTS, 8000);
    ck_assert_uint_le(block_cache_memory(cache), 3 * BLOCK_POOL_CHUNK);
    for (size_t i = 0; i < block_size(held); i++)
        ck_assert_uint_eq(block_data(held)[i], 77);
    block_drop(held);
    remove_all(cache, slots, SLOTS);
    block_cache_free(cache);
    free(slots);
}
END_TEST

/* Whoever holds blocks keeps chunks from being freed that were left for others, and sizes change
 * all the time: no chunk is made that would be too many. Blocks that have no place are read all the
 * same. */
START_TEST(test_cache_that_lends_is_bounded_while_blocks_are_held)
{
    enum { SLOTS = 20000, ROUNDS = 60000, HELD = 200 };
    const uint64_t capacity = (uint64_t)16 << 20;
    struct random_state r = random_seeded(7);
    struct block_cache *cache = block_cache_new(capacity);
    block_cache_lend(cache, 0, capacity / 4);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    struct block *held[HELD] = {NULL};
    unsigned filled = 0;
    for (unsigned n = 0; n < ROUNDS; n++) {
        unsigned index = (unsigned)random_below(&r, SLOTS);
        size_t size = 1000 * (1 + n / 2000 % 10) + random_below(&r, 900);
        epoch_enter();
        struct block *made = NULL;
        if (block_cache_find(cache, &slots[index], 1, index) == NULL)
            ck_assert_ptr_nonnull(made = block_new(cache, size));
        bool is_in =
            made != NULL && block_cache_insert(cache, &slots[index], 1, index, made) != NULL;
        if (is_in && n % 100 == 0) {
            block_drop(held[n / 100 % HELD]);
            block_keep(held[n / 100 % HELD] = made);
        }
        filled += is_in;
        if (!is_in)
            block_drop(made);
        epoch_exit();
        ck_assert_uint_le(block_cache_memory(cache), capacity);
    }
    ck_assert_uint_gt(filled, ROUNDS / 4);
    for (unsigned i = 0; i < HELD; i++)
        block_drop(held[i]);
    remove_all(cache, slots, SLOTS);
    fill_slots(cache, slots, 0, SLOTS, 4000); /* nothing is left of the trouble */
    ck_assert_uint_gt(block_cache_bytes(cache), capacity * 3 / 4);
    ck_assert_uint_le(block_cache_memory(cache), capacity);
    remove_all(cache, slots, SLOTS);
    block_cache_free(cache);
    free(slots);
}
END_TEST

/* Sizes change for good: what is left in slabs of old ones is given back, chunk by chunk. */
START_TEST(test_cache_that_lends_is_never_spread)
{
    enum { SLOTS = 40000 };
    const uint64_t capacity = (uint64_t)24 << 20;
    struct random_state r = random_seeded(6);
    struct block_cache *cache = block_cache_new(capacity);
    block_cache_lend(cache, 0, capacity / 2);
    void *_Atomic *slots = calloc(SLOTS, sizeof *slots);
    for (unsigned n = 0; n < SLOTS; n++) {
        size_t size = 1000 * (1 + n / 5000) + random_below(&r, 900);
        epoch_enter();
        unsigned index = (unsigned)random_below(&r, SLOTS);
        if (block_cache_find(cache, &slots[index], 1, index) == NULL) {
            struct block *made = block_new(cache, size);
            if (block_cache_insert(cache, &slots[index], 1, index, made) == NULL)
                block_drop(made);
        }
        epoch_exit();
        ck_assert_uint_le(block_cache_memory(cache), capacity + BLOCK_POOL_CHUNK);
    }
    ck_assert_uint_gt(block_cache_bytes(cache), capacity * 3 / 4);
    remove_all(cache, slots, SLOTS);
    block_cache_free(cache);
    free(slots);
}
END_TEST

static uint64_t pool_bytes_become(const struct block_pool *pool, uint64_t wanted)
{
    for (int n = 0; block_pool_bytes(pool) != wanted && n < 20000; n++)
        usleep(1000);
    return block_pool_bytes(pool);
}

/* Chunks are counted before they are made, and empty once they are. */
static uint64_t pool_empty_becomes(struct block_pool *pool, uint64_t wanted)
{
    for (int n = 0; block_pool_empty(pool) != wanted && n < 20000; n++)
        usleep(1000);
    return block_pool_empty(pool);
}

/* How many pages of the chunk that the piece is in have memory behind them. */
static unsigned touched_pages(const uint8_t *piece)
{
    unsigned char pages[BLOCK_POOL_CHUNK / MEM_PAGE];
    unsigned touched = 0;
    void *chunk = (void *)block_pool_chunk(piece); /* NOLINT: an address, masked */
    ck_assert_int_eq(mincore(chunk, BLOCK_POOL_CHUNK, pages), 0);
    for (size_t i = 0; i < sizeof pages; i++)
        touched += pages[i] & 1;
    return touched;
}

/* Chunks stand ready before they are wanted, an eighth of those in use, and never too many. */
START_TEST(test_pool_touches_ahead_and_keeps_its_bound)
{
    enum { CHUNKS = 20, EACH = 60, SIZE = 32768 };
    const uint64_t most = CHUNKS * BLOCK_POOL_CHUNK;
    struct block_pool *pool = block_pool_new();
    block_pool_touch_ahead(pool, most);
    uint8_t *pieces[CHUNKS * EACH] = {NULL};
    unsigned count = 0;
    uint64_t used = 0;
    while ((pieces[count] = block_pool_take(pool, SIZE - 256, most)) != NULL) {
        bool is_new = true;
        for (unsigned i = 0; i < count; i++)
            is_new = is_new && block_pool_chunk(pieces[i]) != block_pool_chunk(pieces[count]);
        used += is_new;
        uint64_t with_ahead = used + (used + 7) / 8;
        uint64_t wanted = (with_ahead < CHUNKS ? with_ahead : CHUNKS) * BLOCK_POOL_CHUNK;
        ck_assert_uint_eq(pool_bytes_become(pool, wanted), wanted);
        uint64_t ahead = wanted - used * BLOCK_POOL_CHUNK;
        ck_assert_uint_eq(pool_empty_becomes(pool, ahead), ahead);
        if (used > 1)
            ck_assert_uint_eq(touched_pages(pieces[count]), BLOCK_POOL_CHUNK / MEM_PAGE);
        count++;
    }
    ck_assert_uint_ge(count, CHUNKS * (BLOCK_POOL_CHUNK / BLOCK_POOL_SLAB) * 3);
    ck_assert_uint_eq(block_pool_bytes(pool), most);
    for (unsigned i = 0; i < count; i++)
        block_pool_give_back(pool, pieces[i]);
    block_pool_trim(pool, BLOCK_POOL_CHUNK);
    ck_assert_uint_le(pool_bytes_become(pool, BLOCK_POOL_CHUNK), BLOCK_POOL_CHUNK);
    block_pool_close(pool);
}
END_TEST

#define THREADS 4

struct taker {
    struct block_pool *pool;
    uint64_t seed;
};

static void *take_and_give(void *argument)
{
    const struct taker *t = argument;
    struct random_state r = random_seeded(t->seed);
    uint8_t *pieces[100] = {NULL};
    for (int n = 0; n < 4000; n++) {
        uint8_t **p = &pieces[random_below(&r, 100)];
        if (*p != NULL) {
            if (**p != t->seed)
                abort();
            block_pool_give_back(t->pool, *p);
            *p = NULL;
        } else if ((*p = block_pool_take(t->pool, 20000, 8 * BLOCK_POOL_CHUNK)) != NULL) {
            **p = (uint8_t)t->seed;
        }
        if (n % 500 == 0)
            block_pool_trim(t->pool, 4 * BLOCK_POOL_CHUNK);
        if (block_pool_bytes(t->pool) > 8 * BLOCK_POOL_CHUNK)
            abort();
    }
    for (int i = 0; i < 100; i++)
        if (pieces[i] != NULL)
            block_pool_give_back(t->pool, pieces[i]);
    return NULL;
}

START_TEST(test_pool_threads_take_beside_the_toucher)
{
    struct block_pool *pool = block_pool_new();
    block_pool_touch_ahead(pool, UINT64_MAX);
    pthread_t threads[THREADS];
    struct taker takers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){pool, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, &takers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    block_pool_close(pool);
}
END_TEST

START_TEST(test_pool_largest_pieces_of_each_class_fit_their_chunk)
{
    for (size_t size = 1; size <= BLOCK_POOL_MAX_PIECE; size += size < 5000 ? 37 : 1021) {
        struct block_pool *pool = block_pool_new();
        size_t piece = block_pool_piece_size(size);
        uint8_t *first = block_pool_take(pool, size, UINT64_MAX);
        uint8_t *second = block_pool_take(pool, size, UINT64_MAX);
        memset(first, 1, piece);
        memset(second, 2, piece);
        ck_assert_uint_eq(first[0] + first[piece - 1], 2);
        block_pool_give_back(pool, first);
        block_pool_give_back(pool, second);
        block_pool_close(pool);
    }
    ck_assert_uint_eq(block_pool_piece_size(BLOCK_POOL_MAX_PIECE), BLOCK_POOL_MAX_PIECE);
    block_pool_close(NULL);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

struct reader {
    struct table *table;
    const struct entries *entries;
    uint64_t seed;
};

static void read_some(struct reader *reader, struct random_state *r)
{
    const struct entries *e = reader->entries;
    for (int n = 0; n < 1500; n++) {
        size_t at = random_below(r, e->count);
        struct table_found found;
        struct block *kept = NULL;
        epoch_enter();
        if (get(reader->table, &e->at[at], random_below(r, 10) == 0 ? TABLE_NO_FILL : 0, &found) !=
            LSM_OK)
            abort();
        if (!slice_equal(found.value, e->at[at].value))
            abort();
        if (found.owned)
            block_drop(found.block);
        else if (random_below(r, 4) == 0)
            block_keep(kept = found.block);
        epoch_exit();
        if (kept != NULL && !slice_equal(found.value, e->at[at].value))
            abort();
        block_drop(kept);
    }
}

static void scan_some(struct reader *reader, struct random_state *r)
{
    const struct entries *e = reader->entries;
    struct iter *it;
    lsm_error error;
    struct table_iter_options options = {.whole = random_below(r, 2) == 0};
    if (table_iter_new(reader->table, &options, &it, &error) != LSM_OK)
        abort();
    size_t at = random_below(r, e->count);
    iter_seek(it, e->at[at].key, ENTRY_MAX_TRAILER);
    for (int n = 0; n < 300 && it->valid; n++, at++) {
        if (!slice_equal(it->entry->key, e->at[at].key) ||
            !slice_equal(it->entry->value, e->at[at].value))
            abort();
        iter_next(it);
    }
    if (it->status != LSM_OK)
        abort();
    iter_release(it);
}

static void *reader_run(void *argument)
{
    struct reader *reader = argument;
    struct random_state r = random_seeded(reader->seed);
    for (int round = 0; round < 3; round++) {
        read_some(reader, &r);
        scan_some(reader, &r);
    }
    return NULL;
}

START_TEST(test_cache_threads_with_a_tiny_cache_read_right_answers)
{
    fixture_open(1, 6000);
    struct entries e;
    struct table *t = open_filled(&e, 1500, 100);
    pthread_t threads[THREADS];
    struct reader readers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){t, &e, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader_run, &readers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_le(block_cache_bytes(f.env.cache), 6000);
    table_close(t);
    ck_assert_uint_eq(block_cache_bytes(f.env.cache), 0);
    free_entries(&e);
    fixture_close();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cache");
    TCase *c = tcase_create("cache");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_cache_cached_get_allocates_and_reads_nothing);
    tcase_add_test(c, test_cache_stays_within_its_capacity);
    tcase_add_test(c, test_cache_hot_block_survives_a_scan);
    tcase_add_loop_test(c, test_cache_without_capacity_or_fill_gives_owned_blocks, 0, 2);
    tcase_add_loop_test(c, test_cache_kept_block_outlives_eviction_table_and_cache, 0, 2);
    tcase_add_test(c, test_pool_pieces_do_not_overlap_and_outlive_the_pool);
    tcase_add_loop_test(c, test_pool_stays_within_the_capacity, 0, 2);
    tcase_add_test(c, test_cache_is_bounded_while_a_reader_sleeps);
    tcase_add_loop_test(c, test_cache_lends_memory_and_has_it_back, 0, 2);
    tcase_add_test(c, test_cache_lends_what_nobody_uses_first);
    tcase_add_test(c, test_cache_lends_memory_beside_held_blocks);
    tcase_add_test(c, test_cache_that_lends_is_never_spread);
    tcase_add_test(c, test_cache_that_lends_is_bounded_while_blocks_are_held);
    tcase_add_test(c, test_pool_touches_ahead_and_keeps_its_bound);
    tcase_add_test(c, test_pool_threads_take_beside_the_toucher);
    tcase_add_test(c, test_pool_largest_pieces_of_each_class_fit_their_chunk);
    tcase_add_test(c, test_cache_threads_with_a_tiny_cache_read_right_answers);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
