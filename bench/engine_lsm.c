/* libengine, through its public door only. */
#include "bench/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGE_DEFAULT (UINT64_C(16) << 20)
#define STAGE_SHARE   32 /* of --memory */
#define STAGE_STEP    (UINT64_C(64) << 10)
#define SIZES_TEXT    128

struct session {
    lsm_db *db;
    lsm_batch *batch;
    lsm_pin *pins; /* owned; as many as one multiget has keys */
    uint32_t pin_count;
    lsm_pin pin;
};

static void check(lsm_status status, const lsm_error *err, const char *what)
{
    if (status != LSM_OK)
        die("%s: %s (%s)", what, err->message, lsm_strerror(status));
}

static void lsm_describe(char *text, size_t capacity)
{
    snprintf(text, capacity, "libengine %s", lsm_version());
}

/* The option `memory` of those given as text. */
static uint64_t bound(const struct bench_options *o)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    if (o->engine_options != NULL)
        check(lsm_options_parse(&options, o->engine_options, &err), &err, "--options");
    return options.memory;
}

/* A stage of the default size would be a large part of little memory. */
static uint64_t stage_size(const struct bench_options *o)
{
    uint64_t share = o->memory / STAGE_SHARE;
    return o->memory == 0 || share > STAGE_DEFAULT ? STAGE_DEFAULT : share & ~(STAGE_STEP - 1);
}

/* With a bound the engine has its own. */
static void sizes(const struct bench_options *o, char *text, size_t capacity)
{
    *text = '\0';
    if (bound(o) == 0)
        snprintf(text, capacity, "memtable_size=%llu cache_size=%llu stage_size=%llu ",
                 (unsigned long long)o->memtable_size, (unsigned long long)o->cache_size,
                 (unsigned long long)stage_size(o));
}

static void settings(const struct bench_options *o, char *text, size_t capacity)
{
    char own[SIZES_TEXT];
    const char *given = o->engine_options != NULL ? strstr(o->engine_options, "direct_io=") : NULL;
    bool is_direct =
        given != NULL ? strncmp(given, "direct_io=true", 14) == 0 : o->memory > 0 || bound(o) > 0;
    sizes(o, own, sizeof own);
    snprintf(text, capacity,
             "%sfilter_bits=%u compression=%s%s%s; "
             "writes are LSM_WRITE, LSM_SYNC when synced; tables are read %s the page cache",
             own, o->filter_bits, o->compress ? "zstd" : "none",
             o->engine_options != NULL ? " " : "",
             o->engine_options != NULL ? o->engine_options : "", is_direct ? "around" : "through");
}

static void *open_lsm(const struct bench_options *o, const char *directory)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    lsm_db *db = NULL;
    options.create = true;
    if (bound(o) == 0) { /* else it shares that out itself */
        options.stage_size = stage_size(o);
        options.memtable_size = o->memtable_size;
        options.cache_size = o->cache_size;
    }
    options.direct_io = o->memory > 0 ? "true" : "auto";
    options.cf.filter_bits = o->filter_bits == 0 ? LSM_NO_FILTER : o->filter_bits;
    options.cf.compression = o->compress ? LSM_COMPRESSION_ZSTD : LSM_COMPRESSION_NONE;
    if (o->engine_options != NULL)
        check(lsm_options_parse(&options, o->engine_options, &err), &err, "--options");
    check(lsm_open(directory, &options, &db, &err), &err, "open");
    return db;
}

static void close_lsm(void *db)
{
    lsm_error err = {0};
    check(lsm_close(db, &err), &err, "close");
}

static void destroy_lsm(const char *directory)
{
    lsm_error err = {0};
    lsm_status status = lsm_destroy(directory, &err);
    if (status != LSM_MISSING)
        check(status, &err, "destroy");
}

static void *session_open(void *db, const struct bench_options *o)
{
    struct session *s = calloc(1, sizeof *s);
    lsm_pin *pins = calloc(o->multiget_count, sizeof *pins);
    lsm_error err = {0};
    if (s == NULL || pins == NULL)
        die("out of memory");
    *s = (struct session){.db = db, .pins = pins, .pin_count = o->multiget_count};
    check(lsm_batch_new(&s->batch, &err), &err, "batch");
    return s;
}

static void release_pins(struct session *s)
{
    for (uint32_t i = 0; i < s->pin_count; i++)
        lsm_pin_release(&s->pins[i]);
}

static void session_close(void *session)
{
    struct session *s = session;
    release_pins(s);
    lsm_pin_release(&s->pin);
    lsm_batch_free(s->batch);
    free(s->pins);
    free(s);
}

static lsm_write_options write_options(bool sync)
{
    return (lsm_write_options){.durability = sync ? LSM_SYNC : LSM_WRITE};
}

static void put(void *session, lsm_slice key, lsm_slice value, bool sync)
{
    struct session *s = session;
    lsm_write_options options = write_options(sync);
    lsm_error err;
    check(lsm_put(s->db, NULL, key, value, &options, &err), &err, "put");
}

static void remove_key(void *session, lsm_slice key, bool sync)
{
    struct session *s = session;
    lsm_write_options options = write_options(sync);
    lsm_error err;
    check(lsm_delete(s->db, NULL, key, &options, &err), &err, "delete");
}

static void batch_put(void *session, lsm_slice key, lsm_slice value)
{
    struct session *s = session;
    lsm_error err;
    check(lsm_batch_put(s->batch, NULL, key, value, &err), &err, "batch");
}

static void batch_write(void *session, bool sync)
{
    struct session *s = session;
    lsm_write_options options = write_options(sync);
    lsm_error err;
    check(lsm_write(s->db, s->batch, &options, &err), &err, "write");
    lsm_batch_clear(s->batch);
}

static bool get(void *session, lsm_slice key, lsm_slice *value)
{
    struct session *s = session;
    lsm_error err;
    check(lsm_get(s->db, NULL, key, NULL, &s->pin, &err), &err, "get");
    *value = s->pin.value;
    return s->pin.found;
}

static void multi_get(void *session, size_t count, const lsm_slice *keys, lsm_slice *values)
{
    struct session *s = session;
    lsm_error err;
    release_pins(s);
    check(lsm_multi_get(s->db, NULL, count, keys, NULL, s->pins, &err), &err, "multiget");
    for (size_t i = 0; i < count; i++) {
        values[i] = s->pins[i].value;
        if (!s->pins[i].found)
            values[i] = LSM_SLICE(NULL, 0);
    }
}

static void *iter_open(void *session)
{
    struct session *s = session;
    lsm_iter *iter = NULL;
    lsm_error err;
    check(lsm_iter_open(s->db, NULL, NULL, &iter, &err), &err, "iterator");
    return iter;
}

static void iter_close(void *iter)
{
    lsm_iter_close(iter);
}

static bool entry_here(const lsm_iter *iter, struct engine_entry *entry)
{
    if (!lsm_iter_valid(iter)) {
        lsm_error err;
        check(lsm_iter_status(iter, &err), &err, "iterator");
        return false;
    }
    *entry = (struct engine_entry){lsm_iter_key(iter), lsm_iter_value(iter)};
    return true;
}

static bool iter_first(void *iter, struct engine_entry *entry)
{
    lsm_iter_first(iter);
    return entry_here(iter, entry);
}

static bool iter_last(void *iter, struct engine_entry *entry)
{
    lsm_iter_last(iter);
    return entry_here(iter, entry);
}

static bool iter_seek(void *iter, lsm_slice key, struct engine_entry *entry)
{
    lsm_iter_seek(iter, key);
    return entry_here(iter, entry);
}

static bool iter_next(void *iter, struct engine_entry *entry)
{
    lsm_iter_next(iter);
    return entry_here(iter, entry);
}

static bool iter_prev(void *iter, struct engine_entry *entry)
{
    lsm_iter_prev(iter);
    return entry_here(iter, entry);
}

static void flush_lsm(void *db)
{
    lsm_error err;
    check(lsm_flush(db, &err), &err, "flush");
}

static void compact_lsm(void *db)
{
    lsm_error err;
    check(lsm_compact_range(db, NULL, NULL, &err), &err, "compact");
}

static void wait_idle(void *db)
{
    lsm_error err;
    check(lsm_wait_idle(db, &err), &err, "wait");
}

static void checkpoint(void *db, const char *path)
{
    lsm_error err;
    check(lsm_checkpoint(db, path, NULL, &err), &err, "checkpoint");
}

static uint64_t bytes_written(void *db)
{
    static const char *const names[] = {"log-bytes-written", "flush-bytes-written",
                                        "compaction-bytes-written"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t value = 0;
        lsm_error err;
        check(lsm_property(db, NULL, names[i], &value, &err), &err, names[i]);
        sum += value;
    }
    return sum;
}

const struct engine engine_lsm = {
    .name = "lsm",
    .describe = lsm_describe,
    .settings = settings,
    .bound = bound,
    .many_processes = true,
    .open = open_lsm,
    .close = close_lsm,
    .destroy = destroy_lsm,
    .session_open = session_open,
    .session_close = session_close,
    .put = put,
    .remove = remove_key,
    .batch_put = batch_put,
    .batch_write = batch_write,
    .get = get,
    .multi_get = multi_get,
    .iter_open = iter_open,
    .iter_close = iter_close,
    .iter_first = iter_first,
    .iter_last = iter_last,
    .iter_seek = iter_seek,
    .iter_next = iter_next,
    .iter_prev = iter_prev,
    .flush = flush_lsm,
    .compact = compact_lsm,
    .wait_idle = wait_idle,
    .checkpoint = checkpoint,
    .bytes_written = bytes_written,
    .async = &engine_lsm_async,
};
