#include "bench/engine.h"

#include <stdio.h>
#include <string.h>

static const struct known {
    const char *name;
    const struct engine *engine; /* NULL: not in this build */
    const char *package;         /* Debian's, that it needs */
} known[] = {
    {"lsm", &engine_lsm, NULL},
#ifdef HAVE_ROCKSDB
    {"rocksdb", &engine_rocksdb, NULL},
#else
    {"rocksdb", NULL, "librocksdb-dev"},
#endif
#ifdef HAVE_LEVELDB
    {"leveldb", &engine_leveldb, NULL},
#else
    {"leveldb", NULL, "libleveldb-dev"},
#endif
#ifdef HAVE_LMDB
    {"lmdb", &engine_lmdb, NULL},
    {"lmdb-writemap", &engine_lmdb_writemap, NULL},
#else
    {"lmdb", NULL, "liblmdb-dev"},
    {"lmdb-writemap", NULL, "liblmdb-dev"},
#endif
#ifdef HAVE_WIREDTIGER
    {"wiredtiger", &engine_wiredtiger, NULL},
#else
    {"wiredtiger", NULL, "libwiredtiger-dev"},
#endif
};

#define KNOWN_COUNT (sizeof known / sizeof *known)

const struct engine *engine_find(const char *name)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        if (strcmp(known[i].name, name) != 0)
            continue;
        if (known[i].engine == NULL)
            die_of_usage("engine '%s' is not in this build: install %s (Debian's name) and "
                         "configure again",
                         name, known[i].package);
        return known[i].engine;
    }
    die_of_usage("there is no engine '%s'", name);
}

void engine_print_list(void)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        if (known[i].engine != NULL)
            printf("%s\n", known[i].name);
        else
            fprintf(stderr, "lsm-bench: %s is not in this build: it needs %s\n", known[i].name,
                    known[i].package);
    }
}
