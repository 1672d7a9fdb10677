/* SPDX-License-Identifier: MIT */
/* The judge of keys and a CURVE endpoint, on one thread: who is let in, who is not, and what is counted. */
#include "support/door.h"
#include "support/keys_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "endpoint.h"
#include "port.h"
#include "zap.h"

typedef struct bench {
    void *zmq;        /* of the server */
    void *zmq_client; /* of the strangers */
    char *directory, url[256];
    keys_pair server, ada, eve; /* eve is not listed */
    sl_keyring *ring;
    sl_zap *zap;
    sl_endpoint *endpoint;
    sluice_cause cause;
} bench;

static void open_zap(bench *self) {
    assert_ok(sl_zap_open(self->zmq, "sluice", self->ring, &self->zap, &self->cause), self->cause);
}

static sluice_err open_endpoint(bench *self, const char *domain, sl_endpoint **out) {
    sl_endpoint_options options = {.zmq_context = self->zmq,
                                   .max_message_bytes = 65536,
                                   .handshake_ms = 300,
                                   .send_hwm = 100,
                                   .recv_hwm = 100,
                                   .max_unsent_bytes = 1 << 20,
                                   .secret_key = self->server.secret_key,
                                   .zap_domain = domain};
    return sl_endpoint_open(&options, out, &self->cause);
}

static int set_up(void **state) {
    bench *self = calloc(1, sizeof *self);
    unsigned n_refused;
    self->zmq = zmq_ctx_new();
    self->zmq_client = zmq_ctx_new();
    self->directory = support_directory_new();
    self->server = keys_directory_make(self->directory);
    self->ada = keys_pair_new();
    self->eve = keys_pair_new();
    keys_list(self->directory, "ada", self->ada.public_key, "read");
    assert_ok(sl_keyring_load(self->directory, &self->ring, &n_refused, &self->cause), self->cause);
    open_zap(self);
    assert_ok(open_endpoint(self, "sluice", &self->endpoint), self->cause);
    assert_ok(sl_endpoint_bind(self->endpoint, "tcp://127.0.0.1:*", self->url, sizeof self->url, &self->cause),
              self->cause);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    bench *self = *state;
    stranger_close_all();
    sl_endpoint_close(&self->endpoint, 0);
    sl_zap_close(&self->zap);
    sl_keyring_destroy(&self->ring);
    zmq_ctx_term(self->zmq_client);
    zmq_ctx_term(self->zmq);
    support_directory_remove(&self->directory);
    free(self);
    return 0;
}

/* A stranger that says something as soon as it is let in. NULLs: without keys. */
static void *knock(bench *self, const keys_pair *own, const char *server_key) {
    return stranger_curve_dealer(self->zmq_client, self->url, own != NULL ? own->public_key : NULL,
                                 own != NULL ? own->secret_key : NULL, server_key);
}

static void say(void *dealer, const char *text) {
    const void *frames[2] = {text, text};
    size_t sizes[2] = {strlen(text), strlen(text)};
    stranger_send(dealer, frames, sizes, 2);
}

static sluice_err serve_once(bench *self, sl_incoming *out) {
    if (self->zap != NULL) sl_zap_answer(self->zap);
    sl_endpoint_poll_monitor(self->endpoint, sl_now_ns());
    return sl_endpoint_recv(self->endpoint, sl_now_ns(), out);
}

/* Serves until something was received (true) or the counter has reached n. */
static bool serve(bench *self, const uint64_t *counter, uint64_t n, sl_incoming *out) {
    for (int i = 0; i < 5000; i++) {
        if (serve_once(self, out) == SLUICE_OK) return true;
        if (counter != NULL && *counter >= n) return false;
        door_pause_1ms();
    }
    const sl_endpoint_counters *c = sl_endpoint_counters_of(self->endpoint);
    fail_msg("nothing happened: %d accepted, refused %d key, %d plain, %d server key, %d handshake", (int)c->accepted,
             (int)c->refused_key, (int)c->refused_plain, (int)c->refused_server_key, (int)c->dropped_handshake);
    return false;
}

static void a_listed_key_is_let_in_and_named(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    void *dealer = knock(self, &self->ada, self->server.public_key);
    for (int i = 0; i < 3; i++) {
        say(dealer, "hello");
        assert_true(serve(self, NULL, 0, &incoming));
        assert_non_null(incoming.key);
        assert_string_equal(incoming.key, self->ada.public_key);
        assert_int_equal(incoming.n_frames, 2);
        assert_ptr_equal(sl_peer_endpoint(incoming.peer), self->endpoint);
        sl_incoming_fini(&incoming);
    }
    assert_int_equal(sl_zap_counters_of(self->zap)->allowed, 1);
    assert_int_equal(sl_zap_counters_of(self->zap)->refused, 0);
}

static void everybody_else_is_refused_and_counted(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    say(knock(self, &self->eve, self->server.public_key), "let me in");
    assert_false(serve(self, &counters->refused_key, 1, &incoming));
    assert_true(sl_zap_counters_of(self->zap)->refused >= 1);
    stranger_close_all();
    say(knock(self, &self->ada, self->eve.public_key), "let me in");
    assert_false(serve(self, &counters->refused_server_key, 1, &incoming));
    stranger_close_all();
    /* A ZeroMQ client sees for itself that keys are due, and may leave first; one that stays is told and counted. */
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    int fd = stranger_connect(self->url);
    assert_true(stranger_write(fd, greeting, sizeof greeting));
    assert_false(serve(self, &counters->refused_plain, 1, &incoming));
    assert_true(stranger_closes(fd, 1000));
    close(fd);
    say(knock(self, NULL, NULL), "let me in");
    assert_false(serve(self, &counters->accepted, 4, &incoming));
    assert_int_equal(sl_zap_counters_of(self->zap)->allowed, 0);
    assert_int_equal(counters->dropped_oversize + counters->dropped_silent, 0);
}

static void name_and_password_are_no_key(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'P', 'L', 'A', 'I', 'N'};
    int fd = stranger_connect(self->url);
    assert_true(stranger_write(fd, greeting, sizeof greeting));
    assert_false(serve(self, &counters->refused_plain, 1, &incoming));
    close(fd);
    say(stranger_plain_dealer(self->zmq_client, self->url, "ada", "sesame"), "let me in");
    assert_false(serve(self, &counters->accepted, 2, &incoming));
    assert_int_equal(sl_zap_counters_of(self->zap)->allowed + sl_zap_counters_of(self->zap)->refused, 0);
}

static void without_a_judge_nobody_is_let_in(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    sl_zap_close(&self->zap);
    say(knock(self, &self->ada, self->server.public_key), "let me in");
    assert_false(serve(self, &counters->refused_key, 2, &incoming));
    /* With one again, the same key comes in: it was the judge that was missing. */
    open_zap(self);
    assert_true(serve(self, NULL, 0, &incoming));
    sl_incoming_fini(&incoming);
}

static void a_judge_that_does_not_answer_lets_nobody_in(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    sl_zap *mute = self->zap;
    self->zap = NULL; /* bound, but asked by nobody */
    say(knock(self, &self->ada, self->server.public_key), "let me in");
    assert_false(serve(self, &counters->dropped_handshake, 1, &incoming));
    self->zap = mute;
}

static void a_context_has_one_judge(void **state) {
    bench *self = *state;
    sl_zap *second = NULL;
    assert_int_equal(sl_zap_open(self->zmq, "sluice", self->ring, &second, &self->cause), SLUICE_EXISTS);
    assert_null(second);
    assert_non_null(strstr(self->cause.text, "context"));
    void *other = zmq_ctx_new();
    assert_ok(sl_zap_open(other, "sluice", self->ring, &second, &self->cause), self->cause);
    sl_zap_close(&second);
    zmq_ctx_term(other);
}

static void an_endpoint_without_a_domain_or_a_key_does_not_open(void **state) {
    bench *self = *state;
    sl_endpoint *endpoint = NULL;
    assert_int_equal(open_endpoint(self, "", &endpoint), SLUICE_UNSUPPORTED);
    assert_null(endpoint);
    self->server.secret_key[3] = '~';
    assert_int_equal(open_endpoint(self, "sluice", &endpoint), SLUICE_INVALID);
    assert_null(endpoint);
}

/* Asks the judge as ZeroMQ would, with n frames, and checks the status it gives. */
static void ask(bench *self, const char *const *fields, const size_t *sizes, size_t n, const char *status) {
    void *asker = zmq_socket(self->zmq, ZMQ_REQ);
    int wait = 5000, zero = 0;
    zmq_setsockopt(asker, ZMQ_RCVTIMEO, &wait, sizeof wait);
    zmq_setsockopt(asker, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_connect(asker, "inproc://zeromq.zap.01"), 0);
    for (size_t i = 0; i < n; i++) zmq_send(asker, fields[i], sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0);
    sl_zap_answer(self->zap);
    char answer[6][256];
    int got[6];
    for (int i = 0; i < 6; i++) {
        got[i] = zmq_recv(asker, answer[i], sizeof answer[i] - 1, 0);
        assert_true(got[i] >= 0 && got[i] < 256);
        answer[i][got[i]] = '\0';
    }
    int more = 1;
    size_t size = sizeof more;
    zmq_getsockopt(asker, ZMQ_RCVMORE, &more, &size);
    assert_int_equal(more, 0);
    assert_string_equal(answer[0], "1.0");
    assert_string_equal(answer[2], status);
    assert_int_equal(got[4], strcmp(status, "200") == 0 ? 40 : 0);
    zmq_close(asker);
}

static void only_a_whole_curve_request_of_our_domain_is_allowed(void **state) {
    bench *self = *state;
    uint8_t key[SL_KEY_SIZE];
    assert_non_null(zmq_z85_decode(key, self->ada.public_key));
    const char *good[] = {"1.0", "7", "sluice", "127.0.0.1", "", "CURVE", (const char *)key, "more"};
    const size_t sizes[] = {3, 1, 6, 9, 0, 5, SL_KEY_SIZE, 4};
    ask(self, good, sizes, 7, "200");
    static char long_domain[300];
    memset(long_domain, 's', sizeof long_domain);
    const struct {
        size_t at;
        const char *field;
        size_t size;
    } changes[] = {
        {0, "2.0", 3},     {0, "1.0.", 4},     {2, "", 0},   {2, "global", 6}, {2, long_domain, sizeof long_domain},
        {5, "PLAIN", 5},   {5, "NULL", 4},     {5, "", 0},   {6, "", 0},       {6, (const char *)key, SL_KEY_SIZE - 1},
        {6, "ada", 3},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const char *fields[7];
        size_t lengths[7];
        memcpy(fields, good, sizeof fields);
        memcpy(lengths, sizes, sizeof lengths);
        fields[changes[i].at] = changes[i].field;
        lengths[changes[i].at] = changes[i].size;
        ask(self, fields, lengths, 7, "400");
    }
    for (size_t n = 1; n <= 8; n++) ask(self, good, sizes, n, n == 7 ? "200" : "400");
    key[0] ^= 1;
    ask(self, good, sizes, 7, "400");
}

/* Encrypted frames are longer on the wire than what is delivered: a busy client must not seem to hold the rest back. */
static void many_encrypted_messages_are_no_held_back_bytes(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    void *dealer = knock(self, &self->ada, self->server.public_key);
    for (int i = 0; i < 4000; i++) { /* 66 bytes more each: twice what may be held back */
        say(dealer, "x");
        assert_true(serve(self, NULL, 0, &incoming));
        sl_incoming_fini(&incoming);
    }
    for (int i = 0; i < 20; i++) {
        (void)!sl_endpoint_recv(self->endpoint, sl_now_ns(), &incoming);
        (void)sl_endpoint_sweep(self->endpoint, sl_now_ns());
        door_pause_1ms();
    }
    assert_int_equal(counters->dropped_oversize, 0);
    assert_int_equal(counters->open, 1);
    say(dealer, "still here");
    assert_true(serve(self, NULL, 0, &incoming));
    sl_incoming_fini(&incoming);
}

static void the_size_limit_is_on_what_is_delivered(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    static char bytes[65537];
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    void *dealer = knock(self, &self->ada, self->server.public_key);
    const void *frames[2] = {"e", bytes};
    size_t sizes[2] = {1, 65536};
    stranger_send(dealer, frames, sizes, 2);
    assert_true(serve(self, NULL, 0, &incoming));
    assert_int_equal(incoming.size[1], 65536);
    sl_incoming_fini(&incoming);
    sizes[1]++;
    stranger_send(dealer, frames, sizes, 2);
    assert_false(serve(self, &counters->dropped_oversize, 1, &incoming));
}

/* A routing id is the client's choice: what is due to one key must not go to another that took its id. */
static void answers_never_go_to_another_key_under_the_same_routing_id(void **state) {
    bench *self = *state;
    sl_incoming incoming;
    unsigned n_refused;
    keys_list(self->directory, "eve", self->eve.public_key, "read");
    sl_keyring *ring = NULL;
    assert_ok(sl_keyring_load(self->directory, &ring, &n_refused, &self->cause), self->cause);
    sl_zap_use(self->zap, ring);
    void *first = stranger_curve_dealer_as(self->zmq_client, self->url, self->ada.public_key, self->ada.secret_key,
                                           self->server.public_key, "same");
    say(first, "ask");
    assert_true(serve(self, NULL, 0, &incoming));
    sl_peer *ada = sl_peer_hold(incoming.peer);
    sl_incoming_fini(&incoming);
    stranger_close(first);
    const sl_endpoint_counters *counters = sl_endpoint_counters_of(self->endpoint);
    while (counters->open > 0) assert_int_equal(serve_once(self, &incoming), SLUICE_TIMEOUT);
    /* ROUTER forgets an id a moment after its connection; who comes with it in that moment is never heard. */
    void *second = NULL;
    bool heard = false;
    for (int tries = 0; tries < 50 && !heard; tries++) {
        if (second != NULL) stranger_close(second);
        second = stranger_curve_dealer_as(self->zmq_client, self->url, self->eve.public_key, self->eve.secret_key,
                                          self->server.public_key, "same");
        say(second, "ask");
        for (int i = 0; i < 200 && !heard; i++) {
            heard = serve_once(self, &incoming) == SLUICE_OK;
            if (!heard) door_pause_1ms();
        }
    }
    assert_true(heard);
    assert_string_equal(incoming.key, self->eve.public_key);
    sluice_msg *answer = sl_msg_alloc(SIZE_MAX);
    sluice_cause cause;
    sluice_cause_set(&cause, SLUICE_FAILED, "for ada only");
    sl_msg_turn_error(answer, &cause);
    assert_int_equal(sl_endpoint_send(self->endpoint, ada, answer, sl_now_ns()), SLUICE_UNREACHABLE);
    assert_ok(sl_endpoint_send(self->endpoint, incoming.peer, answer, sl_now_ns()), self->cause);
    stranger_answer got = stranger_receive(second);
    stranger_answer_free(&got);
    assert_true(stranger_is_silent(second, 50));
    sl_peer_drop(&ada);
    sluice_msg_destroy(&answer);
    sl_incoming_fini(&incoming);
    sl_zap_use(self->zap, self->ring);
    sl_keyring_destroy(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_listed_key_is_let_in_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everybody_else_is_refused_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(name_and_password_are_no_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_judge_nobody_is_let_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_judge_that_does_not_answer_lets_nobody_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_context_has_one_judge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_endpoint_without_a_domain_or_a_key_does_not_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_a_whole_curve_request_of_our_domain_is_allowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_encrypted_messages_are_no_held_back_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_size_limit_is_on_what_is_delivered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_never_go_to_another_key_under_the_same_routing_id, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("zap", tests, NULL, NULL);
}
