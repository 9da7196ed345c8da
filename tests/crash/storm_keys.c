/* Groups of keys that one place writes and everybody reads. */
#include "tests/crash/storm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VALUE_MIN 24
#define VALUE_MAX 600

static lsm_slice make_key(unsigned place, unsigned group, unsigned member, char key[32])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 32, "p%02u/%04u/%u", place, group, member));
}

static unsigned members_of(unsigned group)
{
    return group % 4 == 0 ? 1 : STORM_MEMBERS;
}

static uint64_t mix(uint64_t group, uint64_t version)
{
    struct random_state r = random_seeded(group * 1000003 + version);
    return random_next(&r);
}

static bool is_delete(unsigned group, uint64_t version)
{
    return version == 0 || mix(group, version) % 4 == 0;
}

static lsm_slice make_value(unsigned group, uint64_t version, char value[VALUE_MAX])
{
    size_t size = VALUE_MIN + mix(group, version) / 4 % (VALUE_MAX - VALUE_MIN);
    memset(value, (int)(mix(group, version) % 251), size);
    memcpy(value, &version, sizeof version);
    return LSM_SLICE(value, size);
}

/* The version that a value says it is, checked byte by byte. */
static uint64_t version_of(unsigned group, lsm_slice value)
{
    char expected[VALUE_MAX];
    uint64_t version = 0;
    if (value.size >= sizeof version)
        memcpy(&version, value.data, sizeof version);
    lsm_slice right = make_value(group, version, expected);
    if (version == 0 || right.size != value.size || memcmp(right.data, value.data, right.size) != 0)
        storm_complain("a value holds other bytes than any that was written", NULL);
    return version;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_group(struct storm_life *life, unsigned group, uint64_t version)
{
    char key[32], value[VALUE_MAX];
    struct random_state *r = &life->random;
    lsm_write_options options = {.durability = random_below(r, 9) == 0 ? LSM_SYNC : LSM_WRITE};
    bool deletes = is_delete(group, version);
    lsm_slice bytes = make_value(group, version, value);
    if (members_of(group) == 1) {
        lsm_slice k = make_key(life->place, group, 0, key);
        if (deletes)
            storm_must(lsm_delete(life->db, NULL, k, &options, err));
        else
            storm_must(lsm_put(life->db, NULL, k, bytes, &options, err));
        return;
    }
    lsm_batch *batch = NULL;
    storm_must(lsm_batch_new(&batch, err));
    for (unsigned i = 0; i < STORM_MEMBERS; i++) {
        lsm_slice k = make_key(life->place, group, i, key);
        lsm_cf *cf = i == 1 ? life->second : NULL;
        if (deletes)
            storm_must(lsm_batch_delete(batch, cf, k, err));
        else
            storm_must(lsm_batch_put(batch, cf, k, bytes, err));
    }
    storm_must(lsm_write(life->db, batch, &options, err));
    lsm_batch_free(batch);
}

void storm_write(struct storm_life *life)
{
    struct storm_place *place = &storm_board->places[life->place];
    struct random_state *r = &life->random;
    /* A few are written again and again, so that compactions have something to drop. */
    unsigned group = (unsigned)random_below(r, random_below(r, 2) == 0 ? 8 : STORM_GROUPS);
    struct storm_group *g = &place->groups[group];
    uint64_t version = atomic_fetch_add(&g->last, 1) + 1;
    atomic_store(&place->pending, group + 1);
    atomic_store(&g->begun, version);
    put_group(life, group, version);
    atomic_store(&g->acknowledged, version);
    atomic_store(&place->pending, 0);
    atomic_fetch_add(&storm_board->writes, 1);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* `size` LSM_ABSENT: 0. */
static uint64_t read_version(struct storm_life *life, unsigned place, unsigned group,
                             unsigned member, const lsm_snapshot *snapshot)
{
    char key[32], value[VALUE_MAX];
    size_t size = 0;
    lsm_read_options options = {.snapshot = snapshot};
    storm_must(lsm_get_into(life->db, member == 1 ? life->second : NULL,
                            make_key(place, group, member, key), &options, value, sizeof value,
                            &size, err));
    atomic_fetch_add(&storm_board->reads, 1);
    return size == LSM_ABSENT ? 0 : version_of(group, LSM_SLICE(value, size));
}

/* Version 0 is found where a deletion is, too. */
static bool may_be_found(unsigned group, uint64_t found, uint64_t before, uint64_t after)
{
    if (found != 0)
        return found >= before && found <= after && !is_delete(group, found);
    for (uint64_t v = before; v <= after; v++) {
        if (is_delete(group, v))
            return true;
    }
    return false;
}

static void check_found(unsigned place, unsigned group, unsigned member, uint64_t found,
                        uint64_t before, uint64_t after, const char *how)
{
    char text[300];
    if (may_be_found(group, found, before, after))
        return;
    snprintf(text, sizeof text,
             "%s: member %u of group %u of place %u is at version %" PRIu64
             ", acknowledged before was %" PRIu64 " and begun %" PRIu64,
             how, member, group, place, found, before, after);
    storm_complain(text, NULL);
}

static void check_whole(unsigned place, unsigned group, const uint64_t found[STORM_MEMBERS],
                        bool with_second, const char *how)
{
    char text[300];
    if (members_of(group) == 1 || (found[0] == found[2] && (!with_second || found[0] == found[1])))
        return;
    snprintf(text, sizeof text,
             "%s: group %u of place %u is torn: versions %" PRIu64 " %" PRIu64 " %" PRIu64, how,
             group, place, found[0], found[1], found[2]);
    storm_complain(text, NULL);
}

static unsigned any_place(struct storm_life *life)
{
    return (unsigned)random_below(&life->random, storm_settings.processes);
}

void storm_read_one(struct storm_life *life)
{
    unsigned place = any_place(life);
    unsigned group = (unsigned)random_below(&life->random, STORM_GROUPS);
    if (random_below(&life->random, 2) == 0)
        group %= 8;
    unsigned member = (unsigned)random_below(&life->random, members_of(group));
    struct storm_group *g = &storm_board->places[place].groups[group];
    uint64_t before = atomic_load(&g->acknowledged);
    uint64_t found = read_version(life, place, group, member, NULL);
    check_found(place, group, member, found, before, atomic_load(&g->begun), "a read");
}

static void pause_us(uint64_t us)
{
    nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
}

struct bounds {
    uint64_t before[STORM_GROUPS], after[STORM_GROUPS];
};

static void note(uint64_t numbers[STORM_GROUPS], unsigned place, bool begun)
{
    for (unsigned g = 0; g < STORM_GROUPS; g++) {
        struct storm_group *group = &storm_board->places[place].groups[g];
        numbers[g] = atomic_load(begun ? &group->begun : &group->acknowledged);
    }
}

void storm_read_snapshot(struct storm_life *life)
{
    struct bounds b;
    unsigned place = any_place(life);
    lsm_snapshot *snapshot = NULL;
    note(b.before, place, false);
    storm_must(lsm_snapshot_acquire(life->db, &snapshot, err));
    note(b.after, place, true);
    for (unsigned i = 0; i < 12; i++) {
        unsigned group = (unsigned)random_below(&life->random, i % 2 == 0 ? 8 : STORM_GROUPS);
        uint64_t found[STORM_MEMBERS] = {0};
        if (i % 4 == 0)
            pause_us(random_below(&life->random, 60000));
        for (unsigned m = 0; m < members_of(group); m++) {
            found[m] = read_version(life, place, group, m, snapshot);
            check_found(place, group, m, found[m], b.before[group], b.after[group], "a snapshot");
        }
        check_whole(place, group, found, true, "a snapshot");
    }
    lsm_snapshot_release(life->db, snapshot);
}

/* Takes what the iterator stands on; false: the key is not one of the place's. */
static void take_entry(const lsm_iter *it, unsigned place,
                       uint64_t found[STORM_GROUPS][STORM_MEMBERS])
{
    lsm_slice key = lsm_iter_key(it);
    char text[40] = {0};
    unsigned p, group, member;
    memcpy(text, key.data, key.size < sizeof text - 1 ? key.size : sizeof text - 1);
    if (sscanf(text, "p%u/%u/%u", &p, &group, &member) != 3 || p != place ||
        group >= STORM_GROUPS || member >= STORM_MEMBERS)
        storm_complain("an iterator shows a key that nobody wrote", NULL);
    if (found[group][member] != 0)
        storm_complain("an iterator shows a key twice", NULL);
    found[group][member] = version_of(group, lsm_iter_value(it));
}

static void collect(struct storm_life *life, lsm_iter *it, unsigned place,
                    uint64_t found[STORM_GROUPS][STORM_MEMBERS])
{
    bool backwards = random_below(&life->random, 3) == 0;
    bool slow = random_below(&life->random, 3) == 0;
    for (backwards ? lsm_iter_last(it) : lsm_iter_first(it); lsm_iter_valid(it);
         backwards ? lsm_iter_prev(it) : lsm_iter_next(it)) {
        take_entry(it, place, found);
        if (slow && random_below(&life->random, 40) == 0)
            pause_us(random_below(&life->random, 20000));
    }
    storm_must(lsm_iter_status(it, err));
    atomic_fetch_add(&storm_board->reads, 1);
}

static void walk(struct storm_life *life, unsigned place, bool in_second)
{
    struct bounds b;
    uint64_t found[STORM_GROUPS][STORM_MEMBERS] = {0};
    char prefix[8];
    snprintf(prefix, sizeof prefix, "p%02u/", place);
    lsm_read_options options = {.prefix = LSM_SLICE(prefix, strlen(prefix))};
    lsm_iter *it = NULL;
    note(b.before, place, false);
    storm_must(lsm_iter_open(life->db, in_second ? life->second : NULL, &options, &it, err));
    note(b.after, place, true);
    collect(life, it, place, found);
    lsm_iter_close(it);
    for (unsigned g = 0; g < STORM_GROUPS; g++) {
        for (unsigned m = 0; m < members_of(g); m++) {
            if ((m == 1) == in_second)
                check_found(place, g, m, found[g][m], b.before[g], b.after[g], "an iterator");
        }
        if (!in_second)
            check_whole(place, g, found[g], false, "an iterator");
    }
}

void storm_walk(struct storm_life *life)
{
    walk(life, any_place(life), random_below(&life->random, 3) == 0);
}

/* ---- after a death --------------------------------------------------------------------------- */

void storm_settle(struct storm_life *life)
{
    struct storm_place *place = &storm_board->places[life->place];
    uint64_t pending = atomic_load(&place->pending);
    if (pending == 0)
        return;
    /* A write of this life comes behind whatever becomes of the last one's. */
    storm_must(lsm_put(life->db, NULL, LSM_SLICE("settle", 6), LSM_SLICE("", 0), NULL, err));
    unsigned group = (unsigned)(pending - 1);
    struct storm_group *g = &place->groups[group];
    uint64_t acknowledged = atomic_load(&g->acknowledged), begun = atomic_load(&g->begun);
    uint64_t found[STORM_MEMBERS] = {0};
    for (unsigned m = 0; m < members_of(group); m++) {
        found[m] = read_version(life, life->place, group, m, NULL);
        bool may = may_be_found(group, found[m], acknowledged, acknowledged) ||
                   may_be_found(group, found[m], begun, begun);
        if (!may)
            check_found(life->place, group, m, found[m], begun, begun, "settling");
    }
    check_whole(life->place, group, found, true, "settling");
    bool is_there = is_delete(group, begun) ? found[0] == 0 : found[0] == begun;
    if (is_there)
        atomic_store(&g->acknowledged, begun);
    else
        atomic_store(&g->begun, acknowledged);
    atomic_store(&place->pending, 0);
}

uint64_t storm_check_all(struct storm_life *life)
{
    uint64_t sum = 0;
    for (unsigned p = 0; p < storm_settings.processes; p++) {
        walk(life, p, false);
        walk(life, p, true);
        for (unsigned g = 0; g < STORM_GROUPS; g++) {
            struct storm_group *group = &storm_board->places[p].groups[g];
            uint64_t found[STORM_MEMBERS] = {0};
            for (unsigned m = 0; m < members_of(g); m++) {
                found[m] = read_version(life, p, g, m, NULL);
                check_found(p, g, m, found[m], atomic_load(&group->acknowledged),
                            atomic_load(&group->begun), "the end");
                sum = mix(sum, found[m]);
            }
            check_whole(p, g, found, true, "the end");
        }
    }
    return sum;
}
