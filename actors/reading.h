/* SPDX-License-Identifier: MIT */
/* Reading: one query_only connection that runs QueryRequests, whoever's thread it is on: a reader actor's, or that of a
 * client that borrows it. Threads: one at a time; hand-over through the watch. */
#ifndef SL_READING_H
#define SL_READING_H

#include "msg.h"
#include "store_internal.h"
#include "watch.h"
#include "sluice/v1/query.pb-c.h"

typedef struct sl_reading {
    sluice_store *store;
    sl_watch *watch;
    sl_conn *conn;
    sqlite3_stmt *begin, *end;
    int64_t started_ns;
    sl_conn_alarm_fn on_long; /* NULL: nobody wants to hear of it, or has */
    void *context;
} sl_reading;

/* Opens the connection. Keeps: store, watch, and where the statement cache counts. The watch is attached by the caller.
 * Errors: as sl_conn_open. */
SLUICE_NODISCARD sluice_err sl_reading_open(sl_reading *reading, sluice_store *store, sl_watch *watch,
                                            _Atomic uint64_t *hits, _Atomic uint64_t *misses, sluice_cause *cause);
/* May run twice. */
void sl_reading_close(sl_reading *reading);

/* A snapshot begins: from within its statements on_long is called at long_ns (0: never), and once it is older than the
 * store's snapshot_warn_ms that is counted and the host told. Keeps: context. */
void sl_reading_time(sl_reading *reading, int64_t started_ns, int64_t long_ns, sl_conn_alarm_fn on_long, void *context);
/* Lets the statements that follow share one snapshot, which opens with the first that reads. Returns SQLite's code. */
int sl_reading_begin(sl_reading *reading);
/* Ends what begin began, if it did; after this no statement is busy and no snapshot open, checked in every build: a
 * statement left busy would hold an old snapshot, so that later reads are stale and no checkpoint completes. It can
 * only be a mistake of ours, and ends the process. */
void sl_reading_end(sl_reading *reading);
/* As end, for a call that ran one statement without begin and ended well: looks at the snapshot only. */
void sl_reading_check(sl_reading *reading);

/* Runs all statements and fills the reply's body, an empty QueryReply. Errors: the statement's own (cause->statement
 * says which); LOCKED: no snapshot could be opened just now. */
SLUICE_NODISCARD sluice_err sl_reading_run(sl_reading *reading, const sluice_msg *request, sluice_msg *reply,
                                           sluice_cause *cause);

#endif
