/*
 * The run that powercut_test and fault_test interrupt: small on purpose, and yet it makes tables,
 * merges them, switches memtables, log segments and manifests, makes and drops families, and opens
 * the database more than once. One thread does all of it, so it is the same every time.
 */
#ifndef TESTS_CRASH_CRASH_SCRIPT_H
#define TESTS_CRASH_CRASH_SCRIPT_H

#include "tests/lib/driver.h"

#define CRASH_OPTIONS                                                                              \
    "workers=none,memtable_size=64KiB,memtable_count=2,stage_size=16KiB,wal_segment_size=32KiB,"   \
    "block_size=1KiB,table_size=8KiB,level_base_size=4KiB,level_ratio=2,level0_trigger=2,"         \
    "cache_size=256KiB"

enum crash_size {
    CRASH_SHORT, /* some 40 operations: one of each */
    CRASH_LONG,
};

struct script crash_script(enum crash_size size);
/* What a database that was opened again must still be able to do. */
struct script crash_afterwards(void);

#endif
