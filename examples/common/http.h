/* SPDX-License-Identifier: MIT */
/* A small HTTP/1.1 client over one keep-alive connection, enough to talk to the order service. Blocking. IPv4 only.
 *
 * Threads: a connection belongs to one thread.
 */
#ifndef EXAMPLE_HTTP_H
#define EXAMPLE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http_connection {
    char host[64];
    uint16_t port;
    int socket; /* -1: not connected */
    uint32_t timeout_ms;
} http_connection;

typedef struct http_answer {
    int status;           /* 0: no answer came */
    bool replayed;        /* header Idempotent-Replay: true */
    uint32_t retry_after; /* header Retry-After, seconds; 0 if none */
    size_t body_size;
    char body[16384];     /* NUL-terminated */
} http_answer;

/* Fills in a connection from "http://HOST:PORT"; does not connect. False if the URL is not understood. */
bool http_connection_init(http_connection *self, const char *url, uint32_t timeout_ms);
void http_connection_fini(http_connection *self);
/* Sends one request and reads its answer, connecting first if need be. key: an Idempotency-Key header, or NULL. body:
 * JSON, or NULL. When false no answer came (the connection is closed): whether the request was done is not known. */
bool http_call(http_connection *self, const char *method, const char *path, const char *key, const char *body,
               http_answer *answer);

#endif
