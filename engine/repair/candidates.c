/*
 * The tables that may be live: every file of that kind, by what its properties say, or its blocks
 * where those are lost. A file says by itself which table it is, so one under the name of another
 * is known all the same.
 */
#include "engine/repair/lineage_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lsm_status copy_key(lsm_slice *to, lsm_slice from, lsm_error *err)
{
    uint8_t *copy = mem_alloc(from.size);
    if (copy == NULL)
        return lsm_fail_memory(err, from.size);
    if (from.size > 0)
        memcpy(copy, from.data, from.size);
    mem_free((void *)(uintptr_t)to->data);
    *to = (lsm_slice){copy, from.size};
    return LSM_OK;
}

/* The two keys, which were copied one by one, as one allocation: so table_meta_release() frees
 * them. Without them when `status` is a failure, which it returns then. */
static lsm_status join_keys(struct table_meta *m, lsm_status status, lsm_error *err)
{
    struct table_meta joined = {0};
    if (status == LSM_OK)
        status = table_meta_copy(&joined, m, err);
    mem_free((void *)(uintptr_t)m->smallest.data);
    mem_free((void *)(uintptr_t)m->largest.data);
    m->smallest = joined.smallest;
    m->largest = joined.largest;
    m->blobs = joined.blobs;
    m->blob_count = joined.blob_count;
    return status;
}

static lsm_status widen(struct table_meta *m, const struct walk_block *b, lsm_error *err)
{
    struct buffer key = {0};
    lsm_status status = LSM_OK;
    if (!block_copy_key(&b->view, 0, &key))
        status = lsm_fail_memory(err, 0);
    if (status == LSM_OK &&
        (m->entry_count == 0 || slice_compare(buffer_slice(&key), m->smallest) < 0))
        status = copy_key(&m->smallest, buffer_slice(&key), err);
    if (status == LSM_OK && !block_copy_key(&b->view, b->view.count - 1, &key))
        status = lsm_fail_memory(err, 0);
    if (status == LSM_OK &&
        (m->entry_count == 0 || slice_compare(buffer_slice(&key), m->largest) > 0))
        status = copy_key(&m->largest, buffer_slice(&key), err);
    if (m->entry_count == 0 || b->frame.min_sequence < m->min_sequence)
        m->min_sequence = b->frame.min_sequence;
    if (b->frame.max_sequence > m->max_sequence)
        m->max_sequence = b->frame.max_sequence;
    m->cf = b->frame.cf;
    m->level = b->frame.level;
    m->entry_count += b->view.count;
    buffer_release(&key);
    return status;
}

/* A table that lost its properties is known by its blocks. */
static lsm_status meta_of_blocks(struct walk_table *walk, struct table_meta *m, lsm_error *err)
{
    struct walk_block b = {.length = 1};
    lsm_status status = LSM_OK;
    while (status == LSM_OK) {
        status = walk_table_next(walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        if (b.fault == FINDING_COUNT && !b.too_large && b.view.count > 0)
            status = widen(m, &b, err);
    }
    return join_keys(m, status, err);
}

/* The properties after correcting one wrong byte of them. */
static lsm_status correct_properties(struct repair *r, const struct walk_table *walk,
                                     struct table_properties *p, lsm_error *err)
{
    struct io_file *file = NULL;
    struct table_extent e = walk->properties.extent;
    struct correct_change change;
    if (walk->properties.verdict != WALK_DAMAGED || e.size < TABLE_FRAME_SIZE ||
        e.size > 2 * TABLE_PROPERTIES_MAX_SIZE)
        return LSM_OK;
    uint8_t *bytes = mem_alloc((size_t)e.size);
    if (bytes == NULL)
        return lsm_fail_memory(err, (size_t)e.size);
    struct table_frame frame;
    struct table_problem problem;
    uint64_t seed = hash_place(walk->uuid, walk->number, e.offset);
    if (io_file_open(r->dir, walk->name, 0, 0, &file, NULL) == LSM_OK &&
        io_file_read_exact(file, bytes, (size_t)e.size, e.offset, NULL) == LSM_OK &&
        correct_table_frame(bytes, (size_t)e.size, seed, &change) == CORRECT_DONE &&
        table_frame_open((lsm_slice){bytes, (size_t)e.size}, seed, &frame, &problem))
        (void)table_properties_decode(
            table_frame_payload((lsm_slice){bytes, (size_t)e.size}, &frame), p, NULL);
    io_file_close(file);
    mem_free(bytes);
    return LSM_OK;
}

static lsm_status take_properties(struct candidate *c, const struct table_properties *p,
                                  lsm_error *err)
{
    struct table_meta *m = &c->meta;
    m->cf = p->cf;
    m->level = p->level;
    m->min_sequence = p->min_sequence;
    m->max_sequence = p->max_sequence;
    m->entry_count = p->entry_count;
    m->delete_count = p->delete_count;
    m->raw_size = p->raw_size;
    m->oldest_time = p->oldest_time;
    m->newest_time = p->newest_time;
    snprintf(c->cf_name, sizeof c->cf_name, "%.*s",
             (int)(p->cf_name.size < TABLE_MAX_NAME ? p->cf_name.size : TABLE_MAX_NAME),
             (const char *)p->cf_name.data);
    m->blobs = (struct blob_use *)(uintptr_t)p->blobs; /* copied below */
    m->blob_count = p->blob_count;
    lsm_status status = copy_key(&m->smallest, p->smallest, err);
    if (status == LSM_OK)
        status = copy_key(&m->largest, p->largest, err);
    return join_keys(m, status, err);
}

/* The table that the file says it is, if it is under the name of another one. */
static uint64_t table_of_file(const struct repair *r, uint64_t file)
{
    const struct repair_displaced *list =
        (const struct repair_displaced *)(const void *)r->displaced.data;
    for (size_t i = 0; i < r->displaced.size / sizeof *list; i++) {
        if (list[i].file == file)
            return list[i].number;
    }
    return file;
}

/* LSM_OK with c->meta.entry_count 0: nothing in it can be read. */
static lsm_status read_candidate(struct lineage *l, const struct walk_file *f, struct candidate *c,
                                 lsm_error *err)
{
    struct walk_table *walk = NULL;
    uint64_t number = table_of_file(l->r, f->number);
    struct walk_table_options options = {.number = number, .name = f->text};
    *c = (struct candidate){.meta = {.number = number, .size = f->entry.size}, .file = f->number};
    lsm_status status = walk_table_open(&l->r->walk, &options, &walk, err);
    if (status == LSM_MISSING || status == LSM_CORRUPT)
        return LSM_OK;
    if (status != LSM_OK || walk->is_foreign) {
        walk_table_close(walk);
        return status;
    }
    struct table_properties found = {0};
    const struct table_properties *p = &walk->table_properties;
    if (walk->properties.verdict != WALK_SOUND) {
        status = correct_properties(l->r, walk, &found, err);
        p = &found;
    }
    if (status == LSM_OK && p->entry_count > 0 && p->is_blob) {
        c->meta.number = f->number; /* a blob file under a table's name: no version is in it */
    } else if (status == LSM_OK && p->entry_count > 0 && p->number == number) {
        status = take_properties(c, p, err);
        c->properties = *p;
        if (p != &found) /* now owned here */
            walk->table_properties = (struct table_properties){0};
        found = (struct table_properties){0};
    } else if (status == LSM_OK) {
        status = meta_of_blocks(walk, &c->meta, err);
        c->is_unproven = true;
    }
    table_properties_release(&found);
    if (walk->table_properties.number == 0)
        walk->properties.verdict = WALK_ABSENT;
    walk_table_close(walk);
    return status;
}

static void candidate_release(struct candidate *c)
{
    table_meta_release(&c->meta);
    table_properties_release(&c->properties);
}

bool facts_removed(const struct repair_facts *f, uint64_t number)
{
    size_t low = 0, limit = f->removed_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->removed[middle] < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < f->removed_count && f->removed[low] == number;
}

const struct table_meta *facts_added(const struct repair_facts *f, uint64_t number)
{
    size_t low = 0, limit = f->added_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->added[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < f->added_count && f->added[low].number == number ? &f->added[low] : NULL;
}

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    return (a->meta.number > b->meta.number) - (a->meta.number < b->meta.number);
}

static struct candidate *find(const struct lineage *l, size_t count, uint64_t number)
{
    struct candidate key = {.meta.number = number};
    return count == 0 ? NULL : bsearch(&key, l->tables, count, sizeof key, compare_candidates);
}

struct candidate *candidate_find(const struct lineage *l, uint64_t number)
{
    return find(l, l->count, number);
}

static lsm_status add_candidate(struct lineage *l, const struct candidate *c, lsm_error *err)
{
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 64 : 2 * l->room;
        struct candidate *grown = mem_resize(l->tables, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        l->tables = grown;
        l->room = room;
    }
    l->tables[l->count++] = *c;
    return LSM_OK;
}

/* What an edit says of a table is known better than what the table says itself. */
static lsm_status take_facts(struct lineage *l, struct candidate *c, lsm_error *err)
{
    const struct table_meta *added = facts_added(&l->facts, c->meta.number);
    c->is_dead = facts_removed(&l->facts, c->meta.number);
    if (added == NULL)
        return LSM_OK;
    c->is_added = true;
    c->is_unproven = false;
    table_meta_release(&c->meta);
    return table_meta_copy(&c->meta, added, err);
}

static lsm_status read_file(struct lineage *l, const struct walk_file *f, lsm_error *err)
{
    struct candidate c;
    lsm_status status = read_candidate(l, f, &c, err);
    if (status == LSM_OK && !l->r->options->rebuild_manifest) /* else no edit is believed */
        status = take_facts(l, &c, err);
    /* Nothing to be read, or what an ingest left before it was given its sequence number. */
    bool is_nothing = c.meta.entry_count == 0 || (c.is_unproven && c.meta.max_sequence == 0);
    if (status == LSM_OK && !is_nothing)
        return add_candidate(l, &c, err);
    if (status == LSM_OK)
        buffer_append(&l->unreadable, &f->number, sizeof f->number);
    candidate_release(&c);
    return status == LSM_OK && l->unreadable.failed ? lsm_fail_memory(err, l->unreadable.size)
                                                    : status;
}

lsm_status candidates_read(struct lineage *l, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < l->r->list.count; i++) {
        const struct walk_file *f = &l->r->list.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_TABLE && walk_file_is_plain(f) &&
            f->number != 0 && f->number < REPAIR_MAX_NUMBER)
            status = read_file(l, f, err);
    }
    if (l->count > 1)
        qsort(l->tables, l->count, sizeof *l->tables, compare_candidates);
    return status;
}

lsm_status candidates_add_missing(struct lineage *l, lsm_error *err)
{
    lsm_status status = LSM_OK;
    size_t there = l->count;
    for (size_t i = 0; status == LSM_OK && i < l->facts.added_count; i++) {
        const struct table_meta *m = &l->facts.added[i];
        if (l->r->options->rebuild_manifest || find(l, there, m->number) != NULL ||
            facts_removed(&l->facts, m->number))
            continue;
        struct candidate c = {.is_added = true, .file = m->number};
        status = table_meta_copy(&c.meta, m, err);
        if (status == LSM_OK)
            status = add_candidate(l, &c, err);
    }
    if (l->count > 1)
        qsort(l->tables, l->count, sizeof *l->tables, compare_candidates);
    return status;
}

void candidates_release(struct lineage *l)
{
    for (size_t i = 0; i < l->count; i++)
        candidate_release(&l->tables[i]);
    mem_free(l->tables);
    buffer_release(&l->unreadable);
}
