/* SPDX-License-Identifier: MIT */
/* `sluice bench`: options and the result. */
#include "bench.h"
#include "cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const work_names[] = {"write", "read", "mixed", "update", "pingpong", "ring", "count"};
static const char *const transport_names[] = {"direct", "inproc", "ipc", "tcp"};

int64_t sl_bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- options ---- */

enum {
    KEY_TRANSPORT = 0x100,
    KEY_SYNCHRONOUS,
    KEY_JSON,
    KEY_PROCESSES,
    KEY_THREADS,
    KEY_RECEIPTS,
    KEY_DB,
    KEY_CURVE,
    KEY_LOCAL_LEASE,
    KEY_RELAY,
    KEY_ROWS,
    KEY_SHAPE,
    KEY_SPIN
};

static const struct argp_option options[] = {
    {"transport", KEY_TRANSPORT, "direct|inproc|ipc|tcp", 0,
     "direct: stock SQLite, every client on its own "
     "connection; default inproc",
     0},
    {"clients", 'n', "N", 0, "Clients, 1 to 4096; default 8. pingpong: pairs, ring: actors, count: senders", 0},
    {"pipeline", 'p', "P", 0,
     "Requests a client keeps outstanding; default 1. direct has one. pingpong, ring: "
     "messages under way; count: messages per credit",
     0},
    {"seconds", 's', "S", 0, "How long; default 5", 0},
    {"synchronous", KEY_SYNCHRONOUS, "full|normal", 0, "Default full", 0},
    {"processes", KEY_PROCESSES, NULL, 0, "Clients are processes; the default for ipc and tcp", 0},
    {"threads", KEY_THREADS, NULL, 0, "Clients are threads; the default for direct and inproc", 0},
    {"receipts", KEY_RECEIPTS, "on|off", 0, "Writes leave a receipt; default off", 0},
    {"rows", KEY_ROWS, "N", 0,
     "Rows a write or update changes, in one atomic request (direct: in one "
     "transaction); default 1",
     0},
    {"shape", KEY_SHAPE, "columns|statements", 0,
     "How a request carries several rows: as parameter rows of one statement, or as "
     "statements; default columns",
     0},
    {"spin", KEY_SPIN, "US", 0,
     "Threads of the runtime look for work so long before they block, where it pays; "
     "default 200, 0: never",
     0},
    {"db", KEY_DB, "FILE", 0, "Use this file and keep it; default: a fresh one, removed afterwards", 0},
    {"json", KEY_JSON, NULL, 0, "Print one JSON line", 0},
    {"curve", KEY_CURVE, "on|off", 0, "Keys and encryption, with tcp only; default off", 0},
    {"local-lease", KEY_LOCAL_LEASE, NULL, 0, "inproc: clients read on their own threads, on connections that the store lends", 0},
    {"relay", KEY_RELAY, NULL, 0, "One connection for all clients of a process (not in this build)", 0},
    {0},
};

typedef struct bench_line {
    sl_bench_plan plan;
    bool has_work, has_clients, has_pipeline, has_processes, has_receipts;
} bench_line;

/* The index of text among names; a usage error if it is none of them. */
static unsigned choice(struct argp_state *state, const char *option, const char *text, const char *const names[],
                       unsigned n_names) {
    for (unsigned i = 0; i < n_names; i++)
        if (strcmp(text, names[i]) == 0) return i;
    argp_error(state, "%s %s: no such choice; see --help", option, text);
    return 0;
}

static unsigned number(struct argp_state *state, const char *option, const char *text, unsigned max) {
    uint64_t value = 0;
    if (!sl_tool_number(text, 1, max, &value)) argp_error(state, "%s %s: not a number from 1 to %u", option, text, max);
    return (unsigned)value;
}

static void set_processes(bench_line *line, bool processes, struct argp_state *state) {
    if (line->has_processes && line->plan.processes != processes)
        argp_error(state, "--processes and --threads exclude each other");
    line->plan.processes = processes;
    line->has_processes = true;
}

static void finish(bench_line *line, struct argp_state *state) {
    static const struct {
        unsigned clients, pipeline;
    } defaults[] = {
        [SL_WORK_WRITE] = {8, 1},    [SL_WORK_READ] = {8, 1},   [SL_WORK_MIXED] = {8, 1},
        [SL_WORK_UPDATE] = {8, 1},   [SL_WORK_PINGPONG] = {1, 1}, [SL_WORK_RING] = {100, 1},
        [SL_WORK_COUNT] = {1, 256},
    };
    sl_bench_plan *plan = &line->plan;
    bool remote = plan->transport == SL_TRANSPORT_IPC || plan->transport == SL_TRANSPORT_TCP;
    if (!line->has_work) argp_error(state, "say what to measure: write, read, mixed, update, pingpong, ring or count");
    if (!line->has_clients) plan->n_clients = defaults[plan->work].clients;
    if (!line->has_pipeline) plan->pipeline = defaults[plan->work].pipeline;
    if (!line->has_processes) plan->processes = remote;
    if (plan->work >= SL_WORK_PINGPONG && (plan->transport != SL_TRANSPORT_INPROC || plan->processes))
        argp_error(state, "%s runs on one dispatcher: --transport inproc, no --processes", work_names[plan->work]);
    if (plan->rows > 1 && plan->work != SL_WORK_WRITE && plan->work != SL_WORK_UPDATE)
        argp_error(state, "--rows is for write and update");
    if (plan->transport == SL_TRANSPORT_INPROC && plan->processes)
        argp_error(state, "--processes: inproc is within one process; use ipc or tcp");
    if (plan->local_lease && (plan->transport != SL_TRANSPORT_INPROC || plan->pipeline > 1))
        argp_error(state, "--local-lease: for clients in the store's process, one request at a time (--transport inproc)");
    if (plan->curve && plan->transport != SL_TRANSPORT_TCP) argp_error(state, "--curve on: is for --transport tcp");
    /* A stock connection runs one statement at a time; the result says so. */
    if (plan->transport == SL_TRANSPORT_DIRECT) plan->pipeline = 1;
    if (plan->transport == SL_TRANSPORT_DIRECT && plan->receipts)
        argp_error(state, "--receipts on: stock SQLite has none");
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    bench_line *line = state->input;
    sl_bench_plan *plan = &line->plan;
    static const char *const on_off[] = {"off", "on"};
    static const char *const levels[] = {"normal", "full"};
    static const char *const shapes[] = {"columns", "statements"};
    switch (key) {
    case KEY_TRANSPORT:
        plan->transport = (sl_bench_transport)choice(state, "--transport", arg, transport_names, 4);
        break;
    case 'n':
        plan->n_clients = number(state, "--clients", arg, 4096);
        line->has_clients = true;
        break;
    case 'p':
        plan->pipeline = number(state, "--pipeline", arg, 65536);
        line->has_pipeline = true;
        break;
    case 's': plan->seconds = number(state, "--seconds", arg, 86400); break;
    case KEY_SYNCHRONOUS: plan->full = choice(state, "--synchronous", arg, levels, 2) == 1; break;
    case KEY_JSON: plan->json = true; break;
    case KEY_PROCESSES:
    case KEY_THREADS: set_processes(line, key == KEY_PROCESSES, state); break;
    case KEY_RECEIPTS: plan->receipts = choice(state, "--receipts", arg, on_off, 2) == 1; break;
    case KEY_ROWS: plan->rows = number(state, "--rows", arg, 1000000); break;
    case KEY_SHAPE: plan->statements = choice(state, "--shape", arg, shapes, 2) == 1; break;
    case KEY_SPIN: {
        uint64_t spin_us = 0;
        if (!sl_tool_number(arg, 0, 10000, &spin_us)) argp_error(state, "--spin %s: not a number from 0 to 10000", arg);
        plan->spin_us = (int)spin_us;
        break;
    }
    case KEY_DB: plan->db = arg; break;
    case KEY_CURVE: plan->curve = choice(state, "--curve", arg, on_off, 2) == 1; break;
    case KEY_LOCAL_LEASE: plan->local_lease = true; break;
    case KEY_RELAY: argp_error(state, "--relay: unsupported: this build has no relays yet"); break;
    case ARGP_KEY_ARG:
        if (line->has_work) argp_error(state, "%s: one kind of work at a time", arg);
        plan->work = (sl_bench_work)choice(state, "bench", arg, work_names, 7);
        line->has_work = true;
        break;
    case ARGP_KEY_END: finish(line, state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- result ---- */

static double quantile_us(const sl_bench_total *total, double quantile) {
    /* Three digits are all that the clock is good for. */
    return (double)sl_latency_quantile(&total->counts.latency, quantile) / 1000.0;
}

static bool add_rows(json_t *document, const sl_bench_plan *plan, const sl_bench_total *total) {
    double rows_per_s = (double)total->counts.ops * plan->rows / total->elapsed_s;
    return json_object_set_new(document, "rows", json_integer((json_int_t)plan->rows)) == 0 &&
           json_object_set_new(document, "rows_per_s", json_real(rows_per_s)) == 0;
}

static bool add_direct(json_t *document, const sl_bench_counts *counts) {
    json_int_t commit_p99_us = (json_int_t)(sl_latency_quantile(&counts->commit, 0.99) / 1000);
    return json_object_set_new(document, "commit_p99_us", json_integer(commit_p99_us)) == 0 &&
           json_object_set_new(document, "wal_file_bytes", json_integer((json_int_t)counts->wal_bytes)) == 0;
}

static json_t *result_document(const sl_bench_plan *plan, const sl_bench_total *total) {
    json_t *document =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:b, s:b, s:b}", "work", work_names[plan->work], "transport",
                  transport_names[plan->transport], "clients", (int)plan->n_clients, "pipeline", (int)plan->pipeline,
                  "seconds", (int)plan->seconds, "synchronous", plan->full ? "full" : "normal", "processes",
                  (int)plan->processes, "receipts", (int)plan->receipts, "curve", (int)plan->curve);
    json_t *figures = json_pack(
        "{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ops",
        (json_int_t)total->counts.ops, "elapsed_s", total->elapsed_s, "ops_per_s",
        (double)total->counts.ops / total->elapsed_s, "p50_us", quantile_us(total, 0.5), "p99_us",
        quantile_us(total, 0.99), "p999_us", quantile_us(total, 0.999), "max_us", quantile_us(total, 1.0), "errors",
        (json_int_t)total->counts.errors, "busy", (json_int_t)total->counts.busy, "unknown",
        (json_int_t)total->counts.unknown, "lost", (json_int_t)total->lost, "doubled", (json_int_t)total->doubled,
        "phantoms", (json_int_t)total->phantoms, "acknowledged", (json_int_t)total->acknowledged, "client_ops_min",
        (json_int_t)total->client_ops_min, "client_ops_max", (json_int_t)total->client_ops_max);
    bool ok = document && figures && json_object_update(document, figures) == 0;
    json_decref(figures);
    ok = ok && add_rows(document, plan, total);
    if (ok && plan->transport == SL_TRANSPORT_DIRECT) ok = add_direct(document, &total->counts);
    if (ok && total->has_store) {
        json_t *store = json_object();
#define ADD_COUNTER(name, meaning)                                                                                     \
    ok = json_object_set_new(store, #name, json_integer((json_int_t)total->store.name)) == 0 && ok;
        SLUICE_STORE_STATS_MAP(ADD_COUNTER)
#undef ADD_COUNTER
        double group = total->store.groups ? (double)total->store.writes / (double)total->store.groups : 0.0;
        ok = json_object_set_new(document, "group_mean", json_real(group)) == 0 && ok;
        json_t *commit_p99 = json_integer((json_int_t)total->store.commit_p99_us);
        ok = json_object_set_new(document, "commit_p99_us", commit_p99) == 0 && ok;
        json_t *wal_bytes = json_integer((json_int_t)total->store.wal_file_bytes);
        ok = json_object_set_new(document, "wal_file_bytes", wal_bytes) == 0 && ok;
        ok = json_object_set_new(document, "store", store) == 0 && ok;
    }
    if (ok) return document;
    json_decref(document);
    return NULL;
}

static void print_text(const sl_bench_plan *plan, const sl_bench_total *total) {
    printf("%s by %s, %u clients x %u, synchronous %s, %.1f s\n", work_names[plan->work],
           transport_names[plan->transport], plan->n_clients, plan->pipeline, plan->full ? "full" : "normal",
           total->elapsed_s);
    printf("  %" PRIu64 " ops, %.0f ops/s; slowest client %" PRIu64 ", fastest %" PRIu64 "\n", total->counts.ops,
           (double)total->counts.ops / total->elapsed_s, total->client_ops_min, total->client_ops_max);
    printf("  p50 %.2f us, p99 %.2f us, p99.9 %.2f us, max %.2f us\n", quantile_us(total, 0.5),
           quantile_us(total, 0.99), quantile_us(total, 0.999), quantile_us(total, 1.0));
    printf("  errors %" PRIu64 ", busy %" PRIu64 ", unknown %" PRIu64 ", lost %" PRIu64 ", doubled %" PRIu64
           ", phantoms %" PRIu64 "\n",
           total->counts.errors, total->counts.busy, total->counts.unknown, total->lost, total->doubled,
           total->phantoms);
    if (total->has_store && total->store.groups)
        printf("  groups %" PRIu64 ", mean %.1f, largest %" PRIu64 "; COMMIT p99 %" PRIu64 " us; WAL file %" PRIu64
               " bytes\n",
               total->store.groups, (double)total->store.writes / (double)total->store.groups, total->store.group_max,
               total->store.commit_p99_us, total->store.wal_file_bytes);
}

int sl_command_bench(sl_cli *cli, int argc, char **argv) {
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "write|read|mixed|update|pingpong|ring|count",
        .doc = "Measures, and checks afterwards that every acknowledged write is in the file exactly once.\v"
               "write inserts a row of an id and 100 bytes of text per op, read selects one such row by its id, "
               "update gives a random one of 100000 such rows another text. For pingpong, ring and count an op is one "
               "message delivered, and the times are means over 1024 of them. "
               "Exit code 1: something was lost or doubled, or the run failed.",
    };
    if (cli->url) {
        sl_tool_error("bench", "--connect is not for bench", "it starts its own server; choose --transport");
        return SL_EXIT_USAGE;
    }
    bench_line line = {
        .plan = {.transport = SL_TRANSPORT_INPROC, .seconds = 5, .rows = 1, .spin_us = -1, .full = true,
                 .json = cli->json}};
    argp_parse(&argp, argc, argv, 0, NULL, &line);

    sl_bench_plan *plan = &line.plan;
    static sl_bench_total total; /* large, and one */
    sluice_cause cause = {0};
    sluice_err err = plan->work >= SL_WORK_PINGPONG ? sl_bench_actors_run(plan, &total, &cause)
                                                    : sl_bench_host_run(plan, &total, &cause);
    if (err) {
        sl_tool_error("bench", cause.text, NULL);
        return SL_EXIT_ERROR;
    }
    if (total.counts.errors) sl_tool_error("bench", total.counts.first_error.text, "the first error of the run");
    if (!plan->json) {
        print_text(plan, &total);
    } else {
        json_t *document = result_document(plan, &total);
        if (!document || json_dumpf(document, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0) {
            sl_tool_error("bench", "out of memory, or stdout could not be written", NULL);
            return SL_EXIT_ERROR;
        }
        putchar('\n');
        json_decref(document);
    }
    return total.lost || total.doubled || total.phantoms ? SL_EXIT_ERROR : SL_EXIT_OK;
}
