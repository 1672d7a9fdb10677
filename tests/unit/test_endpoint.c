/* SPDX-License-Identifier: MIT */
/* The endpoint: where it binds, whom it cuts, and that every end is counted with its reason. The test's thread plays the
 * gateway. */
#include "support/stranger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "endpoint.h"
#include "sluice/v1/control.pb-c.h"

#define LIMIT 65536

typedef struct fixture {
    void *zmq;
    sl_endpoint *endpoint;
    char *directory;
    char url[256];
    char text[256];        /* first frame of the latest message, as text */
    unsigned n_messages, n_frames;
    sl_peer *peer;         /* of the latest message */
    sluice_cause cause;
} fixture;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->zmq = zmq_ctx_new();
    self->directory = support_directory_new();
    sl_endpoint_options options = {.zmq_context = self->zmq, .max_message_bytes = LIMIT, .handshake_ms = 200,
                                   .send_hwm = 10, .recv_hwm = 10, .max_unsent_bytes = 4 * LIMIT};
    assert_ok(sl_endpoint_open(&options, &self->endpoint, &self->cause), self->cause);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    sl_peer_drop(&self->peer);
    sl_endpoint_close(&self->endpoint, 0);
    stranger_close_all();
    zmq_ctx_term(self->zmq);
    support_directory_remove(&self->directory);
    free(self);
    return 0;
}

static void listen_tcp(fixture *self) {
    assert_ok(sl_endpoint_bind(self->endpoint, "tcp://127.0.0.1:*", self->url, sizeof self->url, &self->cause),
              self->cause);
}

/* What the gateway does on a wake. */
static void serve_once(fixture *self, int wait_ms) {
    zmq_pollitem_t items[] = {{.socket = sl_endpoint_socket(self->endpoint), .events = ZMQ_POLLIN},
                              {.socket = sl_endpoint_monitor_socket(self->endpoint), .events = ZMQ_POLLIN}};
    zmq_poll(items, 2, wait_ms);
    sl_endpoint_sweep(self->endpoint, now_ns());
    sl_incoming incoming;
    while (sl_endpoint_recv(self->endpoint, now_ns(), &incoming) == SLUICE_OK) {
        self->n_messages++;
        self->n_frames = incoming.n_frames;
        size_t n = incoming.n_kept > 0 && incoming.size[0] < sizeof self->text ? incoming.size[0] : 0;
        if (n > 0) memcpy(self->text, incoming.data[0], n);
        self->text[n] = '\0';
        sl_peer_drop(&self->peer);
        self->peer = sl_peer_hold(incoming.peer);
        sl_incoming_fini(&incoming);
    }
}

#define serve_until(self, condition)                                                                                   \
    do {                                                                                                               \
        int64_t end_ = now_ns() + 5 * (int64_t)1000000000;                                                             \
        while (!(condition)) {                                                                                         \
            if (now_ns() > end_) fail_msg("waited in vain for %s", #condition);                                        \
            serve_once(self, 5);                                                                                       \
        }                                                                                                              \
    } while (0)

#define counters(self) (sl_endpoint_counters_of((self)->endpoint))

static void ipc_socket_is_ours_alone_and_goes_with_us(void **state) {
    fixture *self = *state;
    char url[300], resolved[256];
    struct stat st;
    snprintf(url, sizeof url, "ipc://%s/d/s", self->directory);
    assert_ok(sl_endpoint_bind(self->endpoint, url, resolved, sizeof resolved, &self->cause), self->cause);
    assert_string_equal(resolved, url);
    assert_int_equal(stat(url + 6, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    char *parent = support_path(self->directory, "d");
    assert_int_equal(stat(parent, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    free(parent);

    void *dealer = stranger_dealer(self->zmq, url);
    zmq_send(dealer, "hello", 5, 0);
    serve_until(self, self->n_messages == 1);
    assert_string_equal(self->text, "hello");
    stranger_close(dealer);
    sl_endpoint_hide(self->endpoint);
    assert_int_equal(access(url + 6, F_OK), -1);
}

static void live_ipc_socket_is_not_stolen_and_a_dead_one_is_replaced(void **state) {
    fixture *self = *state;
    char url[300], resolved[256];
    snprintf(url, sizeof url, "ipc://%s/s", self->directory);
    assert_ok(sl_endpoint_bind(self->endpoint, url, resolved, sizeof resolved, &self->cause), self->cause);
    sl_endpoint *second = NULL;
    sl_endpoint_options options = {.zmq_context = self->zmq, .max_message_bytes = LIMIT, .handshake_ms = 200};
    assert_ok(sl_endpoint_open(&options, &second, &self->cause), self->cause);
    assert_int_equal(sl_endpoint_bind(second, url, resolved, sizeof resolved, &self->cause), SLUICE_EXISTS);
    void *dealer = stranger_dealer(self->zmq, url);
    zmq_send(dealer, "still first", 11, 0);
    serve_until(self, self->n_messages == 1);
    stranger_close(dealer);

    /* A socket file as a killed process leaves it. */
    snprintf(url, sizeof url, "ipc://%s/dead", self->directory);
    char *dead = support_path(self->directory, "dead");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", dead);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    assert_ok(sl_endpoint_bind(second, url, resolved, sizeof resolved, &self->cause), self->cause);
    sl_endpoint_close(&second, 0);
    assert_int_equal(access(dead, F_OK), -1);
    free(dead);
}

static void what_is_no_socket_is_left_alone(void **state) {
    fixture *self = *state;
    char url[300], resolved[256];
    char *path = support_path(self->directory, "notes.txt");
    FILE *file = fopen(path, "w");
    fputs("mine", file);
    fclose(file);
    snprintf(url, sizeof url, "ipc://%s", path);
    assert_int_equal(sl_endpoint_bind(self->endpoint, url, resolved, sizeof resolved, &self->cause), SLUICE_EXISTS);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
    free(path);
}

static void wrong_addresses_are_refused_with_a_reason(void **state) {
    fixture *self = *state;
    char resolved[256], url[256] = "ipc:///tmp/";
    memset(url + 11, 'x', 97);
    assert_int_equal(sl_endpoint_bind(self->endpoint, url, resolved, sizeof resolved, &self->cause), SLUICE_INVALID);
    assert_non_null(strstr(self->cause.text, "100"));
    static const char *const wrong[] = {"", "tcp", "udp://127.0.0.1:1", "ipc://", "ipc://@name", "ipc://*",
                                        "tcp://127.0.0.1", "tcp://no.such.host:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (sl_endpoint_bind(self->endpoint, wrong[i], resolved, sizeof resolved, &self->cause) != SLUICE_INVALID)
            fail_msg("%s: %s", wrong[i], self->cause.text);
        assert_true(strlen(self->cause.text) > 0);
    }
}

static void tcp_ports_are_resolved_and_a_taken_one_is_refused(void **state) {
    fixture *self = *state;
    char resolved[256];
    listen_tcp(self);
    assert_int_equal(strncmp(self->url, "tcp://127.0.0.1:", 16), 0);
    assert_true(atoi(self->url + 16) > 0);
    assert_int_equal(sl_endpoint_bind(self->endpoint, self->url, resolved, sizeof resolved, &self->cause),
                     SLUICE_EXISTS);
    assert_ok(sl_endpoint_bind(self->endpoint, "tcp://localhost:0", resolved, sizeof resolved, &self->cause),
              self->cause);
    assert_int_equal(strncmp(resolved, "tcp://127.0.0.1:", 16), 0);
}

static void frames_after_the_second_are_counted_and_freed(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    void *dealer = stranger_dealer(self->zmq, self->url);
    for (int i = 0; i < 50; i++) zmq_send(dealer, "frame", 5, ZMQ_SNDMORE);
    zmq_send(dealer, "last", 4, 0);
    serve_until(self, self->n_messages == 1);
    assert_int_equal(self->n_frames, 51);
    zmq_send(dealer, "next", 4, 0);
    serve_until(self, self->n_messages == 2);
    assert_string_equal(self->text, "next");
    assert_int_equal(self->n_frames, 1);
    stranger_close(dealer);
    serve_until(self, counters(self)->open == 0);
    assert_int_equal(counters(self)->accepted, 1);
    assert_int_equal(counters(self)->dropped_oversize + counters(self)->dropped_silent, 0);
}

static void a_client_that_leaves_is_no_drop(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    for (unsigned i = 1; i <= 20; i++) {
        void *dealer = stranger_dealer(self->zmq, self->url);
        zmq_send(dealer, "hello", 5, 0);
        serve_until(self, self->n_messages == i);
        stranger_close(dealer);
        serve_until(self, counters(self)->open == 0);
    }
    assert_int_equal(counters(self)->accepted, 20);
    assert_int_equal(counters(self)->dropped_handshake, 0);
    assert_int_equal(counters(self)->dropped_oversize, 0);
    assert_int_equal(counters(self)->dropped_silent, 0);
}

static void a_frame_over_the_limit_ends_its_connection(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    static const char bytes[4096];
    for (unsigned i = 1; i <= 5; i++) {
        int fd = stranger_connect(self->url);
        stranger_greet(fd);
        serve_until(self, counters(self)->open == 1);
        stranger_frame_head(fd, false, LIMIT + 1);
        if (i % 2 == 0) (void)stranger_write(fd, bytes, sizeof bytes);
        serve_until(self, counters(self)->dropped_oversize == i);
        assert_true(stranger_closes(fd, 1000));
        close(fd);
        serve_until(self, counters(self)->open == 0);
    }
    /* One byte less passes. */
    int fd = stranger_connect(self->url);
    stranger_greet(fd);
    char *frame = calloc(1, LIMIT);
    stranger_frame(fd, false, frame, LIMIT);
    serve_until(self, self->n_messages == 1);
    free(frame);
    close(fd);
    serve_until(self, counters(self)->open == 0);
    assert_int_equal(counters(self)->dropped_oversize, 5);
}

static void a_message_without_end_ends_its_connection(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    int fd = stranger_connect(self->url);
    void *good = stranger_dealer(self->zmq, self->url);
    stranger_greet(fd);
    static const char bytes[1000];
    bool cut = false;
    for (unsigned i = 0; i < 5000 && !cut; i++) {
        cut = !stranger_frame(fd, true, bytes, sizeof bytes);
        if (i % 50 == 0) {
            zmq_send(good, "good", 4, 0);
            serve_once(self, 1);
        }
    }
    serve_until(self, counters(self)->dropped_oversize == 1);
    assert_true(stranger_closes(fd, 1000));
    close(fd);
    unsigned before = self->n_messages;
    zmq_send(good, "still good", 10, 0);
    serve_until(self, self->n_messages > before && strcmp(self->text, "still good") == 0);
    stranger_close(good);
}

static void a_busy_client_is_not_taken_for_an_endless_one(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    int fd = stranger_connect(self->url);
    stranger_greet(fd);
    char *frame = calloc(1, LIMIT);
    /* Twenty times the limit, all whole, none received by us while the sweep looks. */
    for (unsigned i = 0; i < 20; i++) {
        assert_true(stranger_frame(fd, false, frame, LIMIT));
        for (unsigned k = 0; k < 5; k++) sl_endpoint_sweep(self->endpoint, now_ns());
    }
    free(frame);
    serve_until(self, self->n_messages == 20);
    for (unsigned k = 0; k < 5; k++) sl_endpoint_sweep(self->endpoint, now_ns());
    assert_int_equal(counters(self)->dropped_oversize, 0);
    close(fd);
}

static void other_languages_are_cut_within_the_handshake_time(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    static const struct {
        const char *bytes;
        size_t size;
    } greetings[] = {
        {"GET / HTTP/1.1\r\nHost: sluice\r\n\r\n", 32},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11},
        {"\xff\x00\x00\x00", 4},
        {"", 0}, {"\x01\x00", 2}, {"\x01\x00\x05", 3}, {"\x05\x00name", 6},
        {"\x01\x00", 2}, /* a whole ZMTP 1 identity */
        {"\x01\x00\x05", 3},
        {"\x01\x00\x06\x00hello", 9}, /* and message */
    };
    unsigned n = sizeof greetings / sizeof greetings[0];
    for (unsigned i = 0; i < n; i++) {
        int fd = stranger_connect(self->url);
        assert_true(stranger_write(fd, greetings[i].bytes, greetings[i].size));
        int64_t begin = now_ns();
        serve_until(self, counters(self)->dropped_handshake == i + 1 && counters(self)->open == 0);
        assert_true(now_ns() - begin < (int64_t)1000000000);
        assert_true(stranger_closes(fd, 1000));
        close(fd);
    }
    assert_int_equal(counters(self)->accepted, n);
    assert_int_equal(counters(self)->dropped_oversize, 0);
    assert_int_equal(self->n_messages, 1); /* seen, but not to be heard */
    assert_true(sl_peer_barred(self->peer));
}

static void barred_peer_hears_the_last_answer_and_is_cut(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    void *dealer = stranger_dealer(self->zmq, self->url);
    zmq_send(dealer, "a", 1, 0);
    serve_until(self, self->n_messages == 1);
    assert_false(sl_peer_barred(self->peer));
    sl_endpoint_bar(self->endpoint, self->peer, now_ns());
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__pong__descriptor, &msg), SLUICE_OK);
    msg->flags = SL_MSG_REPLY;
    msg->correlation = 7;
    assert_int_equal(sl_endpoint_send(self->endpoint, self->peer, msg, now_ns()), SLUICE_OK);
    stranger_answer answer = stranger_receive(dealer);
    assert_int_equal(answer.envelope->correlation, 7);
    stranger_answer_free(&answer);
    sl_peer *barred = sl_peer_hold(self->peer);
    zmq_send(dealer, "b", 1, 0);
    serve_until(self, self->n_messages == 2);
    assert_true(self->peer == barred && sl_peer_barred(self->peer));
    sl_peer_drop(&barred);
    serve_until(self, counters(self)->open == 0 || counters(self)->accepted == 2); /* a DEALER comes back */
    stranger_close(dealer);
    serve_until(self, counters(self)->open == 0);
    serve_until(self, sl_endpoint_send(self->endpoint, self->peer, msg, now_ns()) == SLUICE_UNREACHABLE);
    sluice_msg_destroy(&msg);
}

static void replies_that_nobody_takes_are_bounded_by_bytes(void **state) {
    fixture *self = *state;
    listen_tcp(self);
    int fd = stranger_connect(self->url);
    stranger_greet(fd);
    stranger_frame(fd, false, "hello", 5);
    serve_until(self, self->n_messages == 1);
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__pong__descriptor, &msg), SLUICE_OK);
    Sluice__V1__Pong *pong = sluice_msg_body(msg);
    pong->payload.len = 1 << 20;
    pong->payload.data = sluice_msg_alloc(msg, pong->payload.len);
    memset(pong->payload.data, 7, pong->payload.len);
    msg->flags = SL_MSG_REPLY;
    unsigned sent = 0;
    sluice_err err = SLUICE_OK;
    while (sent < 200 && (err = sl_endpoint_send(self->endpoint, self->peer, msg, now_ns())) == SLUICE_OK) {
        sent++;
        serve_once(self, 1);
    }
    assert_int_equal(err, SLUICE_OVERLOADED);
    assert_true(sl_peer_unsent(self->peer) <= 4 * LIMIT + pong->payload.len + 100);
    close(fd);
    serve_until(self, counters(self)->open == 0);
    /* What was not taken is given back. */
    serve_until(self, sl_peer_unsent(self->peer) == 0);
    sluice_msg_destroy(&msg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(ipc_socket_is_ours_alone_and_goes_with_us),
        TEST(live_ipc_socket_is_not_stolen_and_a_dead_one_is_replaced),
        TEST(what_is_no_socket_is_left_alone),
        TEST(wrong_addresses_are_refused_with_a_reason),
        TEST(tcp_ports_are_resolved_and_a_taken_one_is_refused),
        TEST(frames_after_the_second_are_counted_and_freed),
        TEST(a_client_that_leaves_is_no_drop),
        TEST(a_frame_over_the_limit_ends_its_connection),
        TEST(a_message_without_end_ends_its_connection),
        TEST(a_busy_client_is_not_taken_for_an_endless_one),
        TEST(other_languages_are_cut_within_the_handshake_time),
        TEST(barred_peer_hears_the_last_answer_and_is_cut),
        TEST(replies_that_nobody_takes_are_bounded_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
