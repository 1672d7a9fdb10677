/* SPDX-License-Identifier: MIT */
/* One statement with 100,000 rows in one message, through every transport, within every budget at its default; and what
 * comes back of it.
 * CTest: TIMEOUT=240 */
#include "support/house.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "port.h"

static house home;

static int setup(void **state) {
    (void)state;
    house_init(&home);
    house_open(&home);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    house_fini(&home);
    return 0;
}

static unsigned n_rows(void) { return support_scaled(100000); }

static sluice_request *insert_of(sluice_client *client, const char *sql, unsigned n, unsigned bad) {
    sluice_request *request = NULL;
    assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
    assert_int_equal(sluice_request_add(request, sql, NULL, 0), SLUICE_OK);
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "row %u", i);
        const sluice_value row[] = {sluice_integer(i == bad ? 0 : i), sluice_integer((int64_t)i * 1000003),
                                    i % 10 != 9 ? sluice_text(text) : sluice_null()};
        assert_int_equal(sluice_request_row(request, row, 3), SLUICE_OK);
    }
    return request;
}

static void fresh(sluice_client *client) {
    house_exec(client, "DROP TABLE IF EXISTS t");
    house_exec(client, "CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER, c TEXT)");
}

static void rows_go_in_with_one_message(sluice_client *client) {
    sluice_result *result = NULL;
    sluice_cause cause;
    unsigned n = n_rows();
    fresh(client);
    sluice_request *request = insert_of(client, "INSERT INTO t VALUES(?,?,?)", n, n);
    assert_int_equal(sluice_request_expect(request, n), SLUICE_OK);
    int64_t begin_ns = sl_now_ns();
    assert_ok(sluice_call(client, request, &result, &cause), cause);
    printf("%u rows in %.0f ms\n", n, (double)(sl_now_ns() - begin_ns) / 1e6);
    assert_int_equal(sluice_result_statements(result), 1);
    assert_int_equal(sluice_result_changes(result), n);
    assert_int_equal(sluice_result_last_rowid(result), n - 1);
    sluice_result_destroy(&result);
    sluice_request_destroy(&request);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM t"), n);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM t WHERE b=a*1000003"), n);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM t WHERE c='row '||a"), n - n / 10);
}

static void returning_gives_a_row_for_each(sluice_client *client) {
    sluice_result *result = NULL;
    sluice_cause cause;
    unsigned n = n_rows();
    fresh(client);
    sluice_request *request = insert_of(client, "INSERT INTO t VALUES(?,?,?) RETURNING a, c, b+1", n, n);
    assert_ok(sluice_call(client, request, &result, &cause), cause);
    assert_int_equal(sluice_result_changes(result), n);
    assert_int_equal(sluice_result_rows(result), n);
    for (unsigned i = 0; i < n; i++) {
        assert_true(sluice_result_next(result));
        assert_int_equal(sluice_result_int64(result, 0), i);
        assert_int_equal(sluice_result_type(result, 1), i % 10 != 9 ? SLUICE_TYPE_TEXT : SLUICE_TYPE_NULL);
        assert_true(sluice_result_int64(result, 2) == (int64_t)i * 1000003 + 1);
    }
    assert_false(sluice_result_next(result));
    sluice_result_destroy(&result);
    sluice_request_destroy(&request);
}

static void one_bad_row_undoes_all_of_them(sluice_client *client) {
    sluice_cause cause;
    unsigned n = n_rows();
    fresh(client);
    sluice_request *request = insert_of(client, "INSERT INTO t VALUES(?,?,?)", n, n - 1); /* the last takes a key again */
    assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_CONSTRAINT);
    assert_int_equal(cause.statement, 0);
    sluice_request_destroy(&request);
    assert_int_equal(house_integer(client, "SELECT count(*) FROM t"), 0);
}

static void guard_of_each_statement_names_itself(sluice_client *client) {
    sluice_cause cause;
    fresh(client);
    for (int32_t bad = 0; bad < 3; bad++) {
        sluice_request *request = NULL;
        assert_int_equal(sluice_request_new(client, SLUICE_WRITE, &request), SLUICE_OK);
        for (int32_t i = 0; i < 3; i++) {
            assert_int_equal(sluice_request_add(request, "INSERT INTO t VALUES(?,?,NULL)", NULL, 0), SLUICE_OK);
            for (int64_t k = 0; k < 10; k++) {
                const sluice_value row[] = {sluice_integer(i * 10 + k), sluice_integer(k)};
                assert_int_equal(sluice_request_row(request, row, 2), SLUICE_OK);
            }
            assert_int_equal(sluice_request_expect(request, i == bad ? 9 : 10), SLUICE_OK);
        }
        assert_int_equal(sluice_call(client, request, NULL, &cause), SLUICE_GUARD_FAILED);
        assert_int_equal(cause.statement, bad);
        assert_non_null(strstr(cause.text, "changed 10 rows, 9 were expected"));
        sluice_request_destroy(&request);
        assert_int_equal(house_integer(client, "SELECT count(*) FROM t"), 0);
    }
}

#define BODY(name)                                                                                                     \
    static void name##_everywhere(void **state) {                                                                      \
        (void)state;                                                                                                   \
        for (unsigned i = 0; i < HOUSE_TRANSPORTS; i++) {                                                              \
            sluice_client *client = house_client(&home, home.urls[i], true);                                           \
            name(client);                                                                                              \
            sluice_client_close(&client);                                                                              \
        }                                                                                                              \
    }
BODY(rows_go_in_with_one_message)
BODY(returning_gives_a_row_for_each)
BODY(one_bad_row_undoes_all_of_them)
BODY(guard_of_each_statement_names_itself)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_go_in_with_one_message_everywhere),
        cmocka_unit_test(returning_gives_a_row_for_each_everywhere),
        cmocka_unit_test(one_bad_row_undoes_all_of_them_everywhere),
        cmocka_unit_test(guard_of_each_statement_names_itself_everywhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
