/* What the parts of the table writer share. */
#ifndef ENGINE_SST_TABLE_WRITER_PRIVATE_H
#define ENGINE_SST_TABLE_WRITER_PRIVATE_H

#include "engine/format/compress.h"
#include "engine/format/file_name.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_properties.h"
#include "engine/sst/table.h"
#include "engine/sst/table_output.h"

/* A block that waits for the dictionary: its place in `waiting`, headroom first. */
struct waiting_block {
    size_t offset;
    struct table_frame frame;
};

struct table_writer {
    struct table_env env;
    struct table_write_options options; /* cf_name and replaced are borrowed or below */
    char cf_name[TABLE_MAX_NAME + 1];
    struct buffer cf_options; /* encoded */
    char name[FILE_NAME_SIZE];
    struct table_pace own_pace, *pace; /* pace: that, or one that is shared */
    struct table_output output;

    struct block_builder builder;
    size_t block_size; /* raw bytes at which a block is finished */
    struct table_index_builder index;
    struct buffer hashes;    /* of the keys, u64 in memory order */
    struct buffer first_key; /* of the block being emitted */
    struct buffer last_key;  /* of the block emitted last */
    uint64_t last_trailer;   /* of the block emitted last */
    struct buffer smallest;  /* first key of the table */
    struct buffer previous;  /* last key added, when the builder is empty */
    uint64_t previous_trailer;

    struct compressor *compressor; /* NULL: blocks stay raw */
    struct buffer turned;          /* a block with its columns turned */
    struct buffer packed;          /* frame of a compressed block */
    uint32_t sampled;              /* blocks tried */
    uint64_t sampled_raw, sampled_packed;
    bool training;            /* blocks wait for a dictionary */
    bool trained_on;          /* those that are emitted just now are what it was made from */
    struct buffer dictionary; /* its frame; empty: none */
    struct buffer waiting;
    struct waiting_block *waiting_blocks; /* owned */
    size_t waiting_count, waiting_capacity;
    size_t waiting_raw; /* bytes */

    struct blob_use *blobs; /* what entries refer to, by number; owned */
    size_t blob_count, blob_room;
    size_t blob_last; /* the one that was counted last */

    bool is_last;                       /* output of its job */
    struct table_properties properties; /* counts as they grow */
    struct table_footer footer;         /* places of the parts that were written */

    /* Of a table whose end is still to be written: see table_writer_seal(). */
    struct table_meta meta; /* owned */
    struct buffer tail;     /* bytes of the last page, not in the file yet */
};

void table_writer_free(struct table_writer *w);
/* The block that was begun, and those that wait for a dictionary, go to the file. */
lsm_status table_writer_flush(struct table_writer *w, lsm_error *err);
/* Puts a frame whose payload stands at framed + TABLE_FRAME_SIZE at `offset` of the file. */
lsm_status table_writer_frame(struct table_writer *w, uint8_t *framed,
                              const struct table_frame *frame, uint64_t offset, lsm_error *err);

#endif
