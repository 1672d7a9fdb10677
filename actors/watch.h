/* SPDX-License-Identifier: MIT */
/* A watch: what others may know of a reading connection, and how they keep it out, or end what it runs.
 *
 * Whoever runs reads on a connection (a reader actor, or a client's thread that borrows one) enters before it opens a
 * snapshot and leaves when the snapshot has ended. The gate word makes both one atomic exchange in the good case:
 *
 *                enter                        leave
 *     FREE ------------------> IN CALL -------------------> FREE
 *      | gate closed, stopped     | the same, or expired     ^ (under the lock: who closed the gate is told,
 *      v                          v                          |  and a stop that was meant for this call is taken back)
 *     RECALLED               IN CALL + RECALLED -------------+--> RECALLED, if the gate is still closed
 *
 * Invariants
 *  1. Who finds the gate not IN CALL after having set RECALLED knows that no snapshot is open, and that none will be.
 *  2. A stop is aimed only at a call that was RECALLED first, so it cannot hit a later one.
 *
 * Threads: enter, note, leave: the one that uses the connection. The rest: any.
 */
#ifndef SL_WATCH_H
#define SL_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include "conn.h"

#define SL_WATCH_TEXT 128u /* bytes of a statement that are shown */

typedef struct sl_watch {
    _Alignas(128) _Atomic uint32_t gate;
    _Atomic uint32_t version; /* of the fields below; odd while they change */
    _Atomic int64_t snapshot_ns; /* 0: no call */
    _Atomic uint64_t commit_number, asker, correlation;
    _Atomic uint32_t text_size; /* of the whole statement */
    _Atomic uint64_t text[SL_WATCH_TEXT / 8];

    _Alignas(128) pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t left;
    unsigned number;      /* constant, as is the next */
    bool leased;
    sl_conn *conn;        /* NULL before it is opened and after it is closed */
    uint64_t gate_round;  /* the gate is closed; 0: it is open */
    sluice_pid closer;    /* is to be told when the call ends; 0: nobody */
    bool waits;           /* somebody is to be told when the gate opens */
    bool stopped;         /* nobody enters any more */
} sl_watch;

/* What a connection runs now, as somebody else sees it. */
typedef struct sl_reader_watch {
    int64_t snapshot_ns;    /* when its snapshot was opened, CLOCK_MONOTONIC; 0: none is open */
    uint64_t commit_number; /* the snapshot holds at least this group */
    sluice_pid asker;       /* of the request it runs; 0: none yet */
    uint64_t correlation;   /* that the asker gave the request */
    size_t statement_size;  /* of the whole text */
    char statement[SL_WATCH_TEXT + 1]; /* its beginning, cut at a character's end */
} sl_reader_watch;

void sl_watch_init(sl_watch *watch, unsigned number, bool leased);
void sl_watch_fini(sl_watch *watch);
/* Lets it be entered, with conn as what a stop is aimed at; NULL: ends that. */
void sl_watch_attach(sl_watch *watch, sl_conn *conn);

/* ---- whoever uses the connection ---- */

/* False: the gate is closed, or it was stopped. */
bool sl_watch_enter(sl_watch *watch, int64_t now_ns, uint64_t commit_number);
/* After enter said no: the round of the closed gate, 0 if it has been opened meanwhile. waits: GateOpen is wanted. */
uint64_t sl_watch_closed_round(sl_watch *watch, bool waits);
/* Shows the statement that runs next. */
void sl_watch_note(sl_watch *watch, sluice_pid asker, uint64_t correlation, const void *sql, size_t size);
/* Does somebody wait for the call to end? */
bool sl_watch_wanted(const sl_watch *watch);
/* The call has ended. Gives whom to tell GateClosed of *round, or 0. */
sluice_pid sl_watch_leave(sl_watch *watch, uint64_t *round);
/* Opens the gate from the inside. */
void sl_watch_ignore_gate(sl_watch *watch);

/* ---- the others ---- */

void sl_watch_look(const sl_watch *watch, sl_reader_watch *out);
/* The same, for the host. */
void sl_watch_show(const sl_watch *watch, sluice_reading *out);
/* True: quiet, and it stays so. False: a call is on; when it ends `closer` is to be told. */
bool sl_watch_gate_close(sl_watch *watch, uint64_t round, sluice_pid closer);
/* True: somebody waits for it. */
bool sl_watch_gate_open(sl_watch *watch);
bool sl_watch_quiet(const sl_watch *watch);
/* Ends the call, with `why`, if its snapshot was opened before before_ns. */
bool sl_watch_expire(sl_watch *watch, int64_t before_ns, sluice_err why);
/* Lets nobody enter any more, ends the call that is on with CLOSED, and waits until it has left. */
void sl_watch_stop(sl_watch *watch);

#endif
