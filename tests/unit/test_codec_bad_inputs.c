/* SPDX-License-Identifier: MIT */
/* Bad wire inputs, each named by its number in the list of bad inputs, and the answer each must get. Numbers 3, 5 and 6
 * are the transport's; 3 has its half here too. Nothing may be allocated for what is refused: memory_peak proves it. */
#include "support/wire.h"

#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/kinds.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITE "sluice.v1.WriteRequest"

typedef struct fixture {
    wire_peer peer;
    wire_bytes envelope, body;
    Sluice__V1__Envelope sent; /* a good one, to be spoilt */
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    wire_peer_init(&f->peer);
    sluice__v1__envelope__init(&f->sent);
    f->sent.version = 1;
    f->sent.type = (char *)(uintptr_t)WRITE;
    f->sent.to = (char *)(uintptr_t) "app/writer";
    f->sent.correlation = 7;
    f->sent.kind = SLUICE__V1__KIND__KIND_ASK;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    wire_bytes_fini(&f->envelope);
    wire_bytes_fini(&f->body);
    wire_peer_fini(&f->peer);
    free(f);
    return 0;
}

/* A write of one statement, as body. */
static void good_body(fixture *f) {
    f->body.size = 0;
    wire_put_field(&f->body, 1, "\x0a\x08SELECT 1", 10);
}

static void expect(fixture *f, sluice_err got, sluice_err want, const char *why) {
    if (got != want)
        fail_msg("expected %s, not %s: %s", sluice_err_name(want), sluice_err_name(got), f->peer.cause.text);
    if (want == SLUICE_OK) return;
    assert_int_equal(f->peer.cause.code, want);
    assert_null(f->peer.msg);
    if (strstr(f->peer.cause.text, why) == NULL) fail_msg("expected '%s', not '%s'", why, f->peer.cause.text);
}

/* Decodes f->body as a WriteRequest behind a good envelope: whatever is wrong with the body, the asker can be
 * answered. */
static void expect_body(fixture *f, sluice_err want, const char *why) {
    expect(f, wire_decode_body(&f->peer, WRITE, &f->body), want, why);
    assert_int_equal(f->peer.correlation, 7);
    assert_int_equal(f->peer.kind, SLUICE__V1__KIND__KIND_ASK);
}

static void expect_sent(fixture *f, sluice_err want, const char *why) {
    f->envelope.size = 0;
    wire_put_message(&f->envelope, &f->sent.base);
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), want, why);
}

#ifndef __SANITIZE_THREAD__
/* A number from /proc/self/status in bytes, 0 if it is not there. */
static size_t memory_of(const char *key) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) kib = strtoul(line + strlen(key) + 1, NULL, 10);
    if (file != NULL) fclose(file);
    return kib * 1024;
}
#endif

/* Decodes f->body and tells by how much the process grew at its largest. SIZE_MAX: the system does not say, or
 * ThreadSanitizer's shadow of everything that is touched would be counted too. */
static size_t memory_peak(fixture *f, sluice_err want, const char *why) {
#ifdef __SANITIZE_THREAD__
    expect_body(f, want, why);
    return SIZE_MAX;
#else
    FILE *file = fopen("/proc/self/clear_refs", "w");
    bool reset = file != NULL && fputs("5", file) >= 0;
    if (file != NULL) reset = fclose(file) == 0 && reset;
    size_t before = memory_of("VmHWM:");
    expect_body(f, want, why);
    return reset && before != 0 ? memory_of("VmHWM:") - before : SIZE_MAX;
#endif
}

static void bad_input_01_empty_message(void **state) {
    fixture *f = *state;
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_INVALID, "envelope is empty");
    assert_int_equal(f->peer.correlation, 0);
    assert_int_equal(f->peer.kind, SLUICE__V1__KIND__KIND_TELL);
    good_body(f);
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_INVALID, "envelope is empty");
}

static void bad_input_02_one_random_byte(void **state) {
    fixture *f = *state;
    for (unsigned byte = 0; byte < 256; byte++) {
        f->envelope.size = f->body.size = 0;
        wire_put_byte(&f->envelope, byte);
        expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_INVALID, "envelope: byte");
        wire_put_byte(&f->body, byte);
        expect_body(f, SLUICE_INVALID, WRITE ": byte");
    }
}

static void bad_input_03_a_frame_one_byte_over_the_limit(void **state) {
    fixture *f = *state;
    good_body(f);
    f->peer.limits.max_bytes = f->body.size;
    expect_body(f, SLUICE_OK, "");
    f->peer.limits.max_bytes--;
    expect_body(f, SLUICE_TOO_BIG, "at most");
    char *longer = calloc(1, SL_WIRE_ENVELOPE_MAX + 1);
    wire_put(&f->envelope, longer, SL_WIRE_ENVELOPE_MAX + 1);
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_TOO_BIG, "envelope");
    free(longer);
}

static void bad_input_04_zero_length_body_where_one_is_due(void **state) {
    fixture *f = *state;
    expect_body(f, SLUICE_INVALID, "without statements");
    expect(f, wire_decode_body(&f->peer, "sluice.v1.QueryRequest", &f->body), SLUICE_INVALID, "without statements");
    /* None is due where every field may be absent. */
    expect(f, wire_decode_body(&f->peer, "sluice.v1.StatusRequest", &f->body), SLUICE_OK, "");
    expect(f, wire_decode_body(&f->peer, "demo.v1.Hello", &f->body), SLUICE_OK, "");
}

static void bad_input_07_length_prefix_longer_than_the_rest(void **state) {
    fixture *f = *state;
    wire_put(&f->body, "\x0a\x05\x0a\x02hi", 6); /* a statement of 5 bytes, of which 4 are there */
    expect_body(f, SLUICE_INVALID, "byte 1: a length goes beyond");
    f->body.size = 0;
    wire_put(&f->body, "\x0a\x04\x0a\x03hi", 6); /* the text within is longer than its statement */
    expect_body(f, SLUICE_INVALID, "byte 3: a length goes beyond");
}

static void bad_input_08_length_of_2_to_the_63(void **state) {
    fixture *f = *state;
    const uint64_t lengths[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_C(1) << 32, UINT32_MAX, UINT64_C(1) << 31};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        f->body.size = 0;
        wire_put_tag(&f->body, 1, 2);
        wire_put_varint(&f->body, lengths[i]);
        wire_put(&f->body, "rest", 4);
        expect_body(f, SLUICE_INVALID, "byte 1: a length goes beyond");
    }
}

static void bad_input_09_unterminated_varint(void **state) {
    fixture *f = *state;
    for (size_t n = 1; n < 15; n++) {
        f->body.size = 0;
        wire_put_tag(&f->body, 2, 0);
        for (size_t i = 0; i < n; i++) wire_put_byte(&f->body, 0xFF);
        expect_body(f, SLUICE_INVALID, "varint");
        if (n >= 10) { /* terminated, but too long */
            wire_put_byte(&f->body, 0);
            expect_body(f, SLUICE_INVALID, "varint");
        }
    }
    f->body.size = 0;
    wire_put(&f->body, "\x10\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 11); /* 65 bits */
    expect_body(f, SLUICE_INVALID, "varint");
    f->body.size = 0;
    wire_put(&f->body, "\x0a\x80\x80\x80\x80\x80\x80", 7); /* in a length */
    expect_body(f, SLUICE_INVALID, "length");
    f->body.size = 0;
    wire_put(&f->body, "\xFF\xFF\xFF\xFF\xFF\xFF", 6); /* in a tag */
    expect_body(f, SLUICE_INVALID, "tag");
    f->body.size = 0;
    wire_put(&f->body, "\x8a\x80\x80\x80\x80\x00\x00", 7); /* a tag of six bytes, although its value is 1 */
    expect_body(f, SLUICE_INVALID, "tag");
    f->body.size = 0;
    wire_put_field(&f->body, 31, "\x01\xFF", 2); /* in a packed list */
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "r_int32 holds a malformed varint");
    f->body.size = 0;
    wire_put_field(&f->body, 32, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 10); /* 65 bits */
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "r_int64 holds a malformed varint");
}

static void bad_input_10_tag_0(void **state) {
    fixture *f = *state;
    for (unsigned wire_type = 0; wire_type < 8; wire_type++) {
        good_body(f);
        wire_put_byte(&f->body, wire_type);
        wire_put_byte(&f->body, 0);
        expect_body(f, SLUICE_INVALID, "byte 12: no such field number");
    }
    good_body(f);
    wire_put(&f->body, "\x80\x00\x00", 3); /* tag 0 in two bytes */
    expect_body(f, SLUICE_INVALID, "no such field number");
    good_body(f);
    wire_put(&f->body, "\xF8\xFF\xFF\xFF\x1F\x00", 6); /* beyond the largest number, 2^29 - 1 */
    expect_body(f, SLUICE_INVALID, "no such field number");
}

static void bad_input_11_group_wire_type_3(void **state) {
    fixture *f = *state;
    const unsigned bad[] = {3, 4, 6, 7};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        good_body(f);
        wire_put_tag(&f->body, 100, bad[i]); /* unknown field */
        wire_put_byte(&f->body, 0);
        expect_body(f, SLUICE_INVALID, "wire type");
        good_body(f);
        wire_put_tag(&f->body, 1, bad[i]); /* known field */
        wire_put_byte(&f->body, 0);
        expect_body(f, SLUICE_INVALID, "wire type");
    }
}

static void bad_input_12_known_field_with_the_wrong_wire_type(void **state) {
    fixture *f = *state;
    const ProtobufCMessageDescriptor *type = &kinds__v1__all__descriptor;
    const unsigned wire_types[] = {0, 1, 2, 5};
    for (unsigned i = 0; i < type->n_fields; i++) {
        unsigned accepted = 0;
        for (size_t k = 0; k < 4; k++) {
            f->body.size = 0;
            wire_put_tag(&f->body, type->fields[i].id, wire_types[k]);
            wire_put(&f->body, "\0\0\0\0\0\0\0\0", wire_types[k] == 1 ? 8 : wire_types[k] == 5 ? 4 : 1);
            sluice_err err = wire_decode_body(&f->peer, "kinds.v1.All", &f->body);
            if (err == SLUICE_OK) {
                accepted++;
            } else {
                expect(f, err, SLUICE_INVALID, type->fields[i].name);
            }
        }
        bool list_of_numbers = type->fields[i].label == PROTOBUF_C_LABEL_REPEATED && type->fields[i].id <= 42;
        assert_int_equal(accepted, list_of_numbers ? 2 : 1); /* lists of numbers come packed or not */
    }
}

static void bad_input_13_nesting_100000_deep(void **state) {
    fixture *f = *state;
    /* From the inside out, each level with a full length. */
    enum { DEPTH = 100000 };
    size_t room = DEPTH * 6, at = room;
    uint8_t *all = malloc(room);
    assert_non_null(all);
    for (size_t i = 0; i < DEPTH; i++) {
        wire_bytes head = {0};
        wire_put_tag(&head, 1, 2);
        wire_put_varint(&head, room - at);
        at -= head.size;
        memcpy(all + at, head.at, head.size);
        wire_bytes_fini(&head);
    }
    wire_put(&f->body, all + at, room - at);
    free(all);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.Chain", &f->body), SLUICE_TOO_BIG, "nested deeper than 16");
    f->peer.limits.max_depth = UINT32_MAX; /* the walk has a limit of its own */
    expect(f, wire_decode_body(&f->peer, "kinds.v1.Chain", &f->body), SLUICE_TOO_BIG, "nested deeper than 64");
    /* Where the type knows no nesting, it is one unknown field, and nobody looks into it. */
    expect(f, wire_decode_body(&f->peer, "sluice.v1.StatusRequest", &f->body), SLUICE_OK, "");
}

static void bad_input_14_500000_unknown_fields(void **state) {
    fixture *f = *state;
    good_body(f);
    for (size_t i = 0; i < 500000; i++) wire_put(&f->body, "\x98\x06\x01", 3);
    size_t peak = memory_peak(f, SLUICE_TOO_BIG, "unknown fields");
    if (peak != SIZE_MAX) assert_true(peak <= 4 * f->body.size);
    /* A few are what a newer peer may add: they are taken, and kept. */
    good_body(f);
    for (size_t i = 0; i < 64; i++) wire_put(&f->body, "\x98\x06\x01", 3);
    expect_body(f, SLUICE_OK, "");
    assert_int_equal(f->peer.msg->body->n_unknown_fields, 64);
    wire_put(&f->body, "\x98\x06\x01", 3);
    expect_body(f, SLUICE_TOO_BIG, "unknown fields");
}

static void bad_input_15_500000_empty_submessages(void **state) {
    fixture *f = *state;
    for (size_t i = 0; i < 500000; i++) wire_put(&f->body, "\x0a\x00", 2);
    size_t peak = memory_peak(f, SLUICE_TOO_BIG, "of memory");
    if (peak != SIZE_MAX) assert_true(peak <= 4 * f->body.size);
    /* And as many fields as one may have. */
    f->peer.limits.max_fields = 499999;
    expect_body(f, SLUICE_TOO_BIG, "more than 499999 fields");
}

static void bad_input_16_unknown_wire_version(void **state) {
    fixture *f = *state;
    good_body(f);
    const uint32_t versions[] = {0, 2, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        f->sent.version = versions[i];
        expect_sent(f, SLUICE_UNSUPPORTED, "1 to 1 are");
        assert_int_equal(f->peer.correlation, 7); /* so the asker can be told */
        assert_int_equal(f->peer.kind, SLUICE__V1__KIND__KIND_ASK);
    }
    /* The version is looked at before the type and the body, which a later version may have changed. */
    f->sent.type = (char *)(uintptr_t) "sluice.v9.Future";
    wire_put_byte(&f->body, 0xFF);
    expect_sent(f, SLUICE_UNSUPPORTED, "wire version");
}

static void bad_input_17_unknown_message_type(void **state) {
    fixture *f = *state;
    good_body(f);
    f->sent.type = (char *)(uintptr_t) "sluice.v1.Nonsense";
    expect_sent(f, SLUICE_UNSUPPORTED, "'sluice.v1.Nonsense'");
    assert_int_equal(f->peer.correlation, 7);
    f->sent.type = (char *)(uintptr_t) "";
    expect_sent(f, SLUICE_UNSUPPORTED, "''");
}

static void bad_input_18_two_members_of_a_oneof_the_last_wins(void **state) {
    fixture *f = *state;
    wire_put_field(&f->body, 19, "a text that is longer than nothing", 34);
    wire_put_field(&f->body, 20, "bytes", 5);
    wire_put_field(&f->body, 21, "\x0a\x04leaf", 6);
    wire_put_field(&f->body, 22, "", 0);
    wire_put_tag(&f->body, 18, 0);
    wire_put_varint(&f->body, 99);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_OK, "");
    const Kinds__V1__All *all = sluice_msg_body(f->peer.msg);
    assert_int_equal(all->choice_case, KINDS__V1__ALL__CHOICE_NUMBER);
    assert_int_equal(all->number, 99);
    wire_put_field(&f->body, 19, "last", 4);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_OK, "");
    all = sluice_msg_body(f->peer.msg);
    assert_int_equal(all->choice_case, KINDS__V1__ALL__CHOICE_TEXT);
    assert_string_equal(all->text, "last");
    /* That nothing leaks is LeakSanitizer's to say: all of it lies in the message's arena. */
}

static void bad_input_19_receipt_without_client_id_or_sequence(void **state) {
    fixture *f = *state;
    uint8_t client[17] = "sixteen bytes id";
    good_body(f);
    wire_put(&f->body, "\x10\x01", 2); /* receipt = true */
    expect_sent(f, SLUICE_INVALID, "a receipt needs");
    f->sent.client = (ProtobufCBinaryData){16, client};
    expect_sent(f, SLUICE_INVALID, "a receipt needs");
    f->sent.sequence = 1;
    expect_sent(f, SLUICE_OK, "");
    assert_memory_equal(f->peer.msg->identity.client, client, 16);
    assert_int_equal(f->peer.msg->identity.sequence, 1);
    f->sent.client.len = 0;
    expect_sent(f, SLUICE_INVALID, "without a client id");
    f->sent.client.len = 15;
    expect_sent(f, SLUICE_INVALID, "16 bytes");
    f->sent.client.len = 17;
    expect_sent(f, SLUICE_INVALID, "16 bytes");
}

static void bad_input_70_deadline_zero_huge_or_negative(void **state) {
    fixture *f = *state;
    good_body(f);
    f->sent.deadline_case = SLUICE__V1__ENVELOPE__DEADLINE_DEADLINE_MS;
    f->sent.deadline_ms = 0;
    expect_sent(f, SLUICE_EXPIRED, "deadline");
    assert_int_equal(f->peer.correlation, 7);
    f->sent.deadline_ms = -1;
    expect_sent(f, SLUICE_INVALID, "negative deadline");
    f->sent.deadline_ms = INT64_MIN; /* 2^63 as a signed number */
    expect_sent(f, SLUICE_INVALID, "negative deadline");
    f->sent.deadline_ms = INT64_MAX;
    expect_sent(f, SLUICE_OK, "");
    assert_int_equal(f->peer.msg->deadline_ns, WIRE_NOW_NS + SL_WIRE_DEADLINE_MAX_MS * 1000000);
    f->sent.deadline_ms = 1;
    expect_sent(f, SLUICE_OK, "");
    assert_int_equal(f->peer.msg->deadline_ns, WIRE_NOW_NS + 1000000);
    f->sent.deadline_case = SLUICE__V1__ENVELOPE__DEADLINE__NOT_SET;
    expect_sent(f, SLUICE_OK, "");
    assert_int_equal(f->peer.msg->deadline_ns, 0);
}

/* ---- not on the list ---- */

static void a_string_with_a_nul_or_bad_utf8_is_refused_and_bytes_are_free(void **state) {
    fixture *f = *state;
    wire_put_field(&f->body, 1, "a\0b", 3);
    expect(f, wire_decode_body(&f->peer, "demo.v1.Hello", &f->body), SLUICE_INVALID, "name holds a NUL");
    f->body.size = 0;
    wire_put_field(&f->body, 1, "a\xFF", 2);
    expect(f, wire_decode_body(&f->peer, "demo.v1.Hello", &f->body), SLUICE_INVALID, "name is not UTF-8");
    f->body.size = 0;
    wire_put_field(&f->body, 3, "a\0\xFF", 3);
    expect(f, wire_decode_body(&f->peer, "demo.v1.Hello", &f->body), SLUICE_OK, "");
}

static void a_submessage_that_comes_twice_is_refused(void **state) {
    fixture *f = *state;
    wire_put_field(&f->body, 17, "\x0a\x01x", 3);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_OK, "");
    wire_put_field(&f->body, 17, "\x12\x01y", 3);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "leaf comes twice");
}

static void a_packed_list_of_the_wrong_size_is_refused(void **state) {
    fixture *f = *state;
    const uint32_t fields[] = {37, 38, 39, 40};
    for (size_t i = 0; i < 4; i++) {
        f->body.size = 0;
        wire_put_field(&f->body, fields[i], "1234567", 7);
        expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "whole number of");
    }
    f->body.size = 0;
    wire_put_field(&f->body, 41, "\0\1\2", 3);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "neither 0 nor 1");
    f->body.size = 0;
    wire_put_field(&f->body, 41, "\0\x81\0", 3);
    expect(f, wire_decode_body(&f->peer, "kinds.v1.All", &f->body), SLUICE_INVALID, "neither 0 nor 1");
}

static void an_envelope_that_makes_no_sense_is_refused(void **state) {
    fixture *f = *state;
    char name[66];
    memset(name, 'n', sizeof name);
    good_body(f);
    f->sent.to = name;
    name[64] = '\0';
    expect_sent(f, SLUICE_INVALID, "at most 63");
    name[63] = '\0';
    expect_sent(f, SLUICE_OK, "");
    assert_string_equal(f->peer.address.to, name);
    f->sent.kind = (Sluice__V1__Kind)4;
    expect_sent(f, SLUICE_INVALID, "no such kind");
    f->sent.kind = (Sluice__V1__Kind)-1;
    expect_sent(f, SLUICE_INVALID, "no such kind");
    f->sent.kind = SLUICE__V1__KIND__KIND_ERROR;
    expect_sent(f, SLUICE_INVALID, "go together");
    f->sent.kind = SLUICE__V1__KIND__KIND_ASK;
    f->sent.type = (char *)(uintptr_t) "sluice.v1.Error";
    expect_sent(f, SLUICE_INVALID, "go together");
    f->sent.type = (char *)(uintptr_t)WRITE;
    f->sent.trace = (ProtobufCBinaryData){24, (uint8_t *)name};
    expect_sent(f, SLUICE_INVALID, "trace context");
}

static void an_envelope_may_carry_a_few_fields_we_do_not_know(void **state) {
    fixture *f = *state;
    good_body(f);
    wire_put_message(&f->envelope, &f->sent.base);
    for (size_t i = 0; i < 16; i++) wire_put(&f->envelope, "\xA2\x06\x03new", 6);
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_OK, "");
    wire_put(&f->envelope, "\xA2\x06\x03new", 6);
    expect(f, wire_decode(&f->peer, &f->envelope, &f->body), SLUICE_TOO_BIG, "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(bad_input_01_empty_message),
        TEST(bad_input_02_one_random_byte),
        TEST(bad_input_03_a_frame_one_byte_over_the_limit),
        TEST(bad_input_04_zero_length_body_where_one_is_due),
        TEST(bad_input_07_length_prefix_longer_than_the_rest),
        TEST(bad_input_08_length_of_2_to_the_63),
        TEST(bad_input_09_unterminated_varint),
        TEST(bad_input_10_tag_0),
        TEST(bad_input_11_group_wire_type_3),
        TEST(bad_input_12_known_field_with_the_wrong_wire_type),
        TEST(bad_input_13_nesting_100000_deep),
        TEST(bad_input_14_500000_unknown_fields),
        TEST(bad_input_15_500000_empty_submessages),
        TEST(bad_input_16_unknown_wire_version),
        TEST(bad_input_17_unknown_message_type),
        TEST(bad_input_18_two_members_of_a_oneof_the_last_wins),
        TEST(bad_input_19_receipt_without_client_id_or_sequence),
        TEST(bad_input_70_deadline_zero_huge_or_negative),
        TEST(a_string_with_a_nul_or_bad_utf8_is_refused_and_bytes_are_free),
        TEST(a_submessage_that_comes_twice_is_refused),
        TEST(a_packed_list_of_the_wrong_size_is_refused),
        TEST(an_envelope_that_makes_no_sense_is_refused),
        TEST(an_envelope_may_carry_a_few_fields_we_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
