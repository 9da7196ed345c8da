/*
 * lsm-load, between its files:
 *
 *   lsm-load.c         options, and what is said at the end
 *   load_input.c       sections and pairs, and where they go
 *   load_database.c    opening and making what they go to, taking it back
 *   load_write.c       the ways there: batches, ingests, nowhere
 *   load_resume.c      the marker of how far a load came
 */
#ifndef TOOLS_LOAD_LOAD_H
#define TOOLS_LOAD_LOAD_H

#include "tools/cli/cli.h"
#include "tools/cli/dump_format.h"
#include "tools/cli/key_set.h"

#define LOAD_DEFAULT_NAME  "default"
#define LOAD_MARKER_FAMILY "lsm-load.resume"

enum load_way {
    LOAD_BATCHES,
    LOAD_BULK,   /* ingests, one after the other */
    LOAD_ATOMIC, /* one ingest */
    LOAD_DRY,
};

enum load_sync {
    SYNC_NONE,
    SYNC_END,
    SYNC_BATCH,
};

struct rename {
    char *from; /* owned; NULL: the only section */
    const char *to;
};

struct family {
    char *name; /* owned */
    lsm_cf *cf; /* NULL until it is opened, and in a dry run when it would be created */
    bool is_created;
    uint64_t pair_count;
    uint64_t byte_count;
    uint64_t kept_count; /* pairs that -n left as they were */
};

struct loader {
    struct cli cli;

    /* set by options */
    const char *file;
    bool is_text, creates, keeps, strips_cr, resumes, batch_given;
    enum load_way way;
    enum load_sync sync;
    uint64_t batch_pairs;
    uint64_t sort_memory; /* 0: the library's default */
    struct rename *renames;
    size_t rename_count;

    struct lines lines;
    struct dump_reader reader;
    uint64_t section_count;

    lsm_db *db;
    bool is_created; /* the database */
    struct family *families;
    size_t family_count;
    size_t family;        /* of the section */
    bool section_ignored; /* --cf leaves it out */
    bool has_previous;    /* previous is a key of the section */
    struct text previous;

    /* What is not written yet. */
    lsm_batch *batch;
    size_t batch_bytes;     /* at most */
    struct key_set pending; /* keys of the batch; only with -n */
    lsm_ingest *ingest;
    uint64_t first_line; /* of them */
    uint64_t batched_pairs, batched_bytes;
    lsm_error error; /* of a pair's call; here because clearing one costs more than many a pair */

    /* What is. */
    uint64_t pair_count, byte_count, kept_count;
    uint64_t ignored_count;

    /* load_resume.c */
    lsm_cf *marker;         /* NULL: none is kept */
    uint64_t read_pairs;    /* of the sections that are loaded */
    uint64_t read_hash;     /* of them in order */
    uint64_t resume_pairs;  /* an earlier load came so far */
    uint64_t resume_hash;   /* and read_hash was this */
    uint64_t resumed_pairs; /* passed over so far */
};

/* All return an exit code; what is not EXIT_DONE was reported. */

/* load_input.c */
int load_input(struct loader *l);
/* The status of a library call as an error that names the line. */
int load_fail_line(struct loader *l, uint64_t line, const lsm_error *err);

/* load_database.c */
int load_open(struct loader *l); /* once */
size_t load_find_family(struct loader *l, const char *name);
int load_open_family(struct loader *l, struct family *family);
/* An atomic load failed: what it created goes again. The database is closed then. */
int load_take_back(struct loader *l, int code);
int load_close(struct loader *l, int code);

/* load_write.c */
int load_add(struct loader *l, size_t family, uint64_t line, lsm_slice key, lsm_slice value);
int load_finish(struct loader *l); /* the input is complete */

/* load_resume.c */
int load_resume_begin(struct loader *l); /* the database is open */
/* Counts the pair; *is_over: it was loaded before. */
int load_resume_pass(struct loader *l, lsm_slice key, lsm_slice value, bool *is_over);
/* What the marker has to say once what is read so far is written; valid until the next call. */
lsm_slice load_resume_mark(struct loader *l, char text[96]);
int load_resume_check_end(struct loader *l); /* did the input go as far as the earlier load? */
int load_resume_end(struct loader *l);       /* everything is written: the marker goes */
extern const char load_resume_key[];

#endif
