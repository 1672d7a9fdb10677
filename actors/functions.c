/* SPDX-License-Identifier: MIT */
/* SQL functions whose own behaviour would break a promise: printf and format give NULL, without an error, when their
 * result is longer than the limit; here they fail with SQLITE_TOOBIG instead. Nothing is to be cut off in silence.
 *
 * Owning thread: the connection's. The text is made by SQLite's own printf on a private, empty connection, because a
 * function that is overridden cannot be called any more on the connection it was overridden on.
 */
#include "conn_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define ARGUMENTS_MAX 127 /* SQLite's own limit */
#define ARGUMENTS_KEPT 8  /* statements kept for up to so many arguments */

typedef struct formatter {
    sqlite3 *db;
    sqlite3_stmt *kept[ARGUMENTS_KEPT + 1];
} formatter;

static void formatter_destroy(void *context) {
    formatter *self = context;
    for (int i = 0; i <= ARGUMENTS_KEPT; i++) sqlite3_finalize(self->kept[i]);
    sqlite3_close_v2(self->db);
    free(self);
}

/* Two columns: the text, and the text behind a dot. An empty text is NULL too, but behind a dot only what is too long
 * is NULL. */
static int compile(formatter *self, int n, sqlite3_stmt **out) {
    char sql[64 + 2 * 5 * ARGUMENTS_MAX];
    size_t at = 0;
    if (n > ARGUMENTS_MAX) return SQLITE_TOOBIG;
    for (int pass = 0; pass < 2; pass++) {
        const char *start = pass == 0 ? "SELECT printf(?1" : "), printf('.' || ?1";
        at += (size_t)snprintf(sql + at, sizeof sql - at, "%s", start);
        for (int i = 2; i <= n; i++) at += (size_t)snprintf(sql + at, sizeof sql - at, ",?%d", i);
    }
    snprintf(sql + at, sizeof sql - at, ")");
    return sqlite3_prepare_v2(self->db, sql, -1, out, NULL);
}

static void on_printf(sqlite3_context *context, int n, sqlite3_value **arguments) {
    formatter *self = sqlite3_user_data(context);
    if (n == 0 || sqlite3_value_type(arguments[0]) == SQLITE_NULL) return; /* NULL, as the original */
    sqlite3_stmt *stmt = n <= ARGUMENTS_KEPT ? self->kept[n] : NULL;
    int rc = stmt != NULL ? SQLITE_OK : compile(self, n, &stmt);
    if (rc == SQLITE_OK && n <= ARGUMENTS_KEPT) self->kept[n] = stmt;
    for (int i = 0; i < n && rc == SQLITE_OK; i++) rc = sqlite3_bind_value(stmt, i + 1, arguments[i]);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW)
        sqlite3_result_error_code(context, rc == SQLITE_DONE ? SQLITE_ERROR : rc);
    else if (sqlite3_column_type(stmt, 1) == SQLITE_NULL)
        sqlite3_result_error_toobig(context);
    else
        sqlite3_result_value(context, sqlite3_column_value(stmt, 0));
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    if (n > ARGUMENTS_KEPT) sqlite3_finalize(stmt);
}

static sluice_err override(sl_conn *conn, const char *name, int length_limit, sluice_cause *cause) {
    formatter *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    int rc = sqlite3_open_v2(":memory:", &self->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY | SQLITE_OPEN_NOMUTEX,
                             NULL);
    if (rc != SQLITE_OK) {
        formatter_destroy(self);
        return sl_sqlite_cause(cause, NULL, rc, "a private connection");
    }
    sqlite3_limit(self->db, SQLITE_LIMIT_LENGTH, length_limit);
    /* From here on SQLite owns it; when this call fails too. */
    rc = sqlite3_create_function_v2(conn->db, name, -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, self,
                                    on_printf, NULL, NULL, formatter_destroy);
    return rc == SQLITE_OK ? SLUICE_OK : sl_sqlite_cause(cause, conn->db, rc, "registering a function");
}

sluice_err sl_functions_install(sl_conn *conn, int length_limit, sluice_cause *cause) {
    sluice_err err = override(conn, "printf", length_limit, cause);
    return err == SLUICE_OK ? override(conn, "format", length_limit, cause) : err;
}
