/* SPDX-License-Identifier: MIT */
/* Carries out a bench run of write, read or mixed.
 *
 * Order: the file is made; for ipc and tcp the server is forked off, so that it has a process of its own as sluiced
 * has; then come the clients, forked (before this process makes any thread) or as threads; when the last is ready all
 * begin; their reports are gathered, by pipe from processes; the server is told to stop and its counters are taken; the
 * file is closed by everyone, and only then checked. Processes made here die with this one.
 */
#include "direct.h"
#include "sqlite_settings.h"
#include "bench.h"
#include "cli.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIRECTORY_TEMPLATE "sluice-bench-XXXXXX"
#define MAX_LEASES         64
#define STORE_NAME         "app"

/* What serves the clients: a store in this process, or a child with store and gateway. */
typedef struct server {
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway;
    pid_t pid;      /* of the child; 0: none */
    int to_child;   /* closed: stop */
    int from_child; /* a server_ready, then a sluice_store_stats */
} server;

typedef struct server_ready {
    sluice_err err;
    sluice_cause cause;
    char url[256];
} server_ready;

typedef struct host {
    sl_bench_plan *plan;
    char directory[sizeof DIRECTORY_TEMPLATE];
    bool has_directory;
    sl_bench_report *reports;
    server server;
} host;

static sluice_err system_error(sluice_cause *cause, const char *what) {
    int why = errno;
    sluice_err err = sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", what, strerror(why));
    if (cause) cause->sys_errno = why;
    return err;
}

/* ---- the file ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    (void)remove(path);
    return 0;
}

static void remove_directory(host *self) {
    if (!self->has_directory) return;
    (void)nftw(self->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    self->has_directory = false;
}

static sluice_err make_file(host *self, sluice_cause *cause) {
    strcpy(self->directory, DIRECTORY_TEMPLATE);
    if (!mkdtemp(self->directory)) return system_error(cause, "working directory");
    self->has_directory = true;
    int n = self->plan->db ? snprintf(self->plan->path, sizeof self->plan->path, "%s", self->plan->db)
                           : snprintf(self->plan->path, sizeof self->plan->path, "%s/bench.db", self->directory);
    if (n >= (int)sizeof self->plan->path) return sluice_cause_set(cause, SLUICE_INVALID, "--db: the path is too long");
    sluice_err err = sl_direct_prepare(self->plan->path, &self->plan->first_rowid, cause);
    if (err || self->plan->work != SL_WORK_UPDATE) return err;
    return sl_direct_prepare_updates(self->plan->path, &self->plan->first_updates, cause);
}

/* ---- the server ---- */

static sluice_err open_store(server *self, const sl_bench_plan *plan, sluice_cause *cause) {
    sluice_runtime_options runtime;
    sluice_runtime_options_init(&runtime);
    if (plan->spin_us >= 0) runtime.spin_us = (unsigned)plan->spin_us;
    sluice_err err = sluice_runtime_new(&runtime, &self->runtime, cause);
    if (err) return err;
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = plan->path;
    options.name = STORE_NAME;
    if (plan->local_lease && plan->n_clients > options.n_leases)
        options.n_leases = plan->n_clients < MAX_LEASES ? plan->n_clients : MAX_LEASES;
    options.synchronous = plan->full ? SLUICE_SYNC_FULL : SLUICE_SYNC_NORMAL;
    return sluice_store_open(self->runtime, &options, &self->store, cause);
}

static sluice_err open_gateway(server *self, const sl_bench_plan *plan, const char *directory, sluice_cause *cause) {
    sluice_gateway_options options;
    sluice_gateway_options_init(&options);
    options.store = self->store;
    char keys[64];
    snprintf(keys, sizeof keys, "%s/keys", directory);
    options.keys_directory = plan->curve ? keys : NULL;
    options.allow_plain = !plan->curve;
    sluice_err err = sluice_gateway_open(self->runtime, &options, &self->gateway, cause);
    if (err) return err;
    /* Relative, so that a deep working directory cannot make it too long for a socket. */
    char url[64];
    if (plan->transport == SL_TRANSPORT_IPC)
        snprintf(url, sizeof url, "ipc://%s/socket/s", directory);
    else
        snprintf(url, sizeof url, "tcp://127.0.0.1:*");
    return sluice_gateway_listen(self->gateway, url, cause);
}

static void close_server(server *self) {
    sluice_gateway_close(&self->gateway);
    sluice_store_close(&self->store);
    sluice_runtime_destroy(&self->runtime);
}

static void on_interrupt(int signal_number) {
    (void)signal_number;
    atomic_store(&sl_bench_interrupted, true);
}

/* Processes made later inherit it. */
static void catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* The child's life: serve until the parent closes its end, then hand over the counters. */
static _Noreturn void serve(const sl_bench_plan *plan, const char *directory, int from_parent, int to_parent) {
    server self = {0};
    server_ready ready;
    signal(SIGINT, SIG_IGN); /* the parent says when */
    signal(SIGTERM, SIG_IGN);
    memset(&ready, 0, sizeof ready);
    ready.err = open_store(&self, plan, &ready.cause);
    if (!ready.err) ready.err = open_gateway(&self, plan, directory, &ready.cause);
    if (!ready.err) snprintf(ready.url, sizeof ready.url, "%s", sluice_gateway_endpoint(self.gateway, 0));
    bool told = sl_tool_write(to_parent, &ready, sizeof ready);
    sluice_store_stats stats = {0};
    if (told && !ready.err) {
        char byte;
        (void)sl_tool_read(from_parent, &byte, 1); /* false: the end that is waited for */
        sluice_store_stats_read(self.store, &stats);
    }
    close_server(&self);
    bool handed = sl_tool_write(to_parent, &stats, sizeof stats);
    _exit(handed && !ready.err ? 0 : 1);
}

/* Forks with two pipes. Returns the child's pid in the parent, 0 in the child, -1 on failure. In both, *in is what the
 * other side writes and *out what it reads. */
static pid_t fork_with_pipes(int *in, int *out) {
    int down[2], up[2];
    if (pipe(down) != 0) return -1;
    if (pipe(up) != 0) {
        close(down[0]);
        close(down[1]);
        return -1;
    }
    fflush(stdout);
    pid_t parent = getpid();
    pid_t pid = fork();
    *in = pid == 0 ? down[0] : up[0];
    *out = pid == 0 ? up[1] : down[1];
    close(pid == 0 ? down[1] : down[0]);
    close(pid == 0 ? up[0] : up[1]);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        if (getppid() != parent) _exit(1);
    }
    if (pid < 0) {
        close(*in);
        close(*out);
    }
    return pid;
}

/* A directory of keys for the server and one client, whose key all clients use. */
static sluice_err make_keys(host *self, sluice_cause *cause) {
    sl_bench_plan *plan = self->plan;
    char path[64], public_key[SL_KEY_TEXT_SIZE];
    static const char *const directories[] = {"keys", "keys/clients"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", self->directory, directories[i]);
        if (mkdir(path, 0700) != 0) return system_error(cause, path);
    }
    snprintf(path, sizeof path, "%s/keys/server", self->directory);
    if (sl_keygen(path, NULL, public_key) != SL_EXIT_OK) goto fail;
    snprintf(plan->server_key, sizeof plan->server_key, "%s.key", path);
    snprintf(path, sizeof path, "%s/keys/clients/bench", self->directory);
    if (sl_keygen(path, NULL, public_key) != SL_EXIT_OK) goto fail;
    snprintf(plan->key_file, sizeof plan->key_file, "%s.key_secret", path);
    return SLUICE_OK;
fail:
    return sluice_cause_set(cause, SLUICE_SYSTEM, "no keys could be made");
}

static sluice_err start_server(host *self, sluice_cause *cause) {
    sl_bench_plan *plan = self->plan;
    server *srv = &self->server;
    if (plan->transport == SL_TRANSPORT_DIRECT) return SLUICE_OK;
    if (plan->transport == SL_TRANSPORT_INPROC) {
        snprintf(plan->url, sizeof plan->url, "inproc://" STORE_NAME);
        sluice_err err = open_store(srv, plan, cause);
        plan->runtime = srv->runtime;
        return err;
    }
    if (plan->curve) {
        sluice_err err = make_keys(self, cause);
        if (err) return err;
    }
    srv->pid = fork_with_pipes(&srv->from_child, &srv->to_child);
    if (srv->pid == 0) serve(plan, self->directory, srv->from_child, srv->to_child);
    if (srv->pid < 0) {
        srv->pid = 0;
        return system_error(cause, "server process");
    }
    server_ready ready;
    if (!sl_tool_read(srv->from_child, &ready, sizeof ready))
        return sluice_cause_set(cause, SLUICE_SYSTEM, "the server process ended before it served");
    if (ready.err) {
        if (cause) *cause = ready.cause;
        return ready.err;
    }
    snprintf(plan->url, sizeof plan->url, "%s", ready.url);
    return SLUICE_OK;
}

/* May run twice. */
static sluice_err stop_server(host *self, sl_bench_total *total, sluice_cause *cause) {
    server *srv = &self->server;
    if (srv->store) {
        sluice_store_stats_read(srv->store, &total->store);
        total->has_store = true;
    }
    close_server(srv);
    if (!srv->pid) return SLUICE_OK;
    close(srv->to_child);
    bool told = sl_tool_read(srv->from_child, &total->store, sizeof total->store);
    close(srv->from_child);
    int status = 0;
    (void)waitpid(srv->pid, &status, 0);
    srv->pid = 0;
    total->has_store = told;
    if (told && status == 0) return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_SYSTEM, "the server process ended with status %d, signal %d",
                            WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* ---- clients as threads ---- */

typedef struct thread_client {
    host *host;
    unsigned index;
    pthread_t thread;
    pthread_barrier_t *barrier;
} thread_client;

static void thread_ready(void *context) {
    thread_client *self = context;
    pthread_barrier_wait(self->barrier);
}

static void *thread_main(void *context) {
    thread_client *self = context;
    sl_bench_gate gate = {thread_ready, self};
    sl_bench_client_run(self->host->plan, self->index, &gate, &self->host->reports[self->index]);
    return NULL;
}

static sluice_err run_threads(host *self, sluice_cause *cause) {
    unsigned n = self->plan->n_clients;
    thread_client *clients = calloc(n, sizeof *clients);
    if (!clients) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, n);
    for (unsigned i = 0; i < n; i++) {
        clients[i] = (thread_client){.host = self, .index = i, .barrier = &barrier};
        int rc = pthread_create(&clients[i].thread, NULL, thread_main, &clients[i]);
        if (rc) {
            /* The others wait at a barrier that cannot open any more. */
            sl_tool_error("bench", strerror(rc), "fewer --clients");
            remove_directory(self);
            _exit(SL_EXIT_ERROR);
        }
    }
    for (unsigned i = 0; i < n; i++) pthread_join(clients[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
    free(clients);
    return SLUICE_OK;
}

/* ---- clients as processes ---- */

typedef struct process_client {
    pid_t pid;
    int to_child;   /* one byte: begin */
    int from_child; /* one byte: ready; then the counts and the outcomes */
} process_client;

static void process_ready(void *context) {
    const process_client *self = context; /* here in the child: its two ends */
    char byte = 'r';
    if (!sl_tool_write(self->to_child, &byte, 1) || !sl_tool_read(self->from_child, &byte, 1)) _exit(1);
}

static _Noreturn void client_main(const sl_bench_plan *plan, unsigned index, process_client *pipes) {
    sl_bench_report *report = calloc(1, sizeof *report);
    if (!report) _exit(1);
    sl_bench_gate gate = {process_ready, pipes};
    sl_bench_client_run(plan, index, &gate, report);
    bool told = sl_tool_write(pipes->to_child, &report->counts, sizeof report->counts) &&
                sl_tool_write(pipes->to_child, report->outcomes, report->counts.n_outcomes);
    sl_bench_report_fini(report);
    free(report);
    _exit(told ? 0 : 1);
}

static bool read_report(int fd, sl_bench_report *report) {
    if (!sl_tool_read(fd, &report->counts, sizeof report->counts)) return false;
    uint64_t n = report->counts.n_outcomes;
    report->outcomes = malloc(n + 1);
    report->capacity = n + 1;
    return report->outcomes && sl_tool_read(fd, report->outcomes, n);
}

static sluice_err run_processes(host *self, sluice_cause *cause) {
    unsigned n = self->plan->n_clients, n_started = 0, n_ready = 0;
    process_client *clients = calloc(n, sizeof *clients);
    if (!clients) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    sluice_err err = SLUICE_OK;
    for (; n_started < n; n_started++) {
        process_client *client = &clients[n_started];
        client->pid = fork_with_pipes(&client->from_child, &client->to_child);
        if (client->pid == 0) client_main(self->plan, n_started, client);
        if (client->pid < 0) {
            err = system_error(cause, "client process");
            break;
        }
    }
    char byte = 'g';
    while (!err && n_ready < n && sl_tool_read(clients[n_ready].from_child, &byte, 1)) n_ready++;
    if (!err && n_ready < n)
        err = sluice_cause_set(cause, SLUICE_SYSTEM, "client process %u died at its start", n_ready);
    for (unsigned i = 0; !err && i < n; i++) (void)sl_tool_write(clients[i].to_child, &byte, 1);
    for (unsigned i = 0; i < n_started; i++) {
        /* On an error the closed pipe ends those who wait to begin. */
        if (err) close(clients[i].to_child);
        if (!err && !read_report(clients[i].from_child, &self->reports[i]))
            err = sluice_cause_set(cause, SLUICE_SYSTEM, "client process %u died during the run", i);
    }
    for (unsigned i = 0; i < n_started; i++) {
        if (err) kill(clients[i].pid, SIGKILL);
        close(clients[i].from_child);
        (void)waitpid(clients[i].pid, NULL, 0);
    }
    free(clients);
    return err;
}

/* ---- the whole run ---- */

static void add_up(const host *self, sl_bench_total *total) {
    total->client_ops_min = UINT64_MAX;
    for (unsigned i = 0; i < self->plan->n_clients; i++) {
        const sl_bench_counts *counts = &self->reports[i].counts;
        if (counts->errors && !total->counts.errors) total->counts.first_error = counts->first_error;
        total->counts.ops += counts->ops;
        total->counts.errors += counts->errors;
        total->counts.busy += counts->busy;
        total->counts.unknown += counts->unknown;
        sl_latency_merge(&total->counts.latency, &counts->latency);
        sl_latency_merge(&total->counts.commit, &counts->commit);
        if (counts->wal_bytes > total->counts.wal_bytes) total->counts.wal_bytes = counts->wal_bytes;
        if (counts->ops < total->client_ops_min) total->client_ops_min = counts->ops;
        if (counts->ops > total->client_ops_max) total->client_ops_max = counts->ops;
    }
    total->elapsed_s = self->plan->seconds;
}

static sluice_err first_failure(const host *self, sluice_cause *cause) {
    for (unsigned i = 0; i < self->plan->n_clients; i++) {
        const sl_bench_counts *counts = &self->reports[i].counts;
        if (!counts->failed) continue;
        if (cause) *cause = counts->first_error;
        (void)sluice_cause_wrap(cause, "client");
        return counts->first_error.code;
    }
    return SLUICE_OK;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

sluice_err sl_bench_host_run(sl_bench_plan *plan, sl_bench_total *total, sluice_cause *cause) {
    host self = {.plan = plan};
    raise_descriptor_limit();
    catch_interrupts();
    sluice_err err = SLUICE_OK;
    /* The baseline keeps SQLite's defaults; sluiced does not, and so neither do we. */
    if (plan->transport != SL_TRANSPORT_DIRECT) err = sl_sqlite_memory_statistics_off(cause);
    self.reports = calloc(plan->n_clients, sizeof *self.reports);
    if (!err && !self.reports) err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    if (!err) err = make_file(&self, cause);
    if (!err) err = start_server(&self, cause);
    if (!err) err = plan->processes ? run_processes(&self, cause) : run_threads(&self, cause);
    if (!err) err = first_failure(&self, cause);
    if (!err) add_up(&self, total);
    sluice_err stopped = stop_server(&self, total, err ? NULL : cause);
    if (!err) err = stopped;
    if (!err && atomic_load(&sl_bench_interrupted)) err = sluice_cause_set(cause, SLUICE_INTERRUPTED, "interrupted");
    if (!err) err = sl_bench_check(plan, self.reports, total, cause);
    for (unsigned i = 0; self.reports && i < plan->n_clients; i++) sl_bench_report_fini(&self.reports[i]);
    free(self.reports);
    remove_directory(&self);
    return err;
}
