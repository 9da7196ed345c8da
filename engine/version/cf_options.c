/* Defaults and ranges of a column family's options: one table, one row an option. */
#include "engine/version/version.h"

#include <stddef.h>

struct rule {
    const char *name;
    size_t offset;
    size_t size; /* of the member: 4 or 8 */
    uint64_t fallback;
    uint64_t least, most;
};

#define RULE(member, fallback, least, most)                                                        \
    {                                                                                              \
#member, offsetof(lsm_cf_options, member), sizeof(((lsm_cf_options *)0)->member),          \
            (fallback), (least), (most)                                                            \
    }

static const struct rule rules[] = {
    RULE(dictionary_size, 0, 0, UINT64_C(1) << 20),
    RULE(block_size, UINT64_C(8) << 10, 512, UINT64_C(1) << 20),
    RULE(filter_bits, 12, 1, 64),
    RULE(table_size, UINT64_C(32) << 20, UINT64_C(4) << 10, UINT64_C(16) << 30),
    RULE(level_base_size, UINT64_C(256) << 20, UINT64_C(4) << 10, UINT64_C(1) << 50),
    RULE(level_ratio, 8, 2, 100),
    RULE(level0_trigger, 4, 1, 1000000),
    RULE(level0_slowdown, 12, 1, 1000000),
    RULE(level0_stop, 20, 1, 1000000),
    RULE(ttl, 0, 1, UINT32_MAX),
    RULE(blob_threshold, 0, 64, LSM_MAX_VALUE_SIZE),
};

/* The same for what only one style knows. */
static const struct rule tiered_rules[] = {
    RULE(size_ratio, 1, 1, 10000),
    RULE(min_merge_width, 2, 2, 1000),
    RULE(max_size_amplification, 200, 1, 1000000),
};
static const struct rule fifo_rules[] = {
    RULE(fifo_size, 0, UINT64_C(4) << 10, UINT64_C(1) << 60),
};
#define RULE_COUNT(list) (sizeof(list) / sizeof *(list))

#define MIN_COMPRESSION_LEVEL (-131072) /* as zstd has them */
#define MAX_COMPRESSION_LEVEL 22

static uint64_t load(const lsm_cf_options *options, const struct rule *rule)
{
    const char *at = (const char *)options + rule->offset;
    uint32_t narrow;
    uint64_t wide;
    if (rule->size == sizeof narrow) {
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, at, sizeof wide);
    return wide;
}

static void store(lsm_cf_options *options, const struct rule *rule, uint64_t value)
{
    char *at = (char *)options + rule->offset;
    uint32_t narrow = (uint32_t)value;
    if (rule->size == sizeof narrow)
        memcpy(at, &narrow, sizeof narrow);
    else
        memcpy(at, &value, sizeof value);
}

static lsm_status resolve_number(lsm_cf_options *options, const struct rule *rule, lsm_error *err)
{
    uint64_t value = load(options, rule);
    bool no_filter =
        rule->offset == offsetof(lsm_cf_options, filter_bits) && value == LSM_NO_FILTER;
    if (value == 0) {
        store(options, rule, rule->fallback);
    } else if (!no_filter && (value < rule->least || value > rule->most)) {
        lsm_status status =
            lsm_fail(err, LSM_INVALID, "the option %s is %" PRIu64 ", not %" PRIu64 " to %" PRIu64,
                     rule->name, value, rule->least, rule->most);
        status_numbers(err, value < rule->least ? rule->least : rule->most, value);
        return status;
    }
    return LSM_OK;
}

static lsm_status check_zstd_level(const char *name, int32_t level, lsm_error *err)
{
    if (level >= MIN_COMPRESSION_LEVEL && level <= MAX_COMPRESSION_LEVEL)
        return LSM_OK;
    return lsm_fail(err, LSM_INVALID, "the option %s is %d, not %d to %d", name, (int)level,
                    MIN_COMPRESSION_LEVEL, MAX_COMPRESSION_LEVEL);
}

static lsm_status resolve_compression(lsm_cf_options *options, lsm_error *err)
{
    if (options->compression == LSM_COMPRESSION_DEFAULT)
        options->compression = LSM_COMPRESSION_ZSTD;
    if (options->compression != LSM_COMPRESSION_NONE &&
        options->compression != LSM_COMPRESSION_ZSTD)
        return lsm_fail(err, LSM_INVALID, "the option compression is %d, which is none that exists",
                        (int)options->compression);
    if (options->compression_level == 0)
        options->compression_level = 1;
    lsm_status status = check_zstd_level("compression_level", options->compression_level, err);
    if (status == LSM_OK)
        status = check_zstd_level("compression_above", options->compression_above, err);
    if (status == LSM_OK && options->compression_above != 0 &&
        options->compression != LSM_COMPRESSION_ZSTD)
        return lsm_fail(err, LSM_INVALID,
                        "the option compression_above needs the option compression=zstd");
    return status;
}

/* The options of a style, where the family has it; where it has another one they must be 0. */
static lsm_status resolve_own(lsm_cf_options *options, lsm_compaction style, const char *style_name,
                              const struct rule *rule, size_t count, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (; status == LSM_OK && count > 0; rule++, count--) {
        if (options->compaction == style)
            status = resolve_number(options, rule, err);
        else if (load(options, rule) != 0)
            status = lsm_fail(err, LSM_INVALID, "the option %s needs the option compaction=%s",
                              rule->name, style_name);
    }
    return status;
}

static lsm_status resolve_style(lsm_cf_options *options, lsm_error *err)
{
    if (options->compaction == LSM_COMPACTION_DEFAULT)
        options->compaction = LSM_COMPACTION_LEVELED;
    if ((int)options->compaction < 0 || options->compaction > LSM_COMPACTION_FIFO)
        return lsm_fail(err, LSM_INVALID, "the option compaction is %d, which is none that exists",
                        (int)options->compaction);
    lsm_status status = resolve_own(options, LSM_COMPACTION_TIERED, "tiered", tiered_rules,
                                    RULE_COUNT(tiered_rules), err);
    if (status == LSM_OK)
        status = resolve_own(options, LSM_COMPACTION_FIFO, "fifo", fifo_rules,
                             RULE_COUNT(fifo_rules), err);
    if (status == LSM_OK && options->compaction == LSM_COMPACTION_FIFO && options->ttl == 0 &&
        options->fifo_size == 0)
        return lsm_fail(
            err, LSM_INVALID,
            "the option compaction=fifo needs fifo_size or ttl, to say what is deleted");
    /* It never merges: there is nothing to be saved. */
    if (status == LSM_OK && options->compaction == LSM_COMPACTION_FIFO &&
        options->blob_threshold != 0)
        return lsm_fail(err, LSM_INVALID,
                        "the option blob_threshold does not go with the option compaction=fifo");
    return status;
}

/* Triggers that were left 0 give way to those that were set. */
static lsm_status resolve_triggers(const lsm_cf_options *given, lsm_cf_options *options,
                                   lsm_error *err)
{
    if (given->level0_slowdown == 0 && options->level0_slowdown < options->level0_trigger)
        options->level0_slowdown = options->level0_trigger;
    if (given->level0_slowdown == 0 && given->level0_stop != 0 &&
        options->level0_slowdown > options->level0_stop)
        options->level0_slowdown = options->level0_stop;
    if (given->level0_trigger == 0 && options->level0_trigger > options->level0_slowdown)
        options->level0_trigger = options->level0_slowdown;
    if (given->level0_stop == 0 && options->level0_stop < options->level0_slowdown)
        options->level0_stop = options->level0_slowdown;
    if (options->level0_slowdown < options->level0_trigger ||
        options->level0_stop < options->level0_slowdown)
        return lsm_fail(err, LSM_INVALID,
                        "the options level0_trigger %u, level0_slowdown %u and level0_stop %u are "
                        "not in ascending order",
                        options->level0_trigger, options->level0_slowdown, options->level0_stop);
    return LSM_OK;
}

/* A caller with a larger struct is newer: what this library does not know must be 0. */
static lsm_status copy_known(const lsm_cf_options *given, lsm_cf_options *copy, lsm_error *err)
{
    size_t size = given->struct_size;
    if (size < offsetof(lsm_cf_options, compression_level))
        return lsm_fail(err, LSM_INVALID,
                        "the option struct_size is %zu; begin with LSM_CF_OPTIONS_INIT", size);
    for (size_t i = sizeof *copy; i < size; i++) {
        if (((const char *)given)[i] != 0)
            return lsm_fail(err, LSM_INVALID,
                            "options of %zu bytes set some that this library does not know", size);
    }
    *copy = (lsm_cf_options){0};
    memcpy(copy, given, size < sizeof *copy ? size : sizeof *copy);
    copy->struct_size = sizeof *copy;
    return LSM_OK;
}

lsm_status version_resolve_cf_options(const lsm_cf_options *given, lsm_cf_options *resolved,
                                      lsm_error *err)
{
    lsm_cf_options copy, known;
    lsm_status status = copy_known(given, &copy, err);
    if (status != LSM_OK)
        return status;
    known = copy;
    status = resolve_compression(&copy, err);
    for (size_t i = 0; status == LSM_OK && i < sizeof rules / sizeof *rules; i++)
        status = resolve_number(&copy, &rules[i], err);
    if (status == LSM_OK)
        status = resolve_triggers(&known, &copy, err);
    if (status == LSM_OK)
        status = resolve_style(&copy, err);
    if (status == LSM_OK)
        *resolved = copy;
    return status;
}

const char *version_style_name(lsm_compaction style)
{
    switch (style) {
    case LSM_COMPACTION_DEFAULT:
    case LSM_COMPACTION_LEVELED:
        return "leveled";
    case LSM_COMPACTION_TIERED:
        return "tiered";
    case LSM_COMPACTION_FIFO:
        return "fifo";
    }
    return NULL;
}

lsm_status version_resolve_stored(struct version_edit *edit, lsm_error *err)
{
    for (size_t i = 0; i < edit->created_count; i++) {
        struct edit_cf *cf = &edit->created[i];
        lsm_error own;
        lsm_cf_options resolved;
        if (version_resolve_cf_options(&cf->options, &resolved, &own) != LSM_OK)
            return lsm_fail(err, LSM_CORRUPT, "column family '%s': %s", cf->name, own.message);
        cf->options = resolved;
    }
    return LSM_OK;
}
