/*
 * One history of writes in each engine, and the damages that are done to what it left.
 */
#ifndef TESTS_TORTURE_COMPARE_HOSPITAL_H
#define TESTS_TORTURE_COMPARE_HOSPITAL_H

#include "engine/base/random.h"
#include "tests/lib/folder.h"
#include "tests/torture/compare/peer.h"

#define KEYS       20000
#define VALUE_SIZE 100

/* Engines keep threads that no fork copies, and some end the program where they find damage: each
 * use of one is a process of its own. False when it did not end well. */
bool in_child(void (*run)(void *context), void *context);

struct history {
    uint32_t *versions;   /* values that the key has had: 1 to this; shared with children */
    bool *is_deleted;     /* the same */
    struct folder files;  /* at the end, as a killed process leaves them */
    struct folder pinned; /* the same; readers had kept every table from being removed */
};

lsm_slice make_key(uint32_t number, char *key);
lsm_slice make_value(uint32_t number, uint32_t version, char *value);

/* Writes it, in `path` and beside it. */
void history_make(struct history *h, const struct peer *peer, const char *path, uint64_t seed);
void history_release(struct history *h);

struct hospital {
    const struct peer *peer;
    struct history *history;
    struct random_state random;
    struct folder work; /* is damaged */
};

struct damage {
    const char *text;
    bool is_pinned; /* of the history with pinned tables */
    void (*make)(struct hospital *h);
};
extern const struct damage damages[];
extern const size_t damage_count;

/* A damaged database, in h->work and in the directory `path`. */
void hospital_admit(struct hospital *h, const struct damage *damage, const char *path);

/* What tools say of each damage; `tools`: where those of this engine are. */
void compare_tools(const struct peer *const *peers, struct history *histories, size_t count,
                   const char *scratch, unsigned trials, uint64_t seed, const char *tools);

#endif
