/*
 * A directory of regular files as bytes in memory: taken, damaged, put down again, compared. For
 * tests that damage one database many times. Other things than regular files are not
 * taken, nor what is removed meanwhile. Out of
 * memory and failing system calls end the program (99).
 */
#ifndef TESTS_LIB_FOLDER_H
#define TESTS_LIB_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOLDER_NAME_SIZE 64

struct folder_file {
    char name[FOLDER_NAME_SIZE];
    uint8_t *bytes; /* owned */
    size_t size;
};

/* Sorted by name. Zeroed is empty. */
struct folder {
    struct folder_file *files; /* owned */
    size_t count;
};

void folder_release(struct folder *f); /* becomes empty */
void folder_load(struct folder *f, const char *path);
void folder_copy(struct folder *to, const struct folder *from); /* replaces what `to` held */

/* Makes `path` (made when missing) hold exactly these files; folders in it are removed as well. */
void folder_store(const struct folder *f, const char *path);

struct folder_file *folder_find(const struct folder *f, const char *name); /* NULL: there is none */
uint64_t folder_size(const struct folder *f);                              /* bytes of all files */
/* Adds or replaces; the bytes are copied. Pointers to files are not valid afterwards. */
void folder_put(struct folder *f, const char *name, const void *bytes, size_t size);
void folder_remove(struct folder *f, const char *name);
void folder_resize(struct folder_file *file, size_t size); /* new bytes are zero */

/* The first difference as a sentence in static memory, or NULL. LOCK does not count: it is no part
 * of what is kept. */
const char *folder_difference(const struct folder *a, const struct folder *b);

#endif
