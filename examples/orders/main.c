/* SPDX-License-Identifier: MIT */
/* orders: an order service over HTTP that owns its database file, and lets other processes use the same file.
 *
 *   HTTP clients --> libmicrohttpd threads --inproc--> writer, readers --> one SQLite file
 *   other processes (the catalog's workers) --tcp--> gateway ----^
 *
 * It prints one line when it serves: "ready http=http://127.0.0.1:PORT gateway=tcp://127.0.0.1:PORT". SIGTERM or
 * SIGINT: it stops accepting, answers what has begun, closes the gateway, then the file, and exits with 0.
 */
#include "book.h"
#include "http.h"
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STOCK 64

typedef struct orders {
    char address[64];
    uint16_t port;
    const char *gateway_url;
    const char *stock[MAX_STOCK];
    size_t n_stock;
    unsigned connections;
    uint32_t timeout_ms;
    sluice_store_options store_options;
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway;
    orders_http *http;
} orders;

/* Makes the tables and fills the stock: "SKU=N". */
static sluice_err prepare_book(orders *self, sluice_cause *cause)
{
    sluice_client *client;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = self->runtime;
    sluice_err err = sluice_client_open("inproc://app", &options, &client, cause);
    if (err != SLUICE_OK) return err;
    err = book_create(client, cause);
    for (size_t i = 0; i < self->n_stock && err == SLUICE_OK; i++) {
        char sku[BOOK_SKU_SIZE];
        int64_t quantity = 0;
        if (sscanf(self->stock[i], "%64[^= ]=%" SCNd64, sku, &quantity) != 2 || quantity < 0)
            err = sluice_cause_set(cause, SLUICE_INVALID, "--stock takes SKU=N, not %s", self->stock[i]);
        else
            err = book_stock_add(client, sku, quantity, cause);
    }
    sluice_client_close(&client);
    return err;
}

static sluice_err open_gateway(orders *self, sluice_cause *cause)
{
    sluice_gateway_options options;
    sluice_gateway_options_init(&options);
    options.store = self->store;
    options.allow_plain = true; /* the gateway takes plain TCP on loopback addresses only */
    options.max_message_bytes = 64u << 20;
    sluice_err err = sluice_gateway_open(self->runtime, &options, &self->gateway, cause);
    return err != SLUICE_OK ? err : sluice_gateway_listen(self->gateway, self->gateway_url, cause);
}

static sluice_err start(orders *self, sluice_cause *cause)
{
    sluice_err err = sluice_runtime_new(NULL, &self->runtime, cause);
    if (err == SLUICE_OK) err = sluice_store_open(self->runtime, &self->store_options, &self->store, cause);
    if (err == SLUICE_OK) err = prepare_book(self, cause);
    if (err == SLUICE_OK && self->gateway_url != NULL) err = open_gateway(self, cause);
    if (err != SLUICE_OK) return err;
    orders_http_options options = {.address = self->address,
                                   .port = self->port,
                                   .max_connections = self->connections,
                                   .timeout_ms = self->timeout_ms,
                                   .runtime = self->runtime,
                                   .store = self->store,
                                   .gateway = self->gateway};
    return orders_http_start(&options, &self->http, cause);
}

static void stop(orders *self)
{
    orders_http_stop(&self->http);
    sluice_gateway_close(&self->gateway);
    sluice_store_close(&self->store);
    sluice_runtime_destroy(&self->runtime);
}

static void usage(FILE *file)
{
    fputs("Usage: orders --db FILE [options]\n"
          "  --http ADDRESS:PORT  where to serve HTTP (default: 127.0.0.1:0, any free port)\n"
          "  --gateway URL        also serve Sluice clients, e.g. tcp://127.0.0.1:* (loopback only) or ipc://PATH\n"
          "  --stock SKU=N        put N of SKU in stock, unless SKU is known already; may be repeated\n"
          "  --connections N      HTTP connections at a time, 1 to 1024 (default: 64)\n"
          "  --timeout MS         how long an order may wait for the store (default: 5000)\n"
          "  --max-pending N      requests that may wait for the writer; more get 503 (default: 16384)\n"
          "  --readers N          reader threads (default: 2)\n",
          file);
}

static bool parse_number(const char *text, unsigned low, unsigned high, uint32_t *out)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return end != text && *end == '\0' && value >= low && value <= high;
}

static bool parse_options(orders *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"db", required_argument, NULL, 'b'},          {"http", required_argument, NULL, 'a'},
        {"gateway", required_argument, NULL, 'g'},     {"stock", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'c'}, {"timeout", required_argument, NULL, 't'},
        {"max-pending", required_argument, NULL, 'p'}, {"readers", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},              {NULL, 0, NULL, 0}};
    bool good = true;
    for (int option; good && (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        uint32_t port = 0;
        char *colon;
        switch (option) {
        case 'b': self->store_options.path = optarg; break;
        case 'a':
            colon = strrchr(optarg, ':');
            good = colon != NULL && colon - optarg < (ptrdiff_t)sizeof self->address &&
                   parse_number(colon + 1, 0, 65535, &port);
            if (good) snprintf(self->address, sizeof self->address, "%.*s", (int)(colon - optarg), optarg);
            self->port = (uint16_t)port;
            break;
        case 'g': self->gateway_url = optarg; break;
        case 's':
            good = self->n_stock < MAX_STOCK;
            if (good) self->stock[self->n_stock++] = optarg;
            break;
        case 'c': good = parse_number(optarg, 1, 1024, &self->connections); break;
        case 't': good = parse_number(optarg, 1, 3600000, &self->timeout_ms); break;
        case 'p': good = parse_number(optarg, 1, 1u << 20, &self->store_options.max_pending); break;
        case 'r': good = parse_number(optarg, 1, 64, &self->store_options.n_readers); break;
        case 'h': usage(stdout); exit(0);
        default: good = false;
        }
    }
    return good && optind == argc && self->store_options.path != NULL;
}

int main(int argc, char **argv)
{
    static orders self = {.address = "127.0.0.1", .connections = 64, .timeout_ms = 5000};
    sluice_cause cause;
    sluice_store_options_init(&self.store_options);
    if (!parse_options(&self, argc, argv)) {
        usage(stderr);
        return 2;
    }
    /* Blocked before any thread is made, so that all threads leave these signals to sigwait below. */
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    sluice_err err = start(&self, &cause);
    if (err != SLUICE_OK) {
        fprintf(stderr, "orders: %s: %s\n", sluice_err_name(err), cause.text);
        stop(&self);
        return 1;
    }
    printf("ready http=http://%s:%u%s%s\n", self.address, (unsigned)orders_http_port(self.http),
           self.gateway != NULL ? " gateway=" : "",
           self.gateway != NULL ? sluice_gateway_endpoint(self.gateway, 0) : "");
    fflush(stdout);
    sigwait(&signals, &number);
    stop(&self);
    return 0;
}
