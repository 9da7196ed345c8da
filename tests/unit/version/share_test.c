/* Several sets over one directory: that all see the same, and which files go when. */
#include "share_rig.h"

#include <pthread.h>

#define TINY_ROLL 1
#define NO_ROLL   0

/* ---- all say the same -------------------------------------------------------------------------
 */

static void recover_and_compare(struct share *s)
{
    struct rig last = {.disk = s->disk};
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        share_leave(s, i);
    memcpy(last.env.uuid, "a uuid of 16 byt", TABLE_UUID_SIZE);
    rig_plug_in(&last);
    rig_ok(&last, rig_recover(&last));
    assert_says_model(last.set, &s->model);
    ck_assert_uint_gt(version_new_file_number(last.set), 0);
    /* Nothing is left behind but what is named. */
    for (uint64_t k = 0; k < MODEL_TABLES; k++)
        ck_assert_int_eq(rig_has_file(&last, FILE_TABLE, k), s->model.tables[k].is_live);
    rig_unplug(&last);
}

static void run_random_edits(uint64_t seed, uint64_t roll_size)
{
    struct share *s = mem_alloc(sizeof *s);
    share_open(s, seed, roll_size);
    for (size_t round = 0; round < 150; round++) {
        size_t i = random_below(&s->random, SHARE_MEMBERS);
        struct version_edit edit = {0};
        struct model after = s->model;
        switch (random_below(&s->random, 8)) {
        case 0: /* goes and comes back */
            share_leave(s, i);
            share_attach(s, i);
            assert_is_published(s, i);
            break;
        case 1:
        case 2:
            share_refresh(s, i);
            assert_is_published(s, i);
            version_set_clean(s->members[i].set);
            break;
        default: {
            share_refresh(s, i);
            random_edit(s, i, &after, &edit);
            share_apply(s, i, &edit, &after);
            assert_is_published(s, i);
            break;
        }
        }
    }
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        share_refresh(s, i);
        assert_is_published(s, i);
    }
    recover_and_compare(s);
    share_close(s);
    mem_free(s);
}

START_TEST(test_share_random_edits_of_any_member_reach_all)
{
    uint64_t seed = (uint64_t)time(NULL) * 31;
    printf("seed %llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < 6; i++)
        run_random_edits(seed + i, i % 3 == 0 ? NO_ROLL : i % 3 == 1 ? TINY_ROLL : 2000);
}
END_TEST

/* One new table in level 0 by member `i`. */
static uint64_t apply_new(struct share *s, size_t i)
{
    struct version_edit edit = {0};
    struct model after = s->model;
    uint64_t number = add_new(s, i, &after, &edit, 0, 0);
    share_apply(s, i, &edit, &after);
    return number;
}

static void apply_removal(struct share *s, size_t i, uint64_t number)
{
    struct version_edit edit = {0};
    struct model after = s->model;
    remove_from(&after, &edit, number);
    share_apply(s, i, &edit, &after);
}

static void check_files_that_stay_are_shared(uint64_t roll_size)
{
    struct share s;
    share_open(&s, 5, roll_size);
    uint64_t stays = apply_new(&s, 0), moves = apply_new(&s, 0), goes = apply_new(&s, 0);
    share_refresh(&s, 1);
    struct version *before = version_set_current(s.members[1].set);
    struct version_file *file = version_find_file(before, stays);
    ck_assert_ptr_nonnull(file);
    file->busy = true;
    struct version_edit edit = {0};
    struct model after = s.model;
    remove_from(&after, &edit, moves);
    add_to(&s, 0, &after, &edit, moves, 0, 3);
    share_apply(&s, 0, &edit, &after);
    apply_removal(&s, 0, goes);
    share_refresh(&s, 1);
    struct version *now = version_set_current(s.members[1].set);
    ck_assert_uint_gt(now->number, before->number);
    ck_assert_ptr_eq(version_find_file(now, stays), file);
    ck_assert(file->busy);
    ck_assert_uint_eq(version_find_file(now, moves)->meta.level, 3);
    ck_assert_uint_eq(version_find_file(before, moves)->meta.level, 0);
    ck_assert_ptr_null(version_find_file(now, goes));
    ck_assert_ptr_nonnull(version_find_file(before, goes));
    version_drop(before);
    version_drop(now);
    share_close(&s);
}

START_TEST(test_share_files_that_stay_keep_their_struct)
{
    check_files_that_stay_are_shared(NO_ROLL);
    check_files_that_stay_are_shared(TINY_ROLL);
}
END_TEST

START_TEST(test_share_unpublished_edit_is_not_seen)
{
    struct share s;
    share_open(&s, 6, NO_ROLL);
    apply_new(&s, 0);
    struct version_edit edit = {0};
    struct model after = s.model;
    add_new(&s, 0, &after, &edit, 0, 0);
    rig_ok(&s.members[0], version_set_apply(s.members[0].set, &edit, &s.members[0].error));
    edit_release(&edit);
    share_refresh(&s, 1);
    assert_is_published(&s, 1);
    share_leave(&s, 2);
    share_attach(&s, 2);
    assert_is_published(&s, 2);
    share_publish(&s, 0);
    s.model = after;
    share_refresh(&s, 1);
    share_refresh(&s, 2);
    assert_is_published(&s, 1);
    assert_is_published(&s, 2);
    share_close(&s);
}
END_TEST

START_TEST(test_share_older_place_changes_nothing)
{
    struct share s;
    share_open(&s, 7, NO_ROLL);
    struct version_place old = s.place;
    apply_new(&s, 0);
    rig_ok(&s.members[0], version_set_refresh(s.members[0].set, &old, &s.members[0].error));
    assert_is_published(&s, 0);
    share_close(&s);
}
END_TEST

START_TEST(test_share_place_that_does_not_fit_is_corrupt)
{
    struct share s;
    share_open(&s, 8, NO_ROLL);
    struct version_place old = s.place;
    apply_new(&s, 0);
    struct rig *r = &s.members[1];
    struct version_place wrong[5] = {s.place, s.place, s.place, s.place, s.place};
    wrong[0].offset += 8;
    wrong[1].frame_number++;
    wrong[2].chain ^= 1;
    wrong[3].offset -= 8;
    wrong[4].manifest_number += 100;
    for (size_t i = 0; i < 5; i++) {
        struct version_set *set = NULL;
        struct version_place place;
        lsm_status status = version_set_refresh(r->set, &wrong[i], &r->error);
        ck_assert_msg(status == LSM_CORRUPT, "place %zu: %s", i, lsm_strerror(status));
        version_set_place(r->set, &place);
        ck_assert_int_eq(memcmp(&place, &old, sizeof old), 0);
        ck_assert_int_eq(version_set_attach(&r->options, &wrong[i], &set, &r->error), LSM_CORRUPT);
        ck_assert_ptr_null(set);
    }
    share_refresh(&s, 1);
    assert_is_published(&s, 1);
    share_close(&s);
}
END_TEST

START_TEST(test_share_read_only_member_follows)
{
    struct share s;
    share_open(&s, 9, TINY_ROLL);
    share_leave(&s, 1);
    share_plug_in(&s, 1);
    struct rig *r = &s.members[1];
    bool adopted;
    r->options.read_only = true;
    rig_ok(r, version_set_attach(&r->options, &s.place, &r->set, &r->error));
    uint64_t number = apply_new(&s, 0);
    apply_new(&s, 2);
    share_refresh(&s, 1);
    assert_is_published(&s, 1);
    struct version_edit edit = {.has_log = true};
    ck_assert_int_eq(version_set_apply(r->set, &edit, &r->error), LSM_READ_ONLY);
    ck_assert_int_eq(version_set_roll_forward(r->set, &s.place, &adopted, &r->error),
                     LSM_READ_ONLY);
    rig_ok(r, version_set_remove_orphans(r->set, UINT64_MAX, &r->error));
    ck_assert(rig_has_file(r, FILE_TABLE, number));
    share_close(&s);
}
END_TEST

/* Every allocation of a refresh fails in turn: nothing changes, and the next one works. */
static void check_refresh_without_memory(uint64_t roll_size)
{
    for (int64_t failing = 0;; failing++) {
        struct share s;
        share_open(&s, 10, roll_size);
        uint64_t number = apply_new(&s, 0);
        share_refresh(&s, 1);
        struct model before = s.model;
        apply_removal(&s, 0, number);
        apply_new(&s, 0);
        struct rig *r = &s.members[1];
        mem_fail_after(failing, true);
        lsm_status status = version_set_refresh(r->set, &s.place, &r->error);
        mem_fail_after(-1, false);
        if (status != LSM_OK) {
            ck_assert_int_eq(status, LSM_NO_MEMORY);
            assert_says_model(r->set, &before);
        }
        share_refresh(&s, 1);
        assert_is_published(&s, 1);
        share_close(&s);
        if (status == LSM_OK)
            break;
        ck_assert_int_lt(failing, 1000);
    }
}

START_TEST(test_share_refresh_without_memory_changes_nothing)
{
    check_refresh_without_memory(NO_ROLL);
    check_refresh_without_memory(TINY_ROLL);
}
END_TEST

START_TEST(test_share_member_catches_up_over_many_manifests)
{
    struct share s;
    share_open(&s, 11, TINY_ROLL);
    uint64_t first = s.place.manifest_number;
    for (size_t i = 0; i < 20; i++) {
        apply_new(&s, i % 3);
        version_set_clean(s.members[i % 3].set);
    }
    /* Member 3 has not moved: what it would need to go on step by step is there. */
    size_t count = 0;
    for (uint64_t k = 0; k <= s.place.manifest_number; k++)
        count += rig_has_file(&s.members[0], FILE_MANIFEST, k);
    ck_assert_uint_ge(count, 4);
    ck_assert(rig_has_file(&s.members[0], FILE_MANIFEST, first));
    share_refresh(&s, 3);
    assert_is_published(&s, 3);
    count = 0;
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        s.pins[i] = s.place.frame_number - 1;
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        version_set_clean(s.members[i].set);
    for (uint64_t k = 0; k <= s.place.manifest_number; k++)
        count += rig_has_file(&s.members[0], FILE_MANIFEST, k);
    ck_assert_uint_eq(count, 2);
    ck_assert(rig_has_file(&s.members[0], FILE_MANIFEST, s.place.previous_number));
    share_close(&s);
}
END_TEST

START_TEST(test_share_failed_edit_that_rolled_is_followed)
{
    struct share s;
    share_open(&s, 12, TINY_ROLL);
    struct rig *r = &s.members[1];
    uint64_t number = apply_new(&s, 0), manifest = s.place.manifest_number;
    lsm_status status = LSM_OK;
    while (status == LSM_OK) {
        manifest = s.place.manifest_number;
        share_refresh(&s, 1);
        struct version_edit edit = {.has_log = true, .log_position = 5};
        /* A new manifest takes two writes, its own and that of CURRENT. */
        sim_fail_after(s.disk, SIM_FAULT_WRITE, 2, ENOSPC, false);
        status = version_set_apply(r->set, &edit, &r->error);
        s.model.log_position = 5;
        share_publish(&s, 1);
    }
    sim_fail_never(s.disk);
    ck_assert_int_eq(status, LSM_NO_SPACE);
    ck_assert_uint_gt(s.place.manifest_number, manifest);
    assert_is_published(&s, 1);
    share_refresh(&s, 0);
    assert_is_published(&s, 0);
    apply_removal(&s, 0, number);
    recover_and_compare(&s);
    share_close(&s);
}
END_TEST

/* ---- files ------------------------------------------------------------------------------------
 */

static bool has_table(struct share *s, uint64_t number)
{
    return rig_has_file(&s->members[0], FILE_TABLE, number);
}

static void check_removed_file_waits(uint64_t roll_size)
{
    struct share s;
    share_open(&s, 13, roll_size);
    uint64_t number = apply_new(&s, 0), manifest = s.place.manifest_number;
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        share_refresh(&s, i);
    apply_removal(&s, 0, number);
    while (roll_size == TINY_ROLL && s.place.manifest_number == manifest)
        apply_new(&s, 0);
    epoch_drain();
    for (size_t i = 1; i < SHARE_MEMBERS; i++) {
        version_set_clean(s.members[0].set);
        ck_assert(has_table(&s, number)); /* members from i on are behind */
        share_refresh(&s, i);
    }
    epoch_drain();
    for (size_t i = 1; i < SHARE_MEMBERS; i++) {
        version_set_clean(s.members[i].set);
        ck_assert(has_table(&s, number)); /* they are not the ones to remove it */
    }
    version_set_clean(s.members[0].set);
    ck_assert(!has_table(&s, number));
    share_close(&s);
}

START_TEST(test_share_removed_file_waits_for_the_others)
{
    check_removed_file_waits(NO_ROLL);
    check_removed_file_waits(TINY_ROLL);
}
END_TEST

START_TEST(test_share_removed_file_waits_for_a_local_reader)
{
    struct share s;
    share_open(&s, 14, NO_ROLL);
    uint64_t number = apply_new(&s, 0);
    struct version *held = version_set_current(s.members[0].set);
    apply_removal(&s, 0, number);
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        share_refresh(&s, i);
    version_set_clean(s.members[0].set);
    rig_ok(&s.members[0], version_set_remove_orphans(s.members[0].set, UINT64_MAX, NULL));
    ck_assert(has_table(&s, number));
    version_drop(held);
    epoch_drain();
    version_set_clean(s.members[0].set);
    ck_assert(!has_table(&s, number));
    share_close(&s);
}
END_TEST

START_TEST(test_share_files_of_one_edit_go_one_by_one)
{
    struct share s;
    share_open(&s, 15, NO_ROLL);
    uint64_t numbers[4];
    for (size_t i = 0; i < 4; i++)
        numbers[i] = apply_new(&s, 0);
    uint64_t dead[4];
    for (size_t i = 0; i < 4; i++) {
        apply_removal(&s, 0, numbers[i]);
        dead[i] = s.place.frame_number - 1;
    }
    epoch_drain();
    for (size_t i = 0; i < 4; i++) {
        s.pins[3] = dead[i] - 1;
        version_set_clean(s.members[0].set);
        ck_assert(has_table(&s, numbers[i]));
        for (size_t k = 0; k < i; k++)
            ck_assert(!has_table(&s, numbers[k]));
        for (size_t k = 1; k < 3; k++)
            s.pins[k] = s.place.frame_number - 1;
    }
    share_close(&s);
}
END_TEST

START_TEST(test_share_orphans_go_and_outputs_of_jobs_stay)
{
    struct share s;
    share_open(&s, 16, TINY_ROLL);
    struct rig *dying = &s.members[1];
    uint64_t live = apply_new(&s, 0);
    share_refresh(&s, 1);
    uint64_t half_made = version_new_file_number(dying->set);
    rig_ok(dying, rig_fake_table(dying, half_made, 3));
    /* It removed a file that another one still reads, and dies. */
    uint64_t removed = apply_new(&s, 0);
    share_refresh(&s, 2);
    apply_removal(&s, 1, removed);
    uint64_t old_manifest = version_new_file_number(dying->set);
    struct io_file *file = NULL;
    char name[FILE_NAME_SIZE];
    rig_ok(dying, io_file_open(dying->dir, file_name_make(FILE_MANIFEST, old_manifest, name),
                               IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &dying->error));
    io_file_close(file);
    sim_kill(dying->io);
    share_leave(&s, 1);
    /* A job of member 3 runs. */
    uint64_t floor = atomic_load(&s.next_file_number);
    uint64_t output = version_new_file_number(s.members[3].set);
    rig_ok(&s.members[3], rig_fake_table(&s.members[3], output, TABLE_SIZE));
    share_refresh(&s, 0);
    share_refresh(&s, 3);
    rig_ok(&s.members[0], version_set_remove_orphans(s.members[0].set, floor, NULL));
    ck_assert(has_table(&s, live));
    ck_assert(has_table(&s, output));
    ck_assert(has_table(&s, removed)); /* member 2 is behind */
    ck_assert(rig_has_file(&s.members[0], FILE_MANIFEST, old_manifest));
    share_refresh(&s, 2);
    version_set_clean(s.members[0].set);
    ck_assert(!has_table(&s, half_made));
    ck_assert(!has_table(&s, removed));
    ck_assert(has_table(&s, output));
    ck_assert(
        rig_has_file(&s.members[0], FILE_MANIFEST, old_manifest)); /* it may be in the making */
    /* The job's edit comes, and with it a manifest behind the one left. */
    struct version_edit edit = {0};
    struct model after = s.model;
    add_to(&s, 3, &after, &edit, output, 0, 2);
    share_apply(&s, 3, &edit, &after);
    while (s.place.manifest_number < old_manifest)
        apply_new(&s, 3);
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (i != 1)
            share_refresh(&s, i);
    }
    rig_ok(&s.members[0], version_set_remove_orphans(s.members[0].set, floor, NULL));
    ck_assert(!rig_has_file(&s.members[0], FILE_MANIFEST, old_manifest));
    ck_assert(rig_has_file(&s.members[0], FILE_MANIFEST, s.place.previous_number));
    ck_assert(has_table(&s, output));
    ck_assert(has_table(&s, live));
    recover_and_compare(&s);
    share_close(&s);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

#define THREAD_EDITS 60

struct crowd {
    struct share share;
    pthread_mutex_t version_lock; /* of all "processes"; guards model and random */
    pthread_mutex_t change_lock;  /* guards share.place and pins */
    _Atomic bool is_over;
};

struct person {
    struct crowd *crowd;
    size_t member;
    pthread_mutex_t set_lock; /* its calls of the set one at a time */
};

static bool crowd_may_remove(void *context, uint64_t dead_number)
{
    struct crowd *c = context;
    pthread_mutex_lock(&c->change_lock);
    bool may = share_may_remove(&c->share, dead_number);
    pthread_mutex_unlock(&c->change_lock);
    return may;
}

/* Refreshes; the pin follows once nothing in the process can be older: version_set_current() by its
 * reader is under the set's lock as well. */
static void person_refresh_locked(struct person *p)
{
    struct crowd *c = p->crowd;
    struct rig *r = &c->share.members[p->member];
    pthread_mutex_lock(&c->change_lock);
    struct version_place place = c->share.place;
    pthread_mutex_unlock(&c->change_lock);
    rig_ok(r, version_set_refresh(r->set, &place, &r->error));
}

static void *write_edits(void *context)
{
    struct person *p = context;
    struct crowd *c = p->crowd;
    struct share *s = &c->share;
    for (size_t k = 0; k < THREAD_EDITS; k++) {
        struct version_edit edit = {0};
        pthread_mutex_lock(&c->version_lock);
        pthread_mutex_lock(&p->set_lock);
        person_refresh_locked(p);
        struct model after = s->model;
        random_edit(s, p->member, &after, &edit);
        struct rig *r = &s->members[p->member];
        rig_ok(r, version_set_apply(r->set, &edit, &r->error));
        pthread_mutex_lock(&c->change_lock);
        share_publish(s, p->member);
        pthread_mutex_unlock(&c->change_lock);
        s->model = after;
        assert_says_model(r->set, &s->model);
        pthread_mutex_unlock(&p->set_lock);
        pthread_mutex_unlock(&c->version_lock);
        edit_release(&edit);
    }
    return NULL;
}

/* Follows, and looks whether the files of the version it holds are there, while pinned. */
static void *read_versions(void *context)
{
    struct person *p = context;
    struct crowd *c = p->crowd;
    struct rig *r = &c->share.members[p->member];
    uint64_t last = 0;
    while (!atomic_load(&c->is_over)) {
        pthread_mutex_lock(&p->set_lock);
        person_refresh_locked(p);
        struct version *v = version_set_current(r->set);
        pthread_mutex_unlock(&p->set_lock);
        ck_assert_uint_ge(v->number, last);
        last = v->number;
        for (size_t i = 0; i < v->families[0]->levels[0].count; i++)
            ck_assert(rig_has_file(r, FILE_TABLE, v->families[0]->levels[0].files[i]->meta.number));
        uint64_t number = v->number;
        version_drop(v);
        /* This thread is the only one of its process to hold versions, and the set has none older
         * than the current one, which is `number` or later. */
        pthread_mutex_lock(&c->change_lock);
        c->share.pins[p->member] = number;
        pthread_mutex_unlock(&c->change_lock);
        version_set_clean(r->set);
    }
    return NULL;
}

START_TEST(test_share_threads_apply_and_follow)
{
    struct crowd *c = mem_alloc_zeroed(sizeof *c);
    struct share *s = &c->share;
    struct person people[SHARE_MEMBERS];
    pthread_t writers[2], readers[SHARE_MEMBERS];
    uint64_t seed = (uint64_t)time(NULL) * 37;
    printf("seed %llu\n", (unsigned long long)seed);
    share_open(s, seed, 3000);
    pthread_mutex_init(&c->version_lock, NULL);
    pthread_mutex_init(&c->change_lock, NULL);
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        share_leave(s, i);
        share_plug_in(s, i);
        struct rig *r = &s->members[i];
        r->options.may_remove = crowd_may_remove;
        r->options.may_remove_context = c;
        s->pins[i] = s->place.frame_number - 1;
        rig_ok(r, version_set_attach(&r->options, &s->place, &r->set, &r->error));
        people[i] = (struct person){.crowd = c, .member = i};
        pthread_mutex_init(&people[i].set_lock, NULL);
    }
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_versions, &people[i]), 0);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&writers[i], NULL, write_edits, &people[i]), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&c->is_over, true);
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        pthread_join(readers[i], NULL);
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        share_refresh(s, i);
        assert_is_published(s, i);
    }
    recover_and_compare(s);
    share_close(s);
    for (size_t i = 0; i < SHARE_MEMBERS; i++)
        pthread_mutex_destroy(&people[i].set_lock);
    pthread_mutex_destroy(&c->version_lock);
    pthread_mutex_destroy(&c->change_lock);
    mem_free(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("version_share");
    TCase *tcase = tcase_create("share");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_share_random_edits_of_any_member_reach_all);
    tcase_add_test(tcase, test_share_files_that_stay_keep_their_struct);
    tcase_add_test(tcase, test_share_unpublished_edit_is_not_seen);
    tcase_add_test(tcase, test_share_older_place_changes_nothing);
    tcase_add_test(tcase, test_share_place_that_does_not_fit_is_corrupt);
    tcase_add_test(tcase, test_share_read_only_member_follows);
    tcase_add_test(tcase, test_share_refresh_without_memory_changes_nothing);
    tcase_add_test(tcase, test_share_member_catches_up_over_many_manifests);
    tcase_add_test(tcase, test_share_failed_edit_that_rolled_is_followed);
    tcase_add_test(tcase, test_share_removed_file_waits_for_the_others);
    tcase_add_test(tcase, test_share_removed_file_waits_for_a_local_reader);
    tcase_add_test(tcase, test_share_files_of_one_edit_go_one_by_one);
    tcase_add_test(tcase, test_share_orphans_go_and_outputs_of_jobs_stay);
    tcase_add_test(tcase, test_share_threads_apply_and_follow);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
