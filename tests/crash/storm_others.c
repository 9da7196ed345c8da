/* Transactions between accounts, families that come and go, and the files at the end. */
#include "engine/db/db_private.h"
#include "engine/format/file_name.h"
#include "tests/crash/storm.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- transactions ---------------------------------------------------------------------------- */

/* Number STORM_ACCOUNTS counts the transfers; the sum of the others stays 0. */
static lsm_slice account_key(unsigned account, char key[32])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 32, "account/%u", account));
}

static int64_t amount_of(const lsm_pin *pin)
{
    int64_t amount = 0;
    if (pin->found)
        memcpy(&amount, pin->value.data, sizeof amount);
    return amount;
}

static void move_amount(lsm_txn *txn, unsigned account, int64_t by)
{
    char key[32];
    lsm_pin pin = LSM_PIN_INIT;
    storm_must(lsm_txn_get(txn, NULL, account_key(account, key), NULL, &pin, err));
    int64_t amount = amount_of(&pin) + by;
    lsm_pin_release(&pin);
    storm_must(
        lsm_txn_put(txn, NULL, account_key(account, key), LSM_SLICE(&amount, sizeof amount), err));
}

void storm_transfer(struct storm_life *life)
{
    struct storm_place *place = &storm_board->places[life->place];
    struct random_state *r = &life->random;
    lsm_txn_options options = LSM_TXN_OPTIONS_INIT;
    lsm_txn *txn = NULL;
    options.isolation = random_below(r, 2) == 0 ? LSM_TXN_SNAPSHOT : LSM_TXN_SERIALIZABLE;
    lsm_write_options write = {.durability = random_below(r, 5) == 0 ? LSM_SYNC : LSM_WRITE};
    int64_t by = (int64_t)random_below(r, 1000);
    unsigned from = (unsigned)random_below(r, STORM_ACCOUNTS);
    storm_must(lsm_txn_begin(life->db, &options, &txn, err));
    move_amount(txn, from, -by);
    move_amount(txn, (from + 1) % STORM_ACCOUNTS, by);
    move_amount(txn, STORM_ACCOUNTS, 1);
    lsm_error error = {0};
    atomic_fetch_add(&storm_board->transfers_begun, 1);
    atomic_store(&place->in_transfer, 1);
    lsm_status status = lsm_txn_commit(txn, &write, &error);
    if (status == LSM_OK)
        atomic_fetch_add(&storm_board->transfers_acknowledged, 1);
    atomic_store(&place->in_transfer, 0);
    if (status == LSM_CONFLICT)
        atomic_fetch_add(&storm_board->conflicts, 1);
    else if (status != LSM_OK)
        storm_complain("committing a transfer", &error);
    lsm_txn_free(txn);
}

void storm_count_accounts(struct storm_life *life)
{
    char key[32], text[200];
    int64_t sum = 0, count = 0;
    lsm_snapshot *snapshot = NULL;
    uint64_t before = atomic_load(&storm_board->transfers_acknowledged);
    storm_must(lsm_snapshot_acquire(life->db, &snapshot, err));
    uint64_t after = atomic_load(&storm_board->transfers_begun);
    lsm_read_options options = {.snapshot = snapshot};
    for (unsigned i = 0; i <= STORM_ACCOUNTS; i++) {
        lsm_pin pin = LSM_PIN_INIT;
        storm_must(lsm_get(life->db, NULL, account_key(i, key), &options, &pin, err));
        *(i == STORM_ACCOUNTS ? &count : &sum) += amount_of(&pin);
        lsm_pin_release(&pin);
    }
    lsm_snapshot_release(life->db, snapshot);
    if (sum == 0 && (uint64_t)count >= before && (uint64_t)count <= after)
        return;
    snprintf(text, sizeof text,
             "the accounts sum up to %" PRId64 " after %" PRId64 " transfers; %" PRIu64
             " were acknowledged and %" PRIu64 " begun",
             sum, count, before, after);
    storm_complain(text, NULL);
}

/* ---- families -------------------------------------------------------------------------------- */

static const char *name_text(unsigned name, uint64_t number, char text[48])
{
    snprintf(text, 48, "name-%u-%" PRIu64, name, number);
    return text;
}

static void set_name(struct storm_name *n, enum storm_name_state state)
{
    atomic_fetch_add(&n->changes, 1);
    atomic_store(&n->state, state);
    atomic_fetch_add(&n->changes, 1);
}

static void create_name(struct storm_life *life, unsigned name, struct storm_name *n)
{
    char text[48];
    lsm_cf *cf = NULL;
    lsm_error error = {0};
    atomic_fetch_add(&n->changes, 1);
    if (atomic_load(&n->state) == STORM_NAME_NONE) {
        atomic_store(&n->acknowledged, 0);
        atomic_fetch_add(&n->number, 2);
        atomic_store(&n->state, STORM_NAME_CREATING);
    }
    atomic_fetch_add(&n->changes, 1);
    lsm_status status =
        lsm_cf_create(life->db, name_text(name, atomic_load(&n->number), text), NULL, &cf, &error);
    if (status != LSM_OK && status != LSM_EXISTS) /* the last life may have made it */
        storm_complain("creating a family", &error);
    set_name(n, STORM_NAME_THERE);
}

static lsm_cf *find_name(struct storm_life *life, unsigned name, uint64_t number)
{
    char text[48];
    lsm_cf *cf = NULL;
    lsm_error error = {0};
    lsm_status status = lsm_cf_open(life->db, name_text(name, number, text), &cf, &error);
    if (status != LSM_OK && status != LSM_MISSING)
        storm_complain("finding a family", &error);
    return cf;
}

static void drop_name(struct storm_life *life, unsigned name, struct storm_name *n)
{
    set_name(n, STORM_NAME_DROPPING);
    lsm_cf *cf = find_name(life, name, atomic_load(&n->number));
    lsm_error error = {0};
    lsm_status status = cf == NULL ? LSM_MISSING : lsm_cf_drop(life->db, cf, &error);
    if (status != LSM_OK && status != LSM_MISSING)
        storm_complain("dropping a family", &error);
    set_name(n, STORM_NAME_NONE);
}

static void rename_name(struct storm_life *life, unsigned name, struct storm_name *n)
{
    char text[48];
    uint64_t number = atomic_load(&n->number);
    lsm_error error = {0};
    bool again = atomic_load(&n->state) == STORM_NAME_RENAMING;
    set_name(n, STORM_NAME_RENAMING);
    lsm_cf *cf = find_name(life, name, number);
    if (cf == NULL && !again)
        storm_complain("a family that is to be renamed is not there", NULL);
    lsm_status status =
        cf == NULL ? LSM_EXISTS
                   : lsm_cf_rename(life->db, cf, name_text(name, number + 1, text), &error);
    /* The last life may have renamed it; then it is that family that has the new name already. */
    if (status != LSM_OK && !(again && status == LSM_EXISTS))
        storm_complain("renaming a family", &error);
    atomic_fetch_add(&n->changes, 1);
    atomic_store(&n->number, number + 1);
    atomic_store(&n->state, STORM_NAME_THERE);
    atomic_fetch_add(&n->changes, 1);
}

static lsm_slice name_key(uint64_t number, char key[32])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 32, "key-%06" PRIu64, number));
}

static void fill_name(struct storm_life *life, unsigned name, struct storm_name *n)
{
    char key[32], value[200] = {0};
    uint64_t number = atomic_load(&n->acknowledged) + 1; /* the last life may have begun it */
    lsm_cf *cf = find_name(life, name, atomic_load(&n->number));
    if (cf == NULL)
        storm_complain("a family that is to be filled is not there", NULL);
    memcpy(value, &number, sizeof number);
    storm_must(
        lsm_put(life->db, cf, name_key(number, key), LSM_SLICE(value, sizeof value), NULL, err));
    atomic_store(&n->acknowledged, number);
}

void storm_settle_name(struct storm_life *life)
{
    if (life->place >= STORM_NAMES)
        return;
    struct storm_name *n = &storm_board->names[life->place];
    if (atomic_load(&n->changes) % 2 != 0) /* it died within a change */
        atomic_fetch_add(&n->changes, 1);
}

/* Name i belongs to place i; elsewhere nothing happens. */
void storm_change_name(struct storm_life *life)
{
    if (life->place >= STORM_NAMES)
        return;
    struct storm_name *n = &storm_board->names[life->place];
    switch ((enum storm_name_state)atomic_load(&n->state)) {
    case STORM_NAME_NONE:
    case STORM_NAME_CREATING:
        create_name(life, life->place, n);
        break;
    case STORM_NAME_RENAMING:
        rename_name(life, life->place, n);
        break;
    case STORM_NAME_DROPPING:
        drop_name(life, life->place, n);
        break;
    case STORM_NAME_THERE:
        if (random_below(&life->random, 12) == 0)
            drop_name(life, life->place, n);
        else if (random_below(&life->random, 12) == 0)
            rename_name(life, life->place, n);
        else
            for (unsigned i = 0; i < 8; i++)
                fill_name(life, life->place, n);
        break;
    }
}

/* The family holds what was acknowledged, unless it has changed meanwhile. */
static void use_name(struct storm_life *life, unsigned name)
{
    char key[32], value[200], text[200];
    struct storm_name *n = &storm_board->names[name];
    uint64_t changes = atomic_load(&n->changes);
    if (changes % 2 != 0 || atomic_load(&n->state) != STORM_NAME_THERE)
        return;
    uint64_t number = atomic_load(&n->number), acknowledged = atomic_load(&n->acknowledged);
    if (atomic_load(&n->changes) != changes)
        return;
    lsm_cf *cf = find_name(life, name, number);
    uint64_t asked = acknowledged == 0 ? 0 : 1 + random_below(&life->random, acknowledged);
    size_t size = LSM_ABSENT;
    lsm_status status = LSM_OK;
    lsm_error error = {0};
    if (cf != NULL && asked != 0)
        status = lsm_get_into(life->db, cf, name_key(asked, key), NULL, value, sizeof value, &size,
                              &error);
    if (atomic_load(&n->changes) != changes)
        return; /* renamed or dropped: anything may have been found */
    if (cf != NULL && status == LSM_OK && (asked == 0 || size == sizeof value))
        return;
    snprintf(text, sizeof text,
             "family %u-%" PRIu64 " with %" PRIu64 " keys: %s, key %" PRIu64 " has %zu bytes", name,
             number, acknowledged, cf == NULL ? "not there" : "there", asked, size);
    storm_complain(text, &error);
}

void storm_use_name(struct storm_life *life)
{
    use_name(life, (unsigned)random_below(&life->random, STORM_NAMES));
}

void storm_check_names(struct storm_life *life)
{
    char **names = NULL;
    size_t count = 0, expected = 2, unsure = 0;
    for (unsigned i = 0; i < STORM_NAMES; i++) {
        uint32_t state = atomic_load(&storm_board->names[i].state);
        expected += state == STORM_NAME_THERE || state == STORM_NAME_RENAMING;
        unsure += state == STORM_NAME_CREATING || state == STORM_NAME_DROPPING;
        for (unsigned k = 0; k < 20; k++)
            use_name(life, i);
    }
    storm_must(lsm_cf_list(life->db, &names, &count, err));
    if (count < expected || count > expected + unsure)
        storm_complain("there are other families than were made", NULL);
    lsm_free(names);
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool is_named(const struct version *version, uint64_t number)
{
    return version_find_file(version, number) != NULL;
}

static size_t count_files(const struct version *version)
{
    size_t count = 0;
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t level = 0; level < VERSION_LEVELS; level++)
            count += version->families[i]->levels[level].count;
    }
    return count;
}

void storm_check_files(struct storm_life *life)
{
    struct version *version = version_set_current(life->db->versions);
    DIR *folder = opendir(storm_settings.path);
    size_t tables = 0, manifests = 0;
    struct dirent *entry;
    char text[400];
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        enum file_kind kind;
        uint64_t number;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        bool is_ours = file_name_parse(entry->d_name, &kind, &number);
        tables += is_ours && kind == FILE_TABLE;
        manifests += is_ours && kind == FILE_MANIFEST;
        if (is_ours && kind != FILE_TEMPORARY && (kind != FILE_TABLE || is_named(version, number)))
            continue;
        snprintf(text, sizeof text, "'%s' is left in the directory", entry->d_name);
        storm_complain(text, NULL);
    }
    if (folder == NULL || tables != count_files(version) || manifests > 2)
        storm_complain("the directory holds other tables than the manifest", NULL);
    closedir(folder);
    version_drop(version);
}
