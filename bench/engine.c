#include "bench/engine.h"

#include <string.h>

static const struct engine *const engines[] = {
    &engine_lsm,
#ifdef HAVE_ROCKSDB
    &engine_rocksdb,
#endif
};

const struct engine *engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    }
    die_of_usage("no engine '%s' in this build", name);
}
