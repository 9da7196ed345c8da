/*
 * Real processes, really killed. A child writes at full speed from several threads, notes in shared
 * memory what it begins and what was acknowledged, and is killed at a random moment: while opening,
 * writing, flushing, merging, changing segments or manifests. Whoever opens the database next must
 * find every acknowledged write, of each thread a prefix of its writes, and batches whole.
 *
 *   kill9_test [--rounds N] [--seconds N] [--seed N]
 */
#include "engine/base/random.h"
#include "engine/io/io.h"
#include "tests/lib/scratch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITERS       3
#define SLOTS         150 /* keys of a writer, used in turn */
#define VALUE_MAX     1200
#define FRESH_EVERY   12 /* rounds on one database */
#define CHECK_SECONDS 60

/* What the child tells whoever looks after its death. */
struct board {
    _Atomic uint64_t begun[WRITERS];        /* number of the last write that was begun */
    _Atomic uint64_t acknowledged[WRITERS]; /* and acknowledged; at most one less */
    _Atomic uint64_t family_made, family_filled, family_drop_begun, family_dropped;
    _Atomic uint32_t is_open;
    char message[1000]; /* of the checker */
};

static struct board *board;
static char directory[SCRATCH_PATH_SIZE];
static char path[SCRATCH_PATH_SIZE + 8];

static struct {
    uint64_t seed;
    uint32_t rounds, seconds;
} arguments = {.seed = 1, .rounds = 60, .seconds = 40};

static const char *const option_texts[] = {
    "workers=2,memtable_size=256KiB,stage_size=256KiB,wal_segment_size=256KiB,table_size=128KiB,"
    "level_base_size=256KiB,level_ratio=2,level0_trigger=2,cache_size=1MiB,create=true",
    "workers=1,memtable_size=128KiB,memtable_count=2,stage_size=64KiB,wal_segment_size=128KiB,"
    "compression=zstd,table_size=64KiB,level_base_size=64KiB,cache_size=1MiB,create=true",
    "workers=2,memtable_size=4MiB,stage_size=1MiB,wal_segment_size=1MiB,memtable=skiplist,"
    "cache_size=4MiB,create=true",
};
#define OPTION_TEXTS (sizeof option_texts / sizeof option_texts[0])

static void die(const char *what, const lsm_error *err)
{
    snprintf(board->message, sizeof board->message, "%s: %s: %s (%s:%d)", what,
             lsm_strerror(err->status), err->message, err->source_file, err->source_line);
    _exit(1);
}

static lsm_db *open_database(const char *io, const char *text)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    lsm_db *db = NULL;
    if (lsm_options_parse(&options, text, &err) != LSM_OK)
        die("options", &err);
    options.io = io;
    options.shm_dir = directory;
    if (lsm_open(path, &options, &db, &err) != LSM_OK)
        die("open", &err);
    return db;
}

static lsm_cf *second_family(lsm_db *db)
{
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    lsm_status status = lsm_cf_open(db, "second", &cf, &err);
    if (status == LSM_MISSING)
        status = lsm_cf_create(db, "second", NULL, &cf, &err);
    if (status != LSM_OK)
        die("family", &err);
    return cf;
}

/* ---- what write number n of a writer does ---------------------------------------------------- */

static bool write_is_delete(uint64_t n)
{
    return n % 17 == 5;
}

static bool write_is_sync(unsigned writer, uint64_t n)
{
    return n % (writer == 2 ? 16 : 200) == 0;
}

static lsm_slice make_key(unsigned writer, uint64_t n, char key[32])
{
    return LSM_SLICE(key,
                     (size_t)snprintf(key, 32, "writer-%u/%04u", writer, (unsigned)(n % SLOTS)));
}

static lsm_slice make_value(unsigned writer, uint64_t n, uint8_t value[VALUE_MAX])
{
    struct random_state random = random_seeded(n * WRITERS + writer);
    size_t size = 16 + (size_t)random_below(&random, n % 10 == 0 ? VALUE_MAX - 16 : 200);
    memcpy(value, &n, sizeof n);
    for (size_t i = sizeof n; i < size; i++)
        value[i] = (uint8_t)(i % 8 == 0 ? random_next(&random) : value[i - 1] + 1u);
    return LSM_SLICE(value, size);
}

/* ---- the child ------------------------------------------------------------------------------- */

struct writer {
    lsm_db *db;
    lsm_cf *second;
    unsigned number;
};

static lsm_status write_number(struct writer *w, uint64_t n, lsm_batch *batch, lsm_error *err)
{
    lsm_write_options options = {.durability = write_is_sync(w->number, n) ? LSM_SYNC : LSM_WRITE};
    char key_bytes[32];
    uint8_t value_bytes[VALUE_MAX];
    lsm_slice key = make_key(w->number, n, key_bytes);
    lsm_slice value = make_value(w->number, n, value_bytes);
    if (w->number != 1)
        return write_is_delete(n) ? lsm_delete(w->db, NULL, key, &options, err)
                                  : lsm_put(w->db, NULL, key, value, &options, err);
    lsm_batch_clear(batch);
    lsm_status status = LSM_OK;
    lsm_cf *families[] = {NULL, w->second};
    for (size_t i = 0; i < 2 && status == LSM_OK; i++)
        status = write_is_delete(n) ? lsm_batch_delete(batch, families[i], key, err)
                                    : lsm_batch_put(batch, families[i], key, value, err);
    return status == LSM_OK ? lsm_write(w->db, batch, &options, err) : status;
}

static void *write_for_ever(void *context)
{
    struct writer *w = context;
    lsm_error err = {0};
    lsm_batch *batch = NULL;
    if (lsm_batch_new(&batch, &err) != LSM_OK)
        die("batch", &err);
    for (uint64_t n = atomic_load(&board->acknowledged[w->number]) + 1;; n++) {
        atomic_store(&board->begun[w->number], n);
        if (write_number(w, n, batch, &err) != LSM_OK)
            die("write", &err);
        atomic_store(&board->acknowledged[w->number], n);
    }
    return NULL;
}

static void family_name(uint64_t n, char name[32])
{
    snprintf(name, 32, "family-%" PRIu64, n);
}

/* Families come and go, the manifest grows; now and then everything is merged. */
static void maintain_for_ever(lsm_db *db)
{
    lsm_error err = {0};
    char name[32];
    lsm_slice key = LSM_SLICE("key", 3);
    for (uint64_t n = atomic_load(&board->family_made) + 1;; n++) {
        lsm_cf *cf = NULL;
        family_name(n, name);
        if (lsm_cf_create(db, name, NULL, &cf, &err) != LSM_OK)
            die("cf_create", &err);
        atomic_store(&board->family_made, n);
        if (lsm_put(db, cf, key, LSM_SLICE(name, strlen(name)), NULL, &err) != LSM_OK)
            die("put", &err);
        atomic_store(&board->family_filled, n);
        if (n % 3 == 0 && lsm_flush(db, &err) != LSM_OK)
            die("flush", &err);
        if (n % 7 == 0 && lsm_compact_range(db, NULL, NULL, &err) != LSM_OK)
            die("compact", &err);
        atomic_store(&board->family_drop_begun, n);
        if (lsm_cf_drop(db, cf, &err) != LSM_OK)
            die("cf_drop", &err);
        atomic_store(&board->family_dropped, n);
    }
}

static void child(const char *io, const char *text)
{
    lsm_db *db = open_database(io, text);
    struct writer writers[WRITERS];
    lsm_cf *second = second_family(db);
    atomic_store(&board->is_open, 1);
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_t thread;
        writers[i] = (struct writer){db, second, i};
        if (pthread_create(&thread, NULL, write_for_ever, &writers[i]) != 0)
            _exit(99);
    }
    maintain_for_ever(db);
}

/* ---- the checker ----------------------------------------------------------------------------- */

/* Does the slot hold what the first `count` writes of the writer leave in it? */
static bool slot_fits(lsm_db *db, lsm_cf *cf, unsigned writer, unsigned slot, uint64_t count)
{
    uint64_t n = count - (count % SLOTS + SLOTS - slot) % SLOTS; /* the last one to that slot */
    bool is_there = count >= 1 && n <= count && n >= 1 && !write_is_delete(n);
    char key_bytes[32];
    uint8_t value_bytes[VALUE_MAX];
    lsm_pin pin = LSM_PIN_INIT;
    lsm_error err = {0};
    lsm_slice key = make_key(writer, slot, key_bytes);
    if (lsm_get(db, cf, key, NULL, &pin, &err) != LSM_OK)
        die("get", &err);
    lsm_slice value = make_value(writer, n, value_bytes);
    bool fits = pin.found == is_there &&
                (!is_there || (pin.value.size == value.size &&
                               memcmp(pin.value.data, value.data, value.size) == 0));
    lsm_pin_release(&pin);
    return fits;
}

static bool writer_fits(lsm_db *db, lsm_cf *second, unsigned writer, uint64_t count, unsigned *slot)
{
    for (*slot = 0; *slot < SLOTS; (*slot)++) {
        if (!slot_fits(db, NULL, writer, *slot, count))
            return false;
        if (writer == 1 && !slot_fits(db, second, writer, *slot, count))
            return false;
    }
    return true;
}

static void check_writer(lsm_db *db, lsm_cf *second, unsigned writer)
{
    uint64_t acknowledged = atomic_load(&board->acknowledged[writer]);
    uint64_t begun = atomic_load(&board->begun[writer]);
    unsigned slot, other_slot;
    if (begun > acknowledged && writer_fits(db, second, writer, begun, &other_slot))
        acknowledged = begun;
    else if (!writer_fits(db, second, writer, acknowledged, &slot)) {
        snprintf(board->message, sizeof board->message,
                 "writer %u: %" PRIu64 " writes were acknowledged, %" PRIu64
                 " begun; key %u fits neither",
                 writer, acknowledged, begun, slot);
        _exit(1);
    }
    atomic_store(&board->acknowledged[writer], acknowledged);
    atomic_store(&board->begun[writer], acknowledged);
}

static void check_families(lsm_db *db)
{
    uint64_t made = atomic_load(&board->family_made);
    lsm_cf *cf = NULL;
    lsm_error err = {0};
    char name[32];
    family_name(made, name);
    lsm_status status = lsm_cf_open(db, name, &cf, &err);
    bool must_be = made > 0 && atomic_load(&board->family_drop_begun) < made;
    bool must_not_be = atomic_load(&board->family_dropped) == made;
    if ((must_be && status != LSM_OK) || (must_not_be && status != LSM_MISSING))
        die(must_be ? "a family is lost" : "a dropped family is there", &err);
    if (must_be && atomic_load(&board->family_filled) == made) {
        lsm_pin pin = LSM_PIN_INIT;
        if (lsm_get(db, cf, LSM_SLICE("key", 3), NULL, &pin, &err) != LSM_OK || !pin.found)
            die("a family's key is lost", &err);
        lsm_pin_release(&pin);
    }
    if (status == LSM_OK && lsm_cf_drop(db, cf, &err) != LSM_OK)
        die("cf_drop", &err);
    /* One more may have been made and not been told. */
    family_name(made + 1, name);
    if (lsm_cf_open(db, name, &cf, &err) == LSM_OK && lsm_cf_drop(db, cf, &err) != LSM_OK)
        die("cf_drop", &err);
    atomic_store(&board->family_made, made + 1);
    atomic_store(&board->family_filled, made + 1);
    atomic_store(&board->family_drop_begun, made + 1);
    atomic_store(&board->family_dropped, made + 1);
}

static void checker(const char *io, const char *text, bool close_it)
{
    lsm_error err = {0};
    alarm(CHECK_SECONDS);
    lsm_db *db = open_database(io, text);
    lsm_cf *second = second_family(db);
    for (unsigned i = 0; i < WRITERS; i++)
        check_writer(db, second, i);
    check_families(db);
    if (close_it && lsm_close(db, &err) != LSM_OK)
        die("close", &err);
    _exit(0);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void begin_database(void)
{
    memset(board, 0, sizeof *board);
    scratch_make(directory);
    snprintf(path, sizeof path, "%s/db", directory);
}

static void sleep_us(uint64_t us)
{
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static void wait_until_open(pid_t pid)
{
    for (unsigned i = 0; i < 20000 && !atomic_load(&board->is_open); i++) {
        int how;
        if (waitpid(pid, &how, WNOHANG | WNOWAIT) != 0)
            return;
        sleep_us(500);
    }
}

/* Runs a child and kills it. False when it ended by itself, which only an error makes it do. */
static bool kill_child(const char *io, const char *text, struct random_state *random)
{
    atomic_store(&board->is_open, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        child(io, text);
    if (random_below(random, 8) != 0)
        wait_until_open(pid); /* otherwise it may be killed while it opens */
    sleep_us(random_below(random, random_below(random, 4) == 0 ? 200000 : 40000));
    kill(pid, SIGKILL);
    int how = 0;
    waitpid(pid, &how, 0);
    return WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL;
}

static bool check_child(const char *io, const char *text, bool close_it)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        checker(io, text, close_it);
    int how = 0;
    waitpid(pid, &how, 0);
    if (board->message[0] == '\0' && WIFSIGNALED(how))
        snprintf(board->message, sizeof board->message, "the checker: %s",
                 strsignal(WTERMSIG(how)));
    return WIFEXITED(how) && WEXITSTATUS(how) == 0;
}

static uint64_t total_acknowledged(void)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < WRITERS; i++)
        total += atomic_load(&board->acknowledged[i]);
    return total;
}

static void take_arguments(int count, char **words)
{
    for (int i = 1; i < count; i += 2) {
        if (i + 1 < count && strcmp(words[i], "--rounds") == 0) {
            arguments.rounds = (uint32_t)strtoul(words[i + 1], NULL, 10);
            arguments.seconds = UINT32_MAX;
        } else if (i + 1 < count && strcmp(words[i], "--seconds") == 0)
            arguments.seconds = (uint32_t)strtoul(words[i + 1], NULL, 10);
        else if (i + 1 < count && strcmp(words[i], "--seed") == 0)
            arguments.seed = strtoull(words[i + 1], NULL, 10);
        else {
            fprintf(stderr, "kill9_test: unknown word '%s'\n", words[i]);
            exit(2);
        }
    }
}

int main(int count, char **words)
{
    take_arguments(count, words);
    struct io *io = NULL;
    bool has_uring = io_open("uring", &io, NULL) == LSM_OK;
    if (has_uring)
        io_close(io);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 99;
    struct random_state random = random_seeded(arguments.seed);
    time_t end = time(NULL) + (time_t)arguments.seconds;
    uint64_t acknowledged = 0;
    unsigned failures = 0;
    uint32_t round = 0;
    for (; round < arguments.rounds && time(NULL) < end && failures == 0; round++) {
        if (round % FRESH_EVERY == 0)
            begin_database();
        const char *backend = has_uring && round % 2 == 0 ? "uring" : "posix";
        const char *text = option_texts[round / FRESH_EVERY % OPTION_TEXTS];
        bool survived = kill_child(backend, text, &random);
        if (!survived || !check_child(backend, text, round % 3 == 0)) {
            failures++;
            printf("FAILED round=%u seed=%" PRIu64 " io=%s options=%s: %s\n", round, arguments.seed,
                   backend, text, board->message);
            printf("the database is left in %s\n", path);
        } else if (round % FRESH_EVERY == FRESH_EVERY - 1) {
            acknowledged += total_acknowledged();
            scratch_remove(directory);
        }
    }
    if (failures == 0 && round % FRESH_EVERY != 0) {
        acknowledged += total_acknowledged();
        scratch_remove(directory);
    }
    printf("kill9: rounds=%u acknowledged=%" PRIu64 " failures=%u seed=%" PRIu64 "\n", round,
           acknowledged, failures, arguments.seed);
    return failures > 0;
}
