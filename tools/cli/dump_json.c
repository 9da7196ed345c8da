/*
 * Reads the jsonl format:
 *
 *     {"schema":"lsm-dump/1","sequence":7}
 *     {"family":"words"}                          null: the only one, without a name
 *     {"key":"a","value":{"hex":"00ff"}}          bytes: a string, or {"hex":}, or {"base64":}
 *     {"end":true,"count":1,"xxh3":"..."}         closes the family; count and xxh3 are checked
 *     {"complete":true,"families":1}              closes the file
 */
#include "tools/cli/dump_format.h"

#include "tools/cli/json.h"

#include <inttypes.h>
#include <string.h>

/*
 * json-c reads half a surrogate pair as the replacement character, in silence. Such a line is
 * refused instead. True when every \uD800-\uDFFF of `line` is part of a pair.
 */
static bool surrogates_are_paired(lsm_slice line)
{
    const char *at = line.data, *limit = at + line.size;
    bool wants_low = false;
    while (at < limit) {
        bool is_escape = *at == '\\' && limit - at >= 2;
        bool is_unicode = is_escape && at[1] == 'u' && limit - at >= 6;
        bool is_surrogate =
            is_unicode && (at[2] == 'd' || at[2] == 'D') && strchr("89abcdefABCDEF", at[3]) != NULL;
        bool is_low = is_surrogate && strchr("cdefCDEF", at[3]) != NULL;
        if (wants_low != is_low)
            return false;
        wants_low = is_surrogate && !is_low;
        at += is_unicode ? 6 : is_escape ? 2 : 1;
    }
    return !wants_low;
}

static struct json_object *parse_line(struct dump_reader *r, lsm_slice line)
{
    struct json_object *object = NULL;
    struct json_tokener *tokener = json_tokener_new();
    enum json_tokener_error error = json_tokener_success;
    const char *wrong = "out of memory";
    uint64_t number = r->lines->number;
    if (tokener == NULL)
        goto out;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    wrong = "the line is too long for jsonl";
    if (line.size >= INT32_MAX)
        goto out;
    object = json_tokener_parse_ex(tokener, line.data, (int)line.size);
    error = json_tokener_get_error(tokener);
    wrong = error == json_tokener_continue ? "the JSON object is not complete"
                                           : json_tokener_error_desc(error);
    if (object == NULL)
        goto out;
    wrong = NULL;
    if (json_tokener_get_parse_end(tokener) != line.size ||
        !json_object_is_type(object, json_type_object))
        wrong = "one JSON object on each line is wanted";
    else if (!surrogates_are_paired(line))
        wrong = "a \\u escape holds half of a surrogate pair";
out:
    if (wrong != NULL) {
        dump_reader_fail(r, number, "%s", wrong);
        json_object_put(object);
        object = NULL;
    }
    if (tokener != NULL)
        json_tokener_free(tokener);
    return object;
}

/* NULL, or what is wrong with the member. */
static const char *take_bytes(struct json_object *member, struct text *bytes)
{
    struct json_object *encoded = NULL;
    text_clear(bytes);
    if (json_object_is_type(member, json_type_string)) {
        text_append(bytes, json_object_get_string(member),
                    (size_t)json_object_get_string_len(member));
        return NULL;
    }
    if (!json_object_is_type(member, json_type_object) || json_object_object_length(member) != 1)
        return "a string, {\"hex\": ...} or {\"base64\": ...} is wanted";
    bool is_hex = json_object_object_get_ex(member, "hex", &encoded);
    if ((!is_hex && !json_object_object_get_ex(member, "base64", &encoded)) ||
        !json_object_is_type(encoded, json_type_string))
        return "a string, {\"hex\": ...} or {\"base64\": ...} is wanted";
    lsm_slice text = {json_object_get_string(encoded), (size_t)json_object_get_string_len(encoded)};
    return is_hex ? text_decode_hex(bytes, text, NULL) : text_decode_base64(bytes, text, NULL);
}

static enum dump_event take_pair(struct dump_reader *r, struct json_object *object)
{
    struct json_object *key = NULL, *value = NULL;
    uint64_t line = r->lines->number;
    bool has_key = json_object_object_get_ex(object, "key", &key);
    bool has_value = json_object_object_get_ex(object, "value", &value);
    if (!has_key || !has_value || json_object_object_length(object) != 2)
        return dump_reader_fail(r, line,
                                "{\"key\": ..., \"value\": ...} or {\"end\": true} is wanted");
    const char *wrong = take_bytes(key, &r->key);
    if (wrong == NULL)
        wrong = take_bytes(value, &r->value);
    if (wrong != NULL)
        return dump_reader_fail(r, line, "%s", wrong);
    r->pair_line = line;
    digest_add(&r->digest, text_slice(&r->key), text_slice(&r->value));
    return DUMP_PAIR;
}

static enum dump_event take_end(struct dump_reader *r, struct json_object *object)
{
    struct json_object *member = NULL;
    int known = 1;
    if (json_object_object_get_ex(object, "count", &member)) {
        known++;
        if (!dump_reader_check_count(r, json_object_get_uint64(member)))
            return DUMP_ERROR;
    }
    if (json_object_object_get_ex(object, "xxh3", &member)) {
        known++;
        const char *text = json_object_get_string(member);
        if (!dump_reader_check_digest(r, LSM_SLICE(text, strlen(text))))
            return DUMP_ERROR;
    }
    if (json_object_object_length(object) != known)
        return dump_reader_fail(r, r->lines->number, "an unknown member stands beside \"end\"");
    r->state = DUMP_BETWEEN;
    return DUMP_SECTION_END;
}

static enum dump_event take_family(struct dump_reader *r, struct json_object *object)
{
    struct json_object *name = NULL;
    if (!json_object_object_get_ex(object, "family", &name) ||
        json_object_object_length(object) != 1 ||
        (name != NULL && !json_object_is_type(name, json_type_string)))
        return dump_reader_fail(r, r->lines->number,
                                "{\"family\": name} or {\"complete\": true} is wanted");
    dump_reader_begin_section(r);
    r->section.header_line = r->lines->number;
    if (name != NULL) {
        r->section.has_name = true;
        text_append(&r->section.name, json_object_get_string(name),
                    (size_t)json_object_get_string_len(name));
    }
    r->section_count++;
    r->state = DUMP_IN_SECTION;
    return DUMP_SECTION;
}

/* The line that every file begins with. */
static bool take_schema(struct dump_reader *r, struct json_object *object)
{
    struct json_object *schema = NULL;
    if (json_object_object_get_ex(object, "schema", &schema) && schema != NULL &&
        strcmp(json_object_get_string(schema), "lsm-dump/1") == 0) {
        r->state = DUMP_BETWEEN;
        return true;
    }
    dump_reader_fail(r, r->lines->number, "{\"schema\": \"lsm-dump/1\"} is wanted first");
    return false;
}

static enum dump_event fail_end_of_input(struct dump_reader *r)
{
    return dump_reader_fail(r, r->lines->number + 1,
                            "the input ends without {\"%s\": true}: it was cut short",
                            r->state == DUMP_IN_SECTION ? "end" : "complete");
}

static enum dump_event take_complete(struct dump_reader *r, struct json_object *object)
{
    struct json_object *families = NULL;
    lsm_slice line = {0};
    if (json_object_object_get_ex(object, "families", &families) &&
        json_object_get_uint64(families) != r->section_count) {
        dump_reader_fail(r, r->lines->number,
                         "the input holds %" PRIu64 " families where its last line says %" PRIu64
                         ": it was changed",
                         r->section_count, json_object_get_uint64(families));
        r->is_damage = true;
        return DUMP_ERROR;
    }
    if (lines_next(r->lines, &line) != LINES_END)
        return dump_reader_fail(r, r->lines->number,
                                "something stands behind {\"complete\": true}");
    r->state = DUMP_AT_END;
    return DUMP_END;
}

static enum dump_event take_object(struct dump_reader *r, struct json_object *object)
{
    struct json_object *end = NULL;
    if (r->state == DUMP_BETWEEN && json_object_object_get_ex(object, "complete", &end) &&
        json_object_get_boolean(end))
        return take_complete(r, object);
    if (r->state == DUMP_BETWEEN)
        return take_family(r, object);
    if (json_object_object_get_ex(object, "end", &end) && json_object_get_boolean(end))
        return take_end(r, object);
    return take_pair(r, object);
}

enum dump_event dump_json_next(struct dump_reader *r)
{
    lsm_slice line = {0};
    for (;;) {
        enum lines_result result = lines_next(r->lines, &line);
        if (result == LINES_FAILED)
            return dump_reader_fail_read(r);
        if (result == LINES_END)
            return fail_end_of_input(r);
        struct json_object *object = parse_line(r, line);
        if (object == NULL)
            return DUMP_ERROR;
        bool is_schema = r->state == DUMP_AT_START;
        enum dump_event event = DUMP_ERROR;
        if (!is_schema)
            event = take_object(r, object);
        else if (take_schema(r, object))
            event = DUMP_SECTION; /* not handed out: the next line decides */
        json_object_put(object);
        if (!is_schema || event == DUMP_ERROR)
            return event;
    }
}
