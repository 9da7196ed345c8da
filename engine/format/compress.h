/*
 * zstd, with contexts that are reused: making one costs more than compressing a small block.
 *
 * A compressor belongs to one writer. Decompression contexts are taken from a pool that any number
 * of threads share. Sizes are the caller's: the raw size comes from a checksummed frame, was held
 * against a limit, and must agree with what zstd's own header says before anything is decoded.
 */
#ifndef ENGINE_FORMAT_COMPRESS_H
#define ENGINE_FORMAT_COMPRESS_H

#include "engine/base/slice.h"

#define COMPRESS_MAX_DICTIONARY ((size_t)1 << 20)

/* ---- compressing ----------------------------------------------------------------------------- */

struct compressor;

/* `level` is zstd's. NULL when out of memory. */
struct compressor *compressor_new(int level);
void compressor_free(struct compressor *c); /* NULL is allowed */
/* Uses this dictionary from now on; copied. False when out of memory. */
bool compressor_set_dictionary(struct compressor *c, lsm_slice dictionary);

/* The compressed bytes in `to`, or 0 when they do not fit into `capacity`. */
size_t compressor_run(struct compressor *c, lsm_slice raw, void *to, size_t capacity);

/*
 * Trains a dictionary of at most `capacity` bytes from samples that stand one after the other.
 * 0 when there is too little to learn from.
 */
size_t compress_train(const void *samples, const size_t *sizes, unsigned count, void *to,
                      size_t capacity);

/* ---- decompressing --------------------------------------------------------------------------- */

struct decompress_dictionary; /* prepared; shared by threads */

struct decompress_dictionary *decompress_dictionary_new(lsm_slice bytes); /* copied; NULL: memory */
void decompress_dictionary_free(struct decompress_dictionary *d);         /* NULL is allowed */

struct decompress_pool;

struct decompress_pool *decompress_pool_new(void);       /* NULL when out of memory */
void decompress_pool_free(struct decompress_pool *pool); /* nobody is inside; NULL is allowed */

/*
 * Decodes `stored` into exactly `raw_size` bytes. `dictionary` may be NULL. NULL on success, else
 * what is wrong (static storage); *no_memory tells that the machine is at fault, not the bytes.
 */
const char *decompress_run(struct decompress_pool *pool,
                           const struct decompress_dictionary *dictionary, lsm_slice stored,
                           void *raw, size_t raw_size, bool *no_memory);

#endif
