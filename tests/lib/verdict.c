#include "tests/lib/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct verdict *verdict;

void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("shared memory");
        exit(99);
    }
    return memory;
}

bool verdict_is_failed(void)
{
    return atomic_load(&verdict->failed) != 0;
}

static void note(const char *format, va_list arguments)
{
    if (atomic_exchange(&verdict->failed, 1) == 0)
        vsnprintf(verdict->message, sizeof verdict->message, format, arguments);
}

void verdict_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
}

void verdict_end(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
    _exit(1);
}
