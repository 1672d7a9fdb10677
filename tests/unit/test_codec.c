/* SPDX-License-Identifier: MIT */
/* The codec on good input: every message survives the wire in one allocation of the size that was foretold, every part
 * of one is refused or taken but never crashes, and large requests fit their budget. */
#include "support/wire.h"

#include "check.h"
#include "digest.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/demo.pb-c.h"
#include "support/kinds.pb-c.h"
#include "support/random_message.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ProtobufCMessageDescriptor *const types[] = {
    &kinds__v1__all__descriptor,
    &kinds__v1__chain__descriptor,
    &sluice__v1__write_request__descriptor,
    &sluice__v1__write_reply__descriptor,
    &sluice__v1__query_request__descriptor,
    &sluice__v1__query_reply__descriptor,
    &sluice__v1__status_reply__descriptor,
    &sluice__v1__error__descriptor,
    &sluice__v1__checkpoint_reply__descriptor,
    &demo__v1__hello__descriptor,
};
#define N_TYPES (sizeof types / sizeof types[0])

typedef struct fixture {
    wire_peer peer;
    wire_bytes envelope, body;
    sl_arena arena;
    _Alignas(16) char first[4096];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    wire_peer_init(&f->peer);
    sl_arena_init(&f->arena, f->first, sizeof f->first, SIZE_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    wire_bytes_fini(&f->envelope);
    wire_bytes_fini(&f->body);
    wire_peer_fini(&f->peer);
    sl_arena_fini(&f->arena);
    free(f);
    return 0;
}

static sluice_msg *fresh(const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(type, &msg), SLUICE_OK);
    return msg;
}

/* Packs a message as a process would, and lets the peer decode it. */
static sluice_err send(fixture *f, const sluice_msg *msg, const char *to, uint32_t credits) {
    uint8_t envelope[SL_WIRE_ENVELOPE_MAX];
    f->envelope.size = f->body.size = 0;
    wire_put(&f->envelope, envelope, sl_wire_pack_envelope(msg, to, credits, WIRE_NOW_NS, envelope));
    size_t size = sl_wire_body_size(msg);
    uint8_t *packed = malloc(size + 1);
    assert_non_null(packed);
    sl_wire_pack_body(msg, packed);
    wire_put(&f->body, packed, size);
    free(packed);
    return wire_decode(&f->peer, &f->envelope, &f->body);
}

/* What was decoded lies in the one block that was allocated for it, and that block was not much too large. */
static void assert_one_block(const sluice_msg *msg) {
    assert_null(msg->arena.blocks);
    assert_false(msg->arena.refused);
    size_t first = (size_t)(msg->arena.first_end - msg->arena.first);
    if (first > 4 * SL_MSG_FIRST_BLOCK && msg->arena.used * 10 < first * 9)
        fail_msg("%zu bytes were foretold, %zu used", first, msg->arena.used);
}

static void every_header_field_of_a_request_survives_the_wire(void **state) {
    fixture *f = *state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->flags = SL_MSG_ASK;
    msg->correlation = UINT64_MAX;
    msg->deadline_ns = WIRE_NOW_NS + 2500000;
    for (unsigned i = 0; i < 16; i++) msg->identity.client[i] = (uint8_t)(i + 1);
    msg->identity.sequence = 17, msg->identity.attempt = 3, msg->identity.ack_upto = 15;
    msg->trace.trace_id[15] = 4, msg->trace.span_id[0] = 5, msg->trace.flags = 1;
    assert_ok(send(f, msg, "app/writer", 12), f->peer.cause);
    const sluice_msg *read = f->peer.msg;
    assert_int_equal(read->flags, SL_MSG_ASK);
    assert_true(read->correlation == UINT64_MAX);
    assert_int_equal(read->deadline_ns, WIRE_NOW_NS + 2000000); /* whole milliseconds, never more than was left */
    assert_memory_equal(&read->identity.client, &msg->identity.client, 16);
    assert_int_equal(read->identity.sequence, 17);
    assert_int_equal(read->identity.attempt, 3);
    assert_int_equal(read->identity.ack_upto, 15);
    assert_memory_equal(&read->trace, &msg->trace, sizeof msg->trace);
    assert_string_equal(f->peer.address.to, "app/writer");
    assert_int_equal(f->peer.address.credits, 12);
    assert_true(sluice_msg_is(read, &demo__v1__hello__descriptor));
    sluice_msg_destroy(&msg);
}

static void a_deadline_has_at_least_a_millisecond_left_until_it_passed(void **state) {
    fixture *f = *state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->flags = SL_MSG_ASK;
    msg->deadline_ns = WIRE_NOW_NS + 1;
    assert_ok(send(f, msg, "a", 0), f->peer.cause);
    assert_int_equal(f->peer.msg->deadline_ns, WIRE_NOW_NS + 1000000);
    msg->deadline_ns = WIRE_NOW_NS;
    assert_int_equal(send(f, msg, "a", 0), SLUICE_EXPIRED);
    msg->deadline_ns = WIRE_NOW_NS - 5;
    assert_int_equal(send(f, msg, "a", 0), SLUICE_EXPIRED);
    sluice_msg_destroy(&msg);
}

static void a_reply_carries_neither_deadline_nor_identity_and_never_expires(void **state) {
    fixture *f = *state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->flags = SL_MSG_ASK;
    msg->correlation = 5;
    msg->identity.sequence = 17;
    msg->identity.client[0] = 1;
    assert_int_equal(sl_msg_turn(msg, &demo__v1__greeting__descriptor), SLUICE_OK);
    msg->deadline_ns = WIRE_NOW_NS - 5;
    assert_ok(send(f, msg, "", 0), f->peer.cause);
    assert_int_equal(f->peer.msg->flags, SL_MSG_REPLY);
    assert_int_equal(f->peer.msg->correlation, 5);
    assert_int_equal(f->peer.msg->identity.sequence, 0);
    assert_int_equal(f->peer.msg->deadline_ns, 0);
    sluice_msg_destroy(&msg);
}

static void an_error_survives_the_wire_with_all_it_says(void **state) {
    fixture *f = *state;
    sluice_cause cause, read;
    (void)sluice_cause_set(&cause, SLUICE_OVERLOADED, "the writer's queue is full");
    cause.retry_after_ms = 20, cause.sqlite_code = -1, cause.sys_errno = 12, cause.statement = 499;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->correlation = 9;
    sl_msg_turn_error(msg, &cause);
    assert_ok(send(f, msg, "", 0), f->peer.cause);
    assert_int_equal(f->peer.msg->flags, SL_MSG_REPLY | SL_MSG_ERROR);
    assert_int_equal(f->peer.kind, SLUICE__V1__KIND__KIND_ERROR);
    assert_int_equal(sl_msg_cause(f->peer.msg, &read), SLUICE_OVERLOADED);
    assert_string_equal(read.text, cause.text);
    assert_int_equal(read.retry_after_ms, 20);
    assert_int_equal(read.sqlite_code, -1);
    assert_int_equal(read.sys_errno, 12);
    assert_int_equal(read.statement, 499);
    sluice_msg_destroy(&msg);
}

static void a_decoded_message_may_grow_beyond_the_budget_it_was_decoded_with(void **state) {
    fixture *f = *state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    assert_ok(send(f, msg, "a", 0), f->peer.cause);
    assert_non_null(sluice_msg_alloc(f->peer.msg, 2 * SL_LIMITS_MEMORY_FLOOR));
    sluice_msg_destroy(&msg);
}

/* ---- properties ---- */

static bool lacks_statements(const sluice_msg *msg) {
    if (msg->type == &sluice__v1__write_request__descriptor)
        return ((const Sluice__V1__WriteRequest *)msg->body)->n_statements == 0;
    if (msg->type == &sluice__v1__query_request__descriptor)
        return ((const Sluice__V1__QueryRequest *)msg->body)->n_statements == 0;
    return false;
}

static void every_message_survives_the_wire_in_one_allocation(void **state) {
    fixture *f = *state;
    unsigned n_seeds = support_scaled(3000);
    for (uint64_t seed = 1; seed <= n_seeds; seed++) {
        support_random random = {seed};
        const ProtobufCMessageDescriptor *type = types[seed % N_TYPES];
        sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
        assert_non_null(msg);
        msg->type = type;
        unsigned many = seed % 97 == 0 ? 60 : 6;
        msg->body = support_random_message(&random, &msg->arena, type, 4, many);
        /* A request without statements or with a receipt but no identity is refused by rule, not by form. */
        msg->identity.sequence = 1 + seed;
        if (lacks_statements(msg)) goto next;
        msg->flags = type == &sluice__v1__error__descriptor ? SL_MSG_REPLY | SL_MSG_ERROR : SL_MSG_ASK;
        if (send(f, msg, "x", 0) != SLUICE_OK)
            fail_msg("seed %llu, %s: %s", (unsigned long long)seed, type->name, f->peer.cause.text);
        assert_one_block(f->peer.msg);
        size_t size = sl_wire_body_size(f->peer.msg);
        assert_int_equal(size, f->body.size);
        uint8_t *again = malloc(size + 1);
        assert_non_null(again);
        sl_wire_pack_body(f->peer.msg, again);
        if (size != 0) assert_memory_equal(again, f->body.at, size);
        free(again);
        uint8_t sent[16], received[16];
        assert_int_equal(sl_wire_digest(msg->body, sent), SLUICE_OK);
        assert_int_equal(sl_wire_digest(f->peer.msg->body, received), SLUICE_OK);
        assert_memory_equal(sent, received, 16);
    next:
        sluice_msg_destroy(&msg);
    }
}

/* Whatever the pre-scan accepts protobuf-c accepts too, and within the memory that was foretold. */
static void check_agrees(fixture *f, const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size) {
    size_t need = 0;
    uint8_t *exact = malloc(size != 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, data, size);
    if (sl_wire_measure(type, exact, size, &f->peer.limits, &need, &f->peer.cause) == SLUICE_OK) {
        sl_arena arena;
        char *block = malloc(need);
        assert_non_null(block);
        sl_arena_init(&arena, block, need, 0);
        ProtobufCAllocator allocator = sl_arena_allocator(&arena);
        ProtobufCMessage *read = protobuf_c_message_unpack(type, &allocator, size, exact);
        if (read == NULL) fail_msg("%s of %zu bytes: accepted, but not unpacked", type->name, size);
        free(block);
    }
    free(exact);
}

static void every_prefix_of_a_message_is_refused_or_taken_but_never_crashes(void **state) {
    fixture *f = *state;
    for (uint64_t seed = 1; seed <= support_scaled(100); seed++) {
        support_random random = {seed * 7919};
        const ProtobufCMessageDescriptor *type = types[seed % N_TYPES];
        f->body.size = 0;
        wire_put_message(&f->body, support_random_message(&random, &f->arena, type, 4, 3));
        for (size_t size = 0; size <= f->body.size && size < 2000; size++) check_agrees(f, type, f->body.at, size);
        sl_arena_reset(&f->arena);
    }
}

static void every_prefix_of_an_envelope_is_refused_or_taken_but_never_crashes(void **state) {
    fixture *f = *state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->flags = SL_MSG_ASK;
    msg->correlation = 12345;
    msg->deadline_ns = WIRE_NOW_NS + 1000000000;
    memset(&msg->identity, 7, sizeof msg->identity);
    memset(&msg->trace, 9, sizeof msg->trace);
    assert_ok(send(f, msg, "app/writer", 3), f->peer.cause);
    wire_bytes part = {0};
    unsigned taken = 0;
    for (size_t size = 0; size < f->envelope.size; size++) {
        part.size = 0;
        wire_put(&part, f->envelope.at, size);
        if (wire_decode(&f->peer, &part, &f->body) == SLUICE_OK) taken++;
    }
    assert_true(taken > 0 && taken < 12); /* only where it ends between two fields */
    wire_bytes_fini(&part);
    sluice_msg_destroy(&msg);
}

static void a_message_with_changed_bytes_is_refused_or_taken_but_never_crashes(void **state) {
    fixture *f = *state;
    for (uint64_t seed = 1; seed <= support_scaled(400); seed++) {
        support_random random = {seed * 104729};
        const ProtobufCMessageDescriptor *type = types[seed % N_TYPES];
        f->body.size = 0;
        wire_put_message(&f->body, support_random_message(&random, &f->arena, type, 4, 4));
        for (unsigned i = 0; i < 50 && f->body.size != 0; i++) {
            size_t at = (size_t)support_random_below(&random, f->body.size);
            uint8_t was = f->body.at[at];
            f->body.at[at] = (uint8_t)support_random_next(&random);
            check_agrees(f, type, f->body.at, f->body.size);
            if (i % 3 != 0) f->body.at[at] = was;
        }
        sl_arena_reset(&f->arena);
    }
}

/* ---- large, but legitimate ---- */

static Sluice__V1__Statement *statement(sluice_msg *msg) {
    Sluice__V1__Statement *out = sluice_msg_alloc(msg, sizeof *out);
    assert_non_null(out);
    sluice__v1__statement__init(out);
    out->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    out->sql = (ProtobufCBinaryData){8, sluice_msg_memdup(msg, "SELECT ?", 8)};
    return out;
}

static sluice_msg *write_of(size_t n) {
    sluice_msg *msg = fresh(&sluice__v1__write_request__descriptor);
    msg->flags = SL_MSG_ASK;
    Sluice__V1__WriteRequest *request = sluice_msg_body(msg);
    request->statements = sluice_msg_alloc(msg, n * sizeof *request->statements);
    assert_non_null(request->statements);
    for (size_t i = 0; i < n; i++) request->statements[i] = statement(msg);
    request->n_statements = n;
    return msg;
}

static void bind(sluice_msg *msg, Sluice__V1__Statement *to, size_t n, sluice_value value) {
    to->params = sluice_msg_alloc(msg, n * sizeof *to->params);
    assert_non_null(to->params);
    for (size_t i = 0; i < n; i++) {
        to->params[i] = sluice_msg_alloc(msg, sizeof *to->params[i]);
        assert_non_null(to->params[i]);
        assert_int_equal(sl_value_pack(&msg->arena, &value, to->params[i]), SLUICE_OK);
    }
    to->n_params = n;
}

static void as_many_parameters_as_sqlite_binds_are_taken(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_null(), sluice_integer(1), sluice_text("some text that is not short at all")};
    for (size_t i = 0; i < 3; i++) {
        sluice_msg *msg = write_of(1);
        bind(msg, ((Sluice__V1__WriteRequest *)msg->body)->statements[0], 32766, values[i]);
        assert_ok(send(f, msg, "w", 0), f->peer.cause);
        assert_one_block(f->peer.msg);
        assert_true(f->peer.msg->arena.reserved <= SL_LIMITS_MEMORY_FLOOR);
        sluice_msg_destroy(&msg);
    }
}

static void five_hundred_statements_are_taken(void **state) {
    fixture *f = *state;
    sluice_msg *msg = write_of(500);
    Sluice__V1__WriteRequest *request = sluice_msg_body(msg);
    for (size_t i = 0; i < 500; i++) bind(msg, request->statements[i], 5, sluice_integer((int64_t)i));
    assert_ok(send(f, msg, "w", 0), f->peer.cause);
    assert_one_block(f->peer.msg);
    assert_int_equal(((Sluice__V1__WriteRequest *)f->peer.msg->body)->n_statements, 500);
    sluice_msg_destroy(&msg);
}

static void a_table_of_small_integers_is_taken_though_memory_is_eight_times_the_wire(void **state) {
    fixture *f = *state;
    size_t rows = 100000;
    sluice_msg *msg = write_of(1);
    sl_table_builder *builder = sl_table_builder_new(&msg->arena, 1);
    for (size_t i = 0; i < rows; i++) {
        sluice_value value = sluice_integer((int64_t)(i % 60));
        assert_int_equal(sl_table_builder_add(builder, 0, &value), SLUICE_OK);
    }
    ((Sluice__V1__WriteRequest *)msg->body)->statements[0]->rows = sl_table_builder_finish(builder, rows);
    assert_ok(send(f, msg, "w", 0), f->peer.cause);
    assert_one_block(f->peer.msg);
    const Sluice__V1__WriteRequest *read = sluice_msg_body(f->peer.msg);
    assert_ok(sl_table_check(read->statements[0]->rows, &f->peer.cause), f->peer.cause);
    sluice_msg_destroy(&msg);
}

static void packed_lists_are_outside_the_budget(void **state) {
    fixture *f = *state;
    f->peer.limits.memory_floor = 4096;
    f->peer.limits.memory_factor = 1;
    size_t rows = 100000;
    sluice_msg *msg = write_of(1);
    sl_table_builder *builder = sl_table_builder_new(&msg->arena, 2);
    for (size_t i = 0; i < 2 * rows; i++) {
        sluice_value value = sluice_integer((int64_t)(i % 60));
        assert_int_equal(sl_table_builder_add(builder, i % 2, &value), SLUICE_OK);
    }
    ((Sluice__V1__WriteRequest *)msg->body)->statements[0]->rows = sl_table_builder_finish(builder, rows);
    assert_ok(send(f, msg, "w", 0), f->peer.cause);
    assert_one_block(f->peer.msg);
    assert_true(f->peer.msg->arena.used > 7 * f->body.size && f->peer.msg->arena.used <= 9 * f->body.size);
    sluice_msg_destroy(&msg);
}

static void what_would_take_more_memory_than_the_budget_is_refused_before_it_takes_any(void **state) {
    fixture *f = *state;
    sluice_msg *msg = write_of(1);
    bind(msg, ((Sluice__V1__WriteRequest *)msg->body)->statements[0], 1000, sluice_null());
    f->peer.limits.memory_floor = 4096;
    assert_int_equal(send(f, msg, "w", 0), SLUICE_TOO_BIG);
    assert_non_null(strstr(f->peer.cause.text, "of memory, at most"));
    f->peer.limits.memory_factor = 0;
    f->peer.limits.memory_floor = 0;
    assert_int_equal(send(f, msg, "w", 0), SLUICE_TOO_BIG);
    f->peer.limits.memory_factor = SIZE_MAX;
    assert_ok(send(f, msg, "w", 0), f->peer.cause);
    sluice_msg_destroy(&msg);
}

/* ---- digest ---- */

static void siphash_gives_the_reference_vectors(void **state) {
    (void)state;
    /* Source: the reference implementation's vectors for 128 bits, key 00..0f, input 00, 01, 02 ... */
    static const char *const expected[] = {
        "a3817f04ba25a8e66df67214c7550293",
        "da87c1d86b99af44347659119b22fc45",
        "8177228da4a45dc7fca38bdef60affe4",
        "9c70b60c5267a94e5f33b6b02985ed51",
    };
    uint8_t key[16], input[4] = {0, 1, 2, 3}, out[16];
    for (unsigned i = 0; i < 16; i++) key[i] = (uint8_t)i;
    for (size_t size = 0; size < 4; size++) {
        char text[33];
        sl_siphash128(key, input, size, out);
        for (size_t i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", out[i]);
        assert_string_equal(text, expected[size]);
    }
}

static void a_digest_tells_bodies_apart_whatever_their_size(void **state) {
    (void)state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    Demo__V1__Hello *hello = sluice_msg_body(msg);
    uint8_t seen[200][16];
    size_t n = 0;
    hello->payload.data = sluice_msg_alloc(msg, 100000);
    assert_non_null(hello->payload.data);
    memset(hello->payload.data, 0, 100000);
    for (size_t i = 0; i < 200; i++, n++) {
        hello->payload.len = i < 100 ? i : 2000 + i * 17; /* on both sides of the buffer on the stack */
        assert_int_equal(sl_wire_digest(msg->body, seen[n]), SLUICE_OK);
        for (size_t k = 0; k < n; k++) assert_memory_not_equal(seen[k], seen[n], 16);
    }
    sluice_msg_destroy(&msg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_header_field_of_a_request_survives_the_wire),
        TEST(a_deadline_has_at_least_a_millisecond_left_until_it_passed),
        TEST(a_reply_carries_neither_deadline_nor_identity_and_never_expires),
        TEST(an_error_survives_the_wire_with_all_it_says),
        TEST(a_decoded_message_may_grow_beyond_the_budget_it_was_decoded_with),
        TEST(every_message_survives_the_wire_in_one_allocation),
        TEST(every_prefix_of_a_message_is_refused_or_taken_but_never_crashes),
        TEST(every_prefix_of_an_envelope_is_refused_or_taken_but_never_crashes),
        TEST(a_message_with_changed_bytes_is_refused_or_taken_but_never_crashes),
        TEST(as_many_parameters_as_sqlite_binds_are_taken),
        TEST(five_hundred_statements_are_taken),
        TEST(a_table_of_small_integers_is_taken_though_memory_is_eight_times_the_wire),
        TEST(packed_lists_are_outside_the_budget),
        TEST(what_would_take_more_memory_than_the_budget_is_refused_before_it_takes_any),
        TEST(siphash_gives_the_reference_vectors),
        TEST(a_digest_tells_bodies_apart_whatever_their_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
