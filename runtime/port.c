/* SPDX-License-Identifier: MIT */
/* Ports: how a thread that is no dispatcher asks actors and hears their answers directly.
 *
 * Owning thread: the one that uses it, one at a time. A port is a slot in the actor table with an exchange of its own
 * and no actor. Its replies are not charged, so they are never refused.
 *
 * Messages accepted: whatever is sent to its pid; CLOSED from the runtime, after which recv says CLOSED for good.
 * Stop order: the pid ends first, so that nobody finds it; then the exchange, with what waits in it; the reference to
 * the runtime last.
 */
#include "port.h"

#include <limits.h>

#include "runtime_internal.h"

enum { PORT_MESSAGES = 65536, PORT_BYTES = 1 << 30 };

struct sl_port {
    sluice_runtime *runtime;
    sluice_pid pid;
    bool closed;          /* heard CLOSED */
    sluice_msg *received; /* taken from the exchange, not yet given */
    sl_exchange exchange;
    sl_spin spin;
    sl_port *next, **at; /* runtime->ports, under runtime->lock */
};

sluice_err sl_port_open(sluice_runtime *runtime, sl_port **out, sluice_cause *cause) {
    *out = NULL;
    if (atomic_load(&runtime->closing)) return sluice_cause_set(cause, SLUICE_CLOSED, "the runtime is going down");
    sl_port *port = calloc(1, sizeof *port);
    if (port == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    port->runtime = runtime;
    atomic_fetch_add(&runtime->references, 1);
    sluice_err err = sl_exchange_open(runtime, &port->exchange, cause);
    if (err == SLUICE_OK) {
        port->pid = sl_slot_take(runtime, port->exchange.id, PORT_MESSAGES, PORT_BYTES, 0);
        if (port->pid == 0) err = sluice_cause_set(cause, SLUICE_NOMEM, "the actor table is full");
    }
    pthread_mutex_lock(&runtime->lock);
    port->next = runtime->ports;
    port->at = &runtime->ports;
    if (port->next != NULL) port->next->at = &port->next;
    runtime->ports = port;
    pthread_mutex_unlock(&runtime->lock);
    if (err != SLUICE_OK) {
        sl_port_close(&port);
        return err;
    }
    *out = port;
    return SLUICE_OK;
}

static void drop_received(sl_port *port) {
    while (port->received != NULL) {
        sluice_msg *msg = port->received;
        port->received = msg->next;
        sl_slot_discharge(port->runtime, msg);
        sl_runtime_dead_letter(port->runtime, msg);
    }
}

void sl_port_close(sl_port **port) {
    sl_port *taken = *port;
    if (taken == NULL) return;
    *port = NULL;
    sluice_runtime *runtime = taken->runtime;
    pthread_mutex_lock(&runtime->lock);
    *taken->at = taken->next;
    if (taken->next != NULL) taken->next->at = taken->at;
    pthread_mutex_unlock(&runtime->lock);
    if (taken->pid != 0) sl_slot_release(runtime, taken->pid);
    if (taken->exchange.socket != NULL) sl_port_flush(taken);
    drop_received(taken);
    sl_exchange_close(&taken->exchange);
    free(taken);
    sl_runtime_drop(runtime);
}

sluice_pid sl_port_pid(const sl_port *port) { return port->pid; }
sluice_runtime *sl_port_runtime(const sl_port *port) { return port->runtime; }

sluice_err sl_port_send(sl_port *port, sluice_pid to, sluice_msg **msg) {
    sluice_runtime *runtime = port->runtime;
    if (atomic_load_explicit(&runtime->closing, memory_order_relaxed)) return SLUICE_CLOSED;
    sl_slot *slot = sl_slot_find(runtime, to);
    if (slot == NULL) return SLUICE_NO_ACTOR;
    (*msg)->from = port->pid;
    (*msg)->to = to;
    sluice_err err = sl_slot_charge(runtime, slot, *msg);
    if (err != SLUICE_OK) {
        atomic_fetch_add_explicit(&runtime->counters.overloads, 1, memory_order_relaxed);
        return err;
    }
    err = sl_exchange_queue(&port->exchange, atomic_load_explicit(&slot->exchange, memory_order_relaxed), *msg);
    if (err != SLUICE_OK) {
        sl_slot_discharge(runtime, *msg);
        return err;
    }
    *msg = NULL;
    return SLUICE_OK;
}

/* A message of ours whose receiver has gone comes back as the error it would have got. */
static void on_unsent(void *context, sluice_msg *msg) {
    sl_port *port = context;
    sl_slot_discharge(port->runtime, msg);
    if (!(msg->flags & SL_MSG_ASK)) {
        sl_runtime_dead_letter(port->runtime, msg);
        return;
    }
    sluice_cause cause;
    sluice_cause_set(&cause, SLUICE_NO_ACTOR, "%s", sluice_err_text(SLUICE_NO_ACTOR));
    sl_msg_turn_error(msg, &cause);
    msg->next = port->received;
    port->received = msg;
}

void sl_port_flush(sl_port *port) {
    if (port->exchange.n_dirty == 0) return;
    uint32_t sent = sl_exchange_flush(&port->exchange, on_unsent, port);
    atomic_fetch_add_explicit(&port->runtime->counters.batches, sent, memory_order_relaxed);
}

static int timeout_of(int64_t deadline_ns) {
    if (deadline_ns == 0) return 0;
    if (deadline_ns == INT64_MAX) return -1;
    int64_t left = deadline_ns - sl_now_ns();
    if (left <= 0) return 0;
    left = (left + 999999) / 1000000;
    return left > 3600000 ? 3600000 : (int)left;
}

static sluice_msg *wait(sl_port *port, int timeout_ms) {
    atomic_fetch_add_explicit(&port->runtime->n_waiting, 1, memory_order_relaxed);
    sluice_msg *list = sl_spin_receive(&port->spin, &port->exchange);
    if (list == NULL) list = sl_exchange_receive(&port->exchange, timeout_ms);
    atomic_fetch_sub_explicit(&port->runtime->n_waiting, 1, memory_order_relaxed);
    return list;
}

sluice_err sl_port_recv(sl_port *port, int64_t deadline_ns, sluice_msg **out) {
    *out = NULL;
    sl_port_flush(port);
    for (;;) {
        while (port->received != NULL) {
            sluice_msg *msg = port->received;
            port->received = msg->next;
            msg->next = NULL;
            sl_slot_discharge(port->runtime, msg);
            if (!(msg->flags & SL_MSG_SYSTEM)) {
                *out = msg;
                return SLUICE_OK;
            }
            if (msg->system == SL_SYSTEM_CLOSED) port->closed = true;
            sl_runtime_dead_letter(port->runtime, msg);
        }
        if (port->closed) return SLUICE_CLOSED;
        int timeout_ms = timeout_of(deadline_ns);
        port->received = timeout_ms == 0 ? sl_exchange_receive(&port->exchange, 0) : wait(port, timeout_ms);
        if (port->received == NULL && (timeout_ms == 0 || timeout_of(deadline_ns) == 0)) return SLUICE_TIMEOUT;
    }
}

int sl_port_fd(const sl_port *port) { return sl_exchange_fd(&port->exchange); }

void sl_ports_tell_closed(sluice_runtime *runtime) {
    pthread_mutex_lock(&runtime->lock);
    size_t n = 0;
    for (sl_port *port = runtime->ports; port != NULL; port = port->next) n++;
    sluice_pid *pids = calloc(n + 1, sizeof *pids);
    SL_REQUIRE(pids != NULL);
    n = 0;
    for (sl_port *port = runtime->ports; port != NULL; port = port->next) pids[n++] = port->pid;
    pthread_mutex_unlock(&runtime->lock);
    for (size_t i = 0; i < n; i++) {
        sluice_msg *msg = sl_system_new(SL_SYSTEM_CLOSED, 0);
        SL_REQUIRE(msg != NULL);
        if (pids[i] == 0 || sl_runtime_send(runtime, pids[i], &msg) != SLUICE_OK) sluice_msg_destroy(&msg);
    }
    free(pids);
}
