#include "tools/cli/dump_format.h"

#include "tools/cli/json.h"

#include <inttypes.h>
#include <string.h>

#define LMDB_LONGEST_KEY   ((size_t)511)
#define LMDB_NODE_BYTES    ((uint64_t)16)   /* node header, its pointer, padding */
#define LMDB_INLINE_LIMIT  ((uint64_t)1024) /* above, a value may take pages of its own */
#define LMDB_PAGE          ((uint64_t)4096)
#define LMDB_SPARE         ((uint64_t)16 << 20)
#define LMDB_GRAIN         ((uint64_t)1 << 20)
#define LMDB_READERS       "126"
#define JSONL_LONGEST_PART ((size_t)256 << 20) /* json-c counts bytes of escaped text in an int */

static void append_json_line(struct text *to, struct json_object *object)
{
    size_t length = 0;
    const char *line = json_object_to_json_string_length(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
    text_append(to, line, length);
    text_append(to, "\n", 1);
    json_object_put(object);
}

void dump_write_begin(struct text *to, const struct dump_style *style)
{
    if (style->format != DUMP_JSONL)
        return;
    struct json_object *object = json_begin("lsm-dump/1");
    json_add_u64(object, "sequence", style->sequence);
    append_json_line(to, object);
}

void dump_write_header(struct text *to, const struct dump_style *style, const char *name)
{
    if (style->format == DUMP_JSONL) {
        struct json_object *object = json_object_new_object();
        json_add(object, "family", name == NULL ? NULL : json_bytes(LSM_SLICE(name, strlen(name))));
        append_json_line(to, object);
        return;
    }
    text_append_format(to, "VERSION=3\nformat=%s\n", style->is_print ? "print" : "bytevalue");
    if (name != NULL) {
        text_append_string(to, "database=");
        text_append_print(to, LSM_SLICE(name, strlen(name)));
        text_append(to, "\n", 1);
    }
    text_append_string(to, "type=btree\n");
    if (style->format == DUMP_LMDB)
        text_append_format(to, "mapsize=%" PRIu64 "\nmaxreaders=" LMDB_READERS "\n",
                           style->map_size);
    if (style->format == DUMP_NATIVE)
        text_append_format(to, "lsm.comparator=bytes\nlsm.seq=%" PRIu64 "\n", style->sequence);
    text_append_string(to, "HEADER=END\n");
}

static void append_part(struct text *to, bool is_print, lsm_slice part)
{
    text_append(to, " ", 1);
    if (is_print)
        text_append_print(to, part);
    else
        text_append_hex(to, part);
    text_append(to, "\n", 1);
}

void dump_write_pair(struct text *to, const struct dump_style *style, lsm_slice key,
                     lsm_slice value)
{
    if (style->format == DUMP_JSONL) {
        struct json_object *object = json_object_new_object();
        json_add(object, "key", json_key(key, style->key_format));
        json_add(object, "value", json_bytes(value));
        append_json_line(to, object);
        return;
    }
    append_part(to, style->is_print, key);
    append_part(to, style->is_print, value);
}

void dump_write_end(struct text *to, const struct dump_style *style, const struct digest *digest)
{
    if (style->format == DUMP_JSONL) {
        struct text hash = {0};
        struct json_object *object = json_object_new_object();
        text_append_format(&hash, "%016" PRIx64, digest_value(digest));
        json_add(object, "end", json_object_new_boolean(true));
        json_add_u64(object, "count", digest->pair_count);
        json_add(object, "xxh3", json_bytes(text_slice(&hash)));
        append_json_line(to, object);
        text_release(&hash);
        return;
    }
    text_append_string(to, "DATA=END\n");
    if (style->format == DUMP_NATIVE)
        text_append_format(to, "lsm.count=%" PRIu64 "\nlsm.xxh3=%016" PRIx64 "\n",
                           digest->pair_count, digest_value(digest));
}

void dump_write_finish(struct text *to, const struct dump_style *style, uint64_t section_count)
{
    if (style->format != DUMP_JSONL)
        return;
    struct json_object *object = json_object_new_object();
    json_add(object, "complete", json_object_new_boolean(true));
    json_add_u64(object, "families", section_count);
    append_json_line(to, object);
}

const char *dump_refuses_name(const struct dump_style *style, const char *name)
{
    bool is_peer_format = style->format == DUMP_BDB || style->format == DUMP_LMDB;
    if (is_peer_format && !text_is_printable(LSM_SLICE(name, strlen(name))))
        return "Berkeley DB and LMDB read such a name differently (only printable characters but "
               "the backslash are safe): use --compat=native or --compat=jsonl";
    return NULL;
}

const char *dump_refuses_pair(const struct dump_style *style, lsm_slice key, lsm_slice value)
{
    if (style->format == DUMP_JSONL &&
        (key.size > JSONL_LONGEST_PART || value.size > JSONL_LONGEST_PART))
        return "a value is over 256 MiB, too long for jsonl: use --compat=native";
    if (style->format != DUMP_LMDB)
        return NULL;
    if (key.size == 0)
        return "a key is empty, which LMDB refuses";
    if (key.size > LMDB_LONGEST_KEY)
        return "a key is longer than 511 bytes, which LMDB refuses";
    if (style->is_print && (memchr(key.data, '\\', key.size) != NULL ||
                            (value.size > 0 && memchr(value.data, '\\', value.size) != NULL)))
        return "the data hold a backslash, which LMDB 0.9.24 reads wrongly in print format: leave "
               "out -p";
    return NULL;
}

uint64_t dump_map_bytes(lsm_slice key, lsm_slice value)
{
    uint64_t bytes = key.size + value.size + LMDB_NODE_BYTES;
    return value.size > LMDB_INLINE_LIMIT ? bytes + LMDB_PAGE : bytes;
}

uint64_t dump_map_size(uint64_t bytes)
{
    uint64_t size = bytes * 2 + LMDB_SPARE;
    return (size + LMDB_GRAIN - 1) / LMDB_GRAIN * LMDB_GRAIN;
}
