/* SPDX-License-Identifier: MIT */
/* The lease of an interactive transaction; see writer_lease.h.
 *
 * Owning thread: the writer's.
 *
 *            grant                    step: idle limit counts anew
 *   FREE ------------------> HELD ---------------------------------> HELD
 *    ^                        |
 *    `--- commit, rollback, destroyed by a step, idle or total limit, break
 *
 * Messages: TransactionBegin, WriteRequest with a transaction, TransactionEnd; answers TransactionBegun, WriteReply.
 *
 * Invariants
 *  1. HELD exactly while the group is leased.
 *  2. A step's statements end at the total limit (their deadline is lowered to it), so that a lease is never held longer
 *     than the limit and the time it takes to undo it.
 *  3. The idle limit counts from the latest answer; one timer, set for the earlier of the two limits, is set anew when
 *     it fires too early, so that a step costs no timer.
 *  4. `ended` is called once per lease, after its last answer, when the connection has no transaction.
 */
#include "writer_lease.h"

#include <stdlib.h>
#include <string.h>

#include "port.h"

#define NS_PER_MS INT64_C(1000000)

static const char idle_text[] = "the transaction was idle for too long and was rolled back";
static const char total_text[] = "the transaction took too long and was rolled back";
static const char destroyed_text[] = "a statement ended the transaction; it was rolled back";
static const char ended_text[] = "the transaction was ended by its client";
static const char failed_text[] = "the transaction could not be committed and was rolled back";

struct sl_writer_lease {
    sl_writer_lease_options options;
    bool held;
    uint64_t id;           /* of the latest */
    const char *why;       /* it is over */
    int64_t idle_ns;       /* the limit */
    int64_t idle_until_ns, total_until_ns;
    sluice_timer timer;
};

bool sl_writer_lease_held(const sl_writer_lease *self) { return self->held; }

bool sl_writer_lease_is(const sl_writer_lease *self, uint64_t transaction) { return self->held && self->id == transaction; }

/* ---- ends ---- */

/* The group is free again. */
static void over(sl_writer_lease *self, const char *why) {
    self->held = false;
    self->why = why;
    sluice_timer_cancel(self->options.self, &self->timer);
    self->options.ended(self->options.context);
}

void sl_writer_lease_break(sl_writer_lease *self, const char *why) {
    if (!self->held) return;
    sl_group_lease_rollback(self->options.group);
    sl_count(self->options.store, transactions_rolled_back, 1);
    over(self, why);
}

/* Why it has to end now; NULL: it need not. */
static const char *limit_passed(const sl_writer_lease *self) {
    int64_t now_ns = sl_now_ns();
    if (now_ns >= self->total_until_ns) return total_text;
    return now_ns >= self->idle_until_ns ? idle_text : NULL;
}

static void expire(sl_writer_lease *self, const char *why) {
    sl_count(self->options.store, transactions_expired, 1);
    sl_writer_lease_break(self, why);
}

void sl_writer_lease_check(sl_writer_lease *self) {
    const char *why = self->held ? limit_passed(self) : NULL;
    if (why != NULL) expire(self, why);
}

static void on_timer(sluice_actor *actor, void *context);

static sluice_err set_timer(sl_writer_lease *self) {
    int64_t until_ns = self->idle_until_ns < self->total_until_ns ? self->idle_until_ns : self->total_until_ns;
    int64_t left_ms = (until_ns - sl_now_ns()) / NS_PER_MS + 1;
    return sluice_timer_start(self->options.self, left_ms > 0 ? (uint32_t)left_ms : 0, 0, on_timer, self, &self->timer);
}

static void on_timer(sluice_actor *actor, void *context) {
    (void)actor;
    sl_writer_lease *self = context;
    self->timer = 0;
    sl_writer_lease_check(self);
    /* Without memory for a timer the writer's tick looks after it. */
    if (self->held && set_timer(self) != SLUICE_OK) self->timer = 0;
}

/* ---- answers ---- */

static void answer_error(sl_writer_lease *self, sluice_msg **request, const sluice_cause *cause) {
    if (sluice_msg_is_ask(*request)) {
        sl_msg_turn_error(*request, cause);
        self->options.answer(self->options.context, request);
    } else {
        sluice_msg_destroy(request);
    }
}

void sl_writer_lease_refuse(sl_writer_lease *self, uint64_t transaction, sluice_msg **request) {
    sluice_cause cause;
    bool latest = transaction == self->id && self->why != NULL;
    (void)sluice_cause_set(&cause, SLUICE_TRANSACTION_EXPIRED, "%s",
                           latest ? self->why : "no such transaction is open: it is over, or never began");
    answer_error(self, request, &cause);
}

/* ---- begin ---- */

static uint32_t lower(uint32_t asked, uint32_t limit) { return asked != 0 && asked < limit ? asked : limit; }

/* Turns a TransactionBegin into its answer. */
static sluice_err turn_begun(sluice_msg *msg, uint64_t id, uint32_t idle_ms, uint32_t total_ms) {
    sluice_err err = sl_msg_turn(msg, &sluice__v1__transaction_begun__descriptor);
    if (err != SLUICE_OK) return err;
    Sluice__V1__TransactionBegun *begun = sluice_msg_body(msg);
    begun->transaction = id;
    begun->idle_ms = idle_ms;
    begun->total_ms = total_ms;
    return SLUICE_OK;
}

void sl_writer_lease_grant(sl_writer_lease *self, sluice_msg **begin) {
    const sluice_store_options *limits = &self->options.store->options;
    const Sluice__V1__TransactionBegin *body = sluice_msg_body(*begin);
    uint32_t idle_ms = lower(body->idle_ms, limits->transaction_idle_ms);
    uint32_t total_ms = lower(body->total_ms, limits->transaction_total_ms);
    uint64_t id = body->transaction;
    sluice_cause cause;
    if (!sluice_msg_is_ask(*begin)) { /* nobody would know */
        sluice_msg_destroy(begin);
        return;
    }
    sluice_err err = sl_group_lease_begin(self->options.group, &cause);
    if (err != SLUICE_OK) {
        answer_error(self, begin, &cause);
        return;
    }
    int64_t now_ns = sl_now_ns();
    self->id = id;
    self->why = NULL;
    self->idle_ns = idle_ms * NS_PER_MS;
    self->idle_until_ns = now_ns + self->idle_ns;
    self->total_until_ns = now_ns + total_ms * NS_PER_MS;
    if (set_timer(self) != SLUICE_OK || turn_begun(*begin, id, idle_ms, total_ms) != SLUICE_OK) {
        sluice_timer_cancel(self->options.self, &self->timer);
        sl_group_lease_rollback(self->options.group);
        (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
        if (((*begin)->flags & SL_MSG_REPLY) != 0) { /* turned already: back, for turn_error */
            (*begin)->flags = SL_MSG_ASK;
            sluice_pid asker = (*begin)->to;
            (*begin)->to = (*begin)->from;
            (*begin)->from = asker;
        }
        answer_error(self, begin, &cause);
        return;
    }
    self->held = true;
    self->options.answer(self->options.context, begin);
}

/* ---- steps and end ---- */

void sl_writer_lease_step(sl_writer_lease *self, sluice_msg **request) {
    int64_t deadline_ns = (*request)->deadline_ns;
    if (deadline_ns == 0 || deadline_ns > self->total_until_ns) (*request)->deadline_ns = self->total_until_ns;
    bool goes_on = sl_group_lease_step(self->options.group, request);
    if (!goes_on) {
        sl_count(self->options.store, transactions_rolled_back, 1);
        over(self, destroyed_text);
        return;
    }
    int64_t now_ns = sl_now_ns();
    self->idle_until_ns = now_ns + self->idle_ns;
    if (now_ns >= self->total_until_ns) expire(self, total_text);
}

void sl_writer_lease_end(sl_writer_lease *self, sluice_msg **end) {
    const Sluice__V1__TransactionEnd *body = sluice_msg_body(*end);
    if (body->commit) {
        bool committed;
        if (sl_group_lease_commit(self->options.group, end, &committed)) { /* refused, and it goes on */
            self->idle_until_ns = sl_now_ns() + self->idle_ns;
            return;
        }
        if (committed)
            sl_count(self->options.store, transactions, 1);
        else
            sl_count(self->options.store, transactions_rolled_back, 1);
        over(self, committed ? ended_text : failed_text);
        return;
    }
    sl_group_lease_rollback(self->options.group);
    sl_count(self->options.store, transactions_rolled_back, 1);
    if (!sluice_msg_is_ask(*end))
        sluice_msg_destroy(end);
    else if (sl_msg_turn(*end, &sluice__v1__write_reply__descriptor) == SLUICE_OK)
        self->options.answer(self->options.context, end);
    else
        sluice_msg_destroy(end); /* the client's own clock ends it; there is nothing to find out */
    over(self, ended_text);
}

/* ---- new and destroy ---- */

sluice_err sl_writer_lease_new(const sl_writer_lease_options *options, sl_writer_lease **out, sluice_cause *cause) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    (*out)->options = *options;
    return SLUICE_OK;
}

void sl_writer_lease_destroy(sl_writer_lease **lease) {
    sl_writer_lease *self = *lease;
    if (self == NULL) return;
    *lease = NULL;
    if (self->held) {
        sl_group_lease_rollback(self->options.group);
        sl_count(self->options.store, transactions_rolled_back, 1);
    }
    sluice_timer_cancel(self->options.self, &self->timer);
    free(self);
}
