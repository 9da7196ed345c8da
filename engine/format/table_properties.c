/* The message's struct is kept out of the rest of the engine; decoding copies into one allocation.
 */
#include "engine/format/table_properties.h"

#include "engine/base/memory.h"
#include "engine/format/proto_alloc.h"
#include "proto/table.pb-c.h"

#include "engine/format/entry.h"

#include <limits.h>

/* Bits of `incompatible`: never renumber. */
#define NEEDS_SEQUENCE_BASE UINT64_C(1)
#define NEEDS_BLOBS         UINT64_C(2) /* it refers to blob files, or is one */
#define NEEDS_KNOWN         (NEEDS_SEQUENCE_BASE | NEEDS_BLOBS)

typedef Lsm__Table__BlobUse proto_use;

static ProtobufCBinaryData borrow(lsm_slice s)
{
    return (ProtobufCBinaryData){s.size, (uint8_t *)(uintptr_t)s.data};
}

/* The uses as protobuf-c wants them: pointers, then what they point to. NULL without memory. */
static proto_use **pack_blobs(const struct blob_use *blobs, size_t count)
{
    proto_use **pointers = mem_alloc(count * (sizeof(proto_use *) + sizeof(proto_use)));
    if (pointers == NULL)
        return NULL;
    proto_use *uses = (proto_use *)(void *)(pointers + count);
    for (size_t i = 0; i < count; i++) {
        uses[i] = (proto_use)LSM__TABLE__BLOB_USE__INIT;
        uses[i].number = blobs[i].number;
        uses[i].entry_count = blobs[i].entry_count;
        uses[i].bytes = blobs[i].bytes;
        pointers[i] = &uses[i];
    }
    return pointers;
}

lsm_status table_properties_encode(const struct table_properties *p, struct buffer *to,
                                   lsm_error *err)
{
    Lsm__Table__Properties m = LSM__TABLE__PROPERTIES__INIT;
    m.number = p->number;
    m.family = p->cf;
    m.family_name = borrow(p->cf_name);
    m.level = p->level;
    m.smallest = borrow(p->smallest);
    m.largest = borrow(p->largest);
    m.min_sequence = p->min_sequence;
    m.max_sequence = p->max_sequence;
    m.entry_count = p->entry_count;
    m.delete_count = p->delete_count;
    m.key_count = p->key_count;
    m.raw_size = p->raw_size;
    m.block_count = p->block_count;
    m.data_size = p->data_size;
    m.block_size = p->block_size;
    m.filter_bits = p->filter_bits;
    m.compressed = p->compressed;
    m.compression_level = p->compression_level;
    m.job = p->job;
    m.output_index = p->output_index;
    m.replaced = (uint64_t *)(uintptr_t)p->replaced;
    m.n_replaced = p->replaced_count;
    m.last_output = p->last_output;
    m.replaced_jobs = (uint64_t *)(uintptr_t)p->replaced_jobs;
    m.n_replaced_jobs = p->replaced_job_count;
    m.digest = p->digest;
    m.digest_size = p->digest_size;
    m.writer = borrow(p->writer);
    m.family_options = borrow(p->cf_options);
    m.sequence_base = p->sequence_base;
    m.oldest_time = p->oldest_time;
    m.newest_time = p->newest_time;
    m.incompatible = (p->sequence_base != 0 ? NEEDS_SEQUENCE_BASE : 0) |
                     (p->is_blob || p->blob_count > 0 ? NEEDS_BLOBS : 0);
    m.is_blob = p->is_blob;
    m.n_blobs = p->blob_count;
    if (p->blob_count > 0)
        m.blobs = pack_blobs(p->blobs, p->blob_count);
    if (p->blob_count > 0 && m.blobs == NULL)
        return lsm_fail_memory(err, p->blob_count * sizeof(proto_use));

    lsm_status status = LSM_OK;
    uint8_t *at = NULL;
    size_t size = lsm__table__properties__get_packed_size(&m);
    if (size > TABLE_PROPERTIES_MAX_SIZE)
        status = lsm_fail(err, LSM_TOO_LARGE,
                          "the properties of table %" PRIu64 " take %zu bytes, at most %zu fit",
                          p->number, size, TABLE_PROPERTIES_MAX_SIZE);
    else if ((at = buffer_grow(to, size)) == NULL)
        status = lsm_fail_memory(err, size);
    else
        lsm__table__properties__pack(&m, at);
    mem_free(m.blobs);
    return status;
}

static const char *check_blobs(const Lsm__Table__Properties *m)
{
    uint64_t entries = 0;
    if (((m->incompatible & NEEDS_BLOBS) != 0) != (m->is_blob || m->n_blobs > 0))
        return "what it refers to in blob files and its mark disagree";
    if (m->is_blob && (m->n_blobs > 0 || m->delete_count > 0 || m->sequence_base != 0))
        return "a blob file can hold values only";
    for (size_t i = 0; i < m->n_blobs; i++) {
        const proto_use *use = m->blobs[i];
        if (use->number <= (i > 0 ? m->blobs[i - 1]->number : 0) || use->entry_count == 0 ||
            use->entry_count > m->entry_count - m->delete_count - entries)
            return "what it refers to in blob files is impossible";
        entries += use->entry_count;
    }
    return NULL;
}

/* NULL when the fields can be believed, else which cannot. */
static const char *check(const Lsm__Table__Properties *m)
{
    if (m->family_name.len > LSM_MAX_CF_NAME)
        return "the column family's name is too long";
    if (m->family_options.len > TABLE_OPTIONS_MAX_SIZE)
        return "the options of the column family are too long";
    if (m->smallest.len > LSM_MAX_KEY_SIZE || m->largest.len > LSM_MAX_KEY_SIZE)
        return "a bound is longer than a key may be";
    if (slice_compare((lsm_slice){m->smallest.data, m->smallest.len},
                      (lsm_slice){m->largest.data, m->largest.len}) > 0)
        return "the smallest key is above the largest";
    if (m->min_sequence > m->max_sequence)
        return "the smallest sequence is above the largest";
    if (m->entry_count == 0 || m->delete_count > m->entry_count || m->key_count > m->entry_count ||
        m->key_count == 0 || m->block_count > m->entry_count || m->block_count == 0)
        return "the counts are impossible";
    if (((m->incompatible & NEEDS_SEQUENCE_BASE) != 0) != (m->sequence_base != 0))
        return "the sequence number of all entries and its mark disagree";
    if (m->sequence_base != 0 &&
        (m->sequence_base > ENTRY_MAX_SEQUENCE || m->min_sequence != m->sequence_base ||
         m->max_sequence != m->sequence_base || m->key_count != m->entry_count))
        return "the entries cannot all have one sequence number";
    return check_blobs(m);
}

static lsm_slice copy_bytes(uint8_t **at, ProtobufCBinaryData bytes)
{
    lsm_slice copy = {*at, bytes.len};
    if (bytes.len > 0)
        memcpy(*at, bytes.data, bytes.len);
    *at += bytes.len;
    return copy;
}

static lsm_status take_message(const Lsm__Table__Properties *m, struct table_properties *p,
                               lsm_error *err)
{
    size_t replaced = m->n_replaced * sizeof(uint64_t);
    size_t list = replaced + m->n_replaced_jobs * sizeof(uint64_t);
    size_t uses = m->n_blobs * sizeof(struct blob_use);
    size_t size =
        uses + list + m->family_name.len + m->smallest.len + m->largest.len + m->writer.len;
    size += m->family_options.len;
    uint8_t *memory = mem_alloc(size);
    if (memory == NULL)
        return lsm_fail_memory(err, size);
    if (replaced > 0)
        memcpy(memory, m->replaced, replaced);
    if (list > replaced)
        memcpy(memory + replaced, m->replaced_jobs, list - replaced);
    struct blob_use *blobs = (struct blob_use *)(void *)(memory + list);
    for (size_t i = 0; i < m->n_blobs; i++)
        blobs[i] = (struct blob_use){.number = m->blobs[i]->number,
                                     .entry_count = m->blobs[i]->entry_count,
                                     .bytes = m->blobs[i]->bytes};
    uint8_t *at = memory + list + uses;
    *p = (struct table_properties){
        .number = m->number,
        .cf = m->family,
        .level = m->level,
        .min_sequence = m->min_sequence,
        .max_sequence = m->max_sequence,
        .entry_count = m->entry_count,
        .delete_count = m->delete_count,
        .key_count = m->key_count,
        .raw_size = m->raw_size,
        .block_count = m->block_count,
        .data_size = m->data_size,
        .block_size = m->block_size,
        .filter_bits = m->filter_bits,
        .compressed = m->compressed,
        .compression_level = m->compression_level,
        .job = m->job,
        .output_index = m->output_index,
        .replaced =
            (const uint64_t *)(const void *)memory, /* at the front, so that release finds it */
        .replaced_count = m->n_replaced,
        .last_output = m->last_output,
        .replaced_jobs = (const uint64_t *)(const void *)(memory + replaced),
        .replaced_job_count = m->n_replaced_jobs,
        .digest = m->digest,
        .digest_size = m->digest_size,
        .sequence_base = m->sequence_base,
        .oldest_time = m->oldest_time,
        .newest_time = m->newest_time,
        .is_blob = m->is_blob,
        .blobs = blobs,
        .blob_count = m->n_blobs,
    };
    p->cf_name = copy_bytes(&at, m->family_name);
    p->smallest = copy_bytes(&at, m->smallest);
    p->largest = copy_bytes(&at, m->largest);
    p->writer = copy_bytes(&at, m->writer);
    p->cf_options = copy_bytes(&at, m->family_options);
    return LSM_OK;
}

lsm_status table_properties_decode(lsm_slice bytes, struct table_properties *p, lsm_error *err)
{
    if (bytes.size > TABLE_PROPERTIES_MAX_SIZE)
        return lsm_fail(err, LSM_CORRUPT,
                        "table properties take %zu bytes, at most %zu are allowed", bytes.size,
                        TABLE_PROPERTIES_MAX_SIZE);
    struct proto_alloc alloc;
    ProtobufCAllocator *allocator = proto_alloc_init(&alloc, PROTO_ALLOC_LIMIT);
    Lsm__Table__Properties *m = lsm__table__properties__unpack(allocator, bytes.size, bytes.data);
    if (m == NULL && alloc.failed)
        return lsm_fail_memory(err, bytes.size);
    if (m == NULL)
        return lsm_fail(err, LSM_CORRUPT, "table properties of %zu bytes %s", bytes.size,
                        alloc.exceeded ? "want more than 8 MiB of memory" : "do not parse");
    lsm_status status;
    const char *wrong = check(m);
    if ((m->incompatible & ~NEEDS_KNOWN) != 0)
        status = lsm_fail(err, LSM_NEWER_FORMAT,
                          "table properties need features 0x%" PRIx64
                          " that this version of the library does not have",
                          m->incompatible & ~NEEDS_KNOWN);
    else if (wrong != NULL)
        status = lsm_fail(err, LSM_CORRUPT, "table properties are damaged: %s", wrong);
    else
        status = take_message(m, p, err);
    lsm__table__properties__free_unpacked(m, allocator);
    return status;
}

void table_properties_release(struct table_properties *p)
{
    mem_free((void *)(uintptr_t)p->replaced);
    *p = (struct table_properties){0};
}
