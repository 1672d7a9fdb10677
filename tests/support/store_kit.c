/* SPDX-License-Identifier: MIT */
/* A store for tests; see store_kit.h. */
#include "support/store_kit.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_NS ((int64_t)20 * 1000000000)

void kit_new(store_kit *kit) {
    memset(kit, 0, sizeof *kit);
    kit->directory = support_directory_new();
    kit->path = support_path(kit->directory, "test.db");
    sluice_store_options_init(&kit->options);
    kit->options.path = kit->path;
    assert_ok(sluice_runtime_new(NULL, &kit->runtime, &kit->cause), kit->cause);
}

sluice_err kit_try_open(store_kit *kit) {
    return sl_store_open(kit->runtime, &kit->options, kit->vfs, &kit->store, &kit->cause);
}

void kit_open(store_kit *kit) {
    assert_ok(kit_try_open(kit), kit->cause);
    if (kit->port == NULL) assert_ok(sl_port_open(kit->runtime, &kit->port, &kit->cause), kit->cause);
}

void kit_close(store_kit *kit) { sluice_store_close(&kit->store); }

void kit_free(store_kit *kit) {
    kit_close(kit);
    sl_port_close(&kit->port);
    sluice_runtime_destroy(&kit->runtime);
    free(kit->path);
    support_directory_remove(&kit->directory);
}

sluice_msg *kit_request(void) {
    sluice_msg *request = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__write_request__descriptor, &request), SLUICE_OK);
    return request;
}

Sluice__V1__Statement *kit_add(sluice_msg *request, const char *sql, size_t n_params, const sluice_value *params) {
    Sluice__V1__WriteRequest *body = sluice_msg_body(request);
    Sluice__V1__Statement *statement = sluice_msg_alloc(request, sizeof *statement);
    sluice__v1__statement__init(statement);
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement->sql.len = strlen(sql);
    statement->sql.data = sluice_msg_memdup(request, sql, strlen(sql));
    statement->n_params = n_params;
    statement->params = sluice_msg_alloc(request, n_params * sizeof(Sluice__V1__Value *));
    for (size_t i = 0; i < n_params; i++) {
        statement->params[i] = sluice_msg_alloc(request, sizeof(Sluice__V1__Value));
        assert_int_equal(sl_value_pack(&request->arena, &params[i], statement->params[i]), SLUICE_OK);
    }
    Sluice__V1__Statement **grown = sluice_msg_alloc(request, (body->n_statements + 1) * sizeof *grown);
    if (body->n_statements != 0) memcpy(grown, body->statements, body->n_statements * sizeof *grown);
    grown[body->n_statements++] = statement;
    body->statements = grown;
    return statement;
}

void kit_identify(sluice_msg *request, uint8_t client, uint64_t sequence, uint32_t attempt, uint64_t ack_upto) {
    Sluice__V1__WriteRequest *body = sluice_msg_body(request);
    body->receipt = 1;
    memset(request->identity.client, client, sizeof request->identity.client);
    request->identity.sequence = sequence;
    request->identity.attempt = attempt;
    request->identity.ack_upto = ack_upto;
}

uint64_t kit_send(store_kit *kit, sluice_msg *request, unsigned timeout_ms) {
    request->flags |= SL_MSG_ASK;
    request->correlation = ++kit->correlation;
    if (timeout_ms != 0) request->deadline_ns = sl_now_ns() + (int64_t)timeout_ms * 1000000;
    assert_int_equal(sl_port_send(kit->port, atomic_load(&kit->store->writer), &request), SLUICE_OK);
    return kit->correlation;
}

sluice_msg *kit_receive(store_kit *kit) {
    sluice_msg *reply = NULL;
    assert_int_equal(sl_port_recv(kit->port, sl_now_ns() + ANSWER_NS, &reply), SLUICE_OK);
    assert_true((reply->flags & SL_MSG_REPLY) != 0);
    return reply;
}

sluice_err kit_outcome(store_kit *kit, const sluice_msg *reply) {
    return (reply->flags & SL_MSG_ERROR) != 0 ? sl_msg_cause(reply, &kit->cause) : SLUICE_OK;
}

const Sluice__V1__WriteReply *kit_reply(const sluice_msg *reply) {
    assert_true(sluice_msg_is(reply, &sluice__v1__write_reply__descriptor));
    return sluice_msg_body(reply);
}

sluice_err kit_ask(store_kit *kit, sluice_msg *request, sluice_msg **reply_out) {
    uint64_t correlation = kit_send(kit, request, 0);
    sluice_msg *reply = kit_receive(kit);
    assert_int_equal(reply->correlation, correlation);
    sluice_err err = kit_outcome(kit, reply);
    if (reply_out != NULL)
        *reply_out = reply;
    else
        sluice_msg_destroy(&reply);
    return err;
}

sluice_err kit_exec(store_kit *kit, const char *sql) {
    sluice_msg *request = kit_request();
    (void)kit_add(request, sql, 0, NULL);
    return kit_ask(kit, request, NULL);
}

int64_t kit_integer(store_kit *kit, const char *sql) {
    sluice_msg *request = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__query_request__descriptor, &request), SLUICE_OK);
    Sluice__V1__QueryRequest *body = sluice_msg_body(request);
    Sluice__V1__Statement *statement = sluice_msg_alloc(request, sizeof *statement), **list;
    sluice__v1__statement__init(statement);
    statement->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement->sql.len = strlen(sql);
    statement->sql.data = sluice_msg_memdup(request, sql, strlen(sql));
    list = sluice_msg_alloc(request, sizeof(*list));
    list[0] = statement;
    body->statements = list;
    body->n_statements = 1;
    request->flags |= SL_MSG_ASK;
    request->correlation = ++kit->correlation;
    assert_int_equal(sl_port_send(kit->port, atomic_load(&kit->store->readers[0]), &request), SLUICE_OK);
    sluice_msg *reply = kit_receive(kit);
    if (kit_outcome(kit, reply) != SLUICE_OK)
        fail_msg("%s: %s (answer to %d)", sql, kit->cause.text, (int)reply->correlation);
    const Sluice__V1__QueryReply *answer = sluice_msg_body(reply);
    assert_int_equal(answer->n_results, 1);
    assert_true(answer->results[0]->rows != NULL && answer->results[0]->rows->rows > 0);
    assert_int_equal(answer->results[0]->rows->columns[0]->type, SLUICE__V1__VALUE_TYPE__VALUE_INTEGER);
    int64_t value = answer->results[0]->rows->columns[0]->integers[0];
    sluice_msg_destroy(&reply);
    return value;
}

sluice_store_stats kit_stats(store_kit *kit) {
    sluice_store_stats stats;
    sluice_store_stats_read(kit->store, &stats);
    return stats;
}
