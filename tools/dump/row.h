/*
 * One line about one thing: of text, as `block offset=4096 state=sound`, or the same as a JSON
 * object in which the kind is "record". Fields are put in the order in which they are shown.
 */
#ifndef TOOLS_DUMP_ROW_H
#define TOOLS_DUMP_ROW_H

#include "tools/dump/dump.h"

struct row {
    struct dumper *dumper;
    struct json_object *object; /* NULL: text */
    struct text line;
};

/* `depth`: how far a line of text is moved to the right. */
void row_begin(struct row *row, struct dumper *d, unsigned depth, const char *kind);
void row_u64(struct row *row, const char *name, uint64_t value);
void row_hex(struct row *row, const char *name, uint64_t value); /* a checksum, 16 digits */
void row_text(struct row *row, const char *name, const char *value);
/* A message, which may name paths: left out of an image. */
void row_sentence(struct row *row, const char *name, const char *sentence);
void row_flag(struct row *row, const char *name, bool value); /* in text only when it is set */
/* Bytes of the user: how many they are, and with --show-data which. */
void row_key(struct row *row, const char *name, lsm_slice key);
/* Always shown. */
void row_shown_key(struct row *row, const char *name, lsm_slice key);
void row_name(struct row *row, const char *name, const char *family);
/* Writes the line out. False: it could not be, see dump_fail_output(). */
bool row_end(struct row *row);

#endif
