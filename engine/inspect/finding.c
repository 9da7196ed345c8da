/* See the header. */
#include "engine/inspect/finding.h"

#include <assert.h>

static const struct finding_kind kinds[FINDING_COUNT] = {
#define FINDING_ROW(name, pass, severity, id, meaning, repair)                                     \
    [FINDING_##name] = {id, pass, severity, meaning, repair},
    FINDING_LIST(FINDING_ROW)
#undef FINDING_ROW
};

static const char *const pass_names[FINDING_PASS_COUNT] = {
    "identity", "manifest", "inventory", "table ends", "blocks", "values", "log", "cross", "shared",
};

const struct finding_kind *finding_kind_of(enum finding_id id)
{
    assert((unsigned)id < FINDING_COUNT);
    return &kinds[id];
}

enum finding_id finding_parse(const char *text)
{
    for (unsigned i = 0; i < FINDING_COUNT; i++) {
        if (strcmp(kinds[i].id, text) == 0)
            return (enum finding_id)i;
    }
    return FINDING_COUNT;
}

const char *finding_pass_name(unsigned pass)
{
    return pass < FINDING_PASS_COUNT ? pass_names[pass] : "unknown";
}

const char *finding_severity_name(lsm_severity severity)
{
    switch (severity) {
    case LSM_NOTE:
        return "note";
    case LSM_WARNING:
        return "warning";
    case LSM_DAMAGE:
        return "damage";
    }
    return "unknown";
}

lsm_finding finding_of(enum finding_id id)
{
    const struct finding_kind *kind = finding_kind_of(id);
    return (lsm_finding){
        .struct_size = sizeof(lsm_finding),
        .id = kind->id,
        .pass = kind->pass,
        .severity = kind->severity,
        .offset = LSM_NO_OFFSET,
        .text = kind->meaning,
    };
}

void finding_place(lsm_finding *f, const char *file, uint64_t offset, uint64_t length)
{
    f->file = file;
    f->offset = offset;
    f->length = length;
}

void finding_numbers(lsm_finding *f, uint64_t expected, uint64_t found)
{
    f->has_numbers = true;
    f->expected = expected;
    f->found = found;
}

void finding_family(lsm_finding *f, uint32_t cf, const char *name)
{
    f->has_cf = true;
    f->cf_id = cf;
    f->cf_name = name;
}

void finding_range(lsm_finding *f, lsm_slice first, lsm_slice last)
{
    f->has_range = true;
    f->first_open = false;
    f->last_open = false;
    f->first = first;
    f->last = last;
}
