#include "tests/lib/stepping.h"

#include "engine/base/step.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct step_record *noted;
static struct step_point awaited;
static int awaited_signal;
static _Atomic unsigned passed; /* the awaited name, how often */

static void at_step(const char *name)
{
    if (noted != NULL) {
        size_t at = atomic_fetch_add(&noted->count, 1);
        if (at < sizeof noted->names / sizeof *noted->names)
            atomic_store(&noted->names[at], name);
    }
    if (awaited.name != NULL && strcmp(name, awaited.name) == 0 &&
        atomic_fetch_add(&passed, 1) + 1 == awaited.occurrence)
        kill(getpid(), awaited_signal);
}

void stepping_begin(struct step_record *record, struct step_point point, int signal)
{
    noted = record;
    awaited = point;
    awaited_signal = signal;
    atomic_store(&passed, 0);
    atomic_store(&step_hook, at_step);
}

void stepping_end(void)
{
    atomic_store(&step_hook, NULL);
}

static unsigned count_before(const struct step_record *record, size_t at)
{
    unsigned count = 0;
    for (size_t i = 0; i < at; i++) {
        const char *name = atomic_load(&record->names[i]);
        count += name != NULL && strcmp(name, atomic_load(&record->names[at])) == 0;
    }
    return count;
}

size_t stepping_points(const struct step_record *record, unsigned occurrences,
                       struct step_point *points, size_t room)
{
    size_t count = 0, limit = sizeof record->names / sizeof *record->names;
    if (atomic_load(&record->count) < limit)
        limit = atomic_load(&record->count);
    for (size_t i = 0; i < limit && count < room; i++) {
        const char *name = atomic_load(&record->names[i]);
        unsigned before = name == NULL ? occurrences : count_before(record, i);
        if (before < occurrences)
            points[count++] = (struct step_point){name, before + 1};
    }
    return count;
}
