/* SPDX-License-Identifier: MIT */
/* Asking a store's actors from a test; see ask.h. */
#include "support/support.h"
#include "support/ask.h"

#include <string.h>
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

static uint64_t next_correlation(void) {
    static _Atomic uint64_t next;
    return ++next;
}

static sluice_msg *request_new(const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = NULL;
    return sluice_msg_new(type, &msg) == SLUICE_OK ? msg : NULL;
}

sluice_msg *support_query_new(void) { return request_new(&sluice__v1__query_request__descriptor); }
sluice_msg *support_write_new(void) { return request_new(&sluice__v1__write_request__descriptor); }

static Sluice__V1__Statement *statement_new(sluice_msg *msg, const char *sql, size_t n, const int64_t *params) {
    Sluice__V1__Statement *statement = sluice_msg_alloc(msg, sizeof *statement);
    Sluice__V1__Value *values = sluice_msg_alloc(msg, (n + 1) * sizeof *values);
    Sluice__V1__Value **at = sluice_msg_alloc(msg, (n + 1) * sizeof *at);
    if (statement == NULL || values == NULL || at == NULL) return NULL;
    sluice__v1__statement__init(statement);
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement->sql.data = sluice_msg_memdup(msg, sql, strlen(sql));
    statement->sql.len = strlen(sql);
    for (size_t i = 0; i < n; i++) {
        sluice__v1__value__init(&values[i]);
        values[i].kind_case = SLUICE__V1__VALUE__KIND_INTEGER;
        values[i].integer = params[i];
        at[i] = &values[i];
    }
    statement->params = at;
    statement->n_params = n;
    return statement->sql.data != NULL ? statement : NULL;
}

bool support_add(sluice_msg *msg, const char *sql, size_t n, const int64_t *params) {
    Sluice__V1__Statement *statement = statement_new(msg, sql, n, params);
    bool reads = sluice_msg_is(msg, &sluice__v1__query_request__descriptor);
    Sluice__V1__QueryRequest *query = sluice_msg_body(msg);
    Sluice__V1__WriteRequest *write = sluice_msg_body(msg);
    size_t *count = reads ? &query->n_statements : &write->n_statements;
    Sluice__V1__Statement ***list = reads ? &query->statements : &write->statements;
    Sluice__V1__Statement **grown = sluice_msg_alloc(msg, (*count + 1) * sizeof *grown);
    if (statement == NULL || grown == NULL) return false;
    if (*count > 0) memcpy(grown, *list, *count * sizeof *grown);
    grown[(*count)++] = statement;
    *list = grown;
    return true;
}

sluice_err support_send_quiet(sl_port *port, sluice_pid to, sluice_msg **request, uint32_t timeout_ms,
                              uint64_t *correlation) {
    sluice_msg *msg = *request;
    msg->flags |= SL_MSG_ASK;
    msg->correlation = next_correlation();
    msg->deadline_ns = sl_now_ns() + (int64_t)timeout_ms * 1000000;
    if (correlation != NULL) *correlation = msg->correlation;
    sluice_err err = sl_port_send(port, to, request);
    sluice_msg_destroy(request);
    return err;
}

sluice_err support_wait_quiet(sl_port *port, uint32_t timeout_ms, sluice_msg **reply, uint64_t *correlation,
                              sluice_cause *cause) {
    *reply = NULL;
    sluice_msg *msg = NULL;
    sluice_err err = sl_port_recv(port, sl_now_ns() + (int64_t)timeout_ms * 1000000, &msg);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "no reply came");
    if (correlation != NULL) *correlation = msg->correlation;
    if (msg->flags & SL_MSG_ERROR) {
        err = sl_msg_cause(msg, cause);
        sluice_msg_destroy(&msg);
        return err;
    }
    *reply = msg;
    return SLUICE_OK;
}

sluice_err support_ask_quiet(sl_port *port, sluice_pid to, sluice_msg **request, uint32_t timeout_ms,
                             sluice_msg **reply, sluice_cause *cause) {
    uint64_t mine = 0, got = 0;
    sluice_msg *answer = NULL;
    if (*request == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "no request");
    sluice_err err = support_send_quiet(port, to, request, timeout_ms, &mine);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "sending");
    int64_t end_ns = sl_now_ns() + ((int64_t)timeout_ms + 10000) * 1000000; /* the answer may say EXPIRED */
    do {
        sluice_msg_destroy(&answer);
        int64_t left_ms = (end_ns - sl_now_ns()) / 1000000;
        got = 0;
        err = support_wait_quiet(port, left_ms > 0 ? (uint32_t)left_ms : 0, &answer, &got, cause);
    } while (got != mine && err != SLUICE_TIMEOUT && err != SLUICE_CLOSED);
    if (reply != NULL)
        *reply = answer;
    else
        sluice_msg_destroy(&answer);
    return err;
}

sluice_err support_read(sl_port *port, const char *sql, size_t n, const int64_t *params, int64_t *first,
                        sluice_cause *cause) {
    sluice_msg *request = support_query_new(), *reply = NULL;
    if (request == NULL || !support_add(request, sql, n, params)) {
        sluice_msg_destroy(&request);
        return sluice_cause_set(cause, SLUICE_NOMEM, "no request");
    }
    sluice_err err =
        support_ask_quiet(port, sluice_whereis(sl_port_runtime(port), "app/readers"), &request, 10000, &reply, cause);
    if (err == SLUICE_OK && first != NULL) *first = support_result(reply, 0);
    sluice_msg_destroy(&reply);
    return err;
}

sluice_err support_write(sl_port *port, const char *sql, size_t n, const int64_t *params, sluice_cause *cause) {
    sluice_msg *request = support_write_new();
    if (request == NULL || !support_add(request, sql, n, params)) {
        sluice_msg_destroy(&request);
        return sluice_cause_set(cause, SLUICE_NOMEM, "no request");
    }
    return support_ask_quiet(port, sluice_whereis(sl_port_runtime(port), "app/writer"), &request, 10000, NULL, cause);
}

int64_t support_result(const sluice_msg *reply, size_t at) {
    if (reply == NULL || !sluice_msg_is(reply, &sluice__v1__query_reply__descriptor)) return INT64_MIN;
    const Sluice__V1__QueryReply *body = sluice_msg_body(reply);
    if (at >= body->n_results || body->results[at]->rows == NULL) return INT64_MIN;
    const Sluice__V1__Table *rows = body->results[at]->rows;
    if (rows->rows == 0 || rows->n_columns == 0 || rows->columns[0]->n_integers == 0) return INT64_MIN;
    return rows->columns[0]->integers[0];
}
