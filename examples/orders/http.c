/* SPDX-License-Identifier: MIT */
/* One thread per connection (libmicrohttpd's), bounded in number. A handler runs on its connection's thread, takes a
 * client from the pool for as long as one request lasts, and waits for the store's answer; so the orders of all
 * connections that wait together are committed together.
 *
 * Stop order: draining is set (each answer closes its connection from now on); the listening socket is closed; requests
 * that have begun are waited for; the daemon is stopped, which joins its threads; the pool's clients are closed.
 */
#include "http.h"
#include "book.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_BODY 4096
#define MAX_SWALLOWED (1024 * 1024) /* of a body that is too big and hides its length */
#define IDLE_SECONDS 30
#define DRAIN_SECONDS 15

#define HTTP_STATS_MAP(X)                                                                                              \
    X(requests, "requests answered")                                                                                   \
    X(placed, "orders placed")                                                                                         \
    X(replayed, "orders asked for again")                                                                              \
    X(sold_out, "orders refused for want of stock")                                                                    \
    X(overloaded, "requests answered 503")                                                                             \
    X(bad, "requests answered with another 4xx")                                                                       \
    X(broken, "requests answered 500")

struct orders_http {
    orders_http_options options;
    char inproc[80];
    struct MHD_Daemon *daemon;
    atomic_bool draining;
    atomic_int in_flight, connections;
    pthread_mutex_t lock; /* guards the pool */
    sluice_client **pool;
    size_t n_pool;
#define HTTP_STATS_FIELD(name, meaning) atomic_ullong name;
    HTTP_STATS_MAP(HTTP_STATS_FIELD)
#undef HTTP_STATS_FIELD
};

/* One request, from its first byte to the end of its answer. */
typedef struct exchange {
    orders_http *server;
    size_t size; /* of the body so far, also what did not fit */
    char body[MAX_BODY + 1];
} exchange;

typedef enum MHD_Result result;

/* ---- clients ---- */

static sluice_err pool_take(orders_http *self, sluice_client **out, sluice_cause *cause)
{
    pthread_mutex_lock(&self->lock);
    *out = self->n_pool > 0 ? self->pool[--self->n_pool] : NULL;
    pthread_mutex_unlock(&self->lock);
    if (*out != NULL) return SLUICE_OK;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = self->options.runtime;
    options.timeout_ms = self->options.timeout_ms;
    return sluice_client_open(self->inproc, &options, out, cause);
}

/* There are never more clients than connections, so there is always room. */
static void pool_give(orders_http *self, sluice_client **client)
{
    if (*client == NULL) return;
    pthread_mutex_lock(&self->lock);
    self->pool[self->n_pool++] = *client;
    pthread_mutex_unlock(&self->lock);
    *client = NULL;
}

/* ---- answers ---- */

/* Answers with a JSON document, which it consumes. */
static result answer(orders_http *self, struct MHD_Connection *connection, unsigned status, json_t *document,
                     const char *header, const char *value)
{
    char *text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    if (text == NULL) return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    if (header != NULL) MHD_add_response_header(response, header, value);
    if (atomic_load(&self->draining)) MHD_add_response_header(response, "Connection", "close");
    result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    atomic_fetch_add(&self->requests, 1);
    if (status == 503)
        atomic_fetch_add(&self->overloaded, 1);
    else if (status >= 500)
        atomic_fetch_add(&self->broken, 1);
    else if (status >= 400 && status != 409)
        atomic_fetch_add(&self->bad, 1);
    return queued;
}

static result answer_error(orders_http *self, struct MHD_Connection *connection, unsigned status, const char *word,
                           const char *text)
{
    return answer(self, connection, status, json_pack("{s:s,s:s}", "error", word, "text", text), NULL, NULL);
}

static result answer_order(orders_http *self, struct MHD_Connection *connection, unsigned status,
                           const book_order *order, bool replayed)
{
    json_t *document = json_pack("{s:I,s:s,s:I,s:I}", "id", (json_int_t)order->id, "sku", order->sku, "quantity",
                                 (json_int_t)order->quantity, "created", (json_int_t)order->created);
    return answer(self, connection, status, document, replayed ? "Idempotent-Replay" : NULL, "true");
}

static result answer_later(orders_http *self, struct MHD_Connection *connection, const char *word,
                           const sluice_cause *cause)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", cause->retry_after_ms / 1000 + 1);
    return answer(self, connection, 503, json_pack("{s:s,s:s}", "error", word, "text", cause->text), "Retry-After",
                  seconds);
}

/* Everything but the good endings. */
static result answer_outcome(orders_http *self, struct MHD_Connection *connection, book_outcome outcome,
                             const sluice_cause *cause)
{
    switch (outcome) {
    case BOOK_SOLD_OUT:
        atomic_fetch_add(&self->sold_out, 1);
        return answer_error(self, connection, 409, "sold_out", "there is not enough of it in stock");
    case BOOK_KEY_REUSED:
        return answer_error(self, connection, 422, "key_reused", "this Idempotency-Key was used for another order");
    case BOOK_NOT_FOUND: return answer_error(self, connection, 404, "not_found", "there is no such thing");
    case BOOK_LATER: return answer_later(self, connection, sluice_err_name(cause->code), cause);
    case BOOK_UNKNOWN: return answer_later(self, connection, "unknown", cause);
    default:
        fprintf(stderr, "orders: %s: %s\n", sluice_err_name(cause->code), cause->text);
        return answer_error(self, connection, 500, sluice_err_name(cause->code), cause->text);
    }
}

/* ---- POST /orders ---- */

static bool word_is_valid(const char *word, size_t size, size_t room)
{
    if (size == 0 || size >= room) return false;
    for (size_t i = 0; i < size; i++)
        if (word[i] <= ' ' || word[i] > '~') return false;
    return true;
}

/* Reads the body; NULL if it is an order, else what is wrong with it. */
static const char *parse_order(const exchange *request, char *sku, int64_t *quantity)
{
    json_error_t where;
    const char *wrong = NULL;
    json_t *document = json_loadb(request->body, request->size, JSON_REJECT_DUPLICATES, &where);
    json_t *name = json_object_get(document, "sku"), *number = json_object_get(document, "quantity");
    if (document == NULL || !json_is_object(document))
        wrong = "the body is not a JSON object";
    else if (!json_is_string(name) ||
             !word_is_valid(json_string_value(name), json_string_length(name), BOOK_SKU_SIZE))
        wrong = "\"sku\" must be 1 to 64 printable characters without blanks";
    else if (!json_is_integer(number) || json_integer_value(number) < 1 ||
             json_integer_value(number) > BOOK_MAX_QUANTITY)
        wrong = "\"quantity\" must be a whole number from 1 to 1000000";
    if (wrong == NULL) {
        snprintf(sku, BOOK_SKU_SIZE, "%s", json_string_value(name));
        *quantity = json_integer_value(number);
    }
    json_decref(document);
    return wrong;
}

static result post_order(exchange *request, struct MHD_Connection *connection)
{
    orders_http *self = request->server;
    char sku[BOOK_SKU_SIZE] = "";
    int64_t quantity = 0;
    if (request->size > MAX_BODY)
        return answer_error(self, connection, 413, "too_big", "an order has at most 4096 bytes");
    const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");
    if (key == NULL || !word_is_valid(key, strlen(key), BOOK_KEY_SIZE))
        return answer_error(self, connection, 400, "bad_key",
                            "send a header Idempotency-Key of 1 to 128 printable characters without blanks");
    const char *wrong = parse_order(request, sku, &quantity);
    if (wrong != NULL) return answer_error(self, connection, 400, "bad_order", wrong);

    sluice_client *client;
    sluice_cause cause = {0};
    if (pool_take(self, &client, &cause) != SLUICE_OK) return answer_later(self, connection, "closed", &cause);
    book_order order = {0};
    book_outcome outcome = book_place(client, key, sku, quantity, &order, &cause);
    pool_give(self, &client);
    if (outcome == BOOK_PLACED) {
        atomic_fetch_add(&self->placed, 1);
        return answer_order(self, connection, 201, &order, false);
    }
    if (outcome == BOOK_REPLAYED) {
        atomic_fetch_add(&self->replayed, 1);
        return answer_order(self, connection, 200, &order, true);
    }
    return answer_outcome(self, connection, outcome, &cause);
}

/* ---- the GETs ---- */

static result get_order(orders_http *self, struct MHD_Connection *connection, const char *id_text)
{
    char *end;
    errno = 0;
    long long id = strtoll(id_text, &end, 10);
    if (end == id_text || *end != '\0' || errno != 0 || id < 1)
        return answer_error(self, connection, 404, "not_found", "an order's id is a whole number");
    sluice_client *client;
    sluice_cause cause = {0};
    if (pool_take(self, &client, &cause) != SLUICE_OK) return answer_later(self, connection, "closed", &cause);
    book_order order = {0};
    book_outcome outcome = book_find(client, id, &order, &cause);
    pool_give(self, &client);
    if (outcome == BOOK_FOUND) return answer_order(self, connection, 200, &order, false);
    return answer_outcome(self, connection, outcome, &cause);
}

static result get_stock(orders_http *self, struct MHD_Connection *connection, const char *sku)
{
    sluice_client *client;
    sluice_cause cause = {0};
    int64_t remaining = 0;
    if (!word_is_valid(sku, strlen(sku), BOOK_SKU_SIZE))
        return answer_error(self, connection, 404, "not_found", "there is no such sku");
    if (pool_take(self, &client, &cause) != SLUICE_OK) return answer_later(self, connection, "closed", &cause);
    book_outcome outcome = book_remaining(client, sku, &remaining, &cause);
    pool_give(self, &client);
    if (outcome == BOOK_FOUND)
        return answer(self, connection, 200,
                      json_pack("{s:s,s:I}", "sku", sku, "remaining", (json_int_t)remaining), NULL, NULL);
    return answer_outcome(self, connection, outcome, &cause);
}

static result get_health(orders_http *self, struct MHD_Connection *connection)
{
    sluice_client *client;
    sluice_cause cause = {0};
    if (pool_take(self, &client, &cause) != SLUICE_OK) return answer_later(self, connection, "closed", &cause);
    sluice_err err = sluice_client_ping(client, &cause);
    pool_give(self, &client);
    if (err != SLUICE_OK) return answer_later(self, connection, sluice_err_name(err), &cause);
    return answer(self, connection, 200, json_pack("{s:s}", "status", "ok"), NULL, NULL);
}

static result get_stats(orders_http *self, struct MHD_Connection *connection)
{
    sluice_store_stats store;
    sluice_store_stats_read(self->options.store, &store);
    json_t *document = json_object(), *part = json_object();
#define STATS_ADD(name, meaning) json_object_set_new(part, #name, json_integer((json_int_t)store.name));
    SLUICE_STORE_STATS_MAP(STATS_ADD)
#undef STATS_ADD
    json_object_set_new(document, "store", part);
    part = json_object();
#define STATS_ADD(name, meaning) json_object_set_new(part, #name, json_integer((json_int_t)atomic_load(&self->name)));
    HTTP_STATS_MAP(STATS_ADD)
#undef STATS_ADD
    json_object_set_new(document, "http", part);
    if (self->options.gateway != NULL) {
        sluice_gateway_stats gateway;
        sluice_gateway_stats_read(self->options.gateway, &gateway);
        part = json_object();
#define STATS_ADD(name, meaning) json_object_set_new(part, #name, json_integer((json_int_t)gateway.name));
        SLUICE_GATEWAY_STATS_MAP(STATS_ADD)
#undef STATS_ADD
        json_object_set_new(document, "gateway", part);
    }
    return answer(self, connection, 200, document, NULL, NULL);
}

/* ---- libmicrohttpd's side ---- */

static result route(exchange *request, struct MHD_Connection *connection, const char *path, const char *method)
{
    orders_http *self = request->server;
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, post = strcmp(method, "POST") == 0;
    bool orders = strcmp(path, "/orders") == 0, order = strncmp(path, "/orders/", 8) == 0;
    bool stock = strncmp(path, "/stock/", 7) == 0, health = strcmp(path, "/healthz") == 0;
    bool stats = strcmp(path, "/stats") == 0;
    if (!orders && !order && !stock && !health && !stats)
        return answer_error(self, connection, 404, "not_found",
                            "try /orders, /orders/ID, /stock/SKU, /healthz, /stats");
    if (orders ? !post : !get)
        return answer(self, connection, 405, json_pack("{s:s,s:s}", "error", "method", "text", "see the header Allow"),
                      "Allow", orders ? "POST" : "GET, HEAD");
    if (orders) return post_order(request, connection);
    if (order) return get_order(self, connection, path + 8);
    if (stock) return get_stock(self, connection, path + 7);
    return health ? get_health(self, connection) : get_stats(self, connection);
}

/* libmicrohttpd calls this once for the head, again for each piece of the body, and a last time to be answered. */
static result on_request(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                         const char *version, const char *data, size_t *size, void **state)
{
    orders_http *self = context;
    exchange *request = *state;
    (void)version;
    if (request == NULL) {
        request = calloc(1, sizeof *request);
        if (request == NULL) return MHD_NO;
        request->server = self;
        *state = request;
        atomic_fetch_add(&self->in_flight, 1);
        /* A body that says it is too big is not waited for. */
        const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
        if (length != NULL && strtoull(length, NULL, 10) > MAX_BODY)
            return answer_error(self, connection, 413, "too_big", "an order has at most 4096 bytes");
        return MHD_YES;
    }
    if (*size > 0) {
        if (request->size < MAX_BODY) {
            size_t room = MAX_BODY - request->size;
            memcpy(request->body + request->size, data, *size < room ? *size : room);
        }
        request->size += *size;
        *size = 0;
        return request->size <= MAX_SWALLOWED ? MHD_YES : MHD_NO; /* MHD_NO closes the connection */
    }
    return route(request, connection, path, method);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    orders_http *self = context;
    (void)connection, (void)why;
    if (*state == NULL) return;
    free(*state);
    *state = NULL;
    atomic_fetch_sub(&self->in_flight, 1);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    orders_http *self = context;
    (void)connection, (void)state;
    atomic_fetch_add(&self->connections, what == MHD_CONNECTION_NOTIFY_STARTED ? 1 : -1);
}

static void orders_http_destroy(orders_http **self)
{
    if (*self == NULL) return;
    if ((*self)->daemon != NULL) MHD_stop_daemon((*self)->daemon);
    for (size_t i = 0; i < (*self)->n_pool; i++) sluice_client_close(&(*self)->pool[i]);
    pthread_mutex_destroy(&(*self)->lock);
    free((*self)->pool);
    free(*self);
    *self = NULL;
}

sluice_err orders_http_start(const orders_http_options *options, orders_http **out, sluice_cause *cause)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    if (inet_pton(AF_INET, options->address, &address.sin_addr) != 1)
        return sluice_cause_set(cause, SLUICE_INVALID, "%s is not an IPv4 address", options->address);
    orders_http *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "order service");
    pthread_mutex_init(&self->lock, NULL);
    self->options = *options;
    snprintf(self->inproc, sizeof self->inproc, "inproc://%s", sluice_store_name(options->store));
    self->pool = calloc(options->max_connections, sizeof(*self->pool));
    if (self->pool == NULL) {
        orders_http_destroy(&self);
        return sluice_cause_set(cause, SLUICE_NOMEM, "order service");
    }
    self->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
        on_request, self, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_CONNECTION_LIMIT,
        options->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, self, MHD_OPTION_NOTIFY_CONNECTION, on_connection, self, MHD_OPTION_END);
    if (self->daemon == NULL) {
        int why = errno;
        orders_http_destroy(&self);
        return sluice_cause_set(cause, SLUICE_SYSTEM, "cannot listen on %s:%u: %s", options->address,
                                (unsigned)options->port, strerror(why));
    }
    *out = self;
    return SLUICE_OK;
}

uint16_t orders_http_port(const orders_http *self)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info != NULL ? info->port : 0;
}

void orders_http_stop(orders_http **self_)
{
    orders_http *self = *self_;
    if (self == NULL) return;
    atomic_store(&self->draining, true);
    MHD_socket listener = MHD_quiesce_daemon(self->daemon);
    if (listener != MHD_INVALID_SOCKET) close(listener);
    /* Requests that have begun are answered; connections that stay silent for 100 ms after that are cut. */
    struct timespec tick = {.tv_nsec = 5000000};
    for (int quiet = 0, ticks = 0; quiet < 20 && ticks < DRAIN_SECONDS * 200; ticks++) {
        if (atomic_load(&self->connections) == 0) break;
        quiet = atomic_load(&self->in_flight) == 0 ? quiet + 1 : 0;
        nanosleep(&tick, NULL);
    }
    orders_http_destroy(self_);
}
