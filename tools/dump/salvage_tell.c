/* What is missing from a salvaged dump, on stderr: one line a gap, however often it is met. */
#include "tools/dump/salvage.h"

#include <inttypes.h>
#include <string.h>

/* Could a key of [first, last] be in what --start, --end and --prefix ask for? */
static bool range_meets(const struct cli *cli, const struct salvage_gap *gap)
{
    if (cli->has_end && gap->has_first && slice_compare(gap->first, text_slice(&cli->end)) >= 0)
        return false;
    if (cli->has_start && gap->has_last && slice_compare(gap->last, text_slice(&cli->start)) < 0)
        return false;
    lsm_slice prefix = text_slice(&cli->prefix);
    if (!cli->has_prefix)
        return true;
    if (gap->has_last && slice_compare(gap->last, prefix) < 0)
        return false;
    return !gap->has_first || slice_compare(gap->first, prefix) <= 0 ||
           slice_begins_with(gap->first, prefix);
}

static const char *family_name(const struct salvage *s, uint32_t cf)
{
    for (size_t i = 0; i < s->family_count; i++) {
        if (s->families[i].id == cf)
            return s->families[i].name;
    }
    return NULL;
}

static void append_bound(const struct dumper *d, struct text *to, bool has_key, lsm_slice key,
                         const char *open_end)
{
    if (!has_key) {
        text_append_string(to, open_end);
    } else if (!d->shows_data) {
        text_append_format(to, "[%zu bytes]", key.size);
    } else {
        text_append(to, "'", 1);
        cli_append_key(&d->cli, to, key);
        text_append(to, "'", 1);
    }
}

static bool is_asked_for(const struct salvage *s, const struct salvage_gap *gap)
{
    const char *name = gap->has_family ? family_name(s, gap->cf) : NULL;
    return (name == NULL || cli_wants_family(&s->dumper->cli, name)) &&
           range_meets(&s->dumper->cli, gap);
}

/* "family 'words': keys from [3 bytes] to the last" */
static void append_range(const struct salvage *s, struct text *to, const struct salvage_gap *gap)
{
    const char *name = gap->has_family ? family_name(s, gap->cf) : NULL;
    if (name != NULL) {
        text_append_string(to, "family '");
        text_append_print(to, LSM_SLICE(name, strlen(name)));
        text_append_string(to, "': ");
    } else if (gap->has_family) {
        text_append_format(to, "family %" PRIu32 ": ", gap->cf);
    } else {
        text_append_string(to, "any family: ");
    }
    text_append_string(to, "keys from ");
    append_bound(s->dumper, to, gap->has_first, gap->first, "the first");
    text_append_string(to, " to ");
    append_bound(s->dumper, to, gap->has_last, gap->last, "the last");
}

void salvage_tell(struct salvage *s, const struct salvage_gap *gap)
{
    struct text line = {0};
    if (!is_asked_for(s, gap) ||
        (!gap->is_value &&
         !key_set_add(&s->told, (size_t)gap->table, LSM_SLICE(&gap->offset, sizeof gap->offset))))
        return;
    s->found_damage = s->lost_data = true;
    append_range(s, &line, gap);
    text_append_format(&line, " may be missing, or older than they were: '%s'", gap->file);
    if (gap->offset != LSM_NO_OFFSET)
        text_append_format(&line, " at offset %" PRIu64 ", %" PRIu64 " bytes", gap->offset,
                           gap->length);
    (void)cli_error(&s->dumper->cli, EXIT_DAMAGE, "LSM_CORRUPT", "gap: %s: %s", text_string(&line),
                    gap->what);
    text_release(&line);
}

void salvage_tell_doubtful(struct salvage *s, const struct salvage_gap *gap)
{
    struct text line = {0};
    if (!is_asked_for(s, gap))
        return;
    s->found_damage = true;
    append_range(s, &line, gap);
    (void)cli_error(&s->dumper->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                    "doubt: %s may be older than they were, or come back after a deletion: whether "
                    "'%s' had been replaced cannot be told",
                    text_string(&line), gap->file);
    text_release(&line);
}

void salvage_tell_harmless(struct salvage *s, const char *file, uint64_t offset, const char *what)
{
    struct text line = {0};
    text_append_format(&line, "'%s'", file);
    if (offset != LSM_NO_OFFSET)
        text_append_format(&line, " at offset %" PRIu64, offset);
    text_append_format(&line, ": %s; nothing is lost by it", what);
    s->found_damage = true;
    if (key_set_add(&s->told, SIZE_MAX, text_slice(&line)))
        cli_warn(&s->dumper->cli, "%s", text_string(&line));
    text_release(&line);
}
