/*
 * Arbitrary text as the input of lsm-load, in each way into a database. The first byte chooses the
 * way and the options, the rest is the text, whose format is told from its beginning.
 *
 * Whatever comes: a load that succeeds has stored or reported every pair that the reader gave; one
 * that fails names the line, and what it says it stored is there, and nothing else. With --atomic
 * that is nothing.
 */
#include "tests/lib/scratch.h"
#include "tools/cli/memory.h"
#include "tools/load/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUTS_PER_DATABASE 300      /* then a new one is made: it holds traces of all of them */
#define TARGET              "fuzzed" /* in place of the family that cannot be dropped */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum input_flags {
    INPUT_WAY = 3, /* enum load_way */
    INPUT_TEXT = 4,
    INPUT_KEEPS = 8,
    INPUT_CRLF = 16,
};

struct pair {
    char *name;
    struct text key, value;
};

static char scratch[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];
static lsm_db *db;
static unsigned inputs;
static struct pair *pairs; /* of the input, in its order */
static size_t pair_count;

static void require(bool claim, const char *what)
{
    if (claim)
        return;
    fprintf(stderr, "load_fuzz: %s\n", what);
    abort();
}

#define must(call) require((call) == LSM_OK, #call)

static void end(void)
{
    if (db != NULL)
        must(lsm_close(db, NULL));
    db = NULL;
    scratch_remove(scratch);
}

static void begin(void)
{
    if (inputs == 0)
        atexit(end);
    else if (inputs % INPUTS_PER_DATABASE == 0)
        end();
    if (inputs++ % INPUTS_PER_DATABASE != 0)
        return;
    lsm_options options = LSM_OPTIONS_INIT;
    scratch_make(scratch);
    snprintf(path, sizeof path, "%s/db", scratch);
    must(lsm_options_parse(&options, "create=true,exclusive=true,workers=none,memtable_size=1MiB",
                           NULL));
    must(lsm_open(path, &options, &db, NULL));
}

/* ---- what the input holds -------------------------------------------------------------------- */

static void forget_pairs(void)
{
    for (size_t i = 0; i < pair_count; i++) {
        memory_free(pairs[i].name);
        text_release(&pairs[i].key);
        text_release(&pairs[i].value);
    }
    memory_free(pairs);
    pairs = NULL;
    pair_count = 0;
}

static void keep_pair(struct dump_reader *r)
{
    const char *name = r->section.has_name ? text_string(&r->section.name) : LOAD_DEFAULT_NAME;
    pairs = memory_resize(pairs, (pair_count + 1) * sizeof *pairs);
    struct pair *p = &pairs[pair_count++];
    *p = (struct pair){.name =
                           memory_copy_text(strcmp(name, LOAD_DEFAULT_NAME) == 0 ? TARGET : name)};
    text_append(&p->key, r->key.bytes, r->key.size);
    text_append(&p->value, r->value.bytes, r->value.size);
}

static void read_pairs(lsm_slice input, enum dump_syntax syntax, bool strips_cr)
{
    struct lines lines;
    struct dump_reader reader;
    enum dump_event event;
    lines_open_memory(&lines, input);
    lines.strip_cr = strips_cr;
    dump_reader_init(&reader, &lines, syntax);
    while ((event = dump_reader_next(&reader)) != DUMP_END && event != DUMP_ERROR) {
        if (event == DUMP_PAIR)
            keep_pair(&reader);
    }
    dump_reader_release(&reader);
    lines_close(&lines);
}

static bool same(struct text *a, lsm_slice b)
{
    return a->size == b.size && (b.size == 0 || memcmp(a->bytes, b.data, b.size) == 0);
}

/* The pair of the family's first `count` that says what the key's value is. */
static struct pair *find_pair(const char *name, lsm_slice key, size_t count, bool first)
{
    struct pair *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(pairs[i].name, name) == 0 && same(&pairs[i].key, key) &&
            (found == NULL || !first))
            found = &pairs[i];
    }
    return found;
}

static size_t count_keys(const char *name, size_t count)
{
    size_t keys = 0;
    for (size_t i = 0; i < count; i++)
        keys += strcmp(pairs[i].name, name) == 0 &&
                find_pair(name, text_slice(&pairs[i].key), count, true) == &pairs[i];
    return keys;
}

/* ---- what the database holds ----------------------------------------------------------------- */

/* A family holds what the first `count` pairs say; or, when `is_part`, nothing else. */
static void check_family(const char *name, lsm_cf *cf, size_t count, bool keeps, bool is_part)
{
    lsm_iter *it = NULL;
    size_t keys = 0;
    must(lsm_iter_open(db, cf, NULL, &it, NULL));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it), keys++) {
        struct pair *p = find_pair(name, lsm_iter_key(it), count, keeps);
        require(p != NULL, "a key is there that was not loaded");
        require(same(&p->value, lsm_iter_value(it)), "a key has another value");
    }
    must(lsm_iter_status(it, NULL));
    lsm_iter_close(it);
    require(is_part || keys == count_keys(name, count), "pairs are missing");
}

/* All families go again. */
static void check_and_drop(size_t count, bool keeps, bool is_part)
{
    char **names = NULL;
    size_t name_count = 0, found = 0;
    must(lsm_cf_list(db, &names, &name_count, NULL));
    for (size_t i = 0; i < name_count; i++) {
        lsm_cf *cf = NULL;
        must(lsm_cf_open(db, names[i], &cf, NULL));
        check_family(names[i], cf, count, keeps, is_part);
        found += count_keys(names[i], count);
        if (strcmp(names[i], LOAD_DEFAULT_NAME) != 0)
            must(lsm_cf_drop(db, cf, NULL));
    }
    lsm_free(names);
    size_t wanted = 0;
    for (size_t i = 0; i < count; i++)
        wanted += find_pair(pairs[i].name, text_slice(&pairs[i].key), count, true) == &pairs[i];
    require(is_part || found == wanted, "a family is missing");
}

/* ---- loading --------------------------------------------------------------------------------- */

static int load(struct loader *l, struct rename *rename, uint8_t flags, lsm_slice input)
{
    FILE *before = stderr, *nowhere = fopen("/dev/null", "w");
    require(nowhere != NULL, "/dev/null");
    stderr = nowhere;
    cli_init(&l->cli, "lsm-load", "");
    l->cli.quiet = true;
    l->creates = true;
    l->is_text = (flags & INPUT_TEXT) != 0;
    l->keeps = (flags & INPUT_KEEPS) != 0;
    l->way = (enum load_way)(flags & INPUT_WAY);
    l->batch_given = true;
    l->batch_pairs = 3;
    l->batch_bytes = (size_t)1 << 20;
    l->sort_memory = (size_t)1 << 20;
    l->renames = rename;
    l->rename_count = 1;
    l->db = db;
    if (l->way == LOAD_BATCHES)
        must(lsm_batch_new(&l->batch, NULL));
    lines_open_memory(&l->lines, input);
    l->lines.strip_cr = (flags & INPUT_CRLF) != 0;
    dump_reader_init(&l->reader, &l->lines, l->is_text ? DUMP_PAIRS : DUMP_SNIFF);
    int code = load_input(l);
    lsm_ingest_free(l->ingest);
    lsm_batch_free(l->batch);
    stderr = before;
    fclose(nowhere);
    return code;
}

static void release(struct loader *l)
{
    for (size_t i = 0; i < l->family_count; i++)
        memory_free(l->families[i].name);
    memory_free(l->families);
    key_set_release(&l->pending);
    text_release(&l->previous);
    dump_reader_release(&l->reader);
    lines_close(&l->lines);
    cli_release(&l->cli);
}

static void check(struct loader *l, int code)
{
    size_t stored = pair_count;
    if (code == EXIT_DONE && l->way == LOAD_DRY) {
        require(l->batched_pairs == pair_count || l->keeps, "pairs were not counted");
        stored = 0;
    } else if (code == EXIT_DONE) {
        require(l->pair_count + l->kept_count + l->ignored_count == pair_count,
                "pairs were neither stored nor reported");
    } else {
        require(strstr(text_string(&l->cli.error), "line ") != NULL, "an error without its line");
        stored = l->way == LOAD_ATOMIC || l->way == LOAD_DRY ? 0
                 : l->keeps                                  ? pair_count
                                                             : (size_t)l->pair_count;
        require(stored <= pair_count, "more was stored than read");
    }
    check_and_drop(stored, l->keeps, code != EXIT_DONE && l->keeps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rename rename = {.from = (char[]){LOAD_DEFAULT_NAME}, .to = TARGET};
    struct loader l = {0};
    if (size == 0)
        return 0;
    lsm_slice input = LSM_SLICE(data + 1, size - 1);
    begin();
    read_pairs(input, (data[0] & INPUT_TEXT) != 0 ? DUMP_PAIRS : DUMP_SNIFF,
               (data[0] & INPUT_CRLF) != 0);
    int code = load(&l, &rename, data[0], input);
    check(&l, code);
    release(&l);
    forget_pairs();
    return 0;
}
