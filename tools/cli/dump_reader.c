/*
 * Reads the keyword formats and plain pairs. Whatever is not understood is an error with its line:
 * a loader that skips what it cannot parse loses data in silence.
 */
#include "tools/cli/dump_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the readers share ------------------------------------------------------------------ */

void dump_reader_init(struct dump_reader *r, struct lines *lines, enum dump_syntax syntax)
{
    *r = (struct dump_reader){.lines = lines, .syntax = syntax, .state = DUMP_AT_START};
    digest_begin(&r->digest);
}

void dump_reader_release(struct dump_reader *r)
{
    text_release(&r->section.name);
    text_release(&r->key);
    text_release(&r->value);
    text_release(&r->error);
}

enum dump_event dump_reader_fail(struct dump_reader *r, uint64_t line, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    text_clear(&r->error);
    text_append_format(&r->error, "line %" PRIu64 ": %s", line, sentence);
    r->state = DUMP_BROKEN;
    return DUMP_ERROR;
}

enum dump_event dump_reader_fail_read(struct dump_reader *r)
{
    uint64_t line = r->lines->number + 1;
    if (r->lines->os_errno == 0)
        return dump_reader_fail(r, line, "a line is longer than any value can be");
    return dump_reader_fail(r, line, "cannot read the input: %s", strerror(r->lines->os_errno));
}

bool dump_reader_check_count(struct dump_reader *r, uint64_t count)
{
    if (count == r->digest.pair_count)
        return true;
    dump_reader_fail(r, r->lines->number,
                     "the section holds %" PRIu64 " pairs where its count says %" PRIu64
                     ": the input was changed",
                     r->digest.pair_count, count);
    r->is_damage = true;
    return false;
}

bool dump_reader_check_digest(struct dump_reader *r, lsm_slice text)
{
    char digest[24];
    (void)snprintf(digest, sizeof digest, "%016" PRIx64, digest_value(&r->digest));
    if (text.size == strlen(digest) && memcmp(text.data, digest, text.size) == 0)
        return true;
    dump_reader_fail(r, r->lines->number,
                     "the section's pairs hash to %s where its trailer says %.*s: the input was "
                     "changed",
                     digest, text.size > 32 ? 32 : (int)text.size, (const char *)text.data);
    r->is_damage = true;
    return false;
}

void dump_reader_warn(struct dump_reader *r, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    if (r->warn == NULL)
        return;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    r->warn(r->warn_context, sentence);
}

void dump_reader_begin_section(struct dump_reader *r)
{
    struct text name = r->section.name;
    text_clear(&name);
    r->section = (struct dump_section){.name = name, .header_line = r->lines->number + 1};
    r->has_warned = false;
    digest_begin(&r->digest);
}

/* ---- header ---------------------------------------------------------------------------------- */

enum keyword {
    KEYWORD_VERSION,
    KEYWORD_FORMAT,
    KEYWORD_DATABASE,
    KEYWORD_TYPE,
    KEYWORD_KEYS,
    KEYWORD_DUPLICATES,
    KEYWORD_ORDER,       /* a switch that sorts keys in another way */
    KEYWORD_LMDB_NUMBER, /* only LMDB writes it; nothing follows from its value */
    KEYWORD_NUMBER,      /* nothing follows from its value */
    KEYWORD_NATIVE_NUMBER,
    KEYWORD_HEADER,
    KEYWORD_COMPARATOR,
    KEYWORD_COUNT,
    KEYWORD_DIGEST,
};

static const struct {
    const char *name;
    enum keyword kind;
} keywords[] = {
    {"VERSION", KEYWORD_VERSION},
    {"format", KEYWORD_FORMAT},
    {"database", KEYWORD_DATABASE},
    {"subdatabase", KEYWORD_DATABASE},
    {"type", KEYWORD_TYPE},
    {"keys", KEYWORD_KEYS},
    {"duplicates", KEYWORD_DUPLICATES},
    {"dupsort", KEYWORD_DUPLICATES},
    {"dupfixed", KEYWORD_LMDB_NUMBER},
    {"integerdup", KEYWORD_LMDB_NUMBER},
    {"reversedup", KEYWORD_LMDB_NUMBER},
    {"reversekey", KEYWORD_ORDER},
    {"integerkey", KEYWORD_ORDER},
    {"mapsize", KEYWORD_LMDB_NUMBER},
    {"mapaddr", KEYWORD_LMDB_NUMBER},
    {"maxreaders", KEYWORD_LMDB_NUMBER},
    {"bt_minkey", KEYWORD_NUMBER},
    {"chksum", KEYWORD_NUMBER},
    {"compressed", KEYWORD_NUMBER},
    {"db_lorder", KEYWORD_NUMBER},
    {"db_pagesize", KEYWORD_NUMBER},
    {"extentsize", KEYWORD_NUMBER},
    {"h_ffactor", KEYWORD_NUMBER},
    {"h_nelem", KEYWORD_NUMBER},
    {"re_len", KEYWORD_NUMBER},
    {"re_pad", KEYWORD_NUMBER},
    {"recnum", KEYWORD_NUMBER},
    {"renumber", KEYWORD_NUMBER},
    {"HEADER", KEYWORD_HEADER},
    {"lsm.comparator", KEYWORD_COMPARATOR},
    {"lsm.seq", KEYWORD_NATIVE_NUMBER},
    {"lsm.count", KEYWORD_COUNT},
    {"lsm.xxh3", KEYWORD_DIGEST},
};
#define KEYWORD_TABLE_SIZE (sizeof keywords / sizeof keywords[0])
_Static_assert(KEYWORD_TABLE_SIZE <= 64, "a header keeps one bit for each keyword");

struct header {
    uint64_t seen;     /* bit i: keywords[i] was there */
    bool is_recno;     /* type=recno */
    bool has_keys;     /* keys=1 */
    bool keys_are_off; /* keys=0 */
    bool is_complete;  /* HEADER=END */
};

static bool slice_is(lsm_slice text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

/* The line of a keyword in diagnostics: cut, and without bytes that upset a terminal. */
static const char *for_people(lsm_slice text, char *shown, size_t capacity)
{
    size_t size = text.size < capacity - 1 ? text.size : capacity - 1;
    for (size_t i = 0; i < size; i++) {
        char c = ((const char *)text.data)[i];
        shown[i] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    shown[size] = '\0';
    return shown;
}

static bool ends_with_cr(lsm_slice line)
{
    return line.size > 0 && ((const char *)line.data)[line.size - 1] == '\r';
}

static bool fail_cr(struct dump_reader *r)
{
    dump_reader_fail(r, r->lines->number,
                     "the line ends with a carriage return: --crlf reads files with such lines");
    return false;
}

static bool header_number(lsm_slice text, uint64_t *value)
{
    char digits[24];
    char *end = NULL;
    if (text.size == 0 || text.size >= sizeof digits || *(const char *)text.data < '0' ||
        *(const char *)text.data > '9')
        return false;
    memcpy(digits, text.data, text.size);
    digits[text.size] = '\0';
    errno = 0;
    *value = strtoull(digits, &end, 0);
    return errno == 0 && *end == '\0';
}

static bool header_type(struct dump_reader *r, struct header *h, lsm_slice value)
{
    char shown[32];
    if (slice_is(value, "btree") || slice_is(value, "hash"))
        return true;
    h->is_recno = slice_is(value, "recno");
    if (h->is_recno)
        return true;
    dump_reader_fail(r, r->lines->number, "type=%s cannot be loaded, only btree, hash and recno",
                     for_people(value, shown, sizeof shown));
    return false;
}

static bool header_format(struct dump_reader *r, lsm_slice value)
{
    char shown[32];
    r->section.is_print = slice_is(value, "print");
    if (r->section.is_print || slice_is(value, "bytevalue"))
        return true;
    dump_reader_fail(r, r->lines->number, "format=%s is neither bytevalue nor print",
                     for_people(value, shown, sizeof shown));
    return false;
}

/* A line whose value must be a number; `number` is it. */
static bool header_apply_number(struct dump_reader *r, struct header *h, enum keyword kind,
                                uint64_t number)
{
    switch (kind) {
    case KEYWORD_VERSION:
        if (number >= 1 && number <= 3)
            return true;
        dump_reader_fail(r, r->lines->number, "VERSION=%" PRIu64 " is unknown, 1 to 3 can be read",
                         number);
        return false;
    case KEYWORD_KEYS:
        h->has_keys = number == 1;
        h->keys_are_off = number == 0;
        return true;
    case KEYWORD_DUPLICATES:
        r->section.has_duplicates = r->section.has_duplicates || number != 0;
        return true;
    case KEYWORD_ORDER:
        r->section.is_other_order = r->section.is_other_order || number != 0;
        r->section.is_lmdb = true;
        return true;
    case KEYWORD_LMDB_NUMBER:
        r->section.is_lmdb = true;
        return true;
    case KEYWORD_NATIVE_NUMBER:
        r->section.is_native = true;
        return true;
    case KEYWORD_COUNT:
        r->count_is_due = false;
        return dump_reader_check_count(r, number);
    default:
        return true;
    }
}

static bool header_apply(struct dump_reader *r, struct header *h, size_t index, lsm_slice value)
{
    char shown[48];
    uint64_t number = 0;
    switch (keywords[index].kind) {
    case KEYWORD_FORMAT:
        return header_format(r, value);
    case KEYWORD_TYPE:
        return header_type(r, h, value);
    case KEYWORD_DATABASE:
        r->section.has_name = true;
        text_append(&r->section.name, value.data, value.size);
        return true;
    case KEYWORD_HEADER:
        h->is_complete = slice_is(value, "END");
        if (!h->is_complete)
            dump_reader_fail(r, r->lines->number, "HEADER= is not followed by END");
        return h->is_complete;
    case KEYWORD_COMPARATOR:
        r->section.is_native = true;
        if (slice_is(value, "bytes"))
            return true;
        dump_reader_fail(r, r->lines->number, "lsm.comparator=%s is unknown",
                         for_people(value, shown, sizeof shown));
        return false;
    case KEYWORD_DIGEST:
        r->digest_is_due = false;
        return dump_reader_check_digest(r, value);
    default:
        if (header_number(value, &number))
            return header_apply_number(r, h, keywords[index].kind, number);
        dump_reader_fail(r, r->lines->number, "%s=%s: a number is wanted", keywords[index].name,
                         for_people(value, shown, sizeof shown));
        return false;
    }
}

/* A native section whose trailers are missing may have been cut short like any other. */
static bool check_trailers(struct dump_reader *r, uint64_t line)
{
    if (!r->count_is_due && !r->digest_is_due)
        return true;
    dump_reader_fail(r, line, "lsm.%s= is wanted behind DATA=END: the input was cut short",
                     r->count_is_due ? "count" : "xxh3");
    return false;
}

static bool header_line(struct dump_reader *r, struct header *h, lsm_slice line)
{
    char shown[48];
    size_t index = 0;
    if (ends_with_cr(line))
        return fail_cr(r);
    const char *equals = line.size == 0 ? NULL : memchr(line.data, '=', line.size);
    if (equals == NULL) {
        dump_reader_fail(r, r->lines->number,
                         "a header line 'keyword=value' is wanted, '%s' was found%s",
                         for_people(line, shown, sizeof shown),
                         r->section_count == 0 ? " (-T reads plain pairs of lines)" : "");
        return false;
    }
    lsm_slice name = {line.data, (size_t)(equals - (const char *)line.data)};
    lsm_slice value = {equals + 1, line.size - name.size - 1};
    while (index < KEYWORD_TABLE_SIZE && !slice_is(name, keywords[index].name))
        index++;
    if (index == KEYWORD_TABLE_SIZE) {
        dump_reader_fail(r, r->lines->number, "the keyword '%s' is unknown",
                         for_people(name, shown, sizeof shown));
        return false;
    }
    /* Trailers of the section before stand in front of everything else. */
    bool is_trailer =
        keywords[index].kind == KEYWORD_COUNT || keywords[index].kind == KEYWORD_DIGEST;
    if (is_trailer && (h->seen != 0 || r->section_count == 0)) {
        dump_reader_fail(r, r->lines->number, "%s= belongs behind DATA=END", keywords[index].name);
        return false;
    }
    if ((h->seen >> index & 1) != 0) {
        dump_reader_fail(r, r->lines->number, "the keyword '%s' stands twice in a header",
                         keywords[index].name);
        return false;
    }
    if (!is_trailer && h->seen == 0) {
        if (!check_trailers(r, r->lines->number))
            return false;
        dump_reader_begin_section(r);
        r->section.header_line = r->lines->number;
    }
    if (!is_trailer)
        h->seen |= UINT64_C(1) << index;
    return header_apply(r, h, index, value);
}

/* Berkeley DB escapes names, LMDB does not. */
static bool header_decode_name(struct dump_reader *r)
{
    struct text decoded = {0};
    if (!r->section.has_name || r->section.is_lmdb)
        return true;
    const char *wrong = text_decode_print(&decoded, text_slice(&r->section.name), NULL);
    if (wrong != NULL) {
        dump_reader_fail(r, r->section.header_line, "database=: %s", wrong);
        text_release(&decoded);
        return false;
    }
    text_release(&r->section.name);
    r->section.name = decoded;
    return true;
}

static bool header_finish(struct dump_reader *r, const struct header *h)
{
    if (h->is_recno && !h->has_keys) {
        dump_reader_fail(r, r->lines->number,
                         "type=recno without keys=1 holds values only: dump it again with keys "
                         "('db_dump -k')");
        return false;
    }
    if (h->keys_are_off) {
        dump_reader_fail(r, r->lines->number, "keys=0: the section holds values only");
        return false;
    }
    return header_decode_name(r);
}

static enum dump_event read_header(struct dump_reader *r)
{
    struct header h = {0};
    lsm_slice line = {0};
    while (!h.is_complete) {
        enum lines_result result = lines_next(r->lines, &line);
        if (result == LINES_FAILED)
            return dump_reader_fail_read(r);
        if (result == LINES_END && h.seen == 0 && r->section_count > 0) {
            if (!check_trailers(r, r->lines->number + 1))
                return DUMP_ERROR;
            r->state = DUMP_AT_END;
            return DUMP_END;
        }
        if (result == LINES_END)
            return dump_reader_fail(r, r->lines->number + 1, "the input ends %s",
                                    h.seen == 0 ? "where a header is wanted: it is empty"
                                                : "inside a header, without HEADER=END");
        if (!header_line(r, &h, line))
            return DUMP_ERROR;
    }
    if (!header_finish(r, &h))
        return DUMP_ERROR;
    r->section_count++;
    r->state = DUMP_IN_SECTION;
    return DUMP_SECTION;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Fact: LMDB 0.9.24 writes a backslash unescaped in print format and reads it back wrongly. */
static void warn_backslash(struct dump_reader *r, lsm_slice encoded)
{
    if (!r->section.is_lmdb || r->has_warned || encoded.size == 0 ||
        memchr(encoded.data, '\\', encoded.size) == NULL)
        return;
    r->has_warned = true;
    dump_reader_warn(r,
                     "line %" PRIu64
                     ": a backslash in a print dump of LMDB, whose mdb_dump before 0.9.25 does not "
                     "escape them: dump without -p to be sure",
                     r->lines->number);
}

static bool decode_part(struct dump_reader *r, bool is_print, size_t skip, lsm_slice line,
                        struct text *part)
{
    size_t at = 0;
    lsm_slice encoded = {(const char *)line.data + skip, line.size - skip};
    text_clear(part);
    if (ends_with_cr(line))
        return fail_cr(r);
    if (is_print)
        warn_backslash(r, encoded);
    const char *wrong =
        is_print ? text_decode_print(part, encoded, &at) : text_decode_hex(part, encoded, &at);
    if (wrong == NULL)
        return true;
    dump_reader_fail(r, r->lines->number, "column %zu: %s", at + skip + 1, wrong);
    return false;
}

static enum dump_event fail_section_line(struct dump_reader *r, lsm_slice line, bool wants_value)
{
    char shown[48];
    uint64_t number = r->lines->number;
    if (ends_with_cr(line)) {
        (void)fail_cr(r);
        return DUMP_ERROR;
    }
    if (wants_value)
        return dump_reader_fail(r, number, "the key of line %" PRIu64 " has no value", number - 1);
    return dump_reader_fail(r, number,
                            "a line with a blank in front or DATA=END is wanted, '%s' was found",
                            for_people(line, shown, sizeof shown));
}

static bool begins_with_blank(lsm_slice line)
{
    return line.size > 0 && *(const char *)line.data == ' ';
}

static enum dump_event read_section_pair(struct dump_reader *r)
{
    lsm_slice line = {0};
    for (int part = 0; part < 2; part++) {
        enum lines_result result = lines_next(r->lines, &line);
        if (result == LINES_FAILED)
            return dump_reader_fail_read(r);
        if (result == LINES_END)
            return dump_reader_fail(r, r->lines->number + 1,
                                    "the input ends without DATA=END: it was cut short");
        if (part == 0 && slice_is(line, "DATA=END")) {
            r->count_is_due = r->digest_is_due = r->section.is_native;
            r->state = DUMP_BETWEEN;
            return DUMP_SECTION_END;
        }
        if (!begins_with_blank(line))
            return fail_section_line(r, line, part == 1);
        if (part == 0)
            r->pair_line = r->lines->number;
        if (!decode_part(r, r->section.is_print, 1, line, part == 0 ? &r->key : &r->value))
            return DUMP_ERROR;
    }
    digest_add(&r->digest, text_slice(&r->key), text_slice(&r->value));
    return DUMP_PAIR;
}

static enum dump_event read_plain_pair(struct dump_reader *r)
{
    lsm_slice line = {0};
    for (int part = 0; part < 2; part++) {
        enum lines_result result = lines_next(r->lines, &line);
        if (result == LINES_FAILED)
            return dump_reader_fail_read(r);
        if (result == LINES_END && part == 0) {
            r->state = DUMP_BETWEEN;
            return DUMP_SECTION_END;
        }
        if (result == LINES_END)
            return dump_reader_fail(r, r->lines->number + 1,
                                    "the key of line %" PRIu64
                                    " has no value: the number of lines is odd",
                                    r->pair_line);
        if (part == 0)
            r->pair_line = r->lines->number;
        if (!decode_part(r, true, 0, line, part == 0 ? &r->key : &r->value))
            return DUMP_ERROR;
    }
    return DUMP_PAIR; /* nothing behind them says their digest */
}

static enum dump_event plain_next(struct dump_reader *r)
{
    if (r->state == DUMP_AT_START) {
        dump_reader_begin_section(r);
        r->section.is_print = true;
        r->state = DUMP_IN_SECTION;
        return DUMP_SECTION;
    }
    if (r->state == DUMP_IN_SECTION)
        return read_plain_pair(r);
    r->state = DUMP_AT_END;
    return DUMP_END;
}

/* No keyword begins with these. */
static enum dump_syntax sniff(int first)
{
    return first == '{'   ? DUMP_JSON
           : first == 'W' ? DUMP_WIREDTIGER
           : first == '0' ? DUMP_LDB
                          : DUMP_KEYWORDS;
}

enum dump_event dump_reader_next(struct dump_reader *r)
{
    if (r->state == DUMP_AT_END)
        return DUMP_END;
    if (r->state == DUMP_BROKEN)
        return DUMP_ERROR;
    if (r->syntax == DUMP_SNIFF)
        r->syntax = sniff(lines_peek(r->lines));
    if (r->syntax == DUMP_JSON)
        return dump_json_next(r);
    if (r->syntax == DUMP_WIREDTIGER || r->syntax == DUMP_LDB)
        return dump_foreign_next(r);
    if (r->syntax == DUMP_PAIRS)
        return plain_next(r);
    return r->state == DUMP_IN_SECTION ? read_section_pair(r) : read_header(r);
}
