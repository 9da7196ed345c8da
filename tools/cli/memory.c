#include "tools/cli/memory.h"

#include "tools/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *memory_checked(void *memory, size_t size)
{
    if (memory != NULL)
        return memory;
    fprintf(stderr, "out of memory: %zu bytes wanted\n", size);
    exit(EXIT_OPERATION);
}

void *memory_alloc(size_t size)
{
    return memory_checked(malloc(size == 0 ? 1 : size), size);
}

void *memory_resize(void *memory, size_t size)
{
    return memory_checked(realloc(memory, size == 0 ? 1 : size), size);
}

char *memory_copy_text(const char *text)
{
    return memory_checked(strdup(text), strlen(text) + 1);
}

void memory_free(void *memory)
{
    free(memory);
}
