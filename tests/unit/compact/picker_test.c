/*
 * The picker, by scenarios in text. A state is lines "Ln: files", each file "first-last:size",
 * followed by * when a job has it and by d when it holds only deletions. Files are numbered from 1
 * in the order of the text. The answer is "Ln>Lm upper files | lower files", with "move" in front
 * of a trivial move and "bottom" behind when nothing deeper lies in the range.
 *
 * A state may begin with a line of options, as "compaction=tiered,ttl=10". A file may say when it
 * was flushed, "first-last:size@seconds".
 */
#include "engine/compact/compact.h"
#include "engine/compact/shape.h"
#include "engine/version/version_private.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MIB UINT64_C(1048576)

struct state {
    struct table_pool *pool; /* owned */
    struct live_version *version;
};

static lsm_cf_options small_options(const char *text)
{
    lsm_options parsed = LSM_OPTIONS_INIT;
    lsm_cf_options given = LSM_CF_OPTIONS_INIT, options;
    char line[200] = "";
    if (sscanf(text, "%199[a-z0-9_=,MiB]\n", line) == 1 && strchr(line, '=') != NULL) {
        ck_assert_int_eq(lsm_options_parse(&parsed, line, NULL), LSM_OK);
        given = parsed.cf;
    }
    given.table_size = 10 * MIB;
    given.level_base_size = 100 * MIB;
    given.level_ratio = 10;
    if (given.level0_trigger == 0)
        given.level0_trigger = 2;
    given.level0_slowdown = 4;
    given.level0_stop = 8;
    ck_assert_int_eq(version_resolve_cf_options(&given, &options, NULL), LSM_OK);
    return options;
}

/* One file out of "first-last:size" plus marks; the size is in MiB. */
static void parse_file(const char *text, uint32_t level, uint64_t number, struct version_edit *edit,
                       bool *busy)
{
    char first[64], last[64], marks[8] = "";
    unsigned size, time_at = 0;
    int used = 0;
    int fields = sscanf(text, "%63[^-]-%63[^:]:%u%n", first, last, &size, &used);
    ck_assert_msg(fields >= 3, "bad file '%s'", text);
    if (text[used] == '@')
        ck_assert_int_ge(sscanf(text + used, "@%u%7s", &time_at, marks), 1);
    else
        (void)sscanf(text + used, "%7s", marks);
    struct table_meta meta = {.number = number,
                              .size = size * MIB,
                              .level = level,
                              .smallest = LSM_SLICE(first, strlen(first)),
                              .largest = LSM_SLICE(last, strlen(last)),
                              .min_sequence = number,
                              .max_sequence = number,
                              .entry_count = 100,
                              .oldest_time = time_at,
                              .newest_time = time_at,
                              .delete_count = strchr(marks, 'd') != NULL ? 100 : 0};
    ck_assert_int_eq(edit_add_table(edit, &meta, NULL), LSM_OK);
    *busy = strchr(marks, '*') != NULL;
}

static void state_build(struct state *s, const struct version_edit *edit, const bool *busy)
{
    lsm_error error;
    s->pool = malloc(sizeof *s->pool);
    table_pool_init(s->pool, NULL, 10, 0, NULL);
    struct live_version *empty = version_new_empty(s->pool);
    lsm_status status = version_build(&empty->base, edit, s->pool, &s->version, &error);
    ck_assert_msg(status == LSM_OK, "%s", error.message);
    version_drop(&empty->base);
    struct version_cf *cf = s->version->base.families[0];
    for (size_t l = 0; l < VERSION_LEVELS; l++) {
        for (size_t i = 0; i < cf->levels[l].count; i++) {
            struct version_file *file = cf->levels[l].files[i];
            file->busy = busy[file->meta.number];
            file->busy_to = file->busy ? (uint32_t)l : 0;
        }
    }
}

static struct state state_parse(const char *text)
{
    struct state s;
    struct version_edit edit = {0};
    lsm_cf_options options = small_options(text);
    bool busy[256] = {false};
    char copy[4096], *line, *lines = copy;
    ck_assert_uint_lt(strlen(text), sizeof copy);
    strcpy(copy, text);
    ck_assert_int_eq(edit_create_cf(&edit, 0, "default", &options, NULL), LSM_OK);
    while ((line = strsep(&lines, "\n")) != NULL) {
        unsigned level;
        int used = 0;
        if (sscanf(line, " L%u: %n", &level, &used) != 1 || used == 0)
            continue;
        char *word, *words = line + used;
        while ((word = strsep(&words, " ")) != NULL) {
            uint64_t number = edit.added_count + 1;
            if (*word != '\0')
                parse_file(word, level, number, &edit, &busy[number]);
        }
    }
    state_build(&s, &edit, busy);
    edit_release(&edit);
    return s;
}

static void state_release(struct state *s)
{
    version_drop(&s->version->base);
    epoch_drain();
    table_pool_release(s->pool);
    free(s->pool);
}

static void describe(bool picked, struct compaction *c, char *text, size_t size)
{
    size_t at = 0;
    if (!picked) {
        snprintf(text, size, "none");
        return;
    }
    at += (size_t)snprintf(text + at, size - at, "%sL%u>L%u",
                           c->trivial     ? "move "
                           : c->is_expiry ? "delete "
                                          : "",
                           c->input_level, c->output_level);
    for (size_t i = 0; i < c->input_count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s %llu", i == c->upper_count ? " |" : "",
                               (unsigned long long)c->inputs[i]->meta.number);
    snprintf(text + at, size - at, "%s", c->bottom ? " bottom" : "");
    compaction_release(c);
}

static void expect_at(const char *what, uint64_t now, const char *state, const char *expected)
{
    struct state s = state_parse(state);
    struct compaction c = {0};
    char found[1024];
    bool picked = compact_pick(&s.version->base, now, &c);
    describe(picked, &c, found, sizeof found);
    ck_assert_msg(strcmp(found, expected) == 0, "%s: expected '%s', found '%s'", what, expected,
                  found);
    state_release(&s);
}

static void expect(const char *what, const char *state, const char *expected)
{
    expect_at(what, 0, state, expected);
}

START_TEST(test_picker_level0_scenarios)
{
    expect("an empty database rests", "", "none");
    expect("below the trigger nothing happens", "L0: a-z:1", "none");
    expect("overlapping files go to the bottom together", "L0: a-m:1 c-z:1", "L0>L6 1 2 bottom");
    expect("with what they overlap there", "L0: a-m:1 c-p:1\nL6: a-b:10 c-d:10 q-z:10",
           "L0>L6 1 2 | 3 4 bottom");
    expect("files that overlap nothing sink as they are", "L0: a-b:1 c-d:1 e-f:1\nL6: g-h:10",
           "move L0>L6 1 2 3 bottom");
    expect("those that can sink go first", "L0: a-m:1 c-z:1 zz-zzz:1\nL6: a-b:10",
           "move L0>L6 3 bottom");
    expect("a newer file may not overtake an older one", "L0: a-m:1 c-z:1 b-d:1\nL6: a-b:10 y-z:10",
           "L0>L6 1 2 3 | 4 5 bottom");
    expect("touching ranges overlap: one user key may be in both", "L0: a-c:1 c-d:1\nL6: a-b:10",
           "L0>L6 1 2 | 3 bottom");
    expect("separate groups are separate jobs", "L0: a-c:1 x-z:1 b-d:1\nL6: a-b:10 m-n:10 y-z:10",
           "L0>L6 1 3 | 4 bottom");
    expect("busy files do not count", "L0: a-m:1* c-z:1*", "none");
    expect("what lies between busy files waits", "L0: a-b:1* y-z:1* m-n:1 m-o:1", "none");
    expect("what lies apart of them does not", "L0: a-b:1* c-d:1* m-n:1 m-o:1", "L0>L6 3 4 bottom");
    expect("a busy file below is in the way", "L0: a-m:1 c-z:1\nL6: a-b:10 d-e:10*", "none");
    expect("the oldest go when a job would be too large", "L0: a-z:300 a-z:300 a-z:300",
           "L0>L6 1 bottom");
    expect("and as many as fit", "L0: a-z:200 a-z:200 a-z:200", "L0>L6 1 2 bottom");
}
END_TEST

START_TEST(test_picker_shape_scenarios)
{
    expect("a small bottom is the base", "L0: a-b:1 a-b:1\nL6: a-b:50 c-d:50",
           "L0>L6 1 2 | 3 bottom");
    expect("a larger one has a level above it", "L0: a-b:1 a-b:1\nL6: a-b:100 c-d:50", "L0>L5 1 2");
    expect("and two", "L0: a-b:1 a-b:1\nL6: a-b:1500 c-d:500", "L0>L4 1 2");
    expect("level 0 never passes by a level in use",
           "L0: a-b:1 a-b:1 a-b:1\nL3: m-n:1\nL6: a-b:100", "L0>L3 1 2 3");
    expect("levels above the base drain", "L0: a-b:1\nL3: a-c:1\nL6: a-b:100", "move L3>L4 2");
    expect("a level in its target rests", "L5: a-b:15\nL6: a-b:100 c-d:100", "none");
    expect("a level over it sinks, the cheapest file first",
           "L5: a-b:10 c-d:10 e-f:10\nL6: a-b:50 c-d:40 e-g:60", "L5>L6 2 | 5 bottom");
    expect("deletions are worth four times as much",
           "L5: a-b:10 c-d:10 e-f:10d\nL6: a-b:50 c-d:40 e-g:60", "L5>L6 3 | 6 bottom");
    expect("neighbours join when they are free", "L5: a-b:10 bb-bc:10 c-d:10\nL6: a-bd:40 c-d:100",
           "L5>L6 1 2 | 4 bottom");
    expect("on both sides, in order", "L5: a-b:10 bb-bc:20 c-d:10\nL6: a-bd:40 c-d:100",
           "L5>L6 1 2 | 4 bottom");
    expect("what overlaps nothing moves, as much as is over the target",
           "L5: a-b:10 c-d:10 e-f:10 g-h:10\nL6: i-j:100 k-l:50", "move L5>L6 1 2 3 bottom");
    expect("no move over too much of the level below",
           "L4: b-c:30 d-e:30\nL5: x-z:100\nL6: a-cc:200 d-d:50 f-z:1000", "move L4>L5 2");
}
END_TEST

START_TEST(test_picker_parallel_scenarios)
{
    expect("the next best file when the best is in another's way",
           "L5: a-b:10 c-d:10 e-f:10\nL6: a-b:50 c-d:40* e-g:60", "L5>L6 1 | 4 bottom");
    expect("none when all are", "L5: a-b:30 c-d:30\nL6: a-b:100* c-d:40*", "none");
    expect("a gap between busy neighbours is taken", "L5: m-n:60\nL6: a-b:50* y-z:60*", "none");
    expect("a gap between others is not", "L5: m-n:60\nL6: a-b:50* l-l:50 y-z:60*",
           "move L5>L6 1 bottom");
    expect("busy bytes are on their way already", "L5: a-b:10 c-d:10* e-f:10*\nL6: a-z:150",
           "none");
}
END_TEST

static void expect_range(const char *what, const char *state, uint32_t level, const char *first,
                         const char *limit, bool force, const char *expected)
{
    struct state s = state_parse(state);
    struct compaction c = {0};
    char found[1024];
    lsm_slice from = first == NULL ? LSM_SLICE(NULL, 0) : LSM_SLICE(first, strlen(first));
    lsm_slice to = limit == NULL ? LSM_SLICE(NULL, 0) : LSM_SLICE(limit, strlen(limit));
    bool picked = compact_pick_range(&s.version->base, 0, level, from, to, force, &c);
    describe(picked, &c, found, sizeof found);
    ck_assert_msg(strcmp(found, expected) == 0, "%s: expected '%s', found '%s'", what, expected,
                  found);
    state_release(&s);
}

START_TEST(test_picker_range_scenarios)
{
    static const char state[] = "L0: a-c:1 x-z:1\nL5: a-b:10 c-d:10 m-n:10\nL6: a-c:100 e-f:100 "
                                "m-z:100";
    expect_range("level 0 takes what reaches into the range", state, 0, "b", "c", false,
                 "L0>L5 1 | 3 4");
    expect_range("an open range takes all", state, 0, NULL, NULL, false, "L0>L5 1 2 | 3 4 5");
    expect_range("the limit is not in the range", state, 0, NULL, "a", false, "none");
    expect_range("first is in it", state, 0, "c", "d", false, "L0>L5 1 | 3 4");
    expect_range("deeper levels in runs", state, 5, "b", "e", false, "L5>L6 3 4 | 6 bottom");
    expect_range("nothing below: a move", state, 5, "d", "e", false, "L5>L6 4 | 6 bottom");
    expect_range("nothing there", state, 4, NULL, NULL, false, "none");
    expect_range("the lowest level rests", state, 6, NULL, NULL, false, "none");
    expect_range("unless it is forced", state, 6, NULL, NULL, true, "L6>L6 6 7 8 bottom");
    expect_range("from a place on", state, 6, "d", NULL, true, "L6>L6 7 8 bottom");
    expect_range("nothing below the range moves", "L5: a-b:1\nL6: c-d:1", 5, NULL, NULL, false,
                 "move L5>L6 1 bottom");
    expect_range("jobs are limited", "L5: a-b:300 c-d:300\nL6: a-a:100 c-c:100", 5, NULL, NULL,
                 false, "L5>L6 1 | 3 bottom");
    expect_range("no such family or level", state, 7, NULL, NULL, true, "none");
    expect_range("a busy gap stops a rewrite", "L5: d-e:10*\nL6: a-b:10 y-z:10", 6, NULL, NULL,
                 true, "none");
}
END_TEST

START_TEST(test_picker_targets_follow_the_bottom)
{
    struct state s = state_parse("L5: a-b:7\nL6: a-b:5000 c-d:5000");
    uint64_t targets[VERSION_LEVELS];
    compact_level_targets(s.version->base.families[0], targets);
    ck_assert_uint_eq(targets[0], 2);
    ck_assert_uint_eq(targets[1], 0);
    ck_assert_uint_eq(targets[3], 0);
    ck_assert_uint_eq(targets[4], 100 * MIB);
    ck_assert_uint_eq(targets[5], 1000 * MIB);
    ck_assert_uint_eq(targets[6], UINT64_MAX);
    state_release(&s);
}
END_TEST

static double debt_of(const char *text)
{
    struct state s = state_parse(text);
    double debt = compact_debt(s.version->base.families[0]);
    state_release(&s);
    return debt;
}

START_TEST(test_picker_debt_rises_from_slowdown_to_stop)
{
    ck_assert(debt_of("L0: a-b:1 a-b:1 a-b:1") == 0);
    double four = debt_of("L0: a-b:1 a-b:1 a-b:1 a-b:1");
    double six = debt_of("L0: a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1");
    double eight = debt_of("L0: a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1");
    ck_assert(four > 0 && four < six && six < 1 && eight >= 1);
    ck_assert(debt_of("L5: a-b:1000\nL6: a-b:1000") == 0);
    double behind = debt_of("L4: a-b:3000\nL5: a-b:1000\nL6: a-b:1000");
    double far_behind = debt_of("L4: a-b:7000\nL5: a-b:1000\nL6: a-b:1000");
    ck_assert(behind > 0 && behind < 1 && far_behind >= 1);
}
END_TEST

/* ---- styles --------------------------------------------------------------------------------
 */

#define TIERED "compaction=tiered\n"

START_TEST(test_picker_tiered_scenarios)
{
    expect("one run rests", TIERED "L6: a-z:100", "none");
    expect("all are merged when newer ones are twice the oldest",
           TIERED "L0: a-z:20 a-z:20\nL6: a-z:20", "L0>L6 1 2 | 3 bottom");
    expect("runs of like size are merged", TIERED "L0: a-z:10 a-z:10\nL6: a-z:1000", "L0>L5 1 2");
    expect("one that is larger than all newer ones together is not",
           TIERED "L0: a-z:10 a-z:10\nL5: a-z:21\nL6: a-z:1000", "L0>L4 1 2");
    expect("but when it is not it is", TIERED "L0: a-z:10 a-z:10\nL5: a-z:20\nL6: a-z:1000",
           "L0>L5 1 2 | 3");
    expect("size_ratio lets larger ones in",
           "compaction=tiered,size_ratio=20\nL0: a-z:10 a-z:10\nL5: a-z:24\nL6: a-z:1000",
           "L0>L5 1 2 | 3");
    expect("right above level 1 there is level 0",
           TIERED "L0: a-z:10 a-z:10\nL1: a-z:50\nL6: a-z:1000", "L0>L0 1 2");
    expect("or above older runs of level 0", TIERED "L0: a-z:500 a-z:10 a-z:10\nL6: a-z:1000",
           "L0>L0 2 3");
    expect("too many runs are too many, whatever their size",
           TIERED "L0: a-z:100 a-z:20 a-z:4\nL6: a-z:1000", "L0>L5 1 2 3");
    expect("min_merge_width waits for more of like size",
           "compaction=tiered,min_merge_width=3\nL0: a-z:10 a-z:10\nL5: a-z:50\nL6: a-z:1000",
           "L0>L5 1 2 | 3");
    expect("what lies apart moves", TIERED "L0: a-b:10 c-d:10\nL6: x-z:1000", "move L0>L5 1 2");
    expect("from several levels", TIERED "L0: a-b:10 c-d:10\nL5: e-f:20\nL6: x-z:40",
           "move L0>L6 1 2 | 3 4 bottom");
    expect("a busy run parts what is older from what is newer",
           TIERED "L0: a-z:10 a-z:10* a-z:10\nL6: a-z:1000", "none");
    expect("runs of level 0 are merged there while a deeper job runs",
           TIERED "L0: a-z:10 a-z:10 a-z:10\nL4: a-z:50*\nL5: a-z:50*\nL6: a-z:1000",
           "L0>L0 1 2 3");
}
END_TEST

START_TEST(test_picker_tiered_run_of_interlaced_tables_stays_whole)
{
    struct state s = state_parse("compaction=tiered,level0_trigger=3\n"
                                 "L0: a-c:10 d-f:10 a-f:10\nL6: a-f:1000");
    struct version_level *level = &s.version->base.families[0]->levels[0];
    struct compaction c;
    char found[256];
    level->files[1]->meta.min_sequence = 1; /* as the tables of one job */
    describe(compact_pick(&s.version->base, 0, &c), &c, found, sizeof found);
    ck_assert_str_eq(found, "none");
    level->files[2]->meta.size = 20 * MIB;
    describe(compact_pick(&s.version->base, 0, &c), &c, found, sizeof found);
    ck_assert_str_eq(found, "L0>L5 1 2 3");
    state_release(&s);
}
END_TEST

#define FIFO "compaction=fifo,fifo_size=100MiB\n"

START_TEST(test_picker_fifo_scenarios)
{
    expect("below its size nothing goes", FIFO "L0: a-z:50 a-z:50", "none");
    expect("above it the oldest go", FIFO "L0: a-z:50 a-z:20 a-z:50 a-z:10", "delete L0>L0 1");
    expect("as many as it takes", FIFO "L0: a-z:50 a-z:20 a-z:50 a-z:40", "delete L0>L0 1 2");
    expect("the newest stays", FIFO "L0: a-z:50 a-z:500", "delete L0>L0 1");
    expect("one at a time", FIFO "L0: a-z:50* a-z:500", "none");
    expect("wherever they are", FIFO "L0: b-c:20\nL6: a-d:60 e-f:90", "delete L0>L6 1 | 2");
    expect_at("by age", 111, "compaction=fifo,ttl=10\nL0: a-z:50@100 a-z:20@101 a-z:50@102",
              "delete L0>L0 1 2");
    expect_at("all of them", 120, "compaction=fifo,ttl=10\nL0: a-z:50@100 a-z:20@101",
              "delete L0>L0 1 2");
    expect_at("what has no known age has none", 999, "compaction=fifo,ttl=10\nL0: a-b:50 c-d:2@1",
              "delete L0>L0 2");
    expect_at("an older one is in the way", 999, "compaction=fifo,ttl=10\nL0: a-b:50 a-b:2@1",
              "none");
    expect_range("nothing is merged by hand", FIFO "L0: a-z:50 a-z:20", 0, NULL, NULL, false,
                 "none");
    ck_assert(debt_of(FIFO "L0: a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1 a-b:1") == 0);
}
END_TEST

START_TEST(test_picker_ttl_scenarios)
{
    expect_at("old tables go down", 110, "ttl=10\nL0: a-b:1@100\nL6: a-b:10@1",
              "L0>L6 1 | 2 bottom");
    expect_at("not before their time", 109, "ttl=10\nL0: a-b:1@100\nL6: a-b:10@1", "none");
    expect_at("level by level", 110, "ttl=10\nL5: a-b:1@101 c-d:1@100\nL6: a-b:99@1 c-d:99@1",
              "L5>L6 2 | 4 bottom");
    expect_at("as they are where nothing is below", 110, "ttl=10\nL5: a-b:1@100\nL6: x-z:150",
              "move L5>L6 1 bottom");
    expect_at("but for deletions", 110, "ttl=10\nL5: a-b:1@100d\nL6: x-z:150", "L5>L6 1 bottom");
    expect_at("newer tables of level 0 stay", 110, "ttl=10\nL0: a-b:1@100\nL6: c-d:1@1",
              "move L0>L6 1 bottom");
    expect_at(
        "tiered: into the oldest run", 110,
        "compaction=tiered,ttl=10,level0_trigger=4\nL3: a-z:1@100\nL4: a-z:9@104\nL6: a-z:99@1",
        "L3>L6 1 | 2 3 bottom");
    expect_at("with all that is older", 110,
              "compaction=tiered,ttl=10,level0_trigger=4\nL3: a-z:1@105\nL4: a-z:9@99\nL6: a-z:99",
              "L4>L6 2 | 3 bottom");
}
END_TEST

/* What reads pay for, and what is left of that in milliseconds. */
static void expect_reads(const char *what, uint64_t runs_ms, uint64_t deletes_ms, const char *state,
                         const char *expected)
{
    struct state s = state_parse(state);
    struct compaction c = {0};
    struct compact_reads paid = {.runs_ns = runs_ms * 1000000, .deletes_ns = deletes_ms * 1000000};
    char found[1024], left[80] = "";
    bool picked = compact_pick_reads(&s.version->base, 0, &paid, &c);
    if (picked)
        snprintf(left, sizeof left, ", left %llu %llu",
                 (unsigned long long)c.reads_left.runs_ns / 1000000,
                 (unsigned long long)c.reads_left.deletes_ns / 1000000);
    ck_assert(!picked || c.is_for_reads);
    describe(picked, &c, found, sizeof found - sizeof left);
    strcat(found, left);
    ck_assert_msg(strcmp(found, expected) == 0, "%s: expected '%s', found '%s'", what, expected,
                  found);
    state_release(&s);
}

/* A MiB costs 6.3 ms to merge. */
START_TEST(test_picker_reads_scenarios)
{
    expect_reads("paid for", 700, 0, "L0: a-z:50 a-z:50", "L0>L6 1 2 bottom, left 0 0");
    expect_reads("not yet", 600, 0, "L0: a-z:50 a-z:50", "none");
    expect_reads("what lies below is merged, too", 700, 0, "L0: a-z:50 a-z:50\nL6: a-z:50", "none");
    expect_reads("and paid for", 1000, 0, "L0: a-z:50 a-z:50\nL6: a-z:50",
                 "L0>L6 1 2 | 3 bottom, left 0 0");
    expect_reads("little was read", 99, 0, "L0: a-z:1 a-z:1", "none");
    expect_reads("what is small needs more", 100, 0, "L0: a-z:1 a-z:1",
                 "L0>L6 1 2 bottom, left 0 0");
    expect_reads("one run", 9999, 0, "L6: a-m:50 n-z:50", "none");
    expect_reads("one table of level 0", 9999, 0, "L0: a-z:50", "none");
    expect_reads("nothing", 9999, 9999, "", "none");
    expect_reads("a job has some", 9999, 0, "L0: a-z:5 a-z:5\nL6: a-b:5*", "none");
    expect_reads("other styles", 9999, 9999, "compaction=tiered,level0_trigger=4\nL0: a-z:5 a-z:5",
                 "none");
    expect_reads("for fifo, too", 9999, 9999, "compaction=fifo,fifo_size=9MiB\nL0: a-z:5 a-z:5",
                 "none");
    expect_reads("what gains most for its price, and leaves the rest", 2000, 0,
                 "L0: a-z:10 a-z:10\nL5: a-z:50\nL6: a-z:900", "L0>L5 1 2 | 3, left 666 0");
    expect_reads("a level into the next", 700, 0, "L5: a-z:50\nL6: a-z:50",
                 "L5>L6 1 | 2 bottom, left 0 0");
    expect_reads("a part of a large level is worth a part", 6000, 0,
                 "L5: a-f:300 g-m:300\nL6: a-f:200 g-m:200", "none");
    expect_reads("which leaves what the rest costs", 6400, 0,
                 "L5: a-f:300 g-m:300\nL6: a-f:200 g-m:200", "L5>L6 1 | 3 bottom, left 3200 0");
    expect_reads("and that is enough for it", 3200, 0, "L5: g-m:300\nL6: a-f:500 g-m:200",
                 "L5>L6 1 | 3 bottom, left 0 0");
    expect_reads("over a gap", 200, 0, "L4: a-b:50\nL6: a-b:150", "move L4>L5 1, left 0 0");
    expect_reads("deletions where they are", 0, 200, "L5: a-b:50 c-d:9d\nL6: a-b:150 c-d:10",
                 "L5>L6 2 | 4 bottom, left 0 0");
    expect_reads("those in the lowest level stay", 0, 9999, "L6: a-b:50d", "none");
    expect_reads("not so those over nothing", 0, 200, "L0: a-z:20d", "L0>L6 1 bottom, left 0 0");
}
END_TEST

START_TEST(test_picker_shape_mark_differs_between_shapes)
{
    static const char *const texts[] = {"L0: a-z:5 a-z:5\nL6: a-z:9", "L0: a-z:5\nL6: a-z:9",
                                        "L0: a-z:5 a-z:6\nL6: a-z:9", "L0: a-z:5 a-z:5\nL5: a-z:9"};
    uint64_t marks[4];
    for (size_t i = 0; i < 4; i++) {
        struct state s = state_parse(texts[i]);
        marks[i] = compact_shape_mark(s.version->base.families[0]);
        ck_assert_uint_eq(marks[i], compact_shape_mark(s.version->base.families[0]));
        ck_assert_uint_ne(marks[i], 0);
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(marks[i], marks[j]);
        state_release(&s);
    }
}
END_TEST

START_TEST(test_picker_next_expiry_is_that_of_what_can_go)
{
    struct state s = state_parse("ttl=10\nL0: a-b:1@105\nL4: a-b:1@103\nL6: a-b:1@100");
    ck_assert_uint_eq(compact_next_expiry(&s.version->base, 106), 7);
    ck_assert_uint_eq(compact_next_expiry(&s.version->base, 113), 0);
    state_release(&s);
    s = state_parse("ttl=10\nL6: a-b:1@100");
    ck_assert_uint_eq(compact_next_expiry(&s.version->base, 999), UINT64_MAX);
    state_release(&s);
    s = state_parse("compaction=fifo,ttl=10\nL0: a-b:1@100 a-b:1@102");
    ck_assert_uint_eq(compact_next_expiry(&s.version->base, 104), 6);
    state_release(&s);
}
END_TEST

/* ---- random trees -----------------------------------------------------------------------------
 */

struct span {
    lsm_slice smallest, largest;
    uint32_t level;
};

static bool spans_meet(const struct span *a, const struct span *b)
{
    return a->level == b->level && slice_compare(a->smallest, b->largest) <= 0 &&
           slice_compare(b->smallest, a->largest) <= 0;
}

static struct span hull_of(const struct compaction *c)
{
    struct span s = {c->inputs[0]->meta.smallest, c->inputs[0]->meta.largest, c->output_level};
    for (size_t i = 1; i < c->input_count; i++) {
        if (slice_compare(c->inputs[i]->meta.smallest, s.smallest) < 0)
            s.smallest = c->inputs[i]->meta.smallest;
        if (slice_compare(c->inputs[i]->meta.largest, s.largest) > 0)
            s.largest = c->inputs[i]->meta.largest;
    }
    return s;
}

static struct state random_state_of(struct random_state *r, const char *text)
{
    struct state s;
    struct version_edit edit = {0};
    lsm_cf_options options = small_options(text);
    bool busy[1024] = {false};
    ck_assert_int_eq(edit_create_cf(&edit, 0, "default", &options, NULL), LSM_OK);
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        if (random_below(r, 3) == 0)
            continue;
        unsigned at = 0, count = (unsigned)random_below(r, level == 0 ? 8 : 20);
        for (unsigned i = 0; i < count && at < 900; i++) {
            char first[8], last[8];
            unsigned begin = level == 0 ? (unsigned)random_below(r, 900)
                                        : at + 1 + (unsigned)random_below(r, 60);
            unsigned end = begin + (unsigned)random_below(r, 60);
            at = end;
            snprintf(first, sizeof first, "%04u", begin);
            snprintf(last, sizeof last, "%04u", end);
            struct table_meta meta = {.number = edit.added_count + 1,
                                      .size = (1 + random_below(r, 200)) * MIB,
                                      .level = level,
                                      .smallest = LSM_SLICE(first, 4),
                                      .largest = LSM_SLICE(last, 4),
                                      .min_sequence = i,
                                      .max_sequence = i,
                                      .entry_count = 10};
            ck_assert_int_eq(edit_add_table(&edit, &meta, NULL), LSM_OK);
        }
    }
    state_build(&s, &edit, busy);
    edit_release(&edit);
    return s;
}

/* What every pick keeps, whatever the tree. */
static void check_pick(const struct version_cf *cf, const struct compaction *c)
{
    struct span hull = hull_of(c);
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->input_count; i++) {
        ck_assert(!c->inputs[i]->busy);
        ck_assert_uint_eq(c->inputs[i]->meta.level,
                          i < c->upper_count ? c->input_level : c->output_level);
        bytes += c->inputs[i]->meta.size;
    }
    ck_assert_uint_eq(bytes, c->input_bytes);
    /* Nothing in the levels between, nothing of the output level left out. */
    for (uint32_t l = c->input_level + 1; l <= c->output_level; l++) {
        for (size_t i = 0; i < cf->levels[l].count; i++) {
            struct version_file *file = cf->levels[l].files[i];
            struct span s = {file->meta.smallest, file->meta.largest, c->output_level};
            bool is_input = false;
            for (size_t k = 0; k < c->input_count; k++)
                is_input |= c->inputs[k] == file;
            if (!is_input && !c->trivial)
                ck_assert_msg(!spans_meet(&s, &hull), "file %llu is left out",
                              (unsigned long long)file->meta.number);
        }
    }
    /* No older file of level 0 is overtaken. */
    for (size_t k = 0; c->input_level == 0 && k < c->upper_count; k++) {
        for (size_t i = 0; i < cf->levels[0].count; i++) {
            const struct table_meta *older = &cf->levels[0].files[i]->meta;
            const struct table_meta *taken = &c->inputs[k]->meta;
            bool is_input = false;
            for (size_t j = 0; j < c->upper_count; j++)
                is_input |= c->inputs[j] == cf->levels[0].files[i];
            if (!is_input && older->max_sequence < taken->max_sequence)
                ck_assert(slice_compare(older->smallest, taken->largest) > 0 ||
                          slice_compare(taken->smallest, older->largest) > 0);
        }
    }
}

/* Jobs that run side by side never write overlapping ranges into one level. */
START_TEST(test_picker_random_trees_keep_the_rules)
{
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    size_t total = 0;
    for (int round = 0; round < 400; round++) {
        struct state s = random_state_of(&r, "");
        const struct version_cf *cf = s.version->base.families[0];
        struct span running[512];
        size_t count = 0;
        for (int jobs = 0; jobs < 20; jobs++) {
            struct compaction c;
            uint32_t level = (uint32_t)random_below(&r, VERSION_LEVELS);
            bool picked = jobs % 5 == 4
                              ? compact_pick_range(&s.version->base, 0, level, LSM_SLICE("0200", 4),
                                                   LSM_SLICE("0700", 4), level > 0 && jobs > 10, &c)
                              : compact_pick(&s.version->base, 0, &c);
            if (!picked)
                continue;
            check_pick(cf, &c);
            size_t pieces = c.trivial ? c.input_count : 1, before = count;
            for (size_t i = 0; i < pieces && count < 512; i++) {
                struct span mine = hull_of(&c);
                if (c.trivial) {
                    mine.smallest = c.inputs[i]->meta.smallest;
                    mine.largest = c.inputs[i]->meta.largest;
                }
                for (size_t k = 0; k < before; k++)
                    ck_assert_msg(!spans_meet(&mine, &running[k]), "round %d job %d", round, jobs);
                running[count++] = mine;
            }
            for (size_t i = 0; i < c.input_count; i++)
                c.inputs[i]->busy = true;
            compaction_release(&c);
            total++;
        }
        state_release(&s);
    }
    ck_assert_uint_gt(total, 400);
}
END_TEST

static bool is_input_of(const struct compaction *c, const struct version_file *file)
{
    for (size_t i = 0; i < c->input_count; i++) {
        if (c->inputs[i] == file)
            return true;
    }
    return false;
}

/* Whole runs, and every run above (below) the inputs is above (below) the output. */
static void check_tiered_pick(const struct version_cf *cf, const struct compaction *c)
{
    uint64_t oldest = UINT64_MAX, newest = 0;
    uint32_t deepest = 0;
    for (size_t i = 0; i < c->input_count; i++) {
        const struct table_meta *m = &c->inputs[i]->meta;
        ck_assert(!c->inputs[i]->busy);
        oldest = m->level == 0 && m->min_sequence < oldest ? m->min_sequence : oldest;
        newest = m->level == 0 && m->max_sequence > newest ? m->max_sequence : newest;
        deepest = m->level > deepest ? m->level : deepest;
    }
    ck_assert_uint_ge(c->output_level, deepest);
    for (uint32_t l = 0; l < VERSION_LEVELS; l++) {
        for (size_t i = 0; i < cf->levels[l].count; i++) {
            const struct version_file *file = cf->levels[l].files[i];
            if (is_input_of(c, file))
                continue;
            if (l > 0 && l <= deepest)
                ck_assert_msg(l < c->input_level, "a run of level %u is skipped", l);
            if (l > 0 && l > deepest)
                ck_assert_uint_gt(l, c->output_level);
            if (l == 0 && newest > 0)
                ck_assert(file->meta.max_sequence < oldest || file->meta.min_sequence > newest);
            if (l == 0 && newest > 0 && file->meta.max_sequence < oldest)
                ck_assert_uint_eq(c->output_level, 0);
        }
    }
}

START_TEST(test_picker_tiered_random_jobs_keep_the_order)
{
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    size_t total = 0;
    for (int round = 0; round < 1000; round++) {
        struct state s = random_state_of(&r, TIERED);
        const struct version_cf *cf = s.version->base.families[0];
        size_t below = 0;
        for (int jobs = 0; jobs < 8; jobs++) {
            struct compaction c;
            uint32_t level = (uint32_t)random_below(&r, VERSION_LEVELS - 1);
            bool by_hand = jobs % 4 == 3;
            bool picked = by_hand
                              ? compact_pick_range(&s.version->base, 0, level, LSM_SLICE("0200", 4),
                                                   LSM_SLICE("0700", 4), COMPACT_DOWN, &c)
                              : compact_pick(&s.version->base, 0, &c);
            if (!picked)
                continue;
            if (!by_hand)
                check_tiered_pick(cf, &c);
            below += c.output_level > 0;
            ck_assert_uint_le(below, 1);
            for (size_t i = 0; i < c.input_count; i++) {
                c.inputs[i]->busy = true;
                c.inputs[i]->busy_to = c.output_level;
            }
            compaction_release(&c);
            total++;
        }
        state_release(&s);
    }
    ck_assert_uint_gt(total, 1000);
}
END_TEST

START_TEST(test_picker_without_memory_picks_nothing)
{
    struct state s = state_parse("L0: a-m:1 c-z:1\nL6: a-b:10");
    struct compaction c;
    mem_fail_after(0, true);
    bool picked = compact_pick(&s.version->base, 0, &c);
    mem_fail_after(-1, false);
    ck_assert(!picked);
    ck_assert(compact_pick(&s.version->base, 0, &c));
    compaction_release(&c);
    state_release(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("picker");
    TCase *tcase = tcase_create("picker");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_picker_level0_scenarios);
    tcase_add_test(tcase, test_picker_shape_scenarios);
    tcase_add_test(tcase, test_picker_parallel_scenarios);
    tcase_add_test(tcase, test_picker_range_scenarios);
    tcase_add_test(tcase, test_picker_targets_follow_the_bottom);
    tcase_add_test(tcase, test_picker_debt_rises_from_slowdown_to_stop);
    tcase_add_test(tcase, test_picker_random_trees_keep_the_rules);
    tcase_add_test(tcase, test_picker_without_memory_picks_nothing);
    tcase_add_test(tcase, test_picker_tiered_scenarios);
    tcase_add_test(tcase, test_picker_tiered_run_of_interlaced_tables_stays_whole);
    tcase_add_test(tcase, test_picker_fifo_scenarios);
    tcase_add_test(tcase, test_picker_ttl_scenarios);
    tcase_add_test(tcase, test_picker_reads_scenarios);
    tcase_add_test(tcase, test_picker_shape_mark_differs_between_shapes);
    tcase_add_test(tcase, test_picker_next_expiry_is_that_of_what_can_go);
    tcase_add_test(tcase, test_picker_tiered_random_jobs_keep_the_order);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
