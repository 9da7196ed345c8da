/*
 * Commands on whole files:
 *
 *     cut FILE SIZE           grow FILE BYTES         poke FILE OFFSET HEX (from the end: negative)
 *     remove FILE             rename FILE NAME        duplicate FILE NAME
 *     write FILE TEXT         old FILE (as it was before the second life of the database)
 *     link FILE | fifo FILE | folder FILE | hard-link FILE | owner FILE UID
 *     mode FILE MODE ("." is the directory)
 */
#include "tests/damaged/damage.h"

#include <ctype.h>
#include <stdlib.h>

static void poke(struct surgeon *s, struct folder_file *file, int64_t offset, const char *hex)
{
    uint64_t at = offset < 0 ? file->size - (uint64_t)-offset : (uint64_t)offset;
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        if (at >= file->size || !isxdigit((unsigned char)hex[0]) ||
            !isxdigit((unsigned char)hex[1]))
            bad_script(s, "these bytes cannot be poked");
        file->bytes[at++] = (uint8_t)strtoul(digits, NULL, 16);
    }
}

static void duplicate(struct surgeon *s, const struct command *c)
{
    const struct folder_file *file = file_of(s, c, 1);
    uint8_t *bytes = test_alloc(file->size);
    size_t size = file->size;
    memcpy(bytes, file->bytes, size);
    folder_put(&s->work, file_name_of(s, word(s, c, 2)), bytes, size);
    free(bytes);
}

static void put_old(struct surgeon *s, const struct command *c)
{
    const char *name = file_name_of(s, word(s, c, 1));
    const struct folder_file *old = folder_find(&s->specimen.earlier, name);
    if (old == NULL)
        bad_script(s, "there was no '%s' then", name);
    folder_put(&s->work, name, old->bytes, old->size);
}

static void keep_for_later(struct surgeon *s, const struct command *c)
{
    if (s->afterwards_count == AFTERWARDS_MAX)
        bad_script(s, "too many of them");
    s->afterwards[s->afterwards_count++] = *c;
}

bool damage_files(struct surgeon *s, const struct command *c)
{
    static const char *const later[] = {"link", "fifo", "folder", "hard-link", "mode", "owner"};
    const char *name = c->words[0];
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (strcmp(name, later[i]) == 0) {
            keep_for_later(s, c);
            return true;
        }
    }
    if (strcmp(name, "cut") == 0)
        folder_resize(file_of(s, c, 1), (size_t)number(s, c, 2));
    else if (strcmp(name, "grow") == 0)
        folder_resize(file_of(s, c, 1), file_of(s, c, 1)->size + (size_t)number(s, c, 2));
    else if (strcmp(name, "poke") == 0)
        poke(s, file_of(s, c, 1), number(s, c, 2), word(s, c, 3));
    else if (strcmp(name, "write") == 0)
        folder_put(&s->work, file_name_of(s, word(s, c, 1)), word(s, c, 2), strlen(word(s, c, 2)));
    else if (strcmp(name, "old") == 0)
        put_old(s, c);
    else if (strcmp(name, "remove") == 0 || strcmp(name, "duplicate") == 0 ||
             strcmp(name, "rename") == 0) {
        if (name[0] != 'r' || name[2] == 'n')
            duplicate(s, c);
        if (name[0] == 'r')
            folder_remove(&s->work, file_name_of(s, word(s, c, 1)));
    } else
        return false;
    return true;
}
