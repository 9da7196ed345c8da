/*
 * Several threads write at once on a simulated disk when the machine stops, the process dies, or a
 * sync fails. Afterwards the writes that are there must be a prefix of the order in which they were
 * committed, whatever thread made them: every write carries what had been acknowledged to every
 * thread before it began, and where it survives, that must have survived.
 *
 *   threads_cut_test [--rounds N] [--seed N]
 */
#include "engine/base/random.h"
#include "engine/db/open.h"
#include "engine/io/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITERS       4
#define SLOTS         12 /* keys of a writer, used in turn */
#define FRESH_EVERY   10 /* rounds on one disk */
#define ROUND_SECONDS 60
#define MANY_STEPS    400 /* of a round, at most; */
#define FEW_STEPS     60  /* behind a failed sync, whose data must not be needed any more */
#define DB_PATH       "/db"

static struct {
    uint64_t seed;
    uint32_t rounds;
} arguments = {.seed = 1, .rounds = 240};

static const char *const option_texts[] = {
    "create=true,workers=2,memtable_size=64KiB,stage_size=32KiB,wal_segment_size=64KiB,"
    "table_size=8KiB,level_base_size=8KiB,level_ratio=2,level0_trigger=2,cache_size=256KiB",
    "create=true,workers=1,memtable_size=128KiB,memtable_count=2,stage_size=64KiB,"
    "wal_segment_size=64KiB,memtable=skiplist,cache_size=256KiB",
    "create=true,workers=none,memtable_size=64KiB,stage_size=16KiB,wal_segment_size=16KiB,"
    "table_size=8KiB,level_base_size=8KiB,cache_size=256KiB",
};
#define OPTION_TEXTS (sizeof option_texts / sizeof option_texts[0])

/* The value of a write; the rest of it is filling. */
struct payload {
    uint64_t number;
    uint64_t acknowledged[WRITERS]; /* before it began */
};

static struct {
    struct sim_disk *disk;
    struct io *io;
    lsm_db *db;
    lsm_cf *second;
    uint64_t round_seed;
    const char *crash; /* how the round ended */
    uint64_t steps;    /* that it may have */
    _Atomic uint64_t begun[WRITERS], acknowledged[WRITERS];
    _Atomic uint64_t durable[WRITERS]; /* acknowledged as LSM_SYNC, or before an lsm_sync() */
    _Atomic bool ending;               /* errors are right from now on */
    _Atomic unsigned unexpected;
} s;

static unsigned failures;

static void complain(const char *what, const lsm_error *err)
{
    failures++;
    printf("FAILED round seed %" PRIu64 " (%s): %s: %s: %s\n", s.round_seed, s.crash, what,
           lsm_strerror(err->status), err->message);
    fflush(stdout);
}

static lsm_slice make_key(unsigned writer, uint64_t slot, char key[32])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 32, "w%u-%02u", writer, (unsigned)(slot % SLOTS)));
}

/* ---- writing --------------------------------------------------------------------------------- */

static void raise_to(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t now = atomic_load(at);
    while (now < value && !atomic_compare_exchange_weak(at, &now, value))
        ;
}

static lsm_status write_number(unsigned writer, uint64_t n, struct random_state *random,
                               lsm_batch *batch, lsm_error *err)
{
    static const size_t sizes[] = {sizeof(struct payload), 200, 900, 3000};
    uint8_t value[3000] = {0};
    struct payload payload = {.number = n};
    char key_bytes[32];
    lsm_write_options options = {.durability = random_below(random, 6) == 0 ? LSM_SYNC : LSM_WRITE};
    lsm_slice key = make_key(writer, n, key_bytes);
    for (unsigned i = 0; i < WRITERS; i++)
        payload.acknowledged[i] = atomic_load(&s.acknowledged[i]);
    for (size_t i = sizeof payload; i < sizeof value; i += 8)
        memcpy(value + i, &(uint64_t){random_next(random)}, i + 8 <= sizeof value ? 8 : 0);
    memcpy(value, &payload, sizeof payload);
    lsm_slice bytes = LSM_SLICE(value, sizes[random_below(random, 4)]);
    lsm_batch_clear(batch);
    lsm_status status = lsm_batch_put(batch, NULL, key, bytes, err);
    if (status == LSM_OK)
        status = lsm_batch_put(batch, s.second, key, bytes, err);
    atomic_store(&s.begun[writer], n);
    if (status == LSM_OK)
        status = lsm_write(s.db, batch, &options, err);
    /* What returns after the machine stopped proves nothing, unless it promised to be durable. */
    if (status != LSM_OK || (options.durability != LSM_SYNC && sim_is_stopped(s.disk)))
        return status;
    atomic_store(&s.acknowledged[writer], n);
    if (options.durability == LSM_SYNC)
        raise_to(&s.durable[writer], n);
    return status;
}

static void *write_until_the_end(void *context)
{
    unsigned writer = (unsigned)(uintptr_t)context;
    struct random_state random = random_seeded(s.round_seed * WRITERS + writer);
    lsm_error err = {0};
    lsm_batch *batch = NULL;
    lsm_status status = lsm_batch_new(&batch, &err);
    uint64_t n = atomic_load(&s.acknowledged[writer]);
    uint64_t limit = n + 2000;
    while (status == LSM_OK && n < limit && !sim_is_stopped(s.disk)) {
        status = write_number(writer, ++n, &random, batch, &err);
        if (status != LSM_OK || random_below(&random, 40) != 0)
            continue;
        uint64_t floor[WRITERS];
        for (unsigned i = 0; i < WRITERS; i++)
            floor[i] = atomic_load(&s.acknowledged[i]);
        status = lsm_sync(s.db, &err);
        for (unsigned i = 0; i < WRITERS && status == LSM_OK; i++)
            raise_to(&s.durable[i], floor[i]);
    }
    bool is_right = status == LSM_OK || status == LSM_IO || status == LSM_POISONED;
    if (!is_right || (status != LSM_OK && !sim_is_stopped(s.disk) && !atomic_load(&s.ending)))
        if (atomic_fetch_add(&s.unexpected, 1) == 0)
            complain("a write fails", &err);
    lsm_batch_free(batch);
    return NULL;
}

static void run_writers(void)
{
    pthread_t threads[WRITERS];
    for (uintptr_t i = 0; i < WRITERS; i++) {
        if (pthread_create(&threads[i], NULL, write_until_the_end, (void *)i) != 0)
            exit(99);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- checking -------------------------------------------------------------------------------- */

/* The payload of a slot; number 0 when it is empty. */
static struct payload read_slot(lsm_cf *cf, unsigned writer, uint64_t slot)
{
    struct payload payload = {0};
    char key_bytes[32];
    size_t size = 0;
    lsm_error err = {0};
    lsm_slice key = make_key(writer, slot, key_bytes);
    if (lsm_get_into(s.db, cf, key, NULL, &payload, sizeof payload, &size, &err) != LSM_OK)
        complain("reading", &err);
    return size == LSM_ABSENT ? (struct payload){0} : payload;
}

/* How many writes of each writer are there; its slots must be those of exactly so many. */
static void find_survivors(uint64_t survivors[WRITERS])
{
    lsm_error none = {0};
    for (unsigned w = 0; w < WRITERS; w++) {
        survivors[w] = 0;
        for (uint64_t slot = 0; slot < SLOTS; slot++) {
            uint64_t number = read_slot(NULL, w, slot).number;
            survivors[w] = number > survivors[w] ? number : survivors[w];
        }
        for (uint64_t slot = 0; slot < SLOTS; slot++) {
            uint64_t wanted = survivors[w] - (survivors[w] % SLOTS + SLOTS - slot) % SLOTS;
            if (wanted > survivors[w])
                wanted = 0; /* before its first */
            if (read_slot(NULL, w, slot).number != wanted)
                complain("a writer's writes are no prefix", &none);
            if (read_slot(s.second, w, slot).number != wanted)
                complain("half a batch", &none);
        }
    }
}

static void check_survivors(bool power)
{
    uint64_t survivors[WRITERS];
    lsm_error none = {0};
    find_survivors(survivors);
    for (unsigned w = 0; w < WRITERS; w++) {
        uint64_t floor = atomic_load(power ? &s.durable[w] : &s.acknowledged[w]);
        if (survivors[w] < floor || survivors[w] > atomic_load(&s.begun[w])) {
            snprintf(none.message, sizeof none.message,
                     "writer %u: %" PRIu64 " writes are there, %" PRIu64 " must be, %" PRIu64
                     " were begun",
                     w, survivors[w], floor, atomic_load(&s.begun[w]));
            complain("acknowledged writes are lost", &none);
        }
        for (uint64_t slot = 0; slot < SLOTS; slot++) {
            struct payload p = read_slot(NULL, w, slot);
            for (unsigned i = 0; i < WRITERS && p.number > 0; i++) {
                if (p.acknowledged[i] > survivors[i])
                    complain("a write is there, one committed before it is not", &none);
            }
        }
        atomic_store(&s.begun[w], survivors[w]);
        atomic_store(&s.acknowledged[w], survivors[w]);
        atomic_store(&s.durable[w], survivors[w]); /* an open makes durable what it found */
    }
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static bool open_database(const char *text)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    if (s.io == NULL && sim_open(s.disk, &s.io, &err) != LSM_OK)
        exit(99);
    if (lsm_options_parse(&options, text, &err) != LSM_OK)
        exit(99);
    lsm_status status = db_open_on(s.io, DB_PATH, &options, &s.db, &err);
    if (status == LSM_OK) {
        status = lsm_cf_open(s.db, "second", &s.second, &err);
        if (status == LSM_MISSING)
            status = lsm_cf_create(s.db, "second", NULL, &s.second, &err);
    }
    if (status != LSM_OK)
        complain("opening", &err);
    return status == LSM_OK;
}

static void abandon_database(void)
{
    db_abandon(s.db);
    s.db = NULL;
    io_close(s.io);
    s.io = NULL;
}

static void round_of(const char *text, struct random_state *random)
{
    static const enum sim_crash crashes[] = {SIM_CRASH_KILL, SIM_CRASH_LOSE_ALL, SIM_CRASH_RANDOM,
                                             SIM_CRASH_RANDOM, SIM_CRASH_KEEP_ALL};
    static const char *const names[] = {"killed", "power cut", "power cut", "power cut"};
    enum sim_crash crash = crashes[random_below(random, 5)];
    bool fault = random_below(random, 5) == 0;
    atomic_store(&s.ending, fault);
    if (fault)
        sim_fail_after(s.disk, SIM_FAULT_SYNC, random_below(random, 60), EIO, false);
    else
        sim_stop_at(s.disk, sim_step_count(s.disk) + 1 + random_below(random, s.steps));
    s.steps = fault ? FEW_STEPS : MANY_STEPS;
    run_writers();
    sim_fail_never(s.disk);
    s.crash = fault ? "failed sync" : names[crash];
    if (fault) /* the disk says it lost what was not synced: no power cut on top of that */
        crash = SIM_CRASH_KILL;
    abandon_database();
    sim_crash(s.disk, crash, random_next(random));
    if (open_database(text))
        check_survivors(crash != SIM_CRASH_KILL);
}

static void begin_disk(const char *text)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        atomic_store(&s.begun[i], 0);
        atomic_store(&s.acknowledged[i], 0);
        atomic_store(&s.durable[i], 0);
    }
    s.crash = "begun";
    s.steps = MANY_STEPS;
    s.disk = sim_disk_new(s.round_seed);
    if (!open_database(text))
        exit(1);
}

static void end_disk(void)
{
    lsm_error err = {0};
    if (s.db != NULL && lsm_close(s.db, &err) != LSM_OK)
        complain("closing", &err);
    s.db = NULL;
    if (s.io != NULL)
        io_close(s.io);
    s.io = NULL;
    sim_disk_free(s.disk);
}

int main(int count, char **words)
{
    for (int i = 1; i < count; i += 2) {
        if (i + 1 < count && strcmp(words[i], "--rounds") == 0)
            arguments.rounds = (uint32_t)strtoul(words[i + 1], NULL, 10);
        else if (i + 1 < count && strcmp(words[i], "--seed") == 0)
            arguments.seed = strtoull(words[i + 1], NULL, 10);
        else {
            fprintf(stderr, "threads_cut_test: unknown word '%s'\n", words[i]);
            return 2;
        }
    }
    uint32_t round = 0;
    const char *text = NULL;
    for (; round < arguments.rounds && failures == 0; round++) {
        alarm(ROUND_SECONDS); /* a round that takes longer hangs */
        s.round_seed = arguments.seed * 1000003 + round;
        struct random_state random = random_seeded(s.round_seed);
        if (round % FRESH_EVERY == 0) {
            if (round > 0)
                end_disk();
            text = option_texts[round / FRESH_EVERY % OPTION_TEXTS];
            begin_disk(text);
        }
        round_of(text, &random);
    }
    if (failures == 0)
        end_disk();
    printf("threads_cut: rounds=%u failures=%u seed=%" PRIu64 "\n", round, failures,
           arguments.seed);
    return failures > 0;
}
