/* See the header: the history, and the damages. */
#include "tests/torture/compare/hospital.h"

#include "tests/lib/model.h"
#include "tests/lib/scratch.h"
#include "tests/lib/verdict.h"

#include <inttypes.h>
#include <string.h>

#define ROUNDS  6
#define CHANGES 2500 /* in each round */
#define LOGGED  600  /* writes that no table holds */

/* ---- the history ----------------------------------------------------------------------------- */

/* Somebody makes one. */
struct maker {
    const struct peer *peer;
    struct history *history;
    const char *path; /* the database; its files are left beside it */
    uint64_t seed;
    bool holds; /* readers that keep tables which are replaced */
};

lsm_slice make_key(uint32_t number, char *key)
{
    return LSM_SLICE(key, (size_t)sprintf(key, "key%08" PRIu32, number));
}

lsm_slice make_value(uint32_t number, uint32_t version, char *value)
{
    int size = sprintf(value, "%08" PRIu32 "/%06" PRIu32 "/", number, version);
    struct random_state random = random_seeded((uint64_t)number << 32 | version);
    for (; size < VALUE_SIZE; size++)
        value[size] = (char)('a' + random_below(&random, 26));
    return LSM_SLICE(value, VALUE_SIZE);
}

static void put(const struct peer *peer, void *db, struct history *h, uint32_t number)
{
    char key[16], value[VALUE_SIZE + 1];
    h->is_deleted[number] = false;
    peer->put(db, make_key(number, key), make_value(number, ++h->versions[number], value));
}

static void erase(const struct peer *peer, void *db, struct history *h, uint32_t number)
{
    char key[16];
    h->is_deleted[number] = true;
    peer->erase(db, make_key(number, key));
}

static void change_some(const struct peer *peer, void *db, struct history *h,
                        struct random_state *random, unsigned count)
{
    while (count-- > 0) {
        uint32_t number = (uint32_t)random_below(random, KEYS);
        if (random_below(random, 3) == 0)
            erase(peer, db, h, number);
        else
            put(peer, db, h, number);
    }
}

/* A reader of what is there now, which stays until the end. */
static void hold(const struct maker *m, void *db)
{
    if (m->holds)
        m->peer->hold(db);
}

static void beside(const char *path, const char *what, char other[SCRATCH_PATH_SIZE + 40])
{
    snprintf(other, SCRATCH_PATH_SIZE + 40, "%s.%s", path, what);
}

static void write_history(void *context)
{
    const struct maker *m = context;
    struct history *h = m->history;
    struct random_state random = random_seeded(m->seed);
    char other[SCRATCH_PATH_SIZE + 40];
    struct folder files = {0};
    void *db = m->peer->open(m->path, true);
    for (uint32_t i = 0; i < KEYS; i++)
        put(m->peer, db, h, (uint32_t)((uint64_t)i * 7919 % KEYS));
    m->peer->flush(db);
    hold(m, db);
    m->peer->compact(db);
    hold(m, db);
    for (unsigned round = 0; round < ROUNDS; round++) {
        change_some(m->peer, db, h, &random, CHANGES);
        m->peer->flush(db);
        hold(m, db);
        if (round == ROUNDS / 2) /* drops deletions that hide what replaced tables hold */
            m->peer->compact(db);
        hold(m, db);
    }
    change_some(m->peer, db, h, &random, LOGGED);
    folder_load(&files, m->path);
    beside(m->path, "files", other);
    folder_store(&files, other);
    m->peer->close(db);
}

static void write_one(const struct peer *peer, const char *path, bool holds, uint64_t seed,
                      struct history *h, struct folder *files)
{
    struct maker maker = {peer, h, path, seed, holds};
    char other[SCRATCH_PATH_SIZE + 40];
    memset(h->versions, 0, KEYS * sizeof *h->versions);
    memset(h->is_deleted, 0, KEYS * sizeof *h->is_deleted);
    if (!in_child(write_history, &maker))
        peer_die("%s cannot be written", peer->name);
    beside(path, "files", other);
    folder_load(files, other);
    folder_store(&(struct folder){0}, path); /* for the next one */
}

void history_make(struct history *h, const struct peer *peer, const char *path, uint64_t seed)
{
    h->versions = shared_memory(KEYS * sizeof *h->versions);
    h->is_deleted = shared_memory(KEYS * sizeof *h->is_deleted);
    write_one(peer, path, false, seed, h, &h->files);
    write_one(peer, path, true, seed, h, &h->pinned); /* the same writes: all are seeded */
}

void history_release(struct history *h)
{
    folder_release(&h->files);
    folder_release(&h->pinned);
}

/* ---- the damage ------------------------------------------------------------------------------ */

/* One of the files of that kind that are not almost empty. */
static struct folder_file *pick(struct hospital *h, enum peer_file kind)
{
    size_t count = 0;
    for (size_t i = 0; i < h->work.count; i++)
        count += h->peer->kind_of(h->work.files[i].name) == kind && h->work.files[i].size > 200;
    if (count == 0)
        peer_die("%s has no such file", h->peer->name);
    size_t left = random_below(&h->random, count);
    for (size_t i = 0;; i++) {
        if (h->peer->kind_of(h->work.files[i].name) == kind && h->work.files[i].size > 200 &&
            left-- == 0)
            return &h->work.files[i];
    }
}

static void flip_bit(struct hospital *h, enum peer_file kind)
{
    struct folder_file *file = pick(h, kind);
    uint64_t offset;
    do { /* a bit of what was written: files of the log have room at their end */
        offset = random_below(&h->random, file->size);
    } while (kind == PEER_LOG && file->bytes[offset] == 0);
    file->bytes[offset] ^= (uint8_t)(1u << random_below(&h->random, 8));
}

static void damage_nothing(struct hospital *h)
{
    (void)h;
}

static void damage_root(struct hospital *h)
{
    for (size_t i = h->work.count; i-- > 0;) {
        enum peer_file kind = h->peer->kind_of(h->work.files[i].name);
        if (kind == PEER_MANIFEST || kind == PEER_CURRENT)
            folder_remove(&h->work, h->work.files[i].name);
    }
}

static void damage_table_bit(struct hospital *h)
{
    flip_bit(h, PEER_TABLE);
}

static void damage_table_page(struct hospital *h)
{
    struct folder_file *file = pick(h, PEER_TABLE);
    size_t pages = file->size / 4096;
    if (pages > 0)
        memset(file->bytes + 4096 * random_below(&h->random, pages), 0, 4096);
}

static void damage_table_cut(struct hospital *h)
{
    struct folder_file *file = pick(h, PEER_TABLE);
    folder_resize(file, random_below(&h->random, file->size));
}

static void damage_table_gone(struct hospital *h)
{
    folder_remove(&h->work, pick(h, PEER_TABLE)->name);
}

static void damage_log_bit(struct hospital *h)
{
    flip_bit(h, PEER_LOG);
}

const struct damage damages[] = {
    {"none", false, damage_nothing},
    {"manifest and CURRENT gone", false, damage_root},
    {"1 bit in a table", false, damage_table_bit},
    {"4 KiB of a table zeroed", false, damage_table_page},
    {"a table cut short", false, damage_table_cut},
    {"a table deleted", false, damage_table_gone},
    {"1 bit in the log", false, damage_log_bit},
    {"manifest gone, replaced tables pinned", true, damage_root},
};
const size_t damage_count = sizeof damages / sizeof damages[0];

void hospital_admit(struct hospital *h, const struct damage *damage, const char *path)
{
    folder_copy(&h->work, damage->is_pinned ? &h->history->pinned : &h->history->files);
    damage->make(h);
    folder_store(&h->work, path);
}
