/* SPDX-License-Identifier: MIT */
/* The client's public calls: open and close, simple calls, requests, pipelining, and the host's own actors. */
#include "internal.h"

#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    DEFAULT_TIMEOUT_MS = 5000,
    DEFAULT_INFLIGHT = 1024,
    MAX_INFLIGHT = 1 << 20,
    CLOSE_MS = 500, /* closing takes no longer */
};
#define DEFAULT_MESSAGE_BYTES (64u << 20)
#define MAX_MESSAGE_BYTES (1u << 30)
#define MAX_TIMEOUT_MS ((uint32_t)INT32_MAX)
#define NS_PER_MS INT64_C(1000000)

void sluice_client_options_init(sluice_client_options *options) {
    *options = (sluice_client_options){
        .store = "app",
        .timeout_ms = DEFAULT_TIMEOUT_MS,
        .max_inflight = DEFAULT_INFLIGHT,
        .max_message_bytes = DEFAULT_MESSAGE_BYTES,
        .receipts_default = true,
    };
}

/* ---- open and close ---- */

static sluice_err check_options(const sluice_client_options *options, sluice_cause *cause) {
    if (options->timeout_ms == 0 || options->timeout_ms > MAX_TIMEOUT_MS)
        return sluice_cause_set(cause, SLUICE_INVALID, "timeout_ms must be from 1 to %u", MAX_TIMEOUT_MS);
    if (options->max_inflight == 0 || options->max_inflight > MAX_INFLIGHT)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_inflight must be from 1 to %d", MAX_INFLIGHT);
    if (options->max_message_bytes < 1024 || options->max_message_bytes > MAX_MESSAGE_BYTES)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_message_bytes must be from 1024 to %u", MAX_MESSAGE_BYTES);
    return SLUICE_OK;
}

static sluice_err set_names(sluice_client *client, const char *store, sluice_cause *cause) {
    if (store == NULL || store[0] == '\0') return sluice_cause_set(cause, SLUICE_INVALID, "the store needs a name");
    int n = snprintf(client->writer, sizeof client->writer, "%s/writer", store);
    int m = snprintf(client->readers, sizeof client->readers, "%s/readers", store);
    if (n < 0 || m < 0 || (size_t)m > SL_WIRE_NAME_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID, "the store's name is too long: \"%.100s\"", store);
    return SLUICE_OK;
}

/* A random id, so that no other client's receipts are ever met. */
sluice_err sl_client_draw_id(sluice_client *client, sluice_cause *cause) {
    uint8_t bytes[sizeof client->id + sizeof client->random];
    size_t done = 0;
    while (done < sizeof bytes) {
        ssize_t n = getrandom(bytes + done, sizeof bytes - done, 0);
        if (n > 0) done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            return sluice_cause_set(cause, SLUICE_SYSTEM, "no random bytes: %s", strerror(errno));
    }
    memcpy(client->id, bytes, sizeof client->id);
    memcpy(&client->random, bytes + sizeof client->id, sizeof client->random);
    client->random |= 1;
    return SLUICE_OK;
}

static sluice_err open_transport(sluice_client *client, const char *url, const sluice_client_options *options,
                                 sluice_cause *cause) {
    static const char scheme[] = "inproc://";
    bool inproc = strncmp(url, scheme, sizeof scheme - 1) == 0;
    sluice_err err = set_names(client, inproc ? url + sizeof scheme - 1 : options->store, cause);
    if (err != SLUICE_OK) return err;
    if (inproc && (options->server_key != NULL || options->key_file != NULL))
        return sluice_cause_set(cause, SLUICE_INVALID, "keys are for tcp://, not for inproc://");
    client->receipts = options->receipts_default ? !inproc : options->receipts;
    if (options->local_lease && !inproc)
        return sluice_cause_set(cause, SLUICE_INVALID, "local_lease is for inproc:// only");
    return inproc ? sl_transport_open_inproc(options, client->writer, client->readers, &client->transport, cause)
                  : sl_transport_open_remote(url, options, &client->transport, cause);
}

sluice_err sluice_client_open(const char *url, const sluice_client_options *options, sluice_client **out,
                              sluice_cause *cause) {
    *out = NULL;
    sluice_client_options defaults;
    sluice_client_options_init(&defaults);
    if (options == NULL) options = &defaults;
    if (url == NULL) return sluice_cause_set(cause, SLUICE_INVALID, "no URL");
    sluice_err err = check_options(options, cause);
    if (err != SLUICE_OK) return err;
    sluice_client *client = calloc(1, sizeof *client);
    if (client == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a client");
    client->timeout_ms = options->timeout_ms;
    client->max_message_bytes = options->max_message_bytes;
    client->local_lease = options->local_lease;
    sl_flights_init(&client->flights, options->max_inflight);
    client->pool = sl_pool_new();
    if (client->pool == NULL) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a client");
        goto fail;
    }
    err = sl_client_draw_id(client, cause);
    if (err == SLUICE_OK) err = open_transport(client, url, options, cause);
    if (err != SLUICE_OK) goto fail;
    *out = client;
    return SLUICE_OK;
fail:
    sluice_client_close(&client);
    return err;
}

/* Tells the server that this client's receipts may go. It is a courtesy: without it they go by their age. */
static void say_goodbye(sluice_client *client) {
    if (!client->receipts || !client->connected || client->closed || client->pool->sequences.next == 1) return;
    sluice_msg *msg = sl_pool_take(client->pool, &sluice__v1__goodbye__descriptor);
    if (msg == NULL) return;
    Sluice__V1__Goodbye *body = (Sluice__V1__Goodbye *)msg->body;
    body->client.data = sl_arena_memdup(&msg->arena, client->id, sizeof client->id);
    body->client.len = body->client.data != NULL ? sizeof client->id : 0;
    sl_outgoing outgoing = {.kind = SL_FLIGHT_GOODBYE, .to = client->writer, .msg = &msg, .timeout_ms = CLOSE_MS};
    uint32_t index;
    if (sl_client_start(client, &outgoing, &index, NULL) == SLUICE_OK) {
        /* Until it is answered, or there is nobody any more to answer it. */
        while (client->flights.active.n != 0 && client->connected) sl_client_step(client, INT64_MAX);
        sl_client_abandon(client);
    }
    sl_pool_give(client->pool, &msg);
}

void sluice_client_close(sluice_client **client) {
    if (client == NULL || *client == NULL) return;
    sluice_client *self = *client;
    *client = NULL;
    if (self->transport != NULL) {
        int64_t until_ns = sl_now_ns() + CLOSE_MS * NS_PER_MS;
        sl_client_abandon(self);
        sl_transaction_abandon(self->transaction);
        say_goodbye(self);
        int64_t left_ms = (until_ns - sl_now_ns()) / NS_PER_MS;
        sl_notify_destroy(&self->notify);
        self->transport->ops->close(self->transport, self->connected && left_ms > 0 ? (int)left_ms : 0);
    }
    sl_flights_fini(&self->flights);
    sl_pool_close(&self->pool);
    free(self);
}

void sluice_client_set_timeout(sluice_client *client, uint32_t timeout_ms) {
    client->timeout_ms = timeout_ms == 0 ? 1 : timeout_ms > MAX_TIMEOUT_MS ? MAX_TIMEOUT_MS : timeout_ms;
}

/* ---- calls ---- */

sluice_err sl_client_call(sluice_client *client, const sl_outgoing *outgoing, sluice_result **result,
                          sluice_msg **reply, sluice_cause *cause) {
    uint32_t index;
    sluice_err err = sl_client_start(client, outgoing, &index, cause);
    if (err == SLUICE_OK) {
        sl_client_await(client, index);
        err = sl_client_collect(client, index, result, reply, cause);
    }
    sl_client_settle_fd(client);
    return err;
}

/* Runs a read on this thread, if the store lends a connection. False: it has to go by message. Borrows: request. */
static bool read_here(sluice_client *client, sluice_msg *request, sluice_result **out, sluice_err *err,
                      sluice_cause *cause) {
    const sl_transport_ops *ops = client->transport->ops;
    if (!client->local_lease) return false;
    sluice_msg *reply = sl_pool_take(client->pool, &sluice__v1__query_reply__descriptor);
    if (reply == NULL) return false;
    int64_t now_ns = sl_now_ns();
    request->deadline_ns = now_ns + (int64_t)client->timeout_ms * NS_PER_MS;
    ((Sluice__V1__QueryRequest *)request->body)->max_bytes = client->max_message_bytes;
    bool done = ops->read_here(client->transport, request, now_ns, reply, err, cause);
    if (done && *err == SLUICE_OK && out != NULL)
        *err = sl_result_new(client->pool, SL_FLIGHT_READ, false, &reply, out, cause);
    sl_pool_give(client->pool, &reply);
    if (done && *err == SLUICE_OK && cause != NULL) {
        cause->code = SLUICE_OK;
        cause->sys_errno = cause->sqlite_code = 0;
        cause->retry_after_ms = 0;
        cause->statement = -1;
        cause->text[0] = '\0';
    }
    return done;
}

sluice_err sluice_client_ping(sluice_client *client, sluice_cause *cause) {
    if (client->transport->ops->moves) {
        if (client->transport->ops->reachable(client->transport, client->writer)) return SLUICE_OK;
        return sluice_cause_set(cause, SLUICE_UNREACHABLE, "no actor \"%s\" in this runtime", client->writer);
    }
    sluice_msg *msg = sl_pool_take(client->pool, &sluice__v1__ping__descriptor);
    if (msg == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a ping");
    sl_outgoing outgoing = {.kind = SL_FLIGHT_PING, .to = "gateway", .msg = &msg, .timeout_ms = client->timeout_ms};
    sluice_msg *reply = NULL;
    sluice_err err = sl_client_call(client, &outgoing, NULL, &reply, cause);
    sl_pool_give(client->pool, &msg);
    if (err != SLUICE_OK) return err;
    const Sluice__V1__Pong *pong = (const Sluice__V1__Pong *)reply->body;
    if (reply->type != &sluice__v1__pong__descriptor)
        err = sluice_cause_set(cause, SLUICE_IO, "the server answered a ping with something else");
    else if (pong->version_min > SL_WIRE_VERSION || pong->version_max < SL_WIRE_VERSION)
        err = sluice_cause_set(cause, SLUICE_UNSUPPORTED, "the server speaks wire versions %u to %u, this client %u",
                               pong->version_min, pong->version_max, SL_WIRE_VERSION);
    sl_pool_give(client->pool, &reply);
    return err;
}

sluice_err sl_client_refuse_statement(sluice_err err, sluice_cause *cause) {
    switch (err) {
    case SLUICE_TOO_BIG:
        return sluice_cause_set(cause, err, "the request is larger than max_message_bytes");
    case SLUICE_INVALID:
        return sluice_cause_set(cause, err, "the SQL text, name or a parameter is not valid");
    default:
        return sluice_cause_set(cause, err, "%s", sluice_err_text(err));
    }
}

/* Sends a request of one statement and waits. Takes: request's message. added: how adding the statement went. */
static sluice_err run_one(sluice_client *client, sluice_request *request, sluice_err added, sluice_result **out,
                          sluice_cause *cause) {
    bool write = request->kind == SLUICE_WRITE;
    sluice_err err = added;
    if (err != SLUICE_OK) {
        sl_client_refuse_statement(err, cause);
    } else if (write || !read_here(client, request->msg, out, &err, cause)) {
        sl_outgoing outgoing = {.kind = write ? SL_FLIGHT_WRITE : SL_FLIGHT_READ,
                                .to = write ? client->writer : client->readers,
                                .msg = &request->msg,
                                .timeout_ms = client->timeout_ms};
        err = sl_client_call(client, &outgoing, out, NULL, cause);
    }
    sl_pool_give(client->pool, &request->msg);
    return err;
}

sluice_request sl_client_request_of_one(sluice_client *client, sluice_request_kind kind) {
    sluice_request request = {.pool = client->pool, .kind = kind, .max_bytes = client->max_message_bytes};
    request.msg = sl_pool_take(client->pool, kind == SLUICE_WRITE ? &sluice__v1__write_request__descriptor
                                                                  : &sluice__v1__query_request__descriptor);
    return request;
}

static sluice_err run_sql(sluice_client *client, sluice_request_kind kind, const char *sql, const sluice_value *params,
                          size_t n_params, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    if (sql == NULL) return sl_client_refuse_statement(SLUICE_INVALID, cause);
    sluice_request request = sl_client_request_of_one(client, kind);
    if (request.msg == NULL) return sl_client_refuse_statement(SLUICE_NOMEM, cause);
    sluice_err added = sl_request_add_statement(&request, sql, strlen(sql), params, n_params);
    return run_one(client, &request, added, out, cause);
}

sluice_err sluice_exec(sluice_client *client, const char *sql, const sluice_value *params, size_t n_params,
                       sluice_result **out, sluice_cause *cause) {
    return run_sql(client, SLUICE_WRITE, sql, params, n_params, out, cause);
}

sluice_err sluice_query(sluice_client *client, const char *sql, const sluice_value *params, size_t n_params,
                        sluice_result **out, sluice_cause *cause) {
    return run_sql(client, SLUICE_READ, sql, params, n_params, out, cause);
}

sluice_err sluice_call_procedure(sluice_client *client, const char *name, const sluice_value *params, size_t n_params,
                                 sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_request request = sl_client_request_of_one(client, SLUICE_WRITE);
    if (request.msg == NULL) return sl_client_refuse_statement(SLUICE_NOMEM, cause);
    return run_one(client, &request, sl_request_add_call(&request, name, params, n_params), out, cause);
}

sluice_err sl_client_prepare(const sluice_client *client, sluice_request *request, sluice_cause *cause) {
    if (request == NULL || request->pool != client->pool)
        return sluice_cause_set(cause, SLUICE_INVALID, "the request was made for another client");
    if (request->broken) return sluice_cause_set(cause, SLUICE_NOMEM, "memory ran out while the request was built");
    sluice_err err = sl_request_finish(request);
    if (err != SLUICE_OK) return sl_client_refuse_statement(err, cause);
    if (request->bytes == 0) return sluice_cause_set(cause, SLUICE_INVALID, "the request has no statement");
    return SLUICE_OK;
}

static sl_outgoing outgoing_of(sluice_client *client, sluice_request *request) {
    bool write = request->kind == SLUICE_WRITE;
    return (sl_outgoing){.kind = write ? SL_FLIGHT_WRITE : SL_FLIGHT_READ,
                         .to = write ? client->writer : client->readers,
                         .msg = &request->msg,
                         .timeout_ms = client->timeout_ms};
}

sluice_err sl_client_call_request(sluice_client *client, sluice_request *request, sluice_result **out,
                                  sluice_cause *cause) {
    sl_outgoing outgoing = outgoing_of(client, request);
    outgoing.request = request;
    outgoing.again = request->unknown; /* after a definite no it is a new request, as good as the old */
    request->frozen = true;
    sluice_err err = sl_client_call(client, &outgoing, out, NULL, cause);
    if (!outgoing.again || !request->unknown || sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) return err;
    /* Not even asked: what became of the earlier copies is as open as before. */
    (void)sluice_cause_wrap(cause, "it could not be asked again");
    if (cause != NULL) cause->code = SLUICE_UNKNOWN;
    return SLUICE_UNKNOWN;
}

sluice_err sluice_call(sluice_client *client, sluice_request *request, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_err err = sl_client_prepare(client, request, cause);
    if (err != SLUICE_OK) return err;
    if (request->unknown)
        return sluice_cause_set(cause, SLUICE_INVALID, "this request ended unknown: ask with sluice_call_again");
    request->frozen = true;
    if (request->kind == SLUICE_READ && read_here(client, request->msg, out, &err, cause)) {
        request->called = true;
        request->ended = err;
        return err;
    }
    return sl_client_call_request(client, request, out, cause);
}

sluice_err sluice_call_again(sluice_client *client, sluice_request *request, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    sluice_err err = sl_client_prepare(client, request, cause);
    if (err != SLUICE_OK) return err;
    if (!request->called) return sluice_cause_set(cause, SLUICE_INVALID, "this request was not called yet");
    if (request->kind == SLUICE_WRITE) {
        if (!client->receipts)
            return sluice_cause_set(cause, SLUICE_INVALID, "this client keeps no receipts (options.receipts)");
        if (request->ended == SLUICE_OK)
            return sluice_cause_set(cause, SLUICE_INVALID, "this request ended ok: there is nothing to find out");
    }
    return sl_client_call_request(client, request, out, cause);
}

/* ---- pipelining ---- */

sluice_err sluice_submit(sluice_client *client, sluice_request **request, void *context, sluice_ticket *out,
                         sluice_cause *cause) {
    if (out != NULL) *out = 0;
    sluice_err err = sl_client_prepare(client, *request, cause);
    if (err != SLUICE_OK) return err;
    if ((*request)->unknown)
        return sluice_cause_set(cause, SLUICE_INVALID, "this request ended unknown: ask with sluice_call_again");
    sl_outgoing outgoing = outgoing_of(client, *request);
    outgoing.context = context;
    uint32_t index;
    err = sl_client_start(client, &outgoing, &index, cause);
    if (err != SLUICE_OK) return err;
    if (out != NULL) *out = client->flights.at[index].correlation;
    sluice_request_destroy(request);
    /* While completions wait to be collected, the caller is at it and more is likely to follow: what was submitted in
     * between leaves together, at the latest when the last of them is collected. */
    if (client->unflushed && client->flights.ready.n == 0) sl_client_flush(client);
    sl_client_settle_fd(client);
    return SLUICE_OK;
}

static void take_completion(sluice_client *client, uint32_t index, sluice_completion *out) {
    sl_flight *flight = &client->flights.at[index];
    out->ticket = flight->correlation;
    out->context = flight->context;
    out->result = NULL;
    out->err = sl_client_collect(client, index, &out->result, NULL, &out->cause);
    if (client->unflushed && client->flights.ready.n == 0) sl_client_flush(client);
}

bool sluice_poll(sluice_client *client, uint32_t timeout_ms, sluice_completion *out) {
    if (client->flights.ready.n == 0) {
        bool wait = timeout_ms != 0 && client->flights.active.n != 0;
        int64_t until_ns = wait ? sl_now_ns() + (int64_t)timeout_ms * NS_PER_MS : 0;
        do sl_client_step(client, until_ns);
        while (wait && client->flights.ready.n == 0 && sl_now_ns() < until_ns);
    }
    bool found = client->flights.ready.n != 0;
    if (found) take_completion(client, client->flights.ready.first, out);
    sl_client_settle_fd(client);
    return found;
}

sluice_err sluice_wait(sluice_client *client, sluice_ticket ticket, sluice_result **out, sluice_cause *cause) {
    if (out != NULL) *out = NULL;
    uint32_t index = sl_flights_find(&client->flights, ticket);
    if (index == SL_FLIGHT_NONE)
        return sluice_cause_set(cause, SLUICE_INVALID, "no such ticket: never given, or collected already");
    sl_client_await(client, index);
    sluice_err err = sl_client_collect(client, index, out, NULL, cause);
    if (client->unflushed && client->flights.ready.n == 0) sl_client_flush(client);
    sl_client_settle_fd(client);
    return err;
}

size_t sluice_client_inflight(const sluice_client *client) {
    return (size_t)client->flights.active.n + client->flights.ready.n;
}

int sluice_client_fd(sluice_client *client) {
    if (client->notify == NULL) {
        int fds[2];
        client->transport->ops->fds(client->transport, fds);
        if (sl_notify_new(fds, &client->notify) != SLUICE_OK) return -1;
        sl_client_step(client, 0); /* the descriptors tell of edges: take what lies before the first */
        sl_client_settle_fd(client);
    }
    return sl_notify_fd(client->notify);
}

/* ---- the host's own actors ---- */

sluice_err sluice_client_register_type(sluice_client *client, const struct ProtobufCMessageDescriptor *type) {
    return client->transport->ops->register_type(client->transport, type);
}

static sluice_err check_name(const char *name, sluice_cause *cause) {
    if (name == NULL || name[0] == '\0' || strlen(name) > SL_WIRE_NAME_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID, "an actor's name has 1 to %u bytes", SL_WIRE_NAME_MAX);
    return SLUICE_OK;
}

sluice_err sluice_client_ask(sluice_client *client, const char *name, sluice_msg **msg, sluice_msg **reply,
                             sluice_cause *cause) {
    *reply = NULL;
    sluice_err err = check_name(name, cause);
    if (err != SLUICE_OK) return err;
    sl_outgoing outgoing = {.kind = SL_FLIGHT_ASK, .to = name, .msg = msg, .timeout_ms = client->timeout_ms};
    return sl_client_call(client, &outgoing, NULL, reply, cause);
}

sluice_err sluice_client_tell(sluice_client *client, const char *name, sluice_msg **msg, sluice_cause *cause) {
    sluice_err err = check_name(name, cause);
    if (err != SLUICE_OK) return err;
    const sl_transport_ops *ops = client->transport->ops;
    int64_t deadline_ns = sl_now_ns() + (int64_t)client->timeout_ms * NS_PER_MS;
    (*msg)->flags = 0;
    (*msg)->correlation = 0;
    (*msg)->deadline_ns = 0;
    (*msg)->identity = (sl_identity){.sequence = 0};
    for (;;) {
        int64_t now_ns = sl_now_ns();
        if (!client->connected) sl_client_look_at_connection(client, now_ns);
        err = client->connected ? ops->send(client->transport, msg, name, now_ns) : SLUICE_UNREACHABLE;
        bool wait = !ops->moves && (err == SLUICE_UNREACHABLE || err == SLUICE_OVERLOADED);
        if (!wait || now_ns >= deadline_ns) break;
        sl_client_step(client, deadline_ns); /* until there is a way, or room */
    }
    if (err == SLUICE_OK) {
        sl_client_flush(client);
        sluice_msg_destroy(msg);
    } else {
        sluice_cause_set(cause, err, "%s%s%s", sluice_err_text(err), client->problem != NULL ? ": " : "",
                         client->problem != NULL ? client->problem : "");
    }
    sl_client_settle_fd(client);
    return err;
}
