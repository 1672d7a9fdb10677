/* SPDX-License-Identifier: MIT */
/* The scenario with the n-th fault, and the comparison; see nth_fault.h. */
#include "support/nth_fault.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_internal.h"
#include "support/nth_vfs.h"
#include "support/support.h"

#define PATIENCE_S 40 /* of a process, until it is called hung */
#define CALL_MS    15000
#define SHORT_MS   150   /* of a call where a message may be lost for want of memory: then its deadline ends it */
#define BIG        60000 /* bytes of the big row: more pages than the soft cap has */

static nth_fault *fault;

nth_fault *nth_fault_new(void) {
    void *memory = mmap(NULL, sizeof(nth_fault), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return fault = memory;
}

void nth_fault_destroy(nth_fault **at) {
    if (*at != NULL) munmap(*at, sizeof **at);
    *at = fault = NULL;
}

bool nth_fault_strikes(nth_kind kind) {
    if (fault == NULL || fault->kind != kind || !atomic_load(&fault->armed)) return false;
    uint64_t count = atomic_fetch_add(&fault->count, 1) + 1;
    if (count != fault->n && !(fault->then == NTH_FOREVER && count > fault->n)) return false;
    atomic_fetch_add(&fault->hits, 1);
    return true;
}

/* Ends this process with a reason. */
static _Noreturn void wrong(const char *format, ...) {
    va_list args;
    atomic_store(&fault->armed, false);
    va_start(args, format);
    vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    _exit(1);
}

/* ---- the requests ---- */

typedef enum shape { INSERT = 0, BATCH, SCHEMA, BAD_BATCH, BAD_ROLLBACK, BIG_INSERT } shape;

/* 0: the schema. 1..9: one after the other. 10..17: all at once. 20..: the big one, and what comes after it. */
#define FIRST_AT_ONCE 10
#define LAST_AT_ONCE  17
#define LAST          26

static shape shape_of(int n) {
    switch (n) {
    case 0: return SCHEMA;
    case 2: case 6: case 12: return BATCH;
    case 3: case 11: return BAD_BATCH;
    case 4: case 14: return BAD_ROLLBACK;
    case 20: return BIG_INSERT;
    default: return INSERT;
    }
}

static bool is_good(int n) { return shape_of(n) != BAD_BATCH && shape_of(n) != BAD_ROLLBACK; }

static sluice_err add_row(sluice_request *request, int n, int part) {
    static char big[BIG];
    size_t size = shape_of(n) == BIG_INSERT ? sizeof big : 30;
    memset(big, 'a' + n % 26, size);
    sluice_value values[] = {sluice_integer(n), sluice_integer(part), sluice_text_n(big, size)};
    return sluice_request_add(request, "INSERT INTO t(n, part, body) VALUES(?,?,?)", values, 3);
}

static sluice_err fill(sluice_request *request, int n) {
    sluice_err err = SLUICE_OK;
    switch (shape_of(n)) {
    case SCHEMA:
        err = sluice_request_add(request, "CREATE TABLE t(n INTEGER, part INTEGER, body TEXT)", NULL, 0);
        if (err == SLUICE_OK) err = sluice_request_add(request, "CREATE TABLE u(a INTEGER PRIMARY KEY)", NULL, 0);
        if (err == SLUICE_OK) err = sluice_request_add(request, "INSERT INTO u VALUES(1)", NULL, 0);
        return err;
    case BAD_ROLLBACK: return sluice_request_add(request, "INSERT OR ROLLBACK INTO u VALUES(1)", NULL, 0);
    default: break;
    }
    err = add_row(request, n, 0);
    if (err == SLUICE_OK && shape_of(n) == BATCH) err = add_row(request, n, 1);
    if (err == SLUICE_OK && shape_of(n) == BAD_BATCH)
        err = sluice_request_add(request, "INSERT INTO u VALUES(1)", NULL, 0);
    return err;
}

/* ---- the scenario ---- */

static void on_fatal(void *context, const sluice_cause *cause, int exit_code) {
    (void)context, (void)cause, (void)exit_code;
    atomic_fetch_add(&fault->fatal_calls, 1);
}

static void ended(int n, sluice_err err) {
    fault->results[n] = (int)err;
    if (err == SLUICE_OK && !is_good(n)) wrong("request %d is bad and was answered OK", n);
    if (fault->then == NTH_KILLED && atomic_load(&fault->hits) != 0) _exit(0);
}

/* Makes a request; where there is no memory for it, it ends with that. */
static sluice_request *make(sluice_client *client, int n) {
    sluice_request *request = NULL;
    sluice_err err = sluice_request_new(client, SLUICE_WRITE, &request);
    if (err == SLUICE_OK) err = fill(request, n);
    if (err == SLUICE_OK) return request;
    if (err != SLUICE_NOMEM) wrong("request %d could not be made: %s", n, sluice_err_name(err));
    sluice_request_destroy(&request);
    ended(n, err);
    return NULL;
}

static void call(sluice_client *client, int n) {
    sluice_cause cause;
    sluice_request *request = make(client, n);
    if (request == NULL) return;
    fault->results[n] = SLUICE_UNKNOWN;
    sluice_err err = sluice_call(client, request, NULL, &cause);
    if (sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) {
        sluice_err again = sluice_call_again(client, request, NULL, &cause);
        if (again == SLUICE_OK || err == SLUICE_UNKNOWN) err = again;
    }
    if (err == SLUICE_TIMEOUT) wrong("request %d got no answer", n);
    ended(n, err);
    sluice_request_destroy(&request);
}

static void call_at_once(sluice_client *client) {
    size_t n_out = 0;
    for (int n = FIRST_AT_ONCE; n <= LAST_AT_ONCE; n++) {
        sluice_request *request = make(client, n);
        if (request == NULL) continue;
        fault->results[n] = SLUICE_UNKNOWN;
        sluice_err err = sluice_submit(client, &request, (void *)(intptr_t)n, NULL, NULL);
        if (err == SLUICE_OK)
            n_out++;
        else
            ended(n, err);
        sluice_request_destroy(&request);
    }
    sluice_completion done;
    for (; n_out > 0; n_out--) {
        if (!sluice_poll(client, CALL_MS + 5000, &done)) wrong("%zu submitted requests never completed", n_out);
        if (done.err == SLUICE_TIMEOUT) wrong("request %d got no answer", (int)(intptr_t)done.context);
        ended((int)(intptr_t)done.context, done.err);
        sluice_result_destroy(&done.result);
    }
}

/* A read may fail, but if it does not it sees everything that was acknowledged. */
static void look(sluice_client *client) {
    sluice_result *result = NULL;
    sluice_cause cause;
    int acknowledged = 0, sent = 0;
    for (int n = 1; n <= LAST; n++) {
        acknowledged += fault->results[n] == SLUICE_OK;
        sent += fault->results[n] >= 0 && is_good(n) &&
                sluice_err_applied((sluice_err)fault->results[n]) != SLUICE_APPLIED_NO;
    }
    sluice_err err = sluice_query(client, "SELECT count(DISTINCT n) FROM t", NULL, 0, &result, &cause);
    if (err == SLUICE_TIMEOUT && fault->kind != NTH_OWN_MEMORY) wrong("a read got no answer");
    if (err != SLUICE_OK) return;
    int64_t count = sluice_result_next(result) ? sluice_result_int64(result, 0) : -1;
    sluice_result_destroy(&result);
    if (count < acknowledged || count > sent)
        wrong("a read saw %d requests; %d were acknowledged, %d may be there", (int)count, acknowledged, sent);
}

static void open_client(sluice_runtime *runtime, sluice_client **out) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = runtime;
    options.receipts_default = false;
    options.receipts = true;
    options.timeout_ms = fault->kind == NTH_OWN_MEMORY ? SHORT_MS : CALL_MS;
    sluice_cause cause;
    sluice_err err = sluice_client_open("inproc://app", &options, out, &cause);
    if (err != SLUICE_OK && err != SLUICE_NOMEM) wrong("opening a client: %s: %s", sluice_err_name(err), cause.text);
}

static sluice_err open_store(sluice_runtime *runtime, const char *path, sluice_store **out, sluice_cause *cause) {
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = path;
    options.on_fatal = on_fatal;
    options.n_readers = 1;
    options.wal_soft_cap_bytes = 40 * 1024;
    return sl_store_open(runtime, &options, NTH_VFS_NAME, out, cause);
}

static sluice_runtime *new_runtime(void) {
    sluice_runtime *runtime = NULL;
    sluice_cause cause;
    if (sluice_runtime_new(NULL, &runtime, &cause) != SLUICE_OK) wrong("runtime: %s", cause.text);
    return runtime;
}

static void run_scenario(const char *path) {
    sluice_runtime *runtime = new_runtime();
    sluice_store *store = NULL;
    sluice_client *client = NULL;
    sluice_cause cause;
    /* Without memory for the messages that start and stop actors the runtime ends the process: requests only. */
    bool requests_only = fault->kind == NTH_OWN_MEMORY;
    atomic_store(&fault->armed, !requests_only);
    sluice_err err = open_store(runtime, path, &store, &cause);
    fault->open_result = (int)err;
    if (err == SLUICE_OK) open_client(runtime, &client);
    if (client != NULL) {
        atomic_store(&fault->armed, true);
        for (int n = 0; n < FIRST_AT_ONCE; n++) call(client, n);
        look(client);
        call_at_once(client);
        look(client);
        for (int n = 20; n <= LAST; n++) call(client, n);
        look(client);
        if (requests_only) atomic_store(&fault->armed, false);
    }
    sluice_client_close(&client);
    sluice_store_close(&store);
    atomic_store(&fault->armed, false);
    sluice_runtime_destroy(&runtime);
}

/* ---- the comparison ---- */

static void check_integrity(const char *path) {
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NTH_VFS_NAME) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        wrong("afterwards the file cannot be read: %s", sqlite3_errmsg(db));
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    if (strcmp(text, "ok") != 0) wrong("afterwards the file is damaged: %s", text);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void compare(int counts[][2]) {
    for (int n = 1; n <= LAST; n++) {
        int result = fault->results[n], parts = shape_of(n) == BATCH ? 2 : 1;
        const char *name = result < 0 ? "never sent" : sluice_err_name((sluice_err)result);
        bool there = counts[n][0] != 0;
        if (counts[n][0] > 1 || counts[n][1] > 1) wrong("request %d (%s) is there more than once", n, name);
        if (there && parts == 2 && counts[n][1] == 0) wrong("request %d (%s) is half applied", n, name);
        if (counts[n][1] != 0 && (!there || parts == 1)) wrong("request %d (%s) is half applied", n, name);
        if (result == SLUICE_OK && !there) wrong("request %d was acknowledged and is lost", n);
        bool never = result < 0 || !is_good(n) || sluice_err_applied((sluice_err)result) == SLUICE_APPLIED_NO;
        if (never && there) wrong("request %d (%s) is there", n, name);
    }
}

static void run_comparison(const char *path) {
    static int counts[NTH_REQUESTS][2];
    sluice_runtime *runtime = new_runtime();
    sluice_store *store = NULL;
    sluice_client *client = NULL;
    sluice_result *result = NULL;
    sluice_cause cause;
    sluice_err err = open_store(runtime, path, &store, &cause);
    if (err != SLUICE_OK) wrong("the store does not open any more: %s: %s", sluice_err_name(err), cause.text);
    open_client(runtime, &client);
    err = sluice_query(client, "SELECT n, part FROM t", NULL, 0, &result, &cause);
    if (err != SLUICE_OK && (err != SLUICE_SYNTAX || fault->results[0] == SLUICE_OK))
        wrong("reading afterwards: %s: %s", sluice_err_name(err), cause.text);
    while (err == SLUICE_OK && sluice_result_next(result)) {
        int64_t n = sluice_result_int64(result, 0), part = sluice_result_int64(result, 1);
        if (n < 1 || n > LAST || part < 0 || part > 1) wrong("a row that nobody sent");
        counts[n][part]++;
    }
    sluice_result_destroy(&result);
    compare(counts);
    err = sluice_exec(client, "CREATE TABLE afterwards(a)", NULL, 0, NULL, &cause);
    if (err != SLUICE_OK) wrong("writing afterwards: %s: %s", sluice_err_name(err), cause.text);
    sluice_client_close(&client);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
    check_integrity(path);
}

/* ---- processes ---- */

static sqlite3_mem_methods memory_below;

static void *memory_malloc(int size) {
    return nth_fault_strikes(NTH_MEMORY) ? NULL : memory_below.xMalloc(size);
}
static void *memory_realloc(void *old, int size) {
    return nth_fault_strikes(NTH_MEMORY) ? NULL : memory_below.xRealloc(old, size);
}

static void wrap_memory(void) {
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory_below) != SQLITE_OK) wrong("SQLite was in use before");
    sqlite3_mem_methods methods = memory_below;
    methods.xMalloc = memory_malloc;
    methods.xRealloc = memory_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK) wrong("SQLite was in use before");
}

static void in_a_process(void (*body)(const char *path), const char *path, const char *which) {
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
        for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++)
            signal(crashes[i], SIG_DFL); /* cmocka's handlers would go on with the next test, in here */
        alarm(PATIENCE_S);
        wrap_memory();
        nth_vfs_register();
        body(path);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (fault->text[0] != '\0') return;
    if (WIFSIGNALED(status))
        snprintf(fault->text, sizeof fault->text, "%s ended by signal %d (%s)", which, WTERMSIG(status),
                 WTERMSIG(status) == SIGALRM ? "it hung" : "it crashed");
    else if (WEXITSTATUS(status) != 0)
        snprintf(fault->text, sizeof fault->text, "%s ended with %d", which, WEXITSTATUS(status));
}

bool nth_fault_iterate(nth_fault *self, nth_kind kind, nth_then then, uint64_t n) {
    char *directory = support_directory_new(), *path = support_path(directory, "test.db");
    self->kind = kind;
    self->then = then;
    self->n = n;
    self->text[0] = '\0';
    self->open_result = -1;
    atomic_store(&self->armed, false);
    atomic_store(&self->count, 0);
    atomic_store(&self->hits, 0);
    atomic_store(&self->fatal_calls, 0);
    for (int i = 0; i < NTH_REQUESTS; i++) self->results[i] = -1;
    in_a_process(run_scenario, path, "the scenario");
    bool hit = atomic_load(&self->hits) != 0;
    if (self->text[0] == '\0') in_a_process(run_comparison, path, "the comparison");
    free(path);
    support_directory_remove(&directory);
    return hit;
}
