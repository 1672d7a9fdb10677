/* SPDX-License-Identifier: MIT */
/* Clients that use a store in four ways at once, note down what they asked and heard, and are judged afterwards.
 *
 *   registers   read, write, compare and swap of single rows; each row's history must be linearizable
 *   bank        transfers with guards; the total never changes, no balance is negative, in every read
 *   set         each acknowledged add is there exactly once, from its acknowledgement on; no refused one ever
 *   ids         a counter's numbers are handed out once, and in real time's order
 *
 * Notes lie in memory shared between processes, so that they outlive a client that is killed: a call without a return
 * is UNKNOWN. Threads: each client's notes belong to the thread that runs it; judge after all have ended.
 */
#ifndef SUPPORT_WORKLOAD_H
#define SUPPORT_WORKLOAD_H

#include <stdatomic.h>

#include "support/support.h"

#define WORK_CLIENTS 8u

typedef enum work_kind {
    WORK_READ,
    WORK_WRITE,
    WORK_SWAP,
    WORK_TRANSFER,
    WORK_TOTAL, /* reads the bank's total and its smallest balance */
    WORK_ADD,
    WORK_SEE, /* looks for an add that was acknowledged */
    WORK_ID,
    WORK_KINDS
} work_kind;

typedef struct work_note {
    _Atomic uint32_t state; /* 0: free, 1: called, 2: ended */
    work_kind kind;
    uint32_t key; /* register; account from which; number of an add */
    sluice_err err;
    int64_t value, expected; /* register; TRANSFER: amount, target; TOTAL: sum, smallest; SEE: count; ID: the id */
    int64_t call_ns, return_ns;
} work_note;

typedef struct work_client {
    atomic_uint n; /* notes begun */
    work_note *notes;
} work_client;

typedef struct workload {
    atomic_bool stop;
    atomic_uint register_ops; /* moves the clients on to fresh registers, so that histories stay short */
    atomic_uint_fast64_t ended;
    unsigned room; /* notes per client */
    size_t size;
    work_client clients[WORK_CLIENTS];
} workload;

typedef struct work_verdict {
    uint64_t calls, ok, no, unknown, replayed_ids;
    unsigned registers, violations;
} work_verdict;

/* Shared memory for the notes. Fails the test if there is none. */
workload *workload_new(void);
void workload_destroy(workload **self);
/* Makes the tables in a fresh file, with stock SQLite. */
void workload_create_tables(const char *path);

/* Runs client `index` until stop is set or its notes are full. receipts: unknown ends may be asked about again. */
void workload_run(workload *self, unsigned index, sluice_client *client, uint64_t seed, bool receipts);
/* Waits until n more calls have ended; at most timeout_ms. */
bool workload_await(workload *self, uint64_t n, unsigned timeout_ms);

/* Compares everything with each other and with the file, which nobody has open; shows what is wrong if asked to. */
work_verdict workload_judge(workload *self, const char *path, bool show);
void workload_print(const work_verdict *verdict, const char *title);

#endif
