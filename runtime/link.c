/* SPDX-License-Identifier: MIT */
/* A link is one DEALER socket to one gateway, with a monitor that tells when the connection came or went.
 *
 * Owner: the one thread that uses the client. ZeroMQ's I/O thread connects, reconnects and keeps the heartbeat.
 *
 *             HANDSHAKE_SUCCEEDED                    DISCONNECTED
 *   (down) ----------------------------> (up) --------------------------> (down) ... and so on; `connections` counts
 *      ^------ HANDSHAKE_FAILED ------.                                          how often it came up
 *
 * Sends and accepts: any message of a registered type, as the two frames [envelope][body].
 *
 * Invariants
 *  1. Nothing queues for a peer that is not connected (ZMQ_IMMEDIATE): a send succeeds only into a connection whose
 *     handshake is done, so "never sent" is known to be never sent.
 *  2. After sl_link_poll_state told of connection n, a send never goes into the pipe of a connection before n. The I/O
 *     thread queues the end of the old pipe before it emits the event, and reading ZMQ_EVENTS takes in what is queued
 *     (a plain send may look up to a millisecond later).
 *  3. No routing id is set: two peers under one id would silence the second.
 *
 * Stop order: monitor off, monitor socket, DEALER (lingering for what is already handed over), own context.
 */
#include "link.h"

#include "keys.h"
#include "port.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct sl_link {
    void *own_context; /* NULL: borrowed */
    void *socket;
    void *monitor;
    int socket_fd, monitor_fd;
    bool curve;
    bool monitored; /* zmq_socket_monitor is on */
    size_t max_message_bytes;
    sl_limits limits;
    sl_link_state state;
};

enum {
    HEARTBEAT_IVL_MS = 2000,
    HEARTBEAT_TTL_MS = 6000, /* three intervals without a sign: the peer is gone */
    HANDSHAKE_MS = 3000,
    CONNECT_MS = 3000,
    RECONNECT_MS = 50,
    RECONNECT_MAX_MS = 1000,
    IPC_PATH_MAX = 100, /* sun_path has 108; some systems have less */
};
/* A byte on the wire can be an integer of eight in memory. */
#define REPLY_MEMORY_FACTOR 10u

static sluice_err check_ipc(const char *path, sluice_cause *cause) {
    size_t size = strlen(path);
    if (size == 0) return sluice_cause_set(cause, SLUICE_INVALID, "ipc:// needs the path of a socket");
    if (size > IPC_PATH_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID, "the socket's path has %zu bytes; at most %d are possible", size,
                                IPC_PATH_MAX);
    return SLUICE_OK;
}

static sluice_err check_tcp(const char *url, const char *address, sluice_cause *cause) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address)
        return sluice_cause_set(cause, SLUICE_INVALID, "\"%.100s\" is not tcp://HOST:PORT", url);
    bool bracketed = address[0] == '[';
    if (bracketed ? colon[-1] != ']' : memchr(address, ':', (size_t)(colon - address)) != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "\"%.100s\": an IPv6 address needs brackets: tcp://[::1]:PORT",
                                url);
    if (address[0] == '*')
        return sluice_cause_set(cause, SLUICE_INVALID, "\"%.100s\": * is for listening; connect to a host", url);
    char *end = NULL;
    errno = 0;
    unsigned long port = colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
    if (errno != 0 || end == NULL || *end != '\0' || port == 0 || port > 65535)
        return sluice_cause_set(cause, SLUICE_INVALID, "\"%.100s\": the port must be a number from 1 to 65535", url);
    return SLUICE_OK;
}

static sluice_err check_url(const char *url, sluice_cause *cause) {
    if (url == NULL) return sluice_cause_set(cause, SLUICE_INVALID, "no URL");
    if (strncmp(url, "ipc://", 6) == 0) return check_ipc(url + 6, cause);
    if (strncmp(url, "tcp://", 6) == 0) return check_tcp(url, url + 6, cause);
    return sluice_cause_set(cause, SLUICE_INVALID, "\"%.100s\": a connection needs ipc://PATH or tcp://HOST:PORT", url);
}

static sluice_err set_options(sl_link *link, const sl_link_options *options, sluice_cause *cause) {
    size_t slack = options->max_message_bytes / 4 + 65536;
    int64_t max_frame = (int64_t)(options->max_message_bytes + slack);
    const struct {
        int option, value;
    } table[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_SNDHWM, options->send_hwm},
        {ZMQ_RCVHWM, options->recv_hwm},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_HEARTBEAT_IVL, HEARTBEAT_IVL_MS},
        {ZMQ_HEARTBEAT_TTL, HEARTBEAT_TTL_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TTL_MS},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_MS},
        {ZMQ_RECONNECT_IVL, RECONNECT_MS},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS},
        {ZMQ_IPV6, strchr(options->url, '[') != NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (zmq_setsockopt(link->socket, table[i].option, &table[i].value, sizeof table[i].value) != 0) goto fail;
    if (zmq_setsockopt(link->socket, ZMQ_MAXMSGSIZE, &max_frame, sizeof max_frame) != 0) goto fail;
    sl_limits_init(&link->limits, (size_t)max_frame);
    link->limits.memory_factor = REPLY_MEMORY_FACTOR;
    link->max_message_bytes = options->max_message_bytes;
    if (options->server_key != NULL &&
        (zmq_setsockopt(link->socket, ZMQ_CURVE_SERVERKEY, options->server_key, SL_KEY_TEXT_SIZE) != 0 ||
         zmq_setsockopt(link->socket, ZMQ_CURVE_PUBLICKEY, options->public_key, SL_KEY_TEXT_SIZE) != 0 ||
         zmq_setsockopt(link->socket, ZMQ_CURVE_SECRETKEY, options->secret_key, SL_KEY_TEXT_SIZE) != 0))
        return sluice_cause_set(cause, SLUICE_INVALID, "a key was refused: %s", zmq_strerror(errno));
    return SLUICE_OK;
fail:
    return sluice_cause_set(cause, SLUICE_SYSTEM, "a socket option was refused: %s", zmq_strerror(errno));
}

static sluice_err open_monitor(sl_link *link, void *context, sluice_cause *cause) {
    /* ZeroMQ gives a name up some time after its socket was closed, and memory may come back sooner: in a context that
     * links share the address alone would be taken. */
    char name[64];
    snprintf(name, sizeof name, "inproc://sluice-link-%p-%lld", (void *)link, (long long)sl_now_ns());
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    if (zmq_socket_monitor(link->socket, name, events) != 0) goto fail;
    link->monitored = true;
    link->monitor = zmq_socket(context, ZMQ_PAIR);
    if (link->monitor == NULL) goto fail;
    int zero = 0;
    if (zmq_setsockopt(link->monitor, ZMQ_LINGER, &zero, sizeof zero) != 0 || zmq_connect(link->monitor, name) != 0)
        goto fail;
    return SLUICE_OK;
fail:
    return sluice_cause_set(cause, SLUICE_SYSTEM, "the connection's monitor could not be started: %s",
                            zmq_strerror(errno));
}

static int fd_of(void *socket) {
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

sluice_err sl_link_open(const sl_link_options *options, sl_link **out, sluice_cause *cause) {
    *out = NULL;
    sluice_err err = check_url(options->url, cause);
    if (err != SLUICE_OK) return err;
    sl_link *link = calloc(1, sizeof *link);
    if (link == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a connection");
    void *context = options->zmq_context;
    if (context == NULL) {
        context = link->own_context = zmq_ctx_new();
        if (context == NULL) {
            err = sluice_cause_set(cause, SLUICE_SYSTEM, "no ZeroMQ context: %s", zmq_strerror(errno));
            goto fail;
        }
    }
    link->curve = options->server_key != NULL;
    link->socket = zmq_socket(context, ZMQ_DEALER);
    if (link->socket == NULL) {
        err = sluice_cause_set(cause, SLUICE_SYSTEM, "no socket: %s", zmq_strerror(errno));
        goto fail;
    }
    err = set_options(link, options, cause);
    if (err == SLUICE_OK) err = open_monitor(link, context, cause);
    if (err != SLUICE_OK) goto fail;
    if (zmq_connect(link->socket, options->url) != 0) {
        err = sluice_cause_set(cause, errno == EINVAL ? SLUICE_INVALID : SLUICE_SYSTEM, "\"%.100s\": %s", options->url,
                               zmq_strerror(errno));
        goto fail;
    }
    link->socket_fd = fd_of(link->socket);
    link->monitor_fd = fd_of(link->monitor);
    if (link->socket_fd < 0 || link->monitor_fd < 0) {
        err = sluice_cause_set(cause, SLUICE_SYSTEM, "the socket has no descriptor: %s", zmq_strerror(errno));
        goto fail;
    }
    *out = link;
    return SLUICE_OK;
fail:
    sl_link_close(&link, 0);
    return err;
}

void sl_link_close(sl_link **link, int linger_ms) {
    sl_link *self = *link;
    if (self == NULL) return;
    *link = NULL;
    if (self->monitored) zmq_socket_monitor(self->socket, NULL, 0);
    if (self->monitor != NULL) zmq_close(self->monitor);
    if (self->socket != NULL) {
        zmq_setsockopt(self->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(self->socket);
    }
    /* Blocks while the socket lingers, so never longer than linger_ms. */
    if (self->own_context != NULL)
        while (zmq_ctx_term(self->own_context) != 0 && errno == EINTR) continue;
    free(self);
}

sluice_err sl_link_send(sl_link *link, const sluice_msg *msg, const char *to, int64_t now_ns) {
    size_t body_size = sl_wire_body_size(msg);
    if (body_size > link->max_message_bytes) return SLUICE_TOO_BIG;
    /* ZeroMQ tells of the end before it takes the pipe away: what went there now would be lost without a word. */
    if (!link->state.connected) return SLUICE_UNREACHABLE;
    uint8_t envelope[SL_WIRE_ENVELOPE_MAX];
    size_t envelope_size = sl_wire_pack_envelope(msg, to, 0, now_ns, envelope);
    zmq_msg_t body;
    if (zmq_msg_init_size(&body, body_size) != 0) return SLUICE_NOMEM;
    sl_wire_pack_body(msg, zmq_msg_data(&body));
    int rc;
    do rc = zmq_send(link->socket, envelope, envelope_size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        sluice_err err = errno == ENOMEM ? SLUICE_NOMEM : SLUICE_OVERLOADED;
        zmq_msg_close(&body);
        return err;
    }
    /* The second frame of a message is never refused for fullness: the pipe counts whole messages. Should the peer have
     * gone in between, ZeroMQ drops both, which is a lost message as any. */
    do rc = zmq_msg_send(&body, link->socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) zmq_msg_close(&body);
    return SLUICE_OK;
}

static int receive_frame(sl_link *link, zmq_msg_t *frame) {
    int rc;
    do rc = zmq_msg_recv(frame, link->socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    return rc;
}

sluice_err sl_link_recv(sl_link *link, const sl_registry *registry, int64_t now_ns, sluice_msg **out,
                        uint64_t *correlation_out, sluice_cause *cause) {
    *out = NULL;
    *correlation_out = 0;
    zmq_msg_t frames[2];
    zmq_msg_init(&frames[0]);
    if (receive_frame(link, &frames[0]) < 0) {
        zmq_msg_close(&frames[0]);
        return SLUICE_TIMEOUT;
    }
    zmq_msg_init(&frames[1]);
    unsigned n_frames = 1;
    if (zmq_msg_more(&frames[0]) && receive_frame(link, &frames[1]) >= 0) {
        n_frames = 2;
        zmq_msg_t rest;
        zmq_msg_init(&rest);
        for (bool more = zmq_msg_more(&frames[1]) != 0; more; n_frames++) {
            if (receive_frame(link, &rest) < 0) break;
            more = zmq_msg_more(&rest) != 0;
        }
        zmq_msg_close(&rest);
    }
    sluice_err err;
    if (n_frames != 2) {
        err = sluice_cause_set(cause, SLUICE_INVALID, "a message of %u frames came; 2 are due", n_frames);
    } else {
        sl_address address;
        int kind = 0;
        err = sl_wire_decode(registry, zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0]), zmq_msg_data(&frames[1]),
                             zmq_msg_size(&frames[1]), &link->limits, now_ns, out, &address, correlation_out, &kind,
                             cause);
        if (err == SLUICE_TIMEOUT) err = SLUICE_INVALID; /* here TIMEOUT means that nothing was there */
    }
    zmq_msg_close(&frames[0]);
    zmq_msg_close(&frames[1]);
    return err;
}

unsigned sl_link_wait(sl_link *link, int64_t deadline_ns) {
    struct pollfd fds[2] = {{.fd = link->socket_fd, .events = POLLIN}, {.fd = link->monitor_fd, .events = POLLIN}};
    struct timespec left = {0, 0}, *timeout = &left;
    if (deadline_ns == INT64_MAX) {
        timeout = NULL;
    } else if (deadline_ns != 0) {
        int64_t ns = deadline_ns - sl_now_ns();
        if (ns > 0) left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    }
    if (ppoll(fds, 2, timeout, NULL) <= 0) return 0;
    return (fds[0].revents != 0 ? (unsigned)SL_LINK_MESSAGES : 0u) |
           (fds[1].revents != 0 ? (unsigned)SL_LINK_CONNECTION : 0u);
}

static void on_event(sl_link *link, unsigned event, uint32_t value) {
    switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link->state.connected = true;
        link->state.connections++;
        link->state.problem = NULL;
        break;
    case ZMQ_EVENT_DISCONNECTED:
        link->state.connected = false;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        link->state.problem = "the server refused this client's key";
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        link->state.problem = value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
                                  ? "one side uses keys (CURVE) and the other does not"
                                  : "the peer does not greet as a Sluice gateway does";
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        /* What an earlier attempt told more exactly stays. */
        if (link->state.problem == NULL)
            link->state.problem = link->curve ? "the peer ended the greeting; is this its public key?"
                                              : "the peer ended the greeting; does it want keys (CURVE)?";
        break;
    default:
        break;
    }
}

sl_link_state sl_link_poll_state(sl_link *link) {
    for (;;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        int rc = zmq_msg_recv(&frame, link->monitor, ZMQ_DONTWAIT);
        if (rc < 0) {
            zmq_msg_close(&frame);
            if (errno == EINTR) continue;
            break;
        }
        /* An event is two frames: number (16 bits) and value (32 bits); then the address, which is not needed. */
        uint16_t event = 0;
        uint32_t value = 0;
        if (zmq_msg_size(&frame) >= sizeof event + sizeof value && zmq_msg_more(&frame)) {
            memcpy(&event, zmq_msg_data(&frame), sizeof event);
            memcpy(&value, (const char *)zmq_msg_data(&frame) + sizeof event, sizeof value);
            on_event(link, event, value);
        }
        zmq_msg_close(&frame);
    }
    int events = 0;
    size_t size = sizeof events;
    zmq_getsockopt(link->socket, ZMQ_EVENTS, &events, &size); /* invariant 2 */
    return link->state;
}

void sl_link_fds(const sl_link *link, int out[2]) {
    out[0] = link->socket_fd;
    out[1] = link->monitor_fd;
}
