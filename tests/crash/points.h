/*
 * Kill points: one life of a small population on one database, in which a victim dies or stops at a
 * step. kill_points_test.c runs them all; the files below share this.
 *
 *   points_life.c     the order of events, and the processes
 *   points_roles.c    what the victim is about when it dies
 *   points_oracle.c   what the database has to hold afterwards
 */
#ifndef TESTS_CRASH_POINTS_H
#define TESTS_CRASH_POINTS_H

#include "engine/lsm.h"
#include "tests/lib/scratch.h"
#include "tests/lib/stepping.h"
#include "tests/lib/verdict.h"

#include <stdatomic.h>
#include <stdint.h>

/* ---- writes ---------------------------------------------------------------------------------- */

#define MAX_WRITES  400 /* of one place in one life */
#define MAX_VALUE   4200
#define SINGLE_KEYS 5 /* that single puts of a place go round */

/* Who writes: each place is one process at a time, with keys of its own. */
enum place {
    PLACE_VICTIM,
    PLACE_BEFORE,   /* who died before the victim began, or wrote meanwhile */
    PLACE_SURVIVOR, /* the first of them */
    PLACE_OTHER,    /* the second */
    PLACE_WITNESS,  /* who takes over when the first survivor dies, too */
    PLACE_RECOVERER,
    PLACE_COUNT,
};

enum write_state {
    WRITE_NONE,
    WRITE_BEGUN,
    WRITE_THERE,  /* acknowledged, or found to be there */
    WRITE_ABSENT, /* found not to be there: for good */
};

/* members == 0: a put to a key that others of the place overwrite, or its deletion. Otherwise a
 * batch of so many keys of its own, by turns in either family, and one key that every batch of the
 * place overwrites. */
struct write {
    _Atomic uint32_t state;
    uint32_t members;
    bool deletes;
};

struct journal {
    _Atomic uint32_t count;              /* the last one may have been begun only */
    struct write writes[MAX_WRITES + 1]; /* from 1 on */
};

/* The changes of families that the victim makes, one after the other. */
enum family_stage {
    FAMILY_NONE,
    FAMILY_CREATED, /* "third" */
    FAMILY_RENAMED, /* "fourth" */
    FAMILY_DROPPED,
};

/* ---- the life -------------------------------------------------------------------------------- */

/* Memory of all processes of a life. */
struct board {
    struct verdict verdict;
    struct journal journals[PLACE_COUNT];
    _Atomic uint32_t family_begun, family_done; /* enum family_stage */
    struct step_record victim_steps;
    struct step_record taker_steps; /* of who comes next: survivor, or recoverer */
    _Atomic uint32_t ready;         /* survivors that are in */
    _Atomic uint32_t prepared;      /* the victim is, and waits for `go` */
    _Atomic uint32_t go;
    _Atomic uint32_t changed;  /* who came during the act has gone */
    _Atomic int64_t victim;    /* its process */
    _Atomic uint32_t stopped;  /* the victim is: who lives does what needs none of its locks */
    _Atomic uint32_t stood_by; /* survivors that have done so */
    _Atomic uint32_t standing[PLACE_COUNT]; /* which part of that each is about */
    _Atomic uint32_t died;                  /* the victim is dead or through: others go on */
    _Atomic uint32_t alone;                 /* the first survivor died or is through */
    _Atomic uint32_t judged; /* survivors that have nothing left to do but to close */
    _Atomic uint32_t clean;  /* the last one closed: nothing of the segment may be left */
};

struct actor {
    struct board *board;
    const char *path, *shm_dir;
    enum place place;
    bool has_workers;
    lsm_db *db;
    lsm_cf *second;
};

/* Who else lives when the victim dies. */
enum survivors {
    SURVIVORS_NONE,
    SURVIVORS_LIGHT,   /* one without workers */
    SURVIVORS_WORKERS, /* two with workers */
    SURVIVORS_COUNT,
};

struct role {
    const char *name;
    bool has_workers;
    bool opens;                      /* the opening belongs to it */
    unsigned survivors;              /* mask of enum survivors that it is possible with */
    void (*before)(struct actor *);  /* by a process that dies in it. May be NULL */
    void (*prepare)(struct actor *); /* by the victim, open. May be NULL */
    void (*between)(
        struct actor *);         /* by a process that comes then, and goes or dies. May be NULL */
    void (*act)(struct actor *); /* by the victim, watched */
    void (*during)(struct actor *); /* by a process that comes and goes meanwhile. May be NULL */
    bool closes;                    /* act() closes */
};

extern const struct role roles[];
extern const size_t role_count;

struct life {
    const struct role *role;
    enum survivors survivors;
    struct step_point point;  /* .name NULL: nobody dies, the steps are counted */
    bool stops;               /* and goes on later, instead of dying */
    struct step_point second; /* where the next one dies in turn; .name NULL: nowhere */
    unsigned variant;         /* differs in what the survivors do */
    enum survivors counted;   /* the kind that the victim passed the point with */
};

struct life_result {
    bool failed;
    bool reached, second_reached;
    char message[sizeof((struct verdict *)0)->message + SCRATCH_PATH_SIZE + 20];
};

/* Runs it in a directory of its own, in this process and its children. `board` is for this life
 * alone, zeroed here. */
void life_run(const struct life *life, struct board *board, struct life_result *result);

/* ---- what actors do -------------------------------------------------------------------------- */

void actor_open(struct actor *a);
void actor_close(struct actor *a);
/* Each so manieth one deletes instead. */
#define DELETE_EACH 6
void actor_put(struct actor *a, lsm_durability durability, size_t value_size);
void actor_batch(struct actor *a, lsm_durability durability, uint32_t members, size_t value_size);
/* The same as a transaction, which reads what it overwrites. */
void actor_transaction(struct actor *a, lsm_durability durability, uint32_t members);

/* The same as an ingest. */
void actor_ingest(struct actor *a, uint32_t members, size_t value_size);

/* What was acknowledged is there. `settle`: nobody else writes; what was begun only is there whole
 * or not at all, and stays so, and nothing else is. */
void oracle_check(struct actor *a, bool settle);
/* One key of each place that was acknowledged is read. */
void oracle_look(struct actor *a);
/* A process that is stopped is not taken for a dead one. */
void oracle_check_stopped(struct actor *a);
/* Nothing that a dead process had taken is taken any more, and no other slot is in use. */
void oracle_check_shared(struct actor *a);
/* The directory holds what the manifest names and nothing else. */
void oracle_check_files(struct actor *a);

#endif
