/*
 * What only shows when parts are held against each other: a filter that denies a key, counts that
 * differ, tables of a level that overlap. lsm_verify() finds it; a table that it finds so is
 * written anew from its blocks, and a manifest whose state cannot be is not believed.
 */
#include "engine/repair/repair_private.h"
#include "engine/verify/verify.h"

#include <string.h>

struct collect {
    struct repair *r;
    bool no_memory;
};

/* Those that the walk of one file does not see. */
static bool is_of_table(enum finding_id id)
{
    switch (id) {
    case FINDING_BLOCK_COUNT:
    case FINDING_BLOCK_SEQUENCE:
    case FINDING_BLOCK_TAGS:
    case FINDING_SEQUENCE_OUTSIDE:
    case FINDING_META_DIFFERS:
    case FINDING_PROPERTY_COUNTS:
    case FINDING_PROPERTY_RANGE:
    case FINDING_PROPERTY_SEQUENCE:
    case FINDING_DIGEST:
    case FINDING_FILTER_MISSES:
    case FINDING_INDEX_SEPARATOR:
    case FINDING_INDEX_BLOCKS:
    case FINDING_BLOB_REFERENCE:
    case FINDING_BLOB_COUNTS:
        return true;
    default:
        return false;
    }
}

static bool is_of_state(enum finding_id id)
{
    return id == FINDING_LEVEL_OVERLAP || id == FINDING_NEWER_BELOW ||
           id == FINDING_REPLACED_ALIVE || id == FINDING_FAMILY_UNKNOWN;
}

static bool make_room(struct repair *r)
{
    if (r->contradiction_count < r->contradiction_room)
        return true;
    size_t room = r->contradiction_room == 0 ? 16 : 2 * r->contradiction_room;
    struct repair_contradiction *grown =
        mem_resize(r->contradictions, room * sizeof *r->contradictions);
    if (grown == NULL)
        return false;
    r->contradictions = grown;
    r->contradiction_room = room;
    return true;
}

static bool collect_finding(void *context, const lsm_finding *f)
{
    struct collect *c = context;
    enum finding_id id = finding_parse(f->id);
    enum file_kind kind = FILE_CURRENT;
    uint64_t number = 0;
    if (id != FINDING_COUNT && f->severity == LSM_DAMAGE && f->file != NULL &&
        file_name_parse(f->file, &kind, &number) && kind == FILE_TABLE)
        buffer_append(&c->r->suspects, &number, sizeof number);
    if (is_of_table(id) && id != FINDING_META_DIFFERS && f->file != NULL &&
        file_name_parse(f->file, &kind, &number) && kind == FILE_BLOB)
        buffer_append(&c->r->suspect_blobs, &number, sizeof number);
    if (id == FINDING_COUNT || !(is_of_table(id) || is_of_state(id)))
        return true;
    if (is_of_table(id) &&
        (f->file == NULL || !file_name_parse(f->file, &kind, &number) || kind != FILE_TABLE))
        return true;
    if (!make_room(c->r)) {
        c->no_memory = true;
        return false;
    }
    c->r->contradictions[c->r->contradiction_count++] = (struct repair_contradiction){
        .id = id, .table = is_of_table(id) ? number : 0, .offset = f->offset};
    return true;
}

/* What cannot be verified at all is the affair of those who look next. */
static lsm_status conclude(const struct collect *c, lsm_status status, lsm_error *err)
{
    if (status == LSM_NO_MEMORY || c->no_memory || c->r->suspects.failed ||
        c->r->suspect_blobs.failed)
        return lsm_fail_memory(err, sizeof *c->r->contradictions);
    return LSM_OK;
}

lsm_status repair_find_contradictions(struct repair *r, lsm_error *err)
{
    struct collect collect = {.r = r};
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    options.level = LSM_VERIFY_FULL;
    options.io = r->options->io;
    options.offline = true;
    options.context = &collect;
    options.finding = collect_finding;
    return conclude(&collect, lsm_verify(r->path, &options, NULL, NULL), err);
}

static bool go_on(void *context, unsigned pass, const char *name, uint64_t done, uint64_t total)
{
    const struct collect *c = context;
    const lsm_repair_options *o = c->r->options;
    (void)pass, (void)name, (void)done, (void)total;
    return o->progress == NULL || o->progress(o->context, c->r->bytes_done, 0);
}

lsm_status repair_check_again(struct repair *r, uint64_t *damages, lsm_error *err)
{
    struct collect collect = {.r = r};
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_verify_result result = {.struct_size = sizeof result};
    lsm_error why = {.message = ""};
    options.level = LSM_VERIFY_FULL;
    options.threads = 1; /* a draft bears no more */
    options.context = &collect;
    options.finding = collect_finding;
    options.progress = go_on;
    lsm_status status = verify_held(r->io, r->dir, r->path, &options, &result, &why);
    *damages = result.damages;
    if (status == LSM_CANCELLED && !collect.no_memory) {
        status_copy(err, &why);
        return status;
    }
    return conclude(&collect, status, err);
}
