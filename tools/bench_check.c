/* SPDX-License-Identifier: MIT */
/* After a bench run: does the file hold every acknowledged row exactly once, and none that was answered no?
 *
 * The scan is by stock SQLite, over the whole table, and every row's text is made again from its id and compared.
 * Updates overwrite each other, so of them the numbers are compared: acknowledged, and counted by the rows themselves.
 */
#include "direct.h"
#include "bench.h"

#include <stdlib.h>

typedef struct check {
    const sl_bench_report *reports;
    unsigned n_clients;
    uint8_t **seen; /* per client and sequence: how often the row was found, at most 255 */
    uint64_t strangers, damaged;
} check;

static void on_row(void *context, int64_t id, bool body_right) {
    check *self = context;
    uint64_t client = (uint64_t)id >> SL_BENCH_SEQUENCE_BITS;
    uint64_t sequence = (uint64_t)id & (((uint64_t)1 << SL_BENCH_SEQUENCE_BITS) - 1);
    if (client >= self->n_clients || sequence >= self->reports[client].counts.n_outcomes) {
        self->strangers++;
        return;
    }
    if (!body_right) {
        self->damaged++; /* the row that was acknowledged is then missing, and found so */
        return;
    }
    if (self->seen[client][sequence] < 255) self->seen[client][sequence]++;
}

static void judge(const check *self, sl_bench_total *total) {
    for (unsigned c = 0; c < self->n_clients; c++) {
        const sl_bench_report *report = &self->reports[c];
        for (uint64_t n = 0; n < report->counts.n_outcomes; n++) {
            uint8_t seen = self->seen[c][n], outcome = report->outcomes[n];
            if (seen > 1) total->doubled += (uint64_t)seen - 1;
            if (outcome == SL_OUTCOME_ACKNOWLEDGED) {
                total->acknowledged++;
                if (!seen) total->lost++;
            } else if (outcome != SL_OUTCOME_UNKNOWN && seen) {
                total->phantoms++;
            }
        }
        total->lost += report->counts.reads_missing;
        total->doubled += report->counts.reads_doubled;
    }
    total->phantoms += self->strangers;
}

static sluice_err check_updates(const sl_bench_plan *plan, const sl_bench_report *reports, sl_bench_total *total,
                                sluice_cause *cause) {
    int64_t counted = 0;
    uint64_t unknown = 0;
    sluice_err err = sl_direct_count_updates(plan->path, &counted, cause);
    if (!err) err = sl_direct_integrity(plan->path, cause);
    if (err) return err;
    for (unsigned c = 0; c < plan->n_clients; c++)
        for (uint64_t n = 0; n < reports[c].counts.n_outcomes; n++) {
            if (reports[c].outcomes[n] == SL_OUTCOME_ACKNOWLEDGED) total->acknowledged++;
            if (reports[c].outcomes[n] == SL_OUTCOME_UNKNOWN) unknown++;
        }
    uint64_t found = (uint64_t)(counted - plan->first_updates);
    if (found < total->acknowledged) total->lost = total->acknowledged - found;
    if (found > total->acknowledged + unknown) total->doubled = found - total->acknowledged - unknown;
    return SLUICE_OK;
}

sluice_err sl_bench_check(const sl_bench_plan *plan, const sl_bench_report *reports, sl_bench_total *total,
                          sluice_cause *cause) {
    if (plan->work == SL_WORK_UPDATE) return check_updates(plan, reports, total, cause);
    check self = {.reports = reports, .n_clients = plan->n_clients};
    sluice_err err = SLUICE_OK;
    self.seen = calloc(plan->n_clients, sizeof *self.seen);
    if (!self.seen) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (unsigned i = 0; !err && i < plan->n_clients; i++) {
        self.seen[i] = calloc(reports[i].counts.n_outcomes + 1, 1);
        if (!self.seen[i]) err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    if (!err) err = sl_direct_scan(plan->path, plan->first_rowid, on_row, &self, cause);
    if (!err) err = sl_direct_integrity(plan->path, cause);
    if (!err) judge(&self, total);
    for (unsigned i = 0; i < plan->n_clients; i++) free(self.seen[i]);
    free(self.seen);
    return err;
}
