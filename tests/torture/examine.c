#include "tests/torture/examine.h"

#include "engine/base/slice.h"
#include "tests/lib/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- verify ---------------------------------------------------------------------------------- */

static bool note_finding(void *context, const lsm_finding *finding)
{
    struct examination *e = context;
    if ((e->count & (e->count - 1)) == 0)
        e->found = test_resize(e->found, (2 * e->count + 1) * sizeof *e->found);
    struct found *found = &e->found[e->count++];
    *found = (struct found){.pass = finding->pass,
                            .severity = finding->severity,
                            .offset = finding->offset,
                            .length = finding->length,
                            .has_range = finding->has_range};
    snprintf(found->id, sizeof found->id, "%s", finding->id);
    snprintf(found->file, sizeof found->file, "%s", finding->file != NULL ? finding->file : "");
    snprintf(found->text, sizeof found->text, "%s", finding->text);
    e->damage_count += finding->severity == LSM_DAMAGE;
    bool is_clean = finding->severity < LSM_WARNING || strncmp(finding->id, "0-mount-", 8) == 0;
    e->unclean_count += !is_clean;
    return true;
}

void examination_take(struct examination *e, const char *path, const char *io)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_error err = {0};
    *e = (struct examination){0};
    options.level = LSM_VERIFY_FULL;
    options.io = io;
    options.context = e;
    options.finding = note_finding;
    e->status = lsm_verify(path, &options, NULL, &err);
    if (e->status == LSM_CORRUPT && e->damage_count > 0)
        e->status = LSM_OK; /* it could do its work */
    if (e->status != LSM_OK)
        snprintf(e->failed, sizeof e->failed, "%s", err.message);
}

void examination_release(struct examination *e)
{
    free(e->found);
    *e = (struct examination){0};
}

bool examination_names(const struct examination *e, const char *file, lsm_severity least)
{
    for (size_t i = 0; i < e->count; i++) {
        if (e->found[i].severity >= least && strcmp(e->found[i].file, file) == 0)
            return true;
    }
    return false;
}

bool examination_has(const struct examination *e, const char *id)
{
    for (size_t i = 0; i < e->count; i++) {
        if (strcmp(e->found[i].id, id) == 0)
            return true;
    }
    return false;
}

const char *examination_text(const struct examination *e)
{
    static char text[EXAMINE_TEXT];
    size_t size = 0;
    text[0] = '\0';
    for (size_t i = 0; i < e->count && size < sizeof text; i++) {
        if (e->found[i].severity > LSM_NOTE)
            size += (size_t)snprintf(text + size, sizeof text - size, "%s%s %s",
                                     size > 0 ? ", " : "", e->found[i].id, e->found[i].file);
    }
    return text;
}

/* ---- repair ---------------------------------------------------------------------------------- */

static char *copy_key(lsm_slice key)
{
    char *copy = test_alloc(key.size);
    if (key.size > 0)
        memcpy(copy, key.data, key.size);
    return copy;
}

static void note_loss(void *context, const lsm_loss *loss)
{
    struct mending *m = context;
    m->tells_unseen |= loss->kinds == LSM_LOSS_UNSEEN;
    if (loss->kinds == LSM_LOSS_UNSEEN)
        return; /* a word of warning is no excuse for what can be known */
    if ((m->suspect_count & (m->suspect_count - 1)) == 0)
        m->suspects = test_resize(m->suspects, (2 * m->suspect_count + 1) * sizeof *m->suspects);
    struct suspect *suspect = &m->suspects[m->suspect_count++];
    *suspect = (struct suspect){.all_families = !loss->has_cf,
                                .family = loss->cf_id,
                                .first_open = loss->first_open,
                                .last_open = loss->last_open};
    if (!loss->first_open) {
        suspect->first = copy_key(loss->first);
        suspect->first_size = loss->first.size;
    }
    if (!loss->last_open) {
        suspect->last = copy_key(loss->last);
        suspect->last_size = loss->last.size;
    }
}

void mending_take(struct mending *m, const char *path, const char *io)
{
    lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    lsm_error err = {0};
    *m = (struct mending){0};
    options.io = io;
    options.context = m;
    options.on_loss = note_loss;
    m->status = lsm_repair(path, &options, &result, &err);
    m->has_changed = result.is_changed;
    m->has_lost = result.is_data_lost;
    m->has_left = result.is_damage_left;
    if (m->status != LSM_OK)
        snprintf(m->failed, sizeof m->failed, "%s", err.message);
}

void mending_release(struct mending *m)
{
    for (size_t i = 0; i < m->suspect_count; i++) {
        free(m->suspects[i].first);
        free(m->suspects[i].last);
    }
    free(m->suspects);
    *m = (struct mending){0};
}

bool mending_reports(const struct mending *m, uint32_t family, lsm_slice key)
{
    for (size_t i = 0; i < m->suspect_count; i++) {
        const struct suspect *s = &m->suspects[i];
        if ((s->all_families || s->family == family) &&
            (s->first_open || slice_compare(LSM_SLICE(s->first, s->first_size), key) <= 0) &&
            (s->last_open || slice_compare(LSM_SLICE(s->last, s->last_size), key) >= 0))
            return true;
    }
    return false;
}
