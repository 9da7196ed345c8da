/* Keys and values at every limit, through every call that writes: kept exactly, or refused. */
#include "tests/lib/specimen.h"
#include "tests/torture/examine.h"
#include "tests/torture/torture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=64MiB,stage_size=64MiB,wal_segment_size=64MiB,"        \
    "cache_size=1MiB,block_size=512,level_base_size=64KiB"

enum pattern { ZEROS, ONES, LETTERS, MIXED, PATTERNS };
enum call { PUT, BATCH, TXN, CALLS };

static const char *const pattern_names[PATTERNS] = {"zeros", "0xff", "letters", "mixed bytes"};
static const char *const call_names[CALLS] = {"lsm_put", "lsm_write", "lsm_txn_commit"};

static const size_t key_sizes[] = {0,    1,    2,    7,     8,     9,     15,    16,   17,
                                   31,   32,   127,  128,   255,   256,   257,   511,  4095,
                                   4096, 4097, 8192, 16384, 32767, 32768, 65534, 65535};
#define KEY_SIZES (sizeof key_sizes / sizeof key_sizes[0])

static const size_t value_sizes[] = {0,    1,    127,   128,   255,   256,   511,     512,    4096,
                                     8191, 8192, 16383, 16384, 65535, 65536, 1000000, 3 << 20};
#define VALUE_SIZES (sizeof value_sizes / sizeof value_sizes[0])

struct writer {
    struct torture *t;
    lsm_db *db;
    lsm_error err;
    uint8_t *bytes; /* the longest value, and one byte more */
};

/* The last byte tells the patterns of one size apart; the empty key is one key. */
static void fill(uint8_t *at, size_t size, enum pattern pattern)
{
    for (size_t i = 0; i < size; i++)
        at[i] = pattern == ZEROS     ? 0
                : pattern == ONES    ? 0xff
                : pattern == LETTERS ? 'k'
                                     : (uint8_t)(i * 7 + size);
}

static struct model_value value_of(size_t number)
{
    return (struct model_value){.seed = number + 1,
                                .size = (uint32_t)value_sizes[number % VALUE_SIZES]};
}

static lsm_status write_batch(struct writer *w, lsm_slice key, lsm_slice value)
{
    lsm_batch *batch = NULL;
    lsm_status status = lsm_batch_new(&batch, &w->err);
    if (status == LSM_OK)
        status = lsm_batch_put(batch, NULL, key, value, &w->err);
    if (status == LSM_OK)
        status = lsm_write(w->db, batch, NULL, &w->err);
    lsm_batch_free(batch);
    return status;
}

static lsm_status write_txn(struct writer *w, lsm_slice key, lsm_slice value)
{
    lsm_txn *txn = NULL;
    lsm_status status = lsm_txn_begin(w->db, NULL, &txn, &w->err);
    if (status == LSM_OK)
        status = lsm_txn_put(txn, NULL, key, value, &w->err);
    if (status == LSM_OK)
        status = lsm_txn_commit(txn, NULL, &w->err);
    lsm_txn_free(txn);
    return status;
}

static lsm_status write_one(struct writer *w, enum call call, lsm_slice key, lsm_slice value)
{
    if (call == PUT)
        return lsm_put(w->db, NULL, key, value, NULL, &w->err);
    return call == BATCH ? write_batch(w, key, value) : write_txn(w, key, value);
}

static void try_key(struct writer *w, uint8_t *key, size_t number, enum call call)
{
    size_t size = key_sizes[number / PATTERNS];
    enum pattern pattern = (enum pattern)(number % PATTERNS);
    struct model_value value = value_of(number + 5 * call);
    lsm_pin pin = LSM_PIN_INIT;
    torture_case(w->t, "a key of %zu %s, a value of %" PRIu32 " bytes, %s", size,
                 pattern_names[pattern], value.size, call_names[call]);
    fill(key, size, pattern);
    model_value_fill(value, w->bytes);
    torture_check(
        w->t, write_one(w, call, LSM_SLICE(key, size), LSM_SLICE(w->bytes, value.size)) == LSM_OK,
        "%s", w->err.message);
    torture_check(w->t, lsm_get(w->db, NULL, LSM_SLICE(key, size), NULL, &pin, &w->err) == LSM_OK,
                  "%s", w->err.message);
    torture_check(w->t,
                  pin.found && pin.value.size == value.size &&
                      (value.size == 0 || memcmp(pin.value.data, w->bytes, value.size) == 0),
                  "another value comes back");
    lsm_pin_release(&pin);
}

static void try_too_large(struct writer *w, uint8_t *key, enum call call)
{
    fill(key, LSM_MAX_KEY_SIZE + 1, LETTERS);
    torture_case(w->t, "a key of one byte too many, %s", call_names[call]);
    torture_check(w->t,
                  write_one(w, call, LSM_SLICE(key, LSM_MAX_KEY_SIZE + 1), LSM_SLICE("v", 1)) ==
                      LSM_TOO_LARGE,
                  "not refused: %s", w->err.message);
    torture_case(w->t, "a value of one byte too many, %s", call_names[call]);
    torture_check(w->t,
                  write_one(w, call, LSM_SLICE(key, 9),
                            LSM_SLICE(w->bytes, LSM_MAX_VALUE_SIZE + 1)) == LSM_TOO_LARGE,
                  "not refused: %s", w->err.message);
}

/* What the last call that wrote each key left, through all levels. */
static void read_back(struct writer *w, uint8_t *key, const char *when)
{
    lsm_iter *iter = NULL;
    size_t seen = 0;
    torture_case(w->t, "reading everything back, %s", when);
    for (size_t i = 0; i < KEY_SIZES * PATTERNS; i++) {
        size_t size = key_sizes[i / PATTERNS], last = i;
        struct model_value value;
        lsm_pin pin = LSM_PIN_INIT;
        if (size == 0)
            last = PATTERNS - 1;
        value = value_of(last + 5 * (CALLS - 1));
        fill(key, size, (enum pattern)(i % PATTERNS));
        model_value_fill(value, w->bytes);
        torture_check(w->t,
                      lsm_get(w->db, NULL, LSM_SLICE(key, size), NULL, &pin, &w->err) == LSM_OK &&
                          pin.found && pin.value.size == value.size &&
                          (value.size == 0 || memcmp(pin.value.data, w->bytes, value.size) == 0),
                      "the key of %zu %s is not there as it was written", size,
                      pattern_names[i % PATTERNS]);
        lsm_pin_release(&pin);
    }
    if (!torture_check(w->t, lsm_iter_open(w->db, NULL, NULL, &iter, &w->err) == LSM_OK, "%s",
                       w->err.message))
        return;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        seen++;
    torture_check(w->t, lsm_iter_status(iter, &w->err) == LSM_OK && seen >= KEY_SIZES - 1,
                  "%zu keys: %s", seen, w->err.message);
    lsm_iter_close(iter);
}

static lsm_status open_database(struct writer *w)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_status status = lsm_options_parse(&options, OPTIONS, &w->err);
    options.io = w->t->io;
    options.shm_dir = w->t->scratch;
    return status == LSM_OK ? lsm_open(w->t->path, &options, &w->db, &w->err) : status;
}

static void check_files(struct writer *w, const char *when)
{
    struct examination e = {0};
    struct mending m = {0};
    struct folder before = {0}, after = {0};
    torture_case(w->t, "verify and repair, %s", when);
    folder_load(&before, w->t->path);
    examination_take(&e, w->t->path, w->t->io);
    torture_check(w->t, e.status == LSM_OK && e.unclean_count == 0, "not clean: %s%s", e.failed,
                  examination_text(&e));
    mending_take(&m, w->t->path, w->t->io);
    folder_load(&after, w->t->path);
    torture_check(w->t, m.status == LSM_OK && !m.has_changed, "repair finds work: %s", m.failed);
    torture_check(w->t, folder_difference(&before, &after) == NULL, "repair changed something");
    examination_release(&e);
    mending_release(&m);
    folder_release(&before);
    folder_release(&after);
}

static bool reopen(struct writer *w, const char *when)
{
    lsm_status closed = lsm_close(w->db, &w->err);
    w->db = NULL;
    if (!torture_check(w->t, closed == LSM_OK, "closing: %s", w->err.message))
        return false;
    check_files(w, when);
    return torture_check(w->t, open_database(w) == LSM_OK, "opening: %s", w->err.message);
}

static void run(struct writer *w, uint8_t *key)
{
    for (int call = PUT; call < CALLS; call++) {
        for (size_t i = 0; i < KEY_SIZES * PATTERNS; i++)
            try_key(w, key, i, (enum call)call);
        try_too_large(w, key, (enum call)call);
    }
    read_back(w, key, "from memory");
    if (!reopen(w, "after a close"))
        return;
    read_back(w, key, "from tables");
    lsm_compact_options all = {.force_bottom = true};
    torture_case(w->t, "compaction");
    torture_check(w->t, lsm_compact_range(w->db, NULL, &all, &w->err) == LSM_OK, "%s",
                  w->err.message);
    if (reopen(w, "after a compaction"))
        read_back(w, key, "from the lowest level");
}

int suite_boundary(struct torture *t)
{
    struct writer w = {.t = t};
    uint8_t *key = test_alloc(LSM_MAX_KEY_SIZE + 1);
    /* Most of its pages are never touched. */
    w.bytes = mmap(NULL, LSM_MAX_VALUE_SIZE + 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    torture_case(t, "opening");
    if (w.bytes == MAP_FAILED)
        return TORTURE_SKIPPED;
    if (torture_check(t, open_database(&w) == LSM_OK, "%s", w.err.message))
        run(&w, key);
    torture_check(t, lsm_close(w.db, &w.err) == LSM_OK, "closing: %s", w.err.message);
    munmap(w.bytes, LSM_MAX_VALUE_SIZE + 1);
    free(key);
    return TORTURE_DONE;
}
