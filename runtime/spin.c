/* SPDX-License-Identifier: MIT */
/* See spin.h. */
#include "spin.h"

#include <sched.h>

#include "runtime_internal.h"

enum {
    YIELD_ALONE_NS = 20000, /* a yield that took longer let somebody else run */
    PENALTY_MAX = 1023,
};

static bool crowded(const sluice_runtime *runtime) {
    return atomic_load_explicit(&runtime->n_waiting, memory_order_relaxed) > 1;
}

/* *failed: it did not pay. */
static sluice_msg *look(sl_exchange *exchange, bool *failed) {
    const sluice_runtime *runtime = exchange->runtime;
    int64_t now_ns = sl_now_ns(), end_ns = now_ns + (int64_t)runtime->spin_us * 1000;
    while (!crowded(runtime)) {
        sluice_msg *list = sl_exchange_receive(exchange, 0);
        if (list != NULL) return list;
        int64_t before_ns = sl_now_ns();
        sched_yield();
        now_ns = sl_now_ns();
        *failed = now_ns >= end_ns || now_ns - before_ns > YIELD_ALONE_NS;
        if (*failed) break;
    }
    return NULL;
}

sluice_msg *sl_spin_receive(sl_spin *spin, sl_exchange *exchange) {
    sluice_runtime *runtime = exchange->runtime;
    if (runtime->spin_us == 0 || crowded(runtime)) return NULL;
    if (spin->skip > 0) {
        spin->skip--;
        return NULL;
    }
    bool failed = false;
    sluice_msg *list = look(exchange, &failed);
    if (list != NULL) {
        spin->penalty = 0;
    } else if (failed) {
        spin->penalty = spin->penalty >= PENALTY_MAX / 2 ? PENALTY_MAX : spin->penalty * 2 + 1;
        spin->skip = spin->penalty;
    }
    return list;
}
