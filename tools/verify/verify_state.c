/*
 * The state is text, so that it can be looked at, and is written anew as a whole:
 *
 *     lsm-verify-state 1
 *     uuid 0f8b...
 *     run 1700000000 complete
 *     table 000012.sst 33554432 91c2a0b3c4d5e6f7 full 1700000000
 *
 * A line that cannot be read is left out: then its table is verified once more.
 */
#include "tools/verify/verify.h"

#include "tools/cli/memory.h"
#include "tools/cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LINE_MAX_SIZE 256
#define UUID_TEXT     32

/* ---- where it is ----------------------------------------------------------------------------- */

/* Makes the directories of a path, but for its last part. */
static void make_parents(char *path)
{
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(path, 0700); /* when it fails, so does writing the file, which is told */
        *at = '/';
    }
}

static uint64_t hash_of(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a: a name, nothing depends on it */
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

char *verify_state_default_path(const char *directory)
{
    const char *state = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
    struct text path = {0};
    char *real = realpath(directory, NULL);
    bool has_state = state != NULL && state[0] == '/';
    if (real == NULL || (!has_state && (home == NULL || home[0] != '/'))) {
        free(real);
        return NULL;
    }
    text_append_format(&path, "%s%s/libengine/verify-%016" PRIx64, has_state ? state : home,
                       has_state ? "" : "/.local/state", hash_of(real));
    free(real);
    char *made = memory_copy_text(text_string(&path));
    text_release(&path);
    make_parents(made);
    return made;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
    if (strlen(text) != UUID_TEXT)
        return false;
    for (size_t i = 0; i < 16; i++) {
        unsigned byte = 0;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        uuid[i] = (uint8_t)byte;
    }
    return true;
}

static void take_line(struct verify_state *s, const char *line)
{
    struct verified t = {.size = 0};
    char word[LINE_MAX_SIZE];
    if (sscanf(line, "uuid %255s", word) == 1)
        s->has_uuid = parse_uuid(word, s->uuid);
    else if (sscanf(line, "run %" SCNu64 " %255s", &s->run_began, word) == 2)
        s->run_is_complete = strcmp(word, "complete") == 0;
    else if (sscanf(line, "table %39s %" SCNu64 " %" SCNx64 " %255s %" SCNu64, t.name, &t.size,
                    &t.digest, word, &t.seconds) == 5)
        verify_state_note(s, t.name, t.size, t.digest, strcmp(word, "full") == 0, t.seconds, true);
}

static int compare(const void *a, const void *b)
{
    const struct verified *x = a, *y = b;
    return strcmp(x->name, y->name);
}

const char *verify_state_load(struct verify_state *s)
{
    char line[LINE_MAX_SIZE];
    FILE *file = fopen(s->path, "re");
    if (file == NULL)
        return errno == ENOENT ? NULL : strerror(errno);
    const char *wrong = NULL;
    if (fgets(line, sizeof line, file) == NULL)
        wrong = NULL; /* empty, as a file that was just made */
    else if (strcmp(line, "lsm-verify-state 1\n") != 0)
        wrong = "it is not a state of lsm-verify";
    while (wrong == NULL && fgets(line, sizeof line, file) != NULL)
        take_line(s, line);
    (void)fclose(file);
    if (s->count > 0)
        qsort(s->tables, s->count, sizeof *s->tables, compare);
    s->sorted = s->count;
    return wrong;
}

void verify_state_identify(struct verify_state *s, const uint8_t uuid[16])
{
    if (s->has_uuid && memcmp(s->uuid, uuid, sizeof s->uuid) != 0) {
        s->count = s->sorted = 0;
        s->run_is_complete = false;
        s->run_began = 0;
    }
    memcpy(s->uuid, uuid, sizeof s->uuid);
    s->has_uuid = true;
}

/* ---- looking up and changing ----------------------------------------------------------------- */

static struct verified *find_name(const struct verify_state *s, const char *name)
{
    struct verified wanted = {.size = 0};
    (void)snprintf(wanted.name, sizeof wanted.name, "%s", name);
    struct verified *found =
        s->sorted == 0 ? NULL : bsearch(&wanted, s->tables, s->sorted, sizeof *s->tables, compare);
    for (size_t i = s->sorted; found == NULL && i < s->count; i++) {
        if (strcmp(s->tables[i].name, wanted.name) == 0)
            found = &s->tables[i];
    }
    return found;
}

const struct verified *verify_state_find(const struct verify_state *s, const char *name,
                                         uint64_t size, uint64_t digest)
{
    const struct verified *t = find_name(s, name);
    return t != NULL && t->size == size && t->digest == digest && t->seconds > 0 ? t : NULL;
}

void verify_state_note(struct verify_state *s, const char *name, uint64_t size, uint64_t digest,
                       unsigned level, uint64_t seconds, bool is_sound)
{
    struct verified *t = s->sorted > 0 ? find_name(s, name) : NULL;
    if (t == NULL) {
        if (s->count == s->room) {
            s->room = s->room == 0 ? 64 : s->room * 2;
            s->tables = memory_resize(s->tables, s->room * sizeof *s->tables);
        }
        t = &s->tables[s->count++];
        *t = (struct verified){.size = 0};
        (void)snprintf(t->name, sizeof t->name, "%s", name);
    }
    t->size = size;
    t->digest = digest;
    t->level = level;
    t->seconds = is_sound ? seconds : 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

int verify_state_save(const struct verify_state *s)
{
    struct output o;
    if (!output_open(&o, s->path)) {
        int number = o.os_errno;
        output_close(&o);
        return number;
    }
    text_append_string(&o.pending, "lsm-verify-state 1\nuuid ");
    text_append_hex(&o.pending, LSM_SLICE(s->uuid, sizeof s->uuid));
    text_append_format(&o.pending, "\nrun %" PRIu64 " %s\n", s->run_began,
                       s->run_is_complete ? "complete" : "open");
    bool is_good = output_put(&o);
    for (size_t i = 0; is_good && i < s->count; i++) {
        const struct verified *t = &s->tables[i];
        if (t->seconds == 0)
            continue;
        text_append_format(&o.pending, "table %s %" PRIu64 " %016" PRIx64 " %s %" PRIu64 "\n",
                           t->name, t->size, t->digest, t->level > 0 ? "full" : "normal",
                           t->seconds);
        is_good = output_put(&o);
    }
    if (is_good)
        is_good = output_commit(&o);
    int number = is_good ? 0 : o.os_errno;
    output_close(&o);
    return number;
}

void verify_state_release(struct verify_state *s)
{
    memory_free(s->path);
    memory_free(s->tables);
    *s = (struct verify_state){0};
}
