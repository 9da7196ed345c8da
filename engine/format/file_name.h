/*
 * The files of a database directory. Names are made from numbers only, and a name read from a
 * directory means something only when it parses. Numbers of tables, blob files and manifests come
 * from one counter, those of log segments from another; neither is ever reused.
 *
 *   CURRENT            which manifest is in force            LOCK   byte locks, the holder's pid
 *   MANIFEST-000007    log of version edits                  STAGE  the stage file of the log
 *   000012.sst         a table                               *.tmp  being made; removed at open
 *   000013.blob        values that tables refer to
 *   000003.wal         a log segment                         000003.spare  one waiting for reuse
 */
#ifndef ENGINE_FORMAT_FILE_NAME_H
#define ENGINE_FORMAT_FILE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILE_NAME_SIZE 40 /* bytes of the longest name, with its NUL */

enum file_kind {
    FILE_CURRENT,
    FILE_LOCK,
    FILE_STAGE,
    FILE_MANIFEST, /* numbered, as all below */
    FILE_TABLE,
    FILE_WAL,
    FILE_WAL_SPARE,
    FILE_TEMPORARY,
    FILE_BLOB,
};

/* Writes the name into `name` (FILE_NAME_SIZE bytes) and returns it. `number` is ignored for the
 * kinds without one. */
const char *file_name_make(enum file_kind kind, uint64_t number, char *name);

/* False for names that are not the engine's; only the canonical spelling parses. */
bool file_name_parse(const char *name, enum file_kind *kind, uint64_t *number);

#endif
