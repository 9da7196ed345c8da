#include "tests/lib/specimen.h"

#include "engine/base/random.h"
#include "engine/db/open.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_SIZE_MAX   40
#define VALUE_SIZE_MAX 700

/* The first lives end with a kill, the others with a close. */
#define LIVES_KILLED 2u
#define LIVES_ALL    4u

/* What differs between specimens. */
struct shape {
    unsigned scale; /* per cent of the keys */
    uint32_t block_size;
    uint32_t dictionary_size;
    uint32_t filter_bits;
    uint64_t level_base_size;
    lsm_compression compression;
    uint32_t blob_threshold;
    uint32_t value_size; /* most bytes of a value */
};

/* Does everything twice: to the database, which only the child has, and to the model. */
struct maker {
    lsm_db *db; /* NULL: only to the model */
    lsm_cf *families[SPECIMEN_FAMILIES];
    struct model *model;
    struct random_state random;
    struct shape shape;
    uint64_t value_count;
};

static struct shape make_shape(uint64_t seed)
{
    static const uint32_t block_sizes[] = {512, 1024, 2048, 4096};
    struct random_state r = random_seeded(seed);
    if (seed == 0)
        return (struct shape){.scale = 100,
                              .block_size = 512,
                              .dictionary_size = 1024,
                              .level_base_size = 20 << 10,
                              .compression = LSM_COMPRESSION_ZSTD,
                              .value_size = 60};
    if (seed == SPECIMEN_BLOBS)
        return (struct shape){.scale = 100,
                              .block_size = 512,
                              .level_base_size = 20 << 10,
                              .compression = LSM_COMPRESSION_ZSTD,
                              .blob_threshold = 64,
                              .value_size = 200};
    struct shape shape = {
        .scale = 50 + (unsigned)random_below(&r, 250),
        .block_size = block_sizes[random_below(&r, 4)],
        .dictionary_size = random_below(&r, 3) == 0 ? 0 : 1024 + (uint32_t)random_below(&r, 4096),
        .filter_bits = random_below(&r, 4) == 0 ? LSM_NO_FILTER : 0,
        .level_base_size = (8 + random_below(&r, 32)) << 10,
        .compression = random_below(&r, 3) == 0 ? LSM_COMPRESSION_NONE : LSM_COMPRESSION_ZSTD,
        .value_size = 60,
    };
    if (random_below(&r, 3) == 0) {
        shape.blob_threshold = 64;
        shape.value_size = 100 + (uint32_t)random_below(&r, 400);
    }
    return shape;
}

static void need(lsm_status status, const lsm_error *err, const char *what)
{
    if (status == LSM_OK)
        return;
    fprintf(stderr, "the specimen: %s: %s\n", what, err->message);
    _exit(99);
}

#define NEED(call)                                                                                 \
    do {                                                                                           \
        lsm_error error = {0}, *err = &error;                                                      \
        need((call), err, #call);                                                                  \
    } while (0)

/* ---- content --------------------------------------------------------------------------------- */

static lsm_slice make_key(enum specimen_family family, unsigned number, char *key)
{
    static const char *const forms[] = {"k%04u", "word/%05u/of/the/dictionary", "g%u", "late-%03u"};
    int size = snprintf(key, KEY_SIZE_MAX, forms[family], number);
    return LSM_SLICE(key, (size_t)size);
}

static void put(struct maker *m, enum specimen_family family, unsigned number, uint32_t size)
{
    char key[KEY_SIZE_MAX];
    uint8_t bytes[VALUE_SIZE_MAX];
    lsm_slice name = make_key(family, number, key);
    /* Those of "words" are compressible, see model_value_fill(). */
    uint64_t value_seed = 3 * ++m->value_count + (family == SPECIMEN_WORDS);
    struct model_value value = {.seed = value_seed, .size = size};
    model_value_fill(value, bytes);
    model_write(m->model, MODEL_THERE);
    model_put(m->model, family, name, value);
    if (m->db != NULL)
        NEED(lsm_put(m->db, m->families[family], name, LSM_SLICE(bytes, size), NULL, err));
}

static void erase(struct maker *m, enum specimen_family family, unsigned number)
{
    char key[KEY_SIZE_MAX];
    lsm_slice name = make_key(family, number, key);
    model_write(m->model, MODEL_THERE);
    model_delete(m->model, family, name);
    if (m->db != NULL)
        NEED(lsm_delete(m->db, m->families[family], name, NULL, err));
}

static uint32_t random_size(struct maker *m, uint32_t from, uint32_t limit)
{
    return from + (uint32_t)random_below(&m->random, limit - from);
}

static unsigned scaled(const struct maker *m, unsigned number)
{
    return number * m->shape.scale / 100;
}

/* Every `step`-th key of the family from `first` on; each `erased`-th of them is deleted. */
static void write_keys(struct maker *m, enum specimen_family family, unsigned first, unsigned limit,
                       unsigned step, unsigned erased)
{
    unsigned count = 0;
    for (unsigned i = scaled(m, first); i < scaled(m, limit); i += step) {
        if (erased > 0 && ++count % erased == 0)
            erase(m, family, i);
        else
            put(m, family, i, random_size(m, 20, m->shape.value_size));
    }
}

/* ---- shape ----------------------------------------------------------------------------------- */

static void flush(struct maker *m)
{
    if (m->db != NULL)
        NEED(lsm_flush(m->db, err));
}

static void compact(struct maker *m, enum specimen_family family)
{
    lsm_compact_options options = {.force_bottom = true};
    if (m->db != NULL)
        NEED(lsm_compact_range(m->db, m->families[family], &options, err));
}

static void make_family(struct maker *m, enum specimen_family family, const char *name,
                        const lsm_cf_options *options)
{
    model_family_create(m->model, name);
    if (m->db != NULL)
        NEED(lsm_cf_create(m->db, name, options, &m->families[family], err));
}

static void open_again(struct maker *m, const char *path)
{
    static const char *const names[] = {"default", "words", NULL, "late"};
    lsm_options options = LSM_OPTIONS_INIT;
    NEED(lsm_options_parse(&options, SPECIMEN_OPTIONS ",create=true", err));
    options.cf = (lsm_cf_options){.struct_size = sizeof options.cf,
                                  .compression = m->shape.compression,
                                  .block_size = m->shape.block_size,
                                  .filter_bits = m->shape.filter_bits,
                                  .level_base_size = m->shape.level_base_size,
                                  .level_ratio = 2,
                                  .level0_trigger = 3,
                                  .blob_threshold = m->shape.blob_threshold};
    char parent[200];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash != NULL)
        *slash = '\0';
    else
        snprintf(parent, sizeof parent, ".");
    options.shm_dir = parent;
    NEED(lsm_open(path, &options, &m->db, err));
    for (size_t i = 1; i < SPECIMEN_FAMILIES; i++) {
        lsm_error error = {0};
        if (names[i] != NULL && lsm_cf_open(m->db, names[i], &m->families[i], &error) != LSM_OK)
            m->families[i] = NULL;
    }
}

/* The first life: what is in tables, and the log of a family that has none. */
static void live_first(struct maker *m)
{
    lsm_cf_options words = {.struct_size = sizeof words,
                            .compression = LSM_COMPRESSION_ZSTD,
                            .block_size = 2 * m->shape.block_size,
                            .dictionary_size = m->shape.dictionary_size,
                            .blob_threshold = m->shape.blob_threshold};
    make_family(m, SPECIMEN_WORDS, "words", &words);
    make_family(m, SPECIMEN_GONE, "gone", NULL);
    make_family(m, SPECIMEN_LATE, "late", NULL);
    write_keys(m, SPECIMEN_GONE, 0, 20, 1, 0);
    write_keys(m, SPECIMEN_DEFAULT, 0, 240, 1, 0);
    write_keys(m, SPECIMEN_WORDS, 0, 150, 1, 0);
    flush(m);
    compact(m, SPECIMEN_DEFAULT);
    compact(m, SPECIMEN_WORDS);
    write_keys(m, SPECIMEN_DEFAULT, 0, 120, 3, 4);
    flush(m);
    write_keys(m, SPECIMEN_DEFAULT, 100, 200, 7, 5);
    flush(m);
    model_family_drop(m->model, SPECIMEN_GONE);
    if (m->db != NULL)
        NEED(lsm_cf_drop(m->db, m->families[SPECIMEN_GONE], err));
}

/* The second: a reader keeps replaced tables on the disk, and what comes last is in the log. */
static void live_again(struct maker *m)
{
    lsm_iter *reader;
    if (m->db != NULL)
        NEED(lsm_iter_open(m->db, NULL, NULL, &reader, err));
    write_keys(m, SPECIMEN_DEFAULT, 60, 180, 5, 3);
    write_keys(m, SPECIMEN_WORDS, 0, 150, 1, 3);
    write_keys(m, SPECIMEN_WORDS, 0, 150, 1, 2);
    write_keys(m, SPECIMEN_WORDS, 0, 150, 10, 3);
    flush(m);
    if (m->db != NULL)
        NEED(lsm_wait_idle(m->db, err));
    write_keys(m, SPECIMEN_DEFAULT, 30, 90, 2, 6);
    flush(m);
    write_keys(m, SPECIMEN_LATE, 0, 20, 1, 6);
    for (unsigned i = 0; i < 25; i++) /* more than one segment of the log */
        put(m, SPECIMEN_LATE, 10 + i, random_size(m, VALUE_SIZE_MAX / 2, VALUE_SIZE_MAX));
    write_keys(m, SPECIMEN_DEFAULT, 200, 260, 4, 4);
}

/* Those that end with a close: tables above what was there. */
static void live_shortly(struct maker *m, unsigned life)
{
    write_keys(m, SPECIMEN_DEFAULT, 20 * life, 20 * life + 60, 2, 5);
    write_keys(m, SPECIMEN_LATE, 5 * life, 5 * life + 20, 1, 4);
    if (m->db != NULL)
        NEED(lsm_close(m->db, err));
}

static void live(struct maker *m, const char *path, unsigned life)
{
    m->random = random_seeded(m->random.state + life);
    if (path != NULL)
        open_again(m, path);
    if (life >= LIVES_KILLED)
        live_shortly(m, life);
    else
        (life == 0 ? live_first : live_again)(m);
}

static struct maker make_maker(struct specimen *s, uint64_t seed, unsigned life)
{
    return (struct maker){.model = &s->model,
                          .random = random_seeded(seed),
                          .shape = make_shape(seed),
                          .value_count = (uint64_t)life << 32};
}

static bool ended_as_wanted(int status, unsigned life)
{
    return life < LIVES_KILLED ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                               : WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A process that does it, and is killed or closes the database. */
static void live_and_die(struct specimen *s, const char *path, uint64_t seed, unsigned life)
{
    pid_t child = fork();
    if (child == 0) {
        struct maker m = make_maker(s, seed, life);
        live(&m, path, life);
        if (life < LIVES_KILLED)
            kill(getpid(), SIGKILL);
        _exit(life < LIVES_KILLED ? 99 : 0);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child < 0 || !ended_as_wanted(status, life)) {
        fprintf(stderr, "the specimen was not made\n");
        exit(99);
    }
    struct maker m = make_maker(s, seed, life);
    live(&m, NULL, life);
}

static void make(struct specimen *s, const char *path, uint64_t seed, unsigned lives)
{
    *s = (struct specimen){0};
    model_init(&s->model);
    for (unsigned life = 0; life < lives; life++) {
        if (life + 1 == lives)
            folder_load(&s->earlier, path);
        live_and_die(s, path, seed, life);
    }
    folder_load(&s->files, path);
}

void specimen_make(struct specimen *s, const char *path, uint64_t seed)
{
    make(s, path, seed, LIVES_KILLED);
}

void specimen_make_closed(struct specimen *s, const char *path, uint64_t seed)
{
    make(s, path, seed, LIVES_ALL);
}

void specimen_release(struct specimen *s)
{
    model_release(&s->model);
    folder_release(&s->files);
    folder_release(&s->earlier);
}
