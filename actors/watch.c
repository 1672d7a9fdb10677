/* SPDX-License-Identifier: MIT */
/* The watch of a reading connection; its states and invariants are in the header.
 *
 * Owning thread: any, by atomics and the lock.
 * Messages: none; who must be told is given to the caller.
 *
 * The fields that are shown are written by the connection's user alone. Each is stored with release and read with
 * acquire, between two looks at the version, so that a reader of a half-written set sees the version change.
 * Stop order: stopped, call ended, connection detached.
 */
#include "watch.h"

#include <string.h>

#include "port.h"

#define IN_CALL 1u
#define RECALLED 2u

void sl_watch_init(sl_watch *watch, unsigned number, bool leased) {
    memset(watch, 0, sizeof *watch);
    watch->number = number;
    watch->leased = leased;
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->left, NULL);
}

void sl_watch_fini(sl_watch *watch) {
    pthread_cond_destroy(&watch->left);
    pthread_mutex_destroy(&watch->lock);
}

void sl_watch_attach(sl_watch *watch, sl_conn *conn) {
    pthread_mutex_lock(&watch->lock);
    watch->conn = conn;
    if (conn == NULL) watch->waits = false;
    pthread_mutex_unlock(&watch->lock);
}

/* ---- what is shown ---- */

static void change_begin(sl_watch *watch) {
    atomic_store_explicit(&watch->version, watch->version + 1, memory_order_relaxed);
}

static void change_end(sl_watch *watch) {
    atomic_store_explicit(&watch->version, watch->version + 1, memory_order_release);
}

void sl_watch_note(sl_watch *watch, sluice_pid asker, uint64_t correlation, const void *sql, size_t size) {
    change_begin(watch);
    atomic_store_explicit(&watch->asker, asker, memory_order_release);
    atomic_store_explicit(&watch->correlation, correlation, memory_order_release);
    atomic_store_explicit(&watch->text_size, size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, memory_order_release);
    if (size > SL_WATCH_TEXT) size = SL_WATCH_TEXT;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, (const char *)sql + at, size - at < 8 ? size - at : 8);
        atomic_store_explicit(&watch->text[at / 8], word, memory_order_release);
    }
    change_end(watch);
}

/* Leaves no half character at the end. */
static void cut(char *text, size_t size) {
    size_t end = size;
    while (end > 0 && ((unsigned char)text[end - 1] & 0xc0u) == 0x80u) end--;
    if (end == 0) return;
    unsigned char lead = (unsigned char)text[end - 1];
    size_t wants = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (size - (end - 1) < wants) text[end - 1] = '\0';
}

static void copy_shown(const sl_watch *watch, sl_reader_watch *out) {
    memset(out, 0, sizeof *out);
    out->snapshot_ns = atomic_load_explicit(&watch->snapshot_ns, memory_order_acquire);
    if (out->snapshot_ns == 0) return;
    out->commit_number = atomic_load_explicit(&watch->commit_number, memory_order_acquire);
    out->asker = atomic_load_explicit(&watch->asker, memory_order_acquire);
    out->correlation = atomic_load_explicit(&watch->correlation, memory_order_acquire);
    out->statement_size = atomic_load_explicit(&watch->text_size, memory_order_acquire);
    size_t size = out->statement_size < SL_WATCH_TEXT ? out->statement_size : SL_WATCH_TEXT;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = atomic_load_explicit(&watch->text[at / 8], memory_order_acquire);
        memcpy(out->statement + at, &word, size - at < 8 ? size - at : 8);
    }
    if (out->statement_size > SL_WATCH_TEXT) cut(out->statement, SL_WATCH_TEXT);
}

void sl_watch_look(const sl_watch *watch, sl_reader_watch *out) {
    uint32_t before, after;
    unsigned tries = 0;
    do { /* a connection with many short reads may never stand still: then what is shown mixes two of them */
        before = atomic_load_explicit(&watch->version, memory_order_acquire);
        copy_shown(watch, out);
        after = atomic_load_explicit(&watch->version, memory_order_relaxed);
    } while ((before != after || (before & 1u) != 0) && ++tries < 100);
}

void sl_watch_show(const sl_watch *watch, sluice_reading *out) {
    sl_reader_watch now;
    _Static_assert(sizeof out->statement == sizeof now.statement, "the public text has the same room");
    sl_watch_look(watch, &now);
    memset(out, 0, sizeof *out);
    out->number = watch->number;
    out->leased = watch->leased;
    out->busy = now.snapshot_ns != 0;
    if (!out->busy) return;
    int64_t age_ns = sl_now_ns() - now.snapshot_ns;
    out->age_us = age_ns > 0 ? (uint64_t)age_ns / 1000 : 0;
    out->commit_number = now.commit_number;
    out->asker = now.asker;
    out->request = now.correlation;
    out->statement_size = now.statement_size;
    memcpy(out->statement, now.statement, sizeof out->statement);
}

/* ---- enter and leave ---- */

bool sl_watch_enter(sl_watch *watch, int64_t now_ns, uint64_t commit_number) {
    uint32_t expected = 0;
    if (!atomic_compare_exchange_strong_explicit(&watch->gate, &expected, IN_CALL, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    change_begin(watch);
    atomic_store_explicit(&watch->commit_number, commit_number, memory_order_release);
    atomic_store_explicit(&watch->asker, 0, memory_order_release);
    atomic_store_explicit(&watch->correlation, 0, memory_order_release);
    atomic_store_explicit(&watch->text_size, 0, memory_order_release);
    atomic_store_explicit(&watch->snapshot_ns, now_ns, memory_order_release);
    change_end(watch);
    return true;
}

uint64_t sl_watch_closed_round(sl_watch *watch, bool waits) {
    pthread_mutex_lock(&watch->lock);
    uint64_t round = watch->gate_round;
    if (round != 0 && waits) watch->waits = true;
    pthread_mutex_unlock(&watch->lock);
    return round;
}

bool sl_watch_wanted(const sl_watch *watch) {
    return (atomic_load_explicit(&watch->gate, memory_order_relaxed) & RECALLED) != 0;
}

/* Under the lock. True: a call is on, and cannot leave before the lock is given up. False: nobody enters either. */
static bool recall(sl_watch *watch) {
    return (atomic_fetch_or_explicit(&watch->gate, RECALLED, memory_order_acq_rel) & IN_CALL) != 0;
}

/* Under the lock, RECALLED, with nobody inside. */
static void set_resting_state(sl_watch *watch) {
    bool barred = watch->gate_round != 0 || watch->stopped;
    atomic_store_explicit(&watch->gate, barred ? RECALLED : 0, memory_order_release);
}

sluice_pid sl_watch_leave(sl_watch *watch, uint64_t *round) {
    atomic_store_explicit(&watch->snapshot_ns, 0, memory_order_release);
    uint32_t expected = IN_CALL;
    *round = 0;
    if (atomic_compare_exchange_strong_explicit(&watch->gate, &expected, 0, memory_order_acq_rel,
                                                memory_order_relaxed))
        return 0;
    pthread_mutex_lock(&watch->lock);
    if (watch->conn != NULL) sl_conn_stop_clear(watch->conn); /* invariant 2 */
    sluice_pid closer = watch->closer;
    watch->closer = 0;
    *round = watch->gate_round;
    set_resting_state(watch);
    pthread_cond_broadcast(&watch->left);
    pthread_mutex_unlock(&watch->lock);
    return closer;
}

void sl_watch_ignore_gate(sl_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->gate_round = 0;
    watch->waits = false;
    if (!recall(watch)) set_resting_state(watch);
    pthread_mutex_unlock(&watch->lock);
}

/* ---- the others ---- */

bool sl_watch_quiet(const sl_watch *watch) {
    return (atomic_load_explicit(&watch->gate, memory_order_acquire) & IN_CALL) == 0;
}

bool sl_watch_gate_close(sl_watch *watch, uint64_t round, sluice_pid closer) {
    pthread_mutex_lock(&watch->lock);
    watch->gate_round = round;
    bool quiet = !recall(watch);
    watch->closer = quiet ? 0 : closer;
    pthread_mutex_unlock(&watch->lock);
    return quiet;
}

bool sl_watch_gate_open(sl_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    bool waits = watch->waits;
    watch->gate_round = 0;
    watch->closer = 0;
    watch->waits = false;
    /* Inside a call RECALLED stays: a stop may have been aimed at it, which leaving takes back. */
    if (!recall(watch)) set_resting_state(watch);
    pthread_mutex_unlock(&watch->lock);
    return waits;
}

bool sl_watch_expire(sl_watch *watch, int64_t before_ns, sluice_err why) {
    /* Most calls are young: they are not made to leave by the lock. */
    int64_t snapshot_ns = atomic_load_explicit(&watch->snapshot_ns, memory_order_acquire);
    if (snapshot_ns == 0 || snapshot_ns >= before_ns) return false;
    pthread_mutex_lock(&watch->lock);
    bool inside = recall(watch);
    snapshot_ns = atomic_load_explicit(&watch->snapshot_ns, memory_order_acquire);
    bool hit = inside && watch->conn != NULL && snapshot_ns != 0 && snapshot_ns < before_ns;
    if (hit) sl_conn_stop(watch->conn, why);
    if (!inside) set_resting_state(watch);
    pthread_mutex_unlock(&watch->lock);
    return hit;
}

void sl_watch_stop(sl_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->stopped = true;
    if (recall(watch) && watch->conn != NULL) sl_conn_stop(watch->conn, SLUICE_CLOSED);
    while (!sl_watch_quiet(watch)) pthread_cond_wait(&watch->left, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
}
