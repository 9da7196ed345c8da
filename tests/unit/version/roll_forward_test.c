/*
 * What the next owner of the version lock does after one that died: killed at every step of an
 * edit, the taker at every step of the takeover, with failing syncs, torn frames, and a power cut
 * behind each. What a recovery of the files would see right after the death is what must come out.
 */
#include "share_rig.h"

#include "engine/format/frame.h"

#define DYING  0
#define TAKER  1
#define SECOND 2 /* takes over from the taker */
#define OTHER  3

struct scenario {
    bool rolls;      /* the edit begins a new manifest first */
    bool sync_fails; /* its first sync, so that a new manifest holds the edit */
    bool lags;       /* the taker has not seen the last edits */
    bool poisons;    /* the sync of the directory with the new CURRENT fails */
};

static const struct scenario scenarios[] = {
    {.rolls = false},
    {.rolls = true},
    {.lags = true},
    {.rolls = true, .lags = true},
    {.sync_fails = true},
    {.sync_fails = true, .rolls = true},
    {.sync_fails = true, .lags = true},
    {.rolls = true, .poisons = true},
};

struct accident {
    struct share s;
    struct model after; /* what the edit makes of s.model */
    uint64_t removed;   /* the table that it removes */
    bool forgets;       /* there was no memory to remember dead files: orphans then */
    struct version_edit edit;
    struct rig_text before_text, after_text;
    struct rig_text truth; /* what the files say after the death */
};

static uint64_t add_one(struct share *s, size_t i)
{
    struct version_edit edit = {0};
    struct model after = s->model;
    uint64_t number = add_new(s, i, &after, &edit, 0, 0);
    share_apply(s, i, &edit, &after);
    return number;
}

static void prepare(struct accident *a, const struct scenario *how)
{
    struct share *s = &a->s;
    share_open(s, 3, 1);
    while (s->place.previous_number == 0)
        add_one(s, SECOND);
    s->roll_size = 0;
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        share_leave(s, i);
        share_attach(s, i);
    }
    a->removed = add_one(s, OTHER);
    for (size_t i = 0; i < 3; i++)
        add_one(s, SECOND);
    share_refresh(s, TAKER);
    add_one(s, OTHER);
    add_one(s, OTHER);
    s->roll_size = how->rolls ? 1 : 0;
    share_leave(s, DYING);
    share_attach(s, DYING);
    s->roll_size = 0;
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (i != TAKER || !how->lags)
            share_refresh(s, i);
    }
    a->after = s->model;
    a->edit = (struct version_edit){0};
    remove_from(&a->after, &a->edit, a->removed);
    add_new(s, DYING, &a->after, &a->edit, 0, 0);
    a->before_text = describe_model(&s->model);
    a->after_text = describe_model(&a->after);
    if (how->sync_fails)
        sim_fail_after(s->disk, SIM_FAULT_SYNC, how->rolls ? 5 : 0, EIO, false);
    if (how->poisons)
        sim_fail_after(s->disk, SIM_FAULT_SYNC, 4, EIO, false);
}

/* What a recovery says after the crash; the disk stays as it is. */
static struct rig_text recovered(struct share *s, enum sim_crash crash, uint64_t seed)
{
    struct rig last = {.disk = sim_disk_clone(s->disk)};
    ck_assert_ptr_nonnull(last.disk);
    memcpy(last.env.uuid, "a uuid of 16 byt", TABLE_UUID_SIZE);
    sim_crash(last.disk, crash, seed);
    rig_plug_in(&last);
    rig_ok(&last, rig_recover(&last));
    struct rig_text text = describe_set(last.set);
    rig_close(&last);
    return text;
}

static bool is_text(const struct rig_text *a, const struct rig_text *b)
{
    return strcmp(a->at, b->at) == 0;
}

static void assert_is_before_or_after(const struct accident *a, const struct rig_text *text)
{
    ck_assert_msg(is_text(text, &a->before_text) || is_text(text, &a->after_text),
                  "found:\n%sbefore:\n%safter:\n%s", text->at, a->before_text.at, a->after_text.at);
}

/* The owner dies before its `step`, or right before it would publish; returns whether the step was
 * reached. */
static bool let_die(struct accident *a, uint64_t step, bool is_poisoned)
{
    struct rig *r = &a->s.members[DYING];
    sim_kill_at(r->io, step);
    lsm_status status = version_set_apply(r->set, &a->edit, &r->error);
    bool was_killed = sim_is_killed(r->io);
    ck_assert_msg(was_killed || status == (is_poisoned ? LSM_POISONED : LSM_OK), "%s",
                  r->error.message);
    sim_fail_never(a->s.disk);
    sim_kill(r->io);
    edit_release(&a->edit);
    share_leave(&a->s, DYING);
    a->truth = recovered(&a->s, SIM_CRASH_KILL, 1);
    assert_is_before_or_after(a, &a->truth);
    if (!was_killed && !is_poisoned)
        assert_same_text(&a->truth, &a->after_text);
    return was_killed;
}

/* Whatever happened in between: the files still say the same, and a power cut leaves a state. */
static void assert_truth_stays(struct accident *a)
{
    struct rig_text now = recovered(&a->s, SIM_CRASH_KILL, 1);
    assert_same_text(&now, &a->truth);
    for (uint64_t seed = 0; seed < 2; seed++) {
        now = recovered(&a->s, seed == 0 ? SIM_CRASH_LOSE_ALL : SIM_CRASH_RANDOM, seed);
        assert_is_before_or_after(a, &now);
    }
}

static lsm_status roll_forward(struct accident *a, size_t i, bool *adopted)
{
    struct rig *r = &a->s.members[i];
    return version_set_roll_forward(r->set, &a->s.place, adopted, &r->error);
}

/* The taker removes what the edit and the new manifest took out, when it took them over. */
static void assert_dead_files_go(struct accident *a, size_t taker,
                                 const struct version_place *before)
{
    struct share *s = &a->s;
    struct rig *r = &s->members[taker];
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (s->members[i].io != NULL)
            share_refresh(s, i);
    }
    epoch_drain();
    version_set_clean(r->set);
    ck_assert_int_eq(rig_has_file(r, FILE_TABLE, a->removed), s->model.tables[a->removed].is_live);
    bool is_changed = s->place.manifest_number != before->manifest_number;
    ck_assert_int_eq(rig_has_file(r, FILE_MANIFEST, before->previous_number), !is_changed);
    ck_assert(rig_has_file(r, FILE_MANIFEST, s->place.previous_number));
}

/* After a takeover that ended well: all agree, go on, and the next opening finds it. */
static void go_on(struct accident *a, size_t taker, bool adopted)
{
    struct share *s = &a->s;
    struct version_place before = s->place;
    struct rig_text text = describe_set(s->members[taker].set);
    assert_same_text(&text, &a->truth);
    share_publish(s, taker);
    ck_assert_int_eq(adopted, memcmp(&before, &s->place, sizeof before) != 0);
    if (is_text(&a->truth, &a->after_text))
        s->model = a->after;
    s->pins[taker] = s->place.frame_number - 1;
    assert_is_published(s, taker);
    text = recovered(s, SIM_CRASH_LOSE_ALL, 1);
    assert_same_text(&text, &a->truth);
    share_refresh(s, OTHER);
    assert_is_published(s, OTHER);
    if (!a->forgets)
        assert_dead_files_go(a, taker, &before);
    add_one(s, OTHER);
    share_refresh(s, taker);
    assert_is_published(s, taker);
    add_one(s, taker);
    share_refresh(s, OTHER);
    assert_is_published(s, OTHER);
    struct rig_text wanted = describe_model(&s->model);
    text = recovered(s, SIM_CRASH_LOSE_ALL, 1);
    assert_same_text(&text, &wanted);
}

static void finish(struct accident *a)
{
    struct share *s = &a->s;
    rig_ok(&s->members[OTHER], version_set_remove_orphans(s->members[OTHER].set, UINT64_MAX, NULL));
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (s->members[i].io != NULL)
            share_refresh(s, i);
    }
    epoch_drain();
    for (size_t i = 0; i < SHARE_MEMBERS; i++) {
        if (s->members[i].io != NULL)
            version_set_clean(s->members[i].set);
    }
    for (uint64_t k = 0; k < MODEL_TABLES; k++) {
        if (s->model.tables[k].is_live)
            ck_assert(rig_has_file(&s->members[OTHER], FILE_TABLE, k));
    }
    for (uint64_t k = 0; k < s->next_file_number; k++) {
        if (!s->model.tables[k].is_live)
            ck_assert(!rig_has_file(&s->members[OTHER], FILE_TABLE, k));
    }
    share_close(s);
}

/* The owner dies at `step`, the taker at `taker_step`; returns whether both steps were reached. */
static void run_accident(const struct scenario *how, uint64_t step, uint64_t taker_step, bool *died,
                         bool *taker_died)
{
    struct accident *a = mem_alloc_zeroed(sizeof *a);
    bool adopted = false;
    size_t taker = TAKER;
    prepare(a, how);
    *died = let_die(a, step, how->poisons);
    sim_kill_at(a->s.members[TAKER].io, taker_step);
    lsm_status status = roll_forward(a, TAKER, &adopted);
    *taker_died = sim_is_killed(a->s.members[TAKER].io);
    sim_kill_at(a->s.members[TAKER].io, 0);
    assert_truth_stays(a);
    if (*taker_died) {
        share_leave(&a->s, TAKER);
        taker = SECOND;
        adopted = false;
        status = roll_forward(a, SECOND, &adopted);
    }
    rig_ok(&a->s.members[taker], status);
    go_on(a, taker, adopted);
    finish(a);
    mem_free(a);
}

START_TEST(test_roll_forward_after_a_death_at_every_step)
{
    const struct scenario *how = &scenarios[_i];
    bool died = true;
    uint64_t step = 1;
    for (; died; step++) {
        bool taker_died = true;
        for (uint64_t taker_step = 1; taker_died; taker_step++)
            run_accident(how, step, taker_step, &died, &taker_died);
    }
    ck_assert_uint_ge(step, how->rolls || how->sync_fails ? 8 : 3);
}
END_TEST

/* One call of the taker fails, of each kind, each in turn. */
static void run_failing_takeover(const struct scenario *how, enum sim_fault_kind kind)
{
    bool failed = true;
    for (uint64_t count = 0; failed; count++) {
        bool died = true;
        for (uint64_t step = 1; died; step++) {
            struct accident *a = mem_alloc_zeroed(sizeof *a);
            bool adopted = false;
            size_t taker = TAKER;
            prepare(a, how);
            died = let_die(a, step, false);
            uint64_t before = sim_operation_count(a->s.disk, kind);
            sim_fail_after(a->s.disk, kind, count, EIO, false);
            lsm_status status = roll_forward(a, TAKER, &adopted);
            failed = sim_operation_count(a->s.disk, kind) - before > count;
            sim_fail_never(a->s.disk);
            assert_truth_stays(a);
            if (status != LSM_OK) {
                ck_assert(failed);
                share_leave(&a->s, TAKER);
                taker = SECOND;
                adopted = false;
                status = roll_forward(a, SECOND, &adopted);
            }
            rig_ok(&a->s.members[taker], status);
            go_on(a, taker, adopted);
            finish(a);
            mem_free(a);
        }
    }
}

START_TEST(test_roll_forward_with_failing_calls_loses_nothing)
{
    for (size_t i = 0; i < 2; i++) {
        run_failing_takeover(&scenarios[i], SIM_FAULT_SYNC);
        run_failing_takeover(&scenarios[i], SIM_FAULT_WRITE);
        run_failing_takeover(&scenarios[i], SIM_FAULT_READ);
        run_failing_takeover(&scenarios[i], SIM_FAULT_OPEN);
    }
}
END_TEST

START_TEST(test_roll_forward_without_memory_can_be_repeated)
{
    for (size_t i = 0; i < 2; i++) {
        bool failed = true;
        for (int64_t count = 0; failed; count++) {
            struct accident *a = mem_alloc_zeroed(sizeof *a);
            bool adopted = false;
            prepare(a, &scenarios[i]);
            a->forgets = true;
            ck_assert(!let_die(a, UINT64_MAX, false));
            mem_fail_after(count, true);
            lsm_status status = roll_forward(a, TAKER, &adopted);
            mem_fail_after(-1, false);
            failed = status != LSM_OK;
            if (failed) {
                ck_assert_msg(status == LSM_NO_MEMORY, "%s", a->s.members[TAKER].error.message);
                ck_assert(!adopted);
                rig_ok(&a->s.members[TAKER], roll_forward(a, TAKER, &adopted));
            }
            ck_assert(adopted);
            go_on(a, TAKER, adopted);
            finish(a);
            mem_free(a);
        }
    }
}
END_TEST

/* ---- torn frames ------------------------------------------------------------------------------
 */

struct tail {
    struct accident a;
    uint8_t bytes[1024];
    size_t size;
};

/* Leaves the edit behind the published end, and remembers its bytes. */
static struct tail *prepare_tail(void)
{
    struct tail *t = mem_alloc_zeroed(sizeof *t);
    const void *contents;
    size_t size;
    char name[FILE_NAME_SIZE];
    prepare(&t->a, &scenarios[0]);
    ck_assert(!let_die(&t->a, UINT64_MAX, false));
    struct share *s = &t->a.s;
    file_name_make(FILE_MANIFEST, s->place.manifest_number, name);
    rig_ok(&s->members[OTHER],
           sim_contents(s->disk, RIG_DIR, name, &contents, &size, &s->members[OTHER].error));
    t->size = size - s->place.offset;
    ck_assert_uint_gt(t->size, FRAME_HEADER_SIZE);
    ck_assert_uint_le(t->size, sizeof t->bytes - 64);
    memcpy(t->bytes, (const uint8_t *)contents + s->place.offset, t->size);
    return t;
}

/* The manifest as it would be had the owner's write ended so. */
static void put_tail(struct tail *t, const void *bytes, size_t size)
{
    struct share *s = &t->a.s;
    struct rig *r = &s->members[OTHER];
    struct io_file *file = NULL;
    char name[FILE_NAME_SIZE];
    file_name_make(FILE_MANIFEST, s->place.manifest_number, name);
    rig_ok(r, io_file_open(r->dir, name, IO_FILE_WRITE, 0, &file, &r->error));
    rig_ok(r, io_file_truncate(file, s->place.offset, &r->error));
    if (size > 0)
        rig_ok(r, io_file_write(file, bytes, size, s->place.offset, &r->error));
    io_file_close(file);
}

static void assert_is_cut(struct tail *t)
{
    struct share *s = &t->a.s;
    const void *contents;
    size_t size;
    char name[FILE_NAME_SIZE];
    bool adopted = true;
    rig_ok(&s->members[TAKER], roll_forward(&t->a, TAKER, &adopted));
    ck_assert(!adopted);
    assert_is_published(s, TAKER);
    file_name_make(FILE_MANIFEST, s->place.manifest_number, name);
    rig_ok(&s->members[OTHER], sim_contents(s->disk, RIG_DIR, name, &contents, &size, NULL));
    ck_assert_uint_eq(size, s->place.offset);
}

static void tail_free(struct tail *t)
{
    share_close(&t->a.s);
    mem_free(t);
}

START_TEST(test_roll_forward_torn_frames_are_cut_off)
{
    struct tail *t = prepare_tail();
    for (size_t size = 0; size < t->size; size++) {
        put_tail(t, t->bytes, size);
        assert_is_cut(t);
    }
    for (size_t at = 0; at < t->size; at++) {
        t->bytes[at] ^= 0x20;
        put_tail(t, t->bytes, t->size);
        assert_is_cut(t);
        t->bytes[at] ^= 0x20;
    }
    memset(t->bytes + t->size, 0, 64);
    put_tail(t, t->bytes + t->size, 64);
    assert_is_cut(t);
    put_tail(t, t->bytes, t->size / 2);
    bool adopted = true;
    rig_ok(&t->a.s.members[TAKER], roll_forward(&t->a, TAKER, &adopted));
    t->a.truth = t->a.before_text;
    go_on(&t->a, TAKER, adopted);
    tail_free(t);
}
END_TEST

START_TEST(test_roll_forward_whole_frame_before_garbage_is_adopted)
{
    for (size_t extra = 1; extra < 64; extra += 21) {
        struct tail *t = prepare_tail();
        bool adopted = false;
        memset(t->bytes + t->size, 0xa5, extra);
        put_tail(t, t->bytes, t->size + extra);
        rig_ok(&t->a.s.members[TAKER], roll_forward(&t->a, TAKER, &adopted));
        ck_assert(adopted);
        go_on(&t->a, TAKER, adopted);
        tail_free(t);
    }
}
END_TEST

/* A frame behind the published end with these properties. */
static void put_frame(struct tail *t, enum frame_kind kind, uint32_t more, struct frame_chain chain,
                      lsm_slice payload)
{
    struct share *s = &t->a.s;
    struct buffer bytes = {0};
    struct frame_place place = {.file_number = s->place.manifest_number};
    memcpy(place.uuid, s->members[OTHER].env.uuid, sizeof place.uuid);
    frame_append(&place, kind, more, payload, &chain, &bytes);
    ck_assert(!bytes.failed);
    put_tail(t, bytes.data, bytes.size);
    buffer_release(&bytes);
}

START_TEST(test_roll_forward_frames_that_do_not_follow_are_cut_off)
{
    struct tail *t = prepare_tail();
    struct frame_chain chain = {.offset = t->a.s.place.offset,
                                .number = t->a.s.place.frame_number,
                                .previous = t->a.s.place.chain};
    struct frame_chain wrong = chain;
    lsm_slice payload = {t->bytes + FRAME_HEADER_SIZE, bytes_get_u32(t->bytes + 12)};
    wrong.number++;
    put_frame(t, FRAME_EDIT, 0, wrong, payload);
    assert_is_cut(t);
    wrong = chain;
    wrong.previous ^= 1;
    put_frame(t, FRAME_EDIT, 0, wrong, payload);
    assert_is_cut(t);
    wrong = chain;
    wrong.offset += 8;
    put_frame(t, FRAME_EDIT, 0, wrong, payload);
    assert_is_cut(t);
    put_frame(t, FRAME_EDIT, 1, chain, payload); /* its other part is missing */
    assert_is_cut(t);
    put_frame(t, FRAME_EDIT, 0, chain, payload);
    bool adopted = false;
    rig_ok(&t->a.s.members[TAKER], roll_forward(&t->a, TAKER, &adopted));
    ck_assert(adopted);
    go_on(&t->a, TAKER, adopted);
    tail_free(t);
}
END_TEST

START_TEST(test_roll_forward_whole_frame_that_does_not_fit_is_told)
{
    struct tail *t = prepare_tail();
    struct share *s = &t->a.s;
    struct frame_chain chain = {
        .offset = s->place.offset, .number = s->place.frame_number, .previous = s->place.chain};
    bool adopted = false;
    put_frame(t, FRAME_EDIT, 0, chain, LSM_SLICE("\xff\xff\xff", 3));
    ck_assert_int_eq(roll_forward(&t->a, TAKER, &adopted), LSM_CORRUPT);
    ck_assert(strstr(s->members[TAKER].error.message, "MANIFEST-") != NULL);
    assert_is_published(s, TAKER);
    put_frame(t, (enum frame_kind)7, 0, chain, LSM_SLICE("", 0));
    ck_assert_int_eq(roll_forward(&t->a, TAKER, &adopted), LSM_NEWER_FORMAT);
    assert_is_published(s, TAKER);
    ck_assert(!adopted);
    put_frame(t, FRAME_OPTIONAL, 0, chain, LSM_SLICE("whatever", 8));
    rig_ok(&s->members[TAKER], roll_forward(&t->a, TAKER, &adopted));
    ck_assert(adopted);
    t->a.truth = t->a.before_text;
    go_on(&t->a, TAKER, adopted);
    tail_free(t);
}
END_TEST

START_TEST(test_roll_forward_with_nothing_to_do_changes_nothing)
{
    struct share s;
    share_open(&s, 4, 0);
    bool adopted = true;
    struct rig *r = &s.members[TAKER];
    uint64_t steps = sim_step_count(s.disk);
    rig_ok(r, version_set_roll_forward(r->set, &s.place, &adopted, &r->error));
    ck_assert(!adopted);
    ck_assert_uint_eq(sim_step_count(s.disk), steps);
    assert_is_published(&s, TAKER);
    share_close(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("version_roll_forward");
    TCase *tcase = tcase_create("roll_forward");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_roll_forward_after_a_death_at_every_step, 0,
                        sizeof scenarios / sizeof *scenarios);
    tcase_add_test(tcase, test_roll_forward_with_failing_calls_loses_nothing);
    tcase_add_test(tcase, test_roll_forward_without_memory_can_be_repeated);
    tcase_add_test(tcase, test_roll_forward_torn_frames_are_cut_off);
    tcase_add_test(tcase, test_roll_forward_whole_frame_before_garbage_is_adopted);
    tcase_add_test(tcase, test_roll_forward_frames_that_do_not_follow_are_cut_off);
    tcase_add_test(tcase, test_roll_forward_whole_frame_that_does_not_fit_is_told);
    tcase_add_test(tcase, test_roll_forward_with_nothing_to_do_changes_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
