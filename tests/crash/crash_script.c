#include "tests/crash/crash_script.h"

#include <stdarg.h>
#include <stdlib.h>

static void add(struct script *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct script *s, const char *format, ...)
{
    char line[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (!script_append_text(s, line))
        exit(99);
}

/* Overwrites of few keys, some synced, with a batch over two families now and then. */
static void add_writes(struct script *s, unsigned count, unsigned first, unsigned size)
{
    for (unsigned i = first; i < first + count; i++) {
        const char *sync = i % 4 == 1 ? " sync" : "";
        if (i % 5 == 3)
            add(s,
                "batch%s%s +put,0,6b*1.%02x,%u:%u +put,1,6b*1.%02x,%u:%u +delete,0,6b*1.%02x "
                "+put,1,6b*2.%02x,%u:9",
                sync, i % 2 == 0 ? " txn" : "", i % 11, i, size / 2, i % 7, i + 1000, size / 4,
                (i + 5) % 11, i % 3, i);
        else if (i % 9 == 8)
            add(s, "delete key=6b*1.%02x%s", i % 11, sync);
        else
            add(s, "put cf=%u key=6b*1.%02x value=%u:%u%s", i % 3 == 2, i % 11, i,
                size - i % 7 * (size / 10), sync);
    }
}

struct script crash_script(enum crash_size size)
{
    bool is_long = size == CRASH_LONG;
    struct script s = {0};
    add(&s, "put key=6b*1.01 value=1:100");
    add(&s, "cf_create cf=1 name=1");
    add_writes(&s, is_long ? 20 : 8, 10, 300);
    add(&s, "batch ingest +put,0,6b*1.02,500:200 +put,1,6b*1.01,501:200 +delete,0,6b*1.03 "
            "+put,0,6b*3.01,502:900");
    add(&s, "flush");
    add(&s, "cf_create cf=2 name=2");
    add(&s, "put cf=2 key=6b*1.01 value=2:50 sync");
    add_writes(&s, is_long ? 60 : 12, 40, is_long ? 4000 : 1500);
    add(&s, "sync");
    add(&s, "batch txn abort +put,0,6b*1.01,999:300 +put,1,6b*1.02,998:300");
    add(&s, "put cf=2 key=6b*1.02 value=3:50");
    add(&s, "cf_rename cf=2 name=3");
    add(&s, "flush");
    add_writes(&s, is_long ? 12 : 4, 120, 500);
    add(&s, "compact");
    add(&s, "put key=6b*1.03 value=4:700");
    add(&s, "cf_drop cf=2");
    add(&s, "put key=6b*1.04 value=5:700 sync");
    add(&s, "reopen");
    add_writes(&s, is_long ? 40 : 6, 150, is_long ? 3500 : 900);
    add(&s, "batch ingest abort +put,0,6b*1.01,503:300");
    add(&s, "batch ingest +put,0,6b*1.04,504:300 +put,0,6b*4.01,505:300 +put,1,6b*1.02,506:30");
    add(&s, "wait_idle");
    add(&s, "compact cf=1 force");
    add(&s, "put key=6b*1.05 value=6:20");
    if (is_long) {
        add(&s, "cf_create cf=3 name=4");
        add_writes(&s, 30, 200, 2500);
        add(&s, "put cf=3 key=6b*1.05 value=7:20");
    }
    add(&s, "reopen");
    add(&s, "put key=6b*1.06 value=8:20");
    return s;
}

struct script crash_afterwards(void)
{
    struct script s = {0};
    add(&s, "put key=6b*1.07 value=900:300");
    add(&s, "delete key=6b*1.01 sync");
    add(&s, "cf_create cf=4 name=9");
    add(&s, "batch +put,0,6b*1.08,901:200 +put,4,6b*1.08,902:200");
    add(&s, "check");
    add(&s, "batch ingest +put,0,6b*1.05,904:100 +delete,4,6b*1.08");
    add(&s, "flush");
    add(&s, "put cf=4 key=6b*1.09 value=903:10");
    add(&s, "compact");
    add(&s, "check");
    add(&s, "reopen");
    add(&s, "check");
    return s;
}
