/* See the header. */
#include "engine/version/dead_files.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#include <stdlib.h>

void dead_files_init(struct dead_files *dead, struct io_dir *dir,
                     bool (*may_remove)(void *context, uint64_t dead_number), void *context)
{
    *dead = (struct dead_files){.dir = dir, .may_remove = may_remove, .context = context};
    pthread_mutex_init(&dead->lock, NULL);
}

void dead_files_release(struct dead_files *dead)
{
    while (dead->first != NULL) {
        struct dead_file *file = dead->first;
        dead->first = file->next;
        mem_free(file);
    }
    pthread_mutex_destroy(&dead->lock);
}

static void remove_file(struct dead_files *dead, enum file_kind kind, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    if (io_dir_unlink(dead->dir, file_name_make(kind, number, name), NULL, NULL) != LSM_OK)
        atomic_fetch_add_explicit(&dead->unlink_failures, 1, memory_order_relaxed);
    STEP("clean: a file removed");
}

void dead_files_add(struct dead_files *dead, enum file_kind kind, uint64_t number, uint32_t level,
                    uint64_t dead_number)
{
    if (dead->may_remove == NULL) {
        remove_file(dead, kind, number);
        return;
    }
    struct dead_file *file = mem_alloc(sizeof *file);
    if (file == NULL) {
        atomic_fetch_add_explicit(&dead->unlink_failures, 1, memory_order_relaxed);
        return;
    }
    *file = (struct dead_file){
        .kind = kind, .number = number, .dead_number = dead_number, .level = level};
    pthread_mutex_lock(&dead->lock);
    file->next = dead->first;
    dead->first = file;
    pthread_mutex_unlock(&dead->lock);
}

/* The answer for one number holds for all older ones, or for all newer ones. */
struct answers {
    uint64_t allowed; /* the newest that was */
    uint64_t refused; /* the oldest that was; 0: none */
};

static bool may_go(struct dead_files *dead, struct answers *answers, uint64_t dead_number)
{
    if (dead_number <= answers->allowed)
        return true;
    if (answers->refused != 0 && dead_number >= answers->refused)
        return false;
    bool may = dead->may_remove(dead->context, dead_number);
    if (may)
        answers->allowed = dead_number;
    else
        answers->refused = dead_number;
    return may;
}

static int compare_deaths(const void *left, const void *right)
{
    const struct dead_file *a = *(struct dead_file *const *)left;
    const struct dead_file *b = *(struct dead_file *const *)right;
    if (a->dead_number != b->dead_number)
        return a->dead_number < b->dead_number ? -1 : 1;
    if ((a->kind == FILE_BLOB) != (b->kind == FILE_BLOB))
        return a->kind == FILE_BLOB ? 1 : -1;
    if (a->level != b->level)
        return a->level > b->level ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

/* Puts the files of the list in the order in which they go. Without memory they stay as they are.
 */
static struct dead_file *put_in_order(struct dead_file *first, size_t count)
{
    struct dead_file **files = count < 2 ? NULL : mem_alloc(count * sizeof(struct dead_file *));
    if (files == NULL)
        return first;
    size_t i = 0;
    for (struct dead_file *f = first; f != NULL; f = f->next)
        files[i++] = f;
    qsort(files, count, sizeof *files, compare_deaths);
    for (i = 0; i < count; i++)
        files[i]->next = i + 1 < count ? files[i + 1] : NULL;
    first = files[0];
    mem_free(files);
    return first;
}

static void remove_all(struct dead_files *dead, struct dead_file *file)
{
    while (file != NULL) {
        struct dead_file *next = file->next;
        remove_file(dead, file->kind, file->number);
        mem_free(file);
        file = next;
    }
}

void dead_files_clean(struct dead_files *dead)
{
    struct answers answers = {0};
    struct dead_file *kept = NULL, *going = NULL;
    size_t going_count = 0;
    pthread_mutex_lock(&dead->lock);
    struct dead_file *file = dead->first;
    dead->first = NULL;
    pthread_mutex_unlock(&dead->lock);
    while (file != NULL) {
        struct dead_file *next = file->next;
        if (may_go(dead, &answers, file->dead_number)) {
            file->next = going;
            going = file;
            going_count++;
        } else {
            file->next = kept;
            kept = file;
        }
        file = next;
    }
    remove_all(dead, put_in_order(going, going_count));
    while (kept != NULL) {
        struct dead_file *next = kept->next;
        pthread_mutex_lock(&dead->lock);
        kept->next = dead->first;
        dead->first = kept;
        pthread_mutex_unlock(&dead->lock);
        kept = next;
    }
}

lsm_status dead_files_list(struct dead_files *dead, struct listing *list, lsm_error *err)
{
    lsm_status status = LSM_OK;
    pthread_mutex_lock(&dead->lock);
    for (struct dead_file *f = dead->first; status == LSM_OK && f != NULL; f = f->next)
        status = listing_add(list, f->kind, f->number, err);
    pthread_mutex_unlock(&dead->lock);
    return status;
}
