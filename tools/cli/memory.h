/*
 * The tools' heap. A tool has nothing better to do without memory than to say so and end, so these
 * never return NULL: the program ends with exit code 8 instead. The database stays consistent, as
 * after any other death of a process.
 */
#ifndef TOOLS_CLI_MEMORY_H
#define TOOLS_CLI_MEMORY_H

#include <stddef.h>

void *memory_alloc(size_t size) __attribute__((malloc, warn_unused_result, returns_nonnull));
void *memory_resize(void *memory, size_t size) __attribute__((warn_unused_result));
char *memory_copy_text(const char *text) __attribute__((warn_unused_result));
void memory_free(void *memory); /* NULL is allowed */

#endif
