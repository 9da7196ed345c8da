/* The set's struct, for the files that make it work: set.c (applying) and recover.c (opening). */
#ifndef ENGINE_VERSION_SET_PRIVATE_H
#define ENGINE_VERSION_SET_PRIVATE_H

#include "engine/version/manifest.h"
#include "engine/version/version_private.h"

struct version_set {
    struct version_options options; /* set at open */
    struct table_pool pool;

    _Atomic uint64_t next_file_number;
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

/*
 * Begins a new manifest with a snapshot of `version` and `state` and puts it in force; the one
 * before stays, older ones go. *is_uncertain: the failure came so late that either may be in force.
 */
lsm_status version_set_rotate(struct version_set *set, const struct version *version,
                              const struct version_state *state, uint64_t frame_number,
                              bool *is_uncertain, lsm_error *err);

/* Makes `version` the current one; its reference is taken over. */
void version_set_install(struct version_set *set, struct live_version *version);

#endif
