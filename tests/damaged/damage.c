/*
 * Makes a database with a named damage, for tests/damaged/run.sh:
 *
 *     damage SCRIPT DIRECTORY MUST ALL EVER
 *
 * The database is always the same (tests/lib/specimen.h), or, with the line `blobs` in it, the one
 * with blob files. SCRIPT has one command a line; what they
 * do is said in the files beside this one. MUST becomes the list of pairs whose newest version no
 * damage touches, ALL that of all
 * pairs before the damage, EVER that of all that were ever there: lines of family, key, and size
 * and hash of the value, in hexadecimal.
 *
 *     damage --pairs DIRECTORY      prints the pairs that a database holds in the same form
 *     damage --verify DIRECTORY     what lsm_verify() finds in it: id, file, and whether the keys
 *                                   that it may concern are told
 *     damage --repair DIRECTORY [RANGES]
 *                                   repairs it, and prints what was done and what is lost; RANGES
 *                                   becomes the list of the ranges that are told: family number,
 *                                   first, last, in hexadecimal behind an x, "-" for no bound
 */
#include "tests/damaged/damage.h"

#include "engine/format/current.h"
#include "engine/format/file_name.h"
#include "engine/version/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_SIZE 400

void bad_script(const struct surgeon *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "line %u of the script: ", s->line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(99);
}

const char *word(const struct surgeon *s, const struct command *c, size_t index)
{
    if (index >= c->count)
        bad_script(s, "'%s' takes more words", c->words[0]);
    return c->words[index];
}

int64_t number(const struct surgeon *s, const struct command *c, size_t index)
{
    char *end;
    const char *text = word(s, c, index);
    int64_t value = strtoll(text, &end, 0);
    if (*text == '\0' || *end != '\0')
        bad_script(s, "'%s' is no number", text);
    return value;
}

/* ---- which file ------------------------------------------------------------------------------ */

static const char *table_at(const struct surgeon *s, uint32_t family, bool lowest)
{
    static char name[FILE_NAME_SIZE];
    for (size_t i = 0; i < s->state.added_count; i++) {
        const struct table_meta *meta = &s->state.added[i];
        if (meta->cf == family && (meta->level > 0) == lowest)
            return file_name_make(FILE_TABLE, meta->number, name);
    }
    bad_script(s, "there is no such table");
}

static const char *nth_file(const struct surgeon *s, const char *pattern, bool is_live,
                            size_t index)
{
    for (size_t i = 0; i < s->specimen.files.count; i++) {
        const char *name = s->specimen.files.files[i].name;
        bool live = false;
        for (size_t k = 0; k < s->atlas.part_count; k++)
            live = live || (s->atlas.parts[k].is_live && strcmp(s->atlas.parts[k].file, name) == 0);
        if (strstr(name, pattern) != NULL && live == is_live && index-- == 0)
            return name;
    }
    bad_script(s, "there is no such file");
}

const char *file_name_of(const struct surgeon *s, const char *text)
{
    static const struct {
        const char *word, *pattern;
        bool is_live;
        size_t index;
    } files[] = {
        {"manifest", "MANIFEST-", true, 0}, {"previous", "MANIFEST-", false, 0},
        {"wal1", ".wal", true, 0},          {"wal2", ".wal", true, 1},
        {"replaced", ".sst", false, 0},     {"spare", ".spare", false, 0},
        {"blob1", ".blob", true, 0},        {"blob2", ".blob", true, 1},
    };
    static const struct {
        const char *word;
        uint32_t family;
        bool lowest;
    } tables[] = {
        {"top", SPECIMEN_DEFAULT, false},
        {"bottom", SPECIMEN_DEFAULT, true},
        {"words", SPECIMEN_WORDS, false},
        {"dictionary", SPECIMEN_WORDS, true},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(files[i].word, text) == 0)
            return nth_file(s, files[i].pattern, files[i].is_live, files[i].index);
    }
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (strcmp(tables[i].word, text) == 0)
            return table_at(s, tables[i].family, tables[i].lowest);
    }
    return strcmp(text, "stage") == 0 ? "STAGE" : text;
}

struct folder_file *file_of(struct surgeon *s, const struct command *c, size_t index)
{
    const char *name = file_name_of(s, word(s, c, index));
    struct folder_file *file = folder_find(&s->work, name);
    if (file == NULL)
        bad_script(s, "there is no file '%s'", name);
    return file;
}

uint64_t table_number_of(struct surgeon *s, const struct command *c, size_t index)
{
    enum file_kind kind;
    uint64_t found;
    const char *name = file_name_of(s, word(s, c, index));
    if (!file_name_parse(name, &kind, &found) || kind != FILE_TABLE)
        bad_script(s, "'%s' is no table", name);
    return found;
}

const struct atlas_part *part_of(struct surgeon *s, const struct command *c, size_t index)
{
    const char *name = file_name_of(s, word(s, c, index)), *kind = word(s, c, index + 1);
    int64_t left = number(s, c, index + 2);
    for (size_t i = 0; i < s->atlas.part_count; i++) {
        const struct atlas_part *part = &s->atlas.parts[left < 0 ? s->atlas.part_count - 1 - i : i];
        if (strcmp(part->file, name) == 0 && strcmp(atlas_kind_name(part->kind), kind) == 0 &&
            (left < 0 ? ++left : left--) == 0)
            return part;
    }
    bad_script(s, "'%s' has no such %s", name, kind);
}

/* ---- the script ------------------------------------------------------------------------------ */

/* Words are divided by blanks; an underline in one stands for a blank. The line is kept. */
static struct command split(char *line)
{
    struct command c = {0};
    line[strcspn(line, "#\n")] = '\0';
    for (char *at = strtok(line, " "); at != NULL && c.count < WORDS_MAX; at = strtok(NULL, " ")) {
        for (char *blank = strchr(at, '_'); blank != NULL; blank = strchr(blank, '_'))
            *blank = ' ';
        c.words[c.count++] = at;
    }
    return c;
}

/* The line `blobs` anywhere: the specimen is the one with blob files. */
static bool wants_blobs(const struct surgeon *s, const char *path)
{
    char line[LINE_MAX_SIZE];
    bool found = false;
    FILE *script = fopen(path, "r");
    if (script == NULL)
        bad_script(s, "cannot read '%s': %s", path, strerror(errno));
    while (fgets(line, sizeof line, script) != NULL)
        found = found || strcmp(line, "blobs\n") == 0;
    fclose(script);
    return found;
}

static void run_script(struct surgeon *s, const char *path)
{
    char line[LINE_MAX_SIZE];
    FILE *script = fopen(path, "r");
    if (script == NULL)
        bad_script(s, "cannot read '%s': %s", path, strerror(errno));
    while (fgets(line, sizeof line, script) != NULL) {
        char *kept = strdup(line); /* for what is done afterwards */
        struct command c = split(kept);
        s->line++;
        /* For run.sh: sound pairs are made that never were. For wants_blobs(). */
        if (c.count > 0 &&
            (strcmp(c.words[0], "forges") == 0 || strcmp(c.words[0], "blobs") == 0)) {
            free(kept);
            continue;
        }
        if (c.count > 0 && !damage_files(s, &c) && !damage_parts(s, &c) && !damage_state(s, &c))
            bad_script(s, "there is no command '%s'", c.words[0]);
        if (s->afterwards_count == 0)
            free(kept);
    }
    fclose(script);
}

/* ---- what must come back --------------------------------------------------------------------- */

static bool part_is_whole(const struct surgeon *s, size_t index)
{
    const struct atlas_part *part = &s->atlas.parts[index];
    const struct folder_file *a = folder_find(&s->specimen.files, part->file);
    const struct folder_file *b = folder_find(&s->work, part->file);
    uint64_t end = part->offset + part->size;
    if (b == NULL)
        return false;
    if (end > a->size) /* it wraps around in the ring */
        return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
    return end <= b->size &&
           memcmp(a->bytes + part->offset, b->bytes + part->offset, (size_t)part->size) == 0;
}

/* No byte that it takes to read the version has changed. */
static bool is_whole(const struct surgeon *s, const struct model_version *v)
{
    for (size_t i = 0; i < s->atlas.entry_count; i++) {
        const struct atlas_entry *entry = &s->atlas.entries[i];
        bool whole = entry->family == v->family && entry->sequence == v->sequence &&
                     slice_equal(entry->key, v->key);
        for (size_t k = 0; whole && k < entry->need_count; k++)
            whole = part_is_whole(s, entry->needs[k]);
        if (whole)
            return true;
    }
    return false;
}

static FILE *open_list(const struct surgeon *s, const char *path)
{
    FILE *out = fopen(path, "w");
    if (out == NULL)
        bad_script(s, "cannot write '%s': %s", path, strerror(errno));
    return out;
}

static void write_lists(const struct surgeon *s, char **paths)
{
    const struct model *m = &s->specimen.model;
    FILE *must = open_list(s, paths[0]), *all = open_list(s, paths[1]);
    FILE *ever = open_list(s, paths[2]);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_version *v = m->versions[i];
        const char *family = m->families[v->family].name;
        if (v->is_delete)
            continue;
        print_pair(ever, family, v->key, v->size, v->hash);
        if (!m->families[v->family].is_live || model_get(m, v->family, v->key, MODEL_NEWEST) != v)
            continue;
        print_pair(all, family, v->key, v->size, v->hash);
        if (is_whole(s, v))
            print_pair(must, family, v->key, v->size, v->hash);
    }
    if (fclose(must) != 0 || fclose(all) != 0 || fclose(ever) != 0)
        bad_script(s, "cannot write the lists");
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void read_state(struct surgeon *s)
{
    const struct folder_file *file =
        folder_find(&s->specimen.files, nth_file(s, "MANIFEST-", true, 0));
    struct frame_place place = {.file_number = s->atlas.manifest};
    struct frame_chain chain;
    bool is_torn;
    memcpy(place.uuid, s->atlas.uuid, sizeof place.uuid);
    if (replay_manifest(&place, file->name, LSM_SLICE(file->bytes, file->size), &s->state, &chain,
                        &is_torn, NULL) != LSM_OK)
        bad_script(s, "the specimen's manifest is not sound");
}

static void do_afterwards(struct surgeon *s, const struct command *c, const char *directory)
{
    char place[500], outside[500];
    const char *name = file_name_of(s, word(s, c, 1));
    snprintf(place, sizeof place, "%s/%s", directory, name);
    snprintf(outside, sizeof outside, "%s.outside", directory);
    int result;
    if (strcmp(c->words[0], "mode") == 0)
        result = chmod(place, (mode_t)number(s, c, 2));
    else if (strcmp(c->words[0], "owner") == 0)
        result = chown(place, (uid_t)number(s, c, 2), (gid_t)-1);
    else if (strcmp(c->words[0], "hard-link") == 0)
        result = link(place, outside);
    else if (rename(place, outside) != 0)
        result = -1;
    else if (strcmp(c->words[0], "link") == 0)
        result = symlink(outside, place);
    else if (strcmp(c->words[0], "fifo") == 0)
        result = mkfifo(place, 0600);
    else
        result = mkdir(place, 0700);
    if (result != 0 && errno == EPERM)
        exit(77); /* for the superuser only */
    if (result != 0)
        bad_script(s, "%s %s: %s", c->words[0], name, strerror(errno));
}

int main(int argc, char **argv)
{
    static struct surgeon s;
    if (argc == 3 && strcmp(argv[1], "--pairs") == 0)
        return print_pairs(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--verify") == 0)
        return print_findings(argv[2]);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "--repair") == 0)
        return print_repair(argv[2], argv[3]);
    if (argc != 6) {
        fprintf(stderr, "usage: damage SCRIPT DIRECTORY MUST ALL EVER\n"
                        "       damage --pairs|--verify DIRECTORY\n"
                        "       damage --repair DIRECTORY [RANGES]\n");
        return 99;
    }
    specimen_make(&s.specimen, argv[2], wants_blobs(&s, argv[1]) ? SPECIMEN_BLOBS : 0);
    if (!atlas_make(&s.atlas, &s.specimen.files))
        return 99;
    read_state(&s);
    folder_copy(&s.work, &s.specimen.files);
    run_script(&s, argv[1]);
    folder_store(&s.work, argv[2]);
    for (size_t i = 0; i < s.afterwards_count; i++) {
        const char *done = s.afterwards[i].words[0];
        do_afterwards(&s, &s.afterwards[i], argv[2]);
        if (strcmp(done, "link") == 0 || strcmp(done, "fifo") == 0 || strcmp(done, "folder") == 0)
            folder_remove(&s.work, file_name_of(&s, word(&s, &s.afterwards[i], 1)));
    }
    write_lists(&s, argv + 3);
    edit_release(&s.state);
    folder_release(&s.work);
    atlas_release(&s.atlas);
    specimen_release(&s.specimen);
    return 0;
}
