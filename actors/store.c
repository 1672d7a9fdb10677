/* SPDX-License-Identifier: MIT */
/* The store as its host sees it: options, open and close in the right order, counters, and the fatal end.
 *
 * Owning thread: the host's (open, close); sl_store_fatal runs on whichever store thread met the error.
 *
 *   open:   lock --> writer (recovers, empties the log, makes its tables) --> readers --> checkpointer
 *   close:  writer (finishes its group, answers CLOSED) --> readers --> checkpointer (empties the log) --> lock
 *   fatal:  set once, for good; close still works; the lock is kept, so that the file cannot be opened again here
 *
 * Invariants
 *  1. `fatal` is set before on_fatal is called, and no write is acknowledged once it is set.
 *  2. fatal_cause is written once, before `fatal` is set (release), and read after it was seen set (acquire).
 */
#include "backup.h"
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 48u

void sluice_store_options_init(sluice_store_options *options) {
    *options = (sluice_store_options){
        .create = true,
        .n_readers = 2,
        .n_leases = 8,
        .synchronous = SLUICE_SYNC_FULL,
        .file_mode = SLUICE_FILE_EXCLUSIVE,
        .wal_soft_cap_bytes = (uint64_t)8 << 20,
        .wal_hard_cap_bytes = (uint64_t)256 << 20,
        .snapshot_max_age_ms = 5000,
        .snapshot_warn_ms = 1000,
        .statement_cache = 256,
        .max_sql_bytes = 1u << 20,
        .max_result_bytes = 64u << 20,
        .max_pending = 16384,
        .max_pending_bytes = 256u << 20,
        .max_pending_share = 25,
        .group_max_bytes = 8u << 20,
        .group_max_ms = 50,
        .session_ttl_ms = 3600u * 1000,
        .max_receipts = 4096,
        .transaction_idle_ms = 1000,
        .transaction_total_ms = 5000,
    };
}

static sluice_err check_options(const sluice_store_options *o, const char *name, sluice_cause *cause) {
    if (o->n_readers < 1 || o->n_readers > SL_MAX_READERS)
        return sluice_cause_set(cause, SLUICE_INVALID, "n_readers is %u, not 1 to %u", o->n_readers, SL_MAX_READERS);
    if (o->n_leases > SL_MAX_LEASES)
        return sluice_cause_set(cause, SLUICE_INVALID, "n_leases is %u, not 0 to %u", o->n_leases, SL_MAX_LEASES);
    if (o->synchronous != SLUICE_SYNC_FULL && o->synchronous != SLUICE_SYNC_NORMAL)
        return sluice_cause_set(cause, SLUICE_INVALID, "synchronous is neither full nor normal");
    if (o->checkpointing != SLUICE_CHECKPOINT_AUTO && o->checkpointing != SLUICE_CHECKPOINT_MANUAL)
        return sluice_cause_set(cause, SLUICE_INVALID, "checkpointing is neither auto nor manual");
    if (o->file_mode != SLUICE_FILE_EXCLUSIVE && o->file_mode != SLUICE_FILE_SHARED)
        return sluice_cause_set(cause, SLUICE_INVALID, "file_mode is neither exclusive nor shared");
    if (name[0] == '\0' || strlen(name) > NAME_MAX_BYTES || strchr(name, '/') != NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "a store's name has 1 to %u bytes and no slash", NAME_MAX_BYTES);
    if (o->max_pending_share < 1 || o->max_pending_share > 100)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_pending_share is %u, not 1 to 100 percent",
                                o->max_pending_share);
    if (o->wal_soft_cap_bytes == 0 || o->wal_hard_cap_bytes < o->wal_soft_cap_bytes)
        return sluice_cause_set(cause, SLUICE_INVALID, "wal_hard_cap_bytes must not be below wal_soft_cap_bytes");
    const struct {
        const char *what;
        uint32_t value;
    } positive[] = {
        {"snapshot_max_age_ms", o->snapshot_max_age_ms}, {"snapshot_warn_ms", o->snapshot_warn_ms},
        {"statement_cache", o->statement_cache},
        {"max_sql_bytes", o->max_sql_bytes},             {"max_result_bytes", o->max_result_bytes},
        {"max_pending", o->max_pending},                 {"max_pending_bytes", o->max_pending_bytes},
        {"group_max_bytes", o->group_max_bytes},         {"group_max_ms", o->group_max_ms},
        {"session_ttl_ms", o->session_ttl_ms},           {"max_receipts", o->max_receipts},
        {"transaction_idle_ms", o->transaction_idle_ms}, {"transaction_total_ms", o->transaction_total_ms},
    };
    for (size_t i = 0; i < sizeof positive / sizeof positive[0]; i++)
        if (positive[i].value == 0)
            return sluice_cause_set(cause, SLUICE_INVALID, "%s must not be 0", positive[i].what);
    return SLUICE_OK;
}

#define VALUE_MIN_BYTES (1u << 20)
#define VALUE_MAX_BYTES 1000000000u /* SQLite's own limit */

sl_conn_options sl_store_conn_options(sluice_store *store, sl_conn_role role) {
    const sluice_store_options *o = &store->options;
    uint32_t value = o->max_result_bytes > VALUE_MIN_BYTES ? o->max_result_bytes : VALUE_MIN_BYTES;
    uint32_t sql = o->max_sql_bytes < VALUE_MAX_BYTES ? o->max_sql_bytes : VALUE_MAX_BYTES;
    return (sl_conn_options){
        .path = sl_ownership_path(store->ownership),
        .role = role,
        .create = o->create,
        .synchronous = o->synchronous,
        .file_mode = o->file_mode,
        .vfs = store->vfs,
        .statement_cache = o->statement_cache,
        .max_sql_bytes = sql,
        .max_value_bytes = value < VALUE_MAX_BYTES ? value : VALUE_MAX_BYTES,
        .max_log_bytes = role == SL_CONN_WRITER ? o->wal_hard_cap_bytes : 0,
        .hits = &store->counters.statement_hits,
        .misses = &store->counters.statement_misses,
    };
}

/* ---- open and close ---- */

static sluice_err new_store(sluice_runtime *runtime, const sluice_store_options *options, const char *vfs,
                            sluice_store **out, sluice_cause *cause) {
    const char *name = options->name != NULL ? options->name : "app";
    sluice_err err = check_options(options, name, cause);
    if (err != SLUICE_OK) return err;
    sluice_store *store = calloc(1, sizeof *store);
    if (store == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    pthread_mutex_init(&store->fatal_lock, NULL);
    store->runtime = runtime;
    store->options = *options;
    store->name = strdup(name);
    store->vfs = vfs != NULL ? strdup(vfs) : NULL;
    *out = store;
    if (store->name == NULL || (vfs != NULL && store->vfs == NULL))
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    store->procedures = sl_procedures_new();
    if (store->procedures == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (size_t i = 0; i < options->n_procedures; i++) {
        const sluice_procedure *one = &options->procedures[i];
        err = sl_procedures_add(store->procedures, one->name, one->fn, one->context);
        if (err != SLUICE_OK)
            return sluice_cause_set(cause, err, "procedure \"%.63s\": %s", one->name != NULL ? one->name : "",
                                    sluice_err_text(err));
    }
    store->options.procedures = NULL;
    store->options.n_procedures = 0;
    store->options.name = store->name;
    snprintf(store->writer_name, sizeof store->writer_name, "%s/writer", name);
    snprintf(store->readers_name, sizeof store->readers_name, "%s/readers", name);
    snprintf(store->checkpointer_name, sizeof store->checkpointer_name, "%s/checkpointer", name);
    return SLUICE_OK;
}

sluice_err sl_store_open(sluice_runtime *runtime, const sluice_store_options *options, const char *vfs,
                         sluice_store **out, sluice_cause *cause) {
    *out = NULL;
    sluice_store *store = NULL;
    sluice_err err = new_store(runtime, options, vfs, &store, cause);
    if (err == SLUICE_OK) err = sl_ownership_take(options->path, options->create, &store->ownership, cause);
    if (err != SLUICE_OK) goto fail;
    store->options.path = sl_ownership_path(store->ownership);
    err = sl_writer_start(store, cause);
    if (err == SLUICE_OK) err = sl_readers_start(store, cause);
    if (err == SLUICE_OK) err = sl_checkpointer_start(store, cause);
    if (err != SLUICE_OK) goto fail;
    *out = store;
    return SLUICE_OK;
fail:
    sluice_store_close(&store);
    return err;
}

sluice_err sluice_store_open(sluice_runtime *runtime, const sluice_store_options *options, sluice_store **out,
                             sluice_cause *cause) {
    return sl_store_open(runtime, options, NULL, out, cause);
}

void sluice_store_close(sluice_store **store_at) {
    if (store_at == NULL || *store_at == NULL) return;
    sluice_store *store = *store_at;
    *store_at = NULL;
    if (atomic_load(&store->orphaned)) { /* the runtime went first and stopped the actors; it must not be asked again */
        atomic_store(&store->n_readers, 0);
        atomic_store(&store->checkpointer, 0);
        atomic_store(&store->backup_checker, 0);
    }
    sl_writer_stop(store);
    sl_backup_stop(store);
    sl_readers_stop(store);
    sl_checkpointer_stop(store);
    if (store->ownership != NULL && atomic_load(&store->fatal)) sl_ownership_condemn(store->ownership);
    sl_ownership_release(&store->ownership);
    pthread_mutex_destroy(&store->fatal_lock);
    sl_procedures_destroy(&store->procedures);
    free(store->name);
    free(store->vfs);
    free(store);
}

sluice_err sluice_store_register_procedure(sluice_store *store, const char *name, sluice_procedure_fn fn,
                                           void *context) {
    return sl_procedures_add(store->procedures, name, fn, context);
}

const char *sluice_store_name(const sluice_store *store) { return store->name; }
const char *sluice_store_path(const sluice_store *store) { return store->options.path; }

/* ---- counters ---- */

void sl_counter_max(_Atomic uint64_t *counter, uint64_t value) {
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    while (now < value && !atomic_compare_exchange_weak_explicit(counter, &now, value, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
    }
}

void sluice_store_stats_read(const sluice_store *store, sluice_store_stats *out) {
#define READ_COUNTER(name, meaning) out->name = atomic_load_explicit(&store->counters.name, memory_order_relaxed);
    SLUICE_STORE_STATS_MAP(READ_COUNTER)
#undef READ_COUNTER
    sl_readers_add_stats(store, out);
}

uint64_t sl_store_commit_number(sluice_store *store) {
    return atomic_load_explicit(&store->counters.commit_number, memory_order_acquire);
}

/* ---- the fatal end ---- */

void sl_store_fatal(sluice_store *store, int exit_code, const sluice_cause *why) {
    pthread_mutex_lock(&store->fatal_lock);
    bool first = !atomic_load(&store->fatal);
    if (first) {
        store->fatal_cause = *why;
        store->fatal_cause.code = SLUICE_FATAL;
        store->fatal_exit_code = exit_code;
        atomic_store_explicit(&store->fatal, true, memory_order_release); /* invariant 1 */
    }
    pthread_mutex_unlock(&store->fatal_lock);
    if (!first) return;
    if (store->options.on_fatal == NULL) _Exit(exit_code);
    store->options.on_fatal(store->options.fatal_context, &store->fatal_cause, exit_code);
}

sluice_err sl_store_check(sluice_store *store, sluice_cause *cause) {
    if (!atomic_load_explicit(&store->fatal, memory_order_acquire)) return SLUICE_OK;
    if (cause != NULL) *cause = store->fatal_cause;
    return SLUICE_FATAL;
}
