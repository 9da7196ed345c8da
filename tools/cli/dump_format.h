/*
 * The text formats that lsm-dump writes and lsm-load reads, one section a column family.
 *
 * Keyword formats (bdb, lmdb, native):
 *
 *     VERSION=3            header: keyword=value lines
 *     format=bytevalue     or print
 *     database=words       the family; absent: the only one
 *     type=btree
 *     HEADER=END
 *      6b31                a pair is two lines, each with one blank in front
 *      76616c7565
 *     DATA=END
 *
 * lmdb adds mapsize= and maxreaders=, which Berkeley DB's loader refuses. native adds lsm.*=
 * keywords, and lsm.count= and lsm.xxh3= behind DATA=END, both wanted. jsonl is one JSON object a line. pairs is
 * for reading only: key line, value line, no header, print escapes.
 */
#ifndef TOOLS_CLI_DUMP_FORMAT_H
#define TOOLS_CLI_DUMP_FORMAT_H

#include "tools/cli/cli.h"
#include "tools/cli/digest.h"
#include "tools/cli/lines.h"

/* ---- writing --------------------------------------------------------------------------------- */

enum dump_format {
    DUMP_BDB, /* Berkeley DB and LMDB both load it */
    DUMP_LMDB,
    DUMP_NATIVE,
    DUMP_JSONL,
};

struct dump_style {
    enum dump_format format;
    bool is_print;              /* format=print; keyword formats only */
    enum key_format key_format; /* of keys in jsonl */
    uint64_t map_size;          /* lmdb */
    uint64_t sequence;          /* native: the state that is dumped */
};

/* Each appends whole lines. `name` NULL: no database= line. */
void dump_write_begin(struct text *to, const struct dump_style *style);
void dump_write_header(struct text *to, const struct dump_style *style, const char *name);
void dump_write_pair(struct text *to, const struct dump_style *style, lsm_slice key,
                     lsm_slice value);
void dump_write_end(struct text *to, const struct dump_style *style, const struct digest *digest);
/* Behind the last section. */
void dump_write_finish(struct text *to, const struct dump_style *style, uint64_t section_count);

/* NULL when the format can hold it, else why not. */
const char *dump_refuses_name(const struct dump_style *style, const char *name);
const char *dump_refuses_pair(const struct dump_style *style, lsm_slice key, lsm_slice value);
/* Bytes of LMDB's map that a pair needs, at most; and a map size for a sum of them. */
uint64_t dump_map_bytes(lsm_slice key, lsm_slice value);
uint64_t dump_map_size(uint64_t bytes);

/* ---- reading --------------------------------------------------------------------------------- */

enum dump_event {
    DUMP_SECTION,     /* a header was read; see section */
    DUMP_PAIR,        /* see key, value, pair_line */
    DUMP_SECTION_END, /* DATA=END or the like */
    DUMP_END,         /* the input is complete */
    DUMP_ERROR,       /* see error */
};

enum dump_syntax {
    DUMP_SNIFF, /* by the first byte */
    DUMP_KEYWORDS,
    DUMP_PAIRS, /* -T */
    DUMP_JSON,
    DUMP_WIREDTIGER, /* see dump_foreign.c, as for the next */
    DUMP_LDB,
};

struct dump_section {
    bool has_name;
    struct text name;
    bool is_print;
    bool is_lmdb;         /* a keyword that only LMDB writes */
    bool is_native;       /* a keyword that only lsm-dump writes: trailers follow */
    bool has_duplicates;  /* a key may have several values */
    bool is_other_order;  /* keys were not sorted as bytes */
    uint64_t header_line; /* where it began */
};

struct dump_reader {
    struct lines *lines; /* borrowed */
    enum dump_syntax syntax;
    void (*warn)(void *context, const char *sentence); /* NULL: nobody listens */
    void *warn_context;

    struct dump_section section;
    struct text key, value;
    uint64_t pair_line; /* of the key */
    struct text error;  /* a sentence with the line's number */
    bool is_damage;     /* error: a count or digest differs, the input was changed */

    /* private */
    int state;
    bool has_warned;
    bool count_is_due;  /* a native section ended, and this trailer did not come yet */
    bool digest_is_due; /* the same */
    uint64_t section_count;
    struct digest digest; /* of the section */
};

void dump_reader_init(struct dump_reader *r, struct lines *lines, enum dump_syntax syntax);
void dump_reader_release(struct dump_reader *r);
/* After DUMP_END or DUMP_ERROR it returns the same again. */
enum dump_event dump_reader_next(struct dump_reader *r);

/* Between the reader's files. Each returns DUMP_ERROR. */
enum dump_event dump_reader_fail(struct dump_reader *r, uint64_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum dump_event dump_reader_fail_read(struct dump_reader *r);
/* False when a trailer's count or hash is not what was read; the error is set. */
bool dump_reader_check_count(struct dump_reader *r, uint64_t count);
bool dump_reader_check_digest(struct dump_reader *r, lsm_slice text);
void dump_reader_warn(struct dump_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void dump_reader_begin_section(struct dump_reader *r);

enum dump_event dump_json_next(struct dump_reader *r);
enum dump_event dump_foreign_next(struct dump_reader *r);

enum dump_reader_state {
    DUMP_AT_START,
    DUMP_IN_SECTION,
    DUMP_BETWEEN,
    DUMP_AT_END,
    DUMP_BROKEN,
};

#endif
