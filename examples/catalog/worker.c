/* SPDX-License-Identifier: MIT */
/* catalog-worker: indexes the packages installed on this machine, together with other workers, through a remote store.
 *
 * The package list is cut into slices. Each worker claims the slice that is furthest behind, parses its packages from
 * dpkg's files, and writes each package as one atomic request, several of them on the way at a time. A slice that is
 * done goes on to the next round; so all workers share the work evenly whatever their speed.
 *
 *   claimed --(all packages acknowledged)--> finished: the slice's round number goes up
 *      |-----(SIGTERM)---------------------> released: another worker does it again
 *      '-----(worker dies, lease runs out)-> claimed by another worker
 *
 * A worker that was only slow, not dead, is stopped by the fence: the first statement of each write changes no row once
 * the slice belongs to someone else, and the guard on it makes the whole write fail.
 *
 * Every write has a sequence number of its own. It goes into the ledger in the same transaction, and into the log of
 * acknowledgements when the answer has arrived. A write that ended without a definite yes is sent again under a new
 * number: replacing a package twice does no harm.
 *
 * Usage: catalog-worker --connect URL [--worker NAME] [--rounds N] [--log FILE] [--pipeline N] [--lease S]
 *                       [--dpkg DIR]
 */
#include "catalog/dpkg.h"
#include "catalog/schema.h"
#include "catalog/store_package.h"
#include "common/acklog.h"
#include "common/clock.h"
#include "common/tally.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_PIPELINE 256

/* A package on its way. */
typedef struct job {
    bool used;
    catalog_package package;
    int64_t sequence;
    uint64_t first_sent_us, sent_us;
} job;

typedef struct worker {
    const char *url, *name, *dpkg, *log_path;
    unsigned pipeline, lease_seconds;
    int64_t last_round; /* INT64_MAX: until SIGTERM */
    char id[128];       /* name and incarnation: sequence numbers begin at 1 for each */
    int log;
    int64_t sequence;
    uint64_t next_report_us;
    sluice_client *client;
    catalog_status *status;
    catalog_turn turn;
    bool lost_slice, broken;
    tally tally;
    job jobs[MAX_PIPELINE];
} worker;

static atomic_bool stopping; /* lock-free, so a signal handler may set it */

static void on_signal(int number)
{
    (void)number;
    stopping = true;
}

static void report(worker *self)
{
    uint64_t now = clock_us();
    if (now < self->next_report_us) return;
    self->next_report_us = now + 1000000;
    tally_print(stdout, "progress", &self->tally);
}

/* ---- one package ---- */

/* Sends a job, under a new number each time. Waits while the window is full. */
static void send_job(worker *self, job *one)
{
    sluice_cause cause;
    sluice_request *request = NULL;
    one->sequence = ++self->sequence;
    sluice_err err = catalog_store_package(self->client, &self->turn, one->sequence, &one->package, &request);
    if (err == SLUICE_OK) {
        one->sent_us = clock_us();
        if (one->first_sent_us == 0) one->first_sent_us = one->sent_us;
        err = sluice_submit(self->client, &request, one, NULL, &cause);
    } else {
        sluice_cause_set(&cause, err, "%s", sluice_err_text(err));
    }
    self->tally.requests++;
    if (err == SLUICE_OK) return;
    sluice_request_destroy(&request);
    fprintf(stderr, "%s: package %s: %s\n", self->name, one->package.name, cause.text);
    self->tally.failed++;
    self->broken = true;
    catalog_package_fini(&one->package);
    one->used = false;
}

/* What an answer means for its job: done, lost, again, or broken. */
static void on_answer(worker *self, job *one, sluice_err err, const sluice_cause *cause)
{
    bool again = false;
    if (err == SLUICE_OK) {
        tally_acknowledge(&self->tally, clock_us() - one->first_sent_us);
        acklog_add(self->log, "%s\t%" PRId64, self->id, one->sequence);
    } else if (err == SLUICE_GUARD_FAILED) {
        self->tally.refused++;
        self->lost_slice = true;
    } else if (sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) {
        self->tally.unknown++;
        again = true;
    } else if (sluice_err_retryable(err)) {
        self->tally.refused++;
        again = true;
    } else {
        self->tally.failed++;
        self->broken = true;
        fprintf(stderr, "%s: package %s: %s: %s\n", self->name, one->package.name, sluice_err_name(err), cause->text);
    }
    if (err != SLUICE_OK && (cause->sqlite_code & 0xff) == 5) self->tally.busy++; /* SQLITE_BUSY */
    if (again && !stopping && !self->lost_slice) {
        clock_sleep_ms(cause->retry_after_ms > 0 && cause->retry_after_ms < 1000 ? cause->retry_after_ms : 50);
        send_job(self, one);
        return;
    }
    catalog_package_fini(&one->package);
    one->used = false;
}

/* Takes answers: one at least if `wait`, else those that are there. */
static void collect(worker *self, bool wait)
{
    sluice_completion completion;
    while (sluice_poll(self->client, wait ? 200 : 0, &completion)) {
        on_answer(self, completion.context, completion.err, &completion.cause);
        sluice_result_destroy(&completion.result);
        wait = false;
    }
    report(self);
}

static job *free_job(worker *self)
{
    for (;;) {
        for (unsigned i = 0; i < self->pipeline; i++)
            if (!self->jobs[i].used) return &self->jobs[i];
        collect(self, true);
    }
}

/* ---- one slice ---- */

/* Writes all packages of the slice; false if it was not completed. */
static bool index_slice(worker *self)
{
    char error[512];
    self->lost_slice = false;
    if (!catalog_status_refresh(self->status, error, sizeof error)) {
        fprintf(stderr, "%s: %s\n", self->name, error);
        self->broken = true;
    }
    size_t n = catalog_status_stanzas(self->status);
    for (size_t i = 0; i < n && !stopping && !self->lost_slice && !self->broken; i++) {
        job *one = free_job(self);
        int found = catalog_status_package(self->status, i, (unsigned)self->turn.slice, CATALOG_SLICES, &one->package,
                                           error, sizeof error);
        if (found < 0) {
            fprintf(stderr, "%s: %s\n", self->name, error);
            self->broken = true;
        } else if (found > 0) {
            one->used = true;
            one->first_sent_us = 0;
            send_job(self, one);
            collect(self, false);
        }
    }
    while (sluice_client_inflight(self->client) > 0) collect(self, true);
    return !stopping && !self->lost_slice && !self->broken;
}

static void complain(worker *self, const char *what, sluice_err err, const sluice_cause *cause)
{
    /* Overload and a server that is away for a while pass; the loop tries again. */
    if (sluice_err_retryable(err)) {
        clock_sleep_ms(cause->retry_after_ms > 0 && cause->retry_after_ms < 1000 ? cause->retry_after_ms : 100);
        return;
    }
    fprintf(stderr, "%s: %s: %s: %s\n", self->name, what, sluice_err_name(err), cause->text);
    self->broken = true;
}

/* Claims a slice. 1: done; 0: none is free; -1: error. */
static int claim(worker *self)
{
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_value values[] = {sluice_text(self->id), sluice_integer(self->lease_seconds),
                             sluice_integer(self->last_round)};
    sluice_err err = sluice_exec(self->client, CATALOG_SQL_CLAIM, values, 3, &result, &cause);
    if (err != SLUICE_OK) {
        complain(self, "claim", err, &cause);
        return -1;
    }
    bool got = sluice_result_next(result);
    if (got) {
        self->turn = (catalog_turn){
            .worker = self->id,
            .lease_seconds = self->lease_seconds,
            .slice = sluice_result_int64(result, 0),
            .round = sluice_result_int64(result, 1)};
    }
    sluice_result_destroy(&result);
    return got ? 1 : 0;
}

/* Sweeps what the round did not find and hands the slice on. If the slice was lost meanwhile, nothing happens. */
static void finish(worker *self)
{
    sluice_cause cause;
    sluice_request *request = NULL;
    sluice_value sweep[] = {sluice_integer(self->turn.slice), sluice_integer(self->turn.round)};
    sluice_value done[] = {sluice_text(self->id), sweep[0], sweep[1]};
    sluice_err err = sluice_request_new(self->client, SLUICE_WRITE, &request);
    if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_FINISH, done, 3);
    if (err == SLUICE_OK) err = sluice_request_expect(request, 1);
    if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_SWEEP, sweep, 2);
    sluice_cause_set(&cause, err, "%s", sluice_err_text(err));
    if (err == SLUICE_OK) err = sluice_call(self->client, request, NULL, &cause);
    /* Without a definite yes the slice stays ours until the lease ends; whoever claims it then does the round again. */
    if (err != SLUICE_OK && err != SLUICE_GUARD_FAILED) complain(self, "finish", err, &cause);
    sluice_request_destroy(&request);
}

/* The number of complete rounds, -1 if it could not be read. */
static int64_t read_rounds(worker *self)
{
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_err err = sluice_query(self->client, CATALOG_SQL_ROUNDS, NULL, 0, &result, &cause);
    if (err != SLUICE_OK) {
        complain(self, "rounds", err, &cause);
        return -1;
    }
    int64_t rounds = sluice_result_next(result) ? sluice_result_int64(result, 0) : 0;
    sluice_result_destroy(&result);
    self->tally.reads++;
    self->tally.rounds = (uint64_t)rounds;
    return rounds;
}

/* ---- the program ---- */

/* Makes tables and slices, as often as it takes: every worker does it, the first one counts. */
static void make_schema(worker *self)
{
    sluice_cause cause;
    for (size_t i = 0; catalog_schema[i] != NULL && !stopping && !self->broken;) {
        sluice_err err = sluice_exec(self->client, catalog_schema[i], NULL, 0, NULL, &cause);
        if (err == SLUICE_OK)
            i++;
        else
            complain(self, "schema", err, &cause);
    }
    for (bool made = false; !made && !stopping && !self->broken;) {
        sluice_request *request = NULL;
        sluice_err err = sluice_request_new(self->client, SLUICE_WRITE, &request);
        if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_SLICE, NULL, 0);
        for (int64_t number = 0; number < CATALOG_SLICES && err == SLUICE_OK; number++) {
            sluice_value value = sluice_integer(number);
            err = sluice_request_row(request, &value, 1);
        }
        sluice_cause_set(&cause, err, "%s", sluice_err_text(err));
        if (err == SLUICE_OK) err = sluice_call(self->client, request, NULL, &cause);
        sluice_request_destroy(&request);
        made = err == SLUICE_OK;
        if (!made) complain(self, "slices", err, &cause);
    }
}

static void work(worker *self)
{
    make_schema(self);
    while (!stopping && !self->broken) {
        int claimed = claim(self);
        if (claimed > 0 && index_slice(self)) finish(self);
        int64_t rounds = read_rounds(self);
        if (rounds >= self->last_round) break;
        if (claimed == 0) clock_sleep_ms(100); /* the last slices are in others' hands */
        report(self);
    }
    /* A slice in hand is given back, so that nobody waits for its lease to end. */
    sluice_cause cause;
    sluice_value id = sluice_text(self->id);
    sluice_client_set_timeout(self->client, 2000);
    sluice_err err = sluice_exec(self->client, CATALOG_SQL_RELEASE, &id, 1, NULL, &cause);
    if (err != SLUICE_OK) fprintf(stderr, "%s: release: %s: %s\n", self->name, sluice_err_name(err), cause.text);
}

static void usage(FILE *file)
{
    fputs("Usage: catalog-worker --connect URL [options]\n"
          "Indexes the packages installed on this machine, together with other workers.\n"
          "  --connect URL   a gateway, e.g. tcp://127.0.0.1:7000\n"
          "  --worker NAME   how it calls itself (default: worker)\n"
          "  --rounds N      end when N rounds are complete (default: at SIGTERM)\n"
          "  --log FILE      append each acknowledged write to FILE\n"
          "  --pipeline N    packages on their way at a time, 1 to 256 (default: 8)\n"
          "  --lease S       seconds without a write after which a slice is free for others (default: 20)\n"
          "  --dpkg DIR      dpkg's directory (default: /var/lib/dpkg)\n",
          file);
}

static bool parse_options(worker *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"connect", required_argument, NULL, 'c'}, {"worker", required_argument, NULL, 'w'},
        {"rounds", required_argument, NULL, 'r'},  {"log", required_argument, NULL, 'l'},
        {"pipeline", required_argument, NULL, 'p'}, {"dpkg", required_argument, NULL, 'd'},
        {"lease", required_argument, NULL, 'e'},   {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c': self->url = optarg; break;
        case 'w': self->name = optarg; break;
        case 'r': self->last_round = strtoll(optarg, NULL, 10); break;
        case 'l': self->log_path = optarg; break;
        case 'p': self->pipeline = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'd': self->dpkg = optarg; break;
        case 'e': self->lease_seconds = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'h': usage(stdout); exit(0);
        default: return false;
        }
    }
    return optind == argc && self->url != NULL && self->pipeline >= 1 && self->pipeline <= MAX_PIPELINE &&
           self->last_round >= 1 && self->lease_seconds >= 1;
}

int main(int argc, char **argv)
{
    static worker self = {.name = "worker", .dpkg = "/var/lib/dpkg", .pipeline = 8, .last_round = INT64_MAX,
                          .lease_seconds = CATALOG_LEASE_SECONDS};
    sluice_cause cause;
    if (!parse_options(&self, argc, argv)) {
        usage(stderr);
        return 2;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    snprintf(self.id, sizeof self.id, "%.60s.%ld.%lld", self.name, (long)getpid(), (long long)time(NULL));
    self.log = acklog_open(self.log_path);
    self.status = catalog_status_new(self.dpkg);
    if (self.log < 0 || self.status == NULL) {
        fprintf(stderr, "%s: %s\n", self.log_path != NULL ? self.log_path : self.name, strerror(errno));
        return 1;
    }
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 30000; /* a package of 50,000 files takes its time, and so do those behind it */
    options.max_inflight = self.pipeline + 1;
    if (sluice_client_open(self.url, &options, &self.client, &cause) != SLUICE_OK) {
        fprintf(stderr, "%s: %s: %s\n", self.name, self.url, cause.text);
        return 1;
    }
    work(&self);
    tally_print(stdout, "done", &self.tally);
    sluice_client_close(&self.client);
    catalog_status_destroy(&self.status);
    close(self.log);
    return self.broken ? 1 : 0;
}
