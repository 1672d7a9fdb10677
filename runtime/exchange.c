/* SPDX-License-Identifier: MIT */
/* Exchanges: how messages cross from one thread of a runtime to another.
 *
 * Owning thread: the dispatcher or port that opened the exchange.
 *
 * A wake-up across CPUs costs more than the rest of a message's path together, so everything one turn has for another
 * thread leaves as one ZeroMQ message: a batch, an array of message pointers. The batch's memory is handed to ZeroMQ
 * with a free function; the receiver takes the pointers out and sets n to 0 before ZeroMQ calls it. If ZeroMQ throws
 * the batch away instead, because the receiver has closed, the free function finds n > 0 and frees the messages.
 *
 * Every exchange is one ROUTER. It is bound to an inproc address that holds its id and generation, and it connects to
 * each peer it wants to send to under an alias made of the same two numbers. An incoming pipe is known by the sender's
 * routing id ('i', id, generation), an outgoing one by the alias ('o', id, generation): the two never clash, so two
 * exchanges may connect to each other at the same time.
 *
 * Invariants
 *  1. An outlet has a pending batch exactly when its id is in the dirty list.
 *  2. Messages to one exchange leave in the order they were queued.
 *  3. runtime->live_batches counts batches that exist; destroy waits for 0, so a free function that ZeroMQ's reaper
 *     calls late never meets a freed runtime.
 *  4. ThreadSanitizer cannot see into libzmq: the release before the send and the acquire after the receive, here and
 *     nowhere else, tell it that a batch crosses threads in order.
 *
 * Stop order: close sends nothing more, frees what is pending, then closes the socket; what waits in it is freed by
 * invariant 3's free function.
 */
#include "exchange.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zmq.h>

#include "runtime_internal.h"

#if defined(__SANITIZE_THREAD__)
#define SL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SL_TSAN 1
#endif
#endif
#ifdef SL_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define HAND_OVER(address) __tsan_release(address)
#define TAKE_OVER(address) __tsan_acquire(address)
#else
#define HAND_OVER(address) ((void)(address))
#define TAKE_OVER(address) ((void)(address))
#endif

struct sl_batch {
    sluice_runtime *runtime;
    uint32_t n, capacity;
    sluice_msg *items[];
};

enum { ADDRESS_SIZE = 64, ALIAS_SIZE = 9, FIRST_CAPACITY = 6 };

static void address_of(char out[ADDRESS_SIZE], const sluice_runtime *runtime, uint32_t id, uint32_t generation) {
    snprintf(out, ADDRESS_SIZE, "inproc://sluice/%" PRIxPTR "/%" PRIu32 ".%" PRIu32, (uintptr_t)runtime, id,
             generation);
}

static void alias_of(uint8_t out[ALIAS_SIZE], char kind, uint32_t id, uint32_t generation) {
    out[0] = (uint8_t)kind;
    memcpy(out + 1, &id, sizeof id);
    memcpy(out + 5, &generation, sizeof generation);
}

static sl_batch *batch_new(sluice_runtime *runtime, uint32_t capacity) {
    sl_batch *batch = malloc(sizeof *batch + capacity * sizeof batch->items[0]);
    if (batch == NULL) return NULL;
    *batch = (sl_batch){.runtime = runtime, .capacity = capacity};
    atomic_fetch_add_explicit(&runtime->live_batches, 1, memory_order_relaxed);
    return batch;
}

/* ZeroMQ's free function; runs on whichever thread lets go last. */
static void batch_free(void *data, void *hint) {
    (void)hint;
    sl_batch *batch = data;
    TAKE_OVER(batch);
    sluice_runtime *runtime = batch->runtime;
    for (uint32_t i = 0; i < batch->n; i++) {
        sl_slot_discharge(runtime, batch->items[i]);
        sl_runtime_dead_letter(runtime, batch->items[i]);
    }
    free(batch);
    atomic_fetch_sub_explicit(&runtime->live_batches, 1, memory_order_release);
}

/* Takes the lowest id that is free. 0 is never an id. */
static sluice_err id_take(sluice_runtime *runtime, uint32_t *id, uint32_t *generation) {
    sluice_err err = SLUICE_OK;
    pthread_mutex_lock(&runtime->lock);
    uint32_t i = 1;
    while (i < runtime->n_exchanges && runtime->exchange_generations[i] % 2 == 1) i++;
    if (i >= runtime->n_exchanges) {
        uint32_t n = runtime->n_exchanges == 0 ? 64 : runtime->n_exchanges * 2;
        uint32_t *grown = realloc(runtime->exchange_generations, n * sizeof *grown);
        if (grown == NULL) {
            err = SLUICE_NOMEM;
        } else {
            memset(grown + runtime->n_exchanges, 0, (n - runtime->n_exchanges) * sizeof *grown);
            runtime->exchange_generations = grown;
            i = runtime->n_exchanges == 0 ? 1 : runtime->n_exchanges;
            runtime->n_exchanges = n;
        }
    }
    if (err == SLUICE_OK) {
        *id = i;
        *generation = ++runtime->exchange_generations[i];
    }
    pthread_mutex_unlock(&runtime->lock);
    return err;
}

static uint32_t generation_of(sluice_runtime *runtime, uint32_t id) {
    pthread_mutex_lock(&runtime->lock);
    uint32_t generation = id < runtime->n_exchanges ? runtime->exchange_generations[id] : 0;
    pthread_mutex_unlock(&runtime->lock);
    return generation;
}

static void id_release(sluice_runtime *runtime, uint32_t id) {
    pthread_mutex_lock(&runtime->lock);
    runtime->exchange_generations[id]++;
    pthread_mutex_unlock(&runtime->lock);
}

sluice_err sl_exchange_open(sluice_runtime *runtime, sl_exchange *out, sluice_cause *cause) {
    uint32_t id = 0, generation = 0;
    *out = (sl_exchange){.runtime = runtime};
    if (id_take(runtime, &id, &generation) != SLUICE_OK) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    out->id = id;
    out->generation = generation;
    out->receive_timeout_ms = -1;

    int none = 0, must = 1;
    uint8_t routing_id[ALIAS_SIZE];
    char address[ADDRESS_SIZE];
    alias_of(routing_id, 'i', id, generation);
    address_of(address, runtime, id, generation);
    out->socket = zmq_socket(runtime->zmq_context, ZMQ_ROUTER);
    /* Mailboxes bound what is under way (a message is charged before it is queued), so the pipes need no bound. */
    if (out->socket == NULL || zmq_setsockopt(out->socket, ZMQ_SNDHWM, &none, sizeof none) != 0 ||
        zmq_setsockopt(out->socket, ZMQ_RCVHWM, &none, sizeof none) != 0 ||
        zmq_setsockopt(out->socket, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_setsockopt(out->socket, ZMQ_ROUTER_MANDATORY, &must, sizeof must) != 0 ||
        zmq_setsockopt(out->socket, ZMQ_ROUTING_ID, routing_id, sizeof routing_id) != 0 ||
        zmq_bind(out->socket, address) != 0) {
        int err = zmq_errno();
        sl_exchange_close(out);
        sluice_cause_set(cause, SLUICE_SYSTEM, "no ZeroMQ socket: %s", zmq_strerror(err));
        if (cause != NULL) cause->sys_errno = err;
        return SLUICE_SYSTEM;
    }
    return SLUICE_OK;
}

void sl_exchange_hide(sl_exchange *exchange) {
    if (exchange->id != 0) id_release(exchange->runtime, exchange->id);
    exchange->id = 0;
}

void sl_exchange_close(sl_exchange *exchange) {
    if (exchange->runtime == NULL) return;
    sl_exchange_hide(exchange);
    for (uint32_t i = 0; i < exchange->n_dirty; i++) {
        sl_outlet *outlet = &exchange->outlets[exchange->dirty[i]];
        batch_free(outlet->pending, NULL);
        outlet->pending = NULL;
    }
    if (exchange->socket != NULL) zmq_close(exchange->socket);
    free(exchange->outlets);
    free(exchange->dirty);
    *exchange = (sl_exchange){0};
}

static sluice_err outlets_grow(sl_exchange *exchange, uint32_t to) {
    uint32_t n = exchange->n_outlets == 0 ? 16 : exchange->n_outlets;
    while (n <= to) n *= 2;
    sl_outlet *outlets = realloc(exchange->outlets, n * sizeof *outlets);
    if (outlets == NULL) return SLUICE_NOMEM;
    memset(outlets + exchange->n_outlets, 0, (n - exchange->n_outlets) * sizeof *outlets);
    exchange->outlets = outlets;
    exchange->n_outlets = n;
    return SLUICE_OK;
}

sluice_err sl_exchange_queue(sl_exchange *exchange, uint32_t to, sluice_msg *msg) {
    if (to >= exchange->n_outlets && outlets_grow(exchange, to) != SLUICE_OK) return SLUICE_NOMEM;
    sl_outlet *outlet = &exchange->outlets[to];
    sl_batch *batch = outlet->pending;
    if (batch == NULL) {
        if (exchange->n_dirty == exchange->dirty_capacity) {
            uint32_t n = exchange->dirty_capacity == 0 ? 16 : exchange->dirty_capacity * 2;
            uint32_t *dirty = realloc(exchange->dirty, n * sizeof *dirty);
            if (dirty == NULL) return SLUICE_NOMEM;
            exchange->dirty = dirty;
            exchange->dirty_capacity = n;
        }
        if ((batch = batch_new(exchange->runtime, FIRST_CAPACITY)) == NULL) return SLUICE_NOMEM;
        outlet->pending = batch;
        exchange->dirty[exchange->n_dirty++] = to;
    } else if (batch->n == batch->capacity) {
        sl_batch *grown = realloc(batch, sizeof *batch + 2 * batch->capacity * sizeof batch->items[0]);
        if (grown == NULL) return SLUICE_NOMEM;
        grown->capacity *= 2;
        outlet->pending = batch = grown;
    }
    batch->items[batch->n++] = msg;
    return SLUICE_OK;
}

/* Makes sure the outlet leads to the exchange that has the id now; false if none has. */
static bool outlet_connect(sl_exchange *exchange, uint32_t to) {
    sl_outlet *outlet = &exchange->outlets[to];
    uint32_t generation = generation_of(exchange->runtime, to);
    if (generation % 2 == 0) return false;
    if (outlet->generation == generation) return true;
    char address[ADDRESS_SIZE];
    if (outlet->generation != 0) {
        address_of(address, exchange->runtime, to, outlet->generation);
        zmq_disconnect(exchange->socket, address); /* the peer may have ended it already */
    }
    uint8_t alias[ALIAS_SIZE];
    alias_of(alias, 'o', to, generation);
    address_of(address, exchange->runtime, to, generation);
    if (zmq_setsockopt(exchange->socket, ZMQ_CONNECT_ROUTING_ID, alias, sizeof alias) != 0 ||
        zmq_connect(exchange->socket, address) != 0)
        return false;
    /* ZeroMQ connects to inproc addresses that nobody is bound to, and keeps for ever what is sent there. An id is
     * released before its socket closes: if it still is what it was, the address was bound when we connected. */
    if (generation_of(exchange->runtime, to) != generation) {
        zmq_disconnect(exchange->socket, address);
        return false;
    }
    outlet->generation = generation;
    return true;
}

/* Sends the batch; false if it could not be sent (it is then still the caller's). */
static bool batch_send(sl_exchange *exchange, uint32_t to, sl_batch *batch) {
    uint8_t alias[ALIAS_SIZE];
    alias_of(alias, 'o', to, exchange->outlets[to].generation);
    /* The alias frame alone tells whether the peer is there; after an error the second frame must not be sent. */
    if (zmq_send(exchange->socket, alias, sizeof alias, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
    zmq_msg_t frame;
    HAND_OVER(batch);
    /* The only failure is no memory for a few bytes; the half-sent message could not be taken back. */
    SL_REQUIRE(zmq_msg_init_data(&frame, batch, sizeof *batch, batch_free, NULL) == 0);
    if (zmq_msg_send(&frame, exchange->socket, ZMQ_DONTWAIT) < 0) zmq_msg_close(&frame);
    return true;
}

uint32_t sl_exchange_flush(sl_exchange *exchange, sl_undeliverable_fn undeliverable, void *context) {
    uint32_t sent = 0;
    /* `undeliverable` may queue more: answers to those who asked. */
    while (exchange->n_dirty > 0) {
        uint32_t to = exchange->dirty[--exchange->n_dirty];
        sl_batch *batch = exchange->outlets[to].pending;
        exchange->outlets[to].pending = NULL;
        if (outlet_connect(exchange, to) && batch_send(exchange, to, batch)) {
            sent++;
            continue;
        }
        for (uint32_t i = 0; i < batch->n; i++) undeliverable(context, batch->items[i]);
        batch->n = 0;
        batch_free(batch, NULL);
    }
    return sent;
}

sluice_msg *sl_exchange_receive(sl_exchange *exchange, int timeout_ms) {
    if (timeout_ms != 0 && timeout_ms != exchange->receive_timeout_ms) {
        if (zmq_setsockopt(exchange->socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms) != 0) return NULL;
        exchange->receive_timeout_ms = timeout_ms;
    }
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    sluice_msg *head = NULL;
    /* First the sender's routing id, then, already there, the batch. */
    if (zmq_msg_recv(&frame, exchange->socket, timeout_ms == 0 ? ZMQ_DONTWAIT : 0) >= 0 && zmq_msg_more(&frame) &&
        zmq_msg_recv(&frame, exchange->socket, ZMQ_DONTWAIT) >= 0) {
        sl_batch *batch = zmq_msg_data(&frame);
        TAKE_OVER(batch);
        sluice_msg **at = &head;
        for (uint32_t i = 0; i < batch->n; i++) {
            *at = batch->items[i];
            at = &batch->items[i]->next;
        }
        *at = NULL;
        batch->n = 0;
        HAND_OVER(batch); /* to the free function, which may run on another thread */
    }
    zmq_msg_close(&frame);
    return head;
}

int sl_exchange_fd(const sl_exchange *exchange) {
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(exchange->socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}
