/* The set's struct, for the files that make it work: set.c (applying), recover.c (opening),
 * follow.c (what other processes applied) and orphans.c. */
#ifndef ENGINE_VERSION_SET_PRIVATE_H
#define ENGINE_VERSION_SET_PRIVATE_H

#include "engine/version/manifest.h"
#include "engine/version/version_private.h"

struct version_set {
    struct version_options options; /* set at open */
    struct table_pool pool;
    struct dead_files dead;
    _Atomic uint64_t *next_file_number; /* the caller's, or own_file_number */

    _Atomic uint64_t own_file_number;
    _Atomic uint64_t last_sequence;

    /* guarded by the version lock */
    struct manifest manifest;
    uint64_t previous_number;   /* of the generation before; 0: none */
    struct version_state state; /* as of the last durable edit */
    lsm_error broken;           /* status LSM_OK: it is not */

    /* guarded by current_lock */
    pthread_mutex_t current_lock;
    struct live_version *current;
};

struct version_set *version_set_new(const struct version_options *options);

/* The number of the version that all edits of the manifest make: that of its last frame. */
static inline uint64_t version_set_number(const struct version_set *set)
{
    return set->manifest.chain.number - 1;
}

/* Raises `counter` to `value` if it is below. */
void version_raise(_Atomic uint64_t *counter, uint64_t value);

/* What the edit says of the state. */
void version_state_apply(struct version_state *state, const struct version_edit *edit);
/* LSM_CORRUPT when the edit uses numbers that the state after it has not given out. */
lsm_status version_check_numbers(const struct version_edit *edit, const struct version_state *state,
                                 lsm_error *err);
/* Options are stored resolved, but a newer library may have stored a 0 where this one wants more.
 */
lsm_status version_resolve_stored(struct version_edit *edit, lsm_error *err);

/* No edit is taken any more; returns LSM_POISONED, filling `err` out of what broke it. */
lsm_status version_set_break(struct version_set *set, const lsm_error *first, lsm_error *err);

/*
 * Begins a new manifest with a snapshot of `version` and `state` and puts it in force; the one
 * before stays, older ones go. *is_uncertain: the failure came so late that either may be in force.
 */
lsm_status version_set_rotate(struct version_set *set, const struct version *version,
                              const struct version_state *state, uint64_t frame_number,
                              bool *is_uncertain, lsm_error *err);

/* The same with the current version, which is then installed under its new number. */
lsm_status version_set_rotate_current(struct version_set *set, uint64_t frame_number,
                                      bool *is_uncertain, lsm_error *err);

/* Makes `version` the current one, with the manifest's number; its reference is taken over. */
void version_set_install(struct version_set *set, struct live_version *version);

#endif
