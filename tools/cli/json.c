#include "tools/cli/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JSON_EXACT_LIMIT (UINT64_C(1) << 53) /* above it a double loses integers */

struct json_object *json_begin(const char *schema)
{
    struct json_object *object = json_object_new_object();
    json_add_text(object, "schema", schema);
    return object;
}

void json_add(struct json_object *object, const char *name, struct json_object *value)
{
    json_object_object_add(object, name, value);
}

void json_add_text(struct json_object *object, const char *name, const char *text)
{
    json_add(object, name, json_bytes(LSM_SLICE(text, strlen(text))));
}

void json_add_u64(struct json_object *object, const char *name, uint64_t value)
{
    json_add(object, name, json_u64(value));
}

struct json_object *json_u64(uint64_t value)
{
    char digits[24];
    if (value <= JSON_EXACT_LIMIT)
        return json_object_new_uint64(value);
    (void)snprintf(digits, sizeof digits, "%" PRIu64, value);
    return json_object_new_string(digits);
}

static struct json_object *json_encoded(const char *name, lsm_slice bytes,
                                        void (*append)(struct text *, lsm_slice))
{
    struct text encoded = {0};
    struct json_object *object = json_object_new_object();
    append(&encoded, bytes);
    json_add(object, name, json_object_new_string_len(text_string(&encoded), (int)encoded.size));
    text_release(&encoded);
    return object;
}

struct json_object *json_bytes(lsm_slice bytes)
{
    if (!text_is_utf8(bytes))
        return json_encoded("hex", bytes, text_append_hex);
    return json_object_new_string_len(bytes.size == 0 ? "" : bytes.data, (int)bytes.size);
}

struct json_object *json_key(lsm_slice key, enum key_format format)
{
    if (format == KEY_HEX)
        return json_encoded("hex", key, text_append_hex);
    if (format == KEY_BASE64)
        return json_encoded("base64", key, text_append_base64);
    return json_bytes(key);
}

int json_finish(struct cli *cli, struct json_object *object, int code)
{
    if (cli->error.size > 0) {
        struct json_object *error = json_object_new_object();
        json_add_text(error, "status", cli->error_name);
        json_add(error, "message", json_bytes(text_slice(&cli->error)));
        json_add(object, "error", error);
    }
    json_add(object, "exit", json_object_new_int(code));
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
    if (fflush(stdout) != 0)
        code |= cli_error(cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    return code;
}
