/* SPDX-License-Identifier: MIT */
/* The linearizability checker against histories written by hand, a brute-force oracle, and a register that misbehaves
 * on purpose. */
#include "support/support.h"
#include "support/linear.h"
#include "support/random_message.h"

#include <stdlib.h>
#include <string.h>

#define STEPS 5000000u
#define R(v, from, to) {.kind = LINEAR_READ, .value = (v), .call_ns = (from), .return_ns = (to)}
#define W(v, from, to) {.kind = LINEAR_WRITE, .value = (v), .call_ns = (from), .return_ns = (to)}
#define W_UNKNOWN(v, from) {.kind = LINEAR_WRITE, .value = (v), .call_ns = (from), .unknown = true}
#define S(e, v, from, to) {.kind = LINEAR_SWAP, .expected = (e), .value = (v), .call_ns = (from), .return_ns = (to)}
#define S_NO(e, v, from, to)                                                                                           \
    {.kind = LINEAR_SWAP, .expected = (e), .value = (v), .call_ns = (from), .return_ns = (to), .refused = true}
#define S_UNKNOWN(e, v, from) {.kind = LINEAR_SWAP, .expected = (e), .value = (v), .call_ns = (from), .unknown = true}

static void expect(linear_verdict verdict, const linear_op *ops, size_t n) {
    linear_verdict found = linear_check(ops, n, 0, STEPS);
    if (found == verdict) return;
    linear_print(ops, n);
    fail_msg("verdict %d, not %d", (int)found, (int)verdict);
}
#define ACCEPT(...)                                                                                                    \
    do {                                                                                                               \
        const linear_op ops_[] = {__VA_ARGS__};                                                                        \
        expect(LINEAR_YES, ops_, sizeof ops_ / sizeof ops_[0]);                                                        \
    } while (0)
#define REJECT(...)                                                                                                    \
    do {                                                                                                               \
        const linear_op ops_[] = {__VA_ARGS__};                                                                        \
        expect(LINEAR_NO, ops_, sizeof ops_ / sizeof ops_[0]);                                                         \
    } while (0)

static void good_histories_are_accepted(void **state) {
    (void)state;
    expect(LINEAR_YES, NULL, 0);
    ACCEPT(R(0, 0, 1));
    ACCEPT(W(1, 0, 1), R(1, 2, 3), W(2, 4, 5), R(2, 6, 7));
    ACCEPT(W(1, 0, 10), R(0, 1, 2), R(1, 3, 4));             /* a read beside a write sees either */
    ACCEPT(W(1, 0, 10), W(2, 0, 10), R(1, 11, 12));          /* concurrent writes in any order */
    ACCEPT(W(1, 0, 10), W(2, 0, 10), R(2, 3, 4), R(1, 5, 6));
    ACCEPT(S(0, 1, 0, 1), S_NO(0, 2, 2, 3), S(1, 2, 4, 5), R(2, 6, 7));
    ACCEPT(S(0, 1, 0, 9), S(1, 2, 0, 9), S(2, 3, 0, 9), R(3, 10, 11));
    ACCEPT(W(1, 0, 5), R(1, 5, 6)); /* the same instant is concurrent */
    ACCEPT(W(1, 0, 5), R(0, 5, 6));
}

static void stale_read_is_rejected(void **state) {
    (void)state;
    REJECT(W(1, 0, 1), R(0, 2, 3));
    REJECT(W(1, 0, 10), R(1, 1, 2), R(0, 3, 4)); /* seen once, it stays seen */
    REJECT(W(1, 0, 1), W(2, 2, 3), R(1, 4, 5));
}

static void lost_write_is_rejected(void **state) {
    (void)state;
    REJECT(W(1, 0, 1), W(2, 2, 3), R(1, 4, 5), R(1, 6, 7));
    REJECT(S(0, 1, 0, 1), S(0, 2, 2, 3)); /* the second swap did not see the first */
    REJECT(S(0, 1, 0, 9), S(0, 2, 0, 9));
    REJECT(W(1, 0, 1), S_NO(1, 2, 2, 3));
}

static void write_applied_twice_is_rejected(void **state) {
    (void)state;
    REJECT(W(1, 0, 1), W(2, 2, 3), R(2, 4, 5), R(1, 6, 7));
    REJECT(W(1, 0, 20), W(2, 0, 20), R(1, 1, 2), R(2, 3, 4), R(1, 5, 6));
}

static void value_never_written_is_rejected(void **state) {
    (void)state;
    REJECT(R(7, 0, 1));
    REJECT(W(1, 0, 1), R(2, 0, 5));
    REJECT(W(1, 5, 6), R(1, 0, 4)); /* read before it was written */
}

static void unknown_write_may_take_effect_at_any_later_time_or_never(void **state) {
    (void)state;
    ACCEPT(W_UNKNOWN(1, 0), R(0, 2, 3), R(1, 100, 101));
    ACCEPT(W_UNKNOWN(1, 0), R(0, 2, 3), R(0, 100, 101));
    ACCEPT(W_UNKNOWN(1, 0), W(2, 2, 3), R(2, 4, 5), R(1, 6, 7));
    ACCEPT(S_UNKNOWN(0, 1, 0), S(0, 2, 2, 3), R(2, 4, 5)); /* it came too late */
    ACCEPT(S_UNKNOWN(0, 1, 0), S_NO(0, 2, 2, 3), R(1, 4, 5));
    REJECT(W_UNKNOWN(1, 5), R(1, 0, 4)); /* but not before it was asked for */
    REJECT(S_UNKNOWN(0, 1, 0), S(0, 2, 2, 3), R(1, 4, 5));
}

static void unknown_write_that_takes_effect_twice_is_rejected(void **state) {
    (void)state;
    REJECT(W_UNKNOWN(1, 0), W(2, 2, 10), R(1, 3, 4), R(2, 11, 12), R(1, 13, 14));
    REJECT(W_UNKNOWN(1, 0), R(1, 2, 3), W(2, 4, 5), R(2, 6, 7), R(1, 8, 9));
}

static void too_few_steps_leave_it_undecided(void **state) {
    (void)state;
    const linear_op ops[] = {W(1, 0, 9), W(2, 0, 9), R(1, 10, 11)};
    assert_int_equal(linear_check(ops, 3, 0, 2), LINEAR_UNDECIDED);
}

/* ---- brute force ---- */

/* Tries every order: the oracle for small histories. */
static bool some_order_fits(const linear_op *ops, size_t n, unsigned done, int64_t value) {
    bool finished = true;
    for (size_t i = 0; i < n; i++)
        if (!(done & 1u << i) && !ops[i].unknown) finished = false;
    if (finished) return true;
    for (size_t i = 0; i < n; i++) {
        if (done & 1u << i) continue;
        bool may_be_next = true;
        for (size_t k = 0; k < n; k++)
            if (!(done & 1u << k) && k != i && !ops[k].unknown && ops[k].return_ns < ops[i].call_ns)
                may_be_next = false;
        if (!may_be_next) continue;
        bool holds = ops[i].kind == LINEAR_READ    ? value == ops[i].value
                     : ops[i].kind == LINEAR_WRITE ? true
                     : ops[i].unknown              ? true
                                                   : (value == ops[i].expected) != ops[i].refused;
        bool stores = ops[i].kind == LINEAR_WRITE || (ops[i].kind == LINEAR_SWAP && value == ops[i].expected);
        if (holds && some_order_fits(ops, n, done | 1u << i, stores ? ops[i].value : value)) return true;
    }
    return false;
}

static void checker_agrees_with_brute_force(void **state) {
    (void)state;
    support_random random = {.state = 42};
    unsigned accepted = 0, rejected = 0, rounds = support_scaled(40000);
    for (unsigned round = 0; round < rounds; round++) {
        linear_op ops[7];
        size_t n = 1 + support_random_below(&random, 7);
        for (size_t i = 0; i < n; i++) {
            int64_t from = (int64_t)support_random_below(&random, 12);
            ops[i] = (linear_op){.kind = (linear_kind)support_random_below(&random, 3),
                                 .value = (int64_t)support_random_below(&random, 3),
                                 .expected = (int64_t)support_random_below(&random, 3),
                                 .call_ns = from,
                                 .return_ns = from + (int64_t)support_random_below(&random, 8),
                                 .refused = support_random_below(&random, 2) == 0};
            ops[i].unknown = ops[i].kind != LINEAR_READ && support_random_below(&random, 5) == 0;
        }
        bool fits = some_order_fits(ops, n, 0, 0);
        expect(fits ? LINEAR_YES : LINEAR_NO, ops, n);
        if (fits)
            accepted++;
        else
            rejected++;
    }
    assert_true(accepted > rounds / 10 && rejected > rounds / 10);
}

/* ---- long histories ---- */

/* What clients of a true register would note down: each operation takes effect at an instant within its interval. */
static size_t simulate(support_random *random, linear_op *ops, size_t n) {
    enum { CLIENTS = 8 };
    int64_t value = 0, instant = 0, free_at[CLIENTS] = {0};
    for (size_t i = 0; i < n; i++) {
        unsigned who = (unsigned)support_random_below(random, CLIENTS);
        instant = (instant > free_at[who] ? instant : free_at[who]) + 1 + (int64_t)support_random_below(random, 10);
        linear_op *op = &ops[i];
        *op = (linear_op){.kind = (linear_kind)support_random_below(random, 3), .who = who};
        op->call_ns = instant - (int64_t)support_random_below(random, (uint64_t)(instant - free_at[who]));
        op->return_ns = instant + (int64_t)support_random_below(random, 40);
        free_at[who] = op->return_ns;
        op->unknown = op->kind != LINEAR_READ && support_random_below(random, 40) == 0;
        if (op->kind == LINEAR_READ) {
            op->value = value;
            continue;
        }
        op->value = (int64_t)i + 1;
        op->expected = support_random_below(random, 2) == 0 ? value : value + 1000000;
        op->refused = op->kind == LINEAR_SWAP && op->expected != value;
        if (op->unknown && support_random_below(random, 2) == 0) continue; /* never done */
        if (op->kind == LINEAR_WRITE || !op->refused) value = op->value;
    }
    return n;
}

static void long_histories_of_a_register_are_accepted_and_one_wrong_read_is_found(void **state) {
    (void)state;
    enum { N = 120 };
    support_random random = {.state = 11};
    linear_op ops[N];
    for (unsigned round = 0; round < support_scaled(100); round++) {
        size_t n = simulate(&random, ops, N);
        expect(LINEAR_YES, ops, n);
        /* One read is given a value that was overwritten, with an answer, long before. */
        size_t read = n - 1, old = 0;
        while (ops[read].kind != LINEAR_READ) read--;
        while (ops[old].kind != LINEAR_WRITE || ops[old].unknown) old++;
        ops[read].value = ops[old].value;
        expect(LINEAR_NO, ops, n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_histories_are_accepted),
        cmocka_unit_test(stale_read_is_rejected),
        cmocka_unit_test(lost_write_is_rejected),
        cmocka_unit_test(write_applied_twice_is_rejected),
        cmocka_unit_test(value_never_written_is_rejected),
        cmocka_unit_test(unknown_write_may_take_effect_at_any_later_time_or_never),
        cmocka_unit_test(unknown_write_that_takes_effect_twice_is_rejected),
        cmocka_unit_test(too_few_steps_leave_it_undecided),
        cmocka_unit_test(checker_agrees_with_brute_force),
        cmocka_unit_test(long_histories_of_a_register_are_accepted_and_one_wrong_read_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
