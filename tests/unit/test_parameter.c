/* SPDX-License-Identifier: MIT */
#include "support/support.h"
#include "../tools/parameter.c"

static sl_parameter parsed(const char *argument) {
    sl_parameter parameter;
    sluice_cause cause = {0};
    assert_ok(sl_parameter_init(&parameter, argument, &cause), cause);
    return parameter;
}

static void assert_text(const char *argument, const char *text) {
    sl_parameter parameter = parsed(argument);
    assert_int_equal(parameter.value.type, SLUICE_TYPE_TEXT);
    assert_int_equal(parameter.value.size, strlen(text));
    assert_memory_equal(parameter.value.data, text, strlen(text));
    sl_parameter_fini(&parameter);
}

static void assert_integer(const char *argument, int64_t integer) {
    sl_parameter parameter = parsed(argument);
    assert_int_equal(parameter.value.type, SLUICE_TYPE_INTEGER);
    assert_true(parameter.value.integer == integer);
}

static void assert_real(const char *argument, double real) {
    sl_parameter parameter = parsed(argument);
    assert_int_equal(parameter.value.type, SLUICE_TYPE_REAL);
    assert_true(parameter.value.real == real);
}

static void assert_refused(const char *argument) {
    sl_parameter parameter;
    sluice_cause cause = {0};
    assert_int_equal(sl_parameter_init(&parameter, argument, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, argument));
    assert_null(parameter.blob);
}

static void plain_numbers_bind_as_what_they_look_like(void **state) {
    (void)state;
    assert_integer("0", 0);
    assert_integer("42", 42);
    assert_integer("-7", -7);
    assert_integer("9223372036854775807", INT64_MAX);
    assert_integer("-9223372036854775808", INT64_MIN);
    assert_real("1.5", 1.5);
    assert_real("-2e3", -2000.0);
    assert_real(".5", 0.5);
    assert_real("1E-2", 0.01);
}

static void what_would_lose_digits_stays_text(void **state) {
    (void)state;
    static const char *const texts[] = {"",   "007",   "-0",   "+1",      "9223372036854775808",
                                        "1 ", " 1",    "0x10", "inf",     "nan",
                                        "1e", "-",     ".",    "1.2.3",   "1-2",
                                        "e5", "hello", "null", "http://x"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) assert_text(texts[i], texts[i]);
}

static void a_prefix_forces_the_type(void **state) {
    (void)state;
    assert_text("text:", "");
    assert_text("text:42", "42");
    assert_text("text:int:1", "int:1");
    assert_integer("int:007", 7);
    assert_real("real:3", 3.0);
    sl_parameter parameter = parsed("null:");
    assert_int_equal(parameter.value.type, SLUICE_TYPE_NULL);
    parameter = parsed("blob:00fFa0");
    assert_int_equal(parameter.value.type, SLUICE_TYPE_BLOB);
    assert_int_equal(parameter.value.size, 3);
    assert_memory_equal(parameter.value.data, "\x00\xff\xa0", 3);
    sl_parameter_fini(&parameter);
    sl_parameter_fini(&parameter); /* may run twice */
    parameter = parsed("blob:");
    assert_int_equal(parameter.value.type, SLUICE_TYPE_BLOB);
    assert_int_equal(parameter.value.size, 0);
    sl_parameter_fini(&parameter);
}

static void what_does_not_fit_its_prefix_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"int:",    "int:x",    "int:1.5",  "int:9223372036854775808",
                                      "real:",   "real:abc", "real:inf", "blob:0",
                                      "blob:zz", "null:x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_refused(bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_numbers_bind_as_what_they_look_like),
        cmocka_unit_test(what_would_lose_digits_stays_text),
        cmocka_unit_test(a_prefix_forces_the_type),
        cmocka_unit_test(what_does_not_fit_its_prefix_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
