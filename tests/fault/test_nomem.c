/* SPDX-License-Identifier: MIT */
/* The n-th allocation of Sluice's own code while it serves requests gives NULL, once and for ever, until a scenario
 * (writes, reads, checkpoints) passes without having met it. CTest: WRAP_MALLOC TIMEOUT=300
 *
 * As in test_fault_loops.c: no crash, no hang, an end to every request, and a file that agrees with the answers.
 * Allocations within SQLite are that test's; those within libzmq are libzmq's, which ends the process without memory.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/nth_fault.h"
#include "support/support.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size) { return nth_fault_strikes(NTH_OWN_MEMORY) ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) {
    return nth_fault_strikes(NTH_OWN_MEMORY) ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *old, size_t size) {
    return nth_fault_strikes(NTH_OWN_MEMORY) ? NULL : __real_realloc(old, size);
}
char *__wrap_strdup(const char *text) { return nth_fault_strikes(NTH_OWN_MEMORY) ? NULL : __real_strdup(text); }

static nth_fault *fault;

static void loop(bool forever) {
    const char *only = getenv("SLUICE_NTH");
    unsigned stride = support_long() ? 1 : support_scaled(10) == 10 ? 3 : 17;
    uint64_t n = only != NULL ? strtoull(only, NULL, 10) : 1 + (uint64_t)getpid() % stride, iterations = 0;
    for (bool hit = true; hit; n += stride) {
        hit = nth_fault_iterate(fault, NTH_OWN_MEMORY, forever ? NTH_FOREVER : NTH_ONCE, n);
        iterations++;
        if (fault->text[0] != '\0') fail_msg("n = %" PRIu64 ", %s: %s", n, forever ? "for ever" : "once", fault->text);
        if (only != NULL) break;
    }
    print_message("up to n = %" PRIu64 ", %" PRIu64 " iterations\n", n, iterations);
    assert_true(only != NULL || n > 50); /* else nothing was wrapped */
}

static void any_allocation_may_fail_once(void **state) {
    (void)state;
    loop(false);
}

static void memory_may_be_gone_for_ever(void **state) {
    (void)state;
    loop(true);
}

static int setup(void **state) {
    (void)state;
    fault = nth_fault_new();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    nth_fault_destroy(&fault);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_allocation_may_fail_once, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_may_be_gone_for_ever, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
