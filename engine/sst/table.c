/*
 * Opening a table: the tail of the file is read in one piece, which holds the footers and, unless
 * the filter is large, everything else; then the parts are checked and taken out of it.
 */
#include "engine/sst/table.h"
#include "engine/sst/table_private.h"

#include "engine/format/file_name.h"

#include <assert.h>

#define TAIL_GUESS ((uint64_t)64 << 10) /* bytes read at first */

/* The end of the file in memory: bytes [offset, file size). */
struct tail {
    uint8_t *memory; /* owned */
    size_t size;
    uint64_t offset;
    uint64_t file_size;
};

static const uint8_t *tail_at(const struct tail *tail, uint64_t offset)
{
    assert(offset >= tail->offset && offset <= tail->file_size);
    return tail->memory + (offset - tail->offset);
}

static lsm_status tail_read(const struct table *t, struct tail *tail, uint64_t offset,
                            lsm_error *err)
{
    uint64_t size = tail->file_size - offset;
    uint8_t *memory = size > SIZE_MAX ? NULL : mem_alloc_buffer((size_t)size);
    if (memory == NULL)
        return lsm_fail_memory(err, size);
    /* What was read before is read again: simpler than moving it, and rare. */
    lsm_status status = io_file_read_exact(t->file, memory, (size_t)size, offset, err);
    if (status != LSM_OK) {
        mem_free_buffer(memory, (size_t)size);
        return status;
    }
    mem_free_buffer(tail->memory, tail->size);
    tail->memory = memory;
    tail->size = (size_t)size;
    tail->offset = offset;
    return LSM_OK;
}

static lsm_status check_size(const struct table *t, uint64_t wanted, uint64_t size, lsm_error *err)
{
    struct table_problem problem = {NULL, 0, 0};
    if (wanted != 0 && size != wanted)
        problem = (struct table_problem){"the file has another size", wanted, size};
    else if (size < TABLE_MIN_FILE_SIZE)
        problem = (struct table_problem){"the file is too short", TABLE_MIN_FILE_SIZE, size};
    else if (size % TABLE_PAGE_SIZE != 0)
        problem =
            (struct table_problem){"the file does not end with a page", 0, size % TABLE_PAGE_SIZE};
    return problem.what == NULL ? LSM_OK : table_fail_corrupt(t, "the end", size, &problem, err);
}

/* One sound footer is enough: the other page may be damaged; verification tells of it. */
static lsm_status read_footer(const struct table *t, const struct tail *tail,
                              struct table_footer *footer, lsm_error *err)
{
    lsm_status status = LSM_CORRUPT;
    struct table_problem problem = {NULL, 0, 0};
    uint64_t offset = 0;
    for (size_t i = TABLE_FOOTER_COUNT; i-- > 0 && status == LSM_CORRUPT;) {
        offset = table_footer_offset(tail->file_size, i);
        status = table_footer_decode(tail_at(tail, offset), offset, tail->file_size, t->env->uuid,
                                     t->number, footer, &problem);
    }
    if (status == LSM_CORRUPT)
        return table_fail_corrupt(t, "the footer", offset, &problem, err);
    if (status != LSM_OK)
        return lsm_fail(err, status,
                        "'%s' was written in table format %" PRIu64
                        ", this library reads up to %" PRIu64,
                        io_file_name(t->file), problem.found, problem.expected);
    return LSM_OK;
}

static lsm_status open_part(const struct table *t, const struct tail *tail,
                            struct table_extent extent, enum table_frame_kind kind,
                            const char *what, lsm_slice *payload, lsm_error *err)
{
    lsm_slice bytes = {tail_at(tail, extent.offset), (size_t)extent.size};
    uint64_t seed = hash_place(t->env->uuid, t->number, extent.offset);
    struct table_frame frame;
    struct table_problem problem;
    if (!table_frame_open_whole(bytes, seed, kind, &frame, &problem))
        return table_fail_corrupt(t, what, extent.offset, &problem, err);
    *payload = table_frame_payload(bytes, &frame);
    return LSM_OK;
}

static lsm_status take_properties(struct table *t, const struct tail *tail,
                                  const struct table_footer *footer, lsm_error *err)
{
    const char *what = "the properties part";
    lsm_slice payload;
    lsm_status status =
        open_part(t, tail, footer->properties, TABLE_FRAME_PROPERTIES, what, &payload, err);
    if (status != LSM_OK)
        return status;
    lsm_error inner = {.message = ""};
    status = table_properties_decode(payload, &t->properties, &inner);
    struct table_problem problem = {inner.message, 0, 0};
    if (status == LSM_CORRUPT)
        return table_fail_corrupt(t, what, footer->properties.offset, &problem, err);
    if (status != LSM_OK)
        return lsm_fail(err, status, "cannot read '%s': %s", io_file_name(t->file), inner.message);
    const struct table_properties *p = &t->properties;
    if (p->number != t->number)
        problem = (struct table_problem){"they are of another file", t->number, p->number};
    else if (p->data_size != footer->data.size)
        problem =
            (struct table_problem){"the data has another size", footer->data.size, p->data_size};
    else if (p->digest_size != footer->properties.offset)
        problem = (struct table_problem){"the digest ends elsewhere", footer->properties.offset,
                                         p->digest_size};
    else
        return LSM_OK;
    return table_fail_corrupt(t, what, footer->properties.offset, &problem, err);
}

static lsm_status take_index(struct table *t, const struct tail *tail,
                             const struct table_footer *footer, lsm_error *err)
{
    lsm_slice payload;
    lsm_status status =
        open_part(t, tail, footer->index, TABLE_FRAME_INDEX, "the index", &payload, err);
    if (status != LSM_OK)
        return status;
    struct table_problem problem;
    if (!table_index_decode(payload, footer->data.size, &t->index, &problem)) {
        if (problem.what == NULL)
            return lsm_fail_memory(err, payload.size);
        return table_fail_corrupt(t, "the index", footer->index.offset, &problem, err);
    }
    if (t->index.count != t->properties.block_count) {
        problem = (struct table_problem){"it has another number of blocks",
                                         t->properties.block_count, t->index.count};
        return table_fail_corrupt(t, "the index", footer->index.offset, &problem, err);
    }
    return LSM_OK;
}

static lsm_status take_filter(struct table *t, const struct tail *tail,
                              const struct table_footer *footer, lsm_error *err)
{
    if (footer->filter.size == 0)
        return LSM_OK;
    lsm_slice payload;
    lsm_status status =
        open_part(t, tail, footer->filter, TABLE_FRAME_FILTER, "the filter", &payload, err);
    if (status != LSM_OK)
        return status;
    struct table_problem problem = {"its size is impossible", 0, payload.size};
    if (payload.size == 0 || payload.size % TABLE_FILTER_BLOCK != 0)
        return table_fail_corrupt(t, "the filter", footer->filter.offset, &problem, err);
    t->filter = mem_alloc_large(64, payload.size);
    if (t->filter == NULL)
        return lsm_fail_memory(err, payload.size);
    memcpy(t->filter, payload.data, payload.size);
    t->filter_size = payload.size;
    return LSM_OK;
}

static lsm_status take_dictionary(struct table *t, const struct tail *tail,
                                  const struct table_footer *footer, lsm_error *err)
{
    if (footer->dictionary.size == 0)
        return LSM_OK;
    lsm_slice payload;
    lsm_status status = open_part(t, tail, footer->dictionary, TABLE_FRAME_DICTIONARY,
                                  "the dictionary", &payload, err);
    if (status != LSM_OK)
        return status;
    struct table_problem problem = {"it is too long", COMPRESS_MAX_DICTIONARY, payload.size};
    if (payload.size > COMPRESS_MAX_DICTIONARY)
        return table_fail_corrupt(t, "the dictionary", footer->dictionary.offset, &problem, err);
    t->dictionary = decompress_dictionary_new(payload);
    if (t->dictionary == NULL)
        return lsm_fail_memory(err, payload.size);
    t->dictionary_size = payload.size;
    return LSM_OK;
}

static lsm_status load(struct table *t, uint64_t wanted_size, lsm_error *err)
{
    struct tail tail = {0};
    struct table_footer footer;
    lsm_status status = io_file_size(t->file, &tail.file_size, err);
    if (status == LSM_OK)
        status = check_size(t, wanted_size, tail.file_size, err);
    if (status == LSM_OK)
        status =
            tail_read(t, &tail, tail.file_size > TAIL_GUESS ? tail.file_size - TAIL_GUESS : 0, err);
    if (status == LSM_OK)
        status = read_footer(t, &tail, &footer, err);
    uint64_t first = 0;
    if (status == LSM_OK) /* the parts begin where the data ends */
        first = footer.data.size & ~(uint64_t)(TABLE_PAGE_SIZE - 1);
    if (status == LSM_OK && first < tail.offset)
        status = tail_read(t, &tail, first, err);
    if (status == LSM_OK)
        status = take_properties(t, &tail, &footer, err);
    if (status == LSM_OK)
        status = take_index(t, &tail, &footer, err);
    if (status == LSM_OK)
        status = take_filter(t, &tail, &footer, err);
    if (status == LSM_OK)
        status = take_dictionary(t, &tail, &footer, err);
    mem_free_buffer(tail.memory, tail.size);
    return status;
}

lsm_status table_open(const struct table_env *env, uint64_t number, uint64_t size,
                      struct table **table, lsm_error *err)
{
    return table_open_kind(env, FILE_TABLE, number, size, table, err);
}

/* A table under the name of a blob file would answer with what nobody may see, and the other way
 * round. */
static lsm_status check_kind(const struct table *t, enum file_kind kind, lsm_error *err)
{
    if (t->properties.is_blob == (kind == FILE_BLOB))
        return LSM_OK;
    const char *name = io_file_name(t->file);
    lsm_fail(err, LSM_CORRUPT, "'%s' says that it is %s", name,
             t->properties.is_blob ? "a blob file" : "a table");
    status_place(err, name, LSM_NO_OFFSET);
    return LSM_CORRUPT;
}

lsm_status table_open_kind(const struct table_env *env, enum file_kind kind, uint64_t number,
                           uint64_t size, struct table **table, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct table *t = mem_alloc_zeroed(sizeof *t);
    if (t == NULL)
        return lsm_fail_memory(err, sizeof *t);
    t->env = env;
    t->number = number;
    lsm_status status = io_file_open(env->dir, file_name_make(kind, number, name),
                                     table_io_flags(env) | IO_FILE_RANDOM, 0, &t->file, err);
    if (status == LSM_OK)
        status = load(t, size, err);
    if (status == LSM_OK)
        status = check_kind(t, kind, err);
    if (status != LSM_OK) {
        table_close(t);
        return status;
    }
    t->charged = table_memory(t);
    block_cache_charge(env->cache, (int64_t)t->charged);
    *table = t;
    return LSM_OK;
}

void table_close(struct table *table)
{
    if (table == NULL)
        return;
    for (uint32_t i = 0; i < table->index.count; i++) {
        void *_Atomic *slot = &table->index.entries[i].slot;
        if (atomic_load_explicit(slot, memory_order_relaxed) != NULL)
            block_cache_remove(table->env->cache, slot);
    }
    block_cache_charge(table->env->cache, -(int64_t)table->charged);
    io_file_close(table->file);
    table_index_release(&table->index);
    table_properties_release(&table->properties);
    decompress_dictionary_free(table->dictionary);
    mem_free_large(table->filter, table->filter_size);
    mem_free(table);
}

uint64_t table_entry_count(const struct table *table)
{
    return table->properties.entry_count;
}

uint64_t table_memory(const struct table *table)
{
    return sizeof *table + table->index.memory + table->filter_size + table->dictionary_size;
}

const struct table_properties *table_properties(const struct table *table)
{
    return &table->properties;
}

uint64_t table_range_bytes(const struct table *table, lsm_slice first, lsm_slice limit)
{
    const struct table_properties *p = &table->properties;
    if ((first.data != NULL && slice_compare(first, p->largest) > 0) ||
        (limit.data != NULL && slice_compare(limit, p->smallest) <= 0) ||
        (first.data != NULL && limit.data != NULL && slice_compare(first, limit) >= 0))
        return 0;
    uint32_t from = 0, to = table->index.count;
    if (first.data != NULL)
        from = table_index_find(&table->index, first, ENTRY_MAX_TRAILER);
    if (limit.data != NULL)
        to = table_index_find(&table->index, limit, ENTRY_MAX_TRAILER) + 1;
    return table->index.offsets[to] - table->index.offsets[from];
}

bool table_piece_key(const struct table *table, uint32_t piece, uint32_t pieces, struct buffer *key)
{
    const struct table_index *index = &table->index;
    uint64_t before = index->offsets[index->count] / pieces * piece;
    uint32_t low = 0, limit = index->count - 1;
    while (low < limit) {
        uint32_t middle = low + (limit - low) / 2;
        if (index->offsets[middle] < before)
            low = middle + 1;
        else
            limit = middle;
    }
    buffer_clear(key);
    if (low == 0)
        buffer_append(key, table->properties.smallest.data, table->properties.smallest.size);
    else
        table_index_append_separator(index, low, key);
    return !key->failed;
}
