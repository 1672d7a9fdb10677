/* SPDX-License-Identifier: MIT */
/* The checkpointer: one connection that copies the log into the database file, one pass per request.
 *
 * Owning thread: its own (pinned). It decides nothing: when a pass may run is the writer's business
 * (checkpoint_driver.c, rule_w.h).
 *
 *   start --> READY --- CheckpointRequest: one pass, CheckpointReply --> READY
 *              |  request of an older epoch: refused (STALE), nothing is run
 *              |  first request of a newer epoch: must be TRUNCATE (rule W6)
 *              v
 *            stop: last connection of the store, so closing it empties the log (TRUNCATE) and removes the WAL file;
 *                  after a fatal error the log is left as it is, for recovery
 *
 * Accepts: CheckpointRequest (ask). Sends: CheckpointReply, errors.
 *
 * Invariants
 *  1. One sqlite3_wal_checkpoint_v2 per request, never in a loop (W2), and none without a request but the one at stop.
 *  2. What SQLite says goes into the reply; it is no failure of this actor. So the actor never fails by itself: a full
 *     disk or an I/O error leaves the log as it was, and the next pass copies again from where the last complete one
 *     ended. Should it end nevertheless, the writer hears ACTOR_DOWN, pauses, and W6 applies.
 *  3. The connection has read the schema once (sl_conn_open): else a pass would be a silent no-op (code 0, log -1).
 *  4. TRUNCATE comes only while the writer is paused: it holds the write lock while it works, and it would degrade to
 *     PASSIVE, outside rule W3, if it found that lock taken. So SQLITE_BUSY with the log untouched is reported as is.
 *
 * Stop order: nothing waits that must be answered (the writer ended before); connection.
 */
#include <stdlib.h>

#include "actor_internal.h"
#include "store_internal.h"
#include "sluice/v1/control.pb-c.h"

typedef struct checkpointer {
    sluice_store *store;
    sl_conn *conn;
    uint64_t epoch;
} checkpointer;

static sluice_err admit(checkpointer *c, const Sluice__V1__CheckpointRequest *request, sluice_cause *cause) {
    sluice_err err = sl_store_check(c->store, cause); /* after a failed COMMIT the log is evidence */
    if (err != SLUICE_OK) return err;
    if (request->epoch < c->epoch)
        return sluice_cause_set(cause, SLUICE_STALE, "epoch %llu is over, this is %llu",
                                (unsigned long long)request->epoch, (unsigned long long)c->epoch);
    if (request->epoch > c->epoch && c->epoch != 0 && request->mode != SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_TRUNCATE)
        return sluice_cause_set(cause, SLUICE_INVALID, "a new epoch begins with TRUNCATE");
    c->epoch = request->epoch;
    return SLUICE_OK;
}

static sluice_err on_checkpoint_request(sluice_actor *self, checkpointer *c, sluice_msg **msg) {
    const Sluice__V1__CheckpointRequest *request = sluice_msg_body(*msg);
    sluice_cause cause;
    if (!sluice_msg_is_ask(*msg)) return SLUICE_OK; /* a pass whose end nobody hears of would break W3 */
    if (admit(c, request, &cause) != SLUICE_OK) {
        sluice_reply_error(self, *msg, &cause);
        return SLUICE_OK;
    }
    bool truncate = request->mode == SLUICE__V1__CHECKPOINT_MODE__CHECKPOINT_TRUNCATE;
    uint64_t epoch = request->epoch;
    /* What the reply needs is there before the pass, so that the writer always hears of its end. */
    sluice_err err = sl_msg_turn(*msg, &sluice__v1__checkpoint_reply__descriptor);
    if (err != SLUICE_OK) return err;
    int log = -1, copied = -1;
    int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int rc = sqlite3_wal_checkpoint_v2(sl_conn_db(c->conn), "main", mode, &log, &copied);
    sl_count(c->store, checkpoints, 1);
    Sluice__V1__CheckpointReply *reply = sluice_msg_body(*msg);
    reply->epoch = epoch;
    reply->sqlite_code = rc == SQLITE_OK ? rc : sqlite3_extended_errcode(sl_conn_db(c->conn));
    reply->frames_logged = log;
    reply->frames_copied = copied;
    err = sl_actor_send(self, msg, false);
    return err == SLUICE_NO_ACTOR || err == SLUICE_CLOSED ? SLUICE_OK : err; /* the writer has ended */
}

static sluice_err checkpointer_receive(sluice_actor *self, sluice_msg **msg) {
    checkpointer *c = sluice_actor_state(self);
    if (sluice_msg_is(*msg, &sluice__v1__checkpoint_request__descriptor)) return on_checkpoint_request(self, c, msg);
    if (sluice_msg_is_ask(*msg)) {
        sluice_cause cause;
        (void)sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "the checkpointer takes CheckpointRequest, not %s",
                               sluice_msg_type_name(*msg));
        sluice_reply_error(self, *msg, &cause);
    }
    return SLUICE_OK;
}

static sluice_err checkpointer_init(sluice_actor *self, void *arg, sluice_cause *cause) {
    checkpointer *c = calloc(1, sizeof *c);
    if (c == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    c->store = arg;
    sl_conn_options options = sl_store_conn_options(c->store, SL_CONN_CHECKPOINTER);
    sluice_err err = sl_conn_open(&options, &c->conn, cause);
    if (err != SLUICE_OK) {
        free(c);
        return err;
    }
    sluice_actor_set_state(self, c);
    return SLUICE_OK;
}

static void checkpointer_stop(sluice_actor *self, sluice_err why) {
    checkpointer *c = sluice_actor_state(self);
    sqlite3 *db = sl_conn_db(c->conn);
    /* Only when the store stops us (sl_checkpointer_stop) writer and readers have ended before. Otherwise they are
     * still in the file, and TRUNCATE would break W4. After a fatal error the log stays as it is. */
    bool last = atomic_load(&c->store->checkpointer) == 0;
    bool orderly = last && why == SLUICE_OK && sl_store_check(c->store, NULL) == SLUICE_OK;
    if (orderly)
        (void)sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL); /* or at the next start */
    else
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    sl_conn_close(&c->conn);
    free(c);
}

static const sluice_behaviour checkpointer_behaviour = {
    .kind = "checkpointer",
    .init = checkpointer_init,
    .receive = checkpointer_receive,
    .stop = checkpointer_stop,
};

sluice_err sl_checkpointer_start(sluice_store *store, sluice_cause *cause) {
    sluice_spec spec = {
        .behaviour = &checkpointer_behaviour,
        .arg = store,
        .name = store->checkpointer_name,
        .placement = SLUICE_PLACE_PINNED,
        .mailbox_messages = 16,
    };
    sluice_pid pid;
    sluice_err err = sluice_spawn(store->runtime, &spec, &pid, cause);
    if (err == SLUICE_OK) atomic_store(&store->checkpointer, pid);
    return err;
}

void sl_checkpointer_stop(sluice_store *store) {
    sluice_pid pid = atomic_exchange(&store->checkpointer, 0);
    if (pid != 0) sluice_stop(store->runtime, pid);
}
