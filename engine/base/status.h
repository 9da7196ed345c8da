/*
 * How a failure is made: once, where it is first seen, as one sentence with its numbers.
 *
 *     return lsm_fail(err, LSM_CORRUPT, "block checksum differs in '%s' at offset %" PRIu64, ...);
 *
 * Upper floors pass the status on unchanged. status_place() adds the file and offset as fields (the
 * sentence names them too), status_numbers() the two numbers that disagreed.
 */
#ifndef ENGINE_BASE_STATUS_H
#define ENGINE_BASE_STATUS_H

#include "engine/lsm.h"

#include <inttypes.h>

/* Fills `err` (may be NULL) and returns `status`. Lower-case sentence, no full stop. */
#define lsm_fail(err, status, ...) status_fail((err), (status), 0, __FILE__, __LINE__, __VA_ARGS__)

/*
 * The same for a failed system call: ": <strerror>" is added, and the status follows from `number`
 * (ENOSPC, EDQUOT: LSM_NO_SPACE; ENOMEM: LSM_NO_MEMORY; all else LSM_IO).
 */
#define lsm_fail_errno(err, number, ...)                                                           \
    status_fail((err), status_of_errno(number), (number), __FILE__, __LINE__, __VA_ARGS__)

#define lsm_fail_memory(err, bytes)                                                                \
    status_fail((err), LSM_NO_MEMORY, 0, __FILE__, __LINE__, "out of memory: %zu bytes wanted",    \
                (size_t)(bytes))

lsm_status status_fail(lsm_error *err, lsm_status status, int os_errno, const char *source_file,
                       int source_line, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
lsm_status status_of_errno(int number);

/* Adds where: `file` is copied. Both do nothing when err is NULL. */
void status_place(lsm_error *err, const char *file, uint64_t offset);
void status_numbers(lsm_error *err, uint64_t expected, uint64_t found);

/* A copy that survives the original; for handing an error from one thread to another. */
void status_copy(lsm_error *to, const lsm_error *from);

#endif
