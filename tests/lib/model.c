/* The reference: one sorted array of pointers to versions, searched by bisection. */
#include "tests/lib/model.h"

#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/base/slice.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

void *test_alloc(size_t size)
{
    return test_resize(NULL, size);
}

void *test_resize(void *memory, size_t size)
{
    void *resized = realloc(memory, size > 0 ? size : 1);
    if (resized == NULL) {
        fprintf(stderr, "the test is out of memory: %zu bytes wanted\n", size);
        exit(99);
    }
    return resized;
}

void model_value_fill(struct model_value value, uint8_t *bytes)
{
    struct random_state random = random_seeded(value.seed);
    for (uint32_t i = 0; i < value.size;) {
        uint64_t word = random_next(&random);
        uint32_t run = value.seed % 3 == 0 ? 8 : 1 + (uint32_t)(word >> 32) % 64;
        for (uint32_t k = 0; k < run && i < value.size; k++)
            bytes[i++] = (uint8_t)(value.seed % 3 == 0 ? word >> (8 * k) : 'a' + word % 16);
    }
}

uint64_t model_hash(lsm_slice bytes)
{
    return hash_bytes(bytes.data, bytes.size, 0);
}

void model_init(struct model *m)
{
    *m = (struct model){.fate_capacity = 1024};
    m->fates = test_alloc(m->fate_capacity);
    memset(m->fates, MODEL_THERE, m->fate_capacity);
    model_family_create(m, "default");
}

static void version_free(struct model_version *v)
{
    free((void *)(uintptr_t)v->key.data);
    free(v);
}

void model_release(struct model *m)
{
    for (size_t i = 0; i < m->count; i++)
        version_free(m->versions[i]);
    free(m->versions);
    free(m->fates);
    free(m->families);
    *m = (struct model){0};
}

/* ---- families -------------------------------------------------------------------------------- */

uint32_t model_family_create(struct model *m, const char *name)
{
    m->families = test_resize(m->families, (m->family_count + 1) * sizeof *m->families);
    struct model_family *family = &m->families[m->family_count];
    family->is_live = true;
    snprintf(family->name, sizeof family->name, "%s", name);
    return m->family_count++;
}

void model_family_rename(struct model *m, uint32_t family, const char *name)
{
    snprintf(m->families[family].name, sizeof m->families[family].name, "%s", name);
}

void model_family_drop(struct model *m, uint32_t family)
{
    m->families[family].is_live = false;
}

uint32_t model_family_find(const struct model *m, const char *name)
{
    for (uint32_t i = 0; i < m->family_count; i++) {
        if (m->families[i].is_live && strcmp(m->families[i].name, name) == 0)
            return i;
    }
    return UINT32_MAX;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int version_compare(const struct model_version *v, uint32_t family, lsm_slice key,
                           uint64_t sequence)
{
    if (v->family != family)
        return v->family < family ? -1 : 1;
    int order = slice_compare(v->key, key);
    if (order != 0)
        return order;
    return v->sequence == sequence ? 0 : v->sequence > sequence ? -1 : 1;
}

/* Index of the first version that does not sort before (family, key, sequence). */
static size_t version_search(const struct model *m, uint32_t family, lsm_slice key,
                             uint64_t sequence)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (version_compare(m->versions[middle], family, key, sequence) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t model_write(struct model *m, enum model_fate fate)
{
    m->sequence++;
    if (m->sequence >= m->fate_capacity) {
        m->fate_capacity = m->fate_capacity * 2 + 1024;
        m->fates = test_resize(m->fates, m->fate_capacity);
    }
    m->fates[m->sequence] = (uint8_t)fate;
    return m->sequence;
}

static void version_add(struct model *m, struct model_version wanted)
{
    wanted.sequence = m->sequence;
    size_t at = version_search(m, wanted.family, wanted.key, wanted.sequence);
    if (at < m->count &&
        version_compare(m->versions[at], wanted.family, wanted.key, wanted.sequence) == 0) {
        wanted.key = m->versions[at]->key; /* the later one of a batch wins */
        *m->versions[at] = wanted;
        return;
    }
    if (m->count == m->capacity) {
        m->capacity = m->capacity * 2 + 1024;
        m->versions = test_resize(m->versions, m->capacity * sizeof(m->versions[0]));
    }
    void *key = test_alloc(wanted.key.size);
    if (wanted.key.size > 0)
        memcpy(key, wanted.key.data, wanted.key.size);
    wanted.key.data = key;
    struct model_version *v = test_alloc(sizeof *v);
    *v = wanted;
    memmove(&m->versions[at + 1], &m->versions[at], (m->count - at) * sizeof(m->versions[0]));
    m->versions[at] = v;
    m->count++;
}

void model_put(struct model *m, uint32_t family, lsm_slice key, struct model_value value)
{
    uint8_t *bytes = test_alloc(value.size);
    model_value_fill(value, bytes);
    version_add(m, (struct model_version){.family = family,
                                          .key = key,
                                          .size = value.size,
                                          .hash = model_hash(LSM_SLICE(bytes, value.size))});
    free(bytes);
}

void model_delete(struct model *m, uint32_t family, lsm_slice key)
{
    version_add(m, (struct model_version){.family = family, .key = key, .is_delete = true});
}

void model_set_fate(struct model *m, uint64_t sequence, enum model_fate fate)
{
    assert(sequence > 0 && sequence <= m->sequence);
    m->fates[sequence] = (uint8_t)fate;
}

void model_cut(struct model *m, uint64_t sequence)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->versions[i]->sequence > sequence)
            version_free(m->versions[i]);
        else
            m->versions[kept++] = m->versions[i];
    }
    m->count = kept;
    m->sequence = sequence;
}

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * Versions of one key stand together, from `first` on, newest first. Gives the one that a reader as
 * of `at` sees, NULL when that is a deletion or none, and in *limit the index behind the key.
 */
static const struct model_version *key_resolve(const struct model *m, size_t first, uint64_t at,
                                               size_t *limit)
{
    const struct model_version *found = NULL;
    size_t i = first;
    for (; i < m->count && m->versions[i]->family == m->versions[first]->family &&
           slice_equal(m->versions[i]->key, m->versions[first]->key);
         i++) {
        const struct model_version *v = m->versions[i];
        if (found == NULL && v->sequence <= at && m->fates[v->sequence] == MODEL_THERE)
            found = v;
    }
    *limit = i;
    return found != NULL && !found->is_delete ? found : NULL;
}

static const struct model_version *forward_from(const struct model *m, size_t i, uint32_t family,
                                                uint64_t at)
{
    while (i < m->count && m->versions[i]->family == family) {
        const struct model_version *found = key_resolve(m, i, at, &i);
        if (found != NULL)
            return found;
    }
    return NULL;
}

/* The last live key among the versions [0, limit) of a family. */
static const struct model_version *backward_from(const struct model *m, size_t limit,
                                                 uint32_t family, uint64_t at)
{
    while (limit > 0 && m->versions[limit - 1]->family == family) {
        size_t first = version_search(m, family, m->versions[limit - 1]->key, UINT64_MAX);
        size_t ignored;
        const struct model_version *found = key_resolve(m, first, at, &ignored);
        if (found != NULL)
            return found;
        limit = first;
    }
    return NULL;
}

const struct model_version *model_get(const struct model *m, uint32_t family, lsm_slice key,
                                      uint64_t at)
{
    const struct model_version *found = model_seek(m, family, key, at);
    return found != NULL && slice_equal(found->key, key) ? found : NULL;
}

const struct model_version *model_first(const struct model *m, uint32_t family, uint64_t at)
{
    return model_seek(m, family, LSM_SLICE(NULL, 0), at);
}

const struct model_version *model_last(const struct model *m, uint32_t family, uint64_t at)
{
    size_t limit = version_search(m, family + 1, LSM_SLICE(NULL, 0), UINT64_MAX);
    return backward_from(m, limit, family, at);
}

const struct model_version *model_seek(const struct model *m, uint32_t family, lsm_slice key,
                                       uint64_t at)
{
    return forward_from(m, version_search(m, family, key, UINT64_MAX), family, at);
}

const struct model_version *model_seek_for_prev(const struct model *m, uint32_t family,
                                                lsm_slice key, uint64_t at)
{
    /* Sequence 0 is in no version, so this is the place behind all versions of the key. */
    return backward_from(m, version_search(m, family, key, 0), family, at);
}

const struct model_version *model_next(const struct model *m, const struct model_version *v,
                                       uint64_t at)
{
    return forward_from(m, version_search(m, v->family, v->key, 0), v->family, at);
}

const struct model_version *model_prev(const struct model *m, const struct model_version *v,
                                       uint64_t at)
{
    return backward_from(m, version_search(m, v->family, v->key, UINT64_MAX), v->family, at);
}
