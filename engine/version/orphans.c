/*
 * Files of the dead: what a process was making, or had yet to remove, when it died. Nobody knows
 * since when such a file is not named; since the current version at the latest, so it waits like a
 * file that the current version's edit removed.
 */
#include "engine/version/set_private.h"

#include "engine/base/step.h"

static bool is_orphan(const struct version_set *set, const struct found_file *file, uint64_t limit,
                      const struct listing *known)
{
    uint64_t current = set->manifest.place.file_number;
    if (listing_has(known, file))
        return false;
    switch (file->kind) {
    case FILE_MANIFEST:
        /* A higher number may be of one that is being made. */
        return file->number < current && file->number != set->previous_number;
    case FILE_TABLE:
    case FILE_BLOB:
        return file->number < limit;
    default:
        return false;
    }
}

lsm_status version_set_remove_orphans(struct version_set *set, uint64_t limit, lsm_error *err)
{
    struct listing found = {0}, known = {0};
    lsm_status status = LSM_OK;
    if (set->options.read_only)
        return LSM_OK;
    /* In this order: a file that comes to be known or removed meanwhile is in one of the three. */
    status = listing_read(&found, set->options.env->dir, err);
    if (status == LSM_OK)
        status = table_pool_list(&set->pool, &known, err);
    if (status == LSM_OK)
        status = dead_files_list(&set->dead, &known, err);
    listing_sort(&known);
    STEP("orphans: listed");
    for (size_t i = 0; status == LSM_OK && i < found.count; i++) {
        const struct found_file *file = &found.files[i];
        if (is_orphan(set, file, limit, &known))
            dead_files_add(&set->dead, file->kind, file->number, 0, version_set_number(set));
    }
    listing_release(&found);
    listing_release(&known);
    if (status == LSM_OK)
        version_set_clean(set);
    return status;
}
