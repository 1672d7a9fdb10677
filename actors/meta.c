/* SPDX-License-Identifier: MIT */
/* Commit numbers over restarts; see meta.h. */
#include "meta.h"

#define BLOCK ((uint64_t)1 << 20)

static sluice_err write_reserved(sl_meta *self, uint64_t reserved, sluice_cause *cause) {
    sqlite3_bind_int64(self->write, 1, (int64_t)reserved);
    int rc = sl_conn_own_once(self->conn, self->write);
    if (rc != SQLITE_OK) return sl_sqlite_cause(cause, sl_conn_db(self->conn), rc, "reserving commit numbers");
    self->reserving = reserved;
    return SLUICE_OK;
}

sluice_err sl_meta_load(sl_meta *self, sl_conn *conn, uint64_t *number, sluice_cause *cause) {
    self->conn = conn;
    sluice_err err = sl_conn_own_exec(
        conn, "CREATE TABLE IF NOT EXISTS sluice_meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        cause);
    sqlite3_stmt *read = NULL;
    if (err == SLUICE_OK)
        err = sl_conn_own_prepare(conn, "SELECT value FROM sluice_meta WHERE key='commit_number'", &read, cause);
    if (err == SLUICE_OK && self->write == NULL)
        err = sl_conn_own_prepare(conn, "INSERT OR REPLACE INTO sluice_meta VALUES('commit_number', ?1)", &self->write,
                                  cause);
    if (err != SLUICE_OK) return err;
    int rc = sl_conn_own_step(conn, read);
    uint64_t last = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(read, 0) : 0;
    sqlite3_reset(read);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sl_sqlite_cause(cause, sl_conn_db(conn), rc, "reading the commit number");
    *number = last;
    return write_reserved(self, last + BLOCK, cause);
}

sluice_err sl_meta_reserve(sl_meta *self, uint64_t number, sluice_cause *cause) {
    if (number <= self->reserved || number <= self->reserving) return SLUICE_OK;
    return write_reserved(self, number + BLOCK, cause);
}

void sl_meta_committed(sl_meta *self) {
    if (self->reserving != 0) self->reserved = self->reserving;
    self->reserving = 0;
}

void sl_meta_rolled_back(sl_meta *self) { self->reserving = 0; }

sluice_err sl_meta_give_back(sl_meta *self, uint64_t number, sluice_cause *cause) {
    return write_reserved(self, number, cause);
}
