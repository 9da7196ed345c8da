/* The io_uring backend: not part of this build yet, so that "auto" means posix. */
#include "engine/io/host.h"

#include <stdio.h>

struct io *uring_open(char *reason, size_t reason_size)
{
    snprintf(reason, reason_size, "this build has no io_uring");
    return NULL;
}
