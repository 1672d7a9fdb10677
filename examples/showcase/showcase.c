/* SPDX-License-Identifier: MIT */
/* showcase: runs the microservices against one file, a stock-SQLite control group beside them, and keeps the score.
 *
 *   orders (owns sluice.db) <--tcp-- N x catalog-worker, catalog-reader
 *           ^--------------http------ orders-load (the buyers)
 *   stock.db <------------------------ N x control-stock
 *
 * Course: start the owner and wait for its "ready" line; start the rest; one line per second; at the end stop the
 * writers and wait for their last counters; compare the catalog with dpkg-query while the owner still serves; end the
 * owner by SIGTERM; let the judge look for every acknowledged write in both files; print the table.
 *
 * Exit code: 0 nothing was lost or doubled, no answer was wrong, and the catalog equals dpkg-query; 1 otherwise;
 * 2 usage; 130 after Ctrl-C.
 */
#include "common/clock.h"
#include "showcase/children.h"
#include "showcase/score.h"
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORKERS 16

typedef struct show {
    char bin[PATH_MAX]; /* where the programs are */
    const char *directory, *dpkg, *busy_timeout;
    unsigned n_workers, n_buyers, seconds;
    bool serve;
    char http[256], gateway[256], db[PATH_MAX], stock_db[PATH_MAX];
    char orders_log[PATH_MAX], catalog_log[PATH_MAX], stock_log[PATH_MAX];
    children children;
    http_connection connection;
    bool compared; /* with dpkg-query, and found equal */
    bool failed;
} show;

static atomic_bool interrupted; /* lock-free, so a signal handler may set it */

static void on_signal(int number)
{
    (void)number;
    interrupted = true;
}

static void __attribute__((format(printf, 2, 3))) fail(show *self, const char *format, ...)
{
    va_list arguments;
    self->failed = true;
    va_start(arguments, format);
    fputs("FAILED: ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* "BIN/name" in storage of the caller's. */
static const char *program(const show *self, const char *name, char *out)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", self->bin, name);
    return size > 0 && size < PATH_MAX ? out : name;
}

/* ---- start ---- */

static bool start_owner(show *self)
{
    char path[PATH_MAX];
    const char *argv[] = {program(self, "orders", path), "--db", self->db, "--http", "127.0.0.1:0", "--gateway",
                          "tcp://127.0.0.1:*", "--stock", "widget=100000000", "--stock", "gadget=100000000", "--stock",
                          "gizmo=100000000", "--stock", "rarity=100", NULL};
    child *owner = children_start(&self->children, OWNER, "orders", argv);
    if (owner == NULL) return false;
    uint64_t end = clock_us() + 30000000;
    while (owner->ready[0] == '\0' && owner->pid > 0 && clock_us() < end) children_listen(&self->children, 1000);
    if (sscanf(owner->ready, "ready http=%255s gateway=%255s", self->http, self->gateway) != 2) {
        fail(self, "orders did not become ready");
        return false;
    }
    return http_connection_init(&self->connection, self->http, 5000);
}

static bool start_catalog(show *self)
{
    char path[PATH_MAX], name[32];
    for (unsigned i = 1; i <= self->n_workers; i++) {
        snprintf(name, sizeof name, "worker-%u", i);
        const char *worker[] = {program(self, "catalog-worker", path), "--connect", self->gateway, "--worker", name,
                                "--log", self->catalog_log, "--dpkg", self->dpkg, NULL};
        if (children_start(&self->children, WORKER, name, worker) == NULL) return false;
        snprintf(name, sizeof name, "control-%u", i);
        const char *control[] = {program(self, "control-stock", path), "--db", self->stock_db, "--worker", name,
                                 "--log", self->stock_log, "--busy-timeout", self->busy_timeout, "--dpkg", self->dpkg,
                                 NULL};
        if (children_start(&self->children, CONTROL, name, control) == NULL) return false;
    }
    const char *reader[] = {program(self, "catalog-reader", path), "--connect", self->gateway, NULL};
    return children_start(&self->children, READER, "catalog-reader", reader) != NULL;
}

static bool start_buyers(show *self)
{
    char path[PATH_MAX], n_buyers[16];
    snprintf(n_buyers, sizeof n_buyers, "%u", self->n_buyers);
    const char *argv[] = {program(self, "orders-load", path), "--url", self->http, "--clients", n_buyers, "--log",
                          self->orders_log, "--sku", "widget", "--sku", "gadget", "--sku", "gizmo", "--rare",
                          "rarity", NULL};
    return children_start(&self->children, BUYERS, "orders-load", argv) != NULL;
}

/* ---- the run ---- */

static void print_commands(const show *self)
{
    printf("\nServing. Try, from another terminal:\n"
           "  curl -i -X POST %s/orders -H 'Idempotency-Key: my-1' -d '{\"sku\":\"widget\",\"quantity\":2}'\n"
           "  curl -i %s/orders/1\n  curl -i %s/stock/widget\n  curl -s %s/stats\n"
           "  %s/catalog-query --connect %s owner /bin/bash\n"
           "  %s/catalog-query --connect %s needed-by libc6\n"
           "Ctrl-C ends it, with the final check.\n\n",
           self->http, self->http, self->http, self->http, self->bin, self->gateway, self->bin, self->gateway);
    fflush(stdout);
}

static bool first_round_is_missing(const show *self)
{
    return children_tally(&self->children, WORKER).rounds < 1;
}

static bool any_ended(const show *self)
{
    for (int role = 0; role < N_ROLES; role++)
        if (children_any_ended(&self->children, (child_role)role)) return true;
    return false;
}

/* One line per second, until the time is up and the first round of the catalog is complete (on a slow machine that may
 * take longer than the time given; it is not waited for more than two minutes). */
static void run_for_seconds(show *self)
{
    owner_stats before = {0}, now;
    uint64_t begun = clock_us(), last = begun;
    owner_stats_read(&self->connection, &before);
    for (unsigned second = 1; !interrupted; second++) {
        uint64_t next = begun + second * 1000000ull;
        for (uint64_t at = clock_us(); at < next && !interrupted; at = clock_us())
            children_listen(&self->children, (int)((next - at) / 1000) + 1);
        if (any_ended(self)) {
            fail(self, "a program ended before its time");
            return;
        }
        if (!owner_stats_read(&self->connection, &now)) {
            fail(self, "orders did not answer GET /stats");
            return;
        }
        uint64_t at = clock_us();
        live_line(second, at - last, &before, &now, &self->children);
        before = now;
        last = at;
        if (second >= self->seconds && (!first_round_is_missing(self) || second >= self->seconds + 120)) return;
    }
}

static void wait_for_interrupt(show *self)
{
    while (!interrupted && !children_any_ended(&self->children, OWNER)) children_listen(&self->children, 1000);
}

/* Stops the writers and readers of a role and checks how they ended. */
static void stop_role(show *self, child_role role, const char *name)
{
    children_signal(&self->children, role, SIGTERM);
    if (!children_await(&self->children, role, 60000)) fail(self, "%s did not end within a minute", name);
    if (children_any_failed(&self->children, role)) fail(self, "%s ended with an error", name);
}

static void check_catalog(show *self)
{
    char path[PATH_MAX];
    const char *argv[] = {program(self, "catalog-check", path), "--connect", self->gateway, "--dpkg", self->dpkg, NULL};
    printf("\nThe catalog against dpkg-query:\n");
    fflush(stdout);
    self->compared = run_to_end(argv, true, NULL, 0) == 0;
    if (!self->compared) fail(self, "the catalog differs from dpkg-query");
}

static void ask_judge(show *self, const char *db, const char *what, const char *log, verdict *out)
{
    char path[PATH_MAX], line[256] = "";
    const char *argv[] = {program(self, "judge", path), "--db", db, what, log, NULL};
    run_to_end(argv, false, line, sizeof line);
    verdict_parse(line, out);
}

/* The end of the show: who wrote, and what is in the files. */
static void score(show *self)
{
    column columns[] = {{.heading = "Sluice: catalog", .tally = children_tally(&self->children, WORKER)},
                        {.heading = "Sluice: orders", .tally = children_tally(&self->children, BUYERS)},
                        {.heading = "stock SQLite", .tally = children_tally(&self->children, CONTROL)}};
    ask_judge(self, self->db, "catalog", self->catalog_log, &columns[0].verdict);
    ask_judge(self, self->db, "orders", self->orders_log, &columns[1].verdict);
    ask_judge(self, self->stock_db, "catalog", self->stock_log, &columns[2].verdict);
    final_table(columns, 3);
    tally reader = children_tally(&self->children, READER), buyers = columns[1].tally;
    printf("\n  %" PRIu64 " catalog reads while it was written, %" PRIu64 " of them wrong; %" PRIu64
           " orders sent twice on purpose, each answered as one\n",
           reader.reads, reader.bad_reads, buyers.replayed);
    for (size_t i = 0; i < 2; i++) {
        if (columns[i].tally.acknowledged == 0) { /* the judge may not even have found tables */
            if (!interrupted) fail(self, "%s: nothing was written", columns[i].heading);
            continue;
        }
        if (!verdict_good(&columns[i].verdict)) fail(self, "%s: lost, doubled or wrong rows", columns[i].heading);
        if (columns[i].verdict.acknowledged != columns[i].tally.acknowledged)
            fail(self, "%s: %" PRIu64 " acknowledgements counted, %" PRIu64 " logged", columns[i].heading,
                 columns[i].tally.acknowledged, columns[i].verdict.acknowledged);
        if (columns[i].tally.busy > 0) fail(self, "%s: a client saw SQLITE_BUSY", columns[i].heading);
    }
    if (reader.bad_reads > 0 || reader.busy > 0) fail(self, "the reader got wrong answers");
}

static int perform(show *self)
{
    if (!start_owner(self) || !start_catalog(self) || !start_buyers(self)) {
        fail(self, "could not start");
        return 1;
    }
    printf("orders %s, gateway %s, %u catalog workers, %u buyers; control: %u processes, busy_timeout %s ms\n",
           self->http, self->gateway, self->n_workers, self->n_buyers, self->n_workers, self->busy_timeout);
    if (self->serve) print_commands(self);
    run_for_seconds(self);
    bool cut_short = interrupted && !self->serve;
    stop_role(self, CONTROL, "the control group");
    stop_role(self, BUYERS, "orders-load");
    stop_role(self, READER, "catalog-reader");
    stop_role(self, WORKER, "catalog-worker");
    if (!cut_short && !first_round_is_missing(self)) check_catalog(self);
    if (!interrupted && self->serve && !self->failed) {
        print_commands(self);
        wait_for_interrupt(self);
    }
    http_connection_fini(&self->connection);
    stop_role(self, OWNER, "orders");
    score(self);
    if (!interrupted && !self->compared) fail(self, "the catalog could not be compared");
    if (self->failed)
        printf("\nFAILED\n");
    else
        printf("\nNothing lost, nothing doubled, no BUSY%s.\n",
               self->compared ? ", the catalog equals dpkg-query" : "; cut short, so the catalog was not compared");
    return self->failed ? 1 : cut_short ? 130 : 0;
}

/* ---- options ---- */

static int usage(void)
{
    fputs("Usage: showcase --directory DIR [--seconds N] [--workers N] [--buyers N] [--busy-timeout MS] [--dpkg DIR]\n"
          "                [--serve]\n",
          stderr);
    return 2;
}

static bool parse_options(show *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"directory", required_argument, NULL, 'd'}, {"seconds", required_argument, NULL, 's'},
        {"workers", required_argument, NULL, 'w'},   {"buyers", required_argument, NULL, 'b'},
        {"dpkg", required_argument, NULL, 'g'},      {"busy-timeout", required_argument, NULL, 't'},
        {"serve", no_argument, NULL, 'v'},           {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'd': self->directory = optarg; break;
        case 's': self->seconds = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'w': self->n_workers = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'b': self->n_buyers = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'g': self->dpkg = optarg; break;
        case 't': self->busy_timeout = optarg; break;
        case 'v': self->serve = true; break;
        default: return false;
        }
    }
    return optind == argc && self->directory != NULL && self->n_workers >= 1 && self->n_workers <= MAX_WORKERS &&
           self->n_buyers >= 1 && self->n_buyers <= 256 && self->seconds >= 1;
}

int main(int argc, char **argv)
{
    static show self = {
        .dpkg = "/var/lib/dpkg", .busy_timeout = "5000", .n_workers = 4, .n_buyers = 16, .seconds = 40};
    if (!parse_options(&self, argc, argv)) return usage();
    ssize_t size = readlink("/proc/self/exe", self.bin, sizeof self.bin - 1);
    if (size <= 0) return 1;
    self.bin[size] = '\0';
    *strrchr(self.bin, '/') = '\0';
    snprintf(self.db, sizeof self.db, "%s/sluice.db", self.directory);
    snprintf(self.stock_db, sizeof self.stock_db, "%s/stock.db", self.directory);
    snprintf(self.orders_log, sizeof self.orders_log, "%s/orders.log", self.directory);
    snprintf(self.catalog_log, sizeof self.catalog_log, "%s/catalog.log", self.directory);
    snprintf(self.stock_log, sizeof self.stock_log, "%s/stock.log", self.directory);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    int code = perform(&self);
    children_end(&self.children);
    return code;
}
