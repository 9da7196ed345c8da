/* Looking from outside: every state of a population is told, nothing is changed by it, and what is
 * damaged or vanishes is no crash. */
#include "tests/unit/shm/attach_fixture.h"

#include "engine/shm/peek.h"

#include <fcntl.h>

static struct shm_peek *peek(void)
{
    struct shm_peek *p = NULL;
    ck_ok(shm_peek_open(io, db_dir, db_path, &p, err));
    return p;
}

static void expect_state(enum shm_peek_state wanted)
{
    struct shm_peek *p = peek();
    ck_assert_msg(shm_peek_state(p) == wanted, "state %d instead of %d: %s", shm_peek_state(p),
                  wanted, shm_peek_why(p)->message);
    bool has_layout = wanted == SHM_PEEK_ALONE || wanted == SHM_PEEK_SHARED;
    ck_assert_int_eq(shm_peek_layout(p) != NULL, has_layout);
    ck_assert_int_eq(shm_peek_why(p)->message[0] != '\0', wanted == SHM_PEEK_HIDDEN);
    ck_assert(shm_peek_is_current(p));
    shm_peek_close(p);
}

static void file_path(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", db_path, name);
}

START_TEST(test_peek_without_database_finds_nobody_and_makes_nothing)
{
    char path[256];
    expect_state(SHM_PEEK_NOBODY);
    file_path(path, "LOCK");
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(segment_count(), 0);
}
END_TEST

START_TEST(test_peek_follows_a_founder)
{
    struct shm_attach_options o = options(5000);
    struct shm_options so = segment_options();
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    bool is_last;
    ck_ok(shm_attach_begin(&o, &a, &role, err));
    expect_state(SHM_PEEK_CHANGING);
    ck_ok(shm_attach_found(a, &so, err));
    expect_state(SHM_PEEK_ALONE);
    ck_ok(shm_attach_ready(a, err));
    expect_state(SHM_PEEK_SHARED);
    struct shm_peek *p = peek();
    ck_assert_int_eq(shm_peek_founder(p)->pid, getpid());
    ck_assert_uint_eq(shm_peek_arena_count(p), 1);
    ck_assert_uint_eq(shm_peek_arena_size(p), 65536);
    ck_assert(shm_peek_slot_is_alive(p, shm_attachment_slot(a)));
    ck_assert(!shm_peek_slot_is_alive(p, 1));
    ck_assert(!shm_peek_slot_is_alive(p, SHM_MAX_SLOTS));
    shm_peek_close(p);
    ck_ok(shm_detach_begin(a, &is_last, err));
    ck_assert(is_last);
    expect_state(SHM_PEEK_ALONE); /* who closes lets nobody in */
    shm_detach_end(a);
    expect_state(SHM_PEEK_NOBODY);
}
END_TEST

START_TEST(test_peek_arena_shows_only_what_is_backed)
{
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    struct shm_peek *p = peek();
    ck_assert_ptr_null(shm_peek_arena(p, 0, 64));
    ck_ok(shm_arena_back(shm_attachment_segment(a), 0, 4096, 65536, err));
    memset(shm_arena(shm_attachment_segment(a), 0), 0x5a, 4096);
    const uint8_t *arena = shm_peek_arena(p, 0, 4096);
    ck_assert_ptr_nonnull(arena);
    ck_assert_uint_eq(arena[0], 0x5a);
    ck_assert_uint_eq(arena[4095], 0x5a);
    ck_assert_ptr_null(shm_peek_arena(p, 0, 65537));
    ck_assert_ptr_null(shm_peek_arena(p, 1, 64));
    shm_peek_close(p);
    detach(a);
}
END_TEST

START_TEST(test_peek_of_a_killed_member_shows_a_dead_slot)
{
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    pid_t child = fork();
    if (child == 0) {
        attach_as(SHM_ATTACH_JOINED);
        kill(getpid(), SIGKILL);
    }
    wait_killed(child);
    struct shm_peek *p = peek();
    const struct shm_slot *slot = &shm_peek_layout(p)->slots[1];
    ck_assert_uint_eq(slot->state, SHM_SLOT_IN_USE);
    ck_assert_int_eq(slot->pid, child);
    ck_assert(!shm_peek_slot_is_alive(p, 1));
    ck_assert(shm_peek_slot_is_alive(p, 0));
    shm_peek_close(p);
    detach(a);
}
END_TEST

START_TEST(test_peek_of_a_killed_population_finds_nobody)
{
    pid_t child = fork();
    if (child == 0) {
        attach_as(SHM_ATTACH_FOUNDER);
        kill(getpid(), SIGKILL);
    }
    wait_killed(child);
    expect_state(SHM_PEEK_NOBODY);
    ck_assert_int_eq(segment_count(), 1); /* left as it was */
}
END_TEST

START_TEST(test_peek_outlives_the_population)
{
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    struct shm_peek *p = peek();
    ck_assert(shm_peek_is_current(p));
    detach(a);
    ck_assert(!shm_peek_is_current(p));
    ck_assert_uint_eq(shm_peek_layout(p)->ident.magic, SHM_MAGIC);
    ck_assert(!shm_peek_slot_is_alive(p, 0));
    a = attach_as(SHM_ATTACH_FOUNDER); /* another population, with another segment */
    ck_assert(!shm_peek_is_current(p));
    shm_peek_close(p);
    detach(a);
}
END_TEST

START_TEST(test_peek_with_a_damaged_page_says_why_it_is_hidden)
{
    char path[256];
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    file_path(path, "LOCK");
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "damage", 6, 100), 6);
    close(fd);
    expect_state(SHM_PEEK_HIDDEN);
    shm_attachment_abandon(a);
}
END_TEST

static void segment_path(const struct shm_attachment *a, char path[256])
{
    snprintf(path, 256, "%s/%s", shm_path, shm_segment_name(shm_attachment_segment(a)));
}

START_TEST(test_peek_of_a_short_segment_is_hidden)
{
    char path[256];
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    segment_path(a, path);
    ck_assert_int_eq(truncate(path, 4096), 0);
    expect_state(SHM_PEEK_HIDDEN);
    ck_assert_int_eq(truncate(path, 0), 0);
    expect_state(SHM_PEEK_HIDDEN);
    ck_assert_int_eq(unlink(path), 0);
    expect_state(SHM_PEEK_HIDDEN);
    _exit(0); /* what is mapped cannot be used any more */
}
END_TEST

START_TEST(test_peek_of_another_segment_of_the_name_is_hidden)
{
    char path[256], other[300], command[1200];
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    segment_path(a, path);
    snprintf(other, sizeof other, "%s.copy", path);
    snprintf(command, sizeof command, "cp '%s' '%s' && mv '%s' '%s'", path, other, other, path);
    ck_assert_int_eq(system(command), 0);
    expect_state(SHM_PEEK_HIDDEN);
    detach(a);
}
END_TEST

START_TEST(test_peek_cannot_store)
{
    attach_as(SHM_ATTACH_FOUNDER);
    struct shm_layout *layout = (struct shm_layout *)(uintptr_t)shm_peek_layout(peek());
    signal(SIGSEGV, SIG_DFL); /* not the sanitizer's */
    atomic_store(&layout->ctl.ready, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/peek");
    TCase *tests = tcase_create("peek");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_peek_without_database_finds_nobody_and_makes_nothing);
    tcase_add_test(tests, test_peek_follows_a_founder);
    tcase_add_test(tests, test_peek_arena_shows_only_what_is_backed);
    tcase_add_test(tests, test_peek_of_a_killed_member_shows_a_dead_slot);
    tcase_add_test(tests, test_peek_of_a_killed_population_finds_nobody);
    tcase_add_test(tests, test_peek_outlives_the_population);
    tcase_add_test(tests, test_peek_with_a_damaged_page_says_why_it_is_hidden);
    tcase_add_test(tests, test_peek_of_a_short_segment_is_hidden);
    tcase_add_test(tests, test_peek_of_another_segment_of_the_name_is_hidden);
    tcase_add_test_raise_signal(tests, test_peek_cannot_store, SIGSEGV);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
