/* SPDX-License-Identifier: MIT */
/* The inside of sl_conn, shared by conn.c (open, close, own SQL), statement.c (clients' SQL) and authorizer.c.
 * Threads: as sl_conn. */
#ifndef SL_CONN_INTERNAL_H
#define SL_CONN_INTERNAL_H

#include "conn.h"

/* What the authorizer saw while one client statement was compiled. */
typedef struct sl_found {
    unsigned needs;          /* SL_RIGHT_ mask */
    bool counts_changes;     /* a top-level INSERT, UPDATE or DELETE: sqlite3_changes is this statement's */
    bool inserts;            /* a top-level INSERT */
    bool uses_last_rowid;    /* calls last_insert_rowid(), maybe in a trigger */
    bool altering;           /* ALTER TABLE, which may check the table by pragma_quick_check */
} sl_found;

typedef struct sl_cached {
    sl_statement statement; /* first: what callers see */
    sl_found found;
    uint64_t hash;
    size_t size;
    char *sql;
    struct sl_cached *chain;         /* same bucket */
    struct sl_cached *newer, *older; /* by last use */
} sl_cached;

struct sl_conn {
    sqlite3 *db;
    sl_conn_role role;
    bool utf8; /* the database's encoding, which never changes */
    uint32_t max_sql_bytes;
    _Atomic uint64_t *hits, *misses;

    /* authorizer */
    unsigned own;       /* > 0: the product's own SQL runs, everything passes */
    bool compiling;     /* a client statement is being compiled; else it runs */
    unsigned rights;    /* of the client whose statement runs */
    sl_found found;
    char denied[SLUICE_CAUSE_TEXT_SIZE]; /* why the authorizer said no; "" if it did not */

    /* progress handler */
    int64_t deadline_ns;
    bool deadline_hit;
    int64_t max_pages;    /* one run may write; 0: no bound */
    int64_t pages_before; /* written by the connection when the run began */
    bool too_large;       /* it wrote more */
    _Atomic int stop; /* sluice_err, 0: run on */
    int64_t alarm_ns; /* 0: none */
    sl_conn_alarm_fn alarm;
    void *alarm_context;

    /* statement cache */
    sl_cached **buckets;
    size_t n_buckets; /* power of two */
    uint32_t n_cached, cache_size;
    sl_cached *newest, *oldest;
    sl_cached *transient; /* too long for the cache: lives until the next prepare */

    sqlite3_stmt **own_statements;
    size_t n_own_statements;

    sl_table_cursor_column *cursor_columns; /* scratch for parameter rows */
    size_t n_cursor_columns;
};

#define SL_TEXT_NO_PRAGMA "PRAGMA is the store's; set it through the store's options"

/* authorizer.c */
void sl_authorizer_install(sl_conn *conn);

/* functions.c */
SLUICE_NODISCARD sluice_err sl_functions_install(sl_conn *conn, int length_limit, sluice_cause *cause);

/* statement.c */
SLUICE_NODISCARD sluice_err sl_cache_init(sl_conn *conn, uint32_t entries);
void sl_cache_fini(sl_conn *conn);
int sl_progress(void *context);

#endif
