/* SPDX-License-Identifier: MIT */
/* Messages: one allocation, the turn from request to reply, errors to causes and back, the registry under threads. */
#include "support/support.h"

#include "codec.h"
#include "msg.h"
#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "support/demo.pb-c.h"
#include "support/kinds.pb-c.h"
#include "table.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sluice_msg *fresh(const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(type, &msg), SLUICE_OK);
    return msg;
}

static void a_new_message_has_an_empty_body_of_its_type(void **state) {
    (void)state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    const Demo__V1__Hello *hello = sluice_msg_body(msg);
    assert_string_equal(hello->name, "");
    assert_int_equal(hello->number, 0);
    assert_true(sluice_msg_is(msg, &demo__v1__hello__descriptor));
    assert_false(sluice_msg_is(msg, &demo__v1__greeting__descriptor));
    assert_string_equal(sluice_msg_type_name(msg), "demo.v1.Hello");
    assert_int_equal(sluice_msg_from(msg), 0);
    assert_false(sluice_msg_is_ask(msg));
    sluice_msg_destroy(&msg);
    assert_null(msg);
    sluice_msg_destroy(&msg);
    sluice_msg_destroy(NULL);
}

static void what_a_message_allocates_lives_as_long_as_the_message(void **state) {
    (void)state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    Demo__V1__Hello *hello = sluice_msg_body(msg);
    hello->name = sluice_msg_strdup(msg, "Ada");
    hello->payload.len = 100000;
    hello->payload.data = sluice_msg_alloc(msg, 100000);
    assert_non_null(hello->payload.data);
    memset(hello->payload.data, 'x', 100000);
    assert_memory_equal(sluice_msg_memdup(msg, "xyz", 3), "xyz", 3);
    assert_string_equal(hello->name, "Ada");
    assert_true(sl_msg_size(msg) >= 100000 + sizeof *msg);
    sluice_msg_destroy(&msg);
}

static void a_turned_request_is_a_reply_to_its_asker_without_a_new_allocation(void **state) {
    (void)state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->from = 11, msg->to = 22, msg->correlation = 33, msg->deadline_ns = 44;
    msg->flags = SL_MSG_ASK | SL_MSG_CONTROL;
    msg->trace.trace_id[0] = 9;
    const void *request_body = msg->body;
    assert_non_null(sluice_msg_strdup(msg, "request data"));
    assert_int_equal(sl_msg_turn(msg, &demo__v1__greeting__descriptor), SLUICE_OK);
    assert_ptr_equal(msg->body, request_body); /* the same bytes, used again */
    assert_null(msg->arena.blocks);
    assert_int_equal(msg->from, 22);
    assert_int_equal(msg->to, 11);
    assert_int_equal(msg->correlation, 33);
    assert_int_equal(msg->flags, SL_MSG_REPLY);
    assert_int_equal(msg->deadline_ns, 0);
    assert_int_equal(msg->trace.trace_id[0], 9);
    assert_string_equal(sluice_msg_type_name(msg), "demo.v1.Greeting");
    assert_string_equal(((Demo__V1__Greeting *)msg->body)->text, "");
    sluice_msg_destroy(&msg);
}

static void a_turn_frees_what_the_request_had_taken_beyond_its_first_block(void **state) {
    (void)state;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    size_t empty = sl_msg_size(msg);
    assert_non_null(sluice_msg_alloc(msg, 1000000));
    assert_true(sl_msg_size(msg) > 1000000);
    assert_int_equal(sl_msg_turn(msg, &demo__v1__greeting__descriptor), SLUICE_OK);
    assert_int_equal(sl_msg_size(msg), empty);
    sluice_msg_destroy(&msg);
}

static void a_turn_that_finds_no_memory_says_so_and_leaves_the_header_alone(void **state) {
    (void)state;
    /* A type larger than the first block, and no budget for a further one. */
    ProtobufCMessageDescriptor large = demo__v1__hello__descriptor;
    large.sizeof_message = 4096;
    sluice_msg *msg = sl_msg_alloc(100);
    assert_non_null(msg);
    assert_int_equal(sl_msg_set_body(msg, &demo__v1__hello__descriptor), SLUICE_OK);
    msg->from = 11, msg->to = 22, msg->flags = SL_MSG_ASK;
    assert_int_equal(sl_msg_turn(msg, &large), SLUICE_NOMEM);
    assert_null(msg->body);
    assert_null(msg->type);
    assert_int_equal(msg->from, 11);
    assert_int_equal(msg->flags, SL_MSG_ASK);
    /* An error still fits. */
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_NOMEM, "no memory");
    sl_msg_turn_error(msg, &cause);
    assert_int_equal(sl_msg_cause(msg, NULL), SLUICE_NOMEM);
    sluice_msg_destroy(&msg);
}

static void a_cause_survives_the_way_through_an_error_message(void **state) {
    (void)state;
    sluice_cause cause, read;
    (void)sluice_cause_set(&cause, SLUICE_CONSTRAINT, "UNIQUE constraint failed: t.id");
    cause.retry_after_ms = 250;
    cause.sqlite_code = 1555;
    cause.sys_errno = 28;
    cause.statement = 0;
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    msg->from = 5;
    sl_msg_turn_error(msg, &cause);
    assert_int_equal(msg->flags, SL_MSG_REPLY | SL_MSG_ERROR);
    assert_int_equal(msg->to, 5);
    assert_null(msg->arena.blocks);
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_CONSTRAINT);
    assert_memory_equal(&read.code, &cause.code, sizeof read.code);
    assert_string_equal(read.text, cause.text);
    assert_int_equal(read.retry_after_ms, 250);
    assert_int_equal(read.sqlite_code, 1555);
    assert_int_equal(read.sys_errno, 28);
    assert_int_equal(read.statement, 0);
    cause.statement = -1;
    sl_msg_turn_error(msg, &cause);
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_CONSTRAINT);
    assert_int_equal(read.statement, -1);
    sluice_msg_destroy(&msg);
}

static void an_unsupported_error_names_the_versions_spoken(void **state) {
    (void)state;
    sluice_cause cause, read;
    (void)sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "wire version 9 is not spoken here");
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    sl_msg_turn_error(msg, &cause);
    const Sluice__V1__Error *error = sluice_msg_body(msg);
    assert_int_equal(error->version_min, SL_WIRE_VERSION_MIN);
    assert_int_equal(error->version_max, SL_WIRE_VERSION);
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_UNSUPPORTED);
    assert_non_null(strstr(read.text, "wire versions 1 to 1"));
    sluice_msg_destroy(&msg);
}

static void an_error_text_is_always_valid_utf8_on_the_wire(void **state) {
    (void)state;
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_SYNTAX, "near \"\xFF\xC3\": %s", "");
    for (size_t i = strlen(cause.text); i + 1 < sizeof cause.text; i += 2) memcpy(cause.text + i, "\xC3\xA9", 2);
    cause.text[sizeof cause.text - 1] = '\0'; /* cuts a character in two, or not: both must do */
    sluice_msg *msg = fresh(&demo__v1__hello__descriptor);
    sl_msg_turn_error(msg, &cause);
    const Sluice__V1__Error *error = sluice_msg_body(msg);
    assert_true(sl_utf8_valid(error->text, strlen(error->text)));
    assert_true(strncmp(error->text, "near \"??\": ", 11) == 0);
    sluice_msg_destroy(&msg);
}

static void an_error_that_says_ok_is_read_as_unknown(void **state) {
    (void)state;
    sluice_cause read;
    sluice_msg *msg = fresh(&sluice__v1__error__descriptor);
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_UNKNOWN);
    ((Sluice__V1__Error *)msg->body)->code = UINT32_MAX;
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_UNKNOWN);
    ((Sluice__V1__Error *)msg->body)->code = 4711; /* a newer peer's */
    assert_int_equal(sl_msg_cause(msg, &read), 4711);
    assert_int_equal(sluice_err_applied(read.code), SLUICE_APPLIED_UNKNOWN);
    sluice_msg_destroy(&msg);
    msg = fresh(&demo__v1__hello__descriptor);
    assert_int_equal(sl_msg_cause(msg, &read), SLUICE_INVALID);
    sluice_msg_destroy(&msg);
}

static void a_system_message_has_no_type_and_an_empty_name(void **state) {
    (void)state;
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    assert_non_null(msg);
    assert_string_equal(sluice_msg_type_name(msg), "");
    assert_null(sluice_msg_body(msg));
    sluice_msg_destroy(&msg);
}

/* ---- registry ---- */

static void the_registry_knows_sluices_types_and_takes_users(void **state) {
    (void)state;
    sl_registry *registry = sl_registry_new();
    assert_non_null(registry);
    assert_ptr_equal(sl_registry_find(registry, "sluice.v1.WriteRequest"), &sluice__v1__write_request__descriptor);
    assert_ptr_equal(sl_registry_find(registry, "sluice.v1.Ping"), &sluice__v1__ping__descriptor);
    assert_null(sl_registry_find(registry, "demo.v1.Hello"));
    assert_null(sl_registry_find(registry, ""));
    assert_int_equal(sl_registry_add(registry, &demo__v1__hello__descriptor), SLUICE_OK);
    assert_int_equal(sl_registry_add(registry, &demo__v1__hello__descriptor), SLUICE_OK);
    assert_ptr_equal(sl_registry_find(registry, "demo.v1.Hello"), &demo__v1__hello__descriptor);
    sl_registry_destroy(&registry);
    assert_null(registry);
    sl_registry_destroy(&registry);
}

static void the_registry_refuses_another_type_of_a_known_name(void **state) {
    (void)state;
    sl_registry *registry = sl_registry_new();
    ProtobufCMessageDescriptor impostor = demo__v1__greeting__descriptor;
    impostor.name = "sluice.v1.WriteRequest";
    assert_int_equal(sl_registry_add(registry, &impostor), SLUICE_EXISTS);
    assert_ptr_equal(sl_registry_find(registry, impostor.name), &sluice__v1__write_request__descriptor);
    impostor.name = "";
    assert_int_equal(sl_registry_add(registry, &impostor), SLUICE_INVALID);
    impostor.name = "demo.v1.Other";
    impostor.magic = 0;
    assert_int_equal(sl_registry_add(registry, &impostor), SLUICE_INVALID);
    assert_int_equal(sl_registry_add(registry, NULL), SLUICE_INVALID);
    sl_registry_destroy(&registry);
}

enum { N_THREADS = 4, N_TYPES = 10000, N_MORE = 20000 };

typedef struct shared {
    sl_registry *registry;
    ProtobufCMessageDescriptor *types[N_THREADS]; /* each thread brings its own descriptors of the same names */
    unsigned accepted[N_THREADS], failed[N_THREADS];
    atomic_uint arrived;
} shared;

typedef struct adder {
    shared *shared;
    unsigned index;
} adder;

static void *add_all(void *argument) {
    const adder *self = argument;
    shared *all = self->shared;
    for (unsigned i = 0; i < N_TYPES; i++) {
        /* All set out for the same name at the same moment. */
        atomic_fetch_add(&all->arrived, 1);
        while (atomic_load(&all->arrived) < (i + 1) * N_THREADS) sched_yield();
        const ProtobufCMessageDescriptor *type = &all->types[self->index][i];
        sluice_err err = sl_registry_add(all->registry, type);
        const ProtobufCMessageDescriptor *there = sl_registry_find(all->registry, type->name);
        if (err == SLUICE_OK && there == type) {
            all->accepted[self->index]++;
        } else if (err != SLUICE_EXISTS || there == NULL || there == type) {
            all->failed[self->index]++;
        }
    }
    return NULL;
}

static void of_many_threads_that_add_one_name_exactly_one_succeeds(void **state) {
    (void)state;
    static char names[N_TYPES + N_MORE][24];
    static ProtobufCMessageDescriptor more[N_MORE];
    static shared all;
    for (size_t i = 0; i < N_TYPES + N_MORE; i++) snprintf(names[i], sizeof names[i], "race.v1.Type%zu", i);
    all.registry = sl_registry_new();
    assert_non_null(all.registry);
    /* Many types make a look-up long, so that threads do meet within it. */
    for (size_t i = 0; i < N_MORE; i++) {
        more[i] = demo__v1__hello__descriptor;
        more[i].name = names[N_TYPES + i];
        assert_int_equal(sl_registry_add(all.registry, &more[i]), SLUICE_OK);
    }
    for (size_t t = 0; t < N_THREADS; t++) {
        all.types[t] = calloc(N_TYPES, sizeof *all.types[t]);
        assert_non_null(all.types[t]);
        for (size_t i = 0; i < N_TYPES; i++) {
            all.types[t][i] = demo__v1__hello__descriptor;
            all.types[t][i].name = names[i];
        }
    }
    pthread_t threads[N_THREADS];
    adder adders[N_THREADS];
    for (unsigned t = 0; t < N_THREADS; t++) {
        adders[t] = (adder){&all, t};
        assert_int_equal(pthread_create(&threads[t], NULL, add_all, &adders[t]), 0);
    }
    unsigned accepted = 0;
    for (unsigned t = 0; t < N_THREADS; t++) {
        pthread_join(threads[t], NULL);
        accepted += all.accepted[t];
        assert_int_equal(all.failed[t], 0);
    }
    assert_int_equal(accepted, N_TYPES);
    sl_registry_destroy(&all.registry);
    for (size_t t = 0; t < N_THREADS; t++) free(all.types[t]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_message_has_an_empty_body_of_its_type),
        cmocka_unit_test(what_a_message_allocates_lives_as_long_as_the_message),
        cmocka_unit_test(a_turned_request_is_a_reply_to_its_asker_without_a_new_allocation),
        cmocka_unit_test(a_turn_frees_what_the_request_had_taken_beyond_its_first_block),
        cmocka_unit_test(a_turn_that_finds_no_memory_says_so_and_leaves_the_header_alone),
        cmocka_unit_test(a_cause_survives_the_way_through_an_error_message),
        cmocka_unit_test(an_unsupported_error_names_the_versions_spoken),
        cmocka_unit_test(an_error_text_is_always_valid_utf8_on_the_wire),
        cmocka_unit_test(an_error_that_says_ok_is_read_as_unknown),
        cmocka_unit_test(a_system_message_has_no_type_and_an_empty_name),
        cmocka_unit_test(the_registry_knows_sluices_types_and_takes_users),
        cmocka_unit_test(the_registry_refuses_another_type_of_a_known_name),
        cmocka_unit_test(of_many_threads_that_add_one_name_exactly_one_succeeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
