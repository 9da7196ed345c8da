/*
 * One number for the memory of a process: how the option `memory` is shared out. What was given by
 * itself keeps its value, the rest is divided by fixed parts, and the block cache gets what is
 * left.
 *
 *     memtables   a quarter: memtable_count, and one that is flushed and still read
 *     merges      8 MiB a worker, but no more than a fifth
 *     tables      an eighth: indexes and filters of as many open tables as that holds
 *     stage       a 64th, 256 KiB to 16 MiB
 *     heap        an eighth, up to 12 MiB: what reading threads use, and what the heap leaves unused
 *     blocks      the rest, about two fifths; of that one part in 17 for those still being freed
 *
 * What reads ahead, for merges and other iterators, keeps to its part by smaller windows; nobody
 * waits for memory.
 */
#include "engine/db/db_private.h"

#include "engine/base/parse.h"

#define MEMTABLE_PART     16 /* one memtable of the whole */
#define MEMTABLE_UNIT     ((uint64_t)64 << 10)
#define MEMTABLE_LARGE    ((uint64_t)64 << 20)
#define MERGE_BYTES       ((uint64_t)8 << 20) /* of a worker: what is read ahead and written behind */
#define MERGE_WRITE_BYTES ((uint64_t)3 << 20) /* of that, for what is written */
#define MERGE_PART        5
#define TABLE_PART        8
#define TABLE_BYTES       ((uint64_t)512 << 10) /* of an open one of 32 MiB, about */
#define TABLE_MOST        1000
#define TABLE_LEAST       16
#define STAGE_PART        64
#define STAGE_LEAST       ((uint64_t)256 << 10)
#define STAGE_MOST        ((uint64_t)16 << 20)
#define HEAP_PART         8
#define HEAP_MOST         ((uint64_t)12 << 20)
#define RETIRED_PART      17 /* of the cache's bytes, see too_much_is_retired() */
#define CACHE_PART        16 /* it gets at least so much of the whole */

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
    if (o->max_open_tables == 0)
        o->max_open_tables =
            (uint32_t)within(o->memory / TABLE_PART / TABLE_BYTES, TABLE_LEAST, TABLE_MOST);
}

static uint64_t merge_bytes(const lsm_options *o, uint32_t workers)
{
    uint64_t bytes = o->workers == LSM_NO_WORKERS ? MERGE_BYTES : workers * MERGE_BYTES;
    return bytes < o->memory / MERGE_PART ? bytes : o->memory / MERGE_PART;
}

int64_t db_memory_ahead(const lsm_options *o)
{
    uint64_t written =
        o->workers == LSM_NO_WORKERS ? MERGE_WRITE_BYTES : o->workers * MERGE_WRITE_BYTES;
    uint64_t merges = merge_bytes(o, o->workers);
    return (int64_t)(merges - within(written, 0, merges / 2));
}

lsm_status db_memory_share(lsm_options *o, uint32_t memtable_count, uint32_t workers,
                           lsm_error *err)
{
    share_fixed(o);
    uint64_t tables = within(o->max_open_tables * TABLE_BYTES, 0, o->memory / TABLE_PART);
    uint64_t taken = merge_bytes(o, workers) + tables + o->stage_size;
    taken += (memtable_count + UINT64_C(1)) * o->memtable_size;
    taken += within(o->memory / HEAP_PART, 0, HEAP_MOST);
    uint64_t cache = o->cache_size == LSM_NO_CACHE ? 0 : o->cache_size;
    uint64_t least = o->cache_size == 0 ? o->memory / CACHE_PART : cache;
    if (taken > o->memory || o->memory - taken < least) {
        char all[PARSE_SIZE_TEXT], rest[PARSE_SIZE_TEXT];
        lsm_status status = lsm_fail(
            err, LSM_INVALID,
            "option 'memory' of %s is too small: %" PRIu32
            " memtables and one in use, the stage file, tables and merges take %s, and "
            "the cache is left out of that",
            parse_format_size(o->memory, all), memtable_count, parse_format_size(taken, rest));
        status_numbers(err, taken + least, o->memory);
        return status;
    }
    if (o->cache_size == 0)
        o->cache_size = (o->memory - taken) / RETIRED_PART * (RETIRED_PART - 1);
    return LSM_OK;
}
