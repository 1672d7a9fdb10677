/* SPDX-License-Identifier: MIT */
/* The authorizer: says, while SQLite compiles a client's statement, what it needs and whether it may exist at all.
 *
 * Default-deny: what is not listed as allowed is refused, with a text that names what to use instead. What is allowed
 * adds to `found.needs`, so that the statement cache can compare needs with the rights of whoever asks.
 *
 * Owning thread: the connection's. SQLite calls it inside sqlite3_prepare, and again inside sqlite3_step when a schema
 * change makes it compile anew or a virtual table (FTS, R-tree) runs SQL of its own.
 *
 * Invariants
 *  1. The product's own SQL (conn->own > 0) always passes; it is never built from a client's text.
 *  2. No client statement touches a table whose name begins with "sluice_", opens or ends a transaction, or changes a
 *     setting of the connection.
 *  3. Direct writes to sqlite_schema do not reach here: DEFENSIVE refuses them. DDL asks for INSERT, UPDATE and DELETE
 *     on sqlite_master, and those pass.
 */
#include "conn_internal.h"

#include <stdio.h>
#include <string.h>

static bool equal(const char *a, const char *b) { return a != NULL && sqlite3_stricmp(a, b) == 0; }

static bool begins(const char *text, const char *prefix) {
    return text != NULL && sqlite3_strnicmp(text, prefix, (int)strlen(prefix)) == 0;
}

static int deny(sl_conn *conn, const char *text) {
    if (conn->denied[0] == '\0') snprintf(conn->denied, sizeof conn->denied, "%s", text);
    return SQLITE_DENY;
}

static int allow(sl_conn *conn, unsigned needs) {
    conn->found.needs |= needs;
    if ((needs & ~conn->rights) != 0)
        return deny(conn, needs & SL_RIGHT_DDL ? "changing the schema needs the admin right"
                          : needs & SL_RIGHT_WRITE ? "writing needs the write right" : "reading needs the read right");
    return SQLITE_OK;
}

static bool is_schema_table(const char *table) {
    return equal(table, "sqlite_master") || equal(table, "sqlite_schema") || equal(table, "sqlite_temp_master") ||
           equal(table, "sqlite_temp_schema");
}

#define HIDDEN_TEXT "tables named sluice_... belong to the store; ask for its counters instead (status)"

static int on_read(sl_conn *conn, const char *table) {
    if (begins(table, "sluice_")) return deny(conn, HIDDEN_TEXT);
    if (equal(table, "pragma_quick_check") && conn->found.altering) return SQLITE_OK;
    if (begins(table, "pragma_"))
        return deny(conn, "PRAGMA is the store's; read sqlite_schema for tables and columns, or the store's options");
    if (equal(table, "sqlite_stmt") || equal(table, "sqlite_dbpage") || equal(table, "bytecode") ||
        equal(table, "tables_used"))
        return deny(conn, "this table shows the inside of the connection, which clients share; use EXPLAIN instead");
    return allow(conn, SL_RIGHT_READ);
}

static int on_function(sl_conn *conn, const char *name) {
    if (equal(name, "load_extension"))
        return deny(conn, "load_extension is off; the service that embeds the store registers functions");
    if (equal(name, "fts3_tokenizer"))
        return deny(conn, "fts3_tokenizer is off; name a built-in tokenizer in the table");
    if (equal(name, "last_insert_rowid")) conn->found.uses_last_rowid = true;
    return SQLITE_OK;
}

static int on_change(sl_conn *conn, int action, const char *table, const char *trigger) {
    if (begins(table, "sluice_")) return deny(conn, HIDDEN_TEXT);
    if (is_schema_table(table)) return SQLITE_OK; /* invariant 3 */
    if (trigger == NULL && conn->compiling && (conn->found.needs & SL_RIGHT_DDL) == 0) {
        conn->found.counts_changes = true;
        if (action == SQLITE_INSERT) conn->found.inserts = true;
    }
    return allow(conn, SL_RIGHT_WRITE);
}

static int on_ddl(sl_conn *conn, const char *object, const char *table, const char *database) {
    if (begins(object, "sluice_") || begins(table, "sluice_")) return deny(conn, HIDDEN_TEXT);
    if (equal(database, "temp"))
        return deny(conn, "TEMP objects would be seen by other clients of the connection; use WITH, or a table");
    return allow(conn, SL_RIGHT_DDL);
}

static int on_virtual_table(sl_conn *conn, const char *table, const char *module, const char *database) {
    static const char *const modules[] = {"fts3", "fts4", "fts5", "fts5vocab", "fts4aux", "rtree", "rtree_i32",
                                          "geopoly"};
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
        if (equal(module, modules[i])) return on_ddl(conn, table, NULL, database);
    return deny(conn, "virtual tables may use fts3, fts4, fts5, fts5vocab, rtree and geopoly");
}

static int on_pragma(sl_conn *conn, const char *pragma, const char *argument) {
    /* FTS and R-tree ask these of their own connection while a client's statement is compiled or runs. That a client's
     * text is no PRAGMA itself has been checked before. */
    if (argument == NULL && (equal(pragma, "data_version") || equal(pragma, "page_size"))) return SQLITE_OK;
    if (!conn->compiling && equal(pragma, "quick_check")) return SQLITE_OK; /* on_read let it by in ALTER only */
    return deny(conn, SL_TEXT_NO_PRAGMA);
}

static int authorize(void *context, int action, const char *a, const char *b, const char *database,
                     const char *trigger) {
    sl_conn *conn = context;
    if (conn->own > 0) return SQLITE_OK; /* invariant 1 */
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE: return allow(conn, SL_RIGHT_READ);
    case SQLITE_READ: return on_read(conn, a);
    case SQLITE_FUNCTION: return on_function(conn, b);
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE: return on_change(conn, action, a, trigger);
    case SQLITE_ALTER_TABLE:
        conn->found.altering = true;
        return on_ddl(conn, b, NULL, a);
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_INDEX:
    case SQLITE_CREATE_VIEW:
    case SQLITE_CREATE_TRIGGER:
    case SQLITE_DROP_TABLE:
    case SQLITE_DROP_INDEX:
    case SQLITE_DROP_VIEW:
    case SQLITE_DROP_TRIGGER:
    case SQLITE_DROP_VTABLE: return on_ddl(conn, a, b, database);
    case SQLITE_ANALYZE:
    case SQLITE_REINDEX: return allow(conn, SL_RIGHT_DDL); /* of all tables, so of ours too; it changes no row */
    case SQLITE_CREATE_VTABLE: return on_virtual_table(conn, a, b, database);
    case SQLITE_PRAGMA: return on_pragma(conn, a, b);
    case SQLITE_TRANSACTION:
        return deny(conn, "BEGIN, COMMIT and ROLLBACK are the writer's; send the statements as one atomic batch");
    case SQLITE_SAVEPOINT:
        return deny(conn, "SAVEPOINT and RELEASE are the writer's; send the statements as one atomic batch");
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
        return deny(conn, "ATTACH, DETACH and VACUUM are not for clients; open another store for another file");
    case SQLITE_CREATE_TEMP_TABLE:
    case SQLITE_CREATE_TEMP_INDEX:
    case SQLITE_CREATE_TEMP_VIEW:
    case SQLITE_CREATE_TEMP_TRIGGER:
    case SQLITE_DROP_TEMP_TABLE:
    case SQLITE_DROP_TEMP_INDEX:
    case SQLITE_DROP_TEMP_VIEW:
    case SQLITE_DROP_TEMP_TRIGGER: return on_ddl(conn, a, b, "temp");
    default: return deny(conn, "this kind of statement is not for clients");
    }
}

void sl_authorizer_install(sl_conn *conn) { sqlite3_set_authorizer(conn->db, authorize, conn); }
