/* SPDX-License-Identifier: MIT */
/* Results: every type through every accessor, many statements, names, a million rows, and replies that lie. */
#include "support/support.h"

#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static sluice_msg *query_reply_new(sl_pool *pool, size_t n) {
    sluice_msg *msg = sl_pool_take(pool, &sluice__v1__query_reply__descriptor);
    assert_non_null(msg);
    Sluice__V1__QueryReply *body = (Sluice__V1__QueryReply *)msg->body;
    body->commit_number = 42;
    body->n_results = n;
    body->results = sl_arena_alloc(&msg->arena, n * sizeof *body->results);
    for (size_t i = 0; i < n; i++) {
        body->results[i] = sl_arena_alloc(&msg->arena, sizeof **body->results);
        sluice__v1__statement_result__init(body->results[i]);
    }
    return msg;
}

static Sluice__V1__StatementResult *statement_of(sluice_msg *msg, size_t i) {
    return ((Sluice__V1__QueryReply *)msg->body)->results[i];
}

static sluice_result *result_of(sl_pool *pool, sluice_msg *msg, bool check) {
    sluice_result *result = NULL;
    sluice_cause cause;
    assert_ok(sl_result_new(pool, SL_FLIGHT_READ, check, &msg, &result, &cause), cause);
    return result;
}

/* One column; the values are its rows. */
static sluice_result *column_result(sl_pool *pool, const sluice_value *values, size_t n) {
    sluice_msg *msg = query_reply_new(pool, 1);
    sl_table_builder *builder = sl_table_builder_new(&msg->arena, 1);
    assert_int_equal(sl_table_builder_name(builder, 0, "v", 1), SLUICE_OK);
    for (size_t i = 0; i < n; i++) assert_int_equal(sl_table_builder_add(builder, 0, &values[i]), SLUICE_OK);
    statement_of(msg, 0)->rows = sl_table_builder_finish(builder, n);
    return result_of(pool, msg, true);
}

static void result_reads_each_type_and_converts_between_numbers(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    const sluice_value values[] = {
        sluice_integer(-5), sluice_real(2.75), sluice_text("12"), sluice_blob("\0\1", 2), sluice_null(),
        sluice_integer(INT64_MIN),
    };
    sluice_result *result = column_result(pool, values, sizeof values / sizeof values[0]);
    size_t size = 99;

    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_INTEGER);
    assert_int_equal(sluice_result_int64(result, 0), -5);
    assert_true(sluice_result_double(result, 0) == -5.0);
    assert_null(sluice_result_text(result, 0, &size));
    assert_int_equal(size, 0);

    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_REAL);
    assert_int_equal(sluice_result_int64(result, 0), 2);
    assert_true(sluice_result_double(result, 0) == 2.75);

    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_TEXT);
    assert_string_equal(sluice_result_text(result, 0, &size), "12");
    assert_int_equal(size, 2);
    assert_int_equal(sluice_result_int64(result, 0), 0);
    assert_true(sluice_result_double(result, 0) == 0.0);
    assert_null(sluice_result_blob(result, 0, NULL));

    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_BLOB);
    assert_memory_equal(sluice_result_blob(result, 0, &size), "\0\1", 2);
    assert_int_equal(size, 2);
    assert_null(sluice_result_text(result, 0, NULL));

    assert_true(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_NULL);
    assert_int_equal(sluice_result_int64(result, 0), 0);
    assert_null(sluice_result_text(result, 0, NULL));
    assert_null(sluice_result_blob(result, 0, NULL));

    assert_true(sluice_result_next(result));
    assert_true(sluice_result_int64(result, 0) == INT64_MIN);
    assert_false(sluice_result_next(result));
    assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_NULL);
    sluice_result_destroy(&result);
    assert_null(result);
    sl_pool_close(&pool);
}

static void result_clamps_reals_to_integers_as_sqlite_does(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    const sluice_value values[] = {sluice_real(1e300),  sluice_real(-1e300), sluice_real(9223372036854775807.0),
                                   sluice_real(-2.99), sluice_real((double)NAN)};
    const int64_t expected[] = {INT64_MAX, INT64_MIN, INT64_MAX, -2, 0};
    sluice_result *result = column_result(pool, values, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_true(sluice_result_next(result));
        assert_true(sluice_result_int64(result, 0) == expected[i]);
    }
    sluice_result_destroy(&result);
    sl_pool_close(&pool);
}

static void result_tells_empty_from_null_and_ends_text_with_a_zero(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    const sluice_value values[] = {sluice_text(""), sluice_blob("", 0), sluice_text_n("a\0b", 3), sluice_text("tail")};
    sluice_result *result = column_result(pool, values, 4);
    size_t size = 99;
    assert_true(sluice_result_next(result));
    assert_string_equal(sluice_result_text(result, 0, &size), "");
    assert_int_equal(size, 0);
    assert_true(sluice_result_next(result));
    assert_non_null(sluice_result_blob(result, 0, &size));
    assert_int_equal(size, 0);
    assert_true(sluice_result_next(result));
    assert_memory_equal(sluice_result_text(result, 0, &size), "a\0b\0", 4);
    assert_int_equal(size, 3);
    assert_true(sluice_result_next(result));
    assert_string_equal(sluice_result_text(result, 0, &size), "tail");
    sluice_result_destroy(&result);
    sl_pool_close(&pool);
}

static void result_speaks_of_the_selected_statement(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    sluice_msg *msg = query_reply_new(pool, 3);
    statement_of(msg, 0)->changes = 3;
    statement_of(msg, 0)->last_rowid = 17;
    sl_table_builder *builder = sl_table_builder_new(&msg->arena, 2);
    sluice_value one = sluice_integer(1), two = sluice_text("two");
    assert_int_equal(sl_table_builder_name(builder, 0, "first", 5), SLUICE_OK);
    assert_int_equal(sl_table_builder_name(builder, 1, "second", 6), SLUICE_OK);
    assert_int_equal(sl_table_builder_add(builder, 0, &one), SLUICE_OK);
    assert_int_equal(sl_table_builder_add(builder, 1, &two), SLUICE_OK);
    statement_of(msg, 1)->rows = sl_table_builder_finish(builder, 1);
    sluice_result *result = result_of(pool, msg, true);

    assert_int_equal(sluice_result_statements(result), 3);
    assert_int_equal(sluice_result_commit_number(result), 42);
    assert_int_equal(sluice_result_changes(result), 3);
    assert_int_equal(sluice_result_last_rowid(result), 17);
    assert_int_equal(sluice_result_columns(result), 0);
    assert_false(sluice_result_next(result));
    for (int round = 0; round < 3; round++) { /* selecting again begins again */
        sluice_result_select(result, 1);
        assert_int_equal(sluice_result_rows(result), 1);
        assert_int_equal(sluice_result_columns(result), 2);
        assert_string_equal(sluice_result_column_name(result, 0), "first");
        assert_string_equal(sluice_result_column_name(result, 1), "second");
        assert_null(sluice_result_column_name(result, 2));
        assert_int_equal(sluice_result_type(result, 0), SLUICE_TYPE_NULL); /* before the first row */
        assert_true(sluice_result_next(result));
        assert_int_equal(sluice_result_int64(result, 0), 1);
        assert_string_equal(sluice_result_text(result, 1, NULL), "two");
        assert_int_equal(sluice_result_type(result, 2), SLUICE_TYPE_NULL); /* no such column */
        assert_false(sluice_result_next(result));
        assert_false(sluice_result_next(result));
    }
    sluice_result_select(result, 99);
    assert_int_equal(sluice_result_changes(result), 0);
    assert_int_equal(sluice_result_rows(result), 0);
    sluice_result_destroy(&result);
    sl_pool_close(&pool);
}

static void result_walks_many_rows_quickly(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    unsigned n = support_scaled(1000000);
    sluice_msg *msg = query_reply_new(pool, 1);
    sl_table_builder *builder = sl_table_builder_new(&msg->arena, 2);
    char text[32];
    for (unsigned i = 0; i < n; i++) {
        sluice_value number = sluice_integer(i);
        snprintf(text, sizeof text, "row %u", i);
        sluice_value name = sluice_text(text);
        assert_int_equal(sl_table_builder_add(builder, 0, &number), SLUICE_OK);
        assert_int_equal(sl_table_builder_add(builder, 1, &name), SLUICE_OK);
    }
    statement_of(msg, 0)->rows = sl_table_builder_finish(builder, n);
    sluice_result *result = result_of(pool, msg, true);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    uint64_t sum = 0, bytes = 0;
    while (sluice_result_next(result)) {
        size_t size;
        sum += (uint64_t)sluice_result_int64(result, 0);
        if (sluice_result_text(result, 1, &size) != NULL) bytes += size;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_int_equal(sum, (uint64_t)n * (n - 1) / 2);
    assert_true(bytes > 4 * (uint64_t)n);
    print_message("%u rows in %.1f ms\n", n,
                  (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6);
    sluice_result_destroy(&result);
    sl_pool_close(&pool);
}

static void result_outlives_the_client_pool(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    const sluice_value value = sluice_text("still here");
    sluice_result *result = column_result(pool, &value, 1);
    sl_pool_close(&pool);
    assert_true(sluice_result_next(result));
    assert_string_equal(sluice_result_text(result, 0, NULL), "still here");
    sluice_result_destroy(&result);
}

static void expect_refused(sl_pool *pool, sl_flight_kind kind, sluice_msg *msg) {
    sluice_result *result = NULL;
    sluice_cause cause;
    assert_int_equal(sl_result_new(pool, kind, true, &msg, &result, &cause), SLUICE_INVALID);
    assert_null(result);
    assert_null(msg);
    assert_true(cause.text[0] != '\0');
}

static void result_refuses_a_reply_that_lies(void **state) {
    (void)state;
    sl_pool *pool = sl_pool_new();
    /* a reply of another kind */
    expect_refused(pool, SL_FLIGHT_WRITE, query_reply_new(pool, 1));
    expect_refused(pool, SL_FLIGHT_READ, sl_pool_take(pool, &sluice__v1__pong__descriptor));
    /* rows without columns */
    sluice_msg *msg = query_reply_new(pool, 1);
    Sluice__V1__Table table = SLUICE__V1__TABLE__INIT;
    table.rows = UINT64_MAX;
    statement_of(msg, 0)->rows = &table;
    expect_refused(pool, SL_FLIGHT_READ, msg);
    /* a column with fewer values than rows */
    msg = query_reply_new(pool, 1);
    int64_t integer = 1;
    Sluice__V1__Column column = SLUICE__V1__COLUMN__INIT, *columns[] = {&column};
    column.type = SLUICE__V1__VALUE_TYPE__VALUE_INTEGER;
    column.integers = &integer;
    column.n_integers = 1;
    table.rows = 2;
    table.n_columns = 1;
    table.columns = columns;
    statement_of(msg, 0)->rows = &table;
    expect_refused(pool, SL_FLIGHT_READ, msg);
    /* a text that runs past its data */
    msg = query_reply_new(pool, 1);
    uint32_t length = 1000;
    uint8_t data[] = "abc";
    Sluice__V1__Column text = SLUICE__V1__COLUMN__INIT;
    text.type = SLUICE__V1__VALUE_TYPE__VALUE_TEXT;
    text.lengths = &length;
    text.n_lengths = 1;
    text.data.data = data;
    text.data.len = sizeof data;
    columns[0] = &text;
    table.rows = 1;
    statement_of(msg, 0)->rows = &table;
    expect_refused(pool, SL_FLIGHT_READ, msg);
    sl_pool_close(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(result_reads_each_type_and_converts_between_numbers),
        cmocka_unit_test(result_clamps_reals_to_integers_as_sqlite_does),
        cmocka_unit_test(result_tells_empty_from_null_and_ends_text_with_a_zero),
        cmocka_unit_test(result_speaks_of_the_selected_statement),
        cmocka_unit_test(result_walks_many_rows_quickly),
        cmocka_unit_test(result_outlives_the_client_pool),
        cmocka_unit_test(result_refuses_a_reply_that_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
