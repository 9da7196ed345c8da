/* Arbitrary text as options: parsed or refused with a sentence, and what was parsed resolves or is
 * refused as well. */
#include "engine/base/memory.h"
#include "engine/db/db_private.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_alloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    lsm_options options = LSM_OPTIONS_INIT, resolved;
    lsm_error err = {0};
    lsm_status status = lsm_options_parse(&options, text, &err);
    if (status != LSM_OK && (status != LSM_INVALID || err.message[0] == '\0'))
        abort();
    status = db_options_resolve(&options, &resolved, &err);
    if (status != LSM_OK && err.message[0] == '\0')
        abort();
    if (status == LSM_OK && (resolved.memtable_size < MEMTABLE_MIN_ARENA ||
                             resolved.wal_segment_size < resolved.stage_size))
        abort();
    mem_free(text);
    return 0;
}
