/* SPDX-License-Identifier: MIT */
/* Connections of an endpoint: who is there, who must go, and why each one ended.
 *
 * Thread: that of the gateway actor.
 *
 * A connection:   ACCEPTED -> fresh -> (handle made) -> open -> DISCONNECTED -> gone
 *                                                         \-> cut (shutdown) -> DISCONNECTED -> gone
 *
 * ZeroMQ's socket knows peers, not connections, and gives no memory account of messages that are not complete. The
 * monitor gives the descriptor of each accepted connection, and messages tell the descriptor they came by. With the
 * kernel's own count of the bytes received there, the difference is what ZeroMQ holds of unfinished messages.
 *
 * Invariants
 *  1. The descriptor ZeroMQ names may be closed, and its number used again, at any moment: questions and shutdowns go to
 *     a duplicate of ours (the handle). It keeps the socket, so a shutdown never hits a stranger.
 *  2. A duplicate that turns out not to be a socket (the number was used again in between) is never closed: it might be
 *     the database file, and closing any descriptor of that drops SQLite's locks. It is one descriptor lost.
 *  3. The handle delays the end of a connection that ZeroMQ closed until the monitor is read; so the monitor is always
 *     read before it is waited on.
 *  4. Only what has had its chance is cut for its undelivered bytes: the socket was found empty, or all others were
 *     served, since the suspicion began, and nothing whole came from that connection meanwhile. A busy client whose
 *     messages wait for us is no suspect.
 *  5. Every end that we or ZeroMQ caused is counted with its reason, once. Ends caused by the peer are no drops. (Of a
 *     connection that had ended before we read of its beginning only that can be said which the order of events says.)
 *
 * Source: byte accounting by TCP_INFO: linux/tcp.h (tcpi_bytes_received); ZMTP 3.1, rfc.zeromq.org/37.
 */
#include "endpoint_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#define MILLISECOND ((int64_t)1000000)
#define SECOND (1000 * MILLISECOND)
#define BARRED_LINGER (500 * MILLISECOND)
#define SWEEP_QUIET_MS 20u /* between sweeps while TCP connections are open; on loopback 20 ms are some 30 MB */
#define SWEEP_BUSY_MS 5u   /* while one of them holds much, or a barred peer waits for its end */
#define HANDSHAKE_BYTES 65536 /* greeting, handshake commands and their frames: never more for an honest peer */
#define HEARTBEAT_BYTES_PER_SECOND 256 /* heartbeats are received but never delivered */
#define BUSY_BYTES (256 * 1024)
#define SILENT_MS 3000 /* half the heartbeat time-out: no data for so long means that silence ended it */

/* ---- the table ---- */

sl_connection *sl_connection_find(sl_endpoint *endpoint, int fd) {
    if (fd < 0 || fd >= endpoint->n_connections || !endpoint->connections[fd].open) return NULL;
    return &endpoint->connections[fd];
}

void sl_connection_cut(sl_connection *connection) {
    connection->cut = true;
    if (connection->handle >= 0) shutdown(connection->handle, SHUT_RDWR);
}

static void forget(sl_endpoint *self, sl_connection *connection) {
    if (connection->owns_handle) close(connection->handle);
    if (connection->peer != NULL) connection->peer->fd = -1;
    sl_peer_drop(&connection->peer);
    connection->open = false;
    connection->owns_handle = false;
    connection->handle = -1;
    self->counters.open--;
}

void sl_connections_fini(sl_endpoint *endpoint) {
    for (int fd = 0; fd < endpoint->n_connections; fd++)
        if (endpoint->connections[fd].open) forget(endpoint, &endpoint->connections[fd]);
    free(endpoint->connections);
    endpoint->connections = NULL;
    endpoint->n_connections = 0;
}

static bool make_room(sl_endpoint *self, int fd) {
    if (fd < self->n_connections) return true;
    int n = self->n_connections == 0 ? 64 : self->n_connections;
    while (n <= fd) n *= 2;
    sl_connection *grown = realloc(self->connections, (size_t)n * sizeof *grown);
    if (grown == NULL) return false;
    memset(&grown[self->n_connections], 0, (size_t)(n - self->n_connections) * sizeof *grown);
    self->connections = grown;
    self->n_connections = n;
    return true;
}

static bool is_socket(int fd) {
    int type;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

/* Makes the handles of the connections that are still there after all news was read. */
static void adopt_fresh(sl_endpoint *self) {
    while (self->fresh >= 0) {
        int fd = self->fresh;
        sl_connection *connection = &self->connections[fd];
        self->fresh = connection->next_fresh;
        connection->next_fresh = -1;
        if (!connection->open || connection->handle >= 0) continue;
        int handle = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (handle < 0) {
            /* Out of descriptors: better to look after the connection by the number it has than not at all. */
            if (errno == EMFILE && is_socket(fd)) connection->handle = fd;
        } else if (is_socket(handle)) {
            connection->handle = handle;
            connection->owns_handle = true;
        } /* else: invariant 2 */
    }
}

/* ---- the monitor's news ---- */

static void on_accepted(sl_endpoint *self, int fd, bool tcp, int64_t now_ns) {
    self->counters.accepted++;
    if (fd < 0 || !make_room(self, fd)) return;
    sl_connection *connection = &self->connections[fd];
    if (connection->open) forget(self, connection);
    /* It may still stand in the list of fresh ones, with its former owner. */
    bool listed = false;
    for (int i = self->fresh; i >= 0 && !listed; i = self->connections[i].next_fresh) listed = i == fd;
    int next = listed ? connection->next_fresh : self->fresh;
    *connection = (sl_connection){.open = true,
                                  .tcp = tcp,
                                  .handle = -1,
                                  .next_fresh = next,
                                  .accepted_ns = now_ns,
                                  .heard_ns = now_ns,
                                  .handshakes_before = self->handshakes};
    if (!listed) self->fresh = fd;
    self->counters.open++;
}

/* Tells why a connection that ended after its handshake did so, from what the kernel still knows of it. */
static void count_end(sl_endpoint *self, const sl_connection *connection, int64_t now_ns) {
    if (connection->handle < 0) {
        /* It was gone before we knew of it. If no handshake was done since, its own was not. */
        if (self->handshakes == connection->handshakes_before) self->counters.dropped_handshake++;
        return;
    }
    if (connection->cut) return;
    struct pollfd ask = {.fd = connection->handle, .events = POLLRDHUP};
    if (poll(&ask, 1, 0) < 0 || (ask.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0) return; /* it left */
    bool silent;
    if (connection->tcp) {
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        if (getsockopt(connection->handle, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return;
        silent = info.tcpi_last_data_recv >= SILENT_MS;
    } else {
        /* The kernel keeps no time here: but a peer that broke the rules was cut while it spoke. */
        int unread = 0;
        silent = ioctl(connection->handle, SIOCINQ, &unread) == 0 && unread == 0 &&
                 now_ns - connection->heard_ns >= SILENT_MS * MILLISECOND;
    }
    if (silent) {
        self->counters.dropped_silent++;
    } else {
        self->counters.dropped_oversize++;
    }
}

static void on_disconnected(sl_endpoint *self, int fd, int64_t now_ns) {
    sl_connection *connection = sl_connection_find(self, fd);
    if (connection == NULL) return;
    /* A client whose key was refused is told so, and its connection ends when it likes or the greeting's time is up. */
    bool refused = !self->handshake_failed && connection->peer == NULL && self->refusals_open > 0;
    if (refused)
        self->refusals_open--;
    else if (!self->handshake_failed)
        count_end(self, connection, now_ns);
    forget(self, connection);
}

/* Reads one event. False: none is there. */
static bool next_event(void *monitor, uint16_t *event, int32_t *value, bool *tcp) {
    zmq_msg_t first, address;
    zmq_msg_init(&first);
    if (zmq_msg_recv(&first, monitor, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&first);
        return false;
    }
    const char *data = zmq_msg_data(&first);
    *event = 0;
    *value = -1;
    if (zmq_msg_size(&first) >= sizeof *event + sizeof *value) {
        memcpy(event, data, sizeof *event);
        memcpy(value, data + sizeof *event, sizeof *value);
    }
    zmq_msg_init(&address);
    *tcp = zmq_msg_more(&first) && zmq_msg_recv(&address, monitor, ZMQ_DONTWAIT) >= 6 &&
           memcmp(zmq_msg_data(&address), "tcp://", 6) == 0;
    zmq_msg_close(&address);
    zmq_msg_close(&first);
    return true;
}

/* The counter for a failed handshake. */
static uint64_t *reason_of(sl_endpoint *self, uint16_t event, int32_t value) {
    sl_endpoint_counters *counters = &self->counters;
    if (!self->curve) return &counters->dropped_handshake;
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        return value == EFAULT ? &counters->refused_key : &counters->dropped_handshake; /* no ZAP handler answers */
    switch (value) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: return &counters->refused_plain;
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: return &counters->refused_server_key;
    default: return &counters->dropped_handshake;
    }
}

void sl_endpoint_poll_monitor(sl_endpoint *endpoint, int64_t now_ns) {
    uint16_t event;
    int32_t value;
    bool tcp;
    while (next_event(endpoint->monitor, &event, &value, &tcp)) {
        bool failed = false;
        switch (event) {
        case ZMQ_EVENT_ACCEPTED: on_accepted(endpoint, value, tcp, now_ns); break;
        case ZMQ_EVENT_ACCEPT_FAILED: endpoint->counters.accept_failed++; break;
        case ZMQ_EVENT_DISCONNECTED: on_disconnected(endpoint, value, now_ns); break;
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: endpoint->handshakes++; break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            endpoint->counters.refused_key++;
            endpoint->refusals_open++;
            break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
            /* The event names no descriptor; its connection's DISCONNECTED follows at once. */
            *reason_of(endpoint, event, value) += 1;
            failed = true;
            break;
        default: break;
        }
        endpoint->handshake_failed = failed;
    }
    adopt_fresh(endpoint);
}

/* ---- the sweep ---- */

/* True if a connection with too many undelivered bytes had its chance and is to be cut. */
static bool convicted(const sl_endpoint *self, sl_connection *connection) {
    if (connection->suspect && connection->delivered == connection->suspect_delivered)
        return self->drains > connection->suspect_drains ||
               self->received - connection->suspect_received > 2 * self->counters.open + 64;
    connection->suspect = true;
    connection->suspect_delivered = connection->delivered;
    connection->suspect_received = self->received;
    connection->suspect_drains = self->drains;
    return false;
}

/* Looks at one TCP connection. Returns true if it should be looked at again soon. */
static bool inspect(sl_endpoint *self, sl_connection *connection, int64_t now_ns) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(connection->handle, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
    int64_t age = now_ns - connection->accepted_ns;
    int64_t allowance = HANDSHAKE_BYTES + age / SECOND * HEARTBEAT_BYTES_PER_SECOND;
    int64_t held = (int64_t)(info.tcpi_bytes_received - connection->delivered) - allowance;
    int64_t limit = (int64_t)self->options.max_message_bytes + SL_WIRE_ENVELOPE_MAX;
    if (held > limit) {
        int unread = 0; /* still the kernel's */
        if (ioctl(connection->handle, SIOCINQ, &unread) == 0) held -= unread;
    }
    if (held <= limit) {
        connection->suspect = false;
        return held > BUSY_BYTES;
    }
    if (!convicted(self, connection)) return true;
    self->counters.dropped_oversize++;
    sl_connection_cut(connection);
    return false;
}

uint32_t sl_endpoint_sweep(sl_endpoint *endpoint, int64_t now_ns) {
    sl_endpoint_poll_monitor(endpoint, now_ns);
    bool any = false, busy = false;
    for (int fd = 0; fd < endpoint->n_connections; fd++) {
        sl_connection *connection = &endpoint->connections[fd];
        if (!connection->open || connection->cut || connection->handle < 0) continue;
        if (connection->cut_at_ns != 0) {
            if (now_ns >= connection->cut_at_ns) {
                sl_connection_cut(connection);
            } else {
                any = true;
            }
        }
        if (connection->cut || !connection->tcp) continue;
        any = true;
        busy |= inspect(endpoint, connection, now_ns);
    }
    return busy ? SWEEP_BUSY_MS : any ? SWEEP_QUIET_MS : 0;
}

void sl_endpoint_bar(sl_endpoint *endpoint, sl_peer *peer, int64_t now_ns) {
    peer->barred = true;
    sl_connection *connection = sl_connection_find(endpoint, peer->fd);
    if (connection != NULL && connection->peer == peer && connection->cut_at_ns == 0)
        connection->cut_at_ns = now_ns + BARRED_LINGER;
}

unsigned sl_endpoint_review(sl_endpoint *endpoint, sl_endpoint_keep_fn keep, void *context) {
    unsigned n = 0;
    for (int fd = 0; fd < endpoint->n_connections; fd++) {
        sl_connection *connection = &endpoint->connections[fd];
        if (!connection->open || connection->cut || connection->peer == NULL || keep(context, connection->peer)) continue;
        connection->peer->barred = true;
        connection->peer->fd = -1; /* nothing more is sent there */
        sl_connection_cut(connection);
        n++;
    }
    return n;
}
