/* SPDX-License-Identifier: MIT */
/* Requests in flight: sending, replies, deadlines, and sending again.
 *
 * Each has a flight, whose states are drawn in internal.h. What a caller hears follows from what is known of the copies
 * that left:
 *   - no copy left                                  UNREACHABLE, or the error that kept it from leaving
 *   - each copy that left was answered "no effect"  that error
 *   - a copy left and nothing definite came back    UNKNOWN (a write), TIMEOUT (anything else)
 *
 * Invariants
 *  1. A write is sent a second time only with a receipt's id, and each copy has an attempt of its own.
 *  2. Once a copy is lost from sight (in_doubt), only OK or an error that the writer gives after it has looked for the
 *     receipt ends the write with certainty. A "no" from anyone before the writer speaks of the latest copy only.
 *  3. ack_upto never passes a sequence whose outcome the caller may still ask for.
 *  4. Each flight that is not READY is in the heap with a due time not after its deadline.
 */
#include "internal.h"

#include "port.h"

#include <string.h>

enum {
    STEP_MESSAGES = 1024,   /* a step takes at most so many, so that a flood cannot hold up deadlines */
    BACKOFF_FIRST_MS = 10,
    BACKOFF_LAST_MS = 500,
    MARGIN_SHARE = 16,      /* the server's deadline is a sixteenth earlier than the caller's, so that its own answer */
    MARGIN_MAX_MS = 20,     /* can still arrive; at most so much */
    OVERLOADED_RETRY_MS = 5,
    TELL_SETTLED = 64,      /* so much may be settled before the server must be told, known session or not */
};
#define NS_PER_MS INT64_C(1000000)

static const char lost_text[] = "no answer came before the deadline; it may or may not have been applied";
static const char timeout_text[] = "no answer came before the deadline";
static const char unreachable_text[] = "nobody could be reached before the deadline";
static const char closing_text[] = "the runtime went down before an answer came";

/* ---- ends ---- */

/* Ends a flight that is in flight. A reply or result is already in it; why: static text for an end made here. */
static void finish(sluice_client *client, uint32_t index, sluice_err err, const char *why) {
    sl_flight *flight = &client->flights.at[index];
    bool open = false;
    if (flight->state == SL_FLIGHT_WAITING) client->n_unsent--;
    flight->err = err;
    flight->why = why;
    if (flight->request != NULL) {
        sluice_request *request = flight->request;
        open = flight->receipt && sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN;
        request->called = true;
        request->ended = err;
        request->unknown = open;
        request->attempt = flight->attempt;
    } else {
        sl_pool_give(client->pool, &flight->msg);
    }
    flight->msg = NULL;
    if (flight->receipt && flight->session == client->pool->session) {
        if (!open) sl_sequences_settle(&client->pool->sequences, flight->sequence);
        if (err == SLUICE_OK) client->had_receipt = true;
    }
    sl_flights_make_ready(&client->flights, index);
}

static bool is_lost(const sl_flight *flight) { return flight->in_doubt || flight->state == SL_FLIGHT_SENT; }

static void finish_at_deadline(sluice_client *client, uint32_t index) {
    const sl_flight *flight = &client->flights.at[index];
    if (flight->kind == SL_FLIGHT_PING) finish(client, index, SLUICE_UNREACHABLE, unreachable_text);
    else if (is_lost(flight) && flight->kind == SL_FLIGHT_WRITE) finish(client, index, SLUICE_UNKNOWN, lost_text);
    else if (is_lost(flight)) finish(client, index, SLUICE_TIMEOUT, timeout_text);
    else if (flight->err != SLUICE_OK) finish(client, index, flight->err, NULL);
    else finish(client, index, SLUICE_UNREACHABLE, unreachable_text);
}

/* The runtime is going down: nothing will come any more. */
static void finish_all(sluice_client *client) {
    client->closed = true;
    while (client->flights.active.first != SL_FLIGHT_NONE) {
        uint32_t index = client->flights.active.first;
        const sl_flight *flight = &client->flights.at[index];
        bool lost = flight->kind == SL_FLIGHT_WRITE && is_lost(flight);
        finish(client, index, lost ? SLUICE_UNKNOWN : SLUICE_CLOSED, closing_text);
    }
}

/* ---- ids ---- */

/* What the server is told of what is settled. Nothing, until it is sure to know the session: an unknown session that
 * has settled something is taken for an expired one, and the first writes may all have ended without reaching it. */
static uint64_t told_settled(const sluice_client *client) {
    uint64_t ack_upto = client->pool->sequences.ack_upto;
    return client->had_receipt || ack_upto >= TELL_SETTLED ? ack_upto : 0;
}

/* Gives a write the next id of the present session. */
static sluice_err give_new_id(sluice_client *client, sl_flight *flight, sluice_request *request, sl_identity *out) {
    sluice_err err = sl_sequences_take(&client->pool->sequences, &flight->sequence);
    if (err != SLUICE_OK) return err;
    flight->session = client->pool->session;
    flight->attempt = 0;
    *out = (sl_identity){.sequence = flight->sequence};
    memcpy(out->client, client->id, sizeof out->client);
    if (request != NULL) {
        memcpy(request->id, client->id, sizeof request->id);
        request->session = flight->session;
        request->sequence = flight->sequence;
    }
    return SLUICE_OK;
}

/* Begins a new session under a new id. Writes of the old one that are still open stay with the old id. */
static sluice_err renew_session(sluice_client *client) {
    sluice_err err = sl_client_draw_id(client, NULL);
    if (err != SLUICE_OK) return err;
    sl_sequences_fini(&client->pool->sequences);
    client->pool->session++;
    client->had_receipt = false;
    return SLUICE_OK;
}

/* ---- sending ---- */

static bool may_be_sent_again(const sluice_client *client, const sl_flight *flight) {
    if (client->transport->ops->moves) return false;
    return flight->kind == SL_FLIGHT_READ || flight->kind == SL_FLIGHT_PING || flight->receipt;
}

static void set_state(sluice_client *client, sl_flight *flight, sl_flight_state state) {
    if (flight->state == SL_FLIGHT_WAITING) client->n_unsent--;
    if (state == SL_FLIGHT_WAITING) client->n_unsent++;
    flight->state = (uint8_t)state;
}

/* Sends the flight's message, or leaves it waiting for a way. Errors: what a way that moves messages said. */
static sluice_err send_flight(sluice_client *client, uint32_t index, int64_t now_ns) {
    sl_flight *flight = &client->flights.at[index];
    sl_transport *transport = client->transport;
    if (!client->connected) {
        set_state(client, flight, SL_FLIGHT_WAITING);
        return SLUICE_UNREACHABLE;
    }
    flight->msg->identity.attempt = flight->attempt;
    if (flight->receipt && flight->session == client->pool->session)
        flight->msg->identity.ack_upto = told_settled(client);
    sluice_err err = transport->ops->send(transport, &flight->msg, flight->to, now_ns);
    if (err != SLUICE_OK) {
        set_state(client, flight, SL_FLIGHT_WAITING);
        return err;
    }
    set_state(client, flight, SL_FLIGHT_SENT);
    flight->connection = client->connections;
    client->unflushed = true;
    return SLUICE_OK;
}

/* Ends a flight whose latest copy cannot leave. That says nothing of an earlier copy that was lost from sight. */
static void finish_unsent(sluice_client *client, uint32_t index, sluice_err err, const char *why) {
    const sl_flight *flight = &client->flights.at[index];
    bool open = flight->kind == SL_FLIGHT_WRITE && flight->in_doubt;
    finish(client, index, open ? SLUICE_UNKNOWN : err, why);
}

/* Sends one more copy, under the next attempt. */
static void send_again(sluice_client *client, uint32_t index, int64_t now_ns) {
    sl_flight *flight = &client->flights.at[index];
    flight->attempt++;
    sluice_err err = send_flight(client, index, now_ns);
    if (err == SLUICE_TOO_BIG || err == SLUICE_NOMEM) finish_unsent(client, index, err, "it could not be sent again");
}

static void send_waiting(sluice_client *client, int64_t now_ns) {
    uint32_t next;
    for (uint32_t i = client->flights.active.first; i != SL_FLIGHT_NONE && client->n_unsent != 0; i = next) {
        next = client->flights.at[i].next;
        if (client->flights.at[i].state != SL_FLIGHT_WAITING) continue;
        sluice_err err = send_flight(client, i, now_ns);
        if (err == SLUICE_TOO_BIG || err == SLUICE_NOMEM) finish_unsent(client, i, err, "it could not be sent");
        else if (err != SLUICE_OK) return; /* full, or gone again: the rest waits too, in its order */
    }
}

void sl_client_look_at_connection(sluice_client *client, int64_t now_ns) {
    sl_transport_state state = client->transport->ops->state(client->transport);
    client->connected = state.connected;
    client->problem = state.problem;
    bool fresh = state.connections != client->connections;
    client->connections = state.connections;
    if (!state.connected) return;
    uint32_t next;
    for (uint32_t i = client->flights.active.first; fresh && i != SL_FLIGHT_NONE; i = next) {
        sl_flight *flight = &client->flights.at[i];
        next = flight->next;
        if (flight->state == SL_FLIGHT_WAITING) {
            sluice_err err = send_flight(client, i, now_ns);
            if (err == SLUICE_TOO_BIG || err == SLUICE_NOMEM) finish_unsent(client, i, err, "it could not be sent");
        } else if (flight->state == SL_FLIGHT_SENT && flight->connection != client->connections &&
                   may_be_sent_again(client, flight)) {
            flight->in_doubt = true;
            send_again(client, i, now_ns);
        }
    }
    if (client->n_unsent != 0) send_waiting(client, now_ns);
}

static int64_t backoff_ns(sluice_client *client, const sl_flight *flight) {
    int64_t ms = BACKOFF_FIRST_MS;
    for (unsigned i = 0; i < flight->tries && ms < BACKOFF_LAST_MS; i++) ms *= 2;
    if (ms > BACKOFF_LAST_MS) ms = BACKOFF_LAST_MS;
    if (flight->retry_after_ms != 0 && flight->retry_after_ms > ms) ms = flight->retry_after_ms;
    /* xorshift64. Between half and one and a half times: those who were sent away together do not return together. */
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return ms * NS_PER_MS / 2 + (int64_t)(client->random % (uint64_t)(ms * NS_PER_MS));
}

static void back_off(sluice_client *client, uint32_t index) {
    sl_flight *flight = &client->flights.at[index];
    int64_t due_ns = sl_now_ns() + backoff_ns(client, flight);
    set_state(client, flight, SL_FLIGHT_BACKOFF);
    if (flight->tries < UINT8_MAX) flight->tries++;
    /* A copy sent with no time left for an answer would only turn a definite no into a doubt. */
    if (due_ns > flight->deadline_ns - MARGIN_MAX_MS * NS_PER_MS) due_ns = flight->deadline_ns;
    sl_flights_set_due(&client->flights, index, due_ns);
}

static void handle_due(sluice_client *client) {
    if (client->flights.n_heap == 0) return;
    int64_t now_ns = sl_now_ns();
    while (sl_flights_next_due(&client->flights) <= now_ns) {
        uint32_t index = client->flights.heap[0];
        sl_flight *flight = &client->flights.at[index];
        if (flight->deadline_ns <= now_ns) {
            finish_at_deadline(client, index);
            continue;
        }
        sl_flights_set_due(&client->flights, index, flight->deadline_ns);
        send_again(client, index, now_ns);
    }
}

/* ---- replies ---- */

typedef enum verdict { VERDICT_END, VERDICT_RETRY, VERDICT_LOST } verdict;

/* Someone is starting or stopping on the other side; the same request may well succeed in a moment. */
static bool is_passing(sluice_err code) {
    switch (code) {
    case SLUICE_CLOSED:
    case SLUICE_NO_ACTOR:
    case SLUICE_ACTOR_DOWN:
    case SLUICE_UNREACHABLE:
    case SLUICE_UNKNOWN:
    case SLUICE_FATAL:
        return true;
    default:
        return false;
    }
}

/* Errors that only the writer gives, after it has looked for the receipt: no copy of the request was applied. */
static bool is_the_writers_no(sluice_err code) {
    switch (code) {
    case SLUICE_FAILED:
    case SLUICE_CONSTRAINT:
    case SLUICE_GUARD_FAILED:
    case SLUICE_SYNTAX:
    case SLUICE_READ_ONLY:
    case SLUICE_NO_PROCEDURE:
    case SLUICE_TRANSACTION_EXPIRED:
        return true;
    default:
        return false;
    }
}

static verdict judge(const sluice_client *client, const sl_flight *flight, sluice_err code) {
    bool again = flight->kind != SL_FLIGHT_PING && may_be_sent_again(client, flight);
    if (again && is_passing(code)) return VERDICT_RETRY;
    if (flight->kind != SL_FLIGHT_WRITE || !flight->in_doubt || is_the_writers_no(code)) return VERDICT_END;
    /* Invariant 2: this speaks of the latest copy only. */
    if (again && (code == SLUICE_OVERLOADED || code == SLUICE_EXPIRED || code == SLUICE_NOMEM)) return VERDICT_RETRY;
    return VERDICT_LOST;
}

/* A write's caller hears UNKNOWN for everything that leaves it open; FATAL says it too, and more. */
static sluice_err callers_code(const sl_flight *flight, sluice_err code) {
    bool open = sluice_err_applied(code) == SLUICE_APPLIED_UNKNOWN;
    return flight->kind == SL_FLIGHT_WRITE && open && code != SLUICE_FATAL ? SLUICE_UNKNOWN : code;
}

/* The server has forgotten this client's session (it was silent for long). No copy of this write was or will be
 * applied, so it may go again under an id of a new session. True: it is under way. */
static bool begin_anew(sluice_client *client, uint32_t index) {
    sl_flight *flight = &client->flights.at[index];
    if (!flight->receipt || flight->in_doubt) return false;
    if (flight->session == client->pool->session && renew_session(client) != SLUICE_OK) return false;
    if (flight->renewed || client->transport->ops->moves) return false; /* the next call will do */
    flight->renewed = true;
    if (give_new_id(client, flight, flight->request, &flight->msg->identity) != SLUICE_OK) return false;
    sluice_err err = send_flight(client, index, sl_now_ns());
    if (err == SLUICE_TOO_BIG || err == SLUICE_NOMEM) finish_unsent(client, index, err, "it could not be sent again");
    return true;
}

/* Takes: *reply, an ERROR message. */
static void on_error(sluice_client *client, uint32_t index, sluice_msg **reply) {
    sl_flight *flight = &client->flights.at[index];
    sluice_cause cause;
    sluice_err code = sl_msg_cause(*reply, &cause);
    if (code == SLUICE_SESSION_EXPIRED && begin_anew(client, index)) {
        sl_pool_give(client->pool, reply);
        return;
    }
    bool known = code != SLUICE_OK && strcmp(sluice_err_name(code), "unlisted") != 0;
    if (!known) code = flight->kind == SL_FLIGHT_WRITE ? SLUICE_UNKNOWN : SLUICE_IO;
    sl_pool_give(client->pool, &flight->reply);
    flight->reply = *reply;
    *reply = NULL;
    flight->err = callers_code(flight, code);
    flight->retry_after_ms = cause.retry_after_ms;
    verdict decision = known ? judge(client, flight, code) : VERDICT_END;
    if (flight->kind == SL_FLIGHT_WRITE && sluice_err_applied(code) == SLUICE_APPLIED_UNKNOWN) flight->in_doubt = true;
    switch (decision) {
    case VERDICT_RETRY:
        back_off(client, index);
        break;
    case VERDICT_LOST:
        finish(client, index, SLUICE_UNKNOWN, "an earlier copy may have been applied; the answer to the latest was");
        break;
    case VERDICT_END:
        finish(client, index, flight->err, NULL);
        break;
    }
}

/* The other side answered with something that is no answer. Takes: *cause's text by way of an ERROR message. */
static void on_nonsense(sluice_client *client, uint32_t index, sluice_cause *cause) {
    sl_flight *flight = &client->flights.at[index];
    sluice_err err = flight->kind == SL_FLIGHT_WRITE ? SLUICE_UNKNOWN : cause->code;
    if (flight->kind != SL_FLIGHT_WRITE && err != SLUICE_NOMEM && err != SLUICE_UNSUPPORTED && err != SLUICE_TOO_BIG)
        err = SLUICE_IO;
    cause->code = err;
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    if (msg != NULL) {
        sl_msg_turn_error(msg, cause);
        sl_pool_give(client->pool, &flight->reply);
        flight->reply = msg;
    }
    finish(client, index, err, msg != NULL ? NULL : "the server's reply cannot be read");
}

/* Takes: *msg. */
static void on_message(sluice_client *client, sluice_msg **msg) {
    uint32_t index = sl_flights_find(&client->flights, (*msg)->correlation);
    bool awaited = index != SL_FLIGHT_NONE && client->flights.at[index].state != SL_FLIGHT_READY;
    if (!awaited || ((*msg)->flags & SL_MSG_REPLY) == 0) {
        client->n_late++;
        sl_pool_give(client->pool, msg);
        return;
    }
    sl_flight *flight = &client->flights.at[index];
    if (((*msg)->flags & SL_MSG_ERROR) != 0) {
        on_error(client, index, msg);
    } else if (flight->kind == SL_FLIGHT_WRITE || flight->kind == SL_FLIGHT_READ || flight->kind == SL_FLIGHT_STEP) {
        sluice_cause cause;
        sluice_err err = sl_result_new(client->pool, flight->kind, !client->transport->ops->moves, msg, &flight->result,
                                       &cause);
        if (err != SLUICE_OK) {
            on_nonsense(client, index, &cause);
            return;
        }
        sl_pool_give(client->pool, &flight->reply);
        finish(client, index, SLUICE_OK, NULL);
    } else {
        sl_pool_give(client->pool, &flight->reply);
        flight->reply = *msg;
        *msg = NULL;
        finish(client, index, SLUICE_OK, NULL);
    }
}

static void on_bad(sluice_client *client, uint64_t correlation, sluice_cause *cause) {
    uint32_t index = sl_flights_find(&client->flights, correlation);
    if (index == SL_FLIGHT_NONE || client->flights.at[index].state == SL_FLIGHT_READY) {
        client->n_late++;
        return;
    }
    sluice_cause_wrap(cause, "the server's reply");
    on_nonsense(client, index, cause);
}

/* ---- the loop ---- */

void sl_client_step(sluice_client *client, int64_t until_ns) {
    const sl_transport_ops *ops = client->transport->ops;
    int64_t due_ns = sl_flights_next_due(&client->flights);
    if (until_ns > due_ns) until_ns = due_ns;
    client->unflushed = false; /* recv flushes */
    client->undrained = true;
    for (unsigned n = 0; n < STEP_MESSAGES && !client->closed; n++) {
        sluice_msg *msg = NULL;
        uint64_t correlation = 0;
        sluice_cause cause;
        sl_arrival arrival = ops->recv(client->transport, until_ns, &msg, &correlation, &cause);
        until_ns = 0;
        if (arrival == SL_ARRIVAL_NONE) {
            client->undrained = false;
            break;
        }
        if (arrival == SL_ARRIVAL_MESSAGE) on_message(client, &msg);
        else if (arrival == SL_ARRIVAL_BAD) on_bad(client, correlation, &cause);
        else if (arrival == SL_ARRIVAL_CONNECTION) sl_client_look_at_connection(client, sl_now_ns());
        else finish_all(client);
        /* With nothing left in flight nothing of interest can be waiting; only the descriptor needs it all taken. */
        if (client->flights.active.n == 0 && client->notify == NULL) break;
    }
    handle_due(client);
    if (client->n_unsent != 0 && client->connected) send_waiting(client, sl_now_ns());
    if (client->unflushed) sl_client_flush(client);
}

void sl_client_flush(sluice_client *client) {
    client->transport->ops->flush(client->transport);
    client->unflushed = false;
}

void sl_client_await(sluice_client *client, uint32_t index) {
    while (client->flights.at[index].state != SL_FLIGHT_READY) sl_client_step(client, INT64_MAX);
}

void sl_client_settle_fd(sluice_client *client) {
    if (client->notify == NULL) return;
    /* Sending may have taken in the edge of what has arrived meanwhile: look, so that the edge cannot be lost. */
    if (!client->undrained && client->flights.ready.n == 0) sl_client_step(client, 0);
    bool ready = client->flights.ready.n != 0 || client->undrained || client->unflushed;
    sl_notify_update(client->notify, ready, sl_flights_next_due(&client->flights));
}

void sl_client_abandon(sluice_client *client) {
    while (client->flights.active.first != SL_FLIGHT_NONE)
        finish(client, client->flights.active.first, SLUICE_CLOSED, closing_text);
    while (client->flights.ready.first != SL_FLIGHT_NONE) {
        sluice_result *result = NULL;
        sluice_err err = sl_client_collect(client, client->flights.ready.first, &result, NULL, NULL);
        (void)err; /* nobody asks any more */
        sluice_result_destroy(&result);
    }
}

/* ---- starting and collecting ---- */

static sluice_err give_id(sluice_client *client, sl_flight *flight, const sl_outgoing *outgoing) {
    sluice_msg *msg = *outgoing->msg;
    flight->receipt = false;
    if (flight->kind == SL_FLIGHT_READ) {
        Sluice__V1__QueryRequest *body = (Sluice__V1__QueryRequest *)msg->body;
        body->max_bytes = client->max_message_bytes;
    }
    msg->identity = (sl_identity){.sequence = 0};
    if (flight->kind == SL_FLIGHT_GOODBYE) memcpy(msg->identity.client, client->id, sizeof client->id);
    if (flight->kind != SL_FLIGHT_WRITE) return SLUICE_OK;
    if (msg->type == &sluice__v1__transaction_end__descriptor)
        ((Sluice__V1__TransactionEnd *)msg->body)->receipt = client->receipts;
    else
        ((Sluice__V1__WriteRequest *)msg->body)->receipt = client->receipts;
    if (!client->receipts) return SLUICE_OK;
    flight->receipt = true;
    if (!outgoing->again) return give_new_id(client, flight, outgoing->request, &msg->identity);
    const sluice_request *request = outgoing->request;
    flight->session = request->session;
    flight->sequence = request->sequence;
    flight->attempt = request->attempt + 1;
    flight->in_doubt = true;
    msg->identity.sequence = flight->sequence;
    memcpy(msg->identity.client, request->id, sizeof request->id);
    return SLUICE_OK;
}

static void set_header(const sluice_client *client, const sl_flight *flight, uint32_t timeout_ms, sluice_msg *msg) {
    int64_t margin_ns = (int64_t)timeout_ms * NS_PER_MS / MARGIN_SHARE;
    if (margin_ns > MARGIN_MAX_MS * NS_PER_MS) margin_ns = MARGIN_MAX_MS * NS_PER_MS;
    msg->flags = SL_MSG_ASK;
    msg->correlation = flight->correlation;
    msg->deadline_ns = flight->deadline_ns - margin_ns;
    if (flight->receipt && flight->session == client->pool->session) msg->identity.ack_upto = told_settled(client);
    if (flight->kind == SL_FLIGHT_GOODBYE) msg->identity.ack_upto = client->pool->sequences.next - 1;
    msg->identity.attempt = flight->attempt;
}

/* Undoes a start: nothing has left. */
static void take_back(sluice_client *client, uint32_t index, const sl_outgoing *outgoing) {
    sl_flight *flight = &client->flights.at[index];
    if (flight->state == SL_FLIGHT_WAITING) client->n_unsent--;
    if (flight->receipt && !outgoing->again) sl_sequences_settle(&client->pool->sequences, flight->sequence);
    sl_flights_release(&client->flights, index);
}

static sluice_err refuse(sluice_err err, sluice_cause *cause) {
    switch (err) {
    case SLUICE_OVERLOADED:
        sluice_cause_set(cause, err, "the receiver's queue is full");
        if (cause != NULL) cause->retry_after_ms = OVERLOADED_RETRY_MS;
        return err;
    case SLUICE_NO_ACTOR:
        return sluice_cause_set(cause, err, "no actor of that name lives in this process");
    default:
        return sluice_cause_set(cause, err, "%s", sluice_err_text(err));
    }
}

static sluice_err take_flight(sluice_client *client, const sl_outgoing *outgoing, int64_t now_ns, uint32_t *out,
                            sluice_cause *cause) {
    if (client->closed) return sluice_cause_set(cause, SLUICE_CLOSED, "the runtime is going down");
    sluice_err err = sl_flights_take(&client->flights, now_ns + (int64_t)outgoing->timeout_ms * NS_PER_MS, out);
    if (err == SLUICE_OVERLOADED) {
        sluice_cause_set(cause, err, "%u requests are in flight or not collected; no more may be (max_inflight)",
                         client->flights.max);
        if (cause != NULL) cause->retry_after_ms = OVERLOADED_RETRY_MS;
        return err;
    }
    if (err != SLUICE_OK) return refuse(err, cause);
    client->n_unsent++; /* WAITING */
    sl_flight *flight = &client->flights.at[*out];
    flight->kind = (uint8_t)outgoing->kind;
    flight->to = outgoing->to;
    flight->context = outgoing->context;
    return SLUICE_OK;
}

sluice_err sl_client_start(sluice_client *client, const sl_outgoing *outgoing, uint32_t *flight_out,
                           sluice_cause *cause) {
    int64_t now_ns = sl_now_ns();
    if (!client->connected) sl_client_look_at_connection(client, now_ns);
    uint32_t index;
    sluice_err err = take_flight(client, outgoing, now_ns, &index, cause);
    if (err != SLUICE_OK) return err;
    sl_flight *flight = &client->flights.at[index];
    bool moves = client->transport->ops->moves;
    err = give_id(client, flight, outgoing);
    if (err != SLUICE_OK) goto fail;
    /* The caller keeps a request that is called, so of messages that move it gives a copy away. */
    flight->msg = moves && outgoing->request != NULL ? sl_request_copy(outgoing->request) : *outgoing->msg;
    if (flight->msg == NULL) {
        err = SLUICE_NOMEM;
        goto fail;
    }
    if (flight->msg != *outgoing->msg) flight->msg->identity = (*outgoing->msg)->identity;
    set_header(client, flight, outgoing->timeout_ms, flight->msg);
    err = send_flight(client, index, now_ns);
    bool waits = !moves && (err == SLUICE_UNREACHABLE || err == SLUICE_OVERLOADED);
    if (err != SLUICE_OK && !waits) goto fail;
    flight->request = outgoing->request;
    if (outgoing->request == NULL) *outgoing->msg = NULL;
    *flight_out = index;
    return SLUICE_OK;
fail:
    if (outgoing->request != NULL && moves) sl_pool_give(client->pool, &flight->msg);
    take_back(client, index, outgoing);
    return refuse(err, cause);
}

static void explain(const sluice_client *client, const sl_flight *flight, sluice_cause *cause) {
    if (cause == NULL) return;
    if (flight->err == SLUICE_OK) { /* the frequent one: no formatting */
        cause->code = SLUICE_OK;
        cause->sys_errno = cause->sqlite_code = 0;
        cause->retry_after_ms = 0;
        cause->statement = -1;
        cause->text[0] = '\0';
        return;
    }
    if (flight->reply != NULL && (flight->reply->flags & SL_MSG_ERROR) != 0) {
        sluice_err code = sl_msg_cause(flight->reply, cause);
        if (flight->why != NULL) sluice_cause_wrap(cause, flight->why);
        else if (code != flight->err) sluice_cause_wrap(cause, sluice_err_name(code));
        cause->code = flight->err;
        return;
    }
    bool with_problem = flight->err == SLUICE_UNREACHABLE && client->problem != NULL;
    sluice_cause_set(cause, flight->err, "%s%s%s", flight->why != NULL ? flight->why : sluice_err_text(flight->err),
                     with_problem ? ": " : "", with_problem ? client->problem : "");
}

sluice_err sl_client_collect(sluice_client *client, uint32_t index, sluice_result **result, sluice_msg **reply,
                             sluice_cause *cause) {
    sl_flight *flight = &client->flights.at[index];
    sluice_err err = flight->err;
    explain(client, flight, cause);
    if (result != NULL) *result = flight->result;
    else sluice_result_destroy(&flight->result);
    flight->result = NULL;
    if (reply != NULL && err == SLUICE_OK) {
        *reply = flight->reply;
        flight->reply = NULL;
    }
    sl_pool_give(client->pool, &flight->reply);
    sl_flights_release(&client->flights, index);
    return err;
}
