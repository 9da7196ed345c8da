/* A file's bytes as counted 4 KiB pages, copied when a shared one is written. */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

#include <string.h>

/* Reserved space that was never written. Its count never falls to zero. */
static struct sim_page zero_page = {.reference_count = 1};

static struct sim_page *page_acquire(struct sim_page *page)
{
    if (page != NULL && page != &zero_page)
        atomic_fetch_add_explicit(&page->reference_count, 1, memory_order_relaxed);
    return page;
}

static void page_drop(struct sim_page *page)
{
    if (page == NULL || page == &zero_page)
        return;
    /* Release what was read through this reference; the last one acquires it before the free. */
    if (atomic_fetch_sub_explicit(&page->reference_count, 1, memory_order_acq_rel) == 1)
        mem_free(page);
}

void sim_image_release(struct sim_image *image)
{
    for (size_t i = 0; i < image->page_count; i++)
        page_drop(image->pages[i]);
    mem_free(image->pages);
    *image = (struct sim_image){0};
}

/* Makes the page table at least `count` long. */
static int reserve(struct sim_image *image, size_t count)
{
    if (count > sim_page_limit(SIM_FILE_MAX))
        return EFBIG;
    if (count > image->page_capacity) {
        size_t capacity = count < 16 ? 16 : count + count / 2;
        struct sim_page **larger = mem_resize(image->pages, capacity * sizeof(struct sim_page *));
        if (larger == NULL)
            return ENOMEM;
        image->pages = larger;
        image->page_capacity = capacity;
    }
    while (image->page_count < count)
        image->pages[image->page_count++] = NULL;
    return 0;
}

int sim_image_copy(struct sim_image *to, const struct sim_image *from)
{
    int number = reserve(to, from->page_count);
    if (number != 0)
        return number;
    for (size_t i = 0; i < from->page_count; i++)
        to->pages[i] = page_acquire(from->pages[i]);
    to->size = from->size;
    to->used = from->used;
    return 0;
}

/* Puts `page`, whose reference is handed over, at `index`; the caller drops what was there. */
static void place(struct sim_image *image, size_t index, struct sim_page *page)
{
    image->used -= image->pages[index] != NULL;
    image->used += page != NULL;
    image->pages[index] = page;
}

int sim_image_share(struct sim_image *to, const struct sim_image *from, size_t index)
{
    struct sim_page *page = index < from->page_count ? from->pages[index] : NULL;
    if (index >= to->page_count) {
        if (page == NULL)
            return 0;
        int number = reserve(to, index + 1);
        if (number != 0)
            return number;
    }
    struct sim_page *old = to->pages[index];
    place(to, index, page_acquire(page));
    page_drop(old);
    return 0;
}

const uint8_t *sim_image_page(const struct sim_image *image, size_t index)
{
    if (index >= image->page_count || image->pages[index] == NULL)
        return zero_page.bytes;
    return image->pages[index]->bytes;
}

void sim_image_read(const struct sim_image *image, uint64_t offset, void *bytes, size_t size)
{
    uint8_t *to = bytes;
    while (size > 0) {
        size_t inside = (size_t)(offset % SIM_PAGE_SIZE);
        size_t step = SIM_PAGE_SIZE - inside < size ? SIM_PAGE_SIZE - inside : size;
        memcpy(to, sim_image_page(image, (size_t)(offset / SIM_PAGE_SIZE)) + inside, step);
        to += step;
        offset += step;
        size -= step;
    }
}

/* Makes page `index` one that only this image has. Exists in the table. */
static int own_page(struct sim_image *image, size_t index)
{
    struct sim_page *old = image->pages[index];
    if (old != NULL && old != &zero_page &&
        atomic_load_explicit(&old->reference_count, memory_order_acquire) == 1)
        return 0;
    struct sim_page *page = mem_alloc(sizeof *page);
    if (page == NULL)
        return ENOMEM;
    atomic_init(&page->reference_count, 1);
    memcpy(page->bytes, old != NULL ? old->bytes : zero_page.bytes, SIM_PAGE_SIZE);
    place(image, index, page);
    page_drop(old);
    return 0;
}

int sim_image_write(struct sim_image *image, uint64_t offset, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    if (size == 0)
        return 0;
    if (offset > SIM_FILE_MAX || size > SIM_FILE_MAX - offset)
        return EFBIG;
    int number = reserve(image, sim_page_limit(offset + size));
    while (number == 0 && size > 0) {
        size_t index = (size_t)(offset / SIM_PAGE_SIZE);
        size_t inside = (size_t)(offset % SIM_PAGE_SIZE);
        size_t step = SIM_PAGE_SIZE - inside < size ? SIM_PAGE_SIZE - inside : size;
        number = own_page(image, index);
        if (number != 0)
            break;
        memcpy(image->pages[index]->bytes + inside, from, step);
        from += step;
        offset += step;
        size -= step;
        if (offset > image->size)
            image->size = offset;
    }
    return number;
}

int sim_image_allocate(struct sim_image *image, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return 0;
    if (offset > SIM_FILE_MAX || size > SIM_FILE_MAX - offset)
        return EFBIG;
    size_t limit = sim_page_limit(offset + size);
    int number = reserve(image, limit);
    if (number != 0)
        return number;
    for (size_t i = (size_t)(offset / SIM_PAGE_SIZE); i < limit; i++)
        if (image->pages[i] == NULL)
            place(image, i, &zero_page);
    if (offset + size > image->size)
        image->size = offset + size;
    return 0;
}

int sim_image_resize(struct sim_image *image, uint64_t size)
{
    if (size > SIM_FILE_MAX)
        return EFBIG;
    size_t limit = sim_page_limit(size);
    size_t tail = (size_t)(size % SIM_PAGE_SIZE);
    if (size < image->size && tail != 0 && limit <= image->page_count &&
        image->pages[limit - 1] != NULL) {
        int number = own_page(image, limit - 1);
        if (number != 0)
            return number;
        memset(image->pages[limit - 1]->bytes + tail, 0, SIM_PAGE_SIZE - tail);
    }
    while (image->page_count > limit) {
        struct sim_page *old = image->pages[image->page_count - 1];
        place(image, image->page_count - 1, NULL);
        page_drop(old);
        image->page_count--;
    }
    image->size = size;
    return 0;
}

size_t sim_image_missing(const struct sim_image *image, uint64_t offset, uint64_t size)
{
    size_t missing = 0;
    if (size == 0)
        return 0;
    size_t limit = sim_page_limit(offset + size);
    for (size_t i = (size_t)(offset / SIM_PAGE_SIZE); i < limit; i++)
        missing += i >= image->page_count || image->pages[i] == NULL;
    return missing;
}
