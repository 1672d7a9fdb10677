/* SPDX-License-Identifier: MIT */
/* The misbehaving proxy does what it says: before a server that a test drives by hand. */
#include "support/support.h"
#include "support/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 5000 };

typedef struct bed {
    int listener, client, server;
    proxy *proxy;
} bed;

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static bool readable(int fd, int wait_ms) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, wait_ms) == 1;
}

static int accept_one(const bed *self) {
    assert_true(readable(self->listener, WAIT_MS));
    int fd = accept(self->listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

static int set_up(void **state) {
    static bed self;
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    self.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(self.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(self.listener, 16), 0);
    assert_int_equal(getsockname(self.listener, (struct sockaddr *)&address, &size), 0);
    self.proxy = proxy_open(ntohs(address.sin_port), 1);
    proxy_start(self.proxy);
    address = loopback(proxy_port(self.proxy));
    self.client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(self.client, (struct sockaddr *)&address, sizeof address), 0);
    self.server = accept_one(&self);
    *state = &self;
    return 0;
}

static int tear_down(void **state) {
    bed *self = *state;
    close(self->client);
    close(self->server);
    close(self->listener);
    proxy_close(&self->proxy);
    return 0;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void expect(int fd, const char *text) {
    char heard[256] = "";
    size_t n = 0;
    while (n < strlen(text)) {
        assert_true(readable(fd, WAIT_MS));
        ssize_t got = recv(fd, heard + n, strlen(text) - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
    assert_string_equal(heard, text);
}

/* The connection ends, by a reset or in order, after at most `most` bytes; returns how many came. */
static size_t expect_end(int fd, size_t most) {
    char waste[256];
    size_t n = 0;
    for (;;) {
        assert_true(readable(fd, WAIT_MS));
        ssize_t got = recv(fd, waste, sizeof waste, 0);
        if (got <= 0) return n;
        n += (size_t)got;
        assert_true(n <= most);
    }
}

static bool order_is_begun(void *context) {
    const bed *self = context;
    unsigned n = 0;
    for (int fault = 0; fault < PROXY_FAULTS; fault++) n += proxy_count(self->proxy, (proxy_fault)fault);
    return n > 0;
}

static void misbehave(bed *self, proxy_fault fault) {
    proxy_do(self->proxy, fault);
    support_await(order_is_begun, self, WAIT_MS);
    assert_int_equal(proxy_count(self->proxy, fault), 1);
}

static void bytes_pass_unchanged_in_both_directions(void **state) {
    bed *self = *state;
    say(self->client, "question");
    expect(self->server, "question");
    say(self->server, "answer");
    expect(self->client, "answer");
    assert_int_equal(proxy_connections(self->proxy), 1);
}

static void slow_ways_lose_nothing(void **state) {
    bed *self = *state;
    for (int fault = PROXY_STALL; fault <= PROXY_TRICKLE; fault++)
        proxy_set_chance(self->proxy, (proxy_fault)fault, 3000);
    proxy_set_stall_ms(self->proxy, 20);
    for (int i = 0; i < 20; i++) {
        say(self->client, "a somewhat longer question");
        expect(self->server, "a somewhat longer question");
        say(self->server, "a somewhat longer answer");
        expect(self->client, "a somewhat longer answer");
    }
    assert_true(order_is_begun(self));
}

static void cut_in_the_middle_delivers_a_part(void **state) {
    bed *self = *state;
    misbehave(self, PROXY_CUT_MID_FRAME); /* within the next 40 bytes of one direction */
    for (int i = 0; i < 2; i++) {
        char text[61];
        memset(text, 'x', 60);
        text[60] = '\0';
        (void)!send(self->client, text, 60, MSG_NOSIGNAL);
        (void)!send(self->server, text, 60, MSG_NOSIGNAL);
    }
    (void)expect_end(self->server, 120);
    (void)expect_end(self->client, 120);
}

static void cut_before_the_reply_lets_the_server_hear_the_request(void **state) {
    bed *self = *state;
    misbehave(self, PROXY_CUT_BEFORE_REPLY);
    say(self->client, "question");
    expect(self->server, "question");
    say(self->server, "answer");
    assert_int_equal(expect_end(self->client, 0), 0);
    (void)expect_end(self->server, 0);
}

static void duplicate_says_everything_again_once_greeted(void **state) {
    bed *self = *state;
    char greeting[65];
    memset(greeting, 'g', 64);
    greeting[64] = '\0';
    say(self->client, greeting);
    say(self->client, "question");
    expect(self->server, greeting);
    expect(self->server, "question");
    misbehave(self, PROXY_DUPLICATE);
    int again = accept_one(self);
    expect(again, "gggggggggg"); /* the signature; the rest waits for the server's */
    say(again, "0123456789");
    expect(again, "gggggggggggggggggggggggggggggggggggggggggggggggggggggg");
    say(again, "012345678901234567890123456789012345678901234567890123");
    expect(again, "question");
    say(again, "an answer that nobody is to hear");
    (void)expect_end(again, 0);
    close(again);
    say(self->server, "answer"); /* the first connection goes on */
    expect(self->client, "answer");
}

static void half_close_ends_one_direction_first(void **state) {
    bed *self = *state;
    misbehave(self, PROXY_HALF_CLOSE);
    struct pollfd ends[2] = {{.fd = self->client, .events = POLLIN}, {.fd = self->server, .events = POLLIN}};
    assert_true(poll(ends, 2, WAIT_MS) >= 1);
    (void)expect_end(self->client, 0);
    (void)expect_end(self->server, 0);
}

static void drop_ends_connections_and_what_is_to_be_said_again(void **state) {
    bed *self = *state;
    say(self->client, "question");
    expect(self->server, "question");
    misbehave(self, PROXY_DUPLICATE);
    proxy_drop_replays(self->proxy);
    (void)expect_end(self->client, 0);
    (void)expect_end(self->server, 0);
}

#define proxy_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        proxy_test(bytes_pass_unchanged_in_both_directions),
        proxy_test(slow_ways_lose_nothing),
        proxy_test(cut_in_the_middle_delivers_a_part),
        proxy_test(cut_before_the_reply_lets_the_server_hear_the_request),
        proxy_test(duplicate_says_everything_again_once_greeted),
        proxy_test(half_close_ends_one_direction_first),
        proxy_test(drop_ends_connections_and_what_is_to_be_said_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
