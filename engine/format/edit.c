/*
 * Edits to protobuf and back. Parsing is given a bounded allocator; what it gives back is checked
 * field by field and copied, so that nobody above sees a protobuf struct.
 */
#include "engine/format/edit.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"
#include "engine/format/entry.h"
#include "engine/format/proto_alloc.h"
#include "proto/manifest.pb-c.h"

/* Bits of `incompatible`: never renumber. */
#define EDIT_NEEDS_STYLES       UINT32_C(1) /* a family is not merged level by level */
#define EDIT_NEEDS_BLOBS        UINT32_C(2) /* tables refer to blob files */
#define EDIT_INCOMPATIBLE_KNOWN (EDIT_NEEDS_STYLES | EDIT_NEEDS_BLOBS)

typedef Lsm__Manifest__VersionEdit proto_edit;
typedef Lsm__Manifest__Family proto_family;
typedef Lsm__Manifest__Options proto_options;
typedef Lsm__Manifest__Table proto_table;
typedef Lsm__Manifest__Removal proto_removal;
typedef Lsm__Manifest__BlobUse proto_use;
typedef Lsm__Manifest__Blob proto_blob;

/* ---- building ---------------------------------------------------------------------------------
 */

static void release_families(struct edit_cf *families, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(families[i].name);
    mem_free(families);
}

void edit_release(struct version_edit *edit)
{
    release_families(edit->created, edit->created_count);
    release_families(edit->renamed, edit->renamed_count);
    mem_free(edit->dropped);
    for (size_t i = 0; i < edit->added_count; i++)
        table_meta_release(&edit->added[i]);
    mem_free(edit->added);
    mem_free(edit->removed);
    mem_free(edit->blobs);
    *edit = (struct version_edit){0};
}

/* Makes room for one more element: arrays grow at every power of two. */
static bool grow(void **array, size_t count, size_t element_size)
{
    if ((count & (count - 1)) != 0)
        return true;
    size_t size;
    if (!mem_multiply(count == 0 ? 1 : count * 2, element_size, &size))
        return false;
    void *grown = mem_resize(*array, size);
    if (grown == NULL)
        return false;
    *array = grown;
    return true;
}

#define GROW(array, count) grow((void **)&(array), (count), sizeof *(array))

static lsm_status add_family(struct edit_cf **families, size_t *count, uint32_t id,
                             const char *name, const lsm_cf_options *options, lsm_error *err)
{
    char *copy = mem_copy_text(name);
    if (copy == NULL || !GROW(*families, *count)) {
        mem_free(copy);
        return lsm_fail_memory(err, (*count + 1) * sizeof **families);
    }
    struct edit_cf *added = &(*families)[(*count)++];
    *added = (struct edit_cf){.id = id, .name = copy};
    if (options != NULL)
        added->options = *options;
    return LSM_OK;
}

lsm_status edit_create_cf(struct version_edit *edit, uint32_t id, const char *name,
                          const lsm_cf_options *options, lsm_error *err)
{
    return add_family(&edit->created, &edit->created_count, id, name, options, err);
}

lsm_status edit_rename_cf(struct version_edit *edit, uint32_t id, const char *name, lsm_error *err)
{
    return add_family(&edit->renamed, &edit->renamed_count, id, name, NULL, err);
}

lsm_status edit_drop_cf(struct version_edit *edit, uint32_t id, lsm_error *err)
{
    if (!GROW(edit->dropped, edit->dropped_count))
        return lsm_fail_memory(err, (edit->dropped_count + 1) * sizeof *edit->dropped);
    edit->dropped[edit->dropped_count++] = id;
    return LSM_OK;
}

lsm_status edit_add_table(struct version_edit *edit, const struct table_meta *meta, lsm_error *err)
{
    if (!GROW(edit->added, edit->added_count))
        return lsm_fail_memory(err, (edit->added_count + 1) * sizeof *edit->added);
    lsm_status status = table_meta_copy(&edit->added[edit->added_count], meta, err);
    if (status == LSM_OK)
        edit->added_count++;
    return status;
}

lsm_status edit_remove_table(struct version_edit *edit, uint32_t cf, uint32_t level,
                             uint64_t number, lsm_error *err)
{
    if (!GROW(edit->removed, edit->removed_count))
        return lsm_fail_memory(err, (edit->removed_count + 1) * sizeof *edit->removed);
    edit->removed[edit->removed_count++] =
        (struct edit_file_removal){.cf = cf, .level = level, .number = number};
    return LSM_OK;
}

lsm_status edit_add_blob(struct version_edit *edit, const struct blob_meta *meta, lsm_error *err)
{
    if (!GROW(edit->blobs, edit->blob_count))
        return lsm_fail_memory(err, (edit->blob_count + 1) * sizeof *edit->blobs);
    edit->blobs[edit->blob_count++] = *meta;
    return LSM_OK;
}

/* ---- encoding ---------------------------------------------------------------------------------
 */

/* Everything protobuf-c needs to pack an edit: one allocation, cut into pieces. */
struct packing {
    proto_edit edit;
    Lsm__Manifest__Log log;
    proto_family *families; /* created, then renamed */
    proto_options *options; /* of created */
    proto_table *tables;
    proto_removal *removals;
    proto_blob *blobs;
    proto_use *uses; /* of tables, one table's after the other's */
    void **pointers; /* to all of them, in that order */
    void *memory;
};

static void *piece(uint8_t **at, size_t count, size_t element_size)
{
    void *here = *at;
    *at += count * element_size;
    return here;
}

static bool packing_allocate(struct packing *p, const struct version_edit *edit)
{
    size_t families = edit->created_count + edit->renamed_count;
    size_t uses = 0;
    for (size_t i = 0; i < edit->added_count; i++)
        uses += edit->added[i].blob_count;
    size_t pointers = families + edit->added_count + edit->removed_count + edit->blob_count + uses;
    size_t size = families * sizeof *p->families + edit->created_count * sizeof *p->options +
                  edit->added_count * sizeof *p->tables +
                  edit->removed_count * sizeof *p->removals + edit->blob_count * sizeof *p->blobs +
                  uses * sizeof *p->uses + pointers * sizeof *p->pointers;
    p->memory = mem_alloc(size);
    if (p->memory == NULL)
        return false;
    uint8_t *at = p->memory;
    p->pointers = piece(&at, pointers, sizeof *p->pointers);
    p->families = piece(&at, families, sizeof *p->families);
    p->options = piece(&at, edit->created_count, sizeof *p->options);
    p->tables = piece(&at, edit->added_count, sizeof *p->tables);
    p->removals = piece(&at, edit->removed_count, sizeof *p->removals);
    p->blobs = piece(&at, edit->blob_count, sizeof *p->blobs);
    p->uses = piece(&at, uses, sizeof *p->uses);
    return true;
}

static ProtobufCBinaryData binary(lsm_slice s)
{
    return (ProtobufCBinaryData){.len = s.size, .data = (uint8_t *)(uintptr_t)s.data};
}

/* As every family was before there were styles. */
static bool is_leveled(const lsm_cf_options *options)
{
    return options->compaction <= LSM_COMPACTION_LEVELED;
}

static proto_options pack_options(const lsm_cf_options *from)
{
    proto_options to = LSM__MANIFEST__OPTIONS__INIT;
    to.compression = (uint32_t)from->compression;
    to.compression_level = from->compression_level;
    to.dictionary_size = from->dictionary_size;
    to.block_size = from->block_size;
    to.filter_bits = from->filter_bits;
    to.table_size = from->table_size;
    to.level_base_size = from->level_base_size;
    to.level_ratio = from->level_ratio;
    to.level0_trigger = from->level0_trigger;
    to.level0_slowdown = from->level0_slowdown;
    to.level0_stop = from->level0_stop;
    to.compaction = is_leveled(from) ? 0 : (uint32_t)from->compaction;
    to.ttl = from->ttl;
    to.fifo_size = from->fifo_size;
    to.size_ratio = from->size_ratio;
    to.min_merge_width = from->min_merge_width;
    to.max_size_amplification = from->max_size_amplification;
    to.compression_above = from->compression_above;
    to.blob_threshold = from->blob_threshold;
    return to;
}

static proto_family pack_family(const struct edit_cf *from, proto_options *options)
{
    proto_family to = LSM__MANIFEST__FAMILY__INIT;
    to.id = from->id;
    to.name = binary(slice_of_text(from->name));
    to.options = options;
    return to;
}

static proto_table pack_table(const struct table_meta *from)
{
    proto_table to = LSM__MANIFEST__TABLE__INIT;
    to.number = from->number;
    to.size = from->size;
    to.family = from->cf;
    to.level = from->level;
    to.smallest = binary(from->smallest);
    to.largest = binary(from->largest);
    to.min_sequence = from->min_sequence;
    to.max_sequence = from->max_sequence;
    to.entry_count = from->entry_count;
    to.delete_count = from->delete_count;
    to.raw_size = from->raw_size;
    to.compress_later = from->compress_later;
    to.oldest_time = from->oldest_time;
    to.newest_time = from->newest_time;
    return to;
}

static proto_removal pack_removal(const struct edit_file_removal *from)
{
    proto_removal to = LSM__MANIFEST__REMOVAL__INIT;
    to.family = from->cf;
    to.level = from->level;
    to.number = from->number;
    return to;
}

static proto_use pack_use(const struct blob_use *from)
{
    proto_use to = LSM__MANIFEST__BLOB_USE__INIT;
    to.number = from->number;
    to.entry_count = from->entry_count;
    to.bytes = from->bytes;
    return to;
}

static proto_blob pack_blob(const struct blob_meta *from)
{
    proto_blob to = LSM__MANIFEST__BLOB__INIT;
    to.number = from->number;
    to.size = from->size;
    to.family = from->cf;
    to.entry_count = from->entry_count;
    to.raw_size = from->raw_size;
    return to;
}

/* The blob files, and what the packed tables refer to; returns the next free pointer. */
static void **pack_blobs(struct packing *p, const struct version_edit *edit, void **next)
{
    proto_use *use = p->uses;
    for (size_t i = 0; i < edit->added_count; i++) {
        const struct table_meta *table = &edit->added[i];
        p->tables[i].n_blobs = table->blob_count;
        p->tables[i].blobs = (proto_use **)next;
        for (size_t k = 0; k < table->blob_count; k++) {
            *use = pack_use(&table->blobs[k]);
            *next++ = use++;
        }
        if (table->blob_count > 0)
            p->edit.incompatible |= EDIT_NEEDS_BLOBS;
    }
    p->edit.n_blobs = edit->blob_count;
    p->edit.blobs = (proto_blob **)next;
    for (size_t i = 0; i < edit->blob_count; i++) {
        p->blobs[i] = pack_blob(&edit->blobs[i]);
        *next++ = &p->blobs[i];
        p->edit.incompatible |= EDIT_NEEDS_BLOBS;
    }
    return next;
}

static void pack_lists(struct packing *p, const struct version_edit *edit)
{
    void **next = p->pointers;
    p->edit.n_created = edit->created_count;
    p->edit.created = (proto_family **)next;
    for (size_t i = 0; i < edit->created_count; i++) {
        p->options[i] = pack_options(&edit->created[i].options);
        if (!is_leveled(&edit->created[i].options))
            p->edit.incompatible |= EDIT_NEEDS_STYLES;
        p->families[i] = pack_family(&edit->created[i], &p->options[i]);
        *next++ = &p->families[i];
    }
    p->edit.n_renamed = edit->renamed_count;
    p->edit.renamed = (proto_family **)next;
    proto_family *renamed = p->families + edit->created_count;
    for (size_t i = 0; i < edit->renamed_count; i++) {
        renamed[i] = pack_family(&edit->renamed[i], NULL);
        *next++ = &renamed[i];
    }
    p->edit.n_added = edit->added_count;
    p->edit.added = (proto_table **)next;
    for (size_t i = 0; i < edit->added_count; i++) {
        p->tables[i] = pack_table(&edit->added[i]);
        *next++ = &p->tables[i];
    }
    p->edit.n_removed = edit->removed_count;
    p->edit.removed = (proto_removal **)next;
    for (size_t i = 0; i < edit->removed_count; i++) {
        p->removals[i] = pack_removal(&edit->removed[i]);
        *next++ = &p->removals[i];
    }
    (void)pack_blobs(p, edit, next);
    p->edit.n_dropped = edit->dropped_count;
    p->edit.dropped = edit->dropped;
}

lsm_status edit_encode(const struct version_edit *edit, struct buffer *bytes, lsm_error *err)
{
    struct packing p = {.edit = LSM__MANIFEST__VERSION_EDIT__INIT, .log = LSM__MANIFEST__LOG__INIT};
    if (!packing_allocate(&p, edit))
        return lsm_fail_memory(err, edit->added_count * sizeof *p.tables);
    p.edit.snapshot = edit->is_snapshot;
    p.edit.last_sequence = edit->last_sequence;
    p.edit.next_file_number = edit->next_file_number;
    p.edit.next_family = edit->next_cf;
    if (edit->has_log) {
        p.log.position = edit->log_position;
        p.log.chain = edit->log_chain;
        p.log.clean = edit->clean;
        p.edit.log = &p.log;
    }
    pack_lists(&p, edit);

    lsm_status status = LSM_OK;
    size_t size = lsm__manifest__version_edit__get_packed_size(&p.edit);
    uint8_t *at = NULL;
    if (size > EDIT_MAX_SIZE)
        status =
            lsm_fail(err, LSM_TOO_LARGE, "a version edit of %zu bytes is over the limit of %zu",
                     size, EDIT_MAX_SIZE);
    else if (size > 0 && (at = buffer_grow(bytes, size)) == NULL)
        status = lsm_fail_memory(err, size);
    else if (size > 0)
        lsm__manifest__version_edit__pack(&p.edit, at);
    mem_free(p.memory);
    return status;
}

/* ---- decoding ---------------------------------------------------------------------------------
 */

static lsm_slice slice_of_binary(ProtobufCBinaryData data)
{
    return (lsm_slice){data.data, data.len};
}

static lsm_status check_name(ProtobufCBinaryData name, uint32_t id, lsm_error *err)
{
    if (name.len == 0 || name.len > LSM_MAX_CF_NAME)
        return lsm_fail(err, LSM_CORRUPT,
                        "the name of column family %u has %zu bytes, not 1 to %zu", id, name.len,
                        LSM_MAX_CF_NAME);
    if (memchr(name.data, '\0', name.len) != NULL)
        return lsm_fail(err, LSM_CORRUPT, "the name of column family %u holds a zero byte", id);
    return LSM_OK;
}

static lsm_status unpack_options(const proto_options *from, uint32_t id, lsm_cf_options *to,
                                 lsm_error *err)
{
    if (from == NULL)
        return lsm_fail(err, LSM_CORRUPT, "column family %u is created without options", id);
    if (from->compression > LSM_COMPRESSION_ZSTD)
        return lsm_fail(err, LSM_CORRUPT, "column family %u has the unknown compression %u", id,
                        from->compression);
    if (from->compaction > LSM_COMPACTION_FIFO)
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "column family %u has the compaction style %u, which this library does not "
                        "know",
                        id, from->compaction);
    *to = (lsm_cf_options){
        .struct_size = sizeof *to,
        .compression = (lsm_compression)from->compression,
        .compression_level = from->compression_level,
        .dictionary_size = from->dictionary_size,
        .block_size = from->block_size,
        .filter_bits = from->filter_bits,
        .table_size = from->table_size,
        .level_base_size = from->level_base_size,
        .level_ratio = from->level_ratio,
        .level0_trigger = from->level0_trigger,
        .level0_slowdown = from->level0_slowdown,
        .level0_stop = from->level0_stop,
        .compaction = (lsm_compaction)from->compaction,
        .ttl = from->ttl,
        .fifo_size = from->fifo_size,
        .size_ratio = from->size_ratio,
        .min_merge_width = from->min_merge_width,
        .max_size_amplification = from->max_size_amplification,
        .compression_above = from->compression_above,
        .blob_threshold = from->blob_threshold,
    };
    return LSM_OK;
}

static lsm_status unpack_family(const proto_family *from, bool is_created,
                                struct version_edit *edit, lsm_error *err)
{
    char name[LSM_MAX_CF_NAME + 1];
    lsm_status status = check_name(from->name, from->id, err);
    if (status != LSM_OK)
        return status;
    memcpy(name, from->name.data, from->name.len);
    name[from->name.len] = '\0';
    if (!is_created)
        return edit_rename_cf(edit, from->id, name, err);
    lsm_cf_options options;
    status = unpack_options(from->options, from->id, &options, err);
    return status != LSM_OK ? status : edit_create_cf(edit, from->id, name, &options, err);
}

static const char *table_fault(const proto_table *t)
{
    if (t->number == 0)
        return "has no number";
    if (t->size == 0)
        return "has no bytes";
    if (t->level >= EDIT_LEVEL_COUNT)
        return "is in a level that does not exist";
    if (t->smallest.len > LSM_MAX_KEY_SIZE || t->largest.len > LSM_MAX_KEY_SIZE)
        return "has a key over the limit";
    if (slice_compare(slice_of_binary(t->smallest), slice_of_binary(t->largest)) > 0)
        return "has its smallest key behind its largest";
    if (t->min_sequence > t->max_sequence || t->max_sequence > ENTRY_MAX_SEQUENCE)
        return "has impossible sequence numbers";
    if (t->entry_count == 0 || t->delete_count > t->entry_count)
        return "has impossible counts";
    uint64_t entries = 0;
    for (size_t i = 0; i < t->n_blobs; i++) {
        const proto_use *use = t->blobs[i];
        if (use->number <= (i > 0 ? t->blobs[i - 1]->number : 0) || use->entry_count == 0 ||
            use->entry_count > t->entry_count - t->delete_count - entries)
            return "refers to blob files in an impossible way";
        entries += use->entry_count;
    }
    return NULL;
}

static lsm_status unpack_blob(const proto_blob *from, struct version_edit *edit, lsm_error *err)
{
    if (from->number == 0 || from->size == 0 || from->entry_count == 0)
        return lsm_fail(err, LSM_CORRUPT, "blob file %" PRIu64 " has no number, bytes or entries",
                        from->number);
    struct blob_meta meta = {.number = from->number,
                             .size = from->size,
                             .cf = from->family,
                             .entry_count = from->entry_count,
                             .raw_size = from->raw_size};
    return edit_add_blob(edit, &meta, err);
}

static lsm_status unpack_uses(const proto_table *from, struct table_meta *meta, lsm_error *err)
{
    if (from->n_blobs == 0)
        return LSM_OK;
    meta->blobs = mem_alloc(from->n_blobs * sizeof *meta->blobs);
    if (meta->blobs == NULL)
        return lsm_fail_memory(err, from->n_blobs * sizeof *meta->blobs);
    for (size_t i = 0; i < from->n_blobs; i++)
        meta->blobs[i] = (struct blob_use){.number = from->blobs[i]->number,
                                           .entry_count = from->blobs[i]->entry_count,
                                           .bytes = from->blobs[i]->bytes};
    meta->blob_count = from->n_blobs;
    return LSM_OK;
}

static lsm_status unpack_table(const proto_table *from, struct version_edit *edit, lsm_error *err)
{
    const char *fault = table_fault(from);
    if (fault != NULL)
        return lsm_fail(err, LSM_CORRUPT, "table %" PRIu64 " %s", from->number, fault);
    struct table_meta meta = {
        .number = from->number,
        .size = from->size,
        .cf = from->family,
        .level = from->level,
        .smallest = slice_of_binary(from->smallest),
        .largest = slice_of_binary(from->largest),
        .min_sequence = from->min_sequence,
        .max_sequence = from->max_sequence,
        .entry_count = from->entry_count,
        .delete_count = from->delete_count,
        .raw_size = from->raw_size,
        .compress_later = from->compress_later,
        .oldest_time = from->oldest_time,
        .newest_time = from->newest_time,
    };
    lsm_status status = unpack_uses(from, &meta, err);
    if (status == LSM_OK)
        status = edit_add_table(edit, &meta, err);
    mem_free(meta.blobs);
    return status;
}

static lsm_status unpack_lists(const proto_edit *from, struct version_edit *edit, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < from->n_created; i++)
        status = unpack_family(from->created[i], true, edit, err);
    for (size_t i = 0; status == LSM_OK && i < from->n_renamed; i++)
        status = unpack_family(from->renamed[i], false, edit, err);
    for (size_t i = 0; status == LSM_OK && i < from->n_dropped; i++)
        status = edit_drop_cf(edit, from->dropped[i], err);
    for (size_t i = 0; status == LSM_OK && i < from->n_added; i++)
        status = unpack_table(from->added[i], edit, err);
    for (size_t i = 0; status == LSM_OK && i < from->n_removed; i++) {
        const proto_removal *r = from->removed[i];
        if (r->level >= EDIT_LEVEL_COUNT)
            return lsm_fail(err, LSM_CORRUPT,
                            "table %" PRIu64 " is removed from level %u, which does not exist",
                            r->number, r->level);
        status = edit_remove_table(edit, r->family, r->level, r->number, err);
    }
    for (size_t i = 0; status == LSM_OK && i < from->n_blobs; i++)
        status = unpack_blob(from->blobs[i], edit, err);
    return status;
}

static lsm_status unpack_edit(const proto_edit *from, struct version_edit *edit, lsm_error *err)
{
    if ((from->incompatible & ~EDIT_INCOMPATIBLE_KNOWN) != 0)
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "a version edit needs features %#x, which this library does not know",
                        from->incompatible & ~EDIT_INCOMPATIBLE_KNOWN);
    if (from->last_sequence > ENTRY_MAX_SEQUENCE)
        return lsm_fail(err, LSM_CORRUPT, "the last sequence number %" PRIu64 " is impossible",
                        from->last_sequence);
    edit->is_snapshot = from->snapshot;
    edit->last_sequence = from->last_sequence;
    edit->next_file_number = from->next_file_number;
    edit->next_cf = from->next_family;
    if (from->log != NULL) {
        edit->has_log = true;
        edit->log_position = from->log->position;
        edit->log_chain = from->log->chain;
        edit->clean = from->log->clean;
    }
    return unpack_lists(from, edit, err);
}

lsm_status edit_decode(lsm_slice bytes, struct version_edit *edit, lsm_error *err)
{
    if (bytes.size > EDIT_MAX_SIZE)
        return lsm_fail(err, LSM_CORRUPT, "a version edit of %zu bytes is over the limit of %zu",
                        bytes.size, EDIT_MAX_SIZE);
    struct proto_alloc alloc;
    ProtobufCAllocator *allocator = proto_alloc_init(&alloc, proto_alloc_limit(bytes.size));
    proto_edit *message = lsm__manifest__version_edit__unpack(allocator, bytes.size, bytes.data);
    if (message == NULL && alloc.failed)
        return lsm_fail_memory(err, bytes.size);
    if (message == NULL)
        return lsm_fail(err, LSM_CORRUPT, "a version edit of %zu bytes %s", bytes.size,
                        alloc.exceeded ? "asks for too much memory" : "does not parse");
    struct version_edit decoded = {0};
    lsm_status status = unpack_edit(message, &decoded, err);
    lsm__manifest__version_edit__free_unpacked(message, allocator);
    if (status == LSM_OK)
        *edit = decoded;
    else
        edit_release(&decoded);
    return status;
}

/* ---- options alone ----------------------------------------------------------------------------
 */

lsm_status edit_options_encode(const lsm_cf_options *options, struct buffer *bytes, lsm_error *err)
{
    proto_options message = pack_options(options);
    size_t size = lsm__manifest__options__get_packed_size(&message);
    uint8_t *at = buffer_grow(bytes, size);
    if (at == NULL)
        return lsm_fail_memory(err, size);
    lsm__manifest__options__pack(&message, at);
    return LSM_OK;
}

lsm_status edit_options_decode(lsm_slice bytes, lsm_cf_options *options, lsm_error *err)
{
    struct proto_alloc alloc;
    ProtobufCAllocator *allocator = proto_alloc_init(&alloc, proto_alloc_limit(bytes.size));
    proto_options *message = lsm__manifest__options__unpack(allocator, bytes.size, bytes.data);
    if (message == NULL && alloc.failed)
        return lsm_fail_memory(err, bytes.size);
    if (message == NULL)
        return lsm_fail(err, LSM_CORRUPT, "the options of a column family do not parse");
    lsm_status status = unpack_options(message, 0, options, err);
    lsm__manifest__options__free_unpacked(message, allocator);
    return status;
}
