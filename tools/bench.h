/* SPDX-License-Identifier: MIT */
/* `sluice bench`: the plan, what each client reports, and the parts that carry it out.
 *
 *   bench.c         options, the JSON line
 *   bench_host.c    the file, the server process, clients as threads or processes, their reports by pipe
 *   bench_client.c  one client's loop
 *   bench_check.c   after the run: is every acknowledged row in the file exactly once?
 *   bench_actors.c  pingpong, ring, count: no file, one dispatcher
 */
#ifndef SL_BENCH_H
#define SL_BENCH_H

#include <limits.h>
#include <stdatomic.h>
#include <sluice/sluice.h>
#include "latency.h"

typedef enum sl_bench_work {
    SL_WORK_WRITE,
    SL_WORK_READ,
    SL_WORK_MIXED,  /* one write in five */
    SL_WORK_UPDATE, /* random rows of a table that is filled before */
    SL_WORK_PINGPONG,
    SL_WORK_RING,
    SL_WORK_COUNT
} sl_bench_work;

typedef enum sl_bench_transport {
    SL_TRANSPORT_DIRECT,
    SL_TRANSPORT_INPROC,
    SL_TRANSPORT_IPC,
    SL_TRANSPORT_TCP
} sl_bench_transport;

typedef struct sl_bench_plan {
    sl_bench_work work;
    sl_bench_transport transport;
    unsigned n_clients, pipeline, seconds;
    unsigned rows;   /* written by one op, atomically */
    int spin_us;     /* of the runtime that serves; -1: its default */
    bool statements; /* the rows of an op are statements of their own, else parameter rows of one */
    bool full;      /* synchronous full, else normal */
    bool processes; /* clients are processes, else threads */
    bool receipts;
    bool local_lease;
    bool curve; /* tcp only */
    bool json;
    const char *db; /* the file; NULL: a fresh one */
    /* Filled in by the host before clients start. */
    char path[PATH_MAX];     /* of the database */
    char url[PATH_MAX + 16]; /* where clients connect */
    char server_key[PATH_MAX], key_file[PATH_MAX]; /* with curve */
    int64_t first_rowid;     /* rows above this one are the run's */
    int64_t first_updates;   /* updates counted in the file before the run */
    sluice_runtime *runtime; /* for inproc */
} sl_bench_plan;

/* How a write ended, kept for each one so that it can be compared with the file. */
enum { SL_OUTCOME_NOT_SENT = 0, SL_OUTCOME_ACKNOWLEDGED, SL_OUTCOME_UNKNOWN, SL_OUTCOME_NO };

/* The id of the n-th row of a client; both from 0. */
#define SL_BENCH_SEQUENCE_BITS 40
static inline int64_t sl_bench_id(unsigned client, uint64_t n) {
    return (int64_t)(((uint64_t)client << SL_BENCH_SEQUENCE_BITS) | n);
}

/* What a client has to tell. Its fixed part travels by pipe as it stands (same program, same machine). */
typedef struct sl_bench_counts {
    uint64_t ops;                          /* ended well within the time */
    uint64_t wal_bytes;                    /* direct: size of the log at the end; it never shrinks during a run */
    uint64_t errors;                       /* ended otherwise, at any time; busy and unknown are among them */
    uint64_t busy;                         /* SQLITE_BUSY reached the client */
    uint64_t unknown;                      /* writes whose answer was lost */
    uint64_t reads_missing, reads_doubled; /* answers without the row, or with more than one */
    uint64_t n_outcomes;
    bool failed; /* could not even start, or died; first_error says why */
    sluice_cause first_error;
    sl_latency latency;
    sl_latency commit; /* direct: of COMMIT alone; of the whole statement if that is the transaction */
} sl_bench_counts;

typedef struct sl_bench_report {
    sl_bench_counts counts;
    uint8_t *outcomes; /* of writes, by sequence; owned */
    uint64_t capacity;
} sl_bench_report;

/* All clients together, and the verdict. */
typedef struct sl_bench_total {
    sl_bench_counts counts;
    double elapsed_s;
    uint64_t client_ops_min, client_ops_max;
    uint64_t acknowledged; /* writes */
    uint64_t lost, doubled;
    uint64_t phantoms; /* rows in the file whose client was told a definite no */
    bool has_store;
    sluice_store_stats store;
} sl_bench_total;

int64_t sl_bench_now_ns(void);

/* Set by INT and TERM: clients end early and in order, the run fails, and its files are removed. */
extern atomic_bool sl_bench_interrupted;

/* Lets a client say that it is ready, and returns when all may begin. */
typedef struct sl_bench_gate {
    void (*ready)(void *context);
    void *context;
} sl_bench_gate;

/* Runs one client to its end; the report says how it went. Threads: the client's own. */
void sl_bench_client_run(const sl_bench_plan *plan, unsigned index, const sl_bench_gate *gate, sl_bench_report *report);
void sl_bench_report_fini(sl_bench_report *report);

/* Compares the file with the reports of all clients and fills in total's verdict. Nothing may have the file open. */
SLUICE_NODISCARD sluice_err sl_bench_check(const sl_bench_plan *plan, const sl_bench_report *reports,
                                           sl_bench_total *total, sluice_cause *cause);

/* Carries out write, read and mixed. Fills in plan's path and url. */
SLUICE_NODISCARD sluice_err sl_bench_host_run(sl_bench_plan *plan, sl_bench_total *total, sluice_cause *cause);
/* Carries out pingpong, ring and count. */
SLUICE_NODISCARD sluice_err sl_bench_actors_run(const sl_bench_plan *plan, sl_bench_total *total, sluice_cause *cause);

#endif
