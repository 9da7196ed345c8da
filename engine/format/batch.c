/* Encoding is trusted, decoding is not: the bytes may come from a damaged log. */
#include "engine/format/batch.h"

size_t batch_put_entry_head(uint8_t *at, enum entry_type type, uint32_t cf, size_t key_size)
{
    at[0] = (uint8_t)type;
    size_t n = 1 + bytes_put_varint(at + 1, cf);
    return n + bytes_put_varint(at + n, key_size);
}

size_t batch_put_value_head(uint8_t *at, size_t value_size)
{
    return bytes_put_varint(at, value_size);
}

void batch_append(struct buffer *batch, enum entry_type type, uint32_t cf, lsm_slice key,
                  lsm_slice value)
{
    uint8_t head[BATCH_ENTRY_HEAD];
    size_t size = batch->size;
    buffer_append(batch, head, batch_put_entry_head(head, type, cf, key.size));
    buffer_append(batch, key.data, key.size);
    if (type == ENTRY_PUT) {
        buffer_append(batch, head, batch_put_value_head(head, value.size));
        buffer_append(batch, value.data, value.size);
    }
    if (batch->failed)
        batch->size = size;
    else
        bytes_put_u32(batch->data, bytes_get_u32(batch->data) + 1);
}

struct batch_reader batch_read(lsm_slice batch)
{
    struct batch_reader r = {.cursor = cursor_over(batch.data, batch.size)};
    r.left = cursor_take_u32(&r.cursor);
    r.corrupt = r.cursor.failed;
    return r;
}

static lsm_slice take_slice(struct cursor *c, uint64_t limit)
{
    uint64_t size = cursor_take_varint(c);
    if (size > limit)
        c->failed = true;
    const uint8_t *at = cursor_take(c, (size_t)size);
    return (lsm_slice){at, at == NULL ? 0 : (size_t)size};
}

bool batch_next(struct batch_reader *r, struct batch_entry *entry)
{
    struct cursor *c = &r->cursor;
    if (r->corrupt)
        return false;
    if (r->left == 0) {
        r->corrupt = cursor_left(c) != 0;
        return false;
    }
    uint8_t type = cursor_take_u8(c);
    uint64_t cf = cursor_take_varint(c);
    *entry = (struct batch_entry){.type = (enum entry_type)type, .cf = (uint32_t)cf};
    entry->key = take_slice(c, LSM_MAX_KEY_SIZE);
    if (type == ENTRY_PUT)
        entry->value = take_slice(c, LSM_MAX_VALUE_SIZE);
    if (c->failed || cf > UINT32_MAX || !entry_type_is_logged(type)) {
        r->corrupt = true;
        return false;
    }
    r->left--;
    return true;
}
