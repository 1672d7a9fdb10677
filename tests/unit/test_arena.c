/* SPDX-License-Identifier: MIT */
/* Arena: alignment, budget, growth in place, reuse without malloc. */
#include "support/support.h"

#include "arena.h"
#include "support/random_message.h"

#include <string.h>

typedef struct fixture {
    sl_arena arena;
    _Alignas(16) char first[512];
} fixture;

static fixture *start(size_t budget) {
    static fixture one;
    sl_arena_init(&one.arena, one.first, sizeof one.first, budget);
    return &one;
}

static void every_allocation_is_aligned_and_apart(void **state) {
    (void)state;
    fixture *f = start(SIZE_MAX);
    char *all[300];
    size_t sizes[300];
    support_random random = {1};
    for (size_t i = 0; i < 300; i++) {
        sizes[i] = (size_t)support_random_below(&random, i % 50 == 0 ? 100000 : 200);
        all[i] = sl_arena_alloc(&f->arena, sizes[i]);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % SL_ARENA_ALIGN, 0);
        if (sizes[i] != 0) memset(all[i], (int)(i & 0xFF), sizes[i]);
    }
    for (size_t i = 0; i < 300; i++)
        for (size_t k = 0; k < sizes[i]; k++) assert_int_equal((unsigned char)all[i][k], i & 0xFF);
    assert_true(f->arena.used <= f->arena.reserved);
    sl_arena_fini(&f->arena);
    sl_arena_fini(&f->arena); /* may run twice */
    assert_null(f->arena.blocks);
}

static void small_use_stays_in_the_first_block_and_reset_gives_it_back(void **state) {
    (void)state;
    fixture *f = start(SIZE_MAX);
    for (int round = 0; round < 3; round++) {
        void *at = sl_arena_alloc(&f->arena, 100);
        assert_ptr_equal(at, f->first);
        assert_non_null(sl_arena_alloc(&f->arena, 300));
        assert_null(f->arena.blocks);
        assert_int_equal(f->arena.reserved, sizeof f->first);
        sl_arena_reset(&f->arena);
        assert_int_equal(f->arena.used, 0);
    }
    assert_non_null(sl_arena_alloc(&f->arena, 600));
    assert_non_null(f->arena.blocks);
    sl_arena_reset(&f->arena);
    assert_null(f->arena.blocks);
    assert_int_equal(f->arena.reserved, sizeof f->first);
    sl_arena_fini(&f->arena);
}

static void over_budget_is_refused_and_remembered(void **state) {
    (void)state;
    fixture *f = start(10000);
    assert_non_null(sl_arena_alloc(&f->arena, 500));
    assert_false(f->arena.refused);
    assert_null(sl_arena_alloc(&f->arena, 10001));
    assert_true(f->arena.refused);
    /* What fits the budget exactly is given, although doubling would not fit. */
    assert_non_null(sl_arena_alloc(&f->arena, 9984));
    assert_null(sl_arena_alloc(&f->arena, 100));
    assert_true(f->arena.reserved - sizeof f->first <= 10000);
    sl_arena_reset(&f->arena);
    assert_false(f->arena.refused);
    sl_arena_fini(&f->arena);
}

static void sizes_near_the_limit_of_size_t_are_refused(void **state) {
    (void)state;
    fixture *f = start(SIZE_MAX);
    assert_null(sl_arena_alloc(&f->arena, SIZE_MAX));
    assert_null(sl_arena_alloc(&f->arena, SIZE_MAX - 15));
    assert_null(sl_arena_alloc(&f->arena, (size_t)PTRDIFF_MAX));
    void *some = sl_arena_alloc(&f->arena, 16);
    assert_null(sl_arena_grow(&f->arena, some, 16, SIZE_MAX));
    sl_arena_fini(&f->arena);
}

static void the_latest_allocation_grows_in_place(void **state) {
    (void)state;
    fixture *f = start(SIZE_MAX);
    char *at = sl_arena_alloc(&f->arena, 16);
    memcpy(at, "sixteen bytes...", 16);
    assert_ptr_equal(sl_arena_grow(&f->arena, at, 16, 256), at);
    assert_int_equal(f->arena.used, 256);
    assert_non_null(sl_arena_alloc(&f->arena, 16));
    char *moved = sl_arena_grow(&f->arena, at, 256, 300);
    assert_ptr_not_equal(moved, at);
    assert_memory_equal(moved, "sixteen bytes...", 16);
    assert_ptr_equal(sl_arena_grow(&f->arena, moved, 300, 200), moved); /* never shrinks */
    sl_arena_fini(&f->arena);
}

static void arrays_that_grow_side_by_side_keep_their_bytes_and_waste_little(void **state) {
    (void)state;
    enum { N = 5, STEPS = 17 };
    fixture *f = start(SIZE_MAX);
    unsigned char *at[N] = {NULL};
    size_t size = 0;
    for (size_t step = 4; step < 4 + STEPS; step++) {
        size_t wish = (size_t)1 << step;
        for (size_t i = 0; i < N; i++) {
            at[i] = sl_arena_grow(&f->arena, at[i], size, wish);
            assert_non_null(at[i]);
            memset(at[i] + size, (int)(i + step), wish - size);
        }
        size = wish;
    }
    for (size_t i = 0; i < N; i++) {
        size_t from = 0;
        for (size_t step = 4; step < 4 + STEPS; step++) {
            for (; from < ((size_t)1 << step); from++)
                if (at[i][from] != (unsigned char)(i + step)) fail_msg("array %zu lost byte %zu", i, from);
        }
    }
    /* 5 MiB in arrays; what was left behind on the way is small. */
    assert_true(f->arena.reserved < N * size + N * 4 * SL_ARENA_BIG);
    sl_arena_fini(&f->arena);
}

static void growth_within_a_budget_stops_at_it(void **state) {
    (void)state;
    fixture *f = start(200000);
    char *at = sl_arena_alloc(&f->arena, 100000);
    assert_non_null(at);
    char *more = sl_arena_grow(&f->arena, at, 100000, 199000);
    assert_non_null(more);
    assert_null(sl_arena_grow(&f->arena, more, 199000, 300000));
    more[0] = 'x', more[198999] = 'y'; /* still valid */
    sl_arena_fini(&f->arena);
}

static void a_block_filled_by_one_growing_allocation_stays_whole(void **state) {
    (void)state;
    /* An allocation that came to fill a shared block exactly must not take the block away from the arena. */
    fixture *f = start(SIZE_MAX);
    assert_non_null(sl_arena_alloc(&f->arena, 512));
    ProtobufCAllocator allocator = sl_arena_allocator(&f->arena);
    for (int round = 0; round < 6; round++) {
        char *small = sl_arena_alloc(&f->arena, 16384);
        assert_non_null(small);
        size_t all = 16384 + (size_t)(f->arena.end - f->arena.at);
        char *whole = sl_arena_grow(&f->arena, small, 16384, all);
        assert_non_null(whole);
        memset(whole, round, all);
        char *moved = sl_arena_grow(&f->arena, whole, all, all + 40000);
        assert_non_null(moved);
        memset(moved + all, round, 40000);
        allocator.free(allocator.allocator_data, whole);
        char *next = sl_arena_alloc(&f->arena, 64);
        assert_non_null(next);
        memset(next, 0x55, 64);
        for (size_t i = 0; i < all + 40000; i++) assert_int_equal(moved[i], round);
    }
    sl_arena_fini(&f->arena);
}

static void protobufs_allocator_gives_back_only_the_latest(void **state) {
    (void)state;
    fixture *f = start(SIZE_MAX);
    ProtobufCAllocator allocator = sl_arena_allocator(&f->arena);
    void *one = allocator.alloc(allocator.allocator_data, 32);
    void *two = allocator.alloc(allocator.allocator_data, 32);
    allocator.free(allocator.allocator_data, one);
    assert_int_equal(f->arena.used, 64);
    allocator.free(allocator.allocator_data, two);
    assert_int_equal(f->arena.used, 32);
    assert_ptr_equal(allocator.alloc(allocator.allocator_data, 16), two);
    allocator.free(allocator.allocator_data, NULL);
    sl_arena_fini(&f->arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_is_aligned_and_apart),
        cmocka_unit_test(small_use_stays_in_the_first_block_and_reset_gives_it_back),
        cmocka_unit_test(over_budget_is_refused_and_remembered),
        cmocka_unit_test(sizes_near_the_limit_of_size_t_are_refused),
        cmocka_unit_test(the_latest_allocation_grows_in_place),
        cmocka_unit_test(arrays_that_grow_side_by_side_keep_their_bytes_and_waste_little),
        cmocka_unit_test(growth_within_a_budget_stops_at_it),
        cmocka_unit_test(a_block_filled_by_one_growing_allocation_stays_whole),
        cmocka_unit_test(protobufs_allocator_gives_back_only_the_latest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
