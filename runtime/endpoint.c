/* SPDX-License-Identifier: MIT */
/* The endpoint: one ROUTER socket, bound to any number of ipc and tcp addresses, with every bound set.
 *
 * Thread: that of the gateway actor. ZeroMQ's I/O thread runs free_reply only.
 *
 * States: open -> (bind)* -> listening -> (hide) -> close.
 *
 * Invariants
 *  1. A reply goes out whole or not at all: all frames are made before the routing id is sent, and after an error on
 *     the id nothing follows. (ROUTER would take what follows for another id.)
 *  2. ROUTER_MANDATORY is on, so a reply that cannot be routed is an error here, not silence.
 *  3. What a peer has not taken is bounded by count (send_hwm) and by bytes (max_unsent_bytes). ZeroMQ counts messages
 *     only; bodies over ACCOUNTED_BYTES therefore carry a free function that gives the bytes back to the peer's
 *     account once ZeroMQ has handed them to the system.
 *  4. ROUTER_HANDOVER is off: a routing id used twice never takes a peer's replies away.
 *  5. An ipc socket file is ours from its first moment: its mode is set on the descriptor before it is bound, so that
 *     it is never open to others, not even for an instant. (ZeroMQ itself would make it 0755, and unlink whatever was
 *     there before.) Hence ZMQ_USE_FD.
 *  6. A CURVE endpoint names a peer's key only from what ZeroMQ's ZAP client attached to the message; a NULL peer could
 *     say any User-Id of itself, so there it is never read. Replies go by routing id, which a peer may choose: to a
 *     CURVE peer whose connection has ended nothing is sent, lest another key have taken its id.
 *  7. The monitor's pipe has no high-water mark: a full one would block ZeroMQ's I/O thread, and with it all peers.
 *
 * Stop order: socket files, monitor, connection handles, socket. The socket closes with its listeners and connections
 * at once: zmq_unbind before that would end the connections of the listener without their last replies.
 */
#include "endpoint_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

_Static_assert(sizeof(zmq_msg_t) <= sizeof(((sl_incoming *)0)->storage[0]), "room for a frame");

#define HEARTBEAT_MS 2000
#define HEARTBEAT_TIMEOUT_MS 6000
#define ACCOUNTED_BYTES 1024u
#define LISTEN_BACKLOG 1024
#define CURVE_BYTES 33 /* that a frame is longer by, encrypted: name 8, nonce 8, authenticator 16, flags 1 */
#define ENFORCE_DOMAIN 93 /* ZMQ_ZAP_ENFORCE_DOMAIN, which zmq.h names in draft builds only */

/* ---- peers ---- */

sl_peer *sl_peer_new(sl_endpoint *endpoint, const void *id, size_t size) {
    sl_peer *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    atomic_init(&self->references, 1);
    atomic_init(&self->unsent, 0);
    self->endpoint = endpoint;
    self->fd = -1;
    self->id_size = (uint8_t)(size < SL_PEER_ID_MAX ? size : SL_PEER_ID_MAX);
    memcpy(self->id, id, self->id_size);
    return self;
}

sl_peer *sl_peer_hold(sl_peer *peer) {
    atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
    return peer;
}

void sl_peer_drop(sl_peer **peer) {
    sl_peer *self = *peer;
    *peer = NULL;
    if (self != NULL && atomic_fetch_sub_explicit(&self->references, 1, memory_order_acq_rel) == 1) free(self);
}

size_t sl_peer_unsent(const sl_peer *peer) { return atomic_load_explicit(&peer->unsent, memory_order_relaxed); }
sl_endpoint *sl_peer_endpoint(const sl_peer *peer) { return peer->endpoint; }
sl_standing *sl_peer_standing(sl_peer *peer) { return &peer->standing; }
uint32_t *sl_peer_in_flight(sl_peer *peer) { return &peer->in_flight; }
bool sl_peer_barred(const sl_peer *peer) { return peer->barred; }

/* ---- open and close ---- */

static sluice_err system_error(sluice_cause *cause, int code, const char *what) {
    sluice_err err = sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", what, zmq_strerror(code));
    if (cause != NULL) cause->sys_errno = code;
    return err;
}

/* Switches CURVE on, and makes sure that it is: with an empty domain, or a libzmq that does not know the option, every
 * client that has our public key would come in. */
static sluice_err set_curve(sl_endpoint *self, sluice_cause *cause) {
    const sl_endpoint_options *options = &self->options;
    int yes = 1, enforced = 0, mechanism = 0;
    char domain[64] = "";
    size_t size = sizeof(int), domain_size = sizeof domain;
    if (zmq_setsockopt(self->socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) != 0)
        return sluice_cause_set(cause, SLUICE_UNSUPPORTED, "this libzmq has no CURVE: %s", zmq_strerror(errno));
    if (zmq_setsockopt(self->socket, ZMQ_CURVE_SECRETKEY, options->secret_key, SL_KEY_TEXT_SIZE) != 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "the server's secret key is no key");
    if (options->zap_domain[0] == '\0' ||
        zmq_setsockopt(self->socket, ZMQ_ZAP_DOMAIN, options->zap_domain, strlen(options->zap_domain)) != 0 ||
        zmq_getsockopt(self->socket, ZMQ_ZAP_DOMAIN, domain, &domain_size) != 0 ||
        strcmp(domain, options->zap_domain) != 0)
        return sluice_cause_set(cause, SLUICE_UNSUPPORTED, "the domain of keys could not be set");
    if (zmq_setsockopt(self->socket, ENFORCE_DOMAIN, &yes, sizeof yes) != 0 ||
        zmq_getsockopt(self->socket, ENFORCE_DOMAIN, &enforced, &size) != 0 || enforced != 1)
        return sluice_cause_set(cause, SLUICE_UNSUPPORTED, "this libzmq does not enforce the check of keys");
    size = sizeof mechanism;
    if (zmq_getsockopt(self->socket, ZMQ_MECHANISM, &mechanism, &size) != 0 || mechanism != ZMQ_CURVE)
        return sluice_cause_set(cause, SLUICE_UNSUPPORTED, "CURVE is not on after it was switched on");
    return SLUICE_OK;
}

static sluice_err set_options(sl_endpoint *self, sluice_cause *cause) {
    const sl_endpoint_options *options = &self->options;
    const struct {
        int option, value;
    } settings[] = {
        {ZMQ_ROUTER_MANDATORY, 1},
        {ZMQ_ROUTER_HANDOVER, 0},
        {ZMQ_SNDHWM, options->send_hwm},
        {ZMQ_RCVHWM, options->recv_hwm},
        {ZMQ_HANDSHAKE_IVL, options->handshake_ms},
        {ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS},
        {ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_BACKLOG, LISTEN_BACKLOG},
        {ZMQ_LINGER, 0},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (zmq_setsockopt(self->socket, settings[i].option, &settings[i].value, sizeof(int)) != 0)
            return system_error(cause, errno, "cannot set a socket option");
    /* The limit is on what is on the wire, and an encrypted frame is a little longer there. */
    int64_t max_bytes = (int64_t)options->max_message_bytes + (self->curve ? CURVE_BYTES : 0);
    if (zmq_setsockopt(self->socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof max_bytes) != 0)
        return system_error(cause, errno, "cannot set the message size limit");
    if (self->curve) return set_curve(self, cause);
    /* A peer on an ipc socket is somebody with our own user id, asked from the kernel. */
    uid_t uid = geteuid();
    if (zmq_setsockopt(self->socket, ZMQ_IPC_FILTER_UID, &uid, sizeof uid) != 0)
        return system_error(cause, errno, "cannot set the ipc user filter");
    return SLUICE_OK;
}

static sluice_err open_monitor(sl_endpoint *self, sluice_cause *cause) {
    /* ZeroMQ gives an address up some time after its socket was closed, and memory may come back sooner. */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char address[96];
    snprintf(address, sizeof address, "inproc://sluice-endpoint-%p-%lld.%09ld", (void *)self, (long long)now.tv_sec,
             now.tv_nsec);
    int events = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED | ZMQ_EVENT_DISCONNECTED |
                 ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    if (zmq_socket_monitor(self->socket, address, events) != 0)
        return system_error(cause, errno, "cannot watch the socket");
    self->monitor = zmq_socket(self->options.zmq_context, ZMQ_PAIR);
    if (self->monitor == NULL) return system_error(cause, errno, "cannot make a socket");
    int zero = 0;
    if (zmq_setsockopt(self->monitor, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_setsockopt(self->monitor, ZMQ_RCVHWM, &zero, sizeof zero) != 0 || zmq_connect(self->monitor, address) != 0)
        return system_error(cause, errno, "cannot watch the socket");
    return SLUICE_OK;
}

sluice_err sl_endpoint_open(const sl_endpoint_options *options, sl_endpoint **out, sluice_cause *cause) {
    *out = NULL;
    sl_endpoint *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for an endpoint");
    self->options = *options;
    self->curve = options->secret_key != NULL;
    self->fresh = -1;
    sluice_err err = SLUICE_OK;
    self->socket = zmq_socket(options->zmq_context, ZMQ_ROUTER);
    if (self->socket == NULL) {
        err = system_error(cause, errno, "cannot make a socket");
        goto fail;
    }
    err = set_options(self, cause);
    self->options.secret_key = NULL; /* only borrowed */
    if (err != SLUICE_OK) goto fail;
    if ((err = open_monitor(self, cause)) != SLUICE_OK) goto fail;
    *out = self;
    return SLUICE_OK;
fail:
    sl_endpoint_close(&self, 0);
    return err;
}

/* Removes a socket file if it is still the one we made. */
static void remove_socket_file(const sl_bound *bound) {
    struct stat st;
    if (bound->path[0] != '\0' && lstat(bound->path, &st) == 0 && st.st_dev == bound->device &&
        st.st_ino == bound->inode)
        unlink(bound->path);
}

void sl_endpoint_hide(sl_endpoint *endpoint) {
    for (size_t i = 0; i < endpoint->n_bound; i++) {
        remove_socket_file(&endpoint->bound[i]);
        endpoint->bound[i].path[0] = '\0';
    }
}

void sl_endpoint_close(sl_endpoint **endpoint, int linger_ms) {
    sl_endpoint *self = *endpoint;
    *endpoint = NULL;
    if (self == NULL) return;
    if (self->socket != NULL) {
        sl_endpoint_hide(self);
        /* The monitor ends first: events to a closed pair would block the I/O thread. */
        zmq_socket_monitor(self->socket, NULL, 0);
    }
    if (self->monitor != NULL) zmq_close(self->monitor);
    sl_connections_fini(self);
    if (self->socket != NULL) {
        zmq_setsockopt(self->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(self->socket);
    }
    free(self->bound);
    free(self);
}

void *sl_endpoint_socket(const sl_endpoint *endpoint) { return endpoint->socket; }
void *sl_endpoint_monitor_socket(const sl_endpoint *endpoint) { return endpoint->monitor; }
const sl_endpoint_counters *sl_endpoint_counters_of(const sl_endpoint *endpoint) { return &endpoint->counters; }

/* ---- bind ---- */

static sluice_err bind_error(sluice_cause *cause, int code, const char *url) {
    bool malformed = code == EINVAL || code == EPROTONOSUPPORT || code == ENODEV;
    sluice_err err = code == EADDRINUSE ? SLUICE_EXISTS : malformed ? SLUICE_INVALID : SLUICE_SYSTEM;
    sluice_cause_set(cause, err, "cannot listen on %s: %s%s", url, zmq_strerror(code),
                     code == ENODEV ? " (an address of this machine is needed, not a host name)" : "");
    if (cause != NULL) cause->sys_errno = code;
    return err;
}

/* Room for one more address. */
static sl_bound *next_bound(sl_endpoint *self) {
    sl_bound *grown = realloc(self->bound, (self->n_bound + 1) * sizeof *grown);
    if (grown == NULL) return NULL;
    self->bound = grown;
    memset(&grown[self->n_bound], 0, sizeof *grown);
    return &grown[self->n_bound];
}

static sluice_err bind_tcp(sl_endpoint *self, const char *url, sl_bound *bound, sluice_cause *cause) {
    char address[256];
    static const char local[] = "tcp://localhost:";
    bool is_local = strncmp(url, local, sizeof local - 1) == 0;
    int n = is_local ? snprintf(address, sizeof address, "tcp://127.0.0.1:%s", url + sizeof local - 1)
                     : snprintf(address, sizeof address, "%s", url);
    if (n < 0 || (size_t)n >= sizeof address) return sluice_cause_set(cause, SLUICE_INVALID, "the address is too long");
    int ipv6 = strchr(address, '[') != NULL;
    if (zmq_setsockopt(self->socket, ZMQ_IPV6, &ipv6, sizeof ipv6) != 0)
        return system_error(cause, errno, "cannot set a socket option");
    if (zmq_bind(self->socket, address) != 0) return bind_error(cause, errno, url);
    size_t size = sizeof bound->address;
    if (zmq_getsockopt(self->socket, ZMQ_LAST_ENDPOINT, bound->address, &size) != 0)
        return system_error(cause, errno, "cannot read the bound address");
    return SLUICE_OK;
}

/* Makes the directory of a path if it is missing, open to us alone. */
static sluice_err make_directory_of(const char *path, sluice_cause *cause) {
    char directory[SL_ENDPOINT_PATH_MAX + 1];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL || slash == directory) return SLUICE_OK;
    *slash = '\0';
    if (mkdir(directory, 0700) == 0 || errno == EEXIST) return SLUICE_OK;
    int code = errno;
    sluice_cause_set(cause, SLUICE_SYSTEM, "cannot make the directory %s: %s", directory, strerror(code));
    if (cause != NULL) cause->sys_errno = code;
    return SLUICE_SYSTEM;
}

/* Makes way for our socket: removes a socket file behind which nobody listens; anything else stays and is an error. */
static sluice_err clear_path(const struct sockaddr_un *address, sluice_cause *cause) {
    const char *path = address->sun_path;
    struct stat st;
    if (lstat(path, &st) != 0) return SLUICE_OK;
    if (!S_ISSOCK(st.st_mode))
        return sluice_cause_set(cause, SLUICE_EXISTS, "%s exists and is not a socket; it was left alone", path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return system_error(cause, errno, "cannot make a socket");
    int rc = connect(probe, (const struct sockaddr *)address, sizeof *address);
    int code = rc == 0 ? 0 : errno;
    close(probe);
    if (code != ECONNREFUSED && code != ENOENT)
        return sluice_cause_set(cause, SLUICE_EXISTS, "another process listens on %s", path);
    if (unlink(path) != 0 && errno != ENOENT) return system_error(cause, errno, "cannot remove a dead socket file");
    return SLUICE_OK;
}

static sluice_err bind_ipc(sl_endpoint *self, const char *url, sl_bound *bound, sluice_cause *cause) {
    const char *path = url + strlen("ipc://");
    size_t length = strlen(path);
    if (length == 0 || path[0] == '@' || path[0] == '*' || path[length - 1] == '/')
        return sluice_cause_set(cause, SLUICE_INVALID, "%s: a path of a socket file is needed", url);
    if (length > SL_ENDPOINT_PATH_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID,
                                "the socket path has %zu bytes; at most %u are possible (choose a shorter directory)",
                                length, SL_ENDPOINT_PATH_MAX);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, length + 1);
    sluice_err err = make_directory_of(path, cause);
    if (err != SLUICE_OK || (err = clear_path(&address, cause)) != SLUICE_OK) return err;

    struct stat st;
    bool made = false;
    int none = -1, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return system_error(cause, errno, "cannot make a socket");
    if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) goto fail;
    made = true;
    if (lstat(path, &st) != 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        zmq_setsockopt(self->socket, ZMQ_USE_FD, &fd, sizeof fd) != 0)
        goto fail;
    snprintf(bound->address, sizeof bound->address, "%s", url);
    int rc = zmq_bind(self->socket, url), code = errno;
    (void)zmq_setsockopt(self->socket, ZMQ_USE_FD, &none, sizeof none);
    errno = code;
    if (rc != 0) goto fail;
    memcpy(bound->path, path, length + 1);
    bound->device = st.st_dev;
    bound->inode = st.st_ino;
    return SLUICE_OK;
fail:
    err = bind_error(cause, errno, url);
    if (made) unlink(path);
    close(fd);
    return err;
}

sluice_err sl_endpoint_bind(sl_endpoint *endpoint, const char *url, char *resolved, size_t size, sluice_cause *cause) {
    sl_bound *bound = next_bound(endpoint);
    if (bound == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for an address");
    sluice_err err;
    if (strncmp(url, "tcp://", 6) == 0) {
        err = bind_tcp(endpoint, url, bound, cause);
    } else if (strncmp(url, "ipc://", 6) == 0) {
        err = bind_ipc(endpoint, url, bound, cause);
    } else {
        return sluice_cause_set(cause, SLUICE_INVALID, "%.100s: an address begins with ipc:// or tcp://", url);
    }
    if (err != SLUICE_OK) return err;
    endpoint->n_bound++;
    snprintf(resolved, size, "%s", bound->address);
    return SLUICE_OK;
}

/* ---- receive ---- */

/* Wire bytes of one frame, as ZMTP 3 frames it. */
static uint64_t wire_size(const sl_endpoint *self, size_t size) {
    if (self->curve) size += CURVE_BYTES;
    return (uint64_t)size + (size > 255 ? 9 : 2);
}

/* The key that ZeroMQ attached to the last frame kept. NULL: none. */
static const char *key_of(const sl_endpoint *self, sl_incoming *incoming) {
    if (!self->curve || incoming->n_kept == 0) return NULL;
    return zmq_msg_gets((zmq_msg_t *)(void *)incoming->storage[incoming->n_kept - 1].bytes, "User-Id");
}

/* Finds or makes the peer a message came from, and keeps the connection's account. Gives: a reference; NULL: no
 * memory. */
static sl_peer *peer_of(sl_endpoint *self, zmq_msg_t *id, zmq_msg_t *frame, uint64_t bytes, int64_t now_ns) {
    int fd = zmq_msg_get(frame, ZMQ_SRCFD);
    if (fd < 0) {
        /* ZMTP 1 or 2, which tell nothing of themselves and know no security, or HTTP that looks like it. Nothing of it
         * is heard; ZeroMQ ends it when the handshake's time is up. */
        sl_peer *stranger = sl_peer_new(self, zmq_msg_data(id), zmq_msg_size(id));
        if (stranger != NULL) stranger->barred = true;
        return stranger;
    }
    sl_connection *connection = sl_connection_find(self, fd);
    if (connection == NULL) {
        /* The message was faster than the news of its connection. */
        sl_endpoint_poll_monitor(self, now_ns);
        connection = sl_connection_find(self, fd);
    }
    size_t size = zmq_msg_size(id);
    if (connection == NULL) return sl_peer_new(self, zmq_msg_data(id), size);
    connection->delivered += bytes;
    connection->heard_ns = now_ns;
    sl_peer *peer = connection->peer;
    if (peer != NULL && (peer->id_size != size || memcmp(peer->id, zmq_msg_data(id), size) != 0)) {
        /* The descriptor has a new owner, and a last message of the old one came after the news of it. */
        peer->fd = -1;
        sl_peer_drop(&connection->peer);
        peer = NULL;
    }
    if (peer == NULL) {
        if ((peer = sl_peer_new(self, zmq_msg_data(id), size)) == NULL) return NULL;
        peer->fd = fd;
        connection->peer = peer;
    }
    return sl_peer_hold(peer);
}

sluice_err sl_endpoint_recv(sl_endpoint *endpoint, int64_t now_ns, sl_incoming *out) {
    memset(out, 0, offsetof(sl_incoming, storage));
    zmq_msg_t id;
    zmq_msg_init(&id);
    if (zmq_msg_recv(&id, endpoint->socket, ZMQ_DONTWAIT) < 0) {
        if (errno == EAGAIN) endpoint->drains++;
        zmq_msg_close(&id);
        return SLUICE_TIMEOUT;
    }
    endpoint->received++;
    uint64_t bytes = 0;
    bool more = zmq_msg_more(&id) != 0, lost = false;
    while (more) {
        zmq_msg_t extra, *frame = out->n_kept < 2 ? (zmq_msg_t *)(void *)out->storage[out->n_kept].bytes : &extra;
        zmq_msg_init(frame);
        /* The rest of a message is there when its first frame is. */
        lost = zmq_msg_recv(frame, endpoint->socket, ZMQ_DONTWAIT) < 0;
        more = !lost && zmq_msg_more(frame) != 0;
        if (!lost) {
            bytes += wire_size(endpoint, zmq_msg_size(frame));
            out->n_frames++;
        }
        if (frame == &extra || lost) {
            zmq_msg_close(frame);
        } else {
            out->data[out->n_kept] = zmq_msg_data(frame);
            out->size[out->n_kept] = zmq_msg_size(frame);
            out->n_kept++;
        }
    }
    zmq_msg_t *witness = out->n_kept > 0 ? (zmq_msg_t *)(void *)out->storage[0].bytes : &id;
    out->peer = lost ? NULL : peer_of(endpoint, &id, witness, bytes, now_ns);
    zmq_msg_close(&id);
    if (out->peer == NULL) {
        sl_incoming_fini(out);
        return SLUICE_NOMEM;
    }
    out->key = key_of(endpoint, out);
    return SLUICE_OK;
}

void sl_incoming_fini(sl_incoming *incoming) {
    for (unsigned i = 0; i < incoming->n_kept; i++) zmq_msg_close((zmq_msg_t *)(void *)incoming->storage[i].bytes);
    incoming->n_kept = 0;
    sl_peer_drop(&incoming->peer);
}

/* ---- send ---- */

/* A body on its way out, with the account it is charged to. */
typedef struct reply_block {
    atomic_bool published; /* orders our writes before the I/O thread's reads, for those who cannot see into ZeroMQ */
    size_t size;
    sl_peer *peer;
    _Alignas(16) uint8_t data[];
} reply_block;

/* Threads: ZeroMQ's I/O thread, or ours if the message could not be queued. */
static void free_reply(void *data, void *hint) {
    (void)data;
    reply_block *block = hint;
    (void)atomic_load_explicit(&block->published, memory_order_acquire);
    atomic_fetch_sub_explicit(&block->peer->unsent, block->size, memory_order_relaxed);
    sl_peer_drop(&block->peer);
    free(block);
}

static sluice_err make_body(sl_peer *peer, const sluice_msg *msg, size_t size, zmq_msg_t *out) {
    if (size <= ACCOUNTED_BYTES) {
        if (zmq_msg_init_size(out, size) != 0) return SLUICE_NOMEM;
        sl_wire_pack_body(msg, zmq_msg_data(out));
        return SLUICE_OK;
    }
    reply_block *block = malloc(sizeof *block + size);
    if (block == NULL) return SLUICE_NOMEM;
    block->size = size;
    block->peer = sl_peer_hold(peer);
    sl_wire_pack_body(msg, block->data);
    atomic_fetch_add_explicit(&peer->unsent, size, memory_order_relaxed);
    atomic_init(&block->published, false);
    atomic_store_explicit(&block->published, true, memory_order_release);
    if (zmq_msg_init_data(out, block->data, size, free_reply, block) != 0) {
        free_reply(block->data, block);
        return SLUICE_NOMEM;
    }
    return SLUICE_OK;
}

sluice_err sl_endpoint_send(sl_endpoint *endpoint, sl_peer *peer, const sluice_msg *msg, int64_t now_ns) {
    size_t size = sl_wire_body_size(msg);
    if (size > INT32_MAX) return SLUICE_TOO_BIG;
    if (sl_peer_unsent(peer) > endpoint->options.max_unsent_bytes) return SLUICE_OVERLOADED;
    if (endpoint->curve) { /* invariant 6 */
        sl_endpoint_poll_monitor(endpoint, now_ns);
        if (peer->fd < 0) return SLUICE_UNREACHABLE;
    }
    uint8_t packed[SL_WIRE_ENVELOPE_MAX];
    size_t packed_size = sl_wire_pack_envelope(msg, "", 0, now_ns, packed);
    zmq_msg_t envelope, body;
    if (zmq_msg_init_size(&envelope, packed_size) != 0) return SLUICE_NOMEM;
    memcpy(zmq_msg_data(&envelope), packed, packed_size);
    sluice_err err = make_body(peer, msg, size, &body);
    if (err != SLUICE_OK) {
        zmq_msg_close(&envelope);
        return err;
    }
    if (zmq_send(endpoint->socket, peer->id, peer->id_size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        err = errno == EAGAIN ? SLUICE_OVERLOADED : SLUICE_UNREACHABLE;
        goto fail;
    }
    /* Behind an accepted id these cannot be refused: a peer that leaves now has them dropped whole. */
    if (zmq_msg_send(&envelope, endpoint->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&body, endpoint->socket, ZMQ_DONTWAIT) < 0)
        err = SLUICE_UNREACHABLE;
fail:
    zmq_msg_close(&envelope);
    zmq_msg_close(&body);
    return err;
}
