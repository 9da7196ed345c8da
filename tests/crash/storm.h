/*
 * What the processes of a storm (processes_test.c) write, and what they know of each other.
 *
 * Each place has groups of keys that only its processes write: one key, or three of one batch in
 * two families. Every write of a group is a new version of it, numbered; some versions are
 * deletions, as the number tells. The numbers that were begun and acknowledged stand on a board in
 * shared memory, so that any reader knows which it may find: the newest acknowledged before its
 * read began, or a later one that was begun.
 */
#ifndef TESTS_CRASH_STORM_H
#define TESTS_CRASH_STORM_H

#include "engine/base/random.h"
#include "engine/lsm.h"

#include <inttypes.h>
#include <stdatomic.h>

#define STORM_PLACES   32
#define STORM_GROUPS   160
#define STORM_MEMBERS  3
#define STORM_ACCOUNTS 6
#define STORM_NAMES    4 /* families that come and go */

struct storm_group {
    _Atomic uint64_t begun, acknowledged; /* version; 0: none */
    _Atomic uint64_t last;                /* ever begun: none is used again */
};

struct storm_place {
    _Atomic uint64_t life;
    _Atomic uint64_t pending;     /* group being written, + 1; 0: none */
    _Atomic uint32_t in_transfer; /* a transaction is being committed */
    struct storm_group groups[STORM_GROUPS];
};

enum storm_name_state {
    STORM_NAME_NONE,
    STORM_NAME_CREATING,
    STORM_NAME_THERE,
    STORM_NAME_RENAMING, /* from `number` to `number` + 1 */
    STORM_NAME_DROPPING,
};

/* A family that the process at one place makes, fills, renames and drops. */
struct storm_name {
    _Atomic uint64_t changes; /* grows before and after each change of state or number */
    _Atomic uint32_t state;
    _Atomic uint64_t number;       /* in its name */
    _Atomic uint64_t acknowledged; /* keys in it */
};

struct storm_board {
    struct storm_place places[STORM_PLACES];
    struct storm_name names[STORM_NAMES];
    _Atomic uint64_t transfers_begun, transfers_acknowledged, transfers_unknown;
    _Atomic uint64_t writes;                      /* acknowledged */
    _Atomic uint64_t reads, conflicts, takeovers; /* for the report */
    _Atomic uint32_t failed;
    char message[1200];
};

struct storm_settings {
    uint64_t seed, seconds, kills, processes;
    bool quiet_steps; /* nobody kills or stops itself in the middle of a call */
    const char *path, *shm_dir;
};

extern struct storm_board *storm_board;
extern struct storm_settings storm_settings;

/* One process's life: opens, does what its role does, and ends in one way or another. */
_Noreturn void storm_live(unsigned place, uint64_t seed);

/* An open database and what is needed for every call. */
struct storm_life {
    lsm_db *db;
    lsm_cf *second;
    unsigned place;
    struct random_state random;
};

void storm_open(struct storm_life *life, bool with_workers);
void storm_close(struct storm_life *life);

/* ---- storm_keys.c ---------------------------------------------------------------------------- */

void storm_write(struct storm_life *life);
/* What the place's last life was writing when it died is there, or not, for good. */
void storm_settle(struct storm_life *life);
void storm_read_one(struct storm_life *life);
void storm_read_snapshot(struct storm_life *life); /* held for a while */
void storm_walk(struct storm_life *life);          /* all groups of a place */
/* Every group holds its acknowledged version, or one begun later. Returns a sum of all entries. */
uint64_t storm_check_all(struct storm_life *life);

/* ---- storm_others.c -------------------------------------------------------------------------- */

void storm_transfer(struct storm_life *life);
void storm_count_accounts(struct storm_life *life);
void storm_settle_name(struct storm_life *life);
void storm_change_name(struct storm_life *life);
void storm_use_name(struct storm_life *life);
void storm_check_names(struct storm_life *life);
/* The directory holds the tables of the current version and nothing besides. */
void storm_check_files(struct storm_life *life);

/* ---- failing --------------------------------------------------------------------------------- */

_Noreturn void storm_complain(const char *what, const lsm_error *err);

#define storm_must(call)                                                                           \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK)                                                                      \
            storm_complain(#call, err);                                                            \
    } while (0)

#endif
