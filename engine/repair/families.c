/*
 * Which column families there are when no manifest says it as a whole: those that an edit made and
 * none dropped, and those that a table or the log belongs to.
 */
#include "engine/repair/lineage_private.h"

#include <stdio.h>
#include <string.h>

bool repair_family_was_dropped(const struct repair *r, uint32_t id)
{
    const struct version_edit *gone = &r->state.gone;
    for (size_t i = 0; i < gone->dropped_count; i++) {
        if (gone->dropped[i] == id)
            return true;
    }
    return false;
}

static bool name_is_taken(const struct version_edit *state, const char *name)
{
    for (size_t i = 0; i < state->created_count; i++) {
        if (strcmp(state->created[i].name, name) == 0)
            return true;
    }
    return false;
}

static void count_id(struct version_edit *state, uint32_t id)
{
    if (id >= state->next_cf && id < UINT32_MAX)
        state->next_cf = id + 1;
}

/* The options that the family had when the table was written, or those that it was written with:
 * older tables do not say more. */
static lsm_status options_of(const struct table_properties *p, lsm_cf_options *resolved,
                             lsm_error *err)
{
    lsm_cf_options options = LSM_CF_OPTIONS_INIT;
    if (p != NULL && p->cf_options.size > 0) {
        lsm_status status = edit_options_decode(p->cf_options, &options, NULL);
        if (status == LSM_NO_MEMORY)
            return lsm_fail_memory(err, p->cf_options.size);
        if (status == LSM_OK && version_resolve_cf_options(&options, resolved, NULL) == LSM_OK)
            return LSM_OK;
        options = (lsm_cf_options)LSM_CF_OPTIONS_INIT;
    }
    if (p != NULL && p->block_size != 0) {
        options.block_size = p->block_size;
        options.filter_bits = p->filter_bits == 0 ? LSM_NO_FILTER : p->filter_bits;
        if (version_resolve_cf_options(&options, resolved, NULL) == LSM_OK)
            return LSM_OK;
        options = (lsm_cf_options)LSM_CF_OPTIONS_INIT;
    }
    return version_resolve_cf_options(&options, resolved, err);
}

lsm_status repair_family_make(struct repair *r, uint32_t id, const char *name,
                              const struct table_properties *p, lsm_error *err)
{
    struct version_edit *state = &r->state.snapshot;
    char own[32];
    lsm_cf_options resolved;
    if (id == 0 && (name == NULL || name[0] == '\0'))
        name = "default"; /* it never has another one */
    if (name == NULL || name[0] == '\0' || name_is_taken(state, name)) {
        snprintf(own, sizeof own, "recovered-%" PRIu32, id);
        name = own;
    }
    lsm_status status = options_of(p, &resolved, err);
    if (status == LSM_OK)
        status = edit_create_cf(state, id, name, &resolved, err);
    count_id(state, id);
    return status;
}

static lsm_status take_known(struct lineage *l, lsm_error *err)
{
    struct repair *r = l->r;
    const struct version_edit *known = &l->facts.families;
    lsm_status status = LSM_OK;
    r->state.snapshot.next_cf = l->facts.next_cf;
    for (size_t i = 0; status == LSM_OK && i < known->dropped_count; i++)
        status = edit_drop_cf(&r->state.gone, known->dropped[i], err);
    for (size_t i = 0; status == LSM_OK && i < known->created_count; i++) {
        const struct edit_cf *cf = &known->created[i];
        if (repair_family_was_dropped(r, cf->id))
            continue;
        status = edit_create_cf(&r->state.snapshot, cf->id, cf->name, &cf->options, err);
        count_id(&r->state.snapshot, cf->id);
    }
    return status;
}

lsm_status families_make(struct lineage *l, lsm_error *err)
{
    struct repair *r = l->r;
    lsm_status status = take_known(l, err);
    /* The newest table of a family knows its name. */
    for (size_t i = l->count; status == LSM_OK && i > 0; i--) {
        struct candidate *c = &l->tables[i - 1];
        if (repair_family_was_dropped(r, c->meta.cf))
            c->is_dead = true;
        if (!c->is_dead && repair_family_name(r, c->meta.cf) == NULL)
            status = repair_family_make(r, c->meta.cf, c->cf_name,
                                        c->properties.number != 0 ? &c->properties : NULL, err);
    }
    if (status == LSM_OK && repair_family_name(r, 0) == NULL && !repair_family_was_dropped(r, 0))
        status = repair_family_make(r, 0, NULL, NULL, err);
    return status;
}
