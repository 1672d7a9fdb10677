/* SPDX-License-Identifier: MIT */
/* The isolation matrix: every bad request, at the first, middle and last place of groups of every size, must end as it
 * would alone, harm no neighbour and leave nothing. The oracle is a second store that runs the same requests one by one.
 * Both live on through the whole matrix, so that what one round spoils shows in the next. A fuzz of random groups has the
 * same oracle; `SLUICE_SEED=n` runs one seed of it.
 * CTest: TIMEOUT=240 */
#include "support/store_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static store_kit grouped, alone;
static uint64_t serial; /* makes the neighbours' values differ */

/* ---- procedures ---- */

static sluice_err steps(sluice_tx *tx, const sluice_value *params, size_t n_params, void *careless) {
    for (size_t i = 0; i < n_params; i++) {
        sluice_err err = sluice_tx_exec(tx, params[i].data, NULL, 0, NULL);
        if (err != SLUICE_OK && careless == NULL) return err;
    }
    return SLUICE_OK;
}

static sluice_err change_and_fail(sluice_tx *tx, const sluice_value *params, size_t n_params, void *context) {
    (void)params, (void)n_params, (void)context;
    sluice_err err = sluice_tx_exec(tx, "UPDATE t SET c=c+1", NULL, 0, NULL);
    return err == SLUICE_OK ? sluice_tx_fail(tx, SLUICE_QUOTA, "enough") : err;
}

static const sluice_procedure procedures[] = {
    {"steps", steps, NULL}, {"careless", steps, (void *)(uintptr_t) "x"}, {"change_and_fail", change_and_fail, NULL}};

static const char *const schema[] = {
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE, c INTEGER CHECK(c < 100000))",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE strict_child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent(id))",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
    "CREATE TABLE typed(x INTEGER) STRICT",
    "CREATE VIRTUAL TABLE words USING fts5(w)",
    "CREATE TRIGGER bomb BEFORE INSERT ON t WHEN new.b = 'bomb' BEGIN "
    "INSERT INTO log(n) VALUES(1); SELECT RAISE(ROLLBACK, 'bomb'); END",
    "CREATE TRIGGER dud BEFORE INSERT ON t WHEN new.b = 'dud' BEGIN "
    "INSERT INTO log(n) VALUES(2); SELECT RAISE(ABORT, 'dud'); END",
    "CREATE TRIGGER damp BEFORE INSERT ON t WHEN new.b = 'damp' BEGIN "
    "INSERT INTO log(n) VALUES(3); SELECT RAISE(FAIL, 'damp'); END",
    "CREATE TABLE twin(n)",
    "INSERT INTO twin VALUES(1),(1)",
    "INSERT INTO parent VALUES(1)",
    "INSERT INTO t VALUES(1, 'taken', 1)",
};

static void open_one(store_kit *kit, bool durable) {
    kit_new(kit);
    kit->options.synchronous = durable ? SLUICE_SYNC_FULL : SLUICE_SYNC_NORMAL;
    kit->options.group_max_ms = 60000; /* a slow machine must not end groups early */
    kit->options.max_result_bytes = 1u << 20;
    kit->options.procedures = procedures;
    kit->options.n_procedures = sizeof procedures / sizeof procedures[0];
    kit_open(kit);
    for (size_t i = 0; i < sizeof schema / sizeof schema[0]; i++) assert_ok(kit_exec(kit, schema[i]), kit->cause);
}

static int setup(void **state) {
    (void)state;
    open_one(&grouped, true);
    open_one(&alone, false);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&grouped);
    kit_free(&alone);
    return 0;
}

/* ---- requests ---- */

typedef struct bad {
    const char *name;
    const char *texts[4];  /* statements; of a procedure: its parameters */
    const char *procedure; /* NULL: none */
    int64_t guard;         /* of the first statement; 0: none, else 1 + n */
} bad;

static const bad bads[] = {
    {"unique", {"INSERT INTO t(b) VALUES('taken')"}, NULL, 0},
    {"primary key", {"INSERT INTO t(a) VALUES(1)"}, NULL, 0},
    {"check", {"INSERT INTO t(b, c) VALUES('x', 500000)"}, NULL, 0},
    {"not null", {"INSERT INTO log(n) VALUES(NULL)"}, NULL, 0},
    {"strict type", {"INSERT INTO typed VALUES('text')"}, NULL, 0},
    {"or rollback", {"INSERT OR ROLLBACK INTO t(b) VALUES('taken')"}, NULL, 0},
    {"update or rollback", {"UPDATE OR ROLLBACK t SET b='taken'"}, NULL, 0},
    {"or fail after rows", {"INSERT OR FAIL INTO t(b) VALUES('f1'),('taken'),('f3')"}, NULL, 0},
    {"or fail at once", {"INSERT OR FAIL INTO t(b) VALUES('taken')"}, NULL, 0},
    {"abort after rows", {"INSERT INTO t(b) VALUES('f1'),('taken'),('f3')"}, NULL, 0},
    {"raise rollback", {"INSERT INTO t(b) VALUES('bomb')"}, NULL, 0},
    {"raise abort", {"INSERT INTO t(b) VALUES('dud')"}, NULL, 0},
    {"raise fail", {"INSERT INTO t(b) VALUES('g1'),('damp')"}, NULL, 0},
    {"deferred key", {"INSERT INTO child(p) VALUES(99)"}, NULL, 0},
    {"deferred key by delete", {"INSERT INTO child(id, p) VALUES(7, 1)", "DELETE FROM parent"}, NULL, 0},
    {"immediate key", {"INSERT INTO strict_child(p) VALUES(99)"}, NULL, 0},
    {"second statement", {"INSERT INTO t(b) VALUES('s1')", "INSERT INTO t(b) VALUES('taken')"}, NULL, 0},
    {"second rolls back", {"INSERT INTO t(b) VALUES('s1')", "INSERT OR ROLLBACK INTO t(b) VALUES('taken')"}, NULL, 0},
    {"third is not SQL", {"INSERT INTO t(b) VALUES('s1')", "DELETE FROM log", "NOT SQL"}, NULL, 0},
    {"guard on nothing", {"UPDATE t SET c=2 WHERE b='nobody'"}, NULL, 2},
    {"guard after a change", {"UPDATE t SET c=c+1"}, NULL, 1},
    {"guard in a batch", {"UPDATE t SET c=2 WHERE a=1", "INSERT INTO t(b) VALUES('s3')"}, NULL, 6},
    {"returning not drained", {"INSERT INTO log(n) SELECT 1 FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 "
                               "FROM c WHERE x<2000) SELECT x FROM c) RETURNING hex(zeroblob(2000))"}, NULL, 0},
    {"value too big", {"INSERT INTO t(b) VALUES(zeroblob(900000000))"}, NULL, 0},
    {"printf too big", {"INSERT INTO t(b) VALUES(printf('%900000000d', 1))"}, NULL, 0},
    {"syntax", {"INSRT INTO t VALUES(1)"}, NULL, 0},
    {"no table", {"INSERT INTO nowhere VALUES(1)"}, NULL, 0},
    {"two statements", {"INSERT INTO t(b) VALUES('q'); DELETE FROM t"}, NULL, 0},
    {"empty", {" -- nothing\n"}, NULL, 0},
    {"begin", {"BEGIN"}, NULL, 0},
    {"commit", {"COMMIT"}, NULL, 0},
    {"rollback", {"ROLLBACK"}, NULL, 0},
    {"release", {"RELEASE sluice"}, NULL, 0},
    {"pragma", {"PRAGMA synchronous=OFF"}, NULL, 0},
    {"vacuum", {"VACUUM"}, NULL, 0},
    {"attach", {"ATTACH ':memory:' AS m"}, NULL, 0},
    {"own table", {"DELETE FROM sluice_receipt"}, NULL, 0},
    {"parameter missing", {"INSERT INTO t(b) VALUES(?)"}, NULL, 0},
    {"create twice", {"CREATE TABLE t(x)"}, NULL, 0},
    {"unique index over doubles", {"CREATE UNIQUE INDEX i ON twin(n)"}, NULL, 0},
    {"create and fail", {"CREATE TABLE fresh(x)", "INSERT INTO fresh VALUES(1)", "INSERT INTO t(b) VALUES('taken')"},
     NULL, 0},
    {"alter and fail", {"ALTER TABLE log ADD COLUMN m", "UPDATE log SET m=1", "INSERT INTO t(b) VALUES('taken')"}, NULL,
     0},
    {"words and fail", {"INSERT INTO words VALUES('kept')", "INSERT INTO t(b) VALUES('taken')"}, NULL, 0},
    {"procedure fails late", {NULL}, "change_and_fail", 0},
    {"procedure unknown", {NULL}, "nobody", 0},
    {"procedure meets a constraint", {"INSERT INTO t(b) VALUES('p1')", "INSERT INTO t(b) VALUES('taken')"}, "steps", 0},
    {"procedure is rolled back", {"INSERT INTO t(b) VALUES('p1')", "INSERT OR ROLLBACK INTO t(b) VALUES('taken')"},
     "steps", 0},
    {"procedure hides a rollback", {"INSERT OR ROLLBACK INTO t(b) VALUES('taken')", "INSERT INTO t(b) VALUES('alone')"},
     "careless", 0},
    {"procedure leaves a key", {"INSERT INTO child(p) VALUES(98)"}, "careless", 0},
    {"procedure wants too much", {"INSERT INTO t(b) VALUES('p1')", "PRAGMA synchronous=OFF"}, "steps", 0},
    {"procedure makes a table", {"CREATE TABLE made(x)", "INSERT INTO t(b) VALUES('taken')"}, "steps", 0},
};
#define N_BADS (sizeof bads / sizeof bads[0])

static sluice_msg *bad_request(const bad *b) {
    sluice_msg *request = kit_request();
    size_t n = 0;
    while (n < 4 && b->texts[n] != NULL) n++;
    if (b->procedure != NULL) {
        sluice_value params[4];
        for (size_t i = 0; i < n; i++) params[i] = sluice_text(b->texts[i]);
        Sluice__V1__Statement *call = kit_add(request, "", n, params);
        call->what_case = SLUICE__V1__STATEMENT__WHAT_PROCEDURE;
        call->procedure = sluice_msg_strdup(request, b->procedure);
        return request;
    }
    for (size_t i = 0; i < n; i++) {
        Sluice__V1__Statement *statement = kit_add(request, b->texts[i], 0, NULL);
        if (i != 0 || b->guard == 0) continue;
        statement->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
        statement->expect_changes = (uint64_t)b->guard - 1;
    }
    return request;
}

/* A neighbour whose answer shows what others could spoil: its rowid, changes, what it reads and returns. */
static sluice_msg *good_request(uint64_t number) {
    sluice_msg *request = kit_request();
    char text[32];
    snprintf(text, sizeof text, "row %llu", (unsigned long long)number);
    const sluice_value values[] = {sluice_text(text), sluice_integer((int64_t)(number % 1000))};
    switch (number % 5) {
    case 0:
        (void)kit_add(request, "INSERT INTO t(b, c) VALUES(?, ?) RETURNING a, b", 2, values);
        break;
    case 1:
        (void)kit_add(request, "INSERT INTO log(n) VALUES(?)", 1, &values[1]);
        (void)kit_add(request, "SELECT last_insert_rowid(), count(*), sum(n) FROM log", 0, NULL);
        break;
    case 2:
        (void)kit_add(request, "SELECT last_insert_rowid(), count(*), max(a) FROM t", 0, NULL);
        break;
    case 3:
        (void)kit_add(request, "UPDATE t SET c=coalesce(c,0)+1 WHERE a=1", 0, NULL);
        (void)kit_add(request, "SELECT changes()", 0, NULL);
        break;
    default:
        (void)kit_add(request, "INSERT INTO t(b, c) VALUES(?, ?)", 2, values);
        break;
    }
    return request;
}

/* ---- answers ---- */

typedef struct answer {
    sluice_err err;
    int32_t statement;
    int sqlite_code;
    char text[SLUICE_CAUSE_TEXT_SIZE];
    size_t size;
    uint8_t packed[512]; /* the reply without its commit number */
} answer;

static answer take_answer(store_kit *kit) {
    answer out;
    memset(&out, 0, sizeof out);
    sluice_msg *reply = kit_receive(kit);
    out.err = kit_outcome(kit, reply);
    if (out.err != SLUICE_OK) {
        memcpy(out.text, kit->cause.text, sizeof out.text);
        out.statement = kit->cause.statement;
        out.sqlite_code = kit->cause.sqlite_code;
    } else {
        Sluice__V1__WriteReply *body = sluice_msg_body(reply);
        body->commit_number = 0;
        out.size = sluice__v1__write_reply__get_packed_size(body);
        assert_true(out.size <= sizeof out.packed);
        sluice__v1__write_reply__pack(body, out.packed);
    }
    sluice_msg_destroy(&reply);
    return out;
}

static int64_t digest(store_kit *kit) {
    static const char *const contents[] = {
        "SELECT coalesce(sum(a * 31 + length(b) * 7 + coalesce(c, 0)), 0) + 1000003 * count(*) FROM t",
        "SELECT coalesce(sum(id * n), 0) + 1000003 * count(*) FROM log", "SELECT count(*) FROM child",
        "SELECT count(*) FROM strict_child", "SELECT count(*) FROM parent", "SELECT count(*) FROM words",
        "SELECT count(*) + sum(length(sql)) FROM sqlite_schema",
    };
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) sum = sum * 31 + kit_integer(kit, contents[i]);
    return sum;
}

typedef sluice_msg *(*make_fn)(unsigned at, const void *plan);

/* Runs n requests as one group and one by one, and compares everything. what: for the message if they differ. */
static void compare(make_fn make, const void *plan, unsigned n, const char *what) {
    answer *expected = calloc(n, sizeof *expected);
    assert_non_null(expected);
    for (unsigned i = 0; i < n; i++) {
        kit_send(&alone, make(i, plan), 0);
        expected[i] = take_answer(&alone);
    }
    for (unsigned i = 0; i < n; i++) kit_send(&grouped, make(i, plan), 0);
    for (unsigned i = 0; i < n; i++) {
        answer found = take_answer(&grouped);
        if (memcmp(&found, &expected[i], sizeof found) != 0)
            fail_msg("%s, request %u of %u: alone %s (%s), in a group %s (%s), %zu and %zu bytes", what, i, n,
                     sluice_err_name(expected[i].err), expected[i].text, sluice_err_name(found.err), found.text,
                     expected[i].size, found.size);
    }
    free(expected);
    if (digest(&alone) != digest(&grouped)) fail_msg("%s: the files differ", what);
}

/* ---- the matrix ---- */

typedef struct place {
    const bad *b;
    unsigned at;
} place;

static sluice_msg *in_place(unsigned at, const void *plan) {
    const place *p = plan;
    return at == p->at ? bad_request(p->b) : good_request(serial + at);
}

static void every_bad_request_ends_as_alone_at_every_place_of_every_group(void **state) {
    (void)state;
    static const unsigned sizes[] = {1, 2, 8, 64};
    for (size_t b = 0; b < N_BADS; b++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            unsigned n = sizes[s];
            if (n == 64 && support_scaled(100) < 100 && b % 8 != 0) continue; /* slow builds take a sample */
            for (unsigned k = 0; k < 3; k++) {
                place p = {&bads[b], k == 0 ? 0 : k == 1 ? n / 2 : n - 1};
                if ((k == 1 && n < 3) || (k == 2 && n < 2)) continue;
                compare(in_place, &p, n, bads[b].name);
                serial += n;
            }
        }
    }
    assert_true(kit_stats(&grouped).group_max >= 64);
    assert_true(kit_stats(&alone).group_max == 1);
    assert_true(kit_stats(&grouped).group_replays > 0); /* some of them destroyed groups */
}

/* ---- the fuzz ---- */

static unsigned mix(unsigned x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static sluice_msg *by_chance(unsigned at, const void *plan) {
    unsigned seed = *(const unsigned *)plan, x = mix(seed * 1000u + at);
    if (x % 3 == 0) return bad_request(&bads[(x >> 8) % N_BADS]);
    return good_request(serial + at);
}

static void random_groups_end_as_one_by_one(void **state) {
    (void)state;
    const char *wanted = getenv("SLUICE_SEED");
    unsigned first = wanted != NULL ? (unsigned)strtoul(wanted, NULL, 10) : 1;
    unsigned last = wanted != NULL ? first : support_scaled(60);
    for (unsigned seed = first; seed <= last; seed++) {
        char what[32];
        unsigned n = 2 + mix(seed) % 80;
        snprintf(what, sizeof what, "seed %u", seed);
        compare(by_chance, &seed, n, what);
        serial += n;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_request_ends_as_alone_at_every_place_of_every_group),
        cmocka_unit_test(random_groups_end_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
