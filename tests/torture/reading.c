#include "tests/torture/reading.h"

#include "engine/base/slice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lsm_status open_database(const struct reading_setup *setup, lsm_db **db, lsm_error *err)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_status status = lsm_options_parse(&options, setup->options, err);
    if (status != LSM_OK)
        return status;
    options.shm_dir = setup->shm_dir;
    return lsm_open(setup->path, &options, db, err);
}

/* ---- a damaged database ---------------------------------------------------------------------- */

struct reader {
    const struct model *model;
    struct reading *reading;
    lsm_db *db;
    uint32_t family;
    lsm_cf *cf;
    uint64_t at;
};

__attribute__((format(printf, 3, 4))) static void is_wrong(struct reader *r, lsm_slice key,
                                                           const char *format, ...)
{
    struct reading *reading = r->reading;
    if (reading->wrong_count++ > 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    int size = snprintf(reading->wrong, READING_TEXT, "family %" PRIu32 ", key '%.*s': ", r->family,
                        (int)key.size, (const char *)key.data);
    vsnprintf(reading->wrong + size, READING_TEXT - (size_t)size, format, arguments);
    va_end(arguments);
}

static void has_failed(struct reading *reading, const lsm_error *err)
{
    if (reading->failed_count++ == 0)
        snprintf(reading->failed, READING_TEXT, "%s", err->message);
}

static void hold_against(struct reader *r, lsm_slice key, bool found, lsm_slice value,
                         const struct model_version *wanted, const char *call)
{
    if (found != (wanted != NULL))
        is_wrong(r, key, "%s %s it", call, found ? "finds" : "does not find");
    else if (found && (value.size != wanted->size || model_hash(value) != wanted->hash))
        is_wrong(r, key, "%s gives another value", call);
    else
        r->reading->answer_count++;
}

static void get_all(struct reader *r)
{
    const struct model *m = r->model;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_version *v = m->versions[i];
        lsm_pin pin = LSM_PIN_INIT;
        lsm_error err = {0};
        if (v->family != r->family || (i > 0 && m->versions[i - 1]->family == v->family &&
                                       slice_compare(m->versions[i - 1]->key, v->key) == 0))
            continue;
        if (lsm_get(r->db, r->cf, v->key, NULL, &pin, &err) != LSM_OK)
            has_failed(r->reading, &err);
        else
            hold_against(r, v->key, pin.found, pin.value, model_get(m, r->family, v->key, r->at),
                         "a get");
        lsm_pin_release(&pin);
    }
}

/* One walk through the family; `wanted` is what the model has next. */
static void walk(struct reader *r, bool forwards)
{
    const struct model *m = r->model;
    lsm_iter *iter = NULL;
    lsm_error err = {0};
    if (lsm_iter_open(r->db, r->cf, NULL, &iter, &err) != LSM_OK) {
        has_failed(r->reading, &err);
        return;
    }
    const struct model_version *wanted =
        forwards ? model_first(m, r->family, r->at) : model_last(m, r->family, r->at);
    for (forwards ? lsm_iter_first(iter) : lsm_iter_last(iter); lsm_iter_valid(iter);
         forwards ? lsm_iter_next(iter) : lsm_iter_prev(iter)) {
        lsm_slice key = lsm_iter_key(iter);
        if (wanted == NULL || slice_compare(key, wanted->key) != 0) {
            is_wrong(r, key, "an iterator comes to it instead of '%.*s'",
                     wanted == NULL ? 0 : (int)wanted->key.size,
                     wanted == NULL ? "" : (const char *)wanted->key.data);
            break;
        }
        hold_against(r, key, true, lsm_iter_value(iter), wanted, "an iterator");
        wanted = forwards ? model_next(m, wanted, r->at) : model_prev(m, wanted, r->at);
    }
    if (!lsm_iter_valid(iter)) {
        if (lsm_iter_status(iter, &err) != LSM_OK)
            has_failed(r->reading, &err);
        else if (wanted != NULL)
            is_wrong(r, wanted->key, "an iterator ends before it");
    }
    lsm_iter_close(iter);
}

static void read_family(struct reader *r, uint32_t family)
{
    lsm_error err = {0};
    r->family = family;
    lsm_status status = lsm_cf_open(r->db, r->model->families[family].name, &r->cf, &err);
    if (status == LSM_OK && !r->model->families[family].is_live)
        is_wrong(r, LSM_SLICE("", 0), "the family was dropped");
    else if (status == LSM_MISSING && r->model->families[family].is_live)
        is_wrong(r, LSM_SLICE("", 0), "the family is not there");
    else if (status != LSM_OK && status != LSM_MISSING)
        has_failed(r->reading, &err);
    if (status != LSM_OK)
        return;
    get_all(r);
    walk(r, true);
    walk(r, false);
}

void reading_take(const struct reading_setup *setup, struct reading *reading)
{
    lsm_error err = {0};
    *reading = (struct reading){0};
    struct reader r = {.model = setup->model, .reading = reading};
    reading->status = open_database(setup, &r.db, &err);
    if (reading->status != LSM_OK) {
        has_failed(reading, &err);
        return;
    }
    if (lsm_property(r.db, NULL, "sequence", &r.at, &err) != LSM_OK)
        has_failed(reading, &err);
    reading->sequence = r.at;
    for (uint32_t i = 0; i < setup->model->family_count; i++)
        read_family(&r, i);
    if (lsm_close(r.db, &err) != LSM_OK)
        has_failed(reading, &err);
}

/* ---- a repaired one -------------------------------------------------------------------------- */

struct surveyor {
    const struct model *model;
    lsm_db *db;
    survey_visit *visit;
    void *context;
    struct survey *survey;
};

static void count(struct surveyor *s, enum survey_kind kind, uint32_t family, lsm_slice key)
{
    s->survey->counts[kind]++;
    if (kind != SURVEY_RIGHT && s->visit != NULL)
        s->visit(s->context, kind, family, key);
}

static bool was_ever(const struct model *m, uint32_t family, lsm_slice key, lsm_slice value)
{
    uint64_t hash = model_hash(value);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_version *v = m->versions[i];
        if (v->family == family && !v->is_delete && v->size == value.size && v->hash == hash &&
            slice_compare(v->key, key) == 0)
            return true;
    }
    return false;
}

static void judge(struct surveyor *s, uint32_t family, lsm_slice key, lsm_slice value)
{
    const struct model *m = s->model;
    bool is_live = family < m->family_count && m->families[family].is_live;
    const struct model_version *wanted = is_live ? model_get(m, family, key, MODEL_NEWEST) : NULL;
    if (wanted != NULL && wanted->size == value.size && wanted->hash == model_hash(value))
        count(s, SURVEY_RIGHT, family, key);
    else if (!was_ever(m, family, key, value))
        count(s, SURVEY_CORRUPT, family, key);
    else
        count(s, wanted != NULL ? SURVEY_STALE : SURVEY_REVIVED, family, key);
}

/* Those that the model has between the last key and this one (NULL: up to the end). */
static const struct model_version *count_lost(struct surveyor *s,
                                              const struct model_version *wanted,
                                              const lsm_slice *key)
{
    while (wanted != NULL && (key == NULL || slice_compare(wanted->key, *key) < 0)) {
        count(s, SURVEY_LOST, wanted->family, wanted->key);
        wanted = model_next(s->model, wanted, MODEL_NEWEST);
    }
    return wanted;
}

static lsm_status survey_family(struct surveyor *s, uint32_t family, lsm_cf *cf, lsm_error *err)
{
    lsm_iter *iter = NULL;
    bool is_live = family < s->model->family_count && s->model->families[family].is_live;
    const struct model_version *wanted =
        is_live ? model_first(s->model, family, MODEL_NEWEST) : NULL;
    lsm_status status = lsm_iter_open(s->db, cf, NULL, &iter, err);
    if (status != LSM_OK)
        return status;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        lsm_slice key = lsm_iter_key(iter);
        wanted = count_lost(s, wanted, &key);
        if (wanted != NULL && slice_compare(wanted->key, key) == 0)
            wanted = model_next(s->model, wanted, MODEL_NEWEST);
        judge(s, family, key, lsm_iter_value(iter));
    }
    count_lost(s, wanted, NULL);
    status = lsm_iter_status(iter, err);
    lsm_iter_close(iter);
    return status;
}

static uint32_t family_of_name(const struct model *m, const char *name)
{
    uint32_t id;
    if (sscanf(name, "recovered-%" SCNu32, &id) == 1)
        return id;
    for (uint32_t i = 0; i < m->family_count; i++) {
        if (strcmp(m->families[i].name, name) == 0)
            return i;
    }
    return UINT32_MAX;
}

/* All keys of families that are not there any more. */
static void count_missing_families(struct surveyor *s, const bool *seen)
{
    for (uint32_t i = 0; i < s->model->family_count; i++) {
        if (!seen[i] && s->model->families[i].is_live)
            count_lost(s, model_first(s->model, i, MODEL_NEWEST), NULL);
    }
}

static lsm_status survey_all(struct surveyor *s, lsm_error *err)
{
    char **names = NULL;
    size_t name_count = 0;
    bool *seen = test_alloc(s->model->family_count * sizeof *seen);
    memset(seen, 0, s->model->family_count * sizeof *seen);
    lsm_status status = lsm_cf_list(s->db, &names, &name_count, err);
    for (size_t i = 0; i < name_count && status == LSM_OK; i++) {
        lsm_cf *cf;
        uint32_t family = family_of_name(s->model, names[i]);
        status = lsm_cf_open(s->db, names[i], &cf, err);
        if (status == LSM_OK)
            status = survey_family(s, family, cf, err);
        if (family < s->model->family_count)
            seen[family] = true;
    }
    if (status == LSM_OK)
        count_missing_families(s, seen);
    lsm_free(names);
    free(seen);
    return status;
}

void survey_take(const struct reading_setup *setup, survey_visit *visit, void *context,
                 struct survey *survey)
{
    lsm_error err = {0};
    *survey = (struct survey){0};
    struct surveyor s = {
        .model = setup->model, .visit = visit, .context = context, .survey = survey};
    survey->status = open_database(setup, &s.db, &err);
    if (survey->status == LSM_OK) {
        survey->status = survey_all(&s, &err);
        lsm_error closing = {0};
        if (lsm_close(s.db, &closing) != LSM_OK && survey->status == LSM_OK)
            survey->status = closing.status;
    }
    if (survey->status != LSM_OK)
        snprintf(survey->failed, READING_TEXT, "%s", err.message);
}

const char *survey_text(const struct survey *survey)
{
    static char text[READING_TEXT];
    const uint64_t *n = survey->counts;
    snprintf(text, sizeof text,
             "%" PRIu64 " right, %" PRIu64 " lost, %" PRIu64 " stale, %" PRIu64 " revived, %" PRIu64
             " corrupt",
             n[SURVEY_RIGHT], n[SURVEY_LOST], n[SURVEY_STALE], n[SURVEY_REVIVED],
             n[SURVEY_CORRUPT]);
    return text;
}
