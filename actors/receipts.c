/* SPDX-License-Identifier: MIT */
/* Sessions and receipts; see receipts.h.
 *
 * Owning thread: the writer's. Three internal tables (clients cannot see them): sluice_session, one row per client;
 * sluice_receipt, one row per answered and not yet settled write, appended; sluice_meta (writer.c). Lookups use the
 * index in memory, which is read from the tables at open and bounded by sessions x max_receipts.
 *
 *   session:   (unknown) --first request, ack_upto 0--> LIVE --goodbye, or silent for session_ttl_ms--> ENDED
 *   request:   RUNNING --committed--> RECEIPT --ack_upto--> settled
 *                 |---definite no--> REFUSED(attempt) --higher attempt--> RUNNING;  --ack_upto--> settled
 *
 * Rules, for a request (client, sequence, attempt, ack_upto):
 *  1. ENDED session: SESSION_EXPIRED, never executed. Its receipts are gone, so nobody could tell whether it was done.
 *  2. Unknown session and ack_upto > 0: SESSION_EXPIRED, for the client has had answers, so a session existed and was
 *     forgotten. Unknown and ack_upto 0: a new session, whatever the attempt: the first sends may have been lost with a
 *     server that died before it saw them. That is sound as long as ended sessions are remembered: the latest
 *     N_ENDED_MAX of them are, over restarts too. (A copy that is delayed beyond so many later sessions' ends and
 *     belongs to a session that never had its first answer could run twice; nothing else can.)
 *  3. sequence <= ack_upto (the highest the client ever sent): STALE.
 *  4. RECEIPT: the stored answer, replayed; ID_REUSED if the body's digest differs.
 *  5. RUNNING (in the same group): executed once, both answered; ID_REUSED if the digests differ.
 *  6. REFUSED with attempt >= this attempt: STALE. The client was told a definite no up to that attempt, so a copy of
 *     it that was still on its way must not run. This memory is not kept over a restart of the store.
 *  7. A session is its maker's, known by the fingerprint of the key (zeros: this user on this host): to everybody else
 *     FORBIDDEN, whatever its state.
 *  8. max_receipts entries unsettled: QUOTA. Sessions over N_LIVE_MAX: QUOTA.
 *
 * Invariants
 *  1. A receipt row is written in the transaction of its request, and a session's row no later than its first answer.
 *  2. Rows of receipts are deleted only together with an ack_upto on disk that covers them, or with the end of their
 *     session on disk. So after any crash: a sequence above the stored ack_upto of a LIVE session either has its
 *     receipt or was never executed.
 *  3. The memory changes by keep and refuse only, after the outcome is certain; rows written by a transaction that was
 *     rolled back are written again.
 */
#include "receipts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define N_LIVE_MAX 65536u
#define N_ENDED_MAX 65536u
#define SETTLED_DUE 512u         /* settled receipts that make housekeeping worth a place in the next transaction */
#define HOUSEKEEPING_ROWS 4096u  /* most rows one transaction deletes */

typedef enum entry_state { ENTRY_RECEIPT = 1, ENTRY_RUNNING, ENTRY_REFUSED } entry_state;

typedef struct entry {
    uint64_t sequence;
    int64_t receipt_id; /* RECEIPT */
    uint32_t state;
    uint32_t operand; /* RUNNING: slot; REFUSED: attempt */
} entry;

struct sl_session {
    uint8_t name[32]; /* the client's id, and behind it the user */
    int64_t id; /* row */
    uint64_t ack_upto;
    int64_t last_ns;
    bool ended, in_file, written_now;
    bool dirty;   /* ack_upto or ended is to be written */
    bool leaving; /* said goodbye while a request was running */
    entry *entries; /* ascending by sequence, from first to n */
    size_t first, n, room;
    sl_session *chain;
    sl_session *newer, *older; /* LIVE: by last request; ENDED: by end */
    sl_session *next_dirty, *next_new;
};

typedef struct session_list {
    sl_session *newest, *oldest;
    size_t n;
} session_list;

typedef struct id_list {
    int64_t *ids;
    size_t n, room, done; /* done: handled in the open transaction */
} id_list;

struct sl_receipts {
    sluice_store *store;
    sl_conn *conn;
    sl_session **buckets;
    size_t n_buckets;
    uint64_t seed;
    session_list live, ended;
    int64_t next_session_id, next_receipt_id;
    sl_session *dirty;    /* chain by next_dirty */
    sl_session *new_rows; /* written in the open transaction, chain by next_new */
    bool wrote_dirty;     /* all of `dirty` was written in the open transaction */
    id_list settled;      /* receipts whose rows can go */
    id_list forgotten;    /* sessions whose rows can go */
    sqlite3_stmt *insert_receipt, *read_receipt, *insert_session, *update_session, *delete_receipts, *delete_session;
};

/* ---- statements ---- */

sluice_err sl_receipts_create_tables(sl_conn *conn, sluice_cause *cause) {
    return sl_conn_own_exec(
        conn,
        "CREATE TABLE IF NOT EXISTS sluice_session(id INTEGER PRIMARY KEY, client BLOB NOT NULL, "
        "ack_upto INTEGER NOT NULL, ended INTEGER NOT NULL);"
        "CREATE TABLE IF NOT EXISTS sluice_receipt(id INTEGER PRIMARY KEY, session INTEGER NOT NULL, "
        "sequence INTEGER NOT NULL, commit_number INTEGER NOT NULL, digest BLOB NOT NULL, result BLOB NOT NULL);",
        cause);
}

static sluice_err prepare_all(sl_receipts *self, sluice_cause *cause) {
    const struct {
        sqlite3_stmt **stmt;
        const char *sql;
    } all[] = {
        {&self->insert_receipt, "INSERT INTO sluice_receipt VALUES(?1,?2,?3,?4,?5,?6)"},
        {&self->read_receipt, "SELECT commit_number, digest, result FROM sluice_receipt WHERE id=?1"},
        {&self->insert_session, "INSERT OR REPLACE INTO sluice_session VALUES(?1,?2,?3,?4)"},
        {&self->update_session, "UPDATE sluice_session SET ack_upto=?2, ended=?3 WHERE id=?1"},
        {&self->delete_receipts, "DELETE FROM sluice_receipt WHERE id BETWEEN ?1 AND ?2"},
        {&self->delete_session, "DELETE FROM sluice_session WHERE id=?1"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (*all[i].stmt != NULL) continue;
        sluice_err err = sl_conn_own_prepare(self->conn, all[i].sql, all[i].stmt, cause);
        if (err != SLUICE_OK) return err;
    }
    return SLUICE_OK;
}

static sluice_err run_once(sl_receipts *self, sqlite3_stmt *stmt, sluice_cause *cause) {
    int rc = sl_conn_own_once(self->conn, stmt);
    sqlite3_clear_bindings(stmt);
    if (rc == SQLITE_OK) return SLUICE_OK;
    return sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "keeping receipts");
}

/* ---- lists and index ---- */

static void list_push(session_list *list, sl_session *session) {
    session->newer = NULL;
    session->older = list->newest;
    *(list->newest != NULL ? &list->newest->newer : &list->oldest) = session;
    list->newest = session;
    list->n++;
}

static void list_remove(session_list *list, sl_session *session) {
    *(session->newer != NULL ? &session->newer->older : &list->newest) = session->older;
    *(session->older != NULL ? &session->older->newer : &list->oldest) = session->newer;
    session->newer = session->older = NULL;
    list->n--;
}

static sl_session **bucket_of(const sl_receipts *self, const uint8_t client[16]) {
    uint64_t a, b;
    memcpy(&a, client, 8);
    memcpy(&b, client + 8, 8);
    uint64_t hash = (a ^ self->seed) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 32) ^ b) * 0xc4ceb9fe1a85ec53u;
    return &self->buckets[(hash ^ (hash >> 29)) & (self->n_buckets - 1)];
}

static sl_session *find_session(const sl_receipts *self, const uint8_t client[16]) {
    sl_session *session = *bucket_of(self, client);
    while (session != NULL && memcmp(session->name, client, 16) != 0) session = session->chain;
    return session;
}

static sl_session *add_session(sl_receipts *self, const uint8_t client[16], int64_t id) {
    sl_session *session = calloc(1, sizeof *session);
    if (session == NULL) return NULL;
    memcpy(session->name, client, 16);
    session->id = id;
    sl_session **bucket = bucket_of(self, client);
    session->chain = *bucket;
    *bucket = session;
    return session;
}

static bool id_push(id_list *list, int64_t id) {
    if (list->n == list->room) {
        size_t room = list->room != 0 ? list->room * 2 : 256;
        int64_t *grown = realloc(list->ids, room * sizeof *grown);
        if (grown == NULL) return false; /* the row stays until the store is opened again: space, not truth */
        list->ids = grown;
        list->room = room;
    }
    list->ids[list->n++] = id;
    return true;
}

static void mark_dirty(sl_receipts *self, sl_session *session) {
    if (!session->dirty) {
        session->dirty = true;
        session->next_dirty = self->dirty;
        self->dirty = session;
    }
    self->wrote_dirty = false;
}

/* ---- entries ---- */

/* Place of the first entry whose sequence is not below the one given. */
static size_t entry_place(const sl_session *session, uint64_t sequence) {
    if (session->n == session->first || session->entries[session->n - 1].sequence < sequence) return session->n;
    size_t low = session->first, high = session->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (session->entries[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static entry *entry_find(const sl_session *session, uint64_t sequence) {
    size_t at = entry_place(session, sequence);
    return at < session->n && session->entries[at].sequence == sequence ? &session->entries[at] : NULL;
}

static entry *entry_add(sl_session *session, uint64_t sequence) {
    if (session->n == session->room) {
        size_t kept = session->n - session->first;
        if (session->first > kept) {
            memmove(session->entries, session->entries + session->first, kept * sizeof(entry));
        } else {
            size_t room = session->room != 0 ? session->room * 2 : 32;
            entry *grown = malloc(room * sizeof *grown);
            if (grown == NULL) return NULL;
            if (kept != 0) memcpy(grown, session->entries + session->first, kept * sizeof(entry));
            free(session->entries);
            session->entries = grown;
            session->room = room;
        }
        session->first = 0;
        session->n = kept;
    }
    size_t at = entry_place(session, sequence);
    memmove(session->entries + at + 1, session->entries + at, (session->n - at) * sizeof(entry));
    session->n++;
    session->entries[at] = (entry){.sequence = sequence};
    return &session->entries[at];
}

/* Drops what ack_upto covers. A request that is still running keeps its entry until it is settled. */
static void settle(sl_receipts *self, sl_session *session) {
    while (session->first < session->n) {
        entry *first = &session->entries[session->first];
        if (first->sequence > session->ack_upto || first->state == ENTRY_RUNNING) break;
        if (first->state == ENTRY_RECEIPT) {
            mark_dirty(self, session); /* invariant 2 */
            (void)id_push(&self->settled, first->receipt_id);
        }
        session->first++;
    }
    if (session->first == session->n) session->first = session->n = 0;
}

/* ---- begin and end of sessions ---- */

static void forget_oldest_ended(sl_receipts *self) {
    sl_session *session = self->ended.oldest;
    if (session->dirty || session->written_now) return; /* its end is not on disk yet; the next time */
    if (session->in_file) (void)id_push(&self->forgotten, session->id);
    list_remove(&self->ended, session);
    sl_session **at = bucket_of(self, session->name);
    while (*at != session) at = &(*at)->chain;
    *at = session->chain;
    free(session);
}

static void end_session(sl_receipts *self, sl_session *session) {
    for (size_t i = session->first; i < session->n; i++)
        if (session->entries[i].state == ENTRY_RUNNING) {
            session->leaving = true; /* ends when its answer is settled */
            return;
        }
    for (size_t i = session->first; i < session->n; i++)
        if (session->entries[i].state == ENTRY_RECEIPT) (void)id_push(&self->settled, session->entries[i].receipt_id);
    free(session->entries);
    session->entries = NULL;
    session->first = session->n = session->room = 0;
    session->ended = true;
    list_remove(&self->live, session);
    list_push(&self->ended, session);
    mark_dirty(self, session);
    while (self->ended.n > N_ENDED_MAX) {
        size_t before = self->ended.n;
        forget_oldest_ended(self);
        if (self->ended.n == before) break;
    }
}

sluice_err sl_receipts_goodbye(sl_receipts *self, const uint8_t client[16], const uint8_t user[16]) {
    sl_session *session = find_session(self, client);
    if (session != NULL && memcmp(session->name + 16, user, 16) != 0) return SLUICE_FORBIDDEN; /* rule 7 */
    if (session != NULL && !session->ended) end_session(self, session);
    return SLUICE_OK;
}

void sl_receipts_expire(sl_receipts *self, int64_t now_ns) {
    int64_t ttl = (int64_t)self->store->options.session_ttl_ms * 1000000;
    sl_session *session = self->live.oldest;
    while (session != NULL && now_ns - session->last_ns > ttl) {
        sl_session *next = session->newer;
        end_session(self, session);
        session = next;
    }
}

size_t sl_receipts_sessions(const sl_receipts *self) { return self->live.n; }

/* ---- judging ---- */

static sluice_err find_or_make(sl_receipts *self, const sl_identity *identity, const uint8_t user[16], int64_t now_ns,
                               sl_session **out, sluice_cause *cause) {
    sl_session *session = find_session(self, identity->client);
    if (session != NULL && memcmp(session->name + 16, user, 16) != 0) { /* rule 7 */
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "the session is another user's; a client chooses its id at random");
    } else if (session == NULL) {
        if (identity->ack_upto > 0) /* rule 2 */
            return sluice_cause_set(cause, SLUICE_SESSION_EXPIRED, "this store does not know the client's session any "
                                    "more; begin a new one");
        if (self->live.n >= N_LIVE_MAX)
            return sluice_cause_set(cause, SLUICE_QUOTA, "%u sessions are open; clients must say goodbye", N_LIVE_MAX);
        session = add_session(self, identity->client, self->next_session_id);
        if (session == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        memcpy(session->name + 16, user, 16);
        self->next_session_id++;
        list_push(&self->live, session);
    } else if (session->ended) { /* rule 1 */
        return sluice_cause_set(cause, SLUICE_SESSION_EXPIRED, "the session has ended; begin a new one");
    } else if (session != self->live.newest) {
        list_remove(&self->live, session);
        list_push(&self->live, session);
    }
    session->last_ns = now_ns;
    *out = session;
    return SLUICE_OK;
}

sl_verdict sl_receipts_check(sl_receipts *self, const sl_identity *identity, const uint8_t user[16], uint32_t slot,
                             int64_t now_ns, sl_receipt_check *out, sluice_cause *cause) {
    memset(out, 0, sizeof *out);
    sl_session *session = NULL;
    if (find_or_make(self, identity, user, now_ns, &session, cause) != SLUICE_OK) return SL_VERDICT_REFUSED;
    if (identity->ack_upto > session->ack_upto) {
        session->ack_upto = identity->ack_upto;
        settle(self, session);
    }
    out->session = session;
    if (identity->sequence <= session->ack_upto) { /* rule 3 */
        (void)sluice_cause_set(cause, SLUICE_STALE, "sequence %llu was settled by the client (up to %llu)",
                               (unsigned long long)identity->sequence, (unsigned long long)session->ack_upto);
        return SL_VERDICT_REFUSED;
    }
    entry *found = entry_find(session, identity->sequence);
    if (found != NULL && found->state == ENTRY_RECEIPT) {
        out->receipt_id = found->receipt_id;
        return SL_VERDICT_REPLAY;
    }
    if (found != NULL && found->state == ENTRY_RUNNING) {
        out->slot = found->operand;
        return SL_VERDICT_SAME;
    }
    if (found != NULL && found->operand >= identity->attempt) { /* rule 6 */
        (void)sluice_cause_set(cause, SLUICE_STALE, "attempt %u of sequence %llu was answered with a definite no",
                               identity->attempt, (unsigned long long)identity->sequence);
        return SL_VERDICT_REFUSED;
    }
    if (found == NULL) {
        if (session->n - session->first >= self->store->options.max_receipts) { /* rule 8 */
            (void)sluice_cause_set(cause, SLUICE_QUOTA, "%zu answers are not settled; raise ack_upto",
                                   session->n - session->first);
            return SL_VERDICT_REFUSED;
        }
        found = entry_add(session, identity->sequence);
        if (found == NULL) {
            (void)sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
            return SL_VERDICT_REFUSED;
        }
    }
    found->state = ENTRY_RUNNING;
    found->operand = slot;
    return SL_VERDICT_RUN;
}

void sl_receipts_keep(sl_receipts *self, sl_session *session, uint64_t sequence, int64_t receipt_id) {
    entry *found = entry_find(session, sequence);
    if (found == NULL) return;
    found->state = ENTRY_RECEIPT;
    found->receipt_id = receipt_id;
    settle(self, session);
    if (session->leaving) end_session(self, session);
}

void sl_receipts_refuse(sl_receipts *self, sl_session *session, uint64_t sequence, uint32_t attempt) {
    entry *found = entry_find(session, sequence);
    if (found == NULL) return;
    found->state = ENTRY_REFUSED;
    found->operand = attempt;
    settle(self, session);
    if (session->leaving) end_session(self, session);
}

/* ---- rows ---- */

sluice_err sl_receipts_insert(sl_receipts *self, sl_session *session, uint64_t sequence, uint64_t commit_number,
                              const uint8_t digest[16], const void *result, size_t size, int64_t *receipt_id,
                              sluice_cause *cause) {
    sqlite3_stmt *stmt = self->insert_receipt;
    int64_t id = self->next_receipt_id++;
    sqlite3_bind_int64(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, session->id);
    sqlite3_bind_int64(stmt, 3, (int64_t)sequence);
    sqlite3_bind_int64(stmt, 4, (int64_t)commit_number);
    sqlite3_bind_blob(stmt, 5, digest, 16, SQLITE_STATIC);
    int rc = size != 0 ? sqlite3_bind_blob64(stmt, 6, result, size, SQLITE_STATIC) : sqlite3_bind_zeroblob(stmt, 6, 0);
    if (rc != SQLITE_OK) {
        sqlite3_clear_bindings(stmt);
        return sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "the answer is too big to be kept as a receipt");
    }
    *receipt_id = id;
    return run_once(self, stmt, cause);
}

sluice_err sl_receipts_read(sl_receipts *self, int64_t receipt_id, const uint8_t digest[16], sluice_msg *reply,
                            sluice_cause *cause) {
    sqlite3_stmt *stmt = self->read_receipt;
    sqlite3_bind_int64(stmt, 1, receipt_id);
    int rc = sl_conn_own_step(self->conn, stmt);
    sluice_err err = SLUICE_OK;
    if (rc != SQLITE_ROW) {
        err = rc == SQLITE_DONE ? sluice_cause_set(cause, SLUICE_UNKNOWN, "the receipt is gone")
                                : sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "reading a receipt");
    } else if (sqlite3_column_bytes(stmt, 1) != 16 || memcmp(sqlite3_column_blob(stmt, 1), digest, 16) != 0) {
        err = sluice_cause_set(cause, SLUICE_ID_REUSED, "the request id was used before with another body");
    } else {
        ProtobufCAllocator allocator = sl_arena_allocator(&reply->arena);
        Sluice__V1__WriteReply *body = sluice__v1__write_reply__unpack(
            &allocator, (size_t)sqlite3_column_bytes(stmt, 2), sqlite3_column_blob(stmt, 2));
        if (body == NULL) {
            err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        } else {
            body->commit_number = (uint64_t)sqlite3_column_int64(stmt, 0);
            body->replayed = 1;
            reply->type = &sluice__v1__write_reply__descriptor;
            reply->body = &body->base;
        }
    }
    sqlite3_reset(stmt);
    return err;
}

/* Bytes of the session's name in its row: without the user if that is ourselves. */
static int name_size(const sl_session *session) {
    static const uint8_t ourselves[16];
    return memcmp(session->name + 16, ourselves, 16) == 0 ? 16 : 32;
}

sluice_err sl_receipts_persist(sl_receipts *self, sl_session *session, sluice_cause *cause) {
    if (session->in_file) return SLUICE_OK;
    sqlite3_stmt *stmt = self->insert_session;
    sqlite3_bind_int64(stmt, 1, session->id);
    sqlite3_bind_blob(stmt, 2, session->name, name_size(session), SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, (int64_t)session->ack_upto);
    sqlite3_bind_int64(stmt, 4, session->ended ? 1 : 0);
    sluice_err err = run_once(self, stmt, cause);
    if (err != SLUICE_OK) return err;
    session->in_file = session->written_now = true;
    session->next_new = self->new_rows;
    self->new_rows = session;
    return SLUICE_OK;
}

bool sl_receipts_due(const sl_receipts *self, bool any) {
    size_t waiting = self->settled.n + self->forgotten.n;
    return any ? waiting != 0 || self->dirty != NULL : waiting >= SETTLED_DUE;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static sluice_err delete_ids(sl_receipts *self, id_list *list, sqlite3_stmt *stmt, sluice_cause *cause) {
    qsort(list->ids, list->n, sizeof *list->ids, by_value);
    size_t end = list->n < HOUSEKEEPING_ROWS ? list->n : HOUSEKEEPING_ROWS;
    for (size_t i = 0, next; i < end; i = next) {
        for (next = i + 1; stmt == self->delete_receipts && next < end && list->ids[next] == list->ids[next - 1] + 1;)
            next++;
        sqlite3_bind_int64(stmt, 1, list->ids[i]);
        if (stmt == self->delete_receipts) sqlite3_bind_int64(stmt, 2, list->ids[next - 1]);
        sluice_err err = run_once(self, stmt, cause);
        if (err != SLUICE_OK) return err;
    }
    list->done = end;
    return SLUICE_OK;
}

sluice_err sl_receipts_housekeep(sl_receipts *self, sluice_cause *cause) {
    sluice_err err = SLUICE_OK;
    for (sl_session *session = self->dirty; session != NULL && err == SLUICE_OK; session = session->next_dirty) {
        if (!session->in_file && !session->ended) continue; /* its first answer writes the row, with this ack_upto */
        if (!session->in_file) {
            err = sl_receipts_persist(self, session, cause);
            continue;
        }
        sqlite3_bind_int64(self->update_session, 1, session->id);
        sqlite3_bind_int64(self->update_session, 2, (int64_t)session->ack_upto);
        sqlite3_bind_int64(self->update_session, 3, session->ended ? 1 : 0);
        err = run_once(self, self->update_session, cause);
    }
    if (err != SLUICE_OK) return err;
    self->wrote_dirty = true;
    if (self->settled.n != 0) err = delete_ids(self, &self->settled, self->delete_receipts, cause);
    if (err == SLUICE_OK && self->forgotten.n != 0)
        err = delete_ids(self, &self->forgotten, self->delete_session, cause);
    return err;
}

static void drop_done(id_list *list) {
    if (list->done != 0) memmove(list->ids, list->ids + list->done, (list->n - list->done) * sizeof *list->ids);
    list->n -= list->done;
    list->done = 0;
}

void sl_receipts_committed(sl_receipts *self) {
    while (self->new_rows != NULL) {
        self->new_rows->written_now = false;
        self->new_rows = self->new_rows->next_new;
    }
    if (self->wrote_dirty) {
        while (self->dirty != NULL) {
            self->dirty->dirty = false;
            self->dirty = self->dirty->next_dirty;
        }
        self->wrote_dirty = false;
    }
    drop_done(&self->settled);
    drop_done(&self->forgotten);
}

void sl_receipts_rolled_back(sl_receipts *self) {
    while (self->new_rows != NULL) {
        self->new_rows->written_now = self->new_rows->in_file = false;
        self->new_rows = self->new_rows->next_new;
    }
    self->wrote_dirty = false;
    self->settled.done = self->forgotten.done = 0;
}

/* ---- open and close ---- */

sluice_err sl_receipts_new(sluice_store *store, sl_conn *conn, sl_receipts **out, sluice_cause *cause) {
    *out = NULL;
    sl_receipts *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    self->store = store;
    self->conn = conn;
    self->n_buckets = 16384;
    self->next_session_id = self->next_receipt_id = 1;
    self->buckets = calloc(self->n_buckets, sizeof *self->buckets);
    if (self->buckets == NULL) {
        sl_receipts_destroy(&self);
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    /* Client ids are the clients' choice; without a seed they could be chosen to share one bucket. */
    if (getrandom(&self->seed, sizeof self->seed, GRND_NONBLOCK) != (ssize_t)sizeof self->seed)
        self->seed = (uint64_t)(uintptr_t)self ^ 0x9e3779b97f4a7c15u;
    *out = self;
    return SLUICE_OK;
}

void sl_receipts_destroy(sl_receipts **receipts) {
    sl_receipts *self = *receipts;
    if (self == NULL) return;
    *receipts = NULL;
    for (size_t i = 0; self->buckets != NULL && i < self->n_buckets; i++) {
        while (self->buckets[i] != NULL) {
            sl_session *session = self->buckets[i];
            self->buckets[i] = session->chain;
            free(session->entries);
            free(session);
        }
    }
    free(self->buckets);
    free(self->settled.ids);
    free(self->forgotten.ids);
    free(self);
}

static sluice_err load_session(sl_receipts *self, sqlite3_stmt *stmt, int64_t now_ns, sluice_cause *cause) {
    int size = sqlite3_column_bytes(stmt, 1);
    const uint8_t *name = sqlite3_column_blob(stmt, 1);
    if (size != 16 && size != 32) return SLUICE_OK; /* not one of ours: leave it alone */
    sl_session *session = add_session(self, name, sqlite3_column_int64(stmt, 0));
    if (session == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    if (size == 32) memcpy(session->name + 16, name + 16, 16);
    session->in_file = true;
    session->ack_upto = (uint64_t)sqlite3_column_int64(stmt, 2);
    session->ended = sqlite3_column_int(stmt, 3) != 0;
    session->last_ns = now_ns; /* the lease starts afresh */
    list_push(session->ended ? &self->ended : &self->live, session);
    if (session->id >= self->next_session_id) self->next_session_id = session->id + 1;
    return SLUICE_OK;
}

static int session_by_id(const void *key, const void *element) {
    int64_t id = *(const int64_t *)key;
    const sl_session *session = *(sl_session *const *)element;
    return (id > session->id) - (id < session->id);
}

static sluice_err load_receipts(sl_receipts *self, sqlite3_stmt *stmt, sluice_cause *cause) {
    size_t n = self->live.n, at = 0;
    sl_session **by_id = malloc((n != 0 ? n : 1) * sizeof(sl_session *)); /* loaded in the order of ids */
    if (by_id == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (sl_session *session = self->live.oldest; session != NULL; session = session->newer) by_id[at++] = session;
    sluice_err err = SLUICE_OK;
    int rc;
    while (err == SLUICE_OK && (rc = sl_conn_own_step(self->conn, stmt)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(stmt, 0), owner = sqlite3_column_int64(stmt, 1);
        uint64_t sequence = (uint64_t)sqlite3_column_int64(stmt, 2);
        if (id >= self->next_receipt_id) self->next_receipt_id = id + 1;
        sl_session **found = bsearch(&owner, by_id, n, sizeof *by_id, session_by_id);
        if (found == NULL || sequence <= (*found)->ack_upto) {
            (void)id_push(&self->settled, id); /* its session ended or it was settled, and its turn had not come */
            continue;
        }
        entry *kept = entry_add(*found, sequence);
        if (kept == NULL) {
            err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
        } else {
            kept->state = ENTRY_RECEIPT;
            kept->receipt_id = id;
        }
    }
    if (err == SLUICE_OK && rc != SQLITE_DONE)
        err = sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "reading receipts");
    free(by_id);
    return err;
}

sluice_err sl_receipts_load(sl_receipts *self, int64_t now_ns, sluice_cause *cause) {
    sqlite3_stmt *sessions = NULL, *receipts = NULL;
    sluice_err err = prepare_all(self, cause);
    if (err == SLUICE_OK)
        err = sl_conn_own_prepare(self->conn, "SELECT id, client, ack_upto, ended FROM sluice_session ORDER BY id",
                                  &sessions, cause);
    if (err == SLUICE_OK)
        err = sl_conn_own_prepare(self->conn, "SELECT id, session, sequence FROM sluice_receipt", &receipts, cause);
    if (err != SLUICE_OK) return err;
    int rc;
    while (err == SLUICE_OK && (rc = sl_conn_own_step(self->conn, sessions)) == SQLITE_ROW)
        err = load_session(self, sessions, now_ns, cause);
    if (err == SLUICE_OK && rc != SQLITE_DONE)
        err = sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "reading sessions");
    sqlite3_reset(sessions);
    if (err == SLUICE_OK) err = load_receipts(self, receipts, cause);
    sqlite3_reset(receipts);
    return err;
}
