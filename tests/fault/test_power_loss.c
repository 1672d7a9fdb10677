/* SPDX-License-Identifier: MIT */
/* Power loss: after every prefix of what reached the disk, with every mix of unsynced sectors, each acknowledged write
 * is there exactly once. CTest: TIMEOUT=180
 *
 * A run: workers write through a real store over the recording VFS (crash_vfs.h), and note with each acknowledgement
 * the position of the disk's log. Then the disk is thrown back to many positions and its images are looked at. One of
 * them is what the next run begins with: the store recovers it, and the workers ask again for what they had no answer
 * to by then. So recovery itself is recorded and cut short, and receipts have to know what is in the file.
 *
 * What an image must show, for the worker's request n:
 *   acknowledged at or before this position     all its rows once
 *   sent, no answer by then                     all its rows once, or none; and then none of this worker's later ones
 *   refused, never sent, or given up            none
 *   a row of a request with a receipt           its receipt, or an ack_upto on disk that covers it; and the reverse
 */
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/crash_vfs.h"
#include "support/store_kit.h"

#define WORKERS     8u
#define WINDOW      4u  /* requests a worker has outstanding, at most */
#define PER_RUN     30u /* new requests of a worker in a run */
#define RUNS        4u  /* of a chain: each begins where the power went in the one before */
#define REQUESTS    (PER_RUN * RUNS + 1)
#define PARTS       3
#define NEVER       SIZE_MAX
#define LOOKS       5 /* images of each position */
#define ANSWER_NS   ((int64_t)60 * 1000000000)
#define BODY_MAX    1300

/* ---- requests ---- */

typedef enum shape { ONE = 0, BATCH, PLAIN, BAD_BATCH, BAD_ROLLBACK, BAD_GUARD } shape;

typedef struct request {
    bool sent;       /* in this run */
    bool in_file;    /* in the image this run began with */
    bool known;      /* settled when this run began */
    bool settled;    /* the worker knows how it ended, or never will */
    bool refused;
    size_t acked_at; /* position in this run */
} request;

typedef struct worker {
    unsigned index, limit; /* requests 1 .. limit */
    request requests[REQUESTS];
    pthread_t thread;
} worker;

static worker workers[WORKERS];
static store_kit kit;
static size_t setup_at;
static _Atomic bool in_trouble;
static char trouble[300];
static uint64_t seed;

static uint64_t hash(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t x = a * 0x9e3779b97f4a7c15u + b * 0xc2b2ae3d27d4eb4fu + c + 1;
    x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static shape shape_of(unsigned index, unsigned n) {
    static const shape shapes[16] = {ONE, ONE, ONE, ONE, ONE, ONE, BATCH, BATCH,
                                     BATCH, BATCH, PLAIN, PLAIN, PLAIN, BAD_BATCH, BAD_ROLLBACK, BAD_GUARD};
    return shapes[hash(index, n, 7) % 16];
}

static int parts_of(shape s) { return s == BATCH ? PARTS : 1; }
static bool has_receipt(shape s) { return s != PLAIN; }

/* The text of a row, from what it is. */
static size_t body_of(unsigned index, unsigned n, int part, char body[BODY_MAX]) {
    uint64_t h = hash(index, n, (uint64_t)part);
    size_t size = 20 + h % (h % 8 == 0 ? 1250 : 250);
    for (size_t i = 0; i < size; i++) body[i] = (char)('a' + (h >> (i % 48)) % 26);
    return size;
}

static int64_t key_of(unsigned index, unsigned n, int part) { return (int64_t)(hash(index, n, (uint64_t)part) >> 8); }

static void add_row(sluice_msg *msg, unsigned index, unsigned n, int part) {
    char body[BODY_MAX];
    size_t size = body_of(index, n, part, body);
    sluice_value values[] = {sluice_integer(index), sluice_integer(n), sluice_integer(part),
                             sluice_integer(key_of(index, n, part)), sluice_text_n(body, size)};
    (void)kit_add(msg, "INSERT INTO rows(worker, n, part, h, body) VALUES(?,?,?,?,?)", 5, values);
}

static sluice_msg *make(const worker *self, unsigned n) {
    sluice_msg *msg = kit_request();
    shape s = shape_of(self->index, n);
    sluice_value me = sluice_integer(self->index), nobody = sluice_integer(-1);
    for (int part = 0; s != BAD_ROLLBACK && part < parts_of(s); part++) add_row(msg, self->index, n, part);
    Sluice__V1__Statement *last = NULL;
    if (s == BATCH) last = kit_add(msg, "UPDATE account SET v=v+1 WHERE worker=?", 1, &me);
    if (s == BAD_GUARD) last = kit_add(msg, "UPDATE account SET v=v+1 WHERE worker=?", 1, &nobody);
    if (s == BAD_BATCH) (void)kit_add(msg, "INSERT INTO account VALUES(?, 0)", 1, &me);
    if (s == BAD_ROLLBACK) (void)kit_add(msg, "INSERT OR ROLLBACK INTO account VALUES(?, 0)", 1, &me);
    if (last != NULL) {
        last->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
        last->expect_changes = 1;
    }
    return msg;
}

/* ---- workers ---- */

static void report(const worker *self, unsigned n, const char *what, const char *text) {
    if (atomic_exchange(&in_trouble, true)) return;
    snprintf(trouble, sizeof trouble, "worker %u, request %u: %s %s", self->index, n, what, text);
}

static uint64_t ack_upto(const worker *self) {
    unsigned n = 0;
    while (n < self->limit && self->requests[n + 1].settled) n++;
    return self->index % 2 != 0 ? n / 8 * 8 : n; /* half of them settle seldom */
}

static bool send_request(worker *self, sl_port *port, unsigned n, uint32_t attempt) {
    sluice_msg *msg = make(self, n);
    if (has_receipt(shape_of(self->index, n)))
        kit_identify(msg, (uint8_t)(self->index + 1), n, attempt, ack_upto(self));
    msg->flags |= SL_MSG_ASK;
    msg->correlation = n;
    self->requests[n].sent = true;
    if (sl_port_send(port, atomic_load(&kit.store->writer), &msg) == SLUICE_OK) return true;
    sluice_msg_destroy(&msg);
    report(self, n, "could not be sent", "");
    return false;
}

static void on_answer(worker *self, const sluice_msg *reply) {
    size_t position = crash_vfs_position();
    unsigned n = (unsigned)reply->correlation;
    request *it = &self->requests[n];
    sluice_cause cause = {.code = SLUICE_OK};
    sluice_err err = (reply->flags & SL_MSG_ERROR) != 0 ? sl_msg_cause(reply, &cause) : SLUICE_OK;
    bool good = shape_of(self->index, n) <= PLAIN;
    if (err == SLUICE_OK && good) {
        it->acked_at = position;
        if ((bool)kit_reply(reply)->replayed != it->in_file)
            report(self, n, it->in_file ? "was in the file and not replayed" : "was replayed, not in the file", "");
    } else if (!good && sluice_err_applied(err) == SLUICE_APPLIED_NO) {
        it->refused = true;
    } else {
        report(self, n, good ? "good, but answered" : "bad, but answered", err == SLUICE_OK ? "OK" : cause.text);
    }
    it->settled = true;
}

static void *worker_main(void *arg) {
    worker *self = arg;
    sl_port *port = NULL;
    sluice_msg *reply = NULL;
    if (sl_port_open(kit.runtime, &port, NULL) != SLUICE_OK) abort();
    unsigned next = 1, n_out = 0, window = 1 + self->index % WINDOW;
    while (!atomic_load(&in_trouble)) {
        for (; n_out < window && next <= self->limit; next++)
            if (!self->requests[next].settled && send_request(self, port, next, (uint32_t)self->requests[next].sent))
                n_out++;
        if (n_out == 0) break;
        if (sl_port_recv(port, sl_now_ns() + ANSWER_NS, &reply) != SLUICE_OK) {
            report(self, next - 1, "was not answered", "");
            break;
        }
        on_answer(self, reply);
        sluice_msg_destroy(&reply);
        n_out--;
    }
    sl_port_close(&port);
    return NULL;
}

/* ---- looking at an image ---- */

typedef struct findings {
    uint64_t images, lost, doubled, half, phantoms, out_of_order, receipts, damaged;
} findings;

typedef struct view {
    uint8_t rows[WORKERS][REQUESTS][PARTS];
    uint8_t receipts[WORKERS][REQUESTS];
    int64_t accounts[WORKERS];
    uint64_t ack_upto[WORKERS];
    bool has_tables;
} view;

static view seen;
static char finding[300]; /* the first one */

static void found(uint64_t *counter, unsigned index, unsigned n, const char *what) {
    if ((*counter)++ == 0 && finding[0] == '\0')
        snprintf(finding, sizeof finding, "worker %u, request %u (shape %d): %s", index, n,
                 n != 0 ? (int)shape_of(index, n) : -1, what);
}

typedef void (*row_fn)(sqlite3_stmt *stmt, findings *out);

static int each_row(sqlite3 *db, const char *sql, row_fn fn, findings *out) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc != SQLITE_OK) return rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) fn(stmt, out);
    int ended = sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? SQLITE_OK : ended;
}

static void on_integrity(sqlite3_stmt *stmt, findings *out) {
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    if (strcmp(text, "ok") != 0) found(&out->damaged, 0, 0, text);
}

static void on_table(sqlite3_stmt *stmt, findings *out) {
    (void)out;
    seen.has_tables = sqlite3_column_int(stmt, 0) == (int)WORKERS;
}

static void on_row(sqlite3_stmt *stmt, findings *out) {
    unsigned index = (unsigned)sqlite3_column_int(stmt, 0), n = (unsigned)sqlite3_column_int(stmt, 1);
    int part = sqlite3_column_int(stmt, 2);
    char body[BODY_MAX];
    if (index >= WORKERS || n == 0 || n >= REQUESTS || part < 0 || part >= PARTS) {
        found(&out->damaged, index, 0, "a row that nobody sent");
        return;
    }
    size_t size = body_of(index, n, part, body);
    if (sqlite3_column_int64(stmt, 3) != key_of(index, n, part) || (size_t)sqlite3_column_bytes(stmt, 4) != size ||
        memcmp(sqlite3_column_blob(stmt, 4), body, size) != 0)
        found(&out->damaged, index, n, "a row with other content");
    if (seen.rows[index][n][part] < 255) seen.rows[index][n][part]++;
}

static void on_account(sqlite3_stmt *stmt, findings *out) {
    (void)out;
    unsigned index = (unsigned)sqlite3_column_int(stmt, 0);
    if (index < WORKERS) seen.accounts[index] = sqlite3_column_int64(stmt, 1);
}

static unsigned owner(sqlite3_stmt *stmt, findings *out) {
    unsigned index = WORKERS;
    if (sqlite3_column_bytes(stmt, 0) == 16) index = *(const uint8_t *)sqlite3_column_blob(stmt, 0) - 1u;
    if (index >= WORKERS) found(&out->receipts, 0, 0, "a receipt or session of nobody");
    return index;
}

static void on_session(sqlite3_stmt *stmt, findings *out) {
    unsigned index = owner(stmt, out);
    if (index < WORKERS) seen.ack_upto[index] = (uint64_t)sqlite3_column_int64(stmt, 1);
}

static void on_receipt(sqlite3_stmt *stmt, findings *out) {
    unsigned index = owner(stmt, out);
    int64_t n = sqlite3_column_int64(stmt, 1);
    if (index >= WORKERS) return;
    if (n <= 0 || n >= (int64_t)REQUESTS)
        found(&out->receipts, index, 0, "a receipt of no request");
    else
        seen.receipts[index][n]++;
}

/* Fills `seen`. */
static void read_image(crash_image *image, findings *out) {
    sqlite3 *db = NULL;
    memset(&seen, 0, sizeof seen);
    crash_image_serve(image);
    int rc = sqlite3_open_v2("image.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                             IMAGE_VFS_NAME);
    if (rc == SQLITE_OK) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    if (rc == SQLITE_OK) rc = sqlite3_exec(db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
    if (rc == SQLITE_OK) rc = each_row(db, "PRAGMA integrity_check", on_integrity, out);
    if (rc == SQLITE_OK) (void)each_row(db, "SELECT count(*) FROM account", on_table, out); /* may not be there yet */
    if (rc == SQLITE_OK && seen.has_tables) {
        rc = each_row(db, "SELECT worker, n, part, h, body FROM rows", on_row, out);
        if (rc == SQLITE_OK) rc = each_row(db, "SELECT worker, v FROM account", on_account, out);
        if (rc == SQLITE_OK) rc = each_row(db, "SELECT client, ack_upto FROM sluice_session", on_session, out);
        if (rc == SQLITE_OK)
            rc = each_row(db, "SELECT s.client, r.sequence FROM sluice_receipt r LEFT JOIN sluice_session s "
                              "ON s.id=r.session", on_receipt, out);
    }
    if (rc != SQLITE_OK) found(&out->damaged, 0, 0, sqlite3_errmsg(db));
    sqlite3_close(db);
    crash_image_serve(NULL);
}

static bool is_there(unsigned index, unsigned n) { return seen.rows[index][n][0] != 0; }

static void compare_request(const worker *self, unsigned n, size_t position, bool *gap, findings *out) {
    const request *it = &self->requests[n];
    const uint8_t *rows = seen.rows[self->index][n];
    shape s = shape_of(self->index, n);
    unsigned receipts = seen.receipts[self->index][n];
    bool there = rows[0] != 0, must = it->in_file || it->acked_at <= position, may = must || (it->sent && s <= PLAIN);
    for (int part = 0; part < PARTS; part++) {
        if (rows[part] > 1) found(&out->doubled, self->index, n, "a row is there twice");
        if ((rows[part] != 0) != (there && part < parts_of(s))) found(&out->half, self->index, n, "half applied");
    }
    if (there && !may) found(&out->phantoms, self->index, n, "there, though refused or never sent");
    if (!there && must) found(&out->lost, self->index, n, "acknowledged and lost");
    if (there && *gap) found(&out->out_of_order, self->index, n, "there without an earlier one");
    if (!there && may) *gap = true;
    if (receipts > 1) found(&out->receipts, self->index, n, "two receipts");
    if (receipts != 0 && !there) found(&out->receipts, self->index, n, "a receipt without its rows");
    if (there && has_receipt(s) && receipts == 0 && n > seen.ack_upto[self->index])
        found(&out->receipts, self->index, n, "rows without their receipt");
}

/* Looks at an image of `position` and counts what is wrong with it. */
static void check_image(crash_image *image, size_t position, findings *out) {
    out->images++;
    read_image(image, out);
    if (!seen.has_tables && position >= setup_at) found(&out->lost, 0, 0, "the tables are gone");
    for (unsigned i = 0; i < WORKERS; i++) {
        int64_t batches = 0;
        bool gap = false;
        for (unsigned n = 1; n <= workers[i].limit; n++) {
            compare_request(&workers[i], n, position, &gap, out);
            if (shape_of(i, n) == BATCH && is_there(i, n)) batches++;
        }
        if (seen.has_tables && seen.accounts[i] != batches)
            found(&out->half, i, 0, "the account does not agree with the batches");
    }
}

/* ---- a run ---- */

static void create_tables(void) {
    char sql[200];
    assert_ok(kit_exec(&kit, "CREATE TABLE rows(worker INTEGER, n INTEGER, part INTEGER, h INTEGER, body TEXT)"),
              kit.cause);
    assert_ok(kit_exec(&kit, "CREATE INDEX rows_h ON rows(h)"), kit.cause);
    assert_ok(kit_exec(&kit, "CREATE TABLE account(worker INTEGER PRIMARY KEY, v INTEGER)"), kit.cause);
    snprintf(sql, sizeof sql,
             "INSERT INTO account SELECT value - 1, 0 FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT "
             "value+1 FROM c LIMIT %u) SELECT value FROM c)", WORKERS);
    assert_ok(kit_exec(&kit, sql), kit.cause);
}

static uint64_t total_restarts, total_passes, total_acked;

/* Records a run that begins with `start` (NULL: no file). */
static void record(const crash_image *start, sluice_synchronous synchronous, bool with_close) {
    crash_vfs_begin();
    kit_new(&kit);
    kit.vfs = CRASH_VFS_NAME;
    kit.options.synchronous = synchronous;
    /* 11 pages: the log begins again many times in a run. With NORMAL a checkpoint is all that syncs: few of them. */
    kit.options.wal_soft_cap_bytes = synchronous == SLUICE_SYNC_FULL ? 48 * 1024 : 1024 * 1024;
    if (start != NULL) assert_true(crash_image_save(start, kit.path));
    kit_open(&kit);
    setup_at = 0;
    if (start == NULL || !seen.has_tables) {
        create_tables();
        setup_at = crash_vfs_position();
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].index = i;
        workers[i].limit += PER_RUN;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    if (atomic_load(&in_trouble)) fail_msg("%s", trouble);
    sluice_store_stats stats = kit_stats(&kit);
    total_restarts += stats.wal_restarts;
    total_passes += stats.checkpoints + stats.checkpoints_finishing;
    total_acked += stats.writes;
    if (with_close) kit_close(&kit);
}

/* The power went at `position` and left what is in `seen`: what do the workers know now? */
static void rewind_to(size_t position) {
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned n = 1; n <= workers[i].limit; n++) {
            request *it = &workers[i].requests[n];
            it->in_file = is_there(i, n);
            /* Without a receipt nobody may ask again: it is there for good or was never done. */
            if (it->acked_at <= position || it->refused || (it->sent && shape_of(i, n) == PLAIN)) it->known = true;
            it->settled = it->known;
            it->acked_at = NEVER;
            it->sent = it->sent && !it->settled; /* then it is sent again, as another attempt */
        }
}

static void forget_all(void) {
    memset(workers, 0, sizeof workers);
    memset(&seen, 0, sizeof seen);
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned n = 0; n < REQUESTS; n++) workers[i].requests[n].acked_at = NEVER;
}

typedef struct scan_options {
    const crash_image *start;
    size_t n_points; /* positions to look at */
    bool stop_at_finding;
} scan_options;

static void explain(crash_image *image, size_t position, crash_style style, uint64_t image_seed) {
    char what[96];
    crash_vfs_describe(position, what);
    (void)crash_image_save(image, "power-loss.db");
    fail_msg("%s; power lost at %zu of %zu (after %s), style %d, SLUICE_SEED=%" PRIu64 ", image %" PRIu64
             "; the image, after recovery, is power-loss.db",
             finding, position, crash_vfs_position(), what, (int)style, seed, image_seed);
}

/* Looks at images of the recorded run. Gives one of them in *next, the view of it in `seen`, and its position. */
static size_t scan(const scan_options *options, crash_image *next, findings *out) {
    static const crash_style styles[LOOKS] = {CRASH_NOTHING, CRASH_EVERYTHING, CRASH_IN_ORDER, CRASH_TORN, CRASH_TORN};
    crash_disk *disk = crash_disk_new(options->start);
    crash_image image = {0};
    size_t n = crash_vfs_position() + 1, n_points = options->n_points < n ? options->n_points : n;
    size_t chosen = n_points / 2 + hash(seed, n, 1) % (n_points - n_points / 2), chosen_position = 0;
    for (size_t i = 0; i < n_points; i++) {
        size_t position = n_points == n ? i : (i * n + hash(seed, i, n) % n) / n_points;
        crash_disk_advance(disk, position);
        for (unsigned look = 0; look < LOOKS; look++) {
            uint64_t image_seed = hash(seed, position, look);
            crash_disk_image(disk, styles[look], image_seed, &image);
            if (i == chosen && look == LOOKS - 1) {
                crash_image_copy(next, &image);
                chosen_position = position;
            }
            check_image(&image, position, out);
            if (options->stop_at_finding && finding[0] != '\0') explain(&image, position, styles[look], image_seed);
        }
    }
    crash_disk_destroy(&disk);
    findings ignored = {0};
    crash_image_copy(&image, next);
    read_image(&image, &ignored);
    crash_image_fini(&image);
    return chosen_position;
}

/* ---- the tests ---- */

static size_t images_wanted(void) { return support_long() ? 100000 : support_scaled(2000); }

static void every_acknowledged_write_survives_a_power_loss_once(void **state) {
    (void)state;
    findings all = {0};
    crash_image start = {0}, next = {0};
    size_t wanted = images_wanted(), recoveries = 0;
    for (unsigned chain = 0; all.images < wanted; chain++) {
        forget_all();
        for (unsigned run = 0; run < RUNS && all.images < wanted; run++) {
            record(run != 0 ? &start : NULL, SLUICE_SYNC_FULL, (chain + run) % 2 == 0);
            scan_options options = {.start = run != 0 ? &start : NULL, .stop_at_finding = true};
            options.n_points = support_long() ? SIZE_MAX : wanted / (LOOKS * RUNS * 2) + 1;
            size_t position = scan(&options, &next, &all);
            kit_free(&kit);
            rewind_to(position);
            crash_image_copy(&start, &next);
            recoveries += run != 0;
        }
    }
    print_message("%" PRIu64 " images, %" PRIu64 " writes acknowledged, %zu recoveries by a store, %" PRIu64
                  " checkpoint passes, %" PRIu64 " restarts of the log: 0 bad\n",
                  all.images, total_acked, recoveries, total_passes, total_restarts);
    assert_true(total_passes > 0 && total_restarts > 0 && recoveries > 0);
    crash_image_fini(&start);
    crash_image_fini(&next);
}

/* The planted control: without a sync at each commit the same checker must find losses, and nothing but losses. */
static void checker_finds_what_synchronous_normal_loses(void **state) {
    (void)state;
    findings all = {0};
    crash_image next = {0};
    forget_all();
    record(NULL, SLUICE_SYNC_NORMAL, false);
    scan_options options = {.n_points = support_scaled(100) + 20};
    (void)scan(&options, &next, &all);
    kit_free(&kit);
    crash_image_fini(&next);
    print_message("NORMAL: %" PRIu64 " images, %" PRIu64 " acknowledged writes lost in them\n", all.images, all.lost);
    assert_true(all.lost > 0);
    assert_int_equal(all.damaged + all.half + all.doubled + all.phantoms + all.out_of_order + all.receipts, 0);
}

static int setup(void **state) {
    (void)state;
    const char *text = getenv("SLUICE_SEED");
    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    print_message("SLUICE_SEED=%" PRIu64 "\n", seed);
    finding[0] = '\0';
    crash_vfs_register("unix-excl");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (kit.directory != NULL) kit_free(&kit);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_acknowledged_write_survives_a_power_loss_once),
        TEST(checker_finds_what_synchronous_normal_loses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
