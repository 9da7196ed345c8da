/* Bringing a data block into memory: whole pages from the file, checked, decoded, published. */
#include "engine/format/block_columns.h"
#include "engine/sst/table_fetch.h"
#include "engine/sst/table_private.h"

#include <assert.h>

lsm_status table_fail_corrupt(const struct table *table, const char *what, uint64_t offset,
                              const struct table_problem *problem, lsm_error *err)
{
    const char *name = io_file_name(table->file);
    if (problem->expected == 0 && problem->found == 0)
        lsm_fail(err, LSM_CORRUPT, "%s of '%s' at offset %" PRIu64 " is damaged: %s", what, name,
                 offset, problem->what);
    else
        lsm_fail(err, LSM_CORRUPT,
                 "%s of '%s' at offset %" PRIu64 " is damaged: %s (expected %" PRIu64
                 ", found %" PRIu64 ")",
                 what, name, offset, problem->what, problem->expected, problem->found);
    status_place(err, name, offset);
    status_numbers(err, problem->expected, problem->found);
    return LSM_CORRUPT;
}

static lsm_status fail_block(const struct table *table, uint64_t offset, const char *what,
                             uint64_t expected, uint64_t found, lsm_error *err)
{
    struct table_problem problem = {what, expected, found};
    return table_fail_corrupt(table, "a data block", offset, &problem, err);
}

/* Payload to decoded form. */
static lsm_status unpack(const struct table *table, uint64_t offset,
                         const struct table_frame *frame, lsm_slice payload, struct block *block,
                         lsm_error *err)
{
    if (frame->compression == TABLE_RAW) {
        memcpy(block_memory(block), payload.data, payload.size);
        return LSM_OK;
    }
    if (block_wants_dictionary(frame) && table->dictionary == NULL)
        return fail_block(table, offset, "it wants a dictionary and there is none", 0, 0, err);
    bool no_memory;
    const char *wrong = block_unpack(block_cache_pool(table->env->cache), table->dictionary, frame,
                                     payload, block_memory(block), &no_memory);
    if (no_memory)
        return lsm_fail_memory(err, block_size(block));
    return wrong == NULL ? LSM_OK : fail_block(table, offset, wrong, 0, 0, err);
}

/* Where the table says which sequence number its entries have, a block may say none. */
static const char *check_sequences(const struct table *table, const struct table_frame *frame,
                                   const uint8_t *data)
{
    if (table->properties.sequence_base == 0)
        return NULL;
    if (frame->max_sequence != 0 || (data[8] & BLOCK_LONG_TRAILERS) != 0)
        return "it has sequence numbers of its own, in a table that was taken in whole";
    return NULL;
}

lsm_status table_block_decode(const struct table *table, uint32_t index, const uint8_t *bytes,
                              struct block **block, lsm_error *err)
{
    struct table_span span = table_blocks_span(table, index, index + 1);
    lsm_slice whole = {bytes, (size_t)span.size};
    uint64_t seed = hash_place(table->env->uuid, table->number, span.offset);
    struct table_frame frame;
    struct table_problem problem;
    if (!table_frame_open_whole(whole, seed, TABLE_FRAME_DATA, &frame, &problem))
        return table_fail_corrupt(table, "a data block", span.offset, &problem, err);
    if (frame.cf != table->properties.cf)
        return fail_block(table, span.offset, "it belongs to another column family",
                          table->properties.cf, frame.cf, err);
    struct block *made = block_new(table->env->cache, frame.raw_size);
    if (made == NULL)
        return lsm_fail_memory(err, frame.raw_size);
    lsm_status status =
        unpack(table, span.offset, &frame, table_frame_payload(whole, &frame), made, err);
    const char *wrong = status == LSM_OK ? block_check(block_data(made), block_size(made)) : NULL;
    if (status == LSM_OK && wrong == NULL)
        wrong = check_sequences(table, &frame, block_data(made));
    if (wrong != NULL)
        status = fail_block(table, span.offset, wrong, 0, 0, err);
    else if (status == LSM_OK && bytes_get_u32(block_data(made)) != frame.entry_count)
        status = fail_block(table, span.offset, "its entry count differs from its header's",
                            frame.entry_count, bytes_get_u32(block_data(made)), err);
    if (status != LSM_OK) {
        block_drop(made);
        return status;
    }
    *block = made;
    return LSM_OK;
}

lsm_status table_block_read(const struct table *table, uint32_t index, struct block **block,
                            lsm_error *err)
{
    struct table_span span = table_blocks_span(table, index, index + 1);
    struct table_span pages = table_pages(span);
    uint8_t *memory = table_alloc_pages(pages.size);
    if (memory == NULL)
        return lsm_fail_memory(err, pages.size);
    lsm_status status =
        io_file_read_exact(table->file, memory, (size_t)pages.size, pages.offset, err);
    if (status == LSM_OK)
        status =
            table_block_decode(table, index, memory + (span.offset - pages.offset), block, err);
    mem_free_buffer(memory, (size_t)pages.size);
    return status;
}

struct block *table_block_publish(struct table *table, uint32_t index, unsigned flags,
                                  struct block *block, bool *owned)
{
    struct block *used = NULL;
    if (!(flags & TABLE_NO_FILL))
        used = block_cache_insert(table->env->cache, table_slot(table, index), table->number, index,
                                  block);
    *owned = used == NULL;
    return used == NULL ? block : used;
}

lsm_status table_block_get(struct table *table, uint32_t index, unsigned flags,
                           struct block **block, bool *owned, lsm_error *err)
{
    struct block *found = table_block_find(table, index);
    *owned = false;
    if (found == NULL) {
        struct block *read;
        lsm_status status = table_block_read(table, index, &read, err);
        if (status != LSM_OK)
            return status;
        found = table_block_publish(table, index, flags, read, owned);
    }
    *block = found;
    return LSM_OK;
}

/* ---- through somebody else's queue ----------------------------------------------------------- */

static struct table_span pages_of(const struct table *table, uint32_t index)
{
    return table_pages(table_blocks_span(table, index, index + 1));
}

size_t table_fetch_size(const struct table *table, uint32_t index)
{
    uint64_t size = pages_of(table, index).size;
    return size > SIZE_MAX ? SIZE_MAX : (size_t)size;
}

void table_fetch_begin(struct table *table, uint32_t index, void *memory,
                       struct io_request *request)
{
    struct table_span pages = pages_of(table, index);
    *request = (struct io_request){
        .operation = IO_READ,
        .file = table->file,
        .memory = memory,
        .size = (size_t)pages.size,
        .offset = pages.offset,
    };
}

lsm_status table_fetch_finish(struct table *table, uint32_t index, unsigned flags,
                              const struct io_request *request, struct block **block, bool *owned,
                              lsm_error *err)
{
    assert(epoch_is_inside());
    uint64_t offset = table_blocks_span(table, index, index + 1).offset;
    if (request->os_errno != 0)
        return io_request_error(request, err);
    if (request->transferred != request->size)
        return fail_block(table, offset, "the file ends too early", request->size,
                          request->transferred, err);
    struct block *decoded;
    const uint8_t *bytes = request->memory;
    lsm_status status =
        table_block_decode(table, index, bytes + (offset - request->offset), &decoded, err);
    if (status == LSM_OK)
        *block = table_block_publish(table, index, flags, decoded, owned);
    return status;
}
