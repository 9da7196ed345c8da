/* What the parts of tests/damaged/damage share: the database under the knife. */
#ifndef TESTS_DAMAGED_DAMAGE_H
#define TESTS_DAMAGED_DAMAGE_H

#include "engine/format/edit.h"
#include "tests/lib/atlas.h"
#include "tests/lib/specimen.h"

#include <stdio.h>

#define WORDS_MAX      8
#define AFTERWARDS_MAX 8

/* A line of the script. */
struct command {
    const char *words[WORDS_MAX]; /* the first is its name */
    size_t count;
};

struct surgeon {
    struct specimen specimen;
    struct atlas atlas;                        /* of the sound files */
    struct version_edit state;                 /* of the sound manifest */
    struct folder work;                        /* what is damaged */
    struct command afterwards[AFTERWARDS_MAX]; /* to be done in the directory */
    size_t afterwards_count;
    unsigned line; /* of the script, for messages */
};

/* Says what is wrong with the script, and ends the program (99). */
_Noreturn __attribute__((format(printf, 2, 3))) void bad_script(const struct surgeon *s,
                                                                const char *format, ...);

/* Word `index`, which has to be there; a number, decimal or 0x..., maybe negative. */
const char *word(const struct surgeon *s, const struct command *c, size_t index);
int64_t number(const struct surgeon *s, const struct command *c, size_t index);

/*
 * The file that a word of the script means: "manifest", "previous" (the older one), "stage",
 * "wal1", "wal2" (segments of the log that are needed), "top" and "bottom" (tables of the default
 * family, level 0 and the lowest), "words" and "dictionary" (the same of the family words), "blob1"
 * and "blob2" (blob files that are needed), "replaced" (a table that is not needed), "spare";
 * anything else is a name.
 */
const char *file_name_of(const struct surgeon *s, const char *word);
struct folder_file *file_of(struct surgeon *s, const struct command *c, size_t index);
/* The number of that table. */
uint64_t table_number_of(struct surgeon *s, const struct command *c, size_t index);

/* The part of the sound file that words `index` (file), + 1 (kind), + 2 (which) mean. */
const struct atlas_part *part_of(struct surgeon *s, const struct command *c, size_t index);

/* Each does the command when it is one of its own; false: it is not. */
bool damage_files(struct surgeon *s, const struct command *c);
bool damage_parts(struct surgeon *s, const struct command *c);
bool damage_state(struct surgeon *s, const struct command *c);

/* One line of MUST and EVER. */
void print_pair(FILE *out, const char *family, lsm_slice key, size_t size, uint64_t hash);

/* What main() does with --pairs, --verify and --repair; the exit status. */
int print_pairs(const char *directory);
int print_findings(const char *directory);
int print_repair(const char *directory, const char *ranges);

#endif
