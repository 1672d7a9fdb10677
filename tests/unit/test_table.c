/* SPDX-License-Identifier: MIT */
/* Tables: what was put in comes out, in the shape table.proto promises; what does not fit together is refused. */
#include "support/support.h"

#include "support/random_message.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct fixture {
    sl_arena arena;
    sluice_cause cause;
    _Alignas(16) char first[1024];
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (f == NULL) return -1;
    sl_arena_init(&f->arena, f->first, sizeof f->first, SIZE_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    sl_arena_fini(&f->arena);
    free(f);
    return 0;
}

static void add(sl_table_builder *builder, size_t column, sluice_value value) {
    assert_int_equal(sl_table_builder_add(builder, column, &value), SLUICE_OK);
}

/* A one-column table of the given values. */
static Sluice__V1__Table *table_of(fixture *f, const sluice_value *values, size_t n) {
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 1);
    assert_non_null(builder);
    for (size_t i = 0; i < n; i++) add(builder, 0, values[i]);
    Sluice__V1__Table *table = sl_table_builder_finish(builder, n);
    assert_non_null(table);
    return table;
}

static void assert_same(const sluice_value *one, const sluice_value *other) {
    assert_int_equal(one->type, other->type);
    switch (one->type) {
    case SLUICE_TYPE_INTEGER:
        assert_true(one->integer == other->integer);
        break;
    case SLUICE_TYPE_REAL:
        assert_memory_equal(&one->real, &other->real, sizeof one->real);
        break;
    case SLUICE_TYPE_TEXT:
    case SLUICE_TYPE_BLOB:
        assert_int_equal(one->size, other->size);
        assert_non_null(other->data);
        if (one->size != 0) assert_memory_equal(one->data, other->data, one->size);
        break;
    default:
        break;
    }
}

static void a_uniform_column_lists_no_types(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_integer(1), sluice_integer(-2), sluice_integer(INT64_MIN)};
    const Sluice__V1__Table *table = table_of(f, values, 3);
    assert_int_equal(table->rows, 3);
    assert_int_equal(table->columns[0]->type, SLUICE__V1__VALUE_TYPE__VALUE_INTEGER);
    assert_int_equal(table->columns[0]->types.len, 0);
    assert_int_equal(table->columns[0]->n_integers, 3);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
}

static void a_null_in_a_uniform_column_lists_the_types_of_all_rows(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_text("a"), sluice_text("b"), sluice_null(), sluice_text("c")};
    const Sluice__V1__Table *table = table_of(f, values, 4);
    const Sluice__V1__Column *column = table->columns[0];
    assert_int_equal(column->types.len, 4);
    assert_memory_equal(column->types.data, "\3\3\0\3", 4);
    assert_int_equal(column->n_lengths, 3);
    assert_int_equal(column->data.len, 6); /* each text with its zero byte */
    assert_memory_equal(column->data.data, "a\0b\0c", 6);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
}

static void a_column_of_nulls_costs_a_byte_a_row(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_null(), sluice_null()};
    const Sluice__V1__Table *table = table_of(f, values, 2);
    assert_int_equal(table->columns[0]->types.len, 2);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
}

static void text_keeps_its_nul_and_a_blob_has_no_terminator(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_text_n("a\0b", 3), sluice_blob("\0\1", 2), sluice_text(""),
                                   sluice_blob("", 0)};
    const Sluice__V1__Table *table = table_of(f, values, 4);
    assert_int_equal(table->columns[0]->data.len, 3 + 1 + 2 + 0 + 1 + 0);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
    sl_table_cursor cursor;
    sl_table_cursor_column column;
    sl_table_cursor_init(&cursor, table, &column);
    for (size_t i = 0; i < 4; i++) {
        assert_true(sl_table_cursor_next(&cursor));
        assert_same(&values[i], &column.value);
        if (values[i].type == SLUICE_TYPE_TEXT)
            assert_int_equal(((const char *)column.value.data)[column.value.size], '\0');
    }
    assert_false(sl_table_cursor_next(&cursor));
    assert_false(sl_table_cursor_next(&cursor));
}

static void an_empty_blob_points_somewhere_so_that_it_is_not_bound_as_null(void **state) {
    fixture *f = *state;
    const sluice_value values[] = {sluice_blob(NULL, 0)};
    assert_non_null(values[0].data);
    const Sluice__V1__Table *table = table_of(f, values, 1);
    sl_table_cursor cursor;
    sl_table_cursor_column column;
    sl_table_cursor_init(&cursor, table, &column);
    assert_true(sl_table_cursor_next(&cursor));
    assert_int_equal(column.value.type, SLUICE_TYPE_BLOB);
    assert_non_null(column.value.data);
}

static void an_empty_table_keeps_its_columns_and_names(void **state) {
    fixture *f = *state;
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 2);
    assert_int_equal(sl_table_builder_name(builder, 0, "id", 2), SLUICE_OK);
    assert_int_equal(sl_table_builder_name(builder, 1, "", 0), SLUICE_OK);
    const Sluice__V1__Table *table = sl_table_builder_finish(builder, 0);
    assert_int_equal(table->n_columns, 2);
    assert_int_equal(table->columns[0]->name.len, 2);
    assert_memory_equal(table->columns[0]->name.data, "id", 2);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
    sl_table_cursor cursor;
    sl_table_cursor_column columns[2];
    sl_table_cursor_init(&cursor, table, columns);
    assert_false(sl_table_cursor_next(&cursor));
}

static void a_table_without_columns_has_no_rows(void **state) {
    fixture *f = *state;
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 0);
    Sluice__V1__Table *table = sl_table_builder_finish(builder, 7);
    assert_int_equal(table->rows, 0);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
    table->rows = 1;
    assert_int_equal(sl_table_check(table, &f->cause), SLUICE_INVALID);
}

static sluice_value random_value(support_random *random, char *room) {
    size_t size = (size_t)support_random_below(random, 30);
    for (size_t i = 0; i < size; i++) room[i] = (char)(support_random_next(random) & 0x7F);
    switch (support_random_below(random, 5)) {
    case 0:
        return sluice_null();
    case 1:
        return sluice_integer((int64_t)support_random_next(random));
    case 2:
        return sluice_real((double)support_random_next(random));
    case 3:
        return sluice_text_n(room, size);
    default:
        return sluice_blob(room, size);
    }
}

static void every_table_survives_building_packing_unpacking_and_walking(void **state) {
    fixture *f = *state;
    for (uint64_t seed = 1; seed <= support_scaled(300); seed++) {
        support_random random = {seed};
        size_t n_columns = 1 + (size_t)support_random_below(&random, 6);
        size_t rows = (size_t)support_random_below(&random, 200);
        bool uniform = support_random_below(&random, 2) == 0;
        sluice_value *all = calloc(rows * n_columns + 1, sizeof *all);
        char(*rooms)[32] = calloc(rows * n_columns + 1, 32);
        assert_non_null(all);
        assert_non_null(rooms);
        sl_table_builder *builder = sl_table_builder_new(&f->arena, n_columns);
        for (size_t i = 0; i < rows * n_columns; i++) {
            all[i] = uniform ? sluice_integer((int64_t)support_random_next(&random)) : random_value(&random, rooms[i]);
            add(builder, i % n_columns, all[i]);
        }
        const Sluice__V1__Table *table = sl_table_builder_finish(builder, rows);
        assert_non_null(table);
        size_t size = sluice__v1__table__get_packed_size(table);
        uint8_t *packed = malloc(size + 1);
        assert_non_null(packed);
        sluice__v1__table__pack(table, packed);
        Sluice__V1__Table *read = sluice__v1__table__unpack(NULL, size, packed);
        assert_non_null(read);
        assert_ok(sl_table_check(read, &f->cause), f->cause);
        sl_table_cursor cursor;
        sl_table_cursor_column columns[6];
        sl_table_cursor_init(&cursor, read, columns);
        for (size_t row = 0; row < rows; row++) {
            assert_true(sl_table_cursor_next(&cursor));
            for (size_t i = 0; i < n_columns; i++) assert_same(&all[row * n_columns + i], &columns[i].value);
        }
        assert_false(sl_table_cursor_next(&cursor));
        sluice__v1__table__free_unpacked(read, NULL);
        free(packed);
        free(all);
        free(rooms);
        sl_arena_reset(&f->arena);
    }
}

static void a_single_value_survives_packing(void **state) {
    fixture *f = *state;
    support_random random = {77};
    char room[32];
    for (unsigned i = 0; i < 500; i++) {
        sluice_value value = random_value(&random, room);
        Sluice__V1__Value packed;
        assert_int_equal(sl_value_pack(&f->arena, &value, &packed), SLUICE_OK);
        sluice_value read = sl_value_view(&packed);
        assert_same(&value, &read);
    }
    sluice_value strange = {.type = (sluice_type)9};
    Sluice__V1__Value packed;
    assert_int_equal(sl_value_pack(&f->arena, &strange, &packed), SLUICE_INVALID);
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 1);
    assert_int_equal(sl_table_builder_add(builder, 0, &strange), SLUICE_INVALID);
}

static void constructors_make_what_they_say(void **state) {
    (void)state;
    assert_int_equal(sluice_null().type, SLUICE_TYPE_NULL);
    assert_int_equal(sluice_integer(-1).integer, -1);
    assert_true(sluice_real(0.5).real > 0.4);
    assert_int_equal(sluice_text("abc").size, 3);
    assert_int_equal(sluice_text(NULL).type, SLUICE_TYPE_NULL);
    assert_int_equal(sluice_text_n(NULL, 3).type, SLUICE_TYPE_NULL);
    assert_int_equal(sluice_blob(NULL, 3).type, SLUICE_TYPE_NULL);
    assert_int_equal(sluice_blob("abc", 2).size, 2);
}

static void a_builder_over_its_arenas_budget_says_nomem(void **state) {
    fixture *f = *state;
    sl_arena_fini(&f->arena);
    sl_arena_init(&f->arena, f->first, sizeof f->first, 100000);
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 1);
    sluice_value value = sluice_integer(7);
    sluice_err err = SLUICE_OK;
    size_t n = 0;
    while (n < 100000 && (err = sl_table_builder_add(builder, 0, &value)) == SLUICE_OK) n++;
    assert_int_equal(err, SLUICE_NOMEM);
    assert_true(n * 8 > 40000); /* and not much before the budget is used */
}

static void a_value_of_four_gigabytes_is_too_big(void **state) {
    fixture *f = *state;
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 1);
    sluice_value value = sluice_blob("x", (size_t)UINT32_MAX + 1); /* never read */
    assert_int_equal(sl_table_builder_add(builder, 0, &value), SLUICE_TOO_BIG);
}

/* ---- tables that came by wire ---- */

static void refused(fixture *f, const Sluice__V1__Table *table, const char *why) {
    assert_int_equal(sl_table_check(table, &f->cause), SLUICE_INVALID);
    if (strstr(f->cause.text, why) == NULL) fail_msg("expected '%s', not '%s'", why, f->cause.text);
}

static void bad_input_20_a_table_whose_parts_disagree(void **state) {
    fixture *f = *state;
    const sluice_value texts[] = {sluice_text("one"), sluice_text("two")};
    const sluice_value mixed[] = {sluice_text("one"), sluice_null(), sluice_integer(3), sluice_blob("xy", 2)};
    Sluice__V1__Table *table = table_of(f, texts, 2);
    Sluice__V1__Column *column = table->columns[0];
    assert_ok(sl_table_check(table, &f->cause), f->cause);

    table->rows = 3;
    refused(f, table, "values and rows differ");
    table->rows = UINT64_MAX;
    refused(f, table, "values and rows differ");
    table->rows = 2;
    column->n_lengths = 1;
    refused(f, table, "values and rows differ");
    column->n_lengths = 2;
    column->lengths[1] = 4;
    refused(f, table, "lengths go beyond");
    column->lengths[1] = UINT32_MAX;
    refused(f, table, "lengths go beyond");
    column->lengths[1] = 2;
    refused(f, table, "lacks its zero byte");
    column->lengths[1] = 3;
    column->data.len++;
    refused(f, table, "belong to no row");
    column->data.len--;
    column->data.data[3] = 'x';
    refused(f, table, "lacks its zero byte");
    column->data.data[3] = 0;
    column->data.data[1] = 0xFF;
    refused(f, table, "not UTF-8");
    column->data.data[1] = 'n';
    column->type = (Sluice__V1__ValueType)5;
    refused(f, table, "no known type");
    column->type = (Sluice__V1__ValueType)-1;
    refused(f, table, "no known type");
    column->type = SLUICE__V1__VALUE_TYPE__VALUE_BLOB; /* blobs have no terminators, so two bytes are left over */
    refused(f, table, "belong to no row");
    column->type = SLUICE__V1__VALUE_TYPE__VALUE_INTEGER;
    refused(f, table, "values and rows differ");
    column->type = SLUICE__V1__VALUE_TYPE__VALUE_NULL;
    refused(f, table, "lists no types");

    table = table_of(f, mixed, 4);
    column = table->columns[0];
    assert_ok(sl_table_check(table, &f->cause), f->cause);
    column->types.data[1] = 5;
    refused(f, table, "no known type");
    column->types.data[1] = SLUICE_TYPE_REAL;
    refused(f, table, "values and rows differ");
    column->types.data[1] = SLUICE_TYPE_NULL;
    column->types.len = 3;
    refused(f, table, "3 types for 4 rows");
    column->types.len = 4;
    column->n_integers = 0;
    refused(f, table, "values and rows differ");
}

static void a_table_never_claims_more_rows_than_it_has_bytes(void **state) {
    fixture *f = *state;
    /* A column of NULLs without types would cost nothing, so a handful of bytes could claim 2^63 rows. */
    Sluice__V1__Column column = SLUICE__V1__COLUMN__INIT;
    Sluice__V1__Column *columns[] = {&column};
    Sluice__V1__Table table = SLUICE__V1__TABLE__INIT;
    table.n_columns = 1;
    table.columns = columns;
    assert_ok(sl_table_check(&table, &f->cause), f->cause);
    table.rows = UINT64_C(1) << 63;
    refused(f, &table, "lists no types");
}

/* ---- UTF-8 ---- */

static void utf8_is_taken_and_refused_as_unicode_says(void **state) {
    (void)state;
    const char *good[] = {"", "plain text of more than eight bytes", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                          "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF", "\xEE\x80\x80", "eight by\xC3\xA9"};
    const char *bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                         "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "abcdefgh\xE2\x82", "\xC3(",
                         "eight by\xFF and more"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_true(sl_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char copy[32];
        snprintf(copy, sizeof copy, "%s", bad[i]);
        assert_false(sl_utf8_valid(copy, strlen(copy)));
        sl_utf8_clean(copy, strlen(copy));
        assert_true(sl_utf8_valid(copy, strlen(copy)));
    }
    assert_true(sl_utf8_valid("a\0b", 3));
}

/* ---- time ---- */

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void a_large_table_is_built_checked_and_walked_in_linear_time(void **state) {
    fixture *f = *state;
    size_t rows = support_scaled(1000000);
    sl_table_builder *builder = sl_table_builder_new(&f->arena, 5);
    double start = now_s();
    for (size_t i = 0; i < rows; i++) {
        add(builder, 0, sluice_integer((int64_t)i));
        add(builder, 1, sluice_real((double)i));
        add(builder, 2, sluice_text_n("some text of a row", 18));
        add(builder, 3, i % 7 == 0 ? sluice_null() : sluice_integer(7));
        add(builder, 4, sluice_blob("\1\2\3\4", 4));
    }
    const Sluice__V1__Table *table = sl_table_builder_finish(builder, rows);
    double built = now_s();
    assert_non_null(table);
    assert_ok(sl_table_check(table, &f->cause), f->cause);
    double checked = now_s();
    sl_table_cursor cursor;
    sl_table_cursor_column columns[5];
    sl_table_cursor_init(&cursor, table, columns);
    int64_t sum = 0;
    size_t bytes = 0;
    while (sl_table_cursor_next(&cursor)) {
        sum += columns[0].value.integer;
        bytes += columns[2].value.size + columns[4].value.size;
    }
    double walked = now_s();
    assert_true(sum == (int64_t)(rows * (rows - 1) / 2));
    assert_int_equal(bytes, rows * 22);
    /* Lists double, so at most twice the bytes are reserved, and a little for what was left behind while small. */
    assert_true(f->arena.reserved < 2 * sl_table_builder_bytes(builder) + 64 * SL_ARENA_BIG);
    double values = (double)rows * 5;
    print_message("ns a value: build %.1f, check %.1f, walk %.1f; %.2f bytes reserved a byte of values\n",
                  (built - start) / values * 1e9, (checked - built) / values * 1e9, (walked - checked) / values * 1e9,
                  (double)f->arena.reserved / (double)sl_table_builder_bytes(builder));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_uniform_column_lists_no_types),
        TEST(a_null_in_a_uniform_column_lists_the_types_of_all_rows),
        TEST(a_column_of_nulls_costs_a_byte_a_row),
        TEST(text_keeps_its_nul_and_a_blob_has_no_terminator),
        TEST(an_empty_blob_points_somewhere_so_that_it_is_not_bound_as_null),
        TEST(an_empty_table_keeps_its_columns_and_names),
        TEST(a_table_without_columns_has_no_rows),
        TEST(every_table_survives_building_packing_unpacking_and_walking),
        TEST(a_single_value_survives_packing),
        cmocka_unit_test(constructors_make_what_they_say),
        TEST(a_builder_over_its_arenas_budget_says_nomem),
        TEST(a_value_of_four_gigabytes_is_too_big),
        TEST(bad_input_20_a_table_whose_parts_disagree),
        TEST(a_table_never_claims_more_rows_than_it_has_bytes),
        cmocka_unit_test(utf8_is_taken_and_refused_as_unicode_says),
        TEST(a_large_table_is_built_checked_and_walked_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
