/* What one process of a storm does between its start and its death. */
#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "engine/version/set_private.h"
#include "tests/crash/storm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROLL_SIZE   (16 << 10) /* of a manifest, so that new ones are begun all the time */
#define OPEN_TRIES  20
#define STEPS_LATE  4000 /* one life in three ends itself at a step below */
#define STEPS_SHORT 60

struct storm_board *storm_board;
struct storm_settings storm_settings;

void storm_complain(const char *what, const lsm_error *err)
{
    if (atomic_exchange(&storm_board->failed, 1) == 0)
        snprintf(storm_board->message, sizeof storm_board->message, "process %d: %s: %s",
                 (int)getpid(), what, err == NULL ? "" : err->message);
    _exit(1);
}

/* ---- in the middle of a call ----------------------------------------------------------------- */

static _Atomic int64_t steps_to_kill, steps_to_stop; /* 0 and below: never */

static void at_step(const char *name)
{
    if (name[0] == 't' && strcmp(name, "takeover: begin") == 0)
        atomic_fetch_add(&storm_board->takeovers, 1);
    if (atomic_load(&steps_to_kill) > 0 && atomic_fetch_sub(&steps_to_kill, 1) == 1)
        kill(getpid(), SIGKILL);
    if (atomic_load(&steps_to_stop) > 0 && atomic_fetch_sub(&steps_to_stop, 1) == 1)
        kill(getpid(), SIGSTOP); /* whoever started it goes on with it */
}

static int64_t any_step(struct random_state *r)
{
    return 1 + (int64_t)random_below(r, random_below(r, 2) == 0 ? STEPS_LATE : STEPS_SHORT);
}

static void choose_steps(struct random_state *r)
{
    if (!storm_settings.quiet_steps && random_below(r, 3) == 0)
        atomic_store(&steps_to_kill, any_step(r));
    if (!storm_settings.quiet_steps && random_below(r, 4) == 0)
        atomic_store(&steps_to_stop, any_step(r));
    atomic_store(&step_hook, at_step);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Somebody who opens or closes it may be stopped meanwhile: then it is busy for a while. */
static lsm_status open_patiently(const lsm_options *options, lsm_db **db, lsm_error *err)
{
    lsm_status status = LSM_BUSY;
    for (unsigned i = 0; status == LSM_BUSY && i < OPEN_TRIES; i++)
        status = lsm_open(storm_settings.path, options, db, err);
    return status;
}

void storm_open(struct storm_life *life, bool with_workers)
{
    lsm_options options = LSM_OPTIONS_INIT;
    storm_must(lsm_options_parse(&options,
                                 "create=true,memtable_size=96KiB,stage_size=64KiB,"
                                 "wal_segment_size=64KiB,table_size=64KiB,level_base_size=192KiB,"
                                 "level_ratio=4,level0_trigger=2,cache_size=256KiB",
                                 err));
    options.workers = with_workers ? 2 : LSM_NO_WORKERS;
    options.shm_dir = storm_settings.shm_dir;
    storm_must(open_patiently(&options, &life->db, err));
    life->db->versions->options.manifest_roll_size = ROLL_SIZE;
    lsm_error error = {0};
    lsm_status status = lsm_cf_open(life->db, "second", &life->second, &error);
    if (status == LSM_MISSING)
        status = lsm_cf_create(life->db, "second", NULL, &life->second, &error);
    if (status == LSM_EXISTS) /* somebody else was first */
        status = lsm_cf_open(life->db, "second", &life->second, &error);
    if (status != LSM_OK)
        storm_complain("making the second family", &error);
}

void storm_close(struct storm_life *life)
{
    lsm_error error = {0};
    lsm_status status = lsm_close(life->db, &error);
    if (status != LSM_OK && status != LSM_BUSY) /* of others who come and go, and are stopped */
        storm_complain("closing", &error);
    life->db = NULL;
}

/* ---- roles ----------------------------------------------------------------------------------- */

static void flush(struct storm_life *life)
{
    storm_must(lsm_flush(life->db, err));
}

static void sync_log(struct storm_life *life)
{
    storm_must(lsm_sync(life->db, err));
}

static void compact(struct storm_life *life)
{
    lsm_compact_options options = {.force_bottom = random_below(&life->random, 2) == 0};
    if (random_below(&life->random, 2) == 0) {
        options.first = LSM_SLICE("p01", 3);
        options.limit = LSM_SLICE("p03", 3);
    }
    lsm_cf *cf = random_below(&life->random, 2) == 0 ? life->second : NULL;
    storm_must(lsm_compact_range(life->db, cf, &options, err));
}

static void come_again(struct storm_life *life)
{
    storm_close(life);
    storm_open(life, random_below(&life->random, 2) == 0);
}

static const struct action {
    void (*run)(struct storm_life *life);
} actions[] = {
    {storm_write},       {storm_read_one}, {storm_read_snapshot},
    {storm_walk},        {storm_transfer}, {storm_count_accounts},
    {storm_change_name}, {storm_use_name}, {flush},
    {sync_log},          {compact},        {come_again},
};

#define ACTIONS (sizeof actions / sizeof *actions)

static const struct role {
    unsigned lives;            /* of 100 */
    unsigned weights[ACTIONS]; /* of each action, of 1000 */
    unsigned workers;          /* of 100 lives have them */
    unsigned limit;            /* actions of a life at most */
} roles[] = {
    {40, {880, 60, 2, 2, 20, 6, 10, 10, 2, 6, 1, 1}, 80, 20000},       /* writes */
    {15, {900, 60, 0, 0, 20, 0, 10, 10, 0, 0, 0, 0}, 0, 6000},         /* a light client */
    {15, {100, 400, 150, 150, 50, 50, 40, 40, 5, 5, 5, 5}, 50, 600},   /* reads */
    {10, {200, 100, 0, 10, 600, 40, 20, 20, 4, 5, 0, 1}, 50, 3000},    /* transactions */
    {10, {600, 100, 10, 10, 50, 10, 80, 80, 30, 10, 18, 2}, 60, 1500}, /* maintains */
    {10, {500, 100, 10, 10, 60, 10, 50, 60, 10, 10, 0, 180}, 50, 300}, /* comes and goes */
};

static const struct role *choose_role(struct random_state *r)
{
    unsigned at = (unsigned)random_below(r, 100);
    const struct role *role = roles;
    while (at >= role->lives)
        at -= role++->lives;
    return role;
}

static void act(struct storm_life *life, const struct role *role)
{
    unsigned at = (unsigned)random_below(&life->random, 1000);
    for (size_t i = 0; i < ACTIONS; i++) {
        if (at < role->weights[i]) {
            actions[i].run(life);
            return;
        }
        at -= role->weights[i];
    }
    storm_write(life);
}

static void settle(struct storm_life *life)
{
    struct storm_place *place = &storm_board->places[life->place];
    if (atomic_exchange(&place->in_transfer, 0) != 0)
        atomic_fetch_add(&storm_board->transfers_unknown, 1);
    storm_settle(life);
    storm_settle_name(life);
}

void storm_live(unsigned place, uint64_t seed)
{
    struct storm_life life = {.place = place, .random = random_seeded(seed)};
    struct random_state *r = &life.random;
    const struct role *role = choose_role(r);
    choose_steps(r);
    storm_open(&life, random_below(r, 100) < role->workers);
    settle(&life);
    uint64_t limit = 1 + random_below(r, role->limit);
    for (uint64_t i = 0; i < limit; i++)
        act(&life, role);
    if (random_below(r, 4) != 0)
        storm_close(&life);
    else if (random_below(r, 2) == 0)
        exit(0); /* with its threads at work: as good as a death to the others */
    _exit(0);
}
