/* SPDX-License-Identifier: MIT */
/* CTest: RUN_SERIAL TIMEOUT=300
 *
 * kill -9 of sluiced under load: every acknowledged write is in the file, exactly once and whole, and none that was
 * answered no.
 *
 * Loaders are processes of their own, over ipc and tcp, that log how each request ended in files outside the server.
 * After each kill the database and its WAL are copied as they lie and the copy is opened by stock SQLite and compared
 * with the logs row by row; at the end the file itself is. Some kills hit while the server recovers. Each request
 * inserts two rows and overwrites a big one, so that half of one would show, and so that the log passes its cap several
 * times between two kills: some of them hit a checkpoint. A loader with one request at a time must find its rows in its
 * order, and in each big row its latest. SLUICE_SEED repeats a run's choices.
 */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_LOADERS 4
#define PIPELINE  8
#define CYCLES    50
#define CYCLES_LONG 1000
#define READY_MS  60000
#define CALL_MS   20000 /* longer than any restart, so that the client's own retries see it through */
#define HALVES    2
#define BALLAST   8     /* big rows of a loader */
#define BIG       60000 /* bytes of one */

#define INSERT "INSERT INTO acks(loader, n, half, body) VALUES(?1, ?2, ?3, ?4)"
#define REPLACE "INSERT OR REPLACE INTO ballast(id, loader, n, fill) VALUES(?1, ?2, ?3, ?4)"

/* Shared with the loaders. */
typedef struct shared {
    atomic_bool stop;
    atomic_uint_fast64_t replayed; /* answers that came from a receipt */
    atomic_uint_fast64_t answered_no, unresolved;
} shared;

typedef struct loader {
    pid_t pid;
    unsigned index;
    char url[256];
    char *log;
} loader;

typedef struct bed {
    char *directory, *db, *copy;
    shared *shared;
    loader loaders[N_LOADERS];
    int ack_in, ack_out; /* one byte per acknowledgement; out is non-blocking */
    pid_t server;
    int server_out;
    char ipc[128], tcp[128]; /* tcp: as it listens, known after the first start */
    unsigned seed;
} bed;

/* ---- loaders ---- */

/* One request at a time; else several outstanding. */
static bool is_single(unsigned index) { return index % 2 == 0; }

static void body_text(unsigned loader_index, int64_t n, int half, char out[64]) {
    snprintf(out, 64, "loader %u request %" PRId64 " half %d", loader_index, n, half);
}

typedef struct diary {
    shared *shared;
    FILE *log;
    int ack_fd;
} diary;

static void note_end(diary *self, int64_t n, sluice_err err, const sluice_result *result) {
    char kind = err == SLUICE_OK ? 'A' : sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN ? 'U' : 'N';
    fprintf(self->log, "%c %" PRId64 " %s\n", kind, n, sluice_err_name(err));
    fflush(self->log);
    if (kind == 'U') atomic_fetch_add(&self->shared->unresolved, 1);
    if (kind == 'N') atomic_fetch_add(&self->shared->answered_no, 1);
    if (kind != 'A') return;
    if (sluice_result_replayed(result)) atomic_fetch_add(&self->shared->replayed, 1);
    ssize_t told = write(self->ack_fd, "a", 1); /* a full pipe means that nobody counts just now */
    (void)told;
}

static sluice_request *make_request(sluice_client *client, unsigned index, int64_t n) {
    sluice_request *request = NULL;
    if (sluice_request_new(client, SLUICE_WRITE, &request)) abort();
    for (int half = 0; half < HALVES; half++) {
        char body[64];
        body_text(index, n, half, body);
        sluice_value values[] = {sluice_integer(index), sluice_integer(n), sluice_integer(half), sluice_text(body)};
        if (sluice_request_add(request, INSERT, values, 4)) abort();
    }
    static char fill[BIG];
    memset(fill, 'a' + (int)(n % 26), sizeof fill);
    sluice_value ballast[] = {sluice_integer(index * BALLAST + n % BALLAST), sluice_integer(index), sluice_integer(n),
                              sluice_blob(fill, sizeof fill)};
    if (sluice_request_add(request, REPLACE, ballast, 4)) abort();
    return request;
}

/* One request at a time; an unknown end is asked about again until it is known. */
static void load_singly(diary *self, sluice_client *client, unsigned index) {
    for (int64_t n = 0; !atomic_load(&self->shared->stop); n++) {
        sluice_request *request = make_request(client, index, n);
        sluice_result *result = NULL;
        sluice_err err = sluice_call(client, request, &result, NULL);
        for (int tries = 0; tries < 5 && sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN; tries++)
            err = sluice_call_again(client, request, &result, NULL);
        note_end(self, n, err, result);
        sluice_result_destroy(&result);
        sluice_request_destroy(&request);
    }
}

/* Several outstanding. */
static void load_in_parallel(diary *self, sluice_client *client, unsigned index) {
    int64_t n = 0;
    unsigned n_out = 0;
    while (n_out || !atomic_load(&self->shared->stop)) {
        while (n_out < PIPELINE && !atomic_load(&self->shared->stop)) {
            sluice_request *request = make_request(client, index, n);
            if (sluice_submit(client, &request, (void *)(intptr_t)n, NULL, NULL)) abort();
            n_out++;
            n++;
        }
        sluice_completion done;
        for (uint32_t wait_ms = 100; sluice_poll(client, wait_ms, &done); wait_ms = 0) {
            note_end(self, (intptr_t)done.context, done.err, done.result);
            sluice_result_destroy(&done.result);
            n_out--;
        }
    }
}

static _Noreturn void loader_main(const bed *self, const loader *me) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(self->ack_in);
    diary notes = {.shared = self->shared, .log = fopen(me->log, "w"), .ack_fd = self->ack_out};
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = CALL_MS;
    sluice_client *client = NULL;
    if (!notes.log || sluice_client_open(me->url, &options, &client, NULL)) _exit(1);
    if (!is_single(me->index))
        load_in_parallel(&notes, client, me->index);
    else
        load_singly(&notes, client, me->index);
    sluice_client_close(&client);
    _exit(fclose(notes.log) == 0 ? 0 : 1);
}

static void start_loaders(bed *self) {
    for (unsigned i = 0; i < N_LOADERS; i++) {
        loader *it = &self->loaders[i];
        char name[32];
        snprintf(name, sizeof name, "loader%u.log", i);
        it->index = i;
        it->log = support_path(self->directory, name);
        snprintf(it->url, sizeof it->url, "%s", i < N_LOADERS / 2 ? self->ipc : self->tcp);
        fflush(stdout);
        it->pid = fork();
        if (it->pid == 0) loader_main(self, it);
        assert_true(it->pid > 0);
    }
}

/* ---- the server ---- */

static void spawn_server(bed *self) {
    char binary[4096];
    const char *bin = getenv("SLUICE_BIN");
    snprintf(binary, sizeof binary, "%s/sluiced", bin ? bin : "../bin");
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    fflush(stdout);
    self->server = fork();
    if (self->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        execl(binary, "sluiced", "--db", self->db, "--allow-plain", "--listen", self->ipc, "--listen",
              *self->tcp ? self->tcp : "tcp://127.0.0.1:*", (char *)NULL);
        _exit(127);
    }
    assert_true(self->server > 0);
    close(out[1]);
    self->server_out = out[0];
}

static void await_input(int fd) {
    struct pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    int n;
    while ((n = poll(&wait, 1, READY_MS)) < 0 && errno == EINTR) continue;
    if (n == 0) fail_msg("nothing happened for %d ms", READY_MS);
}

static void await_ready(bed *self) {
    char line[1024];
    size_t size = 0;
    while (size == 0 || line[size - 1] != '\n') {
        await_input(self->server_out);
        ssize_t n = read(self->server_out, line + size, sizeof line - size - 1);
        if (n <= 0) fail_msg("sluiced ended before it served");
        size += (size_t)n;
    }
    line[size - 1] = '\0';
    const char *tcp = strstr(line, "endpoint=tcp://");
    assert_non_null(tcp);
    if (!*self->tcp) snprintf(self->tcp, sizeof self->tcp, "%.*s", (int)strcspn(tcp + 9, " "), tcp + 9);
}

static int end_server(bed *self, int signal_number) {
    int status = 0;
    kill(self->server, signal_number);
    assert_int_equal(waitpid(self->server, &status, 0), self->server);
    self->server = 0;
    close(self->server_out);
    return status;
}

static void await_acks(bed *self, unsigned n) {
    while (n) {
        char bytes[256];
        await_input(self->ack_in);
        ssize_t got = read(self->ack_in, bytes, n < sizeof bytes ? n : sizeof bytes);
        assert_true(got > 0);
        n -= (unsigned)got;
    }
}

static void drain_acks(bed *self) {
    struct pollfd wait = {.fd = self->ack_in, .events = POLLIN, .revents = 0};
    char bytes[4096];
    while (poll(&wait, 1, 0) > 0 && read(self->ack_in, bytes, sizeof bytes) > 0) continue;
}

/* ---- the comparison ---- */

typedef struct ledger {
    size_t size;
    char *ends;                    /* of each request, by n: A, N, U or 0 */
    unsigned char (*rows)[HALVES]; /* how often each row is in the file */
    int64_t latest;                /* the row read last */
    int64_t big[BALLAST];          /* n of each big row, -1: not there */
} ledger;

static void ledger_grow(ledger *self, size_t n) {
    if (n < self->size) return;
    size_t size = (n + 1) * 2;
    self->ends = realloc(self->ends, size);
    self->rows = realloc(self->rows, size * sizeof *self->rows);
    assert_true(self->ends && self->rows);
    memset(self->ends + self->size, 0, size - self->size);
    memset(self->rows + self->size, 0, (size - self->size) * sizeof *self->rows);
    self->size = size;
}

static void read_log(const char *path, ledger *out) {
    FILE *log = fopen(path, "r");
    if (!log) return; /* the loader has not begun */
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    while ((size = getline(&line, &room, log)) > 0 && line[size - 1] == '\n') {
        size_t n = (size_t)strtoull(line + 2, NULL, 10);
        ledger_grow(out, n);
        assert_int_equal(out->ends[n], 0); /* every request ends once */
        out->ends[n] = line[0];
    }
    free(line);
    fclose(log);
}

static void read_rows(sqlite3 *db, ledger ledgers[N_LOADERS]) {
    sqlite3_stmt *stmt = NULL;
    const char *sql = "SELECT loader, n, half, body FROM acks ORDER BY rowid";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        unsigned index = (unsigned)sqlite3_column_int(stmt, 0);
        int64_t n = sqlite3_column_int64(stmt, 1);
        int half = sqlite3_column_int(stmt, 2);
        assert_in_range(index, 0, N_LOADERS - 1);
        assert_in_range(half, 0, HALVES - 1);
        char body[64];
        body_text(index, n, half, body);
        assert_string_equal((const char *)sqlite3_column_text(stmt, 3), body);
        ledger_grow(&ledgers[index], (size_t)n);
        ledgers[index].rows[n][half]++;
        if (is_single(index) && n * HALVES + half <= ledgers[index].latest)
            fail_msg("loader %u: row %d of request %" PRId64 " lies behind a later one", index, half, n);
        ledgers[index].latest = n * HALVES + half;
    }
    assert_int_equal(rc, SQLITE_DONE);
    sqlite3_finalize(stmt);
}

static void read_ballast(sqlite3 *db, ledger ledgers[N_LOADERS]) {
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT id, loader, n, fill FROM ballast", -1, &stmt, NULL), SQLITE_OK);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        unsigned index = (unsigned)sqlite3_column_int(stmt, 1);
        int64_t n = sqlite3_column_int64(stmt, 2);
        assert_in_range(index, 0, N_LOADERS - 1);
        assert_int_equal(sqlite3_column_int64(stmt, 0), index * BALLAST + n % BALLAST);
        assert_int_equal(sqlite3_column_bytes(stmt, 3), BIG);
        const char *fill = sqlite3_column_blob(stmt, 3);
        assert_int_equal(fill[0], 'a' + (int)(n % 26));
        assert_memory_equal(fill, fill + 1, BIG - 1);
        ledgers[index].big[n % BALLAST] = n;
    }
    assert_int_equal(rc, SQLITE_DONE);
    sqlite3_finalize(stmt);
}

static void assert_integrity(sqlite3 *db) {
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "ok");
    sqlite3_finalize(stmt);
}

/* Compares one loader's log with the rows. Returns how many were acknowledged. */
static uint64_t compare(const ledger *self, unsigned index, const char *when) {
    uint64_t acknowledged = 0, lost = 0, doubled = 0, halved = 0, phantoms = 0;
    int64_t latest[BALLAST];
    memset(latest, -1, sizeof latest);
    for (size_t n = 0; n < self->size; n++) {
        unsigned first = self->rows[n][0], second = self->rows[n][1];
        char end = self->ends[n];
        if (end == 'A') acknowledged++;
        if (end == 'A' && !first) lost++;
        if (end == 'N' && first) phantoms++;
        if (first > 1 || second > 1) doubled++;
        if (first != second) halved++;
        if (is_single(index) && first) latest[n % BALLAST] = (int64_t)n;
        if (first && self->big[n % BALLAST] < 0) halved++;
    }
    for (int i = 0; i < BALLAST && is_single(index); i++)
        if (self->big[i] != latest[i]) halved++;
    if (lost || doubled || halved || phantoms)
        fail_msg("%s, loader %u: %" PRIu64 " acknowledged, %" PRIu64 " lost, %" PRIu64 " doubled, %" PRIu64
                 " half applied, %" PRIu64 " there though answered no",
                 when, index, acknowledged, lost, doubled, halved, phantoms);
    return acknowledged;
}

static uint64_t check_file(bed *self, const char *path, const char *when) {
    ledger ledgers[N_LOADERS];
    memset(ledgers, 0, sizeof ledgers);
    for (unsigned i = 0; i < N_LOADERS; i++) {
        ledgers[i].latest = -1;
        memset(ledgers[i].big, -1, sizeof ledgers[i].big);
    }
    uint64_t acknowledged = 0;
    sqlite3 *db = NULL;
    for (unsigned i = 0; i < N_LOADERS; i++)
        if (self->loaders[i].log) read_log(self->loaders[i].log, &ledgers[i]);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    read_rows(db, ledgers);
    read_ballast(db, ledgers);
    assert_integrity(db);
    sqlite3_close(db);
    for (unsigned i = 0; i < N_LOADERS; i++) {
        acknowledged += compare(&ledgers[i], i, when);
        free(ledgers[i].ends);
        free(ledgers[i].rows);
    }
    return acknowledged;
}

static void copy_file(const char *from, const char *suffix, const char *to) {
    char source[4096], target[4096], buffer[65536];
    snprintf(source, sizeof source, "%s%s", from, suffix);
    snprintf(target, sizeof target, "%s%s", to, suffix);
    unlink(target);
    int in = open(source, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        assert_int_equal(errno, ENOENT);
        return;
    }
    int out = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(out >= 0);
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0) assert_int_equal(write(out, buffer, (size_t)n), n);
    assert_int_equal(n, 0);
    close(in);
    close(out);
}

/* Looks at what the dead server left behind, without touching it. */
static void check_remains(bed *self, unsigned cycle) {
    char when[64], shm[4096];
    snprintf(when, sizeof when, "after kill %u", cycle + 1);
    copy_file(self->db, "", self->copy);
    copy_file(self->db, "-wal", self->copy);
    snprintf(shm, sizeof shm, "%s-shm", self->copy);
    unlink(shm);
    (void)check_file(self, self->copy, when);
}

/* ---- the test ---- */

static int setup(void **state) {
    bed *self = calloc(1, sizeof *self);
    assert_non_null(self);
    self->directory = support_directory_new();
    self->db = support_path(self->directory, "a.db");
    self->copy = support_path(self->directory, "copy.db");
    self->shared = mmap(NULL, sizeof *self->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(self->shared, MAP_FAILED);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    self->ack_in = ends[0];
    self->ack_out = ends[1];
    assert_int_equal(fcntl(self->ack_out, F_SETFL, O_NONBLOCK), 0);
    /* The build's folder may be too deep for a socket. */
    snprintf(self->ipc, sizeof self->ipc, "ipc:///tmp/sluice-kill9-%ld/s", (long)getpid());

    const char *seed = getenv("SLUICE_SEED");
    self->seed = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);
    print_message("SLUICE_SEED=%u\n", self->seed);

    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(self->db, &db), SQLITE_OK);
    const char *table = "CREATE TABLE acks(loader INTEGER, n INTEGER, half INTEGER, body TEXT);"
                        "CREATE TABLE ballast(id INTEGER PRIMARY KEY, loader INTEGER, n INTEGER, fill BLOB)";
    assert_int_equal(sqlite3_exec(db, table, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    *state = self;
    return 0;
}

static int teardown(void **state) {
    bed *self = *state;
    if (self->server) (void)end_server(self, SIGKILL);
    for (unsigned i = 0; i < N_LOADERS; i++) {
        if (self->loaders[i].pid) {
            kill(self->loaders[i].pid, SIGKILL);
            waitpid(self->loaders[i].pid, NULL, 0);
        }
        free(self->loaders[i].log);
    }
    close(self->ack_in);
    close(self->ack_out);
    munmap(self->shared, sizeof *self->shared);
    char *socket_directory = self->ipc + strlen("ipc://");
    unlink(socket_directory);
    *strrchr(socket_directory, '/') = '\0';
    rmdir(socket_directory);
    support_directory_remove(&self->directory);
    free(self->db);
    free(self->copy);
    free(self);
    return 0;
}

static void one_kill(bed *self, unsigned cycle) {
    spawn_server(self);
    if (cycle % 4 == 3) {
        /* While it starts and recovers: at any point of it. */
        struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)((unsigned)rand_r(&self->seed) % 20000u) * 1000};
        nanosleep(&pause, NULL);
    } else {
        await_ready(self);
        if (cycle == 0) start_loaders(self);
        drain_acks(self);
        await_acks(self, 20 + (unsigned)rand_r(&self->seed) % 300u);
    }
    int status = end_server(self, SIGKILL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    check_remains(self, cycle);
}

static void kill_9_loses_and_doubles_nothing_acknowledged(void **state) {
    bed *self = *state;
    unsigned cycles = support_long() ? CYCLES_LONG : CYCLES; /* a kill costs no more than a start */
    for (unsigned cycle = 0; cycle < cycles; cycle++) one_kill(self, cycle);

    /* Then the loaders end in peace: every open question is answered by the receipts. */
    spawn_server(self);
    await_ready(self);
    drain_acks(self);
    await_acks(self, 50);
    atomic_store(&self->shared->stop, true);
    for (unsigned i = 0; i < N_LOADERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(self->loaders[i].pid, &status, 0), self->loaders[i].pid);
        self->loaders[i].pid = 0;
        assert_int_equal(status, 0);
    }
    int status = end_server(self, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    uint64_t acknowledged = check_file(self, self->db, "at the end");
    print_message("%u kills, %" PRIu64 " acknowledged, 0 lost, 0 doubled; %" PRIuFAST64 " answered from a receipt, "
                  "%" PRIuFAST64 " answered no, %" PRIuFAST64 " left unknown\n",
                  cycles, acknowledged, atomic_load(&self->shared->replayed), atomic_load(&self->shared->answered_no),
                  atomic_load(&self->shared->unresolved));
    assert_true(acknowledged >= cycles * 10);
    /* With the server up again every question has an answer. */
    assert_int_equal(atomic_load(&self->shared->unresolved), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kill_9_loses_and_doubles_nothing_acknowledged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
