/* SPDX-License-Identifier: MIT */
/* sluiced: the daemon that owns one SQLite file and serves it over ipc and tcp.
 *
 * Threads: main only; the runtime makes its own. TERM, INT and HUP are blocked before the runtime starts, so that every
 * thread inherits the mask, and are read from a signalfd by main alone. With --keys, HUP reads the clients' keys
 * again. Each other signal begins the stop (so does HUP without --keys); more of them stay pending and change
 * nothing: gateway (answers what is in flight), store (finishes the group, checkpoints), runtime.
 */
#include "sqlite_settings.h"
#include "tool.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sluice/sluice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LISTEN_MAX   16
#define IPC_PATH_MAX 100 /* of sun_path's 108, with room for what libzmq adds */
#define IPC_SUFFIX   ".sluice.d/s"

typedef struct settings {
    const char *db;
    const char *listen[LISTEN_MAX];
    size_t n_listen;
    const char *keys;
    bool allow_plain;
    unsigned n_readers;
    sluice_synchronous synchronous;
    sluice_file_mode file_mode;
    sluice_checkpointing checkpointing;
    unsigned status_interval_s; /* 0: never */
} settings;

typedef struct daemon_parts {
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway;
    int signal_fd;
} daemon_parts;

/* ---- command line ---- */

enum { KEY_ALLOW_PLAIN = 0x100, KEY_KEYS, KEY_SYNCHRONOUS, KEY_FILE_MODE, KEY_CHECKPOINT, KEY_STATUS_INTERVAL };

static const struct argp_option options[] = {
    {"db", 'd', "FILE", 0, "The database file; made if it is missing", 0},
    {"listen", 'l', "URL", 0,
     "ipc://PATH or tcp://ADDRESS:PORT (port *: any); may be given several times. "
     "Default: ipc://FILE" IPC_SUFFIX,
     0},
    {"keys", KEY_KEYS, "DIR", 0,
     "TCP for the keys in this directory: server.key_secret, and clients/*.key (sluice keygen makes them). "
     "HUP reads clients/ again and cuts off who is no longer there",
     0},
    {"allow-plain", KEY_ALLOW_PLAIN, NULL, 0,
     "Permit TCP without encryption, on loopback addresses only; whoever "
     "reaches the port may do everything",
     0},
    {"readers", 'r', "N", 0, "Reader connections, 1 to 64; default 2", 0},
    {"synchronous", KEY_SYNCHRONOUS, "full|normal", 0,
     "normal: a power loss may take the latest acknowledged writes; "
     "default full",
     0},
    {"checkpoint", KEY_CHECKPOINT, "auto|manual", 0,
     "manual: below the log's hard cap only when `sluice checkpoint' asks; default auto", 0},
    {"file-mode", KEY_FILE_MODE, "exclusive|shared", 0, "shared: other processes may read the file; default exclusive",
     0},
    {"status-interval", KEY_STATUS_INTERVAL, "S", 0, "Write counters to stderr every S seconds; default: never", 0},
    {0},
};

static void add_listen(settings *set, const char *url, struct argp_state *state) {
    if (strncmp(url, "ipc://", 6) != 0 && strncmp(url, "tcp://", 6) != 0)
        argp_error(state, "--listen %s: not ipc://PATH or tcp://ADDRESS:PORT", url);
    if (set->n_listen == LISTEN_MAX)
        argp_error(state, "--listen %s: more than %d addresses", url, LISTEN_MAX);
    else
        set->listen[set->n_listen++] = url;
}

static void check_settings(const settings *set, struct argp_state *state) {
    if (!set->db)
        argp_error(state, "--db FILE is needed");
    else if (!*set->db)
        argp_error(state, "--db: the name is empty");
    if (set->keys && set->allow_plain) argp_error(state, "--keys and --allow-plain exclude each other");
    for (size_t i = 0; i < set->n_listen; i++) {
        const char *url = set->listen[i];
        if (strncmp(url, "tcp://", 6) == 0 && !set->allow_plain && !set->keys)
            argp_error(state, "--listen %s: forbidden: TCP needs --keys DIR, or --allow-plain (loopback only)", url);
        if (strncmp(url, "ipc://", 6) == 0 && strlen(url + 6) > IPC_PATH_MAX)
            argp_error(state, "--listen %s: the path has %zu bytes, a socket's may have %d", url, strlen(url + 6),
                       IPC_PATH_MAX);
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    settings *set = state->input;
    uint64_t number = 0;
    switch (key) {
    case 'd': set->db = arg; break;
    case 'l': add_listen(set, arg, state); break;
    case KEY_KEYS: set->keys = arg; break;
    case KEY_ALLOW_PLAIN: set->allow_plain = true; break;
    case 'r':
        if (!sl_tool_number(arg, 1, 64, &number)) argp_error(state, "--readers %s: not a number from 1 to 64", arg);
        set->n_readers = (unsigned)number;
        break;
    case KEY_SYNCHRONOUS:
        if (strcmp(arg, "full") == 0)
            set->synchronous = SLUICE_SYNC_FULL;
        else if (strcmp(arg, "normal") == 0)
            set->synchronous = SLUICE_SYNC_NORMAL;
        else
            argp_error(state, "--synchronous %s: neither full nor normal", arg);
        break;
    case KEY_FILE_MODE:
        if (strcmp(arg, "exclusive") == 0)
            set->file_mode = SLUICE_FILE_EXCLUSIVE;
        else if (strcmp(arg, "shared") == 0)
            set->file_mode = SLUICE_FILE_SHARED;
        else
            argp_error(state, "--file-mode %s: neither exclusive nor shared", arg);
        break;
    case KEY_CHECKPOINT:
        if (strcmp(arg, "auto") == 0)
            set->checkpointing = SLUICE_CHECKPOINT_AUTO;
        else if (strcmp(arg, "manual") == 0)
            set->checkpointing = SLUICE_CHECKPOINT_MANUAL;
        else
            argp_error(state, "--checkpoint %s: neither auto nor manual", arg);
        break;
    case KEY_STATUS_INTERVAL:
        if (!sl_tool_number(arg, 1, 86400, &number))
            argp_error(state, "--status-interval %s: not a number from 1 to 86400", arg);
        set->status_interval_s = (unsigned)number;
        break;
    case ARGP_KEY_ARG: argp_error(state, "%s: no such argument", arg); break;
    case ARGP_KEY_END: check_settings(set, state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- serving ---- */

/* The absolute path the file has or will have. Returns false if its directory is missing. */
static bool absolute_path(const char *file, char out[PATH_MAX]) {
    if (realpath(file, out)) return true;
    char copy[PATH_MAX];
    if (strlen(file) >= sizeof copy) {
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(copy, file);
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    char directory[PATH_MAX];
    if (slash) *slash = '\0';
    if (!realpath(!slash ? "." : slash == copy ? "/" : copy, directory)) return false;
    int n = snprintf(out, PATH_MAX, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, name);
    if (n < PATH_MAX) return true;
    errno = ENAMETOOLONG;
    return false;
}

/* Fills in the default endpoint beside the file. A path that a socket cannot have is refused before the file is
 * touched. */
static bool choose_endpoint(settings *set, char url[PATH_MAX + 32]) {
    if (set->n_listen) return true;
    char path[PATH_MAX];
    if (!absolute_path(set->db, path)) {
        sl_tool_error(set->db, strerror(errno), "the directory of --db must exist");
        return false;
    }
    snprintf(url, PATH_MAX + 32, "ipc://%s" IPC_SUFFIX, path);
    size_t size = strlen(url) - strlen("ipc://");
    if (size > IPC_PATH_MAX) {
        char why[96];
        snprintf(why, sizeof why, "the socket's path would have %zu bytes, the limit is %d", size, IPC_PATH_MAX);
        sl_tool_error(url, why, "give a shorter one with --listen ipc://PATH");
        return false;
    }
    set->listen[set->n_listen++] = url;
    return true;
}

static bool open_signals(daemon_parts *parts) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) == 0) parts->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (parts->signal_fd >= 0) return true;
    sl_tool_error("signals", strerror(errno), NULL);
    return false;
}

static void on_fatal(void *context, const sluice_cause *cause, int exit_code) {
    const settings *set = context;
    sl_tool_error(set->db, cause->text, "stopped for good; start again to recover the file");
    _Exit(exit_code);
}

static const char *hint_for(sluice_err err) {
    switch (err) {
    case SLUICE_LOCKED: return "one process owns a file; connect to it, or stop it first";
    case SLUICE_NOT_A_DATABASE: return "give another file, or move this one away";
    case SLUICE_CORRUPT: return "restore it from a backup";
    case SLUICE_EXISTS: return "another process listens there";
    default: return NULL;
    }
}

/* On the reader's thread. One line, so that lines of several readers do not mix. */
static void on_old_snapshot(void *context, const sluice_reading *reading) {
    (void)context;
    char text[sizeof reading->statement];
    size_t n = 0;
    for (; reading->statement[n] != '\0'; n++)
        text[n] = (unsigned char)reading->statement[n] < ' ' ? ' ' : reading->statement[n];
    text[n] = '\0';
    fprintf(stderr, "sluiced: reader %u: its snapshot is %llu ms old and keeps the log from being emptied: %s\n",
            reading->number, (unsigned long long)(reading->age_us / 1000), text);
}

static bool start(daemon_parts *parts, const settings *set) {
    sluice_cause cause = {0};
    sluice_err err = sluice_runtime_new(NULL, &parts->runtime, &cause);
    if (err) {
        sl_tool_error("runtime", cause.text, NULL);
        return false;
    }
    sluice_store_options store;
    sluice_store_options_init(&store);
    store.path = set->db;
    store.n_readers = set->n_readers;
    store.synchronous = set->synchronous;
    store.file_mode = set->file_mode;
    store.checkpointing = set->checkpointing;
    store.on_old_snapshot = on_old_snapshot;
    store.on_fatal = on_fatal;
    store.fatal_context = (void *)(uintptr_t)set;
    err = sluice_store_open(parts->runtime, &store, &parts->store, &cause);
    if (err) {
        sl_tool_error(set->db, cause.text, hint_for(err));
        return false;
    }
    sluice_gateway_options gateway;
    sluice_gateway_options_init(&gateway);
    gateway.store = parts->store;
    gateway.allow_plain = set->allow_plain;
    gateway.keys_directory = set->keys;
    err = sluice_gateway_open(parts->runtime, &gateway, &parts->gateway, &cause);
    if (err) {
        sl_tool_error(set->keys ? "keys" : "gateway", cause.text,
                      set->keys
                          ? "`sluice keygen DIR/server' makes the server's pair; clients' .key files go to DIR/clients"
                          : NULL);
        return false;
    }
    for (size_t i = 0; i < set->n_listen; i++) {
        err = sluice_gateway_listen(parts->gateway, set->listen[i], &cause);
        if (!err) continue;
        sl_tool_error(set->listen[i], cause.text, hint_for(err));
        return false;
    }
    return true;
}

/* db comes last, so that a path with spaces stays readable by machines. */
static void print_ready(const daemon_parts *parts) {
    printf("ready pid=%ld", (long)getpid());
    const char *endpoint;
    for (size_t i = 0; (endpoint = sluice_gateway_endpoint(parts->gateway, i)) != NULL; i++)
        printf(" endpoint=%s", endpoint);
    fputs(" db=", stdout);
    for (const char *at = sluice_store_path(parts->store); *at; at++) putchar((unsigned char)*at < ' ' ? '?' : *at);
    putchar('\n');
    if (fflush(stdout) != 0) sl_tool_error("stdout", strerror(errno), "serving all the same");
}

static void print_status(const daemon_parts *parts) {
    sluice_store_stats stats;
    sluice_store_stats_read(parts->store, &stats);
    fprintf(stderr, "sluiced: status:");
#define PRINT_COUNTER(name, meaning) fprintf(stderr, " " #name "=%llu", (unsigned long long)stats.name);
    SLUICE_STORE_STATS_MAP(PRINT_COUNTER)
#undef PRINT_COUNTER
    fputc('\n', stderr);
}

static void reload_keys(const daemon_parts *parts, const settings *set) {
    sluice_cause cause = {0};
    if (sluice_gateway_reload_keys(parts->gateway, &cause))
        sl_tool_error(set->keys, cause.text, "who is not listed in a good file has been cut off");
    else
        fprintf(stderr, "sluiced: %s: keys were read again\n", set->keys);
}

static void wait_for_stop(const daemon_parts *parts, const settings *set) {
    struct pollfd wait = {.fd = parts->signal_fd, .events = POLLIN, .revents = 0};
    for (;;) {
        int n = poll(&wait, 1, set->status_interval_s ? (int)(set->status_interval_s * 1000) : -1);
        if (n == 0) print_status(parts);
        if (n <= 0) continue;
        /* The signal is taken, so that a second one has nothing to add but to be pending. */
        struct signalfd_siginfo info;
        if (!sl_tool_read(parts->signal_fd, &info, sizeof info)) {
            sl_tool_error("signals", strerror(errno), "stopping");
            return;
        }
        if (info.ssi_signo != SIGHUP || !set->keys) return;
        reload_keys(parts, set);
    }
}

static void stop(daemon_parts *parts) {
    sluice_gateway_close(&parts->gateway);
    sluice_store_close(&parts->store);
    sluice_runtime_destroy(&parts->runtime);
    if (parts->signal_fd >= 0) close(parts->signal_fd);
}

int main(int argc, char **argv) {
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "Owns one SQLite file and serves it over ipc and tcp.\v"
               "Prints one line when it serves: ready pid=PID endpoint=URL... db=PATH. TERM or INT finishes the batch, "
               "answers, checkpoints and ends with 0. With --keys, HUP reads the clients' keys again. Exit codes: 0 "
               "stopped as asked, 1 could not start, 2 usage, "
               "70 to 73 the store stopped for good.",
    };
    settings set = {.n_readers = 2};
    static char version[32];
    snprintf(version, sizeof version, "sluiced %s", sluice_version());
    argp_program_version = version;
    argv[0] = program_invocation_short_name;
    argp_err_exit_status = SL_EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &set);

    char url[PATH_MAX + 32];
    sluice_cause cause = {0};
    daemon_parts parts = {.signal_fd = -1};
    if (!choose_endpoint(&set, url)) return SL_EXIT_ERROR;
    if (sl_sqlite_memory_statistics_off(&cause)) sl_tool_error("sqlite", cause.text, "going on");
    bool started = open_signals(&parts) && start(&parts, &set);
    if (started) {
        print_ready(&parts);
        wait_for_stop(&parts, &set);
    }
    stop(&parts);
    return started ? SL_EXIT_OK : SL_EXIT_ERROR;
}
