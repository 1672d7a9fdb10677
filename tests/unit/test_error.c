/* SPDX-License-Identifier: MIT */
/* Errors: one X-macro, and everything that must agree with it. */
#include "support/support.h"

#include "sluice/v1/error.pb-c.h"

#include <string.h>

static const struct {
    sluice_err err;
    int number;
    const char *name, *text;
} map[] = {
#define ROW(NAME, number, name, retryable, applied, text) {SLUICE_##NAME, number, name, text},
    SLUICE_ERR_MAP(ROW)
#undef ROW
};
#define N_ERRORS (sizeof map / sizeof map[0])

static void error_numbers_run_from_zero_without_a_gap(void **state) {
    (void)state;
    for (size_t i = 0; i < N_ERRORS; i++) {
        assert_int_equal(map[i].number, (int)i);
        assert_int_equal(map[i].err, (int)i);
    }
}

static void error_names_are_unique_lower_case_and_given_back(void **state) {
    (void)state;
    for (size_t i = 0; i < N_ERRORS; i++) {
        assert_string_equal(sluice_err_name(map[i].err), map[i].name);
        assert_string_equal(sluice_err_text(map[i].err), map[i].text);
        assert_int_equal(strspn(map[i].name, "abcdefghijklmnopqrstuvwxyz_"), strlen(map[i].name));
        assert_true(map[i].text[0] != '\0' && map[i].text[strlen(map[i].text) - 1] != '.');
        for (size_t k = 0; k < i; k++) assert_string_not_equal(map[i].name, map[k].name);
    }
}

static void an_unlisted_error_has_a_name_and_an_unknown_outcome(void **state) {
    (void)state;
    sluice_err strange = (sluice_err)N_ERRORS;
    assert_string_equal(sluice_err_name(strange), "unlisted");
    assert_non_null(sluice_err_text(strange));
    assert_false(sluice_err_retryable(strange));
    assert_int_equal(sluice_err_applied(strange), SLUICE_APPLIED_UNKNOWN);
    assert_string_equal(sluice_err_name((sluice_err)-1), "unlisted");
}

/* The promise: these four mean that it had no effect; OK that it had; UNKNOWN that nobody can say. */
static void definite_answers_say_that_nothing_was_applied(void **state) {
    (void)state;
    const sluice_err no[] = {SLUICE_FAILED, SLUICE_OVERLOADED, SLUICE_EXPIRED, SLUICE_FORBIDDEN};
    for (size_t i = 0; i < 4; i++) assert_int_equal(sluice_err_applied(no[i]), SLUICE_APPLIED_NO);
    assert_int_equal(sluice_err_applied(SLUICE_OK), SLUICE_APPLIED_YES);
    const sluice_err open[] = {SLUICE_UNKNOWN, SLUICE_TIMEOUT, SLUICE_ACTOR_DOWN, SLUICE_FATAL};
    for (size_t i = 0; i < 4; i++) assert_int_equal(sluice_err_applied(open[i]), SLUICE_APPLIED_UNKNOWN);
}

/* error.proto carries the number itself: all there is to prove is that the field holds it and nothing maps it. That the
 * README lists the same numbers is test_golden's. */
static void error_numbers_travel_unchanged(void **state) {
    (void)state;
    for (size_t i = 0; i < N_ERRORS; i++) {
        Sluice__V1__Error error = SLUICE__V1__ERROR__INIT;
        error.code = (uint32_t)map[i].err;
        uint8_t packed[64];
        size_t size = sluice__v1__error__pack(&error, packed);
        Sluice__V1__Error *read = sluice__v1__error__unpack(NULL, size, packed);
        assert_non_null(read);
        assert_int_equal(read->code, map[i].number);
        sluice__v1__error__free_unpacked(read, NULL);
    }
    const ProtobufCFieldDescriptor *code =
        protobuf_c_message_descriptor_get_field(&sluice__v1__error__descriptor, 1);
    assert_non_null(code);
    assert_string_equal(code->name, "code");
    assert_int_equal(code->type, PROTOBUF_C_TYPE_UINT32);
}

static void a_cause_is_set_wrapped_and_cut_without_overflow(void **state) {
    (void)state;
    sluice_cause cause;
    memset(&cause, 0xAA, sizeof cause);
    assert_int_equal(sluice_cause_set(&cause, SLUICE_FAILED, "no table %s", "t"), SLUICE_FAILED);
    assert_string_equal(cause.text, "no table t");
    assert_int_equal(cause.statement, -1);
    assert_int_equal(cause.sqlite_code, 0);
    assert_int_equal(cause.retry_after_ms, 0);
    cause.sqlite_code = 1;
    assert_int_equal(sluice_cause_wrap(&cause, "prepare"), SLUICE_FAILED);
    assert_string_equal(cause.text, "prepare: no table t");
    assert_int_equal(cause.sqlite_code, 1);
    char longer[2 * SLUICE_CAUSE_TEXT_SIZE];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    (void)sluice_cause_set(&cause, SLUICE_FAILED, "%s", longer);
    assert_int_equal(strlen(cause.text), SLUICE_CAUSE_TEXT_SIZE - 1);
    (void)sluice_cause_wrap(&cause, longer);
    assert_int_equal(strlen(cause.text), SLUICE_CAUSE_TEXT_SIZE - 1);
}

static void a_cause_may_be_null(void **state) {
    (void)state;
    assert_int_equal(sluice_cause_set(NULL, SLUICE_IO, "unheard"), SLUICE_IO);
    assert_int_equal(sluice_cause_wrap(NULL, "unheard"), SLUICE_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_numbers_run_from_zero_without_a_gap),
        cmocka_unit_test(error_names_are_unique_lower_case_and_given_back),
        cmocka_unit_test(an_unlisted_error_has_a_name_and_an_unknown_outcome),
        cmocka_unit_test(definite_answers_say_that_nothing_was_applied),
        cmocka_unit_test(error_numbers_travel_unchanged),
        cmocka_unit_test(a_cause_is_set_wrapped_and_cut_without_overflow),
        cmocka_unit_test(a_cause_may_be_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
