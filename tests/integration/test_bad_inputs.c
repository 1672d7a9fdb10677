/* SPDX-License-Identifier: MIT */
/* Bad inputs 1 to 20, 27 and 70 of docs/bad-inputs.md: what the envelope and the body can have wrong, sent through the
 * front door by strangers. Each gets its stated answer, nothing reaches an actor, and after each of them a good client
 * on the same port is served as before. (The transport's are in test_bad_inputs_transport.c, SQL's in
 * test_bad_inputs_sql.c.)
 */
#include "support/door.h"
#include "support/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/demo.pb-c.h"

typedef struct fixture {
    door *door;
    void *good, *bad; /* dealers */
    wire_bytes body;
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    sluice_gateway_options options = door_options();
    options.max_message_bytes = 4u << 20;
    self->door = door_open(&options);
    self->good = stranger_dealer(self->door->zmq, self->door->tcp);
    self->bad = stranger_dealer(self->door->zmq, self->door->tcp);
    door_greet(self->good, 1);
    atomic_store(&self->door->received, 0);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    door_greet(self->good, 2);
    door_close(&self->door);
    wire_bytes_fini(&self->body);
    free(self);
    return 0;
}

/* Sends self->body as a request of `type` and expects this error; nothing may have reached an actor. */
static void expect_body_refused(fixture *self, const char *type, sluice_err err) {
    const char *to = strcmp(type, "sluice.v1.QueryRequest") == 0 ? "app/readers" : "app/writer";
    Sluice__V1__Envelope envelope = stranger_envelope(type, to, 77);
    stranger_ask_bytes(self->bad, &envelope, self->body.at, self->body.size);
    stranger_expect_error(self->bad, 77, err, NULL);
    assert_int_equal(atomic_load(&self->door->received), 0);
    self->body.size = 0;
}

static void expect_frames_refused(fixture *self, const void *const *frames, const size_t *sizes, size_t n) {
    stranger_send(self->bad, frames, sizes, n);
    stranger_expect_error(self->bad, 0, SLUICE_INVALID, NULL);
    assert_int_equal(atomic_load(&self->door->received), 0);
}

#define WRITE "sluice.v1.WriteRequest"
#define QUERY "sluice.v1.QueryRequest"

static void bad_input_01_empty_message_is_rejected(void **state) {
    fixture *self = *state;
    expect_frames_refused(self, (const void *const[]){""}, (const size_t[]){0}, 1);
    expect_frames_refused(self, (const void *const[]){"", ""}, (const size_t[]){0, 0}, 2);
    door_await(door_stats(self->door).rejected == 2);
    assert_int_equal(door_stats(self->door).barred, 0);
}

static void bad_input_02_one_random_byte_is_rejected(void **state) {
    fixture *self = *state;
    for (unsigned byte = 0; byte < 256; byte += 5) {
        uint8_t frame = (uint8_t)byte;
        expect_frames_refused(self, (const void *const[]){&frame}, (const size_t[]){1}, 1);
        expect_frames_refused(self, (const void *const[]){&frame, ""}, (const size_t[]){1, 0}, 2);
    }
}

static void bad_input_04_empty_body_where_one_is_due_is_rejected(void **state) {
    fixture *self = *state;
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    expect_body_refused(self, QUERY, SLUICE_INVALID);
    expect_body_refused(self, "sluice.v1.Goodbye", SLUICE_INVALID);
}

static void bad_input_05_one_frame_too_many_is_rejected_and_bars_the_session(void **state) {
    fixture *self = *state;
    int fd = stranger_connect(self->door->tcp);
    stranger_greet(fd);
    for (int i = 0; i < 3; i++) stranger_frame(fd, i < 2, "frame", 5);
    uint8_t answer[512];
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    assert_true(n > 0); /* the last word to it */
    door_await(door_stats(self->door).barred == 1);
    /* What it says afterwards is not heard, be it right or wrong, and soon its connection ends. */
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", "echo", 3);
    uint8_t packed[256];
    stranger_frame(fd, true, packed, sluice__v1__envelope__pack(&envelope, packed));
    stranger_frame(fd, false, "", 0);
    assert_true(stranger_closes(fd, 3000));
    close(fd);
    assert_int_equal(atomic_load(&self->door->received), 0);
    assert_int_equal(door_stats(self->door).rejected, 1);

    /* A thousand frames, the same. */
    fd = stranger_connect(self->door->ipc);
    stranger_greet(fd);
    for (int i = 0; i < 1000; i++) stranger_frame(fd, i < 999, "frame", 5);
    assert_true(stranger_closes(fd, 3000));
    close(fd);
    door_await(door_stats(self->door).barred == 2);
}

static void bad_input_07_length_longer_than_the_rest_is_rejected(void **state) {
    fixture *self = *state;
    wire_put(&self->body, "\x0a\x05" "ab", 4);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    static const uint8_t envelope[] = {0x08, 0x01, 0x12, 0x7f, 'x'};
    expect_frames_refused(self, (const void *const[]){envelope, ""}, (const size_t[]){sizeof envelope, 0}, 2);
}

static void bad_input_08_length_of_2_to_the_63_is_rejected(void **state) {
    fixture *self = *state;
    wire_put_tag(&self->body, 1, 2);
    wire_put_varint(&self->body, UINT64_C(1) << 63);
    wire_put(&self->body, "abc", 3);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put_tag(&self->body, 1, 2);
    wire_put_varint(&self->body, UINT64_MAX);
    expect_body_refused(self, QUERY, SLUICE_INVALID);
}

static void bad_input_09_unterminated_varint_is_rejected(void **state) {
    fixture *self = *state;
    wire_put(&self->body, "\x10\xff\xff\xff", 4);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put(&self->body, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
}

static void bad_input_10_tag_zero_is_rejected(void **state) {
    fixture *self = *state;
    wire_put(&self->body, "\x00\x01", 2);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put(&self->body, "\x02\x00", 2);
    expect_body_refused(self, QUERY, SLUICE_INVALID);
}

static void bad_input_11_group_is_rejected(void **state) {
    fixture *self = *state;
    wire_put(&self->body, "\x0b\x0c", 2);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put(&self->body, "\x6b\x6c", 2);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
}

static void bad_input_12_wrong_wire_type_is_rejected(void **state) {
    fixture *self = *state;
    wire_put(&self->body, "\x08\x01", 2); /* statements as a number */
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put(&self->body, "\x12\x01x", 3); /* receipt as bytes */
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    wire_put(&self->body, "\x09" "12345678", 9);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
}

static void bad_input_13_deep_nesting_is_rejected(void **state) {
    fixture *self = *state;
    for (unsigned i = 0; i < 100000; i++) wire_put_byte(&self->body, 0x0b);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
    /* The same depth by length-delimited fields, as far as the schema goes, and beyond. */
    wire_bytes inner = {0};
    for (unsigned i = 0; i < 1000; i++) {
        wire_bytes outer = {0};
        wire_put_field(&outer, i == 999 ? 1 : i == 998 ? 3 : 2, inner.at, inner.size);
        wire_bytes_fini(&inner);
        inner = outer;
    }
    wire_put(&self->body, inner.at, inner.size);
    wire_bytes_fini(&inner);
    expect_body_refused(self, WRITE, SLUICE_INVALID);
}

/* Sends the body and returns by how much the process grew at most meanwhile. */
static size_t growth_while_refused(fixture *self, sluice_err err) {
    size_t before = stranger_resident(), size = self->body.size;
    Sluice__V1__Envelope envelope = stranger_envelope(WRITE, "app/writer", 77);
    stranger_ask_bytes(self->bad, &envelope, self->body.at, size);
    stranger_expect_error(self->bad, 77, err, NULL);
    assert_int_equal(atomic_load(&self->door->received), 0);
    self->body.size = 0;
    size_t after = stranger_resident();
    return after > before ? after - before : 0;
}

static void bad_input_14_many_unknown_fields_are_rejected_in_little_memory(void **state) {
    fixture *self = *state;
    for (unsigned i = 0; i < 500000; i++) wire_put(&self->body, "\x78\x01", 2); /* field 15 */
    size_t size = self->body.size, growth = growth_while_refused(self, SLUICE_TOO_BIG);
    /* Sent and received within this process, the wire's bytes themselves are there several times. */
    if (growth > 8 * size) fail_msg("%zu bytes on the wire became %zu in memory", size, growth);
}

static void bad_input_15_many_empty_submessages_are_rejected_in_little_memory(void **state) {
    fixture *self = *state;
    for (unsigned i = 0; i < 500000; i++) wire_put(&self->body, "\x0a\x00", 2);
    size_t size = self->body.size, growth = growth_while_refused(self, SLUICE_TOO_BIG);
    if (growth > 12 * size) fail_msg("%zu bytes on the wire became %zu in memory", size, growth);
}

static void bad_input_16_unknown_wire_version_is_unsupported_and_told_the_range(void **state) {
    fixture *self = *state;
    static const uint32_t versions[] = {0, 2, 17, UINT32_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.Ping", "", 1000 + i);
        envelope.version = versions[i];
        stranger_ask(self->bad, &envelope, NULL);
        stranger_answer answer = stranger_receive(self->bad);
        assert_non_null(answer.error);
        assert_int_equal(answer.error->code, SLUICE_UNSUPPORTED);
        assert_int_equal(answer.envelope->correlation, 1000 + i);
        assert_int_equal(answer.error->version_min, 1);
        assert_int_equal(answer.error->version_max, 1);
        stranger_answer_free(&answer);
    }
}

static void bad_input_17_unknown_type_is_unsupported(void **state) {
    fixture *self = *state;
    static const char *const types[] = {"sluice.v1.Nothing", "nothing", "sluice.v1.writerequest", "%s%n", "../../x"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        Sluice__V1__Envelope envelope = stranger_envelope(types[i], "app/writer", i + 1);
        stranger_ask(self->bad, &envelope, NULL);
        char text[256];
        stranger_expect_error(self->bad, i + 1, SLUICE_UNSUPPORTED, text);
        assert_non_null(strstr(text, types[i]));
    }
    Sluice__V1__Envelope envelope = stranger_envelope("", "app/writer", 50);
    stranger_ask(self->bad, &envelope, NULL);
    stranger_answer answer = stranger_receive(self->bad);
    assert_non_null(answer.error);
    assert_true(answer.error->code == SLUICE_UNSUPPORTED || answer.error->code == SLUICE_INVALID);
    stranger_answer_free(&answer);
}

static void bad_input_18_of_two_members_of_a_oneof_the_last_wins(void **state) {
    fixture *self = *state;
    /* That the last one is what SQLite gets is in test_bad_inputs_sql.c; here: it passes, as protobuf states. */
    wire_bytes value = {0}, statement = {0};
    wire_put(&value, "\x08\x02\x1a\x03", 4);
    wire_put(&value, "abc", 3);
    wire_put_field(&statement, 1, "SELECT ?", 8);
    wire_put_field(&statement, 2, value.at, value.size);
    wire_put_field(&self->body, 1, statement.at, statement.size);
    Sluice__V1__Envelope envelope = stranger_envelope(QUERY, "app/readers", 5);
    stranger_ask_bytes(self->bad, &envelope, self->body.at, self->body.size);
    stranger_answer answer = stranger_receive(self->bad);
    assert_null(answer.error);
    stranger_answer_free(&answer);
    wire_bytes_fini(&value);
    wire_bytes_fini(&statement);
}

static void ask_receipt(fixture *self, const uint8_t *client, size_t client_size, uint64_t sequence, sluice_err err) {
    Sluice__V1__Statement statement = SLUICE__V1__STATEMENT__INIT, *list = &statement;
    statement.what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    statement.sql.data = (uint8_t *)(uintptr_t) "INSERT";
    statement.sql.len = 6;
    Sluice__V1__WriteRequest request = SLUICE__V1__WRITE_REQUEST__INIT;
    request.n_statements = 1;
    request.statements = &list;
    request.receipt = true;
    Sluice__V1__Envelope envelope = stranger_envelope(WRITE, "app/writer", sequence + 500);
    envelope.client.data = (uint8_t *)(uintptr_t)client;
    envelope.client.len = client_size;
    envelope.sequence = sequence;
    stranger_ask(self->bad, &envelope, &request.base);
    if (err != SLUICE_OK) {
        stranger_expect_error(self->bad, sequence + 500, err, NULL);
    } else {
        stranger_answer answer = stranger_receive(self->bad);
        assert_null(answer.error);
        stranger_answer_free(&answer);
    }
}

static void bad_input_19_receipt_without_identity_is_rejected(void **state) {
    fixture *self = *state;
    static const uint8_t client[17] = "sixteen bytes id.", zeros[16];
    ask_receipt(self, NULL, 0, 1, SLUICE_INVALID);
    ask_receipt(self, NULL, 0, 0, SLUICE_INVALID);
    ask_receipt(self, client, 16, 0, SLUICE_INVALID);
    ask_receipt(self, client, 15, 1, SLUICE_INVALID);
    ask_receipt(self, client, 17, 1, SLUICE_INVALID);
    ask_receipt(self, zeros, 16, 1, SLUICE_INVALID);
    assert_int_equal(atomic_load(&self->door->received), 0);
    ask_receipt(self, client, 16, 1, SLUICE_OK);
}

static void bad_input_20_table_that_disagrees_with_itself_is_rejected(void **state) {
    fixture *self = *state;
    static const struct {
        const char *column; /* packed Column */
        size_t size;
        uint64_t rows;
    } tables[] = {
        {"\x10\x01\x22\x02\x02\x04", 6, 3},               /* two integers for three rows */
        {"\x10\x01\x22\x02\x02\x04", 6, 1},               /* two integers for one row */
        {"\x10\x03\x32\x01\x09\x3a\x03" "ab\x00", 10, 1}, /* a text of nine bytes in a buffer of three */
        {"\x10\x03\x32\x01\x01\x3a\x05" "a\x00xyz", 12, 1}, /* bytes left over */
        {"\x10\x03\x32\x01\x02\x3a\x03" "abc", 10, 1},    /* no terminator */
        {"\x10\x03\x32\x01\x01\x3a\x02\xff\x00", 9, 1},   /* not UTF-8 */
        {"\x10\x63\x22\x01\x02", 5, 1},                   /* a type that does not exist */
        {"\x1a\x01\x01\x22\x02\x02\x04", 7, 2},           /* one type for two rows */
        {"", 0, UINT64_MAX},                              /* 2^64-1 NULLs in no column are no rows */
        {"\x10\x01", 2, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        wire_bytes table = {0}, statement = {0};
        wire_put_tag(&table, 1, 0);
        wire_put_varint(&table, tables[i].rows);
        wire_put_field(&table, 2, tables[i].column, tables[i].size);
        wire_put_field(&statement, 1, "INSERT", 6);
        wire_put_field(&statement, 3, table.at, table.size);
        wire_put_field(&self->body, 1, statement.at, statement.size);
        wire_bytes_fini(&table);
        wire_bytes_fini(&statement);
        Sluice__V1__Envelope envelope = stranger_envelope(WRITE, "app/writer", i);
        stranger_ask_bytes(self->bad, &envelope, self->body.at, self->body.size);
        stranger_answer answer = stranger_receive(self->bad);
        if (answer.error == NULL) fail_msg("table %zu passed", i);
        assert_true(answer.error->code == SLUICE_INVALID || answer.error->code == SLUICE_TOO_BIG);
        stranger_answer_free(&answer);
        self->body.size = 0;
    }
    assert_int_equal(atomic_load(&self->door->received), 0);
}

static void bad_input_27_a_routing_id_used_twice_leaves_the_first_served(void **state) {
    fixture *self = *state;
    void *dealers[2];
    for (int i = 0; i < 2; i++) {
        dealers[i] = zmq_socket(self->door->zmq, ZMQ_DEALER);
        int zero = 0, wait = STRANGER_WAIT_MS;
        zmq_setsockopt(dealers[i], ZMQ_LINGER, &zero, sizeof zero);
        zmq_setsockopt(dealers[i], ZMQ_RCVTIMEO, &wait, sizeof wait);
        zmq_setsockopt(dealers[i], ZMQ_ROUTING_ID, "twin", 4);
        zmq_connect(dealers[i], self->door->tcp);
        if (i == 0) door_greet(dealers[0], 10);
    }
    Sluice__V1__Envelope envelope = stranger_envelope("sluice.v1.Ping", "", 11);
    stranger_ask(dealers[1], &envelope, NULL);
    for (uint64_t i = 0; i < 20; i++) door_greet(dealers[0], 20 + i);
    assert_true(stranger_is_silent(dealers[1], 100));
    zmq_close(dealers[0]);
    zmq_close(dealers[1]);
}

static void ask_with_deadline(fixture *self, int64_t deadline_ms, uint64_t correlation) {
    Demo__V1__Hello hello = DEMO__V1__HELLO__INIT;
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", "echo", correlation);
    envelope.deadline_ms = deadline_ms;
    stranger_ask(self->bad, &envelope, &hello.base);
}

static void bad_input_70_deadlines_out_of_range_are_expired_clamped_or_rejected(void **state) {
    fixture *self = *state;
    ask_with_deadline(self, 0, 1);
    stranger_expect_error(self->bad, 1, SLUICE_EXPIRED, NULL);
    ask_with_deadline(self, -1, 2);
    stranger_expect_error(self->bad, 2, SLUICE_INVALID, NULL);
    ask_with_deadline(self, INT64_MIN, 3);
    stranger_expect_error(self->bad, 3, SLUICE_INVALID, NULL);
    assert_int_equal(atomic_load(&self->door->received), 0);
    ask_with_deadline(self, INT64_MAX, 4);
    stranger_answer answer = stranger_receive(self->bad);
    assert_null(answer.error);
    stranger_answer_free(&answer);
}

/* ---- beyond the list ---- */

static void envelopes_with_wrong_fields_are_rejected(void **state) {
    fixture *self = *state;
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    Sluice__V1__Envelope envelope = stranger_envelope("demo.v1.Hello", name, 1);
    stranger_ask(self->bad, &envelope, NULL);
    stranger_expect_error(self->bad, 1, SLUICE_INVALID, NULL);
    envelope = stranger_envelope("demo.v1.Hello", "", 2);
    stranger_ask(self->bad, &envelope, NULL);
    stranger_expect_error(self->bad, 2, SLUICE_INVALID, NULL);
    envelope = stranger_envelope("demo.v1.Hello", "echo", 3);
    envelope.kind = SLUICE__V1__KIND__KIND_REPLY;
    stranger_ask(self->bad, &envelope, NULL);
    stranger_expect_error(self->bad, 3, SLUICE_INVALID, NULL);
    envelope.kind = (Sluice__V1__Kind)77;
    stranger_ask(self->bad, &envelope, NULL);
    stranger_expect_error(self->bad, 3, SLUICE_INVALID, NULL);
    /* An envelope over its own limit. */
    char *large = calloc(1, 5000);
    stranger_send(self->bad, (const void *const[]){large, ""}, (const size_t[]){5000, 0}, 2);
    stranger_answer answer = stranger_receive(self->bad);
    assert_non_null(answer.error);
    stranger_answer_free(&answer);
    free(large);
    assert_int_equal(atomic_load(&self->door->received), 0);
}

static uint32_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void random_frames_each_get_one_answer(void **state) {
    fixture *self = *state;
    uint64_t seed = 42;
    uint8_t frames[2][300];
    unsigned n = support_scaled(3000);
    for (unsigned i = 0; i < n; i++) {
        size_t sizes[2];
        for (int k = 0; k < 2; k++) {
            sizes[k] = next_random(&seed) % sizeof frames[k];
            for (size_t b = 0; b < sizes[k]; b++) frames[k][b] = (uint8_t)next_random(&seed);
        }
        if (i % 2 == 0) {
            /* A right envelope with some bytes changed reaches deeper. */
            Sluice__V1__Envelope envelope = stranger_envelope(WRITE, "app/writer", i);
            sizes[0] = sluice__v1__envelope__pack(&envelope, frames[0]);
            for (unsigned flips = next_random(&seed) % 4; flips > 0; flips--)
                frames[0][next_random(&seed) % sizes[0]] ^= (uint8_t)(1u << next_random(&seed) % 8);
        }
        stranger_send(self->bad, (const void *const[]){frames[0], frames[1]}, sizes, 2);
        /* Not every one can be answered (a TELL that happens to be right is not): the ping's answer ends each round. */
        Sluice__V1__Envelope ping = stranger_envelope("sluice.v1.Ping", "", UINT64_MAX);
        stranger_ask(self->bad, &ping, NULL);
        for (bool pong = false; !pong;) {
            stranger_answer answer = stranger_receive(self->bad);
            pong = answer.envelope->correlation == UINT64_MAX;
            stranger_answer_free(&answer);
        }
    }
    assert_int_equal(door_stats(self->door).barred, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(bad_input_01_empty_message_is_rejected),
        TEST(bad_input_02_one_random_byte_is_rejected),
        TEST(bad_input_04_empty_body_where_one_is_due_is_rejected),
        TEST(bad_input_05_one_frame_too_many_is_rejected_and_bars_the_session),
        TEST(bad_input_07_length_longer_than_the_rest_is_rejected),
        TEST(bad_input_08_length_of_2_to_the_63_is_rejected),
        TEST(bad_input_09_unterminated_varint_is_rejected),
        TEST(bad_input_10_tag_zero_is_rejected),
        TEST(bad_input_11_group_is_rejected),
        TEST(bad_input_12_wrong_wire_type_is_rejected),
        TEST(bad_input_13_deep_nesting_is_rejected),
        TEST(bad_input_14_many_unknown_fields_are_rejected_in_little_memory),
        TEST(bad_input_15_many_empty_submessages_are_rejected_in_little_memory),
        TEST(bad_input_16_unknown_wire_version_is_unsupported_and_told_the_range),
        TEST(bad_input_17_unknown_type_is_unsupported),
        TEST(bad_input_18_of_two_members_of_a_oneof_the_last_wins),
        TEST(bad_input_19_receipt_without_identity_is_rejected),
        TEST(bad_input_20_table_that_disagrees_with_itself_is_rejected),
        TEST(bad_input_27_a_routing_id_used_twice_leaves_the_first_served),
        TEST(bad_input_70_deadlines_out_of_range_are_expired_clamped_or_rejected),
        TEST(envelopes_with_wrong_fields_are_rejected),
        TEST(random_frames_each_get_one_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
