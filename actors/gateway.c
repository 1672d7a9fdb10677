/* SPDX-License-Identifier: MIT */
/* The gateway: decodes what clients send, answers what is wrong, forwards the rest, and brings the answers back.
 *
 * Thread: its dispatcher (its own, unless placed near another actor). The handle's functions are in gateway_handle.c.
 *
 *     listening --(DRAIN)--> closing --(no request in flight, or DRAIN_MS; LAST_WORD_MS)--> drained --(stop)--> ended
 *         \--------------------------------(stop)--------------------------------------------------^
 *
 * Closing: new requests are answered CLOSED, ipc clients no longer find the socket.
 *
 * From clients, through the endpoint:
 *     Ping -> Pong, StatusRequest -> StatusReply,
 *     ReadersRequest -> ReadersReply                answered here
 *     WriteRequest, Goodbye, QueryRequest           forwarded to the store's actors by name
 *     any type of the host's own                    forwarded to the actor of that name
 *     everything else                               Error, typed
 * From actors: the answers to what was forwarded. From the handle: a Ping that nobody asks about is the doorbell of the
 * command list. From actors of this process they are answered too.
 *
 * Invariants
 *  1. Every ask that could be read gets exactly one answer from here or from the actor it went to, as long as its peer
 *     is connected and its deadline has not passed. An answer that cannot be delivered is counted.
 *  2. A forwarded ask carries the gateway's own correlation (gateway_pending.c); the client's own number comes back to
 *     it unchanged and means nothing in here.
 *  3. Nothing is forwarded that sl_wire_decode and sl_gateway_admit have not passed: budgets, types, tables.
 *  4. One wake handles at most FAIR_SHARE messages, then other actors and timers have their turn. ROUTER takes from its
 *     peers in turn, so one busy peer cannot keep another waiting.
 *  5. What waits is bounded: requests by max_inflight per peer and in all, answers by the endpoint.
 *  6. A request whose deadline passed is forgotten within EXPIRY_MS + GRACE_MS; its late answer is dropped here. The
 *     client's own clock has ended it by then, as UNKNOWN if it was a write.
 *  7. The commands of the handle each end exactly once, at the latest in stop.
 *
 * Stop order: what is in flight is answered, sockets are unwatched, endpoint (lingers in the background), table, and
 * last, under the lock, `ended` is set and waiting commands are answered; nothing of the handle is touched after that.
 */
#include "gateway_internal.h"

#include <string.h>

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"

#define FAIR_SHARE 256
#define EXPIRY_MS 1000
#define GRACE_MS 1000
#define DRAIN_MS 2000
#define LINGER_MS 500
#define LAST_WORD_MS 20
#define DEFAULT_DEADLINE_MS 60000
#define RETRY_AFTER_MS 50
#define PING_PAYLOAD_MAX 64
#define MILLISECOND ((int64_t)1000000)
#define SEND_HWM_MIN 16384u
#define SEND_HWM_MAX (1u << 20)
#define RECV_HWM 1000

#define COUNT(self, counter) atomic_fetch_add_explicit(&(self)->counters.counter, 1, memory_order_relaxed)
#define SET(self, counter, value) atomic_store_explicit(&(self)->counters.counter, (value), memory_order_relaxed)

/* ---- answers ---- */

/* Sends an answer that carries its correlation and flags; what cannot be delivered is counted. */
static bool send_to_peer(sluice_gateway *self, sluice_actor *actor, sl_peer *peer, const sluice_msg *msg) {
    sluice_err err = sl_endpoint_send(sl_peer_endpoint(peer), peer, msg, sluice_actor_now_ns(actor));
    if (err != SLUICE_OK) COUNT(self, dropped_unroutable);
    else self->answered_ns = sluice_actor_now_ns(actor);
    return err == SLUICE_OK;
}

/* Answers with an error a message of our own making, for a request that could not become one. */
static void reject(sluice_gateway *self, sluice_actor *actor, sl_peer *peer, uint64_t correlation,
                   const sluice_cause *cause) {
    COUNT(self, rejected);
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    if (msg == NULL) return;
    sl_msg_turn_error(msg, cause);
    msg->correlation = correlation;
    (void)send_to_peer(self, actor, peer, msg);
    sluice_msg_destroy(&msg);
}

/* Answers a decoded request with an error; its memory becomes the answer's. */
static void reject_request(sluice_gateway *self, sluice_actor *actor, sl_peer *peer, sluice_msg *msg,
                           const sluice_cause *cause) {
    COUNT(self, rejected);
    sl_msg_turn_error(msg, cause);
    (void)send_to_peer(self, actor, peer, msg);
}

/* ---- what the gateway answers itself ---- */

static sluice_err make_pong(const sluice_gateway *self, sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__Ping *ping = (const Sluice__V1__Ping *)msg->body;
    uint8_t payload[PING_PAYLOAD_MAX];
    size_t size = ping->payload.len;
    if (size > sizeof payload)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "a Ping carries at most %d bytes", PING_PAYLOAD_MAX);
    if (size > 0) memcpy(payload, ping->payload.data, size);
    if (sl_msg_turn(msg, &sluice__v1__pong__descriptor) != SLUICE_OK)
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    Sluice__V1__Pong *pong = (Sluice__V1__Pong *)msg->body;
    pong->payload.data = sl_arena_memdup(&msg->arena, payload, size);
    pong->payload.len = pong->payload.data != NULL ? size : 0;
    pong->version_min = SL_WIRE_VERSION_MIN;
    pong->version_max = SL_WIRE_VERSION;
    pong->max_message_bytes = self->options.max_message_bytes;
    return SLUICE_OK;
}

/* A list of named counters in the message's arena. NULL: out of memory. */
static Sluice__V1__Counter **make_counters(sluice_msg *msg, const char *const *names, const uint64_t *values,
                                           size_t n) {
    Sluice__V1__Counter **list = sluice_msg_alloc(msg, n * sizeof *list);
    Sluice__V1__Counter *counters = sluice_msg_alloc(msg, n * sizeof *counters);
    if (list == NULL || counters == NULL) return NULL;
    for (size_t i = 0; i < n; i++) {
        sluice__v1__counter__init(&counters[i]);
        counters[i].name = sluice_msg_strdup(msg, names[i]);
        counters[i].value = values[i];
        if (counters[i].name == NULL) return NULL;
        list[i] = &counters[i];
    }
    return list;
}

static bool fill_status(const sluice_gateway *self, sluice_msg *msg) {
    Sluice__V1__StatusReply *status = (Sluice__V1__StatusReply *)msg->body;
#define NAME(name, meaning) #name,
#define VALUE(name, meaning) stats.name,
    {
        sluice_gateway_stats stats;
        sluice_gateway_stats_read(self, &stats);
        static const char *const names[] = {SLUICE_GATEWAY_STATS_MAP(NAME)};
        const uint64_t values[] = {SLUICE_GATEWAY_STATS_MAP(VALUE)};
        status->n_gateway = sizeof names / sizeof names[0];
        status->gateway = make_counters(msg, names, values, status->n_gateway);
        if (status->gateway == NULL) return false;
    }
    if (self->store != NULL) {
        sluice_store_stats stats;
        sluice_store_stats_read(self->store, &stats);
        static const char *const names[] = {SLUICE_STORE_STATS_MAP(NAME)};
        const uint64_t values[] = {SLUICE_STORE_STATS_MAP(VALUE)};
        status->n_store = sizeof names / sizeof names[0];
        status->store = make_counters(msg, names, values, status->n_store);
        status->path = sluice_msg_strdup(msg, sluice_store_path(self->store));
        if (status->store == NULL || status->path == NULL) return false;
    }
#undef NAME
#undef VALUE
    return true;
}

/* Gives: *out, addressed like a turned msg. */
static sluice_err make_reply(const sluice_gateway *self, const sluice_msg *msg, const ProtobufCMessageDescriptor *type,
                             bool (*fill)(const sluice_gateway *self, sluice_msg *reply), sluice_msg **out,
                             sluice_cause *cause) {
    sluice_err err = sluice_msg_new(type, out);
    if (err == SLUICE_OK && !fill(self, *out)) err = SLUICE_NOMEM;
    if (err != SLUICE_OK) {
        sluice_msg_destroy(out);
        return sluice_cause_set(cause, err, "out of memory");
    }
    (*out)->flags = SL_MSG_REPLY;
    (*out)->correlation = msg->correlation;
    (*out)->to = msg->from;
    (*out)->from = msg->to;
    return SLUICE_OK;
}

static bool fill_reading(const sluice_gateway *self, sluice_msg *msg, const sluice_reading *from,
                         Sluice__V1__Reading *to) {
    sluice__v1__reading__init(to);
    to->number = from->number;
    to->leased = from->leased;
    to->busy = from->busy;
    to->age_us = from->age_us;
    to->commit_number = from->commit_number;
    to->asker = from->asker;
    to->request = from->request;
    to->statement_size = from->statement_size;
    bool ours = from->asker != 0 && from->asker == self->pid;
    if (ours) to->request = sl_pending_original(&self->pending, from->request);
    to->asker_name = sluice_msg_strdup(msg, ours ? self->name : "");
    to->statement.len = strlen(from->statement);
    to->statement.data = sluice_msg_memdup(msg, from->statement, to->statement.len);
    return to->asker_name != NULL && to->statement.data != NULL;
}

static bool fill_readers(const sluice_gateway *self, sluice_msg *msg) {
    Sluice__V1__ReadersReply *body = (Sluice__V1__ReadersReply *)msg->body;
    sluice_store_stats stats;
    if (self->store == NULL) return true;
    size_t room = sluice_store_readings(self->store, NULL, 0);
    sluice_reading *shown = sluice_msg_alloc(msg, room * sizeof *shown);
    Sluice__V1__Reading *readings = sluice_msg_alloc(msg, room * sizeof *readings);
    body->readings = sluice_msg_alloc(msg, room * sizeof *body->readings);
    if (shown == NULL || readings == NULL || body->readings == NULL) return false;
    size_t n = sluice_store_readings(self->store, shown, room); /* a moment later there may be more of them */
    for (size_t i = 0; i < n && i < room; i++) {
        if (!fill_reading(self, msg, &shown[i], &readings[i])) return false;
        body->readings[body->n_readings++] = &readings[i];
    }
    sluice_store_stats_read(self->store, &stats);
    body->commit_number = stats.commit_number;
    return true;
}

/* Answers a request to the gateway itself in place: *msg becomes the answer. False: it is for somebody else. */
static bool answer_here(const sluice_gateway *self, sluice_msg **msg) {
    sluice_cause cause;
    sluice_err err;
    sluice_msg *reply = NULL;
    if (sluice_msg_is(*msg, &sluice__v1__ping__descriptor)) {
        err = make_pong(self, *msg, &cause);
    } else if (sluice_msg_is(*msg, &sluice__v1__status_request__descriptor)) {
        err = make_reply(self, *msg, &sluice__v1__status_reply__descriptor, fill_status, &reply, &cause);
    } else if (sluice_msg_is(*msg, &sluice__v1__readers_request__descriptor)) {
        /* It shows what others ask. */
        err = (sluice_msg_rights(*msg) & SLUICE_RIGHT_ADMIN) != 0
                  ? make_reply(self, *msg, &sluice__v1__readers_reply__descriptor, fill_readers, &reply, &cause)
                  : sluice_cause_set(&cause, SLUICE_FORBIDDEN, "seeing what others read needs the admin right");
    } else {
        return false;
    }
    if (reply != NULL) {
        sluice_msg_destroy(msg);
        *msg = reply;
    }
    if (err != SLUICE_OK) sl_msg_turn_error(*msg, &cause);
    return true;
}

/* ---- from peers to actors ---- */

static sluice_err busy(sluice_cause *cause, const char *what) {
    sluice_cause_set(cause, SLUICE_OVERLOADED, "%s", what);
    cause->retry_after_ms = RETRY_AFTER_MS;
    return SLUICE_OVERLOADED;
}

/* Hands a request on. On success *msg is gone; else it is as it came, with the reason in cause. */
static sluice_err forward(sluice_gateway *self, sluice_actor *actor, sl_peer *peer, sluice_msg **msg, const char *to,
                          sluice_cause *cause) {
    sluice_msg *request = *msg;
    uint64_t correlation = request->correlation, key = 0;
    bool is_ask = sluice_msg_is_ask(request);
    sluice_err err = sl_gateway_admit(request, to, cause);
    if (err != SLUICE_OK) return err;
    if (self->closing) return sluice_cause_set(cause, SLUICE_CLOSED, "the gateway is closing");
    request->to = sluice_whereis(self->runtime, to);
    if (request->to == 0) return sluice_cause_set(cause, SLUICE_NO_ACTOR, "nobody is registered as %s", to);
    if (request->to == sluice_actor_pid(actor))
        return sluice_cause_set(cause, SLUICE_FORBIDDEN,
                                "%s is the gateway, which answers Ping, StatusRequest and ReadersRequest", to);
    if (is_ask) {
        if (*sl_peer_in_flight(peer) >= self->options.max_inflight)
            return busy(cause, "too many requests of this connection are being worked on");
        if (sl_peer_unsent(peer) > self->options.max_unsent_bytes / 2)
            return busy(cause, "this connection has not taken the replies it was sent");
        if (request->deadline_ns == 0)
            request->deadline_ns = sluice_actor_now_ns(actor) + DEFAULT_DEADLINE_MS * MILLISECOND;
        bool query = sluice_msg_is(request, &sluice__v1__query_request__descriptor);
        err = sl_pending_add(&self->pending, peer, correlation, request->deadline_ns, query, &key);
        if (err == SLUICE_OVERLOADED) return busy(cause, "too many requests are being worked on");
        if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory");
        request->correlation = key;
    }
    request->source = (uintptr_t)peer; /* whose turn it is, for a fair mailbox */
    err = sl_actor_send(actor, msg, false);
    if (err == SLUICE_OK) {
        COUNT(self, requests);
        return SLUICE_OK;
    }
    sl_pending_entry entry;
    if (is_ask && sl_pending_take(&self->pending, key, &entry)) sl_peer_drop(&entry.peer);
    request->correlation = correlation;
    if (err == SLUICE_OVERLOADED) return busy(cause, "the receiver's queue is full");
    return sluice_cause_set(cause, err, "%s: %s", to, sluice_err_text(err));
}

static void on_request(sluice_gateway *self, sluice_actor *actor, sl_peer *peer, sluice_msg **msg, const char *to) {
    sluice_cause cause;
    if (((*msg)->flags & SL_MSG_REPLY) != 0) {
        sluice_cause_set(&cause, SLUICE_INVALID, "an answer to which nothing was asked");
        reject_request(self, actor, peer, *msg, &cause);
    } else if (sluice_msg_is_ask(*msg) && answer_here(self, msg)) {
        if (((*msg)->flags & SL_MSG_ERROR) != 0) {
            COUNT(self, rejected);
        } else {
            COUNT(self, replies);
        }
        (void)send_to_peer(self, actor, peer, *msg);
    } else if (forward(self, actor, peer, msg, to, &cause) != SLUICE_OK) {
        reject_request(self, actor, peer, *msg, &cause);
    }
}

static void on_frames(sluice_gateway *self, sluice_actor *actor, const sl_incoming *incoming) {
    sl_peer *peer = incoming->peer;
    sluice_cause cause;
    unsigned rights = 0;
    uint8_t user[SL_USER_SIZE];
    if (sl_peer_barred(peer)) return;
    if (!sl_gateway_recognise(self, incoming, &rights, user)) {
        sluice_cause_set(&cause, SLUICE_FORBIDDEN, "the key is not listed, or no more");
        reject(self, actor, peer, 0, &cause);
        sl_endpoint_bar(sl_peer_endpoint(peer), peer, sluice_actor_now_ns(actor));
        COUNT(self, cut_keys);
        return;
    }
    if (incoming->n_frames != 2) {
        sluice_cause_set(&cause, SLUICE_INVALID, "a message has two frames, envelope and body; this one had %u",
                         incoming->n_frames);
        reject(self, actor, peer, 0, &cause);
        if (incoming->n_frames > 2) {
            /* Whoever speaks another framing will not stop: no more of it is read. */
            sl_endpoint_bar(sl_peer_endpoint(peer), peer, sluice_actor_now_ns(actor));
            COUNT(self, barred);
        }
        return;
    }
    sluice_msg *msg = NULL;
    sl_address address;
    uint64_t correlation = 0;
    int kind = 0;
    sluice_err err = sl_wire_decode(sl_runtime_registry(self->runtime), incoming->data[0], incoming->size[0],
                                    incoming->data[1], incoming->size[1], &self->limits, sluice_actor_now_ns(actor),
                                    &msg, &address, &correlation, &kind, &cause);
    if (err != SLUICE_OK) {
        reject(self, actor, peer, correlation, &cause);
        return;
    }
    msg->rights = (uint8_t)rights;
    memcpy(msg->user, user, sizeof msg->user);
    on_request(self, actor, peer, &msg, address.to);
    sluice_msg_destroy(&msg);
}

static void on_sweep(sluice_actor *actor, void *context);

/* Copies what the endpoint counts, and sees to it that connections are looked after. */
static void follow_connections(sluice_gateway *self, sluice_actor *actor, uint32_t wait_ms) {
    static const sl_endpoint_counters none;
    const sl_endpoint_counters *plain = sl_endpoint_counters_of(self->plain);
    const sl_endpoint_counters *curve = self->curve != NULL ? sl_endpoint_counters_of(self->curve) : &none;
    SET(self, connections, plain->accepted + curve->accepted);
    SET(self, connections_open, plain->open + curve->open);
    SET(self, dropped_handshake, plain->dropped_handshake + curve->dropped_handshake);
    SET(self, refused_key, curve->refused_key);
    SET(self, refused_plain, curve->refused_plain);
    SET(self, refused_server_key, curve->refused_server_key);
    SET(self, dropped_oversize, plain->dropped_oversize + curve->dropped_oversize);
    SET(self, dropped_silent, plain->dropped_silent + curve->dropped_silent);
    SET(self, accept_failed, plain->accept_failed + curve->accept_failed);
    if (self->sweep != 0 || plain->open + curve->open == 0 || wait_ms == 0) return;
    /* Without memory for a timer the next connection or message tries again. */
    (void)!sluice_timer_start(actor, wait_ms, 0, on_sweep, self, &self->sweep);
}

static void on_sweep(sluice_actor *actor, void *context) {
    sluice_gateway *self = context;
    self->sweep = 0;
    int64_t now_ns = sluice_actor_now_ns(actor);
    uint32_t plain = sl_endpoint_sweep(self->plain, now_ns);
    uint32_t curve = self->curve != NULL ? sl_endpoint_sweep(self->curve, now_ns) : 0;
    follow_connections(self, actor, plain == 0 || (curve != 0 && curve < plain) ? curve : plain);
}

static void on_monitor(sluice_actor *actor, void *socket, void *context) {
    sluice_gateway *self = context;
    bool plain = socket == sl_endpoint_monitor_socket(self->plain);
    sl_endpoint_poll_monitor(plain ? self->plain : self->curve, sluice_actor_now_ns(actor));
    follow_connections(self, actor, 1);
}

static void on_messages(sluice_actor *actor, void *socket, void *context) {
    sluice_gateway *self = context;
    sl_endpoint *endpoint = socket == sl_endpoint_socket(self->plain) ? self->plain : self->curve;
    for (unsigned i = 0; i < FAIR_SHARE; i++) {
        sl_incoming incoming;
        sluice_err err = sl_endpoint_recv(endpoint, sluice_actor_now_ns(actor), &incoming);
        if (err == SLUICE_TIMEOUT) break;
        if (err != SLUICE_OK) continue;
        on_frames(self, actor, &incoming);
        sl_incoming_fini(&incoming);
    }
    follow_connections(self, actor, 1);
}

/* ---- from actors to peers ---- */

static void finish_command(sluice_gateway *self, sl_gateway_command *command, sluice_err err) {
    pthread_mutex_lock(&self->lock);
    command->err = err;
    command->done = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void on_drain_timeout(sluice_actor *actor, void *context);

/* Ends the drain when nothing is in flight: after a fresh answer LAST_WORD_MS later, for a client whose socket is closed
 * in the same moment drops what has arrived and was not read (libzmq 4.3.4 with ZMQ_IMMEDIATE). */
static void drained_if_empty(sluice_gateway *self, sluice_actor *actor) {
    if (self->draining == NULL || self->pending.n_used > 0) return;
    if (!self->settled && self->answered_ns + LAST_WORD_MS * MILLISECOND > sluice_actor_now_ns(actor)) {
        self->settled = true;
        sluice_timer_cancel(actor, &self->drain);
        if (sluice_timer_start(actor, LAST_WORD_MS, 0, on_drain_timeout, self, &self->drain) == SLUICE_OK) return;
    }
    sl_gateway_command *command = self->draining;
    self->draining = NULL;
    sluice_timer_cancel(actor, &self->drain);
    finish_command(self, command, SLUICE_OK);
}

static void on_reply(sluice_gateway *self, sluice_actor *actor, sluice_msg *reply) {
    sl_pending_entry entry;
    if (!sl_pending_take(&self->pending, reply->correlation, &entry)) {
        COUNT(self, dropped_late);
        return;
    }
    reply->correlation = entry.correlation;
    if (send_to_peer(self, actor, entry.peer, reply)) COUNT(self, replies);
    sl_peer_drop(&entry.peer);
    drained_if_empty(self, actor);
}

static void on_expiry(sluice_actor *actor, void *context) {
    sluice_gateway *self = context;
    uint32_t position = 0;
    sl_pending_entry entry;
    while (sl_pending_take_expired(&self->pending, sluice_actor_now_ns(actor) - GRACE_MS * MILLISECOND, &position,
                                   &entry)) {
        COUNT(self, expired);
        sl_peer_drop(&entry.peer);
    }
    drained_if_empty(self, actor);
}

/* Ends all that is in flight: reads had no effect; of the rest nobody here can say. */
static void answer_all(sluice_gateway *self, sluice_actor *actor) {
    uint32_t position = 0;
    sl_pending_entry entry;
    while (sl_pending_take_expired(&self->pending, INT64_MAX, &position, &entry)) {
        sluice_cause cause;
        sluice_cause_set(&cause, entry.query ? SLUICE_CLOSED : SLUICE_UNKNOWN,
                         "the gateway closed before the answer came");
        reject(self, actor, entry.peer, entry.correlation, &cause);
        sl_peer_drop(&entry.peer);
    }
}

/* ---- commands of the handle ---- */

static void on_drain_timeout(sluice_actor *actor, void *context) {
    sluice_gateway *self = context;
    self->drain = 0;
    answer_all(self, actor);
    drained_if_empty(self, actor);
}

static void drain(sluice_gateway *self, sluice_actor *actor, sl_gateway_command *command) {
    self->closing = true;
    sl_endpoint_hide(self->plain);
    self->draining = command;
    if (self->pending.n_used > 0 &&
        sluice_timer_start(actor, DRAIN_MS, 0, on_drain_timeout, self, &self->drain) != SLUICE_OK)
        answer_all(self, actor);
    drained_if_empty(self, actor);
}

static sl_gateway_command *next_command(sluice_gateway *self) {
    pthread_mutex_lock(&self->lock);
    sl_gateway_command *command = self->commands;
    if (command != NULL) self->commands = command->next;
    pthread_mutex_unlock(&self->lock);
    return command;
}

static void run_commands(sluice_gateway *self, sluice_actor *actor) {
    sl_gateway_command *command;
    while ((command = next_command(self)) != NULL) {
        if (self->closing) {
            sluice_cause_set(&command->cause, SLUICE_CLOSED, "the gateway is closing");
            finish_command(self, command, SLUICE_CLOSED);
        } else if (command->verb == SL_GATEWAY_DRAIN) {
            drain(self, actor, command);
        } else if (command->verb == SL_GATEWAY_RELOAD) {
            atomic_fetch_add_explicit(&self->counters.cut_keys, sl_gateway_keys_use(self, &command->keyring),
                                      memory_order_relaxed);
            finish_command(self, command, SLUICE_OK);
        } else {
            bool tcp = strncmp(command->url, "tcp://", 6) == 0;
            finish_command(self, command,
                           sl_endpoint_bind(tcp && self->curve != NULL ? self->curve : self->plain, command->url,
                                            command->resolved, sizeof command->resolved, &command->cause));
        }
    }
}

/* ---- the behaviour ---- */

/* Answers that a peer's pipe must hold: an answer that is refused there is lost, and its client waits until its
 * deadline. Everything in flight may be answered at once; ZeroMQ hears of what was taken only once it is half the
 * mark; and a peer that asks for more than it may have in flight is to hear each refusal too. */
static int send_hwm(const sluice_gateway_options *options) {
    uint64_t most = 4 * (uint64_t)options->max_inflight;
    if (most < SEND_HWM_MIN) most = SEND_HWM_MIN;
    return (int)(most < SEND_HWM_MAX ? most : SEND_HWM_MAX);
}

static sluice_err watch(sluice_gateway *self, sluice_actor *actor, sl_endpoint *endpoint) {
    if (endpoint == NULL) return SLUICE_OK;
    sluice_err err = sl_actor_watch_socket(actor, sl_endpoint_socket(endpoint), on_messages, self);
    if (err != SLUICE_OK) return err;
    return sl_actor_watch_socket(actor, sl_endpoint_monitor_socket(endpoint), on_monitor, self);
}

static void unwatch(sluice_actor *actor, sl_endpoint *endpoint) {
    if (endpoint == NULL) return;
    sl_actor_unwatch_socket(actor, sl_endpoint_socket(endpoint));
    sl_actor_unwatch_socket(actor, sl_endpoint_monitor_socket(endpoint));
}

static void close_endpoints(sluice_gateway *self, sluice_actor *actor, int linger_ms) {
    unwatch(actor, self->plain);
    unwatch(actor, self->curve);
    sl_gateway_keys_close(self, actor, linger_ms);
    sl_endpoint_close(&self->plain, linger_ms);
}

static sluice_err gateway_init(sluice_actor *actor, void *arg, sluice_cause *cause) {
    sluice_gateway *self = arg;
    sluice_actor_set_state(actor, self);
    sl_limits_init(&self->limits, self->options.max_message_bytes);
    sl_pending_init(&self->pending, self->options.max_inflight_total);
    sl_endpoint_options options = {
        .zmq_context = sl_runtime_zmq_context(self->runtime),
        .max_message_bytes = self->options.max_message_bytes,
        .handshake_ms = (int)self->options.handshake_ms,
        .send_hwm = send_hwm(&self->options),
        .recv_hwm = RECV_HWM,
        .max_unsent_bytes = self->options.max_unsent_bytes,
    };
    sluice_err err = sl_endpoint_open(&options, &self->plain, cause);
    if (err == SLUICE_OK && self->keyring != NULL) err = sl_gateway_keys_open(self, actor, &options, cause);
    if (err == SLUICE_OK && ((err = watch(self, actor, self->plain)) != SLUICE_OK ||
                             (err = watch(self, actor, self->curve)) != SLUICE_OK ||
                             (err = sluice_timer_start(actor, EXPIRY_MS, EXPIRY_MS, on_expiry, self, &self->expiry)) !=
                                 SLUICE_OK))
        sluice_cause_set(cause, err, "out of memory for the gateway's sockets");
    if (err != SLUICE_OK) close_endpoints(self, actor, 0);
    return err;
}

static sluice_err gateway_receive(sluice_actor *actor, sluice_msg **msg) {
    sluice_gateway *self = sluice_actor_state(actor);
    if (((*msg)->flags & SL_MSG_REPLY) != 0) {
        on_reply(self, actor, *msg);
    } else if (!sluice_msg_is_ask(*msg)) {
        if (sluice_msg_is(*msg, &sluice__v1__ping__descriptor)) run_commands(self, actor);
    } else if (answer_here(self, msg)) {
        /* An actor of this process: the answer goes back as the runtime's answers do. */
        sluice_msg *answer = *msg;
        *msg = NULL;
        if (sl_actor_send(actor, &answer, false) != SLUICE_OK) sluice_msg_destroy(&answer);
    } else {
        sluice_cause cause;
        sluice_cause_set(&cause, SLUICE_UNSUPPORTED,
                         "the gateway answers Ping, StatusRequest and ReadersRequest, not %s",
                         sluice_msg_type_name(*msg));
        sluice_reply_error(actor, *msg, &cause);
    }
    return SLUICE_OK;
}

static void gateway_stop(sluice_actor *actor, sluice_err why) {
    sluice_gateway *self = sluice_actor_state(actor);
    (void)why;
    answer_all(self, actor);
    self->settled = true; /* no timer comes any more */
    drained_if_empty(self, actor);
    SET(self, connections_open, 0);
    close_endpoints(self, actor, LINGER_MS);
    sl_pending_fini(&self->pending);
    pthread_mutex_lock(&self->lock);
    self->ended = true;
    for (sl_gateway_command *command = self->commands; command != NULL; command = command->next) {
        command->err = sluice_cause_set(&command->cause, SLUICE_CLOSED, "the gateway has ended");
        command->done = true;
    }
    self->commands = NULL;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

const sluice_behaviour sl_gateway_behaviour = {
    .kind = "gateway", .init = gateway_init, .receive = gateway_receive, .stop = gateway_stop};
