/*
 * One number for the memory of a process: how the option `memory` is shared out. What was given by
 * itself keeps its value, the rest is divided by fixed parts, and the block cache gets what is
 * left.
 *
 *     memtables   a quarter: memtable_count, and two that are flushed and still read
 *     merges      8 MiB a worker, but no more than a fifth
 *     log         the stage file, a 64th, 256 KiB to 16 MiB; and what the log is written from
 *     heap        a sixth, up to 16 MiB: what reading threads use, and what it leaves unused. Eight
 *                 of them need half of that: from 24 to 48 MiB it is half of what is beyond 16 MiB,
 *                 up to 8 MiB, but not beside a shared cache, where it would be too much in all
 *     blocks      the rest, about two fifths; of that one part in 17 for those still being freed
 *
 * Indexes and filters of open tables come out of the blocks' part, as they are opened, but for a
 * 16th of the whole: without its index a table has no blocks. A cache that is shared cannot give
 * way; then tables have an eighth.
 *
 * What reads ahead, for merges and other iterators, keeps to its part by smaller windows; nobody
 * waits for memory.
 */
#include "engine/db/db_private.h"

#include "engine/base/parse.h"

#define MEMTABLE_PART     20 /* one memtable of the whole */
#define MEMTABLES_READ    2  /* that are flushed already */
#define MEMTABLE_UNIT     ((uint64_t)64 << 10)
#define MEMTABLE_LARGE    ((uint64_t)64 << 20)
#define MERGE_BYTES       ((uint64_t)8 << 20) /* of a worker: what is read ahead and written behind */
#define MERGE_WRITE_BYTES ((uint64_t)5 << 20) /* of that, for what is written */
#define MERGE_PART        5
#define TABLE_PART        8 /* beside a shared cache */
#define STAGE_PART        64
#define STAGE_LEAST       ((uint64_t)256 << 10)
#define STAGE_MOST        ((uint64_t)16 << 20)
#define SEGMENT_BYTES     ((uint64_t)1 << 20) /* what is shared besides */
#define LOG_BYTES         ((uint64_t)1 << 20) /* what it is written from */
#define HEAP_PART         6
#define HEAP_MOST         ((uint64_t)16 << 20)
#define HEAP_READERS      ((uint64_t)8 << 20)  /* for these a larger part, */
#define HEAP_BEYOND       ((uint64_t)16 << 20) /* half of what is beyond */
#define RETIRED_PART      17                   /* of the cache's bytes, see too_much_is_retired() */
#define CACHE_PART        16                   /* it keeps at least so much of the whole */

static uint64_t within(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static void share_fixed(lsm_options *o)
{
    if (o->memtable_size == 0)
        o->memtable_size = within(o->memory / MEMTABLE_PART / MEMTABLE_UNIT * MEMTABLE_UNIT,
                                  MEMTABLE_UNIT, MEMTABLE_LARGE);
    if (o->stage_size == 0)
        o->stage_size =
            within(o->memory / STAGE_PART / IO_ALIGNMENT * IO_ALIGNMENT, STAGE_LEAST, STAGE_MOST);
}

static uint64_t merge_bytes(const lsm_options *o, uint32_t workers)
{
    uint64_t bytes = o->workers == LSM_NO_WORKERS ? MERGE_BYTES : workers * MERGE_BYTES;
    return bytes < o->memory / MERGE_PART ? bytes : o->memory / MERGE_PART;
}

static uint64_t written_bytes(const lsm_options *o, uint32_t workers)
{
    uint64_t bytes = o->workers == LSM_NO_WORKERS ? MERGE_WRITE_BYTES : workers * MERGE_WRITE_BYTES;
    return within(bytes, 0, merge_bytes(o, workers) / 3 * 2);
}

static uint64_t cache_bytes(const lsm_options *o)
{
    return o->cache_size == LSM_NO_CACHE ? 0 : o->cache_size;
}

static uint64_t heap_bytes(const lsm_options *o)
{
    uint64_t beyond = o->memory > HEAP_BEYOND ? o->memory - HEAP_BEYOND : 0;
    uint64_t readers = o->shared_cache ? 0 : within(beyond / 2, 0, HEAP_READERS);
    return within(o->memory / HEAP_PART, readers, HEAP_MOST);
}

/* All but the last two; returns their sum. The counts may not be in the options yet. */
static uint64_t fixed_parts(const lsm_options *o, uint32_t memtable_count, uint32_t workers,
                            struct db_memory_parts *p)
{
    *p = (struct db_memory_parts){
        .memtables = (memtable_count + (uint64_t)MEMTABLES_READ) * o->memtable_size + SEGMENT_BYTES,
        .log = o->stage_size + LOG_BYTES,
        .written = written_bytes(o, workers),
        .heap = heap_bytes(o)};
    p->ahead = merge_bytes(o, workers) - p->written;
    return p->memtables + p->log + p->written + p->ahead + p->heap;
}

lsm_status db_memory_share(lsm_options *o, uint32_t memtable_count, uint32_t workers,
                           lsm_error *err)
{
    share_fixed(o);
    struct db_memory_parts parts;
    uint64_t taken = fixed_parts(o, memtable_count, workers, &parts);
    taken += o->shared_cache ? o->memory / TABLE_PART : 0;
    uint64_t least = within(cache_bytes(o), o->memory / CACHE_PART, UINT64_MAX);
    if (taken > o->memory || o->memory - taken < least) {
        char all[PARSE_SIZE_TEXT], rest[PARSE_SIZE_TEXT];
        lsm_status status = lsm_fail(
            err, LSM_INVALID,
            "option 'memory' of %s is too small: %" PRIu32
            " memtables and two in use, the log and merges take %s, and the cache and tables are "
            "left out of that",
            parse_format_size(o->memory, all), memtable_count, parse_format_size(taken, rest));
        status_numbers(err, taken + least, o->memory);
        return status;
    }
    if (o->cache_size == 0)
        o->cache_size = (o->memory - taken) / RETIRED_PART * (RETIRED_PART - 1);
    return LSM_OK;
}

void db_memory_parts(const lsm_options *o, struct db_memory_parts *parts)
{
    *parts = (struct db_memory_parts){0};
    if (o->memory == 0)
        return;
    uint64_t left = o->memory - fixed_parts(o, o->memtable_count, o->workers, parts);
    uint64_t kept = o->shared_cache ? cache_bytes(o) : o->memory / CACHE_PART;
    parts->blocks_and_tables = left;
    parts->tables_most = left > kept ? left - kept : 1;
}

void db_memory_lend(const lsm_options *o, struct block_cache *cache)
{
    struct db_memory_parts parts;
    db_memory_parts(o, &parts);
    if (o->memory == 0 || o->shared_cache)
        return;
    uint64_t blocks = cache_bytes(o) + cache_bytes(o) / (RETIRED_PART - 1);
    uint64_t left = parts.blocks_and_tables;
    block_cache_lend(cache, left > blocks ? left - blocks : 0, o->memory / CACHE_PART);
}
