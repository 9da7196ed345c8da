/*
 * Making the next version out of the current one and an edit. Only what the edit touches is made
 * anew: changes are sorted by family and level, and each group makes one new array of files.
 *
 * The result is checked as it is made: below level 0 every file ends before the next begins. An
 * edit that would break that never reaches the manifest.
 */
#include "engine/version/version_private.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <stdlib.h>

/* One added or removed table. */
struct change {
    uint32_t cf;
    uint32_t level;
    uint64_t number;
    const struct table_meta *added; /* NULL: removed */
    bool matched;                   /* a removal that found its file */
};

struct build {
    const struct version *base;
    const struct version_edit *edit;
    struct table_pool *pool;
    struct live_version *next;
    struct change *changes; /* by family, level, number */
    size_t change_count;
    lsm_error *err;
};

/* ---- families ---------------------------------------------------------------------------------
 */

static struct live_cf *cf_new(uint32_t id, const char *name, const lsm_cf_options *options)
{
    struct live_cf *cf = mem_alloc_zeroed(sizeof *cf);
    char *copy = mem_copy_text(name);
    if (cf == NULL || copy == NULL) {
        mem_free(cf);
        mem_free(copy);
        return NULL;
    }
    cf->base.id = id;
    cf->base.name = copy;
    cf->base.options = *options;
    atomic_init(&cf->references, 1);
    return cf;
}

static struct live_cf *cf_clone(const struct version_cf *from, const char *name)
{
    struct live_cf *cf = cf_new(from->id, name, &from->options);
    if (cf == NULL)
        return NULL;
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        struct level_files *array = live_cf_of(from)->arrays[i];
        if (array != NULL)
            atomic_fetch_add_explicit(&array->references, 1, memory_order_relaxed);
        cf->arrays[i] = array;
        cf->base.levels[i] = from->levels[i];
    }
    cf->base.used_levels = from->used_levels;
    return cf;
}

static bool is_dropped(const struct version_edit *edit, uint32_t id)
{
    for (size_t i = 0; i < edit->dropped_count; i++) {
        if (edit->dropped[i] == id)
            return true;
    }
    return false;
}

static size_t family_index(const struct build *b, uint32_t id)
{
    size_t low = 0, limit = b->next->base.family_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (b->next->base.families[middle]->id < id)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

static bool family_exists(const struct build *b, uint32_t id)
{
    size_t index = family_index(b, id);
    return index < b->next->base.family_count && b->next->base.families[index]->id == id;
}

static lsm_status create_family(struct build *b, const struct edit_cf *created)
{
    struct version *next = &b->next->base;
    if (family_exists(b, created->id))
        return lsm_fail(b->err, LSM_CORRUPT, "column family %u is created twice", created->id);
    struct live_cf *cf = cf_new(created->id, created->name, &created->options);
    if (cf == NULL)
        return lsm_fail_memory(b->err, sizeof *cf);
    size_t at = family_index(b, created->id);
    memmove(next->families + at + 1, next->families + at,
            (next->family_count - at) * sizeof *next->families);
    next->families[at] = &cf->base;
    next->family_count++;
    return LSM_OK;
}

/* The family as a struct that only the next version has, so that it can be changed. */
static lsm_status own_family(struct build *b, uint32_t id, const char *name, struct live_cf **own)
{
    if (!family_exists(b, id))
        return lsm_fail(b->err, LSM_CORRUPT, "an edit names column family %u, which does not exist",
                        id);
    struct version_cf **place = &b->next->base.families[family_index(b, id)];
    struct live_cf *cf = live_cf_of(*place);
    if (atomic_load_explicit(&cf->references, memory_order_relaxed) > 1 || name != NULL) {
        struct live_cf *clone = cf_clone(*place, name == NULL ? (*place)->name : name);
        if (clone == NULL)
            return lsm_fail_memory(b->err, sizeof *clone);
        *place = &clone->base;
        version_cf_drop(cf);
        cf = clone;
    }
    *own = cf;
    return LSM_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(struct version_cf *const *)a)->name, (*(struct version_cf *const *)b)->name);
}

static lsm_status check_names(const struct build *b)
{
    const struct version *next = &b->next->base;
    size_t size = next->family_count * sizeof *next->families;
    struct version_cf **sorted = mem_alloc(size);
    if (sorted == NULL)
        return lsm_fail_memory(b->err, size);
    if (size > 0)
        memcpy(sorted, next->families, size);
    qsort(sorted, next->family_count, sizeof *sorted, compare_names);
    lsm_status status = LSM_OK;
    for (size_t i = 1; status == LSM_OK && i < next->family_count; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            status = lsm_fail(b->err, LSM_CORRUPT, "column families %u and %u have one name, '%s'",
                              sorted[i - 1]->id, sorted[i]->id, sorted[i]->name);
    }
    mem_free(sorted);
    return status;
}

static lsm_status build_families(struct build *b)
{
    const struct version_edit *edit = b->edit;
    struct version *next = &b->next->base;
    size_t room = b->base->family_count + edit->created_count;
    next->families = mem_alloc(room * sizeof *next->families);
    if (next->families == NULL)
        return lsm_fail_memory(b->err, room * sizeof *next->families);
    for (size_t i = 0; i < edit->dropped_count; i++) {
        if (version_find_cf(b->base, edit->dropped[i]) == NULL)
            return lsm_fail(b->err, LSM_CORRUPT,
                            "an edit drops column family %u, which does not exist",
                            edit->dropped[i]);
    }
    for (size_t i = 0; i < b->base->family_count; i++) {
        struct version_cf *cf = b->base->families[i];
        if (is_dropped(edit, cf->id))
            continue;
        atomic_fetch_add_explicit(&live_cf_of(cf)->references, 1, memory_order_relaxed);
        next->families[next->family_count++] = cf;
    }
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < edit->created_count; i++)
        status = create_family(b, &edit->created[i]);
    for (size_t i = 0; status == LSM_OK && i < edit->renamed_count; i++) {
        struct live_cf *cf;
        status = own_family(b, edit->renamed[i].id, edit->renamed[i].name, &cf);
    }
    if (status == LSM_OK && edit->created_count + edit->renamed_count > 0)
        status = check_names(b);
    return status;
}

/* ---- changes ----------------------------------------------------------------------------------
 */

static int compare_changes(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    if (x->cf != y->cf)
        return x->cf < y->cf ? -1 : 1;
    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static lsm_status collect_changes(struct build *b)
{
    const struct version_edit *edit = b->edit;
    size_t count = edit->added_count + edit->removed_count;
    b->changes = mem_alloc(count * sizeof *b->changes);
    if (b->changes == NULL)
        return lsm_fail_memory(b->err, count * sizeof *b->changes);
    for (size_t i = 0; i < edit->removed_count; i++) {
        const struct edit_file_removal *r = &edit->removed[i];
        /* What a dropped family held goes with it. */
        if (!is_dropped(edit, r->cf))
            b->changes[b->change_count++] =
                (struct change){.cf = r->cf, .level = r->level, .number = r->number};
    }
    for (size_t i = 0; i < edit->added_count; i++) {
        const struct table_meta *m = &edit->added[i];
        b->changes[b->change_count++] =
            (struct change){.cf = m->cf, .level = m->level, .number = m->number, .added = m};
    }
    qsort(b->changes, b->change_count, sizeof *b->changes, compare_changes);
    return LSM_OK;
}

/* The file that the edit takes from somewhere in the family, for one that it puts elsewhere. */
static struct table_slot *moved_slot(const struct build *b, const struct table_meta *added)
{
    for (size_t i = 0; i < b->edit->removed_count; i++) {
        const struct edit_file_removal *r = &b->edit->removed[i];
        if (r->number != added->number || r->cf != added->cf)
            continue;
        const struct version_cf *cf = version_find_cf(b->base, r->cf);
        const struct version_level *level = cf == NULL ? NULL : &cf->levels[r->level];
        for (size_t k = 0; level != NULL && k < level->count; k++) {
            if (level->files[k]->meta.number == r->number)
                return live_file_of(level->files[k])->slot;
        }
    }
    return NULL;
}

/* A new file with no reference yet: level_files_new() takes the first. */
static struct live_file *file_new(const struct build *b, const struct table_meta *meta)
{
    struct live_file *file = mem_alloc_zeroed(sizeof *file);
    if (file == NULL)
        return NULL;
    if (table_meta_copy(&file->base.meta, meta, NULL) != LSM_OK) {
        mem_free(file);
        return NULL;
    }
    file->slot = moved_slot(b, meta);
    if (file->slot != NULL)
        table_slot_keep(file->slot);
    else
        file->slot = table_slot_new(b->pool, FILE_TABLE, meta->number, meta->size);
    if (file->slot == NULL) {
        table_meta_release(&file->base.meta);
        mem_free(file);
        return NULL;
    }
    atomic_init(&file->references, 0);
    return file;
}

static void file_free(struct live_file *file)
{
    table_slot_drop(file->slot);
    table_meta_release(&file->base.meta);
    mem_free(file);
}

/* ---- levels -----------------------------------------------------------------------------------
 */

/* Level 0: oldest first. */
static int compare_ages(const void *a, const void *b)
{
    const struct table_meta *x = &(*(struct version_file *const *)a)->meta;
    const struct table_meta *y = &(*(struct version_file *const *)b)->meta;
    if (x->max_sequence != y->max_sequence)
        return x->max_sequence < y->max_sequence ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static int compare_keys(const void *a, const void *b)
{
    const struct table_meta *x = &(*(struct version_file *const *)a)->meta;
    const struct table_meta *y = &(*(struct version_file *const *)b)->meta;
    int order = slice_compare(x->smallest, y->smallest);
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

static struct change *find_removal(struct change *group, size_t count, uint64_t number)
{
    size_t low = 0, limit = count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (group[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    for (; low < count && group[low].number == number; low++) {
        if (group[low].added == NULL && !group[low].matched)
            return &group[low];
    }
    return NULL;
}

static lsm_status check_level(const struct build *b, struct version_file **files, size_t count,
                              const struct change *group)
{
    for (size_t i = 1; i < count && group->level > 0; i++) {
        if (slice_compare(files[i - 1]->meta.largest, files[i]->meta.smallest) < 0)
            continue;
        return lsm_fail(b->err, LSM_CORRUPT,
                        "tables %" PRIu64 " and %" PRIu64
                        " of column family %u overlap in level %u",
                        files[i - 1]->meta.number, files[i]->meta.number, group->cf, group->level);
    }
    return LSM_OK;
}

/* The files of the level after the group's changes, into `files`; *fresh of them, at its end, are
 * new and have no reference yet. */
static lsm_status collect_files(const struct build *b, const struct version_level *old,
                                struct change *group, size_t group_count,
                                struct version_file **files, size_t *kept, size_t *fresh)
{
    for (size_t i = 0; i < old->count; i++) {
        struct change *removal = find_removal(group, group_count, old->files[i]->meta.number);
        if (removal != NULL)
            removal->matched = true;
        else
            files[(*kept)++] = old->files[i];
    }
    for (size_t i = 0; i < group_count; i++) {
        if (group[i].added == NULL && !group[i].matched)
            return lsm_fail(b->err, LSM_CORRUPT,
                            "an edit removes table %" PRIu64
                            " from level %u of column family %u, where it is not",
                            group[i].number, group[i].level, group[i].cf);
        if (group[i].added == NULL)
            continue;
        struct live_file *file = file_new(b, group[i].added);
        if (file == NULL)
            return lsm_fail_memory(b->err, sizeof *file);
        files[*kept + (*fresh)++] = &file->base;
    }
    return LSM_OK;
}

static lsm_status rebuild_level(struct build *b, struct live_cf *cf, struct change *group,
                                size_t group_count)
{
    uint32_t index = group->level;
    const struct version_level old = cf->base.levels[index];
    size_t room = old.count + group_count, kept = 0, fresh = 0;
    struct level_files *array = NULL;
    struct version_file **files = mem_alloc(2 * room * sizeof *files);
    if (files == NULL)
        return lsm_fail_memory(b->err, 2 * room * sizeof *files);
    struct version_file **sorted = files + room;
    lsm_status status = collect_files(b, &old, group, group_count, files, &kept, &fresh);
    size_t count = kept + fresh;
    if (status != LSM_OK)
        goto out;
    memcpy(sorted, files, count * sizeof *files);
    qsort(sorted, count, sizeof *sorted, index == 0 ? compare_ages : compare_keys);
    status = check_level(b, sorted, count, group);
    if (status != LSM_OK)
        goto out;
    array = level_files_new(sorted, count);
    if (array == NULL) {
        status = lsm_fail_memory(b->err, sizeof *array);
        goto out;
    }
    fresh = 0; /* the array holds them now */
    level_files_drop(cf->arrays[index]);
    cf->arrays[index] = array;
    cf->base.levels[index] = array->level;
    cf->base.used_levels &= ~(UINT32_C(1) << index);
    cf->base.used_levels |= (uint32_t)(count > 0) << index;
out:
    for (size_t i = 0; i < fresh; i++)
        file_free(live_file_of(files[kept + i]));
    mem_free(files);
    return status;
}

static lsm_status build_levels(struct build *b)
{
    for (size_t i = 0; i < b->change_count;) {
        struct change *group = &b->changes[i];
        size_t count = 1;
        while (i + count < b->change_count && group[count].cf == group->cf &&
               group[count].level == group->level)
            count++;
        struct live_cf *cf;
        lsm_status status = own_family(b, group->cf, NULL, &cf);
        if (status == LSM_OK)
            status = rebuild_level(b, cf, group, count);
        if (status != LSM_OK)
            return status;
        i += count;
    }
    return LSM_OK;
}

lsm_status version_build(const struct version *base, const struct version_edit *edit,
                         struct table_pool *pool, struct live_version **next, lsm_error *err)
{
    struct build b = {.base = base, .edit = edit, .pool = pool, .err = err};
    b.next = version_new_empty(pool);
    if (b.next == NULL)
        return lsm_fail_memory(err, sizeof *b.next);
    lsm_status status = build_families(&b);
    if (status == LSM_OK)
        status = collect_changes(&b);
    if (status == LSM_OK)
        status = build_levels(&b);
    mem_free(b.changes);
    if (status == LSM_OK)
        status = version_build_blobs(base, edit, pool, b.next, err);
    if (status == LSM_OK)
        *next = b.next;
    else
        version_drop(&b.next->base);
    return status;
}

/* ---- removal ----------------------------------------------------------------------------------
 */

static bool is_added(const struct version_edit *edit, uint64_t number)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i].number == number)
            return true;
    }
    return false;
}

static void mark(struct version_file *file, uint32_t level, uint64_t number)
{
    live_file_of(file)->slot->dead_level = level;
    /* pairs with the acquire load in bury_slot() */
    atomic_store_explicit(&live_file_of(file)->slot->dead_number, number, memory_order_release);
}

void version_mark_removed(const struct version *base, const struct version_edit *edit,
                          const struct version *next, uint64_t number)
{
    version_mark_blobs(base, next, number);
    for (size_t i = 0; i < edit->removed_count; i++) {
        const struct edit_file_removal *r = &edit->removed[i];
        const struct version_cf *cf = version_find_cf(base, r->cf);
        if (cf == NULL || is_added(edit, r->number))
            continue;
        for (size_t k = 0; k < cf->levels[r->level].count; k++) {
            if (cf->levels[r->level].files[k]->meta.number == r->number)
                mark(cf->levels[r->level].files[k], r->level, number);
        }
    }
    for (size_t i = 0; i < edit->dropped_count; i++) {
        const struct version_cf *cf = version_find_cf(base, edit->dropped[i]);
        for (uint32_t level = 0; cf != NULL && level < VERSION_LEVELS; level++) {
            for (size_t k = 0; k < cf->levels[level].count; k++)
                mark(cf->levels[level].files[k], level, number);
        }
    }
}
