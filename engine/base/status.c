/* Errors are made here and nowhere else, so that every one has its place and its sentence. */
#include "engine/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

lsm_status status_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return LSM_NO_SPACE;
    case ENOMEM:
        return LSM_NO_MEMORY;
    default:
        return LSM_IO;
    }
}

lsm_status status_fail(lsm_error *err, lsm_status status, int os_errno, const char *source_file,
                       int source_line, const char *format, ...)
{
    if (err == NULL)
        return status;
    *err = (lsm_error){.status = status,
                       .os_errno = os_errno,
                       .offset = LSM_NO_OFFSET,
                       .source_file = source_file,
                       .source_line = source_line};
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    if (os_errno != 0 && length >= 0 && (size_t)length < sizeof err->message) {
        char text[128];
        snprintf(err->message + length, sizeof err->message - (size_t)length, ": %s",
                 strerror_r(os_errno, text, sizeof text));
    }
    return status;
}

void status_place(lsm_error *err, const char *file, uint64_t offset)
{
    if (err == NULL)
        return;
    snprintf(err->file, sizeof err->file, "%s", file);
    err->offset = offset;
}

void status_numbers(lsm_error *err, uint64_t expected, uint64_t found)
{
    if (err == NULL)
        return;
    err->expected = expected;
    err->found = found;
}

void status_copy(lsm_error *to, const lsm_error *from)
{
    if (to != NULL)
        *to = *from;
}

LSM_API const char *lsm_strerror(lsm_status status)
{
    switch (status) {
#define STATUS_TEXT(name, number, text)                                                            \
    case name:                                                                                     \
        return text;
        LSM_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}
