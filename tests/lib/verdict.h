/* The first failure of several processes, in memory that all of them share. */
#ifndef TESTS_LIB_VERDICT_H
#define TESTS_LIB_VERDICT_H

#include "engine/lsm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct verdict {
    _Atomic unsigned failed;
    char message[1200];
};

/* Zeroed memory that children made by fork share; ends the program (99) when there is none. */
void *shared_memory(size_t size);

/* Where verdict_must() and verdict_end() write to, in this process and its children. */
extern struct verdict *verdict;

bool verdict_is_failed(void);
/* Notes the failure if it is the first. */
__attribute__((format(printf, 1, 2))) void verdict_fail(const char *format, ...);
/* The same, and ends the process (1). */
_Noreturn __attribute__((format(printf, 1, 2))) void verdict_end(const char *format, ...);

/* The call, which fills `err`, has to succeed. */
#define must(call)                                                                                 \
    do {                                                                                           \
        lsm_error err_ = {0};                                                                      \
        lsm_error *err = &err_;                                                                    \
        if ((call) != LSM_OK)                                                                      \
            verdict_end("%s: %s", #call, err->message);                                            \
    } while (0)

#endif
