/* Operations as text and back. */
#include "tests/lib/script.h"

#include "engine/base/bytes.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[SCRIPT_KINDS] = {
#define KIND_NAME(name, text) text,
    SCRIPT_KIND_LIST(KIND_NAME)
#undef KIND_NAME
};

static const char *const power_names[] = {"kill", "lose", "keep", "random"};
static const char *const entry_names[] = {"put", "delete", "save", "rollback", "key"};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    unsigned flag;
    const char *name;
} flag_names[] = {
    {SCRIPT_F_SYNC, "sync"},   {SCRIPT_F_KEYS_ONLY, "keys_only"}, {SCRIPT_F_NO_FILL, "no_fill"},
    {SCRIPT_F_FORCE, "force"}, {SCRIPT_F_CANCEL, "cancel"},       {SCRIPT_F_READ_ONLY, "read_only"},
    {SCRIPT_F_TXN, "txn"},     {SCRIPT_F_ABORT, "abort"},         {SCRIPT_F_INGEST, "ingest"},
};

size_t script_key_size(const struct script_key *key)
{
    return (size_t)key->repeat + key->tail_size;
}

lsm_slice script_key_bytes(const struct script_key *key, uint8_t *bytes)
{
    memset(bytes, key->byte, key->repeat);
    memcpy(bytes + key->repeat, key->tail, key->tail_size);
    return LSM_SLICE(bytes, script_key_size(key));
}

void script_release(struct script *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->ops[i].entries);
    free(s->ops);
    *s = (struct script){0};
}

void script_append(struct script *s, struct script_op op)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity * 2 + 64;
        s->ops = test_resize(s->ops, s->capacity * sizeof *s->ops);
    }
    s->ops[s->count++] = op;
}

struct script script_copy(const struct script *s, const bool *kept)
{
    struct script copy = *s;
    copy.ops = NULL;
    copy.count = copy.capacity = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (kept != NULL && !kept[i])
            continue;
        struct script_op op = s->ops[i];
        op.entries = NULL;
        if (op.entry_count > 0) {
            op.entries = test_alloc(op.entry_count * sizeof *op.entries);
            memcpy(op.entries, s->ops[i].entries, op.entry_count * sizeof *op.entries);
        }
        script_append(&copy, op);
    }
    return copy;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void print_key(FILE *out, const struct script_key *key)
{
    fprintf(out, "%02x*%u.", key->byte, key->repeat);
    for (size_t i = 0; i < key->tail_size; i++)
        fprintf(out, "%02x", key->tail[i]);
}

static void print_value(FILE *out, struct model_value value)
{
    fprintf(out, "%llu:%u", (unsigned long long)value.seed, value.size);
}

static void print_entry(FILE *out, const struct script_entry *entry)
{
    fprintf(out, " +%s", entry_names[entry->kind]);
    if (entry->kind == SCRIPT_ENTRY_SAVE || entry->kind == SCRIPT_ENTRY_ROLLBACK)
        return;
    fprintf(out, ",%u,", entry->family);
    print_key(out, &entry->key);
    if (entry->kind == SCRIPT_ENTRY_PUT) {
        fputc(',', out);
        print_value(out, entry->value);
    }
}

static bool kind_is_compact(enum script_kind kind)
{
    return kind == SCRIPT_COMPACT || kind == SCRIPT_ITER_OPEN;
}

void script_print_op(FILE *out, const struct script_op *op)
{
    fprintf(out, "%s", kind_names[op->kind]);
    if (op->family != 0)
        fprintf(out, " cf=%u", op->family);
    if (op->snapshot != 0)
        fprintf(out, " snapshot=%u", op->snapshot);
    if (op->slot != 0)
        fprintf(out, " slot=%u", op->slot);
    if (op->count != 0)
        fprintf(out, " count=%u", op->count);
    if (op->name != 0)
        fprintf(out, " name=%u", op->name);
    if (op->kind == SCRIPT_CRASH)
        fprintf(out, " power=%s seed=%llu", power_names[op->power], (unsigned long long)op->seed);
    if ((op->flags & SCRIPT_F_KEY) != 0) {
        fprintf(out, kind_is_compact(op->kind) ? " first=" : " key=");
        print_key(out, &op->key);
    }
    if ((op->flags & SCRIPT_F_LIMIT) != 0) {
        fputs(" limit=", out);
        print_key(out, &op->limit);
    }
    if ((op->flags & SCRIPT_F_PREFIX) != 0) {
        fputs(" prefix=", out);
        print_key(out, &op->prefix);
    }
    if (op->kind == SCRIPT_PUT) {
        fputs(" value=", out);
        print_value(out, op->value);
    }
    for (size_t i = 0; i < COUNT_OF(flag_names); i++) {
        if ((op->flags & flag_names[i].flag) != 0)
            fprintf(out, " %s", flag_names[i].name);
    }
    for (uint32_t i = 0; i < op->entry_count; i++)
        print_entry(out, &op->entries[i]);
    fputc('\n', out);
}

void script_print(FILE *out, const struct script *s)
{
    if (s->backend[0] != '\0')
        fprintf(out, "backend %s\n", s->backend);
    if (s->options[0] != '\0')
        fprintf(out, "options %s\n", s->options);
    for (size_t i = 0; i < s->count; i++)
        script_print_op(out, &s->ops[i]);
}

/* ---- parsing --------------------------------------------------------------------------------- */

static int find_name(const char *const *names, size_t count, const char *wanted)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], wanted) == 0)
            return (int)i;
    }
    return -1;
}

static bool parse_key(const char *text, struct script_key *key)
{
    unsigned byte, repeat;
    int used = 0;
    if (sscanf(text, "%2x*%u.%n", &byte, &repeat, &used) != 2 || used == 0)
        return false;
    *key = (struct script_key){.byte = (uint8_t)byte, .repeat = repeat};
    for (const char *at = text + used; *at != '\0'; at += 2) {
        if (key->tail_size == SCRIPT_TAIL_MAX || sscanf(at, "%2x", &byte) != 1 || at[1] == '\0')
            return false;
        key->tail[key->tail_size++] = (uint8_t)byte;
    }
    return script_key_size(key) <= SCRIPT_KEY_MAX;
}

static bool parse_value(const char *text, struct model_value *value)
{
    unsigned long long seed;
    if (sscanf(text, "%llu:%u", &seed, &value->size) != 2)
        return false;
    value->seed = seed;
    return true;
}

static bool parse_entry(char *text, struct script_entry *entry)
{
    char *save = NULL;
    char *name = strtok_r(text, ",", &save);
    int kind = name == NULL ? -1 : find_name(entry_names, COUNT_OF(entry_names), name);
    if (kind < 0)
        return false;
    *entry = (struct script_entry){.kind = (enum script_entry_kind)kind};
    if (entry->kind == SCRIPT_ENTRY_SAVE || entry->kind == SCRIPT_ENTRY_ROLLBACK)
        return true;
    char *family = strtok_r(NULL, ",", &save);
    char *key = strtok_r(NULL, ",", &save);
    if (family == NULL || key == NULL || !parse_key(key, &entry->key))
        return false;
    entry->family = (uint32_t)strtoul(family, NULL, 10) % SCRIPT_FAMILIES;
    char *value = strtok_r(NULL, ",", &save);
    return entry->kind != SCRIPT_ENTRY_PUT || (value != NULL && parse_value(value, &entry->value));
}

static bool parse_pair(const char *name, const char *value, struct script_op *op)
{
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "cf") == 0)
        op->family = number % SCRIPT_FAMILIES;
    else if (strcmp(name, "snapshot") == 0)
        op->snapshot = number % (SCRIPT_SNAPSHOTS + 1);
    else if (strcmp(name, "slot") == 0)
        op->slot = number;
    else if (strcmp(name, "count") == 0)
        op->count = number;
    else if (strcmp(name, "name") == 0)
        op->name = number;
    else if (strcmp(name, "seed") == 0)
        op->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "value") == 0)
        return parse_value(value, &op->value);
    else if (strcmp(name, "power") == 0) {
        int power = find_name(power_names, COUNT_OF(power_names), value);
        op->power = (enum script_power)power;
        return power >= 0;
    } else if (strcmp(name, "key") == 0 || strcmp(name, "first") == 0) {
        op->flags |= SCRIPT_F_KEY;
        return parse_key(value, &op->key);
    } else if (strcmp(name, "limit") == 0) {
        op->flags |= SCRIPT_F_LIMIT;
        return parse_key(value, &op->limit);
    } else if (strcmp(name, "prefix") == 0) {
        op->flags |= SCRIPT_F_PREFIX;
        return parse_key(value, &op->prefix);
    } else
        return false;
    return true;
}

static bool parse_word(char *word, struct script_op *op)
{
    if (word[0] == '+') {
        struct script_entry entry;
        if (!parse_entry(word + 1, &entry))
            return false;
        op->entries = test_resize(op->entries, (op->entry_count + 1) * sizeof entry);
        op->entries[op->entry_count++] = entry;
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(flag_names); i++) {
        if (strcmp(word, flag_names[i].name) == 0) {
            op->flags |= flag_names[i].flag;
            return true;
        }
    }
    char *equals = strchr(word, '=');
    if (equals == NULL)
        return false;
    *equals = '\0';
    return parse_pair(word, equals + 1, op);
}

static bool append_header(struct script *s, const char *word, const char *rest)
{
    char *field = strcmp(word, "options") == 0 ? s->options : s->backend;
    size_t size = strcmp(word, "options") == 0 ? sizeof s->options : sizeof s->backend;
    return rest != NULL && snprintf(field, size, "%s", rest) < (int)size;
}

bool script_append_text(struct script *s, const char *line)
{
    size_t size = strlen(line) + 1;
    char *copy = test_alloc(size);
    memcpy(copy, line, size);
    copy[strcspn(copy, "#\r\n")] = '\0';
    char *save = NULL;
    char *word = strtok_r(copy, " \t", &save);
    struct script_op op = {0};
    bool parsed = true;
    int kind = -1;
    if (word == NULL)
        goto out;
    if (strcmp(word, "options") == 0 || strcmp(word, "backend") == 0) {
        parsed = append_header(s, word, strtok_r(NULL, " \t", &save));
        goto out;
    }
    kind = find_name(kind_names, SCRIPT_KINDS, word);
    parsed = kind >= 0;
    while (parsed && (word = strtok_r(NULL, " \t", &save)) != NULL)
        parsed = parse_word(word, &op);
    if (!parsed) {
        fprintf(stderr, "not an operation: %s\n", line);
        free(op.entries);
        goto out;
    }
    op.kind = (enum script_kind)kind;
    script_append(s, op);
out:
    free(copy);
    return parsed;
}

bool script_read(struct script *s, const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "cannot open '%s'\n", path);
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool parsed = true;
    while (parsed && getline(&line, &capacity, file) >= 0)
        parsed = script_append_text(s, line);
    free(line);
    fclose(file);
    return parsed;
}
