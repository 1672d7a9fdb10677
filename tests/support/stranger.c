/* SPDX-License-Identifier: MIT */
/* Strangers at the door; see stranger.h. */
#include "support/stranger.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "sluice/v1/control.pb-c.h"

/* Dealers still open, so that a failed test does not leave its context waiting for them. */
static void *open_dealers[4096];
static size_t n_open;

void stranger_close(void *dealer) {
    for (size_t i = 0; i < n_open; i++) {
        if (open_dealers[i] != dealer) continue;
        open_dealers[i] = open_dealers[--n_open];
        zmq_close(dealer);
        return;
    }
}

void stranger_close_all(void) {
    while (n_open > 0) stranger_close(open_dealers[n_open - 1]);
}

static void *make_dealer(void *zmq_context) {
    void *dealer = zmq_socket(zmq_context, ZMQ_DEALER);
    assert_non_null(dealer);
    assert_true(n_open < sizeof open_dealers / sizeof open_dealers[0]);
    open_dealers[n_open++] = dealer;
    int zero = 0, wait = STRANGER_WAIT_MS;
    zmq_setsockopt(dealer, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait, sizeof wait);
    zmq_setsockopt(dealer, ZMQ_SNDTIMEO, &wait, sizeof wait);
    return dealer;
}

static void *connect_dealer(void *dealer, const char *url) {
    if (zmq_connect(dealer, url) != 0) fail_msg("zmq_connect %s: %s", url, zmq_strerror(errno));
    return dealer;
}

void *stranger_dealer(void *zmq_context, const char *url) { return connect_dealer(make_dealer(zmq_context), url); }

static void set_text(void *dealer, int option, const char *text) {
    assert_int_equal(zmq_setsockopt(dealer, option, text, strlen(text)), 0);
}

void *stranger_curve_dealer_as(void *zmq_context, const char *url, const char *public_key, const char *secret_key,
                               const char *server_key, const char *routing_id) {
    void *dealer = make_dealer(zmq_context);
    if (server_key != NULL) {
        set_text(dealer, ZMQ_CURVE_SERVERKEY, server_key);
        set_text(dealer, ZMQ_CURVE_PUBLICKEY, public_key);
        set_text(dealer, ZMQ_CURVE_SECRETKEY, secret_key);
    }
    if (routing_id != NULL) set_text(dealer, ZMQ_ROUTING_ID, routing_id);
    return connect_dealer(dealer, url);
}

void *stranger_curve_dealer(void *zmq_context, const char *url, const char *public_key, const char *secret_key,
                            const char *server_key) {
    return stranger_curve_dealer_as(zmq_context, url, public_key, secret_key, server_key, NULL);
}

void *stranger_plain_dealer(void *zmq_context, const char *url, const char *name, const char *password) {
    void *dealer = make_dealer(zmq_context);
    set_text(dealer, ZMQ_PLAIN_USERNAME, name);
    set_text(dealer, ZMQ_PLAIN_PASSWORD, password);
    return connect_dealer(dealer, url);
}

void stranger_send(void *dealer, const void *const *frames, const size_t *sizes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int rc = zmq_send(dealer, sizes[i] > 0 ? frames[i] : "", sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0);
        if (rc < 0) fail_msg("zmq_send: %s", zmq_strerror(errno));
    }
}

stranger_answer stranger_receive(void *dealer) {
    stranger_answer answer = {0};
    zmq_msg_t envelope, body;
    zmq_msg_init(&envelope);
    zmq_msg_init(&body);
    if (zmq_msg_recv(&envelope, dealer, 0) < 0) fail_msg("no answer: %s", zmq_strerror(errno));
    assert_true(zmq_msg_more(&envelope));
    assert_true(zmq_msg_recv(&body, dealer, 0) >= 0);
    assert_false(zmq_msg_more(&body));
    answer.envelope = sluice__v1__envelope__unpack(NULL, zmq_msg_size(&envelope), zmq_msg_data(&envelope));
    assert_non_null(answer.envelope);
    answer.body_size = zmq_msg_size(&body);
    answer.body = malloc(answer.body_size + 1);
    assert_non_null(answer.body);
    memcpy(answer.body, zmq_msg_data(&body), answer.body_size);
    if (answer.envelope->kind == SLUICE__V1__KIND__KIND_ERROR) {
        assert_string_equal(answer.envelope->type, "sluice.v1.Error");
        answer.error = sluice__v1__error__unpack(NULL, answer.body_size, answer.body);
        assert_non_null(answer.error);
    }
    zmq_msg_close(&envelope);
    zmq_msg_close(&body);
    return answer;
}

void stranger_answer_free(stranger_answer *answer) {
    if (answer->envelope != NULL) sluice__v1__envelope__free_unpacked(answer->envelope, NULL);
    if (answer->error != NULL) sluice__v1__error__free_unpacked(answer->error, NULL);
    free(answer->body);
    memset(answer, 0, sizeof *answer);
}

bool stranger_is_silent(void *dealer, int wait_ms) {
    zmq_pollitem_t item = {.socket = dealer, .events = ZMQ_POLLIN};
    return zmq_poll(&item, 1, wait_ms) == 0;
}

void stranger_expect_error(void *dealer, uint64_t correlation, sluice_err err, char *text_out) {
    stranger_answer answer = stranger_receive(dealer);
    if (answer.error == NULL) fail_msg("a %s came instead of an error", answer.envelope->type);
    if (answer.error->code != (uint32_t)err)
        fail_msg("%s (%s) instead of %s", sluice_err_name((sluice_err)answer.error->code), answer.error->text,
                 sluice_err_name(err));
    assert_int_equal(answer.envelope->correlation, correlation);
    assert_true(strlen(answer.error->text) > 0);
    if (text_out != NULL) snprintf(text_out, 256, "%s", answer.error->text);
    stranger_answer_free(&answer);
}

Sluice__V1__Envelope stranger_envelope(const char *type, const char *to, uint64_t correlation) {
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = 1;
    envelope.type = (char *)(uintptr_t)type;
    envelope.to = (char *)(uintptr_t)to;
    envelope.correlation = correlation;
    envelope.kind = SLUICE__V1__KIND__KIND_ASK;
    envelope.deadline_case = SLUICE__V1__ENVELOPE__DEADLINE_DEADLINE_MS;
    envelope.deadline_ms = 5000;
    return envelope;
}

void stranger_ask_bytes(void *dealer, const Sluice__V1__Envelope *envelope, const void *body, size_t size) {
    uint8_t packed[2048];
    assert_true(sluice__v1__envelope__get_packed_size(envelope) <= sizeof packed);
    size_t packed_size = sluice__v1__envelope__pack(envelope, packed);
    stranger_send(dealer, (const void *const[]){packed, body}, (const size_t[]){packed_size, size}, 2);
}

void stranger_ask(void *dealer, const Sluice__V1__Envelope *envelope, const ProtobufCMessage *body) {
    size_t size = body != NULL ? protobuf_c_message_get_packed_size(body) : 0;
    uint8_t *packed = malloc(size + 1);
    assert_non_null(packed);
    if (body != NULL) protobuf_c_message_pack(body, packed);
    stranger_ask_bytes(dealer, envelope, packed, size);
    free(packed);
}

void stranger_ping(void *dealer) {
    Sluice__V1__Ping ping = SLUICE__V1__PING__INIT;
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.Ping", "", 0x70696e67);
    stranger_ask(dealer, &envelope, &ping.base);
    stranger_answer answer = stranger_receive(dealer);
    assert_string_equal(answer.envelope->type, "sluice.v1.Pong");
    assert_int_equal(answer.envelope->correlation, 0x70696e67);
    stranger_answer_free(&answer);
}

/* ---- raw sockets ---- */

int stranger_connect(const char *url) {
    int fd;
    if (strncmp(url, "ipc://", 6) == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", url + 6);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    } else {
        unsigned port = 0;
        assert_int_equal(sscanf(url, "tcp://127.0.0.1:%u", &port), 1);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    }
    struct timeval wait = {.tv_sec = STRANGER_WAIT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    return fd;
}

bool stranger_write(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static void read_exactly(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t n = recv(fd, at, size, 0);
        if (n <= 0) fail_msg("the other side closed while it should greet");
        at += n;
        size -= (size_t)n;
    }
}

void stranger_greet(int fd) {
    /* Source: rfc.zeromq.org/spec/37, ZMTP 3.1: signature, version, mechanism, as-server, filler. */
    uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    assert_true(stranger_write(fd, greeting, sizeof greeting));
    static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER";
    assert_int_equal(sizeof ready - 1, 2 + 0x1c);
    assert_true(stranger_write(fd, ready, sizeof ready - 1));
    uint8_t head[2], rest[255];
    read_exactly(fd, greeting, sizeof greeting);
    read_exactly(fd, head, sizeof head);
    assert_int_equal(head[0], 0x04);
    read_exactly(fd, rest, head[1]);
    assert_memory_equal(rest, "\x05READY", 6);
}

bool stranger_frame_head(int fd, bool more, uint64_t size) {
    uint8_t head[9] = {(uint8_t)(0x02 | (more ? 0x01 : 0))};
    for (int i = 0; i < 8; i++) head[1 + i] = (uint8_t)(size >> (56 - 8 * i));
    return stranger_write(fd, head, sizeof head);
}

bool stranger_frame(int fd, bool more, const void *data, size_t size) {
    if (size > 255) return stranger_frame_head(fd, more, size) && stranger_write(fd, data, size);
    uint8_t head[2] = {more ? 0x01 : 0, (uint8_t)size};
    return stranger_write(fd, head, sizeof head) && stranger_write(fd, data, size);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool stranger_closes(int fd, int wait_ms) {
    int64_t end = now_ms() + wait_ms;
    char buffer[65536];
    for (;;) {
        int64_t left = end - now_ms();
        struct pollfd ask = {.fd = fd, .events = POLLIN};
        if (left < 0 || poll(&ask, 1, (int)left) == 0) return false;
        if (recv(fd, buffer, sizeof buffer, 0) <= 0) return true;
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

size_t stranger_resident(void) {
    if (SANITIZED) return 0;
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0, resident = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}
