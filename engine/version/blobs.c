/*
 * The blob files of a version: those that its tables refer to, with how much of each that is. They
 * come with an edit and go with the last table that refers to them, so that there is nothing to
 * disagree about.
 *
 * An open blob file is a table in the pool of tables: its blocks are in the block cache, and a
 * value is found in it by its key and sequence number.
 */
#include "engine/version/version_private.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <stdlib.h>

/* ---- making -----------------------------------------------------------------------------------
 */

static int compare_numbers(const void *a, const void *b)
{
    const struct version_blob *x = a, *y = b;
    return (x->meta.number > y->meta.number) - (x->meta.number < y->meta.number);
}

static struct version_blob *find(struct version_blob *blobs, size_t count, uint64_t number)
{
    size_t low = 0, limit = count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (blobs[middle].meta.number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < count && blobs[low].meta.number == number ? &blobs[low] : NULL;
}

static lsm_status count_use(struct version_blob *blobs, size_t count,
                            const struct table_meta *table, const struct blob_use *use,
                            lsm_error *err)
{
    struct version_blob *blob = find(blobs, count, use->number);
    if (blob == NULL || blob->meta.cf != table->cf)
        return lsm_fail(err, LSM_CORRUPT,
                        "table %" PRIu64 " refers to blob file %" PRIu64
                        ", which its column family does not have",
                        table->number, use->number);
    /* What a repair could not tell live from replaced may refer to a value twice. */
    uint64_t entries = blob->meta.entry_count - blob->live_entries;
    uint64_t bytes = blob->meta.raw_size - blob->live_bytes;
    blob->live_entries += use->entry_count < entries ? use->entry_count : entries;
    blob->live_bytes += use->bytes < bytes ? use->bytes : bytes;
    return LSM_OK;
}

static lsm_status count_uses(const struct version *version, struct version_blob *blobs,
                             size_t count, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &version->families[i]->levels[k];
            for (size_t f = 0; f < level->count; f++) {
                const struct table_meta *meta = &level->files[f]->meta;
                for (size_t u = 0; status == LSM_OK && u < meta->blob_count; u++)
                    status = count_use(blobs, count, meta, &meta->blobs[u], err);
            }
        }
    }
    return status;
}

/* Those of `base` and those that the edit adds, by number. */
static lsm_status collect(const struct version *base, const struct version_edit *edit,
                          struct version_blob *blobs, size_t *count, lsm_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < base->blob_count; i++)
        blobs[n++] =
            (struct version_blob){.meta = base->blobs[i].meta, .slot = base->blobs[i].slot};
    for (size_t i = 0; i < edit->blob_count; i++)
        blobs[n++] = (struct version_blob){.meta = edit->blobs[i]};
    qsort(blobs, n, sizeof *blobs, compare_numbers);
    for (size_t i = 1; i < n; i++) {
        if (blobs[i].meta.number == blobs[i - 1].meta.number)
            return lsm_fail(err, LSM_CORRUPT, "blob file %" PRIu64 " is added twice",
                            blobs[i].meta.number);
    }
    *count = n;
    return LSM_OK;
}

/* Lets those go that nothing refers to, and takes a reference on the slots of the others. */
static lsm_status keep_live(struct live_version *next, struct table_pool *pool, size_t count,
                            lsm_error *err)
{
    struct version_blob *blobs = next->base.blobs;
    for (size_t i = 0; i < count; i++) {
        struct version_blob blob = blobs[i];
        if (blob.live_entries == 0)
            continue;
        if (blob.slot != NULL)
            table_slot_keep(blob.slot);
        else
            blob.slot = table_slot_new(pool, FILE_BLOB, blob.meta.number, blob.meta.size);
        if (blob.slot == NULL)
            return lsm_fail_memory(err, sizeof *blob.slot);
        blobs[next->base.blob_count++] = blob;
    }
    return LSM_OK;
}

static bool refers_to_none(const struct version_edit *edit)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i].blob_count > 0)
            return false;
    }
    return edit->blob_count == 0;
}

lsm_status version_build_blobs(const struct version *base, const struct version_edit *edit,
                               struct table_pool *pool, struct live_version *next, lsm_error *err)
{
    size_t room = base->blob_count + edit->blob_count, count = 0;
    if (base->blob_count == 0 && refers_to_none(edit))
        return LSM_OK;
    struct version_blob *blobs = mem_alloc(room * sizeof *blobs);
    if (blobs == NULL)
        return lsm_fail_memory(err, room * sizeof *blobs);
    next->base.blobs = blobs;
    lsm_status status = collect(base, edit, blobs, &count, err);
    if (status == LSM_OK)
        status = count_uses(&next->base, blobs, count, err);
    return status == LSM_OK ? keep_live(next, pool, count, err) : status;
}

void version_mark_blobs(const struct version *base, const struct version *next, uint64_t number)
{
    for (size_t i = 0; i < base->blob_count; i++) {
        /* pairs with the acquire load in bury_slot() */
        if (version_find_blob(next, base->blobs[i].meta.number) == NULL)
            atomic_store_explicit(&base->blobs[i].slot->dead_number, number, memory_order_release);
    }
}

void version_release_blobs(struct version *version)
{
    for (size_t i = 0; i < version->blob_count; i++)
        table_slot_drop(version->blobs[i].slot);
    mem_free(version->blobs);
}

/* ---- finding and reading ----------------------------------------------------------------------
 */

const struct version_blob *version_find_blob(const struct version *version, uint64_t number)
{
    return find(version->blobs, version->blob_count, number);
}

lsm_status version_blob_keep(const struct version_blob *blob, struct table **table, lsm_error *err)
{
    return table_slot_hold(blob->slot, table, err);
}

void version_blob_drop(const struct version_blob *blob)
{
    table_slot_unhold(blob->slot);
}

lsm_status version_blob_of(const struct version *version, lsm_slice value,
                           const struct version_blob **blob, uint64_t *size, lsm_error *err)
{
    struct blob_reference reference;
    if (!blob_reference_decode(value, &reference))
        return lsm_fail(err, LSM_CORRUPT,
                        "an entry says that its value is in a blob file, but not "
                        "in which");
    *blob = version_find_blob(version, reference.number);
    if (*blob == NULL)
        return lsm_fail(err, LSM_CORRUPT,
                        "an entry refers to blob file %" PRIu64 ", which its table does not name",
                        reference.number);
    *size = reference.size;
    return LSM_OK;
}

lsm_status version_blob_fail(const struct version_blob *blob, uint64_t sequence, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    file_name_make(FILE_BLOB, blob->meta.number, name);
    lsm_fail(err, LSM_CORRUPT,
             "'%s' does not hold the value, of sequence number %" PRIu64
             ", that a table refers to; see lsm-verify",
             name, sequence);
    status_place(err, name, LSM_NO_OFFSET);
    return LSM_CORRUPT;
}

static void drop(const struct table_found *found)
{
    if (found->owned)
        block_drop(found->block);
}

/* Is it the entry that the reference means? */
static bool is_value(const struct table_found *found, uint64_t sequence, uint64_t size)
{
    return found->trailer == entry_trailer(sequence, ENTRY_PUT) && found->value.size == size;
}

lsm_status version_blob_get(const struct version *version, lsm_slice key, uint64_t hash,
                            unsigned table_flags, struct table_found *found, lsm_error *err)
{
    assert(epoch_is_inside());
    const struct version_blob *blob = NULL;
    struct table *table = NULL;
    struct table_found value;
    uint64_t size = 0, sequence = entry_sequence(found->trailer);
    bool is_found = false;
    lsm_status status = version_blob_of(version, found->value, &blob, &size, err);
    if (status == LSM_OK)
        status = table_slot_get(blob->slot, &table, err);
    if (status == LSM_OK)
        status = table_get(table, key, hash, sequence, table_flags, &is_found, &value, err);
    drop(found);
    if (status != LSM_OK)
        return status;
    if (is_found && is_value(&value, sequence, size)) {
        *found = value;
        return LSM_OK;
    }
    if (is_found)
        drop(&value);
    return version_blob_fail(blob, sequence, err);
}

/* ---- many values ------------------------------------------------------------------------------
 */

#define MULTI_GROUP 32 /* values that are read with one submission */

struct value_read {
    struct version_probe *wanted;
    const struct version_blob *blob;
    uint64_t sequence, size;
    struct table_probe probe;
    bool is_reading;
};

/* What the probe found takes the place of the reference. */
static lsm_status take_state(struct value_read *r, enum table_probe_state state, lsm_error *err)
{
    r->is_reading = state == TABLE_PROBE_READ;
    if (r->is_reading)
        return LSM_OK;
    if (state == TABLE_PROBE_FOUND) {
        if (is_value(&r->probe.found, r->sequence, r->size)) {
            r->wanted->found = r->probe.found;
            r->wanted->is_found = true;
            return LSM_OK;
        }
        drop(&r->probe.found);
    }
    return version_blob_fail(r->blob, r->sequence, err);
}

/* Until the value is there, or waits for a read. */
static lsm_status begin(const struct version *version, struct version_probe *wanted,
                        unsigned table_flags, struct value_read *r, lsm_error *err)
{
    enum table_probe_state state = TABLE_PROBE_ABSENT;
    r->wanted = wanted;
    r->sequence = entry_sequence(wanted->found.trailer);
    r->is_reading = false;
    r->probe.key = wanted->key;
    r->probe.hash = wanted->hash;
    r->probe.max_sequence = r->sequence;
    r->probe.flags = table_flags;
    r->probe.is_located = false;
    r->probe.has_block_index = false;
    r->probe.request.owner = r;
    lsm_status status = version_blob_of(version, wanted->found.value, &r->blob, &r->size, err);
    drop(&wanted->found);
    wanted->is_found = false;
    if (status == LSM_OK)
        status = table_slot_get(r->blob->slot, &r->probe.table, err);
    if (status == LSM_OK)
        status = table_probe_begin(&r->probe, &state, err);
    return status == LSM_OK ? take_state(r, state, err) : status;
}

/* One round; every read is reaped, also after a failure, which is the first one seen. */
static lsm_status read_round(struct value_read *reads, size_t count, struct io_queue *queue,
                             bool *did_read, lsm_status status, lsm_error *err)
{
    size_t in_flight = 0;
    for (size_t i = 0; i < count; i++) {
        if (!reads[i].is_reading)
            continue;
        io_queue_push(queue, &reads[i].probe.request);
        in_flight++;
    }
    *did_read = in_flight > 0;
    if (in_flight > 0) {
        lsm_status own = io_queue_submit(queue, status == LSM_OK ? err : NULL);
        status = status == LSM_OK ? own : status;
    }
    for (; in_flight > 0; in_flight--) {
        struct io_request *request = io_queue_reap(queue, true);
        assert(request != NULL);
        struct value_read *r = request->owner;
        enum table_probe_state state = TABLE_PROBE_ABSENT;
        lsm_error *told = status == LSM_OK ? err : NULL;
        r->is_reading = false;
        lsm_status own = table_probe_finish(&r->probe, &state, told);
        if (own == LSM_OK)
            own = take_state(r, state, told);
        status = status == LSM_OK ? own : status;
    }
    return status;
}

lsm_status version_blob_multi_get(const struct version *version, struct version_probe *probes,
                                  size_t count, unsigned table_flags, struct io_queue *queue,
                                  lsm_error *err)
{
    struct value_read reads[MULTI_GROUP];
    lsm_status status = LSM_OK;
    if (version->blob_count == 0)
        return LSM_OK;
    for (size_t next = 0; next < count && status == LSM_OK;) {
        size_t begun = 0;
        for (; begun < MULTI_GROUP && next < count && status == LSM_OK; next++) {
            struct version_probe *wanted = &probes[next];
            if (wanted->is_found && entry_type_of(wanted->found.trailer) == ENTRY_BLOB)
                status = begin(version, wanted, table_flags, &reads[begun++], err);
        }
        for (bool did_read = true; did_read;)
            status = read_round(reads, begun, queue, &did_read, status, err);
    }
    return status;
}
