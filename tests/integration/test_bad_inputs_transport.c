/* SPDX-License-Identifier: MIT */
/* Bad inputs 3, 6, 59 to 62 and 66 to 69: what a connection can do wrong below the messages. Each such connection ends
 * and is counted with its reason, memory stays bounded, and a good client on the same port is served meanwhile.
 */
#include "support/door.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "sluice/v1/control.pb-c.h"
#include "support/demo.pb-c.h"

#define MIB ((size_t)1 << 20)
#define HANDSHAKE_MS 300 /* door_options */

typedef struct fixture {
    door *door;
    void *good;
    uint64_t greeted;
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    sluice_gateway_options options = door_options();
    options.max_message_bytes = MIB;
    options.max_unsent_bytes = 4 * MIB;
    self->door = door_open(&options);
    self->good = stranger_dealer(self->door->zmq, self->door->tcp);
    door_greet(self->good, ++self->greeted);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    door_greet(self->good, ++self->greeted);
    assert_int_equal(door_stats(self->door).dropped_silent, 0);
    door_close(&self->door);
    free(self);
    return 0;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until only the good client is left. */
static void await_alone(fixture *self) { door_await(door_stats(self->door).connections_open == 1); }

static void bad_input_03_a_frame_one_byte_over_the_limit_ends_its_connection(void **state) {
    fixture *self = *state;
    const char *const urls[] = {self->door->tcp, self->door->ipc};
    char *bytes = calloc(1, MIB + 1);
    for (unsigned i = 0; i < 2; i++) {
        int fd = stranger_connect(urls[i]);
        stranger_greet(fd);
        door_await(door_stats(self->door).connections_open == 2);
        (void)stranger_frame(fd, false, bytes, MIB + 1);
        assert_true(stranger_closes(fd, 3000));
        close(fd);
        door_await(door_stats(self->door).dropped_oversize == i + 1);
    }
    /* One of the limit itself passes, and gets its answer. */
    int fd = stranger_connect(self->door->tcp);
    stranger_greet(fd);
    stranger_frame(fd, true, "x", 1);
    stranger_frame(fd, false, bytes, MIB);
    door_await(door_stats(self->door).rejected == 1);
    close(fd);
    free(bytes);
    await_alone(self);
    assert_int_equal(door_stats(self->door).dropped_oversize, 2);
}

static void bad_input_06_frames_without_end_are_cut_in_bounded_memory(void **state) {
    fixture *self = *state;
    static char bytes[65536];
    size_t before = stranger_resident(), peak = 0;
    for (unsigned round = 1; round <= 3; round++) {
        int fd = stranger_connect(self->door->tcp);
        stranger_greet(fd);
        size_t size = round == 1 ? 1 : round == 2 ? 1000 : sizeof bytes, sent = 0;
        int64_t slowest = 0;
        /* Far more than any buffer between here and there takes. */
        while (sent < 512 * MIB && stranger_frame(fd, true, bytes, size)) {
            size_t old = sent;
            sent += size;
            if (sent / MIB == old / MIB) continue;
            int64_t begin = now_ms();
            door_greet(self->good, ++self->greeted);
            if (now_ms() - begin > slowest) slowest = now_ms() - begin;
            size_t resident = stranger_resident();
            if (resident > peak) peak = resident;
        }
        assert_true(sent < 512 * MIB);
        assert_true(stranger_closes(fd, 3000));
        close(fd);
        door_await(door_stats(self->door).dropped_oversize == round);
        assert_true(slowest < 2000);
    }
    if (peak > before + 256 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, peak / MIB);
    await_alone(self);
}

/* Connects, says these bytes (step at a time, if step is not 0), and sees the connection end in time. */
static void expect_cut(fixture *self, const void *bytes, size_t size) {
    uint64_t before = door_stats(self->door).dropped_handshake;
    int fd = stranger_connect(self->door->tcp);
    int64_t begin = now_ms();
    assert_true(stranger_write(fd, bytes, size));
    assert_true(stranger_closes(fd, 3000));
    int64_t took = now_ms() - begin;
    if (took > HANDSHAKE_MS + 700) fail_msg("it took %lld ms", (long long)took);
    close(fd);
    door_await(door_stats(self->door).dropped_handshake == before + 1);
    await_alone(self);
}

static void bad_input_59_http_is_cut(void **state) {
    fixture *self = *state;
    static const char get[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    expect_cut(self, get, sizeof get - 1);
    /* Longer ones look like whole messages of an old protocol. */
    char *post = calloc(1, 20000);
    snprintf(post, 20000, "POST /api HTTP/1.1\r\nHost: localhost\r\nCookie: ");
    memset(post + strlen(post), 'c', 15000);
    expect_cut(self, post, strlen(post));
    free(post);
    assert_int_equal(door_stats(self->door).rejected, 0);
}

static void bad_input_60_tls_is_cut(void **state) {
    fixture *self = *state;
    uint8_t hello[517] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03};
    for (size_t i = 11; i < sizeof hello; i++) hello[i] = (uint8_t)(i * 37);
    expect_cut(self, hello, sizeof hello);
}

static void bad_input_61_partial_greeting_is_cut(void **state) {
    fixture *self = *state;
    uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const size_t sizes[] = {0, 1, 9, 10, 11, 12, 32, 63, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) expect_cut(self, greeting, sizes[i]);
    /* Other mechanisms and versions than are spoken here. */
    memcpy(greeting + 12, "CURVE", 5);
    expect_cut(self, greeting, sizeof greeting);
    memcpy(greeting + 12, "PLAIN", 5);
    expect_cut(self, greeting, sizeof greeting);
    memset(greeting + 12, 'x', 20);
    expect_cut(self, greeting, sizeof greeting);
}

static void bad_input_62_one_byte_at_a_time_is_cut(void **state) {
    fixture *self = *state;
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const char http[] = "GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *bytes = i == 0 ? greeting : (const uint8_t *)http;
        int fd = stranger_connect(self->door->tcp);
        int64_t begin = now_ms();
        bool cut = false;
        /* 64 bytes at 20 ms each would take four times the handshake's time. */
        for (size_t k = 0; k < 64 && !cut; k++) {
            cut = !stranger_write(fd, &bytes[k], 1);
            struct timespec pause = {.tv_nsec = 20000000};
            nanosleep(&pause, NULL);
        }
        assert_true(cut || stranger_closes(fd, 100));
        assert_true(now_ms() - begin < 64 * 20);
        close(fd);
        door_await(door_stats(self->door).dropped_handshake == i + 1);
        await_alone(self);
    }
}

static void bad_input_66_a_huge_frame_before_the_handshake_is_cut(void **state) {
    fixture *self = *state;
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static char bytes[65536];
    size_t before = stranger_resident();
    for (unsigned i = 0; i < 2; i++) {
        int fd = stranger_connect(self->door->tcp);
        assert_true(stranger_write(fd, greeting, sizeof greeting));
        /* As a message, and as a handshake command. */
        uint8_t head[9] = {i == 0 ? 0x02 : 0x06, 0, 0, 0, 0, 0x0b, 0xeb, 0xc2, 0x00};
        size_t sent = 0;
        if (stranger_write(fd, head, sizeof head))
            while (sent < 200 * MIB && stranger_write(fd, bytes, sizeof bytes)) sent += sizeof bytes;
        assert_true(sent < 200 * MIB);
        assert_true(stranger_closes(fd, 3000));
        close(fd);
        await_alone(self);
    }
    size_t after = stranger_resident();
    if (after > before + 32 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, after / MIB);
    door_await(door_stats(self->door).dropped_oversize + door_stats(self->door).dropped_handshake >= 2);
}

static void bad_input_67_a_hundred_parked_megabytes_are_bounded_and_freed(void **state) {
    fixture *self = *state;
    enum { N = 100 };
    int fds[N];
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static char bytes[MIB];
    size_t before = stranger_resident();
    for (unsigned i = 0; i < N; i++) {
        fds[i] = stranger_connect(self->door->tcp);
        struct timeval brief = {.tv_usec = 2000};
        setsockopt(fds[i], SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief);
        (void)(stranger_write(fds[i], greeting, sizeof greeting) &&
               stranger_frame_head(fds[i], false, sizeof bytes) && stranger_write(fds[i], bytes, sizeof bytes - 1));
        if (i % 10 == 0) door_greet(self->good, ++self->greeted);
    }
    size_t peak = stranger_resident();
    int64_t begin = now_ms();
    for (unsigned i = 0; i < N; i++) assert_true(stranger_closes(fds[i], 3000));
    assert_true(now_ms() - begin < HANDSHAKE_MS + 2000);
    for (unsigned i = 0; i < N; i++) close(fds[i]);
    await_alone(self);
    if (peak > before + 160 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, peak / MIB);
}

static void bad_input_68_connect_and_reset_again_and_again(void **state) {
    fixture *self = *state;
    unsigned n = support_scaled(3000);
    size_t before = stranger_resident();
    for (unsigned i = 0; i < n; i++) {
        int fd = stranger_connect(self->door->tcp);
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        if (i % 100 == 0) door_greet(self->good, ++self->greeted);
    }
    await_alone(self);
    size_t after = stranger_resident();
    if (after > before + 32 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, after / MIB);
    assert_true(door_stats(self->door).connections >= 2);
    assert_int_equal(door_stats(self->door).dropped_oversize, 0);
}

static void bad_input_69_a_client_that_never_reads_is_bounded(void **state) {
    fixture *self = *state;
    int fd = stranger_connect(self->door->tcp);
    int little = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    stranger_greet(fd);
    char *name = calloc(1, 200000);
    memset(name, 'n', 200000 - 1);
    Demo__V1__Hello hello = DEMO__V1__HELLO__INIT;
    hello.name = name;
    size_t size = demo__v1__hello__get_packed_size(&hello);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    demo__v1__hello__pack(&hello, packed);
    size_t before = stranger_resident();
    unsigned n = 400, sent = 0;
    for (; sent < n; sent++) {
        Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", "echo", sent);
        uint8_t frame[256];
        if (!stranger_frame(fd, true, frame, sluice__v1__envelope__pack(&envelope, frame)) ||
            !stranger_frame(fd, false, packed, size))
            break;
        if (sent % 20 == 0) door_greet(self->good, ++self->greeted);
    }
    assert_int_equal(sent, n); /* it was heard to the end, */
    door_await(door_stats(self->door).rejected > 0); /* but refused more and more */
    size_t after = stranger_resident();
    if (after > before + 64 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, after / MIB);
    free(packed);
    free(name);
    close(fd);
    await_alone(self);
}

/* ---- beyond the list ---- */

static void a_frame_of_100_megabytes_ends_its_connection(void **state) {
    fixture *self = *state;
    static char bytes[65536];
    size_t before = stranger_resident();
    int fd = stranger_connect(self->door->tcp);
    stranger_greet(fd);
    door_await(door_stats(self->door).connections_open == 2);
    (void)stranger_frame_head(fd, false, 100 * MIB);
    size_t sent = 0;
    while (sent < 100 * MIB && stranger_write(fd, bytes, sizeof bytes)) sent += sizeof bytes;
    assert_true(sent < 100 * MIB);
    assert_true(stranger_closes(fd, 3000));
    close(fd);
    door_await(door_stats(self->door).dropped_oversize == 1);
    size_t after = stranger_resident();
    if (after > before + 32 * MIB) fail_msg("memory rose from %zu to %zu MiB", before / MIB, after / MIB);
    await_alone(self);
}

static void garbage_bytes_on_the_port_harm_nobody(void **state) {
    fixture *self = *state;
    uint64_t seed = 7;
    for (unsigned i = 0; i < support_scaled(200); i++) {
        uint8_t bytes[2000];
        for (size_t b = 0; b < sizeof bytes; b++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[b] = (uint8_t)(seed >> 40);
        }
        int fd = stranger_connect(self->door->tcp);
        if (i % 2 == 0) stranger_greet(fd); /* garbage as frames */
        (void)stranger_write(fd, bytes, sizeof bytes);
        close(fd);
        if (i % 20 == 0) door_greet(self->good, ++self->greeted);
    }
    await_alone(self);
}

static void a_message_that_is_sent_slowly_is_no_endless_one(void **state) {
    fixture *self = *state;
    Demo__V1__Hello hello = DEMO__V1__HELLO__INIT;
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", "echo", 1);
    uint8_t frame[256];
    char *name = calloc(1, MIB);
    memset(name, 'n', MIB - 100);
    hello.name = name;
    size_t size = demo__v1__hello__get_packed_size(&hello);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    demo__v1__hello__pack(&hello, packed);
    int fd = stranger_connect(self->door->tcp);
    stranger_greet(fd);
    stranger_frame(fd, true, frame, sluice__v1__envelope__pack(&envelope, frame));
    stranger_frame_head(fd, false, size);
    for (size_t at = 0; at < size; at += size / 8 + 1) {
        size_t part = size - at < size / 8 + 1 ? size - at : size / 8 + 1;
        assert_true(stranger_write(fd, packed + at, part));
        struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
    }
    unsigned before = (unsigned)self->greeted;
    door_await_received(self->door, before + 1);
    assert_int_equal(door_stats(self->door).dropped_oversize, 0);
    free(packed);
    free(name);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(bad_input_03_a_frame_one_byte_over_the_limit_ends_its_connection),
        TEST(bad_input_06_frames_without_end_are_cut_in_bounded_memory),
        TEST(bad_input_59_http_is_cut),
        TEST(bad_input_60_tls_is_cut),
        TEST(bad_input_61_partial_greeting_is_cut),
        TEST(bad_input_62_one_byte_at_a_time_is_cut),
        TEST(bad_input_66_a_huge_frame_before_the_handshake_is_cut),
        TEST(bad_input_67_a_hundred_parked_megabytes_are_bounded_and_freed),
        TEST(bad_input_68_connect_and_reset_again_and_again),
        TEST(bad_input_69_a_client_that_never_reads_is_bounded),
        TEST(a_frame_of_100_megabytes_ends_its_connection),
        TEST(garbage_bytes_on_the_port_harm_nobody),
        TEST(a_message_that_is_sent_slowly_is_no_endless_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
