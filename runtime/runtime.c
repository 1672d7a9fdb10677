/* SPDX-License-Identifier: MIT */
/* The runtime: made, asked from outside, destroyed.
 *
 * Threads: any that is not one of its dispatchers. Threads without a port of their own send through one exchange that
 * all of them share under a lock (`outside`); that is for rare things: starting, stopping, posting.
 *
 * Stop order
 *   1. closing is set: nobody starts or sends anything new from outside
 *   2. actors end in the reverse order of their start, a run of neighbours on one dispatcher at a time
 *   3. shared dispatchers get QUIT; every thread is joined
 *   4. open ports hear CLOSED; the outside exchange closes
 *   5. the memory and the own ZeroMQ context go with the last open port, or at once if there is none
 */
#include <sched.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "runtime_internal.h"

enum { MAX_SHARED = 64, MAX_IO_THREADS = 16, STOP_RUN = 256, MAX_SPIN_US = 100000, DEFAULT_SPIN_US = 200 };

void sluice_runtime_options_init(sluice_runtime_options *options) {
    *options = (sluice_runtime_options){.n_shared = 1, .n_io_threads = 1, .spin_us = DEFAULT_SPIN_US};
}

static sluice_err check_options(const sluice_runtime_options *options, sluice_cause *cause) {
    if (options->n_shared < 1 || options->n_shared > MAX_SHARED)
        return sluice_cause_set(cause, SLUICE_INVALID, "n_shared is %u; 1 to %d", options->n_shared, MAX_SHARED);
    if (options->n_io_threads < 1 || options->n_io_threads > MAX_IO_THREADS)
        return sluice_cause_set(cause, SLUICE_INVALID, "n_io_threads is %u; 1 to %d", options->n_io_threads,
                                MAX_IO_THREADS);
    if (options->spin_us > MAX_SPIN_US)
        return sluice_cause_set(cause, SLUICE_INVALID, "spin_us is %u; at most %d", options->spin_us, MAX_SPIN_US);
    return SLUICE_OK;
}

static sluice_err context_open(sluice_runtime *runtime, const sluice_runtime_options *options, sluice_cause *cause) {
    if (options->zmq_context != NULL) {
        runtime->zmq_context = options->zmq_context;
        return SLUICE_OK;
    }
    runtime->zmq_context = zmq_ctx_new();
    if (runtime->zmq_context == NULL) return sluice_cause_set(cause, SLUICE_SYSTEM, "no ZeroMQ context");
    runtime->owns_context = true;
    /* One socket per thread that talks: a thousand clients need more than ZeroMQ's default of 1023. */
    int limit = zmq_ctx_get(runtime->zmq_context, ZMQ_SOCKET_LIMIT);
    zmq_ctx_set(runtime->zmq_context, ZMQ_MAX_SOCKETS, limit);
    zmq_ctx_set(runtime->zmq_context, ZMQ_IO_THREADS, (int)options->n_io_threads);
    return SLUICE_OK;
}

/* Frees what there is; every thread has ended. */
static void runtime_free(sluice_runtime *runtime) {
    if (runtime->owns_context && runtime->zmq_context != NULL) zmq_ctx_term(runtime->zmq_context);
    /* With a borrowed context ZeroMQ's reaper may still be freeing batches of sockets just closed. */
    while (atomic_load_explicit(&runtime->live_batches, memory_order_acquire) != 0) sched_yield();
    for (size_t i = 0; i < SL_CHUNKS; i++) free(atomic_load(&runtime->chunks[i]));
    sl_lend_free(runtime);
    sl_names_destroy(&runtime->names);
    sl_registry_destroy(&runtime->registry);
    free(runtime->exchange_generations);
    free(runtime->shared);
    pthread_mutex_destroy(&runtime->lock);
    pthread_mutex_destroy(&runtime->slots_lock);
    pthread_mutex_destroy(&runtime->outside_lock);
    free(runtime);
}

void sl_runtime_drop(sluice_runtime *runtime) {
    if (atomic_fetch_sub(&runtime->references, 1) == 1) runtime_free(runtime);
}

static sluice_err shared_open(sluice_runtime *runtime, unsigned n, sluice_cause *cause) {
    runtime->shared = calloc(n, sizeof(sl_dispatcher *));
    if (runtime->shared == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (unsigned i = 0; i < n; i++) {
        sluice_err err = sl_dispatcher_open(runtime, false, &runtime->shared[i], cause);
        if (err != SLUICE_OK) return err;
        runtime->n_shared++;
    }
    return SLUICE_OK;
}

sluice_err sluice_runtime_new(const sluice_runtime_options *options, sluice_runtime **out, sluice_cause *cause) {
    *out = NULL;
    sluice_runtime_options defaults;
    sluice_runtime_options_init(&defaults);
    if (options == NULL) options = &defaults;
    sluice_err err = check_options(options, cause);
    if (err != SLUICE_OK) return err;

    sluice_runtime *runtime = calloc(1, sizeof *runtime);
    if (runtime == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    runtime->references = 1;
    runtime->spin_us = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? options->spin_us : 0;
    runtime->free_slot = UINT32_MAX;
    pthread_mutex_init(&runtime->lock, NULL);
    pthread_mutex_init(&runtime->slots_lock, NULL);
    pthread_mutex_init(&runtime->outside_lock, NULL);
    runtime->registry = sl_registry_new();
    runtime->names = sl_names_new();
    if (runtime->registry == NULL || runtime->names == NULL) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        goto fail;
    }
    if ((err = context_open(runtime, options, cause)) != SLUICE_OK) goto fail;
    if ((err = sl_exchange_open(runtime, &runtime->outside, cause)) != SLUICE_OK) goto fail;
    if ((err = shared_open(runtime, options->n_shared, cause)) != SLUICE_OK) goto fail;
    *out = runtime;
    return SLUICE_OK;
fail:
    sluice_runtime_destroy(&runtime);
    return err;
}

/* ---- destroy ---- */

/* Stops the youngest actors, as many neighbours as live on one dispatcher; false when nobody is left. */
static bool stop_some(sluice_runtime *runtime) {
    sluice_pid pids[STOP_RUN];
    size_t n = 0;
    pthread_mutex_lock(&runtime->lock);
    sluice_actor *actor = runtime->youngest;
    for (; actor != NULL && n < STOP_RUN && actor->home == runtime->youngest->home; actor = actor->older)
        pids[n++] = actor->pid;
    pthread_mutex_unlock(&runtime->lock);
    if (n == 0) return false;
    for (size_t i = 0; i + 1 < n; i++) {
        sluice_msg *msg = sl_system_new(SL_SYSTEM_STOP, 0);
        SL_REQUIRE(msg != NULL);
        msg->deadline_ns = 1;
        if (sl_runtime_send(runtime, pids[i], &msg) != SLUICE_OK) sluice_msg_destroy(&msg);
    }
    sluice_stop(runtime, pids[n - 1]);
    return true;
}

static void quit_shared(sluice_runtime *runtime) {
    for (unsigned i = 0; i < runtime->n_shared; i++) {
        sluice_msg *quit = sl_system_new(SL_SYSTEM_QUIT, 0);
        SL_REQUIRE(quit != NULL);
        pthread_mutex_lock(&runtime->lock);
        runtime->shared[i]->finished = true;
        pthread_mutex_unlock(&runtime->lock);
        pthread_mutex_lock(&runtime->outside_lock);
        SL_REQUIRE(sl_exchange_queue(&runtime->outside, runtime->shared[i]->exchange_id, quit) == SLUICE_OK);
        sl_exchange_flush(&runtime->outside, (sl_undeliverable_fn)sl_runtime_dead_letter, runtime);
        pthread_mutex_unlock(&runtime->outside_lock);
    }
    runtime->n_shared = 0;
}

void sluice_runtime_destroy(sluice_runtime **runtime) {
    if (runtime == NULL || *runtime == NULL) return;
    sluice_runtime *taken = *runtime;
    SL_REQUIRE(sl_dispatcher_current() == NULL || sl_dispatcher_current()->runtime != taken);
    *runtime = NULL;
    atomic_store(&taken->closing, true);
    while (stop_some(taken)) continue;
    quit_shared(taken);
    sl_dispatchers_reap(taken, true);
    sl_ports_tell_closed(taken);
    sl_exchange_close(&taken->outside);
    sl_runtime_drop(taken);
}

/* ---- from outside ---- */

static void unsent(void *context, sluice_msg *msg) {
    sl_slot_discharge(context, msg);
    sl_runtime_dead_letter(context, msg);
}

sluice_err sl_runtime_send(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg) {
    sl_slot *slot = sl_slot_find(runtime, to);
    if (slot == NULL) return SLUICE_NO_ACTOR;
    (*msg)->to = to;
    sluice_err err = sl_slot_charge(runtime, slot, *msg);
    if (err != SLUICE_OK) {
        atomic_fetch_add_explicit(&runtime->counters.overloads, 1, memory_order_relaxed);
        return err;
    }
    pthread_mutex_lock(&runtime->outside_lock);
    err = sl_exchange_queue(&runtime->outside, atomic_load(&slot->exchange), *msg);
    if (err == SLUICE_OK) {
        *msg = NULL;
        uint32_t sent = sl_exchange_flush(&runtime->outside, unsent, runtime);
        atomic_fetch_add_explicit(&runtime->counters.batches, sent, memory_order_relaxed);
    } else {
        sl_slot_discharge(runtime, *msg);
    }
    pthread_mutex_unlock(&runtime->outside_lock);
    return err;
}

sluice_err sluice_post(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg) {
    if (atomic_load(&runtime->closing)) return SLUICE_CLOSED;
    (*msg)->from = 0;
    (*msg)->flags = 0;
    return sl_runtime_send(runtime, to, msg);
}

sluice_err sl_post_control(sluice_runtime *runtime, sluice_pid to, sluice_msg **msg) {
    if (atomic_load(&runtime->closing)) return SLUICE_CLOSED;
    (*msg)->from = 0;
    (*msg)->flags = SL_MSG_CONTROL;
    return sl_runtime_send(runtime, to, msg);
}

sluice_err sluice_spawn(sluice_runtime *runtime, const sluice_spec *spec, sluice_pid *out, sluice_cause *cause) {
    SL_REQUIRE(sl_dispatcher_current() == NULL);
    *out = 0;
    sluice_actor *actor = NULL;
    sluice_err err = sl_actor_prepare(runtime, spec, NULL, &actor, cause);
    if (err != SLUICE_OK) return err;
    sluice_pid pid = actor->pid;
    err = sl_actor_start(actor, cause);
    if (err == SLUICE_OK) *out = pid;
    return err;
}

void sluice_stop(sluice_runtime *runtime, sluice_pid pid) {
    SL_REQUIRE(sl_dispatcher_current() == NULL);
    sl_waiter waiter;
    sluice_msg *msg = sl_system_new(SL_SYSTEM_STOP, (uintptr_t)&waiter);
    SL_REQUIRE(msg != NULL);
    msg->deadline_ns = 1; /* final: no supervisor restarts it */
    sl_waiter_init(&waiter);
    if (sl_runtime_send(runtime, pid, &msg) != SLUICE_OK) {
        sluice_msg_destroy(&msg);
        sl_waiter_signal(&waiter, SLUICE_OK, NULL);
    }
    (void)sl_waiter_wait(&waiter, NULL);
    sl_dispatchers_reap(runtime, false);
}

static uint32_t load_of(void *context, sluice_pid pid) { return sl_actor_load(context, pid); }

sluice_pid sluice_whereis(sluice_runtime *runtime, const char *name) {
    return sl_names_find(runtime->names, name, load_of, runtime);
}

sluice_err sluice_runtime_register_type(sluice_runtime *runtime, const struct ProtobufCMessageDescriptor *type) {
    return sl_registry_add(runtime->registry, type);
}

void sluice_runtime_watch_dead_letters(sluice_runtime *runtime, sluice_dead_letter_fn fn, void *context) {
    atomic_store(&runtime->dead_letter_context, context);
    atomic_store(&runtime->dead_letter_fn, fn);
}

static void add_counters(sluice_runtime_stats *out, const sl_counters *counters) {
    out->messages += counters->messages;
    out->batches += counters->batches;
    out->failures += counters->failures;
    out->restarts += counters->restarts;
    out->dead_letters += counters->dead_letters;
    out->expired += counters->expired;
    out->overloads += counters->overloads;
}

void sluice_runtime_stats_read(const sluice_runtime *runtime, sluice_runtime_stats *out) {
    *out = (sluice_runtime_stats){.actors = runtime->n_actors, .spawned = runtime->spawned};
    add_counters(out, &runtime->counters);
    pthread_mutex_t *lock = (pthread_mutex_t *)&runtime->lock;
    pthread_mutex_lock(lock);
    for (const sl_dispatcher *at = runtime->dispatchers; at != NULL; at = at->next) add_counters(out, &at->counters);
    pthread_mutex_unlock(lock);
}
