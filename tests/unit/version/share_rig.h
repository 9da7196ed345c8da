/*
 * Several sets over one directory, each with an environment of its own, as processes have them; and
 * a model of what they should say. Published things are plain fields here: tests play one process
 * at a time, unless they say otherwise.
 */
#ifndef TESTS_UNIT_VERSION_SHARE_RIG_H
#define TESTS_UNIT_VERSION_SHARE_RIG_H

#include "rig.h"

#define SHARE_MEMBERS  4
#define MODEL_FAMILIES 64
#define MODEL_TABLES   4096
#define TABLE_SIZE     16
#define NO_PIN         UINT64_MAX

struct model {
    struct {
        bool is_live;
        char name[24];
    } families[MODEL_FAMILIES];
    uint32_t family_count;
    struct {
        bool is_live;
        uint32_t cf, level;
    } tables[MODEL_TABLES]; /* by number */
    uint64_t log_position;
};

struct share {
    struct sim_disk *disk;
    uint64_t roll_size;
    _Atomic uint64_t next_file_number;
    struct version_place place; /* published */
    uint64_t pins[SHARE_MEMBERS];
    struct model model; /* of what was published */
    struct rig members[SHARE_MEMBERS];
    struct random_state random;
};

static inline bool share_may_remove(void *context, uint64_t dead_number)
{
    const struct share *s = context;
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (s->pins[i] < dead_number)
            return false;
    }
    return true;
}

static inline void share_plug_in(struct share *s, size_t i)
{
    struct rig *r = &s->members[i];
    *r = (struct rig){.disk = s->disk};
    memcpy(r->env.uuid, "a uuid of 16 byt", TABLE_UUID_SIZE);
    r->options.manifest_roll_size = s->roll_size;
    r->options.next_file_number = &s->next_file_number;
    r->options.may_remove = share_may_remove;
    r->options.may_remove_context = s;
    rig_plug_in(r);
}

static inline void share_publish(struct share *s, size_t i)
{
    version_set_place(s->members[i].set, &s->place);
}

static inline void share_attach(struct share *s, size_t i)
{
    struct rig *r = &s->members[i];
    share_plug_in(s, i);
    s->pins[i] = s->place.frame_number - 1;
    rig_ok(r, version_set_attach(&r->options, &s->place, &r->set, &r->error));
}

/* The member leaves, dead or alive. */
static inline void share_leave(struct share *s, size_t i)
{
    if (s->members[i].io == NULL)
        return;
    s->pins[i] = NO_PIN;
    rig_unplug(&s->members[i]);
    s->members[i] = (struct rig){0};
}

static inline void share_refresh(struct share *s, size_t i)
{
    struct rig *r = &s->members[i];
    rig_ok(r, version_set_refresh(r->set, &s->place, &r->error));
    s->pins[i] = s->place.frame_number - 1;
}

/* A new database with all members in it. */
static inline void share_open(struct share *s, uint64_t seed, uint64_t roll_size)
{
    *s = (struct share){.disk = sim_disk_new(seed), .roll_size = roll_size};
    ck_assert_ptr_nonnull(s->disk);
    s->random = random_seeded(seed);
    s->model.families[0].is_live = true;
    strcpy(s->model.families[0].name, "default");
    s->model.family_count = 1;
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        s->pins[i] = NO_PIN;
    share_plug_in(s, 0);
    rig_ok(&s->members[0], rig_create(&s->members[0]));
    share_publish(s, 0);
    s->pins[0] = s->place.frame_number - 1;
    for (size_t i = 1; i < SHARE_MEMBERS; i++)
        share_attach(s, i);
}

static inline void share_close(struct share *s)
{
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        share_leave(s, i);
    sim_disk_free(s->disk);
}

/* ---- states as text ---------------------------------------------------------------------------
 */

static inline struct rig_text describe_model(const struct model *m)
{
    struct rig_text t = {.size = 0};
    for (uint32_t id = 0; id < m->family_count; id++) {
        if (!m->families[id].is_live)
            continue;
        rig_print(&t, "%u %s:", id, m->families[id].name);
        for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
            for (size_t k = 0; k < MODEL_TABLES; k++) {
                if (m->tables[k].is_live && m->tables[k].cf == id && m->tables[k].level == level)
                    rig_print(&t, " L%u %zu", level, k);
            }
        }
        rig_print(&t, "\n");
    }
    rig_print(&t, "log %llu\n", (unsigned long long)m->log_position);
    return t;
}

static inline struct rig_text describe_set(struct version_set *set)
{
    struct rig_text t = {.size = 0};
    struct version_state state;
    struct version *v = version_set_current(set);
    for (size_t i = 0; i < v->family_count; i++) {
        const struct version_cf *cf = v->families[i];
        rig_print(&t, "%u %s:", cf->id, cf->name);
        for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
            for (size_t k = 0; k < cf->levels[level].count; k++) {
                const struct table_meta *meta = &cf->levels[level].files[k]->meta;
                rig_print(&t, " L%u %llu", level, (unsigned long long)meta->number);
                ck_assert_uint_eq(meta->level, level);
                ck_assert_uint_eq(meta->cf, cf->id);
            }
        }
        rig_print(&t, "\n");
    }
    version_drop(v);
    version_set_state(set, &state);
    rig_print(&t, "log %llu\n", (unsigned long long)state.log_position);
    return t;
}

static inline void assert_same_text(const struct rig_text *found, const struct rig_text *wanted)
{
    ck_assert_msg(strcmp(found->at, wanted->at) == 0, "found:\n%swanted:\n%s", found->at,
                  wanted->at);
}

static inline void assert_says_model(struct version_set *set, const struct model *model)
{
    struct rig_text found = describe_set(set), wanted = describe_model(model);
    assert_same_text(&found, &wanted);
}

/* The member is where all are: content, number, place. */
static inline void assert_is_published(struct share *s, size_t i)
{
    struct version_place place;
    struct version_set *set = s->members[i].set;
    assert_says_model(set, &s->model);
    version_set_place(set, &place);
    ck_assert_int_eq(memcmp(&place, &s->place, sizeof place), 0);
    struct version *v = version_set_current(set);
    ck_assert_uint_eq(v->number, s->place.frame_number - 1);
    version_drop(v);
}

/* ---- edits ------------------------------------------------------------------------------------
 */

static inline void add_to(struct share *s, size_t i, struct model *m, struct version_edit *edit,
                          uint64_t number, uint32_t cf, uint32_t level)
{
    char key[24];
    snprintf(key, sizeof key, "%012llu", (unsigned long long)number);
    ck_assert_uint_lt(number, MODEL_TABLES);
    struct table_meta meta = {.number = number,
                              .size = TABLE_SIZE,
                              .cf = cf,
                              .level = level,
                              .smallest = LSM_SLICE(key, strlen(key)),
                              .largest = LSM_SLICE(key, strlen(key)),
                              .min_sequence = number,
                              .max_sequence = number,
                              .entry_count = 1};
    rig_ok(&s->members[i], edit_add_table(edit, &meta, &s->members[i].error));
    m->tables[number].is_live = true;
    m->tables[number].cf = cf;
    m->tables[number].level = level;
}

/* A new table, with its file. */
static inline uint64_t add_new(struct share *s, size_t i, struct model *m,
                               struct version_edit *edit, uint32_t cf, uint32_t level)
{
    uint64_t number = version_new_file_number(s->members[i].set);
    rig_ok(&s->members[i], rig_fake_table(&s->members[i], number, TABLE_SIZE));
    add_to(s, i, m, edit, number, cf, level);
    return number;
}

static inline void remove_from(struct model *m, struct version_edit *edit, uint64_t number)
{
    ck_assert_int_eq(
        edit_remove_table(edit, m->tables[number].cf, m->tables[number].level, number, NULL),
        LSM_OK);
    m->tables[number].is_live = false;
}

/* Applies and publishes; the model follows. */
static inline void share_apply(struct share *s, size_t i, struct version_edit *edit,
                               const struct model *after)
{
    struct rig *r = &s->members[i];
    share_refresh(s, i);
    rig_ok(r, version_set_apply(r->set, edit, &r->error));
    share_publish(s, i);
    s->pins[i] = s->place.frame_number - 1;
    s->model = *after;
    edit_release(edit);
}

static inline uint32_t some_family(struct share *s, const struct model *m)
{
    for (;;) {
        uint32_t id = (uint32_t)random_below(&s->random, m->family_count);
        if (m->families[id].is_live)
            return id;
    }
}

/* Any live table, or 0. */
static inline uint64_t some_table(struct share *s, const struct model *m)
{
    uint64_t found = 0, seen = 0;
    for (uint64_t k = 0; k < MODEL_TABLES; k++) {
        if (m->tables[k].is_live && random_below(&s->random, ++seen) == 0)
            found = k;
    }
    return found;
}

/* Fills `edit` with something that fits `m`, and changes `m` likewise. */
static inline void random_edit(struct share *s, size_t i, struct model *m,
                               struct version_edit *edit)
{
    struct rig *r = &s->members[i];
    uint32_t id = some_family(s, m), count = m->family_count;
    uint64_t table = some_table(s, m);
    switch (random_below(&s->random, 10)) {
    case 0:
        if (count < MODEL_FAMILIES) {
            lsm_cf_options options = rig_cf_options();
            snprintf(m->families[count].name, sizeof m->families[count].name, "family %u", count);
            m->families[count].is_live = true;
            rig_ok(r, edit_create_cf(edit, count, m->families[count].name, &options, &r->error));
            edit->next_cf = ++m->family_count;
        }
        break;
    case 1:
        snprintf(m->families[id].name, sizeof m->families[id].name, "name %u of %u",
                 (unsigned)random_below(&s->random, 1000), id);
        rig_ok(r, edit_rename_cf(edit, id, m->families[id].name, &r->error));
        break;
    case 2:
        if (id == 0)
            break;
        rig_ok(r, edit_drop_cf(edit, id, &r->error));
        m->families[id].is_live = false;
        for (size_t k = 0; k < MODEL_TABLES; k++)
            m->tables[k].is_live = m->tables[k].is_live && m->tables[k].cf != id;
        break;
    case 3:
        edit->has_log = true;
        edit->log_chain = 7;
        edit->log_position = m->log_position += 100;
        break;
    case 4: /* a move */
        if (table != 0) {
            uint32_t level = (m->tables[table].level + 1) % VERSION_LEVELS;
            id = m->tables[table].cf;
            remove_from(m, edit, table);
            add_to(s, i, m, edit, table, id, level);
        }
        break;
    case 5:
    case 6:
    case 7: /* a compaction of one table, with its output or without */
        if (table != 0) {
            id = m->tables[table].cf;
            remove_from(m, edit, table);
            if (random_below(&s->random, 2) == 0)
                add_new(s, i, m, edit, id, 1 + (uint32_t)random_below(&s->random, 6));
        }
        break;
    default:
        add_new(s, i, m, edit, id, 0);
        break;
    }
}

#endif
