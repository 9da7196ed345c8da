/*
 * Column families: handles, and the edits that make, rename and drop them. A change is durable in
 * the manifest before the call returns; its entries in memtables and log need no rewriting, since
 * ids are never reused and a flush leaves out families that the version does not know.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

static struct db_name *name_new(const char *text)
{
    size_t size = strlen(text) + 1;
    struct db_name *name = mem_alloc(sizeof *name + size);
    if (name == NULL)
        return NULL;
    name->next = NULL;
    memcpy(name->text, text, size);
    return name;
}

/* Takes `name` over. */
static void name_give(lsm_db *db, struct lsm_cf *cf, struct db_name *name)
{
    pthread_mutex_lock(&db->cf_lock);
    name->next = cf->names;
    cf->names = name;
    pthread_mutex_unlock(&db->cf_lock);
}

static lsm_status cf_add(lsm_db *db, uint32_t id, const char *name, struct lsm_cf **added,
                         lsm_error *err)
{
    struct lsm_cf *cf = mem_alloc_zeroed(sizeof *cf);
    struct db_name *copy = name_new(name);
    if (cf == NULL || copy == NULL) {
        mem_free(cf);
        mem_free(copy);
        return lsm_fail_memory(err, sizeof *cf);
    }
    cf->magic = DB_MAGIC;
    cf->db = db;
    cf->id = id;
    cf->names = copy;
    pthread_mutex_lock(&db->cf_lock);
    cf->next = db->families;
    db->families = cf;
    pthread_mutex_unlock(&db->cf_lock);
    *added = cf;
    return LSM_OK;
}

lsm_status db_cf_load(lsm_db *db, lsm_error *err)
{
    struct version *version = version_set_current(db->versions);
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < version->family_count && status == LSM_OK; i++) {
        struct lsm_cf *cf = NULL;
        status = cf_add(db, version->families[i]->id, version->families[i]->name, &cf, err);
        if (status == LSM_OK && cf->id == 0)
            db->default_cf = cf;
    }
    version_drop(version);
    return status;
}

static struct lsm_cf *cf_with_id(lsm_db *db, uint32_t id)
{
    struct lsm_cf *cf = db->families;
    while (cf != NULL && cf->id != id)
        cf = cf->next;
    return cf;
}

static lsm_status cf_rename(lsm_db *db, struct lsm_cf *cf, const char *name, lsm_error *err)
{
    struct db_name *copy = name_new(name);
    if (copy == NULL)
        return lsm_fail_memory(err, strlen(name));
    name_give(db, cf, copy);
    return LSM_OK;
}

/* One thread at a time (view_lock): only it adds handles. */
lsm_status db_cf_follow(lsm_db *db, lsm_error *err)
{
    struct version *version = version_set_current(db->versions);
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < version->family_count && status == LSM_OK; i++) {
        const struct version_cf *family = version->families[i];
        struct lsm_cf *cf = cf_with_id(db, family->id);
        if (cf == NULL)
            status = cf_add(db, family->id, family->name, &cf, err);
        else if (strcmp(cf->names->text, family->name) != 0)
            status = cf_rename(db, cf, family->name, err);
        /* One that could not be made here was made by another process all the same. */
        if (status == LSM_OK && cf != NULL && atomic_load(&cf->dropped))
            atomic_store(&cf->dropped, false);
        if (status == LSM_OK && family->id == 0)
            db->default_cf = cf;
    }
    for (struct lsm_cf *cf = db->families; cf != NULL; cf = cf->next) {
        if (version_find_cf(version, cf->id) == NULL)
            atomic_store(&cf->dropped, true);
    }
    version_drop(version);
    return status;
}

void db_cf_free_all(lsm_db *db)
{
    while (db->families != NULL) {
        struct lsm_cf *cf = db->families;
        db->families = cf->next;
        cf->magic = DB_MAGIC_CLOSED;
        while (cf->names != NULL) {
            struct db_name *name = cf->names;
            cf->names = name->next;
            mem_free(name);
        }
        mem_free(cf);
    }
}

static struct lsm_cf *cf_find(lsm_db *db, const char *name)
{
    pthread_mutex_lock(&db->cf_lock);
    struct lsm_cf *cf = db->families;
    while (cf != NULL && (atomic_load(&cf->dropped) || strcmp(cf->names->text, name) != 0))
        cf = cf->next;
    pthread_mutex_unlock(&db->cf_lock);
    return cf;
}

static lsm_status check_name(const char *name, lsm_error *err)
{
    if (name == NULL || name[0] == '\0')
        return lsm_fail(err, LSM_INVALID, "the column family's name is empty");
    size_t size = strlen(name);
    if (size > LSM_MAX_CF_NAME) {
        lsm_status status =
            lsm_fail(err, LSM_TOO_LARGE, "a column family's name has %zu bytes, the limit is %zu",
                     size, LSM_MAX_CF_NAME);
        status_numbers(err, LSM_MAX_CF_NAME, size);
        return status;
    }
    return LSM_OK;
}

LSM_API lsm_cf *lsm_cf_default(lsm_db *db)
{
    return db_check(db, NULL) == LSM_OK ? db->default_cf : NULL;
}

LSM_API lsm_status lsm_cf_open(lsm_db *db, const char *name, lsm_cf **cf, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = check_name(name, err);
    if (status == LSM_OK)
        status = db_refresh(db, err); /* another process may have made it, or renamed it */
    if (status != LSM_OK)
        return status;
    if (cf == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the column family is NULL");
    struct lsm_cf *found = cf_find(db, name);
    if (found == NULL)
        return lsm_fail(err, LSM_MISSING, "'%s' has no column family '%s'", db->path, name);
    *cf = found;
    return LSM_OK;
}

/* Applies an edit and lets readers see it (version lock held). */
static lsm_status apply_locked(lsm_db *db, struct version_edit *edit, lsm_error *err)
{
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    lsm_status status = version_set_apply(db->versions, edit, err);
    STEP("family: durable");
    if (status == LSM_OK)
        db_state_publish(db, blank);
    else
        mem_free(blank);
    STEP("family: in force");
    return status;
}

static lsm_status check_not_taken(lsm_db *db, const char *name, lsm_error *err)
{
    if (cf_find(db, name) != NULL)
        return lsm_fail(err, LSM_EXISTS, "'%s' has a column family '%s' already", db->path, name);
    return LSM_OK;
}

static lsm_status create_locked(lsm_db *db, const char *name, const lsm_cf_options *options,
                                lsm_cf **cf, lsm_error *err)
{
    lsm_status status = check_not_taken(db, name, err);
    if (status != LSM_OK)
        return status;
    struct version_state state;
    version_set_state(db->versions, &state);
    struct version *version = version_set_current(db->versions);
    size_t count = version->family_count;
    version_drop(version);
    if (count >= LSM_MAX_CF_COUNT || state.next_cf == UINT32_MAX)
        return lsm_fail(err, LSM_TOO_LARGE, "'%s' holds %zu column families, the limit is %" PRIu32,
                        db->path, count, LSM_MAX_CF_COUNT);
    struct version_edit edit = {.next_cf = state.next_cf + 1};
    struct lsm_cf *added = NULL;
    status = edit_create_cf(&edit, state.next_cf, name, options, err);
    if (status == LSM_OK)
        status = cf_add(db, state.next_cf, name, &added, err);
    if (status == LSM_OK) {
        status = apply_locked(db, &edit, err);
        if (status == LSM_OK)
            *cf = added;
        else
            atomic_store(&added->dropped, true);
    }
    edit_release(&edit);
    return status;
}

LSM_API lsm_status lsm_cf_create(lsm_db *db, const char *name, const lsm_cf_options *options,
                                 lsm_cf **cf, lsm_error *err)
{
    static const lsm_cf_options defaults = LSM_CF_OPTIONS_INIT;
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = check_name(name, err);
    lsm_cf_options resolved;
    if (status == LSM_OK)
        status = version_resolve_cf_options(options == NULL ? &defaults : options, &resolved, err);
    if (status != LSM_OK)
        return status;
    if (cf == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the column family is NULL");
    status = db_edit_begin(db, err);
    if (status != LSM_OK)
        return status;
    status = db_cf_follow(db, err);
    if (status == LSM_OK)
        status = create_locked(db, name, &resolved, cf, err);
    db_edit_end(db);
    return status;
}

static lsm_status check_family_change(lsm_db *db, lsm_cf *cf, lsm_error *err)
{
    uint32_t id = 0;
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK && cf == NULL)
        return lsm_fail(err, LSM_INVALID, "the column family is NULL");
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &id, err);
    if (status == LSM_OK && id == 0)
        return lsm_fail(err, LSM_INVALID,
                        "the family 'default' can be neither dropped nor renamed");
    return status;
}

LSM_API lsm_status lsm_cf_drop(lsm_db *db, lsm_cf *cf, lsm_error *err)
{
    lsm_status status = check_family_change(db, cf, err);
    if (status != LSM_OK)
        return status;
    struct version_edit edit = {0};
    status = db_edit_begin(db, err);
    if (status != LSM_OK)
        return status;
    status = db_cf_follow(db, err);
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &(uint32_t){0}, err); /* again: somebody may have been first */
    if (status == LSM_OK)
        status = edit_drop_cf(&edit, cf->id, err);
    if (status == LSM_OK)
        status = apply_locked(db, &edit, err);
    if (status == LSM_OK)
        atomic_store(&cf->dropped, true);
    db_edit_end(db);
    edit_release(&edit);
    return status;
}

LSM_API lsm_status lsm_cf_rename(lsm_db *db, lsm_cf *cf, const char *name, lsm_error *err)
{
    lsm_status status = check_family_change(db, cf, err);
    if (status == LSM_OK)
        status = check_name(name, err);
    if (status != LSM_OK)
        return status;
    struct db_name *copy = name_new(name);
    if (copy == NULL)
        return lsm_fail_memory(err, strlen(name));
    struct version_edit edit = {0};
    status = db_edit_begin(db, err);
    if (status != LSM_OK) {
        mem_free(copy);
        return status;
    }
    status = db_cf_follow(db, err);
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &(uint32_t){0}, err);
    if (status == LSM_OK)
        status = check_not_taken(db, name, err);
    if (status == LSM_OK)
        status = edit_rename_cf(&edit, cf->id, name, err);
    if (status == LSM_OK)
        status = apply_locked(db, &edit, err);
    if (status == LSM_OK) {
        name_give(db, cf, copy);
        copy = NULL;
    }
    db_edit_end(db);
    mem_free(copy);
    edit_release(&edit);
    return status;
}

LSM_API const char *lsm_cf_name(const lsm_cf *cf)
{
    pthread_mutex_lock(&cf->db->cf_lock);
    const char *name = cf->names->text;
    pthread_mutex_unlock(&cf->db->cf_lock);
    return name;
}

LSM_API uint32_t lsm_cf_id(const lsm_cf *cf)
{
    return cf->id;
}

LSM_API lsm_status lsm_cf_list(lsm_db *db, char ***names, size_t *count, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    if (names == NULL || count == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the names is NULL");
    struct version *version = version_set_current(db->versions);
    size_t size = version->family_count * sizeof(char *);
    for (size_t i = 0; i < version->family_count; i++)
        size += strlen(version->families[i]->name) + 1;
    char **list = mem_alloc(size);
    if (list != NULL) {
        char *text = (char *)(list + version->family_count);
        for (size_t i = 0; i < version->family_count; i++) {
            size_t length = strlen(version->families[i]->name) + 1;
            memcpy(text, version->families[i]->name, length);
            list[i] = text;
            text += length;
        }
        *names = list;
        *count = version->family_count;
    }
    version_drop(version);
    return list == NULL ? lsm_fail_memory(err, size) : LSM_OK;
}

LSM_API void lsm_free(void *memory)
{
    mem_free(memory);
}
