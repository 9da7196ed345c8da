/* A simulated disk with a version set on it, and tables that are files with nothing in them. */
#ifndef TESTS_UNIT_VERSION_RIG_H
#define TESTS_UNIT_VERSION_RIG_H

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/format/file_name.h"
#include "engine/io/sim.h"
#include "engine/version/version.h"

#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RIG_DIR "db"

struct rig {
    struct sim_disk *disk;
    struct io *io;
    struct io_dir *dir;
    struct table_env env;
    struct version_options options;
    struct version_set *set;
    struct version_state state; /* of the last recovery */
    lsm_error error;
};

#define rig_ok(rig, call)                                                                          \
    do {                                                                                           \
        lsm_status rig_status = (call);                                                            \
        ck_assert_msg(rig_status == LSM_OK, "%s: %s (%s)", #call, lsm_strerror(rig_status),        \
                      (rig)->error.message);                                                       \
    } while (0)

static inline void rig_plug_in(struct rig *r)
{
    rig_ok(r, sim_open(r->disk, &r->io, &r->error));
    rig_ok(r, io_dir_open(r->io, RIG_DIR, IO_DIR_CREATE, 0, &r->dir, &r->error));
    r->env.io = r->io;
    r->env.dir = r->dir;
    r->env.mode = 0600;
    r->env.cache = block_cache_new(1 << 20);
    ck_assert_ptr_nonnull(r->env.cache);
    r->options.env = &r->env;
    if (r->options.max_open_tables == 0)
        r->options.max_open_tables = 100;
}

static inline void rig_close_set(struct rig *r)
{
    version_set_close(r->set);
    r->set = NULL;
}

static inline void rig_unplug(struct rig *r)
{
    rig_close_set(r);
    epoch_drain();
    block_cache_free(r->env.cache);
    io_dir_close(r->dir);
    io_close(r->io);
}

static inline void rig_open(struct rig *r, uint64_t seed)
{
    *r = (struct rig){.disk = sim_disk_new(seed)};
    ck_assert_ptr_nonnull(r->disk);
    memcpy(r->env.uuid, "a uuid of 16 byt", TABLE_UUID_SIZE);
    rig_plug_in(r);
}

static inline void rig_close(struct rig *r)
{
    rig_unplug(r);
    sim_disk_free(r->disk);
}

static inline lsm_cf_options rig_cf_options(void)
{
    lsm_cf_options given = LSM_CF_OPTIONS_INIT, resolved;
    ck_assert_int_eq(version_resolve_cf_options(&given, &resolved, NULL), LSM_OK);
    return resolved;
}

static inline lsm_status rig_create(struct rig *r)
{
    lsm_cf_options options = rig_cf_options();
    return version_set_create(&r->options, &options, &r->set, &r->error);
}

static inline lsm_status rig_recover(struct rig *r)
{
    return version_set_recover(&r->options, &r->set, &r->state, &r->error);
}

/* Makes a file that passes for a table as long as nobody reads it. */
static inline lsm_status rig_fake_table(struct rig *r, uint64_t number, size_t size)
{
    char name[FILE_NAME_SIZE];
    uint8_t bytes[64] = {0};
    struct io_file *file = NULL;
    ck_assert_uint_le(size, sizeof bytes);
    lsm_status status = io_file_open(r->dir, file_name_make(FILE_TABLE, number, name),
                                     IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &r->error);
    if (status == LSM_OK)
        status = io_file_write(file, bytes, size, 0, &r->error);
    if (status == LSM_OK)
        status = io_file_sync(file, &r->error);
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, &r->error);
    io_file_close(file);
    return status;
}

static inline bool rig_has_file(struct rig *r, enum file_kind kind, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    lsm_status status = io_file_open(r->dir, file_name_make(kind, number, name), 0, 0, &file, NULL);
    io_file_close(file);
    return status == LSM_OK;
}

/* ---- the state as text ------------------------------------------------------------------------
 */

struct rig_text {
    char at[8192];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static inline void rig_print(struct rig_text *t,
                                                                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(t->at + t->size, sizeof t->at - t->size, format, arguments);
    va_end(arguments);
    ck_assert_int_ge(n, 0);
    t->size += (size_t)n;
    ck_assert_uint_lt(t->size, sizeof t->at);
}

/* Everything that must survive: families and tables (by size, as numbers differ from run to run).
 */
static inline struct rig_text rig_describe(struct rig *r)
{
    struct rig_text t = {.size = 0};
    struct version *v = version_set_current(r->set);
    for (size_t i = 0; i < v->family_count; i++) {
        const struct version_cf *cf = v->families[i];
        rig_print(&t, "%u %s ratio %u:", cf->id, cf->name, cf->options.level_ratio);
        for (size_t l = 0; l < VERSION_LEVELS; l++) {
            for (size_t k = 0; k < cf->levels[l].count; k++) {
                const struct table_meta *m = &cf->levels[l].files[k]->meta;
                rig_print(&t, " L%zu %llu", l, (unsigned long long)m->size);
                ck_assert_uint_eq(m->level, l);
                ck_assert_uint_eq(m->cf, cf->id);
            }
        }
        rig_print(&t, "\n");
    }
    version_drop(v);
    return t;
}

#endif
