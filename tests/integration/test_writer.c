/* SPDX-License-Identifier: MIT */
/* The writer: isolation within a group, guards, limits, and acknowledgement after COMMIT. */
#include "support/store_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static store_kit kit;

static const char *const schema[] = {
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE, c INTEGER CHECK(c < 1000))",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE strict_child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent(id))",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
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

static void open_with_schema(store_kit *k) {
    k->options.group_max_ms = 60000; /* a slow machine must not end groups early */
    kit_open(k);
    for (size_t i = 0; i < sizeof schema / sizeof schema[0]; i++) assert_ok(kit_exec(k, schema[i]), k->cause);
}

static int setup(void **state) {
    (void)state;
    kit_new(&kit);
    open_with_schema(&kit);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kit_free(&kit);
    return 0;
}

static sluice_msg *insert_number(int64_t n) {
    sluice_msg *request = kit_request();
    char text[32];
    snprintf(text, sizeof text, "row %lld", (long long)n);
    sluice_value values[] = {sluice_text(text), sluice_integer(n % 1000)};
    (void)kit_add(request, "INSERT INTO t(b, c) VALUES(?, ?)", 2, values);
    return request;
}

/* ---- the bad ones ---- */

typedef struct bad {
    const char *name;
    const char *sql[3]; /* statements of one request */
    sluice_err expected;
    int64_t guard; /* of the first statement; -1: none */
} bad;

static const bad bads[] = {
    {"unique", {"INSERT INTO t(b) VALUES('taken')"}, SLUICE_CONSTRAINT, -1},
    {"check", {"INSERT INTO t(b, c) VALUES('x', 5000)"}, SLUICE_CONSTRAINT, -1},
    {"or rollback", {"INSERT OR ROLLBACK INTO t(b) VALUES('taken')"}, SLUICE_CONSTRAINT, -1},
    {"or fail, rows before it", {"INSERT OR FAIL INTO t(b) VALUES('f1'),('f2'),('taken'),('f3')"}, SLUICE_CONSTRAINT,
     -1},
    {"or abort, rows before it", {"INSERT INTO t(b) VALUES('f1'),('f2'),('taken'),('f3')"}, SLUICE_CONSTRAINT, -1},
    {"raise rollback", {"INSERT INTO t(b) VALUES('bomb')"}, SLUICE_CONSTRAINT, -1},
    {"raise abort", {"INSERT INTO t(b) VALUES('dud')"}, SLUICE_CONSTRAINT, -1},
    {"raise fail", {"INSERT INTO t(b) VALUES('g1'),('damp')"}, SLUICE_CONSTRAINT, -1},
    {"deferred key", {"INSERT INTO child(p) VALUES(99)"}, SLUICE_CONSTRAINT, -1},
    {"immediate key", {"INSERT INTO strict_child(p) VALUES(99)"}, SLUICE_CONSTRAINT, -1},
    {"second statement", {"INSERT INTO t(b) VALUES('s1')", "INSERT INTO t(b) VALUES('taken')"}, SLUICE_CONSTRAINT, -1},
    {"second statement rolls back",
     {"INSERT INTO t(b) VALUES('s1')", "INSERT OR ROLLBACK INTO t(b) VALUES('taken')"},
     SLUICE_CONSTRAINT,
     -1},
    {"deferred key in a batch", {"INSERT INTO t(b) VALUES('s2')", "INSERT INTO child(p) VALUES(98)"},
     SLUICE_CONSTRAINT, -1},
    {"guard on nothing", {"UPDATE t SET c=2 WHERE b='nobody'"}, SLUICE_GUARD_FAILED, 1},
    {"guard after a change", {"UPDATE t SET c=c+1"}, SLUICE_GUARD_FAILED, 0},
    {"guard in a batch", {"UPDATE t SET c=2 WHERE a=1", "INSERT INTO t(b) VALUES('s3')"}, SLUICE_GUARD_FAILED, 5},
    {"syntax", {"INSRT INTO t VALUES(1)"}, SLUICE_SYNTAX, -1},
    {"no table", {"INSERT INTO nowhere VALUES(1)"}, SLUICE_SYNTAX, -1},
    {"two statements", {"INSERT INTO t(b) VALUES('q'); DELETE FROM t"}, SLUICE_INVALID, -1},
    {"empty", {" -- nothing\n"}, SLUICE_INVALID, -1},
    {"begin", {"BEGIN"}, SLUICE_FORBIDDEN, -1},
    {"commit", {"COMMIT"}, SLUICE_FORBIDDEN, -1},
    {"rollback", {"ROLLBACK"}, SLUICE_FORBIDDEN, -1},
    {"savepoint", {"SAVEPOINT sluice"}, SLUICE_FORBIDDEN, -1},
    {"release", {"RELEASE sluice"}, SLUICE_FORBIDDEN, -1},
    {"pragma", {"PRAGMA synchronous=OFF"}, SLUICE_FORBIDDEN, -1},
    {"vacuum", {"VACUUM"}, SLUICE_FORBIDDEN, -1},
    {"parameter missing", {"INSERT INTO t(b) VALUES(?)"}, SLUICE_INVALID, -1},
    {"returning too much",
     {"INSERT INTO log(n) SELECT 1 FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<2000) "
      "SELECT x FROM c) RETURNING hex(zeroblob(2000))"},
     SLUICE_TOO_BIG,
     -1},
    {"value too big", {"INSERT INTO t(b) VALUES(zeroblob(900000000))"}, SLUICE_TOO_BIG, -1},
    {"create table twice", {"CREATE TABLE t(x)"}, SLUICE_SYNTAX, -1},
    {"unique index over doubles", {"CREATE UNIQUE INDEX i ON twin(n)"}, SLUICE_CONSTRAINT, -1},
    {"create and fail", {"CREATE TABLE fresh(x)", "INSERT INTO fresh VALUES(1)", "INSERT INTO t(b) VALUES('taken')"},
     SLUICE_CONSTRAINT, -1},
};
#define N_BADS (sizeof bads / sizeof bads[0])

static sluice_msg *bad_request(const bad *b) {
    sluice_msg *request = kit_request();
    for (size_t i = 0; i < 3 && b->sql[i] != NULL; i++) {
        Sluice__V1__Statement *statement = kit_add(request, b->sql[i], 0, NULL);
        if (i == 0 && b->guard >= 0) {
            statement->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
            statement->expect_changes = (uint64_t)b->guard;
        }
    }
    return request;
}

/* ---- the oracle: the same requests, each in a group of its own ---- */

typedef struct answer {
    sluice_err err;
    char text[SLUICE_CAUSE_TEXT_SIZE];
    size_t size;
    uint8_t packed[512]; /* the reply without its commit number */
} answer;

static answer read_answer(store_kit *k, sluice_msg **reply) {
    answer out;
    memset(&out, 0, sizeof out);
    out.err = kit_outcome(k, *reply);
    if (out.err != SLUICE_OK) {
        memcpy(out.text, k->cause.text, sizeof out.text);
    } else {
        Sluice__V1__WriteReply *body = sluice_msg_body(*reply);
        assert_true(body->commit_number != 0);
        body->commit_number = 0;
        out.size = sluice__v1__write_reply__get_packed_size(body);
        assert_true(out.size <= sizeof out.packed);
        sluice__v1__write_reply__pack(body, out.packed);
    }
    sluice_msg_destroy(reply);
    return out;
}

typedef sluice_msg *(*make_fn)(unsigned at, unsigned seed);

static void run_solo(store_kit *k, make_fn make, unsigned n, unsigned seed, answer *out) {
    for (unsigned i = 0; i < n; i++) {
        kit_send(k, make(i, seed), 0);
        sluice_msg *reply = kit_receive(k);
        out[i] = read_answer(k, &reply);
    }
}

static void run_grouped(store_kit *k, make_fn make, unsigned n, unsigned seed, answer *out) {
    uint64_t first = k->correlation + 1;
    for (unsigned i = 0; i < n; i++) kit_send(k, make(i, seed), 0);
    for (unsigned i = 0; i < n; i++) {
        sluice_msg *reply = kit_receive(k);
        assert_int_equal(reply->correlation, first + i); /* in order */
        out[i] = read_answer(k, &reply);
    }
}

static const char *const contents[] = {
    "SELECT coalesce(sum(a * 31 + length(b) * 7 + coalesce(c, 0)), 0) FROM t", "SELECT count(*) FROM t",
    "SELECT coalesce(sum(id * n), 0) FROM log", "SELECT count(*) FROM child", "SELECT count(*) FROM strict_child",
    "SELECT count(*) FROM sqlite_schema",
};

static void compare(make_fn make, unsigned n, unsigned seed) {
    store_kit oracle;
    kit_new(&oracle);
    oracle.options.max_result_bytes = kit.options.max_result_bytes;
    oracle.options.synchronous = SLUICE_SYNC_NORMAL;
    open_with_schema(&oracle);
    answer *alone = calloc(n, sizeof *alone), *grouped = calloc(n, sizeof *grouped);
    assert_true(alone != NULL && grouped != NULL);
    run_solo(&oracle, make, n, seed, alone);
    run_grouped(&kit, make, n, seed, grouped);
    for (unsigned i = 0; i < n; i++) {
        if (alone[i].err != grouped[i].err || strcmp(alone[i].text, grouped[i].text) != 0)
            fail_msg("seed %u, request %u: alone %s (%s), in a group %s (%s)", seed, i, sluice_err_name(alone[i].err),
                     alone[i].text, sluice_err_name(grouped[i].err), grouped[i].text);
        assert_int_equal(alone[i].size, grouped[i].size);
        assert_memory_equal(alone[i].packed, grouped[i].packed, alone[i].size);
    }
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++)
        assert_int_equal(kit_integer(&oracle, contents[i]), kit_integer(&kit, contents[i]));
    free(alone);
    free(grouped);
    kit_free(&oracle);
}

/* ---- tests ---- */

static sluice_msg *one_in_256(unsigned at, unsigned seed) {
    return at == seed ? bad_request(&bads[0]) : insert_number(at);
}

static void group_of_256_with_one_violation_commits_255(void **state) {
    (void)state;
    enum { N = 256, BAD = 100 };
    uint64_t groups = kit_stats(&kit).groups;
    answer answers[N];
    run_grouped(&kit, one_in_256, N, BAD, answers);
    assert_int_equal(kit_stats(&kit).groups, groups + 1);
    assert_int_equal(kit_stats(&kit).group_last, N);
    for (unsigned i = 0; i < N; i++) assert_int_equal(answers[i].err, i == BAD ? SLUICE_CONSTRAINT : SLUICE_OK);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t WHERE b LIKE 'row %'"), N - 1);
    assert_int_equal(kit_stats(&kit).group_replays, 0);
}

static void each_of_256_equals_its_solo_run(void **state) {
    (void)state;
    compare(one_in_256, support_scaled(256), 10);
}

static const bad *chosen;

static sluice_msg *chosen_at(unsigned at, unsigned seed) {
    return at == seed ? bad_request(chosen) : insert_number(at);
}

static void every_bad_statement_harms_only_itself_at_any_position(void **state) {
    (void)state;
    kit_free(&kit);
    for (size_t b = 0; b < N_BADS; b++) {
        chosen = &bads[b];
        for (unsigned position = 0; position < 5; position += 2) {
            kit_new(&kit);
            kit.options.max_result_bytes = 1u << 20;
            open_with_schema(&kit);
            enum { N = 5 };
            answer answers[N];
            uint64_t groups = kit_stats(&kit).groups;
            run_grouped(&kit, chosen_at, N, position, answers);
            for (unsigned i = 0; i < N; i++) {
                sluice_err expected = i == position ? chosen->expected : SLUICE_OK;
                if (answers[i].err != expected)
                    fail_msg("%s at %u: request %u ended %s (%s)", chosen->name, position, i,
                             sluice_err_name(answers[i].err), answers[i].text);
            }
            assert_int_equal(kit_stats(&kit).groups, groups + 1);
            assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1 + N - 1);
            assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM child"), 0);
            assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM log"), 0);
            assert_int_equal(kit_integer(&kit, "SELECT c FROM t WHERE a=1"), 1);
            kit_free(&kit);
        }
    }
    kit_new(&kit);
}

/* A reproducible mix of good and bad, with results that show rowids, changes and returned rows. */
static sluice_msg *random_request(unsigned at, unsigned seed) {
    unsigned x = (at + 1) * 2654435761u ^ seed * 40503u;
    x ^= x >> 13, x *= 2246822519u, x ^= x >> 16;
    sluice_msg *request;
    sluice_value n = sluice_integer((int64_t)(x % 50) + 1);
    switch (x % 11) {
    case 0: return bad_request(&bads[(x >> 8) % N_BADS]);
    case 1:
        request = kit_request();
        (void)kit_add(request, "UPDATE t SET c=coalesce(c,0)+1 WHERE a % 7 = ?1 % 7 AND c < 900", 1, &n);
        return request;
    case 2:
        request = kit_request();
        (void)kit_add(request, "INSERT INTO log(n) VALUES(?1),(?1+1) RETURNING id, n, 'text', NULL", 1, &n);
        return request;
    case 3:
        request = kit_request();
        (void)kit_add(request, "INSERT INTO t(b) VALUES('p' || ?1) ON CONFLICT(b) DO NOTHING", 1, &n);
        (void)kit_add(request, "INSERT INTO log(n) VALUES(last_insert_rowid())", 0, NULL);
        return request;
    case 4:
        request = kit_request();
        (void)kit_add(request, "DELETE FROM log WHERE id=?1", 1, &n);
        return request;
    case 5:
        request = kit_request();
        (void)kit_add(request, "SELECT count(*), max(a), last_insert_rowid() FROM t", 0, NULL);
        return request;
    case 6:
        request = kit_request();
        (void)kit_add(request, "INSERT INTO child(p) VALUES(1 + ?1 % 2)", 1, &n); /* every other one is violated */
        return request;
    case 7:
        request = kit_request();
        (void)kit_add(request, "INSERT OR ROLLBACK INTO t(b) VALUES('p' || ?1)", 1, &n);
        return request;
    default: return insert_number(at + seed * 1000);
    }
}

static void random_groups_equal_their_solo_runs(void **state) {
    (void)state;
    kit_free(&kit);
    unsigned rounds = support_scaled(20);
    for (unsigned seed = 1; seed <= rounds; seed++) {
        kit_new(&kit);
        kit.options.max_result_bytes = 1u << 20;
        open_with_schema(&kit);
        compare(random_request, 40 + seed % 5 * 20, seed);
        kit_free(&kit);
    }
    kit_new(&kit);
}

static void failing_batch_costs_its_neighbours_nothing(void **state) {
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        kit_send(&kit, insert_number(i), 0);
        sluice_msg *request = kit_request();
        (void)kit_add(request, "INSERT INTO log(n) VALUES(1)", 0, NULL);
        Sluice__V1__Statement *statement = kit_add(request, "UPDATE t SET c=1 WHERE b='sold out'", 0, NULL);
        statement->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
        statement->expect_changes = 1;
        kit_send(&kit, request, 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), i % 2 == 0 ? SLUICE_OK : SLUICE_GUARD_FAILED);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM log"), 0);
    assert_int_equal(kit_stats(&kit).group_replays, 0);
}

static void trouble_in_series_runs_groups_again_only_a_few_times(void **state) {
    (void)state;
    enum { N = 200 };
    for (unsigned i = 0; i < N; i++) { /* each keeps the row before the bad one, unless it is undone */
        sluice_msg *request = kit_request();
        (void)kit_add(request, "INSERT OR FAIL INTO t(b) VALUES('first'),('taken')", 0, NULL);
        kit_send(&kit, request, 0);
    }
    for (unsigned i = 0; i < N; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), SLUICE_CONSTRAINT);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
    assert_true(kit_stats(&kit).group_replays <= 2);
}

static void guard_failure_names_the_statement_and_the_numbers(void **state) {
    (void)state;
    sluice_msg *request = kit_request();
    (void)kit_add(request, "INSERT INTO t(b) VALUES('one')", 0, NULL);
    Sluice__V1__Statement *statement = kit_add(request, "UPDATE t SET c=7 WHERE b='none'", 0, NULL);
    statement->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
    statement->expect_changes = 3;
    assert_int_equal(kit_ask(&kit, request, NULL), SLUICE_GUARD_FAILED);
    assert_int_equal(kit.cause.statement, 1);
    assert_non_null(strstr(kit.cause.text, "0 rows"));
    assert_non_null(strstr(kit.cause.text, "3 were expected"));
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
}

static void parameter_rows_run_once_each_and_all_or_none(void **state) {
    (void)state;
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned n = support_scaled(10000);
        sluice_msg *request = kit_request();
        Sluice__V1__Statement *statement = kit_add(request, "INSERT INTO t(a, b) VALUES(?, ?)", 0, NULL);
        sl_table_builder *rows = sl_table_builder_new(&request->arena, 2);
        for (unsigned i = 0; i < n; i++) {
            char text[32];
            snprintf(text, sizeof text, "many %u", i);
            /* the first pass ends in a key that is taken */
            sluice_value a = sluice_integer(pass == 0 && i == n - 1 ? 1 : 1000 + i), b = sluice_text(text);
            assert_int_equal(sl_table_builder_add(rows, 0, &a), SLUICE_OK);
            assert_int_equal(sl_table_builder_add(rows, 1, &b), SLUICE_OK);
        }
        statement->rows = sl_table_builder_finish(rows, n);
        sluice_msg *reply = NULL;
        sluice_err err = kit_ask(&kit, request, &reply);
        assert_int_equal(err, pass == 0 ? SLUICE_CONSTRAINT : SLUICE_OK);
        if (pass == 1) {
            assert_int_equal(kit_reply(reply)->results[0]->changes, n);
            assert_int_equal(kit_reply(reply)->results[0]->last_rowid, 1000 + n - 1);
        }
        sluice_msg_destroy(&reply);
        assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), pass == 0 ? 1 : n + 1);
    }
}

static void expired_request_is_never_run(void **state) {
    (void)state;
    sluice_msg *request = insert_number(1);
    request->flags |= SL_MSG_ASK;
    request->correlation = 77;
    request->deadline_ns = sl_now_ns() + 1; /* passes before it is delivered */
    assert_int_equal(sl_port_send(kit.port, atomic_load(&kit.store->writer), &request), SLUICE_OK);
    sluice_msg *reply = kit_receive(&kit);
    assert_int_equal(kit_outcome(&kit, reply), SLUICE_EXPIRED);
    sluice_msg_destroy(&reply);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 1);
}

static void runaway_write_ends_at_its_deadline_and_its_neighbours_commit(void **state) {
    (void)state;
    kit_send(&kit, insert_number(1), 0);
    sluice_msg *request = kit_request();
    (void)kit_add(request,
                  "INSERT INTO log(n) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) "
                  "SELECT x FROM c WHERE x < 0",
                  0, NULL);
    kit_send(&kit, request, 200);
    kit_send(&kit, insert_number(2), 0);
    sluice_err expected[] = {SLUICE_OK, SLUICE_INTERRUPTED, SLUICE_OK};
    for (unsigned i = 0; i < 3; i++) {
        sluice_msg *reply = kit_receive(&kit);
        assert_int_equal(kit_outcome(&kit, reply), expected[i]);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM t"), 3);
}

static void refusals_name_what_to_use_instead(void **state) {
    (void)state;
    static const char *const forbidden[][2] = {
        {"BEGIN IMMEDIATE", "batch"},
        {"PRAGMA journal_mode=DELETE", "options"},
        {"SELECT * FROM pragma_user_version", "sqlite_schema"},
        {"ATTACH 'x.db' AS x", "another store"},
        {"DETACH main", "another store"},
        {"VACUUM", "closed"},
        {"VACUUM INTO 'copy.db'", "closed"},
        {"CREATE TEMP TABLE x(a)", "a table"},
        {"CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "a table"},
        {"CREATE TABLE temp.x(a)", "a table"},
        {"SELECT load_extension('x')", "registers functions"},
        {"SELECT fts3_tokenizer('simple')", "built-in"},
        {"SELECT * FROM sluice_receipt", "counters"},
        {"DELETE FROM Sluice_Session", "counters"},
        {"DROP TABLE sluice_meta", "counters"},
        {"CREATE TABLE sluice_mine(a)", "counters"},
        {"CREATE TRIGGER x AFTER INSERT ON sluice_receipt BEGIN DELETE FROM t; END", "counters"},
        {"CREATE INDEX x ON sluice_receipt(session)", "counters"},
        {"ALTER TABLE sluice_meta RENAME TO y", "counters"},
        {"INSERT INTO sqlite_schema VALUES('a','b','c',1,'d')", "CREATE"},
        {"UPDATE sqlite_master SET sql=''", "CREATE"},
        {"SELECT * FROM sqlite_stmt", "EXPLAIN"},
        {"CREATE VIRTUAL TABLE x USING dbstat", "fts5"},
    };
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        sluice_err err = kit_exec(&kit, forbidden[i][0]);
        if (err != SLUICE_FORBIDDEN || strstr(kit.cause.text, forbidden[i][1]) == NULL)
            fail_msg("%s: %s: %s", forbidden[i][0], sluice_err_name(err), kit.cause.text);
    }
}

static void malformed_sql_is_answered_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *sql;
        size_t size;
        sluice_err err;
        const char *text;
    } all[] = {
        {"SELECT 1;\n SELEC 2", 18, SLUICE_INVALID, "byte 11"},
        {"SELECT 1 FROM\n  t WHERE WHERE", 29, SLUICE_SYNTAX, "line 2, column 11"},
        {"SELECT 'a\0b'", 12, SLUICE_INVALID, "NUL at byte 9"},
        {"SELECT '\xff'", 10, SLUICE_INVALID, "UTF-8"},
        {"", 0, SLUICE_INVALID, "no statement"},
        {";;", 2, SLUICE_INVALID, "no statement"},
        {"/* open", 7, SLUICE_INVALID, "no statement"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sluice_msg *request = kit_request();
        Sluice__V1__Statement *statement = kit_add(request, "", 0, NULL);
        statement->sql.data = sluice_msg_memdup(request, all[i].sql, all[i].size);
        statement->sql.len = all[i].size;
        sluice_err err = kit_ask(&kit, request, NULL);
        if (err != all[i].err || strstr(kit.cause.text, all[i].text) == NULL)
            fail_msg("%zu: %s: %s", i, sluice_err_name(err), kit.cause.text);
    }
    size_t size = kit.options.max_sql_bytes + 1;
    char *sql = malloc(size + 1);
    memset(sql, ' ', size);
    memcpy(sql, "SELECT 1", 8);
    sql[size] = '\0';
    assert_int_equal(kit_exec(&kit, sql), SLUICE_TOO_BIG);
    sql[size - 1] = '\0';
    assert_ok(kit_exec(&kit, sql), kit.cause);
    free(sql);
}

static void admins_may_change_the_schema_and_use_full_text_search(void **state) {
    (void)state;
    static const char *const ddl[] = {
        "CREATE TABLE d(a INTEGER PRIMARY KEY, b NOT NULL)",
        "CREATE INDEX d_b ON d(b)",
        "ALTER TABLE d ADD COLUMN c INTEGER CHECK(c > 0)",
        "ALTER TABLE d RENAME COLUMN c TO e",
        "ALTER TABLE d RENAME TO d2",
        "CREATE VIEW v AS SELECT * FROM d2",
        "DROP VIEW v",
        "DROP TABLE IF EXISTS nobody",
        "CREATE TABLE IF NOT EXISTS d2(x)",
        "REINDEX",
        "ANALYZE",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        "INSERT INTO words VALUES('group commit'),('rule W')",
        "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)",
        "INSERT INTO box VALUES(1, 0.0, 1.0)",
        "DROP TABLE d2",
        "CREATE TABLE copy AS SELECT * FROM t",
    };
    for (size_t i = 0; i < sizeof ddl / sizeof ddl[0]; i++)
        if (kit_exec(&kit, ddl[i]) != SLUICE_OK) fail_msg("%s: %s", ddl[i], kit.cause.text);
    assert_int_equal(kit_integer(&kit, "SELECT count(*) FROM words WHERE words MATCH 'commit'"), 1);
    assert_int_equal(kit_integer(&kit, "SELECT id FROM box WHERE x0 < 0.5"), 1);
}

static void result_over_the_limit_is_refused_and_undone(void **state) {
    (void)state;
    sluice_msg *request = kit_request(), *reply = NULL;
    (void)kit_add(request, "INSERT INTO log(n) VALUES(1),(2),(3) RETURNING n*10 AS ten", 0, NULL);
    assert_ok(kit_ask(&kit, request, &reply), kit.cause);
    const Sluice__V1__StatementResult *result = kit_reply(reply)->results[0];
    assert_int_equal(result->changes, 3);
    assert_int_equal(result->last_rowid, 3);
    assert_int_equal(result->rows->rows, 3);
    assert_int_equal(result->rows->columns[0]->integers[2], 30);
    assert_memory_equal(result->rows->columns[0]->name.data, "ten", 3);
    sluice_msg_destroy(&reply);
}

static void statements_are_compiled_once(void **state) {
    (void)state;
    assert_ok(kit_exec(&kit, "INSERT INTO log(n) VALUES(1)"), kit.cause);
    sluice_store_stats before = kit_stats(&kit);
    for (unsigned i = 0; i < 50; i++) assert_ok(kit_exec(&kit, "INSERT INTO log(n) VALUES(1)"), kit.cause);
    assert_int_equal(kit_stats(&kit).statement_misses, before.statement_misses);
    assert_int_equal(kit_stats(&kit).statement_hits, before.statement_hits + 50);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void a_write_larger_than_the_log_is_too_big_and_its_neighbour_commits(void **state) {
    (void)state;
    store_kit own = {0}, *k = &own;
    kit_new(k);
    k->options.wal_soft_cap_bytes = k->options.wal_hard_cap_bytes = 1 << 20;
    kit_open(k);
    assert_ok(kit_exec(k, "CREATE TABLE large(a, b)"), k->cause);
    /* Three statements, each within the bound, but not together. */
    static const char sql[] = "INSERT INTO large WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c "
                              "WHERE x < 7000) SELECT x, randomblob(1000) FROM c";
    sluice_msg *small = kit_request(), *large = kit_request(), *reply;
    kit_add(small, "INSERT INTO large VALUES('small', 1)", 0, NULL);
    for (int i = 0; i < 3; i++) kit_add(large, sql, 0, NULL);
    uint64_t of_small = kit_send(k, small, 0);
    kit_send(k, large, 0);
    for (int i = 0; i < 2; i++) {
        reply = kit_receive(k);
        sluice_err err = kit_outcome(k, reply);
        assert_int_equal(err, reply->correlation == of_small ? SLUICE_OK : SLUICE_TOO_BIG);
        sluice_msg_destroy(&reply);
    }
    assert_int_equal(kit_integer(k, "SELECT count(*) FROM large"), 1);
    /* The log that was written so far is cut when it begins anew. */
    for (int i = 0; i < 100; i++)
        assert_ok(kit_exec(k, "INSERT INTO large VALUES('x', randomblob(20000))"), k->cause);
    char *log = NULL;
    struct stat st;
    assert_true(asprintf(&log, "%s-wal", k->path) > 0);
    assert_int_equal(stat(log, &st), 0);
    assert_true(st.st_size < 3 << 20);
    free(log);
    kit_free(k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(group_of_256_with_one_violation_commits_255),
        TEST(each_of_256_equals_its_solo_run),
        TEST(every_bad_statement_harms_only_itself_at_any_position),
        TEST(random_groups_equal_their_solo_runs),
        TEST(failing_batch_costs_its_neighbours_nothing),
        TEST(trouble_in_series_runs_groups_again_only_a_few_times),
        TEST(guard_failure_names_the_statement_and_the_numbers),
        TEST(parameter_rows_run_once_each_and_all_or_none),
        TEST(expired_request_is_never_run),
        TEST(runaway_write_ends_at_its_deadline_and_its_neighbours_commit),
        TEST(refusals_name_what_to_use_instead),
        TEST(malformed_sql_is_answered_with_its_place),
        TEST(admins_may_change_the_schema_and_use_full_text_search),
        TEST(result_over_the_limit_is_refused_and_undone),
        TEST(statements_are_compiled_once),
        cmocka_unit_test(a_write_larger_than_the_log_is_too_big_and_its_neighbour_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
