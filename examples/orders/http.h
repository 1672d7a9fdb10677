/* SPDX-License-Identifier: MIT */
/* The HTTP side of the order service.
 *
 *   POST /orders      Idempotency-Key: KEY, body {"sku": "...", "quantity": N}
 *                     201 placed; 200 with Idempotent-Replay: true for the same request again; 422 for another request
 *                     with the same key; 409 sold out; 404 no such sku; 400; 413
 *   GET /orders/ID    200, 404
 *   GET /stock/SKU    200, 404
 *   GET /healthz      200 when a read gets through, else 503
 *   GET /stats        200, all counters as JSON
 *   503 with Retry-After: overloaded, stopping, or the answer was lost (then the body says "unknown"; repeat with the
 *   same key). Errors are JSON: {"error": "word", "text": "..."}.
 */
#ifndef ORDERS_HTTP_H
#define ORDERS_HTTP_H

#include <sluice/sluice.h>

typedef struct orders_http orders_http;

typedef struct orders_http_options {
    const char *address; /* IPv4 */
    uint16_t port;       /* 0: any free one */
    unsigned max_connections;
    uint32_t timeout_ms; /* of one order's way through the store */
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_gateway *gateway; /* NULL: none; for /stats */
} orders_http_options;

/* Starts serving. Borrows: options; keeps what they point to. Gives: *out. Errors: INVALID, NOMEM, SYSTEM. */
SLUICE_NODISCARD sluice_err orders_http_start(const orders_http_options *options, orders_http **out,
                                              sluice_cause *cause);
uint16_t orders_http_port(const orders_http *self);
/* Stops accepting, answers what has begun, and ends all connections. NULL-safe, nulls the pointer. */
void orders_http_stop(orders_http **self);

#endif
