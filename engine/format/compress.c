/* Every zstd call of the engine. */
#include "engine/format/compress.h"

#include "engine/base/memory.h"

#include <pthread.h>
#include <zdict.h>
#include <zstd.h>

struct compressor {
    ZSTD_CCtx *context;
    ZSTD_CDict *dictionary; /* NULL: none */
    int level;
};

struct compressor *compressor_new(int level)
{
    struct compressor *c = mem_alloc_zeroed(sizeof *c);
    if (c == NULL)
        return NULL;
    c->level = level;
    c->context = ZSTD_createCCtx();
    if (c->context == NULL) {
        mem_free(c);
        return NULL;
    }
    return c;
}

void compressor_free(struct compressor *c)
{
    if (c == NULL)
        return;
    ZSTD_freeCDict(c->dictionary);
    ZSTD_freeCCtx(c->context);
    mem_free(c);
}

bool compressor_set_dictionary(struct compressor *c, lsm_slice dictionary)
{
    ZSTD_CDict *made = ZSTD_createCDict(dictionary.data, dictionary.size, c->level);
    if (made == NULL)
        return false;
    ZSTD_freeCDict(c->dictionary);
    c->dictionary = made;
    return true;
}

size_t compressor_run(struct compressor *c, lsm_slice raw, void *to, size_t capacity)
{
    size_t size =
        c->dictionary != NULL
            ? ZSTD_compress_usingCDict(c->context, to, capacity, raw.data, raw.size, c->dictionary)
            : ZSTD_compressCCtx(c->context, to, capacity, raw.data, raw.size, c->level);
    return ZSTD_isError(size) ? 0 : size;
}

size_t compress_train(const void *samples, const size_t *sizes, unsigned count, void *to,
                      size_t capacity)
{
    size_t size = ZDICT_trainFromBuffer(to, capacity, samples, sizes, count);
    return ZDICT_isError(size) ? 0 : size;
}

/* ---- decompressing --------------------------------------------------------------------------- */

struct decompress_dictionary {
    ZSTD_DDict *prepared;
};

struct decompress_dictionary *decompress_dictionary_new(lsm_slice bytes)
{
    struct decompress_dictionary *d = mem_alloc_zeroed(sizeof *d);
    if (d == NULL)
        return NULL;
    d->prepared = ZSTD_createDDict(bytes.data, bytes.size);
    if (d->prepared == NULL) {
        mem_free(d);
        return NULL;
    }
    return d;
}

void decompress_dictionary_free(struct decompress_dictionary *d)
{
    if (d == NULL)
        return;
    ZSTD_freeDDict(d->prepared);
    mem_free(d);
}

#define POOL_KEPT 16 /* contexts kept for later; a thread needs one only while it decodes */

struct decompress_pool {
    pthread_mutex_t lock;
    ZSTD_DCtx *kept[POOL_KEPT]; /* guarded by lock, as kept_count */
    unsigned kept_count;
};

struct decompress_pool *decompress_pool_new(void)
{
    struct decompress_pool *pool = mem_alloc_zeroed(sizeof *pool);
    if (pool != NULL)
        pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void decompress_pool_free(struct decompress_pool *pool)
{
    if (pool == NULL)
        return;
    for (unsigned i = 0; i < pool->kept_count; i++)
        ZSTD_freeDCtx(pool->kept[i]);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

static ZSTD_DCtx *pool_take(struct decompress_pool *pool)
{
    ZSTD_DCtx *context = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->kept_count > 0)
        context = pool->kept[--pool->kept_count];
    pthread_mutex_unlock(&pool->lock);
    return context != NULL ? context : ZSTD_createDCtx();
}

static void pool_give_back(struct decompress_pool *pool, ZSTD_DCtx *context)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->kept_count < POOL_KEPT) {
        pool->kept[pool->kept_count++] = context;
        context = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    ZSTD_freeDCtx(context);
}

const char *decompress_run(struct decompress_pool *pool,
                           const struct decompress_dictionary *dictionary, lsm_slice stored,
                           void *raw, size_t raw_size, bool *no_memory)
{
    *no_memory = false;
    unsigned long long said = ZSTD_getFrameContentSize(stored.data, stored.size);
    if (said == ZSTD_CONTENTSIZE_ERROR || said == ZSTD_CONTENTSIZE_UNKNOWN)
        return "the compressed bytes do not tell their raw size";
    if (said != raw_size)
        return "the compressed bytes tell another raw size";
    ZSTD_DCtx *context = pool_take(pool);
    if (context == NULL) {
        *no_memory = true;
        return "out of memory";
    }
    size_t size = dictionary != NULL
                      ? ZSTD_decompress_usingDDict(context, raw, raw_size, stored.data, stored.size,
                                                   dictionary->prepared)
                      : ZSTD_decompressDCtx(context, raw, raw_size, stored.data, stored.size);
    pool_give_back(pool, context);
    if (ZSTD_isError(size))
        return "the compressed bytes do not decode";
    return size == raw_size ? NULL : "the compressed bytes decode to another size";
}
