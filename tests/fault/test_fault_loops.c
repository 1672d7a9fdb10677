/* SPDX-License-Identifier: MIT */
/* The n-th operation on the files fails, n = 1, 2, 3 ...: once, for ever, or once with the process killed at the next
 * answer; until a scenario (open, writes, reads, checkpoints, close) passes without having met the fault.
 * CTest: TIMEOUT=300
 *
 * At every n: no crash and no hang; every request has an answer; and when the file is opened again without faults, what
 * was acknowledged is there once, what was refused is not, and an UNKNOWN is one of the two and whole.
 * For a look at what the test has found, SLUICE_NTH=N runs one iteration of each loop and SLUICE_KIND=K (nth_kind) only
 * the loops of one kind.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/nth_fault.h"
#include "support/support.h"

static nth_fault *fault;

/* Every n up to the end; with few iterations to spend, a part of them that differs from run to run. */
static void loop(nth_kind kind, nth_then then, unsigned stride) {
    static const char *const names[] = {"once", "for ever", "then killed"};
    const char *only = getenv("SLUICE_NTH"), *only_kind = getenv("SLUICE_KIND");
    if (only_kind != NULL && atoi(only_kind) != (int)kind) return;
    uint64_t n = only != NULL ? strtoull(only, NULL, 10) : 1 + (uint64_t)getpid() % stride, iterations = 0, fatal = 0;
    for (bool hit = true; hit; n += stride) {
        hit = nth_fault_iterate(fault, kind, then, n);
        iterations++;
        fatal += atomic_load(&fault->fatal_calls) != 0;
        if (atomic_load(&fault->fatal_calls) > 1) fail_msg("n = %" PRIu64 ": on_fatal was called twice", n);
        if (fault->text[0] != '\0')
            fail_msg("kind %d, n = %" PRIu64 ", %s: %s", (int)kind, n, names[then], fault->text);
        if (only != NULL) break;
    }
    print_message("up to n = %" PRIu64 ", %" PRIu64 " iterations, %" PRIu64 " of them ended the store\n", n, iterations,
                  fatal);
}

static bool is_slow_build(void) { return !support_long() && support_scaled(10) < 10; }
static unsigned stride(void) { return support_long() ? 1 : is_slow_build() ? 17 : 3; }
static unsigned short_stride(void) { return is_slow_build() ? 7 : 1; }

static void any_operation_may_fail_once(void **state) {
    (void)state;
    loop(NTH_EIO, NTH_ONCE, stride());
}

static void any_operation_may_begin_to_fail_for_ever(void **state) {
    (void)state;
    loop(NTH_EIO, NTH_FOREVER, stride());
}

static void process_may_be_killed_after_any_operation_failed(void **state) {
    (void)state;
    loop(NTH_EIO, NTH_KILLED, stride());
    loop(NTH_FULL, NTH_KILLED, stride());
    loop(NTH_SHORT, NTH_KILLED, stride());
}

static void any_write_may_find_no_space_once(void **state) {
    (void)state;
    loop(NTH_FULL, NTH_ONCE, stride());
}

static void disk_may_be_full_for_ever_from_any_write_on(void **state) {
    (void)state;
    loop(NTH_FULL, NTH_FOREVER, stride());
}

static void any_write_may_be_cut_short(void **state) {
    (void)state;
    loop(NTH_SHORT, NTH_ONCE, stride());
    loop(NTH_SHORT, NTH_FOREVER, stride());
}

static void any_write_may_arrive_and_be_reported_as_no_space(void **state) {
    (void)state;
    loop(NTH_LATE, NTH_KILLED, short_stride());
    loop(NTH_LATE, NTH_ONCE, stride());
    loop(NTH_LATE, NTH_FOREVER, stride());
}

static void any_sync_may_fail(void **state) {
    (void)state;
    loop(NTH_SYNC, NTH_ONCE, short_stride());
    loop(NTH_SYNC, NTH_FOREVER, short_stride());
    loop(NTH_SYNC, NTH_KILLED, short_stride());
}

static void any_allocation_of_sqlite_may_fail_once(void **state) {
    (void)state;
    loop(NTH_MEMORY, NTH_ONCE, support_long() ? 1 : 13 * stride());
}

static void memory_for_sqlite_may_be_gone_for_ever(void **state) {
    (void)state;
    loop(NTH_MEMORY, NTH_FOREVER, support_long() ? 1 : 13 * stride());
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(any_sync_may_fail),
        TEST(any_write_may_arrive_and_be_reported_as_no_space),
        TEST(any_operation_may_fail_once),
        TEST(any_operation_may_begin_to_fail_for_ever),
        TEST(process_may_be_killed_after_any_operation_failed),
        TEST(any_write_may_find_no_space_once),
        TEST(disk_may_be_full_for_ever_from_any_write_on),
        TEST(any_write_may_be_cut_short),
        TEST(any_allocation_of_sqlite_may_fail_once),
        TEST(memory_for_sqlite_may_be_gone_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
