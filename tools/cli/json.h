/*
 * JSON as all tools write it, on json-c. Integers that a double cannot hold are strings; bytes that
 * are no UTF-8 are {"hex": "..."}.
 */
#ifndef TOOLS_CLI_JSON_H
#define TOOLS_CLI_JSON_H

#include "tools/cli/cli.h"

#include <json-c/json.h>

/* An object with "schema" set, as "lsm-load/1". */
struct json_object *json_begin(const char *schema);
void json_add(struct json_object *object, const char *name, struct json_object *value);
void json_add_text(struct json_object *object, const char *name, const char *text);
void json_add_u64(struct json_object *object, const char *name, uint64_t value);
struct json_object *json_u64(uint64_t value);
struct json_object *json_bytes(lsm_slice bytes);
/* The same, or always {"hex": ...} or {"base64": ...} when the format says so. */
struct json_object *json_key(lsm_slice key, enum key_format format);

/* Adds "exit" and, when there was one, "error"; prints one line on stdout and frees the object.
 * Returns `code`, with EXIT_OPERATION when stdout cannot be written. */
int json_finish(struct cli *cli, struct json_object *object, int code);

#endif
