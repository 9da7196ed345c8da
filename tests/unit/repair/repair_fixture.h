/*
 * A database of which every write is known, and what a repair said of it.
 *
 * Keys are numbers; a value says its key and how manieth write of all it was, so that whoever reads
 * it back can tell a lost key from a stale one, and from one that was never written.
 */
#ifndef TESTS_UNIT_REPAIR_REPAIR_FIXTURE_H
#define TESTS_UNIT_REPAIR_REPAIR_FIXTURE_H

#include "engine/db/open.h"
#include "tests/unit/db/db_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAMILIES   2u
#define KEYS       1500u
#define MAX_LOSSES 4096
#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,"        \
    "cache_size=1MiB,block_size=1KiB,table_size=32KiB,level_base_size=64KiB"

/* What is true: the number of the write that made it; 0: the key is not there. */
static unsigned truth[FAMILIES][KEYS];
static unsigned write_count;

struct told_loss {
    unsigned kinds;
    bool has_cf;
    uint32_t cf;
    bool first_open, last_open;
    char first[64], last[64];
};

/* What the last repair told. */
static struct {
    lsm_repair_result result;
    struct told_loss losses[MAX_LOSSES];
    size_t loss_count;
    bool is_unseen; /* LSM_LOSS_UNSEEN */
    unsigned steps, inexact;
    char first_problem[400];
} told;

struct wrongs {
    unsigned lost, stale, revived;
};

static inline const char *key_text(unsigned key, char text_of[16])
{
    snprintf(text_of, 16, "key-%06u", key);
    return text_of;
}

static inline void write_one(lsm_db *db, lsm_cf *cf, unsigned family, unsigned key, bool deletes)
{
    char name[16], value[160];
    key_text(key, name);
    write_count++;
    if (deletes) {
        ck_ok(lsm_delete(db, cf, text(name), NULL, &error));
        truth[family][key] = 0;
        return;
    }
    int size = snprintf(value, sizeof value, "%u/%u/%u/", family, key, write_count);
    memset(value + size, 'a' + (int)(write_count % 26), 100);
    ck_ok(lsm_put(db, cf, text(name), LSM_SLICE(value, (size_t)size + 100), NULL, &error));
    truth[family][key] = write_count;
}

static inline void open_families(lsm_db *db, lsm_cf *cfs[FAMILIES])
{
    cfs[0] = NULL;
    if (lsm_cf_open(db, "other", &cfs[1], &error) != LSM_OK) {
        lsm_cf_options options = LSM_CF_OPTIONS_INIT;
        options.block_size = 1024;
        options.table_size = 32 << 10;
        ck_ok(lsm_cf_create(db, "other", &options, &cfs[1], &error));
    }
}

static inline void write_many(lsm_db *db, lsm_cf *cfs[FAMILIES], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        write_one(db, cfs[i % FAMILIES], i % FAMILIES, (unsigned)random() % KEYS,
                  random() % 4 == 0);
}

/*
 * Tables in several levels, some newer in level 0, and `unflushed` writes in the log alone, left as
 * by a kill.
 */
static inline void make_database(unsigned unflushed)
{
    lsm_cf *cfs[FAMILIES];
    memset(truth, 0, sizeof truth);
    write_count = 0;
    lsm_db *db = open_with(OPTIONS);
    open_families(db, cfs);
    for (unsigned i = 0; i < 3; i++) {
        write_many(db, cfs, 1200);
        ck_ok(lsm_flush(db, &error));
        lsm_compact_options options = {0};
        if (i < 2) {
            ck_ok(lsm_compact_range(db, cfs[0], &options, &error));
            ck_ok(lsm_compact_range(db, cfs[1], &options, &error));
        }
    }
    write_many(db, cfs, 300);
    ck_ok(lsm_flush(db, &error));
    write_many(db, cfs, unflushed);
    lsm_write_options sync = {.durability = LSM_SYNC};
    char name[16];
    for (unsigned i = 0; i < 3; i++) { /* what is synced later proves that what is before was */
        ck_ok(lsm_delete(db, NULL, text(key_text(0, name)), &sync, &error));
        truth[0][0] = 0;
        write_one(db, NULL, 0, 1, false);
    }
    if (unflushed == 0)
        close_ok(db);
    else
        db_abandon(db);
}

/* ---- files ----------------------------------------------------------------------------------- */

static inline void copy_tree(const char *from, const char *to)
{
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s/%s' && cp -a '%s/%s' '%s/%s'", scratch, to,
             scratch, from, scratch, to);
    ck_assert_int_eq(system(command), 0);
}

/* LOCK is no part of what is kept. */
static inline bool trees_are_equal(const char *a, const char *b)
{
    char command[1200];
    snprintf(command, sizeof command, "diff -rq --exclude=LOCK '%s/%s' '%s/%s' >/dev/null", scratch,
             a, scratch, b);
    return system(command) == 0;
}

/* The n-th file whose name ends so, in order of names; false when there are fewer. */
static inline bool nth_file(const char *suffix, unsigned n, char name[64])
{
    char names[200][64];
    unsigned count = 0;
    DIR *dir = opendir(db_path);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t length = strlen(e->d_name), end = strlen(suffix);
        bool fits = suffix[0] == '.' ? length > end && strcmp(e->d_name + length - end, suffix) == 0
                                     : strncmp(e->d_name, suffix, end) == 0;
        if (fits && length < 64 && count < 200)
            snprintf(names[count++], 64, "%.63s", e->d_name);
    }
    closedir(dir);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = i + 1; k < count; k++) {
            if (strcmp(names[k], names[i]) < 0) {
                char other[64];
                memcpy(other, names[i], 64);
                memcpy(names[i], names[k], 64);
                memcpy(names[k], other, 64);
            }
        }
    }
    if (n >= count)
        return false;
    memcpy(name, names[n], 64);
    return true;
}

static inline long file_size(const char *name)
{
    char path[sizeof db_path + 80];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    return stat(path, &about) == 0 ? (long)about.st_size : -1;
}

static inline void change_file(const char *name, long offset, const void *bytes, size_t size)
{
    char path[sizeof db_path + 80];
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    int fd = open(path, O_RDWR);
    ck_assert_msg(fd >= 0, "%s", path);
    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

static inline void flip_byte(const char *name, long offset, uint8_t bits)
{
    char path[sizeof db_path + 80];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    int fd = open(path, O_RDWR);
    ck_assert_msg(fd >= 0, "%s", path);
    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= bits;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static inline void remove_file(const char *name)
{
    char path[sizeof db_path + 80];
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    ck_assert_msg(unlink(path) == 0, "%s", path);
}

/* ---- repairing ------------------------------------------------------------------------------- */

static inline bool on_step(void *context, const lsm_repair_step *step)
{
    (void)context;
    told.steps++;
    told.inexact += !step->is_exact;
    ck_assert_ptr_nonnull(step->problem);
    ck_assert_ptr_nonnull(step->action);
    if (getenv("REPAIR_SHOW") != NULL)
        fprintf(stderr, "  %s: %s: %s\n", step->id, step->problem, step->action);
    if (told.first_problem[0] == '\0')
        snprintf(told.first_problem, sizeof told.first_problem, "%s: %s: %s", step->id,
                 step->problem, step->action);
    return true;
}

static inline void on_loss(void *context, const lsm_loss *loss)
{
    (void)context;
    if (loss->kinds == LSM_LOSS_UNSEEN) {
        told.is_unseen = true;
        return;
    }
    ck_assert_uint_lt(told.loss_count, MAX_LOSSES);
    struct told_loss *l = &told.losses[told.loss_count++];
    *l = (struct told_loss){.kinds = loss->kinds,
                            .has_cf = loss->has_cf,
                            .cf = loss->cf_id,
                            .first_open = loss->first_open,
                            .last_open = loss->last_open};
    snprintf(l->first, sizeof l->first, "%.*s", (int)loss->first.size,
             loss->first_open ? "" : (const char *)loss->first.data);
    snprintf(l->last, sizeof l->last, "%.*s", (int)loss->last.size,
             loss->last_open ? "" : (const char *)loss->last.data);
    if (getenv("REPAIR_SHOW") != NULL)
        fprintf(stderr, "  loss %u: family %u, '%s' to '%s', %s at %lu\n", l->kinds, l->cf,
                l->first, l->last, loss->file, (unsigned long)loss->offset);
}

static inline lsm_repair_options repair_options(void)
{
    lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
    options.on_step = on_step;
    options.on_loss = on_loss;
    return options;
}

static inline void repair_with(const lsm_repair_options *options)
{
    memset(&told, 0, sizeof told);
    ck_ok(lsm_repair(db_path, options, &told.result, &error));
    ck_assert_uint_eq(told.result.step_count, told.steps);
}

static inline void repair_now(void)
{
    lsm_repair_options options = repair_options();
    repair_with(&options);
}

static inline bool is_told(unsigned family, const char *key)
{
    for (size_t i = 0; i < told.loss_count; i++) {
        const struct told_loss *l = &told.losses[i];
        if ((!l->has_cf || l->cf == family) && (l->first_open || strcmp(l->first, key) <= 0) &&
            (l->last_open || strcmp(key, l->last) <= 0))
            return true;
    }
    return false;
}

/* Reads every key; each that is not as it should be has to lie in a range that was told. */
static inline struct wrongs check_contents(void)
{
    struct wrongs wrongs = {0};
    lsm_cf *cfs[FAMILIES] = {NULL, NULL};
    lsm_db *db = open_with(OPTIONS ",create=false");
    if (lsm_cf_open(db, "other", &cfs[1], &error) != LSM_OK)
        ck_ok(lsm_cf_open(db, "recovered-1", &cfs[1], &error));
    for (unsigned f = 0; f < FAMILIES; f++) {
        for (unsigned k = 0; k < KEYS; k++) {
            char name[16];
            unsigned family = f, key = k, version = 0;
            lsm_pin pin = LSM_PIN_INIT;
            key_text(k, name);
            ck_ok(lsm_get(db, cfs[f], text(name), NULL, &pin, &error));
            if (pin.found) {
                ck_assert_int_eq(
                    sscanf((const char *)pin.value.data, "%u/%u/%u/", &family, &key, &version), 3);
                ck_assert_msg(family == f && key == k && version <= write_count,
                              "a value that was never written");
            }
            lsm_pin_release(&pin);
            if (version == truth[f][k])
                continue;
            ck_assert_msg(is_told(f, name), "family %u, %s: write %u instead of %u, not told", f,
                          name, version, truth[f][k]);
            wrongs.lost += version == 0;
            wrongs.stale += version != 0 && truth[f][k] != 0;
            wrongs.revived += truth[f][k] == 0;
        }
    }
    close_ok(db);
    return wrongs;
}

/* Contents are all there. */
static inline void check_whole(void)
{
    struct wrongs w = check_contents();
    ck_assert_msg(w.lost + w.stale + w.revived == 0, "%u lost, %u stale, %u revived", w.lost,
                  w.stale, w.revived);
}

/* A second repair finds nothing. */
static inline void check_stays(void)
{
    char first[400];
    memcpy(first, told.first_problem, sizeof first);
    copy_tree("db", "once");
    struct told_loss *losses = malloc(sizeof told.losses);
    size_t count = told.loss_count;
    bool is_unseen = told.is_unseen;
    memcpy(losses, told.losses, sizeof told.losses);
    repair_now();
    ck_assert_msg(told.steps == 0, "%u steps of a second repair (%s); the first: %s", told.steps,
                  told.first_problem, first);
    ck_assert(!told.result.is_changed);
    ck_assert(trees_are_equal("db", "once"));
    memcpy(told.losses, losses, sizeof told.losses);
    told.loss_count = count;
    told.is_unseen = is_unseen;
    free(losses);
}

/*
 * The end of the manifest is gone, and something that it should not name any more is missed only
 * when that is put right. What the log kept decides whether it is, so histories are tried until one
 * takes two rounds. Also copied to "damaged".
 */
static inline void make_damage_behind_damage(void)
{
    static uint8_t zeros[64 << 10];
    lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
    lsm_repair_result planned = LSM_REPAIR_RESULT_INIT;
    options.dry_run = true;
    for (unsigned tries = 0; planned.round_count < 2; tries++) {
        char name[64], newest[64], command[600];
        ck_assert_uint_lt(tries, 40);
        snprintf(command, sizeof command, "rm -rf '%s'", db_path);
        ck_assert_int_eq(system(command), 0);
        make_database(150);
        for (unsigned n = 0; nth_file("MANIFEST-", n, newest); n++)
            memcpy(name, newest, sizeof name);
        long size = file_size(name), from = size / 3;
        ck_assert_int_lt(size - from, (long)sizeof zeros);
        change_file(name, from, zeros, (size_t)(size - from));
        planned = (lsm_repair_result)LSM_REPAIR_RESULT_INIT;
        ck_ok(lsm_repair(db_path, &options, &planned, &error));
    }
    copy_tree("db", "damaged");
}

#endif
