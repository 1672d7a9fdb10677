/* SPDX-License-Identifier: MIT */
/* One client of a bench run: stock SQLite, or Sluice with one request at a time, or with several outstanding. */
#include "direct.h"
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS  30000 /* long, so that a slow disk shows as a long op and not as an error */
#define WRITE_EVERY 5     /* of mixed */

atomic_bool sl_bench_interrupted;

typedef struct bench_client {
    const sl_bench_plan *plan;
    unsigned index;
    sl_bench_report *report;
    sl_direct *direct;
    sluice_client *client;
    uint64_t random;
    uint64_t n_ops;    /* begun */
    uint64_t n_writes; /* begun */
    int64_t end_ns;
} bench_client;

/* One operation under way. */
typedef struct bench_op {
    bool write;
    uint64_t sequence; /* of a write: of its first row */
    int64_t id;        /* of a read */
    int64_t begun_ns;
    struct bench_op *next_free;
} bench_op;

/* ---- the report ---- */

static bool note_outcome(sl_bench_report *report, uint64_t sequence, uint8_t outcome) {
    if (sequence >= report->capacity) {
        uint64_t capacity = report->capacity ? report->capacity * 2 : 4096;
        uint8_t *grown = realloc(report->outcomes, capacity);
        if (!grown) return false;
        memset(grown + report->capacity, SL_OUTCOME_NOT_SENT, capacity - report->capacity);
        report->outcomes = grown;
        report->capacity = capacity;
    }
    report->outcomes[sequence] = outcome;
    if (sequence >= report->counts.n_outcomes) report->counts.n_outcomes = sequence + 1;
    return true;
}

void sl_bench_report_fini(sl_bench_report *report) {
    free(report->outcomes);
    report->outcomes = NULL;
    report->capacity = 0;
}

static void fail_client(bench_client *self, sluice_err err, const sluice_cause *cause) {
    self->report->counts.failed = true;
    self->report->counts.first_error = *cause;
    self->report->counts.first_error.code = err;
}

static void end_op(bench_client *self, const bench_op *op, sluice_err err, const sluice_cause *cause) {
    sl_bench_counts *counts = &self->report->counts;
    int64_t now = sl_bench_now_ns();
    uint8_t outcome = SL_OUTCOME_ACKNOWLEDGED;
    sl_latency_add(&counts->latency, (uint64_t)(now - op->begun_ns));
    if (err) {
        if (counts->errors++ == 0) {
            counts->first_error = *cause;
            counts->first_error.code = err;
        }
        if ((cause->sqlite_code & 0xff) == 5) counts->busy++; /* SQLITE_BUSY */
        bool unknown = sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN;
        if (op->write && unknown) counts->unknown++;
        outcome = unknown ? SL_OUTCOME_UNKNOWN : SL_OUTCOME_NO;
        if (cause->retry_after_ms) {
            struct timespec pause = {.tv_sec = cause->retry_after_ms / 1000,
                                     .tv_nsec = (long)(cause->retry_after_ms % 1000) * 1000000};
            nanosleep(&pause, NULL);
        }
    } else if (now <= self->end_ns) {
        counts->ops++;
    }
    bool noted = true;
    for (unsigned i = 0; op->write && noted && i < self->plan->rows; i++)
        noted = note_outcome(self->report, op->sequence + i, outcome);
    if (!noted) {
        fail_client(self, SLUICE_NOMEM, &(sluice_cause){.text = "out of memory for the outcomes"});
        self->end_ns = 0;
    }
}

static int64_t random_id(bench_client *self, uint64_t n_ids) {
    self->random ^= self->random << 13; /* xorshift64 */
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return (int64_t)(self->random % n_ids) + 1;
}

/* One row as a write sends it. The text is new each time, also of an update: one that stores what is there already
 * dirties no page and syncs nothing. */
typedef struct bench_row {
    int64_t id;
    char body[SL_DIRECT_BODY_SIZE + 1];
} bench_row;

static void make_row(bench_client *self, const bench_op *op, unsigned i, bench_row *row) {
    int64_t unique = sl_bench_id(self->index, op->sequence + i);
    row->id = self->plan->work == SL_WORK_UPDATE ? random_id(self, SL_DIRECT_UPDATE_ROWS) : unique;
    sl_direct_body(unique, row->body);
}

static void begin_op(bench_client *self, bench_op *op) {
    uint64_t n = self->n_ops++;
    bool all_write = self->plan->work == SL_WORK_WRITE || self->plan->work == SL_WORK_UPDATE;
    op->write = all_write || (self->plan->work == SL_WORK_MIXED && n % WRITE_EVERY == 0);
    if (op->write) {
        op->sequence = self->n_writes;
        self->n_writes += self->plan->rows;
    } else {
        op->id = random_id(self, SL_DIRECT_READ_ROWS);
    }
    op->begun_ns = sl_bench_now_ns();
}

static bool time_is_up(const bench_client *self, int64_t now) {
    return now >= self->end_ns || atomic_load_explicit(&sl_bench_interrupted, memory_order_relaxed);
}

static void count_rows(bench_client *self, unsigned n_rows) {
    if (n_rows == 0) self->report->counts.reads_missing++;
    if (n_rows > 1) self->report->counts.reads_doubled++;
}

/* ---- stock SQLite ---- */

static sluice_err write_row_direct(bench_client *self, const bench_row *row, sluice_cause *cause) {
    if (self->plan->work == SL_WORK_UPDATE)
        return sl_direct_update(self->direct, row->id, row->body, SL_DIRECT_BODY_SIZE, cause);
    return sl_direct_insert(self->direct, row->id, row->body, SL_DIRECT_BODY_SIZE, cause);
}

static sluice_err write_direct(bench_client *self, const bench_op *op, sluice_cause *cause) {
    bool brackets = self->plan->rows > 1;
    bench_row row;
    sluice_err err = brackets ? sl_direct_begin(self->direct, cause) : SLUICE_OK;
    int64_t commit_ns = sl_bench_now_ns();
    for (unsigned i = 0; !err && i < self->plan->rows; i++) {
        make_row(self, op, i, &row);
        if (!brackets) commit_ns = sl_bench_now_ns();
        err = write_row_direct(self, &row, cause);
    }
    if (!err && brackets) {
        commit_ns = sl_bench_now_ns();
        err = sl_direct_commit(self->direct, cause);
    }
    if (!err) sl_latency_add(&self->report->counts.commit, (uint64_t)(sl_bench_now_ns() - commit_ns));
    return err;
}

static void run_direct(bench_client *self) {
    bench_op op;
    for (;;) {
        begin_op(self, &op);
        if (time_is_up(self, op.begun_ns)) break;
        sluice_cause cause = {0};
        sluice_err err;
        unsigned n_rows = 1;
        if (op.write) {
            err = write_direct(self, &op, &cause);
        } else {
            err = sl_direct_lookup(self->direct, op.id, &n_rows, &cause);
        }
        end_op(self, &op, err, &cause);
        if (!err) count_rows(self, n_rows);
    }
    self->report->counts.wal_bytes = sl_direct_wal_size(self->plan->path);
}

/* ---- Sluice ---- */

/* Number of right rows in a read's answer. */
static unsigned right_rows(sluice_result *result, int64_t id) {
    unsigned n_rows = 0;
    while (sluice_result_next(result)) {
        char body[SL_DIRECT_BODY_SIZE + 1];
        sl_direct_body(id, body);
        size_t size = 0;
        const char *text = sluice_result_text(result, 1, &size);
        bool right = text && size == SL_DIRECT_BODY_SIZE && memcmp(text, body, size) == 0;
        if (right && sluice_result_int64(result, 0) == id) n_rows++;
    }
    return n_rows;
}

static void end_request(bench_client *self, const bench_op *op, sluice_err err, sluice_result **result,
                        const sluice_cause *cause) {
    end_op(self, op, err, cause);
    if (!err && !op->write) count_rows(self, right_rows(*result, op->id));
    sluice_result_destroy(result);
}

static const char *write_sql(const bench_client *self) {
    return self->plan->work == SL_WORK_UPDATE ? SL_DIRECT_UPDATE : SL_DIRECT_INSERT;
}

static sluice_err add_rows(bench_client *self, const bench_op *op, sluice_request *request) {
    bool columns = self->plan->rows > 1 && !self->plan->statements;
    sluice_err err = columns ? sluice_request_add(request, write_sql(self), NULL, 0) : SLUICE_OK;
    for (unsigned i = 0; !err && i < self->plan->rows; i++) {
        bench_row row;
        make_row(self, op, i, &row);
        sluice_value values[] = {sluice_integer(row.id), sluice_text_n(row.body, SL_DIRECT_BODY_SIZE)};
        err = columns ? sluice_request_row(request, values, 2)
                      : sluice_request_add(request, write_sql(self), values, 2);
    }
    return err;
}

/* Gives: *out, also on an error. */
static sluice_err make_request(bench_client *self, const bench_op *op, sluice_request **out, sluice_cause *cause) {
    sluice_err err = sluice_request_new(self->client, op->write ? SLUICE_WRITE : SLUICE_READ, out);
    if (!err && op->write) {
        err = add_rows(self, op, *out);
    } else if (!err) {
        sluice_value value = sluice_integer(op->id);
        err = sluice_request_add(*out, SL_DIRECT_SELECT, &value, 1);
    }
    return err ? sluice_cause_set(cause, err, "request: %s", sluice_err_text(err)) : SLUICE_OK;
}

static void run_single(bench_client *self) {
    bench_op op;
    bench_row row;
    for (;;) {
        begin_op(self, &op);
        if (time_is_up(self, op.begun_ns)) return;
        sluice_cause cause = {0};
        sluice_result *result = NULL;
        sluice_err err;
        if (op.write && self->plan->rows == 1) {
            make_row(self, &op, 0, &row);
            sluice_value values[] = {sluice_integer(row.id), sluice_text_n(row.body, SL_DIRECT_BODY_SIZE)};
            err = sluice_exec(self->client, write_sql(self), values, 2, NULL, &cause);
        } else if (op.write) {
            sluice_request *request = NULL;
            err = make_request(self, &op, &request, &cause);
            if (!err) err = sluice_call(self->client, request, NULL, &cause);
            sluice_request_destroy(&request);
        } else {
            sluice_value value = sluice_integer(op.id);
            err = sluice_query(self->client, SL_DIRECT_SELECT, &value, 1, &result, &cause);
        }
        end_request(self, &op, err, &result, &cause);
    }
}

static sluice_err submit(bench_client *self, bench_op *op, sluice_cause *cause) {
    sluice_request *request = NULL;
    sluice_err err = make_request(self, op, &request, cause);
    if (!err) err = sluice_submit(self->client, &request, op, NULL, cause);
    sluice_request_destroy(&request);
    return err;
}

/* Begins one operation if there is time for it; false if it could not be sent. */
static bool begin_pipelined(bench_client *self, bench_op *op) {
    sluice_cause cause = {0};
    begin_op(self, op);
    sluice_err err = submit(self, op, &cause);
    if (err) end_op(self, op, err, &cause);
    return err == SLUICE_OK;
}

/* Keeps `pipeline` requests outstanding until the time is up, then collects what is left. Each completion is followed
 * by the next request at once, so that what replaces those which came together leaves together. */
static void run_pipelined(bench_client *self, bench_op *ops) {
    bench_op *free_ops = NULL;
    for (unsigned i = 0; i < self->plan->pipeline; i++) {
        ops[i].next_free = free_ops;
        free_ops = &ops[i];
    }
    unsigned n_out = 0;
    while (n_out || !time_is_up(self, sl_bench_now_ns())) {
        while (free_ops && !time_is_up(self, sl_bench_now_ns()) && begin_pipelined(self, free_ops)) {
            free_ops = free_ops->next_free;
            n_out++;
        }
        sluice_completion done;
        for (uint32_t wait_ms = 1000; n_out && sluice_poll(self->client, wait_ms, &done); wait_ms = 0) {
            bench_op *op = done.context;
            end_request(self, op, done.err, &done.result, &done.cause);
            if (!time_is_up(self, sl_bench_now_ns()) && begin_pipelined(self, op)) continue;
            op->next_free = free_ops;
            free_ops = op;
            n_out--;
        }
    }
}

/* ---- from open to close ---- */

static sluice_err open_client(bench_client *self, sluice_cause *cause) {
    const sl_bench_plan *plan = self->plan;
    if (plan->transport == SL_TRANSPORT_DIRECT) return sl_direct_open(plan->path, plan->full, &self->direct, cause);
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = plan->runtime;
    options.timeout_ms = TIMEOUT_MS;
    options.receipts = plan->receipts;
    options.receipts_default = false;
    options.local_lease = plan->local_lease;
    options.max_inflight = plan->pipeline + 1;
    if (plan->curve) {
        options.server_key = plan->server_key;
        options.key_file = plan->key_file;
    }
    sluice_err err = sluice_client_open(plan->url, &options, &self->client, cause);
    return err ? err : sluice_client_ping(self->client, cause);
}

void sl_bench_client_run(const sl_bench_plan *plan, unsigned index, const sl_bench_gate *gate,
                         sl_bench_report *report) {
    bench_client self = {.plan = plan, .index = index, .report = report};
    self.random = 0x9e3779b97f4a7c15u * (index + 1);
    sluice_cause cause = {0};
    bench_op *ops = calloc(plan->pipeline, sizeof *ops);
    sluice_err err = ops ? open_client(&self, &cause) : sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
    if (err) fail_client(&self, err, &cause);
    gate->ready(gate->context);
    self.end_ns = sl_bench_now_ns() + (int64_t)plan->seconds * 1000000000;
    if (!err && self.direct)
        run_direct(&self);
    else if (!err && plan->pipeline == 1)
        run_single(&self);
    else if (!err)
        run_pipelined(&self, ops);
    sl_direct_close(&self.direct);
    sluice_client_close(&self.client);
    free(ops);
}
