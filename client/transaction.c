/* SPDX-License-Identifier: MIT */
/* Interactive transactions, as the client sees them.
 *
 *          begin                                   commit OK, definite no; rollback; lost
 *   (none) -----> OPEN --exec, query, call--> OPEN ---------------------------------------> OVER
 *                  |  commit ended UNKNOWN                                                    ^
 *                  `----------------------> DOUBT ------ commit again: OK, definite no -------'
 *
 * The lease itself is the store's. Here is only kept what is known of it, so that nothing is sent in vain, and so that a
 * commit whose answer was lost is asked for again under the same id and no other.
 *
 * Invariants
 *  1. The number is random, chosen here: the server can be told to roll back also when the answer to begin was lost.
 *  2. A step is sent once. If its answer is lost, nobody can say what the transaction holds: it is rolled back.
 *  3. commit's request is made once and is the only one that is sent in DOUBT.
 *  4. client->transaction points here from begin until OVER, and client is NULL once the client was closed.
 */
#include "internal.h"

#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { GRACE_MS = 500 }; /* beyond the total limit a step has no answer to wait for */
#define NS_PER_MS INT64_C(1000000)

typedef enum state { OPEN, DOUBT, OVER } state;

struct sluice_transaction {
    sluice_client *client; /* NULL: closed */
    state state;
    uint64_t id;
    uint32_t idle_ms, total_ms;
    int64_t until_ns;       /* the total limit, a little late: counted from the answer to begin */
    sluice_request *commit; /* NULL until the first */
};

void sluice_transaction_options_init(sluice_transaction_options *options) {
    *options = (sluice_transaction_options){.idle_ms = 0};
}

bool sluice_transaction_is_over(const sluice_transaction *self) { return self->state == OVER; }

void sluice_transaction_limits(const sluice_transaction *self, uint32_t *idle_ms, uint32_t *total_ms) {
    *idle_ms = self->idle_ms;
    *total_ms = self->total_ms;
}

static void set_over(sluice_transaction *self) {
    self->state = OVER;
    if (self->client != NULL && self->client->transaction == self) self->client->transaction = NULL;
}

static sluice_msg *end_new(sluice_transaction *self, bool commit) {
    sluice_msg *msg = sl_pool_take(self->client->pool, &sluice__v1__transaction_end__descriptor);
    if (msg == NULL) return NULL;
    Sluice__V1__TransactionEnd *body = (Sluice__V1__TransactionEnd *)msg->body;
    body->transaction = self->id;
    body->commit = commit;
    return msg;
}

/* Lets the server roll back soon, if it can be told; else it does so at the idle limit. */
static void tell_rollback(sluice_transaction *self) {
    sluice_client *client = self->client;
    const sl_transport_ops *ops = client->transport->ops;
    if (client->closed || !client->connected) return;
    sluice_msg *msg = end_new(self, false);
    if (msg == NULL) return;
    if (ops->send(client->transport, &msg, client->writer, sl_now_ns()) == SLUICE_OK) sl_client_flush(client);
    sl_pool_give(client->pool, &msg);
}

void sl_transaction_abandon(sluice_transaction *self) {
    if (self == NULL) return;
    if (self->state == OPEN) tell_rollback(self);
    set_over(self);
    self->client = NULL;
}

void sluice_transaction_destroy(sluice_transaction **transaction) {
    if (transaction == NULL || *transaction == NULL) return;
    sluice_transaction *self = *transaction;
    *transaction = NULL;
    if (self->client != NULL) {
        if (self->state == OPEN) tell_rollback(self);
        set_over(self);
        sl_client_settle_fd(self->client);
    }
    sluice_request_destroy(&self->commit);
    free(self);
}

/* ---- begin ---- */

static sluice_err draw_id(uint64_t *out, sluice_cause *cause) {
    do {
        if (getrandom(out, sizeof *out, 0) != (ssize_t)sizeof *out && errno != EINTR)
            return sluice_cause_set(cause, SLUICE_SYSTEM, "no random bytes: %s", strerror(errno));
    } while (*out == 0);
    return SLUICE_OK;
}

static sluice_err ask_begin(sluice_transaction *self, const sluice_transaction_options *options, sluice_cause *cause) {
    sluice_client *client = self->client;
    sluice_msg *msg = sl_pool_take(client->pool, &sluice__v1__transaction_begin__descriptor), *reply = NULL;
    if (msg == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a transaction");
    Sluice__V1__TransactionBegin *body = (Sluice__V1__TransactionBegin *)msg->body;
    body->transaction = self->id;
    body->idle_ms = options->idle_ms;
    body->total_ms = options->total_ms;
    sl_outgoing outgoing = {
        .kind = SL_FLIGHT_ASK, .to = client->writer, .msg = &msg, .timeout_ms = client->timeout_ms};
    sluice_err err = sl_client_call(client, &outgoing, NULL, &reply, cause);
    sl_pool_give(client->pool, &msg);
    if (err != SLUICE_OK) return err;
    const Sluice__V1__TransactionBegun *begun = (const Sluice__V1__TransactionBegun *)reply->body;
    if (reply->type != &sluice__v1__transaction_begun__descriptor || begun->transaction != self->id) {
        err = sluice_cause_set(cause, SLUICE_IO, "the server answered a begin with something else");
    } else {
        self->idle_ms = begun->idle_ms;
        self->total_ms = begun->total_ms;
        self->until_ns = sl_now_ns() + begun->total_ms * NS_PER_MS;
    }
    sl_pool_give(client->pool, &reply);
    return err;
}

sluice_err sluice_transaction_begin(sluice_client *client, const sluice_transaction_options *options,
                                    sluice_transaction **out, sluice_cause *cause) {
    *out = NULL;
    sluice_transaction_options defaults;
    sluice_transaction_options_init(&defaults);
    if (client->transaction != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "this client has a transaction that is not over");
    sluice_transaction *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a transaction");
    self->client = client;
    sluice_err err = draw_id(&self->id, cause);
    if (err == SLUICE_OK) err = ask_begin(self, options != NULL ? options : &defaults, cause);
    if (err != SLUICE_OK) {
        /* Perhaps it was granted and only the answer is missing. */
        if (sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) tell_rollback(self);
        free(self);
        return err;
    }
    client->transaction = self;
    *out = self;
    return SLUICE_OK;
}

/* ---- steps ---- */

static sluice_err check_open(const sluice_transaction *self, sluice_cause *cause) {
    if (self->client == NULL) return sluice_cause_set(cause, SLUICE_TRANSACTION_EXPIRED, "its client was closed");
    if (self->state == DOUBT)
        return sluice_cause_set(cause, SLUICE_INVALID, "its commit ended unknown: commit again to find out");
    if (self->state == OVER) return sluice_cause_set(cause, SLUICE_TRANSACTION_EXPIRED, "the transaction is over");
    return SLUICE_OK;
}

static uint32_t step_timeout(const sluice_transaction *self) {
    int64_t left_ms = (self->until_ns - sl_now_ns()) / NS_PER_MS + GRACE_MS;
    if (left_ms < 1) left_ms = 1;
    return left_ms < (int64_t)self->client->timeout_ms ? (uint32_t)left_ms : self->client->timeout_ms;
}

/* Errors that say that nobody holds the lease any more, or that nobody knows what it holds (invariant 2). */
static bool ends_it(sluice_err code) {
    switch (code) {
    case SLUICE_TRANSACTION_EXPIRED:
    case SLUICE_CLOSED:
    case SLUICE_NO_ACTOR:
    case SLUICE_UNREACHABLE:
        return true;
    default:
        return sluice_err_applied(code) != SLUICE_APPLIED_NO;
    }
}

static sluice_err take_step(sluice_transaction *self, sl_outgoing *outgoing, sluice_result **out,
                            sluice_cause *cause) {
    outgoing->kind = SL_FLIGHT_STEP;
    outgoing->to = self->client->writer;
    outgoing->timeout_ms = step_timeout(self);
    sluice_err err = sl_client_call(self->client, outgoing, out, NULL, cause);
    if (err == SLUICE_OK || !ends_it(err)) return err;
    if (err != SLUICE_TRANSACTION_EXPIRED) {
        tell_rollback(self);
        if (err != SLUICE_FATAL) { /* for the caller all of them mean the same, and it is a definite no */
            (void)sluice_cause_wrap(cause, "the transaction is lost and will be rolled back");
            if (cause != NULL) cause->code = SLUICE_TRANSACTION_EXPIRED;
            err = SLUICE_TRANSACTION_EXPIRED;
        }
    }
    set_over(self);
    return err;
}

sluice_err sluice_transaction_exec(sluice_transaction *self, const char *sql, const sluice_value *params,
                                   size_t n_params, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_err err = check_open(self, cause);
    if (err != SLUICE_OK) return err;
    if (sql == NULL) return sl_client_refuse_statement(SLUICE_INVALID, cause);
    sluice_request request = sl_client_request_of_one(self->client, SLUICE_WRITE);
    if (request.msg == NULL) return sl_client_refuse_statement(SLUICE_NOMEM, cause);
    err = sl_request_add_statement(&request, sql, strlen(sql), params, n_params);
    if (err != SLUICE_OK) {
        sl_client_refuse_statement(err, cause);
    } else {
        ((Sluice__V1__WriteRequest *)request.msg->body)->transaction = self->id;
        sl_outgoing outgoing = {.msg = &request.msg};
        err = take_step(self, &outgoing, out, cause);
    }
    sl_pool_give(self->client->pool, &request.msg);
    return err;
}

sluice_err sluice_transaction_query(sluice_transaction *self, const char *sql, const sluice_value *params,
                                    size_t n_params, sluice_result **out, sluice_cause *cause) {
    return sluice_transaction_exec(self, sql, params, n_params, out, cause);
}

sluice_err sluice_transaction_call(sluice_transaction *self, sluice_request *request, sluice_result **out,
                                   sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_err err = check_open(self, cause);
    if (err == SLUICE_OK) err = sl_client_prepare(self->client, request, cause);
    if (err != SLUICE_OK) return err;
    if (request->kind != SLUICE_WRITE || request->unknown)
        return sluice_cause_set(cause, SLUICE_INVALID, request->unknown ? "this request ended unknown: ask with "
                                "sluice_call_again" : "a transaction takes WRITE requests");
    Sluice__V1__WriteRequest *body = (Sluice__V1__WriteRequest *)request->msg->body;
    body->transaction = self->id;
    body->receipt = false;
    request->frozen = true;
    sl_outgoing outgoing = {.msg = &request->msg, .request = request};
    err = take_step(self, &outgoing, out, cause);
    body->transaction = 0;
    request->called = false; /* it has no id to be asked for */
    return err;
}

/* ---- the end ---- */

static sluice_err make_commit(sluice_transaction *self) {
    if (self->commit != NULL) return SLUICE_OK;
    sluice_err err = sluice_request_new(self->client, SLUICE_WRITE, &self->commit);
    if (err != SLUICE_OK) return err;
    sl_pool_give(self->client->pool, &self->commit->msg);
    self->commit->msg = end_new(self, true);
    if (self->commit->msg != NULL) return SLUICE_OK;
    sluice_request_destroy(&self->commit);
    return SLUICE_NOMEM;
}

sluice_err sluice_transaction_commit(sluice_transaction *self, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_err err = self->state == DOUBT && self->client != NULL ? SLUICE_OK : check_open(self, cause);
    if (err != SLUICE_OK) return err;
    if (self->state == DOUBT && !self->commit->unknown)
        return sluice_cause_set(cause, SLUICE_UNKNOWN, "the answer was lost, and there is no receipt to ask for");
    err = make_commit(self);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory for a commit");
    err = sl_client_call_request(self->client, self->commit, out, cause);
    if (sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN)
        self->state = DOUBT;
    else if (err == SLUICE_OK || !sluice_err_retryable(err))
        set_over(self);
    else
        self->state = OPEN; /* it was not tried; perhaps there is still time */
    return err;
}

sluice_err sluice_transaction_rollback(sluice_transaction *self, sluice_cause *cause) {
    if (self->state == DOUBT || self->client == NULL) return check_open(self, cause);
    if (self->state == OVER) {
        bool committed = self->commit != NULL && self->commit->called && self->commit->ended == SLUICE_OK;
        if (!committed) return SLUICE_OK;
        return sluice_cause_set(cause, SLUICE_INVALID, "the transaction was committed");
    }
    sluice_client *client = self->client;
    sluice_msg *msg = end_new(self, false), *reply = NULL;
    set_over(self);
    if (msg == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory; it ends at its limit");
    sl_outgoing outgoing = {
        .kind = SL_FLIGHT_ASK, .to = client->writer, .msg = &msg, .timeout_ms = client->timeout_ms};
    sluice_err err = sl_client_call(client, &outgoing, NULL, &reply, cause);
    sl_pool_give(client->pool, &msg);
    sl_pool_give(client->pool, &reply);
    return err;
}
