/* SPDX-License-Identifier: MIT */
/* orders-load: concurrent HTTP clients that place orders, and misbehave in the ways clients do.
 *
 * Each client is a thread with a keep-alive connection. Every order has an idempotency key of its own. An order without
 * an answer (connection lost, 503) is sent again with the same key until there is one: 201 and 200 are acknowledgements
 * and are logged outside the server as "key TAB id TAB sku TAB quantity"; 409 is a definite no.
 *   1 in 10 orders is sent a second time on purpose: the answer must be the first one, marked as a replay.
 *   1 in 50 keys is used again for another order: the answer must be 422.
 *   1 in 10 orders is read back, and so is its stock, which must not be negative.
 *   1 in 50 orders is for the sku given with --rare, which may be sold out.
 *
 * Usage: orders-load --url http://HOST:PORT [--clients N] [--seconds N] [--log FILE] [--sku SKU]... [--rare SKU]
 * Exit code: 0 every answer was as it must be, 1 not, 2 usage.
 */
#include "common/acklog.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/tally.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 256
#define MAX_SKUS 64

typedef struct load {
    const char *url, *log_path, *rare, *skus[MAX_SKUS];
    size_t n_skus;
    unsigned n_clients, seconds;
    int log;
    char run[64]; /* makes the keys of this run different from those of any other */
    pthread_mutex_t lock;
    tally tally; /* guarded by lock */
} load;

typedef struct load_client {
    load *load;
    unsigned number;
    uint64_t seed;
    http_connection connection;
    http_answer answer;
    pthread_t thread;
} load_client;

static atomic_bool stopping; /* lock-free, so a signal handler may set it */

static void on_signal(int number)
{
    (void)number;
    stopping = true;
}

#define COUNT(load, field)                                                                                             \
    do {                                                                                                               \
        pthread_mutex_lock(&(load)->lock);                                                                             \
        (load)->tally.field++;                                                                                         \
        pthread_mutex_unlock(&(load)->lock);                                                                           \
    } while (0)

/* An answer that must not be. */
static void wrong(load_client *self, const char *what, const char *key)
{
    fprintf(stderr, "orders-load: %s (key %s): status %d %s\n", what, key, self->answer.status, self->answer.body);
    COUNT(self->load, failed);
}

/* A whole number of the answer's JSON, -1 if it has none of that name. */
static int64_t number_in(const http_answer *answer, const char *name)
{
    json_t *document = json_loadb(answer->body, answer->body_size, 0, NULL);
    json_t *number = json_object_get(document, name);
    int64_t value = json_is_integer(number) ? json_integer_value(number) : -1;
    json_decref(document);
    return value;
}

/* Sends an order until it is answered with yes or no. False if it never was before the end came. */
static bool place(load_client *self, const char *key, const char *body)
{
    /* When the end comes the order in hand is still brought to its answer, if the server gives one within 10 s. */
    uint64_t patience = 0;
    for (;;) {
        bool answered = http_call(&self->connection, "POST", "/orders", key, body, &self->answer);
        if (answered && self->answer.status != 503) return true;
        if (answered) COUNT(self->load, refused);
        uint64_t now = clock_us();
        if (stopping && patience == 0) patience = now + 10000000;
        if (patience != 0 && (now > patience || !answered)) return false;
        clock_sleep_ms(answered ? (stopping ? 100 : 1000 * (self->answer.retry_after > 0)) : 20);
    }
}

static void read_back(load_client *self, const char *key, int64_t id, const char *sku)
{
    char path[160];
    snprintf(path, sizeof path, "/orders/%" PRId64, id);
    if (http_call(&self->connection, "GET", path, NULL, NULL, &self->answer) && self->answer.status != 503) {
        COUNT(self->load, reads);
        if (self->answer.status != 200 || number_in(&self->answer, "id") != id)
            wrong(self, "an acknowledged order was not found", key);
    }
    snprintf(path, sizeof path, "/stock/%s", sku);
    if (http_call(&self->connection, "GET", path, NULL, NULL, &self->answer) && self->answer.status != 503) {
        COUNT(self->load, reads);
        if (self->answer.status != 200 || number_in(&self->answer, "remaining") < 0)
            wrong(self, "the stock could not be read or was negative", sku);
    }
}

static void one_order(load_client *self, uint64_t n)
{
    load *all = self->load;
    char key[128], body[256];
    const char *sku = all->skus[random_next(&self->seed) % all->n_skus];
    if (all->rare != NULL && random_next(&self->seed) % 50 == 0) sku = all->rare;
    int64_t quantity = (int64_t)(random_next(&self->seed) % 3) + 1;
    snprintf(key, sizeof key, "%s.%u.%" PRIu64, all->run, self->number, n);
    snprintf(body, sizeof body, "{\"sku\":\"%s\",\"quantity\":%" PRId64 "}", sku, quantity);
    COUNT(all, requests);
    uint64_t begun = clock_us();
    if (!place(self, key, body)) {
        COUNT(all, unknown);
        return;
    }
    if (self->answer.status == 409) {
        COUNT(all, refused);
        return;
    }
    int64_t id = number_in(&self->answer, "id");
    if ((self->answer.status != 201 && self->answer.status != 200) || id < 1) {
        wrong(self, "an order was refused", key);
        return;
    }
    acklog_add(all->log, "%s\t%" PRId64 "\t%s\t%" PRId64, key, id, sku, quantity);
    pthread_mutex_lock(&all->lock);
    tally_acknowledge(&all->tally, clock_us() - begun);
    pthread_mutex_unlock(&all->lock);

    if (random_next(&self->seed) % 10 == 0 && place(self, key, body)) {
        if (self->answer.status == 200 && self->answer.replayed && number_in(&self->answer, "id") == id)
            COUNT(all, replayed);
        else
            wrong(self, "a repeated order was not answered with the first answer", key);
    }
    if (random_next(&self->seed) % 50 == 0) {
        snprintf(body, sizeof body, "{\"sku\":\"%s\",\"quantity\":%" PRId64 "}", sku, quantity + 1);
        if (place(self, key, body) && self->answer.status != 422)
            wrong(self, "a key was taken for a second, different order", key);
    }
    if (random_next(&self->seed) % 10 == 0) read_back(self, key, id, sku);
}

static void *run_client(void *context)
{
    load_client *self = context;
    for (uint64_t n = 1; !stopping; n++) one_order(self, n);
    http_connection_fini(&self->connection);
    return NULL;
}

static void report(load *self, const char *word)
{
    pthread_mutex_lock(&self->lock);
    tally copy = self->tally;
    pthread_mutex_unlock(&self->lock);
    tally_print(stdout, word, &copy);
}

static int usage(void)
{
    fputs("Usage: orders-load --url http://HOST:PORT [--clients N] [--seconds N] [--log FILE] [--sku SKU]...\n"
          "                   [--rare SKU]\n"
          "Places orders until SIGTERM or for N seconds, and checks every answer.\n",
          stderr);
    return 2;
}

static bool parse_options(load *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},     {"clients", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"log", required_argument, NULL, 'l'},
        {"sku", required_argument, NULL, 'k'},     {"rare", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'u': self->url = optarg; break;
        case 'c': self->n_clients = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': self->seconds = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'l': self->log_path = optarg; break;
        case 'r': self->rare = optarg; break;
        case 'k':
            if (self->n_skus == MAX_SKUS) return false;
            self->skus[self->n_skus++] = optarg;
            break;
        default: return false;
        }
    }
    if (self->n_skus == 0) self->skus[self->n_skus++] = "widget";
    return optind == argc && self->url != NULL && self->n_clients >= 1 && self->n_clients <= MAX_CLIENTS;
}

int main(int argc, char **argv)
{
    static load self = {.n_clients = 8, .lock = PTHREAD_MUTEX_INITIALIZER};
    static load_client clients[MAX_CLIENTS];
    if (!parse_options(&self, argc, argv)) return usage();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    self.log = acklog_open(self.log_path);
    if (self.log < 0) {
        fprintf(stderr, "orders-load: %s: %s\n", self.log_path, strerror(errno));
        return 1;
    }
    snprintf(self.run, sizeof self.run, "%lld.%ld", (long long)time(NULL), (long)getpid());
    for (unsigned i = 0; i < self.n_clients; i++) {
        clients[i] = (load_client){.load = &self, .number = i, .seed = clock_us() + i * 7919u};
        if (!http_connection_init(&clients[i].connection, self.url, 10000)) return usage();
    }
    unsigned n = 0;
    while (n < self.n_clients && pthread_create(&clients[n].thread, NULL, run_client, &clients[n]) == 0) n++;
    uint64_t end = self.seconds > 0 ? clock_us() + self.seconds * 1000000ull : UINT64_MAX;
    while (!stopping && clock_us() < end) {
        clock_sleep_ms(1000);
        if (!stopping) report(&self, "progress");
    }
    stopping = true;
    for (unsigned i = 0; i < n; i++) pthread_join(clients[i].thread, NULL);
    report(&self, "done");
    close(self.log);
    return self.tally.failed == 0 && n == self.n_clients ? 0 : 1;
}
