/* SPDX-License-Identifier: MIT */
#include "support/support.h"
#include "../tools/latency.c"

static sl_latency one, other;

static int setup(void **state) {
    (void)state;
    sl_latency_init(&one);
    sl_latency_init(&other);
    return 0;
}

static void an_empty_record_has_quantile_zero(void **state) {
    (void)state;
    assert_int_equal(sl_latency_quantile(&one, 0.5), 0);
    assert_int_equal(sl_latency_quantile(&one, 1.0), 0);
}

static void every_value_lies_within_its_bucket_and_edges_ascend(void **state) {
    (void)state;
    uint64_t lower = 0;
    for (unsigned i = 0; i < SL_LATENCY_BUCKETS; i++) {
        uint64_t upper = upper_edge(i);
        assert_int_equal(bucket_of(lower), i);
        assert_int_equal(bucket_of(upper), i);
        assert_true(upper >= lower);
        assert_true((double)(upper - lower) <= (double)upper / 64.0); /* 1.6 % */
        lower = upper + 1;
    }
    assert_int_equal(lower, (uint64_t)1 << (SL_LATENCY_TOP + 1u));
    assert_int_equal(bucket_of(UINT64_MAX), SL_LATENCY_BUCKETS - 1);
}

static void quantiles_are_never_below_the_true_ones_and_close_above(void **state) {
    (void)state;
    for (uint64_t value = 1; value <= 100000; value++) sl_latency_add(&one, value * 10);
    static const double quantiles[] = {0.001, 0.5, 0.9, 0.99, 0.999};
    for (unsigned i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double truth = quantiles[i] * 1000000.0, told = (double)sl_latency_quantile(&one, quantiles[i]);
        assert_true(told >= truth - 10.0);
        assert_true(told <= truth * 1.017 + 10.0);
    }
    assert_int_equal(sl_latency_quantile(&one, 1.0), 1000000);
}

static void the_largest_value_is_exact_and_bounds_every_quantile(void **state) {
    (void)state;
    sl_latency_add(&one, 1000003);
    assert_int_equal(sl_latency_quantile(&one, 0.5), 1000003);
    sl_latency_add(&one, UINT64_MAX / 2);
    assert_int_equal(sl_latency_quantile(&one, 1.0), UINT64_MAX / 2);
}

static void merging_equals_adding_everything_to_one(void **state) {
    (void)state;
    static sl_latency both;
    sl_latency_init(&both);
    uint64_t value = 12345;
    for (unsigned i = 0; i < 10000; i++) {
        value = value * 6364136223846793005u + 1442695040888963407u;
        uint64_t sample = value >> (value & 31u) >> 22;
        sl_latency_add(i % 3 ? &one : &other, sample);
        sl_latency_add(&both, sample);
    }
    sl_latency_merge(&one, &other);
    assert_memory_equal(&one, &both, sizeof one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_record_has_quantile_zero, setup),
        cmocka_unit_test_setup(every_value_lies_within_its_bucket_and_edges_ascend, setup),
        cmocka_unit_test_setup(quantiles_are_never_below_the_true_ones_and_close_above, setup),
        cmocka_unit_test_setup(the_largest_value_is_exact_and_bounds_every_quantile, setup),
        cmocka_unit_test_setup(merging_equals_adding_everything_to_one, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
