/* SPDX-License-Identifier: MIT */
/* A TCP proxy that misbehaves; see proxy.h.
 *
 * One thread, one poll set. A pair is a client's connection and the one made for it to the server; each of its two
 * directions is a buffer with its own state. A replay is a connection on which a client's bytes are said again; what
 * the server answers there is thrown away.
 */
#include "support/support.h"
#include "support/proxy.h"
#include "support/random_message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 64, REPLAYS = 16, BUFFER = 64 * 1024, RECORD = 512 * 1024, REPLAY_LIFE_MS = 400, HALF_LIFE_MS = 200 };
enum { ZMTP_SIGNATURE = 10, ZMTP_GREETING = 64 };

typedef struct direction {
    int from, to;
    uint8_t *bytes; /* BUFFER */
    size_t n;
    int64_t held_until;
    unsigned trickle; /* bytes still to go one by one */
    long cut_after;   /* bytes still to be delivered before the cut; -1: no cut */
    bool drop;        /* throw away what comes next, and cut */
    bool ended;       /* nothing more is read from `from` */
    bool told;        /* `to` was told so */
} direction;

typedef struct pair {
    bool open;
    direction way[2]; /* 0: to the server, 1: to the client */
    uint8_t *record;  /* what the client said, up to RECORD */
    size_t recorded;
    int64_t ends_at; /* half-closed: when it ends at last; 0: not */
} pair;

typedef struct replay {
    int fd; /* -1 before it connects */
    uint8_t *bytes;
    size_t n, sent, heard;
    int64_t begins, ends;
} replay;

struct proxy {
    int listener;
    uint16_t port, server_port;
    pthread_t thread;
    bool running;
    support_random random;
    pair pairs[PAIRS];
    replay replays[REPLAYS];
    atomic_bool stop;
    atomic_uint orders, stall_ms, connections, drops_wanted, drops_done;
    atomic_uint chances[PROXY_FAULTS], counts[PROXY_FAULTS];
};

static const char *const names[PROXY_FAULTS] = {"stall",     "delay",    "trickle", "cut mid-frame", "cut before reply",
                                                "duplicate", "half-close"};

const char *proxy_fault_name(proxy_fault fault) { return names[fault]; }

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static uint64_t below(proxy *self, uint64_t n) { return support_random_below(&self->random, n); }

/* ---- connections ---- */

/* A connection under way to the server; -1 if not even that. */
static int dial(const proxy *self) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = loopback(self->server_port);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

static void reset(int fd) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void cut(pair *it) {
    if (!it->open) return;
    it->open = false;
    reset(it->way[0].from);
    reset(it->way[0].to);
    for (int i = 0; i < 2; i++) free(it->way[i].bytes);
    free(it->record);
}

static void accept_one(proxy *self) {
    int client = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (client < 0) return;
    int server = dial(self);
    pair *it = NULL;
    for (int i = 0; i < PAIRS && it == NULL; i++)
        if (!self->pairs[i].open) it = &self->pairs[i];
    if (server < 0 || it == NULL) {
        if (server >= 0) close(server);
        close(client);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *it = (pair){.open = true, .record = malloc(RECORD)};
    it->way[0] = (direction){.from = client, .to = server, .bytes = malloc(BUFFER), .cut_after = -1};
    it->way[1] = (direction){.from = server, .to = client, .bytes = malloc(BUFFER), .cut_after = -1};
    if (it->record == NULL || it->way[0].bytes == NULL || it->way[1].bytes == NULL) abort();
    atomic_fetch_add(&self->connections, 1);
}

/* ---- faults ---- */

static bool begin_replay(proxy *self, const pair *it) {
    if (it->recorded == 0 || it->recorded == RECORD) return false; /* nothing, or no longer from the beginning to now */
    for (int i = 0; i < REPLAYS; i++) {
        replay *at = &self->replays[i];
        if (at->bytes != NULL) continue;
        *at = (replay){.fd = -1, .bytes = malloc(it->recorded), .n = it->recorded};
        if (at->bytes == NULL) abort();
        memcpy(at->bytes, it->record, it->recorded);
        at->begins = now_ms() + (int64_t)below(self, 300);
        at->ends = at->begins + REPLAY_LIFE_MS;
        return true;
    }
    return false;
}

static void begin(proxy *self, pair *it, proxy_fault fault) {
    direction *way = &it->way[below(self, 2)];
    int64_t now = now_ms();
    switch (fault) {
    case PROXY_STALL:
        it->way[0].held_until = it->way[1].held_until = now + 1 + (int64_t)below(self, atomic_load(&self->stall_ms));
        break;
    case PROXY_DELAY: way->held_until = now + 1 + (int64_t)below(self, 20); break;
    case PROXY_TRICKLE: way->trickle = 1 + (unsigned)below(self, 100); break;
    case PROXY_CUT_MID_FRAME: way->cut_after = (long)below(self, way->n > 0 ? way->n : 40); break;
    case PROXY_CUT_BEFORE_REPLY: it->way[1].drop = true; break;
    case PROXY_DUPLICATE:
        if (!begin_replay(self, it)) return;
        break;
    case PROXY_HALF_CLOSE:
        way->ended = true;
        it->ends_at = now + HALF_LIFE_MS;
        break;
    case PROXY_FAULTS: return;
    }
    atomic_fetch_add(&self->counts[fault], 1);
}

static void tempt(proxy *self, pair *it) {
    for (int fault = 0; fault < PROXY_FAULTS; fault++) {
        unsigned chance = atomic_load(&self->chances[fault]);
        if (chance > 0 && below(self, 10000) < chance) begin(self, it, (proxy_fault)fault);
    }
}

static void drop_replays(proxy *self) {
    unsigned wanted_now = atomic_load(&self->drops_wanted);
    if (wanted_now == atomic_load(&self->drops_done)) return;
    for (int i = 0; i < REPLAYS; i++) {
        if (self->replays[i].bytes == NULL) continue;
        if (self->replays[i].fd >= 0) reset(self->replays[i].fd);
        free(self->replays[i].bytes);
        self->replays[i].bytes = NULL;
    }
    for (int i = 0; i < PAIRS; i++) cut(&self->pairs[i]); /* nor what is recorded of it */
    atomic_store(&self->drops_done, wanted_now);
}

static void obey(proxy *self) {
    drop_replays(self);
    unsigned orders = atomic_exchange(&self->orders, 0);
    for (int fault = 0; orders != 0 && fault < PROXY_FAULTS; fault++)
        for (int i = 0; (orders & 1u << fault) != 0 && i < PAIRS; i++)
            if (self->pairs[i].open) begin(self, &self->pairs[i], (proxy_fault)fault);
}

/* ---- bytes ---- */

/* Takes what has arrived. False: the pair is over. */
static bool take(proxy *self, pair *it, direction *way) {
    ssize_t n = recv(way->from, way->bytes + way->n, BUFFER - way->n, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
        way->ended = true;
        return true;
    }
    if (way->drop) return false;
    if (way == &it->way[0]) {
        size_t room = RECORD - it->recorded, size = (size_t)n < room ? (size_t)n : room;
        memcpy(it->record + it->recorded, way->bytes + way->n, size);
        it->recorded += size;
    }
    way->n += (size_t)n;
    tempt(self, it);
    return true;
}

/* Passes on what may go. False: the pair is over. */
static bool give(direction *way, int64_t now) {
    if (way->n == 0 || now < way->held_until) return true;
    size_t most = way->n;
    if (way->trickle > 0) most = 1;
    if (way->cut_after >= 0 && most > (size_t)way->cut_after) most = (size_t)way->cut_after;
    ssize_t sent = most > 0 ? send(way->to, way->bytes, most, MSG_NOSIGNAL) : 0;
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    memmove(way->bytes, way->bytes + sent, way->n - (size_t)sent);
    way->n -= (size_t)sent;
    if (way->trickle > 0) {
        way->trickle--;
        way->held_until = now + 1;
    }
    if (way->cut_after >= 0) {
        way->cut_after -= sent;
        if (way->cut_after <= 0) return false;
    }
    return true;
}

static void tend_pair(proxy *self, pair *it, const struct pollfd *client, const struct pollfd *server, int64_t now) {
    const struct pollfd *at[2] = {client, server};
    bool fine = true;
    for (int i = 0; i < 2 && fine; i++) {
        direction *way = &it->way[i];
        if (!way->ended && way->n < BUFFER && (at[i]->revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            fine = take(self, it, way);
        if (fine) fine = give(way, now);
        if (!fine || !way->ended || way->told || way->n > 0) continue;
        way->told = true;
        shutdown(way->to, SHUT_WR);
        if (it->ends_at == 0) it->ends_at = now + HALF_LIFE_MS;
    }
    if (!fine || (it->ends_at != 0 && now > it->ends_at) || (it->way[0].told && it->way[1].told)) cut(it);
}

/* libzmq's peers greet in steps, each waiting for the other's; a greeting and all that follows in one piece is refused.
 * So the replay, too, waits for the server's part of the greeting. */
static size_t may_send(const replay *at) {
    size_t most = at->heard < ZMTP_SIGNATURE ? ZMTP_SIGNATURE : at->heard < ZMTP_GREETING ? ZMTP_GREETING : at->n;
    return most < at->n ? most : at->n;
}

static void tend_replay(const proxy *self, replay *at, int64_t now) {
    uint8_t waste[4096];
    if (now < at->begins) return;
    if (at->fd < 0) at->fd = dial(self);
    bool over = at->fd < 0 || now > at->ends;
    ssize_t n;
    while (!over && (n = recv(at->fd, waste, sizeof waste, MSG_DONTWAIT)) >= 0) {
        at->heard += (size_t)n;
        over = n == 0;
    }
    if (!over && at->sent < may_send(at)) {
        n = send(at->fd, at->bytes + at->sent, may_send(at) - at->sent, MSG_NOSIGNAL);
        if (n > 0) at->sent += (size_t)n;
        if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN) over = true;
    }
    if (!over) return;
    if (at->fd >= 0) close(at->fd);
    free(at->bytes);
    at->bytes = NULL;
}

static short wanted(const direction *way) { return !way->ended && way->n < BUFFER ? POLLIN : 0; }

static int patience_ms(const proxy *self) {
    for (int i = 0; i < PAIRS; i++)
        for (int d = 0; d < 2 && self->pairs[i].open; d++)
            if (self->pairs[i].way[d].n > 0) return 1;
    for (int i = 0; i < REPLAYS; i++)
        if (self->replays[i].bytes != NULL) return 2;
    return 10;
}

static void *run(void *arg) {
    proxy *self = arg;
    struct pollfd fds[1 + 2 * PAIRS];
    while (!atomic_load(&self->stop)) {
        fds[0] = (struct pollfd){.fd = self->listener, .events = POLLIN};
        for (int i = 0; i < PAIRS; i++) {
            const pair *it = &self->pairs[i];
            for (int d = 0; d < 2; d++) {
                short events = it->open ? wanted(&it->way[d]) : (short)0;
                fds[1 + 2 * i + d] = (struct pollfd){.fd = events != 0 ? it->way[d].from : -1, .events = events};
            }
        }
        poll(fds, 1 + 2 * PAIRS, patience_ms(self));
        int64_t now = now_ms();
        for (int i = 0; i < PAIRS; i++)
            if (self->pairs[i].open) tend_pair(self, &self->pairs[i], &fds[1 + 2 * i], &fds[2 + 2 * i], now);
        for (int i = 0; i < REPLAYS; i++)
            if (self->replays[i].bytes != NULL) tend_replay(self, &self->replays[i], now);
        obey(self);
        if ((fds[0].revents & POLLIN) != 0) accept_one(self); /* last: its place in fds was another's */
    }
    return NULL;
}

/* ---- the handle ---- */

proxy *proxy_open(uint16_t server_port, uint64_t seed) {
    proxy *self = calloc(1, sizeof *self);
    assert_non_null(self);
    self->server_port = server_port;
    self->random.state = seed;
    atomic_store(&self->stall_ms, 300);
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    assert_true(self->listener >= 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(self->listener, 64), 0);
    assert_int_equal(getsockname(self->listener, (struct sockaddr *)&address, &size), 0);
    self->port = ntohs(address.sin_port);
    return self;
}

uint16_t proxy_port(const proxy *self) { return self->port; }

void proxy_start(proxy *self) {
    assert_int_equal(pthread_create(&self->thread, NULL, run, self), 0);
    self->running = true;
}

void proxy_forget(proxy **proxy_at) {
    proxy *self = *proxy_at;
    if (self == NULL) return;
    *proxy_at = NULL;
    close(self->listener);
    free(self);
}

void proxy_close(proxy **proxy_at) {
    proxy *self = *proxy_at;
    if (self == NULL) return;
    atomic_store(&self->stop, true);
    if (self->running) pthread_join(self->thread, NULL);
    for (int i = 0; i < PAIRS; i++) cut(&self->pairs[i]);
    for (int i = 0; i < REPLAYS; i++) {
        if (self->replays[i].bytes == NULL) continue;
        if (self->replays[i].fd >= 0) close(self->replays[i].fd);
        free(self->replays[i].bytes);
    }
    proxy_forget(proxy_at);
}

void proxy_set_chance(proxy *self, proxy_fault fault, unsigned chance) { atomic_store(&self->chances[fault], chance); }
void proxy_set_stall_ms(proxy *self, unsigned ms) { atomic_store(&self->stall_ms, ms > 0 ? ms : 1); }
void proxy_do(proxy *self, proxy_fault fault) { atomic_fetch_or(&self->orders, 1u << fault); }
void proxy_drop_replays(proxy *self) {
    unsigned wanted_now = atomic_fetch_add(&self->drops_wanted, 1) + 1;
    while (atomic_load(&self->drops_done) != wanted_now) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

unsigned proxy_count(const proxy *self, proxy_fault fault) { return atomic_load(&self->counts[fault]); }
unsigned proxy_connections(const proxy *self) { return atomic_load(&self->connections); }
