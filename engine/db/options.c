/*
 * Options: one table says of each its name, where it is, how it is written and its range. Parsing
 * text, resolving defaults and checking ranges all read it.
 */
#include "engine/db/db_private.h"

#include "engine/base/parse.h"

#include <ctype.h>
#include <stdio.h>

enum option_kind {
    OPTION_BOOL,
    OPTION_COUNT,  /* uint32_t */
    OPTION_SIZE32, /* uint32_t, written as a size */
    OPTION_SIZE,   /* uint64_t, written as a size */
    OPTION_MODE,   /* uint32_t, octal */
    OPTION_WORD,   /* const char *, one of a list */
    OPTION_PATH,   /* const char *, borrowed from the text's owner: see parse_path() */
    OPTION_COMPRESSION,
    OPTION_ABOVE, /* int32_t, a zstd level or 0 */
    OPTION_STYLE,
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
    uint64_t minimum, maximum; /* of what is given; 0 always means the default */
    uint64_t standard;         /* the default of database options; family options: see version */
    uint64_t none;             /* a value outside the range that is allowed, too ("none") */
    const char *const *words;
};

#define AT(member) offsetof(lsm_options, member)

static const char *const io_words[] = {"auto", "uring", "posix", NULL};
static const char *const memtable_words[] = {"btree", "skiplist", NULL};
static const char *const direct_io_words[] = {"auto", "true", "false", NULL};

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

static const struct option options_table[] = {
    {"create", OPTION_BOOL, AT(create), 0, 1, 0, 0, NULL},
    {"error_if_exists", OPTION_BOOL, AT(error_if_exists), 0, 1, 0, 0, NULL},
    {"read_only", OPTION_BOOL, AT(read_only), 0, 1, 0, 0, NULL},
    {"exclusive", OPTION_BOOL, AT(exclusive), 0, 1, 0, 0, NULL},
    {"io", OPTION_WORD, AT(io), 0, 0, 0, 0, io_words},
    {"shm_dir", OPTION_PATH, AT(shm_dir), 0, 0, 0, 0, NULL},
    {"mode", OPTION_MODE, AT(mode), 0400, 0777, 0600, 0, NULL},
    {"memory", OPTION_SIZE, AT(memory), MIB(16), UINT64_MAX / 2, 0, 0, NULL},
    {"memtable_size", OPTION_SIZE, AT(memtable_size), MEMTABLE_MIN_ARENA, MEMTABLE_MAX_ARENA,
     MIB(64), 0, NULL},
    {"memtable_count", OPTION_COUNT, AT(memtable_count), 2, DB_MAX_WAITING, 3, 0, NULL},
    {"memtable", OPTION_WORD, AT(memtable), 0, 0, 0, 0, memtable_words},
    {"cache_size", OPTION_SIZE, AT(cache_size), 0, UINT64_MAX / 2, MIB(256), LSM_NO_CACHE, NULL},
    {"direct_io", OPTION_WORD, AT(direct_io), 0, 0, 0, 0, direct_io_words},
    {"shared_cache", OPTION_BOOL, AT(shared_cache), 0, 1, 0, 0, NULL},
    {"stage_size", OPTION_SIZE, AT(stage_size), KIB(16), GIB(4), MIB(16), 0, NULL},
    {"wal_segment_size", OPTION_SIZE, AT(wal_segment_size), KIB(16), GIB(64), MIB(64), 0, NULL},
    {"workers", OPTION_COUNT, AT(workers), 1, 32, 2, LSM_NO_WORKERS, NULL},
    {"max_compactions", OPTION_COUNT, AT(max_compactions), 1, DB_MAX_COMPACTIONS, 0, 0, NULL},
    {"max_merge_threads", OPTION_COUNT, AT(max_merge_threads), 1, DB_MAX_COMPACTIONS, 0, 0, NULL},
    {"no_read_merges", OPTION_BOOL, AT(no_read_merges), 0, 1, 0, 0, NULL},
    {"open_timeout_ms", OPTION_COUNT, AT(open_timeout_ms), 1, UINT32_MAX, 0, 0, NULL},
    {"max_open_tables", OPTION_COUNT, AT(max_open_tables), 8, UINT32_MAX, 1000, 0, NULL},
    {"background_rate", OPTION_SIZE, AT(background_rate), KIB(64), UINT64_MAX, 0, 0, NULL},
    {"compression", OPTION_COMPRESSION, AT(cf), 0, 0, 0, 0, NULL},
    {"dictionary_size", OPTION_SIZE32, AT(cf.dictionary_size), 0, 0, 0, 0, NULL},
    {"block_size", OPTION_SIZE32, AT(cf.block_size), 0, 0, 0, 0, NULL},
    {"filter_bits", OPTION_COUNT, AT(cf.filter_bits), 0, 0, 0, LSM_NO_FILTER, NULL},
    {"table_size", OPTION_SIZE, AT(cf.table_size), 0, 0, 0, 0, NULL},
    {"level_base_size", OPTION_SIZE, AT(cf.level_base_size), 0, 0, 0, 0, NULL},
    {"level_ratio", OPTION_COUNT, AT(cf.level_ratio), 0, 0, 0, 0, NULL},
    {"level0_trigger", OPTION_COUNT, AT(cf.level0_trigger), 0, 0, 0, 0, NULL},
    {"level0_slowdown", OPTION_COUNT, AT(cf.level0_slowdown), 0, 0, 0, 0, NULL},
    {"level0_stop", OPTION_COUNT, AT(cf.level0_stop), 0, 0, 0, 0, NULL},
    {"compression_above", OPTION_ABOVE, AT(cf), 0, 0, 0, 0, NULL},
    {"blob_threshold", OPTION_SIZE32, AT(cf.blob_threshold), 0, 0, 0, 0, NULL},
    {"compaction", OPTION_STYLE, AT(cf), 0, 0, 0, 0, NULL},
    {"ttl", OPTION_COUNT, AT(cf.ttl), 0, 0, 0, 0, NULL},
    {"fifo_size", OPTION_SIZE, AT(cf.fifo_size), 0, 0, 0, 0, NULL},
    {"size_ratio", OPTION_COUNT, AT(cf.size_ratio), 0, 0, 0, 0, NULL},
    {"min_merge_width", OPTION_COUNT, AT(cf.min_merge_width), 0, 0, 0, 0, NULL},
    {"max_size_amplification", OPTION_COUNT, AT(cf.max_size_amplification), 0, 0, 0, 0, NULL},
};
#define OPTION_COUNT_ALL (sizeof options_table / sizeof *options_table)

static bool option_is_32(const struct option *o)
{
    return o->kind == OPTION_COUNT || o->kind == OPTION_SIZE32 || o->kind == OPTION_MODE;
}

/* Of others there is nothing to check, or version_resolve_cf_options() does. */
static bool option_is_checked(const struct option *o)
{
    return option_is_32(o) || o->kind == OPTION_SIZE || o->kind == OPTION_WORD;
}

static uint64_t option_get(const lsm_options *options, const struct option *o)
{
    const char *at = (const char *)options + o->offset;
    uint32_t narrow;
    uint64_t wide;
    if (option_is_32(o)) {
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, at, sizeof wide);
    return wide;
}

static void option_set(lsm_options *options, const struct option *o, uint64_t value)
{
    char *at = (char *)options + o->offset;
    uint32_t narrow = (uint32_t)value;
    if (option_is_32(o))
        memcpy(at, &narrow, sizeof narrow);
    else
        memcpy(at, &value, sizeof value);
}

static uint64_t option_none(const struct option *o)
{
    return option_is_32(o) ? (uint32_t)o->none : o->none;
}

static bool in_range(const struct option *o, uint64_t value)
{
    if (value == 0 || (o->none != 0 && value == option_none(o)))
        return true;
    return o->maximum == 0 || (value >= o->minimum && value <= o->maximum);
}

static lsm_status out_of_range(const struct option *o, uint64_t value, lsm_error *err)
{
    lsm_status status = lsm_fail(
        err, LSM_INVALID, "option '%s' is %" PRIu64 ", it must be from %" PRIu64 " to %" PRIu64,
        o->name, value, o->minimum, o->maximum);
    status_numbers(err, value < o->minimum ? o->minimum : o->maximum, value);
    return status;
}

/* ---- resolving ------------------------------------------------------------------------------- */

static const char *find_word(const char *const *words, const char *text)
{
    for (; *words != NULL; words++) {
        if (strcmp(*words, text) == 0)
            return *words;
    }
    return NULL;
}

static lsm_status resolve_word(lsm_options *options, const struct option *o, lsm_error *err)
{
    const char *word;
    char *at = (char *)options + o->offset;
    memcpy(&word, at, sizeof word);
    if (word == NULL)
        word = o->words[0];
    else if (find_word(o->words, word) == NULL)
        return lsm_fail(err, LSM_INVALID, "option '%s' is '%s', it must be '%s'%s%s%s or '%s'",
                        o->name, word, o->words[0], o->words[2] != NULL ? ", '" : "",
                        o->words[2] != NULL ? o->words[1] : "", o->words[2] != NULL ? "'" : "",
                        o->words[2] != NULL ? o->words[2] : o->words[1]);
    memcpy(at, &word, sizeof word);
    return LSM_OK;
}

static uint64_t whole_pages(uint64_t size)
{
    return (size + IO_ALIGNMENT - 1) / IO_ALIGNMENT * IO_ALIGNMENT;
}

/* Sizes out of the one number for all, where it is given; ranges are checked behind it. */
static lsm_status memory_resolve(lsm_options *resolved, lsm_error *err)
{
    uint32_t count = 0, workers = 0;
    if (resolved->memory == 0)
        return LSM_OK;
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        const struct option *o = &options_table[i];
        if (!option_is_checked(o) || o->kind == OPTION_WORD)
            continue;
        if (!in_range(o, option_get(resolved, o)))
            return out_of_range(o, option_get(resolved, o), err);
        uint32_t value =
            (uint32_t)(option_get(resolved, o) != 0 ? option_get(resolved, o) : o->standard);
        count = o->offset == AT(memtable_count) ? value : count;
        workers = o->offset == AT(workers) ? value : workers;
    }
    return db_memory_share(resolved, count, workers, err);
}

lsm_status db_options_resolve(const lsm_options *given, lsm_options *resolved, lsm_error *err)
{
    static const lsm_options defaults = LSM_OPTIONS_INIT;
    if (given != NULL && given->struct_size != sizeof *given)
        return lsm_fail(err, LSM_INVALID,
                        "lsm_options.struct_size is %zu, expected %zu; begin with LSM_OPTIONS_INIT",
                        given->struct_size, sizeof *given);
    *resolved = given == NULL ? defaults : *given;
    lsm_status shared = memory_resolve(resolved, err);
    if (shared != LSM_OK)
        return shared;
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        const struct option *o = &options_table[i];
        if (!option_is_checked(o))
            continue;
        if (o->kind == OPTION_WORD) {
            lsm_status status = resolve_word(resolved, o, err);
            if (status != LSM_OK)
                return status;
            continue;
        }
        uint64_t value = option_get(resolved, o);
        if (!in_range(o, value))
            return out_of_range(o, value, err);
        if (value == 0 && o->standard != 0)
            option_set(resolved, o, o->standard);
    }
    resolved->stage_size = whole_pages(resolved->stage_size);
    resolved->wal_segment_size = whole_pages(resolved->wal_segment_size);
    if (resolved->wal_segment_size < resolved->stage_size)
        resolved->wal_segment_size = resolved->stage_size;
    lsm_cf_options cf;
    return version_resolve_cf_options(&resolved->cf, &cf, err);
}

/* ---- parsing --------------------------------------------------------------------------------- */

#define OPTION_TEXT_MAX 256

static lsm_status bad_value(const struct option *o, const char *value, lsm_error *err)
{
    return lsm_fail(err, LSM_INVALID, "option '%s' cannot be '%s'", o->name, value);
}

/* "zstd", "zstd:3", "none" */
static bool parse_zstd(const char *text, lsm_compression *compression, int64_t *level)
{
    *level = 0;
    if (strcmp(text, "none") == 0) {
        *compression = LSM_COMPRESSION_NONE;
        return true;
    }
    if (strncmp(text, "zstd", 4) != 0)
        return false;
    if (text[4] == ':') {
        if (!parse_i64(text + 5, level) || *level < LSM_LEAST_COMPRESSION ||
            *level > LSM_MOST_COMPRESSION)
            return false;
    } else if (text[4] != '\0') {
        return false;
    }
    *compression = LSM_COMPRESSION_ZSTD;
    return true;
}

static bool parse_compression(lsm_cf_options *cf, const char *text)
{
    int64_t level;
    if (!parse_zstd(text, &cf->compression, &level))
        return false;
    cf->compression_level = (int32_t)level;
    return true;
}

static bool parse_compression_above(lsm_cf_options *cf, const char *text)
{
    lsm_compression compression = LSM_COMPRESSION_NONE;
    int64_t level;
    if (!parse_zstd(text, &compression, &level))
        return false;
    if (compression == LSM_COMPRESSION_ZSTD && level == 0)
        level = 1; /* as zstd alone means everywhere */
    cf->compression_above = (int32_t)level;
    return true;
}

static bool parse_style(lsm_cf_options *cf, const char *text)
{
    for (int i = LSM_COMPACTION_LEVELED; i <= LSM_COMPACTION_FIFO; i++) {
        if (strcmp(version_style_name((lsm_compaction)i), text) != 0)
            continue;
        cf->compaction = (lsm_compaction)i;
        return true;
    }
    return false;
}

static bool parse_mode(const char *text, uint64_t *mode)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '7' && v < 07777; text++)
        v = v * 8 + (uint64_t)(*text - '0');
    *mode = v;
    return *text == '\0';
}

static lsm_status parse_number(lsm_options *options, const struct option *o, const char *text,
                               lsm_error *err)
{
    uint64_t value;
    bool parsed;
    if (o->none != 0 && strcmp(text, "none") == 0) {
        option_set(options, o, o->none);
        return LSM_OK;
    }
    if (o->kind == OPTION_MODE)
        parsed = parse_mode(text, &value);
    else if (o->kind == OPTION_COUNT)
        parsed = parse_u64(text, &value);
    else
        parsed = parse_size(text, &value);
    if (!parsed || (option_is_32(o) && value > UINT32_MAX))
        return bad_value(o, text, err);
    if (!in_range(o, value))
        return out_of_range(o, value, err);
    option_set(options, o, value);
    return LSM_OK;
}

/* `rest` is the value where it stands in the caller's text: only a path at its end may be borrowed,
 * because only that one is NUL-terminated. */
static lsm_status parse_value(lsm_options *options, const struct option *o, const char *value,
                              const char *rest, lsm_error *err)
{
    char *at = (char *)options + o->offset;
    const char *word;
    bool flag;
    switch (o->kind) {
    case OPTION_BOOL:
        if (!parse_bool(value, &flag))
            return bad_value(o, value, err);
        memcpy(at, &flag, sizeof flag);
        return LSM_OK;
    case OPTION_WORD:
        word = find_word(o->words, value);
        if (word == NULL)
            return bad_value(o, value, err);
        memcpy(at, &word, sizeof word);
        return LSM_OK;
    case OPTION_PATH:
        if (strcmp(value, rest) != 0)
            return lsm_fail(err, LSM_INVALID, "option '%s' must be the last one in the text",
                            o->name);
        memcpy(at, &rest, sizeof rest);
        return LSM_OK;
    case OPTION_COMPRESSION:
        return parse_compression(&options->cf, value) ? LSM_OK : bad_value(o, value, err);
    case OPTION_ABOVE:
        return parse_compression_above(&options->cf, value) ? LSM_OK : bad_value(o, value, err);
    case OPTION_STYLE:
        return parse_style(&options->cf, value) ? LSM_OK : bad_value(o, value, err);
    case OPTION_COUNT:
    case OPTION_SIZE32:
    case OPTION_SIZE:
    case OPTION_MODE:
        return parse_number(options, o, value, err);
    }
    return LSM_INVALID;
}

static const struct option *find_option(const char *name, size_t size)
{
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        if (strlen(options_table[i].name) == size && memcmp(options_table[i].name, name, size) == 0)
            return &options_table[i];
    }
    return NULL;
}

static lsm_status parse_one(lsm_options *options, const char *text, size_t size, lsm_error *err)
{
    char value[OPTION_TEXT_MAX];
    const char *equals = memchr(text, '=', size);
    if (equals == NULL)
        return lsm_fail(err, LSM_INVALID, "option '%.*s' has no '=' and value", (int)size, text);
    size_t name_size = (size_t)(equals - text), value_size = size - name_size - 1;
    const struct option *o = find_option(text, name_size);
    if (o == NULL)
        return lsm_fail(err, LSM_INVALID, "there is no option '%.*s'", (int)name_size, text);
    if (value_size >= sizeof value)
        return lsm_fail(err, LSM_INVALID, "the value of option '%s' is longer than %d bytes",
                        o->name, OPTION_TEXT_MAX - 1);
    memcpy(value, equals + 1, value_size);
    value[value_size] = '\0';
    return parse_value(options, o, value, equals + 1, err);
}

LSM_API lsm_status lsm_options_parse(lsm_options *options, const char *text, lsm_error *err)
{
    if (options == NULL || text == NULL)
        return lsm_fail(err, LSM_INVALID, "the options or their text is NULL");
    while (*text != '\0') {
        while (*text == ',' || isspace((unsigned char)*text))
            text++;
        size_t size = strcspn(text, ", \t\n");
        if (size == 0)
            break;
        lsm_status status = parse_one(options, text, size, err);
        if (status != LSM_OK)
            return status;
        text += size;
    }
    return LSM_OK;
}
