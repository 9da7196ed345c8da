/*
 * Repair side by side: the same history in each engine, the same damage, its own repair, and then
 * what is wrong with what can be read.
 *
 *     compare [--trials N] [--seed N]
 *
 * Prints a table: wrong answers of 20,000 keys, mean over the trials. "lost": the newest value is
 * gone; "stale": an older one is there; "revived": a deleted key is back; "corrupt": a value that
 * the key never had; "silent": of all these, those that no reported range holds (an engine that
 * reports nothing is silent about all); "failed": repairs that returned an error, left what cannot
 * be read to its end, or an engine that ended the program. After such an end no answers are
 * counted.
 */
#include "tests/torture/compare/peer.h"

#include "engine/base/random.h"
#include "tests/lib/folder.h"
#include "tests/lib/model.h"
#include "tests/lib/scratch.h"
#include "tests/lib/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS       20000
#define VALUE_SIZE 100
#define ROUNDS     6
#define CHANGES    2500 /* in each round */
#define LOGGED     600  /* writes that no table holds */

#define CHILD_SECONDS 60

void peer_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(99);
}

/* Engines keep threads that no fork copies, and some end the program where they find damage: each
 * use of one is a process of its own. False when it did not end well. */
static bool in_child(void (*run)(void *context), void *context)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO); /* what an assertion says */
        alarm(CHILD_SECONDS);
        run(context);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 && status == 0;
}

/* ---- the history ----------------------------------------------------------------------------- */

struct history {
    uint32_t *versions;     /* values that the key has had: 1 to this; shared with children */
    bool *is_deleted;       /* the same */
    struct folder files;    /* at the end, as a killed process leaves them */
    struct folder replaced; /* tables that were there once and are not any more */
};

/* Somebody makes one. */
struct maker {
    const struct peer *peer;
    struct history *history;
    const char *path; /* the database; beside it files and replaced are left */
    uint64_t seed;
};

static lsm_slice make_key(uint32_t number, char *key)
{
    return LSM_SLICE(key, (size_t)sprintf(key, "key%08" PRIu32, number));
}

static lsm_slice make_value(uint32_t number, uint32_t version, char *value)
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

/* Remembers the tables that are there now, in case that they are replaced. */
static void remember_tables(const struct peer *peer, struct history *h, const char *path)
{
    struct folder now = {0};
    folder_load(&now, path);
    for (size_t i = 0; i < now.count; i++) {
        if (peer->kind_of(now.files[i].name) == PEER_TABLE)
            folder_put(&h->replaced, now.files[i].name, now.files[i].bytes, now.files[i].size);
    }
    folder_release(&now);
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
    void *db = m->peer->open(m->path, true);
    for (uint32_t i = 0; i < KEYS; i++)
        put(m->peer, db, h, (uint32_t)((uint64_t)i * 7919 % KEYS));
    m->peer->flush(db);
    remember_tables(m->peer, h, m->path);
    m->peer->compact(db);
    remember_tables(m->peer, h, m->path);
    for (unsigned round = 0; round < ROUNDS; round++) {
        change_some(m->peer, db, h, &random, CHANGES);
        m->peer->flush(db);
        remember_tables(m->peer, h, m->path);
        if (round == ROUNDS / 2) /* drops deletions that hide what replaced tables hold */
            m->peer->compact(db);
    }
    change_some(m->peer, db, h, &random, LOGGED);
    folder_load(&h->files, m->path);
    for (size_t i = 0; i < h->files.count; i++)
        folder_remove(&h->replaced, h->files.files[i].name);
    beside(m->path, "files", other);
    folder_store(&h->files, other);
    beside(m->path, "replaced", other);
    folder_store(&h->replaced, other);
    m->peer->close(db);
}

static void make_history(const struct peer *peer, const char *path, uint64_t seed,
                         struct history *h)
{
    struct maker maker = {peer, h, path, seed};
    char other[SCRATCH_PATH_SIZE + 40];
    h->versions = shared_memory(KEYS * sizeof *h->versions);
    h->is_deleted = shared_memory(KEYS * sizeof *h->is_deleted);
    if (!in_child(write_history, &maker))
        peer_die("%s cannot be written", peer->name);
    beside(path, "files", other);
    folder_load(&h->files, other);
    beside(path, "replaced", other);
    folder_load(&h->replaced, other);
}

/* ---- the damage ------------------------------------------------------------------------------ */

struct hospital {
    const struct peer *peer;
    struct history *history;
    struct random_state random;
    struct folder work;
};

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

static void damage_root_and_replaced(struct hospital *h)
{
    const struct folder *replaced = &h->history->replaced;
    damage_root(h);
    for (size_t i = 0; i < replaced->count; i++)
        folder_put(&h->work, replaced->files[i].name, replaced->files[i].bytes,
                   replaced->files[i].size);
}

static const struct damage {
    const char *text;
    void (*make)(struct hospital *h);
} damages[] = {
    {"none", damage_nothing},
    {"manifest and CURRENT gone", damage_root},
    {"1 bit in a table", damage_table_bit},
    {"4 KiB of a table zeroed", damage_table_page},
    {"a table cut short", damage_table_cut},
    {"a table deleted", damage_table_gone},
    {"1 bit in the log", damage_log_bit},
    {"manifest gone, replaced tables there", damage_root_and_replaced},
};
#define DAMAGES (sizeof damages / sizeof damages[0])

/* ---- the outcome ----------------------------------------------------------------------------- */

struct outcome {
    uint64_t lost, stale, revived, corrupt, silent, failed;
};

struct reader {
    const struct peer *peer;
    const struct history *history;
    struct outcome *outcome;
    bool *seen;
};

static void is_wrong(struct reader *r, uint64_t *count, lsm_slice key)
{
    ++*count;
    r->outcome->silent += r->peer->reports == NULL || !r->peer->reports(key);
}

static void see(void *context, lsm_slice key, lsm_slice value)
{
    struct reader *r = context;
    char text[VALUE_SIZE + 1] = "", wanted[VALUE_SIZE + 1];
    uint32_t number, of, version;
    if (key.size != 11 || sscanf(key.data, "key%8" SCNu32, &number) != 1 || number >= KEYS) {
        is_wrong(r, &r->outcome->corrupt, key);
        return;
    }
    memcpy(text, value.data, value.size < VALUE_SIZE ? value.size : VALUE_SIZE);
    r->seen[number] = true;
    if (value.size != VALUE_SIZE || sscanf(text, "%8" SCNu32 "/%6" SCNu32, &of, &version) != 2 ||
        of != number || version == 0 || version > r->history->versions[number] ||
        memcmp(text, make_value(number, version, wanted).data, VALUE_SIZE) != 0)
        is_wrong(r, &r->outcome->corrupt, key);
    else if (r->history->is_deleted[number])
        is_wrong(r, &r->outcome->revived, key);
    else if (version != r->history->versions[number])
        is_wrong(r, &r->outcome->stale, key);
}

/* One repair and a look at what it made. */
struct trial {
    struct hospital *hospital;
    const char *path;
    struct outcome *outcome; /* shared with the child */
};

static void repair_and_read(void *context)
{
    struct trial *trial = context;
    struct hospital *h = trial->hospital;
    struct outcome *outcome = trial->outcome;
    struct reader r = {.peer = h->peer, .history = h->history, .outcome = outcome};
    r.seen = test_alloc(KEYS);
    memset(r.seen, 0, KEYS);
    bool repaired = h->peer->repair(trial->path);
    bool whole = h->peer->read(trial->path, see, &r);
    outcome->failed += !repaired || !whole;
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        if (!r.seen[i] && !h->history->is_deleted[i])
            is_wrong(&r, &outcome->lost, make_key(i, key));
    }
    free(r.seen);
}

static void run_trial(struct hospital *h, const struct damage *damage, const char *path,
                      struct outcome *outcome)
{
    struct trial trial = {h, path, outcome};
    struct outcome before = *outcome;
    folder_copy(&h->work, &h->history->files);
    damage->make(h);
    folder_store(&h->work, path);
    if (!in_child(repair_and_read, &trial)) {
        *outcome = before; /* it died while it was asked */
        outcome->failed++;
    }
}

static void print_row(const char *name, const struct outcome *o, unsigned trials)
{
    double n = trials;
    printf("    %-10s %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n", name, (double)o->lost / n,
           (double)o->stale / n, (double)o->revived / n, (double)o->corrupt / n,
           (double)o->silent / n, (double)o->failed / n);
    fflush(stdout);
}

static void compare(const struct peer *const *peers, size_t count, unsigned trials, uint64_t seed)
{
    char scratch[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 24];
    struct history *histories = test_alloc(count * sizeof *histories);
    memset(histories, 0, count * sizeof *histories);
    scratch_make(scratch);
    for (size_t i = 0; i < count; i++) {
        uint32_t live = 0;
        snprintf(path, sizeof path, "%s/%zu", scratch, i);
        make_history(peers[i], path, seed, &histories[i]);
        for (uint32_t k = 0; k < KEYS; k++)
            live += !histories[i].is_deleted[k];
        printf("%s: %" PRIu32 " of %d keys are live, %zu files\n", peers[i]->name, live, KEYS,
               histories[i].files.count);
    }
    printf("%-14s %9s %9s %9s %9s %9s %9s\n", "", "lost", "stale", "revived", "corrupt", "silent",
           "failed");
    for (size_t d = 0; d < DAMAGES; d++) {
        printf("%s\n", damages[d].text);
        for (size_t i = 0; i < count; i++) {
            struct hospital h = {.peer = peers[i], .history = &histories[i]};
            struct outcome *outcome = shared_memory(sizeof *outcome);
            h.random = random_seeded(seed + d);
            snprintf(path, sizeof path, "%s/%zu", scratch, i);
            for (unsigned trial = 0; trial < trials; trial++)
                run_trial(&h, &damages[d], path, outcome);
            print_row(peers[i]->name, outcome, trials);
            munmap(outcome, sizeof *outcome);
            folder_release(&h.work);
        }
    }
    for (size_t i = 0; i < count; i++) {
        folder_release(&histories[i].files);
        folder_release(&histories[i].replaced);
    }
    free(histories);
    scratch_remove(scratch);
}

int main(int argc, char **argv)
{
    static const struct peer *const peers[] = {
#ifdef HAVE_LEVELDB
        &peer_leveldb,
#endif
#ifdef HAVE_ROCKSDB
        &peer_rocksdb,
#endif
        &peer_lsm,
    };
    unsigned trials = 20;
    uint64_t seed = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--trials") == 0)
            trials = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            peer_die("usage: compare [--trials N] [--seed N]");
    }
    compare(peers, sizeof peers / sizeof peers[0], trials > 0 ? trials : 1, seed);
    return 0;
}
