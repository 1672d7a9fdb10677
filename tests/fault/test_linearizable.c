/* SPDX-License-Identifier: MIT */
/* CTest: RUN_SERIAL TIMEOUT=180
 *
 * Whatever happens to the server, its clients and the wire between them, what the clients hear is what one register,
 * one bank, one set and one counter would have said, used by one client after the other.
 *
 * Remote: clients are processes, over ipc, over tcp, and over tcp through a proxy that misbehaves, while sluiced is
 * killed (-9), also as it recovers, and stopped (SIGSTOP) for a while. In process: a host with a store and clients on
 * threads is killed and stopped the same way. SLUICE_SEED repeats a run's choices; SLUICE_LONG=1 runs for minutes.
 */
#include "support/proxy.h"
#include "support/random_message.h"
#include "support/server.h"
#include "support/workload.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SHORT_MS = 5000, LONG_MS = 120000, PROXIED = 4, HOST_THREADS = 6 };

typedef struct bed {
    char *directory, *db;
    workload *work;
    server server;
    proxy *proxy;
    pid_t clients[WORK_CLIENTS];
    pid_t host;
    uint64_t seed;
    support_random random;
    unsigned kills, stops;
} bed;

static int set_up(void **state) {
    bed *self = calloc(1, sizeof *self);
    assert_non_null(self);
    const char *seed = getenv("SLUICE_SEED");
    self->seed = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    self->random.state = self->seed;
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)self->seed);
    self->directory = support_directory_new();
    self->db = support_path(self->directory, "a.db");
    self->work = workload_new();
    workload_create_tables(self->db);
    server_init(&self->server, self->db, "linear");
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    bed *self = *state;
    for (unsigned i = 0; i < WORK_CLIENTS; i++) {
        if (self->clients[i] == 0) continue;
        kill(self->clients[i], SIGKILL);
        waitpid(self->clients[i], NULL, 0);
    }
    if (self->host != 0) {
        kill(self->host, SIGKILL);
        waitpid(self->host, NULL, 0);
    }
    proxy_close(&self->proxy);
    server_fini(&self->server);
    workload_destroy(&self->work);
    support_directory_remove(&self->directory);
    free(self->db);
    free(self);
    return 0;
}

/* ---- clients in processes ---- */

static _Noreturn void client_main(bed *self, unsigned index, const char *url, bool receipts) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    proxy_forget(&self->proxy);
    sluice_client_options options;
    sluice_client *client = NULL;
    sluice_client_options_init(&options);
    options.receipts_default = false;
    options.receipts = receipts;
    if (sluice_client_open(url, &options, &client, NULL) != SLUICE_OK) _exit(1);
    workload_run(self->work, index, client, self->seed, receipts);
    sluice_client_close(&client);
    _exit(0);
}

/* Starts the server, the proxy before it, and the clients. */
static void begin(bed *self, bool receipts) {
    char proxied[64];
    server_spawn(&self->server);
    server_await_ready(&self->server);
    self->proxy = proxy_open(server_tcp_port(&self->server), self->seed);
    snprintf(proxied, sizeof proxied, "tcp://127.0.0.1:%u", proxy_port(self->proxy));
    fflush(stdout);
    for (unsigned i = 0; i < WORK_CLIENTS; i++) {
        const char *url = i < PROXIED ? proxied : i % 2 == 0 ? self->server.ipc : self->server.tcp;
        self->clients[i] = fork();
        if (self->clients[i] == 0) client_main(self, i, url, receipts);
        assert_true(self->clients[i] > 0);
    }
    proxy_start(self->proxy);
}

static void end_clients(bed *self) {
    atomic_store(&self->work->stop, true);
    for (unsigned i = 0; i < WORK_CLIENTS; i++) {
        int status = 0;
        assert_int_equal(waitpid(self->clients[i], &status, 0), self->clients[i]);
        self->clients[i] = 0;
        assert_int_equal(status, 0);
    }
    int status = server_end(&self->server, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- what happens to them ---- */

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t below(bed *self, uint64_t n) { return support_random_below(&self->random, n); }

/* Time is part of the fault here; nothing is waited for. */
static void pause_us(uint64_t us) {
    nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000}, NULL);
}

static void stop_for_a_while(bed *self, pid_t pid) {
    kill(pid, SIGSTOP);
    pause_us(1000 * below(self, support_long() ? 3000 : 600));
    kill(pid, SIGCONT);
    self->stops++;
}

/* What the proxy would say again stays with the server it was first said to. A no is remembered in memory, until its
 * client settles it: a copy of a refused request that reached the *next* server, as a hostile or store-and-forward
 * middleman could do but TCP cannot, might be done by it. */
static void kill_the_server(bed *self) {
    (void)server_end(&self->server, SIGKILL);
    self->kills++;
    proxy_drop_replays(self->proxy);
    while (below(self, 3) == 0) { /* once more, at any point of its recovery */
        server_spawn(&self->server);
        pause_us(below(self, 20000));
        (void)server_end(&self->server, SIGKILL);
        self->kills++;
    }
    server_spawn(&self->server);
    server_await_ready(&self->server);
}

static void let_the_wire_misbehave(bed *self) {
    static const struct {
        proxy_fault fault;
        unsigned chance;
    } chances[] = {{PROXY_STALL, 20},           {PROXY_DELAY, 100},    {PROXY_TRICKLE, 50},   {PROXY_CUT_MID_FRAME, 15},
                   {PROXY_CUT_BEFORE_REPLY, 15}, {PROXY_DUPLICATE, 60}, {PROXY_HALF_CLOSE, 10}};
    for (size_t i = 0; i < sizeof chances / sizeof chances[0]; i++)
        proxy_set_chance(self->proxy, chances[i].fault, chances[i].chance);
    if (support_long()) proxy_set_stall_ms(self->proxy, 3000);
}

static void let_the_wire_be(bed *self) {
    for (int fault = 0; fault < PROXY_FAULTS; fault++) proxy_set_chance(self->proxy, (proxy_fault)fault, 0);
}

static void one_misfortune(bed *self) {
    uint64_t dice = below(self, 10);
    if (dice < 3)
        kill_the_server(self);
    else if (dice < 5)
        stop_for_a_while(self, self->server.pid);
    else
        proxy_do(self->proxy, (proxy_fault)below(self, PROXY_FAULTS));
    /* Between misfortunes something is to get done. */
    (void)workload_await(self->work, 20 + below(self, 300), 1000);
}

static void print_faults(const bed *self) {
    print_message("%u kills, %u stops, %u connections through the proxy:", self->kills, self->stops,
                  proxy_connections(self->proxy));
    for (int fault = 0; fault < PROXY_FAULTS; fault++)
        print_message(" %s %u", proxy_fault_name((proxy_fault)fault), proxy_count(self->proxy, (proxy_fault)fault));
    print_message("\n");
}

/* ---- remote ---- */

static void remote_clients_hear_what_one_after_the_other_would_have_heard(void **state) {
    bed *self = *state;
    begin(self, true);
    assert_true(workload_await(self->work, 100, 60000));
    let_the_wire_misbehave(self);
    for (int64_t end = now_ms() + (support_long() ? LONG_MS : SHORT_MS); now_ms() < end;) one_misfortune(self);
    while (self->kills < 3) kill_the_server(self);
    let_the_wire_be(self);
    assert_true(workload_await(self->work, 100, 60000)); /* and they are served again */
    end_clients(self);
    print_faults(self);
    work_verdict verdict = workload_judge(self->work, self->db, true);
    workload_print(&verdict, "remote");
    assert_int_equal(verdict.violations, 0);
    assert_true(verdict.ok > 500);
}

/* The judges must be able to see something: without receipts a repeated connection does everything twice. */
static void without_receipts_a_repeated_connection_is_seen(void **state) {
    bed *self = *state;
    begin(self, false);
    assert_true(workload_await(self->work, 200, 60000));
    for (int i = 0; i < 5; i++) {
        proxy_do(self->proxy, PROXY_DUPLICATE);
        assert_true(workload_await(self->work, 200, 60000));
    }
    /* The copies come within 300 ms and are at work for 400. */
    for (int64_t end = now_ms() + 800; now_ms() < end;) assert_true(workload_await(self->work, 1, 60000));
    end_clients(self);
    work_verdict verdict = workload_judge(self->work, self->db, false);
    workload_print(&verdict, "without receipts");
    assert_true(proxy_count(self->proxy, PROXY_DUPLICATE) > 0);
    assert_true(verdict.violations > 0);
}

/* ---- in process ---- */

typedef struct host_thread {
    pthread_t thread;
    bed *bed;
    sluice_runtime *runtime;
    unsigned index;
} host_thread;

static void *host_thread_main(void *arg) {
    host_thread *self = arg;
    sluice_client_options options;
    sluice_client *client = NULL;
    sluice_client_options_init(&options);
    options.runtime = self->runtime;
    if (sluice_client_open("inproc://app", &options, &client, NULL) != SLUICE_OK) _exit(1);
    workload_run(self->bed->work, self->index, client, self->bed->seed, false);
    sluice_client_close(&client);
    return NULL;
}

static _Noreturn void host_main(bed *self) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sluice_runtime *runtime = NULL;
    sluice_store *store = NULL;
    sluice_store_options options;
    sluice_cause cause;
    host_thread threads[HOST_THREADS];
    sluice_store_options_init(&options);
    options.path = self->db;
    if (sluice_runtime_new(NULL, &runtime, &cause) != SLUICE_OK ||
        sluice_store_open(runtime, &options, &store, &cause) != SLUICE_OK) {
        fprintf(stderr, "host: %s\n", cause.text);
        _exit(1);
    }
    for (unsigned i = 0; i < HOST_THREADS; i++) {
        threads[i] = (host_thread){.bed = self, .runtime = runtime, .index = i};
        if (pthread_create(&threads[i].thread, NULL, host_thread_main, &threads[i]) != 0) _exit(1);
    }
    for (unsigned i = 0; i < HOST_THREADS; i++) pthread_join(threads[i].thread, NULL);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
    _exit(0);
}

static void start_host(bed *self) {
    fflush(stdout);
    self->host = fork();
    if (self->host == 0) host_main(self);
    assert_true(self->host > 0);
}

static int end_host(bed *self, int signal_number) {
    int status = 0;
    if (signal_number != 0) kill(self->host, signal_number);
    assert_int_equal(waitpid(self->host, &status, 0), self->host);
    self->host = 0;
    return status;
}

static void clients_in_the_process_hear_what_one_after_the_other_would_have_heard(void **state) {
    bed *self = *state;
    start_host(self);
    assert_true(workload_await(self->work, 100, 60000));
    for (int64_t end = now_ms() + (support_long() ? LONG_MS : SHORT_MS) / 2; now_ms() < end || self->kills < 3;) {
        assert_true(workload_await(self->work, 50 + below(self, 1000), 60000));
        if (below(self, 3) == 0) {
            stop_for_a_while(self, self->host);
            continue;
        }
        int status = end_host(self, SIGKILL);
        assert_true(WIFSIGNALED(status));
        self->kills++;
        start_host(self);
    }
    assert_true(workload_await(self->work, 50, 60000));
    atomic_store(&self->work->stop, true);
    int status = end_host(self, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    work_verdict verdict = workload_judge(self->work, self->db, true);
    print_message("%u kills, %u stops\n", self->kills, self->stops);
    workload_print(&verdict, "in process");
    assert_int_equal(verdict.violations, 0);
    assert_true(verdict.ok > 500);
}

#define linear_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        linear_test(remote_clients_hear_what_one_after_the_other_would_have_heard),
        linear_test(clients_in_the_process_hear_what_one_after_the_other_would_have_heard),
        linear_test(without_receipts_a_repeated_connection_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
