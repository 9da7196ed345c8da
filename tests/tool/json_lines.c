/*
 * Reads JSON Lines from stdin strictly; exit status 1 at the first line that is no JSON object.
 * With a path as argument, as "error.message" or "families.0.name", prints that member of each line
 * that has it: strings as they are, all else as JSON.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static struct json_object *member_at(struct json_object *object, char *path)
{
    char *rest = NULL;
    for (char *name = strtok_r(path, ".", &rest); name != NULL; name = strtok_r(NULL, ".", &rest)) {
        struct json_object *next = NULL;
        if (json_object_is_type(object, json_type_array))
            next = json_object_array_get_idx(object, (size_t)strtoul(name, NULL, 10));
        else if (json_object_is_type(object, json_type_object))
            json_object_object_get_ex(object, name, &next);
        if (next == NULL)
            return NULL;
        object = next;
    }
    return object;
}

static int show_line(const char *line, size_t length, const char *path)
{
    struct json_tokener *tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *object = json_tokener_parse_ex(tokener, line, (int)length);
    int is_good = json_object_is_type(object, json_type_object) &&
                  json_tokener_get_parse_end(tokener) == length;
    if (is_good && path != NULL) {
        char *copy = strdup(path);
        struct json_object *member = copy == NULL ? NULL : member_at(object, copy);
        if (member != NULL)
            puts(json_object_get_string(member));
        free(copy);
    }
    json_object_put(object);
    json_tokener_free(tokener);
    return is_good;
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t capacity = 0, number = 0;
    ssize_t length;
    int is_good = 1;
    while (is_good && (length = getline(&line, &capacity, stdin)) > 0) {
        number++;
        if (line[length - 1] == '\n')
            length--;
        is_good = show_line(line, (size_t)length, argc > 1 ? argv[1] : NULL);
    }
    free(line);
    if (!is_good)
        fprintf(stderr, "line %zu is no JSON object\n", number);
    return is_good && number > 0 ? 0 : 1;
}
