/*
 * Dumps of other engines that are no Berkeley DB text:
 *
 *     WiredTiger Dump (WiredTiger Version 11.0.0)       'wt dump': one table
 *     Format=print                                      or hex
 *     Header
 *     table:words                                       lines in pairs: what it is, its options
 *     key_format=u,value_format=u,...
 *     Data
 *     key                                               lines in pairs, to the end
 *     value
 *
 *     0x6B31 ==> 0x76                                   'ldb dump --hex'; with " : " 'ldb scan
 * --hex' Keys in range: 1                                  perhaps, at the end
 *
 * Neither tells where it ends.
 */
#include "tools/cli/dump_format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WT_TITLE  "WiredTiger Dump"
#define LDB_COUNT "Keys in range: "

static bool begins_with(lsm_slice line, const char *text)
{
    size_t size = strlen(text);
    return line.size >= size && memcmp(line.data, text, size) == 0;
}

static bool line_is(lsm_slice line, const char *text)
{
    return line.size == strlen(text) && begins_with(line, text);
}

static bool has_cr(struct dump_reader *r, lsm_slice line)
{
    if (line.size == 0 || ((const char *)line.data)[line.size - 1] != '\r')
        return false;
    (void)dump_reader_fail(
        r, r->lines->number,
        "the line ends with a carriage return: --crlf reads files with such lines");
    return true;
}

/* Takes the next line; false after an error, or at the end, which *is_end tells. */
static bool take_line(struct dump_reader *r, lsm_slice *line, bool *is_end)
{
    enum lines_result result = lines_next(r->lines, line);
    *is_end = result == LINES_END;
    if (result == LINES_FAILED)
        (void)dump_reader_fail_read(r);
    return result == LINES_LINE && !has_cr(r, *line);
}

/* The line that a pair begins with: DUMP_PAIR; or the section ends, or it fails. */
static enum dump_event first_line(struct dump_reader *r, lsm_slice *line)
{
    bool is_end = false;
    if (take_line(r, line, &is_end)) {
        r->pair_line = r->lines->number;
        return DUMP_PAIR;
    }
    if (!is_end)
        return DUMP_ERROR;
    r->state = DUMP_BETWEEN;
    return DUMP_SECTION_END;
}

static bool decode(struct dump_reader *r, bool is_print, lsm_slice encoded, size_t column,
                   struct text *part)
{
    size_t at = 0;
    text_clear(part);
    const char *wrong =
        is_print ? text_decode_print(part, encoded, &at) : text_decode_hex(part, encoded, &at);
    if (wrong == NULL)
        return true;
    (void)dump_reader_fail(r, r->lines->number, "column %zu: %s", at + column, wrong);
    return false;
}

/* ---- WiredTiger ------------------------------------------------------------------------------ */

/* The lines between Header and Data: "table:NAME" gives the name, its options what keys are. */
static bool take_header_line(struct dump_reader *r, lsm_slice line)
{
    if (begins_with(line, "table:") && !r->section.has_name) {
        r->section.has_name = true;
        text_append(&r->section.name, (const char *)line.data + 6, line.size - 6);
    }
    if (memmem(line.data, line.size, "key_format=r", 12) == NULL)
        return true;
    (void)dump_reader_fail(r, r->lines->number,
                           "the table has record numbers in place of keys (key_format=r)");
    return false;
}

static bool take_format(struct dump_reader *r, lsm_slice line)
{
    r->section.is_print = line_is(line, "Format=print");
    if (r->section.is_print || line_is(line, "Format=hex"))
        return true;
    (void)dump_reader_fail(r, r->lines->number, "Format=print or Format=hex is wanted");
    return false;
}

static enum dump_event wt_header(struct dump_reader *r)
{
    lsm_slice line = {0};
    bool is_end = false, has_header = false;
    dump_reader_begin_section(r);
    for (unsigned number = 0; take_line(r, &line, &is_end); number++) {
        bool is_good = true;
        if (number == 0 && !begins_with(line, WT_TITLE))
            return dump_reader_fail(r, r->lines->number, "a header line is wanted");
        if (number == 1)
            is_good = take_format(r, line);
        else if (number > 1 && line_is(line, "Data"))
            break;
        else if (number > 1 && line_is(line, "Header"))
            has_header = true;
        else if (number > 1 && has_header)
            is_good = take_header_line(r, line);
        else if (number > 1)
            return dump_reader_fail(r, r->lines->number, "the line 'Header' is wanted");
        if (!is_good)
            return DUMP_ERROR;
    }
    if (is_end)
        return dump_reader_fail(r, r->lines->number + 1,
                                "the input ends inside a header, without the line 'Data'");
    if (r->state == DUMP_BROKEN)
        return DUMP_ERROR;
    r->state = DUMP_IN_SECTION;
    return DUMP_SECTION;
}

static enum dump_event wt_pair(struct dump_reader *r)
{
    lsm_slice line = {0};
    bool is_end = false;
    enum dump_event event = first_line(r, &line);
    if (event != DUMP_PAIR)
        return event;
    if (!decode(r, r->section.is_print, line, 1, &r->key))
        return DUMP_ERROR;
    if (!take_line(r, &line, &is_end))
        return is_end ? dump_reader_fail(r, r->lines->number + 1,
                                         "the key of line %" PRIu64 " has no value", r->pair_line)
                      : DUMP_ERROR;
    if (!decode(r, r->section.is_print, line, 1, &r->value))
        return DUMP_ERROR;
    digest_add(&r->digest, text_slice(&r->key), text_slice(&r->value));
    return DUMP_PAIR;
}

/* ---- ldb ------------------------------------------------------------------------------------- */

/* What stands between key and value; data NULL: nothing that does. */
static lsm_slice ldb_separator(lsm_slice line)
{
    const char *found = memmem(line.data, line.size, " ==> ", 5);
    if (found != NULL)
        return LSM_SLICE(found, 5);
    found = memmem(line.data, line.size, " : ", 3);
    return LSM_SLICE(found, 3);
}

static enum dump_event ldb_count(struct dump_reader *r, lsm_slice line)
{
    char digits[24] = "";
    size_t size = line.size - strlen(LDB_COUNT);
    if (size > 0 && size < sizeof digits)
        memcpy(digits, (const char *)line.data + strlen(LDB_COUNT), size);
    if (size == 0 || size >= sizeof digits || strspn(digits, "0123456789") != size)
        return dump_reader_fail(r, r->lines->number, "the count of keys is no number");
    if (!dump_reader_check_count(r, strtoull(digits, NULL, 10)))
        return DUMP_ERROR;
    r->state = DUMP_BETWEEN;
    return DUMP_SECTION_END;
}

static enum dump_event ldb_pair(struct dump_reader *r)
{
    lsm_slice line = {0};
    enum dump_event event = first_line(r, &line);
    if (event != DUMP_PAIR)
        return event;
    if (begins_with(line, LDB_COUNT))
        return ldb_count(r, line);
    lsm_slice between = ldb_separator(line);
    if (!begins_with(line, "0x") || between.data == NULL)
        return dump_reader_fail(r, r->lines->number, "a line '0xKEY ==> 0xVALUE' is wanted");
    size_t key_size = (size_t)((const char *)between.data - (const char *)line.data);
    size_t value_at = key_size + between.size;
    lsm_slice value = {(const char *)line.data + value_at, line.size - value_at};
    if (!begins_with(value, "0x"))
        return dump_reader_fail(r, r->lines->number, "column %zu: '0x' is wanted", value_at + 1);
    if (!decode(r, false, LSM_SLICE((const char *)line.data + 2, key_size - 2), 3, &r->key) ||
        !decode(r, false, LSM_SLICE((const char *)value.data + 2, value.size - 2), value_at + 3,
                &r->value))
        return DUMP_ERROR;
    digest_add(&r->digest, text_slice(&r->key), text_slice(&r->value));
    return DUMP_PAIR;
}

enum dump_event dump_foreign_next(struct dump_reader *r)
{
    bool is_wt = r->syntax == DUMP_WIREDTIGER;
    if (r->state == DUMP_IN_SECTION)
        return is_wt ? wt_pair(r) : ldb_pair(r);
    if (r->state == DUMP_AT_START && is_wt)
        return wt_header(r);
    if (r->state == DUMP_AT_START) {
        dump_reader_begin_section(r);
        r->state = DUMP_IN_SECTION;
        return DUMP_SECTION;
    }
    if (lines_peek(r->lines) >= 0)
        return dump_reader_fail(r, r->lines->number + 1, "nothing is wanted behind the count");
    r->state = DUMP_AT_END;
    return DUMP_END;
}
