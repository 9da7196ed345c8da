/*
 * One case of damage: a sound database with some of its bytes changed is read, verified, repaired
 * and read again, and everything that has to hold is checked. What has to hold follows from which
 * parts of the sound files (tests/lib/atlas.h) the damage touches.
 */
#ifndef TESTS_TORTURE_TRIAL_H
#define TESTS_TORTURE_TRIAL_H

#include "tests/lib/atlas.h"
#include "tests/torture/torture.h"

struct model;

/* The sound database. Borrowed but for `touched`. */
struct trial {
    struct torture *torture;
    const struct model *model;
    const struct folder *sound;
    const struct atlas *atlas;
    bool *touched;      /* by part; owned */
    uint64_t tail;      /* of a case: from this sequence number on the log may end */
    uint64_t counts[4]; /* kept for the suite's own summary: lost, stale, revived, corrupt */
};

/* What may be expected of a case beyond what follows from the bytes. */
struct trial_wants {
    bool all_back; /* repair restores everything: one bit or byte is wrong */
    bool may_hide; /* damage that verify cannot see: a whole old state, a cut of what nobody was
                    * promised */
};

void trial_begin(struct trial *trial, struct torture *torture, const struct model *model,
                 const struct folder *sound, const struct atlas *atlas);
void trial_end(struct trial *trial);

/* Puts the damaged files down and runs the case. torture_case() has been called. */
void trial_run(struct trial *trial, const struct folder *damaged, const struct trial_wants *wants);

#endif
